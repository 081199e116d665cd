package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/seal"
)

// Config configures a [Vault]. Store, Keys and Logger are required; the zero
// value of every other field means the default given there.
type Config struct {
	Store Store

	// Refreshers has the way to refresh for each provider that has one. The
	// credential of any other is fixed.
	Refreshers map[string]oauth.Refresher

	// Keys returns an org's keys. Its result is not kept.
	Keys func(ctx context.Context, org hub.OrgID) (*seal.OrgKeys, error)

	// Logger receives one line for each refresh and for what goes wrong in
	// one.
	Logger *slog.Logger

	// CallTimeout bounds a refresh from before the intent is written to the
	// provider's answer. Defaults to 15 s.
	CallTimeout time.Duration

	// Lease is how long an intent keeps others from refreshing. It must be
	// longer than any request can go on at the provider, or two are made with
	// one token; and what is left of it after the call is how long the store
	// may fail before another process could come between. It is also how long
	// a connection can wait for a token after a process died in a refresh.
	// Defaults to four times CallTimeout; at least twice.
	Lease time.Duration

	// Wait is how long [Vault.Refresh] waits for a refresh that another
	// process makes. Defaults to CallTimeout and 5 s.
	Wait time.Duration

	// Margin is how long before its expiry a token is refreshed, at most a
	// third of its life. Defaults to 2 hours.
	Margin time.Duration

	// KeepTrying is how long a process goes on storing a new pair while the
	// store fails, if nobody took over meanwhile. Defaults to 15 minutes.
	KeepTrying time.Duration
}

const (
	defaultCallTimeout = 15 * time.Second
	defaultMargin      = 2 * time.Hour
	defaultKeepTrying  = 15 * time.Minute
	storeTimeout       = 5 * time.Second  // of one call to the store
	storePatience      = 5 * time.Second  // for calls that need not succeed
	quietAfterFailure  = time.Minute      // before the next refresh ahead of expiry by this process
	maxPause           = 15 * time.Minute // after unknown attempts, whose pauses double
	maxQuiet           = 10_000           // connections remembered; all are forgotten then
)

// Vault keeps tokens. It may be used by several goroutines, and any number of
// processes may have one over the same store.
type Vault struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	flights map[flightKey]*flight
	quiet   map[connKey]time.Time // no refresh ahead of expiry before
	closed  bool
}

type connKey struct {
	org  hub.OrgID
	conn hub.ConnectionID
}

// New returns a Vault. Close it before its store.
func New(cfg Config) (*Vault, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Logger == nil {
		return nil, errors.New("vault: Store, Keys and Logger are required")
	}
	cfg.CallTimeout = orDefault(cfg.CallTimeout, defaultCallTimeout)
	cfg.Lease = orDefault(cfg.Lease, 4*cfg.CallTimeout)
	cfg.Wait = orDefault(cfg.Wait, cfg.CallTimeout+5*time.Second)
	cfg.Margin = orDefault(cfg.Margin, defaultMargin)
	cfg.KeepTrying = orDefault(cfg.KeepTrying, defaultKeepTrying)
	switch {
	case cfg.CallTimeout < 0 || cfg.Wait < 0 || cfg.Margin < 0 || cfg.KeepTrying < 0:
		return nil, errors.New("vault: durations must not be negative")
	case cfg.Lease < 2*cfg.CallTimeout:
		return nil, fmt.Errorf("vault: Lease must be at least twice CallTimeout (%v)", cfg.CallTimeout)
	}
	return &Vault{cfg: cfg, flights: map[flightKey]*flight{}, quiet: map[connKey]time.Time{}}, nil
}

// Seal returns tokens sealed as the given version of a connection, for a store
// that makes the connection itself, with Version 1, in one step with more than
// the tokens.
func (v *Vault) Seal(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, provider string, version int, t oauth.Tokens) ([]byte, error) {
	if t.Access.IsZero() {
		return nil, errors.New("vault: there is no access token to keep")
	}
	k, err := v.cfg.Keys(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("vault: keys of org %s: %w", org, err)
	}
	return sealTokens(k, conn, provider, version, held{Tokens: t, issued: time.Now()})
}

// Import keeps tokens that an admin brought, in the place of any that the
// connection has, and returns their version. The connection is connected
// then, unless it was disconnected: [ErrStale].
func (v *Vault) Import(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, provider string, t oauth.Tokens) (int, error) {
	const tries = 3 // a refresh may be stored in between
	var err error
	for range tries {
		var rec Record
		rec, err = v.cfg.Store.LoadTokens(ctx, org, conn)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return 0, fmt.Errorf("vault: load connection %s: %w", conn, err)
		}
		version := rec.Version + 1
		var sealed []byte
		sealed, err = v.Seal(ctx, org, conn, provider, version, t)
		if err != nil {
			return 0, err
		}
		err = v.cfg.Store.InstallTokens(ctx, org, conn, provider, version, sealed)
		if err == nil {
			return version, nil
		}
		if !errors.Is(err, ErrStale) {
			break
		}
	}
	return 0, fmt.Errorf("vault: store tokens of connection %s: %w", conn, err)
}

// Access returns the connection's token. It costs one round trip to the store,
// unless the token is known to have expired: then it is refreshed first, as by
// [Vault.Refresh]. A token that expires soon is returned, and refreshed
// meanwhile.
//
// Its errors are *[Error], but for those of the store and of keys.
func (v *Vault) Access(ctx context.Context, org hub.OrgID, conn hub.ConnectionID) (Token, error) {
	rec, err := v.cfg.Store.LoadTokens(ctx, org, conn)
	if err != nil {
		return Token{}, notLoaded(conn, err)
	}
	return v.Use(ctx, org, conn, rec)
}

// Use is [Vault.Access] for a record that the caller has read already.
func (v *Vault) Use(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, rec Record) (Token, error) {
	h, _, err := v.open(ctx, org, conn, rec)
	if err != nil {
		return Token{}, err
	}
	if h.Expires.IsZero() {
		return h.token(rec), nil
	}
	now := time.Now()
	if h.spent(now) {
		return v.Refresh(ctx, org, conn, rec.Version)
	}
	if v.refreshable(rec, h) && rec.Intent.Taker == "" && !now.Before(h.due(conn, rec.Version, v.cfg.Margin)) {
		v.refreshAhead(ctx, org, conn, rec.Version)
	}
	return h.token(rec), nil
}

// Refresh returns a token newer than the stale one, whose version the caller
// names because the provider refused it. Callers in all processes share one
// request to the provider; who comes when it is done gets its result without
// another.
//
// Once begun, a refresh goes on although ctx is done.
//
// Errors are *[Error], but for those of the store and of keys. Kind
// NeedsReauth means that the connection has been marked: the provider refuses
// the refresh token too, or there is nothing to refresh.
func (v *Vault) Refresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, stale int) (Token, error) {
	f, err := v.join(ctx, flightKey{connKey{org, conn}, stale, true})
	if err != nil {
		return Token{}, err
	}
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return Token{}, fmt.Errorf("vault: wait for the refresh of connection %s: %w", conn, ctx.Err())
	}
}

// Break marks the connection as needing an admin, because the provider refuses
// its token of that version even after a refresh. It returns [ErrStale],
// wrapped, if the connection has other tokens by now or somebody is refreshing
// them: then nothing is known against it.
func (v *Vault) Break(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, version int, code, detail string) error {
	err := v.cfg.Store.BreakConnection(ctx, org, conn, Break{Version: version, Code: code, Detail: detail})
	if err != nil {
		return fmt.Errorf("vault: break connection %s: %w", conn, err)
	}
	v.cfg.Logger.WarnContext(ctx, "connection needs an admin", slog.String("org", string(org)),
		slog.String("connection", string(conn)), slog.Int("version", version), slog.String("code", code))
	return nil
}

// Close lets refreshes in hand end and begins no new ones. When ctx is done it
// abandons them, which leaves their intents behind, and returns ctx's error.
func (v *Vault) Close(ctx context.Context) error {
	v.mu.Lock()
	v.closed = true
	flights := make([]*flight, 0, len(v.flights))
	for _, f := range v.flights {
		flights = append(flights, f)
	}
	v.mu.Unlock()
	var err error
	for _, f := range flights {
		select {
		case <-f.done:
			continue
		case <-ctx.Done():
			err = fmt.Errorf("vault: refreshes were abandoned: %w", context.Cause(ctx))
			f.cancel()
		}
		<-f.done
	}
	return err
}

// open returns the tokens in rec, and the keys that opened them.
func (v *Vault) open(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, rec Record) (held, *seal.OrgKeys, error) {
	if err := usable(rec); err != nil {
		return held{}, nil, err
	}
	k, err := v.cfg.Keys(ctx, org)
	if err != nil {
		return held{}, nil, fmt.Errorf("vault: keys of org %s: %w", org, err)
	}
	h, err := openTokens(k, conn, rec)
	if err != nil {
		return held{}, nil, err
	}
	return h, k, nil
}

// refreshable reports whether there is a way to refresh h.
func (v *Vault) refreshable(rec Record, h held) bool {
	return v.cfg.Refreshers[rec.Provider] != nil && !h.Refresh.IsZero()
}

// notLoaded returns the error for a connection that could not be read.
func notLoaded(conn hub.ConnectionID, err error) error {
	if errors.Is(err, ErrNotFound) {
		return &Error{Kind: Gone, Code: CodeNotFound, Detail: "there is no such connection", Err: err}
	}
	return fmt.Errorf("vault: load connection %s: %w", conn, err)
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
