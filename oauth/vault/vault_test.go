package vault_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/seal"
	"github.com/optiwe/callbridge/oauth/vault"
	"github.com/optiwe/callbridge/oauth/vault/vaulttest"
)

// bubble runs a test with one process and one connection, in fake time.
func bubble(t *testing.T, f func(t *testing.T, w *world, p *process)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.process()
		w.connect(p, con)
		f(t, w, p)
		w.end(p)
	})
}

func access(t *testing.T, p *process) vault.Token {
	t.Helper()
	tok, err := p.Access(t.Context(), org, con)
	if err != nil {
		t.Fatalf("Access: %v", err)
	}
	return tok
}

// refreshed refreshes version 1 and checks that version 2 comes.
func refreshed(t *testing.T, p *process) vault.Token {
	t.Helper()
	tok, err := p.Refresh(t.Context(), org, con, 1)
	if err != nil {
		t.Fatalf("Refresh: %v", err)
	}
	if tok.Version != 2 || tok.Access.Reveal() != accessToken(con, 2) {
		t.Errorf("Refresh = version %d; want 2", tok.Version)
	}
	return tok
}

func TestAccessAndRefresh(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		tok := access(t, p)
		if tok.Version != 1 || tok.Access.Reveal() != accessToken(con, 1) || tok.Provider != "salesforce" ||
			tok.InstanceURL != "https://one.my.salesforce.com" || tok.Facts["conn"] != string(con) || !tok.Expires.IsZero() {
			t.Errorf("Access = %+v", tok)
		}
		w.provider.expire(con)
		tok = refreshed(t, p)
		if !w.provider.accepts(con, tok.Access) || access(t, p).Version != 2 {
			t.Error("the new token is not in force")
		}
		// Late comers with the old version cause nothing.
		refreshed(t, p)
		refreshed(t, w.process())
		w.wantCalls(1)
		if r := w.load(con); r.Intent.Taker != "" || r.State != hub.Connected {
			t.Errorf("record %+v", r)
		}
	})
}

// 30 waiting transfers cause one refresh, in one process and in several.
func TestManyCallersOneRefresh(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.after = func() time.Duration { return 3 * time.Second }
		ps := []*process{p, w.process(), w.process()}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() { refreshed(t, ps[i%len(ps)]) })
		}
		wg.Wait()
		w.wantCalls(1)
		w.end(ps...)
	})
}

// Within a process the callers do not even ask the store each.
func TestManyCallersOneTake(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.after = func() time.Duration { return 3 * time.Second }
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() { refreshed(t, p) })
		}
		wg.Wait()
		if n := p.takes.Load(); n != 1 {
			t.Errorf("%d takes; want 1", n)
		}
		w.wantCalls(1)
	})
}

// What a refresh does not tell stays as it was; what it tells replaces it.
func TestWhatARefreshDoesNotTell(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer    oauth.Tokens
		refresh   string
		url, fact string
		scopes    int
	}{
		"nothing":    {oauth.Tokens{Access: hub.NewSecret("a2")}, "r1", "https://one.example", "1", 1},
		"everything": {oauth.Tokens{Access: hub.NewSecret("a2"), Refresh: hub.NewSecret("r2"), InstanceURL: "https://two.example", Scopes: []string{"x", "y"}, Facts: map[string]string{"told": "2"}}, "r2", "https://two.example", "2", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var sent []string
			v, err := vault.New(vault.Config{
				Store: w.store, Keys: w.keys, Logger: slog.New(slog.DiscardHandler),
				Refreshers: map[string]oauth.Refresher{"slack": refresherFunc(
					func(_ context.Context, r hub.Secret, facts map[string]string) (oauth.Tokens, error) {
						sent = append(sent, r.Reveal()+" "+facts["told"]+" "+facts["kept"])
						return c.answer, nil
					})},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Import(t.Context(), org, con, "slack", oauth.Tokens{
				Access: hub.NewSecret("a1"), Refresh: hub.NewSecret("r1"), InstanceURL: "https://one.example",
				Scopes: []string{"x"}, Facts: map[string]string{"told": "1", "kept": "k"},
			}); err != nil {
				t.Fatal(err)
			}
			for version := 1; version <= 2; version++ {
				tok, err := v.Refresh(t.Context(), org, con, version)
				if err != nil {
					t.Fatal(err)
				}
				stored, err := v.Access(t.Context(), org, con)
				if d := cmp.Diff(tok, stored, cmp.Comparer(hub.Secret.Equal)); d != "" || err != nil {
					t.Errorf("handed out and stored differ: %s, %v", d, err)
				}
				if tok.Access.Reveal() != "a2" || tok.InstanceURL != c.url || len(tok.Scopes) != c.scopes || tok.Facts["told"] != c.fact || tok.Facts["kept"] != "k" {
					t.Errorf("token %+v", tok)
				}
			}
			if d := cmp.Diff([]string{"r1 1 k", c.refresh + " " + c.fact + " k"}, sent); d != "" {
				t.Errorf("sent (-want +got):\n%s", d)
			}
		})
	}
}

// An answer that is not tokens decides what becomes of the connection.
func TestFailedRefresh(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fail   oauth.Kind
		kind   vault.Kind
		code   string
		state  hub.ConnectionState
		intent bool
	}{
		{oauth.Transient, vault.Later, "x", hub.Connected, false},
		{oauth.Operator, vault.Operator, "x", hub.Connected, false},
		{oauth.Ambiguous, vault.Later, vault.CodeRefreshUnknown, hub.Connected, true},
		{oauth.Dead, vault.NeedsReauth, "x", hub.NeedsReauth, false},
	} {
		t.Run(c.fail.String(), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world, p *process) {
				w.provider.setFail(&oauth.RefreshError{Kind: c.fail, Code: "x", Detail: "why", RetryAfter: time.Minute})
				_, err := p.Refresh(t.Context(), org, con, 1)
				wantKind(t, err, c.kind, c.code)
				if _, ok := errors.AsType[*oauth.RefreshError](err); ok == (c.kind == vault.NeedsReauth) {
					t.Errorf("the cause: %v", errors.Unwrap(err))
				}
				r := w.load(con)
				if r.State != c.state || (r.Intent.Taker != "") != c.intent || r.Intent.Unknown != c.intent || r.Version != 1 {
					t.Errorf("record %+v", r)
				}
				_, err = p.Access(t.Context(), org, con)
				if c.state == hub.Connected {
					if err != nil {
						t.Errorf("Access: %v", err)
					}
				} else {
					wantKind(t, err, vault.NeedsReauth, vault.CodeNeedsReauth)
				}
				w.wantCalls(1)
			})
		})
	}
}

// An error that is none of ours is one of unknown outcome, and its text goes
// nowhere.
func TestUnclassifiedFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := &process{store: w.store}
		v, err := vault.New(vault.Config{
			Store: p, Keys: w.keys, Logger: slog.New(slog.NewTextHandler(w.logs, nil)),
			Refreshers: map[string]oauth.Refresher{"salesforce": refresherFunc(
				func(context.Context, hub.Secret, map[string]string) (oauth.Tokens, error) {
					return oauth.Tokens{}, errors.New(canary)
				})},
		})
		if err != nil {
			t.Fatal(err)
		}
		p.Vault = v
		w.connect(p, con)
		_, err = p.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.Later, vault.CodeRefreshUnknown)
		w.end(p)
	})
}

func TestTransientIsTriedAgainAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.setFail(&oauth.RefreshError{Kind: oauth.Transient, Code: "not_reached"})
		_, err := p.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.Later, "not_reached")
		w.provider.setFail(nil)
		refreshed(t, w.process())
		w.wantCalls(2)
	})
}

// After a refresh of unknown outcome the access token goes on being used;
// nobody asks the provider before the pause is over; then one try is made.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.setFail(&oauth.RefreshError{Kind: oauth.Ambiguous, Code: "http_503"})
		other := w.process()
		for try, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
			_, err := p.Refresh(t.Context(), org, con, 1)
			if after := wantKind(t, err, vault.Later, vault.CodeRefreshUnknown); after != pause {
				t.Errorf("retry after %v; want %v", after, pause)
			}
			<-time.After(pause - time.Second)
			begin := time.Now()
			_, err = other.Refresh(t.Context(), org, con, 1)
			wantKind(t, err, vault.Later, vault.CodeRefreshUnknown)
			if took := time.Since(begin); took != 0 {
				t.Errorf("waited %v for a refresh that nobody makes", took)
			}
			if tok := access(t, other); tok.Version != 1 {
				t.Errorf("Access = version %d", tok.Version)
			}
			w.wantCalls(try + 1)
			<-time.After(time.Second)
		}
		w.provider.setFail(nil)
		refreshed(t, other)
		if !strings.Contains(w.logs.String(), "outcome is unknown") {
			t.Error("nothing was logged")
		}
	})
}

// A refresher that died between the intent and the call: the lease runs out,
// and the next who needs a token gets it.
func TestIntentLeftBehind(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		if _, err := w.store.TakeRefresh(t.Context(), org, con, vault.Take{Version: 1, Taker: "dead", Lease: time.Minute}); err != nil {
			t.Fatal(err)
		}
		_, err := p.Refresh(t.Context(), org, con, 1)
		if after := wantKind(t, err, vault.Later, vault.CodeRefreshing); after <= 0 {
			t.Errorf("retry after %v", after)
		}
		w.wantCalls(0)
		<-time.After(40 * time.Second)
		refreshed(t, p)
		w.wantCalls(1)
	})
}

// A process that was stopped between the intent and the call must not call
// when it wakes: somebody else may have.
func TestStoppedBeforeTheCall(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		stopped := w.process()
		stopped.store = answersLate{stopped.store}
		_, err := stopped.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.Later, "too_late")
		w.wantCalls(0)
		refreshed(t, p)
		w.end(stopped)
	})
}

// answersLate is a store whose answer to a take comes after 20 s.
type answersLate struct{ vault.Store }

func (s answersLate) TakeRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, t vault.Take) (vault.Answer, error) {
	a, err := s.Store.TakeRefresh(ctx, org, conn, t)
	<-time.After(20 * time.Second)
	return a, err
}

// The new pair is stored however long that takes, the provider is asked once,
// and nobody sees the pair before.
func TestPutIsRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		after bool // the failure comes after the effect
	}{{"not stored", false}, {"stored, answer lost", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world, p *process) {
				broken := time.Now().Add(10 * time.Minute)
				failing := w.process()
				failing.store = putFails{failing.store, broken, c.after}
				done := make(chan struct{})
				go func() {
					defer close(done)
					refreshed(t, failing)
					if time.Now().Before(broken) {
						t.Error("the token was handed out before it was stored")
					}
				}()
				<-time.After(30 * time.Second)
				switch tok, err := p.Refresh(t.Context(), org, con, 1); {
				case c.after && (err != nil || tok.Version != 2):
					t.Errorf("Refresh elsewhere = version %d, %v", tok.Version, err)
				case !c.after:
					wantKind(t, err, vault.Later, vault.CodeRefreshing)
				}
				<-done
				w.wantCalls(1)
				w.end(failing)
			})
		})
	}
}

// putFails is a store that cannot put for a while, and then can.
type putFails struct {
	vault.Store
	until time.Time
	after bool
}

func (s putFails) PutTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, version int, taker string, sealed []byte) error {
	if time.Now().Before(s.until) {
		if s.after {
			_ = s.Store.PutTokens(ctx, org, conn, version, taker, sealed)
		}
		return errLost
	}
	return s.Store.PutTokens(ctx, org, conn, version, taker, sealed)
}

// The store is down for too long: the pair is lost, which the caller and the
// log are told, and the access token that is there goes on being used.
func TestPutNeverSucceeds(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, _ *process) {
		p := w.process()
		p.store = putFails{p.store, time.Now().Add(24 * time.Hour), false}
		_, err := p.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.Later, vault.CodeNotStored)
		if r := w.load(con); r.State != hub.Connected || r.Version != 1 || r.Intent.Tries != 1 || r.Intent.Live() {
			t.Errorf("record %+v", r)
		}
		// The window that cannot be closed: the one more try finds it out.
		_, err = p.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.NeedsReauth, "invalid_grant")
		w.end(p)
	})
}

// An admin reconnects during a refresh: the admin's tokens stay.
func TestReconnectedMeanwhile(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.after = func() time.Duration { return 5 * time.Second }
		var wg sync.WaitGroup
		wg.Go(func() { // gets what the admin brought
			tok, err := p.Refresh(t.Context(), org, con, 1)
			if err != nil || tok.Access.Reveal() != "admin-"+canary {
				t.Errorf("Refresh = version %d, %v", tok.Version, err)
			}
		})
		<-time.After(time.Second)
		version, err := p.Import(t.Context(), org, con, "salesforce", oauth.Tokens{Access: hub.NewSecret("admin-" + canary)})
		if err != nil || version != 2 {
			t.Fatalf("Import = version %d, %v", version, err)
		}
		wg.Wait()
		if tok := access(t, p); tok.Version != 2 || tok.Access.Reveal() != "admin-"+canary {
			t.Errorf("Access = version %d", tok.Version)
		}
	})
}

// A refused refresh token of a version that is no longer stored says nothing
// against the connection.
func TestDeadButReconnected(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.after = func() time.Duration { return 5 * time.Second }
		w.provider.setFail(&oauth.RefreshError{Kind: oauth.Dead, Code: "invalid_grant"})
		var wg sync.WaitGroup
		wg.Go(func() {
			tok, err := p.Refresh(t.Context(), org, con, 1)
			if err != nil || tok.Version != 2 {
				t.Errorf("Refresh = version %d, %v", tok.Version, err)
			}
		})
		<-time.After(time.Second)
		w.connect(p, con)
		wg.Wait()
		if r := w.load(con); r.State != hub.Connected || r.Version != 2 {
			t.Errorf("record %+v", r)
		}
	})
}

// The hub goes: reconnecting after needs_reauth is an import.
func TestBrokenAndReconnected(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.setFail(&oauth.RefreshError{Kind: oauth.Dead, Code: "invalid_grant"})
		_, err := p.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.NeedsReauth, "invalid_grant")
		_, err = p.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.NeedsReauth, vault.CodeNeedsReauth)
		w.provider.setFail(nil)
		w.connect(p, con)
		if tok := access(t, p); tok.Version != 2 {
			t.Errorf("Access = version %d", tok.Version)
		}
		w.wantCalls(1)
	})
}

// What the hub does after a second refusal.
func TestBreak(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		if err := p.Break(t.Context(), org, con, 2, "INVALID_SESSION_ID", "why"); !errors.Is(err, vault.ErrStale) {
			t.Errorf("Break of another version = %v; want ErrStale", err)
		}
		if err := p.Break(t.Context(), org, con, 1, "INVALID_SESSION_ID", "why"); err != nil {
			t.Errorf("Break = %v", err)
		}
		if r := w.load(con); r.State != hub.NeedsReauth {
			t.Errorf("state %s", r.State)
		}
	})
}

// A connection with a fixed secret is used, and cannot be refreshed.
func TestFixedSecret(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		provider string
		tokens   oauth.Tokens
	}{
		"webhook":          {"webhook", oauth.Tokens{Access: hub.NewSecret("whsec_" + canary), InstanceURL: "https://hooks.example/in?key=1"}},
		"no refresh token": {"salesforce", oauth.Tokens{Access: hub.NewSecret(canary)}},
		"unknown provider": {"teams", oauth.Tokens{Access: hub.NewSecret(canary), Refresh: hub.NewSecret(canary)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world, p *process) {
				if _, err := p.Import(t.Context(), org, "con_2", c.provider, c.tokens); err != nil {
					t.Fatal(err)
				}
				tok, err := p.Access(t.Context(), org, "con_2")
				if err != nil || !tok.Access.Equal(c.tokens.Access) || tok.InstanceURL != c.tokens.InstanceURL {
					t.Fatalf("Access = %+v, %v", tok, err)
				}
				_, err = p.Refresh(t.Context(), org, "con_2", tok.Version)
				wantKind(t, err, vault.NeedsReauth, vault.CodeNoRefresh)
				if r := w.load("con_2"); r.State != hub.NeedsReauth || r.Intent.Taker != "" {
					t.Errorf("record %+v", r)
				}
				w.wantCalls(0)
			})
		})
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		for _, c := range []struct {
			org  hub.OrgID
			conn hub.ConnectionID
			code string
		}{{org, "con_9", vault.CodeNotFound}, {"org_b", con, vault.CodeNotFound}} {
			_, err := p.Access(t.Context(), c.org, c.conn)
			wantKind(t, err, vault.Gone, c.code)
			_, err = p.Refresh(t.Context(), c.org, c.conn, 1)
			wantKind(t, err, vault.Gone, c.code)
		}
		w.store.SetState(org, con, hub.Paused)
		access(t, p) // the hub asks the state when it begins a transfer
		w.store.SetState(org, con, hub.Disconnected)
		_, err := p.Access(t.Context(), org, con)
		wantKind(t, err, vault.Gone, vault.CodeDisconnected)
		_, err = p.Refresh(t.Context(), org, con, 1)
		wantKind(t, err, vault.Gone, vault.CodeDisconnected)
		if _, err := p.Import(t.Context(), org, con, "salesforce", w.provider.connect(con)); !errors.Is(err, vault.ErrStale) {
			t.Errorf("Import = %v; want ErrStale", err)
		}
	})
}

// Sealed tokens of another connection, or an old version put back, do not
// open; nothing is sent, and the connection is not blamed.
func TestMovedTokensDoNotOpen(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.connect(p, "con_2")
		first := w.load(con)
		refreshed(t, p)
		for name, rec := range map[string]vault.Record{
			"another connection": {Provider: "salesforce", State: hub.Connected, Version: 1, Sealed: w.load("con_2").Sealed},
			"an old version":     {Provider: "salesforce", State: hub.Connected, Version: 2, Sealed: first.Sealed},
			"another provider":   {Provider: "slack", State: hub.Connected, Version: 1, Sealed: first.Sealed},
			"not sealed":         {Provider: "salesforce", State: hub.Connected, Version: 1, Sealed: []byte("{}")},
		} {
			if _, err := p.Use(t.Context(), org, con, rec); !errors.Is(err, seal.ErrOpen) {
				t.Errorf("%s: Use = %v; want ErrOpen", name, err)
			}
		}
		if err := w.store.InstallTokens(t.Context(), org, con, "salesforce", 3, first.Sealed); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Refresh(t.Context(), org, con, 3); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("Refresh = %v; want ErrOpen", err)
		}
		if r := w.load(con); r.State != hub.Connected || r.Intent.Taker != "" {
			t.Errorf("record %+v", r)
		}
		w.wantCalls(1)
	})
}

// Tokens of known expiry are refreshed ahead, while the old one is served.
func TestRefreshAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.provider.life = 12 * time.Hour
		w.provider.after = func() time.Duration { return 3 * time.Second }
		ps := []*process{w.process(), w.process(), w.process()}
		w.connect(ps[0], con)
		at := func(p *process, version int) {
			t.Helper()
			begin := time.Now()
			if tok := access(t, p); tok.Version != version {
				t.Errorf("after %v: version %d; want %d", w.provider.life, tok.Version, version)
			}
			if took := time.Since(begin); took != 0 {
				t.Errorf("Access took %v", took)
			}
		}
		<-time.After(10*time.Hour - time.Second)
		for _, p := range ps {
			at(p, 1)
		}
		synctest.Wait()
		w.wantCalls(0)
		<-time.After(24*time.Minute + time.Second) // the jitter is at most a fifth of the margin
		for _, p := range ps {
			at(p, 1)
			at(p, 1)
		}
		<-time.After(4 * time.Second)
		for _, p := range ps {
			at(p, 2)
		}
		w.wantCalls(1)

		// Nobody came while it could be refreshed ahead: then it must be now.
		<-time.After(13 * time.Hour)
		if tok := access(t, ps[1]); tok.Version != 3 {
			t.Errorf("Access after expiry = version %d", tok.Version)
		}
		w.wantCalls(2)
		w.end(ps...)
	})
}

// A refresh ahead that fails is not repeated with every access, and never
// takes over from one of unknown outcome.
func TestRefreshAheadFails(t *testing.T) {
	t.Parallel()
	for _, kind := range []oauth.Kind{oauth.Transient, oauth.Operator, oauth.Ambiguous} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.provider.life = 12 * time.Hour
				p := w.process()
				w.connect(p, con)
				w.provider.setFail(&oauth.RefreshError{Kind: kind, Code: "x"})
				<-time.After(11*time.Hour + time.Second)
				for range 59 * 60 { // until it expires
					access(t, p)
					<-time.After(time.Second)
				}
				calls, _ := w.provider.counts()
				if want := map[bool]int{true: 1, false: 59}[kind == oauth.Ambiguous]; calls != want {
					t.Errorf("%d requests in 59 minutes; want %d", calls, want)
				}
				w.provider.setFail(nil)
				<-time.After(2 * time.Minute)
				if tok := access(t, p); tok.Version != 2 {
					t.Errorf("Access after expiry = version %d", tok.Version)
				}
				w.end(p)
			})
		})
	}
}

// A refresh ahead leaves one of unknown outcome alone, whether the record that
// the caller had shows it or not.
func TestRefreshAheadNeverTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.provider.life = 12 * time.Hour
		p := w.process()
		w.connect(p, con)
		before := w.load(con)
		<-time.After(11 * time.Hour)
		if _, err := w.store.TakeRefresh(t.Context(), org, con, vault.Take{Version: 1, Taker: "dead", Lease: time.Minute}); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Minute)
		access(t, p)
		synctest.Wait()
		if n := p.takes.Load(); n != 0 {
			t.Errorf("%d takes; want none", n)
		}
		if _, err := p.Use(t.Context(), org, con, before); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := p.takes.Load(); n != 1 {
			t.Errorf("%d takes; want 1", n)
		}
		w.wantCalls(0)
		refreshed(t, p) // the access token was refused
		w.wantCalls(1)
		w.end(p)
	})
}

// Short lives do not make every access refresh.
func TestRefreshAheadOfShortLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.provider.life = 3 * time.Minute
		p := w.process()
		w.connect(p, con)
		for range 60 * 60 {
			access(t, p)
			<-time.After(time.Second)
		}
		if calls, _ := w.provider.counts(); calls < 20 || calls > 30 {
			t.Errorf("%d requests in an hour for tokens of 3 minutes; want 20 to 30", calls)
		}
		w.end(p)
	})
}

// Who asked may give up; the refresh goes on, and the next gets its result.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.after = func() time.Duration { return 5 * time.Second }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Refresh(ctx, org, con, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Refresh = %v; want DeadlineExceeded", err)
		}
		refreshed(t, p)
		w.wantCalls(1)
	})
}

func TestCloseWaitsForRefreshes(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		w.provider.after = func() time.Duration { return 5 * time.Second }
		var wg sync.WaitGroup
		wg.Go(func() { refreshed(t, p) })
		<-time.After(time.Second)
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("Close = %v", err)
		}
		if r := w.load(con); r.Version != 2 {
			t.Errorf("version %d after Close", r.Version)
		}
		_, err := p.Refresh(t.Context(), org, con, 2)
		wantKind(t, err, vault.Later, vault.CodeStopping)
		access(t, p)
		wg.Wait()
	})
}

func TestCloseAbandonsWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, _ *process) {
		p := w.process()
		w.provider.after = func() time.Duration { return 10 * time.Second }
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := p.Refresh(t.Context(), org, con, 1)
			wantKind(t, err, vault.Later, vault.CodeRefreshUnknown)
		})
		<-time.After(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("Close = %v after %v", err, time.Since(begin))
		}
		wg.Wait()
		if r := w.load(con); r.Intent.Taker == "" || r.State != hub.Connected {
			t.Errorf("record %+v", r)
		}
	})
}

// A fail-over lost the newest tokens: the older ones are all there is.
func TestStoreWentBack(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, p *process) {
		refreshed(t, p)
		back := vaulttest.NewMemory()
		w2 := *w
		w2.store = back
		after := w2.process()
		if _, err := after.Import(t.Context(), org, con, "salesforce", w.provider.tokens(con, 2)); err != nil {
			t.Fatal(err)
		}
		tok, err := after.Refresh(t.Context(), org, con, 2) // a version that the store does not have
		if err != nil || tok.Version != 2 || !w.provider.accepts(con, tok.Access) {
			t.Errorf("Refresh = version %d, %v", tok.Version, err)
		}
		w.end(after)
	})
}

// An operator's outage of the keys is no fault of the connection.
func TestKeysUnavailable(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, w *world, _ *process) {
		errKeys := errors.New("service down")
		w2 := *w
		w2.keys = func(context.Context, hub.OrgID) (*seal.OrgKeys, error) { return nil, errKeys }
		p := w2.process()
		if _, err := p.Access(t.Context(), org, con); !errors.Is(err, errKeys) {
			t.Errorf("Access = %v", err)
		}
		if _, err := p.Refresh(t.Context(), org, con, 1); !errors.Is(err, errKeys) {
			t.Errorf("Refresh = %v", err)
		}
		if r := w.load(con); r.State != hub.Connected || r.Intent.Taker != "" {
			t.Errorf("record %+v", r)
		}
		w.wantCalls(0)
		w.end(p)
	})
}

func TestNewRefusals(t *testing.T) {
	t.Parallel()
	good := vault.Config{
		Store: vaulttest.NewMemory(), Logger: slog.New(slog.DiscardHandler),
		Keys: func(context.Context, hub.OrgID) (*seal.OrgKeys, error) { return nil, nil }, //nolint:nilnil // never called
	}
	for name, change := range map[string]func(*vault.Config){
		"store": func(c *vault.Config) { c.Store = nil }, "logger": func(c *vault.Config) { c.Logger = nil }, "keys": func(c *vault.Config) { c.Keys = nil },
		"short lease": func(c *vault.Config) { c.Lease = 20 * time.Second }, "negative": func(c *vault.Config) { c.Wait = -1 },
	} {
		c := good
		change(&c)
		if _, err := vault.New(c); err == nil {
			t.Errorf("%s: New succeeded", name)
		}
	}
	v, err := vault.New(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Import(t.Context(), org, con, "webhook", oauth.Tokens{}); err == nil {
		t.Error("Import of nothing succeeded")
	}
}

func TestKindNames(t *testing.T) {
	t.Parallel()
	for k, want := range map[vault.Kind]string{vault.Later: "later", vault.Operator: "operator", vault.NeedsReauth: "needs_reauth", vault.Gone: "gone", 9: "kind(9)"} {
		if k.String() != want {
			t.Errorf("Kind(%d) = %s; want %s", int(k), k, want)
		}
	}
}

// What a caller does with a token, as the hub's delivery does.
func Example() {
	push := func(vault.Token) (unauthorized bool) { return false }
	deliver := func(ctx context.Context, v *vault.Vault, org hub.OrgID, conn hub.ConnectionID) error {
		tok, err := v.Access(ctx, org, conn)
		if err != nil || !push(tok) {
			return err
		}
		if tok, err = v.Refresh(ctx, org, conn, tok.Version); err != nil || !push(tok) {
			return err
		}
		return v.Break(ctx, org, conn, tok.Version, "INVALID_SESSION_ID", "the provider refuses a token that it has just given")
	}
	fmt.Println(deliver != nil)
	// Output: true
}
