package store

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
)

func acceptCases() []testCase {
	return []testCase{
		{"accept a new call", acceptNew},
		{"accept the same content again", acceptUnchanged},
		{"accept a correction of what waits", acceptCorrectionWaiting},
		{"accept a correction of what is being sent", acceptCorrectionSending},
		{"accept a correction of what is delivered", acceptCorrectionDelivered},
		{"accept a correction that is withheld", acceptCorrectionWithheld},
		{"accept behind what was withdrawn behind another one", acceptBehindWithdrawn},
		{"accept the same request twice", acceptTwice},
		{"accept the same request after a change and a correction", acceptLate},
		{"accept with an idempotency key", acceptIdempotent},
		{"accept on an old configuration", acceptStale},
		{"accept beyond the limit", acceptFull},
		{"accept for an unknown org", acceptUnknownOrg},
		{"accept while the org or the connection is not well", acceptHeld},
		{"accept several calls at once", acceptAll},
		{"forget content when its time is over", sweepCalls},
		{"orgs are apart", tenancy},
	}
}

type answered struct {
	CallID   string `json:"call_id"`
	Revision int    `json:"revision"`
	Status   string `json:"status"`
	Shares   []struct {
		Integration string `json:"integration_id"`
		Transfer    string `json:"transfer_id"`
	} `json:"shares"`
}

func answerOf(tb testing.TB, r AcceptResult) answered {
	tb.Helper()
	var a answered
	if err := json.Unmarshal(r.Answer, &a); err != nil {
		tb.Fatalf("answer %s: %v", r.Answer, err)
	}
	return a
}

func acceptNew(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	a, b := w.share(intA), withhold(w.share(intB), "rule_not_matched")
	r := must(w.Accept(t.Context(), w.request("c1", "hello", a, b)))(t)
	got := answerOf(t, r)
	if r.Status != "accepted" || r.Replay || got.CallID != "c1" || got.Revision != 1 || got.Status != "accepted" ||
		got.Shares[0].Transfer != string(a.Transfer) {
		t.Fatalf("answer %+v of %+v", got, r)
	}
	x := w.state(a.Transfer, hub.StateWaiting)
	if x.Call != "c1" || x.Revision != 1 || x.Kind != hub.KindShare || x.Grant != 1 || x.Connection != conA || x.Attempts != 0 || x.CreatedAt.IsZero() {
		t.Errorf("transfer %+v", x)
	}
	content, rev, err := w.Content(t.Context(), w.org, "c1")
	if err != nil || string(content) != "hello" || rev != 1 {
		t.Errorf("content %q, revision %d, %v", content, rev, err)
	}
	es := w.entries()
	var types []string
	for _, e := range es[len(es)-2:] {
		types = append(types, string(e.Type)+" "+string(e.Integration)+" "+e.Reason)
	}
	if d := cmp.Diff([]string{"call.accepted  ", "share.withheld int_b rule_not_matched"}, types); d != "" {
		t.Error(d)
	}
	for k, v := range w.hash(callKey(w.org, "c1")) {
		if strings.Contains(v, "hello") {
			t.Errorf("field %s of the call holds content in clear", k)
		}
	}
	w.consistent()
}

func acceptUnchanged(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	x := w.acceptOne("c1", "hello")
	n := len(w.entries())
	r := must(w.Accept(t.Context(), w.request("c1", "hello", w.share(intA))))(t)
	got := answerOf(t, r)
	if r.Status != "unchanged" || got.Status != "unchanged" || got.Revision != 1 || got.Shares[0].Transfer != string(x) {
		t.Errorf("answer %+v of %+v, want that of the first", got, r)
	}
	if len(w.entries()) != n {
		t.Error("an unchanged call wrote to the audit log")
	}
	w.consistent()
}

func acceptCorrectionWaiting(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	one := w.acceptOne("c1", "one")
	two := w.acceptOne("c1", "two")
	w.state(one, hub.StateSuperseded)
	w.consistent()
	if got := w.drain(); !slices.Equal(got, []hub.TransferID{two}) {
		t.Errorf("delivered %v, want %s alone", got, two)
	}
	if x := w.state(two, hub.StateDelivered); x.Kind != hub.KindShare || x.Revision != 2 {
		t.Errorf("the correction of what never left is %+v, want a share of revision 2", x)
	}
	w.consistent()
}

func acceptCorrectionSending(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	one := w.acceptOne("c1", "one")
	l := w.claim()
	w.begin(l)
	two := w.acceptOne("c1", "two")
	three := w.acceptOne("c1", "three")
	w.state(two, hub.StateSuperseded)
	if x := w.state(three, hub.StateWaiting); x.After != one {
		t.Errorf("the correction waits behind %q, want %s", x.After, one)
	}
	w.consistent()
	// The lane is free again, but what is behind must wait for the outcome.
	w.finish(l, Finish{Endings: []Ending{{Transfer: one, To: hub.StateSending, Delay: never}}})
	w.noLane()
	w.consistent()
	w.finish(l, Finish{Endings: []Ending{delivered(l.Transfers[0])}})
	w.consistent()
	if got := w.drain(); !slices.Equal(got, []hub.TransferID{three}) {
		t.Errorf("delivered %v, want %s", got, three)
	}
	if x := w.transfer(three); x.Kind != hub.KindUpdate {
		t.Errorf("the correction was a %s, want an update", x.Kind)
	}
	w.consistent()
}

func acceptCorrectionDelivered(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "one")
	w.drain()
	two := w.acceptOne("c1", "two")
	if x := w.transfer(two); x.Kind != hub.KindUpdate {
		t.Errorf("the correction is a %s, want an update", x.Kind)
	}
	l := w.claim()
	if c := l.Transfers[0]; c.Copy == nil || c.Copy.Receipt["id"] != "rec_c1" || string(c.Content) != "two" || c.Latest != 2 {
		t.Errorf("claimed %+v with copy %+v", c, c.Copy)
	}
	w.consistent()
}

func acceptCorrectionWithheld(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	one := w.acceptOne("c1", "one")
	w.accept("c1", "two", withhold(w.share(intA), "private_call"))
	if x := w.state(one, hub.StateWithdrawn); x.Reason != "private_call" {
		t.Errorf("withdrawn because of %q", x.Reason)
	}
	w.consistent()
	w.noLane()
}

// A transfer that waited behind one that is being sent is withdrawn. What comes
// next must wait for the one that is being sent.
func acceptBehindWithdrawn(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	one := w.acceptOne("c1", "one")
	l := w.claim()
	w.begin(l)
	two := w.acceptOne("c1", "two")
	w.accept("c1", "three", withhold(w.share(intA), "private_call"))
	w.state(two, hub.StateWithdrawn)
	w.consistent()
	four := w.acceptOne("c1", "four")
	if x := w.transfer(four); x.After != one {
		t.Fatalf("the fourth revision waits behind %q, want %s, which is being sent", x.After, one)
	}
	must(w.SweepLane(t.Context(), w.org, conA, SweepWithdraw, intA, "not_enabled", actor))(t)
	w.state(four, hub.StateWithdrawn)
	w.consistent()
	five := w.acceptOne("c1", "five")
	if x := w.transfer(five); x.After != one {
		t.Fatalf("the fifth revision waits behind %q, want %s", x.After, one)
	}
	w.deliver(l)
	if got := w.drain(); !slices.Equal(got, []hub.TransferID{five}) {
		t.Errorf("delivered %v, want %s", got, five)
	}
	w.consistent()
}

func acceptTwice(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	r := w.request("c1", "hello", w.share(intA), w.share(intB))
	first := must(w.Accept(t.Context(), r))(t)
	n := len(w.entries())
	second := must(w.Accept(t.Context(), r))(t)
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("the same request got another answer: %s", d)
	}
	if len(w.entries()) != n {
		t.Error("the same request had two effects")
	}
	w.consistent()
}

func acceptLate(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	r := w.request("c1", "one", w.share(intA))
	must(w.Accept(t.Context(), r))(t)
	w.acceptOne("c1", "two")
	w.disable(intB) // another version of the configuration
	n := len(w.entries())
	late := must(w.Accept(t.Context(), r))(t)
	if got := answerOf(t, late); late.Status != "accepted" || got.Revision != 1 {
		t.Errorf("the repeat was answered %+v", got)
	}
	content, rev, err := w.Content(t.Context(), w.org, "c1")
	if err != nil || rev != 2 || string(content) != "two" || len(w.entries()) != n {
		t.Errorf("the repeat had an effect: revision %d, %q, %v", rev, content, err)
	}
	w.consistent()
	// A repeat does not bring back what was erased meanwhile.
	must(w.Erase(t.Context(), w.org, "c1", "", actor))(t)
	must(w.Accept(t.Context(), r))(t)
	if c := must(w.Call(t.Context(), w.org, "c1"))(t); c.Erased == "" || c.Revision != 2 {
		t.Errorf("after the repeat the erased call is %+v", c)
	}
}

func acceptIdempotent(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	request := func(content, key, body string) AcceptRequest {
		r := w.request("c1", content, w.share(intA))
		r.IdempotencyKey, r.Body, r.IdempotencyTTL = key, []byte(body), time.Hour
		return r
	}
	first := must(w.Accept(t.Context(), request("one", "key 1\n", "body")))(t)
	n := len(w.entries())
	again := must(w.Accept(t.Context(), request("one", "key 1\n", "body")))(t)
	if !again.Replay || again.Status != "accepted" || string(again.Answer) != string(first.Answer) {
		t.Errorf("replay %+v of %+v", again, first)
	}
	// The answer stays what it was when another revision has come since.
	w.acceptOne("c1", "two")
	if again = must(w.Accept(t.Context(), request("one", "key 1\n", "body")))(t); !again.Replay || string(again.Answer) != string(first.Answer) {
		t.Errorf("replay %+v of %+v", again, first)
	}
	if _, err := w.Accept(t.Context(), request("one", "key 1\n", "other body")); !errors.Is(err, ErrKeyReused) {
		t.Errorf("another body: %v, want ErrKeyReused", err)
	}
	// An unchanged call's answer is kept as well.
	same := must(w.Accept(t.Context(), request("two", "key 2", "body")))(t)
	if again = must(w.Accept(t.Context(), request("two", "key 2", "body")))(t); same.Status != "unchanged" || again.Status != "unchanged" ||
		!again.Replay || string(again.Answer) != string(same.Answer) {
		t.Errorf("replay %+v of %+v", again, same)
	}
	if got := len(w.entries()) - n; got != 2 {
		t.Errorf("%d audit entries since the first answer, want 2 of the second revision", got)
	}
	// Another org's keys are its own.
	other := h.newWorld("org_b")
	r := other.request("c1", "one", other.share(intA))
	r.IdempotencyKey, r.Body, r.IdempotencyTTL = "key 1\n", []byte("other body"), time.Hour
	if got := must(other.Accept(t.Context(), r))(t); got.Replay {
		t.Error("an org's key was known to another org")
	}
	w.consistent()
}

func acceptStale(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	r := w.request("c1", "hello", w.share(intA))
	w.disable(intA)
	if _, err := w.Accept(t.Context(), r); !errors.Is(err, ErrStale) {
		t.Fatalf("accept on an old configuration: %v, want ErrStale", err)
	}
	if _, err := w.Call(t.Context(), w.org, "c1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a refused call: %v, want ErrNotFound", err)
	}
	w.consistent()
}

func acceptFull(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "hello")
	r := w.request("c2", "hello", w.share(intA), w.share(intB))
	r.Limit = 2
	got := must(w.Accept(t.Context(), r))(t)
	if got.Full != 1 || got.Status != "" {
		t.Fatalf("beyond the limit: %+v, want Full 1", got)
	}
	if _, err := w.Call(t.Context(), w.org, "c2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a refused call: %v, want ErrNotFound", err)
	}
	r.Limit = 3
	if got = must(w.Accept(t.Context(), r))(t); got.Status != "accepted" {
		t.Errorf("at the limit: %+v", got)
	}
	// A call that nothing is shared of needs no room.
	r = w.request("c3", "hello", withhold(w.share(intA), "private_call"))
	r.Limit = 1
	if got = must(w.Accept(t.Context(), r))(t); got.Status != "accepted" {
		t.Errorf("a withheld call beyond the limit: %+v", got)
	}
	w.consistent()
}

func acceptUnknownOrg(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	r := w.request("c1", "hello", w.share(intA))
	r.Org = "org_nobody"
	if _, err := h.Accept(t.Context(), r); !errors.Is(err, ErrNotFound) {
		t.Errorf("accept for an unknown org: %v, want ErrNotFound", err)
	}
}

func acceptHeld(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.connState(conA, hub.NeedsReauth, audit.ConnectionBroken)
	a := w.acceptOne("c1", "hello")
	if x := w.state(a, hub.StateHeld); x.Reason != "connection_broken" {
		t.Errorf("held because of %q", x.Reason)
	}
	w.orgState(hub.OrgSuspended)
	b := w.accept("c2", "hello", w.share(intB))[0]
	if x := w.state(b, hub.StateHeld); x.Reason != "org_suspended" {
		t.Errorf("held because of %q", x.Reason)
	}
	w.consistent()
	w.noLane()
	w.orgState(hub.OrgActive)
	must(w.SweepLane(t.Context(), w.org, conB, SweepResume, "", "", actor))(t)
	w.consistent()
	if got := w.drain(); !slices.Equal(got, []hub.TransferID{b}) {
		t.Errorf("delivered %v, want %s: the connection of %s is broken still", got, b, a)
	}
	w.connState(conA, hub.Connected, audit.ConnectionRepaired)
	must(w.SweepLane(t.Context(), w.org, conA, SweepResume, "", "", actor))(t)
	if got := w.drain(); !slices.Equal(got, []hub.TransferID{a}) {
		t.Errorf("delivered %v, want %s", got, a)
	}
	w.consistent()
}

func acceptAll(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	rs := []AcceptRequest{
		w.request("c1", "one", w.share(intA)), w.request("c2", "two", w.share(intA)),
		w.request("c1", "one, corrected", w.share(intA)), w.request("c2", "two", w.share(intA)),
	}
	rs[1].Version--
	var got []string
	for _, a := range h.AcceptAll(t.Context(), rs) {
		s := a.Status
		if a.Err != nil {
			s = a.Err.Error()
		}
		got = append(got, s)
	}
	if d := cmp.Diff([]string{"accepted", ErrStale.Error(), "accepted", "accepted"}, got); d != "" {
		t.Error(d)
	}
	if c := must(w.Call(t.Context(), w.org, "c1"))(t); c.Revision != 2 {
		t.Errorf("call %+v, want revision 2", c)
	}
	w.consistent()
	if got := h.AcceptAll(t.Context(), nil); len(got) != 0 {
		t.Errorf("no calls: %v", got)
	}
	bad := w.request("c9", "x")
	bad.Org = "org_nobody"
	for _, a := range h.AcceptAll(t.Context(), []AcceptRequest{bad, bad}) {
		if !errors.Is(a.Err, ErrNotFound) {
			t.Errorf("for an unknown org: %v", a.Err)
		}
	}
}

func sweepCalls(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	accept := func(call hub.CallID, retain time.Duration, shares ...Share) {
		r := w.request(call, "hello", shares...)
		r.Retention = retain
		must(w.Accept(t.Context(), r))(t)
	}
	sweep := func() int { return must(h.SweepCalls(t.Context(), w.org.Shard(), 100))(t) }
	forgotten := func(call hub.CallID) bool { return must(w.Call(t.Context(), w.org, call))(t).Forgotten }
	accept("short", shortLease)
	accept("busy", shortLease, w.share(intA))
	accept("long", time.Hour)
	if n := sweep(); n > 1 {
		t.Errorf("%d forgotten at once", n)
	}
	h.pass(afterShort)
	sweep()
	if !forgotten("short") || forgotten("long") || forgotten("busy") {
		t.Errorf("forgotten: short %v, long %v, busy %v; want short alone", forgotten("short"), forgotten("long"), forgotten("busy"))
	}
	if _, _, err := w.Content(t.Context(), w.org, "short"); !errors.Is(err, ErrNotFound) {
		t.Errorf("forgotten content: %v, want ErrNotFound", err)
	}
	// What is kept for its transfers is kept for its time after the last of them.
	w.drain()
	h.pass(afterShort)
	sweep()
	if !forgotten("busy") {
		t.Error("the call is kept although its last transfer ended long ago")
	}
	// Forgotten content that comes again is new.
	if r := must(w.Accept(t.Context(), w.request("short", "hello")))(t); r.Status != "accepted" {
		t.Errorf("a forgotten call that comes again: %s", r.Status)
	}
	w.consistent()
}

// I7: nothing of an org is seen or changed with another org's id.
func tenancy(t *testing.T, h *harness) {
	a, b := h.newWorld("org_a"), h.newWorld("org_b")
	x := a.acceptOne("c1", "of a")
	b.acceptOne("c1", "of b")
	a.drain()
	b.drain()
	before := len(a.entries())
	for name, err := range map[string]error{
		"transfer": errOf(b.Transfer(t.Context(), b.org, x)),
		"settle":   b.Settle(t.Context(), b.org, x, SettleRetry, actor),
		"call":     errOf(b.Call(t.Context(), b.org, "only of a")),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of the other org: %v, want ErrNotFound", name, err)
		}
	}
	ts, _, err := b.Transfers(t.Context(), b.org, TransferFilter{}, Page{Limit: 10})
	if err != nil || len(ts) != 1 || ts[0].ID == x {
		t.Errorf("transfers of b: %v, %v", ts, err)
	}
	content, _, err := b.Content(t.Context(), b.org, "c1")
	if err != nil || string(content) != "of b" {
		t.Errorf("content of b: %q, %v", content, err)
	}
	must(b.Erase(t.Context(), b.org, "c1", "", actor))(t)
	b.drain()
	cs := must(a.CopiesOfCall(t.Context(), a.org, "c1"))(t)
	if len(cs) != 1 || len(a.entries()) != before {
		t.Errorf("erasing b's call touched a's: %v", cs)
	}
	// Content moved to the other org does not open there.
	sealed := a.hash(callKey(a.org, "c1"))["ct"]
	b.acceptOne("c2", "of b")
	ok(t, h.rdb.HSet(t.Context(), callKey(b.org, "c2"), "ct", sealed).Err())
	if _, _, err := b.Content(t.Context(), b.org, "c2"); err == nil {
		t.Error("content of a opened in b")
	}
	// It does not keep the lane from moving either.
	l := b.claim()
	if len(l.Transfers) != 1 || !l.Transfers[0].Unreadable || l.Transfers[0].Content != nil {
		t.Errorf("claimed %+v, want one that is unreadable", l.Transfers)
	}
}

func errOf[T any](_ T, err error) error { return err }
