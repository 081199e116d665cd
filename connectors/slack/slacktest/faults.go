package slacktest

import (
	"net/http"
	"strings"
	"time"
)

// Fault is a way in which the workspace can be told to fail. The values are
// those of connectortest.Fault.
type Fault string

// The faults.
const (
	RateLimit   Fault = "rate limit"   // 429 with Retry-After: 7
	Outage      Fault = "outage"       // 503, did nothing
	ServerError Fault = "server error" // 500, did the work
	BadToken    Fault = "bad token"    // token_expired
	Revoked     Fault = "revoked"      // account_inactive
	BadMessage  Fault = "bad message"  // invalid_blocks, of methods that carry content
	CutBefore   Fault = "cut before"   // connection cut, did nothing
	CutAfter    Fault = "cut after"    // connection cut, did the work
	Slow        Fault = "slow"         // did the work, answers when the caller has gone
	Huge        Fault = "huge"         // did the work, answers with 64 MiB
	Nonsense    Fault = "nonsense"     // did the work, answers 200 with HTML
	EmptyOK     Fault = "empty ok"     // did nothing, answers 200 with {}
	Redirect    Fault = "redirect"     // 302 to another host
)

const (
	retryAfterFault = "7"
	hugeBody        = 64 << 20
	slowest         = time.Minute // after which a slow answer comes even to a patient caller
)

// Inject makes the next n requests to the Web API fail with f. n < 0: until
// healed by Inject(f, 0). Requests for tokens are not affected, and BadMessage
// touches only those that carry content.
func (s *Server) Inject(f Fault, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.faultLeft = f, n
}

// takeFault returns the fault that applies to a request, or "".
func (s *Server) takeFault(name string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faultLeft == 0 || strings.HasPrefix(name, "oauth.") {
		return ""
	}
	if s.fault == BadMessage && !strings.HasPrefix(name, "chat.") {
		return ""
	}
	if s.faultLeft > 0 {
		s.faultLeft--
	}
	return s.fault
}

// fail answers a request as f says. act does the request's work.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, f Fault, act func() answer) (status int, code string) {
	switch f {
	case RateLimit:
		w.Header().Set("Retry-After", retryAfterFault)
		return s.write(w, answer{status: http.StatusTooManyRequests, code: "ratelimited"})
	case Outage:
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
		return http.StatusServiceUnavailable, ""
	case ServerError:
		act()
		http.Error(w, "internal error", http.StatusInternalServerError)
		return http.StatusInternalServerError, ""
	case BadToken:
		return s.write(w, refuse("token_expired"))
	case Revoked:
		return s.write(w, refuse("account_inactive"))
	case BadMessage:
		return s.write(w, refuse("invalid_blocks"))
	case CutBefore:
		cut(w)
	case CutAfter:
		act()
		cut(w)
	case Slow:
		act()
		patience := time.NewTimer(slowest)
		defer patience.Stop()
		select {
		case <-r.Context().Done():
		case <-s.done:
		case <-patience.C:
		}
		cut(w)
	case Huge:
		act()
		s.writeHuge(w)
		return http.StatusOK, ""
	case Nonsense:
		act()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><title>Slack</title><p>Something else")) // the caller may be gone
		return http.StatusOK, ""
	case EmptyOK:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write([]byte("{}")) // the caller may be gone
		return http.StatusOK, ""
	case Redirect:
		http.Redirect(w, r, s.redirect, http.StatusFound)
		return http.StatusFound, ""
	}
	return 0, ""
}

// cut ends the connection without an answer.
func cut(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	if conn, _, err := h.Hijack(); err == nil {
		_ = conn.Close() // that it breaks is the purpose
	}
}

func (*Server) writeHuge(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if _, err := w.Write([]byte(`{"ok":true,"padding":"`)); err != nil {
		return
	}
	chunk := []byte(strings.Repeat("x", 64<<10))
	for range hugeBody / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	_, _ = w.Write([]byte(`"}`)) // the caller may be gone
}

func (s *Server) stray(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	s.strayed++
	s.mu.Unlock()
	s.write(w, refuse("strayed"))
}
