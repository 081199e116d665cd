package salesforce

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
	"github.com/optiwe/callbridge/mappings"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// render renders and fails the test if that is not possible.
func render(t *testing.T, item connectors.Item) (map[string]any, connectors.Payload) {
	t.Helper()
	c, err := newConnector(connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Render(item)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(p.Body, &record); err != nil {
		t.Fatal(err)
	}
	return record, p
}

func itemOf(release *consent.Release, destination string) connectors.Item {
	return connectors.Item{Key: keyOf(1), Kind: hub.KindShare, Destination: json.RawMessage(destination), Release: release}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	long := discovery()
	long.Summary = strings.Repeat("Priya said that the team of Müller & Søn – 日本 included – wants it. ", 700)
	long.Title = strings.Repeat("A very long title ", 20)
	bare := hub.Call{
		ID: "c", Title: "x", Summary: "Short.", StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Owner: hub.Person{Email: "dana@acme.example"}, RecordingConsent: hub.ConsentGranted,
	}
	linked := connectors.Targets{
		"who_id": "003bn0000000001AAA", "who": "contact", "what_id": "006bn0000000001AAA", "what": "opportunity", "owner_id": "005bn0000000001AAA", "owner": "user",
	}
	for name, item := range map[string]connectors.Item{
		"everything": func() connectors.Item {
			it := itemOf(consenttest.Release(t, discovery(), everyField()...), withID)
			it.Targets = linked
			return it
		}(),
		"spanish":   itemOf(consenttest.ReleaseIn(t, "es-MX", discovery(), everyField()...), withoutID),
		"long":      itemOf(consenttest.Release(t, long, everyField()...), withID),
		"bare":      itemOf(consenttest.Release(t, bare, consenttest.AllFields()...), withoutID),
		"names":     itemOf(consenttest.Release(t, discovery(), consent.FieldSummary, consent.FieldParticipantNames, consent.FieldNextSteps, consent.FieldTalkRatio), withID),
		"no title":  itemOf(consenttest.Release(t, discovery(), consent.FieldAccount, consent.FieldKeyPoints), withID),
		"no person": itemOf(consenttest.Release(t, discovery(), consent.FieldNextSteps, consent.FieldTalkRatio), withID),
		"correction": func() connectors.Item {
			c := discovery()
			c.Direction, c.Disposition = "", ""
			it := itemOf(consenttest.Revision(t, "en", 2, c, everyField()...), withID)
			it.Kind = hub.KindUpdate
			return it
		}(),
		"nothing found": func() connectors.Item {
			it := itemOf(consenttest.Release(t, discovery(), everyField()...), withID)
			it.Targets = connectors.Targets{"who": "ambiguous", "what": "ambiguous", "owner": "inactive", "hidden": "lead,opportunity"}
			return it
		}(),
		"mapped": func() connectors.Item {
			it := itemOf(consenttest.Release(t, discovery(), everyField()...), withID)
			it.Overrides = map[string]any{
				"Subject": "Call: " + strings.Repeat("é", 300), "CallDisposition": nil, "Description": "only this\x00\x07", "Priority": "High", "Status": "",
				"Deal_Size__c": 120000, "Ratio__c": 0.5, "Big__c": json.Number("12345678901234567890"), "Flag__c": true, "Tags__c": []any{"a", "b"}, "Odd__c": map[string]any{},
				"OwnerId": "005bn0000000001AAA", "Id": "00Tbn0000000001AAA", "CallObject": "x", "Callbridge_ID__c": "x", "TaskSubtype": "Email",
			}
			return it
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record, p := render(t, item)
			text, _ := record["Description"].(string)
			if _, ok := record["Description"]; ok && text != "" {
				record["Description"] = "(below)"
			}
			losses, err := json.MarshalIndent(p.Losses, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			fields, err := json.MarshalIndent(record, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got := string(fields) + "\n\n--- losses\n" + string(losses) + "\n\n--- Description\n" + text + "\n"
			path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("rendered otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	c, err := newConnector(connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	good := itemOf(consenttest.Release(t, discovery(), everyField()...), withID)
	for name, spoil := range map[string]func(*connectors.Item){
		"no release":           func(it *connectors.Item) { it.Release = nil },
		"no key":               func(it *connectors.Item) { it.Key = "" },
		"a key that is a path": func(it *connectors.Item) { it.Key = "../../../../../../../limit" },
		"no destination":       func(it *connectors.Item) { it.Destination = nil },
	} {
		item := good
		spoil(&item)
		if _, err := c.Render(item); err == nil {
			t.Errorf("%s: rendered", name)
		}
	}
}

// Whatever a call holds, the record is within Salesforce's limits, the key in
// its place, and a cut is declared.
func TestRenderWithinLimits(t *testing.T) {
	t.Parallel()
	c, err := newConnector(connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(limit int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			part := rapid.StringN(0, 60, -1).Draw(t, "part")
			return strings.Repeat(part, rapid.IntRange(0, limit).Draw(t, "times"))
		})
	}
	rapid.Check(t, func(rt *rapid.T) {
		call := discovery()
		call.Title = text(20).Draw(rt, "title")
		call.Summary = text(1000).Draw(rt, "summary")
		call.KeyPoints = rapid.SliceOfN(text(400), 0, 6).Draw(rt, "points")
		call.Disposition = text(20).Draw(rt, "disposition")
		call.URL = text(2).Draw(rt, "url")
		p, err := c.Render(itemOf(consenttest.Release(t, call, everyField()...), withID))
		if err != nil {
			rt.Fatal(err)
		}
		var record map[string]any
		if err := json.Unmarshal(p.Body, &record); err != nil {
			rt.Fatal(err)
		}
		for field, limit := range map[string]int{"Subject": maxSubject, "CallDisposition": maxDisposition, "Description": maxDescription} {
			s, _ := record[field].(string)
			if n := mappings.UTF16Len(s); n > limit || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x07\x1b\u2028") {
				rt.Fatalf("%s has %d units, or what it may not have", field, n)
			}
		}
		if record["CallObject"] != keyOf(1) || record["Callbridge_Id__c"] != keyOf(1) {
			rt.Fatal("the key is not in its place")
		}
		for _, l := range p.Losses {
			if l.Kind == mappings.Truncated && l.To >= l.From {
				rt.Fatalf("the loss %+v is none", l)
			}
		}
	})
}

// The links stay, whatever else has to go.
func TestDescriptionKeepsLinks(t *testing.T) {
	t.Parallel()
	call := discovery()
	call.Summary = strings.Repeat("word ", 10_000)
	call.KeyPoints = nil
	for range 100 {
		call.KeyPoints = append(call.KeyPoints, strings.Repeat("point ", 200))
	}
	record, p := render(t, itemOf(consenttest.Release(t, call, everyField()...), withID))
	text, _ := record["Description"].(string)
	if n := mappings.UTF16Len(text); n > maxDescription || n < maxDescription-100 {
		t.Errorf("the description has %d units", n)
	}
	if !strings.HasSuffix(text, "Full call: https://app.optiwe.example/calls/0042\nRecording: https://app.optiwe.example/calls/0042/recording\nTranscript: https://app.optiwe.example/calls/0042/transcript") {
		t.Errorf("the links are gone: …%s", text[len(text)-200:])
	}
	if !strings.Contains(text, "Key points\n• point") {
		t.Error("the summary left no room for the rest")
	}
	if len(p.Losses) != 1 || p.Losses[0].Field != "Description" || p.Losses[0].Kind != mappings.Truncated || p.Losses[0].To != mappings.UTF16Len(text) {
		t.Errorf("losses %+v", p.Losses)
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"# Title\n\nText":                         "Title\n\nText",
		"## Title ##":                             "Title",
		"#hashtag":                                "#hashtag",
		"**bold** and __bold__, *it* and _it_":    "bold and bold, it and it",
		"***both***":                              "both",
		"snake_case_name, 2*3*4 and a * b * c":    "snake_case_name, 2*3*4 and a * b * c",
		"- one\n* two\n+ three\n  - nested":       "• one\n• two\n• three\n  • nested",
		"1. one\n2. two":                          "1. one\n2. two",
		"- [ ] open\n- [x] done":                  "☐ open\n☑ done",
		"[text](https://x.example/a_(b))":         "text (https://x.example/a_(b))",
		"[https://x.example](https://x.example)":  "https://x.example",
		`[t](https://x.example "title")`:          "t (https://x.example)",
		"![chart](https://x.example/c.png) below": "chart below",
		"<https://x.example>":                     "https://x.example",
		"a < b > c":                               "a < b > c",
		"`code` and ``more``":                     "code and more",
		"```go\nx := **y**\n```":                  "x := **y**",
		"> quoted\n> > twice":                     "quoted\ntwice",
		"a\n\n---\n\nb":                           "a\n\nb",
		"~~gone~~":                                "gone",
		`\*not it\* and 5 \> 4`:                   "*not it* and 5 > 4",
		"a\r\nb\rc":                               "a\nb\nc",
		"\n\n\na\n\n\n\nb\n\n":                    "a\n\nb",
		"tab\tkept, bell\x07 not":                 "tab\tkept, bell not",
		"| a | b |":                               "| a | b |",
		"*a* *b* *c*":                             "a b c",
		"¿*Qué*? «_no_»":                          "¿Qué? «_no_»",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q)\n got %q\nwant %q", in, got, want)
		}
	}
}

// FuzzPlain checks that no Markdown makes text that a record may not hold, and
// that none is invented: what is left is no longer than what came, but for the
// marks of lists and links.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"# a", "**", "*_*_*_", "[[[](", "```", "- [x] ", "> > >", "\\", "<http://>", "a\x00\u2028b", "---", strings.Repeat("*a ", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := plain(s)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\r\u2028\u2029\x7f") {
			t.Errorf("plain(%q) = %q", s, got)
		}
		if utf8.RuneCountInString(got) > 2*utf8.RuneCountInString(s)+1 {
			t.Errorf("plain made %d runes of %d", utf8.RuneCountInString(got), utf8.RuneCountInString(s))
		}
	})
}

func TestDestination(t *testing.T) {
	t.Parallel()
	for raw, pointer := range map[string]string{
		`{"object":"Task"}`: "-", `{"object":"Task","external_id_field":"ns__Callbridge_Id__c"}`: "-",
		`{}`: "/object", `{"object":"Case"}`: "/object",
		`{"object":"Task","external_id_field":"Id"}`:              "/external_id_field",
		`{"object":"Task","external_id_field":"x__c/../Account"}`: "/external_id_field",
		`{"object":"Task","field":1}`:                             "", `[]`: "", `null`: "", ``: "", `{"object":"Task"} {}`: "", `{"object":7}`: "",
	} {
		got := "-"
		if wrong := checkDestination(json.RawMessage(raw)); len(wrong) > 0 {
			got = wrong[0].Pointer
		}
		if got != pointer {
			t.Errorf("%s: pointer %q, want %q", raw, got, pointer)
		}
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	s := Descriptor().Schema(json.RawMessage(withID))
	for name, want := range map[string]bool{
		"Region__c": true, "ns__Region__c": true, "Callbridge_Id__c": false, "callbridge_id__C": false, "CALLBRIDGE_ID__c": false,
		"Id": false, "__c": false, "a b__c": false, "Region__r": false, "Region__c; DROP": false,
	} {
		if got := s.Custom(name); got != want {
			t.Errorf("Custom(%q) = %v", name, got)
		}
	}
}
