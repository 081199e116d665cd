package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/seal"
)

// flightKey names a refresh within this process. A refresh ahead of expiry is
// another flight than one on demand, because it may do less; the store keeps
// the two apart.
type flightKey struct {
	connKey
	version int
	demand  bool // the access token is of no use any more
}

// flight is a refresh in hand.
type flight struct {
	done   chan struct{} // closed when token and err are set
	token  Token
	err    error
	cancel context.CancelFunc
}

// join returns the flight of that key, and starts it if there is none. It
// keeps ctx's values and not its end: who began a refresh may give up, the
// refresh must not.
func (v *Vault) join(ctx context.Context, key flightKey) (*flight, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f, ok := v.flights[key]; ok {
		return f, nil
	}
	if v.closed {
		return nil, &Error{Kind: Later, Code: CodeStopping, Detail: "this process is about to end"}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	v.flights[key] = f
	go func() {
		defer cancel()
		r := refresh{Vault: v, key: key, taker: hub.NewID("rf"), version: key.version}
		f.token, f.err = r.run(ctx)
		v.mu.Lock()
		delete(v.flights, key)
		if f.err != nil && !key.demand {
			v.setQuiet(key.connKey)
		}
		v.mu.Unlock()
		close(f.done)
	}()
	return f, nil
}

// refreshAhead begins a refresh that nobody waits for, unless one failed a
// moment ago.
func (v *Vault) refreshAhead(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, version int) {
	key := flightKey{connKey{org, conn}, version, false}
	v.mu.Lock()
	quiet := time.Now().Before(v.quiet[key.connKey])
	v.mu.Unlock()
	if !quiet {
		_, _ = v.join(ctx, key) // fails only when we are about to end
	}
}

// setQuiet puts the next refresh ahead of expiry off; v.mu is held.
func (v *Vault) setQuiet(k connKey) {
	if len(v.quiet) >= maxQuiet {
		clear(v.quiet)
	}
	v.quiet[k] = time.Now().Add(quietAfterFailure)
}

// refresh is one run of the protocol.
type refresh struct {
	*Vault
	key     flightKey
	taker   string // the fence
	version int    // of the tokens to be refreshed
}

// run takes the right to refresh and uses it, or waits for who has it.
func (r *refresh) run(ctx context.Context) (Token, error) {
	giveUp := time.Now().Add(r.cfg.Wait)
	poll := newBackoff(25*time.Millisecond, 500*time.Millisecond)
	for {
		began := time.Now()
		a, err := r.take(ctx)
		if err != nil {
			return Token{}, notLoaded(r.key.conn, err)
		}
		switch a.Verdict {
		case Taken:
			return r.call(ctx, began, a.Record)
		case Moved:
			if a.Record.Version > r.version {
				return r.current(ctx, a.Record)
			}
			// The store went back to earlier tokens, as after a fail-over that
			// lost the last ones. They are all there is.
			r.version = a.Record.Version
		case Closed:
			return r.current(ctx, a.Record)
		case Orphaned:
			return Token{}, unknownError(a.Record, nil)
		case Busy:
			if a.Record.Intent.Unknown {
				return Token{}, unknownError(a.Record, nil)
			}
			if !r.key.demand || time.Now().After(giveUp) {
				return Token{}, &Error{
					Kind: Later, Code: CodeRefreshing, RetryAfter: a.Record.Intent.Left,
					Detail: "another process is refreshing the connection",
				}
			}
		}
		if err := poll.wait(ctx); err != nil {
			return Token{}, fmt.Errorf("vault: wait for the refresh of connection %s: %w", r.key.conn, err)
		}
	}
}

// current returns the token in rec.
func (r *refresh) current(ctx context.Context, rec Record) (Token, error) {
	h, _, err := r.open(ctx, r.key.org, r.key.conn, rec)
	if err != nil {
		return Token{}, err
	}
	return h.token(rec), nil
}

// take asks the store for the right to refresh. A lost answer is no harm: the
// same taker asks again.
func (r *refresh) take(ctx context.Context) (a Answer, err error) {
	err = r.persist(ctx, storePatience, func(ctx context.Context) (err error) {
		a, err = r.cfg.Store.TakeRefresh(ctx, r.key.org, r.key.conn, Take{
			Version: r.version, Taker: r.taker, Lease: r.cfg.Lease, Takeover: r.key.demand,
		})
		return err
	})
	return a, err
}

// call makes the request, having the right to. Began is from before the lease.
func (r *refresh) call(ctx context.Context, began time.Time, rec Record) (Token, error) {
	log := r.cfg.Logger.With(slog.String("org", string(r.key.org)), slog.String("connection", string(r.key.conn)),
		slog.String("provider", rec.Provider), slog.Int("version", rec.Version), slog.Int("tries", rec.Intent.Tries))
	h, keys, err := r.open(ctx, r.key.org, r.key.conn, rec)
	if err != nil {
		r.end(ctx, log, End{Code: "not_opened", Detail: "the tokens could not be opened", Pause: r.cfg.Lease})
		return Token{}, err
	}
	if !r.refreshable(rec, h) {
		return r.dead(ctx, log, rec, CodeNoRefresh, "the provider refuses the credential, and it cannot be refreshed; connect again")
	}
	if rec.Intent.Tries > 1 {
		log.WarnContext(ctx, "refreshing once more after an attempt whose outcome is unknown")
	}
	// The deadline counts from before the intent was written. A process that
	// was stopped in between sends nothing when it wakes.
	callCtx, cancel := context.WithDeadline(ctx, began.Add(r.cfg.CallTimeout))
	defer cancel()
	if callCtx.Err() != nil {
		return r.failed(ctx, log, rec, &oauth.RefreshError{Kind: oauth.Transient, Code: "too_late", Detail: "the refresh was not begun in time"})
	}
	fresh, err := r.cfg.Refreshers[rec.Provider].Refresh(callCtx, h.Refresh, h.Facts)
	if err != nil {
		e, ok := errors.AsType[*oauth.RefreshError](err)
		if !ok { // not classified: assume the worst, and print nothing of it
			e = &oauth.RefreshError{Kind: oauth.Ambiguous, Code: "internal", Err: err}
		}
		return r.failed(ctx, log, rec, e)
	}
	if fresh.Warning != "" {
		log.WarnContext(ctx, "the provider's answer held something that was not taken over", slog.String("code", fresh.Warning))
	}
	return r.put(ctx, log.With(slog.Duration("took", time.Since(began))), keys, rec, h.renewed(fresh, time.Now()))
}

// put stores the new pair. Nobody sees it before it is stored. The store is
// asked again as long as nobody took over; the provider never is.
func (r *refresh) put(ctx context.Context, log *slog.Logger, keys *seal.OrgKeys, rec Record, next held) (Token, error) {
	lost := &Error{Kind: Later, Code: CodeNotStored, Detail: "new tokens came and could not be stored"}
	sealed, err := sealTokens(keys, r.key.conn, rec.Provider, rec.Version+1, next)
	if err != nil {
		log.ErrorContext(ctx, "refreshed tokens are lost: they could not be sealed", slog.Any("error", err))
		lost.Err = err
		return Token{}, lost
	}
	err = r.persist(ctx, r.cfg.KeepTrying, func(ctx context.Context) error {
		err := r.cfg.Store.PutTokens(ctx, r.key.org, r.key.conn, rec.Version, r.taker, sealed)
		if err != nil && !errors.Is(err, ErrStale) {
			log.WarnContext(ctx, "refreshed tokens are not stored yet", slog.Any("error", err))
		}
		return err
	})
	switch {
	case err == nil:
		log.InfoContext(ctx, "connection refreshed")
		rec.Version++
		return next.token(rec), nil
	case errors.Is(err, ErrStale):
		log.ErrorContext(ctx, "refreshed tokens are lost: somebody else moved the connection on")
		return r.after(ctx, rec, lost)
	}
	log.ErrorContext(ctx, "refreshed tokens are lost: the store failed for too long", slog.Any("error", err))
	lost.Err = err
	return Token{}, lost
}

// after returns what the connection has now that somebody else moved it on, or
// otherwise if it has nothing new.
func (r *refresh) after(ctx context.Context, old Record, otherwise *Error) (Token, error) {
	rec, err := r.cfg.Store.LoadTokens(ctx, r.key.org, r.key.conn)
	if err != nil {
		return Token{}, notLoaded(r.key.conn, err)
	}
	if rec.Version <= old.Version && usable(rec) == nil {
		return Token{}, otherwise
	}
	return r.current(ctx, rec)
}

// failed decides what a refresh that brought no tokens means.
func (r *refresh) failed(ctx context.Context, log *slog.Logger, rec Record, e *oauth.RefreshError) (Token, error) {
	log = log.With(slog.String("kind", e.Kind.String()), slog.String("code", e.Code), slog.Int("status", e.Status))
	pause := min(r.cfg.Lease<<min(rec.Intent.Tries-1, 10), maxPause)
	switch e.Kind {
	case oauth.Ambiguous:
		log.WarnContext(ctx, "the outcome of a refresh is unknown")
		r.end(ctx, log, End{Unknown: true, Code: e.Code, Detail: e.Detail, Pause: pause})
		rec.Intent.Left = pause
		return Token{}, unknownError(rec, e)
	case oauth.Transient:
		log.InfoContext(ctx, "a refresh was not made")
		r.end(ctx, log, End{Code: e.Code, Detail: e.Detail, Pause: pause})
		return Token{}, &Error{Kind: Later, Code: e.Code, Detail: e.Detail, RetryAfter: e.RetryAfter, Err: e}
	case oauth.Operator:
		log.ErrorContext(ctx, "the provider refuses our app: refreshes fail until its settings are right")
		r.end(ctx, log, End{Code: e.Code, Detail: e.Detail, Pause: pause})
		return Token{}, &Error{Kind: Operator, Code: e.Code, Detail: e.Detail, Err: e}
	case oauth.Dead:
	}
	return r.dead(ctx, log, rec, e.Code, e.Detail)
}

// dead marks the connection as needing an admin.
func (r *refresh) dead(ctx context.Context, log *slog.Logger, rec Record, code, detail string) (Token, error) {
	broken := &Error{Kind: NeedsReauth, Code: code, Detail: detail}
	err := r.persist(ctx, r.cfg.Lease, func(ctx context.Context) error {
		return r.cfg.Store.BreakConnection(ctx, r.key.org, r.key.conn, Break{Version: rec.Version, Taker: r.taker, Code: code, Detail: detail})
	})
	switch {
	case err == nil:
		log.WarnContext(ctx, "connection needs an admin", slog.String("code", code))
		return Token{}, broken
	case errors.Is(err, ErrNotFound):
		return Token{}, notLoaded(r.key.conn, err)
	case errors.Is(err, ErrStale): // not the token that was refused
		return r.after(ctx, rec, &Error{Kind: Later, Code: CodeRefreshing, Detail: "another process is refreshing the connection"})
	}
	// The intent stays: whoever comes next finds the same and tries again.
	return Token{}, fmt.Errorf("vault: break connection %s: %w", r.key.conn, err)
}

// end notes that the refresh brought no tokens. If that fails, the intent
// stays until its lease ends, and is then taken for one of unknown outcome.
func (r *refresh) end(ctx context.Context, log *slog.Logger, e End) {
	err := r.persist(ctx, storePatience, func(ctx context.Context) error {
		return r.cfg.Store.EndRefresh(ctx, r.key.org, r.key.conn, r.taker, e)
	})
	if err != nil {
		log.WarnContext(ctx, "the end of a refresh is not stored", slog.Any("error", err))
	}
}

// persist calls the store until it answers, for as long as patience. An answer
// is nil, [ErrStale] or [ErrNotFound].
func (*refresh) persist(ctx context.Context, patience time.Duration, f func(context.Context) error) error {
	giveUp := time.Now().Add(patience)
	again := newBackoff(50*time.Millisecond, 2*time.Second)
	for {
		err := once(ctx, f)
		if err == nil || errors.Is(err, ErrStale) || errors.Is(err, ErrNotFound) || time.Now().After(giveUp) {
			return err
		}
		if again.wait(ctx) != nil {
			return err
		}
	}
}

// once calls f with the time that one call to the store may take.
func once(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return f(ctx)
}

// unknownError is the error while the outcome of a refresh is unknown.
func unknownError(rec Record, cause *oauth.RefreshError) *Error {
	e := &Error{
		Kind: Later, Code: CodeRefreshUnknown, RetryAfter: max(rec.Intent.Left, 0),
		Detail: "it is unknown whether the provider replaced the tokens; one more try is made later",
	}
	if cause != nil { // a nil *RefreshError is no nil error
		e.Err = cause
	}
	return e
}

// backoff is a growing pause with jitter.
type backoff struct{ next, limit time.Duration }

func newBackoff(first, limit time.Duration) *backoff { return &backoff{first, limit} }

// wait waits for half the pause or up to all of it, and doubles it.
func (b *backoff) wait(ctx context.Context) error {
	t := time.NewTimer(b.next/2 + rand.N(b.next/2+1)) //nolint:gosec // G404: spreads load, guards nothing
	defer t.Stop()
	b.next = min(2*b.next, b.limit)
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
