package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/oauth/vault"
	"github.com/optiwe/callbridge/test/faultproxy"
	"github.com/optiwe/callbridge/test/redistest"
)

// operation is one write of the store. It reports its result in a form that can
// be compared, without ids that are made anew.
type operation struct {
	name string
	// prepare brings the org to where the operation begins; run does it.
	prepare func(*world) any
	run     func(*world, any) (string, error)
}

func operations() []operation {
	lane := func(w *world) any {
		w.acceptOne("c1", "x")
		return w.claim()
	}
	begun := func(w *world) any {
		l, _ := lane(w).(*Lane)
		w.begin(l)
		return l
	}
	nothing := func(*world) any { return nil }
	withTokens := func(w *world) any {
		must(w.Tokens(actor).TakeRefresh(w.tb.Context(), w.org, conA, vault.Take{Version: 1, Taker: "t1", Lease: time.Hour}))(w.tb)
		return nil
	}
	return []operation{
		{"accept", func(w *world) any { return w.request("c1", "x", w.share(intA), w.share(intB)) }, func(w *world, p any) (string, error) {
			r, err := w.Accept(w.tb.Context(), p.(AcceptRequest))
			return fmt.Sprint(r.Status, r.Replay, len(r.Answer)), err
		}},
		{"correct", func(w *world) any {
			w.acceptOne("c1", "x")
			return w.request("c1", "y", w.share(intA))
		}, func(w *world, p any) (string, error) {
			r, err := w.Accept(w.tb.Context(), p.(AcceptRequest))
			return fmt.Sprint(r.Status, r.Replay, len(r.Answer)), err
		}},
		{"accept all", func(w *world) any {
			return []AcceptRequest{w.request("c1", "x", w.share(intA)), w.request("c2", "x", w.share(intA))}
		}, func(w *world, p any) (string, error) {
			out, errs := "", []error{}
			for _, a := range w.AcceptAll(w.tb.Context(), p.([]AcceptRequest)) {
				out += a.Status + " "
				errs = append(errs, a.Err)
			}
			return out, errors.Join(errs...)
		}},
		{"claim", func(w *world) any {
			w.acceptOne("c1", "x")
			return hub.NewID("clm")
		}, func(w *world, p any) (string, error) {
			l, _, err := w.Claim(w.tb.Context(), w.org.Shard(), ClaimOptions{Token: p.(string), Lease: longLease}, time.Second)
			if l == nil {
				return "none", err
			}
			return fmt.Sprint(l.Connection, l.Fence, len(l.Transfers)), err
		}},
		{"begin", lane, func(w *world, p any) (string, error) {
			v, err := w.Begin(w.tb.Context(), p.(*Lane), longLease, w.items(p.(*Lane)))
			return fmt.Sprint(v), err
		}},
		{"extend", lane, func(w *world, p any) (string, error) { return "", w.Extend(w.tb.Context(), p.(*Lane), longLease) }},
		{"finish", begun, func(w *world, p any) (string, error) {
			v, err := w.Finish(w.tb.Context(), p.(*Lane), Finish{OK: true, Endings: []Ending{delivered(p.(*Lane).Transfers[0])}})
			return fmt.Sprint(v), err
		}},
		{"finish for another try", begun, func(w *world, p any) (string, error) {
			v, err := w.Finish(w.tb.Context(), p.(*Lane), Finish{Endings: []Ending{
				{Transfer: p.(*Lane).Transfers[0].ID, To: hub.StateWaiting, Entry: audit.TransferRetry, Delay: never, Uncounted: true},
			}})
			return fmt.Sprint(v), err
		}},
		{"sweep", func(w *world) any { return w.acceptMany(3) }, func(w *world, _ any) (string, error) {
			_, err := w.SweepLane(w.tb.Context(), w.org, conA, SweepHold, "", "why", actor) // a repeat finds nothing left to change
			return "", err
		}},
		{"settle", func(w *world) any { return w.end("c1", hub.StateDead, audit.TransferDead) }, func(w *world, p any) (string, error) {
			return "", w.Settle(w.tb.Context(), w.org, p.(hub.TransferID), SettleRetry, actor)
		}},
		{"erase", func(w *world) any {
			w.acceptOne("c1", "x")
			w.drain()
			return nil
		}, func(w *world, _ any) (string, error) {
			id, err := w.Erase(w.tb.Context(), w.org, "c1", "", actor)
			return fmt.Sprint(len(id)), err
		}},
		{"erase at one integration", func(w *world) any {
			w.acceptOne("c1", "x")
			w.drain()
			return nil
		}, func(w *world, _ any) (string, error) {
			id, err := w.Erase(w.tb.Context(), w.org, "c1", intA, actor)
			return fmt.Sprint(len(id)), err
		}},
		{"change", func(w *world) any {
			return directory.Change{Version: w.version(), Keys: []directory.Key{{ID: "k"}}, Entries: []audit.Entry{{Type: audit.KeyCreated, Actor: actor}}}
		}, func(w *world, p any) (string, error) {
			v, err := w.Change(w.tb.Context(), w.org, hub.NewID("chg"), p.(directory.Change))
			return fmt.Sprint(v), err
		}},
		{"make an org", nothing, func(w *world, _ any) (string, error) {
			return "", w.CreateOrg(w.tb.Context(), directory.Org{ID: "org_new", State: hub.OrgActive, CreatedAt: epoch()}, hub.NewID("chg"), directory.Change{})
		}},
		{"connection", nothing, func(w *world, _ any) (string, error) {
			ok, err := w.SetConnection(w.tb.Context(), w.org, conA, hub.Paused, "why", actor, audit.ConnectionPaused)
			return fmt.Sprint(ok), err
		}},
		{"disconnect", nothing, func(w *world, _ any) (string, error) {
			ok, err := w.SetConnection(w.tb.Context(), w.org, conA, hub.Disconnected, "why", actor, audit.ConnectionDeleted)
			return fmt.Sprint(ok), err
		}},
		{"audit", nothing, func(w *world, _ any) (string, error) {
			return "", w.Audited(w.tb.Context(), w.org, hub.NewID("tok"), audit.Entry{Type: audit.IntegrationPreviewed, Actor: actor})
		}},
		{"install tokens", nothing, func(w *world, _ any) (string, error) {
			return "", w.Tokens(actor).InstallTokens(w.tb.Context(), w.org, conA, "slack", 2, []byte("new"))
		}},
		{"take refresh", nothing, func(w *world, _ any) (string, error) {
			a, err := w.Tokens(actor).TakeRefresh(w.tb.Context(), w.org, conA, vault.Take{Version: 1, Taker: "t1", Lease: time.Hour})
			return fmt.Sprint(a.Verdict, a.Record.Intent.Tries), err
		}},
		{"put tokens", withTokens, func(w *world, _ any) (string, error) {
			return "", w.Tokens(actor).PutTokens(w.tb.Context(), w.org, conA, 1, "t1", []byte("new"))
		}},
		{"end refresh", withTokens, func(w *world, _ any) (string, error) {
			return "", w.Tokens(actor).EndRefresh(w.tb.Context(), w.org, conA, "t1", vault.End{Unknown: true, Code: "timeout", Pause: time.Second})
		}},
		{"break connection", nothing, func(w *world, _ any) (string, error) {
			return "", w.Tokens(actor).BreakConnection(w.tb.Context(), w.org, conA, vault.Break{Version: 1, Code: "invalid_grant"})
		}},
	}
}

// Every write has the effect of one, and answers as one, when the connection is
// cut before Redis has the request, or when its answer is lost. The client
// repeats it by itself.
func TestLostRequestsAndAnswers(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	s := redistest.Start(t, redistest.Options{})
	p := faultproxy.Start(t, s.Addr())
	for _, op := range operations() {
		run := func(t *testing.T, fault faultproxy.Kind) (result string, types []audit.Type) {
			c, pass := emptied("redis://" + p.Addr())(t)
			w := newHarness(t, c, pass).newWorld("org_a")
			prepared := op.prepare(w)
			must(w.Keys(t.Context(), w.org))(t) // is remembered from here
			before, struck := len(w.entries()), p.Struck()
			if fault != 0 {
				p.Inject(faultproxy.Fault{Kind: fault, Match: "evalsha", Times: 1})
			}
			result, err := op.run(w, prepared)
			if err != nil {
				t.Fatalf("%v", err)
			}
			p.Heal()
			if fault != 0 && p.Struck() != struck+1 {
				t.Fatalf("the fault struck %d times", p.Struck()-struck)
			}
			for _, e := range w.entries()[before:] {
				types = append(types, e.Type)
			}
			w.consistent()
			return result, types
		}
		t.Run(op.name, func(t *testing.T) { //nolint:paralleltest // they share a proxy
			wantResult, wantTypes := run(t, 0)
			for name, kind := range map[string]faultproxy.Kind{"before": faultproxy.CutBefore, "after": faultproxy.CutAfter} {
				result, types := run(t, kind)
				if result != wantResult || !slices.Equal(types, wantTypes) {
					t.Errorf("cut %s: result %q and entries %v; without the cut %q and %v", name, result, types, wantResult, wantTypes)
				}
			}
		})
	}
}

// A worker whose store is out of reach for longer than the client tries gets an
// error and may repeat by hand: with the same token, fence and endings.
func TestOutageAcrossABatch(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	s := redistest.Start(t, redistest.Options{})
	p := faultproxy.Start(t, s.Addr())
	c, pass := emptied("redis://" + p.Addr())(t)
	w := newHarness(t, c, pass).newWorld("org_a")
	x := w.acceptOne("c1", "x")
	token := hub.NewID("clm")
	// insist repeats f while every answer is lost, then once more when all is well.
	insist := func(f func() error) {
		t.Helper()
		p.Inject(faultproxy.Fault{Kind: faultproxy.CutAfter, Match: "evalsha"})
		if err := f(); err == nil {
			t.Fatal("no error although no answer came")
		}
		p.Heal()
		ok(t, f())
		w.consistent()
	}
	var l *Lane
	insist(func() (err error) {
		l, _, err = w.Claim(t.Context(), w.org.Shard(), ClaimOptions{Token: token, Lease: longLease}, time.Second)
		return err
	})
	if l == nil || len(l.Transfers) != 1 {
		t.Fatalf("lane %+v", l)
	}
	var v []Verdict
	insist(func() (err error) {
		v, err = w.Begin(t.Context(), l, longLease, w.items(l))
		return err
	})
	if d := cmp.Diff([]Verdict{Begun}, v); d != "" {
		t.Error(d)
	}
	insist(func() error {
		_, err := w.Finish(t.Context(), l, Finish{Endings: []Ending{delivered(l.Transfers[0])}})
		return err
	})
	if d := cmp.Diff([]string{"begin", "delivered"}, w.types(x)); d != "" {
		t.Error(d)
	}
	// A request that nobody waits for any more does no harm.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Accept(ctx, w.request("c2", "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
	w.consistent()
}
