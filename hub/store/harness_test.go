package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/oauth/seal"
	"github.com/optiwe/callbridge/test/redistest"
)

// tester is what the helpers need of a test; a *rapid.T has it as well.
type tester interface {
	Helper()
	Context() context.Context
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
}

// harness is a store on an empty Redis.
type harness struct {
	*Store
	tb   tester
	pass func(time.Duration) // lets time go by, by Redis' clock
}

// backend is a kind of Redis that the suite runs on.
type backend struct {
	name string
	// open returns a client of an empty Redis of its own, or one that is the
	// caller's until the next open.
	open func(testing.TB) (redis.UniversalClient, func(time.Duration))
}

func newSealer(tb testing.TB) *seal.Sealer {
	tb.Helper()
	b, err := seal.NewKeyset()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "keyset.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
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
	return s
}

// start of the time of every miniredis here. It stands still until passed.
func epoch() time.Time { return time.Date(2026, 11, 20, 15, 0, 0, 0, time.UTC) }

// openMini starts a miniredis, whose clock moves by pass only.
func openMini(tb testing.TB) (redis.UniversalClient, func(time.Duration)) {
	tb.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	at := epoch()
	m.SetTime(at)
	c := connectTo(tb, "redis://"+m.Addr())
	return c, func(d time.Duration) {
		at = at.Add(d)
		m.SetTime(at)
		m.FastForward(d)
	}
}

// openRunning starts a miniredis whose clock runs by itself.
func openRunning(tb testing.TB) (redis.UniversalClient, func(time.Duration)) {
	tb.Helper()
	m := miniredis.RunT(tb)
	return connectTo(tb, "redis://"+m.Addr()), sleep
}

func connectTo(tb testing.TB, address string) redis.UniversalClient {
	tb.Helper()
	c, err := Dial(address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			tb.Error(err)
		}
	})
	return c
}

// sleep waits by the wall clock, which is that of a real Redis.
func sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// emptied returns an open function for a Redis that is shared by the tests of
// one run, one after the other.
func emptied(address string) func(testing.TB) (redis.UniversalClient, func(time.Duration)) {
	return func(tb testing.TB) (redis.UniversalClient, func(time.Duration)) {
		tb.Helper()
		c := connectTo(tb, address)
		flush := func(ctx context.Context, n redis.Cmdable) error { return n.FlushAll(ctx).Err() }
		var err error
		if cc, ok := c.(*redis.ClusterClient); ok {
			err = cc.ForEachMaster(tb.Context(), func(ctx context.Context, n *redis.Client) error { return flush(ctx, n) })
		} else {
			err = flush(tb.Context(), c)
		}
		if err != nil {
			tb.Fatal(err)
		}
		return c, sleep
	}
}

// eachBackend runs the test on every kind of Redis.
func eachBackend(t *testing.T, test func(*testing.T, backend)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, backend{"miniredis", openMini})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		redistest.Require(t)
		s := redistest.Start(t, redistest.Options{})
		test(t, backend{"redis", emptied(s.URL())})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		redistest.Require(t)
		c := redistest.StartCluster(t, 3, 0)
		test(t, backend{"cluster", emptied("redis+cluster://" + strings.Join(c.Addrs(), ","))})
	})
}

func (b backend) new(tb testing.TB) *harness {
	tb.Helper()
	c, pass := b.open(tb)
	return newHarness(tb, c, pass)
}

func newHarness(tb testing.TB, c redis.UniversalClient, pass func(time.Duration)) *harness {
	tb.Helper()
	s, err := New(Config{Redis: c, Keys: newSealer(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	return &harness{Store: s, tb: tb, pass: pass}
}

// world is an org in a harness.
type world struct {
	*harness
	org  hub.OrgID
	seen map[hub.IntegrationID]*directory.Integration
}

const (
	actor        = "key:k1"
	limit        = 1000
	retention    = 30 * 24 * time.Hour
	longLease    = time.Minute
	shortLease   = 40 * time.Millisecond
	afterShort   = 80 * time.Millisecond
	never        = 24 * time.Hour
	conA         = hub.ConnectionID("con_a")
	conB         = hub.ConnectionID("con_b")
	intA         = hub.IntegrationID("int_a")
	intB         = hub.IntegrationID("int_b")
	fieldsOfCall = "title,summary"
)

func must[T any](v T, err error) func(tester) T {
	return func(tb tester) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func ok(tb tester, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// newWorld makes an active org with two connections, con_a (slack) and con_b
// (salesforce), and an enabled integration for each, int_a and int_b.
func (h *harness) newWorld(org hub.OrgID) *world {
	h.tb.Helper()
	w := h.newOrg(org)
	w.connect(conA, "slack")
	w.connect(conB, "salesforce")
	w.enable(intA, conA)
	w.enable(intB, conB)
	return w
}

func (h *harness) newOrg(org hub.OrgID) *world {
	h.tb.Helper()
	err := h.CreateOrg(h.tb.Context(), directory.Org{ID: org, Name: "Acme", Region: "us", Language: "en", State: hub.OrgActive, CreatedAt: epoch()},
		hub.NewID("chg"), directory.Change{Entries: []audit.Entry{{Type: audit.OrgCreated, Actor: actor}}})
	ok(h.tb, err)
	return &world{harness: h, org: org, seen: map[hub.IntegrationID]*directory.Integration{}}
}

func (w *world) version() int64 {
	w.tb.Helper()
	return must(w.OrgVersion(w.tb.Context(), w.org))(w.tb)
}

func (w *world) change(c directory.Change) {
	w.tb.Helper()
	c.Version = w.version()
	must(w.Change(w.tb.Context(), w.org, hub.NewID("chg"), c))(w.tb)
}

func (w *world) connect(conn hub.ConnectionID, provider string) {
	w.tb.Helper()
	ok(w.tb, w.Tokens(actor).InstallTokens(w.tb.Context(), w.org, conn, provider, 1, []byte("sealed")))
	w.change(directory.Change{
		NewConnections: []*directory.Connection{{ID: conn, Provider: provider, BaseURL: "https://example.com", CreatedAt: epoch(), CreatedBy: actor}},
		Entries:        []audit.Entry{{Type: audit.ConnectionCreated, Actor: actor, Connection: conn}},
	})
}

// enable makes the integration with a new grant, or gives it another one.
func (w *world) enable(id hub.IntegrationID, conn hub.ConnectionID) {
	w.tb.Helper()
	i := w.seen[id]
	if i == nil {
		i = &directory.Integration{ID: id, Name: string(id), CreatedAt: epoch(), CreatedBy: actor}
		w.seen[id] = i
	}
	i.Enabled, i.Current = true, i.Current+1
	g := consent.Grant{Number: i.Current, Integration: id, Terms: consent.Terms{Connection: conn, Destination: json.RawMessage(`{}`)}, EnabledBy: actor, EnabledAt: epoch()}
	i.Grants = append(i.Grants, g)
	w.change(directory.Change{
		Integrations: []*directory.Integration{i}, NewGrants: []consent.Grant{g},
		Entries: []audit.Entry{{Type: audit.IntegrationEnabled, Actor: actor, Integration: id, Grant: g.Number}},
	})
}

func (w *world) disable(id hub.IntegrationID) {
	w.tb.Helper()
	i := w.seen[id]
	i.Enabled = false
	w.change(directory.Change{Integrations: []*directory.Integration{i}, Entries: []audit.Entry{{Type: audit.IntegrationDisabled, Actor: actor, Integration: id}}})
}

func (w *world) orgState(s hub.OrgState) {
	w.tb.Helper()
	snap := must(w.LoadOrg(w.tb.Context(), w.org))(w.tb)
	o := snap.Org
	o.State = s
	w.change(directory.Change{Org: &o, Entries: []audit.Entry{{Type: audit.OrgChanged, Actor: actor, Reason: string(s)}}})
}

func (w *world) connState(conn hub.ConnectionID, s hub.ConnectionState, typ audit.Type) bool {
	w.tb.Helper()
	return must(w.SetConnection(w.tb.Context(), w.org, conn, s, "because", actor, typ))(w.tb)
}

// share is what a decision says: to share by the integration.
func (w *world) share(integ hub.IntegrationID) Share {
	conn := conA
	if integ == intB {
		conn = conB
	}
	return Share{
		Integration: integ, Connection: conn, Grant: w.seen[integ].Current, OK: true,
		Transfer: hub.TransferID(hub.NewID(hub.TransferPrefix)),
	}
}

func withhold(s Share, reason string) Share {
	s.OK, s.Reason, s.Transfer = false, reason, ""
	return s
}

// request is a call with some content.
func (w *world) request(call hub.CallID, content string, shares ...Share) AcceptRequest {
	w.tb.Helper()
	type answer struct {
		Integration hub.IntegrationID `json:"integration_id"`
		Transfer    hub.TransferID    `json:"transfer_id,omitempty"`
	}
	answers := []answer{}
	for _, s := range shares {
		answers = append(answers, answer{s.Integration, s.Transfer})
	}
	b, err := json.Marshal(answers)
	ok(w.tb, err)
	return AcceptRequest{
		Org: w.org, Call: call, Version: w.version(), Actor: actor, Token: hub.NewID("req"),
		Content: []byte(content), Canonical: []byte(content), Shares: shares, Answer: b,
		Limit: limit, Retention: retention,
	}
}

// accept stores a call with new content and returns its transfers.
func (w *world) accept(call hub.CallID, content string, shares ...Share) []hub.TransferID {
	w.tb.Helper()
	r := must(w.Accept(w.tb.Context(), w.request(call, content, shares...)))(w.tb)
	if r.Status != "accepted" || r.Full != 0 {
		w.tb.Fatalf("accept %s: %+v", call, r)
	}
	var ids []hub.TransferID
	for _, s := range shares {
		if s.OK {
			ids = append(ids, s.Transfer)
		}
	}
	return ids
}

// acceptOne stores a call that is shared by int_a alone and returns its transfer.
func (w *world) acceptOne(call hub.CallID, content string) hub.TransferID {
	w.tb.Helper()
	return w.accept(call, content, w.share(intA))[0]
}

func (h *harness) claimWith(org hub.OrgID, o ClaimOptions) *Lane {
	h.tb.Helper()
	if o.Token == "" {
		o.Token = hub.NewID("clm")
	}
	if o.Lease == 0 {
		o.Lease = longLease
	}
	if o.Batch == nil {
		o.Batch = map[string]int{"*": 200}
	}
	l, _, err := h.Claim(h.tb.Context(), org.Shard(), o, time.Second)
	ok(h.tb, err)
	return l
}

// claim claims a lane of the org's shard and fails if there is none.
func (w *world) claim() *Lane {
	w.tb.Helper()
	l := w.claimWith(w.org, ClaimOptions{})
	if l == nil {
		w.tb.Fatal("no lane is due")
	}
	return l
}

func (w *world) noLane() {
	w.tb.Helper()
	if l := w.claimWith(w.org, ClaimOptions{}); l != nil {
		w.tb.Fatalf("lane %s of %s with %d transfers is due, want none", l.Connection, l.Org, len(l.Transfers))
	}
}

func (w *world) items(l *Lane) []BeginItem {
	items := []BeginItem{}
	for _, c := range l.Transfers {
		if !c.Unknown {
			items = append(items, w.item(c))
		}
	}
	return items
}

func (w *world) item(c Claimed) BeginItem {
	b := BeginItem{Transfer: c.ID, Integration: c.Integration, Kind: c.Kind, Revision: c.Revision}
	if c.Kind == hub.KindErase {
		return b
	}
	if c.Copy != nil {
		b.Kind = hub.KindUpdate
	}
	b.Grant, b.Fields = w.seen[c.Integration].Current, fieldsOfCall
	return b
}

func (w *world) begin(l *Lane) []Verdict {
	w.tb.Helper()
	return must(w.Begin(w.tb.Context(), l, longLease, w.items(l)))(w.tb)
}

// beginFor begins the batch with a lease that is over after afterShort.
func (w *world) beginFor(l *Lane, lease time.Duration) {
	w.tb.Helper()
	for i, v := range must(w.Begin(w.tb.Context(), l, lease, w.items(l)))(w.tb) {
		if v != Begun {
			w.tb.Fatalf("verdict %d: %s", i, v)
		}
	}
}

func (w *world) finish(l *Lane, f Finish) []bool {
	w.tb.Helper()
	return must(w.Finish(w.tb.Context(), l, f))(w.tb)
}

// deliver ends what the lane holds as delivered.
func (w *world) deliver(l *Lane) {
	w.tb.Helper()
	f := Finish{OK: true}
	for _, c := range l.Transfers {
		f.Endings = append(f.Endings, delivered(c))
	}
	for i, applied := range w.finish(l, f) {
		if !applied {
			w.tb.Fatalf("ending %d of %s was not applied", i, l.Transfers[i].ID)
		}
	}
}

func delivered(c Claimed) Ending {
	return Ending{
		Transfer: c.ID, To: hub.StateDelivered, Entry: audit.TransferDelivered,
		Receipt: connectors.Receipt{"id": "rec_" + string(c.Call)}, Payload: []byte("payload of " + string(c.ID)),
		Released: c.Content,
	}
}

func ended(id hub.TransferID, to hub.TransferState, typ audit.Type, reason string) Ending {
	return Ending{Transfer: id, To: to, Entry: typ, Reason: reason}
}

// drain claims, begins and delivers until nothing is due, and returns what was
// delivered, in order.
func (w *world) drain() []hub.TransferID {
	w.tb.Helper()
	var out []hub.TransferID
	for range 1000 {
		l := w.claimWith(w.org, ClaimOptions{})
		if l == nil {
			return out
		}
		w.begin(l)
		for _, c := range l.Transfers {
			out = append(out, c.ID)
		}
		w.deliver(l)
	}
	w.tb.Fatal("the lanes never end")
	return nil
}

func (w *world) transfer(id hub.TransferID) Transfer {
	w.tb.Helper()
	return must(w.Transfer(w.tb.Context(), w.org, id))(w.tb)
}

func (w *world) state(id hub.TransferID, want hub.TransferState) Transfer {
	w.tb.Helper()
	t := w.transfer(id)
	if t.State != want {
		w.tb.Fatalf("transfer %s is %s (%s), want %s", id, t.State, t.Reason, want)
	}
	return t
}

// entries returns the whole audit log.
func (w *world) entries() []audit.Entry {
	w.tb.Helper()
	var out []audit.Entry
	cursor := ""
	for {
		es, next, err := w.Audit(w.tb.Context(), w.org, AuditFilter{}, Page{Cursor: cursor, Limit: 100})
		ok(w.tb, err)
		out = append(out, es...)
		if next == "" {
			return out
		}
		cursor = next
	}
}

// types returns the types of the audit entries about a transfer.
func (w *world) types(id hub.TransferID) []string {
	w.tb.Helper()
	out := []string{}
	for _, e := range w.entries() {
		if e.Transfer == id {
			out = append(out, strings.TrimPrefix(string(e.Type), "transfer."))
		}
	}
	return out
}

func (w *world) hash(key string) map[string]string {
	w.tb.Helper()
	return must(w.rdb.HGetAll(w.tb.Context(), key).Result())(w.tb)
}

// zset returns a sorted set as member -> score.
func (w *world) zset(key string) map[string]float64 {
	w.tb.Helper()
	out := map[string]float64{}
	for _, z := range must(w.rdb.ZRangeWithScores(w.tb.Context(), key, 0, -1).Result())(w.tb) {
		out[fmt.Sprint(z.Member)] = z.Score
	}
	return out
}

// keysLike returns the keys that begin with prefix, of all nodes.
func (h *harness) keysLike(start string) []string {
	h.tb.Helper()
	pattern := strings.NewReplacer("[", `\[`, "]", `\]`, "*", `\*`, "?", `\?`).Replace(start) + "*"
	c, ok := h.rdb.(*redis.ClusterClient)
	if !ok {
		return must(h.rdb.Keys(h.tb.Context(), pattern).Result())(h.tb)
	}
	all := make(chan []string, 16)
	err := c.ForEachMaster(h.tb.Context(), func(ctx context.Context, n *redis.Client) error {
		keys, err := n.Keys(ctx, pattern).Result()
		all <- keys
		return err
	})
	if err != nil {
		h.tb.Fatal(err)
	}
	close(all)
	var out []string
	for k := range all {
		out = append(out, k...)
	}
	return out
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
