package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
)

func zOf(score float64, member string) redis.Z { return redis.Z{Score: score, Member: member} }

func configCases() []testCase {
	return []testCase{
		{"configuration comes back whole", loadOrg},
		{"changes against a version", changeConflict},
		{"the same change twice", changeTwice},
		{"make an org", createOrg},
		{"connection states", connectionStates},
		{"health and budget", health},
		{"keys of what is stored", digests},
		{"rewrap data keys", rewrapAll},
	}
}

func loadOrg(t *testing.T, h *harness) {
	w := h.newOrg("org_a")
	at := epoch().Add(time.Hour)
	org := directory.Org{
		ID: w.org, Name: "Acme « Übung »", Region: "us", Language: "es", State: hub.OrgSuspended, CreatedAt: epoch(), Retention: 48 * time.Hour,
	}
	keys := []directory.Key{
		{ID: "k1", Name: "first", Role: hub.RoleAdmin, Digest: "d1", CreatedAt: at, CreatedBy: "operator"},
		{ID: "k2", Role: hub.RoleIngest, Digest: "d2", CreatedAt: at, CreatedBy: "key:k1"},
	}
	secrets := []directory.SigningSecret{
		{ID: "s1", Secret: hub.NewSecret("whsec_one"), CreatedAt: at, CreatedBy: "operator"},
		{ID: "s2", Secret: hub.NewSecret("whsec_two"), CreatedAt: at.Add(time.Second), CreatedBy: "operator"},
	}
	conns := []*directory.Connection{
		{
			ID: "con_1", Provider: "slack", State: hub.Paused, AccountID: "T1", AccountName: "Acme", BaseURL: "https://slack.com/api/",
			Facts: map[string]string{"team": "T1"}, Scopes: []string{"chat:write"}, CreatedAt: at, CreatedBy: "key:k1",
		},
		{ID: "con_2", Provider: "webhook", BaseURL: "https://example.com/hook", CreatedAt: at, CreatedBy: "key:k1"},
	}
	terms := consent.Terms{
		Connection: "con_1", Fields: []consent.Field{"title", "custom.size"}, When: "call.duration_seconds > 60",
		Destination: json.RawMessage(`{"channel":"C1"}`), ExpiresAfterDays: 30,
	}
	draft := terms
	draft.When = ""
	integs := []*directory.Integration{
		{ID: "int_1", Name: "one", Enabled: true, Current: 2, Draft: &draft, CreatedAt: at, CreatedBy: "key:k1"},
		{ID: "int_2", Name: "two", CreatedAt: at.Add(time.Second), CreatedBy: "key:k1"},
	}
	grants := []consent.Grant{
		{Number: 1, Integration: "int_1", Terms: terms, Since: 1, EnabledBy: "key:k1", EnabledAt: at, AcceptedTerms: "2020-05-01"},
		{Number: 2, Integration: "int_1", Terms: draft, Since: 1, EnabledBy: "key:k1", EnabledAt: at, AcceptedTerms: "2020-05-01"},
	}
	ok(t, w.Tokens(actor).InstallTokens(t.Context(), w.org, "con_2", "webhook", 1, []byte("sealed")))
	w.change(directory.Change{
		Org: &org, Keys: keys, Secrets: secrets, NewConnections: conns, Integrations: integs, NewGrants: grants,
		Entries: []audit.Entry{{Type: audit.OrgChanged, Actor: actor}},
	})
	got := must(w.LoadOrg(t.Context(), w.org))(t)
	integs[0].Grants = grants
	conns[1].State = hub.Connected // by its tokens
	want := &directory.Snapshot{
		Org: org, Version: w.version(), Keys: map[string]directory.Key{"k1": keys[0], "k2": keys[1]}, Secrets: secrets,
		Connections:  map[hub.ConnectionID]*directory.Connection{"con_1": conns[0], "con_2": conns[1]},
		Integrations: integs,
	}
	same := cmp.Comparer(func(a, b hub.Secret) bool { return a.Equal(b) })
	if d := cmp.Diff(want, got, same, cmpopts.IgnoreUnexported(directory.Snapshot{})); d != "" {
		t.Error(d)
	}
	// And what is dropped is gone, but for the evidence.
	w.change(directory.Change{DropKeys: []string{"k2"}, DropSecrets: []string{"s1"}, DropIntegrations: []hub.IntegrationID{"int_1"}})
	got = must(w.LoadOrg(t.Context(), w.org))(t)
	if len(got.Keys) != 1 || len(got.Secrets) != 1 || got.Secrets[0].ID != "s2" || len(got.Integrations) != 1 || got.Integrations[0].ID != "int_2" {
		t.Errorf("after dropping: %+v", got)
	}
	if n := must(h.rdb.LLen(t.Context(), prefix(w.org)+"grants:"+string(w.org)+":int_1").Result())(t); n != 2 {
		t.Errorf("%d grants are kept of a dropped integration, want 2", n)
	}
	w.consistent()
}

func changeConflict(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	v, n := w.version(), len(w.entries())
	k := func(id string) directory.Change {
		return directory.Change{Version: v, Keys: []directory.Key{{ID: id}}, Entries: []audit.Entry{{Type: audit.KeyCreated, Actor: actor, Subject: id}}}
	}
	if next := must(w.Change(t.Context(), w.org, "one", k("k1")))(t); next != v+1 {
		t.Errorf("version %d after %d", next, v)
	}
	if _, err := w.Change(t.Context(), w.org, "two", k("k2")); !errors.Is(err, ErrConflict) {
		t.Errorf("a change of an old version: %v, want ErrConflict", err)
	}
	if got := must(w.LoadOrg(t.Context(), w.org))(t); len(got.Keys) != 1 || len(w.entries()) != n+1 {
		t.Errorf("the refused change had an effect: %v", got.Keys)
	}
	if _, err := w.Change(t.Context(), "org_nobody", "x", k("k1")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a change of an unknown org: %v", err)
	}
}

func changeTwice(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	c := directory.Change{
		Version: w.version(), NewGrants: []consent.Grant{{Number: 2, Integration: intA}},
		Entries: []audit.Entry{{Type: audit.KeyCreated, Actor: actor}},
	}
	first := must(w.Change(t.Context(), w.org, "one", c))(t)
	w.disable(intB) // somebody else comes in between
	n := len(w.entries())
	if again := must(w.Change(t.Context(), w.org, "one", c))(t); again != first {
		t.Errorf("the repeat gave version %d, the first %d", again, first)
	}
	if len(w.entries()) != n {
		t.Error("the repeat wrote to the audit log")
	}
	if got := must(h.rdb.LLen(t.Context(), prefix(w.org)+"grants:"+string(w.org)+":"+string(intA)).Result())(t); got != 2 {
		t.Errorf("%d grants, want 2", got)
	}
	w.consistent()
}

func createOrg(t *testing.T, h *harness) {
	o := directory.Org{ID: "org_a", Name: "Acme", State: hub.OrgActive, CreatedAt: epoch()}
	c := directory.Change{Entries: []audit.Entry{{Type: audit.OrgCreated, Actor: "operator"}}}
	for range 2 {
		ok(t, h.CreateOrg(t.Context(), o, "one", c))
	}
	if err := h.CreateOrg(t.Context(), o, "two", c); !errors.Is(err, ErrConflict) {
		t.Errorf("an id that is taken: %v, want ErrConflict", err)
	}
	w := &world{harness: h, org: o.ID}
	if es := w.entries(); len(es) != 1 || es[0].Type != audit.OrgCreated || w.version() != 1 {
		t.Errorf("entries %v, version %d", es, w.version())
	}
	// A repeat makes no other data keys: what was sealed still opens.
	if got := must(h.LoadOrg(t.Context(), o.ID))(t); got.Org.Name != "Acme" {
		t.Errorf("org %+v", got.Org)
	}
	want := []hub.OrgID{"org_a"}
	for i := range 5 {
		id := hub.OrgID(fmt.Sprintf("org_%d", i))
		h.newOrg(id)
		want = append(want, id)
	}
	slices.Sort(want)
	if d := cmp.Diff(want, must(h.Orgs(t.Context()))(t)); d != "" {
		t.Error(d)
	}
}

func connectionStates(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	v := w.version()
	if !w.connState(conA, hub.Paused, audit.ConnectionPaused) || w.connState(conA, hub.Paused, audit.ConnectionPaused) {
		t.Error("a pause is one change, and only the first time")
	}
	c := must(w.LoadOrg(t.Context(), w.org))(t).Connections[conA]
	if c.State != hub.Paused || c.Cause != "because" || w.version() != v+1 {
		t.Errorf("connection %+v, version %d after %d", c, w.version(), v)
	}
	es := w.entries()
	if e := es[len(es)-1]; e.Type != audit.ConnectionPaused || e.Actor != actor || e.Connection != conA || e.Reason != "because" {
		t.Errorf("entry %+v", e)
	}
	if w.connState("con_nobody", hub.Paused, audit.ConnectionPaused) {
		t.Error("an unknown connection was paused")
	}
	if !w.connState(conA, hub.Disconnected, audit.ConnectionDeleted) || w.connState(conA, hub.Connected, audit.ConnectionRepaired) {
		t.Error("disconnected is final")
	}
	ok(t, w.DestroyTokens(t.Context(), w.org, conA))
	r := must(w.Tokens(actor).LoadTokens(t.Context(), w.org, conA))(t)
	if len(r.Sealed) != 0 || r.State != hub.Disconnected {
		t.Errorf("record %+v", r)
	}
	w.consistent()
}

func health(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "x")
	w.drain()
	ok(t, w.NoteBudget(t.Context(), w.org, conA, connectors.Budget{Used: 10, Limit: 100}))
	got := must(w.LoadOrg(t.Context(), w.org))(t).Connections[conA].Health
	if got.LastSuccess.IsZero() || !got.LastError.IsZero() || got.Budget.Used != 10 || got.Budget.Limit != 100 || got.BudgetAt.IsZero() {
		t.Errorf("health %+v", got)
	}
}

func digests(t *testing.T, h *harness) {
	a, b := h.newWorld("org_a"), h.newWorld("org_b")
	seen := map[string]string{}
	for _, w := range []*world{a, b} {
		for name, v := range map[string]string{
			"key":      must(w.KeyDigest(t.Context(), w.org, hub.NewSecret("x")))(t),
			"released": must(w.ReleasedDigest(t.Context(), w.org, []byte("x")))(t),
			"payload":  must(w.PayloadDigest(t.Context(), w.org, []byte("x")))(t),
			"copy":     must(w.CopyKey(t.Context(), w.org, "x", "y"))(t),
			"copy2":    must(w.CopyKey(t.Context(), w.org, "y", "x"))(t),
		} {
			if was, twice := seen[v]; twice {
				t.Errorf("%s of %s is the digest of %s", name, w.org, was)
			}
			seen[v] = name + " of " + string(w.org)
		}
	}
	if k := must(a.CopyKey(t.Context(), a.org, "x", "y"))(t); len(k) != 26 || k != must(a.CopyKey(t.Context(), a.org, "x", "y"))(t) {
		t.Errorf("copy key %q", k)
	}
}

func rewrapAll(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	if n := must(h.RewrapAll(t.Context()))(t); n != 0 {
		t.Errorf("%d rewrapped with the same key", n)
	}
	w.acceptOne("c1", "x")
	w.drain()
}
