package samples_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/samples"
)

func TestSamplesCoverWhatTheDemoShows(t *testing.T) {
	t.Parallel()
	all, err := samples.Load()
	if err != nil {
		t.Fatal(err)
	}
	names, languages, seen := map[string]bool{}, map[string]bool{}, map[string]int{}
	for _, s := range all {
		names[s.Name], languages[s.Call.Language] = true, true
		for what, yes := range map[string]bool{
			"corrected":     s.Revision > 1,
			"private":       s.Call.Visibility == hub.VisibilityPrivate,
			"denied":        s.Call.RecordingConsent == hub.ConsentDenied,
			"long":          utf8.RuneCountInString(s.Call.Summary) > 10_000,
			"short":         s.Call.DurationSeconds == 20,
			"internal":      s.Call.Direction == "internal",
			"webinar":       s.Call.Medium == "webinar" && len(s.Call.Participants) >= 30,
			"markup":        strings.Contains(s.Call.Summary, "<!channel>") && strings.Contains(s.Call.Summary, "<b>") && strings.Contains(s.Call.Summary, "*Sternchen*"),
			"phones only":   len(s.Call.Participants) > 0 && !slices.ContainsFunc(s.Call.Participants, func(p hub.Participant) bool { return p.Phone == "" || p.Email != "" }),
			"emoji":         strings.Contains(s.Call.Summary, "👩‍👩‍👧‍👦"),
			"right-to-left": s.Call.Language == "ar",
		} {
			if yes {
				seen[what]++
			}
		}
	}
	if len(names) != 12 || len(languages) < 7 {
		t.Errorf("%d calls in %d languages, want 12 in at least 7", len(names), len(languages))
	}
	want := map[string]int{
		"corrected": 1, "private": 2, "denied": 1, "long": 1, "short": 1, "internal": 1, "webinar": 1,
		"markup": 1, "phones only": 1, "emoji": 1, "right-to-left": 1,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("sample calls of each kind (-want +got):\n%s", diff)
	}
}

func TestCorrectionFollowsWhatItCorrects(t *testing.T) {
	t.Parallel()
	all, err := samples.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range all {
		if s.Revision == 1 {
			continue
		}
		before := all[i-1]
		if before.Name != s.Name || before.Revision != s.Revision-1 || before.Call.ID != s.Call.ID {
			t.Errorf("%s revision %d comes after %s revision %d", s.Name, s.Revision, before.Name, before.Revision)
		}
		if string(hub.Canonical(before.Call)) == string(hub.Canonical(s.Call)) {
			t.Errorf("%s: revision %d has the content of the one before", s.Name, s.Revision)
		}
	}
}

// TestCRMFitsTheCalls checks that every owner is a user, and that contacts,
// leads and opportunities are of every kind that matching has to deal with.
func TestCRMFitsTheCalls(t *testing.T) {
	t.Parallel()
	crm, err := samples.LoadCRM()
	if err != nil {
		t.Fatal(err)
	}
	all, err := samples.Load()
	if err != nil {
		t.Fatal(err)
	}
	users, accounts := map[string]bool{}, map[string]bool{}
	inactive := 0
	for _, u := range crm.Users {
		users[u.Email] = true
		if !u.Active {
			inactive++
		}
	}
	for _, a := range crm.Accounts {
		accounts[a.Name] = true
	}
	addresses := map[string]bool{}
	homeless, open, closed := 0, 0, 0
	for _, p := range slices.Concat(crm.Contacts, crm.Leads) {
		addresses[p.Email], addresses[p.Phone] = true, true
		if p.Account == "" && p.Company == "" {
			homeless++
		}
		if p.Account != "" && !accounts[p.Account] {
			t.Errorf("contact %s: no account %s", p.Last, p.Account)
		}
	}
	for _, o := range crm.Opportunities {
		if !accounts[o.Account] {
			t.Errorf("opportunity %s: no account %s", o.Name, o.Account)
		}
		if strings.HasPrefix(o.Stage, "Closed") {
			closed++
		} else {
			open++
		}
	}
	if inactive == 0 || homeless == 0 || open == 0 || closed == 0 || len(crm.Leads) == 0 {
		t.Errorf("inactive users %d, contacts without account %d, open %d, closed %d, leads %d: want some of each", inactive, homeless, open, closed, len(crm.Leads))
	}
	delete(addresses, "")
	for _, s := range all {
		if !users[s.Call.Owner.Email] {
			t.Errorf("%s: its owner is no user", s.Name)
		}
		if s.Call.Direction == "internal" || s.Call.Disposition == "Voicemail" {
			continue
		}
		if !slices.ContainsFunc(s.Call.Participants, func(p hub.Participant) bool {
			return p.Side == hub.SideExternal && (addresses[p.Email] || addresses[p.Phone])
		}) {
			t.Errorf("%s: the CRM knows nobody of it", s.Name)
		}
	}
}

func TestWorkspaceFitsTheCalls(t *testing.T) {
	t.Parallel()
	w, err := samples.LoadWorkspace()
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]samples.WorkspaceUser{}
	for _, u := range w.Users {
		users[u.ID] = u
	}
	public, private, external, withGuest := 0, 0, 0, 0
	for _, c := range w.Channels {
		switch {
		case c.ExtShared:
			external++
		case c.Private:
			private++
		default:
			public++
		}
		for _, id := range c.Members {
			u, ok := users[id]
			if !ok {
				t.Errorf("#%s: no user %s", c.Name, id)
			}
			if u.Guest {
				withGuest++
			}
		}
	}
	if public < 2 || private == 0 || external == 0 || withGuest == 0 {
		t.Errorf("public %d, private %d, external %d, guests %d: want some of each", public, private, external, withGuest)
	}
}

func TestGeneratedCallsAreValid(t *testing.T) {
	t.Parallel()
	private, denied, internal := 0, 0, 0
	ids := map[hub.CallID]bool{}
	calls := samples.Generate(rand.New(rand.NewPCG(1, 2)), 3000)
	for _, c := range calls {
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, wrong := hub.DecodeCall(raw)
		if len(wrong) > 0 {
			t.Fatalf("%v\n%s", wrong, raw)
		}
		if !bytes.Equal(hub.Canonical(c), hub.Canonical(got)) {
			t.Fatalf("decoded to another call:\n%s", cmp.Diff(c, got))
		}
		ids[c.ID] = true
		if c.Visibility == hub.VisibilityPrivate {
			private++
		}
		if c.RecordingConsent == hub.ConsentDenied {
			denied++
		}
		if c.Direction == "internal" {
			internal++
		}
	}
	if len(ids) != len(calls) || private == 0 || denied == 0 || internal == 0 {
		t.Errorf("%d ids, %d private, %d denied, %d internal", len(ids), private, denied, internal)
	}
}

func TestGenerateIsDeterministic(t *testing.T) {
	t.Parallel()
	of := func(seed uint64) []hub.Call { return samples.Generate(rand.New(rand.NewPCG(seed, 0)), 50) }
	if diff := cmp.Diff(of(7), of(7)); diff != "" {
		t.Errorf("the same seed gives other calls:\n%s", diff)
	}
	if of(7)[0].ID == of(8)[0].ID {
		t.Error("two seeds give the same ids")
	}
}

func BenchmarkGenerate(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		samples.Generate(rng, 1)
	}
}
