package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/hub/store"
)

// TestBodiesThatAreTooLarge: what says how large it is, is not read; what does
// not say so is read to the limit and no further.
func TestBodiesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	before := c.redis.Dump()
	for _, r := range routes() {
		if r.body == 0 {
			continue
		}
		path := strings.NewReplacer("{id}", "some-id", "{org}", string(c.org)).Replace(r.path)
		// Only the head is sent: an answer shows that nobody waited for the body.
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
		ok(t, err)
		defer conn.Close()
		ok(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", r.method, path, c.key, r.body+1)
		ok(t, err)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		ok(t, err)
		if res.StatusCode != http.StatusRequestEntityTooLarge || res.Header.Get("Content-Type") != problemType {
			t.Errorf("%s: %s %v", r.pattern(), res.Status, res.Header)
		}
		res.Body.Close()

		req, err := http.NewRequestWithContext(t.Context(), r.method, c.url+path, io.MultiReader(strings.NewReader(`{"id":"`), neverEnding{}))
		ok(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+c.key)
		res, err = new(http.Client).Do(req)
		if err != nil { // the server closes the connection on who goes on sending
			continue
		}
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s, unsaid: %s", r.pattern(), res.Status)
		}
		res.Body.Close()
	}
	if c.redis.Dump() != before {
		t.Error("something was stored")
	}
}

type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestBodyOfTheLargestSize(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	body := []byte(callExample)
	body = append(body, bytes.Repeat([]byte(" "), maxCall-len(body))...)
	c.post("/v1/calls", body).is(http.StatusAccepted)
	c.post("/v1/calls", append(body, ' ')).problem(http.StatusRequestEntityTooLarge, codeTooLarge)
}

func TestBodiesThatAreNoJSON(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for ct, status := range map[string]int{
		"application/json": 202, "application/json; charset=utf-8": 202, "application/json;charset=UTF-8": 202, "": 202, "application/vnd.optiwe.call+json": 202,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "application/xml": 415, "application/json; charset=latin1": 415, "json": 415, ";": 415,
		"multipart/form-data; boundary=x": 415, "text/json": 415,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/v1/calls", strings.NewReader(callExample))
		ok(t, err)
		req.Header.Set("Authorization", "Bearer "+c.key)
		if ct != "" {
			req.Header.Set("Content-Type", ct)
		}
		res, err := new(http.Client).Do(req)
		ok(t, err)
		res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%q: %d, want %d", ct, res.StatusCode, status)
		}
	}
	c.post("/v1/calls", aCall("call-1"), header{"Content-Encoding": "gzip"}).problem(http.StatusUnsupportedMediaType, codeMediaType)
}

// TestBodyCutShort: a body that ends early stores nothing.
func TestBodyCutShort(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	x := &exchange{w: &answer{ResponseWriter: httptest.NewRecorder()}}
	x.r = httptest.NewRequest(http.MethodPost, "/v1/calls", io.MultiReader(strings.NewReader(`{"id":`), broken{io.ErrUnexpectedEOF}))
	_, err := readBody(x, maxCall)
	if p := problemOf(err); p.Status != http.StatusBadRequest || p.Code != codeBodyBroken {
		t.Errorf("cut: %v", p)
	}
	x.r = httptest.NewRequest(http.MethodPost, "/v1/calls", broken{timeout{}})
	_, err = readBody(x, maxCall)
	if p := problemOf(err); p.Status != http.StatusRequestTimeout || p.Code != codeTimeout {
		t.Errorf("slow: %v", p)
	}
	c.get("/v1/calls/call-1").is(http.StatusNotFound)
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

type timeout struct{}

func (timeout) Error() string   { return "too slow" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestRateOfAnOrg(t *testing.T) {
	t.Parallel()
	r := newWorld(t).replica(withAPI(func(cfg *Config) { cfg.RatePerOrg, cfg.BurstPerOrg = 0.001, 5 }))
	acme, other := r.org("org_acme"), r.org("org_other")
	acme.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted)
	acme.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-2"), aCall("call-3"), aCall("call-4")}}).is(http.StatusOK)
	a := acme.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-5"), aCall("call-6")}}).problem(http.StatusTooManyRequests, codeRateLimited)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	acme.get("/v1/calls/call-1").problem(http.StatusTooManyRequests, codeRateLimited)
	acme.signed("msg_1", aCall("call-7")).problem(http.StatusTooManyRequests, codeRateLimited)
	other.get("/v1/calls/call-5").is(http.StatusNotFound)
	if _, err := r.store.Call(t.Context(), "org_acme", "call-5"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a refused batch was stored: %v", err)
	}
	// A batch of more than the burst counts as the burst: it is not refused for ever.
	other.post("/v1/calls:batch", map[string]any{"calls": []any{1, 2, 3, 4, 5, 6, 7, 8}}).problem(http.StatusTooManyRequests, codeRateLimited)
}

// TestFailuresOfAnAddress: keys that are not valid are soon refused unseen, and
// whoever had a valid one from the same address is not in the way.
func TestFailuresOfAnAddress(t *testing.T) {
	t.Parallel()
	where := header{"X-Test-Address": "a"}
	c := newWorld(t).replica(withAPI(func(cfg *Config) {
		cfg.FailuresPerAddress = 3
		cfg.ClientAddress = func(r *http.Request) string { return r.Header.Get("X-Test-Address") }
	})).org("org_acme")
	c.get("/v1/org", where).is(http.StatusOK)
	limited := 0
	for range 10 {
		a := c.with("cb_org_acme_x_y").get("/v1/org", where)
		switch a.status {
		case http.StatusUnauthorized:
		case http.StatusTooManyRequests:
			limited++
			a.problem(http.StatusTooManyRequests, codeRateLimited)
		default:
			t.Errorf("%d: %s", a.status, a.body)
		}
	}
	if limited < 5 {
		t.Errorf("only %d of 10 were refused unseen", limited)
	}
	c.get("/v1/org", where).is(http.StatusOK)
	c.signed("msg_1", aCall("call-1"), where).problem(http.StatusTooManyRequests, codeRateLimited)
	c.with("cb_org_acme_x_y").get("/v1/org", header{"X-Test-Address": "b"}).problem(http.StatusUnauthorized, codeUnauthorized)
}

func TestBucketsStayBounded(t *testing.T) {
	t.Parallel()
	b := newBuckets(1, 2, 50)
	for i := range 1000 {
		b.take(fmt.Sprint(i), 1+i%2)
		if len(b.byKey) > 50 {
			t.Fatalf("%d buckets", len(b.byKey))
		}
	}
	s := newBearers(50)
	for i := range 1000 {
		s.add(fmt.Sprint(i))
	}
	if len(s.seen) > 50 || !s.has("999") {
		t.Errorf("%d bearers, the last among them: %v", len(s.seen), s.has("999"))
	}
}

func TestRemoteAddress(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"192.0.2.1:1234": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64", "[2001:db8:1:2::9]:81": "2001:db8:1:2::/64", "@": "@",
	} {
		if got := remoteAddress(&http.Request{RemoteAddr: from}); got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/nothing", "/v1/calls/", "/v1/calls/a/b", "//v1/calls", "/v1/../v1/org", "/metrics", "/v1/calls:bunch", "/openapi.yaml", "/docs"} {
		c.get(path).problem(http.StatusNotFound, codeNotFound)
	}
	for request, allow := range map[string]string{
		"PUT /v1/calls": "POST", "DELETE /v1/calls:batch": "POST", "POST /v1/calls/x": "DELETE, GET, HEAD", "PATCH /v1/keys": "GET, HEAD, POST",
		"POST /healthz": "GET, HEAD", "GET /webhooks/calls/org_acme": "POST",
	} {
		method, path, _ := strings.Cut(request, " ")
		a := c.do(method, path, nil).problem(http.StatusMethodNotAllowed, codeMethod)
		if got := a.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow: %q, want %q", request, got, allow)
		}
	}
	if a := c.do(http.MethodHead, "/v1/org", nil).is(http.StatusOK); len(a.body) != 0 {
		t.Errorf("HEAD has a body: %s", a.body)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var down error
	r := w.replica(withAPI(func(cfg *Config) {
		ready := cfg.Ready
		cfg.Ready = func(ctx context.Context) error {
			if down != nil {
				return down
			}
			return ready(ctx)
		}
	}))
	c := r.org("org_acme").with("")
	c.get("/healthz").is(http.StatusOK).want(map[string]any{"/status": "ok"})
	c.get("/readyz").is(http.StatusOK).want(map[string]any{"/status": "ok"})
	down = errors.New("dial tcp 10.1.2.3:6379: refused")
	if a := c.get("/readyz").problem(http.StatusServiceUnavailable, codeNotReady); strings.Contains(string(a.body), "10.1.2.3") {
		t.Errorf("an inner address shows: %s", a.body)
	}
	down = &NotReady{Code: "stopping", Detail: "This instance is about to stop."}
	c.get("/readyz").problem(http.StatusServiceUnavailable, "stopping")
	c.get("/healthz").is(http.StatusOK)
}

// TestStoreAway: without a store everything is 503, nothing of the inside shows,
// and it works again afterwards.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	c.redis.SetError("LOADING Redis is loading the dataset in memory")
	for name, a := range map[string]*reply{
		"posting": c.post("/v1/calls", aCall("call-1")), "a batch": c.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-1")}}),
		"reading": c.get("/v1/calls/call-1"), "lists": c.get("/v1/transfers"), "signed": c.signed("msg_1", aCall("call-1")),
		"making": c.post("/v1/keys", map[string]any{"role": "admin"}), "connections": c.get("/v1/connections"),
	} {
		a.problem(http.StatusServiceUnavailable, codeStore)
		if strings.Contains(string(a.body), "LOADING") {
			t.Errorf("%s: the inside shows: %s", name, a.body)
		}
	}
	c.redis.SetError("")
	c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted)
	c.redis.Close()
	c.post("/v1/calls", aCall("call-2")).problem(http.StatusServiceUnavailable, codeStore)
	c.with("").get("/readyz").problem(http.StatusServiceUnavailable, codeNotReady)
	ok(t, c.redis.Restart())
	c.post("/v1/calls", aCall("call-2")).is(http.StatusAccepted)
}

func TestProblemOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{&admin.Invalid{Code: "terms_outdated", Detail: "x"}, 422, "terms_outdated"},
		{fmt.Errorf("x: %w", &admin.Conflict{Code: "wrong_state", Detail: "x"}), 409, "wrong_state"},
		{&admin.Unreachable{Detail: "x"}, 502, codeProvider},
		{fmt.Errorf("x: %w", admin.ErrNotFound), 404, codeNotFound},
		{fmt.Errorf("x: %w", store.ErrNotFound), 404, codeNotFound},
		{admin.ErrUnauthenticated, 401, codeUnauthorized},
		{intake.ErrSender, 401, codeUnauthorized},
		{&intake.FullError{Waiting: 7, RetryAfter: time.Minute}, 429, codeQueueFull},
		{store.ErrKeyReused, 422, codeKeyReused},
		{errors.Join(nil, fmt.Errorf("intake: %w", store.ErrStale)), 503, codeConfiguration},
		{&http.MaxBytesError{Limit: 7}, 413, codeTooLarge},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), 503, codeStore},
		{fmt.Errorf("x: %w", io.EOF), 503, codeStore},
		{fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: errors.New("x")}), 503, codeStore},
		{fmt.Errorf("x: %w", errors.New("READONLY You can't write against a read only replica")), 503, codeStore},
		{fmt.Errorf("x: %w", errors.New("redis: connection pool timeout")), 503, codeStore},
		{fmt.Errorf("x: %w", errors.New("WRONGTYPE Operation against a key")), 500, codeInternal},
		{errors.New("priya@northwind.example"), 500, codeInternal},
	} {
		p := problemOf(c.err)
		if p.Status != c.status || p.Code != c.code {
			t.Errorf("%v: %d %s, want %d %s", c.err, p.Status, p.Code, c.status, c.code)
		}
		if c.status >= 500 && c.status != 502 && strings.Contains(p.Detail, "northwind") || p.Title == "" || p.Detail == "" {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
}

// TestPanics: a handler that panics is a 500 that says nothing, and a line in
// the log that says where.
func TestPanics(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.api.mux.HandleFunc("GET /v1/panic", func(http.ResponseWriter, *http.Request) {
		panic("token cb_secret of priya@northwind.example")
	})
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/v1/panic", nil)
	req.Header.Set("X-Request-Id", "my-request.7")
	c.api.ServeHTTP(rec, req)
	if rec.Code != http.StatusInternalServerError || rec.Header().Get("Content-Type") != problemType || rec.Header().Get("X-Request-Id") != "my-request.7" {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	text := c.log.String()
	if !strings.Contains(text, "handler panicked") || !strings.Contains(text, "my-request.7") || strings.Contains(text, "cb_secret") {
		t.Errorf("log: %s", text)
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	if got := c.get("/v1/org", header{"X-Request-Id": "abc.DEF-1"}).header.Get("X-Request-Id"); got != "abc.DEF-1" {
		t.Errorf("a client's id became %q", got)
	}
	for _, bad := range []string{"a b", "<script>", strings.Repeat("x", 65)} {
		if got := c.get("/v1/org", header{"X-Request-Id": bad}).header.Get("X-Request-Id"); got == bad || !strings.HasPrefix(got, "req_") {
			t.Errorf("%q became %q", bad, got)
		}
	}
	if got := RequestID(t.Context()); got != "" {
		t.Errorf("outside of a request: %q", got)
	}
}
