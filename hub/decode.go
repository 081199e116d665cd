package hub

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a call. Characters are Unicode code points.
const (
	MaxTitle        = 500     // characters of the title
	MaxSummary      = 50_000  // characters of the summary
	MaxText         = 5_000   // characters of a key point, a risk or the text of a next step
	MaxShortText    = 500     // characters of any other text: names, job titles, companies, topics, tags, …
	MaxList         = 200     // entries of any list, such as participants
	MaxURL          = 2_048   // bytes of an address
	MaxEmail        = 254     // bytes of an e-mail address
	MaxDuration     = 172_800 // seconds: two days
	MaxCustom       = 100     // custom members
	MaxCustomName   = 64      // bytes of a custom member's name
	MaxCustomText   = 2_000   // characters of a custom member that is a string
	MaxCustomNumber = 64      // bytes of a custom member that is a number
	MaxDepth        = 16      // objects and lists inside each other
	MaxBatch        = 500     // calls of one batch
)

// DecodeCall reads one call from JSON and checks all of it. It returns the
// call, or everything that is wrong with it, up to [MaxFieldErrors] problems in
// the order of the document; missing members come after the object's others.
// The caller limits the size of data. data is not kept.
//
// It is strict: members that the format does not have, members that occur
// twice, text that is not UTF-8, half surrogate pairs, NUL and anything after
// the document are refused. null for an optional member means that it was not
// given, as does an empty text, list or object where no format is asked for;
// custom members that are null are kept.
// Nothing is trimmed or otherwise changed, except that strings among the custom
// members are written anew in one form.
//
// A document that is no JSON, or is nested deeper than [MaxDepth], gives that
// one problem only. The details of problems never hold a value; pointers hold
// the names of members.
func DecodeCall(data []byte) (Call, []FieldError) {
	r := newReader(data, MaxDepth)
	var c Call
	object(r, callMembers, &c)
	r.end()
	if len(r.errs) > 0 {
		return Call{}, r.errs
	}
	return c, nil
}

// SplitBatch takes a batch of calls, {"calls":[…]}, apart without decoding the
// calls, so that each can be decoded and answered on its own. It returns up to
// [MaxBatch] of them, which share data's memory and are JSON of any kind, or
// what is wrong with the batch itself. The caller limits the size of data.
func SplitBatch(data []byte) ([]json.RawMessage, []FieldError) {
	r := newReader(data, 0)
	var b batch
	object(r, []member[batch]{{"calls", true, func(r *reader, b *batch) {
		b.calls = list(r, MaxBatch, func(r *reader, raw *json.RawMessage) {
			r.next()
			start := r.pos
			r.skip()
			*raw = data[start:r.pos:r.pos]
		})
	}}}, &b)
	r.end()
	if len(r.errs) > 0 {
		return nil, r.errs
	}
	return b.calls, nil
}

type batch struct{ calls []json.RawMessage }

// member is one member of an object that is read into a T.
type member[T any] struct {
	name     string
	required bool
	read     func(*reader, *T) // never called for null
}

// The members of a call. These tables are the call format; they are never
// changed.
//
//nolint:gochecknoglobals // constant tables
var (
	callMembers = []member[Call]{
		{"id", true, func(r *reader, c *Call) {
			c.ID = CallID(r.formatted(ValidCallID, "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'"))
		}},
		{"title", true, func(r *reader, c *Call) { c.Title = r.filled(MaxTitle) }},
		{"started_at", true, func(r *reader, c *Call) { c.StartedAt = r.time() }},
		{"duration_seconds", true, func(r *reader, c *Call) { c.DurationSeconds = r.duration() }},
		{"direction", false, func(r *reader, c *Call) { c.Direction = r.oneOf("inbound", "outbound", "internal") }},
		{"medium", false, func(r *reader, c *Call) { c.Medium = r.oneOf("phone", "video", "webinar", "demo", "in_person") }},
		{"visibility", false, func(r *reader, c *Call) { c.Visibility = r.oneOf(VisibilityNormal, VisibilityPrivate) }},
		{"recording_consent", false, func(r *reader, c *Call) {
			c.RecordingConsent = r.oneOf(ConsentGranted, ConsentDenied, ConsentUnknown)
		}},
		{"language", false, func(r *reader, c *Call) {
			c.Language = r.formatted(plausibleLanguage, "must be a language tag after BCP 47, such as en or pt-BR")
		}},
		{"url", false, func(r *reader, c *Call) { c.URL = r.url() }},
		{"recording_url", false, func(r *reader, c *Call) { c.RecordingURL = r.url() }},
		{"transcript_url", false, func(r *reader, c *Call) { c.TranscriptURL = r.url() }},
		{"owner", true, func(r *reader, c *Call) { object(r, ownerMembers, &c.Owner) }},
		{"participants", false, func(r *reader, c *Call) { c.Participants = list(r, MaxList, readParticipant) }},
		{"account", false, func(r *reader, c *Call) { c.Account = optional(r, accountMembers) }},
		{"crm", false, func(r *reader, c *Call) { c.CRM = optional(r, crmMembers) }},
		{"summary", true, func(r *reader, c *Call) { c.Summary = r.filled(MaxSummary) }},
		{"key_points", false, func(r *reader, c *Call) { c.KeyPoints = r.texts(MaxText) }},
		{"next_steps", false, func(r *reader, c *Call) { c.NextSteps = list(r, MaxList, readNextStep) }},
		{"topics", false, func(r *reader, c *Call) { c.Topics = r.texts(MaxShortText) }},
		{"sentiment", false, func(r *reader, c *Call) {
			v := r.float(-1, 1)
			c.Sentiment = &v
		}},
		{"talk_ratio", false, func(r *reader, c *Call) { c.TalkRatio = list(r, MaxList, readTalkShare) }},
		{"risks", false, func(r *reader, c *Call) { c.Risks = r.texts(MaxText) }},
		{"competitors", false, func(r *reader, c *Call) { c.Competitors = r.texts(MaxShortText) }},
		{"disposition", false, func(r *reader, c *Call) { c.Disposition = r.text(MaxShortText) }},
		{"tags", false, func(r *reader, c *Call) { c.Tags = r.texts(MaxShortText) }},
		{"custom", false, func(r *reader, c *Call) { c.Custom = r.custom() }},
	}
	ownerMembers = []member[Person]{
		{"name", false, func(r *reader, p *Person) { p.Name = r.text(MaxShortText) }},
		{"email", true, func(r *reader, p *Person) { p.Email = r.email() }},
	}
	participantMembers = []member[Participant]{
		{"name", false, func(r *reader, p *Participant) { p.Name = r.text(MaxShortText) }},
		{"email", false, func(r *reader, p *Participant) { p.Email = r.email() }},
		{"phone", false, func(r *reader, p *Participant) {
			p.Phone = r.formatted(validPhone, "must be a phone number after E.164: '+' and 7 to 15 digits")
		}},
		{"title", false, func(r *reader, p *Participant) { p.Title = r.text(MaxShortText) }},
		{"company", false, func(r *reader, p *Participant) { p.Company = r.text(MaxShortText) }},
		{"side", false, func(r *reader, p *Participant) { p.Side = r.oneOf(SideInternal, SideExternal) }},
	}
	accountMembers = []member[Account]{
		{"name", false, func(r *reader, a *Account) { a.Name = r.text(MaxShortText) }},
		{"domain", false, func(r *reader, a *Account) {
			a.Domain = r.formatted(plausibleDomain, "must be a domain name with a dot in it")
		}},
	}
	crmMembers = []member[CRM]{
		{"account_id", false, func(r *reader, c *CRM) { c.AccountID = r.crmID() }},
		{"opportunity_id", false, func(r *reader, c *CRM) { c.OpportunityID = r.crmID() }},
	}
	nextStepMembers = []member[NextStep]{
		{"text", true, func(r *reader, s *NextStep) { s.Text = r.filled(MaxText) }},
		{"owner_email", false, func(r *reader, s *NextStep) { s.OwnerEmail = r.email() }},
		{"due_on", false, func(r *reader, s *NextStep) {
			s.DueOn = r.formatted(validDate, "must be a day as YYYY-MM-DD from 1970 to 2999")
		}},
	}
	talkShareMembers = []member[TalkShare]{
		{"email", true, func(r *reader, s *TalkShare) { s.Email = r.email() }},
		{"share", true, func(r *reader, s *TalkShare) { s.Share = r.float(0, 1) }},
	}
)

func readParticipant(r *reader, p *Participant) { object(r, participantMembers, p) }
func readNextStep(r *reader, s *NextStep)       { object(r, nextStepMembers, s) }
func readTalkShare(r *reader, s *TalkShare)     { object(r, talkShareMembers, s) }

// object reads an object with these members, at most 64, into out.
func object[T any](r *reader, members []member[T], out *T) {
	if !r.expect("an object") {
		return
	}
	var seen, given uint64 // one bit for each member
	guess := 0             // most producers keep the order of the format
	r.members(func(name string) {
		i := find(members, name, guess)
		if i < 0 {
			r.fail("is not a member of the call format")
			r.skip()
			return
		}
		guess = i + 1
		bit := uint64(1) << i
		if seen&bit != 0 {
			r.fail("occurs more than once")
			r.skip()
			return
		}
		seen |= bit
		if r.null() {
			return
		}
		given |= bit
		members[i].read(r, out)
	})
	for i, m := range members {
		if m.required && given&(1<<i) == 0 {
			r.failAt(r.pointer()+"/"+escapePointer(m.name), "is required")
		}
	}
}

// find returns the index of the member called name, or -1. It looks at guess
// first.
func find[T any](members []member[T], name string, guess int) int {
	if guess < len(members) && members[guess].name == name {
		return guess
	}
	for i := range members {
		if members[i].name == name {
			return i
		}
	}
	return -1
}

// optional reads an object of which an empty one means as much as none.
func optional[T comparable](r *reader, members []member[T]) *T {
	var v, zero T
	object(r, members, &v)
	if v == zero {
		return nil
	}
	return &v
}

// list reads a list of at most limit entries; an empty one is nil.
func list[T any](r *reader, limit int, read func(*reader, *T)) []T {
	if !r.expect("a list") {
		return nil
	}
	var out []T
	n := 0
	r.entries(func(i int) {
		n = i + 1
		if i >= limit {
			r.skip()
			return
		}
		var zero T
		out = append(out, zero)
		read(r, &out[i])
	})
	if n > limit {
		r.fail(fmt.Sprintf("must have at most %d entries", limit))
	}
	return out
}

// text reads a string of at most limit characters.
func (r *reader) text(limit int) string {
	if !r.expect("a string") {
		return ""
	}
	s, fault := r.quoted()
	switch {
	case fault != "":
		r.fail(fault)
	case len(s) > limit && utf8.RuneCountInString(s) > limit:
		r.fail(fmt.Sprintf("must have at most %d characters", limit))
	}
	return s
}

// filled reads a string of 1 to limit characters, not all of them white space.
func (r *reader) filled(limit int) string {
	before := len(r.errs)
	s := r.text(limit)
	if len(r.errs) == before && strings.TrimSpace(s) == "" {
		r.fail("must not be empty")
	}
	return s
}

// texts reads a list of strings, each of 1 to limit characters.
func (r *reader) texts(limit int) []string {
	return list(r, MaxList, func(r *reader, s *string) { *s = r.filled(limit) })
}

// formatted reads a string for which valid holds; detail says what that asks.
func (r *reader) formatted(valid func(string) bool, detail string) string {
	if !r.expect("a string") {
		return ""
	}
	s, fault := r.quoted()
	switch {
	case fault != "":
		r.fail(fault)
	case !valid(s):
		r.fail(detail)
	}
	return s
}

func (r *reader) email() string {
	return r.formatted(plausibleEmail, "must be an e-mail address such as name@company.example")
}

func (r *reader) url() string {
	return r.formatted(validURL, "must be an http or https address of at most 2,048 bytes without credentials in it")
}

func (r *reader) crmID() string {
	return r.formatted(validCRMID, "must be 1 to 64 characters of A-Z, a-z and 0-9")
}

// oneOf reads a string that is one of values.
func (r *reader) oneOf(values ...string) string {
	if !r.expect("a string") {
		return ""
	}
	s, fault := r.quoted()
	if fault != "" {
		r.fail(fault)
		return ""
	}
	for _, v := range values {
		if s == v {
			return v
		}
	}
	r.fail("must be one of " + strings.Join(values, ", "))
	return ""
}

func (r *reader) time() time.Time {
	if !r.expect("a string") {
		return time.Time{}
	}
	s, fault := r.quoted()
	t, ok := parseTime(s)
	switch {
	case fault != "":
		r.fail(fault)
	case !ok:
		r.fail("must be a time after RFC 3339, such as 2026-11-20T15:00:00-08:00, from 1970 to 2999")
	}
	return t
}

func (r *reader) duration() int {
	if !r.expect("a number") {
		return 0
	}
	n, ok := parseDecimal(r.number()).integer()
	if !ok || n < 0 || n > MaxDuration {
		r.fail(fmt.Sprintf("must be a whole number of seconds from 0 to %d", MaxDuration))
	}
	return n
}

// float reads a number from low to high.
func (r *reader) float(low, high float64) float64 {
	if !r.expect("a number") {
		return 0
	}
	f, err := strconv.ParseFloat(r.number(), 64)
	if err != nil || f < low || f > high {
		r.fail(fmt.Sprintf("must be a number from %v to %v", low, high))
	}
	if f == 0 {
		return 0 // not -0
	}
	return f
}

// custom reads the custom members.
func (r *reader) custom() map[string]json.RawMessage {
	if !r.expect("an object") {
		return nil
	}
	out := make(map[string]json.RawMessage)
	n := 0
	r.members(func(name string) {
		n++
		_, twice := out[name]
		switch {
		case n > MaxCustom:
			r.skip()
		case !validCustomName(name):
			r.fail(fmt.Sprintf("must be named with a letter and up to %d more letters, digits and '_'", MaxCustomName-1))
			r.skip()
		case twice:
			r.fail("occurs more than once")
			r.skip()
		default:
			out[name] = r.customValue()
		}
	})
	if n > MaxCustom {
		r.fail(fmt.Sprintf("must have at most %d members", MaxCustom))
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// customValue reads a scalar and returns it as JSON: a number as it was
// written, a string as [json.Marshal] writes it.
func (r *reader) customValue() json.RawMessage {
	b := r.next()
	start := r.pos
	switch b {
	case '{', '[':
		r.fail("must be a string, a number, true, false or null, not " + kind(b))
		r.skip()
		return nil
	case '"':
		s := r.text(MaxCustomText)
		if strings.ContainsAny(r.src[start:r.pos], "\\<>&\u2028\u2029") { // what json.Marshal may write otherwise
			quoted, _ := json.Marshal(s) // a string always encodes
			return quoted
		}
	default:
		r.scalar(b)
		if kind(b) == "a number" {
			r.checkCustomNumber(r.src[start:r.pos])
		}
	}
	return json.RawMessage(r.src[start:r.pos])
}

func (r *reader) checkCustomNumber(literal string) {
	if f, err := strconv.ParseFloat(literal, 64); err != nil || math.IsInf(f, 0) || len(literal) > MaxCustomNumber {
		r.fail(fmt.Sprintf("must be a number of at most %d characters that a 64-bit float can hold", MaxCustomNumber))
	}
}
