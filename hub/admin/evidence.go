package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/webhooks"
)

// CreateSigningSecret makes a secret with which calls can be signed. It is shown
// once. Two can be in use while one replaces the other.
func (s *Service) CreateSigningSecret(ctx context.Context, p Principal) (directory.SigningSecret, error) {
	x := directory.SigningSecret{
		ID: hub.NewID("sec"), Secret: webhooks.NewSecret(), CreatedAt: now(), CreatedBy: p.Actor,
	}
	_, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		if len(snap.Secrets) >= 2 {
			return directory.Change{}, &Conflict{Code: "too_many_secrets", Detail: "The org has two signing secrets. Delete the one that is no longer used first."}
		}
		return directory.Change{
			Secrets: []directory.SigningSecret{x},
			Entries: []audit.Entry{{Type: audit.SecretCreated, Actor: p.Actor, Subject: x.ID}},
		}, nil
	})
	return x, err
}

// DeleteSigningSecret makes a signing secret invalid, at once and for good.
func (s *Service) DeleteSigningSecret(ctx context.Context, p Principal, id string) error {
	_, err := s.change(ctx, p.Org, func(snap *directory.Snapshot) (directory.Change, error) {
		for _, x := range snap.Secrets {
			if x.ID == id {
				return directory.Change{
					DropSecrets: []string{id},
					Entries:     []audit.Entry{{Type: audit.SecretRevoked, Actor: p.Actor, Subject: id}},
				}, nil
			}
		}
		return directory.Change{}, ErrNotFound
	})
	return err
}

// SigningSecrets returns the secrets with which calls of the org may be signed,
// oldest first, or [ErrNotFound]. fresh is that of [Service.Authenticate].
func (s *Service) SigningSecrets(ctx context.Context, org hub.OrgID, fresh bool) ([]directory.SigningSecret, error) {
	get := s.cfg.Cache.Get
	if fresh {
		get = s.cfg.Cache.Fresh
	}
	snap, err := get(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("signing secrets: %w", found(err))
	}
	return snap.Secrets, nil
}

// found turns the store's "not found" into ours.
func found(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	if errors.Is(err, store.ErrCursor) {
		return invalid(field("/cursor", "is not one that this list gave out"))
	}
	return err
}

// Call returns a call with what became of it.
func (s *Service) Call(ctx context.Context, org hub.OrgID, id hub.CallID) (store.Call, error) {
	c, err := s.cfg.Store.Call(ctx, org, id)
	return c, found(err)
}

// EraseCall removes a call's content here and its copies at every destination.
func (s *Service) EraseCall(ctx context.Context, p Principal, id hub.CallID) (string, error) {
	erasure, err := s.cfg.Store.Erase(ctx, p.Org, id, "", p.Actor)
	if err != nil {
		return "", found(err)
	}
	s.cfg.Wake(p.Org.Shard())
	return erasure, nil
}

// Transfers lists transfers, newest first.
func (s *Service) Transfers(ctx context.Context, org hub.OrgID, f store.TransferFilter, page store.Page) ([]store.Transfer, string, error) {
	ts, next, err := s.cfg.Store.Transfers(ctx, org, f, page)
	return ts, next, found(err)
}

// Transfer returns one transfer.
func (s *Service) Transfer(ctx context.Context, org hub.OrgID, id hub.TransferID) (store.Transfer, error) {
	t, err := s.cfg.Store.Transfer(ctx, org, id)
	return t, found(err)
}

// SettleTransfer replays a dead transfer or settles an ambiguous one.
func (s *Service) SettleTransfer(ctx context.Context, p Principal, id hub.TransferID, what store.SettleWhat) (store.Transfer, error) {
	err := s.cfg.Store.Settle(ctx, p.Org, id, what, p.Actor)
	switch {
	case errors.Is(err, store.ErrState):
		want := "ambiguous"
		if what == store.SettleRetry {
			want = "dead"
		}
		return store.Transfer{}, &Conflict{Code: "wrong_state", Detail: fmt.Sprintf("This can be done with a transfer in the state %q only.", want)}
	case errors.Is(err, store.ErrBlocked):
		return store.Transfer{}, &Conflict{Code: "superseded", Detail: "A newer transfer of the same call by the same integration exists. Look at that one."}
	case err != nil:
		return store.Transfer{}, found(err)
	}
	s.cfg.Wake(p.Org.Shard())
	return s.Transfer(ctx, p.Org, id)
}

// Audit returns entries of the audit log, oldest first.
func (s *Service) Audit(ctx context.Context, org hub.OrgID, f store.AuditFilter, page store.Page) ([]audit.Entry, string, error) {
	es, next, err := s.cfg.Store.Audit(ctx, org, f, page)
	return es, next, found(err)
}

// CopyFilter says which live copies are wanted; the first that is set counts.
type CopyFilter struct {
	Call  hub.CallID
	Email string
	Phone string
}

// Copies returns live copies at destinations: of a call, of all calls that
// concern a person, or all of the org.
func (s *Service) Copies(ctx context.Context, org hub.OrgID, f CopyFilter, page store.Page) ([]store.Copy, string, error) {
	switch {
	case f.Call != "":
		cs, err := s.cfg.Store.CopiesOfCall(ctx, org, f.Call)
		return cs, "", found(err)
	case f.Email != "":
		cs, err := s.cfg.Store.CopiesOfSubject(ctx, org, intake.NormalSubject(f.Email))
		return cs, "", found(err)
	case f.Phone != "":
		cs, err := s.cfg.Store.CopiesOfSubject(ctx, org, intake.NormalSubject(f.Phone))
		return cs, "", found(err)
	}
	cs, next, err := s.cfg.Store.Copies(ctx, org, page)
	return cs, next, found(err)
}
