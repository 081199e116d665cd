package consent_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
)

// policy compiles a grant of the terms that consenttest uses, changed.
func policy(t testing.TB, change func(*consent.Grant)) *consent.Policy {
	t.Helper()
	g := consent.Grant{
		Number: 1, Since: 1, Integration: "int_test", AcceptedTerms: "test-terms",
		Terms: consent.Terms{Connection: "con_test", Fields: []consent.Field{"title", "summary"}, Destination: json.RawMessage(`{"channel":"C1"}`)},
	}
	if change != nil {
		change(&g)
	}
	p, wrong := consent.Compile(g)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	return p
}

func TestDecideReasons(t *testing.T) {
	t.Parallel()
	failing := func(g *consent.Grant) { g.Terms.When = `call.custom.absent == 1` }
	routed := func(g *consent.Grant) {
		g.Terms.Destination = json.RawMessage(`{"allow_external":false,"rules":[{"when":"call.direction == 'inbound'","channel":"C1"}],"otherwise":null}`)
	}
	later := func(change func(*consent.Grant)) func(*consent.Grant) {
		return func(g *consent.Grant) { g.Number = 2; change(g) }
	}
	nothing := func(*consent.Grant) {}
	tests := []struct {
		name    string
		s       func(*consent.Situation)
		c       func(*hub.Call)
		grant   func(*consent.Grant)
		earlier func(*consent.Grant) // of the grant the call was accepted under
		want    consent.Decision
	}{
		{name: "shared", want: consent.Decision{Verdict: consent.Share, Route: json.RawMessage(`{"channel":"C1"}`)}},
		{name: "private", c: func(c *hub.Call) { c.Visibility = "private" }, want: no(consent.PrivateCall, "")},
		{name: "visibility not known", c: func(c *hub.Call) { c.Visibility = "Private" }, want: no(consent.PrivateCall, "")},
		{name: "recording denied", c: func(c *hub.Call) { c.RecordingConsent = "denied" }, want: no(consent.RecordingDenied, "")},
		{name: "recording consent not known", c: func(c *hub.Call) { c.RecordingConsent = "no" }, want: no(consent.RecordingDenied, "")},
		{name: "recording consent unknown", c: func(c *hub.Call) { c.RecordingConsent = "unknown"; c.Visibility = "" }, want: yes(`{"channel":"C1"}`)},
		{name: "private comes first", c: func(c *hub.Call) { c.Visibility = "private"; c.RecordingConsent = "denied" }, s: func(s *consent.Situation) { *s = consent.Situation{} }, want: no(consent.PrivateCall, "")},
		{name: "then recording", c: func(c *hub.Call) { c.RecordingConsent = "denied" }, s: func(s *consent.Situation) { *s = consent.Situation{} }, want: no(consent.RecordingDenied, "")},
		{name: "org cancelled", s: func(s *consent.Situation) { s.Org = hub.OrgCancelled }, want: no(consent.OrgCancelled, "")},
		{name: "org state not known", s: func(s *consent.Situation) { s.Org = "" }, want: no(consent.OrgCancelled, "")},
		{name: "not enabled", s: func(s *consent.Situation) { s.Enabled = false }, want: no(consent.NotEnabled, "")},
		{name: "no grant", s: func(s *consent.Situation) { s.Policy = nil }, want: no(consent.NotEnabled, "")},
		{name: "zero policy", s: func(s *consent.Situation) {
			s.Policy, s.ConnectionID, s.TermsVersion = &consent.Policy{}, "", ""
		}, want: no(consent.NoRoute, "")},
		{name: "another connection", s: func(s *consent.Situation) { s.ConnectionID = "con_other" }, want: no(consent.ConnectionBroken, "the grant is for another connection")},
		{name: "disconnected", s: func(s *consent.Situation) { s.Connection = hub.Disconnected }, want: no(consent.ConnectionBroken, "the account is disconnected")},
		{name: "connection state not known", s: func(s *consent.Situation) { s.Connection = "" }, want: no(consent.ConnectionBroken, "the account is disconnected")},
		{name: "terms outdated", s: func(s *consent.Situation) { s.TermsVersion = "2030-01-01" }, want: no(consent.TermsOutdated, "")},
		{name: "rule not matched", grant: func(g *consent.Grant) { g.Terms.When = `call.duration_seconds < 5` }, want: no(consent.RuleNotMatched, "")},
		{name: "rule matched", grant: func(g *consent.Grant) { g.Terms.When = `call.duration_seconds > 5 && org.id == "test"` }, want: yes(`{"channel":"C1"}`)},
		{name: "rule failed", grant: failing, want: no(consent.RuleFailed, "the call carries no custom member absent; ask has() or in first")},
		{name: "no route", grant: routed, want: no(consent.NoRoute, "")},
		{name: "routed", grant: routed, c: func(c *hub.Call) { c.Direction = "inbound" }, want: yes(`{"allow_external":false,"channel":"C1"}`)},
		{name: "routing rule failed", grant: func(g *consent.Grant) {
			g.Terms.Destination = json.RawMessage(`{"rules":[{"when":"false","channel":"C1"},{"when":"call.custom.absent == 1","channel":"C2"}],"otherwise":"C3"}`)
		}, want: no(consent.RuleFailed, "routing rule 2: the call carries no custom member absent; ask has() or in first")},
		{name: "no field left", grant: func(g *consent.Grant) {
			g.Terms.Fields = []consent.Field{"sentiment", "custom.nothing", "matching.emails"}
		}, c: func(c *hub.Call) { c.Sentiment = nil }, want: no(consent.NoFieldLeft, "")},
		{name: "a custom field is left", grant: func(g *consent.Grant) { g.Terms.Fields = []consent.Field{"custom.one"} }, want: yes(`{"channel":"C1"}`)},
		{name: "org suspended", s: func(s *consent.Situation) { s.Org = hub.OrgSuspended }, want: held(consent.OrgSuspended, "")},
		{name: "needs reauth", s: func(s *consent.Situation) { s.Connection = hub.NeedsReauth }, want: held(consent.ConnectionBroken, "the provider refuses the access it gave; an admin must connect the account again")},
		{name: "paused", s: func(s *consent.Situation) { s.Connection = hub.Paused }, want: held(consent.ConnectionBroken, "the connection is paused")},
		{name: "suspended and paused", s: func(s *consent.Situation) { s.Connection, s.Org = hub.Paused, hub.OrgSuspended }, want: held(consent.OrgSuspended, "")},
		{name: "suspended and would not be shared", s: func(s *consent.Situation) { s.Org = hub.OrgSuspended }, grant: failing, want: no(consent.RuleFailed, "the call carries no custom member absent; ask has() or in first")},

		{name: "accepted under the same", earlier: nothing, want: yes(`{"channel":"C1"}`)},
		{name: "accepted under an earlier one", grant: later(nothing), earlier: nothing, want: yes(`{"channel":"C1"}`)},
		{name: "disabled in between", grant: later(func(g *consent.Grant) { g.Since = 2 }), earlier: nothing, want: no(consent.GrantChanged, "the integration was disabled in between")},
		{name: "another integration", grant: later(func(g *consent.Grant) { g.Integration = "int_other" }), earlier: nothing, want: no(consent.GrantChanged, "the call was accepted for another integration")},
		{name: "connection changed", earlier: func(g *consent.Grant) { g.Terms.Connection = "con_other" }, want: no(consent.GrantChanged, "the call would go to another account now")},
		{name: "route changed", grant: later(nothing), earlier: func(g *consent.Grant) { g.Terms.Destination = json.RawMessage(`{"channel":"C2"}`) }, want: no(consent.GrantChanged, "the call would go to another place now")},
		{name: "route spelt differently", grant: later(nothing), earlier: func(g *consent.Grant) { g.Terms.Destination = json.RawMessage("{ \"channel\" : \"C1\" }") }, want: yes(`{"channel":"C1"}`)},
		{name: "condition held then and not now", grant: later(func(g *consent.Grant) { g.Terms.When = "false" }), earlier: nothing, want: no(consent.RuleNotMatched, "")},
		{name: "condition holds now and did not then", grant: later(nothing), earlier: func(g *consent.Grant) { g.Terms.When = "false" }, want: no(consent.RuleNotMatched, "")},
		{name: "condition failed then", grant: later(nothing), earlier: failing, want: no(consent.RuleFailed, "the call carries no custom member absent; ask has() or in first")},
		{name: "no route then", grant: later(nothing), earlier: routed, want: no(consent.NoRoute, "")},
		{name: "no field in both", grant: later(nothing), earlier: func(g *consent.Grant) { g.Terms.Fields = []consent.Field{"tags"} }, want: no(consent.NoFieldLeft, "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := consenttest.Situation(t, "title")
			s.Policy = policy(t, tt.grant)
			if tt.earlier != nil {
				s.AcceptedUnder = policy(t, tt.earlier)
			}
			call := fullCall()
			if tt.c != nil {
				tt.c(&call)
			}
			if tt.s != nil {
				tt.s(&s)
			}
			got := consent.Decide(s, consent.NewSubject(&call))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			r, d := consent.NewRelease(s, call, 1)
			if diff := cmp.Diff(got, d); diff != "" {
				t.Errorf("NewRelease decides otherwise:\n%s", diff)
			}
			if (r != nil) != (tt.want.Verdict == consent.Share) {
				t.Errorf("a release: %v", r != nil)
			}
		})
	}
}

func no(r consent.Reason, detail string) consent.Decision {
	return consent.Decision{Verdict: consent.Withheld, Reason: r, Detail: detail}
}

func yes(route string) consent.Decision {
	return consent.Decision{Verdict: consent.Share, Route: json.RawMessage(route)}
}

func held(r consent.Reason, detail string) consent.Decision {
	return consent.Decision{Verdict: consent.Held, Reason: r, Detail: detail, Route: json.RawMessage(`{"channel":"C1"}`)}
}

func TestReleaseIsTheIntersectionOfTwoGrants(t *testing.T) {
	t.Parallel()
	s := consenttest.Situation(t, "title")
	s.Policy = policy(t, func(g *consent.Grant) {
		g.Number, g.Terms.Fields = 2, []consent.Field{"summary", "custom.one", "custom.two", "owner"}
	})
	s.AcceptedUnder = policy(t, func(g *consent.Grant) {
		g.Terms.Fields = []consent.Field{"title", "summary", "custom.two", "custom.number"}
	})
	r, d := consent.NewRelease(s, fullCall(), 1)
	if d.Verdict != consent.Share {
		t.Fatal(d)
	}
	want := []consent.Field{"custom.two", "summary"}
	if diff := cmp.Diff(want, r.Fields()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checkRelease(t, r, want)
}

// conditions are CEL with what it means, so that the test knows by itself what
// must come out. nil: evaluating fails.
func conditions() []struct {
	when string
	is   func(*hub.Call, string) (holds, ok bool)
} {
	yes := func(b bool) (bool, bool) { return b, true }
	return []struct {
		when string
		is   func(*hub.Call, string) (holds, ok bool)
	}{
		{"", func(*hub.Call, string) (bool, bool) { return yes(true) }},
		{"true", func(*hub.Call, string) (bool, bool) { return yes(true) }},
		{"false", func(*hub.Call, string) (bool, bool) { return yes(false) }},
		{"call.duration_seconds >= 120", func(c *hub.Call, _ string) (bool, bool) { return yes(c.DurationSeconds >= 120) }},
		{`call.participants.exists(p, p.side == "external")`, func(c *hub.Call, _ string) (bool, bool) {
			return yes(slices.ContainsFunc(c.Participants, func(p hub.Participant) bool { return p.Side == "external" }))
		}},
		{"call.sentiment > 0", func(c *hub.Call, _ string) (bool, bool) {
			return c.Sentiment != nil && *c.Sentiment > 0, c.Sentiment != nil
		}},
		{`has(call.custom.one) && org.region == "us"`, func(c *hub.Call, region string) (bool, bool) {
			_, ok := c.Custom["one"]
			return yes(ok && region == "us")
		}},
		{`call.topics.size() > 0 || org.region == "eu"`, func(c *hub.Call, region string) (bool, bool) {
			return yes(len(c.Topics) > 0 || region == "eu")
		}},
	}
}

// grantCase is a compiled grant and what the test knows about it.
type grantCase struct {
	policy *consent.Policy
	grant  consent.Grant
	has    map[consent.Field]bool
	when   int // index in conditions
	routed int // 0: no rules; else index in conditions of the one rule
	other  string
}

// route returns where the grant sends a call; "" nowhere, false if that fails.
func (g *grantCase) route(c *hub.Call, region string) (string, bool) {
	if g.routed == 0 {
		return `{"channel":"C0"}`, true
	}
	holds, ok := conditions()[g.routed].is(c, region)
	switch {
	case !ok:
		return "", false
	case holds:
		return `{"channel":"C1"}`, true
	case g.other != "":
		return `{"channel":"` + g.other + `"}`, true
	}
	return "", true
}

func drawGrants(t *testing.T, rnd *rand.Rand, n int) []*grantCase {
	t.Helper()
	out := make([]*grantCase, n)
	for i := range out {
		g := &grantCase{has: map[consent.Field]bool{}, when: rnd.IntN(len(conditions()))}
		if rnd.IntN(2) == 0 {
			g.when = 0
		}
		destination := `{"channel":"C0"}`
		if rnd.IntN(3) == 0 {
			g.routed = 1 + rnd.IntN(len(conditions())-1)
			g.other = []string{"", "C0", "C1"}[rnd.IntN(3)]
			otherwise := "null"
			if g.other != "" {
				otherwise = `"` + g.other + `"`
			}
			destination = fmt.Sprintf(`{"rules":[{"when":%q,"channel":"C1"}],"otherwise":%s}`, conditions()[g.routed].when, otherwise)
		}
		var fields []consent.Field
		for share := rnd.IntN(10); len(fields) == 0 || !slices.ContainsFunc(fields, func(f consent.Field) bool { return !f.Matching() }); share++ {
			fields, g.has = nil, map[consent.Field]bool{}
			for _, f := range allFields() {
				if rnd.IntN(11) <= share {
					fields = append(fields, f)
					g.has[f] = true
				}
			}
		}
		rnd.Shuffle(len(fields), func(a, b int) { fields[a], fields[b] = fields[b], fields[a] })
		number := 1 + rnd.IntN(4)
		g.grant = consent.Grant{
			Number: number, Since: 1 + rnd.IntN(number), Integration: "int_test", AcceptedTerms: []string{"test-terms", "test-terms", "test-terms", "old"}[rnd.IntN(4)],
			Terms: consent.Terms{
				Connection: []hub.ConnectionID{"con_test", "con_test", "con_test", "con_other"}[rnd.IntN(4)],
				Fields:     fields, When: conditions()[g.when].when, Destination: json.RawMessage(destination),
			},
		}
		p, wrong := consent.Compile(g.grant)
		if len(wrong) > 0 {
			t.Fatal(wrong)
		}
		g.policy = p
		out[i] = g
	}
	return out
}

// callCase is a call with what it carries.
type callCase struct {
	call    hub.Call
	subject *consent.Subject
	carries map[consent.Field]bool
}

func drawCalls(rnd *rand.Rand, n int) []*callCase {
	out := make([]*callCase, n)
	for i := range out {
		c := &callCase{call: fullCall(), carries: map[consent.Field]bool{}}
		for _, f := range allFields() {
			c.carries[f] = !f.Matching() && f != "custom.nothing" && f != "custom.absent"
		}
		bare := rnd.IntN(4) == 0 // a call that carries almost nothing
		for name, drop := range droppers() {
			if rnd.IntN(6) == 0 || bare && rnd.IntN(10) > 0 {
				drop(&c.call)
				c.carries[name] = false
			}
		}
		c.call.Visibility = []string{"", "normal", "normal", "normal", "normal", "private", "PRIVATE"}[rnd.IntN(7)]
		c.call.RecordingConsent = []string{"", "granted", "granted", "granted", "unknown", "denied", "Denied"}[rnd.IntN(7)]
		c.subject = consent.NewSubject(&c.call)
		out[i] = c
	}
	return out
}

// droppers take a field out of a call.
func droppers() map[consent.Field]func(*hub.Call) {
	each := func(f func(*hub.Participant)) func(*hub.Call) {
		return func(c *hub.Call) {
			for i := range c.Participants {
				f(&c.Participants[i])
			}
		}
	}
	return map[consent.Field]func(*hub.Call){
		"title": func(c *hub.Call) { c.Title = "" }, "direction": func(c *hub.Call) { c.Direction = "" },
		"time":   func(c *hub.Call) { c.StartedAt = time.Time{}; c.DurationSeconds = 0 },
		"medium": func(c *hub.Call) { c.Medium = "" }, "url": func(c *hub.Call) { c.URL = "" },
		"recording_url":       func(c *hub.Call) { c.RecordingURL = "" },
		"transcript_url":      func(c *hub.Call) { c.TranscriptURL = "" },
		"owner":               func(c *hub.Call) { c.Owner = hub.Person{} },
		"participants.names":  each(func(p *hub.Participant) { p.Name = "" }),
		"participants.emails": each(func(p *hub.Participant) { p.Email = "" }),
		"participants.phones": each(func(p *hub.Participant) { p.Phone = "" }),
		"participants.titles": each(func(p *hub.Participant) { p.Title = "" }),
		"account":             func(c *hub.Call) { c.Account, c.CRM = nil, nil },
		"summary":             func(c *hub.Call) { c.Summary = "" },
		"key_points":          func(c *hub.Call) { c.KeyPoints = nil }, "next_steps": func(c *hub.Call) { c.NextSteps = nil },
		"topics": func(c *hub.Call) { c.Topics = nil }, "sentiment": func(c *hub.Call) { c.Sentiment = nil },
		"talk_ratio": func(c *hub.Call) { c.TalkRatio = nil }, "risks": func(c *hub.Call) { c.Risks = nil },
		"competitors": func(c *hub.Call) { c.Competitors = nil }, "disposition": func(c *hub.Call) { c.Disposition = "" },
		"tags": func(c *hub.Call) { c.Tags = nil }, "custom.one": func(c *hub.Call) { delete(c.Custom, "one") },
		"custom.two": func(c *hub.Call) { delete(c.Custom, "two") }, "custom.number": func(c *hub.Call) { delete(c.Custom, "number") },
	}
}

// combinations is how many TestI1I3ManyCombinations tries.
const combinations = 1_200_000

// TestI1I3ManyCombinations decides random calls in random situations, and
// compares with what the rules of consent say when they are written down a
// second time: no release unless every one of them permits it (I1), and in a
// release nothing but the fields that both grants permit (I3).
func TestI1I3ManyCombinations(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const workers = 2
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		totals = map[consent.Reason]int{}
		shared int
	)
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			counts, n := tryCombinations(t, rnd, combinations/workers)
			mu.Lock()
			defer mu.Unlock()
			shared += n
			for r, k := range counts {
				totals[r] += k
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d released; reasons %v", shared, combinations, totals)
	if shared < combinations/100 {
		t.Errorf("only %d combinations led to a release: the test looks at too few", shared)
	}
	for _, r := range consent.Reasons() {
		if totals[r] < combinations/5000 {
			t.Errorf("the reason %s came up %d times only", r, totals[r])
		}
	}
}

func tryCombinations(t *testing.T, rnd *rand.Rand, n int) (counts map[consent.Reason]int, shared int) {
	t.Helper()
	grants, calls := drawGrants(t, rnd, 1500), drawCalls(rnd, 1500)
	counts = map[consent.Reason]int{}
	for i := range n {
		call := calls[rnd.IntN(len(calls))]
		now, then := grants[rnd.IntN(len(grants))], (*grantCase)(nil)
		s := consent.Situation{
			Org:          pick(rnd, hub.OrgActive, hub.OrgActive, hub.OrgActive, hub.OrgActive, hub.OrgSuspended, hub.OrgCancelled, "other"),
			Connection:   pick(rnd, hub.Connected, hub.Connected, hub.Connected, hub.Connected, hub.NeedsReauth, hub.Paused, hub.Disconnected, ""),
			ConnectionID: "con_test", Enabled: rnd.IntN(8) > 0, TermsVersion: "test-terms",
			OrgInfo: consent.OrgInfo{ID: "test", Region: pick(rnd, "us", "eu")},
			Policy:  now.policy,
		}
		if rnd.IntN(20) == 0 {
			s.Policy = nil
		}
		if rnd.IntN(3) == 0 {
			then = grants[rnd.IntN(len(grants))]
			s.AcceptedUnder = then.policy
		}
		want := expect(&s, call, now, then)
		got := consent.Decide(s, call.subject)
		r, d := consent.NewRelease(s, call.call, 1)
		if got.Verdict != want.Verdict || got.Reason != want.Reason || d.Verdict != want.Verdict || d.Reason != want.Reason || string(got.Route) != string(want.Route) {
			t.Fatalf("combination %d: got %+v and %+v, want %+v\nsituation %+v\ncall %+v", i, got, d, want, s, call.call)
		}
		if (r != nil) != (want.Verdict == consent.Share) {
			t.Fatalf("I1: combination %d: a release with %+v", i, want)
		}
		counts[got.Reason]++
		if r == nil {
			continue
		}
		shared++
		has := now.has
		if then != nil {
			has = map[consent.Field]bool{}
			for f := range now.has {
				has[f] = then.has[f]
			}
		}
		checkContent(t, r, call, has)
		if t.Failed() {
			t.Fatalf("I3: combination %d\nsituation %+v\ncall %+v", i, s, call.call)
		}
	}
	return counts, shared
}

func pick[T any](rnd *rand.Rand, from ...T) T { return from[rnd.IntN(len(from))] }

// expect is the second writing-down of the rules of consent.
func expect(s *consent.Situation, c *callCase, now, then *grantCase) consent.Decision {
	grants := []*grantCase{now}
	if then != nil {
		grants = append(grants, then)
	}
	switch {
	case c.call.Visibility != "" && c.call.Visibility != "normal":
		return no(consent.PrivateCall, "")
	case !slices.Contains([]string{"", "granted", "unknown"}, c.call.RecordingConsent):
		return no(consent.RecordingDenied, "")
	case s.Org != "active" && s.Org != "suspended":
		return no(consent.OrgCancelled, "")
	case !s.Enabled || s.Policy == nil:
		return no(consent.NotEnabled, "")
	case now.grant.Terms.Connection != s.ConnectionID || s.Connection == "disconnected" || s.Connection == "":
		return no(consent.ConnectionBroken, "")
	case now.grant.AcceptedTerms != s.TermsVersion:
		return no(consent.TermsOutdated, "")
	case then != nil && (now.grant.Since > then.grant.Number || then.grant.Terms.Connection != now.grant.Terms.Connection):
		return no(consent.GrantChanged, "")
	}
	var routes []string
	for _, g := range grants {
		holds, ok := conditions()[g.when].is(&c.call, s.OrgInfo.Region)
		if !ok {
			return no(consent.RuleFailed, "")
		}
		if !holds {
			return no(consent.RuleNotMatched, "")
		}
		route, ok := g.route(&c.call, s.OrgInfo.Region)
		if !ok {
			return no(consent.RuleFailed, "")
		}
		if route == "" {
			return no(consent.NoRoute, "")
		}
		routes = append(routes, route)
	}
	if routes[0] != routes[len(routes)-1] {
		return no(consent.GrantChanged, "")
	}
	left := false
	for f := range now.has {
		left = left || c.carries[f] && (then == nil || then.has[f])
	}
	d := yes(routes[0])
	switch {
	case !left:
		return no(consent.NoFieldLeft, "")
	case s.Org == "suspended":
		d.Verdict, d.Reason = consent.Held, consent.OrgSuspended
	case s.Connection != "connected":
		d.Verdict, d.Reason = consent.Held, consent.ConnectionBroken
	}
	return d
}

// checkContent checks the content of a release against the fields it may hold.
// It is checkCanaries for a call that lacks some, made quick.
func checkContent(t *testing.T, r *consent.Release, c *callCase, has map[consent.Field]bool) {
	t.Helper()
	text := string(r.Canonical())
	for _, code := range canariesIn(text) {
		if !permitted(codes[code], has) {
			t.Errorf("%s is released", canary(code))
		}
	}
	for code, f := range plain {
		if has[f] && c.carries[f] && !strings.Contains(text, code) {
			t.Errorf("%s is not released", code)
		}
		if !has[f] && strings.Contains(text, code) {
			t.Errorf("%s is released", code)
		}
	}
	m := r.Matching()
	if len(m.Emails) > 0 && !has["matching.emails"] && !has["participants.emails"] ||
		len(m.Phones) > 0 && !has["matching.phones"] && !has["participants.phones"] ||
		m.OwnerEmail != "" && !has["owner"] ||
		m.AccountName+m.AccountDomain+m.AccountID+m.OpportunityID != "" && !has["account"] {
		t.Errorf("matching data that is not permitted")
	}
	for _, f := range r.Fields() {
		if !has[f] {
			t.Errorf("the field %s is said to be released", f)
		}
	}
}

var (
	codes = carriers()
	// plain are canaries that are there if and only if one field is.
	plain = func() map[string]consent.Field {
		out := figures()
		for code, by := range codes {
			if len(by) == 1 && len(by[0]) == 1 {
				out[canary(code)] = by[0][0]
			}
		}
		return out
	}()
)

func TestReasonsHaveSentences(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range consent.Reasons() {
		for _, lang := range []string{"en", "es"} {
			s := r.Sentence(lang)
			if s == "" || !strings.HasSuffix(s, ".") || seen[s] {
				t.Errorf("%s in %s: %q", r, lang, s)
			}
			seen[s] = true
		}
	}
	if consent.Reason("other").Sentence("en") != "" || consent.Reason("").Sentence("es") != "" {
		t.Error("what is no reason has a sentence")
	}
}

func BenchmarkDecide(b *testing.B) {
	call := fullCall()
	for name, change := range map[string]func(*consent.Grant){
		"every call": nil,
		"condition":  func(g *consent.Grant) { g.Terms.When = `call.duration_seconds >= 120` },
		"condition and routes": func(g *consent.Grant) {
			g.Terms.When = `call.duration_seconds >= 120 && call.participants.exists(p, p.side == "external")`
			g.Terms.Destination = json.RawMessage(`{"rules":[{"when":"call.direction == 'inbound'","channel":"C1"},{"when":"'x' in call.tags","channel":"C2"}],"otherwise":"C3"}`)
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := consenttest.Situation(b, "title")
			s.Policy = policy(b, change)
			c := consent.NewSubject(&call)
			b.ReportAllocs()
			for b.Loop() {
				if d := consent.Decide(s, c); d.Verdict != consent.Share {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkNewSubject(b *testing.B) {
	call := fullCall()
	b.ReportAllocs()
	for b.Loop() {
		consent.NewSubject(&call)
	}
}

func BenchmarkNewRelease(b *testing.B) {
	call := fullCall()
	for name, fields := range map[string][]consent.Field{"few fields": {"title", "summary", "owner"}, "all fields": allFields()} {
		b.Run(name, func(b *testing.B) {
			s := consenttest.Situation(b, fields...)
			b.ReportAllocs()
			for b.Loop() {
				if r, d := consent.NewRelease(s, call, 1); r == nil {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkCanonical(b *testing.B) {
	r := consenttest.Release(b, fullCall(), allFields()...)
	b.ReportAllocs()
	for b.Loop() {
		r.Canonical()
	}
}

func ExampleDecide() {
	policy, wrong := consent.Compile(consent.Grant{
		Number: 1, Since: 1, Integration: "int_1", AcceptedTerms: "2020-05-01",
		Terms: consent.Terms{
			Connection:  "con_1",
			Fields:      []consent.Field{"title", "summary"},
			When:        `call.duration_seconds >= 120`,
			Destination: json.RawMessage(`{"rules":[{"when":"'enterprise' in call.tags","channel":"C1"}],"otherwise":"C2"}`),
		},
	})
	if len(wrong) > 0 {
		fmt.Println(wrong)
		return
	}
	s := consent.Situation{
		Org: hub.OrgActive, OrgInfo: consent.OrgInfo{ID: "acme", Language: "en"},
		ConnectionID: "con_1", Connection: hub.Connected, Enabled: true, TermsVersion: "2020-05-01", Policy: policy,
	}
	call := hub.Call{ID: "call-1", Title: "Discovery", DurationSeconds: 1860, Tags: []string{"enterprise"}}

	d := consent.Decide(s, consent.NewSubject(&call))
	fmt.Println(d.Verdict, string(d.Route))

	r, _ := consent.NewRelease(s, call, 1)
	fmt.Println(r.View())

	call.Visibility = hub.VisibilityPrivate
	d = consent.Decide(s, consent.NewSubject(&call))
	fmt.Println(d.Verdict, d.Reason, d.Reason.Sentence(s.OrgInfo.Language))
	// Output:
	// share {"channel":"C1"}
	// map[id:call-1 revision:1 title:Discovery]
	// withheld private_call The call is private. Private calls are never shared.
}
