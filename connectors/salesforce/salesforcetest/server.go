// Package salesforcetest is a Salesforce org for tests and for the demo: a real
// HTTP server that behaves as Salesforce's documents say, as far as a connector
// for calls can tell. It checks tokens, field types, lengths, picklists and
// references, refuses what Salesforce refuses with the codes that Salesforce
// uses, counts API calls, and can be told to fail in every way that the
// conformance suite knows ([Server.Inject]).
//
//	s := salesforcetest.New(t)
//	acme := s.AddAccount("Acme", "https://acme.example")
//	s.AddContact(salesforcetest.Person{First: "Priya", Last: "Shah", Email: "priya@acme.example", Account: acme})
//	… drive s.URL with s.AccessToken() …
//	s.Tasks()
//
// Where the documents leave something open, the fake does what is worse for the
// client: an upsert does not find an archived record, and TaskSubtype cannot be
// written to an existing one at all. What it does not have: sharing rules,
// workflow, SOSL, Bulk, the composite resource, and undelete.
//
// The server's pages (/ and /lightning/…) show what a Salesforce user would
// see, and need no token.
package salesforcetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options configure a [Server]. The zero value of every field is usable.
type Options struct {
	// Addr is where to listen. Defaults to "127.0.0.1:0", a free port.
	Addr string

	// OrgName is the org's name. Defaults to "Acme Sales".
	OrgName string

	// ClientID and ClientSecret are those of the app that is installed.
	// Default to "test-client" and "test-client-secret".
	ClientID, ClientSecret string

	// DailyLimit is how many API calls the org has. Defaults to 100,000.
	DailyLimit int

	// KeepRefreshToken leaves refresh-token rotation off.
	KeepRefreshToken bool

	// NoExternalID leaves out the field Callbridge_Id__c, which a customer has
	// to add.
	NoExternalID bool

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// ExternalIDField is the custom field of Task that the fake has unless
// Options.NoExternalID is set: Text(80), external id, unique.
const ExternalIDField = "Callbridge_Id__c"

// Versions of the API that the fake serves.
const (
	oldestVersion = 46 // collections upsert came with it
	newestVersion = 68
)

const (
	maxRequest = 32 << 20
	maxURI     = 16_384 // bytes; longer ones are answered with 414
	pageSize   = 2000   // rows of one page of a query
	maxRows    = 200    // records of one collections call
	maxIDs     = 2000   // ids of one collections read
)

// Server is a running org. Its methods may be called by several goroutines.
type Server struct {
	// URL is the org's address, without a trailing slash.
	URL string

	o        Options
	http     *http.Server
	listener net.Listener
	closed   chan struct{}
	done     chan struct{}
	close    sync.Once

	mu       sync.Mutex // guards what follows
	d        *store
	org      *record
	grants   []*grant
	used     int
	fault    Fault
	faults   int // requests still to fail; negative: until healed
	log      []Request
	requests int
	cursors  map[string]*cursor
	latency  time.Duration
}

// Request is one request that reached the org.
type Request struct {
	At     time.Time
	Kind   string // "query", "upsert", "create", "update", "delete", "retrieve", "describe", "limits", "versions", "token", "revoke", "userinfo", "other"
	Method string
	Path   string // without its query
	Rows   int    // records written or asked for
	Status int    // 0: no answer was given
	Fault  Fault  // injected into it
}

// TB is what [New] needs of a testing.TB.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// New starts an org that is closed when tb ends.
func New(tb TB, opts ...Options) *Server {
	tb.Helper()
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	s, err := Start(o)
	if err != nil {
		tb.Fatalf("salesforcetest: %v", err)
		return nil
	}
	tb.Cleanup(s.Close)
	return s
}

// Start starts an org. The caller closes it.
func Start(o Options) (*Server, error) {
	o.Addr = or(o.Addr, "127.0.0.1:0")
	o.OrgName = or(o.OrgName, "Acme Sales")
	o.ClientID = or(o.ClientID, "test-client")
	o.ClientSecret = or(o.ClientSecret, "test-client-secret")
	if o.DailyLimit == 0 {
		o.DailyLimit = 100_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &Server{
		URL: "http://" + l.Addr().String(), o: o, listener: l,
		closed: make(chan struct{}), done: make(chan struct{}),
		d: newStore(o.Now), cursors: map[string]*cursor{},
	}
	if err := s.found(); err != nil {
		_ = l.Close()
		return nil, err
	}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l) // ends with ErrServerClosed, or with the listener
	}()
	return s, nil
}

// found makes the org's own records: the org itself, the connected user and
// the custom field.
func (s *Server) found() error {
	org, rowErr := s.d.create(s.d.object("Organization"), map[string]any{"Name": s.o.OrgName})
	if rowErr != nil {
		return fmt.Errorf("make the org: %w", rowErr)
	}
	org.fields["IsSandbox"], org.fields["InstanceName"], org.fields["OrganizationType"] = false, "FAKE1", "Enterprise Edition"
	s.org = org
	u, rowErr := s.d.create(s.d.object("User"), map[string]any{
		"Name": "Integration User", "Email": "integration@acme.example", "Username": "integration@acme.example",
	})
	if rowErr != nil {
		return fmt.Errorf("make the connected user: %w", rowErr)
	}
	u.fields["UserType"] = "Standard"
	s.d.user = u.id
	s.grants = []*grant{s.newGrant()}
	if !s.o.NoExternalID {
		s.d.object("Task").add(&Field{Name: ExternalIDField, Label: "Callbridge Id", Type: Text, Length: 80, ExternalID: true, Unique: true})
	}
	return nil
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Close stops the server and cuts what is open.
func (s *Server) Close() {
	s.close.Do(func() {
		close(s.closed)
		_ = s.http.Close()
		<-s.done
	})
}

// reply is an answer before it is written. A nil body is no body.
type reply struct {
	status int
	body   any
	header http.Header
	rows   int
}

// apiErrors is the body of every refusal of the data API.
type apiErrors []apiError

type apiError struct {
	Message string   `json:"message"`
	Code    string   `json:"errorCode"`
	Fields  []string `json:"fields,omitempty"`
}

func failure(status int, code, format string, args ...any) reply {
	return reply{status: status, body: apiErrors{{Message: fmt.Sprintf(format, args...), Code: code}}}
}

func rowFailure(e *RowError) reply {
	return reply{status: http.StatusBadRequest, body: apiErrors{{Message: e.Message, Code: e.Code, Fields: e.Fields}}}
}

var versionPath = regexp.MustCompile(`^/services/data/v(\d+)\.0(/.*)?$`)

// handler returns the server's routes.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/services/data/", s.serveData)
	mux.HandleFunc("GET /services/data", s.serveVersions)
	mux.HandleFunc("GET /services/data/{$}", s.serveVersions)
	mux.HandleFunc("POST /services/oauth2/token", s.serveToken)
	mux.HandleFunc("POST /services/oauth2/revoke", s.serveRevoke)
	mux.HandleFunc("/services/oauth2/userinfo", s.serveUserInfo)
	mux.HandleFunc("GET /{$}", s.serveHome)
	mux.HandleFunc("GET /lightning/r/{object}/{id}/view", s.serveRecordPage)
	mux.HandleFunc("GET /lightning/o/{object}/list", s.serveListPage)
	mux.HandleFunc("GET /style.css", serveStyle)
	return mux
}

// serveVersions lists the API versions; it needs no token.
func (s *Server) serveVersions(w http.ResponseWriter, r *http.Request) {
	type version struct {
		Label   string `json:"label"`
		URL     string `json:"url"`
		Version string `json:"version"`
	}
	var out []version
	for v := oldestVersion; v <= newestVersion; v++ {
		season := []string{"Spring", "Summer", "Winter"}[(v-oldestVersion+1)%3]
		out = append(out, version{fmt.Sprintf("%s '%d", season, 19+(v-oldestVersion+2)/3), fmt.Sprintf("/services/data/v%d.0", v), fmt.Sprintf("%d.0", v)})
	}
	s.note(r, "versions", 0, http.StatusOK, "")
	writeJSON(w, http.StatusOK, out)
}

// serveData answers the data API: token, allowance, fault, work, answer.
func (s *Server) serveData(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		return // the client went away
	}
	kind := kindOf(r)
	early, fault := s.admit(r, len(body))
	if early != nil {
		s.note(r, kind, 0, early.status, fault)
		s.write(w, *early)
		return
	}
	if fault.beforeWork() {
		status := s.failBefore(w, r, fault)
		s.note(r, kind, 0, status, fault)
		return
	}
	s.mu.Lock()
	latency := s.latency
	var out reply
	if fault == BadMessage {
		out = s.badMessage(r, body)
	} else {
		out = s.dispatch(r, body)
	}
	s.mu.Unlock()
	if latency > 0 {
		wait(r.Context(), s.closed, latency)
	}
	status := out.status
	if fault.afterWork() {
		status = s.failAfter(w, r, fault)
	} else {
		s.write(w, out)
	}
	s.note(r, kind, out.rows, status, fault)
}

// admit checks what comes before any work and takes the next injected fault.
// A non-nil reply is a refusal.
func (s *Server) admit(r *http.Request, size int) (*reply, Fault) {
	refusal := func(status int, code, format string, args ...any) *reply {
		out := failure(status, code, format, args...)
		return &out
	}
	switch m := versionPath.FindStringSubmatch(r.URL.Path); {
	case len(r.RequestURI) > maxURI:
		return &reply{status: http.StatusRequestURITooLong}, ""
	case size > maxRequest:
		return refusal(http.StatusRequestEntityTooLarge, "REQUEST_TOO_LARGE", "the request is too large"), ""
	case m == nil:
		return refusal(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist"), ""
	default:
		v, _ := strconv.Atoi(m[1]) // the pattern says digits; an overflow is beyond the newest
		if v <= 30 && v > 0 {
			return refusal(http.StatusGone, "GONE", "API version %s.0 is retired", m[1]), ""
		}
		if v < oldestVersion || v > newestVersion {
			return refusal(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist"), ""
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.authorized(r) {
		return refusal(http.StatusUnauthorized, "INVALID_SESSION_ID", "Session expired or invalid"), ""
	}
	s.requests++
	s.used++
	if s.used > s.o.DailyLimit {
		s.used = s.o.DailyLimit // a refused call does not count
		return refusal(http.StatusForbidden, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), ""
	}
	f := s.fault
	if f != "" && s.faults > 0 {
		if s.faults--; s.faults == 0 {
			s.fault = ""
		}
	}
	return nil, f
}

// dispatch does the work. s.mu is held.
func (s *Server) dispatch(r *http.Request, body []byte) reply {
	m := versionPath.FindStringSubmatch(r.URL.Path)
	path := strings.Trim(m[2], "/")
	var parts []string
	if path != "" {
		// The value of an external id may hold an escaped slash.
		escaped := versionPath.FindStringSubmatch(r.URL.EscapedPath())
		for p := range strings.SplitSeq(strings.Trim(escaped[2], "/"), "/") {
			p, err := url.PathUnescape(p)
			if err != nil {
				return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
			}
			parts = append(parts, p)
		}
	}
	switch {
	case len(parts) == 0 && r.Method == http.MethodGet:
		base := "/services/data/v" + m[1] + ".0/"
		return reply{status: http.StatusOK, body: map[string]string{"sobjects": base + "sobjects", "query": base + "query", "limits": base + "limits", "composite": base + "composite"}}
	case path == "limits" && r.Method == http.MethodGet:
		return reply{status: http.StatusOK, body: map[string]any{"DailyApiRequests": map[string]int{"Max": s.o.DailyLimit, "Remaining": max(0, s.o.DailyLimit-s.used)}}}
	case len(parts) > 0 && (parts[0] == "query" || parts[0] == "queryAll"):
		return s.query(r, parts, m[1])
	case len(parts) > 1 && parts[0] == "composite" && parts[1] == "sobjects":
		return s.collections(r, parts[2:], body, m[1])
	case len(parts) > 0 && parts[0] == "sobjects":
		return s.sobjects(r, parts[1:], body, m[1])
	}
	return failure(http.StatusNotFound, "NOT_FOUND", "The requested resource does not exist")
}

// kindOf names what a request of the data API does; see [Request].
func kindOf(r *http.Request) string {
	m := versionPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		return "other"
	}
	parts := strings.Split(strings.Trim(m[2], "/"), "/")
	switch {
	case parts[0] == "query" || parts[0] == "queryAll":
		return "query"
	case parts[0] == "limits":
		return "limits"
	case parts[0] != "composite" && parts[0] != "sobjects":
		return "other"
	case parts[len(parts)-1] == "describe" || (parts[0] == "sobjects" && len(parts) == 1):
		return "describe"
	}
	// Both composite/sobjects/Task/Field and sobjects/Task/Field/value are
	// upserts; with a record's id it is an update.
	deep := len(parts) == 4
	switch r.Method {
	case http.MethodPost:
		if parts[0] == "composite" && len(parts) == 3 {
			return "retrieve"
		}
		return "create"
	case http.MethodPatch:
		if deep {
			return "upsert"
		}
		return "update"
	case http.MethodDelete:
		return "delete"
	}
	return "retrieve"
}

func (s *Server) note(r *http.Request, kind string, rows, status int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, Request{At: s.o.Now(), Kind: kind, Method: r.Method, Path: r.URL.Path, Rows: rows, Status: status, Fault: f})
}

// write writes an answer of the data API.
func (s *Server) write(w http.ResponseWriter, out reply) {
	s.mu.Lock()
	usage := fmt.Sprintf("api-usage=%d/%d", s.used, s.o.DailyLimit)
	s.mu.Unlock()
	w.Header().Set("Sforce-Limit-Info", usage)
	maps.Copy(w.Header(), out.header)
	if out.body == nil {
		w.WriteHeader(out.status)
		return
	}
	writeJSON(w, out.status, out.body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		http.Error(w, "encode: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

// wait returns after d, or when ctx or the server ends.
func wait(ctx context.Context, closed <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-closed:
	}
}

// decode reads a JSON document; a refusal where it is none.
func decode(body []byte, into any) *reply {
	err := json.Unmarshal(body, into)
	if err == nil {
		return nil
	}
	out := failure(http.StatusBadRequest, "JSON_PARSER_ERROR", "%s", err.Error())
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		out = failure(http.StatusBadRequest, "JSON_PARSER_ERROR", "Cannot deserialize instance from the request body")
	}
	return &out
}
