package webhooktest_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/optiwe/callbridge/connectors/webhook/webhooktest"
)

// TestPublishedVector checks the library that the receiver trusts against the
// example in the tests of the Standard Webhooks project.
func TestPublishedVector(t *testing.T) {
	t.Parallel()
	w, err := standardwebhooks.NewWebhook(webhooktest.DefaultSecret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if err != nil || got != want {
		t.Errorf("signature %q, %v, want %q", got, err, want)
	}
}

const shared = `{"type":"call.shared","data":{"call_id":"c1","copy_id":"k1","revision":1,"title":"Hello","owner":{"name":"Dana"},"topics":["x"]}}`

// post sends body, signed with secret at a time, and returns the status; 0
// where the connection was cut.
func post(t *testing.T, s *webhooktest.Server, id, secret, body string, at time.Time) int {
	t.Helper()
	resp, err := send(t.Context(), t, s, id, secret, body, at)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func send(ctx context.Context, t *testing.T, s *webhooktest.Server, id, secret, body string, at time.Time) (*http.Response, error) {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := w.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", sig)
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(c.CloseIdleConnections)
	return c.Do(r)
}

func TestReceives(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{})
	now := time.Now()
	other := "whsec_" + strings.Repeat("A", 32)
	for _, c := range []struct {
		name, id, secret, body string
		at                     time.Time
		want, copies           int
	}{
		{"shared", "1", webhooktest.DefaultSecret, shared, now, 200, 1},
		{"again", "1", webhooktest.DefaultSecret, shared, now, 200, 1},
		{"another secret", "2", other, shared, now, 401, 1},
		{"stale", "2", webhooktest.DefaultSecret, shared, now.Add(-time.Hour), 401, 1},
		{"from the future", "2", webhooktest.DefaultSecret, shared, now.Add(time.Hour), 401, 1},
		{"no JSON", "2", webhooktest.DefaultSecret, "{", now, 400, 1},
		{"unknown type", "2", webhooktest.DefaultSecret, strings.Replace(shared, "shared", "sold", 1), now, 400, 1},
		{"no copy_id", "2", webhooktest.DefaultSecret, strings.Replace(shared, "copy_id", "x", 1), now, 400, 1},
		{"no revision", "2", webhooktest.DefaultSecret, strings.Replace(shared, "revision", "x", 1), now, 400, 1},
		{"too large", "2", webhooktest.DefaultSecret, shared + strings.Repeat(" ", 5<<20), now, 413, 1},
		{"shared under another id", "3", webhooktest.DefaultSecret, shared, now, 200, 2},
		{"updated", "4", webhooktest.DefaultSecret, strings.NewReplacer("shared", "updated", `"revision":1`, `"revision":2`, "Hello", "Bye").Replace(shared), now, 200, 2},
		{"erased", "5", webhooktest.DefaultSecret, `{"type":"call.erased","data":{"copy_id":"k1"}}`, now, 200, 0},
	} {
		if got := post(t, s, c.id, c.secret, c.body, c.at); got != c.want {
			t.Errorf("%s: status %d, want %d", c.name, got, c.want)
		}
		copies := s.Copies()["k1"]
		if len(copies) != c.copies {
			t.Errorf("%s: %d copies, want %d", c.name, len(copies), c.copies)
		}
		if c.name == "updated" {
			if u := copies[1]; u.Revision != 2 || u.Writes != 2 || u.Text() != "Dana\nBye\nx\n" {
				t.Errorf("the copy is %+v with text %q", u, u.Text())
			}
		}
	}
	want := webhooktest.Counts{Requests: 13, Handled: 4, Duplicates: 1, Refused: 8}
	if got := s.Counts(); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	d := s.Deliveries()
	if len(d) != 13 || d[0].At.Before(now.Add(-time.Second)) || !bytes.Equal(d[0].Body, []byte(shared)) || !d[1].Duplicate {
		t.Errorf("%d deliveries, the first %+v", len(d), d[0])
	}
}

func TestMethodAndType(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d, want 405", resp.StatusCode)
	}
}

// TestFaults checks of each fault what it answers and whether it acts.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault  webhooktest.Fault
		status int // 0: no answer
		acts   bool
	}{
		{webhooktest.RateLimit, 429, false},
		{webhooktest.Outage, 503, false},
		{webhooktest.ServerError, 500, true},
		{webhooktest.BadToken, 401, false},
		{webhooktest.Revoked, 410, false},
		{webhooktest.BadMessage, 422, false},
		{webhooktest.CutBefore, 0, false},
		{webhooktest.CutAfter, 0, true},
		{webhooktest.Huge, 200, true},
		{webhooktest.Nonsense, 200, true},
		{webhooktest.EmptyOK, 200, false},
		{webhooktest.Redirect, 302, false},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			t.Parallel()
			s := webhooktest.New(t, webhooktest.Options{})
			s.Inject(c.fault, 1)
			if got := post(t, s, "1", webhooktest.DefaultSecret, shared, time.Now()); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			if acted := len(s.Copies()) == 1; acted != c.acts {
				t.Errorf("acted: %v, want %v", acted, c.acts)
			}
			if got := post(t, s, "1", webhooktest.DefaultSecret, shared, time.Now()); got != 200 || len(s.Copies()["k1"]) != 1 {
				t.Errorf("after the fault: status %d with %d copies", got, len(s.Copies()["k1"]))
			}
		})
	}
}

func TestSlow(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{})
	s.Inject(webhooktest.Slow, -1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // the caller loses patience only after the work was done
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for len(s.Copies()) == 0 && ctx.Err() == nil {
			<-tick.C
		}
		cancel()
	}()
	if resp, err := send(ctx, t, s, "1", webhooktest.DefaultSecret, shared, time.Now()); err == nil {
		resp.Body.Close()
		t.Fatal("a slow receiver answered")
	}
	if len(s.Copies()) != 1 {
		t.Error("a slow receiver did nothing")
	}
}

func TestInjectUntilHealed(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{})
	s.Inject(webhooktest.Outage, -1)
	for range 3 {
		if got := post(t, s, "1", webhooktest.DefaultSecret, shared, time.Now()); got != 503 {
			t.Errorf("status %d, want 503", got)
		}
	}
	s.Answer(418, http.Header{"X-Why": {"tea"}}, 1)
	if got := post(t, s, "1", webhooktest.DefaultSecret, shared, time.Now()); got != 418 {
		t.Errorf("status %d, want 418", got)
	}
	if got := post(t, s, "1", webhooktest.DefaultSecret, shared, time.Now()); got != 200 {
		t.Errorf("status %d, want 200", got)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{Forget: true})
	for range 2 {
		post(t, s, "1", webhooktest.DefaultSecret, shared, time.Now())
	}
	if len(s.Copies())+len(s.Deliveries()) != 0 {
		t.Error("something is kept")
	}
	if got, want := s.Counts(), (webhooktest.Counts{Requests: 2, Handled: 1, Duplicates: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

// TestPage checks that what arrived is shown, as text.
func TestPage(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{})
	post(t, s, "1", webhooktest.DefaultSecret, strings.Replace(shared, "Hello", "<script>alert(1)</script>", 1), time.Now())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Host()+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, []byte("call.shared")) || !bytes.Contains(page, []byte("1 handled")) || bytes.Contains(page, []byte("<script>")) {
		t.Errorf("the page is\n%s", page)
	}
}
