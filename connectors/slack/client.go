package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	api "github.com/slack-go/slack"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/outbound"
)

// Methods of the Web API whose failures are told apart.
const (
	methodPost   = "chat.postMessage"
	methodUpdate = "chat.update"
	methodDelete = "chat.delete"
	methodRevoke = "auth.revoke"
)

// maxAnswer bounds an answer of Slack's. A page of history is the largest we
// ask for.
const maxAnswer = 4 << 20

// client returns the library's client for an account.
func (c *connector) client(a connectors.Account) *api.Client {
	return api.New(a.Token.Reveal(),
		api.OptionHTTPClient(&http.Client{
			Transport:     guard{next: a.HTTP, timeout: c.timeout},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		api.OptionAPIURL(endpoint(a)))
}

func endpoint(a connectors.Account) string { return a.BaseURL + "/" }

// guard stands between the library and the network. It lets pass only answers
// that say yes, and turns everything else into an [*connectors.Error] before
// the library sees it, which would take {} for success, drop an error code it
// cannot decode the rest of, and read bodies of any size.
type guard struct {
	next    *http.Client
	timeout time.Duration
}

// envelope is what every answer of Slack's has around it.
type envelope struct {
	OK               *bool  `json:"ok"`
	Error            string `json:"error"`
	Needed           string `json:"needed"`
	Provided         string `json:"provided"`
	ResponseMetadata struct {
		Messages []string `json:"messages"`
	} `json:"response_metadata"`
}

// RoundTrip sends r and returns the answer if it says ok.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	method := path.Base(r.URL.Path)
	ctx, cancel := context.WithTimeout(r.Context(), g.timeout)
	defer cancel()
	out := r.Clone(ctx)
	out.RequestURI = ""
	resp, err := g.next.Do(out) //nolint:gosec // the client reaches the account's host only
	if err != nil {
		return nil, lost(method, ctx, err)
	}
	defer resp.Body.Close()
	if err := statusError(method, resp); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, lost(method, ctx, err)
	case len(body) > maxAnswer:
		return nil, answerError(method, "answer_too_large", "Slack's answer is larger than any it should give")
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		e = envelope{} // the code alone may still be readable
		var least struct {
			OK    *bool  `json:"ok"`
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &least) != nil {
			return nil, answerError(method, "unreadable_answer", "Slack's answer is not in its format")
		}
		e.OK, e.Error = least.OK, least.Error
	}
	if e.OK == nil || !*e.OK {
		return nil, codeError(method, e)
	}
	if strings.HasPrefix(method, "chat.") {
		if body, err = chatAnswer(body); err != nil {
			return nil, answerError(method, "unreadable_answer", "Slack's answer is not in its format")
		}
	}
	return &http.Response{
		Status: resp.Status, StatusCode: resp.StatusCode, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}

// chatAnswer keeps of an answer what we need. It repeats the whole message, and
// the library decodes every block of it: one that it does not know would make
// a message that was posted one of which nothing is known.
func chatAnswer(body []byte) ([]byte, error) {
	least := struct {
		OK      bool   `json:"ok"`
		Channel string `json:"channel"`
		TS      string `json:"ts"`
	}{}
	if err := json.Unmarshal(body, &least); err != nil {
		return nil, err
	}
	return json.Marshal(least)
}

// answerError is the end of a request that was answered, but not in a way that
// tells what happened.
func answerError(method, code, detail string) *connectors.Error {
	return &connectors.Error{Class: unclear(method), Op: method, Status: http.StatusOK, Code: code, Detail: detail}
}

// lost is the end of a request without an answer.
func lost(method string, ctx context.Context, cause error) *connectors.Error { //nolint:revive // the context tells why, and is not passed on
	e := &connectors.Error{Class: unclear(method), Op: method, Code: "connection_cut", Detail: "the connection to Slack broke before its answer", Err: cause}
	switch {
	case notSent(cause):
		e.Class, e.Code, e.Detail, e.Reach = connectors.Transient, "not_reachable", "Slack could not be reached", connectors.ReachConnection
	case errors.Is(cause, outbound.ErrTooLarge):
		e.Code, e.Detail = "answer_too_large", "Slack's answer is larger than any it should give"
	case ctx.Err() != nil:
		e.Code, e.Detail = "timeout", "Slack did not answer in time"
	}
	return e
}

// notSent reports whether the request certainly did not reach Slack.
func notSent(err error) bool {
	if outbound.NotSent(err) {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// statusError returns what an HTTP status means, nil for 200.
func statusError(method string, resp *http.Response) error {
	e := &connectors.Error{Op: method, Status: resp.StatusCode, Code: "http_" + strconv.Itoa(resp.StatusCode)}
	switch s := resp.StatusCode; {
	case s == http.StatusOK:
		return nil
	case s == http.StatusTooManyRequests:
		e.Class, e.Code, e.Detail = connectors.RateLimited, "ratelimited", "Slack asks for a slower pace"
		e.RetryAfter, e.Reach = retryAfter(resp.Header), limitReach(method)
	case s == http.StatusServiceUnavailable:
		// Said by what stands in front of Slack's servers when no server takes
		// the request; one that did answers 500, 502 or 504.
		e.Class, e.Detail = connectors.Transient, "Slack is not available at the moment"
		e.Reach = connectors.ReachConnection
	case s >= http.StatusInternalServerError, s == http.StatusRequestTimeout:
		e.Class, e.Detail = unclear(method), "Slack had an internal error, and the operation may have succeeded all the same"
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		e.Class, e.Detail, e.Reach = connectors.Unauthorized, "Slack refuses the access token", connectors.ReachConnection
	case s >= http.StatusBadRequest:
		e.Class, e.Detail = connectors.Rejected, "Slack refuses the request"
	case s >= http.StatusMultipleChoices:
		e.Class, e.Code, e.Detail = unclear(method), "redirect", "Slack's address answers with a redirect, which is not followed"
	default:
		e.Class, e.Detail = unclear(method), "Slack answered in a way that is not its own"
	}
	return e
}

// retryAfter reads the header in seconds or as a date: a second at least and a
// day at most.
func retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	var wait time.Duration
	if n, err := strconv.Atoi(v); err == nil && n >= 0 && n <= int(maxRetryAfter.Seconds()) {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		wait = time.Until(at).Round(time.Second)
	} else {
		return defaultRetryAfter
	}
	return min(max(wait, time.Second), maxRetryAfter)
}

// asError returns the *connectors.Error in what the library returned. What
// the guard let pass and the library could not decode was answered with yes.
func asError(method string, err error) *connectors.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*connectors.Error](err); ok {
		return e
	}
	return answerError(method, "unreadable_answer", "Slack's answer is not in its format")
}
