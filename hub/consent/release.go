package consent

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub"
)

// Release is call data that may leave: the fields a grant permits, of one
// revision of one call. Connectors see releases only. [NewRelease] is the only
// thing that makes one with anything in it.
//
// A call's id and the number of its revision are part of every release; both
// are opaque. Nothing that is not released can be reached from a Release: what
// it holds is copied.
//
// The zero Release holds nothing. A Release is immutable and may be used by
// several goroutines.
type Release struct {
	content  hub.Call // only released members are set, and the id
	revision int
	fields   []Field
	matching Matching
	language string
	steps    []NextStep
	speakers []Speaker
}

// Matching is what may be used to look people and records up at the provider,
// and for nothing else: it never goes into a payload.
type Matching struct {
	Emails        []string // of external participants, in the call's order, lower case, each once
	Phones        []string // of external participants, E.164, each once
	OwnerEmail    string   // of the call's owner, where the field owner is released
	AccountDomain string   // where the field account is released
	AccountName   string   // where the field account is released
	AccountID     string   // the provider's own id, where the call carries it and the field account is released
	OpportunityID string   // the provider's own id, where the call carries it and the field account is released
}

// NextStep is a next step as far as it is released.
type NextStep struct {
	Text       string
	OwnerName  string // "" where it is not known or not released; see [Release.NextSteps]
	OwnerEmail string // likewise
	DueOn      string // YYYY-MM-DD, or ""
}

// Speaker is a talk share as far as it is released.
type Speaker struct {
	Name  string  // "" where it is not known or not released; see [Release.Speakers]
	Email string  // likewise
	Side  string  // internal, external; "" where it is not known
	Share float64 // 0 to 1
}

// Content returns the call with nothing in it but its id and the released
// members. The caller must not change what it points to.
//
// What is released of a participant: the name, e-mail address, phone number
// and title as the four participants.* fields say, the company with account,
// and with any of the four the side. An e-mail address in next steps and talk
// ratio that is not released is empty there; [Release.NextSteps] and
// [Release.Speakers] then still have the name where that is released. The ids
// of CRM records are never content; see [Matching].
func (r *Release) Content() hub.Call { return r.content }

// Revision returns the call's revision, from 1.
func (r *Release) Revision() int { return r.revision }

// Fields returns the names of the fields released, sorted. Those the call does
// not carry are included: the grant permits them.
func (r *Release) Fields() []Field { return slices.Clone(r.fields) }

// Matching returns what look-ups may use. The caller must not change what it
// points to.
func (r *Release) Matching() Matching { return r.matching }

// Language returns the org's language as a BCP 47 tag, such as "en" or "es";
// texts that people read at the destination are in it.
func (r *Release) Language() string { return r.language }

// Has reports whether field is released.
func (r *Release) Has(field Field) bool {
	_, ok := slices.BinarySearch(r.fields, field)
	return ok
}

// NextSteps returns the next steps, in the call's order. The name of who does
// it is there if participants.names is released, the e-mail address if
// participants.emails is; for the call's owner, both also if owner is. The
// caller must not change the slice.
func (r *Release) NextSteps() []NextStep { return r.steps }

// Speakers returns the talk ratio, in the call's order. Who it was is there
// under the same conditions as in [Release.NextSteps], the side always. The
// caller must not change the slice.
func (r *Release) Speakers() []Speaker { return r.speakers }

// minimise returns the part of call that set permits. The result shares no
// memory with call but that of strings.
func minimise(call *hub.Call, set fieldSet) Release {
	r := Release{content: hub.Call{ID: call.ID}}
	c := &r.content
	if set.has(bitTitle) {
		c.Title = call.Title
	}
	if set.has(bitTime) {
		c.StartedAt, c.DurationSeconds = call.StartedAt, call.DurationSeconds
	}
	if set.has(bitDirection) {
		c.Direction = call.Direction
	}
	if set.has(bitMedium) {
		c.Medium = call.Medium
	}
	if set.has(bitURL) {
		c.URL = call.URL
	}
	if set.has(bitRecordingURL) {
		c.RecordingURL = call.RecordingURL
	}
	if set.has(bitTranscriptURL) {
		c.TranscriptURL = call.TranscriptURL
	}
	if set.has(bitOwner) {
		c.Owner = call.Owner
	}
	c.Participants = participants(call, set)
	if set.has(bitAccount) && call.Account != nil {
		a := *call.Account
		c.Account = &a
	}
	if set.has(bitSummary) {
		c.Summary = call.Summary
	}
	if set.has(bitKeyPoints) {
		c.KeyPoints = slices.Clone(call.KeyPoints)
	}
	if set.has(bitTopics) {
		c.Topics = slices.Clone(call.Topics)
	}
	if set.has(bitSentiment) && call.Sentiment != nil && finite(*call.Sentiment) {
		v := *call.Sentiment
		c.Sentiment = &v
	}
	if set.has(bitRisks) {
		c.Risks = slices.Clone(call.Risks)
	}
	if set.has(bitCompetitors) {
		c.Competitors = slices.Clone(call.Competitors)
	}
	if set.has(bitDisposition) {
		c.Disposition = call.Disposition
	}
	if set.has(bitTags) {
		c.Tags = slices.Clone(call.Tags)
	}
	c.Custom = custom(call, set)
	r.addNextSteps(call, set)
	r.addSpeakers(call, set)
	r.matching = matching(call, set)
	return r
}

// participants returns each participant with what set permits. There is an
// entry for everybody who was there as soon as one participants.* field is
// released, because the number of people and their sides go with each.
func participants(call *hub.Call, set fieldSet) []hub.Participant {
	if !set.has(bitsParticipants) || len(call.Participants) == 0 {
		return nil
	}
	out := make([]hub.Participant, len(call.Participants))
	for i, p := range call.Participants {
		out[i].Side = p.Side
		if set.has(bitNames) {
			out[i].Name = p.Name
		}
		if set.has(bitEmails) {
			out[i].Email = p.Email
		}
		if set.has(bitPhones) {
			out[i].Phone = p.Phone
		}
		if set.has(bitTitles) {
			out[i].Title = p.Title
		}
		if set.has(bitAccount) {
			out[i].Company = p.Company
		}
	}
	return out
}

// custom returns the custom members that set permits. A null counts as a
// member that the call does not carry.
func custom(call *hub.Call, set fieldSet) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	for _, name := range set.custom {
		raw, ok := call.Custom[name]
		if !ok || isNull(raw) {
			continue
		}
		if out == nil {
			out = make(map[string]json.RawMessage, len(set.custom))
		}
		out[name] = bytes.Clone(raw)
	}
	return out
}

// finite reports whether JSON can carry v; no call that came as JSON has any
// other number.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func isNull(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || string(raw) == "null"
}

func (r *Release) addNextSteps(call *hub.Call, set fieldSet) {
	if !set.has(bitNextSteps) || len(call.NextSteps) == 0 {
		return
	}
	r.steps = make([]NextStep, len(call.NextSteps))
	r.content.NextSteps = make([]hub.NextStep, len(call.NextSteps))
	for i, s := range call.NextSteps {
		who := identify(call, set, s.OwnerEmail)
		r.steps[i] = NextStep{Text: s.Text, OwnerName: who.Name, OwnerEmail: who.Email, DueOn: s.DueOn}
		r.content.NextSteps[i] = hub.NextStep{Text: s.Text, OwnerEmail: who.Email, DueOn: s.DueOn}
	}
}

func (r *Release) addSpeakers(call *hub.Call, set fieldSet) {
	if !set.has(bitTalkRatio) || len(call.TalkRatio) == 0 {
		return
	}
	r.speakers = make([]Speaker, len(call.TalkRatio))
	r.content.TalkRatio = make([]hub.TalkShare, len(call.TalkRatio))
	for i, s := range call.TalkRatio {
		who := identify(call, set, s.Email)
		share := s.Share
		if !finite(share) {
			share = 0
		}
		r.speakers[i] = Speaker{Name: who.Name, Email: who.Email, Side: who.Side, Share: share}
		r.content.TalkRatio[i] = hub.TalkShare{Email: who.Email, Share: share}
	}
}

// identify returns what set permits to say of the person with that address:
// name, address and side.
func identify(call *hub.Call, set fieldSet, email string) hub.Participant {
	var who hub.Participant
	if email == "" {
		return who
	}
	if set.has(bitEmails) {
		who.Email = email
	}
	if i := slices.IndexFunc(call.Participants, func(p hub.Participant) bool { return sameAddress(p.Email, email) }); i >= 0 {
		who.Side = call.Participants[i].Side
		if set.has(bitNames) {
			who.Name = call.Participants[i].Name
		}
	}
	if sameAddress(call.Owner.Email, email) {
		if who.Side == "" {
			who.Side = hub.SideInternal
		}
		if set.has(bitOwner) {
			who.Email = email
			if who.Name == "" {
				who.Name = call.Owner.Name
			}
		}
	}
	return who
}

func sameAddress(a, b string) bool { return a != "" && strings.EqualFold(a, b) }

func matching(call *hub.Call, set fieldSet) Matching {
	var m Matching
	emails, phones := set.has(bitMatchingEmails|bitEmails), set.has(bitMatchingPhones|bitPhones)
	if emails || phones {
		for i := range call.Participants {
			p := &call.Participants[i]
			if !external(p, call.Owner.Email) {
				continue
			}
			if e := strings.ToLower(p.Email); emails && e != "" && !slices.Contains(m.Emails, e) {
				m.Emails = append(m.Emails, e)
			}
			if phones && p.Phone != "" && !slices.Contains(m.Phones, p.Phone) {
				m.Phones = append(m.Phones, p.Phone)
			}
		}
	}
	if set.has(bitOwner) {
		m.OwnerEmail = call.Owner.Email
	}
	if set.has(bitAccount) {
		if call.Account != nil {
			m.AccountName, m.AccountDomain = call.Account.Name, call.Account.Domain
		}
		if call.CRM != nil {
			m.AccountID, m.OpportunityID = call.CRM.AccountID, call.CRM.OpportunityID
		}
	}
	return m
}

// external reports whether p is of another company than the call's owner. Where
// the producer does not say, the domain of the address decides.
func external(p *hub.Participant, owner string) bool {
	if p.Side != "" {
		return p.Side == hub.SideExternal
	}
	_, theirs, _ := strings.Cut(p.Email, "@")
	_, ours, _ := strings.Cut(owner, "@")
	return theirs == "" || !strings.EqualFold(theirs, ours)
}

// View returns what is released in the shape of the call format, for mappings
// and for connectors that send JSON: strings, int (duration_seconds), float64,
// json.Number (numbers among the custom members, exactly as they came), bool,
// []any and map[string]any. started_at is a string in RFC 3339. A member that is
// empty is left out. "revision" is added; entries of next_steps and talk_ratio
// also have owner_name, and name and side, where those are released.
//
// The map is made anew by each call and is the caller's.
func (r *Release) View() map[string]any {
	c := &r.content
	v := map[string]any{}
	set := func(name, s string) {
		if s != "" {
			v[name] = s
		}
	}
	list := func(name string, l []string) {
		if len(l) > 0 {
			v[name] = anyList(l, func(s string) any { return s })
		}
	}
	set("id", string(c.ID))
	if r.revision > 0 {
		v["revision"] = r.revision
	}
	set("title", c.Title)
	if !c.StartedAt.IsZero() {
		v["started_at"] = c.StartedAt.Format(time.RFC3339Nano)
		v["duration_seconds"] = c.DurationSeconds
	}
	set("direction", c.Direction)
	set("medium", c.Medium)
	set("url", c.URL)
	set("recording_url", c.RecordingURL)
	set("transcript_url", c.TranscriptURL)
	if c.Owner != (hub.Person{}) {
		v["owner"] = object("name", c.Owner.Name, "email", c.Owner.Email)
	}
	if len(c.Participants) > 0 {
		v["participants"] = anyList(c.Participants, func(p hub.Participant) any {
			return object("name", p.Name, "email", p.Email, "phone", p.Phone, "title", p.Title, "company", p.Company, "side", p.Side)
		})
	}
	if c.Account != nil && *c.Account != (hub.Account{}) {
		v["account"] = object("name", c.Account.Name, "domain", c.Account.Domain)
	}
	set("summary", c.Summary)
	list("key_points", c.KeyPoints)
	if len(r.steps) > 0 {
		v["next_steps"] = anyList(r.steps, func(s NextStep) any {
			return object("text", s.Text, "owner_name", s.OwnerName, "owner_email", s.OwnerEmail, "due_on", s.DueOn)
		})
	}
	list("topics", c.Topics)
	if c.Sentiment != nil {
		v["sentiment"] = *c.Sentiment
	}
	if len(r.speakers) > 0 {
		v["talk_ratio"] = anyList(r.speakers, func(s Speaker) any {
			o := object("name", s.Name, "email", s.Email, "side", s.Side)
			o["share"] = s.Share
			return o
		})
	}
	list("risks", c.Risks)
	list("competitors", c.Competitors)
	set("disposition", c.Disposition)
	list("tags", c.Tags)
	if len(c.Custom) > 0 {
		v["custom"] = customView(c.Custom)
	}
	return v
}

// object returns a map of the pairs whose value is not empty.
func object(pairs ...string) map[string]any {
	o := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			o[pairs[i]] = pairs[i+1]
		}
	}
	return o
}

func anyList[T any](in []T, f func(T) any) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// customView decodes custom members. One that is no JSON, which a decoded call
// cannot have, is left out.
func customView(in map[string]json.RawMessage) map[string]any {
	out := make(map[string]any, len(in))
	for name, raw := range in {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		var v any
		if d.Decode(&v) == nil && v != nil {
			out[name] = v
		}
	}
	return out
}

// Canonical returns the same bytes for the same released content under the same
// list of fields, and other bytes for any other, on every machine: what to
// compare, or to take a digest of, when asking whether anything changed. The
// revision, the language and what is only for matching do not count: a copy
// would not look different.
func (r *Release) Canonical() []byte {
	v := r.View()
	delete(v, "revision")
	b, _ := json.Marshal(struct { // cannot fail: plain data without NaN, see minimise
		Fields  []Field        `json:"fields"`
		Content map[string]any `json:"content"`
	}{r.fields, v})
	return b
}
