// Package store keeps everything in Redis: orgs and their configuration, calls,
// transfers and their lanes, the audit log and the register of copies. It is
// the only package that knows Redis. What must not be half done is one Lua
// script (lua/), and every script may be run twice with the effect of once,
// because a lost answer makes the client repeat.
//
// Content, tokens and configuration are sealed before they get here with the
// org's data key; what Redis can read is ids, states, numbers, times and keyed
// digests.
//
// Durability is Redis' own: with appendfsync always an acknowledged write is
// kept; docs/OPERATING.md says what weaker settings can lose.
package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth/seal"
)

// Errors that callers act on.
var (
	ErrNotFound  = errors.New("store: not found")
	ErrConflict  = errors.New("store: the configuration was changed by somebody else")
	ErrStale     = errors.New("store: the configuration is newer than the one decided on")
	ErrKeyReused = errors.New("store: the idempotency key was used with another body")
	ErrLost      = errors.New("store: the lane was given to another worker")
)

//go:embed lua/*.lua
var luaFiles embed.FS

// Config configures a Store. All fields are required.
type Config struct {
	Redis redis.UniversalClient // closed by [Store.Close]
	Keys  *seal.Sealer          // opens the orgs' data keys
}

// Store is the Redis store. It may be used by several goroutines.
type Store struct {
	rdb     redis.UniversalClient
	sealer  *seal.Sealer
	scripts scripts

	wrapped wrappedKeys
}

type scripts struct {
	accept, claim, begin, finish, extend   *redis.Script
	sweepLane, settle, erase, change, load *redis.Script
	connection, sweepCalls, expire, note   *redis.Script
	install, take, put, end, breakConn     *redis.Script
}

// New returns a store. It makes no request yet.
func New(cfg Config) (*Store, error) {
	s := &Store{rdb: cfg.Redis, sealer: cfg.Keys}
	common, err := luaFiles.ReadFile("lua/common.lua")
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for name, to := range map[string]**redis.Script{
		"accept": &s.scripts.accept, "claim": &s.scripts.claim, "begin": &s.scripts.begin,
		"finish": &s.scripts.finish, "extend": &s.scripts.extend, "sweep_lane": &s.scripts.sweepLane,
		"settle": &s.scripts.settle, "erase": &s.scripts.erase, "change": &s.scripts.change,
		"load": &s.scripts.load, "connection": &s.scripts.connection, "sweep_calls": &s.scripts.sweepCalls,
		"expire": &s.scripts.expire, "note": &s.scripts.note, "token_install": &s.scripts.install, "token_take": &s.scripts.take,
		"token_put": &s.scripts.put, "token_end": &s.scripts.end, "token_break": &s.scripts.breakConn,
	} {
		body, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		*to = redis.NewScript(string(common) + "\n" + string(body))
	}
	return s, nil
}

// Close ends the connections to Redis.
func (s *Store) Close() error { return s.rdb.Close() }

// run runs a script by its digest, and with its text where Redis does not have
// it yet. An error leaves it unknown whether the script ran; running it again
// is safe.
func (s *Store) run(ctx context.Context, sc *redis.Script, name string, keys []string, args ...any) (any, error) {
	v, err := sc.Run(ctx, s.rdb, keys, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("store: %s: %w", name, err)
	}
	return v, nil
}

// Writable writes a key with a short time to live, which shows that calls can
// be accepted.
func (s *Store) Writable(ctx context.Context) error {
	if err := s.rdb.Set(ctx, shardPrefix(0)+"probe", 1, time.Minute).Err(); err != nil {
		return fmt.Errorf("store: write a probe: %w", err)
	}
	return nil
}

// Keys returns the org's data keys, or [ErrNotFound]. The wrapped keys are
// remembered for a few minutes, as the unwrapped ones are.
func (s *Store) Keys(ctx context.Context, org hub.OrgID) (*seal.OrgKeys, error) {
	wrapped, ok := s.wrapped.get(org)
	if !ok {
		var err error
		wrapped, err = s.rdb.HGet(ctx, orgKey(org), "keyset").Bytes()
		if errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("keys of org %s: %w", org, ErrNotFound)
		}
		if err != nil {
			return nil, fmt.Errorf("store: keys of org %s: %w", org, err)
		}
		s.wrapped.put(org, wrapped)
	}
	k, err := s.sealer.OrgKeys(ctx, org, wrapped)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return k, nil
}

// wrappedKeys remembers orgs' wrapped keys for a while.
type wrappedKeys struct {
	mu    sync.Mutex
	byOrg map[hub.OrgID]wrappedKey
}

type wrappedKey struct {
	wrapped []byte
	until   time.Time
}

const (
	rememberWrapped = 5 * time.Minute
	mostWrapped     = 20_000
)

func (w *wrappedKeys) get(org hub.OrgID) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k, ok := w.byOrg[org]
	if !ok || time.Now().After(k.until) {
		return nil, false
	}
	return k.wrapped, true
}

func (w *wrappedKeys) put(org hub.OrgID, wrapped []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byOrg == nil || len(w.byOrg) >= mostWrapped {
		w.byOrg = map[hub.OrgID]wrappedKey{} // to read them again costs a round trip each
	}
	w.byOrg[org] = wrappedKey{wrapped, time.Now().Add(rememberWrapped)}
}

// Purposes of our own, beside those that seal names.
const (
	purposeConfig   seal.Purpose = "config"   // documents of an org's configuration
	purposeReleased seal.Purpose = "released" // what a copy shows, to tell whether a revision changed it
	purposeCopy     seal.Purpose = "copy"     // the name of a copy at a provider
)

// digester makes keyed digests and keeps the first error.
type digester struct {
	keys *seal.OrgKeys
	err  error
}

func (d *digester) of(p seal.Purpose, data ...[]byte) string {
	s, err := d.keys.Digest(p, data...)
	if err != nil && d.err == nil {
		d.err = err
	}
	return s
}

// short is a digest of 26 characters of a–z and 2–7: 130 bits.
func (d *digester) short(p seal.Purpose, data ...[]byte) string {
	sum := sha256.Sum256([]byte(d.of(p, data...)))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:26]
}

// The shapes in which scripts answer. A script of ours that answers otherwise
// is a bug, and the error says which.

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func str(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case int64:
		return strconv.FormatInt(x, 10)
	}
	return ""
}

func num(v any) int64 {
	switch x := v.(type) {
	case int64:
		return x
	case string:
		n, err := strconv.ParseFloat(x, 64)
		if err != nil {
			return 0
		}
		return int64(n)
	}
	return 0
}

func at(l []any, i int) any {
	if i < len(l) {
		return l[i]
	}
	return nil
}

func pairs(v any) map[string]string {
	l := list(v)
	m := make(map[string]string, len(l)/2)
	for i := 0; i+1 < len(l); i += 2 {
		m[str(l[i])] = str(l[i+1])
	}
	return m
}

func ms(v any) time.Time {
	n := num(v)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}

func odd(name string, v any) error {
	return fmt.Errorf("store: %s: the script gave an answer that is not one of its own (%T)", name, v)
}
