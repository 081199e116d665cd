package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/all"
	"github.com/optiwe/callbridge/hub"
)

func TestParse(t *testing.T) {
	t.Parallel()
	v, err := parse([]byte(` {"a":[1,{"b":null}],"c":"é\u00e9","d":true,"":1.5e3} `))
	ok(t, err)
	if want := map[string]any{
		"a": []any{json.Number("1"), map[string]any{"b": nil}}, "c": "éé", "d": true, "": json.Number("1.5e3"),
	}; !reflect.DeepEqual(v, want) {
		t.Errorf("%#v", v)
	}
	for text, pointers := range map[string][]string{
		`{"a":1,"a":2}`:             {"/a"},
		`{"a":{"b":1,"b":1,"b":1}}`: {"/a/b", "/a/b"},
		`{"a~/":["\u0000"]}`:        {"/a~0~1/0"},
	} {
		_, err := parse([]byte(text))
		p := problemOf(err)
		var got []string
		for _, e := range p.Errors {
			got = append(got, e.Pointer)
		}
		if p.Status != 422 || !slices.Equal(got, pointers) {
			t.Errorf("%s: %d %v", text, p.Status, got)
		}
	}
	for _, text := range []string{"", "{", "[1", `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[1}`, `{"a":1]`, "{}x", "{}{}", "nul", `"\x"`, `{1:2}`, "\"\xff\"", "01", "+1", `{"a":"` + "\n" + `"}`} {
		if _, err := parse([]byte(text)); problemOf(err).Code != codeMalformedJSON {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestParseIsStrictJSON: what parse takes, encoding/json takes, and reads the
// same.
func TestParseIsStrictJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte(`{}[]",:0123e.-ntrufals\b `)), 0, 20).Draw(t, "text")
		v, err := parse(b)
		if err != nil {
			return
		}
		var w any
		if err := json.Unmarshal(b, &w); err != nil {
			t.Fatalf("%q: parse takes it, encoding/json says %v", b, err)
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var x any
		if err := json.Unmarshal(again, &x); err != nil || !reflect.DeepEqual(w, x) {
			t.Fatalf("%q: read as %s (%v)", b, again, err)
		}
	})
}

func TestLanguage(t *testing.T) {
	t.Parallel()
	for l, want := range map[Language]string{
		{}: "en", {Accept: "es"}: "es", {Accept: "en, es"}: "en", {Accept: "fr-FR, es-419;q=0.8"}: "es", {Accept: "*"}: "en",
		{Lang: "es", Accept: "en"}: "es", {Lang: "xx", Accept: "es"}: "es", {Accept: ";;,,"}: "en", {Lang: "ES-mx"}: "es",
	} {
		if got := l.lang(); got != want {
			t.Errorf("%+v: %s, want %s", l, got, want)
		}
	}
}

func TestPointerOf(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]string{
		"query.limit": "/limit", "body": "", "body.fields[0]": "/fields/0", "body.a.b[12].c": "/a/b/12/c", "": "", "header.Idempotency-Key": "/Idempotency-Key",
	} {
		if got := pointerOf(location); got != want {
			t.Errorf("%s: %q, want %q", location, got, want)
		}
	}
}

// TestImportSchema: every connector of the instance can be imported, also one
// that this package has never heard of.
func TestImportSchema(t *testing.T) {
	t.Parallel()
	ds := append(all.Descriptors(),
		connectors.Descriptor{Name: "teams", Title: "Teams", Summary: "cards", OAuth: &connectors.OAuth{Provider: "teams"}},
		connectors.Descriptor{Name: "pager", Title: "Pager", Summary: "pages"},
	)
	r := huma.NewMapRegistry("#/components/schemas/", schemaName)
	s := importSchema(r, ds)
	for text, wrong := range map[string]string{
		`{"provider":"teams","url":"https://x.example","access_token":"t"}`: "[]",
		`{"provider":"teams","access_token":"t"}`:                           "[/url: is required]",
		`{"provider":"pager","url":"https://x.example","secret":"t"}`:       "[]",
		`{"provider":"pager","url":"","secret":null,"team_id":"x"}`:         "[/secret: must be a string /team_id: is not a member of this request /url: must not be empty]",
	} {
		v, err := parse([]byte(text))
		ok(t, err)
		if got := fmt.Sprint(orEmpty(check(r, s, v))); got != wrong {
			t.Errorf("%s: %s, want %s", text, got, wrong)
		}
	}
	if !strings.Contains(fmt.Sprint(check(r, s, "text")), "must be an object") {
		t.Error("a string is taken for an account")
	}
}

// TestCallSchema holds the document's description of a call against what
// [hub.DecodeCall] takes: a call that the decoder takes is never refused by the
// schema, so a client that checks first can send whatever we would take.
func TestCallSchema(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	texts := rapid.SampledFrom([]string{"", "x", "é", strings.Repeat("x", 500), strings.Repeat("y", 501)})
	values := rapid.OneOf(
		rapid.Map(texts, func(s string) any { return s }),
		rapid.SampledFrom([]any{
			nil, 0, 1, -1, 0.5, 172_800, true,
			[]any{},
			[]any{"x"},
			map[string]any{},
			"inbound", "video", "private", "denied", "en-US",
			"https://a.example/x", "HTTP://a.example", "2026-11-20T15:00:00Z",
			map[string]any{"email": "a@b.example"},
			[]any{map[string]any{"side": "internal", "phone": "+14155550123"}},
			[]any{map[string]any{"text": "x", "due_on": "2026-11-20"}},
			[]any{map[string]any{"email": "a@b.example", "share": 1}},
			map[string]any{"account_id": "001"},
			map[string]any{"a_1": "x"},
		}),
	)
	members := rapid.SampledFrom([]string{
		"id", "title", "started_at", "duration_seconds", "direction", "medium", "visibility", "recording_consent", "language", "url", "recording_url",
		"owner", "participants", "account", "crm", "summary", "key_points", "next_steps", "topics", "sentiment", "talk_ratio", "disposition", "tags", "custom",
	})
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		call := aCall("call-1", rapid.MapOfN(members, values, 0, 3).Draw(rt, "changes"))
		b, err := json.Marshal(call)
		ok(t, err)
		if _, wrong := hub.DecodeCall(b); len(wrong) > 0 {
			return
		}
		taken++
		a := c.post("/v1/calls", b) // the client holds the request against the document
		if a.status != 202 || t.Failed() {
			rt.Fatalf("%d for %s", a.status, b)
		}
	})
	if taken < 10 {
		t.Errorf("only %d calls were valid", taken)
	}
}
