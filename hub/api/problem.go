package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/hub/store"
)

const problemType = "application/problem+json"

// problem is an error as clients see it: a problem document after RFC 9457.
type problem struct {
	Type   string           `json:"type" example:"urn:callbridge:problem:invalid_input" doc:"Names the kind of problem. Ends in its code."`
	Title  string           `json:"title" example:"The request is not as it must be" doc:"The kind of problem in a few words; the same for every problem of the kind."`
	Status int              `json:"status" minimum:"400" maximum:"599" example:"422" doc:"The HTTP status."`
	Detail string           `json:"detail" example:"Some members of the request are not as they must be." doc:"A sentence about this one problem: the thing, the cause, the next step. It holds nothing of the request's values."`
	Code   string           `json:"code" example:"invalid_input" doc:"The kind of problem, for programs. Codes are stable; there may be new ones."`
	Errors []hub.FieldError `json:"errors,omitempty" nullable:"false" doc:"With invalid input one entry for each member that is wrong."`

	header http.Header
}

// What huma asks of an error that a handler returns.
var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
)

// Error implements error, and the others what huma asks.
func (p *problem) Error() string           { return p.Code + ": " + p.Detail }
func (p *problem) GetStatus() int          { return p.Status }
func (p *problem) GetHeaders() http.Header { return p.header }
func (*problem) ContentType(string) string { return problemType }

// The codes of problems. Refusals of connectors and of package admin add their
// own.
const (
	codeMalformedJSON  = "malformed_json"
	codeInvalid        = "invalid_input"
	codeInvalidKey     = "invalid_idempotency_key"
	codeKeyReused      = "idempotency_key_reused"
	codeUnauthorized   = "unauthorized"
	codeSignature      = "invalid_signature"
	codeForbidden      = "forbidden"
	codeNotFound       = "not_found"
	codeMethod         = "method_not_allowed"
	codeTimeout        = "request_timeout"
	codeBodyBroken     = "body_incomplete"
	codeTooLarge       = "body_too_large"
	codeMediaType      = "unsupported_media_type"
	codeRateLimited    = "rate_limited"
	codeQueueFull      = "queue_full"
	codeInternal       = "internal_error"
	codeProvider       = "provider_unreachable"
	codeStore          = "store_unavailable"
	codeConfiguration  = "configuration_busy"
	codeNotReady       = "not_ready"
	codeTermsOutdated  = "terms_outdated"
	codeWrongState     = "wrong_state"
	codeSuperseded     = "superseded"
	codeTooManySecrets = "too_many_secrets"
)

// title says a code in a few words.
func title(code string, status int) string {
	switch code {
	case codeMalformedJSON:
		return "The body is not JSON"
	case codeInvalid:
		return "The request is not as it must be"
	case codeInvalidKey:
		return "The idempotency key is not as it must be"
	case codeKeyReused:
		return "The idempotency key was used with another body"
	case codeUnauthorized:
		return "A valid API key is required"
	case codeSignature:
		return "The signature is not valid"
	case codeForbidden:
		return "The key may not do this"
	case codeNotFound:
		return "There is no such thing"
	case codeMethod:
		return "The method is not allowed here"
	case codeTimeout:
		return "The body took too long to arrive"
	case codeBodyBroken:
		return "The body did not arrive as a whole"
	case codeTooLarge:
		return "The body is too large"
	case codeMediaType:
		return "The body must be JSON"
	case codeRateLimited:
		return "Too many requests"
	case codeQueueFull:
		return "Too many transfers wait"
	case codeInternal:
		return "Something went wrong here"
	case codeProvider:
		return "The provider could not be reached"
	case codeStore:
		return "The store cannot be reached"
	case codeConfiguration:
		return "The configuration is being changed"
	case codeNotReady:
		return "Calls cannot be accepted"
	case codeTermsOutdated:
		return "The terms have changed"
	case codeWrongState:
		return "This does not fit the state it is in"
	case codeSuperseded:
		return "Something newer took its place"
	case codeTooManySecrets:
		return "There are too many signing secrets"
	}
	return http.StatusText(status)
}

func newProblem(status int, code, detail string, errs ...hub.FieldError) *problem {
	return &problem{
		Type: "urn:callbridge:problem:" + code, Title: title(code, status), Status: status,
		Detail: detail, Code: code, Errors: errs,
	}
}

// with adds a header to the answer.
func (p *problem) with(name, value string) *problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

// after says when trying again may help. Seconds are rounded up.
func (p *problem) after(d time.Duration) *problem {
	return p.with("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
}

// invalidInput is the problem of a request with wrong members.
func invalidInput(errs ...hub.FieldError) *problem {
	return newProblem(http.StatusUnprocessableEntity, codeInvalid, "Some members of the request are not as they must be.", errs...)
}

func malformed(detail string) *problem {
	return newProblem(http.StatusBadRequest, codeMalformedJSON, "The body is not a JSON document: "+detail+".")
}

func notFound() *problem {
	return newProblem(http.StatusNotFound, codeNotFound, "There is no such thing in this org.")
}

func unauthorized(detail string) *problem {
	return newProblem(http.StatusUnauthorized, codeUnauthorized, detail).with("WWW-Authenticate", `Bearer realm="callbridge"`)
}

func rateLimited(wait time.Duration, detail string) *problem {
	return newProblem(http.StatusTooManyRequests, codeRateLimited, detail).after(wait)
}

// problemOf is the one place where an error becomes a status. What it does not
// know is a fault of ours: its text stays here.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*admin.Invalid](err); ok {
		return newProblem(http.StatusUnprocessableEntity, e.Code, e.Detail, e.Errors...)
	}
	if e, ok := errors.AsType[*admin.Conflict](err); ok {
		return newProblem(http.StatusConflict, e.Code, e.Detail)
	}
	if e, ok := errors.AsType[*admin.Unreachable](err); ok {
		return newProblem(http.StatusBadGateway, codeProvider, e.Detail)
	}
	if e, ok := errors.AsType[*intake.FullError](err); ok {
		detail := fmt.Sprintf("%d transfers of this org wait already. The call was not stored; post it again later.", e.Waiting)
		return newProblem(http.StatusTooManyRequests, codeQueueFull, detail).after(e.RetryAfter)
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return newProblem(http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("The body may have at most %d bytes.", e.Limit))
	}
	switch {
	case errors.Is(err, admin.ErrNotFound), errors.Is(err, store.ErrNotFound):
		return notFound()
	case errors.Is(err, admin.ErrUnauthenticated), errors.Is(err, intake.ErrSender):
		return unauthorized("The API key is not valid, or was revoked.")
	case errors.Is(err, store.ErrKeyReused):
		return newProblem(http.StatusUnprocessableEntity, codeKeyReused, "The idempotency key was used with another body. Use a new key for a new request.")
	case unavailable(err):
		return newProblem(http.StatusServiceUnavailable, codeStore, "The store cannot be reached at the moment. Whether a change was made is unknown; a call can be posted again safely.").after(2 * time.Second)
	case errors.Is(err, store.ErrStale), errors.Is(err, store.ErrConflict):
		return newProblem(http.StatusServiceUnavailable, codeConfiguration, "The org's configuration is being changed all the time. Nothing was stored; try again.").after(time.Second)
	}
	return newProblem(http.StatusInternalServerError, codeInternal, "Something went wrong here. The operator finds it in the log under the X-Request-Id of this answer.")
}

// unavailable reports whether err means that the store cannot be used at the
// moment: it is not there, does not answer in time, or says so itself.
func unavailable(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, e := range []error{context.DeadlineExceeded, context.Canceled, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	// Redis' own words reach us as text: its client stays in hub/store.
	for ; err != nil; err = errors.Unwrap(err) {
		for _, begin := range []string{
			"LOADING ", "READONLY ", "CLUSTERDOWN", "MASTERDOWN ", "TRYAGAIN ", "NOREPLICAS ", "OOM ", "MISCONF ", "BUSY ",
			"redis: connection pool", "redis: client is closed", "redis: all sentinels",
		} {
			if strings.HasPrefix(err.Error(), begin) {
				return true
			}
		}
	}
	return false
}

// problem turns an error into its problem, and logs what clients are not told.
func (a *API) problem(ctx context.Context, err error) *problem {
	p := problemOf(err)
	switch {
	case ctx.Err() != nil && p.Status >= http.StatusInternalServerError:
		a.log.DebugContext(ctx, "request given up by its client", "request_id", RequestID(ctx), "error", err)
	case p.Status == http.StatusInternalServerError:
		a.log.ErrorContext(ctx, "request failed", "request_id", RequestID(ctx), "error", err)
	case p.Status > http.StatusInternalServerError:
		a.log.WarnContext(ctx, "request not served", "request_id", RequestID(ctx), "code", p.Code, "error", err)
	}
	return p
}

// refuse answers with a problem.
func (a *API) refuse(ctx context.Context, w http.ResponseWriter, err error) {
	p := a.problem(ctx, err)
	maps.Copy(w.Header(), p.header)
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		a.log.DebugContext(ctx, "answer not written", "request_id", RequestID(ctx), "error", err)
	}
}

// transform makes problem documents of the errors that huma itself finds, in
// parameters. Its texts are plain; the values it would repeat are left out.
func transform(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	if m.Status != http.StatusUnprocessableEntity {
		return problemOf(errors.New("api: huma: an error of an unexpected kind")), nil
	}
	p := invalidInput()
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, hub.FieldError{Pointer: pointerOf(e.Location), Detail: plainly(e.Message)})
	}
	return p, nil
}

// pointerOf turns a location of huma, such as "query.limit" or
// "body.fields[0]", into a JSON pointer: "/limit", "/fields/0". A parameter is
// pointed at as if it were a member of the request.
func pointerOf(location string) string {
	_, path, ok := strings.Cut(location, ".")
	if !ok {
		return ""
	}
	var b strings.Builder
	for step := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		b.WriteByte('/')
		b.WriteString(escapePointer(step))
	}
	return b.String()
}

func escapePointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// plainly says a message of huma's as the rest of the API speaks.
func plainly(message string) string {
	if rest, ok := strings.CutPrefix(message, "expected "); ok {
		return "must be: " + rest
	}
	switch message {
	case "unknown query parameter":
		return "is not a parameter of this request"
	case "invalid integer":
		return "must be a whole number"
	}
	return message
}
