package salesforce

// This file is the only one that talks to Salesforce, and the only one that
// knows simpleforce and go-retryablehttp.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/simpleforce/simpleforce"

	"github.com/optiwe/callbridge/connectors"
)

const (
	// maxBody bounds an answer. The largest that is asked for is the
	// description of an object with many custom fields.
	maxBody = 8 << 20

	// maxPages bounds how many pages of 2,000 rows a query may have.
	maxPages = 5

	// readRetryWait is the wait before a read is tried again; see
	// [retryRead].
	readRetryWait = 100 * time.Millisecond

	// noSession stands where simpleforce wants the access token. It never
	// leaves the process: the library's Authorization header is removed, and
	// the account's client adds the true one.
	noSession = "-"
)

// api is the way to one account for one operation. It holds nothing that a
// second goroutine could disturb.
type api struct {
	account connectors.Account
	version string
	timeout time.Duration
	op      string
}

// call sends a request to the data API and returns the body of its 2xx answer.
// path is relative to the version, without a leading slash.
func (a *api) call(ctx context.Context, method, path string, body []byte) ([]byte, *connectors.Error) {
	var out []byte
	err := a.withClient(ctx, method == http.MethodGet, func(c *simpleforce.Client) error {
		var in io.Reader
		if body != nil {
			in = bytes.NewReader(body)
		}
		var err error
		out, err = c.ApexREST(method, "services/data/v"+a.version+"/"+path, in)
		return err
	})
	return out, err
}

// query returns the live records that a statement selects.
func (a *api) query(ctx context.Context, soql string) ([]record, *connectors.Error) {
	rows, complete, err := a.pages(ctx, soql)
	if err != nil {
		return nil, err
	}
	if !complete {
		return nil, unreadable(a.op, true)
	}
	return rows, nil
}

// pages is [api.query] for a result that may have more rows than are worth
// reading: complete is then false.
func (a *api) pages(ctx context.Context, soql string) (rows []record, complete bool, failure *connectors.Error) {
	next := soql
	for range maxPages {
		var res *simpleforce.QueryResult
		if err := a.withClient(ctx, true, func(c *simpleforce.Client) error {
			var err error
			res, err = c.Query(next)
			return err
		}); err != nil {
			return nil, false, err
		}
		for _, r := range res.Records {
			rows = append(rows, record(r))
		}
		if res.Done {
			// A result that says it is complete and is not, is not an answer.
			if res.TotalSize != len(rows) {
				return nil, false, unreadable(a.op, true)
			}
			return rows, true, nil
		}
		if !strings.HasPrefix(res.NextRecordsURL, "/services/data/") {
			return nil, false, unreadable(a.op, true)
		}
		next = res.NextRecordsURL
	}
	return rows, false, nil
}

// queryAll is like [api.query] and also sees records that are archived or in
// the recycle bin. Its result must fit on one page.
func (a *api) queryAll(ctx context.Context, soql string) ([]record, *connectors.Error) {
	body, failure := a.call(ctx, http.MethodGet, "queryAll?q="+url.QueryEscape(soql), nil)
	if failure != nil {
		return nil, failure
	}
	var page struct {
		TotalSize int      `json:"totalSize"`
		Done      bool     `json:"done"`
		Records   []record `json:"records"`
	}
	if err := json.Unmarshal(body, &page); err != nil || !page.Done || page.TotalSize != len(page.Records) {
		return nil, unreadable(a.op, true)
	}
	return page.Records, nil
}

// record is a row of a query.
type record map[string]any

// text returns a text field, reached through one relationship if the name has
// a dot; "" where there is none.
func (r record) text(name string) string {
	if relation, field, ok := strings.Cut(name, "."); ok {
		nested, _ := r[relation].(map[string]any)
		return record(nested).text(field)
	}
	s, _ := r[name].(string)
	return s
}

// withClient lets use work with a simpleforce client of its own; the library
// has data races where one is shared. Three of its habits are kept harmless
// here. It knows no context, no limit of an answer and no host but the one in
// the URL: [api.send] sees to these. It loses or misreads errors, panics on
// some bodies, and prints failing URLs and bodies with the standard logger: it
// is shown an empty success in place of every failure, and so has nothing to
// print; the failure itself is returned past it. And a body that is JSON but
// not what was asked for can still make it panic, which is recovered.
func (a *api) withClient(ctx context.Context, read bool, use func(*simpleforce.Client) error) (failure *connectors.Error) {
	base, err := url.Parse(a.account.BaseURL)
	if err != nil || base.Host == "" {
		return &connectors.Error{Class: connectors.Rejected, Op: a.op, Code: "bad_address", Detail: "the connection's address is not one"}
	}
	c := simpleforce.NewClient(a.account.BaseURL, "callbridge", a.version)
	c.SetSidLoc(noSession, a.account.BaseURL)
	var failed *connectors.Error
	c.SetHttpClient(&http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		body, e := a.send(ctx, base, r)
		if e != nil {
			failed, body = e, []byte("{}")
		}
		return &http.Response{
			Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
		}, nil
	})})
	defer func() {
		if recover() != nil {
			failure = unreadable(a.op, read)
		}
		if failed != nil {
			failure = failed
		}
	}()
	if err := use(c); err != nil {
		return unreadable(a.op, read)
	}
	return nil
}

// roundTripper makes a function an [http.RoundTripper].
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// send sends r and returns the body of a 2xx answer. Everything else is an
// error, classified.
func (a *api) send(ctx context.Context, base *url.URL, r *http.Request) ([]byte, *connectors.Error) {
	read := r.Method == http.MethodGet
	if !strings.EqualFold(r.URL.Host, base.Host) || r.URL.Scheme != base.Scheme {
		return nil, &connectors.Error{Class: connectors.Rejected, Op: a.op, Code: "foreign_host", Detail: "the request was for another host than the connection's and was not sent"}
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var began atomic.Bool // a connection was had: from then on the request may have been read
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { began.Store(true) }})
	out := r.Clone(traced)
	out.Header.Del("Authorization")
	out.Header.Set("Accept", "application/json")
	resp, err := a.do(out)
	if err != nil {
		return nil, noAnswer(a.op, err, read || !began.Load())
	}
	defer resp.Body.Close()
	a.tellBudget(resp.Header)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refusedCall(a.op, read, resp.StatusCode, resp.Header, body)
	}
	if len(body) > maxBody {
		return nil, tooLarge(a.op, read)
	}
	if err != nil {
		return nil, noAnswer(a.op, err, read)
	}
	return body, nil
}

// do sends r. A read that found no connection, or whose connection was reset,
// is tried once more at once: Salesforce's edge drops idle connections, and a
// batch of 200 calls should not wait for its next turn for that. Nothing else is
// repeated here, because the hub owns retries; never a write, although an upsert
// by external id would bear it.
func (a *api) do(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		return a.account.HTTP.Do(r) //nolint:gosec // G704: send has checked that it goes to the connection's host
	}
	rc := &retryablehttp.Client{
		// Not the account's client itself: retryablehttp closes the idle
		// connections of its client when it gives up, and those are shared.
		HTTPClient: &http.Client{
			Transport:     roundTripper(a.account.HTTP.Do),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     1,
		CheckRetry:   retryRead,
		Backoff:      func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return readRetryWait },
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	req, err := retryablehttp.FromRequest(r)
	if err != nil {
		return nil, err
	}
	return rc.Do(req)
}

// retryRead is the CheckRetry of reads; see [api.do].
func retryRead(ctx context.Context, _ *http.Response, err error) (bool, error) {
	if err == nil || ctx.Err() != nil {
		return false, nil //nolint:nilerr // the error itself goes to the caller
	}
	op, ok := errors.AsType[*net.OpError](err)
	return (ok && op.Op == "dial") || errors.Is(err, syscall.ECONNRESET), nil
}

// limitInfo finds the org's figures in Sforce-Limit-Info, which may also hold
// those of the app: "api-usage=18/5000; per-app-api-usage=17/250(appName=x)".
var limitInfo = regexp.MustCompile(`(?:^|[;,\s])api-usage=(\d{1,9})/(\d{1,9})`)

// parseLimitInfo reads a Sforce-Limit-Info header.
func parseLimitInfo(h string) (connectors.Budget, bool) {
	m := limitInfo.FindStringSubmatch(h)
	if m == nil {
		return connectors.Budget{}, false
	}
	used, err := strconv.Atoi(m[1])
	limit, err2 := strconv.Atoi(m[2])
	return connectors.Budget{Used: used, Limit: limit}, err == nil && err2 == nil && limit > 0
}

func (a *api) tellBudget(h http.Header) {
	if a.account.OnBudget == nil {
		return
	}
	if b, ok := parseLimitInfo(h.Get("Sforce-Limit-Info")); ok {
		a.account.OnBudget(b)
	}
}

// revoke makes Salesforce forget the account's token. It goes past simpleforce,
// which sends JSON only.
func (a *api) revoke(ctx context.Context) *connectors.Error {
	base, err := url.Parse(a.account.BaseURL)
	if err != nil || base.Host == "" {
		return &connectors.Error{Class: connectors.Rejected, Op: a.op, Code: "bad_address", Detail: "the connection's address is not one"}
	}
	form := url.Values{"token": {a.account.Token.Reveal()}}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.account.BaseURL+"/services/oauth2/revoke", strings.NewReader(form))
	if err != nil {
		return &connectors.Error{Class: connectors.Rejected, Op: a.op, Code: "bad_address", Detail: "the connection's address is not one"}
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, failure := a.send(ctx, base, r)
	if failure == nil {
		return nil
	}
	switch failure.Code {
	case "invalid_token", "unsupported_token_type", codeSession: // it was invalid already
		return nil
	}
	if failure.Class == connectors.Unauthorized {
		return nil
	}
	return failure
}
