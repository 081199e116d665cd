package consent_test

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
)

type (
	object = map[string]any
	list   = []any
)

// Every field alone releases exactly this and nothing else.
func TestEachFieldReleasesItself(t *testing.T) {
	t.Parallel()
	people := func(pairs ...object) object {
		return object{"participants": list{pairs[0], pairs[1]}}
	}
	tests := map[consent.Field]object{
		"title":              {"title": "cnryti"},
		"time":               {"started_at": "2031-11-20T15:00:00-08:00", "duration_seconds": canaryDuration},
		"direction":          {"direction": "cnrydi"},
		"medium":             {"medium": "cnrymd"},
		"url":                {"url": "cnryur"},
		"recording_url":      {"recording_url": "cnryrc"},
		"transcript_url":     {"transcript_url": "cnrytr"},
		"owner":              {"owner": object{"name": "cnryon", "email": "cnryoe@acme.example"}},
		"participants.names": people(object{"name": "cnryon", "side": "internal"}, object{"name": "cnrypn", "side": "external"}),
		"participants.emails": people(object{"email": "cnryoe@acme.example", "side": "internal"},
			object{"email": "cnrype@northwind.example", "side": "external"}),
		"participants.phones": people(object{"side": "internal"}, object{"phone": "cnrypp", "side": "external"}),
		"participants.titles": people(object{"side": "internal"}, object{"title": "cnrypt", "side": "external"}),
		"account":             {"account": object{"name": "cnryan", "domain": "cnryad"}},
		"summary":             {"summary": "cnrysu"},
		"key_points":          {"key_points": list{"cnrykp", "second"}},
		"next_steps": {"next_steps": list{
			object{"text": "cnryns", "due_on": "cnrynd"}, object{"text": "of a participant"}, object{"text": "of somebody who was not there"},
		}},
		"topics":    {"topics": list{"cnrytp"}},
		"sentiment": {"sentiment": canarySentiment},
		"talk_ratio": {"talk_ratio": list{
			object{"share": canaryShare, "side": "internal"}, object{"share": 0.25, "side": "external"}, object{"share": 0.09},
		}},
		"risks":         {"risks": list{"cnryrk"}},
		"competitors":   {"competitors": list{"cnrycm"}},
		"disposition":   {"disposition": "cnryds"},
		"tags":          {"tags": list{"cnrytg"}},
		"custom.one":    {"custom": object{"one": "cnryc1"}},
		"custom.two":    {"custom": object{"two": "cnryc2"}},
		"custom.number": {"custom": object{"number": json.Number(canaryNumber)}},
	}
	for _, f := range allFields() {
		want, ok := tests[f]
		if !ok && !f.Matching() && f != "custom.nothing" && f != "custom.absent" {
			t.Errorf("the field %s has no test", f)
		}
		if !ok {
			continue
		}
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			want["id"], want["revision"] = "call-1", 1
			r := consenttest.Release(t, fullCall(), f)
			if diff := cmp.Diff(want, r.View()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !slices.Equal(r.Fields(), []consent.Field{f}) || !r.Has(f) || r.Has("") {
				t.Errorf("fields: %v", r.Fields())
			}
			checkRelease(t, r, []consent.Field{f})
		})
	}
}

func TestReleasedPeople(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		fields   []consent.Field
		steps    []consent.NextStep
		speakers []consent.Speaker
	}{
		{
			"nobody",
			[]consent.Field{"next_steps", "talk_ratio"},
			[]consent.NextStep{{Text: "cnryns", DueOn: "cnrynd"}, {Text: "of a participant"}, {Text: "of somebody who was not there"}},
			[]consent.Speaker{{Side: "internal", Share: canaryShare}, {Side: "external", Share: 0.25}, {Share: 0.09}},
		},
		{
			"owner",
			[]consent.Field{"next_steps", "talk_ratio", "owner"},
			[]consent.NextStep{
				{Text: "cnryns", OwnerName: "cnryon", OwnerEmail: "cnryoe@acme.example", DueOn: "cnrynd"},
				{Text: "of a participant"},
				{Text: "of somebody who was not there"},
			},
			[]consent.Speaker{{Name: "cnryon", Email: "cnryoe@acme.example", Side: "internal", Share: canaryShare}, {Side: "external", Share: 0.25}, {Share: 0.09}},
		},
		{
			"names",
			[]consent.Field{"next_steps", "talk_ratio", "participants.names"},
			[]consent.NextStep{
				{Text: "cnryns", OwnerName: "cnryon", DueOn: "cnrynd"},
				{Text: "of a participant", OwnerName: "cnrypn"},
				{Text: "of somebody who was not there"},
			},
			[]consent.Speaker{{Name: "cnryon", Side: "internal", Share: canaryShare}, {Name: "cnrypn", Side: "external", Share: 0.25}, {Share: 0.09}},
		},
		{
			"e-mails",
			[]consent.Field{"next_steps", "talk_ratio", "participants.emails"},
			[]consent.NextStep{
				{Text: "cnryns", OwnerEmail: "cnryoe@acme.example", DueOn: "cnrynd"},
				{Text: "of a participant", OwnerEmail: "cnrype@northwind.example"},
				{Text: "of somebody who was not there", OwnerEmail: "cnryne@acme.example"},
			},
			[]consent.Speaker{
				{Email: "cnryoe@acme.example", Side: "internal", Share: canaryShare},
				{Email: "cnrype@northwind.example", Side: "external", Share: 0.25},
				{Email: "cnryte@acme.example", Share: 0.09},
			},
		},
		{"neither", []consent.Field{"title", "owner", "participants.names", "participants.emails"}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := consenttest.Release(t, fullCall(), tt.fields...)
			if diff := cmp.Diff(tt.steps, r.NextSteps()); diff != "" {
				t.Errorf("next steps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.speakers, r.Speakers()); diff != "" {
				t.Errorf("speakers (-want +got):\n%s", diff)
			}
			checkRelease(t, r, tt.fields)
		})
	}
	t.Run("the company goes with the account", func(t *testing.T) {
		t.Parallel()
		r := consenttest.Release(t, fullCall(), "account", "participants.titles")
		want := []hub.Participant{{Side: "internal"}, {Side: "external", Title: "cnrypt", Company: "cnrypc"}}
		if diff := cmp.Diff(want, r.Content().Participants); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestMatching(t *testing.T) {
	t.Parallel()
	call := fullCall()
	call.Participants = append(call.Participants,
		hub.Participant{Email: "CNRYPE@northwind.example", Phone: "cnrypp", Side: hub.SideExternal}, // the same again
		hub.Participant{Email: "colleague@ACME.example", Phone: "+1"},                               // of the owner's company
		hub.Participant{Email: "guest@else.example", Phone: "+2"},
	)
	var (
		emails  = []string{"cnrype@northwind.example", "guest@else.example"}
		phones  = []string{"cnrypp", "+2"}
		account = consent.Matching{AccountName: "cnryan", AccountDomain: "cnryad", AccountID: "cnryca", OpportunityID: "cnrycp"}
	)
	tests := []struct {
		fields []consent.Field
		want   consent.Matching
	}{
		{[]consent.Field{"title", "summary", "participants.names", "participants.titles", "next_steps", "talk_ratio"}, consent.Matching{}},
		{[]consent.Field{"title", "matching.emails"}, consent.Matching{Emails: emails}},
		{[]consent.Field{"title", "matching.phones"}, consent.Matching{Phones: phones}},
		{[]consent.Field{"participants.emails"}, consent.Matching{Emails: emails}},
		{[]consent.Field{"participants.phones"}, consent.Matching{Phones: phones}},
		{[]consent.Field{"owner"}, consent.Matching{OwnerEmail: "cnryoe@acme.example"}},
		{[]consent.Field{"account"}, account},
	}
	for _, tt := range tests {
		r := consenttest.Release(t, call, tt.fields...)
		if diff := cmp.Diff(tt.want, r.Matching()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.fields, diff)
		}
		for code, at := range map[string]consent.Field{"pe": "participants.emails", "pp": "participants.phones"} {
			if strings.Contains(contentOf(t, r), canary(code)) && !r.Has(at) {
				t.Errorf("%v: an address for look-ups got into the content", tt.fields)
			}
		}
	}
}

// contentOf returns all that a release says of its content, as text.
func contentOf(t testing.TB, r *consent.Release) string {
	t.Helper()
	content, err := json.Marshal(r.Content())
	if err != nil {
		t.Fatal(err)
	}
	return string(content) + string(r.Canonical())
}

// checkRelease checks that a release of fullCall under these fields holds what
// they release and nothing else (I3), wherever one looks.
func checkRelease(t testing.TB, r *consent.Release, fields []consent.Field) {
	t.Helper()
	has := make(map[consent.Field]bool, len(fields))
	for _, f := range fields {
		has[f] = true
	}
	checkCanaries(t, contentOf(t, r), has)

	// Whatever reflection reaches, matching data included.
	m := r.Matching()
	for _, s := range reachable(reflect.ValueOf(*r), nil) {
		for _, code := range canariesIn(s) {
			ok := permitted(carriers()[code], has)
			switch code {
			case "pe":
				ok = ok || has["matching.emails"]
			case "pp":
				ok = ok || has["matching.phones"]
			case "ca", "cp":
				ok = has["account"]
			}
			if !ok {
				t.Errorf("%s can be reached in a release of %v", s, fields)
			}
		}
	}
	for _, e := range m.Emails {
		if !has["matching.emails"] && !has["participants.emails"] {
			t.Errorf("%s is in the matching data of %v", e, fields)
		}
	}
}

// checkCanaries checks a text made from a release of fullCall.
func checkCanaries(t testing.TB, text string, has map[consent.Field]bool) {
	t.Helper()
	found := map[string]bool{}
	for _, code := range canariesIn(text) {
		found[code] = true
		if !permitted(carriers()[code], has) {
			t.Errorf("%s is released by %v", canary(code), has)
		}
	}
	for code, by := range carriers() {
		if !found[code] && permitted(by, has) && code != "on" && code != "oe" { // these two only where they occur
			t.Errorf("%s is not released by %v", canary(code), has)
		}
	}
	for figure, f := range figures() {
		if strings.Contains(text, figure) != has[f] {
			t.Errorf("%s with %v: %v", figure, has, !has[f])
		}
	}
}

func permitted(by [][]consent.Field, has map[consent.Field]bool) bool {
	return slices.ContainsFunc(by, func(all []consent.Field) bool {
		return !slices.ContainsFunc(all, func(f consent.Field) bool { return !has[f] })
	})
}

// canariesIn returns the codes of the canaries in s.
func canariesIn(s string) []string {
	var out []string
	for {
		i := strings.Index(s, "cnry")
		if i < 0 || i+6 > len(s) {
			return out
		}
		out = append(out, s[i+4:i+6])
		s = s[i+6:]
	}
}

// reachable returns all texts that can be reached from v.
func reachable(v reflect.Value, out []string) []string {
	switch v.Kind() { //nolint:exhaustive // the rest holds no text
	case reflect.String:
		return append(out, v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return reachable(v.Elem(), out)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return out
		}
		for _, f := range v.Fields() {
			out = reachable(f, out)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(out, string(v.Bytes()))
		}
		for i := range v.Len() {
			out = reachable(v.Index(i), out)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			out = reachable(it.Value(), reachable(it.Key(), out))
		}
	}
	return out
}

func TestI3ReleaseHoldsOnlyTheGrantedFields(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		fields := rapid.SliceOfNDistinct(rapid.SampledFrom(allFields()), 1, -1, rapid.ID).Draw(rt, "fields")
		fields = append(fields, "title") // so that something is left
		slices.Sort(fields)
		fields = slices.Compact(fields)
		checkRelease(t, consenttest.Release(t, fullCall(), fields...), fields)
		if t.Failed() {
			rt.Fatal("see above")
		}
	})
}

// Fewer fields never release anything more.
func TestFewerFieldsReleaseLess(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		more := append(rapid.SliceOfDistinct(rapid.SampledFrom(allFields()), rapid.ID).Draw(rt, "fields"), "summary")
		slices.Sort(more)
		more = slices.Compact(more)
		less := []consent.Field{"summary"}
		for _, f := range more {
			if f != "summary" && rapid.Bool().Draw(rt, "keep "+string(f)) {
				less = append(less, f)
			}
		}
		a, b := consenttest.Release(t, fullCall(), less...), consenttest.Release(t, fullCall(), more...)
		if path, ok := within(a.View(), b.View(), ""); !ok {
			rt.Fatalf("%v releases %s, and %v does not", less, path, more)
		}
	})
}

// within reports whether all of a is in b too, and if not, where.
func within(a, b any, path string) (string, bool) {
	switch a := a.(type) {
	case object:
		m, ok := b.(object)
		if !ok {
			return path, false
		}
		for k, v := range a {
			if p, ok := within(v, m[k], path+"/"+k); !ok {
				return p, false
			}
		}
		return "", true
	case list:
		l, ok := b.(list)
		if !ok || len(l) != len(a) {
			return path, false
		}
		for i := range a {
			if p, ok := within(a[i], l[i], path+"/#"); !ok {
				return p, false
			}
		}
		return "", true
	}
	return path, reflect.DeepEqual(a, b)
}

func TestReleaseIsACopy(t *testing.T) {
	t.Parallel()
	call := fullCall()
	r := consenttest.Release(t, call, allFields()...)
	before, matching := contentOf(t, r), r.Matching()
	for i := range call.Participants {
		call.Participants[i] = hub.Participant{Email: "changed@x.example", Side: hub.SideExternal}
	}
	call.Account.Name, call.CRM.AccountID, *call.Sentiment = "changed", "changed", 9
	call.KeyPoints[0], call.Topics[0], call.Risks[0], call.Competitors[0], call.Tags[0] = "changed", "changed", "changed", "changed", "changed"
	call.NextSteps[0].Text, call.TalkRatio[0].Share = "changed", 9
	call.Custom["one"][1] = 'X'
	call.Custom["two"] = json.RawMessage(`1`)
	if after := contentOf(t, r); after != before {
		t.Errorf("the release changed with the call:\n%s", cmp.Diff(before, after))
	}
	if diff := cmp.Diff(matching, r.Matching()); diff != "" {
		t.Errorf("the matching data changed with the call:\n%s", diff)
	}
	r.Fields()[0] = "changed"
	r.View()["title"] = "changed"
	if after := contentOf(t, r); after != before || r.Has("changed") {
		t.Error("the release changed by what it gave away")
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	base := string(consenttest.Release(t, fullCall(), "title", "talk_ratio", "custom.number").Canonical())
	same := map[string]*consent.Release{
		"again":            consenttest.Release(t, fullCall(), "title", "talk_ratio", "custom.number"),
		"order of fields":  consenttest.Release(t, fullCall(), "custom.number", "talk_ratio", "title"),
		"another revision": consenttest.Revision(t, "en", 7, fullCall(), "title", "talk_ratio", "custom.number"),
		"another language": consenttest.ReleaseIn(t, "es", fullCall(), "title", "talk_ratio", "custom.number"),
		"unreleased part":  consenttest.Release(t, with(func(c *hub.Call) { c.Summary = "other" }), "title", "talk_ratio", "custom.number"),
	}
	for name, r := range same {
		if got := string(r.Canonical()); got != base {
			t.Errorf("%s: got %s, want %s", name, got, base)
		}
	}
	other := map[string]*consent.Release{
		"title":       consenttest.Release(t, with(func(c *hub.Call) { c.Title += "!" }), "title", "talk_ratio", "custom.number"),
		"share":       consenttest.Release(t, with(func(c *hub.Call) { c.TalkRatio[1].Share = 0.26 }), "title", "talk_ratio", "custom.number"),
		"digit":       consenttest.Release(t, with(func(c *hub.Call) { c.Custom["number"] = json.RawMessage("314159265358979323847") }), "title", "talk_ratio", "custom.number"),
		"fewer field": consenttest.Release(t, fullCall(), "title", "talk_ratio"),
		"more fields": consenttest.Release(t, fullCall(), "title", "talk_ratio", "custom.number", "custom.absent"),
	}
	for name, r := range other {
		if string(r.Canonical()) == base {
			t.Errorf("%s does not count", name)
		}
	}
	nan := math.NaN()
	odd := consenttest.Release(t, with(func(c *hub.Call) { c.Sentiment = &nan; c.TalkRatio[0].Share = math.Inf(1) }), "title", "sentiment", "talk_ratio")
	if !json.Valid(odd.Canonical()) {
		t.Errorf("no JSON: %s", odd.Canonical())
	}
	if !json.Valid(new(consent.Release).Canonical()) {
		t.Error("the zero release has no canonical form")
	}
}

func with(change func(*hub.Call)) hub.Call {
	c := fullCall()
	change(&c)
	return c
}

func TestReleaseLanguageAndRevision(t *testing.T) {
	t.Parallel()
	r := consenttest.Revision(t, "es-MX", 3, fullCall(), "title")
	if r.Language() != "es-MX" || r.Revision() != 3 {
		t.Errorf("got %s, %d", r.Language(), r.Revision())
	}
	if r := consenttest.ReleaseIn(t, "", fullCall(), "title"); r.Language() != "en" {
		t.Errorf("got %q", r.Language())
	}
}
