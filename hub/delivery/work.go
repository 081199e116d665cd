package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth/vault"
)

// job is one transfer of a batch on its way through.
type job struct {
	store.Claimed
	item     connectors.Item
	grant    consent.Grant // the release is made under it
	released []byte        // canonical released content
	outcome  connectors.Outcome
	ending   *store.Ending // how it ends; nil while that is open
}

func (j *job) end(to hub.TransferState, entry audit.Type, reason string) {
	j.ending = &store.Ending{Transfer: j.ID, To: to, Entry: entry, Reason: reason}
}

// shift is one worker's time with one lane.
type shift struct {
	d      *Delivery
	lane   *store.Lane
	snap   *directory.Snapshot
	conn   *connectors.Conn
	config *directory.Connection
	acc    Opened
	jobs   []*job

	mu    sync.Mutex
	until time.Time // end of the lease as we know it; guarded by mu

	pause  time.Duration // of the lane, after this batch
	ok     bool          // the provider answered well
	err    *connectors.Error
	broken bool // the connection needs an admin
}

// work takes a batch from claim to finish. stopping is done when the process
// is about to end: what has not begun by then is handed back.
func (d *Delivery) work(ctx, stopping context.Context, lane *store.Lane) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &shift{d: d, lane: lane, until: lane.Until}
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		s.heartbeat(ctx, cancel)
	}()
	err := s.run(ctx, stopping)
	cancel()
	<-beats
	if err != nil && !errors.Is(err, store.ErrLost) {
		d.cfg.Logger.WarnContext(ctx, "batch not done, it is looked at again", "org", lane.Org, "connection", lane.Connection, "error", err)
	}
	s.finish(ctx)
	if s.broken {
		s.hold(ctx)
	}
}

// heartbeat extends the lease while the batch is worked, and ends the work if
// the lane was lost.
func (s *shift) heartbeat(ctx context.Context, lost context.CancelFunc) {
	tick := time.NewTicker(s.d.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := time.Now()
		err := s.d.cfg.Store.Extend(ctx, s.lane, s.d.cfg.Lease)
		switch {
		case err == nil:
			s.extended(sent.Add(s.d.cfg.Lease))
		case errors.Is(err, store.ErrLost), time.Now().After(s.leaseEnds()):
			lost()
			return
		}
	}
}

// extended notes that the lease lasts until t, if it did not last longer.
func (s *shift) extended(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.After(s.until) {
		s.until = t
	}
}

func (s *shift) leaseEnds() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until
}

func (s *shift) run(ctx, stopping context.Context) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	var unknown []*job
	for i := range s.lane.Transfers {
		j := &job{Claimed: s.lane.Transfers[i]}
		s.jobs = append(s.jobs, j)
		if j.Unknown {
			unknown = append(unknown, j)
			continue
		}
		if err := s.prepare(ctx, j); err != nil {
			return err
		}
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.reconcile(ctx, unknown); err != nil {
		return err
	}
	if stopping.Err() != nil {
		return nil //nolint:nilerr // what has not begun is handed back by finish
	}
	begun, err := s.begin(ctx)
	if err != nil || len(begun) == 0 {
		return err
	}
	s.send(ctx, begun)
	return nil
}

// load finds the configuration that the batch is worked by.
func (s *shift) load(ctx context.Context) error {
	var err error
	if s.snap, err = s.d.cfg.Cache.AtLeast(ctx, s.lane.Org, s.lane.Version); err != nil {
		return fmt.Errorf("load the org's configuration: %w", err)
	}
	var ok bool
	if s.config, ok = s.snap.Connections[s.lane.Connection]; !ok {
		s.pause = time.Minute
		return fmt.Errorf("connection %s is not in the org's configuration", s.lane.Connection)
	}
	if s.conn, ok = s.d.cfg.Connectors.Get(s.lane.Provider); !ok {
		s.pause = time.Minute
		return fmt.Errorf("this instance has no connector %q", s.lane.Provider)
	}
	return nil
}

// prepare makes the release of a transfer, or ends it.
func (s *shift) prepare(ctx context.Context, j *job) error {
	key, err := s.d.cfg.Store.CopyKey(ctx, s.lane.Org, j.Call, j.Integration)
	if err != nil {
		return fmt.Errorf("name the copy: %w", err)
	}
	j.item = connectors.Item{Key: key, Kind: j.Kind}
	if j.Copy != nil {
		j.item.Receipt = j.Copy.Receipt
	}
	if j.Kind == hub.KindErase {
		if j.Copy == nil { // what it waited for made none
			j.end(hub.StateDelivered, audit.TransferUnchanged, "no_copy")
		}
		return nil
	}
	switch {
	case j.Content == nil:
		j.end(hub.StateWithdrawn, audit.TransferWithdrawn, "content_gone")
		return nil
	case j.Latest != j.Revision:
		j.end(hub.StateSuperseded, audit.TransferSuperseded, "")
		return nil
	}
	integ, ok := s.snap.Integration(j.Integration)
	if !ok {
		j.end(hub.StateWithdrawn, audit.TransferWithdrawn, string(consent.NotEnabled))
		return nil
	}
	release, decision, err := s.release(j, integ)
	switch {
	case err != nil:
		return err
	case decision.Verdict == consent.Withheld:
		j.end(hub.StateWithdrawn, audit.TransferWithdrawn, string(decision.Reason))
		return nil
	case decision.Verdict == consent.Held:
		j.end(hub.StateHeld, audit.TransferHeld, string(decision.Reason))
		return nil
	}
	j.released = release.Canonical()
	j.item.Release, j.item.Destination = release, decision.Route
	if j.grant, ok = integ.Grant(integ.Current); !ok {
		return fmt.Errorf("integration %s has no grant %d", integ.ID, integ.Current)
	}
	if err := s.overrides(&j.item, j.grant, release); err != nil {
		return err
	}
	return s.settleEarly(ctx, j)
}

// settleEarly ends what needs no push: there is nothing to write (I9), or the
// API budget for shares is used up.
func (s *shift) settleEarly(ctx context.Context, j *job) error {
	if j.Copy == nil {
		if s.d.cfg.Accounts.spent(s.lane.Connection, s.conn.Descriptor().BudgetShare) {
			j.end(hub.StateHeld, audit.TransferHeld, "api_budget")
			j.ending.Delay = budgetFresh
		}
		return nil
	}
	j.item.Kind = hub.KindUpdate
	digest, err := s.d.cfg.Store.ReleasedDigest(ctx, s.lane.Org, j.released)
	if err != nil {
		return fmt.Errorf("digest of the release: %w", err)
	}
	if digest == j.Copy.Released {
		j.end(hub.StateDelivered, audit.TransferUnchanged, "")
		j.ending.Receipt, j.ending.Released, j.ending.Digest = j.Copy.Receipt, j.released, j.Copy.Payload
	}
	return nil
}

func (s *shift) release(j *job, integ *directory.Integration) (*consent.Release, consent.Decision, error) {
	var call hub.Call
	if err := json.Unmarshal(j.Content, &call); err != nil {
		return nil, consent.Decision{}, fmt.Errorf("read stored call of transfer %s: %w", j.ID, err)
	}
	sit, err := s.snap.Situation(integ, j.Accepted, s.d.cfg.Terms)
	if err != nil {
		return nil, consent.Decision{}, fmt.Errorf("transfer %s: %w", j.ID, err)
	}
	r, dec := consent.NewRelease(sit, call, j.Revision)
	return r, dec, nil
}

// overrides applies the admin's mapping.
func (s *shift) overrides(item *connectors.Item, g consent.Grant, r *consent.Release) error {
	m, err := s.d.mapping(s.conn, g, item.Destination)
	if err != nil {
		return err
	}
	values, losses, err := applyMapping(m, r)
	if err != nil {
		return err
	}
	item.Overrides, item.Payload.Losses = values, losses
	return nil
}

// open gets the account, if anything is left to be done with it.
func (s *shift) open(ctx context.Context) error {
	open := false
	for _, j := range s.jobs {
		open = open || j.ending == nil
	}
	if !open {
		return nil
	}
	t, err := s.d.cfg.Accounts.Vault.Use(ctx, s.lane.Org, s.lane.Connection, s.lane.Tokens)
	if err == nil {
		s.acc, err = s.d.cfg.Accounts.with(s.lane.Org, s.config, t)
	}
	if err == nil {
		return nil
	}
	s.noToken(err)
	if s.broken {
		for _, j := range s.jobs {
			if j.ending == nil && !j.Unknown {
				j.end(hub.StateHeld, audit.TransferHeld, string(consent.ConnectionBroken))
			}
		}
	}
	return err
}

// noToken decides what becomes of the lane when there is no token to use.
func (s *shift) noToken(err error) {
	s.pause = 10 * time.Second
	e, ok := errors.AsType[*vault.Error](err)
	if !ok {
		return
	}
	s.err = &connectors.Error{Class: connectors.Unauthorized, Op: "token", Code: e.Code, Detail: e.Detail}
	switch e.Kind {
	case vault.Later:
		s.pause = max(e.RetryAfter, time.Second)
	case vault.Operator:
		s.pause = 5 * time.Minute
	case vault.NeedsReauth, vault.Gone:
		s.broken = true
	}
}

// begin asks for the last look at the permissions (I1) and the records (I2), and
// returns the jobs that have begun.
func (s *shift) begin(ctx context.Context) ([]*job, error) {
	var open []*job
	var items []store.BeginItem
	for _, j := range s.jobs {
		if j.ending != nil || j.Unknown {
			continue
		}
		open = append(open, j)
		b := store.BeginItem{
			Transfer: j.ID, Integration: j.Integration, Grant: j.grant.Number, Kind: j.item.Kind, Revision: j.Revision,
		}
		if j.item.Release != nil {
			b.Fields = fieldNames(j.item.Release)
		}
		items = append(items, b)
	}
	if len(items) == 0 {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	verdicts, err := s.d.cfg.Store.Begin(ctx, s.lane, s.d.cfg.Lease, items)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	s.extended(s.lane.Until)
	var begun []*job
	for i, j := range open {
		switch verdicts[i] {
		case store.Begun:
			begun = append(begun, j)
		case store.Outdated: // the next claim sees the newer configuration
		case store.Disabled, store.OnHold, store.Settled: // settled by begin itself
		}
	}
	return begun, nil
}

func fieldNames(r *consent.Release) string {
	b := make([]byte, 0, 128)
	for i, f := range r.Fields() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, f...)
	}
	return string(b)
}

// hold marks what waits in the lane of a broken connection as held, so that
// people see it.
func (s *shift) hold(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	n, err := s.d.cfg.Store.SweepLane(ctx, s.lane.Org, s.lane.Connection, store.SweepHold, "", string(consent.ConnectionBroken), "hub")
	if err != nil {
		s.d.cfg.Logger.WarnContext(ctx, "waiting transfers of a broken connection not marked as held; they are not sent all the same",
			"org", s.lane.Org, "connection", s.lane.Connection, "error", err)
		return
	}
	s.d.cfg.Logger.WarnContext(ctx, "connection broken, its transfers are held", "org", s.lane.Org, "connection", s.lane.Connection, "held", n)
}
