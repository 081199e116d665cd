package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/all"
	"github.com/optiwe/callbridge/connectors/outbound"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/connectors/webhook/webhooktest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/delivery"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth/seal"
	"github.com/optiwe/callbridge/oauth/vault"
)

const testTerms = "2020-05-01"

// world is a Redis with everything that providers and operators do around it.
// Each replica in it is an instance as hub/server builds it.
type world struct {
	t      testing.TB
	redis  *miniredis.Miniredis
	keyset string
	hook   *webhooktest.Server
	slack  *slacktest.Server
	gate   *gate
	log    *logBook
}

// gate is a receiver of webhooks that answers when it is opened.
type gate struct {
	*httptest.Server
	arrived chan struct{}
	open    func()
}

func newGate(t testing.TB) *gate {
	t.Helper()
	opened := make(chan struct{})
	g := &gate{arrived: make(chan struct{}, 100), open: sync.OnceFunc(func() { close(opened) })}
	g.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		g.arrived <- struct{}{}
		<-opened
	}))
	t.Cleanup(func() {
		g.open()
		g.Close()
	})
	return g
}

func newWorld(t testing.TB) *world {
	t.Helper()
	b, err := seal.NewKeyset()
	ok(t, err)
	w := &world{
		t: t, redis: miniredis.RunT(t), keyset: filepath.Join(t.TempDir(), "keyset.json"),
		hook: webhooktest.New(t, webhooktest.Options{}),
		slack: slacktest.New(t, slacktest.Options{
			Channels: []slacktest.Channel{{ID: "C0SALES01", Name: "sales"}, {ID: "C0SHARED1", Name: "with-customer", ExtShared: true}},
		}),
		gate: newGate(t), log: &logBook{},
	}
	ok(t, os.WriteFile(w.keyset, b, 0o600))
	return w
}

// replica is one instance.
type replica struct {
	*world
	api      *API
	admin    *admin.Service
	store    *store.Store
	delivery *delivery.Delivery
	url      string
}

// setting changes how an instance is made.
type setting func(*Config, *intake.Config)

func withQueue(most int) setting {
	return func(_ *Config, in *intake.Config) { in.Limit = most }
}

func withAPI(change func(*Config)) setting {
	return func(cfg *Config, _ *intake.Config) { change(cfg) }
}

// replica starts an instance. change may change its config.
func (w *world) replica(change ...setting) *replica {
	w.t.Helper()
	kek, err := seal.Open("file:" + w.keyset)
	ok(w.t, err)
	sealer, err := seal.New(seal.Config{KEK: kek})
	ok(w.t, err)
	rdb, err := store.Dial("redis://" + w.redis.Addr())
	ok(w.t, err)
	st, err := store.New(store.Config{Redis: rdb, Keys: sealer})
	ok(w.t, err)
	w.t.Cleanup(func() { _ = rdb.Close() })
	registry, err := connectors.NewRegistry(all.Descriptors(), nil)
	ok(w.t, err)
	private := []string{hostOf(w.t, w.hook.URL), hostOf(w.t, w.slack.URL), hostOf(w.t, w.gate.URL)}
	transport, err := outbound.NewTransport(outbound.Config{AllowPrivate: private})
	ok(w.t, err)
	w.t.Cleanup(transport.CloseIdleConnections)
	logger := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	vlt, err := vault.New(vault.Config{Store: st.Tokens("hub"), Keys: st.Keys, Logger: logger})
	ok(w.t, err)
	accounts := &delivery.Accounts{
		Vault: vlt, Transport: transport, Cache: outbound.NewCache(1000), Store: st, Connectors: registry, AllowPrivate: private, Logger: logger,
	}
	cache := directory.NewCache(st, 100)
	r := &replica{world: w, store: st}
	r.delivery = delivery.New(delivery.Config{
		Store: st, Cache: cache, Connectors: registry, Accounts: accounts, Metrics: delivery.NewMetrics(prometheus.NewRegistry()),
		Logger: logger, Terms: testTerms, Workers: 4, Idle: 20 * time.Millisecond,
	})
	r.admin = admin.New(admin.Config{
		Store: st, Cache: cache, Connectors: registry, Accounts: accounts, Vault: vlt, Terms: testTerms, Region: "us",
		AllowPrivate: private, SlackAPIURL: w.slack.APIURL() + "/", SalesforceLoginURL: "https://login.salesforce.com",
		Wake: r.delivery.Wake, Logger: logger,
	})
	in := intake.Config{Store: st, Cache: cache, Connectors: registry, Terms: testTerms, Wake: r.delivery.Wake}
	cfg := Config{Admin: r.admin, Ready: st.Writable, Logger: logger, Version: "test"}
	for _, f := range change {
		f(&cfg, &in)
	}
	cfg.Intake = intake.New(in)
	r.api, err = New(cfg)
	ok(w.t, err)
	s := httptest.NewServer(r.api)
	w.t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

// deliver works the lanes until the test ends.
func (r *replica) deliver() {
	r.t.Helper()
	r.delivery.Start(r.t.Context())
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), 5*time.Second)
		defer cancel()
		_ = r.delivery.Close(ctx)
	})
}

// org makes an org and returns a client with its admin key.
func (r *replica) org(id hub.OrgID) *client {
	r.t.Helper()
	made, err := r.admin.CreateOrg(r.t.Context(), "Acme", id, "", "", "operator")
	ok(r.t, err)
	return &client{replica: r, t: r.t, org: made.ID, key: made.Key.Reveal(), signing: made.SigningSecret.Reveal()}
}

// newClient is a world with one replica and one org, for tests that need no
// more.
func newClient(t testing.TB) *client {
	t.Helper()
	return newWorld(t).replica().org("org_acme")
}

// client speaks to a replica with a key. Every answer is held against the
// document that the replica serves, and so is every request that was served.
type client struct {
	*replica
	t       testing.TB
	org     hub.OrgID
	key     string
	signing string
}

// at returns the client at another replica.
func (c *client) at(r *replica) *client {
	d := *c
	d.replica = r
	return &d
}

// with returns the client with another key.
func (c *client) with(key string) *client {
	d := *c
	d.key = key
	return &d
}

// role returns the client with a new key of that role.
func (c *client) role(role string) *client {
	c.t.Helper()
	a := c.post("/v1/keys", map[string]any{"role": role, "name": role})
	a.is(http.StatusCreated)
	return c.with(a.text("/key"))
}

// reply is an answer.
type reply struct {
	t      testing.TB
	what   string // the request
	status int
	header http.Header
	body   []byte
	value  any
}

type header map[string]string

func (c *client) get(path string, h ...header) *reply {
	return c.do(http.MethodGet, path, nil, h...)
}

func (c *client) post(path string, body any, h ...header) *reply {
	return c.do(http.MethodPost, path, body, h...)
}

// do makes a request. The body is sent as it is if it is bytes or a string, and
// otherwise as JSON; nil is none.
func (c *client) do(method, path string, body any, headers ...header) *reply {
	c.t.Helper()
	var raw []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		raw = b
	case string:
		raw = []byte(b)
	default:
		var err error
		raw, err = json.Marshal(b)
		ok(c.t, err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(raw))
	ok(c.t, err)
	if body == nil {
		req.Body, req.ContentLength = nil, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for _, h := range headers {
		for k, v := range h {
			req.Header.Set(k, v)
			if v == "" {
				req.Header.Del(k)
			}
		}
	}
	return c.send(req, raw)
}

func (c *client) send(req *http.Request, raw []byte) *reply {
	c.t.Helper()
	res, err := new(http.Client).Do(req)
	ok(c.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	ok(c.t, err)
	a := &reply{t: c.t, what: req.Method + " " + req.URL.Path, status: res.StatusCode, header: res.Header, body: b}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &a.value); err != nil {
			c.t.Fatalf("%s: answered %d with what is no JSON: %v\n%.300q", a.what, a.status, err, b)
		}
	}
	conform(c.t, c.api, req, raw, a)
	a.wellFormed()
	return a
}

// wellFormed checks what holds for every answer.
func (a *reply) wellFormed() {
	a.t.Helper()
	for name, want := range (header{
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	}) {
		if got := a.header.Get(name); got != want {
			a.t.Errorf("%s: %s is %q, want %q", a.what, name, got, want)
		}
	}
	if a.header.Get("X-Request-Id") == "" {
		a.t.Errorf("%s: no X-Request-Id", a.what)
	}
	if a.status < 400 {
		if ct := a.header.Get("Content-Type"); len(a.body) > 0 && ct != "application/json" {
			a.t.Errorf("%s: Content-Type %q", a.what, ct)
		}
		return
	}
	if ct := a.header.Get("Content-Type"); ct != problemType {
		a.t.Errorf("%s: %d with Content-Type %q", a.what, a.status, ct)
	}
	for _, m := range []string{"/type", "/title", "/detail", "/code"} {
		if a.text(m) == "" {
			a.t.Errorf("%s: the problem has no %s: %s", a.what, m, a.body)
		}
	}
	if int(a.number("/status")) != a.status {
		a.t.Errorf("%s: status %d, and in the problem %v", a.what, a.status, a.number("/status"))
	}
	if (a.status == 429 || a.status == 503) && a.header.Get("Retry-After") == "" {
		a.t.Errorf("%s: %d without Retry-After", a.what, a.status)
	}
}

// is stops the test if the status is another.
func (a *reply) is(status int) *reply {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// problem checks status and code, and that the errors point at pointers.
func (a *reply) problem(status int, code string, pointers ...string) *reply {
	a.t.Helper()
	if a.status != status || a.text("/code") != code {
		a.t.Errorf("%s: %d %q, want %d %q: %s", a.what, a.status, a.text("/code"), status, code, a.body)
		return a
	}
	for _, p := range pointers {
		if !a.pointsAt(p) {
			a.t.Errorf("%s: no error at %q: %s", a.what, p, a.body)
		}
	}
	return a
}

func (a *reply) pointsAt(pointer string) bool {
	errs, _ := a.at("/errors").([]any)
	for _, e := range errs {
		if m, ok := e.(map[string]any); ok && m["pointer"] == pointer && m["detail"] != "" {
			return true
		}
	}
	return false
}

// at returns what the JSON pointer points at, or nil.
func (a *reply) at(pointer string) any {
	v := a.value
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		switch c := v.(type) {
		case map[string]any:
			v = c[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(c) {
				return nil
			}
			v = c[i]
		default:
			return nil
		}
	}
	return v
}

func (a *reply) text(pointer string) string {
	s, _ := a.at(pointer).(string)
	return s
}

func (a *reply) number(pointer string) float64 {
	n, _ := a.at(pointer).(float64)
	return n
}

func (a *reply) len(pointer string) int {
	l, _ := a.at(pointer).([]any)
	return len(l)
}

// want checks members of the answer.
func (a *reply) want(members map[string]any) *reply {
	a.t.Helper()
	for pointer, want := range members {
		if n, ok := want.(int); ok {
			want = float64(n)
		}
		if got := a.at(pointer); got != want {
			a.t.Errorf("%s: %s is %v (%T), want %v\n%s", a.what, pointer, got, got, want, a.body)
		}
	}
	return a
}

// documents makes validators, one for each document: to build one takes long.
var documents struct {
	sync.Mutex
	byText map[string]validator.Validator
}

func validatorOf(t testing.TB, a *API) validator.Validator {
	t.Helper()
	text := string(a.Document())
	if v, ok := documents.byText[text]; ok {
		return v
	}
	doc, err := libopenapi.NewDocument([]byte(text))
	ok(t, err)
	v, errs := validator.NewValidator(doc)
	for _, err := range errs {
		t.Fatal(err)
	}
	if documents.byText == nil {
		documents.byText = map[string]validator.Validator{}
	}
	documents.byText[text] = v
	return v
}

// conform holds an exchange against the document. A request that was refused
// need not conform; an address that there is not is not in the document.
func conform(t testing.TB, api *API, req *http.Request, raw []byte, a *reply) {
	t.Helper()
	if _, pattern := api.mux.Handler(req); pattern == "" || a.status == http.StatusNotFound && strings.Contains(a.text("/detail"), "at this address") || req.Method == http.MethodHead {
		return
	}
	documents.Lock()
	defer documents.Unlock()
	v := validatorOf(t, api)
	res := &http.Response{StatusCode: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: req}
	if good, errs := v.ValidateHttpResponse(req, res); !good {
		for _, e := range errs {
			t.Errorf("%s: the answer %d is not as the document says: %s: %s %v\n%s", a.what, a.status, e.Message, e.Reason, e.SchemaValidationErrors, a.body)
		}
	}
	if a.status >= 300 || bytes.Contains(a.body, []byte(`"type":"urn:callbridge:problem:`)) { // of a call in a batch
		return
	}
	again := req.Clone(req.Context())
	if raw != nil {
		again.Body = io.NopCloser(bytes.NewReader(raw))
	}
	if good, errs := v.ValidateHttpRequestSync(again); !good {
		for _, e := range errs {
			t.Errorf("%s: was answered %d, and the request is not as the document says: %s: %s %v\n%.500s", a.what, a.status, e.Message, e.Reason, e.SchemaValidationErrors, raw)
		}
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hostOf(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	ok(t, err)
	return u.Host
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// logBook keeps what was logged.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A call, and ways to make others of it.
func aCall(id string, changes ...map[string]any) map[string]any {
	c := map[string]any{}
	_ = json.Unmarshal([]byte(callExample), &c) // an example that is no JSON fails every test
	c["id"] = id
	for _, change := range changes {
		maps.Copy(c, change)
	}
	return c
}

// hookConnection connects the receiver of webhooks and returns its id.
func (c *client) hookConnection() string {
	c.t.Helper()
	return c.post("/v1/connections", map[string]any{
		"provider": "webhook", "account_name": "Warehouse", "url": c.hook.URL, "secret": c.hook.Secret(),
	}).is(http.StatusCreated).text("/id")
}

// integrationOf makes and enables an integration of the connection.
func (c *client) integrationOf(conn string, fields ...string) string {
	c.t.Helper()
	if len(fields) == 0 {
		fields = []string{"title", "summary"}
	}
	id := c.post("/v1/integrations", map[string]any{
		"connection_id": conn, "name": "Warehouse", "fields": fields, "destination": map[string]any{},
	}).is(http.StatusCreated).text("/id")
	c.post("/v1/integrations/"+id+"/enable", map[string]any{"accepted_terms": testTerms}).is(http.StatusOK)
	return id
}

// hookIntegration makes and enables an integration of the receiver.
func (c *client) hookIntegration(fields ...string) string {
	c.t.Helper()
	return c.integrationOf(c.hookConnection(), fields...)
}
