package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Canaries must not turn up in any error.
const (
	refreshCanary = "refresh-canary-1"
	secretCanary  = "secret-canary-2"
	bodyCanary    = "body canary 3"
)

var canaries = []string{refreshCanary, secretCanary, bodyCanary, "access-canary-4"}

// server is a token endpoint that counts its requests.
type server struct {
	*httptest.Server
	requests atomic.Int64
	client   *http.Client
}

func newServer(tb testing.TB, h http.HandlerFunc) *server {
	tb.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		h(w, r)
	}))
	tr := &http.Transport{}
	s.client = &http.Client{Transport: tr}
	tb.Cleanup(func() { tr.CloseIdleConnections(); s.Close() })
	return s
}

func (s *server) clientFunc(*url.URL) *http.Client { return s.client }

// loopback lets loopback addresses pass for Salesforce's.
func loopback(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Hostname() != "127.0.0.1" && !strings.HasSuffix(u.Hostname(), ".my.salesforce.com")) {
		return nil, errors.New("not allowed")
	}
	return u, nil
}

func newSalesforce(tb testing.TB, s *server) oauth.Refresher {
	tb.Helper()
	r, err := oauth.NewSalesforce(oauth.SalesforceConfig{
		ClientID: "client", ClientSecret: hub.NewSecret(secretCanary),
		LoginURL: s.URL, CheckURL: loopback, Client: s.clientFunc,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func newSlack(tb testing.TB, s *server) oauth.Refresher {
	tb.Helper()
	r, err := oauth.NewSlack(oauth.SlackConfig{
		ClientID: "client", ClientSecret: hub.NewSecret(secretCanary), APIURL: s.URL + "/api/", Client: s.clientFunc,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

var providers = map[string]func(testing.TB, *server) oauth.Refresher{"salesforce": newSalesforce, "slack": newSlack}

func refresh(ctx context.Context, r oauth.Refresher) (oauth.Tokens, error) {
	return r.Refresh(ctx, hub.NewSecret(refreshCanary), nil)
}

// wantError checks kind and code, and that no canary is told in any way. It
// returns the rest of the error.
func wantError(t *testing.T, err error, kind oauth.Kind, code string) (detail string, retryAfter time.Duration) {
	t.Helper()
	e, ok := errors.AsType[*oauth.RefreshError](err)
	if !ok {
		t.Fatalf("error = %v; want a *RefreshError", err)
	}
	if e.Kind != kind || (code != "" && e.Code != code) {
		t.Errorf("error = %v; want kind %v, code %q", e, kind, code)
	}
	if e.Code == "" || e.Detail == "" {
		t.Errorf("error = %+v; want a code and a sentence", e)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Error("x", slog.Any("error", err))
	told := fmt.Sprintf("%v %+v %#v %s", err, err, err, log.String())
	for cause := error(e); cause != nil; cause = errors.Unwrap(cause) {
		told += fmt.Sprintf(" %v", cause)
	}
	for _, c := range canaries {
		if strings.Contains(told, c) {
			t.Errorf("the error tells %q: %s", c, told)
		}
	}
	return e.Detail, e.RetryAfter
}

// form checks the request and returns its form.
func form(t *testing.T, r *http.Request, path string) url.Values {
	t.Helper()
	if r.Method != http.MethodPost || r.URL.Path != path || r.URL.RawQuery != "" {
		t.Errorf("request %s %s", r.Method, r.URL)
	}
	if r.Header.Get("Idempotency-Key") != "" || r.Header.Get("Authorization") != "" {
		t.Errorf("headers %v", r.Header)
	}
	if err := r.ParseForm(); err != nil {
		t.Errorf("form: %v", err)
	}
	return r.PostForm
}

func tokensOf(tk oauth.Tokens) map[string]string {
	m := map[string]string{
		"access": tk.Access.Reveal(), "refresh": tk.Refresh.Reveal(), "instance": tk.InstanceURL,
		"scopes": strings.Join(tk.Scopes, "|"), "warning": tk.Warning,
	}
	for k, v := range tk.Facts {
		m["fact "+k] = v
	}
	return m
}

func TestSalesforceRefresh(t *testing.T) {
	t.Parallel()
	const id = `"id":"https://login.salesforce.com/id/00D000000000001AAA/005000000000001AAA"`
	for _, c := range []struct {
		name, answer string
		want         map[string]string
	}{
		{
			"rotated, moved", `{"access_token":"a2","refresh_token":"r2","instance_url":"https://new.my.salesforce.com/",` + id + `,"scope":"api refresh_token","issued_at":"1","token_type":"Bearer"}`,
			map[string]string{
				"access": "a2", "refresh": "r2", "instance": "https://new.my.salesforce.com", "scopes": "api|refresh_token", "warning": "",
				"fact org_id": "00D000000000001AAA", "fact user_id": "005000000000001AAA",
			},
		},
		{
			"not rotated", `{"access_token":"a2","instance_url":"https://new.my.salesforce.com"}`,
			map[string]string{"access": "a2", "refresh": refreshCanary, "instance": "https://new.my.salesforce.com", "scopes": "", "warning": ""},
		},
		{
			"foreign instance", `{"access_token":"a2","refresh_token":"r2","instance_url":"https://evil.example","id":"https://evil.example/id/x/y"}`,
			map[string]string{"access": "a2", "refresh": "r2", "instance": "", "scopes": "", "warning": oauth.WarnInstanceURL},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				want := url.Values{
					"grant_type": {"refresh_token"}, "refresh_token": {refreshCanary},
					"client_id": {"client"}, "client_secret": {secretCanary},
				}
				if d := cmp.Diff(want, form(t, r, "/services/oauth2/token")); d != "" {
					t.Errorf("form (-want +got):\n%s", d)
				}
				w.Header().Set("Content-Type", "application/json;charset=UTF-8")
				_, _ = io.WriteString(w, c.answer)
			})
			got, err := refresh(t.Context(), newSalesforce(t, s))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, tokensOf(got)); d != "" || !got.Expires.IsZero() {
				t.Errorf("tokens (-want +got):\n%s\nexpires %v", d, got.Expires)
			}
			if n := s.requests.Load(); n != 1 {
				t.Errorf("%d requests; want 1", n)
			}
		})
	}
}

func TestSlackRefresh(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		want := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {refreshCanary},
			"client_id": {"client"}, "client_secret": {secretCanary},
		}
		if d := cmp.Diff(want, form(t, r, "/api/oauth.v2.access")); d != "" {
			t.Errorf("form (-want +got):\n%s", d)
		}
		_, _ = io.WriteString(w, `{"ok":true,"access_token":"a2","refresh_token":"r2","expires_in":43200,"token_type":"bot",
			"scope":"chat:write,users:read","bot_user_id":"U1","app_id":"A1","team":{"id":"T1","name":"x"},"authed_user":{"id":"U2"}}`)
	})
	before := time.Now()
	got, err := refresh(t.Context(), newSlack(t, s))
	after := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"access": "a2", "refresh": "r2", "instance": "", "scopes": "chat:write|users:read", "warning": "",
		"fact team_id": "T1", "fact bot_user_id": "U1", "fact app_id": "A1",
	}
	if d := cmp.Diff(want, tokensOf(got)); d != "" {
		t.Errorf("tokens (-want +got):\n%s", d)
	}
	if life := 12 * time.Hour; got.Expires.Before(before.Add(life)) || got.Expires.After(after.Add(life)) {
		t.Errorf("expires %v", got.Expires)
	}
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d requests; want 1", n)
	}
}

// Nothing in the request lets a transport repeat it.
func TestRequestIsNotRepeatable(t *testing.T) {
	t.Parallel()
	for name, newRefresher := range providers {
		var sent int
		rt := roundTripper(func(r *http.Request) (*http.Response, error) {
			sent++
			if r.GetBody != nil || r.Method != http.MethodPost || r.Header.Get("Idempotency-Key") != "" || r.Header.Get("X-Idempotency-Key") != "" {
				t.Errorf("%s: the request can be repeated", name)
			}
			return nil, io.ErrUnexpectedEOF
		})
		s := &server{Server: &httptest.Server{URL: "http://127.0.0.1"}, client: &http.Client{Transport: rt}}
		_, err := refresh(t.Context(), newRefresher(t, s))
		wantError(t, err, oauth.Ambiguous, "connection_cut")
		if sent != 1 {
			t.Errorf("%s: sent %d times", name, sent)
		}
	}
}

// What providers answer, and what it means. Every answer is given once: a
// refresh is never repeated.
func TestRefusals(t *testing.T) {
	t.Parallel()
	oauthError := func(code, description string) string {
		return fmt.Sprintf(`{"error":%q,"error_description":%q,"access_token":"access-canary-4"}`, code, description+" "+bodyCanary)
	}
	slackError := func(code string) string { return fmt.Sprintf(`{"ok":false,"error":%q,"warning":%q}`, code, bodyCanary) }
	for _, c := range []struct {
		provider string
		status   int
		body     string
		kind     oauth.Kind
		code     string
		detail   string // part of
	}{
		{"salesforce", 400, oauthError("invalid_grant", "expired access/refresh token"), oauth.Dead, "invalid_grant", "revoked"},
		{"salesforce", 400, oauthError("invalid_grant", "inactive user"), oauth.Dead, "invalid_grant", "user is inactive"},
		{"salesforce", 400, oauthError("invalid_grant", "ip restricted or invalid login hours"), oauth.Dead, "invalid_grant", "addresses"},
		{"salesforce", 400, oauthError("invalid_grant", "user hasn't approved this consumer"), oauth.Dead, "invalid_grant", "not approved"},
		{"salesforce", 400, oauthError("invalid_grant", "login rate exceeded"), oauth.Transient, "login_rate_exceeded", ""},
		{"salesforce", 400, oauthError("inactive_user", ""), oauth.Dead, "inactive_user", ""},
		{"salesforce", 400, oauthError("inactive_org", ""), oauth.Dead, "inactive_org", ""},
		{"salesforce", 400, oauthError("OAUTH_APP_BLOCKED", ""), oauth.Dead, "OAUTH_APP_BLOCKED", "admin"},
		{"salesforce", 400, oauthError("invalid_client", ""), oauth.Operator, "invalid_client", "settings"},
		{"salesforce", 401, oauthError("invalid_client_id", ""), oauth.Operator, "invalid_client_id", ""},
		{"salesforce", 400, oauthError("invalid_client_credentials", ""), oauth.Operator, "invalid_client_credentials", ""},
		{"salesforce", 400, oauthError("unsupported_grant_type", ""), oauth.Operator, "unsupported_grant_type", ""},
		{"salesforce", 400, oauthError(bodyCanary, ""), oauth.Operator, "unrecognised", ""},
		{"salesforce", 200, oauthError("invalid_grant", ""), oauth.Dead, "invalid_grant", ""},
		{"salesforce", 400, oauthError("server_error", ""), oauth.Ambiguous, "server_error", ""},
		{"salesforce", 500, oauthError("invalid_grant", ""), oauth.Ambiguous, "http_500", ""},
		{"salesforce", 503, "<html>" + bodyCanary, oauth.Ambiguous, "http_503", ""},
		{"salesforce", 400, "<html>" + bodyCanary, oauth.Ambiguous, "http_400", ""},
		{"salesforce", 429, "", oauth.Transient, "http_429", ""},
		{"salesforce", 302, "", oauth.Operator, "http_302", ""},
		{"salesforce", 404, "<html>" + bodyCanary, oauth.Operator, "http_404", ""},
		{"salesforce", 200, "<html>" + bodyCanary, oauth.Ambiguous, "unreadable_answer", ""},
		{"salesforce", 200, `{"refresh_token":"access-canary-4"}`, oauth.Ambiguous, "unreadable_answer", ""},
		{"salesforce", 200, `{"access_token":"access-canary-4`, oauth.Ambiguous, "unreadable_answer", ""},
		{"salesforce", 200, `{"access_token":"` + strings.Repeat("x", 1<<20) + `"}`, oauth.Ambiguous, "unreadable_answer", ""},
		{"salesforce", 200, "", oauth.Ambiguous, "unreadable_answer", ""},

		{"slack", 200, slackError("invalid_refresh_token"), oauth.Dead, "invalid_refresh_token", "connect again"},
		{"slack", 200, slackError("token_revoked"), oauth.Dead, "token_revoked", ""},
		{"slack", 200, slackError("account_inactive"), oauth.Dead, "account_inactive", ""},
		{"slack", 200, slackError("bad_client_secret"), oauth.Operator, "bad_client_secret", "settings"},
		{"slack", 200, slackError("invalid_client_id"), oauth.Operator, "invalid_client_id", ""},
		{"slack", 200, slackError("invalid_grant_type"), oauth.Operator, "invalid_grant_type", ""},
		{"slack", 200, slackError(bodyCanary), oauth.Operator, "unrecognised", ""},
		{"slack", 200, slackError("internal_error"), oauth.Ambiguous, "internal_error", ""},
		{"slack", 200, slackError("ratelimited"), oauth.Transient, "ratelimited", ""},
		{"slack", 200, slackError(""), oauth.Ambiguous, "unreadable_answer", ""},
		{"slack", 200, `{}`, oauth.Ambiguous, "unreadable_answer", ""},
		{"slack", 200, `{"ok":true}`, oauth.Ambiguous, "unreadable_answer", ""},
		{"slack", 200, `{"ok":false,"error":"x","errors":[{"` + bodyCanary + `":1}]}`, oauth.Ambiguous, "unreadable_answer", ""},
		{"slack", 200, "<html>" + bodyCanary, oauth.Ambiguous, "unreadable_answer", ""},
		{"slack", 200, `{"ok":true,"access_token":"` + strings.Repeat("x", 1<<20) + `"}`, oauth.Ambiguous, "unreadable_answer", ""},
		{"slack", 429, "", oauth.Transient, "http_429", ""},
		{"slack", 302, "", oauth.Operator, "http_302", ""},
		{"slack", 404, bodyCanary, oauth.Operator, "http_404", ""},
		{"slack", 500, bodyCanary, oauth.Ambiguous, "http_500", ""},
	} {
		t.Run(fmt.Sprintf("%s %d %.40s", c.provider, c.status, c.body), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if c.status == http.StatusFound {
					w.Header().Set("Location", r.URL.Path)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			got, err := refresh(t.Context(), providers[c.provider](t, s))
			if !got.Access.IsZero() || !got.Refresh.IsZero() {
				t.Errorf("tokens %v with an error", tokensOf(got))
			}
			detail, _ := wantError(t, err, c.kind, c.code)
			if !strings.Contains(detail, c.detail) {
				t.Errorf("detail %q; want %q in it", detail, c.detail)
			}
			if n := s.requests.Load(); n != 1 {
				t.Errorf("%d requests; want 1", n)
			}
		})
	}
}

func TestSlackRetryAfterIsCapped(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "999999999999": 0, "86400": time.Hour, "soon": 0} {
		s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		_, err := refresh(t.Context(), newSlack(t, s))
		if _, after := wantError(t, err, oauth.Transient, "http_429"); want != 0 && after != want || after < 0 || after > time.Hour {
			t.Errorf("Retry-After %s: %v; want %v", header, after, want)
		}
	}
}

// Whether the request may have arrived decides everything.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	for name, newRefresher := range providers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("nobody listens", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, nil)
				s.Close()
				_, err := refresh(t.Context(), newRefresher(t, s))
				wantError(t, err, oauth.Transient, "not_reached")
			})
			t.Run("no TLS where it is wanted", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, nil)
				s.URL = strings.Replace(s.URL, "http:", "https:", 1)
				_, err := refresh(t.Context(), newRefresher(t, s))
				wantError(t, err, oauth.Transient, "not_reached")
			})
			t.Run("cancelled before", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, nil)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_, err := refresh(ctx, newRefresher(t, s))
				wantError(t, err, oauth.Transient, "cancelled")
				if n := s.requests.Load(); n != 0 {
					t.Errorf("%d requests; want none", n)
				}
			})
			t.Run("cut after the request", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { cut(t, w) })
				_, err := refresh(t.Context(), newRefresher(t, s))
				wantError(t, err, oauth.Ambiguous, "connection_cut")
				if n := s.requests.Load(); n != 1 {
					t.Errorf("%d requests; want 1", n)
				}
			})
			t.Run("cut after the request, on a connection used before", func(t *testing.T) {
				t.Parallel()
				var s *server
				s = newServer(t, func(w http.ResponseWriter, _ *http.Request) {
					if s.requests.Load() > 1 {
						cut(t, w)
						return
					}
					_, _ = io.WriteString(w, `{"ok":true,"access_token":"a"}`)
				})
				r := newRefresher(t, s)
				if _, err := refresh(t.Context(), r); name == "slack" && err != nil {
					t.Fatal(err)
				}
				_, err := refresh(t.Context(), r)
				wantError(t, err, oauth.Ambiguous, "connection_cut")
				if n := s.requests.Load(); n != 2 {
					t.Errorf("%d requests; want 2", n)
				}
			})
			t.Run("cut in the answer", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.Header().Set("Content-Length", "1000")
					_, _ = io.WriteString(w, `{"ok":true,"access_token":"access-canary-4","refresh_token":"x"`)
					if f, ok := w.(http.Flusher); ok {
						f.Flush()
					}
					cut(t, w)
				})
				_, err := refresh(t.Context(), newRefresher(t, s))
				wantError(t, err, oauth.Ambiguous, "unreadable_answer")
			})
			t.Run("no answer", func(t *testing.T) {
				t.Parallel()
				arrived := make(chan struct{})
				s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // so that the end of the connection is noticed
					close(arrived)
					<-r.Context().Done()
				})
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() { <-arrived; cancel(nil) }()
				_, err := refresh(ctx, newRefresher(t, s))
				wantError(t, err, oauth.Ambiguous, "connection_cut")
			})
			t.Run("too slow", func(t *testing.T) {
				t.Parallel()
				s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
				})
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				_, err := refresh(ctx, newRefresher(t, s))
				wantError(t, err, oauth.Ambiguous, "timeout")
			})
		})
	}
}

// cut closes the connection at once.
func cut(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	h, ok := w.(http.Hijacker)
	if !ok {
		t.Error("the test server cannot be hijacked")
		return
	}
	conn, _, err := h.Hijack()
	if err != nil {
		t.Errorf("hijack: %v", err)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func TestSalesforceLoginHost(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"a2"}`)
	})
	unused := newServer(t, nil)
	r, err := oauth.NewSalesforce(oauth.SalesforceConfig{
		ClientID: "client", ClientSecret: hub.NewSecret(secretCanary), LoginURL: unused.URL, CheckURL: loopback,
		Client: func(base *url.URL) *http.Client {
			if base.String() != s.URL {
				t.Errorf("a client for %v", base)
			}
			return s.client
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]string{oauth.FactLoginURL: s.URL}
	if _, err := r.Refresh(t.Context(), hub.NewSecret(refreshCanary), facts); err != nil {
		t.Error(err)
	}
	facts[oauth.FactLoginURL] = "https://evil.example"
	_, err = r.Refresh(t.Context(), hub.NewSecret(refreshCanary), facts)
	wantError(t, err, oauth.Operator, "login_url_not_allowed")
	if got, want := s.requests.Load(), int64(1); got != want || unused.requests.Load() != 0 {
		t.Errorf("%d requests; want %d, and none elsewhere", got, want)
	}
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	good := oauth.SalesforceConfig{
		ClientID: "c", ClientSecret: hub.NewSecret("s"), LoginURL: "https://login.salesforce.com",
		CheckURL: loopback, Client: func(*url.URL) *http.Client { return nil },
	}
	for name, change := range map[string]func(*oauth.SalesforceConfig){
		"id": func(c *oauth.SalesforceConfig) { c.ClientID = "" }, "secret": func(c *oauth.SalesforceConfig) { c.ClientSecret = hub.Secret{} },
		"login": func(c *oauth.SalesforceConfig) { c.LoginURL = "login.salesforce.com" }, "user": func(c *oauth.SalesforceConfig) { c.LoginURL = "https://u@h" },
		"check": func(c *oauth.SalesforceConfig) { c.CheckURL = nil }, "client": func(c *oauth.SalesforceConfig) { c.Client = nil },
	} {
		c := good
		change(&c)
		if _, err := oauth.NewSalesforce(c); err == nil {
			t.Errorf("%s: NewSalesforce succeeded", name)
		}
	}
	for name, c := range map[string]oauth.SlackConfig{
		"id": {ClientSecret: good.ClientSecret, APIURL: "https://slack.com/api/", Client: good.Client}, "secret": {ClientID: "c", APIURL: "https://slack.com/api/", Client: good.Client},
		"slash": {ClientID: "c", ClientSecret: good.ClientSecret, APIURL: "https://slack.com/api", Client: good.Client}, "client": {ClientID: "c", ClientSecret: good.ClientSecret, APIURL: "https://slack.com/api/"},
		"address": {ClientID: "c", ClientSecret: good.ClientSecret, APIURL: "/", Client: good.Client},
	} {
		if _, err := oauth.NewSlack(c); err == nil {
			t.Errorf("%s: NewSlack succeeded", name)
		}
	}
}

func TestKindNames(t *testing.T) {
	t.Parallel()
	for k, want := range map[oauth.Kind]string{oauth.Ambiguous: "ambiguous", oauth.Transient: "transient", oauth.Operator: "operator", oauth.Dead: "dead", -1: "kind(-1)"} {
		if k.String() != want {
			t.Errorf("Kind(%d) = %s; want %s", int(k), k, want)
		}
	}
}

// FuzzAnswer: whatever a token endpoint answers, there are tokens or a
// classified error that tells nothing of it.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/json", `{"ok":true,"access_token":"a","refresh_token":"b","expires_in":1}`)
	f.Add(200, "text/plain", "access_token=a&expires_in=9223372036854775807")
	f.Add(400, "application/json", `{"error":"invalid_grant"}`)
	f.Add(200, "application/json", `{"ok":true,"access_token":"a","expires_in":-1,"team":null}`)
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		if status < 200 || status > 599 {
			status = 200
		}
		answer := roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {contentType}},
				Body: io.NopCloser(strings.NewReader(body)), Request: r,
			}, nil
		})
		s := &server{Server: &httptest.Server{URL: "http://127.0.0.1"}, client: &http.Client{Transport: answer}}
		for name, newRefresher := range providers {
			got, err := refresh(t.Context(), newRefresher(t, s))
			if err == nil {
				if got.Access.IsZero() || got.Refresh.IsZero() {
					t.Errorf("%s: no tokens and no error", name)
				}
				continue
			}
			e, ok := errors.AsType[*oauth.RefreshError](err)
			if !ok || e.Code == "" || e.Detail == "" {
				t.Errorf("%s: error %v", name, err)
			}
			if e.Kind == oauth.Dead && status >= 500 {
				t.Errorf("%s: status %d is taken for a refusal", name, status)
			}
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
