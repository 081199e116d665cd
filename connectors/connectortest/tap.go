package connectortest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
)

// tap sits between a connector and its fake. It counts the connector's
// requests, injects a fault at one of them, sees whether that one acted, and
// looks for what must not be sent.
type tap struct {
	tb    testing.TB
	h     *Harness
	next  http.RoundTripper
	host  string
	oauth bool

	mu     sync.Mutex // guards what follows
	n      int        // requests since the last arm or watch
	at     int        // the request to fail, from 1; 0: none
	fault  Fault
	acted  []int       // which requests changed the copies
	header http.Header // of the answer to the failed request
}

// newTap puts a tap into the account of h.
func newTap(tb testing.TB, d connectors.Descriptor, h *Harness) *tap {
	tb.Helper()
	if h.Account.HTTP == nil {
		tb.Fatal("Harness.Account.HTTP is nil: use connectortest.Account")
	}
	t := &tap{tb: tb, h: h, next: h.Account.HTTP.Transport, oauth: d.OAuth != nil}
	client := *h.Account.HTTP
	client.Transport = t
	h.Account.HTTP = &client
	t.host = hostOf(h.Account.BaseURL)
	return t
}

// hostOf returns host:port of an address.
func hostOf(base string) string {
	_, rest, _ := strings.Cut(base, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// arm makes the k-th request from now fail with f; k of 0 only watches.
func (t *tap) arm(k int, f Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n, t.at, t.fault, t.acted, t.header = 0, k, f, nil, nil
}

// seen returns how many requests came since arm, which of them acted, and the
// header of the answer to the one that failed.
func (t *tap) seen() (n int, acted []int, header http.Header) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n, slices.Clone(t.acted), t.header
}

// RoundTrip implements [http.RoundTripper].
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	r, err := t.inspect(r)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.n++
	k, fail, f := t.n, t.n == t.at, t.fault
	t.mu.Unlock()

	before, arrived := t.h.Copies(), t.h.Requests()
	if fail {
		t.h.Inject(f, 1)
	}
	var written atomic.Bool // on a busy machine the deadline can pass before that
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		WroteRequest: func(w httptrace.WroteRequestInfo) { written.Store(w.Err == nil) },
	}))
	resp, err := t.next.RoundTrip(r)
	if fail && f == Slow && err != nil && written.Load() {
		until(t.tb, "the slow request arrived", func() bool { return t.h.Requests() > arrived })
		quiet(t.tb, t.h)
	}
	changed := !reflect.DeepEqual(before, t.h.Copies())

	t.mu.Lock()
	defer t.mu.Unlock()
	if changed {
		t.acted = append(t.acted, k)
	}
	if fail && resp != nil {
		t.header = resp.Header
	}
	return resp, err
}

// inspect reads the request, looks for what must not leave, and returns a copy
// that can be sent.
func (t *tap) inspect(r *http.Request) (*http.Request, error) {
	if r.URL.Host != t.host {
		t.tb.Errorf("a request to another host than the account's")
	}
	out := r.WithContext(r.Context())
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		if err := r.Body.Close(); err != nil {
			return nil, err
		}
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	// A provider with OAuth takes its token in a header; some fixed secrets are
	// part of an address.
	if token := t.h.Account.Token.Reveal(); t.oauth && strings.Contains(r.URL.String(), token) {
		t.tb.Errorf("the token stands in a request's address")
	}
	for _, c := range unreleased(usual()) {
		// Look-ups may use addresses that are released for matching only.
		if slices.Contains(canaries()["participants.emails"], c) || slices.Contains(canaries()["participants.phones"], c) {
			continue
		}
		if bytes.Contains(body, []byte(c)) || strings.Contains(r.URL.String(), c) {
			t.tb.Errorf("a request holds %q, which is not released", c)
		}
	}
	return out, nil
}

// until waits for a condition that must come true.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(enough)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			tb.Errorf("waited in vain: %s", what)
			return
		}
	}
}

// quiet waits until requests that were abandoned have run their course at the
// fake.
func quiet(tb testing.TB, h *Harness) {
	tb.Helper()
	last, since := -1, 0
	until(tb, "the fake came to rest", func() bool {
		n := h.Requests()
		if n != last {
			last, since = n, 0
		}
		since++
		return since > 10
	})
}

// checkOutcome checks what must hold of every outcome.
func (s *session) checkOutcome(op string, o connectors.Outcome) {
	s.t.Helper()
	if (o.Class == connectors.Delivered) != (o.Err == nil) {
		s.t.Errorf("%s: class %v with error %v", op, o.Class, o.Err)
	}
	if o.Err != nil && o.Err.Class != o.Class {
		s.t.Errorf("%s: the outcome is %v, its error %v", op, o.Class, o.Err.Class)
	}
	if o.Class == connectors.Delivered && op == "push" && len(o.Receipt) == 0 {
		s.t.Errorf("%s: delivered without a receipt", op)
	}
	for k, v := range maps.All(o.Receipt) {
		s.noLeak("the receipt's "+k, v, unreleased(usual()))
	}
	for _, l := range o.Losses {
		s.noLeak("a loss", l.Field+" "+l.Detail, everyCanary())
	}
	if o.Err != nil {
		s.checkError(op, o.Err)
	}
}

// checkError checks that an error's text can be shown and logged.
func (s *session) checkError(op string, err error) {
	s.t.Helper()
	text := err.Error()
	s.noLeak(op+": the error", text, everyCanary())
	if strings.Contains(text, s.tap.host) {
		s.t.Errorf("%s: the error holds the provider's address: %q", op, text)
	}
}

// noLeak checks that text holds neither the token nor any of words.
func (s *session) noLeak(what, text string, words []string) {
	s.t.Helper()
	if token := s.h.Account.Token.Reveal(); token != "" && strings.Contains(text, token) {
		s.t.Errorf("%s holds the token", what)
	}
	for _, w := range words {
		if strings.Contains(text, w) {
			s.t.Errorf("%s holds %q", what, w)
		}
	}
}
