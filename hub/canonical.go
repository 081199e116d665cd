package hub

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Canonical returns the same bytes for calls of the same content, and other
// bytes for any other: what to compare, or to take a digest of, when asking
// whether a call has changed. The order of members and the way JSON was written
// do not count, nor does the difference between absent, null and empty, nor
// that between 1, 1.0 and 1e0 among the custom members. A time counts as it was
// sent: the same instant in another zone is a change.
//
// The bytes are a series of lines, each the path of a member and its value with
// its length before it. They begin with the version of this form, so that
// digests of different versions never agree by accident.
func Canonical(c Call) []byte {
	w := canonical{buf: make([]byte, 0, 1024+len(c.Summary))}
	w.text("call", "1")
	w.text("id", string(c.ID))
	w.text("title", c.Title)
	w.text("started_at", c.StartedAt.Format(time.RFC3339Nano))
	w.text("duration_seconds", strconv.Itoa(c.DurationSeconds))
	w.text("direction", c.Direction)
	w.text("medium", c.Medium)
	w.text("visibility", c.Visibility)
	w.text("recording_consent", c.RecordingConsent)
	w.text("language", c.Language)
	w.text("url", c.URL)
	w.text("recording_url", c.RecordingURL)
	w.text("transcript_url", c.TranscriptURL)
	w.text("owner.name", c.Owner.Name)
	w.text("owner.email", c.Owner.Email)
	for _, p := range c.Participants {
		w.entry("participants")
		w.text("name", p.Name)
		w.text("email", p.Email)
		w.text("phone", p.Phone)
		w.text("title", p.Title)
		w.text("company", p.Company)
		w.text("side", p.Side)
	}
	if c.Account != nil {
		w.text("account.name", c.Account.Name)
		w.text("account.domain", c.Account.Domain)
	}
	if c.CRM != nil {
		w.text("crm.account_id", c.CRM.AccountID)
		w.text("crm.opportunity_id", c.CRM.OpportunityID)
	}
	w.text("summary", c.Summary)
	w.texts("key_points", c.KeyPoints)
	for _, s := range c.NextSteps {
		w.entry("next_steps")
		w.text("text", s.Text)
		w.text("owner_email", s.OwnerEmail)
		w.text("due_on", s.DueOn)
	}
	w.texts("topics", c.Topics)
	if c.Sentiment != nil {
		w.text("sentiment", formatFloat(*c.Sentiment))
	}
	for _, s := range c.TalkRatio {
		w.entry("talk_ratio")
		w.text("email", s.Email)
		w.text("share", formatFloat(s.Share))
	}
	w.texts("risks", c.Risks)
	w.texts("competitors", c.Competitors)
	w.text("disposition", c.Disposition)
	w.texts("tags", c.Tags)
	for _, name := range slices.Sorted(maps.Keys(c.Custom)) {
		w.custom(name, c.Custom[name])
	}
	return w.buf
}

// canonical writes the lines of the canonical form. Values carry their length,
// so none of them can be taken for more than one line; that is what keeps
// different content apart.
type canonical struct{ buf []byte }

// text writes one value, unless it is empty.
func (w *canonical) text(name, v string) {
	if v != "" {
		w.line(name, "=", v)
	}
}

// texts writes every value, empty ones too: in a list they have a place.
func (w *canonical) texts(name string, l []string) {
	for _, v := range l {
		w.line(name, "+", v)
	}
}

// entry begins an object of a list; the lines that follow are its members,
// until a line of another list or of the call.
func (w *canonical) entry(name string) { w.line(name, "[]", "") }

func (w *canonical) line(name, mark, v string) {
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, mark...)
	w.buf = strconv.AppendInt(w.buf, int64(len(v)), 10)
	w.buf = append(w.buf, ':')
	w.buf = append(w.buf, v...)
	w.buf = append(w.buf, '\n')
}

// custom writes a custom member, unless it is null.
func (w *canonical) custom(name string, raw json.RawMessage) {
	form, value := customForm(strings.TrimSpace(string(raw)))
	if form == "" {
		return
	}
	w.line("custom", "[]", name)
	w.line(form, "=", value)
}

// customForm returns what kind of value the literal is, so that "1" and 1
// differ, and one form of each value. A literal that is no JSON, which no
// decoded call has, counts as it is.
func customForm(literal string) (form, value string) {
	switch {
	case literal == "" || literal == "null":
		return "", ""
	case literal[0] == '"':
		var s string
		if json.Unmarshal([]byte(literal), &s) == nil {
			return "string", s
		}
	case kind(literal[0]) == "a number":
		return "number", parseDecimal(literal).String()
	}
	return "json", literal
}

// formatFloat returns the shortest text that stands for f.
func formatFloat(f float64) string {
	if f == 0 {
		return "0" // for -0 too
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// decimal is the number that a JSON literal stands for, whole and exact: digits,
// without zeros at either end, times ten to the power of exponent. Zero has no
// digits.
type decimal struct {
	negative bool
	digits   string
	exponent int
	literal  string // instead of all that, where the exponent is beyond reach
}

// parseDecimal reads a JSON number. An empty literal is 0.
func parseDecimal(literal string) decimal {
	var d decimal
	s, negative := strings.CutPrefix(literal, "-")
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.ParseInt(s[i+1:], 10, 32)
		if err != nil {
			return decimal{literal: literal}
		}
		s, d.exponent = s[:i], int(e)
	}
	whole, fraction, _ := strings.Cut(s, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	d.digits = strings.TrimRight(digits, "0")
	if d.digits == "" {
		return decimal{}
	}
	d.negative = negative
	d.exponent += len(digits) - len(d.digits) - len(fraction)
	return d
}

// integer returns the number if it is whole and has at most nine digits.
func (d decimal) integer() (n int, ok bool) {
	if d.literal != "" || d.exponent < 0 || len(d.digits)+d.exponent > 9 {
		return 0, false
	}
	if d.digits == "" {
		return 0, true
	}
	n, err := strconv.Atoi(d.digits + strings.Repeat("0", d.exponent))
	if d.negative {
		n = -n
	}
	return n, err == nil
}

// String returns one form for each number.
func (d decimal) String() string {
	if d.literal != "" {
		return d.literal
	}
	sign := ""
	if d.negative {
		sign = "-"
	}
	return sign + d.digits + "e" + strconv.Itoa(d.exponent)
}
