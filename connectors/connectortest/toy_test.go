package connectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/mappings"
)

// toyDescriptor describes a connector to a chat that has rooms and messages.
// mutant names the one thing that it does wrong; "" does all right.
func toyDescriptor(mutant string) connectors.Descriptor {
	return connectors.Descriptor{
		Name: "toy", Title: "Toy", Summary: "Messages in a room.",
		OAuth:       &connectors.OAuth{Provider: "toy", Scopes: []string{"write"}},
		BearerToken: true,
		BatchSize:   4,
		Destination: func(raw json.RawMessage) []hub.FieldError {
			if mutant == "any destination" {
				return nil
			}
			_, err := toyRoom(raw)
			if err != nil {
				return []hub.FieldError{{Detail: "must be an object with the member room"}}
			}
			return nil
		},
		Schema: func(json.RawMessage) mappings.Schema {
			return mappings.Schema{Fields: []mappings.Field{{Name: "text", Type: mappings.String}}}
		},
		New: func(connectors.Config) (connectors.Connector, error) {
			if mutant == "no capability" {
				return struct{ connectors.Connector }{&toy{mutant: mutant}}, nil
			}
			return &toy{mutant: mutant}, nil
		},
	}
}

func toyRoom(raw json.RawMessage) (string, error) {
	var d struct {
		Room string `json:"room"`
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return "", err
	}
	if d.Room == "" {
		return "", errors.New("no room")
	}
	return d.Room, nil
}

type toy struct{ mutant string }

type toyMessage struct {
	ID   string `json:"id,omitempty"`
	Key  string `json:"key"`
	Text string `json:"text"`
}

func (c *toy) Render(item connectors.Item) (connectors.Payload, error) {
	call := item.Release.Content()
	text := call.Title + "\n" + call.Summary
	var losses []mappings.Loss
	if n := len(text); n > 4000 {
		text = strings.ToValidUTF8(text[:4000], "")
		if c.mutant != "silent loss" {
			losses = append(losses, mappings.Loss{Field: "text", Kind: mappings.Truncated, From: n, To: 4000})
		}
	}
	if o, ok := item.Overrides["text"].(string); ok && c.mutant != "no overrides" {
		text = o
	}
	switch c.mutant {
	case "clock in the payload":
		text += time.Now().String()
	case "matching in the payload":
		text += strings.Join(item.Release.Matching().Emails, " ")
	}
	body, err := json.Marshal(toyMessage{Key: item.Key, Text: text})
	return connectors.Payload{Body: body, Losses: losses}, err
}

func (c *toy) Resolve(ctx context.Context, a connectors.Account, items []connectors.Item) ([]connectors.Targets, error) {
	var found map[string]string
	q := strings.Join(items[0].Release.Matching().Emails, ",")
	if err := c.call(ctx, a, "resolve", http.MethodGet, "/people?"+url.Values{"q": {q}}.Encode(), nil, &found); err != nil {
		return nil, err
	}
	return make([]connectors.Targets, len(items)), nil
}

func (*toy) LookUps(connectors.Item) []string { return []string{"person by e-mail"} }

func (c *toy) Push(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	if len(items) == 0 {
		return nil
	}
	if c.mutant == "goroutine left" {
		go func() { select {} }()
	}
	room, _ := toyRoom(items[0].Destination)
	var r struct {
		Open bool `json:"open"`
	}
	if err := c.call(ctx, a, "push", http.MethodGet, "/rooms/"+room, nil, &r); err != nil {
		return connectors.FailAll(len(items), safe(err))
	}
	if !r.Open {
		return connectors.FailAll(len(items), &connectors.Error{Class: connectors.Rejected, Op: "push", Code: "closed"})
	}
	bodies := make([]json.RawMessage, len(items))
	for i, it := range items {
		bodies[i] = it.Payload.Body
	}
	var answer struct {
		Results []struct {
			ID    string `json:"id"`
			Error string `json:"error"`
		} `json:"results"`
	}
	err := c.call(ctx, a, "push", http.MethodPost, "/messages", bodies, &answer)
	if err != nil && c.mutant == "posts again" {
		err = c.call(context.WithoutCancel(ctx), a, "push", http.MethodPost, "/messages", bodies, &answer)
	}
	if err == nil && len(answer.Results) != len(items) {
		if c.mutant == "empty is fine" {
			out := make([]connectors.Outcome, len(items))
			for i := range out {
				out[i] = connectors.Done(connectors.Receipt{"id": "?"})
			}
			return out
		}
		err = &connectors.Error{Class: connectors.Unknown, Op: "push", Code: "unreadable"}
	}
	if err != nil {
		return connectors.FailAll(len(items), connectors.AsError(err))
	}
	out := make([]connectors.Outcome, len(items))
	bad := false
	for i, res := range answer.Results {
		if res.Error != "" {
			out[i] = connectors.Failed(&connectors.Error{Class: connectors.Rejected, Op: "push", Code: "bad"})
			bad = true
			continue
		}
		out[i] = connectors.Done(connectors.Receipt{"id": res.ID})
		if c.mutant == "no receipt" {
			out[i].Receipt = nil
		}
	}
	switch {
	case bad && c.mutant == "one fails all":
		return connectors.FailAll(len(items), &connectors.Error{Class: connectors.Rejected, Op: "push", Code: "bad"})
	case c.mutant == "out of order":
		slices.Reverse(out)
	}
	return out
}

// safe makes sure that what goes out is an *Error.
func safe(err error) *connectors.Error { return connectors.AsError(err) }

func (c *toy) Update(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	if c.mutant == "update posts" {
		return c.Push(ctx, a, items)
	}
	out := make([]connectors.Outcome, len(items))
	for i, it := range items {
		var answer toyMessage
		if c.mutant == "update does nothing" {
			out[i] = connectors.Done(nil)
			continue
		}
		err := c.call(ctx, a, "update", http.MethodPut, "/messages/"+it.Receipt["id"], it.Payload.Body, &answer)
		if err == nil && answer.ID == "" {
			err = &connectors.Error{Class: connectors.Unknown, Op: "update", Code: "unreadable"}
		}
		if err != nil {
			out[i] = connectors.Failed(safe(err))
			continue
		}
		out[i] = connectors.Done(nil)
	}
	return out
}

func (c *toy) Erase(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	out := make([]connectors.Outcome, len(items))
	for i, it := range items {
		path := "/messages/" + it.Receipt["id"]
		var answer toyMessage
		var err error
		if c.mutant != "erase does nothing" {
			err = c.call(ctx, a, "erase", http.MethodDelete, path, nil, &answer)
		}
		if err == nil && c.mutant != "erase does nothing" {
			err = c.call(ctx, a, "erase", http.MethodGet, path, nil, &answer)
			if err == nil {
				err = &connectors.Error{Class: connectors.Unknown, Op: "erase", Code: "still_there"}
			}
		}
		if e, ok := errors.AsType[*connectors.Error](err); ok && (e.Class != connectors.Gone || c.mutant == "gone is an error") {
			out[i] = connectors.Failed(e)
			continue
		}
		out[i] = connectors.Done(nil)
	}
	return out
}

func (c *toy) Reconcile(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Finding {
	out := make([]connectors.Finding, len(items))
	for i, it := range items {
		if it.Kind == hub.KindUpdate || (it.Kind == hub.KindErase && c.mutant != "erasure not repeated") {
			out[i] = connectors.Finding{Verdict: connectors.Repeatable}
			continue
		}
		var answer struct {
			Messages *[]toyMessage `json:"messages"`
		}
		err := c.call(ctx, a, "reconcile", http.MethodGet, "/messages?key="+it.Key, nil, &answer)
		switch {
		case c.mutant == "outage is absence" && err != nil:
			out[i] = connectors.Finding{Verdict: connectors.NotArrived}
		case err != nil:
			out[i] = connectors.Finding{Err: safe(err)}
		case answer.Messages == nil && c.mutant != "empty is absence":
		case c.mutant == "never arrived" || answer.Messages == nil || len(*answer.Messages) == 0:
			out[i] = connectors.Finding{Verdict: connectors.NotArrived}
		default:
			out[i] = connectors.Finding{Verdict: connectors.Arrived, Receipt: connectors.Receipt{"id": (*answer.Messages)[0].ID}}
		}
	}
	return out
}

func (c *toy) Identify(ctx context.Context, a connectors.Account) (connectors.Identity, error) {
	var answer struct {
		Account string `json:"account"`
	}
	err := c.call(ctx, a, "identify", http.MethodGet, "/me", nil, &answer)
	if err == nil && answer.Account == "" {
		err = &connectors.Error{Class: connectors.Unknown, Op: "identify", Code: "unreadable"}
	}
	return connectors.Identity{AccountID: answer.Account}, err
}

// call makes one request and classifies what comes back.
func (c *toy) call(ctx context.Context, a connectors.Account, op, method, path string, in, out any) error {
	if c.mutant == "ignores the context" {
		ctx = context.WithoutCancel(ctx)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, a.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := a.HTTP.Do(r)
	if err != nil {
		e := &connectors.Error{Class: connectors.Unknown, Op: op, Code: "connection_cut", Err: err}
		switch c.mutant {
		case "address in the error":
			e.Detail = err.Error()
		case "token in the error":
			e.Detail = a.Token.Reveal()
		case "content in the error":
			e.Detail = string(body)
		case "cut is transient":
			e.Class = connectors.Transient
		}
		return e
	}
	defer resp.Body.Close()
	if err := c.classify(op, resp); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil && c.mutant == "nonsense is fine" {
		data, _ = json.Marshal(map[string]any{"results": []any{map[string]string{"id": "?"}}, "open": true, "id": "?"})
		err = json.Unmarshal(data, out)
	}
	if err != nil {
		return &connectors.Error{Class: connectors.Unknown, Op: op, Code: "unreadable", Err: err}
	}
	return nil
}

func (c *toy) classify(op string, resp *http.Response) error {
	e := &connectors.Error{Op: op, Status: resp.StatusCode}
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusFound:
		e.Class = connectors.Unknown
		if c.mutant == "redirect is fine" {
			resp.Body = io.NopCloser(strings.NewReader(`{"results":[{"id":"?"}],"open":true,"id":"?"}`))
			return nil
		}
	case http.StatusTooManyRequests:
		s, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		e.Class, e.RetryAfter = connectors.RateLimited, time.Duration(s)*time.Second
		switch c.mutant {
		case "429 is rejected":
			e.Class = connectors.Rejected
		case "a delay of its own":
			e.RetryAfter = time.Second
		}
	case http.StatusServiceUnavailable:
		e.Class = connectors.Transient
		if c.mutant == "503 is rejected" {
			e.Class = connectors.Rejected
		}
	case http.StatusUnauthorized:
		e.Class, e.Permanent = connectors.Unauthorized, c.mutant == "401 is permanent"
	case http.StatusForbidden:
		e.Class, e.Permanent = connectors.Unauthorized, c.mutant != "revoked can be refreshed"
	case http.StatusBadRequest:
		e.Class = connectors.Rejected
		if c.mutant == "400 is transient" {
			e.Class = connectors.Transient
		}
	case http.StatusNotFound:
		e.Class = connectors.Gone
	default:
		e.Class = connectors.Unknown
		if c.mutant == "500 is transient" {
			e.Class = connectors.Transient
		}
	}
	return e
}

// toyServer is the toy's provider.
type toyServer struct {
	srv  *httptest.Server
	done chan struct{}

	mu       sync.Mutex // guards what follows
	messages map[string]*toyStored
	next     int
	requests int
	fault    Fault
	left     int
}

type toyStored struct {
	toyMessage
	revision int
}

func newToyServer(tb testing.TB) *toyServer {
	tb.Helper()
	s := &toyServer{messages: map[string]*toyStored{}, done: make(chan struct{})}
	s.srv = httptest.NewServer(http.HandlerFunc(s.serve))
	tb.Cleanup(func() { close(s.done); s.srv.Close() })
	return s
}

func toyHarness(tb testing.TB, d connectors.Descriptor) Harness {
	tb.Helper()
	s := newToyServer(tb)
	return Harness{
		Account:      Account(tb, d, s.srv.URL, "toy-token-cnry"),
		Destination:  json.RawMessage(`{"room":"general"}`),
		Inject:       s.inject,
		Copies:       s.copies,
		Requests:     func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.requests },
		CanReconcile: true,
	}
}

func (s *toyServer) inject(f Fault, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.left = f, n
}

func (s *toyServer) copies() map[string][]Copy {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]Copy{}
	for _, m := range s.messages {
		out[m.Key] = append(out[m.Key], Copy{Text: m.Text, Revision: m.revision})
	}
	return out
}

// take returns the fault that this request meets.
func (s *toyServer) take() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if s.left == 0 {
		return ""
	}
	s.left = max(s.left-1, -1)
	return s.fault
}

func (s *toyServer) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f := s.take()
	switch f {
	case RateLimit:
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case Outage:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case BadToken:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case Revoked:
		w.WriteHeader(http.StatusForbidden)
		return
	case EmptyOK:
		_, _ = io.WriteString(w, "{}")
		return
	case Redirect:
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(http.StatusFound)
		return
	case CutBefore:
		cut(w)
		return
	case BadMessage, ServerError, CutAfter, Slow, Huge, Nonsense, "":
	}
	status, answer := s.act(r, body, f == BadMessage)
	switch f {
	case ServerError:
		w.WriteHeader(http.StatusInternalServerError)
	case CutAfter:
		cut(w)
	case Slow:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	case Huge:
		_, _ = w.Write(bytes.Repeat([]byte(" "), 64<<20))
	case Nonsense:
		_, _ = io.WriteString(w, "<html>")
	case BadMessage, "":
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	case RateLimit, Outage, BadToken, Revoked, CutBefore, EmptyOK, Redirect:
		// answered above
	}
}

func cut(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

// act does what the request asks.
func (s *toyServer) act(r *http.Request, body []byte, bad bool) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer toy-token-cnry" {
		return http.StatusUnauthorized, nil
	}
	path, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case path == "me":
		return http.StatusOK, map[string]string{"account": "toys"}
	case path == "people":
		return http.StatusOK, map[string]string{}
	case path == "rooms":
		return http.StatusOK, map[string]bool{"open": true}
	case r.Method == http.MethodPost:
		return http.StatusOK, map[string]any{"results": s.post(body, bad)}
	case bad:
		return http.StatusBadRequest, nil
	case id == "":
		found := []toyMessage{}
		for _, m := range s.messages {
			if m.Key == r.URL.Query().Get("key") {
				found = append(found, m.toyMessage)
			}
		}
		return http.StatusOK, map[string]any{"messages": found}
	}
	m, ok := s.messages[id]
	if !ok {
		return http.StatusNotFound, nil
	}
	switch r.Method {
	case http.MethodDelete:
		delete(s.messages, id)
	case http.MethodPut:
		key := m.Key // of a message never changes
		_ = json.Unmarshal(body, &m.toyMessage)
		m.ID, m.Key = id, key
		m.revision++
	}
	return http.StatusOK, m.toyMessage
}

func (s *toyServer) post(body []byte, bad bool) []map[string]string {
	var in []toyMessage
	_ = json.Unmarshal(body, &in)
	var results []map[string]string
	for i, m := range in {
		if bad && i == 0 {
			results = append(results, map[string]string{"error": "bad"})
			continue
		}
		s.next++
		m.ID = fmt.Sprintf("m%d", s.next)
		s.messages[m.ID] = &toyStored{m, 1}
		results = append(results, map[string]string{"id": m.ID})
	}
	return results
}
