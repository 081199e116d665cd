// Package webhooktest is a receiver of webhooks as a careful customer would
// build one: it checks signatures with the library of the Standard Webhooks
// project, handles each webhook-id once, and can be told to fail in every way.
package webhooktest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Fault is a way in which the receiver can be told to fail. The values are
// those of connectortest.Fault.
type Fault string

// The faults.
const (
	RateLimit   Fault = "rate limit"   // 429 with Retry-After: 7
	Outage      Fault = "outage"       // 503, did nothing
	ServerError Fault = "server error" // 500, did the work
	BadToken    Fault = "bad token"    // 401
	Revoked     Fault = "revoked"      // 410
	BadMessage  Fault = "bad message"  // 422
	CutBefore   Fault = "cut before"   // connection cut, did nothing
	CutAfter    Fault = "cut after"    // connection cut, did the work
	Slow        Fault = "slow"         // did the work, answers when the caller has gone
	Huge        Fault = "huge"         // did the work, answers 200 with 64 MiB
	Nonsense    Fault = "nonsense"     // did the work, answers 200 with HTML
	EmptyOK     Fault = "empty ok"     // did nothing, answers 200 with {}
	Redirect    Fault = "redirect"     // 302 to another host
)

// DefaultSecret is the secret of a receiver that was given none. It is the
// example of the specification.
const DefaultSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// Options say what kind of receiver it is. The zero Options are usable.
type Options struct {
	Secret string // "" means DefaultSecret
	Addr   string // address to listen on; "" means a free port of 127.0.0.1

	// Forget keeps counters and ids only, so that a benchmark can send without
	// end: Copies and Deliveries stay empty.
	Forget bool
}

// Server is a receiver. It may be used by several goroutines.
type Server struct {
	// URL is the address to send to.
	URL string

	secret string
	verify *standardwebhooks.Webhook
	forget bool
	http   *http.Server
	done   chan struct{} // closed by Close
	served chan struct{} // closed when the server has ended

	mu         sync.Mutex // guards what follows
	seen       map[string]bool
	copies     map[string][]*Copy
	deliveries []Delivery
	counts     Counts
	fault      Fault
	answer     answer
	left       int // requests that the fault still meets; below 0: all
}

// Copy is what the receiver has of one share.
type Copy struct {
	CallID   string
	Revision int            // of the call
	Writes   int            // how many messages made it what it is
	Data     map[string]any // of the latest message
}

// Text returns every string in the copy's data but its ids, in the order of
// the members' names.
func (c Copy) Text() string {
	d := maps.Clone(c.Data)
	delete(d, "call_id")
	delete(d, "copy_id")
	var b strings.Builder
	texts(&b, d)
	return b.String()
}

func texts(b *strings.Builder, v any) {
	switch v := v.(type) {
	case string:
		b.WriteString(v + "\n")
	case []any:
		for _, e := range v {
			texts(b, e)
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			texts(b, v[k])
		}
	}
}

// Delivery is one request, in the order of arrival.
type Delivery struct {
	At        time.Time
	ID        string // webhook-id
	Type      string // such as "call.shared"; "" if the body could not be read
	CallID    string
	CopyID    string
	Revision  int
	Body      []byte
	Status    int  // of the answer that was given or, if it was lost, would have been
	Duplicate bool // its id had been handled before: it was answered and did nothing
	Fault     Fault
}

// Counts are what happened so far.
type Counts struct {
	Requests   int // all
	Handled    int // did something
	Duplicates int // came again after they had been handled
	Refused    int // wrong signature or content
}

// answer is one that was asked for by [Server.Answer].
type answer struct {
	status int
	header http.Header
}

// Start starts a receiver. Close it.
func Start(o Options) (*Server, error) {
	o.Secret = cmp.Or(o.Secret, DefaultSecret)
	verify, err := standardwebhooks.NewWebhook(o.Secret)
	if err != nil { // no base64: taken as it is
		if verify, err = standardwebhooks.NewWebhookRaw([]byte(o.Secret)); err != nil {
			return nil, fmt.Errorf("webhooktest: secret: %w", err)
		}
	}
	l, err := net.Listen("tcp", cmp.Or(o.Addr, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("webhooktest: %w", err)
	}
	s := &Server{
		URL: "http://" + l.Addr().String() + "/hooks/calls", secret: o.Secret, verify: verify, forget: o.Forget,
		done: make(chan struct{}), served: make(chan struct{}),
		seen: map[string]bool{}, copies: map[string][]*Copy{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/hooks/calls", s.receive)
	mux.HandleFunc("GET /{$}", s.page)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(l) // ends with ErrServerClosed
	}()
	return s, nil
}

// New starts a receiver that is closed when tb ends.
func New(tb testing.TB, o Options) *Server {
	tb.Helper()
	s, err := Start(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// Close stops the receiver. Slow answers end at once.
func (s *Server) Close() error {
	close(s.done)
	err := s.http.Close()
	<-s.served
	return err
}

// Secret returns the secret that messages must be signed with.
func (s *Server) Secret() string { return s.secret }

// Host returns the host:port of URL.
func (s *Server) Host() string {
	host, _, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), "/")
	return host
}

// Inject makes the next n requests fail with f. n < 0: until healed by
// Inject(f, 0).
func (s *Server) Inject(f Fault, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.answer, s.left = f, answer{}, n
}

// Answer makes the next n requests end with status and header, without any
// effect. n is as for Inject.
func (s *Server) Answer(status int, header http.Header, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.answer, s.left = "", answer{status, header}, n
}

// Copies returns what is here, by copy_id. A second share of a copy that is
// here is kept beside the first, so that it is seen.
func (s *Server) Copies() map[string][]Copy {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]Copy, len(s.copies))
	for key, l := range s.copies {
		for _, c := range l {
			out[key] = append(out[key], *c)
		}
	}
	return out
}

// Deliveries returns every request that arrived, in order.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deliveries)
}

// Counts returns what happened so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Requests returns how many requests arrived.
func (s *Server) Requests() int { return s.Counts().Requests }

// maxBody is what a message may have, in bytes.
const maxBody = 4 << 20

// receive handles a request to URL.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) {
	body, readErr := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	f, a := s.arrived()
	d := Delivery{At: time.Now(), ID: r.Header.Get(standardwebhooks.HeaderWebhookID), Body: body, Fault: f}
	if status, ok := refusals()[f]; ok {
		a.status = status
	}
	var m message
	switch {
	case f == CutBefore:
	case f == EmptyOK:
		d.Status = http.StatusOK
	case a.status != 0:
		d.Status = a.status
	case readErr != nil:
		d.Status = http.StatusRequestEntityTooLarge
	default:
		m, d.Status = s.check(r, body)
	}
	s.record(&d, m)
	s.reply(w, r, d, a)
}

// refusals are the statuses of faults that do nothing.
func refusals() map[Fault]int {
	return map[Fault]int{
		RateLimit: http.StatusTooManyRequests, Outage: http.StatusServiceUnavailable,
		BadToken: http.StatusUnauthorized, Revoked: http.StatusGone,
		BadMessage: http.StatusUnprocessableEntity, Redirect: http.StatusFound,
	}
}

// arrived counts the request and returns what it is to meet.
func (s *Server) arrived() (Fault, answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Requests++
	if s.left == 0 {
		return "", answer{}
	}
	s.left = max(s.left-1, -1)
	return s.fault, s.answer
}

// message is a body, as far as a receiver has to know it.
type message struct {
	Type string         `json:"type"`
	Data map[string]any `json:"data"`

	call, key string
	revision  int
}

// check returns the message, if it is signed and complete, and the status to
// answer with; 0 stands for one that is to be handled.
func (s *Server) check(r *http.Request, body []byte) (m message, status int) {
	if r.Method != http.MethodPost {
		return m, http.StatusMethodNotAllowed
	}
	if err := s.verify.Verify(body, r.Header); err != nil {
		return m, http.StatusUnauthorized
	}
	if r.Header.Get("Content-Type") != "application/json" {
		return m, http.StatusUnsupportedMediaType
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&m) != nil {
		return message{}, http.StatusBadRequest
	}
	m.key, _ = m.Data["copy_id"].(string)
	m.call, _ = m.Data["call_id"].(string)
	revision, _ := m.Data["revision"].(json.Number)
	m.revision, _ = strconv.Atoi(revision.String())
	known := m.Type == "call.erased" || (m.revision > 0 && m.call != "" && (m.Type == "call.shared" || m.Type == "call.updated"))
	if m.key == "" || !known {
		return message{}, http.StatusBadRequest
	}
	return m, 0
}

// record does what the message says, unless that was done before, and notes
// the delivery.
func (s *Server) record(d *Delivery, m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Type, d.CallID, d.CopyID, d.Revision = m.Type, m.call, m.key, m.revision
	switch {
	case d.Status == 0 && m.Type != "" && s.seen[d.ID]:
		d.Status, d.Duplicate = http.StatusOK, true
		s.counts.Duplicates++
	case d.Status == 0 && m.Type != "":
		d.Status = http.StatusOK
		s.seen[d.ID] = true
		s.counts.Handled++
		s.apply(m)
	case d.Status >= 400:
		s.counts.Refused++
	}
	if !s.forget {
		s.deliveries = append(s.deliveries, *d)
	}
}

// apply changes the copies; s.mu is held.
func (s *Server) apply(m message) {
	if s.forget {
		return
	}
	have := s.copies[m.key]
	switch {
	case m.Type == "call.erased":
		delete(s.copies, m.key)
	case m.Type == "call.updated" && len(have) > 0:
		c := have[len(have)-1]
		c.Revision, c.Data = m.revision, m.Data
		c.Writes++
	default:
		s.copies[m.key] = append(have, &Copy{CallID: m.call, Revision: m.revision, Writes: 1, Data: m.Data})
	}
}

const hugeBody = 64 << 20

// reply answers, or fails to.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, d Delivery, a answer) {
	switch d.Fault {
	case CutBefore, CutAfter:
		cut(w)
	case Slow:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	case ServerError:
		w.WriteHeader(http.StatusInternalServerError)
	case Huge:
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for n := 0; n < hugeBody; n += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case Nonsense:
		_, _ = io.WriteString(w, "<!doctype html><title>It works!</title>")
	case EmptyOK:
		_, _ = io.WriteString(w, "{}")
	case RateLimit, Outage, BadToken, Revoked, BadMessage, Redirect, "":
		maps.Copy(w.Header(), a.header)
		if d.Fault == RateLimit {
			w.Header().Set("Retry-After", "7")
		}
		if d.Fault == Redirect {
			w.Header().Set("Location", "https://elsewhere.example/")
		}
		w.WriteHeader(d.Status)
	}
}

// cut ends the connection without an answer.
func cut(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_ = c.Close()
}
