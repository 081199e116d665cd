package vault_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/seal"
	"github.com/optiwe/callbridge/oauth/vault"
	"github.com/optiwe/callbridge/oauth/vault/vaulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	org hub.OrgID        = "org_a"
	con hub.ConnectionID = "con_1"

	canary = "canary" // every token holds it
)

// provider is a token endpoint that kills a connection's whole family of
// tokens when a refresh token comes twice. It commits what it was sent even if
// nobody waits for the answer.
type provider struct {
	// before and after are how long it takes from the request to the commit
	// and from there to the answer. nil: no time.
	before, after func() time.Duration
	life          time.Duration // of an access token, told in the answer; 0: not told

	mu       sync.Mutex // guards what follows
	families map[hub.ConnectionID]*family
	calls    int
	reuses   int                 // that killed a family
	fail     *oauth.RefreshError // answer to every request, which has no effect
	running  sync.WaitGroup
}

type family struct {
	serial  int // of the tokens in force
	dead    bool
	expired bool // the access token in force is refused
	commits []commit
}

// commit is one refresh that the provider made.
type commit struct {
	by     *process
	serial int
}

func newProvider() *provider {
	return &provider{families: map[hub.ConnectionID]*family{}}
}

func accessToken(conn hub.ConnectionID, serial int) string {
	return fmt.Sprintf("access-%s-%s-%d", canary, conn, serial)
}

func refreshToken(conn hub.ConnectionID, serial int) string {
	return fmt.Sprintf("refresh-%s-%s-%d", canary, conn, serial)
}

// connect makes a family and returns its first tokens.
func (p *provider) connect(conn hub.ConnectionID) oauth.Tokens {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.families[conn]
	if f == nil {
		f = &family{}
		p.families[conn] = f
	}
	f.serial++
	f.dead, f.expired = false, false
	return p.tokens(conn, f.serial)
}

func (p *provider) tokens(conn hub.ConnectionID, serial int) oauth.Tokens {
	t := oauth.Tokens{
		Access: hub.NewSecret(accessToken(conn, serial)), Refresh: hub.NewSecret(refreshToken(conn, serial)),
		InstanceURL: "https://one.my.salesforce.com", Facts: map[string]string{"conn": string(conn)},
	}
	if p.life > 0 {
		t.Expires = time.Now().Add(p.life)
	}
	return t
}

// expire makes the access token in force useless.
func (p *provider) expire(conn hub.ConnectionID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.families[conn].expired = true
}

// accepts reports whether a push with the token would work.
func (p *provider) accepts(conn hub.ConnectionID, access hub.Secret) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.families[conn]
	return !f.dead && !f.expired && access.Reveal() == accessToken(conn, f.serial)
}

func (p *provider) setFail(e *oauth.RefreshError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = e
}

func (p *provider) counts() (calls, reuses int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls, p.reuses
}

// from returns the provider as the process reaches it.
func (p *provider) from(by *process) oauth.Refresher { return p.refresh(by) }

type refresherFunc func(context.Context, hub.Secret, map[string]string) (oauth.Tokens, error)

func (f refresherFunc) Refresh(ctx context.Context, r hub.Secret, facts map[string]string) (oauth.Tokens, error) {
	return f(ctx, r, facts)
}

func (p *provider) refresh(by *process) refresherFunc {
	type answer struct {
		t   oauth.Tokens
		err error
	}
	return func(ctx context.Context, refresh hub.Secret, facts map[string]string) (oauth.Tokens, error) {
		done := make(chan answer, 1)
		p.running.Go(func() { // the provider does not care whether somebody waits
			pass(p.before)
			t, err := p.commit(by, hub.ConnectionID(facts["conn"]), refresh)
			pass(p.after)
			done <- answer{t, err}
		})
		select {
		case a := <-done:
			return a.t, a.err
		case <-ctx.Done():
			return oauth.Tokens{}, &oauth.RefreshError{Kind: oauth.Ambiguous, Code: "timeout", Detail: "no answer", Err: ctx.Err()}
		}
	}
}

func pass(d func() time.Duration) {
	if d != nil {
		<-time.After(d())
	}
}

func (p *provider) commit(by *process, conn hub.ConnectionID, refresh hub.Secret) (oauth.Tokens, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.fail != nil {
		return oauth.Tokens{}, p.fail
	}
	f := p.families[conn]
	if refresh.Reveal() != refreshToken(conn, f.serial) && !f.dead {
		p.reuses++
		f.dead = true
	}
	if f.dead {
		return oauth.Tokens{}, &oauth.RefreshError{Kind: oauth.Dead, Code: "invalid_grant", Detail: "connect again"}
	}
	f.serial++
	f.expired = false
	f.commits = append(f.commits, commit{by, f.serial})
	return p.tokens(conn, f.serial), nil
}

var errLost = errors.New("the store did not answer")

// process is a replica: a vault, and the store as it reaches it.
type process struct {
	*vault.Vault
	store vault.Store

	trouble float64              // how often a call to the store fails, before or after it took effect
	latency func() time.Duration // of a call to the store; nil: none

	takes  atomic.Int64 // asked for
	killed atomic.Bool  // nothing of it reaches the store any more
}

func (p *process) do(ctx context.Context, f func() error) error {
	pass(p.latency)
	switch {
	case p.killed.Load():
		return errLost
	case ctx.Err() != nil:
		return ctx.Err()
	case rand.Float64() < p.trouble:
		return errLost
	}
	err := f()
	if p.killed.Load() || rand.Float64() < p.trouble {
		return errLost // it happened, and nobody was told
	}
	return err
}

func (p *process) LoadTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID) (r vault.Record, err error) {
	err = p.do(ctx, func() (err error) { r, err = p.store.LoadTokens(ctx, org, conn); return err })
	return r, err
}

func (p *process) InstallTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, provider string, version int, sealed []byte) error {
	return p.do(ctx, func() error { return p.store.InstallTokens(ctx, org, conn, provider, version, sealed) })
}

func (p *process) TakeRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, t vault.Take) (a vault.Answer, err error) {
	p.takes.Add(1)
	err = p.do(ctx, func() (err error) { a, err = p.store.TakeRefresh(ctx, org, conn, t); return err })
	return a, err
}

func (p *process) PutTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, version int, taker string, sealed []byte) error {
	return p.do(ctx, func() error { return p.store.PutTokens(ctx, org, conn, version, taker, sealed) })
}

func (p *process) EndRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, taker string, e vault.End) error {
	return p.do(ctx, func() error { return p.store.EndRefresh(ctx, org, conn, taker, e) })
}

func (p *process) BreakConnection(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, b vault.Break) error {
	return p.do(ctx, func() error { return p.store.BreakConnection(ctx, org, conn, b) })
}

// kill ends the process as SIGKILL does.
func (p *process) kill() {
	p.killed.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.Close(ctx) // always reports what it abandoned
}

// world is what the processes share.
type world struct {
	tb       testing.TB
	store    *vaulttest.Memory
	provider *provider
	keys     func(context.Context, hub.OrgID) (*seal.OrgKeys, error)
	logs     *logs
}

// logs collects what is logged, by any number of processes.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	keyset, err := seal.NewKeyset()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "keyset.json")
	if err := os.WriteFile(path, keyset, 0o600); err != nil {
		tb.Fatal(err)
	}
	kek, err := seal.Open("file:" + path)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := seal.New(seal.Config{KEK: kek})
	if err != nil {
		tb.Fatal(err)
	}
	wrapped, err := s.NewOrgKeys(tb.Context(), org)
	if err != nil {
		tb.Fatal(err)
	}
	return &world{
		tb: tb, store: vaulttest.NewMemory(), provider: newProvider(), logs: &logs{},
		keys: func(ctx context.Context, o hub.OrgID) (*seal.OrgKeys, error) { return s.OrgKeys(ctx, o, wrapped) },
	}
}

// process starts a replica. Set its faults before using it.
func (w *world) process() *process {
	w.tb.Helper()
	p := &process{store: w.store}
	v, err := vault.New(vault.Config{
		Store: p, Keys: w.keys, Refreshers: map[string]oauth.Refresher{"salesforce": w.provider.from(p)},
		Logger: slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	p.Vault = v
	return p
}

// connect imports a connection.
func (w *world) connect(p *process, conn hub.ConnectionID) {
	w.tb.Helper()
	if _, err := p.Import(w.tb.Context(), org, conn, "salesforce", w.provider.connect(conn)); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) load(conn hub.ConnectionID) vault.Record {
	w.tb.Helper()
	r, err := w.store.LoadTokens(context.Background(), org, conn)
	if err != nil {
		w.tb.Fatal(err)
	}
	return r
}

// end stops the processes and checks that no token was logged.
func (w *world) end(ps ...*process) {
	w.tb.Helper()
	for _, p := range ps {
		if err := p.Close(context.Background()); err != nil {
			w.tb.Errorf("Close: %v", err)
		}
	}
	w.provider.running.Wait()
	if logged := w.logs.String(); strings.Contains(logged, canary) {
		w.tb.Errorf("a token was logged: %s", logged)
	}
}

// wantCalls checks how many requests the provider had, and that no token came
// twice.
func (w *world) wantCalls(want int) {
	w.tb.Helper()
	calls, reuses := w.provider.counts()
	if calls != want || reuses != 0 {
		w.tb.Errorf("%d requests, %d of them with a used token; want %d and none", calls, reuses, want)
	}
}

// wantKind checks an error of the vault, and that it tells no token. It returns
// the error's RetryAfter.
func wantKind(tb testing.TB, err error, kind vault.Kind, code string) (retryAfter time.Duration) {
	tb.Helper()
	e, ok := errors.AsType[*vault.Error](err)
	if !ok {
		tb.Fatalf("error = %v; want a *vault.Error", err)
	}
	if e.Kind != kind || e.Code != code {
		tb.Errorf("error = %v; want %v, %s", e, kind, code)
	}
	if told := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(told, canary) {
		tb.Errorf("the error tells a token: %s", told)
	}
	return e.RetryAfter
}
