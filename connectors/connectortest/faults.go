package connectortest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
)

// operation is a way of acting at the provider.
type operation struct {
	name string
	run  func(*connectors.Conn) func(context.Context, connectors.Account, []connectors.Item) []connectors.Outcome

	// item returns the item to operate on, after setting up at a healthy
	// provider what it needs there.
	item func(*session) connectors.Item

	// done reports whether the provider is as the operation wants it.
	done func(*session, connectors.Item) bool
}

// operations returns what the connector can do.
func (su *suite) operations(t *testing.T) []operation {
	t.Helper()
	c, err := su.d.New(connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ops := []operation{{
		name: "push",
		run: func(c *connectors.Conn) func(context.Context, connectors.Account, []connectors.Item) []connectors.Outcome {
			return c.Push
		},
		item: func(s *session) connectors.Item { return s.prepared(s.shareItem(1)) },
		done: func(s *session, it connectors.Item) bool { return len(s.h.Copies()[it.Key]) == 1 },
	}}
	if _, ok := c.(connectors.Updater); ok {
		ops = append(ops, operation{
			name: "update",
			run: func(c *connectors.Conn) func(context.Context, connectors.Account, []connectors.Item) []connectors.Outcome {
				return c.Update
			},
			item: func(s *session) connectors.Item {
				return s.prepared(s.updateItem(1, s.share(s.prepared(s.shareItem(1)))))
			},
			done: func(s *session, it connectors.Item) bool {
				c := s.h.Copies()[it.Key]
				return len(c) == 1 && strings.Contains(c[0].Text, marker(1, 2))
			},
		})
	}
	if _, ok := c.(connectors.Eraser); ok {
		ops = append(ops, operation{
			name: "erase",
			run: func(c *connectors.Conn) func(context.Context, connectors.Account, []connectors.Item) []connectors.Outcome {
				return c.Erase
			},
			item: func(s *session) connectors.Item {
				return s.eraseItem(1, s.share(s.prepared(s.shareItem(1))))
			},
			done: func(s *session, it connectors.Item) bool { return len(s.h.Copies()[it.Key]) == 0 },
		})
	}
	return ops
}

// faults runs every operation with every fault at every request that it makes.
func (su *suite) faults(t *testing.T) {
	for _, op := range su.operations(t) {
		t.Run(op.name, func(t *testing.T) {
			n, acting := su.rehearse(t, op)
			for _, f := range Faults() {
				for k := 1; k <= n; k++ {
					t.Run(fmt.Sprintf("%s/request %d of %d", f, k, n), func(t *testing.T) {
						t.Parallel()
						su.faultAt(t, op, f, k, slices.Contains(acting, k))
					})
				}
			}
		})
	}
}

// rehearse runs op at a healthy provider and returns how many requests it
// makes and which of them act.
func (su *suite) rehearse(t *testing.T, op operation) (n int, acting []int) {
	t.Helper()
	s := su.session(t)
	item := op.item(s)
	s.tap.arm(0, "")
	ctx, cancel := s.ctx("")
	defer cancel()
	out := op.run(s.conn)(ctx, s.h.Account, []connectors.Item{item})[0]
	s.wantDelivered(op.name, item, out)
	n, acting, _ = s.tap.seen()
	if n == 0 || len(acting) == 0 {
		t.Fatalf("%s made %d requests, of which %d changed the fake's copies", op.name, n, len(acting))
	}
	return n, acting
}

// faultAt runs op with fault f at its k-th request, judges the outcome, and
// then settles the item as the hub would.
func (su *suite) faultAt(t *testing.T, op operation, f Fault, k int, acting bool) {
	s := su.session(t)
	item := op.item(s)
	item.Begun = time.Now()
	s.tap.arm(k, f)
	ctx, cancel := s.ctx(f)
	defer cancel()
	out := op.run(s.conn)(ctx, s.h.Account, []connectors.Item{item})[0]
	_, acted, header := s.tap.seen()
	s.checkOutcome(op.name, out)
	if err := judge(f, out, sight{
		oauth:          s.d.OAuth != nil,
		statusConfirms: s.h.StatusConfirms,
		readsBack:      op.name == "erase",
		acting:         acting,
		acted:          slices.Contains(acted, k),
		done:           op.done(s, item),
		sevenSeconds:   header.Get("Retry-After") == "7",
	}); err != nil {
		t.Fatal(err)
	}
	s.settle(op, f, item, out)
}

// sight is what the suite saw of an operation that met a fault.
type sight struct {
	oauth          bool // the connector has OAuth
	statusConfirms bool // the provider confirms by status alone
	readsBack      bool // the operation looks at the result by itself
	acting         bool // the request that failed is the one that acts when all is well
	acted          bool // it changed something although it failed
	done           bool // what was asked for is there
	sevenSeconds   bool // the provider said "in 7 seconds"
}

// judge returns what is wrong with the outcome of an operation of which one
// request failed with f.
func judge(f Fault, o connectors.Outcome, s sight) error {
	if o.Class == connectors.Delivered {
		return judgeDelivered(f, s)
	}
	if s.acted && o.Class != connectors.Unknown {
		return fmt.Errorf("the request acted and its answer was lost (%s): %v (%w), want unknown", f, o.Class, o.Err)
	}
	if want := allowed(f, s); !slices.Contains(want, o.Class) {
		return fmt.Errorf("%s: %v (%w), want one of %v", f, o.Class, o.Err, want)
	}
	switch {
	case o.Class == connectors.RateLimited && o.Err.RetryAfter <= 0:
		return errors.New("rate limited without RetryAfter")
	case o.Class == connectors.RateLimited && s.sevenSeconds && o.Err.RetryAfter != 7*time.Second:
		return fmt.Errorf("RetryAfter is %v, the provider said 7s", o.Err.RetryAfter)
	case f == BadToken && s.oauth && o.Err.Permanent:
		return errors.New("bad token: permanent, but a refreshed token would work")
	case f == Revoked && s.oauth && !o.Err.Permanent:
		return errors.New("revoked: not permanent, but no refresh can help")
	}
	return nil
}

// judgeDelivered returns what is wrong with Delivered.
func judgeDelivered(f Fault, s sight) error {
	switch {
	case s.statusConfirms && (f == Huge || f == Nonsense || f == EmptyOK):
		return nil
	case !s.done:
		return fmt.Errorf("%s: delivered, but it is not there", f)
	case s.acted && !s.readsBack:
		return fmt.Errorf("%s: delivered, but no confirmation could be read", f)
	case s.acting && !s.acted && !s.readsBack:
		return fmt.Errorf("%s: delivered after the provider refused: a connector does not retry", f)
	}
	return nil
}

// allowed returns the classes that an operation may end with, beside
// Delivered, when one of its requests failed with f and did nothing.
func allowed(f Fault, s sight) []connectors.Class {
	switch f {
	case RateLimit:
		return []connectors.Class{connectors.RateLimited}
	case Outage, ServerError, CutBefore, CutAfter, Slow, Huge, Nonsense:
		return []connectors.Class{connectors.Transient, connectors.Unknown}
	case BadToken, Revoked:
		if s.oauth {
			return []connectors.Class{connectors.Unauthorized}
		}
		return []connectors.Class{connectors.Unauthorized, connectors.Rejected}
	case BadMessage:
		if s.acting {
			return []connectors.Class{connectors.Rejected}
		}
		return []connectors.Class{connectors.Rejected, connectors.Transient, connectors.Unknown}
	case EmptyOK:
		if s.acting {
			return []connectors.Class{connectors.Transient, connectors.Unknown}
		}
		return []connectors.Class{connectors.Transient, connectors.Unknown, connectors.Rejected}
	case Redirect:
		return []connectors.Class{connectors.Transient, connectors.Unknown, connectors.Rejected}
	}
	return nil
}

// settle heals the provider and does with the outcome what the hub does, until
// the item is where it belongs.
func (s *session) settle(op operation, f Fault, item connectors.Item, out connectors.Outcome) {
	s.t.Helper()
	s.heal(f)
	again := true
	switch out.Class {
	case connectors.Delivered:
		again = false
		if s.h.StatusConfirms && f == EmptyOK {
			return
		}
	case connectors.Transient, connectors.RateLimited, connectors.Unauthorized, connectors.Rejected:
	case connectors.Unknown:
		if _, ok := s.raw.(connectors.Reconciler); !ok && item.Kind == hub.KindErase {
			return // nobody can tell, as for any other item
		}
		again = s.reconciled(op, item)
		if !again && item.Kind == hub.KindErase {
			s.t.Fatal("an erasure whose outcome is unknown cannot be repeated")
		}
		if !again && !op.done(s, item) {
			return // ambiguous: a person decides
		}
	case connectors.Gone:
		s.t.Fatalf("%s: gone, but the copy was there", op.name)
	}
	if again {
		ctx, cancel := s.ctx("")
		defer cancel()
		out = op.run(s.conn)(ctx, s.h.Account, []connectors.Item{item})[0]
		s.wantDelivered(op.name+" again", item, out)
	}
	if !op.done(s, item) {
		s.t.Fatalf("%s: settled, but the provider is not as it should be: %d copies", op.name, len(s.h.Copies()[item.Key]))
	}
}

// reconciled asks the connector what became of the item and checks the answer.
// It reports whether the item is to be sent again.
func (s *session) reconciled(op operation, item connectors.Item) (again bool) {
	s.t.Helper()
	ctx, cancel := s.ctx("")
	defer cancel()
	before := s.h.Copies()
	found := s.conn.Reconcile(ctx, s.h.Account, []connectors.Item{item})[0]
	s.checkFinding(found)
	if after := s.h.Copies(); len(before[item.Key]) != len(after[item.Key]) {
		s.t.Fatal("Reconcile changed something at the provider")
	}
	switch found.Verdict {
	case connectors.Arrived:
		if !op.done(s, item) {
			s.t.Fatal("Reconcile says arrived, but it is not there")
		}
		if len(found.Receipt) == 0 {
			s.t.Fatal("Reconcile says arrived without a receipt")
		}
		return false
	case connectors.NotArrived:
		if op.done(s, item) {
			s.t.Fatal("Reconcile says not arrived, but it is there")
		}
		return true
	case connectors.Repeatable:
		return true
	case connectors.CannotTell:
		if s.h.CanReconcile {
			s.t.Fatalf("Reconcile cannot tell (%v), but it is expected to", found.Err)
		}
		return false
	}
	s.t.Fatalf("Reconcile gave the verdict %d", found.Verdict)
	return false
}

func (s *session) checkFinding(f connectors.Finding) {
	s.t.Helper()
	if f.Err != nil {
		s.checkError("reconcile", f.Err)
	}
	for k, v := range f.Receipt {
		s.noLeak("the receipt's "+k, v, unreleased(usual()))
	}
}

// heal ends every fault and waits for abandoned requests.
func (s *session) heal(f Fault) {
	s.t.Helper()
	s.h.Inject(f, 0)
	s.tap.arm(0, "")
	quiet(s.t, &s.h)
}

// resolveFaults runs look-ups with every fault at every request.
func (su *suite) resolveFaults(t *testing.T) {
	rehearsal := su.session(t)
	rehearsal.tap.arm(0, "")
	rehearsal.prepared(rehearsal.shareItem(1))
	n, acting, _ := rehearsal.tap.seen()
	if len(acting) > 0 {
		t.Fatal("Resolve or Render changed something at the provider")
	}
	for _, f := range Faults() {
		for k := 1; k <= n; k++ {
			t.Run(fmt.Sprintf("%s/request %d of %d", f, k, n), func(t *testing.T) {
				t.Parallel()
				su.resolveFaultAt(t, f, k)
			})
		}
	}
}

func (su *suite) resolveFaultAt(t *testing.T, f Fault, k int) {
	s := su.session(t)
	item := s.shareItem(1)
	s.tap.arm(k, f)
	ctx, cancel := s.ctx(f)
	defer cancel()
	_, err := s.conn.Resolve(ctx, s.h.Account, []connectors.Item{item})
	if err == nil {
		// Going on as if nobody had been found is right only where the
		// provider answered something that can be read so.
		if f != BadMessage && f != EmptyOK && f != Redirect {
			t.Fatalf("%s: Resolve found nothing and says so without an error", f)
		}
		return
	}
	s.checkError("resolve", err)
	_, _, header := s.tap.seen()
	e := connectors.AsError(err)
	if err := judge(f, connectors.Failed(e), sight{
		oauth: s.d.OAuth != nil, sevenSeconds: header.Get("Retry-After") == "7",
	}); err != nil {
		t.Error(err)
	}
	s.heal(f)
	s.share(s.prepared(s.shareItem(1)))
}

// reconcileFaults checks that a provider in trouble is not taken for one that
// says "no such copy".
func (su *suite) reconcileFaults(t *testing.T) {
	for _, f := range Faults() {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			s := su.session(t)
			item := s.prepared(s.shareItem(1))
			item.Begun = time.Now()
			s.share(item)
			s.h.Inject(f, -1)
			ctx, cancel := s.ctx(f)
			defer cancel()
			found := s.conn.Reconcile(ctx, s.h.Account, []connectors.Item{item})[0]
			s.checkFinding(found)
			if found.Verdict == connectors.NotArrived {
				t.Errorf("%s: Reconcile says not arrived, but the copy is there and the provider did not deny it", f)
			}
			s.heal(f)
			s.wantCopies(item, 1)
		})
	}
}
