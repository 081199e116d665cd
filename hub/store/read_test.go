package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
)

func readCases() []testCase {
	return []testCase{
		{"list transfers", listTransfers},
		{"list transfers of one moment", listTies},
		{"list a call's transfers", listOfCall},
		{"read the audit log", readAudit},
		{"audit ids are gapless under load", auditLoad},
		{"copies", copies},
		{"copies that concern a person", copiesOfSubject},
		{"what is not there", notThere},
		{"cursors of others", wrongCursors},
		{"writable, clock", writable},
	}
}

// pages reads a list to its end in pages of n.
func pages[T any](tb testing.TB, n int, read func(Page) ([]T, string, error)) []T {
	tb.Helper()
	var out []T
	cursor := ""
	for range 1000 {
		got, next, err := read(Page{Cursor: cursor, Limit: n})
		ok(tb, err)
		if len(got) > n {
			tb.Fatalf("%d on a page of %d", len(got), n)
		}
		out = append(out, got...)
		if next == "" {
			return out
		}
		cursor = next
	}
	tb.Fatal("the list never ends")
	return nil
}

func listTransfers(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	var all []hub.TransferID
	for i := range 25 {
		integ := intA
		if i%5 == 0 {
			integ = intB
		}
		all = append(all, w.accept(hub.CallID(fmt.Sprintf("c%d", i)), "x", w.share(integ))...)
		h.pass(time.Millisecond)
	}
	l := w.claimWith(w.org, ClaimOptions{Batch: map[string]int{"*": 3}})
	w.begin(l)
	w.finish(l, Finish{Endings: []Ending{
		ended(l.Transfers[0].ID, hub.StateDead, audit.TransferDead, "x"), delivered(l.Transfers[1]),
	}})
	slices.Reverse(all)
	for _, n := range []int{1, 4, 25, 100} {
		for _, f := range []TransferFilter{
			{},
			{Integration: intA},
			{Integration: intB},
			{State: hub.StateWaiting},
			{State: hub.StateDead},
			{State: hub.StateSending},
			{State: hub.StateDelivered},
			{State: hub.StateHeld},
			{State: hub.StateErased},
			{State: hub.StateWaiting, Integration: intB},
			{Call: "c3"},
			{Call: "c3", Integration: intB},
			{Call: "nobody"},
		} {
			var got, want []hub.TransferID
			for _, x := range pages(t, n, func(p Page) ([]Transfer, string, error) { return w.Transfers(t.Context(), w.org, f, p) }) {
				got = append(got, x.ID)
			}
			for _, id := range all {
				if f.wants(w.transfer(id)) {
					want = append(want, id)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%+v in pages of %d: %s", f, n, d)
			}
		}
	}
	w.consistent()
}

// Transfers made in the same millisecond: none is left out at the edge of a
// page, none comes twice.
func listTies(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	index := indexKey(w.org, "")
	want := map[hub.TransferID]bool{}
	for i := range 40 {
		id := w.acceptOne(hub.CallID(fmt.Sprintf("c%d", i)), "x")
		want[id] = true
		ok(t, h.rdb.ZAddXX(t.Context(), index, zOf(float64(1000+i/15), string(id))).Err())
	}
	for _, n := range []int{1, 7, 15} {
		got := map[hub.TransferID]bool{}
		list := pages(t, n, func(p Page) ([]Transfer, string, error) { return w.Transfers(t.Context(), w.org, TransferFilter{}, p) })
		for _, x := range list {
			got[x.ID] = true
		}
		if len(list) != len(want) || len(got) != len(want) {
			t.Errorf("in pages of %d: %d, %d of them different; want %d", n, len(list), len(got), len(want))
		}
	}
}

func listOfCall(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	var want []hub.TransferID
	for i := range 7 {
		want = append(want, w.acceptOne("c1", fmt.Sprint(i)))
	}
	slices.Reverse(want)
	for _, n := range []int{1, 3, 7, 8} {
		var got []hub.TransferID
		for _, x := range pages(t, n, func(p Page) ([]Transfer, string, error) {
			return w.Transfers(t.Context(), w.org, TransferFilter{Call: "c1"}, p)
		}) {
			got = append(got, x.ID)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("in pages of %d: %s", n, d)
		}
	}
	c := must(w.Call(t.Context(), w.org, "c1"))(t)
	if len(c.Transfers) != 7 || c.Transfers[0].ID != want[0] || c.Revision != 7 || c.At.IsZero() {
		t.Errorf("call %+v", c)
	}
}

func readAudit(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	for i := range 6 {
		w.accept(hub.CallID(fmt.Sprintf("c%d", i)), "x", w.share(intA), withhold(w.share(intB), "no_route"))
	}
	w.drain()
	all := w.entries()
	for _, n := range []int{1, 3, 50, 500} {
		for _, f := range []AuditFilter{
			{},
			{Type: audit.CallAccepted},
			{Type: "transfer."},
			{Type: "transfer"},
			{Integration: intB},
			{Call: "c2"},
			{Type: audit.ShareWithheld, Call: "c2"},
			{Type: audit.TransferBegin, Integration: intB},
		} {
			var want []audit.Entry
			for _, e := range all {
				if f.wants(e) {
					want = append(want, e)
				}
			}
			got := pages(t, n, func(p Page) ([]audit.Entry, string, error) { return w.Audit(t.Context(), w.org, f, p) })
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%+v in pages of %d: %s", f, n, d)
			}
		}
	}
	if got := must3(w.Audit(t.Context(), w.org, AuditFilter{Type: "transfer."}, Page{Limit: 100}))(t); len(got) != 12 {
		t.Errorf("%d entries about transfers, want 12", len(got))
	}
	// Reading goes on where it ended.
	last := all[len(all)-1].ID
	if got := must3(w.Audit(t.Context(), w.org, AuditFilter{}, Page{Cursor: last, Limit: 10}))(t); len(got) != 0 {
		t.Errorf("after the last entry: %v", got)
	}
	w.acceptOne("later", "x")
	got := must3(w.Audit(t.Context(), w.org, AuditFilter{}, Page{Cursor: last, Limit: 10}))(t)
	if len(got) != 1 || got[0].Type != audit.CallAccepted || got[0].Call != "later" {
		t.Errorf("after the last entry: %v", got)
	}
	// What an entry carries comes back whole.
	whole := audit.Entry{
		Type: audit.IntegrationPreviewed, Actor: actor, Call: "c1", Revision: 2, Integration: intA, Connection: conA, Transfer: "tr_1",
		Grant: 3, Kind: hub.KindUpdate, Attempt: 4, Reason: "why", Fields: []string{"title", "custom.x"}, Digest: "abc", Count: 5, Subject: "key_1",
	}
	version, n := w.version(), len(w.entries())
	for range 2 {
		ok(t, w.Audited(t.Context(), w.org, "tok_1", whole))
	}
	es := w.entries()
	read := es[len(es)-1]
	if read.At.IsZero() || len(es) != n+1 {
		t.Errorf("entry %+v; %d entries more", read, len(es)-n)
	}
	read.ID, read.At = "", time.Time{}
	if d := cmp.Diff(whole, read); d != "" {
		t.Error(d)
	}
	if w.version() != version {
		t.Error("an entry made a new version of the configuration")
	}
	if err := w.Audited(t.Context(), "org_nobody", "t", whole); !errors.Is(err, ErrNotFound) {
		t.Errorf("an entry for an unknown org: %v", err)
	}
	w.consistent()
}

func must3[T any](v T, _ string, err error) func(tester) T { return must(v, err) }

func auditLoad(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 15 {
				if _, err := w.Accept(t.Context(), w.request(hub.CallID(fmt.Sprintf("c%d-%d", g, i)), "x", w.share(intA), withhold(w.share(intB), "no_route"))); err != nil {
					t.Error(err)
				}
				if err := w.Audited(t.Context(), w.org, hub.NewID("tok"), audit.Entry{Type: audit.IntegrationPreviewed, Actor: actor}); err != nil {
					t.Error(err)
				}
				if i%5 == 0 {
					if l := w.claimWith(w.org, ClaimOptions{}); l != nil {
						w.begin(l)
						w.deliver(l)
					}
				}
			}
		})
	}
	wg.Wait()
	w.drain()
	w.consistent()
}

func copies(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	for i := range 5 {
		w.accept(hub.CallID(fmt.Sprintf("c%d", i)), "x", w.share(intA), w.share(intB))
		w.drain()
		h.pass(time.Millisecond)
	}
	w.acceptOne("c0", "y")
	w.drain()
	cs := must(w.CopiesOfCall(t.Context(), w.org, "c0"))(t)
	if len(cs) != 2 {
		t.Fatalf("copies %+v", cs)
	}
	released := must(w.ReleasedDigest(t.Context(), w.org, []byte("y")))(t)
	want := Copy{
		Call: "c0", Integration: intA, Connection: conA, Transfer: cs[0].Transfer, Revision: 2, Grant: 1,
		Receipt: cs[0].Receipt, Released: released, Payload: cs[0].Payload, At: cs[0].At,
	}
	if d := cmp.Diff(want, cs[0]); d != "" || cs[0].Receipt["id"] != "rec_c0" || cs[0].Payload == "" || cs[0].At.IsZero() {
		t.Error(d)
	}
	for _, n := range []int{1, 3, 10, 11} {
		got := pages(t, n, func(p Page) ([]Copy, string, error) { return w.Copies(t.Context(), w.org, p) })
		if len(got) != 10 || got[0].Call != "c0" || got[0].Integration != intA {
			t.Errorf("in pages of %d: %d copies, first %+v; want 10, the one written last first", n, len(got), got[0])
		}
	}
	w.consistent()
}

func copiesOfSubject(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	accept := func(call hub.CallID, people ...string) {
		r := w.request(call, "x", w.share(intA))
		r.Subjects = people
		must(w.Accept(t.Context(), r))(t)
	}
	accept("c1", "ada@example.com", "+14155550123")
	accept("c2", "ada@example.com")
	accept("c3", "bob@example.com")
	r := w.request("c4", "x", withhold(w.share(intA), "private_call"))
	r.Subjects = []string{"eve@example.com"}
	must(w.Accept(t.Context(), r))(t)
	w.drain()
	for person, want := range map[string][]hub.CallID{
		"ada@example.com": {"c1", "c2"}, "+14155550123": {"c1"}, "bob@example.com": {"c3"}, "eve@example.com": nil, "nobody": nil,
	} {
		var got []hub.CallID
		for _, c := range must(w.CopiesOfSubject(t.Context(), w.org, person))(t) {
			got = append(got, c.Call)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", person, d)
		}
	}
	if _, err := w.CopiesOfSubject(t.Context(), "org_nobody", "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("copies in an unknown org: %v", err)
	}
	other := h.newWorld("org_b")
	if got := must(other.CopiesOfSubject(t.Context(), other.org, "ada@example.com"))(t); len(got) != 0 {
		t.Errorf("another org sees %v", got)
	}
}

func notThere(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	for name, err := range map[string]error{
		"call": errOf(w.Call(t.Context(), w.org, "nobody")), "transfer": errOf(w.Transfer(t.Context(), w.org, "tr_nobody")),
		"org": errOf(w.LoadOrg(t.Context(), "org_nobody")), "version": errOf(w.OrgVersion(t.Context(), "org_nobody")),
		"keys": errOf(w.Keys(t.Context(), "org_nobody")),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	if cs := must(w.CopiesOfCall(t.Context(), w.org, "nobody"))(t); len(cs) != 0 {
		t.Errorf("copies %v", cs)
	}
	if es := must3(w.Audit(t.Context(), "org_nobody", AuditFilter{}, Page{Limit: 5}))(t); len(es) != 0 {
		t.Errorf("entries %v", es)
	}
}

func wrongCursors(t *testing.T, h *harness) {
	w := h.newWorld("org_a")
	w.acceptOne("c1", "x")
	for _, c := range []string{"x", "1~", "~", "nan~x", "1-0", "-1", "1-1", "(1-0", "+", "99999999999999999999-0", "12", "1e400~x", "inf~x"} {
		page := Page{Cursor: c, Limit: 10}
		_, _, err := w.Transfers(t.Context(), w.org, TransferFilter{}, page)
		if err != nil && !errors.Is(err, ErrCursor) {
			t.Errorf("transfers after %q: %v", c, err)
		}
		_, _, err = w.Transfers(t.Context(), w.org, TransferFilter{Call: "c1"}, page)
		if !errors.Is(err, ErrCursor) {
			t.Errorf("transfers of a call after %q: %v, want ErrCursor", c, err)
		}
		_, _, err = w.Copies(t.Context(), w.org, page)
		if err != nil && !errors.Is(err, ErrCursor) {
			t.Errorf("copies after %q: %v", c, err)
		}
		_, _, err = w.Audit(t.Context(), w.org, AuditFilter{}, page)
		if (err == nil) != (c == "1-0") || err != nil && !errors.Is(err, ErrCursor) {
			t.Errorf("entries after %q: %v", c, err)
		}
	}
}

func writable(t *testing.T, h *harness) {
	ok(t, h.Writable(t.Context()))
	if must(h.Now(t.Context()))(t).IsZero() {
		t.Error("no clock")
	}
}
