package salesforce

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/mappings"
)

// Render implements [connectors.Connector]. The body is the record as it is
// written, with sorted names and without what only says where it goes (the
// record id and the type). A correction leaves out TaskSubtype, which Salesforce
// does not let anybody change, and empties the fields whose member is released
// and no longer there; fields that were never released are not touched, since
// the customer's people may have filled them.
func (*connector) Render(item connectors.Item) (connectors.Payload, error) {
	d, err := parseDestination(item.Destination)
	switch {
	case err != nil:
		return connectors.Payload{}, fmt.Errorf("render: %w", err)
	case item.Release == nil:
		return connectors.Payload{}, errors.New("render: there is no release")
	case !keyShape.MatchString(item.Key):
		return connectors.Payload{}, errors.New("render: the key is malformed")
	}
	t := &task{release: item.Release, call: item.Release.Content(), update: item.Kind == hub.KindUpdate, words: wordsFor(item.Release.Language()), fields: map[string]any{}}
	t.standard()
	t.link(item.Targets)
	t.override(item.Overrides, d)
	t.fields[fieldCallObject] = item.Key
	if d.ExternalIDField != "" {
		t.fields[d.ExternalIDField] = item.Key
	}
	body, err := canonical(t.fields)
	if err != nil {
		return connectors.Payload{}, fmt.Errorf("render: %w", err)
	}
	return connectors.Payload{Body: body, Losses: t.losses}, nil
}

var keyShape = regexp.MustCompile(`^[a-z2-7]{26}$`)

// canonical encodes v with sorted names, no escapes that JSON does not need and
// no space.
func canonical(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// task is a record being made.
type task struct {
	release *consent.Release
	call    hub.Call
	update  bool
	words   *words
	fields  map[string]any
	losses  []mappings.Loss
}

func (t *task) lose(l mappings.Loss) { t.losses = append(t.losses, l) }

// set sets a field; an empty value empties the field of an existing record, and
// is left out of a new one.
func (t *task) set(name string, v any, empty bool) {
	switch {
	case !empty:
		t.fields[name] = v
	case t.update:
		t.fields[name] = nil
	}
}

// text sets a text field, cut to max.
func (t *task) text(name, s string, limit int) {
	s = oneLine(s)
	cut, from := cutText(s, limit)
	if from > 0 {
		t.lose(mappings.Loss{Field: name, Kind: mappings.Truncated, Detail: "too long for Salesforce", From: from, To: mappings.UTF16Len(cut)})
	}
	t.set(name, cut, cut == "")
}

// standard sets what follows from the call.
func (t *task) standard() {
	t.fields[fieldStatus] = "Completed"
	if !t.update {
		t.fields[fieldSubtype] = "Call"
	}
	t.text(fieldSubject, t.subject(), maxSubject)
	if t.release.Has(consent.FieldTime) && !t.call.StartedAt.IsZero() {
		// A date has no zone: it is the day on the clocks where the call was.
		t.fields[fieldDate] = t.call.StartedAt.Format(time.DateOnly)
		t.fields[fieldDuration] = t.call.DurationSeconds
	}
	if t.release.Has(consent.FieldDirection) {
		kind := map[string]string{"inbound": "Inbound", "outbound": "Outbound", "internal": "Internal"}[t.call.Direction]
		t.set(fieldCallType, kind, kind == "")
	}
	if t.release.Has(consent.FieldDisposition) {
		t.text(fieldDisposition, t.call.Disposition, maxDisposition)
	}
	text, from := t.description(maxDescription)
	if from > 0 {
		t.lose(mappings.Loss{Field: fieldDescription, Kind: mappings.Truncated, Detail: "too long for Salesforce", From: from, To: mappings.UTF16Len(text)})
	}
	if text != "" || t.describes() {
		t.set(fieldDescription, text, text == "")
	}
}

// describes reports whether anything is released that would stand in the
// comments if the call had it.
func (t *task) describes() bool {
	elsewhere := []consent.Field{
		consent.FieldTitle, consent.FieldTime, consent.FieldDirection, consent.FieldDisposition, consent.FieldMatchingEmails, consent.FieldMatchingPhones,
	}
	return slices.ContainsFunc(t.release.Fields(), func(f consent.Field) bool { return !slices.Contains(elsewhere, f) })
}

// subject is the title, or what can be said without one.
func (t *task) subject() string {
	if s := oneLine(t.call.Title); s != "" {
		return s
	}
	if t.call.Account != nil && t.call.Account.Name != "" {
		return fmt.Sprintf(t.words.callWith, t.call.Account.Name)
	}
	return t.words.call
}

// link sets the links that were found and declares those that were found and
// cannot be set.
func (t *task) link(found connectors.Targets) {
	set := func(field, id string, prefixes ...string) {
		if isID(id, prefixes...) {
			t.fields[field] = id
		}
	}
	set(fieldWho, found[targetWhoID], prefixContact, prefixLead)
	set(fieldWhat, found[targetWhatID], prefixAccount, prefixOpportunity)
	set(fieldOwner, found[targetOwnerID], prefixUser)
	if strings.HasPrefix(found[targetWhoID], prefixLead) {
		delete(t.fields, fieldWhat) // Salesforce refuses both together
	}
	if found[targetWho] == ambiguous {
		t.lose(mappings.Loss{Field: fieldWho, Kind: mappings.Dropped, Detail: "several people in Salesforce have the address; the task is linked to none of them"})
	}
	switch found[targetWhat] {
	case ambiguous:
		t.lose(mappings.Loss{Field: fieldWhat, Kind: mappings.Dropped, Detail: "several accounts in Salesforce match; the task is linked to none of them"})
	case severalOpen:
		t.lose(mappings.Loss{Field: fieldWhat, Kind: mappings.Replaced, Detail: "the account has several open opportunities; the task is linked to the account"})
	}
	switch found[targetOwner] {
	case inactive:
		t.lose(mappings.Loss{Field: fieldOwner, Kind: mappings.Replaced, Detail: "the owner's user is inactive in Salesforce; the task belongs to the connected user"})
	case ambiguous:
		t.lose(mappings.Loss{Field: fieldOwner, Kind: mappings.Replaced, Detail: "several users in Salesforce have the owner's address; the task belongs to the connected user"})
	case unknown:
		t.lose(mappings.Loss{Field: fieldOwner, Kind: mappings.Replaced, Detail: "no user in Salesforce has the owner's address; the task belongs to the connected user"})
	}
	for object := range strings.SplitSeq(found[targetHidden], ",") {
		if field := map[string]string{viaContact: fieldWho, viaLead: fieldWho, viaAccount: fieldWhat, viaOpportunity: fieldWhat}[object]; field != "" {
			t.lose(mappings.Loss{Field: field, Kind: mappings.Dropped, Detail: "the connected user cannot see the " + object + " records of the org, or a field of theirs"})
		}
	}
}

// override sets what the admin's mapping gave. Fields that a mapping may not
// set (see [mappable]) are refused when it is saved; one that comes through all
// the same is left out here, and the loss declared.
func (t *task) override(values map[string]any, d destination) {
	limits := map[string]mappings.Field{}
	for _, f := range mappable() {
		limits[f.Name] = f
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		f, standard := limits[name]
		if !standard && (!isCustomField(name) || strings.EqualFold(name, d.ExternalIDField)) {
			t.lose(mappings.Loss{Field: name, Kind: mappings.Dropped, Detail: "a mapping may not set this field"})
			continue
		}
		t.losses = slices.DeleteFunc(t.losses, func(l mappings.Loss) bool { return l.Field == name }) // of the value replaced
		t.overrideOne(name, f, values[name])
	}
}

func (t *task) overrideOne(name string, f mappings.Field, value any) {
	v, ok := plainValue(value)
	if !ok {
		t.lose(mappings.Loss{Field: name, Kind: mappings.Dropped, Detail: "the mapping gave a value of a kind that Salesforce has no field for"})
		return
	}
	s, isText := v.(string)
	if isText {
		s = clean(s)
		if f.MaxLength > 0 {
			cut, from := cutText(s, f.MaxLength)
			if from > 0 {
				t.lose(mappings.Loss{Field: name, Kind: mappings.Truncated, Detail: "too long for Salesforce", From: from, To: mappings.UTF16Len(cut)})
			}
			s = cut
		}
		v = s
	}
	if v == nil || (isText && s == "") {
		if f.Required {
			return // the default stays
		}
		delete(t.fields, name)
		t.set(name, nil, true)
		return
	}
	t.fields[name] = v
}

// plainValue returns v as JSON carries it in a record: text, a number, a
// boolean or null. A list becomes text, joined as a multi-select picklist
// wants it.
func plainValue(v any) (any, bool) {
	switch v := v.(type) {
	case nil, string, bool, int, int64, uint64, float64, json.Number:
		return v, true
	case time.Time:
		return v.UTC().Format(time.RFC3339), true
	case []string:
		return strings.Join(v, ";"), true
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			parts[i] = s
		}
		return strings.Join(parts, ";"), true
	}
	return nil, false
}
