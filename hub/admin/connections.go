package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/outbound"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Import is an account that an admin brings with tokens made elsewhere.
type Import struct {
	Provider     string
	Name         string // for people; "" takes what the provider says
	InstanceURL  string // salesforce
	AccessToken  hub.Secret
	RefreshToken hub.Secret
	ExpiresIn    time.Duration // slack; 0: does not expire
	TeamID       string        // slack
	URL          string        // webhook
	Secret       hub.Secret    // webhook
}

// Providers that need more than a descriptor says when an account is imported.
const (
	providerSalesforce = "salesforce"
	providerSlack      = "slack"
)

// ImportConnection keeps an account with its tokens. An account that the org
// has connected already gets the new tokens, keeps its id and sends what was
// held. The provider is asked whose account it is; if it cannot be asked the
// account is kept all the same, and its health says so.
func (s *Service) ImportConnection(ctx context.Context, p Principal, in Import) (*directory.Connection, error) {
	conn, ok := s.cfg.Connectors.Get(in.Provider)
	if !ok {
		return nil, invalid(field("/provider", "must be one of "+strings.Join(s.cfg.Connectors.Names(), ", ")))
	}
	tokens, wrong := s.importTokens(conn.Descriptor(), in)
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	identity, refused := s.identify(ctx, conn, in.Provider, tokens)
	if in.TeamID != "" && identity.AccountID != "" && identity.AccountID != in.TeamID {
		return nil, invalid(field("/team_id", "is not the workspace that the access token belongs to"))
	}
	c, err := s.saveConnection(ctx, p, in, tokens, identity)
	if err != nil {
		return nil, err
	}
	version, err := s.cfg.Vault.Import(ctx, p.Org, c.ID, in.Provider, tokens)
	if err != nil {
		return nil, fmt.Errorf("import connection: %w", err)
	}
	if refused != nil && tokens.Refresh.IsZero() {
		err := s.cfg.Vault.Break(ctx, p.Org, c.ID, version, refused.Code, refused.Detail)
		if err != nil && !errors.Is(err, vault.ErrStale) {
			return nil, fmt.Errorf("import connection: %w", err)
		}
	} else if _, err := s.cfg.Store.SweepLane(ctx, p.Org, c.ID, store.SweepResume, "", "", p.Actor); err != nil {
		return nil, fmt.Errorf("resume what was held: %w", err)
	}
	s.cfg.Wake(p.Org.Shard())
	return s.Connection(ctx, p.Org, c.ID)
}

var slackTeam = regexp.MustCompile(`^[TE][A-Z0-9]{1,30}$`)

// importTokens checks what was brought and makes tokens of it.
func (s *Service) importTokens(d connectors.Descriptor, in Import) (oauth.Tokens, []hub.FieldError) {
	var wrong []hub.FieldError
	t := oauth.Tokens{Access: in.AccessToken, Refresh: in.RefreshToken, Facts: map[string]string{}}
	pointer, base := "/url", in.URL
	switch in.Provider {
	case providerSalesforce:
		pointer, base = "/instance_url", in.InstanceURL
		t.Facts[oauth.FactLoginURL] = s.cfg.SalesforceLoginURL
	case providerSlack:
		pointer, base = "", strings.TrimSuffix(s.cfg.SlackAPIURL, "/")
		if in.TeamID != "" && !slackTeam.MatchString(in.TeamID) {
			wrong = append(wrong, field("/team_id", "must be a Slack team id such as T024BE7LD"))
		}
		if in.TeamID != "" {
			t.Facts["team_id"] = in.TeamID
		}
		if in.ExpiresIn < 0 {
			wrong = append(wrong, field("/expires_in", "must be a number of seconds, 0 for a token that does not expire"))
		} else if in.ExpiresIn > 0 {
			t.Expires = time.Now().Add(in.ExpiresIn)
		}
	}
	if d.OAuth == nil {
		t.Access = in.Secret
		switch {
		case in.Secret.IsZero():
			wrong = append(wrong, field("/secret", "is required"))
		case d.Secret != nil:
			if err := d.Secret(in.Secret); err != nil {
				wrong = append(wrong, field("/secret", err.Error()))
			}
		}
	} else if in.AccessToken.IsZero() {
		wrong = append(wrong, field("/access_token", "is required"))
	}
	u, err := outbound.CheckBaseURL(base, d.HostSuffix, s.cfg.AllowPrivate)
	if err != nil {
		wrong = append(wrong, field(pointer, err.Error()))
	} else {
		t.InstanceURL = u.String()
	}
	return t, wrong
}

// identify asks the provider whose account it is. refused is set if the
// provider said that the token is not valid.
func (s *Service) identify(ctx context.Context, conn *connectors.Conn, provider string, t oauth.Tokens) (id connectors.Identity, refused *connectors.Error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	acc, err := s.cfg.Accounts.Unsaved(provider, t.InstanceURL, t.Access, t.Facts)
	if err == nil {
		id, err = conn.Identify(ctx, acc)
	}
	if err == nil || errors.Is(err, connectors.ErrUnsupported) {
		return id, nil
	}
	e := connectors.AsError(err)
	s.cfg.Logger.WarnContext(ctx, "imported account not identified", "provider", provider, "error", e)
	if e.Class == connectors.Unauthorized {
		return id, e
	}
	return id, nil
}

// saveConnection writes the connection's document: a new one, or that of the
// same account.
func (s *Service) saveConnection(ctx context.Context, p Principal, in Import, t oauth.Tokens, id connectors.Identity) (*directory.Connection, error) {
	fresh := hub.ConnectionID(hub.NewID(hub.ConnectionPrefix))
	if id.AccountID == "" {
		id.AccountID = in.TeamID
	}
	facts := t.Facts
	maps.Copy(facts, id.Facts)
	name := in.Name
	if name == "" {
		name = id.AccountName
	}
	if name == "" {
		name = hostOf(t.InstanceURL)
	}
	var out *directory.Connection
	_, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		c := directory.Connection{ID: fresh, Provider: in.Provider, CreatedAt: now(), CreatedBy: p.Actor}
		old := sameAccount(snap, in.Provider, id.AccountID, t.InstanceURL)
		if old != nil {
			c = *old
		}
		c.AccountID, c.AccountName, c.BaseURL, c.Facts, c.Scopes = id.AccountID, name, t.InstanceURL, facts, id.Scopes
		out = &c
		if old != nil {
			return directory.Change{
				Connections: []*directory.Connection{&c},
				Entries:     []audit.Entry{{Type: audit.ConnectionRepaired, Actor: p.Actor, Connection: c.ID, Reason: in.Provider}},
			}, nil
		}
		return directory.Change{
			NewConnections: []*directory.Connection{&c},
			Entries:        []audit.Entry{{Type: audit.ConnectionCreated, Actor: p.Actor, Connection: c.ID, Reason: in.Provider}},
		}, nil
	})
	return out, err
}

// sameAccount returns the org's connection to that account, if there is one. Two
// webhooks to one address are two connections: their receivers may tell them
// apart by their secrets.
func sameAccount(snap *directory.Snapshot, provider, account, base string) *directory.Connection {
	if provider != providerSalesforce && provider != providerSlack {
		return nil
	}
	for _, c := range snap.Connections {
		if c.Provider != provider || c.State == hub.Disconnected {
			continue
		}
		if account != "" && c.AccountID == account || account == "" && c.BaseURL == base {
			return c
		}
	}
	return nil
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Host
}

// Connection returns one connection of the org, or [ErrNotFound].
func (s *Service) Connection(ctx context.Context, org hub.OrgID, id hub.ConnectionID) (*directory.Connection, error) {
	snap, err := s.cfg.Cache.Reload(ctx, org) // health does not count as a new version
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	c, ok := snap.Connections[id]
	if !ok {
		return nil, ErrNotFound
	}
	return c, nil
}

// Connections returns the org's connections, oldest first.
func (s *Service) Connections(ctx context.Context, org hub.OrgID) ([]*directory.Connection, error) {
	snap, err := s.cfg.Cache.Reload(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("connections: %w", err)
	}
	out := make([]*directory.Connection, 0, len(snap.Connections))
	for _, c := range snap.Connections {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *directory.Connection) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return out, nil
}

// Providers returns what is known of the connectors of this instance, in the
// order in which people choose from them.
func (s *Service) Providers() []connectors.Descriptor {
	names := s.cfg.Connectors.Names()
	out := make([]connectors.Descriptor, 0, len(names))
	for _, name := range names {
		if c, ok := s.cfg.Connectors.Get(name); ok {
			out = append(out, c.Descriptor())
		}
	}
	return out
}

// ScopesNeeded returns the OAuth scopes that the connection's provider needs;
// nil for one without OAuth.
func (s *Service) ScopesNeeded(provider string) []string {
	c, ok := s.cfg.Connectors.Get(provider)
	if !ok || c.Descriptor().OAuth == nil {
		return nil
	}
	return c.Descriptor().OAuth.Scopes
}

// DeleteConnection makes the provider forget our token, withdraws what waits
// and destroys the tokens. If the provider cannot be reached, the connection is
// paused, so that nothing is sent, and the error says to try again.
func (s *Service) DeleteConnection(ctx context.Context, p Principal, id hub.ConnectionID) error {
	c, err := s.Connection(ctx, p.Org, id)
	if err != nil {
		return err
	}
	if c.State == hub.Disconnected {
		return ErrNotFound
	}
	// Stop first: nothing begins from here on.
	if c.State == hub.Connected {
		if _, err := s.cfg.Store.SetConnection(ctx, p.Org, id, hub.Paused, "disconnecting", p.Actor, audit.ConnectionPaused); err != nil {
			return fmt.Errorf("disconnect: %w", err)
		}
	}
	if err := s.revoke(ctx, p.Org, c); err != nil {
		return err
	}
	if _, err := s.cfg.Store.SetConnection(ctx, p.Org, id, hub.Disconnected, "disconnected_by_admin", p.Actor, audit.ConnectionDeleted); err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	if err := s.cfg.Store.DestroyTokens(ctx, p.Org, id); err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	if _, err := s.cfg.Store.SweepLane(ctx, p.Org, id, store.SweepWithdraw, "", string(consent.ConnectionBroken), p.Actor); err != nil {
		return fmt.Errorf("disconnect: withdraw what waits: %w", err)
	}
	return nil
}

func (s *Service) revoke(ctx context.Context, org hub.OrgID, c *directory.Connection) error {
	if c.State == hub.NeedsReauth {
		return nil // the provider refuses the token already
	}
	conn, ok := s.cfg.Connectors.Get(c.Provider)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	acc, err := s.cfg.Accounts.Open(ctx, org, c)
	if err == nil {
		err = conn.Revoke(ctx, acc.Account)
	}
	if err == nil {
		return nil
	}
	if e := connectors.AsError(err); e.Class == connectors.Unauthorized || e.Class == connectors.Gone {
		return nil // dead already
	}
	if e, ok := errors.AsType[*vault.Error](err); ok && (e.Kind == vault.NeedsReauth || e.Kind == vault.Gone) {
		return nil
	}
	s.cfg.Logger.WarnContext(ctx, "token not revoked, the connection is paused", "org", org, "connection", c.ID, "error", err)
	return &Unreachable{Detail: "The provider could not be reached to revoke the token. The connection is paused: nothing is sent. Delete it again in a moment."}
}

// Unreachable is a request for which a provider had to be reached and was not.
type Unreachable struct{ Detail string }

func (e *Unreachable) Error() string { return e.Detail }
