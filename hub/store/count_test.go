package store

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/redistest"
)

// counter counts what goes to Redis: a round trip is a command on its own or a
// pipeline.
type counter struct {
	mu    sync.Mutex
	trips []string // what each round trip was: names of commands
}

var _ redis.Hook = (*counter)(nil)

func (c *counter) add(cmds ...redis.Cmder) {
	names := make([]string, 0, len(cmds))
	for _, cmd := range cmds {
		names = append(names, cmd.Name())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trips = append(c.trips, strings.Join(names, " "))
}

// take returns what was counted and starts anew.
func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.trips
	c.trips = nil
	return t
}

func (*counter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.add(cmd)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.add(cmds...)
		return next(ctx, cmds)
	}
}

// To accept a call takes one round trip; a batch takes three, whatever its size.
// Not counted are what a process does once: loading a script into Redis, and
// every few minutes an org's data keys.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"miniredis", "redis"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := backend{"miniredis", openMini}
			if name == "redis" {
				redistest.Require(t)
				b = backend{"redis", emptied(redistest.Start(t, redistest.Options{}).URL())}
			}
			h := b.new(t)
			w := h.newWorld("org_a")
			w.acceptOne("warm", "x")
			for range 2 { // every script is loaded, the org's keys are known
				h.AcceptAll(t.Context(), []AcceptRequest{w.request("warm", "y", w.share(intA)), w.request("warm2", "y")})
				w.drain()
			}
			c := &counter{}
			h.rdb.AddHook(c)
			for _, n := range []int{1, 20, 200} {
				rs := make([]AcceptRequest, n)
				for i := range rs {
					rs[i] = w.request(hub.CallID(fmt.Sprintf("c%d-%d", n, i)), "x", w.share(intA))
					rs[i].IdempotencyKey, rs[i].IdempotencyTTL, rs[i].Subjects = fmt.Sprint(n, i), 1e9, []string{"a", "b"}
				}
				c.take()
				for _, r := range rs {
					must(h.Accept(t.Context(), r))(t)
				}
				want := strings.Fields(strings.Repeat("evalsha ", n))
				if d := cmp.Diff(want, c.take()); d != "" {
					t.Errorf("accepting %d calls: %s", n, d)
				}
				l := w.claim()
				if len(l.Transfers) != n {
					t.Fatalf("%d in the batch, want %d", len(l.Transfers), n)
				}
				w.begin(l)
				w.deliver(l)
				if d := cmp.Diff([]string{"evalsha", "evalsha", "evalsha"}, c.take()); d != "" {
					t.Errorf("a batch of %d: %s", n, d)
				}
			}
			rs := make([]AcceptRequest, 50)
			for i := range rs {
				rs[i] = w.request(hub.CallID(fmt.Sprintf("all-%d", i)), "x", w.share(intA))
			}
			c.take()
			h.AcceptAll(t.Context(), rs)
			if got := c.take(); len(got) != 1 {
				t.Errorf("50 calls at once took %d round trips", len(got))
			}
			// Reading a page takes two, the list and its members, whatever its size.
			for range 2 {
				must3(w.Transfers(t.Context(), w.org, TransferFilter{}, Page{Limit: 40}))(t)
				if got := c.take(); len(got) != 2 {
					t.Errorf("a page of transfers took %v", got)
				}
				must3(w.Copies(t.Context(), w.org, Page{Limit: 40}))(t)
				if got := c.take(); len(got) != 2 {
					t.Errorf("a page of copies took %v", got)
				}
			}
		})
	}
}
