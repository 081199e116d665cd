package mappings_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/mappings"
)

func task() mappings.Schema {
	return mappings.Schema{
		Fields: []mappings.Field{
			{Name: "Subject", Type: mappings.String, MaxLength: 40, Required: true},
			{Name: "Description", Type: mappings.String, MaxLength: 32000},
			{Name: "Status", Type: mappings.String, Values: []string{"Open", "Completed"}, Required: true},
			{Name: "Priority", Type: mappings.String, Values: []string{"Low", "High"}},
			{Name: "Seconds", Type: mappings.Number},
			{Name: "Important", Type: mappings.Bool},
			{Name: "Day", Type: mappings.Date},
			{Name: "At", Type: mappings.Time},
			{Name: "Topics", Type: mappings.List, MaxLength: 10},
			{Name: "Picks", Type: mappings.List, Values: []string{"pricing", "security"}},
			{Name: "Any"},
		},
		Custom: func(name string) bool { return strings.HasSuffix(name, "__c") },
	}
}

func view() map[string]any {
	return map[string]any{
		"id": "call-1", "revision": 1, "title": "Discovery with Northwind Traders",
		"started_at": "2026-11-20T15:30:00-08:00", "duration_seconds": 1860,
		"owner": map[string]any{"name": "Dana Reyes", "email": "dana@acme.example"},
		"participants": []any{
			map[string]any{"name": "Dana Reyes", "side": "internal"},
			map[string]any{"side": "external"},
			map[string]any{"name": "Priya Shah", "side": "external"},
		},
		"account":    map[string]any{"domain": "northwind.example"},
		"summary":    "They compared prices and asked about security.",
		"key_points": []any{"Price matters", "Security review"},
		"next_steps": []any{
			map[string]any{"text": "Send it", "owner_name": "Dana Reyes", "due_on": "2026-11-27"},
			map[string]any{"text": "Call back"},
		},
		"topics":     []any{"Pricing", "security", "a topic that is long"},
		"sentiment":  0.4,
		"talk_ratio": []any{map[string]any{"name": "Dana Reyes", "side": "internal", "share": 0.456}, map[string]any{"side": "external", "share": 0.544}},
		"custom": map[string]any{
			"deal_size": json.Number("120000"), "score": json.Number("0.25"), "stage": "high", "vip": true,
			"close": "2026-12-24", "text_number": " 42 ", "yes": "true", "huge": json.Number("1e999"),
		},
	}
}

var allFields = []string{
	"title", "time", "direction", "medium", "url", "recording_url", "transcript_url", "owner", "participants.names",
	"participants.emails", "participants.phones", "participants.titles", "account", "summary", "key_points", "next_steps",
	"topics", "sentiment", "talk_ratio", "risks", "competitors", "disposition", "tags",
	"custom.deal_size", "custom.score", "custom.stage", "custom.vip", "custom.close", "custom.text_number", "custom.yes",
	"custom.huge", "custom.absent",
}

// apply compiles and applies a mapping of one field.
func apply(t *testing.T, field, source string) (any, bool, []mappings.Loss) {
	t.Helper()
	m, wrong := mappings.Compile(mappings.Source{field: json.RawMessage(source)}, task(), allFields)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	out, losses, err := m.Apply(view())
	if err != nil {
		t.Fatal(err)
	}
	v, ok := out[field]
	return v, ok, losses
}

func TestApply(t *testing.T) {
	t.Parallel()
	tests := []struct {
		field, source string
		want          any
	}{
		{"Subject", `"title"`, "Discovery with Northwind Traders"},
		{"Subject", `"'Call: ' + release.account.domain"`, "Call: northwind.example"},
		{"Subject", `"'Call'"`, "Call"},
		{"Subject", `"participants.names"`, "Dana Reyes, Priya Shah"},
		{"Subject", `"owner"`, "Dana Reyes"},
		{"Subject", `"account"`, "northwind.example"},
		{"Subject", `"time"`, "2026-11-20T15:30:00-08:00"},
		{"Subject", `"sentiment"`, "0.4"},
		{"Subject", `"custom.deal_size"`, "120000"},
		{"Subject", `"custom.vip"`, "true"},
		{"Subject", `7`, "7"},
		{"Subject", `true`, "true"},
		{"Description", `"next_steps"`, "Send it (Dana Reyes, 2026-11-27)\nCall back"},
		{"Description", `"key_points"`, "Price matters\nSecurity review"},
		{"Description", `"talk_ratio"`, "Dana Reyes 46%, external 54%"},
		{"Description", `"release.key_points.map(k, '- ' + k).join('\\n')"`, "- Price matters\n- Security review"},
		{"Description", `"disposition"`, ""},
		{"Description", `"risks"`, ""},
		{"Description", `"custom.absent"`, ""},
		{"Description", `null`, ""},
		{"Status", `"'completed'"`, "Completed"},
		{"Priority", `"custom.stage"`, "High"},
		{"Seconds", `"release.duration_seconds"`, int64(1860)},
		{"Seconds", `"double(release.duration_seconds) / 8.0"`, 232.5},
		{"Seconds", `"sentiment"`, 0.4},
		{"Seconds", `"custom.text_number"`, int64(42)},
		{"Seconds", `12.5`, 12.5},
		{"Seconds", `3.0`, int64(3)},
		{"Seconds", `null`, nil},
		{"Seconds", `"custom.absent"`, nil},
		{"Important", `"release.topics.exists(t, t == 'security')"`, true},
		{"Important", `"custom.vip"`, true},
		{"Important", `"custom.yes"`, true},
		{"Important", `false`, false},
		{"Day", `"time"`, "2026-11-20"},
		{"Day", `"custom.close"`, "2026-12-24"},
		{"Day", `"release.next_steps[0].due_on"`, "2026-11-27"},
		{"At", `"time"`, "2026-11-20T15:30:00-08:00"},
		{"At", `"release.started_at + duration('1h')"`, "2026-11-20T16:30:00-08:00"},
		{"At", `"'2026-01-01T00:00:00Z'"`, "2026-01-01T00:00:00Z"},
		{"Topics", `"key_points"`, []string{"Price…", "Security…"}},
		{"Topics", `"owner"`, []string{"Dana Reyes"}},
		{"Topics", `"tags"`, []string{}},
		{"Picks", `"topics"`, []string{"pricing", "security"}},
		{"Any", `"summary"`, "They compared prices and asked about security."},
		{"Any", `"sentiment"`, 0.4},
		{"Any", `"custom.vip"`, true},
		{"Any", `"release.duration_seconds"`, int64(1860)},
		{"Any", `"topics"`, "Pricing, security, a topic that is long"},
		{"Any", `"disposition"`, nil},
		{"Mood__c", `"sentiment"`, 0.4},
	}
	for _, tt := range tests {
		t.Run(tt.field+"="+tt.source, func(t *testing.T) {
			t.Parallel()
			got, ok, _ := apply(t, tt.field, tt.source)
			if !ok {
				t.Fatal("the field is left out")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestApplyDeclaresLosses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		field, source string
		want          any // nil: left out
		loss          mappings.Loss
	}{
		{"Subject", `"summary"`, "They compared prices and asked about…", mappings.Loss{Kind: mappings.Truncated, From: 46, To: 37, Detail: "cut to the 40 characters that the field holds"}},
		{"Subject", `"disposition"`, nil, mappings.Loss{Kind: mappings.Replaced, Detail: "the mapping gave nothing, and the field must not be empty: its default is used"}},
		{"Subject", `"custom.absent"`, nil, mappings.Loss{Kind: mappings.Replaced, Detail: "the mapping gave nothing, and the field must not be empty: its default is used"}},
		{"Status", `"title"`, nil, mappings.Loss{Kind: mappings.Replaced, Detail: "the value is none of those that the field allows: its default is used"}},
		{"Priority", `"title"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the value is none of those that the field allows"}},
		{"Seconds", `"custom.stage"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the value is not a number"}},
		{"Seconds", `"double(release.revision) / 0.0"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the value is not a number"}},
		{"Seconds", `"release.revision / 0"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the rule divides by zero for this call"}},
		{"Important", `"custom.stage"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the value is not true or false"}},
		{"Day", `"title"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the value is not a date"}},
		{"At", `"custom.close"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the value is not a point in time"}},
		{"Any", `"release.custom.absent"`, nil, mappings.Loss{Kind: mappings.Dropped, Detail: "the call carries no custom member absent; ask has() or in first"}},
		{"Topics", `"topics"`, []string{"Pricing", "security", "a topic…"}, mappings.Loss{Kind: mappings.Truncated, From: 20, To: 8, Detail: "entries cut to the 10 characters that the field holds"}},
		{"Picks", `"topics"`, []string{"pricing", "security"}, mappings.Loss{Kind: mappings.Dropped, Detail: "1 of 3 entries are none of those that the field allows"}},
	}
	for _, tt := range tests {
		t.Run(tt.field+"="+tt.source, func(t *testing.T) {
			t.Parallel()
			got, ok, losses := apply(t, tt.field, tt.source)
			if ok != (tt.want != nil) {
				t.Errorf("in the result: %v", ok)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
			tt.loss.Field = tt.field
			if diff := cmp.Diff([]mappings.Loss{tt.loss}, losses); diff != "" {
				t.Errorf("losses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneFailingFieldDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	m, wrong := mappings.Compile(mappings.Source{
		"Subject": json.RawMessage(`"title"`), "Seconds": json.RawMessage(`"release.revision / 0"`), "Day": json.RawMessage(`"time"`),
	}, task(), allFields)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	got, losses, err := m.Apply(view())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"Subject": "Discovery with Northwind Traders", "Day": "2026-11-20"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(losses) != 1 || losses[0].Field != "Seconds" {
		t.Errorf("losses: %v", losses)
	}
	if _, _, err := m.Apply(nil); err == nil {
		t.Error("a mapping was applied to nothing")
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, field, source, pointer, detail string }{
		{"unknown field", "Nope", `"title"`, "/Nope", "the destination has no field of this name that a mapping can set"},
		{"pointer is escaped", "a/b~c", `"title"`, "/a~1b~0c", "the destination has no field"},
		{"field not released", "Subject", `"custom.other"`, "/Subject", "it reads custom.other, which is not among the fields that are released"},
		{"expression reads more", "Subject", `"release.title + release.custom.other"`, "/Subject", "it reads custom.other, which is not among the fields"},
		{"matching", "Subject", `"matching.emails"`, "/Subject", "matching.emails may be used for look-ups only"},
		{"misspelt member", "Subject", `"release.titel"`, "/Subject", `column 8: there is no member "titel"; did you mean "title"?`},
		{"unquoted text", "Subject", `"Call"`, "/Subject", `there is nothing named "Call"`},
		{"broken JSON", "Subject", `"`, "/Subject", "it is not valid JSON"},
		{"object", "Subject", `{}`, "/Subject", "it must be a string"},
		{"null in a required field", "Subject", `null`, "/Subject", "the field must not be empty"},
		{"text in a number", "Seconds", `"title"`, "/Seconds", "it gives a text, and the field holds a number"},
		{"number in a truth", "Important", `"sentiment"`, "/Important", "it gives a number, and the field holds true or false"},
		{"truth in a date", "Day", `true`, "/Day", "it gives true or false, and the field holds a date"},
		{"list in a time", "At", `"topics"`, "/At", "it gives a list of texts, and the field holds a point in time"},
		{"constant too long", "Subject", `"'0123456789012345678901234567890123456789!'"`, "/Subject", "this constant does not fit the field: cut to the 40 characters"},
		{"constant not allowed", "Status", `"'Done'"`, "/Status", "this constant does not fit the field: the value is none of those"},
		{"constant not a date", "Day", `"'soon'"`, "/Day", "this constant does not fit the field: the value is not a date"},
		{"constant without value", "Seconds", `"1 / 0"`, "/Seconds", "it has no value: the rule divides by zero"},
		{"number too large", "Seconds", `1e999`, "/Seconds", "the number is too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, wrong := mappings.Compile(mappings.Source{tt.field: json.RawMessage(tt.source)}, task(), allFields)
			if m != nil || len(wrong) != 1 {
				t.Fatalf("got %v, %v", m, wrong)
			}
			if wrong[0].Pointer != tt.pointer || !strings.Contains(wrong[0].Detail, tt.detail) {
				t.Errorf("got  %s\nwant %s: %s", wrong[0].Error(), tt.pointer, tt.detail)
			}
		})
	}
	many := mappings.Source{}
	for i := range mappings.MaxFields + 1 {
		many[fmt.Sprintf("f%d__c", i)] = json.RawMessage(`1`)
	}
	if _, wrong := mappings.Compile(many, task(), nil); len(wrong) != 1 {
		t.Errorf("too many fields: got %v", wrong)
	}
}

func TestEveryFieldErrorIsReported(t *testing.T) {
	t.Parallel()
	_, wrong := mappings.Compile(mappings.Source{
		"Subject": json.RawMessage(`"summary"`), "Zzz": json.RawMessage(`1`), "Day": json.RawMessage(`true`),
	}, task(), []string{"title"})
	var pointers []string
	for _, w := range wrong {
		pointers = append(pointers, w.Pointer)
	}
	if diff := cmp.Diff([]string{"/Day", "/Subject", "/Zzz"}, pointers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in    string
		limit int
		want  string
		cut   bool
	}{
		{"short", 5, "short", false},
		{"", 0, "", false},
		{"x", 0, "", true},
		{"xy", 1, "…", true},
		{"two words", 8, "two…", true},
		{"two words", 4, "two…", true},
		{"one, two, three", 10, "one, two…", true},
		{"incomprehensibilities", 10, "incompreh…", true},
		{"a incomprehensibilities", 12, "a incompreh…", true}, // a word that begins early is cut inside
		{"😀😀😀", 6, "😀😀😀", false},
		{"😀😀😀", 5, "😀😀…", true},
		{"😀😀😀", 4, "😀…", true},
		{"é́é́", 3, "é́…", true},   // e with two accents stays whole
		{"👩‍👩‍👧‍👦x", 6, "…", true}, // so does a family
		{"👍🏽👍🏽", 6, "👍🏽…", true},   // and a skin tone
		{"日本語の文章です", 5, "日本語の…", true},
		{"line\nbreak here", 8, "line…", true},
		{"\xff\xff\xff", 2, "\xff…", true},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			got, cut := mappings.Cut(tt.in, tt.limit)
			if got != tt.want || cut != tt.cut {
				t.Errorf("Cut(%q, %d) = %q, %v; want %q, %v", tt.in, tt.limit, got, cut, tt.want, tt.cut)
			}
		})
	}
}

func TestCutProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		checkCut(t, rapid.String().Draw(t, "s"), rapid.IntRange(0, 40).Draw(t, "limit"))
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func checkCut(t fataler, s string, limit int) {
	got, cut := mappings.Cut(s, limit)
	switch {
	case !utf8.ValidString(got) && utf8.ValidString(s):
		t.Fatalf("Cut split a character: %q", got)
	case mappings.UTF16Len(got) > limit && limit >= 0:
		t.Fatalf("Cut(%q, %d) is %d units long", s, limit, mappings.UTF16Len(got))
	case cut != (got != s):
		t.Fatalf("Cut(%q, %d) = %q, %v", s, limit, got, cut)
	case cut && limit > 0 && (!strings.HasSuffix(got, mappings.Ellipsis) || !strings.HasPrefix(s, strings.TrimSuffix(got, mappings.Ellipsis))):
		t.Fatalf("Cut(%q, %d) = %q is not its beginning", s, limit, got)
	case utf8.ValidString(s) && mappings.UTF16Len(s) != len(utf16.Encode([]rune(s))):
		t.Fatalf("UTF16Len(%q) = %d", s, mappings.UTF16Len(s))
	case limit > 0 && cut != (mappings.UTF16Len(s) > limit):
		t.Fatalf("Cut(%q, %d) reports %v", s, limit, cut)
	}
}

// checkResult checks what Apply promises of every result.
func checkResult(t fataler, schema mappings.Schema, src mappings.Source, out map[string]any, losses []mappings.Loss) {
	lost := map[string]mappings.Loss{}
	for _, l := range losses {
		lost[l.Field] = l
	}
	for name := range src {
		v, ok := out[name]
		if _, l := lost[name]; !ok && !l {
			t.Fatalf("%s was left out without a loss", name)
		}
		if !ok {
			continue
		}
		i := slices.IndexFunc(schema.Fields, func(f mappings.Field) bool { return f.Name == name })
		if i < 0 {
			continue
		}
		checkValue(t, schema.Fields[i], v)
	}
	if _, err := json.Marshal(out); err != nil {
		t.Fatalf("the result is no JSON: %v", err)
	}
}

func checkValue(t fataler, f mappings.Field, v any) {
	ok := v == nil && !f.Required && f.Type != mappings.String && f.Type != mappings.List
	switch v := v.(type) {
	case string:
		ok = f.Type == mappings.String || f.Type == mappings.Date || f.Type == mappings.Time || f.Type == ""
		ok = ok && (f.MaxLength == 0 || mappings.UTF16Len(v) <= f.MaxLength) && (!f.Required || v != "")
		ok = ok && (f.Values == nil || v == "" || slices.Contains(f.Values, v))
	case int64, float64:
		ok = f.Type == mappings.Number || f.Type == ""
	case bool:
		ok = f.Type == mappings.Bool || f.Type == ""
	case []string:
		ok = f.Type == mappings.List
		for _, s := range v {
			ok = ok && (f.MaxLength == 0 || mappings.UTF16Len(s) <= f.MaxLength) && (f.Values == nil || slices.Contains(f.Values, s))
		}
	}
	if !ok {
		t.Fatalf("%s holds %#v", f.Name, v)
	}
}

func TestApplyProperties(t *testing.T) {
	t.Parallel()
	schema := task()
	sources := []string{
		`"title"`, `"time"`, `"owner"`, `"participants.names"`, `"summary"`, `"key_points"`, `"next_steps"`, `"topics"`, `"sentiment"`,
		`"talk_ratio"`, `"disposition"`, `"custom.deal_size"`, `"custom.stage"`, `"custom.absent"`, `1`, `2.5`, `true`, `null`,
		`"release.title + release.summary"`, `"release.custom.stage"`, `"release.sentiment"`, `"release.account.name"`,
		`"release.topics.map(t, t + t)"`, `"release.started_at"`, `"release.next_steps[0].due_on"`, `"has(release.owner) && release.owner.name != ''"`,
	}
	rapid.Check(t, func(t *rapid.T) {
		src := mappings.Source{}
		for _, f := range schema.Fields {
			if rapid.Bool().Draw(t, "map "+f.Name) {
				src[f.Name] = json.RawMessage(rapid.SampledFrom(sources).Draw(t, "source of "+f.Name))
			}
		}
		v := view()
		for _, name := range []string{"title", "summary", "disposition"} {
			v[name] = rapid.String().Draw(t, name)
		}
		v["topics"] = drawList(t, "topics")
		for name := range v {
			if rapid.IntRange(0, 4).Draw(t, "drop "+name) == 0 {
				delete(v, name)
			}
		}
		m, wrong := mappings.Compile(src, schema, allFields)
		for _, w := range wrong {
			delete(src, strings.TrimPrefix(w.Pointer, "/"))
		}
		if len(wrong) > 0 {
			if m, wrong = mappings.Compile(src, schema, allFields); len(wrong) > 0 {
				t.Fatalf("what was not complained about is wrong: %v", wrong)
			}
		}
		out, losses, err := m.Apply(v)
		if err != nil {
			t.Fatal(err)
		}
		checkResult(t, schema, src, out, losses)
		again, _, _ := m.Apply(v)
		if diff := cmp.Diff(out, again); diff != "" {
			t.Fatalf("the same release gave another result:\n%s", diff)
		}
	})
}

func drawList(t *rapid.T, name string) []any {
	var out []any
	for _, s := range rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, name) {
		out = append(out, s)
	}
	return out
}

func FuzzCut(f *testing.F) {
	f.Add("two words", 5)
	f.Add("👩‍👩‍👧‍👦", 3)
	f.Add("e\u0301\u0301 x", 2)
	f.Fuzz(func(t *testing.T, s string, limit int) { checkCut(t, s, limit%100) })
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{`"title"`, `"release.title"`, `"'x'"`, `1`, `null`, `{}`, `"custom."`, `"custom.a b"`, `[1`, `"matching.emails"`, `1e999`} {
		f.Add("Subject", s)
		f.Add("Picks", s)
	}
	f.Fuzz(func(t *testing.T, field, source string) {
		src := mappings.Source{field: json.RawMessage(source)}
		m, wrong := mappings.Compile(src, task(), allFields)
		if (m == nil) != (len(wrong) > 0) {
			t.Fatalf("got %v, %v", m, wrong)
		}
		for _, w := range wrong {
			if w.Detail == "" || w.Pointer == "" {
				t.Fatalf("got %+v", w)
			}
		}
		if m == nil {
			return
		}
		for _, v := range []map[string]any{view(), {}} {
			out, losses, err := m.Apply(v)
			if err != nil {
				t.Fatal(err)
			}
			checkResult(t, task(), src, out, losses)
		}
	})
}

func FuzzApply(f *testing.F) {
	src := mappings.Source{
		"Subject": json.RawMessage(`"release.title + ' ' + release.account.name"`), "Description": json.RawMessage(`"next_steps"`),
		"Status": json.RawMessage(`"disposition"`), "Priority": json.RawMessage(`"custom.stage"`),
		"Seconds": json.RawMessage(`"release.custom.deal_size"`), "Important": json.RawMessage(`"custom.vip"`), "Day": json.RawMessage(`"time"`),
		"At": json.RawMessage(`"custom.close"`), "Topics": json.RawMessage(`"topics"`), "Picks": json.RawMessage(`"release.topics"`),
		"Any": json.RawMessage(`"release.participants.map(p, p.name)"`),
	}
	m, wrong := mappings.Compile(src, task(), allFields)
	if len(wrong) > 0 {
		f.Fatal(wrong)
	}
	full, err := json.Marshal(view())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"title":1,"topics":"x","custom":[],"participants":[1,null,{"name":2}],"started_at":"now","account":null}`))
	f.Add([]byte(`{"custom":{"deal_size":1e308,"vip":"yes","stage":[1],"close":"0000-01-01"},"topics":["",null,"\ud800"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var v map[string]any
		if json.Unmarshal(raw, &v) != nil || v == nil {
			return
		}
		out, losses, err := m.Apply(v)
		if err != nil {
			t.Fatal(err)
		}
		checkResult(t, task(), src, out, losses)
	})
}

func BenchmarkApply(b *testing.B) {
	m, wrong := mappings.Compile(mappings.Source{
		"Subject":     json.RawMessage(`"release.title + ' (' + release.account.domain + ')'"`),
		"Description": json.RawMessage(`"summary"`), "Day": json.RawMessage(`"time"`), "Topics": json.RawMessage(`"topics"`),
	}, task(), allFields)
	if len(wrong) > 0 {
		b.Fatal(wrong)
	}
	v := view()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := m.Apply(v); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleMapping_Apply() {
	schema := mappings.Schema{Fields: []mappings.Field{
		{Name: "Subject", Type: mappings.String, MaxLength: 30},
		{Name: "CallDurationInSeconds", Type: mappings.Number},
	}}
	m, wrong := mappings.Compile(mappings.Source{
		"Subject":               json.RawMessage(`"'Call: ' + release.title"`),
		"CallDurationInSeconds": json.RawMessage(`"release.duration_seconds"`),
	}, schema, []string{"title", "time"})
	if len(wrong) > 0 {
		fmt.Println(wrong)
		return
	}
	values, losses, err := m.Apply(map[string]any{
		"title": "Discovery with Northwind Traders", "started_at": "2026-11-20T15:00:00-08:00", "duration_seconds": 1860,
	})
	fmt.Println(values["Subject"], values["CallDurationInSeconds"], err)
	fmt.Println(losses[0].Field, losses[0].Kind, losses[0].From, losses[0].To)
	// Output:
	// Call: Discovery with… 1860 <nil>
	// Subject truncated 38 21
}

func ExampleCompile() {
	_, wrong := mappings.Compile(mappings.Source{"Subject": json.RawMessage(`"summary"`)},
		mappings.Schema{Fields: []mappings.Field{{Name: "Subject", Type: mappings.String}}}, []string{"title"})
	for _, w := range wrong {
		fmt.Println(w)
	}
	// Output:
	// /Subject: it reads summary, which is not among the fields that are released; release it too, or leave it out here
}
