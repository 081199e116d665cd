package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/samples"
)

// TestCanonicalIgnoresHowACallIsWritten writes random calls with their members
// in any order, with white space, escapes and nulls: the canonical form is that
// of the call.
func TestCanonicalIgnoresHowACallIsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, 0))
		want := samples.Generate(rng, 1)[0]
		plain, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var doc any
		d := json.NewDecoder(bytes.NewReader(plain))
		d.UseNumber()
		if err := d.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		scribble(rng, &b, doc, true)
		got, wrong := hub.DecodeCall([]byte(b.String()))
		if len(wrong) > 0 {
			t.Fatalf("%v\n%s", wrong, b.String())
		}
		if g, w := hub.Canonical(got), hub.Canonical(want); !bytes.Equal(g, w) {
			t.Fatalf("canonical form of\n%s\nis\n%s\nwant\n%s", b.String(), g, w)
		}
	})
}

// scribble writes v as JSON in a random way. A top object also gets null
// members.
func scribble(rng *rand.Rand, b *strings.Builder, v any, top bool) {
	space := func() { b.WriteString([]string{"", "", "", " ", "\n", "\t\r\n "}[rng.IntN(6)]) }
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		if top {
			for _, name := range []string{"language", "account", "crm", "topics", "sentiment", "custom"} {
				if _, ok := v[name]; !ok {
					v[name] = nil
					names = append(names, name)
				}
			}
		}
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		b.WriteByte('{')
		for i, name := range names {
			if i > 0 {
				b.WriteByte(',')
			}
			space()
			scribbleString(rng, b, name)
			space()
			b.WriteByte(':')
			scribble(rng, b, v[name], false)
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			scribble(rng, b, v[i], false)
		}
		b.WriteByte(']')
	case string:
		space()
		scribbleString(rng, b, v)
	case json.Number:
		space()
		b.WriteString(v.String())
		if !strings.ContainsAny(v.String(), ".eE") {
			b.WriteString([]string{"", ".0", "e0", "E+00", ".000e-0"}[rng.IntN(5)])
		}
	default:
		space()
		fmt.Fprint(b, map[any]string{nil: "null", true: "true", false: "false"}[v])
	}
	space()
}

// scribbleString writes s with some of its characters escaped.
func scribbleString(rng *rand.Rand, b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case rng.IntN(4) == 0:
			for _, unit := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(b, []string{`\u%04x`, `\u%04X`}[rng.IntN(2)], unit)
			}
		case c == '"' || c == '\\' || c < ' ':
			fmt.Fprintf(b, `\u%04x`, c)
		case c == '/' && rng.IntN(2) == 0:
			b.WriteString(`\/`)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
}

// TestCanonicalSeesEveryField changes each field of a call, one at a time, and
// adds and removes entries: every change shows.
func TestCanonicalSeesEveryField(t *testing.T) {
	t.Parallel()
	base := decodeOK(t, []byte(full))
	seen := map[string]string{string(hub.Canonical(base)): "the call itself"}
	check := func(what string, c hub.Call) {
		form := string(hub.Canonical(c))
		if other, ok := seen[form]; ok {
			t.Errorf("%s has the canonical form of %s", what, other)
		}
		seen[form] = what
	}
	c := decodeOK(t, []byte(full))
	each(reflect.ValueOf(&c).Elem(), "", func(what string) { check(what, c) })
	if len(seen) < 60 {
		t.Errorf("only %d changes were tried", len(seen))
	}
	if seen[string(hub.Canonical(c))] != "the call itself" {
		t.Error("the changes were not undone")
	}
}

// each changes every part of v in turn, calls f, and undoes the change.
func each(v reflect.Value, path string, f func(what string)) {
	try := func(how string, changed reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.Set(changed)
		f(path + " " + how)
		v.Set(old)
	}
	switch v.Kind() { //nolint:exhaustive // those that a call is made of; any other fails
	case reflect.String:
		if v.Len() > 0 {
			try("emptied", reflect.Zero(v.Type()))
		}
		try("lengthened", reflect.ValueOf(v.String()+"x").Convert(v.Type()))
	case reflect.Int:
		try("changed", reflect.ValueOf(int(v.Int())+1))
	case reflect.Float64:
		try("changed", reflect.ValueOf(v.Float()+0.01))
	case reflect.Pointer:
		try("removed", reflect.Zero(v.Type()))
		each(v.Elem(), path, f)
	case reflect.Slice:
		try("removed", reflect.Zero(v.Type()))
		try("repeated", reflect.AppendSlice(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, 4), v), v))
		for i := range v.Len() {
			each(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Map:
		try("removed", reflect.Zero(v.Type()))
		for _, value := range []string{"1", `"1"`, "true", `"true"`, `"null"`, "1.5", "-1"} {
			try("changed to "+value, reflect.ValueOf(map[string]json.RawMessage{"deal_size": json.RawMessage(value)}))
		}
		try("renamed", reflect.ValueOf(map[string]json.RawMessage{"deal_sizes": json.RawMessage("1")}))
	case reflect.Struct:
		if at, ok := reflect.TypeAssert[time.Time](v); ok {
			try("later", reflect.ValueOf(at.Add(time.Nanosecond)))
			try("in another zone", reflect.ValueOf(at.UTC()))
			return
		}
		for i := range v.NumField() {
			each(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	default:
		f(path + " of kind " + v.Kind().String() + ", which this test does not know")
	}
}

func TestCanonicalKeepsPlacesApart(t *testing.T) {
	t.Parallel()
	for name, pair := range map[string][2]hub.Call{
		"neighbours in a list": {{Topics: []string{"a", "b"}}, {Topics: []string{"ab"}}},
		"order":                {{Topics: []string{"a", "b"}}, {Topics: []string{"b", "a"}}},
		"list or list":         {{Topics: []string{"a"}}, {Risks: []string{"a"}}},
		"line breaks":          {{Title: "a\ndirection=8:outbound"}, {Title: "a", Direction: "outbound"}},
		"empty entry":          {{Topics: []string{""}}, {}},
		"empty participant":    {{Participants: []hub.Participant{{}}}, {}},
		"which participant":    {{Participants: []hub.Participant{{Name: "a"}, {}}}, {Participants: []hub.Participant{{}, {Name: "a"}}}},
		"participant or step":  {{Participants: []hub.Participant{{}}}, {NextSteps: []hub.NextStep{{}}}},
		"custom string":        {custom("a", `"1"`), custom("a", "1")},
		"custom quote":         {custom("a", `"\""`), custom("a", `"\\\""`)},
		"custom name":          {custom("a", `1`), custom("b", "1")},
		"custom bool":          {custom("a", `true`), custom("a", "false")},
		"nonsense":             {custom("a", `tru`), custom("a", `truth`)},
		"open string":          {custom("a", `"a`), custom("a", `"b`)},
	} {
		if a, b := hub.Canonical(pair[0]), hub.Canonical(pair[1]); bytes.Equal(a, b) {
			t.Errorf("%s: both give\n%s", name, a)
		}
	}
}

func TestCanonicalOfCustomValues(t *testing.T) {
	t.Parallel()
	for name, same := range map[string][]string{
		"one":       {"1", "1.0", "1e0", "10e-1", "0.1e1", "1.000E+00", " 1 "},
		"zero":      {"0", "-0", "0.0", "0e5", "-0.000e-3"},
		"large":     {"120000", "1.2e5", "12E4", "120000.000"},
		"fraction":  {"-0.0125", "-1.25e-2", "-125e-4"},
		"exact":     {"9007199254740993", "9007199254740993.0"},
		"beyond":    {"1e99999999999"},
		"string":    {`"aé"`, `"a\u00e9"`, `"\u0061é"`},
		"no string": {`"1"`},
		"other":     {"9007199254740992"},
	} {
		for _, v := range same {
			if a, b := hub.Canonical(custom("x", same[0])), hub.Canonical(custom("x", v)); !bytes.Equal(a, b) {
				t.Errorf("%s: %s and %s differ:\n%s%s", name, same[0], v, a, b)
			}
		}
	}
	if a, b := hub.Canonical(custom("x", "9007199254740993")), hub.Canonical(custom("x", "9007199254740992")); bytes.Equal(a, b) {
		t.Error("two whole numbers that a float cannot tell apart are the same")
	}
	if a, b := hub.Canonical(custom("x", "null")), hub.Canonical(hub.Call{}); !bytes.Equal(a, b) {
		t.Errorf("null is not like absent:\n%s\n%s", a, b)
	}
}

func custom(name, value string) hub.Call {
	return hub.Call{Custom: map[string]json.RawMessage{name: json.RawMessage(value)}}
}

func BenchmarkCanonical(b *testing.B) {
	c, _ := hub.DecodeCall([]byte(full))
	b.ReportAllocs()
	for b.Loop() {
		hub.Canonical(c)
	}
}
