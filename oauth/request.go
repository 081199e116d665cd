package oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"
)

const (
	requestTimeout = 15 * time.Second
	maxAnswer      = 1 << 20 // bytes; token answers have a few thousand
)

var (
	errSecondRequest = errors.New("a second request was about to be made for one refresh")
	errAnswerTooLong = errors.New("the answer is too long")
	errNoAccess      = errors.New("the answer has no access token")
)

// single lets one request of one refresh through and notes how far it came.
type single struct {
	next http.RoundTripper

	used   atomic.Bool
	wanted atomic.Bool  // net/http looked for a connection
	got    atomic.Bool  // and had one: from here on bytes may have left
	status atomic.Int64 // of the answer
}

// newSingle returns a client like c that makes one request and follows no
// redirect, and what watches it. A nil c, or one without a transport, uses
// http.DefaultTransport.
func newSingle(c *http.Client) (*http.Client, *single) {
	s := &single{next: http.DefaultTransport}
	if c != nil && c.Transport != nil {
		s.next = c.Transport
	}
	return &http.Client{
		Transport:     s,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, s
}

// RoundTrip sends r as it is, but for what would let net/http take the request
// for one that may be repeated.
func (s *single) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.used.Swap(true) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errSecondRequest
	}
	out := r.Clone(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { s.wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { s.got.Store(true) },
	}))
	out.GetBody = nil
	out.Header.Del("Idempotency-Key")
	out.Header.Del("X-Idempotency-Key")
	resp, err := s.next.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	s.status.Store(int64(resp.StatusCode))
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// cut returns the error of a refresh that ended without an answer that can be
// read: the provider may have spent the token unless no connection was had.
func (s *single) cut(err error) *RefreshError {
	e := &RefreshError{Kind: Ambiguous, Status: int(s.status.Load()), Err: err}
	switch {
	case s.wanted.Load() && !s.got.Load():
		e.Kind, e.Code, e.Detail = Transient, "not_reached", "the provider's token endpoint could not be reached; it is tried again"
	case e.Status != 0:
		e.Err = nil // it can quote the answer
		e.Code, e.Detail = "unreadable_answer", "the provider's answer could not be read; the new tokens may be lost"
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Detail = "timeout", "the provider did not answer in time; the new tokens may be lost"
	default:
		e.Code, e.Detail = "connection_cut", "the connection broke before the provider answered; the new tokens may be lost"
	}
	return e
}

// ofStatus returns the error of an answer that has a status but no code.
func ofStatus(status int) *RefreshError {
	e := &RefreshError{Kind: Ambiguous, Code: fmt.Sprintf("http_%d", status), Status: status}
	switch {
	case status == http.StatusTooManyRequests:
		e.Kind, e.Detail = Transient, "the provider takes no more token requests for now; it is tried again"
	case status >= 300 && status < 400,
		status == http.StatusForbidden, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		e.Kind, e.Detail = Operator, "the address asked is no token endpoint; check the provider's address in the settings"
	default:
		e.Detail = "the provider's token endpoint answered with an error of its own; the new tokens may be lost"
	}
	return e
}

// begin returns ctx with the deadline of one request, or the error of a
// refresh that need not be begun.
func begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, &RefreshError{Kind: Transient, Code: "cancelled", Detail: "the refresh was not begun", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	return ctx, cancel, nil
}

var codePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// codeOf returns s if it looks like a provider's error code. Anything else
// could hold what must not be printed.
func codeOf(s string) string {
	if codePattern.MatchString(s) {
		return s
	}
	return "unrecognised"
}

// cappedBody ends with errAnswerTooLong when more than left bytes come, so
// that a cut answer is never taken for a whole one.
type cappedBody struct {
	io.ReadCloser
	left int64
}

// Read reads at most what is left, and one byte more to see whether there is
// more.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errAnswerTooLong
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, errAnswerTooLong
	}
	return n, err
}

// ClientFunc returns the HTTP client for requests to base. It reaches that
// host only and does not retry, as one of connectors/outbound does.
type ClientFunc func(base *url.URL) *http.Client
