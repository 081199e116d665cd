package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Tokens is the store as the vault sees it. Its audit entries name actor.
type Tokens struct {
	s     *Store
	actor string
}

var _ vault.Store = Tokens{}

// Tokens returns the store as the vault sees it; actor stands in the audit
// entries of tokens that are installed.
func (s *Store) Tokens(actor string) Tokens { return Tokens{s: s, actor: actor} }

func orHub(actor string) string {
	if actor == "" {
		return "hub"
	}
	return actor
}

// LoadTokens implements [vault.Store].
func (t Tokens) LoadTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID) (vault.Record, error) {
	// One round trip: the clock comes along, because what is left of a lease is
	// told by it. In a cluster another node may answer TIME; nodes' clocks
	// differ by less than what a lease leaves to spare.
	var fields *redis.SliceCmd
	var clock *redis.TimeCmd
	_, err := t.s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		fields = p.HMGet(ctx, connKey(org, conn), "pv", "st", "tv", "tok", "ri", "rl", "rt", "ru")
		clock = p.Time(ctx)
		return nil
	})
	if err != nil {
		return vault.Record{}, fmt.Errorf("store: load tokens: %w", err)
	}
	now, values := clock.Val(), fields.Val()
	if len(values) != 8 || values[1] == nil {
		return vault.Record{}, vault.ErrNotFound
	}
	left := int64(0)
	if values[5] != nil {
		left = num(values[5]) - now.UnixMilli()
	}
	return record(values, left), nil
}

// record reads pv, st, tv, tok, ri, rl, rt, ru; left is what remains of the lease.
func record(v []any, left int64) vault.Record {
	r := vault.Record{
		Provider: str(v[0]), State: hub.ConnectionState(str(v[1])), Version: int(num(v[2])), Sealed: []byte(str(v[3])),
	}
	if taker := str(v[4]); taker != "" {
		r.Intent = vault.Intent{
			Taker: taker, Left: time.Duration(left) * time.Millisecond, Tries: int(num(v[6])), Unknown: str(v[7]) == "1",
		}
	}
	return r
}

// InstallTokens implements [vault.Store].
func (t Tokens) InstallTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, provider string, version int, sealed []byte) error {
	v, err := t.s.run(ctx, t.s.scripts.install, "install tokens", []string{orgKey(org)},
		string(org), string(conn), provider, version, sealed, orHub(t.actor))
	return done(v, err)
}

// TakeRefresh implements [vault.Store].
func (t Tokens) TakeRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, take vault.Take) (vault.Answer, error) {
	v, err := t.s.run(ctx, t.s.scripts.take, "take refresh", []string{orgKey(org)},
		string(org), string(conn), strconv.Itoa(take.Version), take.Taker, take.Lease.Milliseconds(), bit(take.Takeover))
	if err != nil {
		return vault.Answer{}, err
	}
	l := list(v)
	verdicts := map[string]vault.Verdict{
		"busy": vault.Busy, "taken": vault.Taken, "moved": vault.Moved, "orphaned": vault.Orphaned, "closed": vault.Closed,
	}
	if str(at(l, 0)) == "none" {
		return vault.Answer{}, vault.ErrNotFound
	}
	verdict, ok := verdicts[str(at(l, 0))]
	if !ok || len(l) != 9 {
		return vault.Answer{}, odd("take refresh", v)
	}
	return vault.Answer{Verdict: verdict, Record: record(l[1:], num(l[6]))}, nil
}

// PutTokens implements [vault.Store].
func (t Tokens) PutTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, version int, taker string, sealed []byte) error {
	v, err := t.s.run(ctx, t.s.scripts.put, "put tokens", []string{orgKey(org)},
		string(org), string(conn), version, taker, sealed)
	return done(v, err)
}

// EndRefresh implements [vault.Store].
func (t Tokens) EndRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, taker string, end vault.End) error {
	_, err := t.s.run(ctx, t.s.scripts.end, "end refresh", []string{orgKey(org)},
		string(org), string(conn), taker, bit(end.Unknown), end.Code, end.Pause.Milliseconds(), end.Detail)
	return err
}

// BreakConnection implements [vault.Store].
func (t Tokens) BreakConnection(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, b vault.Break) error {
	v, err := t.s.run(ctx, t.s.scripts.breakConn, "break connection", []string{orgKey(org)},
		string(org), string(conn), strconv.Itoa(b.Version), b.Taker, b.Code, b.Detail)
	return done(v, err)
}

func done(v any, err error) error {
	if err != nil {
		return err
	}
	switch num(v) {
	case 1:
		return nil
	case -1:
		return vault.ErrNotFound
	}
	return vault.ErrStale
}
