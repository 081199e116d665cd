package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/oauth/seal"
)

// LoadOrg returns the org's configuration at its newest version, or
// [ErrNotFound].
func (s *Store) LoadOrg(ctx context.Context, org hub.OrgID) (*directory.Snapshot, error) {
	v, err := s.run(ctx, s.scripts.load, "load org", []string{orgKey(org)}, string(org))
	if err != nil {
		return nil, err
	}
	l := list(v)
	if len(l) == 0 {
		return nil, fmt.Errorf("org %s: %w", org, ErrNotFound)
	}
	if len(l) != 5 {
		return nil, odd("load org", v)
	}
	o := pairs(l[0])
	if o["ver"] == "" { // a hash that something else began: there is no org yet
		return nil, fmt.Errorf("org %s: %w", org, ErrNotFound)
	}
	keys, err := s.sealer.OrgKeys(ctx, org, []byte(o["keyset"]))
	if err != nil {
		return nil, fmt.Errorf("store: keys of %s: %w", org, err)
	}
	r := docReader{org: org, keys: keys}
	snap := &directory.Snapshot{
		Version: num(o["ver"]), Keys: map[string]directory.Key{},
		Connections: map[hub.ConnectionID]*directory.Connection{},
	}
	r.open("org", string(org), o["doc"], &snap.Org)
	snap.Org.ID, snap.Org.State = org, hub.OrgState(o["st"])
	for id, doc := range pairs(l[1]) {
		var k directory.Key
		r.open("key", id, doc, &k)
		snap.Keys[id] = k
	}
	for id, doc := range pairs(l[2]) {
		var d secretDoc
		r.open("secret", id, doc, &d)
		snap.Secrets = append(snap.Secrets, directory.SigningSecret{
			ID: id, Secret: hub.NewSecret(d.Secret), CreatedAt: d.CreatedAt, CreatedBy: d.CreatedBy,
		})
	}
	slices.SortFunc(snap.Secrets, func(a, b directory.SigningSecret) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for _, raw := range list(l[3]) {
		c := r.connection(list(raw))
		snap.Connections[c.ID] = c
	}
	for _, raw := range list(l[4]) {
		snap.Integrations = append(snap.Integrations, r.integration(list(raw)))
	}
	slices.SortFunc(snap.Integrations, func(a, b *directory.Integration) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return compare(a.ID, b.ID)
	})
	return snap, r.err
}

func compare[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// docReader opens sealed documents and keeps the first error.
type docReader struct {
	org  hub.OrgID
	keys *seal.OrgKeys
	err  error
}

func (r *docReader) open(kind, id, sealed string, to any) {
	if r.err != nil {
		return
	}
	b, err := r.keys.Open(purposeConfig, []string{kind, id}, []byte(sealed))
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		r.err = fmt.Errorf("store: %s %s of org %s: %w", kind, id, r.org, err)
	}
}

func (r *docReader) connection(l []any) *directory.Connection {
	id := str(at(l, 0))
	f := pairs(at(l, 1))
	c := &directory.Connection{}
	if f["doc"] != "" { // tokens may be installed before the document is written
		r.open("connection", id, f["doc"], c)
	}
	c.ID, c.State, c.Cause = hub.ConnectionID(id), hub.ConnectionState(f["st"]), f["why"]
	if c.Provider == "" {
		c.Provider = f["pv"]
	}
	c.Health = directory.Health{
		LastSuccess: ms(f["oks"]), LastError: ms(f["ers"]), ErrorCode: f["erc"], ErrorDetail: f["erd"],
		Budget: connectors.Budget{Used: int(num(f["bu"])), Limit: int(num(f["bl"]))}, BudgetAt: ms(f["bt"]),
	}
	return c
}

func (r *docReader) integration(l []any) *directory.Integration {
	id := str(at(l, 0))
	f := pairs(at(l, 1))
	i := &directory.Integration{}
	r.open("integration", id, f["doc"], i)
	i.ID, i.Enabled, i.Current = hub.IntegrationID(id), f["en"] == "1", int(num(f["gr"]))
	for n, raw := range list(at(l, 2)) {
		var g consent.Grant
		r.open("grant", grantName(i.ID, n+1), str(raw), &g)
		i.Grants = append(i.Grants, g)
	}
	return i
}

func grantName(i hub.IntegrationID, number int) string { return string(i) + "#" + strconv.Itoa(number) }

type secretDoc struct {
	Secret    string    `json:"secret"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
}

// OrgVersion returns the version of the org's configuration and its state, or
// [ErrNotFound].
func (s *Store) OrgVersion(ctx context.Context, org hub.OrgID) (int64, error) {
	n, err := s.rdb.HGet(ctx, orgKey(org), "ver").Int64()
	if errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("org %s: %w", org, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("store: version of %s: %w", org, err)
	}
	return n, nil
}

// CreateOrg makes an org with fresh data keys. The entries of change are its
// first. It returns [ErrConflict] if there is an org of that id.
func (s *Store) CreateOrg(ctx context.Context, org directory.Org, token string, change directory.Change) error {
	wrapped, err := s.sealer.NewOrgKeys(ctx, org.ID)
	if err != nil {
		return fmt.Errorf("store: keys of a new org: %w", err)
	}
	keys, err := s.sealer.OrgKeys(ctx, org.ID, wrapped)
	if err != nil {
		return fmt.Errorf("store: keys of a new org: %w", err)
	}
	b := newOps(org.ID, keys)
	b.op("HSET", b.name("org"), "st", string(org.State), "keyset", b.raw(wrapped))
	b.op("ZADD", "orgs", strconv.FormatInt(org.CreatedAt.UnixMilli(), 10), string(org.ID))
	change.Version, change.Org = 0, &org
	_, err = s.apply(ctx, b, token, change)
	return err
}

// Orgs returns the ids of all orgs. It reads every shard: for the operator, not
// for requests.
func (s *Store) Orgs(ctx context.Context) ([]hub.OrgID, error) {
	var out []hub.OrgID
	for shard := range hub.Shards {
		ids, err := s.rdb.ZRange(ctx, orgsKey(shard), 0, -1).Result()
		if err != nil {
			return nil, fmt.Errorf("store: list orgs: %w", err)
		}
		for _, id := range ids {
			out = append(out, hub.OrgID(id))
		}
	}
	slices.Sort(out)
	return out, nil
}

// Change writes a new version of the org's configuration, if change.Version is
// still the one in force, and returns the new one. It returns [ErrConflict]
// otherwise: nothing was written then. token names this change and has no space
// in it; repeating it with the same token after any other error is safe.
func (s *Store) Change(ctx context.Context, org hub.OrgID, token string, change directory.Change) (int64, error) {
	keys, err := s.Keys(ctx, org)
	if err != nil {
		return 0, err
	}
	return s.apply(ctx, newOps(org, keys), token, change)
}

// ops builds the argument of lua/change.lua.
type ops struct {
	org  hub.OrgID
	keys *seal.OrgKeys
	list [][]string
	docs []any
	err  error
}

func newOps(org hub.OrgID, keys *seal.OrgKeys) *ops {
	return &ops{org: org, keys: keys, list: [][]string{}}
}

func (o *ops) op(args ...string) { o.list = append(o.list, args) }

// name is the key of that kind, without the shard's prefix.
func (o *ops) name(kind string, ids ...string) string {
	return strings.Join(append([]string{kind, string(o.org)}, ids...), ":")
}

// raw hands bytes over beside the JSON and returns what stands for them in it.
func (o *ops) raw(b []byte) string {
	o.docs = append(o.docs, b)
	return "$" + strconv.Itoa(len(o.docs))
}

func (o *ops) doc(kind, id string, v any) string {
	b, err := json.Marshal(v)
	if err == nil {
		b, err = o.keys.Seal(purposeConfig, []string{kind, id}, b)
	}
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("store: %s %s: %w", kind, id, err)
	}
	return o.raw(b)
}

func (o *ops) add(c directory.Change) {
	if c.Org != nil {
		o.op("HSET", o.name("org"), "doc", o.doc("org", string(o.org), c.Org), "st", string(c.Org.State))
	}
	for _, k := range c.Keys {
		o.op("HSET", o.name("keys"), k.ID, o.doc("key", k.ID, k))
	}
	for _, id := range c.DropKeys {
		o.op("HDEL", o.name("keys"), id)
	}
	for _, x := range c.Secrets {
		d := secretDoc{Secret: x.Secret.Reveal(), CreatedAt: x.CreatedAt, CreatedBy: x.CreatedBy}
		o.op("HSET", o.name("secrets"), x.ID, o.doc("secret", x.ID, d))
	}
	for _, id := range c.DropSecrets {
		o.op("HDEL", o.name("secrets"), id)
	}
	for _, x := range c.NewConnections {
		id := string(x.ID)
		o.op("SADD", o.name("conns"), id)
		o.op("HSET", o.name("conn", id), "doc", o.doc("connection", id, x), "pv", x.Provider)
		if x.State != "" { // tokens that were installed before decide it themselves
			o.op("HSETNX", o.name("conn", id), "st", string(x.State))
		}
	}
	for _, x := range c.Connections {
		id := string(x.ID)
		o.op("HSET", o.name("conn", id), "doc", o.doc("connection", id, x))
	}
	for _, x := range c.Integrations {
		id := string(x.ID)
		o.op("SADD", o.name("integs"), id)
		o.op("HSET", o.name("integ", id), "doc", o.doc("integration", id, x),
			"en", strconv.Itoa(bit(x.Enabled)), "gr", strconv.Itoa(x.Current))
	}
	for _, g := range c.NewGrants {
		id := string(g.Integration)
		o.op("RPUSH", o.name("grants", id), o.doc("grant", grantName(g.Integration, g.Number), g))
	}
	for _, id := range c.DropIntegrations {
		o.op("SREM", o.name("integs"), string(id))
		o.op("HSET", o.name("integ", string(id)), "en", "0")
	}
}

func (s *Store) apply(ctx context.Context, o *ops, token string, c directory.Change) (int64, error) {
	o.add(c)
	if o.err != nil {
		return 0, o.err
	}
	args := struct {
		Org     string     `json:"org"`
		Entries [][]string `json:"entries"`
		Ops     [][]string `json:"ops"`
	}{string(o.org), make([][]string, 0, len(c.Entries)), o.list}
	for _, e := range c.Entries {
		args.Entries = append(args.Entries, e.Pairs())
	}
	arg, err := json.Marshal(args)
	if err != nil {
		return 0, fmt.Errorf("store: change: %w", err)
	}
	version := ""
	if c.Version != 0 {
		version = strconv.FormatInt(c.Version, 10)
	}
	v, err := s.run(ctx, s.scripts.change, "change", []string{orgKey(o.org)}, append([]any{version, token, arg}, o.docs...)...)
	if err != nil {
		return 0, err
	}
	l := list(v)
	switch str(at(l, 0)) {
	case "ok":
		return num(at(l, 1)), nil
	case "conflict":
		return 0, ErrConflict
	case "noorg":
		return 0, ErrNotFound
	}
	return 0, odd("change", v)
}

// SetConnection moves a connection to another state, with its audit entry. It
// reports whether the state changed; it does not if the connection is
// disconnected.
func (s *Store) SetConnection(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, to hub.ConnectionState, cause, actor string, typ audit.Type) (bool, error) {
	v, err := s.run(ctx, s.scripts.connection, "connection state", []string{orgKey(org)},
		string(org), string(conn), string(to), cause, actor, string(typ), "", hub.NewID("chg"))
	if err != nil {
		return false, err
	}
	return num(v) == 1, nil
}

// DestroyTokens removes a connection's sealed tokens and what was noted about
// refreshing them.
func (s *Store) DestroyTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID) error {
	if err := s.rdb.HDel(ctx, connKey(org, conn), "tok", "ri", "rl", "rt", "ru", "rp").Err(); err != nil {
		return fmt.Errorf("store: destroy tokens: %w", err)
	}
	return nil
}

// NoteBudget keeps what the provider said of its API allowance.
func (s *Store) NoteBudget(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, b connectors.Budget) error {
	err := s.rdb.HSet(ctx, connKey(org, conn), "bu", b.Used, "bl", b.Limit, "bt", time.Now().UnixMilli()).Err()
	if err != nil {
		return fmt.Errorf("store: note the API budget: %w", err)
	}
	return nil
}

// KeyDigest returns the keyed digest under which an API key's secret is known.
func (s *Store) KeyDigest(ctx context.Context, org hub.OrgID, secret hub.Secret) (string, error) {
	keys, err := s.Keys(ctx, org)
	if err != nil {
		return "", err
	}
	return keys.Digest(seal.PurposeAPIKey, []byte(secret.Reveal()))
}

// Audited writes entries that belong to no change of the configuration. It
// returns [ErrNotFound] if there is no such org. token names this request
// and has no space in it; repeating it with the same token after any other error
// is safe.
func (s *Store) Audited(ctx context.Context, org hub.OrgID, token string, entries ...audit.Entry) error {
	lists := make([][]string, 0, len(entries))
	for _, e := range entries {
		lists = append(lists, e.Pairs())
	}
	arg, err := json.Marshal(lists)
	if err != nil {
		return fmt.Errorf("store: audit: %w", err)
	}
	v, err := s.run(ctx, s.scripts.note, "audit", []string{orgKey(org)}, string(org), token, arg)
	if err != nil {
		return err
	}
	if num(v) != 1 {
		return fmt.Errorf("org %s: %w", org, ErrNotFound)
	}
	return nil
}
