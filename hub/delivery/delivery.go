// Package delivery works the lanes: it claims a batch, makes the releases,
// begins, pushes and finishes. Every decision about what happens after a push
// is made here, in [afterPush]; connectors only say how it ended.
//
// A lane is worked by one worker in the whole installation at a time. What a
// crashed worker leaves in the state "sending" has an unknown outcome and is
// reconciled with the provider, never blindly repeated (invariant I5).
package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/mappings"
)

// Config configures a Delivery. Zero numbers and durations mean the defaults
// given there.
type Config struct {
	Store      *store.Store
	Cache      *directory.Cache
	Connectors *connectors.Registry
	Accounts   *Accounts
	Metrics    *Metrics
	Logger     *slog.Logger

	// Terms is the version of the terms that grants must have been accepted
	// under.
	Terms string

	// Workers is how many lanes are worked at once. Defaults to 32.
	Workers int

	// Lease is how long a lane stays with a worker that gives no sign of life,
	// and so how long a dead worker's lane waits. A worker at work extends it
	// in good time. Defaults to 15 s; at least 3 s.
	Lease time.Duration

	// Idle is how often a shard with nothing due is looked at, for work that
	// other processes accepted. Defaults to 500 ms.
	Idle time.Duration

	// PushTimeout bounds one push of a batch. Defaults to 60 s.
	PushTimeout time.Duration
}

// Delivery works the lanes of all shards. Any number of processes may do so
// over one store.
type Delivery struct {
	cfg   Config
	batch map[string]int
	pace  map[string]time.Duration

	clock *shardClock
	slots chan struct{}

	mappings sync.Map // grantKey -> *mappings.Mapping; grants are immutable

	stop    context.CancelFunc // no new claims
	abandon context.CancelFunc // work in hand ends too
	done    chan struct{}
}

// New returns a Delivery that does nothing before [Delivery.Start].
func New(cfg Config) *Delivery {
	cfg.Workers = orDefault(cfg.Workers, 32)
	cfg.Lease = max(orDefault(cfg.Lease, 15*time.Second), 3*time.Second)
	cfg.Idle = orDefault(cfg.Idle, 500*time.Millisecond)
	cfg.PushTimeout = orDefault(cfg.PushTimeout, time.Minute)
	d := &Delivery{
		cfg: cfg, batch: map[string]int{"*": 1}, pace: map[string]time.Duration{},
		clock: newShardClock(), slots: make(chan struct{}, cfg.Workers), done: make(chan struct{}),
	}
	for _, name := range cfg.Connectors.Names() {
		c, _ := cfg.Connectors.Get(name)
		d.batch[name] = c.Descriptor().BatchSize
		if c.Descriptor().PaceInterval > 0 {
			d.pace[name] = c.Descriptor().PaceInterval
		}
	}
	return d
}

type grantKey struct {
	integration hub.IntegrationID
	number      int
}

// mapping returns the grant's mapping, compiled once.
func (d *Delivery) mapping(c *connectors.Conn, g consent.Grant, route json.RawMessage) (*mappings.Mapping, error) {
	if len(g.Terms.Mapping) == 0 {
		return nil, nil //nolint:nilnil // no mapping is an answer
	}
	key := grantKey{g.Integration, g.Number}
	if v, ok := d.mappings.Load(key); ok {
		m, _ := v.(*mappings.Mapping)
		return m, nil
	}
	m, err := compileMapping(c, g, route)
	if err == nil {
		d.mappings.Store(key, m)
	}
	return m, err
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Wake says that the shard has work that is due now.
func (d *Delivery) Wake(shard int) { d.clock.at(shard, time.Now()) }

// Start begins to work. It is called once.
func (d *Delivery) Start(ctx context.Context) {
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	claims, stop := context.WithCancel(work)
	d.stop, d.abandon = stop, abandon
	go func() {
		defer close(d.done)
		d.run(claims, work)
	}()
}

// Close makes no new claims and waits until the work in hand is finished or
// handed back. When ctx is done it abandons what is left, which the leases make
// safe: it is found with its outcome unknown.
func (d *Delivery) Close(ctx context.Context) error {
	if d.stop == nil {
		return nil
	}
	d.stop()
	defer d.abandon()
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		d.abandon()
		<-d.done
		return errors.New("delivery: work in hand was abandoned; it is found again when its leases end")
	}
}

// run claims lanes whenever a shard is due and a slot is free.
func (d *Delivery) run(claims, work context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case d.slots <- struct{}{}:
		case <-claims.Done():
			return
		}
		shard, ok := d.clock.next(claims, d.cfg.Idle)
		if !ok {
			return
		}
		wg.Go(func() {
			defer func() { <-d.slots }()
			d.turn(claims, work, shard)
		})
	}
}

// turn claims a lane of the shard and works it.
func (d *Delivery) turn(claims, work context.Context, shard int) {
	started := time.Now()
	lane, wait, err := d.cfg.Store.Claim(claims, shard, store.ClaimOptions{
		Token: hub.NewID("clm"), Lease: d.cfg.Lease, Batch: d.batch, Pace: d.pace,
	}, d.cfg.Idle)
	switch {
	case claims.Err() != nil && lane == nil:
		return
	case err != nil:
		d.cfg.Metrics.storeFailed("claim")
		d.outage(claims, err)
		d.clock.at(shard, time.Now().Add(time.Second))
		return
	case lane == nil:
		d.clock.at(shard, time.Now().Add(wait))
		return
	}
	d.outage(claims, nil)
	d.clock.at(shard, time.Now()) // there may be more
	d.cfg.Metrics.claimed(lane.Provider, len(lane.Transfers), time.Since(started))
	d.work(work, claims, lane)
	d.clock.at(shard, time.Now())
}

// outage logs that the store cannot be reached, once when it begins and once
// when it ends.
func (d *Delivery) outage(ctx context.Context, err error) {
	switch changed := d.clock.setDown(err != nil); {
	case changed && err != nil:
		d.cfg.Logger.ErrorContext(ctx, "lanes stand still, the store cannot be used", "error", err)
	case changed:
		d.cfg.Logger.InfoContext(ctx, "lanes move again, the store can be used")
	}
}

// shardClock knows when each shard is to be looked at.
type shardClock struct {
	mu   sync.Mutex
	due  [hub.Shards]time.Time
	wake chan struct{} // has room for one: somebody changed a due time
	down bool
}

func newShardClock() *shardClock { return &shardClock{wake: make(chan struct{}, 1)} }

// at makes the shard due at t, if it is not due earlier.
func (c *shardClock) at(shard int, t time.Time) {
	c.mu.Lock()
	if t.Before(c.due[shard]) || c.due[shard].IsZero() {
		c.due[shard] = t
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// next waits until a shard is due and returns it, due again after idle unless
// somebody says earlier. ok is false when ctx is done.
func (c *shardClock) next(ctx context.Context, idle time.Duration) (shard int, ok bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.mu.Lock()
		first := 0
		for i := range c.due {
			if c.due[i].Before(c.due[first]) {
				first = i
			}
		}
		wait := time.Until(c.due[first])
		if wait <= 0 {
			c.due[first] = time.Now().Add(idle)
			c.mu.Unlock()
			return first, ctx.Err() == nil
		}
		c.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return 0, false
		case <-c.wake:
		case <-timer.C:
		}
	}
}

func (c *shardClock) setDown(down bool) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed = c.down != down
	c.down = down
	return changed
}
