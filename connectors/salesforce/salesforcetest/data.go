package salesforcetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// RowError is why one record was refused, in the shape of a collections
// result.
type RowError struct {
	Code    string   `json:"statusCode"`
	Message string   `json:"message"`
	Fields  []string `json:"fields"`
}

func (e *RowError) Error() string { return e.Code + ": " + e.Message }

func refuse(code, message string, fields ...string) *RowError {
	if fields == nil {
		fields = []string{}
	}
	return &RowError{Code: code, Message: message, Fields: fields}
}

// record is one stored record.
type record struct {
	object            *object
	id                string
	fields            map[string]any // by the field's own name: string, float64, bool
	created, modified time.Time
	writes            int // 1 when created
	deleted, archived bool
	locked            bool // by an approval process
}

// store holds the org's records. Server.mu guards it.
type store struct {
	objects map[string]*object
	byID    map[string]*record            // 18-character id
	order   map[string][]*record          // lower-case object name, oldest first
	unique  map[string]map[string]*record // "object.field" lower case, of external and unique ids → live record; the newest wins
	next    int
	now     func() time.Time
	user    string // the connected user's id
	onWrite func(object string, fields map[string]any) *RowError
	refusal func(subject any) *RowError // refuses the next write, and is then nil
}

func newStore(now func() time.Time) *store {
	return &store{
		objects: standardObjects(),
		byID:    map[string]*record{},
		order:   map[string][]*record{},
		unique:  map[string]map[string]*record{},
		now:     now,
	}
}

func (d *store) object(name string) *object { return d.objects[strings.ToLower(name)] }

// newID returns the next id of an object, in 18 characters.
func (d *store) newID(o *object) string {
	d.next++
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	n, tail := d.next, make([]byte, 7)
	for i := len(tail) - 1; i >= 0; i-- {
		tail[i], n = digits[n%62], n/62
	}
	return fullID(o.prefix + "bn000" + string(tail))
}

// get returns the record of that id, or nil. Ids of 15 characters are
// understood.
func (d *store) get(id string) *record { return d.byID[fullID(id)] }

// create stores a new record.
func (d *store) create(o *object, in map[string]any) (*record, *RowError) {
	if err := d.refused(in["Subject"]); err != nil {
		return nil, err
	}
	fields, err := d.check(o, in, true)
	if err != nil {
		return nil, err
	}
	for _, f := range o.fields {
		if _, ok := fields[f.Name]; ok {
			continue
		}
		if f.Default != nil {
			fields[f.Name] = f.Default
		} else if f.Required {
			return nil, refuse("REQUIRED_FIELD_MISSING", "Required fields are missing: ["+f.Name+"]", f.Name)
		}
	}
	if o.field("OwnerId") != nil && fields["OwnerId"] == nil && d.user != "" {
		fields["OwnerId"] = d.user
	}
	r := &record{object: o, fields: fields, created: d.now(), modified: d.now(), writes: 1}
	if err := d.checkRules(r, nil); err != nil {
		return nil, err
	}
	r.id = d.newID(o)
	d.byID[r.id] = r
	key := strings.ToLower(o.name)
	d.order[key] = append(d.order[key], r)
	d.index(r)
	return r, nil
}

// update changes a record.
func (d *store) update(r *record, in map[string]any) *RowError {
	if err := d.refused(in["Subject"]); err != nil {
		return err
	}
	if err := r.standing(); err != nil {
		return err
	}
	changed, err := d.check(r.object, in, false)
	if err != nil {
		return err
	}
	next := &record{object: r.object, id: r.id, fields: maps.Clone(r.fields)}
	for name, v := range changed {
		if v == nil {
			delete(next.fields, name)
			continue
		}
		next.fields[name] = v
	}
	if err := d.checkRules(next, r); err != nil {
		return err
	}
	d.unindex(r)
	r.fields, r.modified = next.fields, d.now()
	r.writes++
	d.index(r)
	return nil
}

// standing returns why the record can be neither changed nor deleted, if so.
func (r *record) standing() *RowError {
	switch {
	case r.deleted:
		return refuse("ENTITY_IS_DELETED", "entity is deleted")
	case r.locked:
		return refuse("ENTITY_IS_LOCKED", "the entity is locked for editing")
	}
	return nil
}

// remove moves a record to the recycle bin.
func (d *store) remove(r *record) *RowError {
	if err := d.refused(r.fields["Subject"]); err != nil {
		return err
	}
	if err := r.standing(); err != nil {
		return err
	}
	d.unindex(r)
	r.deleted, r.modified = true, d.now()
	return nil
}

// refused returns the refusal that an injected fault asks for, once.
func (d *store) refused(subject any) *RowError {
	if d.refusal == nil {
		return nil
	}
	err := d.refusal(subject)
	d.refusal = nil
	return err
}

func (d *store) index(r *record) {
	for _, f := range r.object.fields {
		v, ok := r.fields[f.Name].(string)
		if !ok || v == "" || (!f.ExternalID && !f.Unique) {
			continue
		}
		k := indexName(r.object, f)
		if d.unique[k] == nil {
			d.unique[k] = map[string]*record{}
		}
		d.unique[k][strings.ToLower(v)] = r
	}
}

func (d *store) unindex(r *record) {
	for _, f := range r.object.fields {
		if v, ok := r.fields[f.Name].(string); ok && (f.ExternalID || f.Unique) {
			if m := d.unique[indexName(r.object, f)]; m[strings.ToLower(v)] == r {
				delete(m, strings.ToLower(v))
			}
		}
	}
}

func indexName(o *object, f *Field) string { return strings.ToLower(o.name + "." + f.Name) }

// byExternalID returns the live records that carry value in f, oldest first.
// An archived record is not found, which is the worse of the two things that
// Salesforce may do.
func (d *store) byExternalID(o *object, f *Field, value string) []*record {
	if f.Unique {
		if r := d.unique[indexName(o, f)][strings.ToLower(value)]; r != nil && !r.archived {
			return []*record{r}
		}
		return nil
	}
	var out []*record
	for _, r := range d.order[strings.ToLower(o.name)] {
		if v, _ := r.fields[f.Name].(string); !r.deleted && !r.archived && strings.EqualFold(v, value) {
			out = append(out, r)
		}
	}
	return out
}

// check converts what a client sent into stored values, by the fields' own
// names. A nil value empties the field.
func (d *store) check(o *object, in map[string]any, creating bool) (map[string]any, *RowError) {
	out := make(map[string]any, len(in))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if strings.EqualFold(name, "attributes") {
			continue
		}
		f := o.field(name)
		if f == nil {
			return nil, noColumn(o, name)
		}
		if f.readOnly || (f.createOnly && !creating) {
			return nil, refuse("INVALID_FIELD_FOR_INSERT_UPDATE",
				"Unable to create/update fields: "+f.Name+". Please check the security settings of this field and verify that it is read/write for your profile or permission set.", f.Name)
		}
		v, err := d.convert(f, in[name])
		if err != nil {
			return nil, err
		}
		if v == nil && creating {
			continue
		}
		if v == nil && f.Required {
			return nil, refuse("REQUIRED_FIELD_MISSING", "Required fields are missing: ["+f.Name+"]", f.Name)
		}
		out[f.Name] = v
	}
	return out, nil
}

func noColumn(o *object, name string) *RowError {
	return refuse("INVALID_FIELD", fmt.Sprintf("No such column '%s' on sobject of type %s", name, o.name))
}

// convert returns v as the field stores it.
func (d *store) convert(f *Field, v any) (any, *RowError) {
	if v == nil || v == "" {
		return nil, nil //nolint:nilnil // an empty value, and no error
	}
	wrongType := refuse("INVALID_TYPE_ON_FIELD_IN_RECORD", f.Label+": value not of required type: "+fmt.Sprint(v), f.Name)
	switch f.Type {
	case Boolean:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, wrongType
	case Int, Double:
		n, ok := v.(float64)
		switch {
		case !ok || (f.Type == Int && n != math.Trunc(n)):
			return nil, wrongType
		case f.Type == Int && f.Length > 0 && math.Abs(n) >= math.Pow10(f.Length):
			return nil, refuse("NUMBER_OUTSIDE_VALID_RANGE", f.Label+": value outside of valid range on numeric field: "+fmt.Sprint(v), f.Name)
		}
		return n, nil
	case Date, DateTime:
		return convertTime(f, v, wrongType)
	case Reference, ID:
		return d.convertReference(f, v)
	case Text, Area, Picklist, Combobox, Email, Phone, URL:
		return convertText(f, v, wrongType)
	}
	return nil, wrongType
}

func convertTime(f *Field, v any, wrong *RowError) (any, *RowError) {
	s, ok := v.(string)
	if !ok {
		return nil, wrong
	}
	if f.Type == Date {
		if t, err := time.Parse(time.DateOnly, s); err == nil && t.Year() >= 1700 && t.Year() <= 4000 {
			return s, nil
		}
		return nil, wrong
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, wrong
	}
	return stamp(t), nil
}

// stamp formats a moment as Salesforce does.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000+0000") }

func convertText(f *Field, v any, wrong *RowError) (any, *RowError) {
	s, ok := v.(string)
	if !ok {
		return nil, wrong
	}
	if n := len(utf16.Encode([]rune(s))); f.Length > 0 && n > f.Length {
		return nil, refuse("STRING_TOO_LONG", fmt.Sprintf("%s: data value too large: %s (max length=%d)", f.Label, s, f.Length), f.Name)
	}
	if f.Restricted && !slices.ContainsFunc(f.Values, func(a string) bool { return strings.EqualFold(a, s) }) {
		return nil, refuse("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", f.Label+": bad value for restricted picklist field: "+s, f.Name)
	}
	if f.Type == Email {
		if at := strings.IndexByte(s, '@'); at < 1 || !strings.Contains(s[at:], ".") || strings.ContainsAny(s, " \t\n") {
			return nil, refuse("INVALID_EMAIL_ADDRESS", f.Label+": invalid email address: "+s, f.Name)
		}
	}
	return s, nil
}

func (d *store) convertReference(f *Field, v any) (any, *RowError) {
	s, ok := v.(string)
	if !ok || !idShape.MatchString(s) {
		return nil, refuse("MALFORMED_ID", f.Label+": id value of incorrect type: "+fmt.Sprint(v), f.Name)
	}
	r := d.get(s)
	if r == nil || r.deleted {
		return nil, refuse("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
	}
	if len(f.RefersTo) > 0 && !slices.Contains(f.RefersTo, r.object.name) {
		return nil, refuse("FIELD_INTEGRITY_EXCEPTION", f.Label+": id value of incorrect type: "+s, f.Name)
	}
	return r.id, nil
}

// checkRules checks what concerns the record as a whole. before is nil for a
// new one.
func (d *store) checkRules(r, before *record) *RowError {
	if d.onWrite != nil {
		if err := d.onWrite(r.object.name, maps.Clone(r.fields)); err != nil {
			return err
		}
	}
	for _, f := range r.object.fields {
		v, _ := r.fields[f.Name].(string)
		if !f.Unique || v == "" {
			continue
		}
		if other := d.unique[indexName(r.object, f)][strings.ToLower(v)]; other != nil && other != before {
			return refuse("DUPLICATE_VALUE", fmt.Sprintf("duplicate value found: %s duplicates value on record with id: %s", f.Name, other.id))
		}
	}
	if owner, _ := r.fields["OwnerId"].(string); owner != "" && (before == nil || before.fields["OwnerId"] != owner) {
		if u := d.get(owner); u != nil && u.fields["IsActive"] == false {
			return refuse("INACTIVE_OWNER_OR_USER", fmt.Sprintf("operation performed with inactive user [%s] as owner of %s", owner[:15], strings.ToLower(r.object.name)))
		}
	}
	if r.object.name == "Task" {
		if who := d.reference(r, "WhoId"); who != nil && who.object.name == "Lead" && r.fields["WhatId"] != nil {
			return refuse("FIELD_INTEGRITY_EXCEPTION", "WhatId: if the name is a lead, related to must be blank", "WhatId")
		}
	}
	return nil
}

// reference returns the record that a field of r names, or nil.
func (d *store) reference(r *record, field string) *record {
	id, _ := r.value(d, field).(string)
	if id == "" {
		return nil
	}
	return d.get(id)
}

// value returns what a field of r holds: a stored value, a computed one, or
// nil.
func (r *record) value(d *store, name string) any {
	switch strings.ToLower(name) {
	case "id":
		return r.id
	case "isdeleted":
		return r.deleted
	case "isarchived":
		return r.archived
	case "createddate":
		return stamp(r.created)
	case "lastmodifieddate", "systemmodstamp":
		return stamp(r.modified)
	case "createdbyid":
		return orNil(d.user)
	case "isclosed":
		return r.closed()
	case "iswon":
		return r.fields["StageName"] == "Closed Won"
	case "name":
		if r.object.name == "Contact" || r.object.name == "Lead" {
			first, _ := r.fields["FirstName"].(string)
			last, _ := r.fields["LastName"].(string)
			return strings.TrimSpace(first + " " + last)
		}
	case "accountid":
		if r.object.name == "Task" {
			return r.taskAccount(d)
		}
	}
	f := r.object.field(name)
	if f == nil {
		return nil
	}
	return r.fields[f.Name]
}

func (r *record) closed() bool {
	if r.object.name == "Opportunity" {
		stage, _ := r.fields["StageName"].(string)
		return strings.HasPrefix(stage, "Closed")
	}
	return r.fields["Status"] == "Completed"
}

// taskAccount returns the account a task belongs to, as Salesforce derives it.
func (r *record) taskAccount(d *store) any {
	if what := d.reference(r, "WhatId"); what != nil {
		if what.object.name == "Account" {
			return what.id
		}
		return what.fields["AccountId"]
	}
	if who := d.reference(r, "WhoId"); who != nil && who.object.name == "Contact" {
		return who.fields["AccountId"]
	}
	return nil
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// decodeRecord reads one record as JSON. Numbers are float64.
func decodeRecord(raw []byte) (map[string]any, error) {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	if m == nil {
		return nil, fmt.Errorf("decode record: %w", errNotObject)
	}
	return m, nil
}
