package outbound_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/optiwe/callbridge/connectors/outbound"
	"github.com/optiwe/callbridge/hub"
)

// client returns a client for base under cfg.
func client(t *testing.T, cfg outbound.Config, base string, o outbound.Options) *http.Client {
	t.Helper()
	tr, err := outbound.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return tr.For(u, o)
}

// answer is a response that was read.
type answer struct {
	status  int
	body    string
	readErr error
	token   string // that the response's request holds
}

// get makes a GET request.
func get(t *testing.T, c *http.Client, address string) (answer, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return do(c, r)
}

// do makes a request.
func do(c *http.Client, r *http.Request) (answer, error) {
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(body), err, resp.Request.Header.Get("Authorization")}, nil
}

// TestNotPublic checks that no address of our own networks can be dialled.
func TestNotPublic(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
		"169.254.169.254", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::7f00:1]", "[64:ff9b::7f00:1]",
		"[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2002:7f00:1::1]", "[2001:db8::1]",
		"localhost",
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			base := "https://" + host
			_, err := get(t, client(t, outbound.Config{}, base, outbound.Options{}), base+"/latest/meta-data")
			if !errors.Is(err, outbound.ErrNotPublic) || !outbound.NotSent(err) {
				t.Errorf("err = %v (not sent: %v), want ErrNotPublic", err, outbound.NotSent(err))
			}
		})
	}
}

// TestNotations checks the notations that some resolvers take for 127.0.0.1.
// Whatever this machine's makes of them, nothing may be reached.
func TestNotations(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"0x7f.1", "127.1", "2130706433", "0177.0.0.1", "0x7f000001"} {
		base := "https://" + host
		_, err := get(t, client(t, outbound.Config{Resolver: resolver(t, "127.0.0.1")}, base, outbound.Options{}), base)
		if err == nil || !outbound.NotSent(err) {
			t.Errorf("%s: err = %v, want one before anything was sent", host, err)
		}
	}
}

// TestRebinding lets a name resolve to a public address when it is looked at
// and to a private one when it is dialled.
func TestRebinding(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the private server was reached")
	}))
	defer srv.Close()
	r := resolver(t, "203.0.114.7", "127.0.0.1", "169.254.169.254", "::1")
	if got, err := r.LookupHost(t.Context(), "rebind.example"); err != nil || len(got) != 1 || got[0] != "203.0.114.7" {
		t.Fatalf("the fake resolver says %v, %v", got, err)
	}
	base := "https://rebind.example"
	c := client(t, outbound.Config{Resolver: r}, base, outbound.Options{})
	for range 3 {
		if _, err := get(t, c, base); !errors.Is(err, outbound.ErrNotPublic) {
			t.Errorf("err = %v, want ErrNotPublic", err)
		}
	}
}

// resolver returns a resolver that answers each question for an address with
// the next of answers, and the last for ever.
func resolver(t *testing.T, answers ...string) *net.Resolver {
	t.Helper()
	pc, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	go func() { // ends when pc is closed
		next := 0
		for buf := make([]byte, 1500); ; {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			reply, used := dnsReply(buf[:n], net.ParseIP(answers[min(next, len(answers)-1)]))
			if used {
				next++
			}
			if _, err := pc.WriteTo(reply, from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// dnsReply answers a query with ip, if it asks for addresses of that family.
func dnsReply(query []byte, ip net.IP) (reply []byte, used bool) {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil, false
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
	switch v4 := ip.To4(); {
	case q.Type == dnsmessage.TypeA && v4 != nil:
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: [4]byte(v4)}}}
	case q.Type == dnsmessage.TypeAAAA && v4 == nil:
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: [16]byte(ip.To16())}}}
	}
	reply, err := m.Pack()
	return reply, err == nil && len(m.Answers) > 0
}

// TestAllowList checks that a listed host:port is reached, exactly as listed.
func TestAllowList(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(srv.Close)
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
	for _, c := range []struct {
		name, list, base string
		ok               bool
	}{
		{"listed", host + ":" + port, srv.URL, true},
		{"not listed", "127.0.0.1:1", srv.URL, false},
		{"another name for it", "127.0.0.1:" + port, "http://localhost:" + port, false},
		{"by name", "LocalHost:" + port, "http://localhost:" + port, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			resp, err := get(t, client(t, outbound.Config{AllowPrivate: []string{c.list}}, c.base, outbound.Options{}), c.base)
			switch {
			case c.ok && (err != nil || resp.status != http.StatusTeapot):
				t.Errorf("got %+v, %v, want an answer", resp, err)
			case !c.ok && (!errors.Is(err, outbound.ErrNotPublic) || !outbound.NotSent(err)):
				t.Errorf("err = %v, want ErrNotPublic", err)
			}
		})
	}
	for _, bad := range []string{"127.0.0.1", ":80", "host:", "host:http", "host:0", "host:65536", "", "http://h:1"} {
		if _, err := outbound.NewTransport(outbound.Config{AllowPrivate: []string{bad}}); err == nil {
			t.Errorf("the list entry %q is accepted", bad)
		}
	}
}

// TestElsewhere checks that a client stays with its host.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusTemporaryRedirect)
		}
	})
	a, b := httptest.NewServer(h), httptest.NewServer(h)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	list := []string{strings.TrimPrefix(a.URL, "http://"), strings.TrimPrefix(b.URL, "http://")}
	c := client(t, outbound.Config{AllowPrivate: list}, a.URL, outbound.Options{Bearer: hub.NewSecret("s")})

	for _, address := range []string{b.URL, strings.Replace(a.URL, "http", "https", 1), a.URL + "0", "https://example.com"} {
		if _, err := get(t, c, address); !errors.Is(err, outbound.ErrElsewhere) || !outbound.NotSent(err) {
			t.Errorf("%s: err = %v, want ErrElsewhere", address, err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "other.example"
	if _, err := do(c, r); !errors.Is(err, outbound.ErrElsewhere) {
		t.Errorf("another Host header: %v, want ErrElsewhere", err)
	}
	if n := reached.Load(); n != 0 {
		t.Fatalf("%d requests arrived, want none", n)
	}
	for _, to := range []string{b.URL, "/elsewhere", "https://169.254.169.254/"} {
		resp, err := get(t, c, a.URL+"/redirect?to="+url.QueryEscape(to))
		if err != nil || resp.status != http.StatusTemporaryRedirect {
			t.Errorf("redirect: %+v, %v, want the redirect itself", resp, err)
		}
	}
	if n := reached.Load(); n != 3 {
		t.Errorf("%d requests arrived, want 3: a redirect was followed", n)
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") }))
	t.Cleanup(srv.Close)
	list := []string{strings.TrimPrefix(srv.URL, "http://")}
	for _, c := range []struct {
		name, token, own, want string
	}{
		{"added", "secret", "", "Bearer secret"},
		{"its own is kept", "secret", "Basic x", "Basic x"},
		{"none", "", "", ""},
	} {
		hc := client(t, outbound.Config{AllowPrivate: list}, srv.URL, outbound.Options{Bearer: hub.NewSecret(c.token)})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if c.own != "" {
			r.Header.Set("Authorization", c.own)
		}
		resp, err := do(hc, r)
		if err != nil {
			t.Fatal(err)
		}
		if g := <-got; g != c.want {
			t.Errorf("%s: Authorization = %q, want %q", c.name, g, c.want)
		}
		if c.own == "" && (r.Header.Get("Authorization") != "" || resp.token != "") {
			t.Errorf("%s: the caller's request holds the token", c.name)
		}
	}
}

// TestNotSent checks that only what certainly was not sent counts as such.
func TestNotSent(t *testing.T) {
	t.Parallel()
	cutting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
	}))
	t.Cleanup(cutting.Close)
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http sees the client go away only after that
		<-r.Context().Done()
	}))
	t.Cleanup(slow.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	t.Cleanup(untrusted.Close)
	for _, c := range []struct {
		name, base string
		deadline   time.Duration
		notSent    bool
	}{
		{"connection refused", closed.URL, time.Minute, true},
		{"certificate refused", untrusted.URL, time.Minute, true},
		{"plain text instead of TLS", "https" + strings.TrimPrefix(cutting.URL, "http"), time.Minute, true},
		{"cut after the request", cutting.URL, time.Minute, false},
		{"deadline while waiting", slow.URL, 100 * time.Millisecond, false},
		{"no such name", "https://nowhere.invalid", time.Minute, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u, _ := url.Parse(c.base)
			cfg := outbound.Config{AllowPrivate: []string{u.Host}, Resolver: resolver(t, "127.0.0.1")}
			if u.Port() == "" {
				cfg.AllowPrivate = nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = do(client(t, cfg, c.base, outbound.Options{}), r)
			if err == nil {
				t.Fatal("no error")
			}
			if got := outbound.NotSent(err); got != c.notSent {
				t.Errorf("NotSent(%v) = %v, want %v", err, got, c.notSent)
			}
		})
	}
	if outbound.NotSent(nil) || outbound.NotSent(io.ErrUnexpectedEOF) {
		t.Error("NotSent is true of errors that are not ours")
	}
}

// TestTLS checks that an authority of one's own can be trusted, that HTTP/2 is
// spoken and that the connection is used again.
func TestTLS(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	cfg := outbound.Config{RootCAs: pool, AllowPrivate: []string{strings.TrimPrefix(srv.URL, "https://")}}
	c := client(t, cfg, srv.URL, outbound.Options{})
	for range 3 {
		resp, err := get(t, c, srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if resp.readErr != nil || resp.body != "HTTP/2.0" {
			t.Errorf("got %q, %v, want HTTP/2.0", resp.body, resp.readErr)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/header" {
			w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	}))
	t.Cleanup(srv.Close)
	list := []string{strings.TrimPrefix(srv.URL, "http://")}
	for _, c := range []struct {
		max  int64
		want int
		err  error
	}{
		{999, 999, outbound.ErrTooLarge},
		{1000, 1000, nil},
		{0, 1000, nil},
	} {
		resp, err := get(t, client(t, outbound.Config{AllowPrivate: list, MaxBody: c.max}, srv.URL, outbound.Options{}), srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.body) != c.want || !errors.Is(resp.readErr, c.err) {
			t.Errorf("at most %d: read %d bytes, %v, want %d, %v", c.max, len(resp.body), resp.readErr, c.want, c.err)
		}
	}
	if _, err := get(t, client(t, outbound.Config{AllowPrivate: list}, srv.URL, outbound.Options{}), srv.URL+"/header"); err == nil {
		t.Error("a header of 100 KiB is taken")
	}
}
