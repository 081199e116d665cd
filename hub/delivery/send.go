package delivery

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth/vault"
)

// send resolves, renders and pushes what has begun, once more after a refresh
// where the token was refused, and decides how each ends.
func (s *shift) send(ctx context.Context, begun []*job) {
	ctx, cancel := context.WithTimeout(ctx, s.d.cfg.PushTimeout)
	defer cancel()
	s.attempt(ctx, begun)
	if again := refused(begun); len(again) > 0 && s.refresh(ctx) {
		s.attempt(ctx, again)
		if still := refused(again); len(still) > 0 {
			s.breakConnection(ctx, still[0].outcome.Err)
		}
	}
	s.lookInto(ctx, begun)
	for _, j := range begun {
		if j.ending == nil {
			s.decide(j)
		}
	}
	s.slowDown(begun)
}

// attempt makes one try with the jobs and leaves an outcome in each.
func (s *shift) attempt(ctx context.Context, jobs []*job) {
	started := time.Now()
	defer func() { s.d.cfg.Metrics.pushed(s.lane.Provider, time.Since(started)) }()
	var resolve []*job
	for _, j := range jobs {
		j.outcome = connectors.Outcome{}
		if j.item.Kind != hub.KindErase {
			resolve = append(resolve, j)
		}
	}
	if err := s.resolve(ctx, resolve); err != nil {
		for _, j := range resolve {
			j.outcome = connectors.Failed(err)
		}
		jobs = without(jobs, resolve)
	}
	byKind := map[hub.TransferKind][]*job{}
	for _, j := range jobs {
		if s.render(j) {
			byKind[j.item.Kind] = append(byKind[j.item.Kind], j)
		}
	}
	for _, kind := range []hub.TransferKind{hub.KindErase, hub.KindUpdate, hub.KindShare} {
		s.push(ctx, kind, byKind[kind])
	}
}

func without(all, some []*job) []*job {
	drop := make(map[*job]bool, len(some))
	for _, j := range some {
		drop[j] = true
	}
	var out []*job
	for _, j := range all {
		if !drop[j] {
			out = append(out, j)
		}
	}
	return out
}

// resolve looks up what the jobs need. Nothing was sent when it fails, so the
// error is never of the class Unknown.
func (s *shift) resolve(ctx context.Context, jobs []*job) *connectors.Error {
	if len(jobs) == 0 {
		return nil
	}
	targets, err := s.conn.Resolve(ctx, s.acc.Account, itemsOf(jobs))
	if err != nil {
		e := *connectors.AsError(err)
		e.Op = "resolve"
		if e.Class == connectors.Unknown {
			e.Class = connectors.Transient
		}
		return &e
	}
	for i, j := range jobs {
		j.item.Targets = targets[i]
	}
	return nil
}

// render makes the payload. It reports whether there is one; where not, the
// outcome says why.
func (s *shift) render(j *job) bool {
	if j.item.Kind == hub.KindErase {
		return true
	}
	losses := j.item.Payload.Losses
	p, err := s.conn.Render(j.item)
	if err != nil {
		j.outcome = connectors.Failed(&connectors.Error{
			Class: connectors.Rejected, Op: "render", Code: "render_failed", Err: err,
			Detail: "the released fields do not make a message that this destination can hold",
		})
		return false
	}
	j.item.Payload = connectors.Payload{Body: p.Body, Losses: slices.Concat(losses, p.Losses)}
	return true
}

func (s *shift) push(ctx context.Context, kind hub.TransferKind, jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	if time.Now().After(s.leaseEnds()) && ctx.Err() == nil {
		// Nobody extended the lease: the process stood still. Sending now could
		// be sending what somebody else is sending.
		for _, j := range jobs {
			j.outcome = connectors.Failed(&connectors.Error{Class: connectors.Transient, Op: "push", Code: "lease_over", Detail: "the worker stood still for longer than its lease"})
		}
		return
	}
	items := itemsOf(jobs)
	var out []connectors.Outcome
	switch kind {
	case hub.KindShare:
		out = s.conn.Push(ctx, s.acc.Account, items)
	case hub.KindUpdate:
		out = s.conn.Update(ctx, s.acc.Account, items)
	case hub.KindErase:
		out = s.conn.Erase(ctx, s.acc.Account, items)
	}
	for i, j := range jobs {
		j.outcome = out[i]
		if out[i].Class == connectors.Delivered {
			s.ok = true
		} else if out[i].Err != nil {
			s.err = out[i].Err
		}
	}
}

func itemsOf(jobs []*job) []connectors.Item {
	items := make([]connectors.Item, len(jobs))
	for i, j := range jobs {
		items[i] = j.item
	}
	return items
}

// refused returns the jobs whose token was refused, if a refresh may help. Where
// it cannot, the connection is marked.
func refused(jobs []*job) []*job {
	var again []*job
	for _, j := range jobs {
		if j.outcome.Class == connectors.Unauthorized {
			again = append(again, j)
		}
	}
	return again
}

// refresh gets a newer token and reports whether it is worth another try.
func (s *shift) refresh(ctx context.Context) bool {
	for _, j := range s.jobs {
		if e := j.outcome.Err; e != nil && e.Class == connectors.Unauthorized && e.Permanent {
			s.breakConnection(ctx, e)
			return false
		}
	}
	acc, err := s.d.cfg.Accounts.Refresh(ctx, s.lane.Org, s.config, s.acc.Version)
	if err != nil {
		s.noToken(err)
		if !s.broken {
			s.d.cfg.Logger.WarnContext(ctx, "token not refreshed, the lane waits", "org", s.lane.Org, "connection", s.lane.Connection, "error", err)
		}
		return false
	}
	s.acc = acc
	return true
}

func (s *shift) breakConnection(ctx context.Context, e *connectors.Error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := s.d.cfg.Accounts.Vault.Break(ctx, s.lane.Org, s.lane.Connection, s.acc.Version, e.Code, e.Detail)
	switch {
	case err == nil:
		s.broken = true
	case errors.Is(err, vault.ErrStale): // it has another token by now: try with that
	default:
		s.pause = max(s.pause, 5*time.Second)
		s.d.cfg.Logger.WarnContext(ctx, "refused connection not marked, the lane waits", "org", s.lane.Org, "connection", s.lane.Connection, "error", err)
	}
}

// lookInto asks the provider at once what became of attempts whose outcome is
// unknown.
func (s *shift) lookInto(ctx context.Context, jobs []*job) {
	var unknown []*job
	for _, j := range jobs {
		if j.outcome.Class == connectors.Unknown {
			unknown = append(unknown, j)
		}
	}
	if len(unknown) == 0 {
		return
	}
	// The push may have used up its time; this is a time of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.d.cfg.PushTimeout)
	defer cancel()
	for _, j := range unknown {
		if j.Begun.IsZero() {
			j.Begun = time.Now().Add(-s.d.cfg.PushTimeout)
		}
	}
	s.judge(ctx, unknown)
}

// reconcile finds out what became of transfers that a worker before us left
// begun.
func (s *shift) reconcile(ctx context.Context, jobs []*job) error {
	if len(jobs) == 0 {
		return nil
	}
	for _, j := range jobs {
		key, err := s.d.cfg.Store.CopyKey(ctx, s.lane.Org, j.Call, j.Integration)
		if err != nil {
			return err //nolint:wrapcheck // says what it is
		}
		j.item = connectors.Item{Key: key, Kind: j.Kind}
		if j.Copy != nil {
			j.item.Receipt = j.Copy.Receipt
		}
		s.recall(j)
	}
	s.judge(ctx, jobs)
	return nil
}

// recall makes the release that an unknown attempt was made from, as far as
// that is still possible: where it went is needed to look for it. It is not
// sent.
func (s *shift) recall(j *job) {
	integ, ok := s.snap.Integration(j.Integration)
	if !ok || j.Content == nil || j.Kind == hub.KindErase {
		return
	}
	release, decision, err := s.release(j, integ)
	if err != nil || decision.Verdict != consent.Share {
		return
	}
	j.item.Release, j.item.Destination, j.released = release, decision.Route, release.Canonical()
}

// unknownFor is how long an unknown outcome is looked for when the provider
// cannot be asked, before a person must decide.
const unknownFor = 15 * time.Minute

// judge asks the connector and ends each job by its finding.
func (s *shift) judge(ctx context.Context, jobs []*job) {
	for _, j := range jobs {
		j.item.Begun = j.Begun
	}
	findings := s.conn.Reconcile(ctx, s.acc.Account, itemsOf(jobs))
	for i, j := range jobs {
		f := findings[i]
		switch f.Verdict {
		case connectors.Arrived:
			s.arrived(j, f)
		case connectors.NotArrived:
			if j.Unknown && j.Latest != j.Revision {
				// What was sent cannot be made again, so we may have looked in
				// the wrong place.
				s.ambiguous(j, f.Err)
				continue
			}
			again(j, "not_arrived")
		case connectors.Repeatable:
			again(j, "repeatable")
		case connectors.CannotTell:
			s.cannotTell(j, f.Err)
		}
	}
}

func (s *shift) arrived(j *job, f connectors.Finding) {
	j.end(hub.StateDelivered, audit.TransferDelivered, "found")
	j.ending.Receipt = f.Receipt
	if j.Latest == j.Revision {
		j.ending.Released = j.released
	}
	j.ending.Payload = j.item.Payload.Body
	j.ending.Losses = j.item.Payload.Losses
	j.ending.Expire = expiry(j)
	s.ok = true
}

func again(j *job, reason string) {
	j.end(hub.StateWaiting, audit.TransferRetry, reason)
	j.ending.Err = j.outcome.Err
	if !j.Unknown {
		j.ending.Delay = backoff(j.Attempts + 1)
	}
}

func (s *shift) cannotTell(j *job, e *connectors.Error) {
	later := e != nil && (e.Class == connectors.Transient || e.Class == connectors.RateLimited || e.Class == connectors.Unknown || e.Class == connectors.Unauthorized)
	if !later || time.Since(j.Begun) > unknownFor {
		s.ambiguous(j, e)
		return
	}
	j.end(hub.StateSending, "", "")
	j.ending.Err = e
	j.ending.Delay = max(e.RetryAfter, 5*time.Second)
}

func (s *shift) ambiguous(j *job, e *connectors.Error) {
	j.end(hub.StateAmbiguous, audit.TransferAmbiguous, "outcome_unknown")
	if j.ending.Err = e; e == nil {
		j.ending.Err = j.outcome.Err
	}
	s.d.cfg.Metrics.finished(s.lane.Provider, string(hub.StateAmbiguous), connectors.Unknown.String())
}

func expiry(j *job) time.Duration {
	return time.Duration(j.grant.Terms.ExpiresAfterDays) * 24 * time.Hour
}

// decide says how a job ends whose outcome is known. This is every decision
// about repeating: no default, so that a new class must be decided on here.
func (s *shift) decide(j *job) {
	o := j.outcome
	switch o.Class {
	case connectors.Delivered:
		j.end(hub.StateDelivered, audit.TransferDelivered, "")
		j.ending.Receipt, j.ending.Released = o.Receipt, j.released
		if j.ending.Receipt == nil {
			j.ending.Receipt = j.item.Receipt
		}
		j.ending.Payload = j.item.Payload.Body
		j.ending.Losses = slices.Concat(j.item.Payload.Losses, o.Losses)
		j.ending.Expire = expiry(j)
	case connectors.Transient:
		j.end(hub.StateWaiting, audit.TransferRetry, code(o.Err))
		j.ending.Delay = backoff(j.Attempts + 1)
	case connectors.RateLimited:
		j.end(hub.StateWaiting, audit.TransferRetry, code(o.Err))
		j.ending.Delay, j.ending.Uncounted = retryAfter(o.Err), true
	case connectors.Unauthorized:
		if s.broken {
			j.end(hub.StateHeld, audit.TransferHeld, string(consent.ConnectionBroken))
		} else { // there is another token, or will be
			j.end(hub.StateWaiting, audit.TransferRetry, code(o.Err))
			j.ending.Delay = max(s.pause, time.Second)
		}
		j.ending.Uncounted = true
	case connectors.Rejected:
		j.end(hub.StateDead, audit.TransferDead, code(o.Err))
	case connectors.Gone:
		gone(j)
	case connectors.Unknown: // lookInto has ended it, but for a class that came after
		s.ambiguous(j, o.Err)
	}
	j.ending.Err = o.Err
	s.d.cfg.Metrics.finished(s.lane.Provider, string(j.ending.To), o.Class.String())
}

// gone ends a job whose copy somebody removed at the provider. It is not made
// again: whoever removed it had a reason.
func gone(j *job) {
	if j.item.Kind == hub.KindErase {
		j.end(hub.StateDelivered, audit.TransferDelivered, "gone_already")
		return
	}
	j.end(hub.StateDead, audit.TransferDead, "removed_at_provider")
	j.ending.Gone = true
}

func code(e *connectors.Error) string {
	if e == nil {
		return ""
	}
	return e.Code
}

func retryAfter(e *connectors.Error) time.Duration {
	if e == nil {
		return time.Second
	}
	return min(max(e.RetryAfter, time.Second), 24*time.Hour)
}

// Back-off: an outage of days is waited out, so there is no last try.
const (
	backoffBase = time.Second
	backoffMost = 10 * time.Minute
)

// backoff returns how long to wait after so many attempts: doubling, capped,
// with half of it left to chance so that what failed together does not come
// back together.
func backoff(attempts int) time.Duration {
	d := backoffMost
	if attempts < 20 {
		d = min(backoffBase<<max(attempts-1, 0), backoffMost)
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // spreading load needs no secret
}

// slowDown pauses the lane when what failed reaches beyond its item, so that an
// outage is probed with one batch instead of hammered with all.
func (s *shift) slowDown(begun []*job) {
	failed, attempts := 0, 0
	for _, j := range begun {
		o := j.outcome
		switch o.Class {
		case connectors.RateLimited:
			if o.Err != nil && o.Err.Reach == connectors.ReachConnection {
				s.pause = max(s.pause, retryAfter(o.Err))
			}
		case connectors.Transient, connectors.Unknown:
			failed++
			attempts = max(attempts, j.Attempts+1)
		case connectors.Delivered, connectors.Rejected, connectors.Gone, connectors.Unauthorized:
		}
	}
	if failed == len(begun) {
		s.pause = max(s.pause, backoff(attempts))
	}
}

// finish records how the jobs ended and gives the lane back. It tries until the
// lease is over: what is not recorded would have to be found out again.
func (s *shift) finish(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	f := store.Finish{Pause: s.pause, OK: s.ok, Err: s.err}
	for _, j := range s.jobs {
		if j.ending != nil {
			f.Endings = append(f.Endings, *j.ending)
		}
	}
	wait := 50 * time.Millisecond
	for {
		applied, err := s.finishOnce(ctx, f)
		if err == nil {
			for i, ok := range applied {
				if !ok {
					s.d.cfg.Logger.WarnContext(ctx, "outcome not recorded, another worker has the transfer",
						"org", s.lane.Org, "transfer", f.Endings[i].Transfer, "state", string(f.Endings[i].To))
				}
			}
			return
		}
		s.d.cfg.Metrics.storeFailed("finish")
		if time.Now().Add(wait).After(s.leaseEnds().Add(s.d.cfg.Lease)) {
			s.d.cfg.Logger.ErrorContext(ctx, "outcomes not recorded, they are found out again when the lease has ended",
				"org", s.lane.Org, "connection", s.lane.Connection, "transfers", len(f.Endings), "error", err)
			return
		}
		timer := time.NewTimer(wait)
		<-timer.C
		wait = min(2*wait, time.Second)
	}
}

func (s *shift) finishOnce(ctx context.Context, f store.Finish) ([]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	applied, err := s.d.cfg.Store.Finish(ctx, s.lane, f)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller logs it as it is
	}
	return applied, nil
}
