package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Harness is a store under test.
type Harness struct {
	Store vault.Store

	// SetState does to a connection, in the store, what pausing, resuming and
	// disconnecting it do there.
	SetState func(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, state hub.ConnectionState) error
}

const (
	org   hub.OrgID        = "org_a"
	other hub.OrgID        = "org_b"
	long                   = time.Hour            // a lease that outlives the test
	short                  = 5 * time.Millisecond // one that the test waits out
	wait                   = 30 * time.Second     // for a short one to end
	con   hub.ConnectionID = "con_1"
)

// RunStore checks that what newHarness returns keeps the contract of
// [vault.Store]. Each part of the suite gets a store of its own; stores may
// share a server as long as they do not see each other's connections. The
// store's clock must run.
func RunStore(t *testing.T, newHarness func(testing.TB) Harness) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, suite)
	}{
		{"unknown connection", unknownConnection},
		{"install", install},
		{"take", take},
		{"take again after a lost answer", takeAgain},
		{"put", put},
		{"lease that ran out", leaseRanOut},
		{"take over", takeOver},
		{"end of a refresh not made", endNotMade},
		{"end of a refresh of unknown outcome", endUnknown},
		{"break", breakIt},
		{"paused and disconnected", states},
		{"orgs are apart", apart},
		{"one taker of many", oneOfMany},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, suite{newHarness(t), t}) })
	}
	t.Run("as the reference does", func(t *testing.T) { likeReference(t, newHarness) })
}

// suite is one part at work.
type suite struct {
	Harness
	t *testing.T
}

func (s suite) install(version int, sealed string) {
	s.t.Helper()
	if err := s.Store.InstallTokens(s.t.Context(), org, con, "salesforce", version, []byte(sealed)); err != nil {
		s.t.Fatalf("InstallTokens version %d: %v", version, err)
	}
}

func (s suite) load() vault.Record {
	s.t.Helper()
	r, err := s.Store.LoadTokens(s.t.Context(), org, con)
	if err != nil {
		s.t.Fatalf("LoadTokens: %v", err)
	}
	return r
}

func (s suite) take(t vault.Take, want vault.Verdict) vault.Record {
	s.t.Helper()
	a, err := s.Store.TakeRefresh(s.t.Context(), org, con, t)
	if err != nil || a.Verdict != want {
		s.t.Fatalf("TakeRefresh(%+v) = verdict %d, %v; want verdict %d", t, a.Verdict, err, want)
	}
	s.same(a.Record, s.load())
	return a.Record
}

func (s suite) put(version int, taker, sealed string, want error) {
	s.t.Helper()
	if err := s.Store.PutTokens(s.t.Context(), org, con, version, taker, []byte(sealed)); !errors.Is(err, want) {
		s.t.Fatalf("PutTokens(version %d, %s) = %v; want %v", version, taker, err, want)
	}
}

func (s suite) end(taker string, e vault.End) {
	s.t.Helper()
	if err := s.Store.EndRefresh(s.t.Context(), org, con, taker, e); err != nil {
		s.t.Fatalf("EndRefresh(%s, %+v) = %v", taker, e, err)
	}
}

func (s suite) breakIt(b vault.Break, want error) {
	s.t.Helper()
	if err := s.Store.BreakConnection(s.t.Context(), org, con, b); !errors.Is(err, want) {
		s.t.Fatalf("BreakConnection(%+v) = %v; want %v", b, err, want)
	}
}

// is checks the record but for the time left.
func (s suite) is(want vault.Record) {
	s.t.Helper()
	s.same(s.load(), want)
}

// same compares two records, and of their leases whether they live.
func (s suite) same(got, want vault.Record) {
	s.t.Helper()
	if d := cmp.Diff(timeless(want), timeless(got)); d != "" {
		s.t.Fatalf("record (-want +got):\n%s", d)
	}
}

// timeless leaves of the time left only whether there is much.
func timeless(r vault.Record) vault.Record {
	if r.Intent.Left > long/2 {
		r.Intent.Left = long
	} else {
		r.Intent.Left = 0
	}
	if len(r.Sealed) == 0 {
		r.Sealed = nil
	}
	return r
}

// runOut waits until the lease of the connection's intent has run out.
func runOut(t fataler, s vault.Store) {
	t.Helper()
	deadline := time.Now().Add(wait)
	for {
		r, err := s.LoadTokens(context.Background(), org, con)
		if err != nil {
			t.Fatalf("LoadTokens: %v", err)
		}
		if r.Intent.Left <= 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a lease of %v has not run out after %v: does the store's clock run?", short, wait)
		}
		<-time.After(time.Millisecond)
	}
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func connected(version int, sealed string) vault.Record {
	return vault.Record{Provider: "salesforce", State: hub.Connected, Version: version, Sealed: []byte(sealed)}
}

func with(r vault.Record, i vault.Intent) vault.Record { r.Intent = i; return r }

func in(r vault.Record, state hub.ConnectionState) vault.Record { r.State = state; return r }

func unknownConnection(t *testing.T, s suite) {
	ctx := t.Context()
	if _, err := s.Store.LoadTokens(ctx, org, con); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("LoadTokens = %v; want ErrNotFound", err)
	}
	if _, err := s.Store.TakeRefresh(ctx, org, con, vault.Take{Version: 1, Taker: "a", Lease: long}); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("TakeRefresh = %v; want ErrNotFound", err)
	}
	s.put(1, "a", "x", vault.ErrStale)
	s.breakIt(vault.Break{Version: 0, Code: "c"}, vault.ErrNotFound)
	s.end("a", vault.End{})
	if _, err := s.Store.LoadTokens(ctx, org, con); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("LoadTokens after writes = %v; want ErrNotFound", err)
	}
}

func install(t *testing.T, s suite) {
	every := make([]byte, 256) // sealed tokens are bytes, not text
	for i := range every {
		every[i] = byte(i)
	}
	if err := s.Store.InstallTokens(t.Context(), org, con, "salesforce", 2, every); !errors.Is(err, vault.ErrStale) {
		t.Errorf("version 2 first: %v; want ErrStale", err)
	}
	s.install(1, string(every))
	s.is(connected(1, string(every)))
	s.install(1, string(every)) // repeated
	if err := s.Store.InstallTokens(t.Context(), org, con, "salesforce", 1, []byte("x")); !errors.Is(err, vault.ErrStale) {
		t.Errorf("other tokens as version 1: %v; want ErrStale", err)
	}
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Taken)
	if err := s.Store.InstallTokens(t.Context(), org, con, "slack", 2, []byte("two")); err != nil {
		t.Errorf("version 2 during a refresh: %v", err)
	}
	want := connected(2, "two")
	want.Provider = "slack"
	s.is(want)
	s.put(1, "a", "late", vault.ErrStale)
	s.breakIt(vault.Break{Version: 2, Code: "c"}, nil)
	s.install(3, "three") // reconnected
	s.is(connected(3, "three"))
}

func take(t *testing.T, s suite) {
	s.install(1, "one")
	r := s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Taken)
	if left := r.Intent.Left; left > long {
		t.Errorf("%v are left of a lease of %v", left, long)
	}
	taken := with(connected(1, "one"), vault.Intent{Taker: "a", Tries: 1, Left: long})
	s.is(taken)
	s.take(vault.Take{Version: 1, Taker: "b", Lease: long}, vault.Busy)
	s.take(vault.Take{Version: 1, Taker: "b", Lease: long, Takeover: true}, vault.Busy)
	s.take(vault.Take{Version: 2, Taker: "b", Lease: long}, vault.Moved)
	s.take(vault.Take{Version: 0, Taker: "b", Lease: long}, vault.Moved)
	s.is(taken)
}

func takeAgain(_ *testing.T, s suite) {
	s.install(1, "one")
	s.take(vault.Take{Version: 1, Taker: "a", Lease: short}, vault.Taken)
	runOut(s.t, s.Store)
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Taken)
	s.is(with(connected(1, "one"), vault.Intent{Taker: "a", Tries: 1, Left: long}))
	s.put(1, "a", "two", nil)
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Moved)
	s.is(connected(2, "two"))
}

func put(_ *testing.T, s suite) {
	s.install(1, "one")
	s.put(1, "a", "x", vault.ErrStale) // not taken
	s.put(1, "", "x", vault.ErrStale)
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Taken)
	s.put(1, "b", "x", vault.ErrStale)
	s.put(0, "a", "x", vault.ErrStale)
	s.put(2, "a", "x", vault.ErrStale)
	s.put(1, "a", "two", nil)
	s.is(connected(2, "two"))
	s.put(1, "a", "two", nil) // repeated
	s.is(connected(2, "two"))
	s.put(1, "b", "x", vault.ErrStale)
	s.put(2, "a", "x", vault.ErrStale)
	s.take(vault.Take{Version: 2, Taker: "b", Lease: long}, vault.Taken)
	s.put(1, "a", "two", nil) // still a repeat
	s.put(2, "b", "three", nil)
	s.put(1, "a", "two", vault.ErrStale)
	s.is(connected(3, "three"))
}

func leaseRanOut(_ *testing.T, s suite) {
	s.install(1, "one")
	s.take(vault.Take{Version: 1, Taker: "a", Lease: short}, vault.Taken)
	runOut(s.t, s.Store)
	s.take(vault.Take{Version: 1, Taker: "b", Lease: long}, vault.Orphaned)
	s.take(vault.Take{Version: 1, Taker: "b", Lease: long}, vault.Orphaned)
	s.is(with(connected(1, "one"), vault.Intent{Taker: "a", Tries: 1}))
	s.put(1, "a", "two", nil) // late, and nobody took over
	s.is(connected(2, "two"))
}

func takeOver(_ *testing.T, s suite) {
	s.install(1, "one")
	s.take(vault.Take{Version: 1, Taker: "a", Lease: short}, vault.Taken)
	runOut(s.t, s.Store)
	s.take(vault.Take{Version: 1, Taker: "b", Lease: long, Takeover: true}, vault.Taken)
	taken := with(connected(1, "one"), vault.Intent{Taker: "b", Tries: 2, Left: long})
	s.is(taken)
	s.put(1, "a", "late", vault.ErrStale)
	s.end("a", vault.End{})
	s.end("a", vault.End{Unknown: true, Pause: short})
	s.breakIt(vault.Break{Version: 1, Taker: "a", Code: "c"}, vault.ErrStale)
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long, Takeover: true}, vault.Busy)
	s.is(taken)
	s.put(1, "b", "two", nil)
	s.is(connected(2, "two"))
}

func endNotMade(_ *testing.T, s suite) {
	s.install(1, "one")
	s.end("", vault.End{})
	s.take(vault.Take{Version: 1, Taker: "a", Lease: short}, vault.Taken)
	s.end("b", vault.End{})
	s.end("", vault.End{})
	s.end("a", vault.End{Code: "c", Pause: long})
	s.end("a", vault.End{Code: "c", Pause: long}) // repeated
	s.is(connected(1, "one"))
	s.put(1, "a", "x", vault.ErrStale)

	// The attempt before the one that was not made is unknown as before.
	s.take(vault.Take{Version: 1, Taker: "b", Lease: short}, vault.Taken)
	runOut(s.t, s.Store)
	s.take(vault.Take{Version: 1, Taker: "c", Lease: short, Takeover: true}, vault.Taken)
	s.end("c", vault.End{Code: "c", Pause: long})
	unknown := with(connected(1, "one"), vault.Intent{Taker: "c", Tries: 1, Unknown: true, Left: long})
	s.is(unknown)
	s.end("c", vault.End{Code: "c", Pause: long}) // repeated
	s.is(unknown)
	s.take(vault.Take{Version: 1, Taker: "d", Lease: long, Takeover: true}, vault.Busy)
}

func endUnknown(_ *testing.T, s suite) {
	s.install(1, "one")
	s.take(vault.Take{Version: 1, Taker: "a", Lease: short}, vault.Taken)
	s.end("a", vault.End{Unknown: true, Code: "c", Pause: long})
	unknown := with(connected(1, "one"), vault.Intent{Taker: "a", Tries: 1, Unknown: true, Left: long})
	s.is(unknown)
	s.end("a", vault.End{Unknown: true, Code: "c", Pause: long}) // repeated
	s.is(unknown)
	s.take(vault.Take{Version: 1, Taker: "b", Lease: long, Takeover: true}, vault.Busy)
	s.put(1, "a", "two", nil) // the answer came after all

	s.take(vault.Take{Version: 2, Taker: "b", Lease: long}, vault.Taken)
	s.end("b", vault.End{Unknown: true, Code: "c", Pause: short})
	runOut(s.t, s.Store)
	s.take(vault.Take{Version: 2, Taker: "c", Lease: long}, vault.Orphaned)
	s.take(vault.Take{Version: 2, Taker: "c", Lease: long, Takeover: true}, vault.Taken)
	s.is(with(connected(2, "two"), vault.Intent{Taker: "c", Tries: 2, Left: long}))
	s.end("c", vault.End{Unknown: true, Code: "c", Pause: long})
	s.is(with(connected(2, "two"), vault.Intent{Taker: "c", Tries: 2, Unknown: true, Left: long}))
}

func breakIt(_ *testing.T, s suite) {
	s.install(1, "one")
	broken := in(connected(1, "one"), hub.NeedsReauth)
	s.breakIt(vault.Break{Version: 2, Code: "c"}, vault.ErrStale)
	s.breakIt(vault.Break{Version: 1, Taker: "a", Code: "c"}, vault.ErrStale)
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Taken)
	s.breakIt(vault.Break{Version: 1, Code: "c"}, vault.ErrStale) // it may bring a good one
	s.breakIt(vault.Break{Version: 1, Taker: "b", Code: "c"}, vault.ErrStale)
	s.breakIt(vault.Break{Version: 1, Taker: "a", Code: "c"}, nil)
	s.is(broken)
	s.breakIt(vault.Break{Version: 1, Taker: "a", Code: "c"}, nil) // repeated
	s.breakIt(vault.Break{Version: 1, Code: "c"}, nil)
	s.breakIt(vault.Break{Version: 2, Code: "c"}, vault.ErrStale)
	s.take(vault.Take{Version: 1, Taker: "b", Lease: long, Takeover: true}, vault.Closed)
	s.put(1, "a", "late", vault.ErrStale)
	s.end("a", vault.End{Unknown: true, Pause: long})
	s.is(broken)

	s.install(2, "two")
	s.take(vault.Take{Version: 2, Taker: "c", Lease: long}, vault.Taken)
	s.end("c", vault.End{Unknown: true, Pause: long})
	s.breakIt(vault.Break{Version: 2, Code: "c"}, nil) // nobody is refreshing
	s.install(3, "three")
	s.take(vault.Take{Version: 3, Taker: "d", Lease: short}, vault.Taken)
	runOut(s.t, s.Store)
	s.breakIt(vault.Break{Version: 3, Code: "c"}, nil)
	s.is(in(connected(3, "three"), hub.NeedsReauth))
}

func states(t *testing.T, s suite) {
	s.install(1, "one")
	set := func(state hub.ConnectionState) {
		t.Helper()
		if err := s.SetState(t.Context(), org, con, state); err != nil {
			t.Fatalf("SetState(%s): %v", state, err)
		}
	}
	set(hub.Paused)
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Taken)
	s.put(1, "a", "two", nil)
	s.is(in(connected(2, "two"), hub.Paused))
	s.breakIt(vault.Break{Version: 2, Code: "c"}, nil)
	s.is(in(connected(2, "two"), hub.NeedsReauth))
	s.install(3, "three")
	s.take(vault.Take{Version: 3, Taker: "b", Lease: long}, vault.Taken)
	set(hub.Disconnected)
	gone := s.load()
	if gone.State != hub.Disconnected || gone.Intent.Taker != "" {
		t.Errorf("disconnected: state %s, intent %+v", gone.State, gone.Intent)
	}
	s.put(3, "b", "late", vault.ErrStale)
	s.breakIt(vault.Break{Version: 3, Taker: "b", Code: "c"}, vault.ErrStale)
	s.breakIt(vault.Break{Version: 3, Code: "c"}, vault.ErrStale)
	s.end("b", vault.End{Unknown: true, Pause: long})
	s.take(vault.Take{Version: 3, Taker: "c", Lease: long, Takeover: true}, vault.Closed)
	if err := s.Store.InstallTokens(t.Context(), org, con, "salesforce", 4, []byte("four")); !errors.Is(err, vault.ErrStale) {
		t.Errorf("InstallTokens when disconnected = %v; want ErrStale", err)
	}
	s.is(gone)
}

func apart(t *testing.T, s suite) {
	s.install(1, "ours")
	s.take(vault.Take{Version: 1, Taker: "a", Lease: long}, vault.Taken)
	ctx := t.Context()
	if _, err := s.Store.LoadTokens(ctx, other, con); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("LoadTokens with another org = %v; want ErrNotFound", err)
	}
	if err := s.Store.InstallTokens(ctx, other, con, "slack", 1, []byte("theirs")); err != nil {
		t.Errorf("InstallTokens of the same id in another org: %v", err)
	}
	if err := s.Store.PutTokens(ctx, other, con, 1, "a", []byte("x")); !errors.Is(err, vault.ErrStale) {
		t.Errorf("PutTokens with another org = %v; want ErrStale", err)
	}
	if err := s.Store.BreakConnection(ctx, other, con, vault.Break{Version: 1, Code: "c"}); err != nil {
		t.Errorf("BreakConnection of the other org: %v", err)
	}
	s.is(with(connected(1, "ours"), vault.Intent{Taker: "a", Tries: 1, Left: long}))
}

// oneOfMany lets many take at once, many times over; each version is refreshed
// by one of them.
func oneOfMany(t *testing.T, s suite) {
	const takers, rounds = 16, 20
	s.install(1, "1")
	for round := 1; round <= rounds; round++ {
		var taken atomic.Int64
		var wg sync.WaitGroup
		for i := range takers {
			wg.Go(func() {
				name := fmt.Sprintf("r%d-%d", round, i)
				a, err := s.Store.TakeRefresh(t.Context(), org, con, vault.Take{Version: round, Taker: name, Lease: long, Takeover: true})
				if err != nil {
					t.Errorf("TakeRefresh: %v", err)
				}
				if a.Verdict != vault.Taken {
					return
				}
				taken.Add(1)
				if err := s.Store.PutTokens(t.Context(), org, con, round, name, []byte(name)); err != nil {
					t.Errorf("PutTokens: %v", err)
				}
			})
		}
		wg.Wait()
		if n := taken.Load(); n != 1 {
			t.Fatalf("round %d: %d took; want 1", round, n)
		}
	}
	if v := s.load().Version; v != rounds+1 {
		t.Errorf("version %d after %d rounds", v, rounds)
	}
}

// likeReference does the same random things to the store and to [Memory] and
// compares every answer.
func likeReference(t *testing.T, newHarness func(testing.TB) Harness) {
	t.Helper()
	sequence := 0
	h := newHarness(t)
	rapid.Check(t, func(t *rapid.T) {
		sequence++
		// Every sequence has a connection of its own; names are not compared.
		p := pair{t, h.Store, NewMemory(), hub.ConnectionID(fmt.Sprintf("con_%d", sequence))}
		p.install("salesforce", 1)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			p.step()
		}
	})
}

// pair is a store and the reference.
type pair struct {
	t         *rapid.T
	got, want vault.Store
	conn      hub.ConnectionID
}

func (p pair) step() {
	ctx := context.Background()
	version := rapid.IntRange(0, 4).Draw(p.t, "version")
	taker := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(p.t, "taker")
	lease := rapid.SampledFrom([]time.Duration{short, long}).Draw(p.t, "lease")
	flag := rapid.Bool().Draw(p.t, "flag")
	switch rapid.SampledFrom([]string{"take", "take", "take", "put", "put", "end", "break", "install"}).Draw(p.t, "op") {
	case "take":
		t := vault.Take{Version: version, Taker: taker, Lease: lease, Takeover: flag}
		got, errGot := p.got.TakeRefresh(ctx, org, p.conn, t)
		want, errWant := p.want.TakeRefresh(ctx, org, p.conn, t)
		p.same(fmt.Sprintf("TakeRefresh(%+v)", t), errGot, errWant)
		if got.Verdict != want.Verdict {
			p.t.Fatalf("TakeRefresh(%+v) = verdict %d; want %d", t, got.Verdict, want.Verdict)
		}
	case "put":
		sealed := []byte(rapid.SampledFrom([]string{"x", "y"}).Draw(p.t, "sealed"))
		p.same(fmt.Sprintf("PutTokens(%d, %s)", version, taker),
			p.got.PutTokens(ctx, org, p.conn, version, taker, sealed),
			p.want.PutTokens(ctx, org, p.conn, version, taker, sealed))
	case "end":
		e := vault.End{Unknown: flag, Code: "c", Pause: lease}
		p.same(fmt.Sprintf("EndRefresh(%s, %+v)", taker, e),
			p.got.EndRefresh(ctx, org, p.conn, taker, e),
			p.want.EndRefresh(ctx, org, p.conn, taker, e))
	case "break":
		b := vault.Break{Version: version, Code: "c"}
		if flag {
			b.Taker = taker
		}
		p.same(fmt.Sprintf("BreakConnection(%+v)", b),
			p.got.BreakConnection(ctx, org, p.conn, b),
			p.want.BreakConnection(ctx, org, p.conn, b))
	case "install":
		p.install("slack", version)
	}
	p.settle()
}

func (p pair) install(provider string, version int) {
	ctx := context.Background()
	p.same(fmt.Sprintf("InstallTokens(%d)", version),
		p.got.InstallTokens(ctx, org, p.conn, provider, version, []byte{byte(version)}),
		p.want.InstallTokens(ctx, org, p.conn, provider, version, []byte{byte(version)}))
}

// same compares errors as far as the contract tells them apart.
func (p pair) same(what string, got, want error) {
	p.t.Helper()
	for _, target := range []error{nil, vault.ErrStale, vault.ErrNotFound} {
		if errors.Is(got, target) != errors.Is(want, target) {
			p.t.Fatalf("%s = %v; want %v", what, got, want)
		}
	}
}

// settle waits until short leases have run out in both, and compares what is
// stored.
func (p pair) settle() {
	p.t.Helper()
	deadline := time.Now().Add(wait)
	for {
		got, err := p.got.LoadTokens(context.Background(), org, p.conn)
		if err != nil {
			p.t.Fatalf("LoadTokens: %v", err)
		}
		want, err := p.want.LoadTokens(context.Background(), org, p.conn)
		if err != nil {
			p.t.Fatalf("the reference: LoadTokens: %v", err)
		}
		if running(got) || running(want) {
			if time.Now().After(deadline) {
				p.t.Fatalf("a lease of %v has not run out after %v: does the store's clock run?", short, wait)
			}
			<-time.After(time.Millisecond)
			continue
		}
		if d := cmp.Diff(timeless(want), timeless(got)); d != "" {
			p.t.Fatalf("record (-want +got):\n%s", d)
		}
		return
	}
}

// running reports whether a short lease is still running.
func running(r vault.Record) bool { return r.Intent.Left > 0 && r.Intent.Left < long/2 }
