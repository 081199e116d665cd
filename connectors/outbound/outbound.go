// Package outbound is how the hub reaches providers and webhook targets: HTTP
// clients that cannot be led anywhere else.
//
// Addresses come from customers, so each is a possible way into our own
// network. Three things stand in the way, each sufficient for what it covers:
// [CheckBaseURL] refuses addresses that have no business being one when they
// are saved; a [Transport] refuses every address that is not public at the
// moment it dials, after the name was resolved, so that a name that resolves
// differently the second time gains nothing; and a client made by
// [Transport.For] sends to the host of its connection only and follows no
// redirect.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/optiwe/callbridge/hub"
)

// Errors that a client made here returns, wrapped, beside those of net/http.
var (
	// ErrNotPublic means that a name resolved to an address that is not on the
	// public internet, and was not dialled.
	ErrNotPublic = errors.New("the address is not public")

	// ErrElsewhere means that a request was for another host or scheme than
	// the connection's. It was not sent.
	ErrElsewhere = errors.New("the request is for another host than the connection's")

	// ErrTooLarge is returned by a response body when more than
	// Config.MaxBody bytes of it were read.
	ErrTooLarge = errors.New("the response body is too large")
)

// Config configures a [Transport]. The zero value of every field is usable.
type Config struct {
	// AllowPrivate lists "host:port" that may be reached although they are not
	// public, and by http as well as https. The host is a name or an IP
	// address, exactly as it stands in the connection's address.
	AllowPrivate []string

	// DialTimeout bounds resolving a name and connecting. Defaults to 10 s.
	DialTimeout time.Duration

	// TLSTimeout bounds the TLS handshake. Defaults to 10 s.
	TLSTimeout time.Duration

	// HeaderTimeout bounds the wait for the response header after the request
	// was written. Defaults to 60 s.
	HeaderTimeout time.Duration

	// MaxConnsPerHost bounds the connections to one host; requests beyond it
	// wait. With HTTP/2 one connection carries many requests. Defaults to 64.
	MaxConnsPerHost int

	// MaxBody bounds what can be read of one response body, after
	// decompression, in bytes. Defaults to 16 MiB.
	MaxBody int64

	// Resolver resolves names. Defaults to the system's.
	Resolver *net.Resolver

	// RootCAs are the certificate authorities that are trusted. Defaults to
	// the system's.
	RootCAs *x509.CertPool
}

// Defaults of Config.
const (
	defaultDialTimeout   = 10 * time.Second
	defaultTLSTimeout    = 10 * time.Second
	defaultHeaderTimeout = time.Minute
	defaultConnsPerHost  = 64
	defaultMaxBody       = 16 << 20
)

// Limits that need no setting.
const (
	maxHeaderBytes = 64 << 10
	idleTimeout    = 90 * time.Second
	keepAlive      = 30 * time.Second
	maxIdle        = 512
)

// Transport holds the connections to every provider. One is enough for a
// process. It may be used by several goroutines.
type Transport struct {
	http    *http.Transport
	allowed allowList
	maxBody int64
}

// NewTransport returns a Transport. It returns an error for an entry of
// AllowPrivate that is not a host and a port.
func NewTransport(cfg Config) (*Transport, error) {
	allowed, err := parseAllowList(cfg.AllowPrivate)
	if err != nil {
		return nil, err
	}
	guarded := &net.Dialer{
		Timeout:   orDefault(cfg.DialTimeout, defaultDialTimeout),
		KeepAlive: keepAlive,
		Resolver:  cfg.Resolver,
		Control:   refuseNotPublic(ssrf.New(ssrf.WithPorts(443))),
	}
	open := &net.Dialer{Timeout: guarded.Timeout, KeepAlive: keepAlive, Resolver: cfg.Resolver}
	perHost := orDefault(cfg.MaxConnsPerHost, defaultConnsPerHost)
	return &Transport{
		allowed: allowed,
		maxBody: orDefault(cfg.MaxBody, defaultMaxBody),
		http: &http.Transport{
			// No Proxy: a proxy would resolve the name again, out of our sight.
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if allowed.has(addr) {
					return open.DialContext(ctx, network, addr)
				}
				return guarded.DialContext(ctx, network, addr)
			},
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
			TLSHandshakeTimeout:    orDefault(cfg.TLSTimeout, defaultTLSTimeout),
			ResponseHeaderTimeout:  orDefault(cfg.HeaderTimeout, defaultHeaderTimeout),
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxConnsPerHost:        perHost,
			MaxIdleConnsPerHost:    perHost,
			MaxIdleConns:           maxIdle,
			IdleConnTimeout:        idleTimeout,
			ForceAttemptHTTP2:      true, // a DialContext of one's own switches it off otherwise
		},
	}, nil
}

// refuseNotPublic returns a [net.Dialer.Control] function that lets public
// addresses pass. The address is the resolved one, so what is checked is what
// is dialled. The address is kept out of the error, which people may see.
func refuseNotPublic(g *ssrf.Guardian) func(network, address string, c syscall.RawConn) error {
	return func(network, address string, c syscall.RawConn) error {
		if err := g.Safe(network, address, c); err != nil {
			return ErrNotPublic
		}
		return nil
	}
}

// CloseIdleConnections closes the connections that are not in use.
func (t *Transport) CloseIdleConnections() { t.http.CloseIdleConnections() }

// Options say what a client of one connection does beyond sending.
type Options struct {
	// Bearer is sent as "Authorization: Bearer <Bearer>" with requests that
	// have no Authorization header. Zero: nothing is added.
	Bearer hub.Secret
}

// For returns the HTTP client of one connection, whose address is base. The
// client
//   - sends to base's scheme, host and port only ([ErrElsewhere]), and by http
//     only if these are listed in AllowPrivate;
//   - follows no redirect: the answer is the 3xx response;
//   - does not retry. What net/http repeats by itself on a new connection is a
//     request of which nothing was written, or a GET;
//   - keeps no cookies and has no timeout of its own: use a context.
//
// Making one costs little; connections are shared with all other clients of t.
func (t *Transport) For(base *url.URL, o Options) *http.Client {
	rt := &roundTripper{t: t, scheme: base.Scheme, host: hostPort(base)}
	if !o.Bearer.IsZero() {
		rt.authorization = hub.NewSecret("Bearer " + o.Bearer.Reveal())
	}
	return &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// roundTripper is the transport of one connection's client.
type roundTripper struct {
	t             *Transport
	scheme, host  string // host is host:port
	authorization hub.Secret
}

var _ http.RoundTripper = (*roundTripper)(nil)

// RoundTrip sends r if it is for the connection's host. An error of a request
// that was certainly not written satisfies [NotSent].
func (rt *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != rt.scheme || hostPort(r.URL) != rt.host || (r.Host != "" && !strings.EqualFold(r.Host, r.URL.Host)) {
		return nil, refuse(r, ErrElsewhere)
	}
	if rt.scheme != "https" && !rt.t.allowed.has(rt.host) {
		return nil, refuse(r, ErrNotPublic)
	}
	var began atomic.Bool
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { began.Store(true) },
	}))
	if !rt.authorization.IsZero() && r.Header.Get("Authorization") == "" {
		out.Header = r.Header.Clone()
		out.Header.Set("Authorization", rt.authorization.Reveal())
	}
	resp, err := rt.t.http.RoundTrip(out)
	if err != nil {
		if !began.Load() {
			return nil, &notSentError{err}
		}
		return nil, err
	}
	resp.Request = r // not out: it holds the token
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: rt.t.maxBody}
	return resp, nil
}

// CloseIdleConnections makes [http.Client.CloseIdleConnections] work.
func (rt *roundTripper) CloseIdleConnections() { rt.t.CloseIdleConnections() }

// refuse ends a request that is not sent, which includes closing its body.
func refuse(r *http.Request, err error) error {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return &notSentError{err}
}

// NotSent reports whether err, from a client made by [Transport.For], means
// that the request certainly did not reach the host: it was refused here, the
// name did not resolve, or no connection or TLS session could be had. False
// means that it may have been sent.
func NotSent(err error) bool {
	_, ok := errors.AsType[*notSentError](err)
	return ok
}

// notSentError marks an error that came before any byte of the request.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return "not sent: " + e.err.Error() }
func (e *notSentError) Unwrap() error { return e.err }

// Timeout and Temporary keep what [url.Error] asks of its cause.
func (e *notSentError) Timeout() bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.err)
	return ok && t.Timeout()
}

// cappedBody ends with ErrTooLarge when more than left bytes come.
type cappedBody struct {
	io.ReadCloser
	left int64
}

// Read reads at most what is left, and one byte more to see whether there is
// more.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, ErrTooLarge
	}
	return n, err
}

// hostPort returns the lower-case host and the port of u, the scheme's own
// port where u names none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// allowList holds lower-case host:port.
type allowList map[string]bool

func (l allowList) has(hostPort string) bool { return l[strings.ToLower(hostPort)] }

func parseAllowList(entries []string) (allowList, error) {
	l := make(allowList, len(entries))
	for _, e := range entries {
		host, port, err := net.SplitHostPort(e)
		if err != nil || host == "" || !validPort(port) {
			return nil, fmt.Errorf("%q is not host:port, such as 127.0.0.1:8080", e)
		}
		l[strings.ToLower(e)] = true
	}
	return l, nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
