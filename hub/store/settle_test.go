package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
)

func settleCases() []testCase {
	return []testCase{
		{"sweep withdraws, holds and resumes", sweep},
		{"sweep a long lane", sweepLong},
		{"sweep while the lane is worked", sweepWorked},
		{"retry a dead one", settleRetry},
		{"resolve an ambiguous one as delivered", settleDelivered},
		{"resolve an ambiguous one by sending again", settleResend},
		{"resolve an ambiguous one that another waits behind", settleBehind},
		{"resolve an ambiguous erasure", settleErasure},
		{"settle what cannot be settled", settleRefused},
		{"erase a call and its copies", erase},
		{"erase what is being sent", eraseSending},
		{"erase at one integration", eraseOne},
		{"erase twice, and what is not there", eraseAgain},
		{"erase while work is not allowed", eraseHeld},
		{"share again after an erasure", eraseThenShare},
		{"copies that expire", expire},
		{"a copy that is gone", copyGone},
	}
}

func sweep(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("copied", "x")
	w.drain()
	sending := w.acceptOne("sending", "x")
	l := w.claim()
	w.begin(l)
	must(w.Erase(t.Context(), w.org, "copied", "", actor))(t) // waits in the lane
	behind := w.acceptOne("sending", "y")
	w.enable("int_c", conA)
	waiting := w.accept("waiting", "y", w.share(intA), Share{Integration: "int_c", Connection: conA, Grant: 1, OK: true, Transfer: "tr_other"})[0]
	do := func(what Sweep, integ hub.IntegrationID, want int) {
		t.Helper()
		if n := must(w.SweepLane(t.Context(), w.org, conA, what, integ, "why", actor))(t); n != want {
			t.Errorf("%s %q changed %d, want %d", what, integ, n, want)
		}
		w.consistent()
	}
	do(SweepHold, intA, 3)
	do(SweepHold, intA, 0)
	if x := w.state(waiting, hub.StateHeld); x.Reason != "why" {
		t.Errorf("held because of %q", x.Reason)
	}
	w.state(behind, hub.StateHeld)
	w.state(sending, hub.StateSending)
	w.state("tr_other", hub.StateWaiting)
	do(SweepResume, "", 3)
	do(SweepResume, "", 0)
	w.state(waiting, hub.StateWaiting)
	if d := cmp.Diff([]string{"held", "resumed"}, w.types(waiting)); d != "" {
		t.Error(d)
	}
	do(SweepWithdraw, intA, 2)
	do(SweepWithdraw, intA, 0)
	if x := w.state(behind, hub.StateWithdrawn); x.Reason != "why" || x.FinishedAt.IsZero() {
		t.Errorf("withdrawn %+v", x)
	}
	w.state(waiting, hub.StateWithdrawn)
	w.state(sending, hub.StateSending)
	w.state("tr_other", hub.StateWaiting)
	w.deliver(l)
	w.drain()
	w.consistent()
	// The erasure was left alone.
	if cs := must(w.CopiesOfCall(t.Context(), w.org, "copied"))(t); len(cs) != 0 {
		t.Errorf("copies %+v, want none: the erasure must go", cs)
	}
}

func sweepLong(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	const n = 2*sweepChunk + 100
	rs := make([]AcceptRequest, n)
	version := w.version()
	for i := range rs {
		rs[i] = AcceptRequest{
			Org: w.org, Call: hub.CallID(fmt.Sprintf("c%d", i)), Version: version, Actor: actor, Token: hub.NewID("req"), Content: []byte("x"),
			Canonical: []byte("x"), Shares: []Share{w.share(intA)}, Answer: []byte("[]"), Limit: 2 * n, Retention: retention,
		}
	}
	for _, a := range h.AcceptAll(t.Context(), rs) {
		ok(t, a.Err)
	}
	for _, c := range []struct {
		what  Sweep
		state hub.TransferState
	}{{SweepHold, hub.StateHeld}, {SweepResume, hub.StateWaiting}, {SweepWithdraw, hub.StateWithdrawn}} {
		if got := must(w.SweepLane(t.Context(), w.org, conA, c.what, "", "why", actor))(t); got != n {
			t.Errorf("%s changed %d of %d", c.what, got, n)
		}
		if got := len(w.zset(indexKey(w.org, c.state))); got != n {
			t.Errorf("after %s %d are %s, want %d", c.what, got, c.state, n)
		}
	}
	if got := atoi(w.hash(orgKey(w.org))["open"]); got != 0 {
		t.Errorf("%d open", got)
	}
}

// Transfers leave the head of the lane while a sweep goes through it: none is
// passed over in the end.
func sweepWorked(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	for i := range 60 {
		w.acceptOne(hub.CallID(fmt.Sprintf("c%d", i)), "x")
	}
	l := w.claimWith(w.org, ClaimOptions{Batch: map[string]int{"*": 10}})
	w.begin(l)
	// By hand, in steps of 20, what SweepLane does in steps of 500.
	pass := func(between func()) int {
		changed := 0
		for from := int64(0); from >= 0; {
			v := list(must(w.run(t.Context(), w.scripts.sweepLane, "sweep lane", []string{orgKey(w.org)},
				string(w.org), string(conA), string(SweepHold), "", "why", actor, from, 20))(t))
			from, changed = num(v[0]), changed+int(num(v[1]))
			between()
		}
		return changed
	}
	once := func() {
		if len(l.Transfers) > 0 {
			w.deliver(l)
			l.Transfers = nil
		}
	}
	first := pass(once)
	second := pass(once)
	if first+second != 50 || pass(once) != 0 {
		t.Errorf("%d and %d held, want 50 together", first, second)
	}
	w.consistent()
}

// dead makes a dead transfer.
func (w *world) end(call hub.CallID, to hub.TransferState, typ audit.Type) hub.TransferID {
	w.tb.Helper()
	x := w.acceptOne(call, "of "+string(call))
	l := w.claim()
	w.begin(l)
	w.finish(l, Finish{Endings: []Ending{ended(x, to, typ, "why")}})
	w.state(x, to)
	return x
}

func settleRetry(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.end("c1", hub.StateDead, audit.TransferDead)
	ok(t, w.Settle(t.Context(), w.org, x, SettleRetry, actor))
	w.consistent()
	got := w.state(x, hub.StateWaiting)
	if got.Attempts != 0 || got.Reason != "" || !got.FinishedAt.IsZero() {
		t.Errorf("retried %+v", got)
	}
	w.drain()
	w.state(x, hub.StateDelivered)
	if d := cmp.Diff([]string{"begin", "dead", "replayed", "begin", "delivered"}, w.types(x)); d != "" {
		t.Error(d)
	}
	es := w.entries()
	i := slices.IndexFunc(es, func(e audit.Entry) bool { return e.Type == audit.TransferReplayed })
	if es[i].Actor != actor {
		t.Errorf("entry %+v, want it to say who", es[i])
	}
	w.consistent()
	// It begins anew: a second failure is one more entry, not a repeat.
	y := w.end("c2", hub.StateDead, audit.TransferDead)
	ok(t, w.Settle(t.Context(), w.org, y, SettleRetry, actor))
	l := w.claim()
	w.begin(l)
	w.finish(l, Finish{Endings: []Ending{ended(y, hub.StateDead, audit.TransferDead, "again")}})
	if x := w.state(y, hub.StateDead); x.Reason != "again" {
		t.Errorf("dead because of %q", x.Reason)
	}
	w.consistent()
}

func settleDelivered(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.end("c1", hub.StateAmbiguous, audit.TransferAmbiguous)
	ok(t, w.Settle(t.Context(), w.org, x, SettleDelivered, actor))
	w.state(x, hub.StateDelivered)
	w.consistent()
	cs := must(w.CopiesOfCall(t.Context(), w.org, "c1"))(t)
	if len(cs) != 1 || cs[0].Transfer != x || cs[0].Released != "" {
		t.Errorf("copies %+v, want one of which nothing is known", cs)
	}
	// What follows is an update, whatever it says.
	y := w.acceptOne("c1", "y")
	if got := w.transfer(y); got.Kind != hub.KindUpdate {
		t.Errorf("what follows is a %s", got.Kind)
	}
	w.drain()
	// An update that is said to have arrived: what the copy shows is not what it showed before.
	z := w.end("c1", hub.StateAmbiguous, audit.TransferAmbiguous)
	ok(t, w.Settle(t.Context(), w.org, z, SettleDelivered, actor))
	cs = must(w.CopiesOfCall(t.Context(), w.org, "c1"))(t)
	if len(cs) != 1 || cs[0].Transfer != z || cs[0].Released != "" || cs[0].Receipt["id"] != "rec_c1" {
		t.Errorf("copies %+v, want one with its receipt and nothing known of what it shows", cs)
	}
	w.consistent()
}

func settleResend(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.end("c1", hub.StateAmbiguous, audit.TransferAmbiguous)
	w.noLane()
	ok(t, w.Settle(t.Context(), w.org, x, SettleResend, actor))
	w.consistent()
	w.drain()
	if d := cmp.Diff([]string{"begin", "ambiguous", "resolved", "begin", "delivered"}, w.types(x)); d != "" {
		t.Error(d)
	}
	w.consistent()
}

func settleBehind(t *testing.T, h *harness) {
	for i, what := range []SettleWhat{SettleDelivered, SettleResend} {
		w := h.newWorld(hub.OrgID(fmt.Sprintf("org_%d", i)))
		x := w.end("c1", hub.StateAmbiguous, audit.TransferAmbiguous)
		y := w.acceptOne("c1", "y")
		w.noLane()
		w.consistent()
		ok(t, w.Settle(t.Context(), w.org, x, what, actor))
		w.consistent()
		want := hub.StateDelivered
		if what == SettleResend {
			want = hub.StateSuperseded
		}
		w.state(x, want)
		if got := w.drain(); !slices.Equal(got, []hub.TransferID{y}) {
			t.Errorf("%s: delivered %v, want %s", what, got, y)
		}
		w.consistent()
	}
}

func settleErasure(t *testing.T, h *harness) {
	for i, what := range []SettleWhat{SettleDelivered, SettleResend} {
		w := h.newWorld(hub.OrgID(fmt.Sprintf("org_%d", i)))
		made := w.acceptOne("c1", "x")
		w.drain()
		must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
		l := w.claim()
		w.begin(l)
		x := l.Transfers[0].ID
		w.finish(l, Finish{Endings: []Ending{ended(x, hub.StateAmbiguous, audit.TransferAmbiguous, "x")}})
		y := w.acceptOne("c1", "new")
		w.consistent()
		w.noLane()
		ok(t, w.Settle(t.Context(), w.org, x, what, actor))
		w.consistent()
		if what == SettleResend {
			l = w.claim()
			if len(l.Transfers) != 1 || l.Transfers[0].ID != x {
				t.Fatalf("claimed %v, want the erasure before what comes after it", idsOf(l))
			}
			w.begin(l)
			w.deliver(l)
		}
		w.state(x, hub.StateDelivered)
		w.state(made, hub.StateErased)
		w.drain()
		w.state(y, hub.StateDelivered)
		w.consistent()
	}
}

func settleRefused(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	waiting := w.acceptOne("c1", "x")
	ambiguous := w.end("c2", hub.StateAmbiguous, audit.TransferAmbiguous)
	dead := w.end("c3", hub.StateDead, audit.TransferDead)
	overtaken := w.end("c4", hub.StateDead, audit.TransferDead)
	w.acceptOne("c4", "newer")
	n := len(w.entries())
	for _, c := range []struct {
		id   hub.TransferID
		what SettleWhat
		want error
	}{
		{"tr_nobody", SettleRetry, ErrNotFound},
		{waiting, SettleRetry, ErrState},
		{waiting, SettleDelivered, ErrState},
		{ambiguous, SettleRetry, ErrState},
		{dead, SettleResend, ErrState},
		{dead, SettleDelivered, ErrState},
		{overtaken, SettleRetry, ErrBlocked},
	} {
		if err := w.Settle(t.Context(), w.org, c.id, c.what, actor); !errors.Is(err, c.want) {
			t.Errorf("%s of %s: %v, want %v", c.what, c.id, err, c.want)
		}
	}
	if len(w.entries()) != n {
		t.Error("what was refused was audited")
	}
	w.consistent()
}

func erase(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	first := w.accept("c1", "one", w.share(intA), w.share(intB))
	w.drain()
	second := w.accept("c1", "two", w.share(intA), w.share(intB))
	w.drain()
	waits := w.accept("c1", "three", w.share(intA), w.share(intB))
	id := must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
	for _, x := range waits {
		if got := w.state(x, hub.StateWithdrawn); got.Reason != "erased" {
			t.Errorf("withdrawn because of %q", got.Reason)
		}
	}
	w.consistent()
	if _, _, err := w.Content(t.Context(), w.org, "c1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("erased content: %v, want ErrNotFound", err)
	}
	c := must(w.Call(t.Context(), w.org, "c1"))(t)
	if c.Erased != id || c.Forgotten || len(c.Transfers) != 8 {
		t.Errorf("call %+v with %d transfers", c, len(c.Transfers))
	}
	for range 2 {
		l := w.claim()
		if x := l.Transfers[0]; x.Kind != hub.KindErase || x.Copy == nil || x.Copy.Receipt["id"] != "rec_c1" || x.Content != nil {
			t.Errorf("claimed %+v", x)
		}
		w.begin(l)
		w.deliver(l)
	}
	for _, x := range append(first, second...) {
		w.state(x, hub.StateErased)
	}
	if cs := must(w.CopiesOfCall(t.Context(), w.org, "c1"))(t); len(cs) != 0 {
		t.Errorf("copies %+v", cs)
	}
	es, _, err := w.Audit(t.Context(), w.org, AuditFilter{Type: audit.CallErased}, Page{Limit: 10})
	if err != nil || len(es) != 1 || es[0].Subject != id || es[0].Count != 2 || es[0].Actor != actor {
		t.Errorf("entries %+v, %v", es, err)
	}
	w.consistent()
}

func eraseSending(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "one")
	l := w.claim()
	w.begin(l)
	y := w.acceptOne("c1", "two")
	must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
	w.state(y, hub.StateWithdrawn)
	w.consistent()
	w.deliver(l)
	w.consistent()
	l = w.claim()
	if c := l.Transfers[0]; c.Kind != hub.KindErase || c.Copy == nil {
		t.Fatalf("claimed %+v, want an erasure of the copy just made", c)
	}
	w.begin(l)
	w.deliver(l)
	w.state(x, hub.StateErased)
	w.consistent()
	// The same behind one that is ambiguous.
	z := w.end("c2", hub.StateAmbiguous, audit.TransferAmbiguous)
	must(w.Erase(t.Context(), w.org, "c2", "", actor))(t)
	w.noLane()
	w.consistent()
	ok(t, w.Settle(t.Context(), w.org, z, SettleDelivered, actor))
	w.drain()
	w.state(z, hub.StateErased)
	w.consistent()
}

func eraseOne(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	xs := w.accept("c1", "one", w.share(intA), w.share(intB))
	w.drain()
	must(w.Erase(t.Context(), w.org, "c1", intA, "hub"))(t)
	w.drain()
	w.state(xs[0], hub.StateErased)
	w.state(xs[1], hub.StateDelivered)
	content, _, err := w.Content(t.Context(), w.org, "c1")
	if err != nil || string(content) != "one" {
		t.Errorf("content %q, %v", content, err)
	}
	if c := must(w.Call(t.Context(), w.org, "c1"))(t); c.Erased != "" {
		t.Errorf("the call is erased as %s", c.Erased)
	}
	w.consistent()
	// Then of the whole call: one copy is left.
	must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
	if got := len(w.drain()); got != 1 {
		t.Errorf("%d erasures, want 1", got)
	}
	w.consistent()
}

func eraseAgain(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "one")
	w.drain()
	first := must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
	n := len(w.entries())
	if again := must(w.Erase(t.Context(), w.org, "c1", "", actor))(t); again != first {
		t.Errorf("erased as %s, then as %s", first, again)
	}
	if len(w.entries()) != n {
		t.Error("the second erasure wrote to the audit log")
	}
	if _, err := w.Erase(t.Context(), w.org, "nobody", "", actor); !errors.Is(err, ErrNotFound) {
		t.Errorf("erase an unknown call: %v, want ErrNotFound", err)
	}
	w.drain()
	w.consistent()
	// One that was never shared has no copies.
	w.accept("c2", "x", withhold(w.share(intA), "private_call"))
	must(w.Erase(t.Context(), w.org, "c2", "", actor))(t)
	w.noLane()
	// One whose erasure is dead is erased anew.
	w.acceptOne("c3", "x")
	w.drain()
	must(w.Erase(t.Context(), w.org, "c3", intA, actor))(t)
	l := w.claim()
	w.begin(l)
	w.finish(l, Finish{Endings: []Ending{ended(l.Transfers[0].ID, hub.StateDead, audit.TransferDead, "x")}})
	w.consistent()
	must(w.Erase(t.Context(), w.org, "c3", intA, actor))(t)
	must(w.Erase(t.Context(), w.org, "c3", intA, actor))(t)
	if got := len(w.drain()); got != 1 {
		t.Errorf("%d erasures, want 1", got)
	}
	w.consistent()
}

func eraseHeld(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "one")
	w.drain()
	w.connState(conA, hub.NeedsReauth, audit.ConnectionBroken)
	must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
	w.noLane()
	ts, _, err := w.Transfers(t.Context(), w.org, TransferFilter{State: hub.StateHeld}, Page{Limit: 9})
	if err != nil || len(ts) != 1 || ts[0].Kind != hub.KindErase || ts[0].Reason != "connection_broken" {
		t.Fatalf("held: %+v, %v; want the erasure", ts, err)
	}
	w.consistent()
	ok(t, w.Tokens(actor).InstallTokens(t.Context(), w.org, conA, "slack", 2, []byte("new")))
	must(w.SweepLane(t.Context(), w.org, conA, SweepResume, "", "", actor))(t)
	w.consistent()
	if got := len(w.drain()); got != 1 {
		t.Errorf("%d delivered, want the erasure", got)
	}
	w.consistent()
}

func eraseThenShare(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "one")
	w.drain()
	must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
	// The producer sends the call again: the erasure goes first, then a new copy is made.
	y := w.acceptOne("c1", "one")
	if c := must(w.Call(t.Context(), w.org, "c1"))(t); c.Erased != "" || c.Revision != 2 {
		t.Errorf("call %+v", c)
	}
	w.consistent()
	got := w.drain()
	if len(got) != 2 || got[1] != y {
		t.Errorf("delivered %v, want the erasure and %s", got, y)
	}
	w.state(x, hub.StateErased)
	w.state(y, hub.StateDelivered)
	if k := w.hash(xferKey(w.org, y))["k"]; k != "share" {
		t.Errorf("after the erasure it was a %s, want a share", k)
	}
	w.consistent()
}

func expire(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	deliver := func(call hub.CallID, after time.Duration) {
		w.acceptOne(call, "x"+after.String())
		l := w.claim()
		w.begin(l)
		e := delivered(l.Transfers[0])
		e.Expire = after
		w.finish(l, Finish{Endings: []Ending{e}})
	}
	deliver("never", 0)
	deliver("late", time.Hour)
	deliver("soon", shortLease)
	deliver("stays", shortLease)
	deliver("stays", 0) // written again under a grant that lets it stay
	expired := func() []Expiry { return must(h.Expired(t.Context(), w.org.Shard(), 10))(t) }
	h.pass(afterShort)
	want := []Expiry{{w.org, "soon", intA}}
	if d := cmp.Diff(want, expired()); d != "" {
		t.Error(d)
	}
	if got := expired(); len(got) != 0 {
		t.Errorf("given out at once again: %v", got)
	}
	must(w.Erase(t.Context(), w.org, "soon", intA, "hub"))(t)
	ok(t, h.ExpiryDone(t.Context(), want[0]))
	w.drain()
	if cs := must(w.CopiesOfCall(t.Context(), w.org, "soon"))(t); len(cs) != 0 {
		t.Errorf("copies %v", cs)
	}
	// A copy that is erased for another reason expires no more.
	must(w.Erase(t.Context(), w.org, "late", "", actor))(t)
	w.drain()
	if left := w.zset(prefix(w.org) + "expire"); len(left) != 0 {
		t.Errorf("to expire: %v", left)
	}
	w.consistent()
}

func copyGone(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "x")
	w.drain()
	x := w.acceptOne("c1", "y")
	l := w.claim()
	w.begin(l)
	e := ended(x, hub.StateDead, audit.TransferDead, "removed_at_provider")
	e.Gone = true
	w.finish(l, Finish{Endings: []Ending{e}})
	if cs := must(w.CopiesOfCall(t.Context(), w.org, "c1"))(t); len(cs) != 0 {
		t.Errorf("copies %v", cs)
	}
	w.consistent()
}
