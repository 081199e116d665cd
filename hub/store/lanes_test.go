package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/mappings"
)

func laneCases() []testCase {
	return []testCase{
		{"claim in order, in batches", claimBatches},
		{"claim twice with one token", claimTwice},
		{"claim leases one lane to one worker", claimExclusive},
		{"claim what an expired lease left", claimExpired},
		{"claim stops at a size", claimSize},
		{"claim tells when to come again", claimIdle},
		{"claim goes round the orgs", claimFair},
		{"claim goes round the lanes of an org", claimFairLanes},
		{"giving a lane back costs no place in the line", claimPlace},
		{"a due time that is a round number", roundTime},
		{"pace in order, one at a time", paceOrder},
		{"begin every verdict", beginVerdicts},
		{"begin twice", beginTwice},
		{"begin what was begun before", beginUnknown},
		{"begin and finish after the lease is lost", beginLost},
		{"extend", extend},
		{"finish in every state", finishStates},
		{"finish twice", finishTwice},
		{"finish what never began", finishUnbegun},
		{"finish an outcome that stays unknown", finishStillUnknown},
		{"finish with a pause", finishPause},
		{"finish in parts", finishKeep},
		{"finish a retry that was overtaken", finishOvertaken},
		{"in flight", inFlight},
		{"lane of a disconnected connection", disconnected},
		{"lane whose worker died in a suspended org", shelved},
	}
}

func idsOf(l *Lane) []hub.TransferID {
	var out []hub.TransferID
	for _, c := range l.Transfers {
		out = append(out, c.ID)
	}
	return out
}

func (w *world) acceptMany(n int) []hub.TransferID {
	w.tb.Helper()
	var out []hub.TransferID
	for i := range n {
		out = append(out, w.acceptOne(hub.CallID(fmt.Sprintf("many-%d", i)), "hello"))
		w.pass(time.Millisecond) // so that each is due later than the one before
	}
	return out
}

func claimBatches(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	all := w.acceptMany(5)
	l := w.claimWith(w.org, ClaimOptions{Batch: map[string]int{"slack": 2, "*": 9}})
	if d := cmp.Diff(all[:2], idsOf(l)); d != "" {
		t.Errorf("first batch: %s", d)
	}
	if l.Org != w.org || l.Connection != conA || l.Provider != "slack" || l.Version != w.version() || l.Tokens.Version != 1 ||
		string(l.Tokens.Sealed) != "sealed" || !l.Until.After(time.Now()) {
		t.Errorf("lane %+v", l)
	}
	c := l.Transfers[0]
	if c.Call != "many-0" || c.Revision != 1 || c.Latest != 1 || c.Integration != intA || c.Kind != hub.KindShare || c.Accepted != 1 ||
		c.Attempts != 0 || c.State != hub.StateWaiting || c.Unknown || string(c.Content) != "hello" || c.Copy != nil {
		t.Errorf("claimed %+v", c)
	}
	w.begin(l)
	w.deliver(l)
	l = w.claimWith(w.org, ClaimOptions{Batch: map[string]int{"salesforce": 2, "*": 9}})
	if d := cmp.Diff(all[2:], idsOf(l)); d != "" {
		t.Errorf("second batch: %s", d)
	}
	w.begin(l)
	w.deliver(l)
	if l, _, err := h.Claim(t.Context(), w.org.Shard(), ClaimOptions{Token: "x", Lease: time.Minute}, time.Second); l != nil || err != nil {
		t.Errorf("with nothing due: %v, %v", l, err)
	}
	w.consistent()
}

func claimTwice(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.accept("paced", "x", paced(w.share(intA), "C1"))
	h.pass(time.Millisecond)
	w.acceptMany(3)
	o := ClaimOptions{Token: "one", Batch: map[string]int{"*": 2}, Pace: map[string]time.Duration{"slack": time.Second}}
	a := w.claimWith(w.org, o)
	b := w.claimWith(w.org, o)
	if len(a.Transfers) != 2 || a.Fence != b.Fence || a.Connection != b.Connection || !slices.Equal(idsOf(a), idsOf(b)) {
		t.Errorf("the same token got %+v and %+v", a, b)
	}
	w.consistent()
	w.begin(a)
	w.deliver(a)
	w.consistent()
}

func claimExclusive(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptMany(3)
	w.accept("b", "hello", w.share(intB))
	first, second := w.claim(), w.claim()
	if first.Connection == second.Connection {
		t.Fatal("one lane was given to two workers")
	}
	w.noLane()
	w.acceptOne("later", "hello") // what arrives meanwhile does not open the lane
	w.noLane()
	w.consistent()
	w.begin(first)
	w.deliver(first)
	if got := w.claim(); got.Connection != first.Connection || got.Fence == first.Fence {
		t.Errorf("claimed %s with fence %s after %s with %s", got.Connection, got.Fence, first.Connection, first.Fence)
	}
	w.consistent()
}

func claimExpired(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	ids := w.acceptMany(2)
	begun, rest := ids[0], ids[1]
	first := w.claim()
	must(w.Begin(t.Context(), first, shortLease, []BeginItem{w.item(first.Transfers[0])}))(t)
	w.consistent()
	h.pass(afterShort)
	second := w.claimWith(w.org, ClaimOptions{Lease: longLease})
	if second == nil || atoi(second.Fence) <= atoi(first.Fence) {
		t.Fatalf("after the lease: %+v", second)
	}
	for _, c := range second.Transfers {
		if c.Unknown != (c.ID == begun) || c.Unknown != !c.Begun.IsZero() || c.Unknown != (c.State == hub.StateSending) {
			t.Errorf("claimed %+v", c)
		}
	}
	if d := cmp.Diff([]string{"begin", "unknown"}, w.types(begun)); d != "" {
		t.Error(d)
	}
	w.consistent()
	// The one who lost the lane cannot write about what the other has.
	if got := w.finish(first, Finish{Endings: []Ending{delivered(first.Transfers[0]), delivered(first.Transfers[1])}}); slices.Contains(got, true) {
		t.Errorf("who lost the lane finished: %v", got)
	}
	// A third finds it unknown again, which is not written again.
	ok(t, w.Extend(t.Context(), second, shortLease))
	h.pass(afterShort)
	third := w.claim()
	if len(third.Transfers) != 2 {
		t.Fatalf("third claim: %v", idsOf(third))
	}
	if d := cmp.Diff([]string{"begin", "unknown"}, w.types(begun)); d != "" {
		t.Error(d)
	}
	w.finish(third, Finish{Endings: []Ending{ended(begun, hub.StateWaiting, audit.TransferRetry, "not_arrived")}})
	w.consistent()
	if got := w.drain(); len(got) != 2 || !slices.Contains(got, rest) {
		t.Errorf("delivered %v", got)
	}
	if d := cmp.Diff([]string{"begin", "unknown", "retry", "begin", "delivered"}, w.types(begun)); d != "" {
		t.Error(d)
	}
	w.consistent()
}

func claimSize(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	big := string(make([]byte, 3<<20))
	for i := range 4 {
		w.acceptOne(hub.CallID(fmt.Sprintf("big-%d", i)), big)
	}
	if l := w.claim(); len(l.Transfers) != 2 {
		t.Errorf("%d transfers of 3 MiB in a batch of at most 8 MiB", len(l.Transfers))
	} else {
		w.deliver(l)
	}
	if got := len(w.drain()); got != 2 {
		t.Errorf("%d delivered afterwards", got)
	}
}

func claimIdle(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	l, wait, err := h.Claim(t.Context(), w.org.Shard(), ClaimOptions{Token: "t1", Lease: time.Minute}, time.Second)
	if l != nil || err != nil || wait != time.Second {
		t.Errorf("with no work: %v, %v, %v; want to idle", l, wait, err)
	}
	x := w.acceptOne("c1", "one")
	lane := w.claim()
	w.begin(lane)
	w.finish(lane, Finish{Endings: []Ending{{Transfer: x, To: hub.StateWaiting, Entry: audit.TransferRetry, Delay: 30 * time.Minute}}})
	l, wait, err = h.Claim(t.Context(), w.org.Shard(), ClaimOptions{Token: "t2", Lease: time.Minute}, time.Hour)
	if l != nil || err != nil || wait > 30*time.Minute || wait < 29*time.Minute {
		t.Errorf("with work in half an hour: %v, %v, %v", l, wait, err)
	}
	if _, wait, _ = h.Claim(t.Context(), w.org.Shard(), ClaimOptions{Token: "t3", Lease: time.Minute}, time.Second); wait != time.Second {
		t.Errorf("wait %v, want at most the second asked for", wait)
	}
	w.consistent()
}

// sameShard returns n orgs of one shard.
func sameShard(n int) []hub.OrgID {
	want := hub.OrgID("org_a").Shard()
	var out []hub.OrgID
	for i := 0; len(out) < n; i++ {
		if o := hub.OrgID(fmt.Sprintf("org-%d", i)); o.Shard() == want {
			out = append(out, o)
		}
	}
	return out
}

// An org with a flood gets every other turn while another has work, not more.
func claimFair(t *testing.T, h *harness) {
	orgs := sameShard(3)
	var ws []*world
	for _, o := range orgs {
		ws = append(ws, h.newWorld(o))
	}
	for i := range 30 {
		ws[0].acceptOne(hub.CallID(fmt.Sprintf("flood-%d", i)), "x")
	}
	h.pass(time.Millisecond)
	for i := range 3 {
		ws[1].acceptOne(hub.CallID(fmt.Sprintf("some-%d", i)), "x")
		ws[2].acceptOne(hub.CallID(fmt.Sprintf("some-%d", i)), "x")
	}
	var turns []hub.OrgID
	for range 9 {
		l := h.claimWith(orgs[0], ClaimOptions{Batch: map[string]int{"*": 1}})
		if l == nil {
			t.Fatal("nothing is due")
		}
		turns = append(turns, l.Org)
		h.pass(time.Millisecond)
		w := ws[slices.Index(orgs, l.Org)]
		w.begin(l)
		w.deliver(l)
		h.pass(time.Millisecond)
	}
	for round := range 3 {
		got := slices.Sorted(slices.Values(turns[3*round : 3*round+3]))
		if d := cmp.Diff(slices.Sorted(slices.Values(orgs)), got); d != "" {
			t.Fatalf("turns %v: not one each in round %d", turns, round)
		}
	}
	for _, w := range ws {
		w.consistent()
	}
}

// Within an org the turns go round its lanes, and many lanes bring an org no
// more turns.
func claimFairLanes(t *testing.T, h *harness) {
	orgs := sameShard(2)
	many, one := h.newWorld(orgs[0]), h.newWorld(orgs[1])
	for i := range 6 {
		conn, integ := hub.ConnectionID(fmt.Sprintf("con_%d", i)), hub.IntegrationID(fmt.Sprintf("int_%d", i))
		many.connect(conn, "webhook")
		many.enable(integ, conn)
		s := many.share(integ)
		s.Connection = conn
		many.accept(hub.CallID(fmt.Sprintf("c%d", i)), "x", s)
		h.pass(time.Millisecond)
	}
	for i := range 5 {
		one.acceptOne(hub.CallID(fmt.Sprintf("c%d", i)), "x")
	}
	seen := map[hub.ConnectionID]bool{}
	turns := map[hub.OrgID]int{}
	for range 10 {
		l := h.claimWith(orgs[0], ClaimOptions{Batch: map[string]int{"*": 1}})
		if l == nil {
			t.Fatal("nothing is due")
		}
		h.pass(time.Millisecond)
		turns[l.Org]++
		if l.Org == one.org { // the lanes of many stay leased: all are worked at once
			one.begin(l)
			one.deliver(l)
			continue
		}
		if seen[l.Connection] {
			t.Errorf("lane %s had two turns before others had one", l.Connection)
		}
		seen[l.Connection] = true
	}
	if turns[many.org] != 5 || turns[one.org] != 5 {
		t.Errorf("turns %v, want the same for both", turns)
	}
}

// An org's other lanes keep their place when one of its lanes is given back.
func claimPlace(t *testing.T, h *harness) {
	orgs := sameShard(2)
	a, b := h.newWorld(orgs[0]), h.newWorld(orgs[1])
	a.acceptOne("c1", "x")
	l := a.claim()
	a.accept("c2", "x", a.share(intB)) // a is in line with its other lane from here
	h.pass(2 * time.Millisecond)
	b.acceptOne("c1", "x")
	h.pass(2 * time.Millisecond)
	a.begin(l)
	a.deliver(l)
	if got := h.claimWith(orgs[0], ClaimOptions{}); got.Org != a.org {
		t.Errorf("%s has its turn first, want %s, which was in line before", got.Org, a.org)
	}
	a.consistent()
	b.consistent()
}

func paced(s Share, place string) Share {
	s.Pace = place
	return s
}

const everySecond = time.Second

// Scores such as 1.8e12 are written differently by different Redises.
func roundTime(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "x")
	ok(t, h.rdb.ZAdd(t.Context(), laneKey(w.org, conA), zOf(1_600_000_000_000, string(x))).Err())
	ok(t, h.rdb.ZAdd(t.Context(), prefix(w.org)+"lanes:"+string(w.org), zOf(1_600_000_000_000, string(conA))).Err())
	ok(t, h.rdb.ZAdd(t.Context(), readyKey(w.org.Shard()), zOf(1_600_000_000_000, string(w.org))).Err())
	w.acceptOne("c2", "x")
	must(w.SweepLane(t.Context(), w.org, conA, SweepHold, "", "why", actor))(t)
	must(w.SweepLane(t.Context(), w.org, conA, SweepResume, "", "", actor))(t)
	if got := w.drain(); len(got) != 2 || got[0] != x {
		t.Errorf("delivered %v, want %s first", got, x)
	}
	w.consistent()
}

func paceOrder(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	var want, got []hub.TransferID
	for i := range 4 {
		want = append(want, w.accept(hub.CallID(fmt.Sprintf("c%d", i)), "x", paced(w.share(intA), "C1"))[0])
		h.pass(time.Millisecond)
	}
	o := ClaimOptions{Pace: map[string]time.Duration{"slack": shortLease}}
	for len(got) < len(want) {
		if l := w.claimWith(w.org, o); l != nil {
			if len(l.Transfers) != 1 {
				t.Fatalf("%d at once to one place", len(l.Transfers))
			}
			w.begin(l)
			w.deliver(l)
			got = append(got, l.Transfers[0].ID)
		}
		h.pass(5 * time.Millisecond)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	w.consistent()
}

// Every place has one transfer a second, in order, and no place waits for
// another.
func TestPace(t *testing.T) {
	t.Parallel()
	h := backend{"miniredis", openMini}.new(t)
	w := h.newWorld("org_a")
	var one, two []hub.TransferID
	for i := range 4 {
		one = append(one, w.accept(hub.CallID(fmt.Sprintf("one-%d", i)), "x", paced(w.share(intA), "C1"))[0])
		h.pass(time.Millisecond)
	}
	for i := range 2 {
		two = append(two, w.accept(hub.CallID(fmt.Sprintf("two-%d", i)), "x", paced(w.share(intA), "C2"))[0])
		h.pass(time.Millisecond)
	}
	free := w.acceptOne("free", "x")
	o := ClaimOptions{Pace: map[string]time.Duration{"slack": everySecond}}
	claim := func() []hub.TransferID {
		l := w.claimWith(w.org, o)
		if l == nil {
			return nil
		}
		w.begin(l)
		w.deliver(l)
		w.consistent()
		return idsOf(l)
	}
	for i, want := range [][]hub.TransferID{{one[0], two[0], free}, {one[1], two[1]}, {one[2]}, {one[3]}} {
		got := claim()
		slices.Sort(got) // those of two places that are due at once come in any order
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Fatalf("second %d: %v, want %v", i, got, want)
		}
		if got := claim(); got != nil {
			t.Fatalf("second %d: %v more", i, got)
		}
		h.pass(everySecond - 2*time.Millisecond)
		if got := claim(); got != nil {
			t.Fatalf("before second %d: %v", i+1, got)
		}
		h.pass(2 * time.Millisecond)
	}
	if keys := w.hash(prefix(w.org) + "pace:" + string(w.org) + ":con_a"); len(keys) != 2 {
		t.Errorf("places %v", keys)
	}
}

// A lane that stood still sends neither a burst nor out of order afterwards.
func TestPaceAfterAStandstill(t *testing.T) {
	t.Parallel()
	h := backend{"miniredis", openMini}.new(t)
	w := h.newWorld("org_a")
	var all []hub.TransferID
	for i := range 8 {
		all = append(all, w.accept(hub.CallID(fmt.Sprintf("c%d", i)), "x", paced(w.share(intA), "C1"))[0])
		h.pass(time.Millisecond)
	}
	o := ClaimOptions{Pace: map[string]time.Duration{"slack": everySecond}}
	var got []hub.TransferID
	var at []time.Time
	for step := range 400 {
		if step == 20 {
			h.pass(5 * time.Second) // nobody works
		}
		if l := w.claimWith(w.org, o); l != nil {
			if len(l.Transfers) > 1 {
				t.Fatalf("a burst of %d to one place", len(l.Transfers))
			}
			w.begin(l)
			w.deliver(l)
			got = append(got, l.Transfers[0].ID)
			at = append(at, must(w.Now(t.Context()))(t))
		}
		h.pass(50 * time.Millisecond)
	}
	if d := cmp.Diff(all, got); d != "" {
		t.Error(d)
	}
	for i := 1; i < len(at); i++ {
		if gap := at[i].Sub(at[i-1]); gap < everySecond {
			t.Errorf("%v between two messages to one place", gap)
		}
	}
	w.consistent()
}

func beginVerdicts(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	ids := w.acceptMany(2)
	one, two := ids[0], ids[1]
	l := w.claim()
	items := w.items(l)
	n := len(w.entries())

	stale := slices.Clone(items)
	stale[0].Grant, stale[1].Revision = 7, 9
	other := items[0]
	other.Integration = intB
	erase := items[0]
	erase.Kind, erase.Grant = hub.KindErase, 0
	unknownOne := items[0]
	unknownOne.Transfer = "tr_nobody"
	for _, c := range []struct {
		name  string
		items []BeginItem
		want  []Verdict
	}{
		{"another grant, another revision", stale, []Verdict{Outdated, Outdated}},
		{"another integration", []BeginItem{other}, []Verdict{Settled}},
		{"a share as an erasure", []BeginItem{erase}, []Verdict{Outdated}},
		{"no such transfer", []BeginItem{unknownOne}, []Verdict{Settled}},
		{"nothing", nil, []Verdict{}},
	} {
		if d := cmp.Diff(c.want, must(w.Begin(t.Context(), l, longLease, c.items))(t)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		w.consistent()
	}
	if len(w.entries()) != n {
		t.Error("what did not begin was audited")
	}

	w.enable(intA, conA) // a new grant
	if d := cmp.Diff([]Verdict{Outdated}, must(w.Begin(t.Context(), l, longLease, items[:1]))(t)); d != "" {
		t.Error(d)
	}
	items = w.items(l)
	w.connState(conA, hub.Paused, audit.ConnectionPaused)
	if d := cmp.Diff([]Verdict{OnHold}, must(w.Begin(t.Context(), l, longLease, items[:1]))(t)); d != "" {
		t.Error(d)
	}
	if x := w.state(one, hub.StateHeld); x.Reason != "connection_broken" {
		t.Errorf("held because of %q", x.Reason)
	}
	w.connState(conA, hub.Connected, audit.ConnectionRepaired)
	w.orgState(hub.OrgSuspended)
	if d := cmp.Diff([]Verdict{OnHold, OnHold}, must(w.Begin(t.Context(), l, longLease, items))(t)); d != "" {
		t.Error(d)
	}
	w.consistent()
	w.orgState(hub.OrgActive)
	// What is held begins when the obstacle is gone.
	if d := cmp.Diff([]Verdict{Begun}, must(w.Begin(t.Context(), l, longLease, items[:1]))(t)); d != "" {
		t.Error(d)
	}
	x := w.state(one, hub.StateSending)
	if x.Attempts != 1 || x.Grant != 2 || x.BegunAt.IsZero() || !slices.Equal(x.Fields, []string{"title", "summary"}) {
		t.Errorf("begun %+v", x)
	}
	w.consistent()
	w.disable(intA)
	if d := cmp.Diff([]Verdict{Begun, Disabled}, must(w.Begin(t.Context(), l, longLease, items))(t)); d != "" {
		t.Error(d)
	}
	if x := w.state(two, hub.StateWithdrawn); x.Reason != "not_enabled" {
		t.Errorf("withdrawn because of %q", x.Reason)
	}
	if d := cmp.Diff([]Verdict{Settled}, must(w.Begin(t.Context(), l, longLease, items[1:]))(t)); d != "" {
		t.Error(d)
	}
	w.consistent()
	last := w.entries()
	if e := last[len(last)-1]; e.Type != audit.TransferWithdrawn || e.Transfer != two {
		t.Errorf("last entry %+v", e)
	}
}

func beginTwice(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "x")
	l := w.claim()
	for range 2 {
		if d := cmp.Diff([]Verdict{Begun}, w.begin(l)); d != "" {
			t.Error(d)
		}
	}
	if d := cmp.Diff([]string{"begin"}, w.types(x)); d != "" {
		t.Error(d)
	}
	if got := w.transfer(x).Attempts; got != 1 {
		t.Errorf("%d attempts", got)
	}
	w.consistent()
}

// I5: what was found begun is not begun again before somebody has looked.
func beginUnknown(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "x")
	w.beginFor(w.claim(), shortLease)
	h.pass(afterShort)
	l := w.claim()
	got := must(w.Begin(t.Context(), l, longLease, []BeginItem{w.item(l.Transfers[0])}))(t)
	if d := cmp.Diff([]Verdict{Settled}, got); d != "" {
		t.Error(d)
	}
	w.consistent()
}

func beginLost(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "x")
	l := w.claimWith(w.org, ClaimOptions{Lease: shortLease})
	h.pass(afterShort)
	if _, err := w.Begin(t.Context(), l, longLease, w.items(l)); !errors.Is(err, ErrLost) {
		t.Errorf("begin after the lease: %v, want ErrLost", err)
	}
	if err := w.Extend(t.Context(), l, longLease); !errors.Is(err, ErrLost) {
		t.Errorf("extend after the lease: %v, want ErrLost", err)
	}
	second := w.claim()
	if _, err := w.Begin(t.Context(), l, longLease, w.items(l)); !errors.Is(err, ErrLost) {
		t.Errorf("begin of a lane that another has: %v, want ErrLost", err)
	}
	if got := w.finish(l, Finish{Endings: []Ending{ended(l.Transfers[0].ID, hub.StateDead, audit.TransferDead, "x")}}); got[0] {
		t.Error("who lost the lane finished a transfer that never began")
	}
	w.begin(second)
	w.deliver(second)
	w.consistent()
	// With the lease over and nobody else there, an outcome still counts.
	w.acceptOne("c2", "x")
	l = w.claim()
	w.beginFor(l, shortLease)
	h.pass(afterShort)
	w.deliver(l)
	w.consistent()
}

func extend(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "x")
	l := w.claim()
	ok(t, w.Extend(t.Context(), l, longLease))
	w.noLane()
	w.consistent()
	l.Fence = "0"
	if err := w.Extend(t.Context(), l, longLease); !errors.Is(err, ErrLost) {
		t.Errorf("extend with another fence: %v, want ErrLost", err)
	}
}

func finishStates(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	fail := &connectors.Error{Class: connectors.Rejected, Code: "too_long", Detail: "It is too long."}
	for _, c := range []struct {
		to      hub.TransferState
		entry   audit.Type
		delay   time.Duration
		dueLate bool
	}{
		{to: hub.StateDelivered, entry: audit.TransferDelivered},
		{to: hub.StateWaiting, entry: audit.TransferRetry, delay: never, dueLate: true},
		{to: hub.StateHeld, entry: audit.TransferHeld, delay: never, dueLate: true},
		{to: hub.StateAmbiguous, entry: audit.TransferAmbiguous},
		{to: hub.StateDead, entry: audit.TransferDead},
		{to: hub.StateWithdrawn, entry: audit.TransferWithdrawn},
		{to: hub.StateSuperseded, entry: audit.TransferSuperseded},
	} {
		t.Run(string(c.to), func(t *testing.T) {
			id := w.acceptOne(hub.CallID("c-"+c.to), "x")
			l := w.claim()
			w.begin(l)
			e := Ending{Transfer: id, To: c.to, Entry: c.entry, Reason: "why", Delay: c.delay, Err: fail, Losses: []mappings.Loss{{Field: "Subject", Kind: mappings.Truncated, From: 9, To: 5}}}
			if c.to == hub.StateDelivered {
				e = delivered(l.Transfers[0])
				e.Losses = []mappings.Loss{{Field: "Subject", Kind: mappings.Truncated, From: 9, To: 5}}
			}
			if got := w.finish(l, Finish{Endings: []Ending{e}, Err: fail}); !got[0] {
				t.Fatal("not applied")
			}
			x := w.state(id, c.to)
			if d := cmp.Diff([]string{"begin", string(c.entry)[len("transfer."):]}, w.types(id)); d != "" {
				t.Error(d)
			}
			if c.to == hub.StateDelivered {
				want := must(h.PayloadDigest(t.Context(), w.org, e.Payload))(t)
				if x.Receipt["id"] != "rec_c-delivered" || x.Payload != want || len(x.Losses) != 1 || x.ErrCode != "" {
					t.Errorf("delivered %+v", x)
				}
			} else if x.ErrCode != "too_long" || x.ErrClass != "rejected" || x.ErrDetail != "It is too long." || x.Reason != "why" {
				t.Errorf("ended %+v", x)
			}
			if c.dueLate && (x.Due.Before(x.BegunAt.Add(never)) || !x.FinishedAt.IsZero()) || !c.dueLate && x.FinishedAt.IsZero() {
				t.Errorf("due %v, finished %v", x.Due, x.FinishedAt)
			}
			w.noLane()
			w.consistent()
		})
	}
	health := must(w.LoadOrg(t.Context(), w.org))(t).Connections[conA].Health
	if health.ErrorCode != "too_long" || health.LastError.IsZero() || !health.LastSuccess.IsZero() {
		t.Errorf("health %+v", health)
	}
}

func finishTwice(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	ids := w.acceptMany(2)
	one, two := ids[0], ids[1]
	l := w.claim()
	w.begin(l)
	f := Finish{OK: true, Endings: []Ending{
		delivered(l.Transfers[0]), {Transfer: two, To: hub.StateWaiting, Entry: audit.TransferRetry, Delay: never, Uncounted: true},
	}}
	for range 2 {
		if d := cmp.Diff([]bool{true, true}, w.finish(l, f)); d != "" {
			t.Error(d)
		}
		w.consistent()
	}
	if d := cmp.Diff([]string{"begin", "delivered"}, w.types(one)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"begin", "retry"}, w.types(two)); d != "" {
		t.Error(d)
	}
	if got := w.transfer(two).Attempts; got != 0 {
		t.Errorf("%d attempts, want 0: it does not count", got)
	}
}

func finishUnbegun(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "x")
	w.drain()
	before := must(w.CopiesOfCall(t.Context(), w.org, "c1"))(t)[0]
	x := w.acceptOne("c1", "y")
	l := w.claim()
	got := w.finish(l, Finish{Endings: []Ending{{
		Transfer: x, To: hub.StateDelivered, Entry: audit.TransferUnchanged, Released: []byte("x"), Digest: before.Payload,
	}}})
	if !got[0] {
		t.Fatal("not applied")
	}
	after := must(w.CopiesOfCall(t.Context(), w.org, "c1"))(t)[0]
	if after.Receipt["id"] != "rec_c1" || after.Payload != before.Payload || after.Released != before.Released || after.Transfer != x {
		t.Errorf("the copy was %+v and is %+v", before, after)
	}
	w.consistent()
	// Once is enough.
	y := w.acceptOne("c2", "x")
	l = w.claim()
	e := ended(y, hub.StateWithdrawn, audit.TransferWithdrawn, "rule_not_matched")
	for range 2 {
		if !w.finish(l, Finish{Endings: []Ending{e}})[0] {
			t.Error("not applied")
		}
	}
	if d := cmp.Diff([]string{"withdrawn"}, w.types(y)); d != "" {
		t.Error(d)
	}
	// What is behind another one cannot be ended before it.
	z := w.acceptOne("c3", "x")
	l = w.claim()
	w.begin(l)
	behind := w.acceptOne("c3", "y")
	early := BeginItem{Transfer: behind, Integration: intA, Grant: 1, Kind: hub.KindShare, Revision: 2}
	if d := cmp.Diff([]Verdict{Settled}, must(w.Begin(t.Context(), l, longLease, []BeginItem{early}))(t)); d != "" {
		t.Errorf("a transfer began that waits behind another one: %s", d)
	}
	if w.finish(l, Finish{Keep: true, Endings: []Ending{ended(behind, hub.StateDead, audit.TransferDead, "x")}})[0] {
		t.Error("a transfer was ended that waits behind another one")
	}
	w.finish(l, Finish{Endings: []Ending{ended(z, hub.StateDead, audit.TransferDead, "x")}})
	w.drain()
	w.state(behind, hub.StateDelivered)
	w.consistent()
}

func finishStillUnknown(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "x")
	l := w.claim()
	w.begin(l)
	f := Finish{Endings: []Ending{{Transfer: x, To: hub.StateSending, Delay: shortLease}}}
	for range 2 {
		if !w.finish(l, f)[0] {
			t.Fatal("not applied")
		}
		w.consistent()
	}
	w.state(x, hub.StateSending)
	if n := must(w.InFlight(t.Context(), w.org, intA))(t); n != 0 {
		t.Errorf("%d in flight, want 0: the request has ended", n)
	}
	for range 3 {
		h.pass(afterShort)
		l = w.claim()
		if c := l.Transfers[0]; !c.Unknown || c.Begun.IsZero() {
			t.Fatalf("claimed %+v", c)
		}
		w.finish(l, f)
		w.consistent()
	}
	if d := cmp.Diff([]string{"begin", "unknown"}, w.types(x)); d != "" {
		t.Error(d)
	}
	h.pass(afterShort)
	l = w.claim()
	w.finish(l, Finish{Endings: []Ending{delivered(l.Transfers[0])}})
	w.state(x, hub.StateDelivered)
	w.consistent()
	// One that never began cannot be left as begun.
	y := w.acceptOne("c2", "x")
	l = w.claim()
	if w.finish(l, Finish{Endings: []Ending{{Transfer: y, To: hub.StateSending, Delay: shortLease}}})[0] {
		t.Error("a transfer that never began was left as begun")
	}
	w.consistent()
}

func finishPause(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "x")
	w.acceptOne("c2", "x")
	l := w.claimWith(w.org, ClaimOptions{Batch: map[string]int{"*": 1}})
	w.begin(l)
	w.finish(l, Finish{Pause: never, Endings: []Ending{ended(x, hub.StateWaiting, audit.TransferRetry, "rate_limited")}})
	w.noLane()
	w.acceptOne("c3", "x") // does not wake it
	w.noLane()
	w.consistent()
	// An admin who reconnects ends the pause.
	w.connState(conA, hub.Paused, audit.ConnectionPaused)
	w.connState(conA, hub.Connected, audit.ConnectionRepaired)
	if got := len(w.drain()); got != 3 {
		t.Errorf("%d delivered after the pause, want 3", got)
	}
	w.consistent()
}

func finishKeep(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptMany(3)
	l := w.claim()
	w.begin(l)
	for i, c := range l.Transfers {
		w.finish(l, Finish{Keep: i < 2, Endings: []Ending{delivered(c)}})
		w.consistent()
		if i < 2 {
			w.noLane()
		}
	}
	w.acceptOne("c9", "x")
	w.claim()
}

func finishOvertaken(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	for _, to := range []hub.TransferState{hub.StateWaiting, hub.StateHeld} {
		call := hub.CallID("c-" + to)
		old := w.acceptOne(call, "one")
		l := w.claim()
		w.begin(l)
		newer := w.acceptOne(call, "two")
		w.finish(l, Finish{Endings: []Ending{{Transfer: old, To: to, Entry: audit.TransferRetry, Delay: never}}})
		w.state(old, hub.StateSuperseded)
		w.consistent()
		if got := w.drain(); !slices.Equal(got, []hub.TransferID{newer}) {
			t.Errorf("delivered %v, want %s", got, newer)
		}
		if d := cmp.Diff([]string{"begin", "retry", "superseded"}, w.types(old)); d != "" {
			t.Error(d)
		}
	}
	// Overtaken by an erasure it is withdrawn, and the erasure goes.
	old := w.acceptOne("gone", "one")
	l := w.claim()
	w.begin(l)
	must(w.Erase(t.Context(), w.org, "gone", "", actor))(t)
	w.consistent()
	w.finish(l, Finish{Endings: []Ending{{Transfer: old, To: hub.StateWaiting, Entry: audit.TransferRetry, Delay: never}}})
	w.state(old, hub.StateWithdrawn)
	l = w.claim()
	if c := l.Transfers[0]; c.Kind != hub.KindErase || c.Copy != nil || c.Content != nil {
		t.Errorf("claimed %+v", c)
	}
	w.consistent()
}

func inFlight(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	count := func(want int) {
		t.Helper()
		if n := must(w.InFlight(t.Context(), w.org, intA))(t); n != want {
			t.Errorf("%d in flight, want %d", n, want)
		}
	}
	count(0)
	w.acceptMany(3)
	l := w.claim()
	count(0)
	w.begin(l)
	count(3)
	w.disable(intA)
	w.finish(l, Finish{Keep: true, Endings: []Ending{delivered(l.Transfers[0]), ended(l.Transfers[1].ID, hub.StateWaiting, audit.TransferRetry, "x")}})
	count(1)
	w.finish(l, Finish{Endings: []Ending{ended(l.Transfers[2].ID, hub.StateAmbiguous, audit.TransferAmbiguous, "x")}})
	count(0)
	if n := must(w.InFlight(t.Context(), w.org, "int_nobody"))(t); n != 0 {
		t.Errorf("%d in flight of an unknown integration", n)
	}
	w.consistent()
}

// What is left in the lane of a connection that is gone for good is settled by
// whoever claims next: nothing is left behind.
func disconnected(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("copied", "x")
	w.drain()
	left := w.acceptOne("left", "x")
	l := w.claim()
	w.beginFor(l, shortLease)
	behind := w.acceptOne("left", "y")
	var many []hub.TransferID
	for i := range 230 {
		many = append(many, w.acceptOne(hub.CallID(fmt.Sprintf("c%d", i)), "x"))
	}
	w.connState(conA, hub.NeedsReauth, audit.ConnectionBroken)
	must(w.Erase(t.Context(), w.org, "copied", "", actor))(t)
	w.connState(conA, hub.Disconnected, audit.ConnectionDeleted)
	w.consistent()
	if w.connState(conA, hub.Connected, audit.ConnectionRepaired) {
		t.Error("a disconnected connection was connected")
	}
	h.pass(afterShort)
	w.noLane() // settles all of it
	w.noLane()
	if x := w.state(left, hub.StateAmbiguous); x.Reason != "disconnected" {
		t.Errorf("ambiguous because of %q", x.Reason)
	}
	if d := cmp.Diff([]string{"begin", "unknown", "ambiguous"}, w.types(left)); d != "" {
		t.Error(d)
	}
	w.state(behind, hub.StateWithdrawn)
	for _, id := range many {
		w.state(id, hub.StateWithdrawn)
	}
	ts, _, err := w.Transfers(t.Context(), w.org, TransferFilter{State: hub.StateDead}, Page{Limit: 10})
	if err != nil || len(ts) != 1 || ts[0].Kind != hub.KindErase || ts[0].Reason != "disconnected" {
		t.Errorf("dead: %+v, %v; want the erasure", ts, err)
	}
	w.consistent()
	// A person's decision does not bring it back to life.
	ok(t, w.Settle(t.Context(), w.org, left, SettleResend, actor))
	w.consistent()
	w.noLane()
	w.state(left, hub.StateWithdrawn)
	w.consistent()
	// Nor does an erasure or a call that were under way.
	must(w.Erase(t.Context(), w.org, "left", "", actor))(t)
	x := w.acceptOne("late", "x")
	w.consistent()
	w.noLane()
	w.state(x, hub.StateWithdrawn)
	w.consistent()
}

func shelved(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "x")
	w.beginFor(w.claim(), shortLease)
	w.orgState(hub.OrgSuspended)
	h.pass(afterShort)
	w.noLane()
	w.consistent()
	w.state(x, hub.StateSending)
	if n := must(w.InFlight(t.Context(), w.org, intA))(t); n != 0 {
		t.Errorf("%d in flight although the worker's lease is over", n)
	}
	w.orgState(hub.OrgActive)
	must(w.SweepLane(t.Context(), w.org, conA, SweepResume, "", "", actor))(t)
	l := w.claim()
	if c := l.Transfers[0]; !c.Unknown {
		t.Fatalf("claimed %+v", c)
	}
	w.finish(l, Finish{Endings: []Ending{ended(x, hub.StateWaiting, audit.TransferRetry, "not_arrived")}})
	w.consistent()
	w.drain()
	if d := cmp.Diff([]string{"begin", "unknown", "retry", "begin", "delivered"}, w.types(x)); d != "" {
		t.Error(d)
	}
	w.consistent()
}
