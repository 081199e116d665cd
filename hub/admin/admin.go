// Package admin is what admins, auditors and the operator can do: make orgs and
// keys, connect accounts, decide what is shared, look at an exact preview, and
// settle what waits for a person. The REST API and the console are two faces of
// it; nothing is decided in either of them.
//
// Every change names its actor and is in the audit log in the same step.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/delivery"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Config configures a Service. All fields but Logger are required.
type Config struct {
	Store      *store.Store
	Cache      *directory.Cache
	Connectors *connectors.Registry
	Accounts   *delivery.Accounts
	Vault      *vault.Vault

	Terms  string // version of the terms that an admin accepts when enabling
	Region string // of this instance; an org of another region is refused

	// AllowPrivate lists "host:port" that addresses may have although they are
	// not public.
	AllowPrivate []string

	SlackAPIURL        string // base of Slack's Web API
	SalesforceLoginURL string // default login host

	// Wake is called when a shard has work that is due.
	Wake func(shard int)

	Logger *slog.Logger
}

// Service does what people decide. It may be used by several goroutines.
type Service struct{ cfg Config }

// New returns a Service.
func New(cfg Config) *Service { return &Service{cfg: cfg} }

// Terms returns the version of the terms in force.
func (s *Service) Terms() string { return s.cfg.Terms }

// Errors that a caller can tell apart. Others are faults of ours or of the
// store.
var (
	// ErrNotFound: the org has no such thing. What belongs to another org is
	// not found either.
	ErrNotFound = errors.New("not found")

	// ErrUnauthenticated: the key is not one of ours, or was revoked.
	ErrUnauthenticated = errors.New("the API key is not valid")
)

// Invalid is a request that cannot be done as it is.
type Invalid struct {
	Code   string           // stable, such as "terms_outdated"
	Detail string           // a sentence: the thing, the cause, the next step
	Errors []hub.FieldError // one for each member that is wrong
}

func (e *Invalid) Error() string { return e.Code + ": " + e.Detail }

func invalid(errs ...hub.FieldError) *Invalid {
	return &Invalid{Code: "invalid_input", Detail: "Some members of the request are not as they must be.", Errors: errs}
}

func field(pointer, detail string) hub.FieldError {
	return hub.FieldError{Pointer: pointer, Detail: detail}
}

// Conflict is a request that does not fit the state something is in.
type Conflict struct {
	Code   string
	Detail string
}

func (e *Conflict) Error() string { return e.Code + ": " + e.Detail }

// Principal is who makes a request.
type Principal struct {
	Org   hub.OrgID
	Role  hub.Role
	Actor string // as it stands in the audit log
	Key   string // id of the API key; "" for who came in another way
}

// API keys are "cb_<org>_<key id>_<secret>". The org is part of it so that the
// key is found in the org's own configuration: nothing is looked up across orgs.

// FormatKey returns the text of an API key.
func formatKey(org hub.OrgID, id, secret string) hub.Secret {
	return hub.NewSecret("cb_" + string(org) + "_" + id + "_" + secret)
}

// parseKey cuts an API key into its parts.
func parseKey(bearer string) (org hub.OrgID, id string, secret hub.Secret, ok bool) {
	rest, ok := strings.CutPrefix(bearer, "cb_")
	if !ok || len(bearer) > 256 {
		return "", "", hub.Secret{}, false
	}
	i := strings.LastIndexByte(rest, '_')
	if i < 0 {
		return "", "", hub.Secret{}, false
	}
	j := strings.LastIndexByte(rest[:i], '_')
	if j < 0 {
		return "", "", hub.Secret{}, false
	}
	org, id, secret = hub.OrgID(rest[:j]), rest[j+1:i], hub.NewSecret(rest[i+1:])
	return org, id, secret, hub.ValidOrgID(string(org)) && id != "" && !secret.IsZero()
}

// Authenticate returns who the bearer of an API key is, or
// [ErrUnauthenticated]. It costs no round trip for an org in the cache: fresh
// makes sure that the key was not revoked a moment ago, for one round trip; a
// caller whose next step compares the configuration's version needs no fresh.
func (s *Service) Authenticate(ctx context.Context, bearer string, fresh bool) (Principal, error) {
	org, id, secret, ok := parseKey(bearer)
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	get := s.cfg.Cache.Get
	if fresh {
		get = s.cfg.Cache.Fresh
	}
	snap, err := get(ctx, org)
	if errors.Is(err, store.ErrNotFound) {
		return Principal{}, ErrUnauthenticated
	}
	if err != nil {
		return Principal{}, fmt.Errorf("look up an API key: %w", err)
	}
	key, found := snap.Keys[id]
	if !found {
		return Principal{}, ErrUnauthenticated
	}
	digest, err := s.cfg.Store.KeyDigest(ctx, org, secret)
	if err != nil {
		return Principal{}, fmt.Errorf("look up an API key: %w", err)
	}
	if !hub.NewSecret(digest).Equal(hub.NewSecret(key.Digest)) {
		return Principal{}, ErrUnauthenticated
	}
	return Principal{Org: org, Role: key.Role, Actor: "key:" + id, Key: id}, nil
}

// change decides a change on the newest configuration and writes it; when
// somebody else was faster it decides anew. It returns the configuration
// afterwards.
func (s *Service) change(ctx context.Context, org hub.OrgID, decide func(*directory.Snapshot) (directory.Change, error)) (*directory.Snapshot, error) {
	for range 8 {
		snap, err := s.snapshot(ctx, org)
		if err != nil {
			return nil, err
		}
		c, err := decide(snap)
		if err != nil {
			return nil, err
		}
		c.Version = snap.Version
		_, err = s.cfg.Store.Change(ctx, org, hub.NewID("chg"), c)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("change org %s: %w", org, err)
		}
		return s.snapshot(ctx, org)
	}
	return nil, &Conflict{Code: "configuration_busy", Detail: "The configuration is being changed by others all the time. Try again."}
}

// snapshot returns the newest configuration.
func (s *Service) snapshot(ctx context.Context, org hub.OrgID) (*directory.Snapshot, error) {
	snap, err := s.cfg.Cache.Fresh(ctx, org)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of org %s: %w", org, err)
	}
	return snap, nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// NewOrg is an org just made, with what is shown once.
type NewOrg struct {
	ID            hub.OrgID
	Key           hub.Secret // of an API key with the role admin
	SigningSecret hub.Secret // for incoming signed calls
}

// CreateOrg makes an org with one admin key and one signing secret. id "" makes
// one up.
func (s *Service) CreateOrg(ctx context.Context, name string, id hub.OrgID, region, language, actor string) (NewOrg, error) {
	if id == "" {
		id = hub.OrgID(hub.NewID(hub.OrgPrefix))
	}
	if region == "" {
		region = s.cfg.Region
	}
	if language == "" {
		language = "en"
	}
	var wrong []hub.FieldError
	if name = strings.TrimSpace(name); name == "" || len(name) > 200 {
		wrong = append(wrong, field("/name", "must be 1 to 200 characters"))
	}
	if !hub.ValidOrgID(string(id)) {
		wrong = append(wrong, field("/id", "must be 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit"))
	}
	if region != s.cfg.Region {
		wrong = append(wrong, field("/region", fmt.Sprintf("this instance is in the region %q and keeps no org of another", s.cfg.Region)))
	}
	if len(wrong) > 0 {
		return NewOrg{}, invalid(wrong...)
	}
	org := directory.Org{ID: id, Name: name, Region: region, Language: language, State: hub.OrgActive, CreatedAt: now()}
	err := s.cfg.Store.CreateOrg(ctx, org, hub.NewID("chg"), directory.Change{
		Entries: []audit.Entry{{Type: audit.OrgCreated, Actor: actor}},
	})
	if errors.Is(err, store.ErrConflict) {
		return NewOrg{}, &Conflict{Code: "org_exists", Detail: fmt.Sprintf("There is an org with the id %q already. Choose another.", id)}
	}
	if err != nil {
		return NewOrg{}, fmt.Errorf("create org: %w", err)
	}
	p := Principal{Org: id, Role: hub.RoleAdmin, Actor: actor}
	key, err := s.CreateKey(ctx, p, hub.RoleAdmin, "first key")
	if err != nil {
		return NewOrg{}, err
	}
	secret, err := s.CreateSigningSecret(ctx, p)
	if err != nil {
		return NewOrg{}, err
	}
	return NewOrg{ID: id, Key: key.Text, SigningSecret: secret.Secret}, nil
}

// Org returns the org's configuration.
func (s *Service) Org(ctx context.Context, org hub.OrgID) (*directory.Snapshot, error) {
	return s.snapshot(ctx, org)
}

// SetOrgState suspends or resumes an org. What waits is held while it is
// suspended and goes out afterwards, in order.
func (s *Service) SetOrgState(ctx context.Context, p Principal, state hub.OrgState) error {
	snap, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		o := snap.Org
		if o.State == hub.OrgCancelled {
			return directory.Change{}, &Conflict{Code: "org_cancelled", Detail: "The org is cancelled; that is final."}
		}
		o.State = state
		return directory.Change{
			Org: &o, Entries: []audit.Entry{{Type: audit.OrgChanged, Actor: p.Actor, Reason: string(state)}},
		}, nil
	})
	if err != nil {
		return err
	}
	what, reason := store.SweepHold, "org_suspended"
	if state == hub.OrgActive {
		what, reason = store.SweepResume, ""
	}
	for _, c := range snap.Connections {
		if what == store.SweepResume && c.State != hub.Connected {
			continue
		}
		if _, err := s.cfg.Store.SweepLane(ctx, p.Org, c.ID, what, "", reason, p.Actor); err != nil {
			return fmt.Errorf("transfers of connection %s: %w", c.ID, err)
		}
	}
	s.cfg.Wake(p.Org.Shard())
	return nil
}

// NewKey is an API key just made. Its text is shown once.
type NewKey struct {
	directory.Key
	Text hub.Secret
}

// CreateKey makes an API key.
func (s *Service) CreateKey(ctx context.Context, p Principal, role hub.Role, name string) (NewKey, error) {
	if len(name) > 200 {
		return NewKey{}, invalid(field("/name", "must be at most 200 characters"))
	}
	id := strings.TrimPrefix(hub.NewID(hub.KeyPrefix), hub.KeyPrefix+"_")[:12]
	secret := randomSecret()
	digest, err := s.cfg.Store.KeyDigest(ctx, p.Org, hub.NewSecret(secret))
	if errors.Is(err, store.ErrNotFound) {
		return NewKey{}, ErrNotFound
	}
	if err != nil {
		return NewKey{}, fmt.Errorf("create key: %w", err)
	}
	k := directory.Key{ID: id, Name: name, Role: role, Digest: digest, CreatedAt: now(), CreatedBy: p.Actor}
	_, err = s.change(ctx, p.Org, func(*directory.Snapshot) (directory.Change, error) {
		return directory.Change{
			Keys:    []directory.Key{k},
			Entries: []audit.Entry{{Type: audit.KeyCreated, Actor: p.Actor, Subject: id, Reason: string(role)}},
		}, nil
	})
	if err != nil {
		return NewKey{}, err
	}
	return NewKey{Key: k, Text: formatKey(p.Org, id, secret)}, nil
}

// randomSecret returns 256 random bits as 52 of a–z and 2–7.
func randomSecret() string {
	a := strings.TrimPrefix(hub.NewID("x"), "x_")
	b := strings.TrimPrefix(hub.NewID("x"), "x_")
	return a + b
}

// RevokeKey makes an API key invalid, at once and for good.
func (s *Service) RevokeKey(ctx context.Context, p Principal, id string) error {
	_, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		if _, ok := snap.Keys[id]; !ok {
			return directory.Change{}, ErrNotFound
		}
		return directory.Change{
			DropKeys: []string{id},
			Entries:  []audit.Entry{{Type: audit.KeyRevoked, Actor: p.Actor, Subject: id}},
		}, nil
	})
	return err
}
