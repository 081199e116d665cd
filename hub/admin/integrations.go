package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/delivery"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/mappings"
)

// NewIntegration is an integration to be made. It is made disabled.
type NewIntegration struct {
	Name  string
	Terms consent.Terms
}

// CreateIntegration makes an integration, disabled: nothing is shared by it
// before it is enabled.
func (s *Service) CreateIntegration(ctx context.Context, p Principal, in NewIntegration) (*directory.Integration, error) {
	i := &directory.Integration{
		ID: hub.IntegrationID(hub.NewID(hub.IntegrationPrefix)), Name: strings.TrimSpace(in.Name),
		CreatedAt: now(), CreatedBy: p.Actor,
	}
	snap, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		if wrong := append(checkName(i.Name), s.checkTerms(snap, in.Terms)...); len(wrong) > 0 {
			return directory.Change{}, invalid(wrong...)
		}
		i.Draft = &in.Terms
		return directory.Change{
			Integrations: []*directory.Integration{i},
			Entries: []audit.Entry{{
				Type: audit.IntegrationCreated, Actor: p.Actor, Integration: i.ID, Connection: in.Terms.Connection,
				Fields: fieldNames(in.Terms.Fields),
			}},
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return find(snap, i.ID)
}

func find(snap *directory.Snapshot, id hub.IntegrationID) (*directory.Integration, error) {
	i, ok := snap.Integration(id)
	if !ok {
		return nil, ErrNotFound
	}
	return i, nil
}

func checkName(name string) []hub.FieldError {
	if name == "" || len(name) > 200 {
		return []hub.FieldError{field("/name", "must be 1 to 200 characters")}
	}
	return nil
}

func fieldNames(fs []consent.Field) []string {
	out := make([]string, len(fs))
	for i, f := range fs {
		out[i] = string(f)
	}
	return out
}

// checkTerms returns what is wrong with terms, by their own rules and by their
// connector's.
func (s *Service) checkTerms(snap *directory.Snapshot, t consent.Terms) []hub.FieldError {
	if t.Connection == "" {
		return append(consent.Check(t), field("/connection_id", "is required"))
	}
	c, ok := snap.Connections[t.Connection]
	if !ok || c.State == hub.Disconnected {
		return append(consent.Check(t), field("/connection_id", "the org has no such connection"))
	}
	policy, wrong := consent.Compile(consent.Grant{Terms: t})
	if len(wrong) > 0 {
		return wrong
	}
	conn, ok := s.cfg.Connectors.Get(c.Provider)
	if !ok {
		return []hub.FieldError{field("/connection_id", "this instance has no connector for its provider")}
	}
	for _, r := range policy.Routes() {
		for _, e := range conn.Descriptor().Destination(r.Destination) {
			wrong = append(wrong, field(r.Pointer+e.Pointer, e.Detail))
		}
		if len(wrong) > 0 {
			continue // a schema of a wrong destination says nothing
		}
		_, bad := mappings.Compile(t.Mapping, conn.Descriptor().Schema(r.Destination), fieldNames(t.Fields))
		for _, e := range bad {
			if fe := field("/mapping"+e.Pointer, e.Detail); !slices.Contains(wrong, fe) {
				wrong = append(wrong, fe)
			}
		}
	}
	return wrong
}

// IntegrationPatch is what an admin changes; nil members stay as they are.
type IntegrationPatch struct {
	Name             *string
	Connection       *hub.ConnectionID
	Fields           *[]consent.Field
	When             *string
	Destination      *json.RawMessage
	Mapping          *mappings.Source
	ExpiresAfterDays *int
}

func (c IntegrationPatch) apply(t consent.Terms) consent.Terms {
	if c.Connection != nil {
		t.Connection = *c.Connection
	}
	if c.Fields != nil {
		t.Fields = *c.Fields
	}
	if c.When != nil {
		t.When = *c.When
	}
	if c.Destination != nil {
		t.Destination = *c.Destination
	}
	if c.Mapping != nil {
		t.Mapping = *c.Mapping
	}
	if c.ExpiresAfterDays != nil {
		t.ExpiresAfterDays = *c.ExpiresAfterDays
	}
	return t
}

// ChangeIntegration changes an integration. Of an enabled one what narrows takes
// effect at once; what widens becomes a draft that holds when an admin enables
// it: until then the old grant holds.
func (s *Service) ChangeIntegration(ctx context.Context, p Principal, id hub.IntegrationID, patch IntegrationPatch) (*directory.Integration, error) {
	snap, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		old, err := find(snap, id)
		if err != nil {
			return directory.Change{}, err
		}
		return s.patched(snap, old, p.Actor, patch)
	})
	if err != nil {
		return nil, err
	}
	return find(snap, id)
}

func (s *Service) patched(snap *directory.Snapshot, old *directory.Integration, actor string, patch IntegrationPatch) (directory.Change, error) {
	i := *old
	var wrong []hub.FieldError
	if patch.Name != nil {
		i.Name = strings.TrimSpace(*patch.Name)
		wrong = checkName(i.Name)
	}
	base := i.Terms()
	if i.Draft != nil {
		base = *i.Draft
	}
	terms := patch.apply(base)
	if wrong = append(wrong, s.checkTerms(snap, terms)...); len(wrong) > 0 {
		return directory.Change{}, invalid(wrong...)
	}
	entry := audit.Entry{Type: audit.IntegrationDrafted, Actor: actor, Integration: i.ID, Connection: terms.Connection, Fields: fieldNames(terms.Fields)}
	if !i.Enabled {
		i.Draft = &terms
		return directory.Change{Integrations: []*directory.Integration{&i}, Entries: []audit.Entry{entry}}, nil
	}
	current, ok := i.Grant(i.Current)
	if !ok {
		return directory.Change{}, fmt.Errorf("integration %s is enabled without a grant", i.ID)
	}
	changes := consent.Compare(current.Terms, terms)
	out := directory.Change{}
	if narrowed := narrow(current.Terms, terms, changes); len(consent.Compare(current.Terms, narrowed)) > 0 {
		g := current
		g.Number, g.Terms, g.EnabledBy, g.EnabledAt = len(i.Grants)+1, narrowed, actor, now()
		i.Current = g.Number
		out.NewGrants = append(out.NewGrants, g)
		out.Entries = append(out.Entries, audit.Entry{
			Type: audit.IntegrationNarrowed, Actor: actor, Integration: i.ID, Connection: narrowed.Connection,
			Grant: g.Number, Fields: fieldNames(narrowed.Fields),
		})
	}
	i.Draft = nil
	if changes.Widens() {
		i.Draft = &terms
		out.Entries = append(out.Entries, entry)
	}
	out.Integrations = []*directory.Integration{&i}
	return out, nil
}

// narrow returns the part of a change that takes effect at once: before, with
// everything of after that lets less through.
func narrow(before, after consent.Terms, c consent.Change) consent.Terms {
	t := before
	t.Fields = slices.Clone(before.Fields)
	for _, i := range c {
		switch i.Kind {
		case consent.FieldRemoved:
			t.Fields = slices.DeleteFunc(t.Fields, func(f consent.Field) bool { return f == i.Field })
		case consent.ConditionNarrowed:
			t.When = after.When
		case consent.ExpiryShortened:
			t.ExpiresAfterDays = after.ExpiresAfterDays
		case consent.MappingChanged:
			if !c.Widens() { // with a widening the mapping belongs to the draft: it may use what is not granted yet
				t.Mapping = after.Mapping
			}
		case consent.FieldAdded, consent.ConditionChanged, consent.DestinationChanged, consent.ConnectionChanged, consent.ExpiryExtended:
		}
	}
	if len(consent.Check(t)) == 0 {
		return t
	}
	// A mapping entry that reads a field just removed has nothing left to read.
	t.Mapping = maps.Clone(t.Mapping)
	for name := range before.Mapping {
		one := t
		one.Mapping = mappings.Source{name: t.Mapping[name]}
		if len(consent.Check(one)) > 0 {
			delete(t.Mapping, name)
		}
	}
	return t
}

// Integrations returns the org's integrations, oldest first.
func (s *Service) Integrations(ctx context.Context, org hub.OrgID) ([]*directory.Integration, error) {
	snap, err := s.snapshot(ctx, org)
	if err != nil {
		return nil, err
	}
	return snap.Integrations, nil
}

// Integration returns one integration, or [ErrNotFound].
func (s *Service) Integration(ctx context.Context, org hub.OrgID, id hub.IntegrationID) (*directory.Integration, error) {
	snap, err := s.snapshot(ctx, org)
	if err != nil {
		return nil, err
	}
	return find(snap, id)
}

// EnableIntegration makes a grant of the integration's draft, or of its last
// grant if there is no draft, and lets calls accepted from now on be shared by
// it. An integration that is enabled and has no draft stays as it is.
func (s *Service) EnableIntegration(ctx context.Context, p Principal, id hub.IntegrationID, acceptedTerms string) (consent.Grant, error) {
	if acceptedTerms != s.cfg.Terms {
		return consent.Grant{}, &Invalid{
			Code:   "terms_outdated",
			Detail: fmt.Sprintf("The terms in force are those of %s. Read and accept them to enable the integration.", s.cfg.Terms),
			Errors: []hub.FieldError{field("/accepted_terms", fmt.Sprintf("must be %q", s.cfg.Terms))},
		}
	}
	if err := s.checkLive(ctx, p.Org, id); err != nil {
		return consent.Grant{}, err
	}
	var grant consent.Grant
	_, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		old, err := find(snap, id)
		if err != nil {
			return directory.Change{}, err
		}
		var c directory.Change
		c, grant, err = s.enabled(snap, old, p.Actor)
		return c, err
	})
	return grant, err
}

func (s *Service) enabled(snap *directory.Snapshot, old *directory.Integration, actor string) (directory.Change, consent.Grant, error) {
	i := *old
	current, ok := i.Grant(i.Current)
	if ok && i.Enabled && i.Draft == nil && current.AcceptedTerms == s.cfg.Terms {
		return directory.Change{}, current, nil
	}
	terms := i.Terms()
	if i.Draft != nil {
		terms = *i.Draft
	}
	if wrong := s.checkTerms(snap, terms); len(wrong) > 0 {
		return directory.Change{}, consent.Grant{}, invalid(wrong...)
	}
	g := consent.Grant{
		Number: len(i.Grants) + 1, Integration: i.ID, Terms: terms, Since: current.Since,
		EnabledBy: actor, EnabledAt: now(), AcceptedTerms: s.cfg.Terms,
	}
	if !i.Enabled {
		g.Since = g.Number
	}
	i.Enabled, i.Current, i.Draft = true, g.Number, nil
	return directory.Change{
		Integrations: []*directory.Integration{&i},
		NewGrants:    []consent.Grant{g},
		Entries: []audit.Entry{{
			Type: audit.IntegrationEnabled, Actor: actor, Integration: i.ID, Connection: terms.Connection,
			Grant: g.Number, Fields: fieldNames(terms.Fields), Reason: s.cfg.Terms,
		}},
	}, g, nil
}

// checkLive lets the connector look at each destination at the provider: that it
// exists and that nobody outside the org can read it. What cannot be found out
// is not refused here; delivery looks again before every send.
func (s *Service) checkLive(ctx context.Context, org hub.OrgID, id hub.IntegrationID) error {
	snap, err := s.snapshot(ctx, org)
	if err != nil {
		return err
	}
	i, err := find(snap, id)
	if err != nil {
		return err
	}
	terms := i.Terms()
	if i.Draft != nil {
		terms = *i.Draft
	}
	c, ok := snap.Connections[terms.Connection]
	if !ok {
		return invalid(field("/connection_id", "the org has no such connection"))
	}
	policy, wrong := consent.Compile(consent.Grant{Terms: terms})
	conn, ok := s.cfg.Connectors.Get(c.Provider)
	if len(wrong) > 0 || !ok {
		return nil // enabling says what is wrong
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	acc, err := s.cfg.Accounts.Open(ctx, org, c)
	if err != nil { // held until the connection works; nothing can be looked at now
		s.cfg.Logger.WarnContext(ctx, "destination not looked at", "org", org, "integration", id, "error", err)
		return nil
	}
	for _, r := range policy.Routes() {
		err := conn.Check(ctx, acc.Account, r.Destination)
		if e, ok := errors.AsType[*connectors.Error](err); ok && e.Class == connectors.Rejected {
			return &Invalid{Code: e.Code, Detail: e.Detail, Errors: []hub.FieldError{field(r.Pointer, e.Detail)}}
		}
		if err != nil {
			s.cfg.Logger.WarnContext(ctx, "destination not looked at", "org", org, "integration", id, "error", connectors.AsError(err))
		}
	}
	return nil
}

// Drained says whether an integration has anything in flight.
type Drained struct {
	Drained bool
	At      time.Time
}

// DisableIntegration stops an integration. From its return on nothing of it
// begins; with wait, nothing of it is in flight either: Drained says so, unless
// ctx was done first. What waits is withdrawn.
func (s *Service) DisableIntegration(ctx context.Context, p Principal, id hub.IntegrationID, wait bool) (Drained, error) {
	snap, err := s.stop(ctx, p, id, false)
	if err != nil {
		return Drained{}, err
	}
	return s.drain(ctx, p, snap, id, wait)
}

// DeleteIntegration stops an integration and takes it off the list. Its grants
// are kept, because transfers were made under them, and so are the copies.
func (s *Service) DeleteIntegration(ctx context.Context, p Principal, id hub.IntegrationID) error {
	snap, err := s.stop(ctx, p, id, true)
	if err != nil {
		return err
	}
	_, err = s.drain(ctx, p, snap, id, false)
	return err
}

// stop disables the integration. It returns the configuration in which it was
// still there.
func (s *Service) stop(ctx context.Context, p Principal, id hub.IntegrationID, drop bool) (*directory.Snapshot, error) {
	var before *directory.Snapshot
	_, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		before = snap
		old, err := find(snap, id)
		if err != nil {
			return directory.Change{}, err
		}
		i := *old
		i.Enabled = false
		c := directory.Change{Integrations: []*directory.Integration{&i}}
		if old.Enabled {
			c.Entries = append(c.Entries, audit.Entry{Type: audit.IntegrationDisabled, Actor: p.Actor, Integration: id, Grant: i.Current})
		}
		if drop {
			c.Integrations, c.DropIntegrations = nil, []hub.IntegrationID{id}
			c.Entries = append(c.Entries, audit.Entry{Type: audit.IntegrationDeleted, Actor: p.Actor, Integration: id})
		}
		return c, nil
	})
	return before, err
}

func (s *Service) drain(ctx context.Context, p Principal, snap *directory.Snapshot, id hub.IntegrationID, wait bool) (Drained, error) {
	i, err := find(snap, id)
	if err != nil {
		return Drained{}, err
	}
	lanes := map[hub.ConnectionID]bool{}
	for _, g := range i.Grants {
		lanes[g.Terms.Connection] = true
	}
	for conn := range lanes {
		if _, err := s.cfg.Store.SweepLane(ctx, p.Org, conn, store.SweepWithdraw, id, string(consent.NotEnabled), p.Actor); err != nil {
			return Drained{}, fmt.Errorf("withdraw what waits: %w", err)
		}
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		n, err := s.cfg.Store.InFlight(ctx, p.Org, id)
		if wait && ctx.Err() != nil {
			return Drained{At: now()}, nil //nolint:nilerr // the wait was cut short, which is an answer
		}
		if err != nil {
			return Drained{}, fmt.Errorf("look for what is in flight: %w", err)
		}
		if n <= 0 || !wait {
			at, err := s.cfg.Store.Now(ctx)
			if err != nil {
				return Drained{}, fmt.Errorf("look at the clock: %w", err)
			}
			return Drained{Drained: n <= 0, At: at}, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return Drained{At: now()}, nil
		case <-timer.C:
		}
	}
}

// PreviewRequest is a call to be previewed: as given, or one that was accepted.
type PreviewRequest struct {
	Call    *hub.Call
	CallID  hub.CallID
	Resolve bool // look people up at the provider; audited as the admin's act
}

// PreviewResult is exactly what would leave.
type PreviewResult struct {
	delivery.Preview
	Digest string // as the transfer would carry it; "" without a payload
}

// PreviewIntegration shows exactly what the integration would send of a call, by
// its draft if it has one. It is decided as if the integration were enabled and
// the connection well; nothing is sent.
func (s *Service) PreviewIntegration(ctx context.Context, p Principal, id hub.IntegrationID, r PreviewRequest) (PreviewResult, error) {
	snap, err := s.snapshot(ctx, p.Org)
	if err != nil {
		return PreviewResult{}, err
	}
	i, err := find(snap, id)
	if err != nil {
		return PreviewResult{}, err
	}
	req, config, err := s.previewOf(ctx, p, snap, i, r)
	if err != nil {
		return PreviewResult{}, err
	}
	if r.Resolve {
		// The record first: without it nobody is looked up.
		err := s.cfg.Store.Audited(ctx, p.Org, hub.NewID("chg"), audit.Entry{
			Type: audit.IntegrationPreviewed, Actor: p.Actor, Integration: id, Connection: config.ID, Call: req.Call.ID,
		})
		if err != nil {
			return PreviewResult{}, fmt.Errorf("preview: %w", err)
		}
		acc, err := s.cfg.Accounts.Open(ctx, p.Org, config)
		if err != nil {
			return PreviewResult{}, &Unreachable{Detail: "The account cannot be used at the moment, so nobody can be looked up. Preview without resolve, or connect it again."}
		}
		req.Account = &acc.Account
	}
	out, err := delivery.MakePreview(ctx, req)
	if e, ok := errors.AsType[*connectors.Error](err); ok {
		return PreviewResult{}, &Unreachable{Detail: "The provider did not answer the look-up: " + e.Error()}
	}
	if err != nil {
		return PreviewResult{}, err //nolint:wrapcheck // says preview itself
	}
	res := PreviewResult{Preview: out}
	if out.Payload != nil {
		if res.Digest, err = s.cfg.Store.PayloadDigest(ctx, p.Org, out.Payload); err != nil {
			return PreviewResult{}, fmt.Errorf("preview: %w", err)
		}
	}
	return res, nil
}

func (s *Service) previewOf(ctx context.Context, p Principal, snap *directory.Snapshot, i *directory.Integration, r PreviewRequest) (delivery.PreviewRequest, *directory.Connection, error) {
	g := consent.Grant{Number: i.Current, Integration: i.ID, Terms: i.Terms(), AcceptedTerms: s.cfg.Terms}
	if i.Draft != nil {
		g.Number, g.Terms = len(i.Grants)+1, *i.Draft
	}
	policy, wrong := consent.Compile(g)
	if len(wrong) > 0 {
		return delivery.PreviewRequest{}, nil, invalid(wrong...)
	}
	config, ok := snap.Connections[g.Terms.Connection]
	if !ok {
		return delivery.PreviewRequest{}, nil, invalid(field("/connection_id", "the org has no such connection"))
	}
	conn, ok := s.cfg.Connectors.Get(config.Provider)
	if !ok {
		return delivery.PreviewRequest{}, nil, &Conflict{Code: "no_connector", Detail: "This instance has no connector for the integration's provider."}
	}
	req := delivery.PreviewRequest{
		Connector: conn, Grant: g, Revision: 1,
		Situation: consent.Situation{
			Org: hub.OrgActive, OrgInfo: snap.OrgInfo(), ConnectionID: config.ID, Connection: hub.Connected,
			Enabled: true, TermsVersion: s.cfg.Terms, Policy: policy,
		},
	}
	if err := s.previewCall(ctx, p.Org, i.ID, r, &req); err != nil {
		return req, nil, err
	}
	var err error
	req.Key, err = s.cfg.Store.CopyKey(ctx, p.Org, req.Call.ID, i.ID)
	if err != nil {
		return req, nil, fmt.Errorf("preview: %w", err)
	}
	return req, config, nil
}

// previewCall finds the call and, of one that was accepted, its live copy.
func (s *Service) previewCall(ctx context.Context, org hub.OrgID, i hub.IntegrationID, r PreviewRequest, req *delivery.PreviewRequest) error {
	if r.Call != nil {
		req.Call = *r.Call
		stored, err := s.cfg.Store.Call(ctx, org, r.Call.ID)
		switch {
		case err == nil:
			req.Revision = stored.Revision + 1
		case !errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("preview: %w", err)
		}
	} else {
		content, revision, err := s.cfg.Store.Content(ctx, org, r.CallID)
		if errors.Is(err, store.ErrNotFound) {
			return invalid(field("/call_id", "the org has no such call, or its content is gone"))
		}
		if err != nil {
			return fmt.Errorf("preview: %w", err)
		}
		req.Revision = revision
		if err := json.Unmarshal(content, &req.Call); err != nil {
			return fmt.Errorf("preview: read stored call: %w", err)
		}
	}
	copies, err := s.cfg.Store.CopiesOfCall(ctx, org, req.Call.ID)
	if err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	for _, c := range copies {
		if c.Integration == i {
			req.Receipt = c.Receipt
		}
	}
	return nil
}
