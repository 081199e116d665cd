// Package vaulttest checks implementations of [vault.Store] and has one in
// memory.
package vaulttest

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Memory is a [vault.Store] in memory, for tests, and the reference that
// [RunStore] compares others with. It is linearizable and keeps nothing. It
// may be used by several goroutines.
type Memory struct {
	mu   sync.Mutex // guards what follows
	rows map[key]*row
}

type key struct {
	org  hub.OrgID
	conn hub.ConnectionID
}

type row struct {
	rec     vault.Record // without Intent.Left
	until   time.Time    // end of the intent's lease
	lastPut string       // taker that put rec.Version
}

var _ vault.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{rows: map[key]*row{}} }

// SetState does to a connection what pausing, resuming and disconnecting do.
func (m *Memory) SetState(org hub.OrgID, conn hub.ConnectionID, state hub.ConnectionState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[key{org, conn}]
	if r == nil {
		return
	}
	r.rec.State = state
	if state == hub.Disconnected {
		r.rec.Intent, r.rec.Sealed = vault.Intent{}, nil
	}
}

// LoadTokens implements [vault.Store].
func (m *Memory) LoadTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID) (vault.Record, error) {
	if err := ctx.Err(); err != nil {
		return vault.Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[key{org, conn}]
	if r == nil {
		return vault.Record{}, vault.ErrNotFound
	}
	return r.view(), nil
}

// view returns the record as a reader sees it.
func (r *row) view() vault.Record {
	rec := r.rec
	rec.Sealed = bytes.Clone(rec.Sealed)
	if rec.Intent.Taker != "" {
		rec.Intent.Left = time.Until(r.until)
	}
	return rec
}

// InstallTokens implements [vault.Store].
func (m *Memory) InstallTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, provider string, version int, sealed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[key{org, conn}]
	if r == nil {
		r = &row{}
	}
	switch {
	case r.rec.State == hub.Disconnected:
		return vault.ErrStale
	case r.rec.Version == version && version > 0 && bytes.Equal(r.rec.Sealed, sealed):
		return nil
	case r.rec.Version != version-1:
		return vault.ErrStale
	}
	*r = row{rec: vault.Record{Provider: provider, State: hub.Connected, Version: version, Sealed: bytes.Clone(sealed)}}
	m.rows[key{org, conn}] = r
	return nil
}

// TakeRefresh implements [vault.Store].
func (m *Memory) TakeRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, t vault.Take) (vault.Answer, error) {
	if err := ctx.Err(); err != nil {
		return vault.Answer{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[key{org, conn}]
	if r == nil {
		return vault.Answer{}, vault.ErrNotFound
	}
	v := r.take(t)
	return vault.Answer{Verdict: v, Record: r.view()}, nil
}

func (r *row) take(t vault.Take) vault.Verdict {
	in := &r.rec.Intent
	switch {
	case r.rec.State == hub.NeedsReauth || r.rec.State == hub.Disconnected:
		return vault.Closed
	case r.rec.Version != t.Version:
		return vault.Moved
	case in.Taker == t.Taker && in.Taker != "":
	case in.Taker == "":
		*in = vault.Intent{Taker: t.Taker, Tries: 1}
	case time.Now().Before(r.until):
		return vault.Busy
	case !t.Takeover:
		return vault.Orphaned
	default:
		*in = vault.Intent{Taker: t.Taker, Tries: in.Tries + 1}
	}
	r.until = time.Now().Add(t.Lease)
	return vault.Taken
}

// PutTokens implements [vault.Store].
func (m *Memory) PutTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, version int, taker string, sealed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[key{org, conn}]
	switch {
	case r == nil || taker == "" || r.rec.State == hub.Disconnected:
		return vault.ErrStale
	case r.rec.Version == version+1 && r.lastPut == taker:
		return nil
	case r.rec.Version != version || r.rec.Intent.Taker != taker:
		return vault.ErrStale
	}
	r.rec.Version++
	r.rec.Sealed = bytes.Clone(sealed)
	r.rec.Intent = vault.Intent{}
	r.lastPut = taker
	return nil
}

// EndRefresh implements [vault.Store].
func (m *Memory) EndRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, taker string, end vault.End) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[key{org, conn}]
	if r == nil || taker == "" || r.rec.Intent.Taker != taker {
		return nil
	}
	in := &r.rec.Intent
	switch {
	case end.Unknown:
		if in.Unknown {
			return nil // a repeat
		}
	case in.Unknown:
		return nil // a repeat
	case in.Tries == 1:
		*in = vault.Intent{}
		return nil
	default:
		in.Tries--
	}
	in.Unknown = true
	r.until = time.Now().Add(end.Pause)
	return nil
}

// BreakConnection implements [vault.Store].
func (m *Memory) BreakConnection(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, b vault.Break) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[key{org, conn}]
	if r == nil {
		return vault.ErrNotFound
	}
	if r.rec.Version != b.Version || r.rec.State == hub.Disconnected {
		return vault.ErrStale
	}
	if r.rec.State == hub.NeedsReauth {
		return nil
	}
	in := r.rec.Intent
	switch {
	case b.Taker != "":
		if in.Taker != b.Taker {
			return vault.ErrStale
		}
	case in.Taker != "" && !in.Unknown && time.Now().Before(r.until):
		return vault.ErrStale
	}
	r.rec.State = hub.NeedsReauth
	r.rec.Intent = vault.Intent{}
	return nil
}
