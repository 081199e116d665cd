package connectortest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
)

// Run checks that the connector of d keeps the contract of package connectors,
// against the fakes that open makes. open is called once for each subtest,
// from several goroutines; its fakes share nothing.
//
// The test that calls Run must not be parallel: Run looks for goroutines left
// behind.
//
// What is checked of every operation that acts (push, update, erase) under a
// fault of the provider follows from three questions: did the request that
// failed do anything, is what was asked for there now, and did the connector
// read a confirmation? [Fault] by fault:
//
//	rate limit    RateLimited with RetryAfter above zero, exactly the provider's where it said one
//	outage        Transient or Unknown; a 503 says that nothing was done
//	server error, cut after, slow, huge, nonsense
//	              Unknown if the request acted; Transient allowed if it only looked something up
//	cut before    Unknown or Transient
//	bad token     Unauthorized, and not Permanent; of a connector without OAuth Rejected will do
//	revoked       Unauthorized and Permanent; of a connector without OAuth Rejected will do
//	bad message   Rejected
//	empty ok      Unknown or Transient
//	redirect      not followed; Unknown, Transient or Rejected
//
// A fault is injected at each request of an operation in turn. Where it hits a
// mere look-up, the connector may go on without its answer and deliver. After
// every fault the suite does what the hub does (reconcile what is Unknown,
// repeat what may be repeated) and wants to find exactly one copy, or an
// honest [connectors.CannotTell] where Harness.CanReconcile is false.
func Run(t *testing.T, d connectors.Descriptor, open func(testing.TB) Harness) {
	t.Helper()
	(&suite{d: d, open: open, enough: enough}).run(t)
}

func (su *suite) run(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"descriptor", su.descriptor},
		{"render", su.render},
		{"push", su.push},
		{"update", su.update},
		{"erase", su.erase},
		{"batch", su.batch},
		{"faults", su.faults},
		{"resolve faults", su.resolveFaults},
		{"reconcile faults", su.reconcileFaults},
		{"account", su.account},
		{"cancel", su.cancel},
		{"concurrent", su.concurrent},
	} {
		t.Run(c.name, c.run)
	}
	if err := goleak.Find(before); err != nil {
		t.Errorf("goroutines left behind:\n%v", err)
	}
}

// suite runs one connector through everything.
type suite struct {
	d      connectors.Descriptor
	open   func(testing.TB) Harness
	enough time.Duration // after which a connector counts as hanging
}

// Patience of the suite. Neither is a measurement: enough is for a connector
// that would hang, deadline is what a slow provider exceeds.
const (
	enough   = 30 * time.Second
	deadline = 500 * time.Millisecond
)

// session is one subtest with a fake of its own.
type session struct {
	t    *testing.T
	d    connectors.Descriptor
	wait time.Duration
	h    Harness
	tap  *tap
	conn *connectors.Conn
	raw  connectors.Connector
}

func (su *suite) session(t *testing.T) *session {
	t.Helper()
	h := su.open(t)
	s := &session{t: t, d: su.d, wait: su.enough, h: h}
	s.tap = newTap(t, su.d, &s.h)
	conn, err := connectors.Open(su.d, connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := su.d.New(connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.conn, s.raw = conn, raw
	return s
}

// ctx returns a context for one operation. With a slow provider it ends before
// the answer comes.
func (s *session) ctx(f Fault) (context.Context, context.CancelFunc) {
	if f == Slow {
		return context.WithTimeout(s.t.Context(), deadline)
	}
	return context.WithTimeout(s.t.Context(), s.wait)
}

// prepared returns an item as the hub makes it: resolved and rendered.
func (s *session) prepared(item connectors.Item) connectors.Item {
	s.t.Helper()
	return s.preparedAll([]connectors.Item{item})[0]
}

func (s *session) preparedAll(items []connectors.Item) []connectors.Item {
	s.t.Helper()
	ctx, cancel := s.ctx("")
	defer cancel()
	found, err := s.conn.Resolve(ctx, s.h.Account, items)
	if err != nil {
		s.t.Fatalf("resolve at a healthy provider: %v", err)
	}
	for i := range items {
		items[i].Targets = found[i]
		p, err := s.conn.Render(items[i])
		if err != nil {
			s.t.Fatalf("render: %v", err)
		}
		items[i].Payload = p
	}
	return items
}

// share pushes item at a healthy provider and returns its receipt.
func (s *session) share(item connectors.Item) connectors.Receipt {
	s.t.Helper()
	ctx, cancel := s.ctx("")
	defer cancel()
	out := s.conn.Push(ctx, s.h.Account, []connectors.Item{item})[0]
	s.wantDelivered("push", item, out)
	return out.Receipt
}

// wantDelivered checks the outcome of an operation that nothing stood against.
func (s *session) wantDelivered(op string, item connectors.Item, out connectors.Outcome) {
	s.t.Helper()
	s.wantAllDelivered(op, []connectors.Item{item}, []connectors.Outcome{out})
}

// wantAllDelivered is wantDelivered for a batch. It returns the copies of each
// item.
func (s *session) wantAllDelivered(op string, items []connectors.Item, outs []connectors.Outcome) map[string][]Copy {
	s.t.Helper()
	copies := s.h.Copies() // once: some fakes have to work for it
	for i, out := range outs {
		if out.Class != connectors.Delivered {
			s.t.Fatalf("%s at a healthy provider = %v (%v), want delivered", op, out.Class, out.Err)
		}
		s.checkOutcome(op, out)
		want := 1
		if items[i].Kind == hub.KindErase {
			want = 0
		}
		if n := len(copies[items[i].Key]); n != want {
			s.t.Fatalf("%s: the provider has %d copies of the item, want %d", op, n, want)
		}
	}
	return copies
}

// wantCopies checks how many copies of the item there are and returns them.
func (s *session) wantCopies(item connectors.Item, n int) []Copy {
	s.t.Helper()
	c := s.h.Copies()[item.Key]
	if len(c) != n {
		s.t.Fatalf("the provider has %d copies of the item, want %d", len(c), n)
	}
	return c
}
