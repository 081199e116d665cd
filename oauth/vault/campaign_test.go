package vault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/vault"
)

const (
	replicas    = 8
	connections = 60
	rounds      = 6
)

// fleet is some replicas that use many connections at once.
type fleet struct {
	*world
	mu sync.Mutex // guards ps
	ps []*process
}

func newFleet(w *world, configure func(*process)) *fleet {
	f := &fleet{world: w}
	for range replicas {
		p := w.process()
		configure(p)
		f.ps = append(f.ps, p)
	}
	return f
}

func (f *fleet) replica(i int) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ps[i%len(f.ps)]
}

// replace kills a replica and starts another in its place.
func (f *fleet) replace(i int, configure func(*process)) {
	next := f.process()
	configure(next)
	f.mu.Lock()
	old := f.ps[i]
	f.ps[i] = next
	f.mu.Unlock()
	old.kill()
}

// use pushes with the connection's token from replica i, as the hub does, until
// it works or the connection is broken.
func (f *fleet) use(i int, conn hub.ConnectionID) {
	ctx := context.Background()
	for range 1000 {
		p := f.replica(i)
		tok, err := p.Access(ctx, org, conn)
		if err == nil && !f.provider.accepts(conn, tok.Access) {
			tok, err = p.Refresh(ctx, org, conn, tok.Version)
		}
		if err == nil && f.provider.accepts(conn, tok.Access) {
			return
		}
		if e, ok := errors.AsType[*vault.Error](err); ok {
			switch e.Kind {
			case vault.NeedsReauth:
				return
			case vault.Later:
			case vault.Operator, vault.Gone:
				f.tb.Errorf("%s: %v", conn, err)
				return
			}
		}
		<-time.After(time.Second + rand.N(5*time.Second))
	}
	f.tb.Errorf("%s: no token after 1,000 tries", conn)
}

// run has every connection's token expire a number of times, and 32 pushes of
// it after each.
func (f *fleet) run() {
	var all sync.WaitGroup
	for n := range connections {
		conn := hub.ConnectionID(fmt.Sprintf("con_%d", n))
		all.Go(func() {
			for range rounds {
				f.provider.expire(conn)
				var wg sync.WaitGroup
				for i := range 4 * replicas {
					wg.Go(func() { f.use(i, conn) })
				}
				wg.Wait()
			}
		})
	}
	all.Wait()
}

// connectAll imports the connections, whatever the store does.
func (f *fleet) connectAll() {
	quiet := f.process()
	for n := range connections {
		f.connect(quiet, hub.ConnectionID(fmt.Sprintf("con_%d", n)))
	}
}

// Replicas share connections; a tenth of the provider's answers takes almost as
// long as is waited for; the store loses questions and answers. Each expiry
// costs one request, no refresh token is used twice, no connection is lost.
func TestCampaignOfLostAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.provider.before = func() time.Duration { return rand.N(50 * time.Millisecond) }
		w.provider.after = func() time.Duration {
			if rand.IntN(10) == 0 {
				return 5*time.Second + rand.N(4*time.Second)
			}
			return rand.N(300 * time.Millisecond)
		}
		f := newFleet(w, func(p *process) {
			p.trouble = 0.03
			p.latency = func() time.Duration { return rand.N(3 * time.Millisecond) }
		})
		f.connectAll()
		f.run()
		for n := range connections {
			if r := w.load(hub.ConnectionID(fmt.Sprintf("con_%d", n))); r.State != hub.Connected || r.Version != rounds+1 || r.Intent.Taker != "" {
				t.Errorf("con_%d: %s, version %d, intent %+v", n, r.State, r.Version, r.Intent)
			}
		}
		w.wantCalls(connections * rounds)
		w.end(f.ps...)
	})
}

// As before, and all the while replicas are killed. A connection may be lost
// only if a replica died after the provider replaced the tokens and before the
// new ones were stored, which nothing can prevent; it needs an admin then and
// says so. No refresh token is used twice but to find that out.
func TestCampaignOfKilledReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.provider.before = func() time.Duration { return rand.N(200 * time.Millisecond) }
		w.provider.after = func() time.Duration { return rand.N(400 * time.Millisecond) }
		configure := func(p *process) {
			p.trouble = 0.03
			p.latency = func() time.Duration { return rand.N(20 * time.Millisecond) }
		}
		f := newFleet(w, configure)
		f.connectAll()
		over, kills := make(chan struct{}), 0
		var killer sync.WaitGroup
		killer.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(100*time.Millisecond + rand.N(2*time.Second)):
					f.replace(rand.IntN(replicas), configure)
					kills++
				}
			}
		})
		f.run()
		close(over)
		killer.Wait()

		lost := 0
		for n := range connections {
			conn := hub.ConnectionID(fmt.Sprintf("con_%d", n))
			r := w.load(conn)
			w.provider.mu.Lock()
			family := w.provider.families[conn]
			w.provider.mu.Unlock()
			switch r.State {
			case hub.Connected:
				if r.Version != rounds+1 || family.dead {
					t.Errorf("%s: version %d, dead %v", conn, r.Version, family.dead)
				}
			case hub.NeedsReauth:
				lost++
				last := family.commits[len(family.commits)-1]
				if last.serial != r.Version+1 || !last.by.killed.Load() {
					t.Errorf("%s: lost at version %d though who got version %d was not killed", conn, r.Version, last.serial)
				}
			case hub.Paused, hub.Disconnected:
				t.Errorf("%s: %s", conn, r.State)
			}
		}
		calls, reuses := w.provider.counts()
		if reuses != lost {
			t.Errorf("%d reuses and %d connections lost", reuses, lost)
		}
		if kills < 10 || lost == connections {
			t.Errorf("%d kills, %d connections lost: this tests nothing", kills, lost)
		}
		t.Logf("%d kills in %d refreshes; %d of %d connections were in the window that cannot be closed", kills, calls, lost, connections)
		w.end(f.ps...)
	})
}

// The same over HTTP, with Salesforce's client and a token endpoint that
// revokes everything when a refresh token comes twice.
func TestReplicasOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := httptest.NewServer(tokenEndpoint(w.provider))
	tr := &http.Transport{}
	t.Cleanup(func() { tr.CloseIdleConnections(); s.Close() })
	salesforce, err := oauth.NewSalesforce(oauth.SalesforceConfig{
		ClientID: "client", ClientSecret: hub.NewSecret("secret-" + canary), LoginURL: s.URL,
		CheckURL: url.Parse, Client: func(*url.URL) *http.Client { return &http.Client{Transport: tr} },
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{world: w}
	for range replicas {
		p := &process{store: w.store}
		p.Vault, err = vault.New(vault.Config{
			Store: p, Keys: w.keys, Refreshers: map[string]oauth.Refresher{"salesforce": salesforce}, Logger: slog.New(slog.NewJSONHandler(w.logs, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		f.ps = append(f.ps, p)
	}
	const conns, times = 10, 3
	var all sync.WaitGroup
	for n := range conns {
		conn := hub.ConnectionID(fmt.Sprintf("con_%d", n))
		w.connect(f.ps[0], conn)
		all.Go(func() {
			for range times {
				w.provider.expire(conn)
				var wg sync.WaitGroup
				for i := range 4 * replicas {
					wg.Go(func() { f.use(i, conn) })
				}
				wg.Wait()
			}
		})
	}
	all.Wait()
	for n := range conns {
		if r := w.load(hub.ConnectionID(fmt.Sprintf("con_%d", n))); r.State != hub.Connected || r.Version != times+1 {
			t.Errorf("con_%d: %s, version %d", n, r.State, r.Version)
		}
	}
	w.wantCalls(conns * times)
	w.end(f.ps...)
}

// tokenEndpoint serves p. Which connection a token belongs to is in the token.
func tokenEndpoint(p *provider) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refresh := r.PostFormValue("refresh_token")
		conn, serial := hub.ConnectionID(""), 0
		if _, err := fmt.Sscanf(refresh, "refresh-"+canary+"-con_%d", &serial); err == nil {
			conn = hub.ConnectionID(fmt.Sprintf("con_%d", serial))
		}
		w.Header().Set("Content-Type", "application/json")
		t, err := p.commit(nil, conn, hub.NewSecret(refresh))
		answer := map[string]any{"access_token": t.Access.Reveal(), "refresh_token": t.Refresh.Reveal(), "token_type": "Bearer"}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			answer = map[string]any{"error": "invalid_grant", "error_description": "expired access/refresh token"}
		}
		_ = json.NewEncoder(w).Encode(answer) // the client has gone
	})
}
