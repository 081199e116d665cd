package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/outbound"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Accounts opens connections for connectors: the token in force, and an HTTP
// client that reaches the connection's host and nothing else. It may be used
// by several goroutines.
type Accounts struct {
	Vault        *vault.Vault
	Transport    *outbound.Transport
	Cache        *outbound.Cache
	Store        *store.Store
	Connectors   *connectors.Registry
	AllowPrivate []string
	Logger       *slog.Logger

	budgets budgets
}

// Opened is an account with the version of its token.
type Opened struct {
	connectors.Account
	Version int
}

// Open returns the account of a connection, with the token in force.
func (a *Accounts) Open(ctx context.Context, org hub.OrgID, c *directory.Connection) (Opened, error) {
	t, err := a.Vault.Access(ctx, org, c.ID)
	if err != nil {
		return Opened{}, fmt.Errorf("open connection %s: %w", c.ID, err)
	}
	return a.with(org, c, t)
}

// Refresh returns the account with a token that is newer than version.
func (a *Accounts) Refresh(ctx context.Context, org hub.OrgID, c *directory.Connection, version int) (Opened, error) {
	t, err := a.Vault.Refresh(ctx, org, c.ID, version)
	if err != nil {
		return Opened{}, fmt.Errorf("refresh connection %s: %w", c.ID, err)
	}
	return a.with(org, c, t)
}

func (a *Accounts) with(org hub.OrgID, c *directory.Connection, t vault.Token) (Opened, error) {
	base := c.BaseURL
	if t.InstanceURL != "" {
		base = t.InstanceURL
	}
	acc, err := a.Unsaved(c.Provider, base, t.Access, c.Facts)
	if err != nil {
		return Opened{}, fmt.Errorf("open connection %s: %w", c.ID, err)
	}
	acc.Cache = a.Cache.For(string(org) + "/" + string(c.ID))
	acc.OnBudget = func(b connectors.Budget) { a.note(org, c.ID, b) }
	return Opened{Account: acc, Version: t.Version}, nil
}

// Unsaved returns an account that is not, or not yet, a connection: to find out
// whose it is. The address is checked each time, not only when it was saved.
func (a *Accounts) Unsaved(provider, base string, token hub.Secret, facts map[string]string) (connectors.Account, error) {
	conn, ok := a.Connectors.Get(provider)
	if !ok {
		return connectors.Account{}, fmt.Errorf("provider %q is not one of %v", provider, a.Connectors.Names())
	}
	d := conn.Descriptor()
	u, err := outbound.CheckBaseURL(base, d.HostSuffix, a.AllowPrivate)
	if err != nil {
		return connectors.Account{}, fmt.Errorf("address of the connection: %w", err)
	}
	o := outbound.Options{}
	if d.BearerToken {
		o.Bearer = token
	}
	return connectors.Account{
		BaseURL: u.String(), Token: token, HTTP: a.Transport.For(u, o), Facts: facts,
		Cache: a.Cache.For("unsaved/" + hub.NewID("tmp")),
	}, nil
}

// budgets remembers what providers said of their API allowance.
type budgets struct {
	mu sync.Mutex
	m  map[hub.ConnectionID]budget
}

type budget struct {
	connectors.Budget
	at    time.Time
	saved time.Time
}

// How long a provider's word on the allowance is believed, and how often it is
// written down for people to see.
const (
	budgetFresh = 15 * time.Minute
	budgetSave  = 10 * time.Second
)

func (a *Accounts) note(org hub.OrgID, conn hub.ConnectionID, b connectors.Budget) {
	now := time.Now()
	a.budgets.mu.Lock()
	if a.budgets.m == nil {
		a.budgets.m = map[hub.ConnectionID]budget{}
	}
	old := a.budgets.m[conn]
	save := now.Sub(old.saved) > budgetSave
	next := budget{Budget: b, at: now, saved: old.saved}
	if save {
		next.saved = now
	}
	a.budgets.m[conn] = next
	a.budgets.mu.Unlock()
	if !save {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := a.Store.NoteBudget(ctx, org, conn, b); err != nil {
		a.Logger.WarnContext(ctx, "api budget not noted", "org", org, "connection", conn, "error", err)
	}
}

// spent reports whether shares of the connection have used up their share of
// the allowance, as far as is known. What is not known is not spent: the next
// answer tells.
func (a *Accounts) spent(conn hub.ConnectionID, share float64) bool {
	if share == 0 {
		return false
	}
	a.budgets.mu.Lock()
	defer a.budgets.mu.Unlock()
	b, ok := a.budgets.m[conn]
	return ok && time.Since(b.at) < budgetFresh && b.Limit > 0 && float64(b.Used) >= share*float64(b.Limit)
}
