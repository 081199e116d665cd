package salesforcetest

import (
	"net/http"
	"strings"
	"time"
)

// Fault is a way in which the org can fail. The values are those of the
// conformance suite (connectors/connectortest).
type Fault string

// The faults.
const (
	RateLimit   Fault = "rate limit"   // 403 REQUEST_LIMIT_EXCEEDED; Salesforce does not say for how long
	Outage      Fault = "outage"       // 503, nothing done
	ServerError Fault = "server error" // 500 after the work
	BadToken    Fault = "bad token"    // 401: a refreshed token would work
	Revoked     Fault = "revoked"      // 403: the org is locked
	BadMessage  Fault = "bad message"  // the first record of a request refused by a validation rule, a query as malformed
	CutBefore   Fault = "cut before"   // connection cut, nothing done
	CutAfter    Fault = "cut after"    // connection cut after the work
	Slow        Fault = "slow"         // no answer until the caller gives up, after the work
	Huge        Fault = "huge"         // 64 MiB after the work
	Nonsense    Fault = "nonsense"     // 200 and a page of HTML after the work
	EmptyOK     Fault = "empty ok"     // 200 and nothing in it, nothing done
	Redirect    Fault = "redirect"     // 302 to another host, nothing done
)

// Inject makes the next n requests to the data API fail with f; with n < 0 all
// of them until Inject(f, 0). Requests without a valid token fail as always and
// do not count.
func (s *Server) Inject(f Fault, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.faults = f, n
	if n == 0 {
		s.fault = ""
	}
}

func (f Fault) beforeWork() bool {
	switch f {
	case RateLimit, Outage, BadToken, Revoked, CutBefore, EmptyOK, Redirect:
		return true
	case ServerError, BadMessage, CutAfter, Slow, Huge, Nonsense:
	}
	return false
}

func (f Fault) afterWork() bool {
	switch f {
	case ServerError, CutAfter, Slow, Huge, Nonsense:
		return true
	case RateLimit, Outage, BadToken, Revoked, CutBefore, EmptyOK, Redirect, BadMessage:
	}
	return false
}

// failBefore answers in place of the work and returns the status, 0 for none.
func (s *Server) failBefore(w http.ResponseWriter, r *http.Request, f Fault) int {
	var out reply
	switch f {
	case RateLimit:
		out = failure(http.StatusForbidden, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
	case Outage:
		out = failure(http.StatusServiceUnavailable, "SERVER_UNAVAILABLE", "The server is unavailable")
	case BadToken:
		out = failure(http.StatusUnauthorized, "INVALID_SESSION_ID", "Session expired or invalid")
	case Revoked:
		out = failure(http.StatusForbidden, "ORG_LOCKED", "The org is locked")
	case CutBefore:
		cut(w)
		return 0
	case EmptyOK:
		out = reply{status: http.StatusOK, body: struct{}{}}
		if strings.Contains(r.URL.Path, "/composite/") {
			out.body = []struct{}{}
		}
	case Redirect:
		out = reply{status: http.StatusFound, header: http.Header{"Location": {"https://elsewhere.example/services/data"}}}
	case ServerError, BadMessage, CutAfter, Slow, Huge, Nonsense: // not before the work
	}
	s.write(w, out)
	return out.status
}

// failAfter answers in place of the true answer and returns the status, 0 for
// none.
func (s *Server) failAfter(w http.ResponseWriter, r *http.Request, f Fault) int {
	switch f {
	case ServerError:
		s.write(w, failure(http.StatusInternalServerError, "UNKNOWN_EXCEPTION", "An unexpected error occurred. Please include this ErrorId if you contact support: 123-456 (-789)"))
		return http.StatusInternalServerError
	case CutAfter:
		cut(w)
	case Slow:
		wait(r.Context(), s.closed, time.Minute)
		cut(w)
	case Huge:
		w.Header().Set("Content-Type", "application/json")
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		return http.StatusOK
	case Nonsense:
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!DOCTYPE html><title>Salesforce</title><p>Down for maintenance"))
		return http.StatusOK
	case RateLimit, Outage, BadToken, Revoked, BadMessage, CutBefore, EmptyOK, Redirect: // not after the work
	}
	return 0
}

// cut closes the connection in the first line of the answer. Without that
// beginning, an HTTP library may take the connection for one that had been idle
// too long, and hide the cut: Go's sends a GET again by itself then.
func cut(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	if c, _, err := h.Hijack(); err == nil {
		_, _ = c.Write([]byte("HTTP/1.1 ")) // the client may be gone
		_ = c.Close()
	}
}

// refuseFirst makes the next record that is written or deleted be refused by a
// validation rule, with a message that quotes what was sent, as Salesforce's
// messages do. s.mu is held.
func (s *Server) refuseFirst() {
	s.d.refusal = func(subject any) *RowError {
		text, _ := subject.(string)
		return refuse("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Not allowed by a validation rule: "+text, fieldSubject)
	}
}

// badMessage does the work of a request whose content is refused: of its first
// record if it writes any, of the whole if it asks.
func (s *Server) badMessage(r *http.Request, body []byte) reply {
	if r.Method == http.MethodGet {
		return failure(http.StatusBadRequest, "MALFORMED_QUERY", "\n%s\nunexpected token: '<EOF>'", r.URL.Query().Get("q"))
	}
	s.refuseFirst()
	defer func() { s.d.refusal = nil }()
	return s.dispatch(r, body)
}

const fieldSubject = "Subject"
