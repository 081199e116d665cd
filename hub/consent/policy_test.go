package consent_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/mappings"
)

func goodTerms() consent.Terms {
	return consent.Terms{
		Connection: "con_1", Fields: []consent.Field{"title", "summary", "matching.emails", "custom.deal_size"},
		When: `call.duration_seconds > 5`, Destination: json.RawMessage(`{"channel":"C1"}`),
		Mapping: mappings.Source{"Subject": json.RawMessage(`"title"`)}, ExpiresAfterDays: 30,
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	destination := func(s string) func(*consent.Terms) {
		return func(t *consent.Terms) { t.Destination = json.RawMessage(s) }
	}
	tests := []struct {
		name   string
		change func(*consent.Terms)
		want   []string // pointers
	}{
		{"good", func(*consent.Terms) {}, nil},
		{"no connection", func(t *consent.Terms) { t.Connection = "" }, []string{"/connection_id"}},
		{"unknown field", func(t *consent.Terms) { t.Fields[2] = "participants" }, []string{"/fields/2"}},
		{"field twice", func(t *consent.Terms) { t.Fields[1] = "title" }, []string{"/fields/1"}},
		{"bad custom names", func(t *consent.Terms) {
			t.Fields = []consent.Field{"custom.", "custom.1a", "custom._a", "custom.a b", "custom.é", consent.Field("custom." + strings.Repeat("a", hub.MaxCustomName+1)), "title"}
		}, []string{"/fields/0", "/fields/1", "/fields/2", "/fields/3", "/fields/4", "/fields/5"}},
		{"no fields", func(t *consent.Terms) { t.Fields = nil; t.Mapping = nil }, []string{"/fields"}},
		{"look-ups only", func(t *consent.Terms) { t.Fields = []consent.Field{"matching.emails"}; t.Mapping = nil }, []string{"/fields"}},
		{"too many fields", func(t *consent.Terms) {
			for i := range consent.MaxFields {
				t.Fields = append(t.Fields, consent.Field(fmt.Sprint("custom.f", i)))
			}
		}, []string{"/fields"}},
		{"condition", func(t *consent.Terms) { t.When = "call.titel == ''" }, []string{"/when"}},
		{"blank condition", func(t *consent.Terms) { t.When = " \n" }, nil},
		{"expiry", func(t *consent.Terms) { t.ExpiresAfterDays = -1 }, []string{"/expires_after_days"}},
		{"long expiry", func(t *consent.Terms) { t.ExpiresAfterDays = consent.MaxExpiresDays + 1 }, []string{"/expires_after_days"}},
		{"mapping reads another field", func(t *consent.Terms) { t.Mapping["A/b"] = json.RawMessage(`"key_points"`) }, []string{"/mapping/A~1b"}},
		{"mapping does not compile", func(t *consent.Terms) { t.Mapping["X"] = json.RawMessage(`"release."`) }, []string{"/mapping/X"}},
		{"destination missing", destination(``), []string{"/destination"}},
		{"destination null", destination(`null`), []string{"/destination"}},
		{"destination list", destination(`[]`), []string{"/destination"}},
		{"destination trailing", destination(`{} {}`), []string{"/destination"}},
		{"destination large", destination(`{"a":"` + strings.Repeat("x", 20<<10) + `"}`), []string{"/destination"}},
		{"destination empty", destination(`{}`), nil},
		{"no rules", destination(`{"rules":[]}`), []string{"/destination/rules"}},
		{"rules are no list", destination(`{"rules":{}}`), []string{"/destination/rules"}},
		{"too many rules", destination(`{"rules":[` + strings.TrimSuffix(strings.Repeat(`{"when":"true","channel":"C"},`, consent.MaxRoutes+1), ",") + `]}`), []string{"/destination/rules"}},
		{"rules", destination(`{"rules":[{"when":"true","channel":"C1"},{"when":"false","channel":"C2"}],"otherwise":"C3"}`), nil},
		{"rule is no object", destination(`{"rules":["C1"]}`), []string{"/destination/rules/0"}},
		{"rule without condition", destination(`{"rules":[{"when":"true","channel":"C1"},{"channel":"C2"},{"when":" ","channel":"C2"}]}`), []string{"/destination/rules/1/when", "/destination/rules/2/when"}},
		{"rule with a bad condition", destination(`{"rules":[{"when":"call.x","channel":"C1"}]}`), []string{"/destination/rules/0/when"}},
		{"rule without a place", destination(`{"rules":[{"when":"true"}]}`), []string{"/destination/rules/0"}},
		{"otherwise without rules", destination(`{"channel":"C1","otherwise":"C2"}`), []string{"/destination/otherwise"}},
		{"otherwise is a number", destination(`{"rules":[{"when":"true","channel":"C1"}],"otherwise":3}`), []string{"/destination/otherwise"}},
		{"otherwise is not clear", destination(`{"rules":[{"when":"true","channel":"C1"},{"when":"true","dm":"owner"}],"otherwise":"C2"}`), []string{"/destination/otherwise"}},
		{"several", func(t *consent.Terms) { t.Connection = ""; t.When = "("; t.Destination = nil }, []string{"/connection_id", "/when", "/destination"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			terms := goodTerms()
			tt.change(&terms)
			var got []string
			for _, w := range consent.Check(terms) {
				got = append(got, w.Pointer)
				if w.Detail == "" {
					t.Errorf("%s has no sentence", w.Pointer)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			p, wrong := consent.Compile(consent.Grant{Terms: terms})
			if (p == nil) != (len(wrong) > 0) || len(wrong) != len(tt.want) {
				t.Errorf("Compile: %v, %v", p, wrong)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	tests := []struct{ destination, inbound, outbound string }{
		{`{"b":1,"a":[2.50]}`, `{"a":[2.50],"b":1}`, `{"a":[2.50],"b":1}`},
		{`{"rules":[{"when":"call.direction == 'inbound'","channel":"C1"}],"otherwise":"C2"}`, `{"channel":"C1"}`, `{"channel":"C2"}`},
		{`{"rules":[{"when":"call.direction == 'inbound'","channel":"C1"}],"otherwise":null}`, `{"channel":"C1"}`, ``},
		{`{"rules":[{"when":"call.direction == 'inbound'","channel":"C1"}]}`, `{"channel":"C1"}`, ``},
		{
			`{"allow_external":true,"rules":[{"when":"call.direction == 'inbound'","channel":"C1","allow_external":false}],"otherwise":{"dm":"owner"}}`,
			`{"allow_external":false,"channel":"C1"}`, `{"allow_external":true,"dm":"owner"}`,
		},
		{`{"rules":[{"when":"call.direction != ''","object":"Task"},{"when":"true","object":"Event"}],"otherwise":"Never"}`, `{"object":"Task"}`, `{"object":"Task"}`},
	}
	for _, tt := range tests {
		t.Run(tt.destination, func(t *testing.T) {
			t.Parallel()
			p := policy(t, func(g *consent.Grant) { g.Terms.Destination = json.RawMessage(tt.destination) })
			for direction, want := range map[string]string{"inbound": tt.inbound, "outbound": tt.outbound} {
				s := consent.Situation{
					Org: hub.OrgActive, ConnectionID: "con_test", Connection: hub.Connected, Enabled: true, TermsVersion: "test-terms", Policy: p,
				}
				call := hub.Call{Title: "x", Direction: direction}
				d := consent.Decide(s, consent.NewSubject(&call))
				if string(d.Route) != want || (want == "") != (d.Reason == consent.NoRoute) {
					t.Errorf("%s: got %s (%s), want %s", direction, d.Route, d.Reason, want)
				}
				if want != "" && !slices.ContainsFunc(p.Routes(), func(r consent.Route) bool { return string(r.Destination) == want }) {
					t.Errorf("%s is not among the routes", want)
				}
			}
		})
	}
	p := policy(t, func(g *consent.Grant) {
		g.Terms.Destination = json.RawMessage(`{"x":1,"rules":[{"when":"true","channel":"C1"},{"when":"true","channel":"C2"}],"otherwise":"C3"}`)
	})
	var pointers []string
	for _, r := range p.Routes() {
		pointers = append(pointers, r.Pointer)
	}
	want := []string{"/destination/rules/0", "/destination/rules/1", "/destination/otherwise"}
	if diff := cmp.Diff(want, pointers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	base := goodTerms()
	base.When = `call.medium == "video"`
	tests := []struct {
		name   string
		change func(*consent.Terms)
		want   consent.Change
		widens bool
	}{
		{"nothing", func(*consent.Terms) {}, nil, false},
		{"order of fields", func(t *consent.Terms) { slices.Reverse(t.Fields) }, nil, false},
		{"field added", func(t *consent.Terms) { t.Fields = append(t.Fields, "tags") }, consent.Change{{Kind: consent.FieldAdded, Field: "tags"}}, true},
		{"field removed", func(t *consent.Terms) { t.Fields = t.Fields[:3] }, consent.Change{{Kind: consent.FieldRemoved, Field: "custom.deal_size"}}, false},
		{"field exchanged", func(t *consent.Terms) { t.Fields[0] = "tags" }, consent.Change{{Kind: consent.FieldAdded, Field: "tags"}, {Kind: consent.FieldRemoved, Field: "title"}}, true},
		{"condition removed", func(t *consent.Terms) { t.When = "" }, consent.Change{{Kind: consent.ConditionChanged}}, true},
		{"condition with more terms", func(t *consent.Terms) { t.When += " && call.duration_seconds > 5" }, consent.Change{{Kind: consent.ConditionNarrowed}}, false},
		{"condition with an alternative", func(t *consent.Terms) { t.When += " || call.duration_seconds > 5" }, consent.Change{{Kind: consent.ConditionChanged}}, true},
		{"alternative after a comment", func(t *consent.Terms) { t.When += " // &&\n|| true" }, consent.Change{{Kind: consent.ConditionChanged}}, true},
		{"condition spelt differently", func(t *consent.Terms) { t.When = ` (call.medium=='video') ` }, nil, false},
		{"another condition", func(t *consent.Terms) { t.When = `call.medium == "demo"` }, consent.Change{{Kind: consent.ConditionChanged}}, true},
		{"condition that does not compile", func(t *consent.Terms) { t.When = `call.medium == "video" && (` }, consent.Change{{Kind: consent.ConditionChanged}}, true},
		{"connection", func(t *consent.Terms) { t.Connection = "con_2" }, consent.Change{{Kind: consent.ConnectionChanged}}, true},
		{"destination", func(t *consent.Terms) { t.Destination = json.RawMessage(`{"channel":"C2"}`) }, consent.Change{{Kind: consent.DestinationChanged}}, true},
		{"destination spelt differently", func(t *consent.Terms) { t.Destination = json.RawMessage("{\n\"channel\": \"C1\"}") }, nil, false},
		{"mapping", func(t *consent.Terms) { t.Mapping = mappings.Source{"Subject": json.RawMessage(`"summary"`)} }, consent.Change{{Kind: consent.MappingChanged}}, false},
		{"mapping removed", func(t *consent.Terms) { t.Mapping = nil }, consent.Change{{Kind: consent.MappingChanged}}, false},
		{"copies stay longer", func(t *consent.Terms) { t.ExpiresAfterDays = 31 }, consent.Change{{Kind: consent.ExpiryExtended}}, true},
		{"copies stay for good", func(t *consent.Terms) { t.ExpiresAfterDays = 0 }, consent.Change{{Kind: consent.ExpiryExtended}}, true},
		{"copies go earlier", func(t *consent.Terms) { t.ExpiresAfterDays = 29 }, consent.Change{{Kind: consent.ExpiryShortened}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			after := base
			after.Fields = slices.Clone(base.Fields)
			tt.change(&after)
			got := consent.Compare(base, after)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Widens() != tt.widens {
				t.Errorf("widens: %v", got.Widens())
			}
			for _, i := range got {
				en, es := i.Sentence("en"), i.Sentence("es-ES")
				if en == "" || es == "" || en == es {
					t.Errorf("%v: %q, %q", i, en, es)
				}
			}
		})
	}
	t.Run("first condition", func(t *testing.T) {
		t.Parallel()
		before := base
		before.When = ""
		if got := consent.Compare(before, base); got.Widens() || len(got) != 1 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("expiry set", func(t *testing.T) {
		t.Parallel()
		before := base
		before.ExpiresAfterDays = 0
		if got := consent.Compare(before, base); got.Widens() || len(got) != 1 {
			t.Errorf("got %v", got)
		}
	})
	if !consent.ChangeKind("other").Widens() {
		t.Error("a change of a kind not known does not widen")
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	en, es := consent.Fields("en"), consent.Fields("es")
	if len(en) != 25 || len(es) != len(en) {
		t.Fatalf("%d and %d fields", len(en), len(es))
	}
	for i, f := range en {
		switch {
		case !consent.ValidField(string(f.Field)), f.Field != es[i].Field, f.Sensitivity != es[i].Sensitivity:
			t.Errorf("%s is not the same everywhere", f.Field)
		case f.Title == "" || f.Contains == "" || es[i].Title == "" || es[i].Contains == f.Contains:
			t.Errorf("%s lacks a text", f.Field)
		}
		if got, ok := f.Field.Describe("es"); !ok || got != es[i] {
			t.Errorf("%s is described as %v", f.Field, got)
		}
	}
	for name, want := range map[string]bool{
		"title": true, "custom.deal_size": true, "custom.A1_b": true, "matching.phones": true,
		"": false, "Title": false, "participants": false, "custom": false, "custom.": false, "custom.a.b": false, "crm": false, "visibility": false,
	} {
		f, ok := consent.ParseField(name)
		if ok != want || string(f) != name {
			t.Errorf("ParseField(%q) = %q, %v", name, f, ok)
		}
		if _, ok := f.Describe("en"); ok != want {
			t.Errorf("%q is described: %v", name, ok)
		}
	}
	if i, ok := consent.Field("custom.deal_size").Describe("es"); !ok || i.Title != "deal_size" || !strings.Contains(i.Contains, "dato propio") {
		t.Errorf("got %+v", i)
	}
	if consent.Fields("est")[0] != en[0] || consent.Fields("es-419")[0] != es[0] || consent.Fields("")[0] != en[0] {
		t.Error("a language is taken for another")
	}
}

// A mapping can name each field that is content.
func TestEveryFieldCanBeMapped(t *testing.T) {
	t.Parallel()
	for _, f := range allFields() {
		if f == "custom.nothing" || f == "custom.absent" {
			continue
		}
		raw, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		m, wrong := mappings.Compile(mappings.Source{"X": raw}, mappings.Open(), []string{string(f)})
		if (len(wrong) > 0) != f.Matching() {
			t.Errorf("%s: %v", f, wrong)
		}
		if m == nil {
			continue
		}
		p := policy(t, func(g *consent.Grant) { g.Terms.Fields = []consent.Field{f} })
		s := consent.Situation{Org: hub.OrgActive, ConnectionID: "con_test", Connection: hub.Connected, Enabled: true, TermsVersion: "test-terms", Policy: p}
		r, d := consent.NewRelease(s, fullCall(), 1)
		if r == nil {
			t.Fatal(d)
		}
		out, losses, err := m.Apply(r.View())
		if err != nil || len(losses) > 0 || out["X"] == nil || out["X"] == "" {
			t.Errorf("%s: got %v, %v, %v", f, out, losses, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("title", "call.duration_seconds > 5", `{"channel":"C1"}`, `{"Subject":"title"}`)
	f.Add("custom.x", "", `{"rules":[{"when":"true","channel":"C1"}],"otherwise":"C2"}`, `{}`)
	f.Add("", "(", `{"rules":[{}],"otherwise":{}}`, `{"a":null}`)
	call := fullCall()
	f.Fuzz(func(t *testing.T, field, when, destination, mapping string) {
		terms := consent.Terms{Connection: "con_test", Fields: []consent.Field{"title", consent.Field(field)}, When: when, Destination: json.RawMessage(destination)}
		_ = json.Unmarshal([]byte(mapping), &terms.Mapping)
		p, wrong := consent.Compile(consent.Grant{Number: 1, Since: 1, Terms: terms})
		if (p == nil) == (len(wrong) == 0) {
			t.Fatalf("got %v, %v", p, wrong)
		}
		if p == nil {
			return
		}
		if c := consent.Compare(terms, terms); len(c) > 0 {
			t.Fatalf("terms differ from themselves: %v", c)
		}
		for _, r := range p.Routes() {
			if !json.Valid(r.Destination) {
				t.Fatalf("a route is no JSON: %s", r.Destination)
			}
		}
		s := consent.Situation{Org: hub.OrgActive, ConnectionID: "con_test", Connection: hub.Connected, Enabled: true, Policy: p}
		r, d := consent.NewRelease(s, call, 1)
		if (r == nil) == (d.Verdict == consent.Share) {
			t.Fatalf("got %v with %+v", r, d)
		}
	})
}
