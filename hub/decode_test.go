package hub_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
)

// full has every member of the format.
const full = `{
  "id": "call-2026-11-20-0042",
  "title": "Discovery with Northwind Traders",
  "started_at": "2026-11-20T15:00:00-08:00",
  "duration_seconds": 1860,
  "direction": "outbound",
  "medium": "video",
  "visibility": "normal",
  "recording_consent": "granted",
  "language": "en",
  "url": "https://app.optiwe.example/calls/0042",
  "recording_url": "https://app.optiwe.example/calls/0042/recording",
  "transcript_url": "https://app.optiwe.example/calls/0042/transcript",
  "owner": {"name": "Dana Reyes", "email": "dana@acme.example"},
  "participants": [
    {"name": "Dana Reyes", "email": "dana@acme.example", "side": "internal"},
    {"name": "Priya Shah", "email": "priya@northwind.example", "phone": "+14155550123", "title": "VP Operations", "company": "Northwind Traders", "side": "external"}
  ],
  "account": {"name": "Northwind Traders", "domain": "northwind.example"},
  "crm": {"account_id": "001Ws00000abcdeIAA", "opportunity_id": "006Ws00000abcdeIAA"},
  "summary": "They plan by hand.",
  "key_points": ["Two people plan full time"],
  "next_steps": [{"text": "Send the security questionnaire", "owner_email": "dana@acme.example", "due_on": "2026-11-27"}],
  "topics": ["pricing", "security"],
  "sentiment": 0.4,
  "talk_ratio": [{"email": "dana@acme.example", "share": 0.46}],
  "risks": ["Security review may slip"],
  "competitors": ["Routewise"],
  "disposition": "Connected",
  "tags": ["enterprise"],
  "custom": {"deal_size": 120000, "forecast": "commit", "first": true}
}`

func TestDecodeCallReadsEveryMember(t *testing.T) {
	t.Parallel()
	got, wrong := hub.DecodeCall([]byte(full))
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	mood := 0.4
	want := hub.Call{
		ID: "call-2026-11-20-0042", Title: "Discovery with Northwind Traders",
		StartedAt: time.Date(2026, 11, 20, 15, 0, 0, 0, time.FixedZone("", -8*3600)), DurationSeconds: 1860,
		Direction: "outbound", Medium: "video", Visibility: "normal", RecordingConsent: "granted", Language: "en",
		URL:           "https://app.optiwe.example/calls/0042",
		RecordingURL:  "https://app.optiwe.example/calls/0042/recording",
		TranscriptURL: "https://app.optiwe.example/calls/0042/transcript",
		Owner:         hub.Person{Name: "Dana Reyes", Email: "dana@acme.example"},
		Participants: []hub.Participant{
			{Name: "Dana Reyes", Email: "dana@acme.example", Side: "internal"},
			{Name: "Priya Shah", Email: "priya@northwind.example", Phone: "+14155550123", Title: "VP Operations", Company: "Northwind Traders", Side: "external"},
		},
		Account: &hub.Account{Name: "Northwind Traders", Domain: "northwind.example"},
		CRM:     &hub.CRM{AccountID: "001Ws00000abcdeIAA", OpportunityID: "006Ws00000abcdeIAA"},
		Summary: "They plan by hand.", KeyPoints: []string{"Two people plan full time"},
		NextSteps: []hub.NextStep{{Text: "Send the security questionnaire", OwnerEmail: "dana@acme.example", DueOn: "2026-11-27"}},
		Topics:    []string{"pricing", "security"}, Sentiment: &mood,
		TalkRatio: []hub.TalkShare{{Email: "dana@acme.example", Share: 0.46}},
		Risks:     []string{"Security review may slip"}, Competitors: []string{"Routewise"}, Disposition: "Connected",
		Tags: []string{"enterprise"},
		Custom: map[string]json.RawMessage{
			"deal_size": json.RawMessage("120000"), "forecast": json.RawMessage(`"commit"`), "first": json.RawMessage("true"),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded call (-want +got):\n%s", diff)
	}
	if zone := got.StartedAt.Format(time.RFC3339); zone != "2026-11-20T15:00:00-08:00" {
		t.Errorf("the time became %s", zone)
	}
}

func TestDecodeCallReadsTheLeast(t *testing.T) {
	t.Parallel()
	got, wrong := hub.DecodeCall([]byte(`{"id":"1","title":"t","started_at":"2026-01-01T00:00:00Z","duration_seconds":0,"owner":{"email":"a@b.example"},"summary":"s"}`))
	want := hub.Call{ID: "1", Title: "t", StartedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Owner: hub.Person{Email: "a@b.example"}, Summary: "s"}
	if len(wrong) > 0 || !cmp.Equal(want, got) {
		t.Errorf("%v\n%s", wrong, cmp.Diff(want, got))
	}
}

// TestNothingIsTheSameHoweverItIsSaid gives every optional member as null, and
// as empty where that is allowed: the call is that without the member.
func TestNothingIsTheSameHoweverItIsSaid(t *testing.T) {
	t.Parallel()
	for _, f := range fields() {
		if f.required || f.kind == "custom" { // a custom member may be null
			continue
		}
		without := decodeOK(t, edit(t, f.pointer, nil))
		forms := []string{"null"}
		switch f.kind {
		case "text":
			forms = append(forms, `""`)
		case "list":
			forms = append(forms, `[]`)
		case "object":
			forms = append(forms, `{}`)
		}
		for _, form := range forms {
			if diff := cmp.Diff(without, decodeOK(t, edit(t, f.pointer, raw(form)))); diff != "" {
				t.Errorf("%s: %s is not like absent:\n%s", f.pointer, form, diff)
			}
		}
	}
}

// field is one member of the format, at its place in full.
type field struct {
	pointer  string
	kind     string // text, format, list, object, number
	required bool
	limit    int      // characters of a text, entries of a list
	bad      []string // values of the right JSON type that must be refused, as JSON
	good     []string // values that must be accepted, as JSON
}

// canary is in every refused value that can hold it; no detail may repeat it.
const canary = "zanzibar"

func fields() []field {
	enum := []string{`""`, `"zanzibar"`, `"OUTBOUND"`, `" normal"`}
	emails := []string{
		`""`, `"zanzibar"`, `"@b.example"`, `"zanzibar@"`, `"a@b"`, `"a@@b.example"`, `"a@b@c.example"`, `"a b@c.example"`, `" a@b.example"`, `"a@b.example "`,
		`"a@b..example"`, `"a@.example"`, `"a@b.example."`, `"a@-b.example"`, `"a@b-.example"`, `"a@b_c.example"`, `"<a@b.example>"`, `"\"zanzibar\"@b.example"`,
		`"a@1.2.3.4"`, `"a@[1.2.3.4]"`, `"a\n@b.example"`, `"` + strings.Repeat("a", 65) + `@b.example"`, `"a@` + strings.Repeat("abcdefg.", 32) + `example"`,
		`"a@` + strings.Repeat("a", 64) + `.example"`,
	}
	goodEmails := []string{`"a@b.example"`, `"first.last+tag@sub.b.example"`, `"o'neil@b.example"`, `"josé@ñandú.example"`, `"佐藤@例え.example"`, `"A@B.EXAMPLE"`, `"a..b.@docomo.example"`}
	urls := []string{
		`""`, `"zanzibar"`, `"/calls/1"`, `"//host.example/zanzibar"`, `"ftp://host.example/"`, `"javascript:alert(1)"`, `"data:text/html,zanzibar"`, `"file:///etc/passwd"`,
		`"https://"`, `"https:///path"`, `"https://:443/"`, `"https://user:zanzibar@host.example/"`, `"https://zanzibar@host.example/"`, `"https://host.example/a b"`,
		`"https://host.example/\n"`, `"https://host.example:port/"`, `"https://host.example/<b>"`, `"https://host.example\\@evil.example/"`, `"https://host.example/%zz"`,
		`"https://host.example/\u202e"`, `" https://host.example/"`, `"https://host.example/` + strings.Repeat("a", 2048) + `"`, `"https:host.example"`,
	}
	goodURLs := []string{`"http://host.example"`, `"HTTPS://host.example:8443/a/b?c=d&e=%20#f"`, `"https://[2001:db8::1]/x"`, `"https://münchen.example/straße"`, `"https://host.example/a|b@c"`}
	crm := []string{`""`, `"zanzibar-1"`, `"a b"`, `"é"`, `"` + strings.Repeat("a", 65) + `"`}
	share := []string{`-0.01`, `1.01`, `1e300`, `1e400`}
	names := func(pointer string) field { return field{pointer: pointer, kind: "text", limit: 500} }
	return []field{
		{pointer: "/id", kind: "format", required: true, bad: []string{`""`, `"zanz ibar"`, `"a/b"`, `"é"`, `"a\n"`, `"` + strings.Repeat("a", 129) + `"`}, good: []string{`"A-z_0.9:x"`, `"` + strings.Repeat("a", 128) + `"`}},
		{pointer: "/title", kind: "text", required: true, limit: 500, bad: []string{`""`, `" \t\n\u00a0"`}},
		{
			pointer: "/started_at", kind: "format", required: true,
			bad: []string{
				`""`, `"zanzibar"`, `"2026-11-20"`, `"2026-11-20T15:00:00"`, `"2026-11-20 15:00:00Z"`, `"2026-11-20T15:00Z"`, `"2026-11-20T15:00:00z"`, `"2026-11-20t15:00:00Z"`,
				`"2026-11-31T15:00:00Z"`, `"2026-02-29T00:00:00Z"`, `"2026-13-01T15:00:00Z"`, `"2026-11-20T24:00:00Z"`, `"2026-11-20T15:60:00Z"`, `"2026-11-20T15:00:60Z"`, `"2026-11-20T5:00:00Z"`,
				`"2026-11-20T15:00:00+24:00"`, `"2026-11-20T15:00:00+08:60"`, `"2026-11-20T15:00:00+0800"`, `"2026-11-20T15:00:00+08"`, `"2026-11-20T15:00:00,5Z"`, `"2026-11-20T15:00:00.Z"`,
				`"2026-11-20T15:00:00.1234567890Z"`, `" 2026-11-20T15:00:00Z"`, `"0001-01-01T00:00:00Z"`, `"1969-12-31T23:59:59Z"`, `"3000-01-01T00:00:00Z"`, `"+2026-11-20T15:00:00Z"`, `"1763650800"`, `"Z"`, `"+00:00"`,
			},
			good: []string{`"2026-11-20T15:00:00Z"`, `"2028-02-29T23:59:59.123456789+14:00"`, `"2026-11-20T15:00:00.5-03:30"`, `"1970-01-01T00:00:00-00:00"`, `"2999-12-31T23:59:59+00:00"`},
		},
		{pointer: "/duration_seconds", kind: "number", required: true, bad: []string{`-1`, `172801`, `1.5`, `1e6`, `1e-1`, `1e999999999999`, `123456789012345678901234567890`, `0.0001`}, good: []string{`0`, `-0`, `172800`, `60.0`, `1.8e3`, `172800000e-3`}},
		{pointer: "/direction", kind: "format", bad: enum, good: []string{`"inbound"`, `"outbound"`, `"internal"`, `"\u0069nternal"`}},
		{pointer: "/medium", kind: "format", bad: enum, good: []string{`"phone"`, `"video"`, `"webinar"`, `"demo"`, `"in_person"`}},
		{pointer: "/visibility", kind: "format", bad: enum, good: []string{`"normal"`, `"private"`}},
		{pointer: "/recording_consent", kind: "format", bad: enum, good: []string{`"granted"`, `"denied"`, `"unknown"`}},
		{pointer: "/language", kind: "format", bad: []string{`""`, `"e"`, `"zanzibar"`, `"en_US"`, `"e1"`, `"en-"`, `"-en"`, `"en--US"`, `"en-toolongsubtag"`, `"é"`, `"en-US-` + strings.Repeat("abcdefgh-", 4) + `a"`}, good: []string{`"en"`, `"pt-BR"`, `"zh-Hant-TW"`, `"es-419"`, `"fil"`, `"en-x-pirate"`}},
		{pointer: "/url", kind: "format", bad: urls, good: goodURLs},
		{pointer: "/recording_url", kind: "format", bad: urls, good: goodURLs},
		{pointer: "/transcript_url", kind: "format", bad: urls, good: goodURLs},
		{pointer: "/owner", kind: "object", required: true},
		names("/owner/name"),
		{pointer: "/owner/email", kind: "format", required: true, bad: emails, good: goodEmails},
		{pointer: "/participants", kind: "list", limit: 200},
		names("/participants/1/name"),
		{pointer: "/participants/1/email", kind: "format", bad: emails, good: goodEmails},
		{pointer: "/participants/1/phone", kind: "format", bad: []string{`""`, `"zanzibar"`, `"14155550123"`, `"+1 415 555 0123"`, `"+0415555012"`, `"+141555"`, `"+1234567890123456"`, `"+1415555012a"`, `"+"`, `"00141555501"`, `"+١٤١٥٥٥٥"`}, good: []string{`"+1415555"`, `"+123456789012345"`}},
		names("/participants/1/title"),
		names("/participants/1/company"),
		{pointer: "/participants/1/side", kind: "format", bad: enum, good: []string{`"internal"`, `"external"`}},
		{pointer: "/account", kind: "object"},
		names("/account/name"),
		{pointer: "/account/domain", kind: "format", bad: []string{`""`, `"zanzibar"`, `"https://b.example"`, `"b.example/x"`, `"a@b.example"`, `".example"`, `"b..example"`, `"b example.com"`, `"10.0.0.1"`, `"` + strings.Repeat("abcdefg.", 32) + `example"`}, good: []string{`"b.example"`, `"a-b.c1.example"`, `"münchen.example"`, `"xn--mnchen-3ya.example"`}},
		{pointer: "/crm", kind: "object"},
		{pointer: "/crm/account_id", kind: "format", bad: crm, good: []string{`"001Ws00000abcde"`, `"42"`}},
		{pointer: "/crm/opportunity_id", kind: "format", bad: crm, good: []string{`"006Ws00000abcdeIAA"`, `"` + strings.Repeat("a", 64) + `"`}},
		{pointer: "/summary", kind: "text", required: true, limit: 50_000, bad: []string{`""`, `"\n"`}},
		{pointer: "/key_points", kind: "list", limit: 200},
		{pointer: "/key_points/0", kind: "text", required: true, limit: 5_000, bad: []string{`""`, `" "`}},
		{pointer: "/next_steps", kind: "list", limit: 200},
		{pointer: "/next_steps/0/text", kind: "text", required: true, limit: 5_000, bad: []string{`""`, `" "`}},
		{pointer: "/next_steps/0/owner_email", kind: "format", bad: emails, good: goodEmails},
		{pointer: "/next_steps/0/due_on", kind: "format", bad: []string{`""`, `"zanzibar"`, `"2026-11-31"`, `"2026-02-29"`, `"2026-1-1"`, `"20261120"`, `"2026-11-20T00:00:00Z"`, `"20.11.2026"`, `"0000-01-01"`, `"3000-01-01"`, `"2026-00-10"`}, good: []string{`"2028-02-29"`, `"1970-01-01"`, `"2999-12-31"`}},
		{pointer: "/topics", kind: "list", limit: 200},
		{pointer: "/topics/1", kind: "text", required: true, limit: 500, bad: []string{`""`, `" "`}},
		{pointer: "/sentiment", kind: "number", bad: []string{`-1.01`, `1.01`, `1e300`, `1e400`, `-1e400`}, good: []string{`-1`, `1`, `0`, `-0.0`, `1e-400`, `1E0`}},
		{pointer: "/talk_ratio", kind: "list", limit: 200},
		{pointer: "/talk_ratio/0/email", kind: "format", required: true, bad: emails, good: goodEmails},
		{pointer: "/talk_ratio/0/share", kind: "number", required: true, bad: share, good: []string{`0`, `1`, `0.5`, `5e-1`}},
		{pointer: "/risks", kind: "list", limit: 200},
		{pointer: "/risks/0", kind: "text", required: true, limit: 5_000, bad: []string{`""`, `" "`}},
		{pointer: "/competitors", kind: "list", limit: 200},
		{pointer: "/competitors/0", kind: "text", required: true, limit: 500, bad: []string{`""`, `" "`}},
		{pointer: "/disposition", kind: "text", limit: 500},
		{pointer: "/tags", kind: "list", limit: 200},
		{pointer: "/tags/0", kind: "text", required: true, limit: 500, bad: []string{`""`, `" "`}},
		{pointer: "/custom", kind: "object"},
		{
			pointer: "/custom/forecast", kind: "custom",
			bad:  []string{`{}`, `["zanzibar"]`, `"` + strings.Repeat("a", 2001) + `"`, `1e999`, `-1e999`, strings.Repeat("1", 65)},
			good: []string{`null`, `true`, `false`, `0`, `-1.5e10`, `""`, `"` + strings.Repeat("é", 2000) + `"`},
		},
	}
}

// mutations returns what is to be done to the field, by name: the value to put
// in its place, and the pointers that must then be reported.
func (f field) mutations() map[string]mutation {
	at := []string{f.pointer}
	m := map[string]mutation{}
	for name, value := range map[string]string{
		"an object": `{"zanzibar":1}`, "a list": `["zanzibar"]`, "a string": `"zanzibar"`, "a number": `7`, "a boolean": `true`,
	} {
		right := map[string]string{"text": "a string", "format": "a string", "list": "a list", "object": "an object", "number": "a number"}[f.kind]
		if name != right && f.kind != "custom" {
			m[name] = mutation{value, at}
		}
	}
	if entry := strings.TrimRight(f.pointer, "0123456789"); f.required && !strings.HasSuffix(entry, "/") {
		m["absent"], m["null"] = mutation{"", at}, mutation{"null", at}
	} else if f.required {
		m["null"] = mutation{"null", at}
	}
	for _, v := range f.bad {
		m["bad "+v[:min(len(v), 40)]] = mutation{v, at}
	}
	switch f.kind {
	case "text":
		m["too long"] = mutation{`"` + strings.Repeat("é", f.limit+1) + `"`, at}
	case "list":
		m["too long"] = mutation{"[" + strings.Repeat(longEntry(f.pointer)+",", f.limit) + longEntry(f.pointer) + "]", at}
		m["null entry"] = mutation{"[null]", []string{f.pointer + "/0"}}
		m["bad entries"] = mutation{"[1,false]", []string{f.pointer + "/0", f.pointer + "/1"}}
	case "object":
		m["unknown member"] = mutation{"", append(at[:0:0], f.pointer+"/Zanz~1i~0bar")}
	}
	if f.kind == "text" || f.kind == "format" || f.kind == "custom" {
		m["NUL"] = mutation{`"zanzibar\u0000"`, at}
		m["half a pair, high"] = mutation{`"zanzibar\ud83d"`, at}
		m["half a pair, high then text"] = mutation{`"zanzibar\ud83dx\u0041"`, at}
		m["half a pair, high then high"] = mutation{`"zanzibar\ud83d\ud83d\ude00"`, at}
		m["half a pair, low"] = mutation{`"zanzibar\ude00"`, at}
		m["not UTF-8"] = mutation{"\"zanzibar\xff\"", at}
		m["not UTF-8, surrogate"] = mutation{"\"zanzibar\xed\xa0\xbd\"", at}
		m["not UTF-8, overlong"] = mutation{"\"zanzibar\xc0\xaf\\n\"", at}
	}
	return m
}

type mutation struct {
	value string // JSON, or "": see TestEveryFieldWrongInEveryWay
	want  []string
}

// longEntry is a valid entry of the list.
func longEntry(list string) string {
	switch list {
	case "/participants":
		return "{}"
	case "/next_steps":
		return `{"text":"x"}`
	case "/talk_ratio":
		return `{"email":"a@b.example","share":0}`
	}
	return `"x"`
}

func TestEveryFieldWrongInEveryWay(t *testing.T) {
	t.Parallel()
	cases := 0
	for _, f := range fields() {
		for name, m := range f.mutations() {
			cases++
			var doc []byte
			switch name {
			case "absent":
				doc = edit(t, f.pointer, nil)
			case "unknown member":
				doc = edit(t, m.want[0], raw(`"zanzibar"`))
			default:
				doc = edit(t, f.pointer, raw(m.value))
			}
			_, wrong := hub.DecodeCall(doc)
			if got := pointers(wrong); !slices.Equal(got, m.want) {
				t.Errorf("%s, %s: %v, want problems at %v", f.pointer, name, wrong, m.want)
			}
			checkDetails(t, wrong)
		}
		for _, good := range f.good {
			if _, wrong := hub.DecodeCall(edit(t, f.pointer, raw(good))); len(wrong) > 0 {
				t.Errorf("%s: %.60s is refused: %v", f.pointer, good, wrong)
			}
		}
		if f.kind == "text" {
			if _, wrong := hub.DecodeCall(edit(t, f.pointer, raw(`"`+strings.Repeat("😀", f.limit)+`"`))); len(wrong) > 0 {
				t.Errorf("%s: %d characters are refused: %v", f.pointer, f.limit, wrong)
			}
		}
	}
	if cases < 700 {
		t.Errorf("only %d cases", cases)
	}
	t.Logf("%d cases", cases)
}

// TestEveryMemberTwice repeats each member of each object with the value it
// has.
func TestEveryMemberTwice(t *testing.T) {
	t.Parallel()
	for _, f := range fields() {
		if last := f.pointer[strings.LastIndexByte(f.pointer, '/')+1:]; isIndex(last) {
			continue
		}
		_, wrong := hub.DecodeCall(render(parse(t, full), "", f.pointer))
		if got := pointers(wrong); !slices.Equal(got, []string{f.pointer}) {
			t.Errorf("%s twice: %v", f.pointer, wrong)
		}
	}
}

// TestTheTableKnowsEveryField makes sure that no member of hub.Call is missing
// from the tables above.
func TestTheTableKnowsEveryField(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, f := range fields() {
		known[f.pointer] = true
	}
	mood := 0.5
	filled, err := json.Marshal(hub.Call{
		Direction: "x", Medium: "x", Visibility: "x", RecordingConsent: "x", Language: "x", URL: "x", RecordingURL: "x", TranscriptURL: "x",
		Owner: hub.Person{Name: "x", Email: "x"}, Participants: []hub.Participant{{}, {Name: "x", Email: "x", Phone: "x", Title: "x", Company: "x", Side: "x"}},
		Account: &hub.Account{Name: "x", Domain: "x"}, CRM: &hub.CRM{AccountID: "x", OpportunityID: "x"},
		KeyPoints: []string{"x"}, NextSteps: []hub.NextStep{{Text: "x", OwnerEmail: "x", DueOn: "x"}}, Topics: []string{"x", "x"}, Sentiment: &mood,
		TalkRatio: []hub.TalkShare{{}}, Risks: []string{"x"}, Competitors: []string{"x"}, Disposition: "x", Tags: []string{"x"},
		Custom: map[string]json.RawMessage{"forecast": json.RawMessage("1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(pointer string, v any)
	walk = func(pointer string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				walk(pointer+"/"+name, member)
			}
		case []any:
			if !known[pointer] {
				t.Errorf("no test for %s", pointer)
			}
			walk(fmt.Sprintf("%s/%d", pointer, len(v)-1), v[len(v)-1])
		default:
			if !known[pointer] {
				t.Errorf("no test for %s", pointer)
			}
		}
	}
	var v any
	if err := json.Unmarshal(filled, &v); err != nil {
		t.Fatal(err)
	}
	walk("", v)
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, wrong := hub.DecodeCall([]byte(`{
	  "id": "no spaces", "title": 7, "started_at": "yesterday", "owner": {"email_": "x"}, "participants": [{}, {"side": "both"}, 3],
	  "medium": "fax", "": 1, "custom": {"1st": 1, "ok": {}, "ok": 2}, "a/b~c": {"x": [1, 2, {"y": null}]}
	}`))
	want := []string{
		"/id", "/title", "/started_at", "/owner/email_", "/owner/email", "/participants/1/side", "/participants/2", "/medium", "/",
		"/custom/1st", "/custom/ok", "/custom/ok", "/a~1b~0c", "/duration_seconds", "/summary",
	}
	if diff := cmp.Diff(want, pointers(wrong)); diff != "" {
		t.Errorf("pointers (-want +got):\n%s", diff)
	}
}

func TestProblemsAreLimited(t *testing.T) {
	t.Parallel()
	var doc strings.Builder
	doc.WriteString("{")
	for i := range 5000 {
		fmt.Fprintf(&doc, `"member_%d":%d,`, i, i)
	}
	doc.WriteString(`"id":1}`)
	_, wrong := hub.DecodeCall([]byte(doc.String()))
	if len(wrong) != hub.MaxFieldErrors || wrong[99].Pointer != "/member_99" {
		t.Errorf("%d problems, the last at %s", len(wrong), wrong[len(wrong)-1].Pointer)
	}
}

// TestNamesThatNoPointerCanHold has members whose names are too long or no
// text: the object that holds them is pointed at.
func TestNamesThatNoPointerCanHold(t *testing.T) {
	t.Parallel()
	for name, quoted := range map[string]string{
		"long": `"` + strings.Repeat(canary, 17) + `"`, "not UTF-8": "\"zanzibar\xff\"", "half a pair": `"zanzibar\ud800"`, "NUL": `"zanzibar\u0000"`,
	} {
		for place, want := range map[string]string{"{": "", `"owner": {`: "/owner", `"custom": {`: "/custom"} {
			doc := strings.Replace(full, place, place+quoted+`:{"x":[1]},`, 1)
			_, wrong := hub.DecodeCall([]byte(doc))
			if got := pointers(wrong); !slices.Equal(got, []string{want}) {
				t.Errorf("%s in %s: %v", name, place, wrong)
			}
			checkDetails(t, wrong)
		}
	}
}

func TestDocumentsThatAreNoJSON(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		"", " ", "\n\t", "{", "}", "[", `"`, `{"id"`, `{"id":`, `{"id":1`, `{"id":1,`, `{"id":1,}`, `{,}`, `{"id" 1}`, `{id:1}`, `{'id':1}`, `{"a":1 "b":2}`, `{"a":[1 2]}`, `{"a":[1,]}`, `{"a":[,1]}`,
		`{"a":01}`, `{"a":-}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":1e+}`, `{"a":0x10}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":tru}`, `{"a":True}`, `{"a":nul}`, `{"a":undefined}`,
		`{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\`, `{"a":"\u`, `{"a":"\ud83d\u12"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", "{\"a\":\"\\n\x01\"}", "{\"a\x1f\":1}", `{"a":"zanzibar`, `{"a":"zanzibar\n`,
		`{} {}`, `{}x`, `{},`, `{}]`, "{}\x00", "\ufeff{}", "{\ufeff}", "{}\u00a0", `{"a":1}//zanzibar`, `/**/{}`, `{"a":{"b":}}`, `{"a":{"b":[1,{"c":]}}`, `{"a":[}`, `{"a":{]}`, "\xff", "\x1f\x8b\x08\x00", full[:len(full)-1], full + "0",
	} {
		_, wrong := hub.DecodeCall([]byte(doc))
		if len(wrong) != 1 || wrong[0].Pointer != "" || !strings.HasPrefix(wrong[0].Detail, "the document is not valid JSON at line ") {
			t.Errorf("%.60q: %v, want the one problem that it is no JSON", doc, wrong)
		}
		if json.Valid([]byte(doc)) {
			t.Errorf("%.60q is JSON after all", doc)
		}
		checkDetails(t, wrong)
	}
}

func TestPlaceOfASyntaxError(t *testing.T) {
	t.Parallel()
	_, wrong := hub.DecodeCall([]byte("{\"title\": \"ü\",\n  \"summary\": \"日本\" \"x\"}"))
	want := "the document is not valid JSON at line 2, column 19: a comma or a closing brace is expected"
	if len(wrong) != 1 || wrong[0].Error() != want {
		t.Errorf("got %v, want %s", wrong, want)
	}
}

func TestDocumentsThatAreNoObject(t *testing.T) {
	t.Parallel()
	for doc, detail := range map[string]string{
		`[]`: "must be an object, not a list", `"zanzibar"`: "must be an object, not a string", `7`: "must be an object, not a number",
		`null`: "must be an object, not null", `false`: "must be an object, not true or false",
	} {
		_, wrong := hub.DecodeCall([]byte(doc))
		if diff := cmp.Diff([]hub.FieldError{{Detail: detail}}, wrong); diff != "" {
			t.Errorf("%s (-want +got):\n%s", doc, diff)
		}
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	nested := func(levels int) []byte { // levels within the document
		return []byte(`{"x":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + `}`)
	}
	if _, wrong := hub.DecodeCall(nested(hub.MaxDepth)); wrong[0].Pointer != "/x" || wrong[0].Detail != "is not a member of the call format" {
		t.Errorf("%d levels: %v", hub.MaxDepth, wrong)
	}
	for _, doc := range [][]byte{
		nested(hub.MaxDepth + 1), nested(100_000), []byte(`{"x":` + strings.Repeat("[", 500_000)), []byte(`{"x":` + strings.Repeat(`{"y":`, 500_000)),
	} {
		_, wrong := hub.DecodeCall(doc)
		if len(wrong) != 1 || wrong[0].Pointer != "/x" || !strings.HasPrefix(wrong[0].Detail, "is nested too deep") {
			t.Errorf("%.20s…: %v", doc, wrong)
		}
	}
}

func TestCustomMembers(t *testing.T) {
	t.Parallel()
	of := func(n int) []byte {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"m%d":%d`, i, i)
		}
		return edit(t, "/custom", raw("{"+strings.TrimPrefix(b.String(), ",")+"}"))
	}
	if c := decodeOK(t, of(hub.MaxCustom)); len(c.Custom) != hub.MaxCustom {
		t.Errorf("%d custom members, want %d", len(c.Custom), hub.MaxCustom)
	}
	if _, wrong := hub.DecodeCall(of(hub.MaxCustom + 1)); !slices.Equal(pointers(wrong), []string{"/custom"}) {
		t.Errorf("one member too many: %v", wrong)
	}
	for _, name := range []string{"", "1a", "_a", "a-b", "a b", "a.b", "ä", "a/b", strings.Repeat("a", 65)} {
		pointer := "/custom/" + strings.ReplaceAll(name, "/", "~1")
		if _, wrong := hub.DecodeCall(edit(t, pointer, raw("1"))); !slices.Equal(pointers(wrong), []string{pointer}) {
			t.Errorf("name %q: %v", name, wrong)
		}
	}
	// However a string was escaped, it is kept in one form.
	c := decodeOK(t, edit(t, "/custom", raw(`{"a":"\u0041\u003c\/ü","b":"A</ü","c":1.50,"d":null}`)))
	want := map[string]json.RawMessage{"a": json.RawMessage(`"A\u003c/ü"`), "b": json.RawMessage(`"A\u003c/ü"`), "c": json.RawMessage("1.50"), "d": json.RawMessage("null")}
	if diff := cmp.Diff(want, c.Custom); diff != "" {
		t.Errorf("custom members (-want +got):\n%s", diff)
	}
}

// TestTextIsKeptAsItWasSent sends text of every kind; nothing is trimmed,
// normalised or replaced.
func TestTextIsKeptAsItWasSent(t *testing.T) {
	t.Parallel()
	for quoted, want := range map[string]string{
		`"<b> & <!channel> *stars*"`:              "<b> & <!channel> *stars*",
		`"\u00e9 e\u0301 é"`:                      "é e\u0301 é",
		`"\ud83d\udE00 \uD83C\uDDE6\uD83C\uDDEA"`: "😀 🇦🇪",
		`" مرحبا\u200f\u202e "`:                   " مرحبا\u200f\u202e ",
		`"a\"\\\/\b\f\n\r\tb"`:                    "a\"\\/\b\f\n\r\tb",
		"\"\x7f\u0085\u2028\ufeff\ufffd\uffff\"":  "\x7f\u0085\u2028\ufeff\ufffd\uffff",
		`"\u0001\u001f"`:                          "\x01\x1f",
	} {
		if got := decodeOK(t, edit(t, "/summary", raw(quoted))).Summary; got != want {
			t.Errorf("%s became %q, want %q", quoted, got, want)
		}
	}
}

func TestSplitBatch(t *testing.T) {
	t.Parallel()
	calls := func(n int, call string) string {
		return `{"calls":[` + strings.TrimSuffix(strings.Repeat(call+",", n), ",") + `]}`
	}
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for doc, want := range map[string][]string{
		`{"calls":[]}`: nil,
		`{ "calls" : [ {"id":1} , 7 , "x" , null , [ ] ] }`: {`{"id":1}`, "7", `"x"`, "null", "[ ]"},
		`{"c\u0061lls":[{"a":"\ud800"},{"b":1,"b":2}]}`:     {`{"a":"\ud800"}`, `{"b":1,"b":2}`}, // each answered on its own
		"{\"calls\":[\"\xff\"]}":                            {"\"\xff\""},
		`{"calls":[` + deep + `]}`:                          {deep},
	} {
		got, wrong := hub.SplitBatch([]byte("\t" + doc + "\n"))
		texts := make([]string, len(got))
		for i := range got {
			texts[i] = string(got[i])
		}
		if len(wrong) > 0 || !slices.Equal(texts, want) {
			t.Errorf("%.80s: %q %v, want %q", doc, texts, wrong, want)
		}
	}
	if got, wrong := hub.SplitBatch([]byte(calls(hub.MaxBatch, `{}`))); len(got) != hub.MaxBatch {
		t.Errorf("%d calls: %v", len(got), wrong)
	}
	for doc, pointer := range map[string]string{
		calls(hub.MaxBatch+1, `{}`): "/calls", `{}`: "/calls", `{"calls":null}`: "/calls", `{"calls":{}}`: "/calls", `{"calls":[],"calls":[]}`: "/calls",
		`{"calls":[],"more":[]}`: "/more", `[]`: "", `[{}]`: "", `{"calls":[{]}`: "", `{"calls":[]} 1`: "", ``: "",
	} {
		if got, wrong := hub.SplitBatch([]byte(doc)); got != nil || len(wrong) != 1 || wrong[0].Pointer != pointer {
			t.Errorf("%.60s: %d calls, %v, want a problem at %q", doc, len(got), wrong, pointer)
		}
	}
}

// decodeOK decodes a document that must be valid.
func decodeOK(t *testing.T, doc []byte) hub.Call {
	t.Helper()
	c, wrong := hub.DecodeCall(doc)
	if len(wrong) > 0 {
		t.Fatalf("%v\n%.2000s", wrong, doc)
	}
	return c
}

func pointers(wrong []hub.FieldError) []string {
	var out []string
	for _, w := range wrong {
		out = append(out, w.Pointer)
	}
	return out
}

// checkDetails checks what holds for every list of problems.
func checkDetails(t *testing.T, wrong []hub.FieldError) {
	t.Helper()
	for _, w := range wrong {
		if w.Detail == "" || strings.Contains(w.Detail, canary) || !utf8.ValidString(w.Detail) {
			t.Errorf("detail at %s: %q", w.Pointer, w.Detail)
		}
		if w.Pointer != "" && w.Pointer[0] != '/' || !utf8.ValidString(w.Pointer) || len(w.Pointer) > 300 {
			t.Errorf("pointer %q", w.Pointer)
		}
	}
}

// raw is JSON text, or what a test wants to pass for it.
type raw string

// parse reads JSON into maps, lists and raw scalars.
func parse(t *testing.T, doc string) any {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// render writes v as JSON with raw parts as they are. The member at twice is
// written twice.
func render(v any, at, twice string) []byte {
	switch v := v.(type) {
	case raw:
		return []byte(v)
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			quoted, _ := json.Marshal(name)
			pointer := at + "/" + name
			part := string(quoted) + ":" + string(render(v[name], pointer, twice))
			if parts = append(parts, part); pointer == twice {
				parts = append(parts, part)
			}
		}
		return []byte("{" + strings.Join(parts, ",") + "}")
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = string(render(v[i], at+"/"+strconv.Itoa(i), twice))
		}
		return []byte("[" + strings.Join(parts, ",") + "]")
	}
	b, _ := json.Marshal(v)
	return b
}

// edit returns full with value at pointer; nil removes what is there.
func edit(t *testing.T, pointer string, value any) []byte {
	t.Helper()
	doc := parse(t, full)
	steps := strings.Split(pointer, "/")[1:]
	place := doc
	for i, step := range steps {
		last := i == len(steps)-1
		switch v := place.(type) {
		case map[string]any:
			step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
			switch {
			case last && value == nil:
				delete(v, step)
			case last:
				v[step] = value
			default:
				place = v[step]
			}
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil {
				t.Fatalf("%s: %v", pointer, err)
			}
			if last {
				v[n] = value
			} else {
				place = v[n]
			}
		default:
			t.Fatalf("%s: there is nothing to go into", pointer)
		}
	}
	return render(doc, "", "")
}

func isIndex(step string) bool {
	_, err := strconv.Atoi(step)
	return err == nil
}
