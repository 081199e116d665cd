package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/outbound"
)

// Push implements [connectors.Connector]. Each item is a request of its own;
// up to 32 are under way at once.
func (c *Connector) Push(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.sendAll(ctx, "push", a, items, payload)
}

// Update implements [connectors.Updater].
func (c *Connector) Update(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.sendAll(ctx, "update", a, items, payload)
}

// Erase implements [connectors.Eraser] as far as a webhook can: Delivered means
// that the receiver has taken the message that tells it to remove the copy.
// There is nothing to read back.
func (c *Connector) Erase(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.sendAll(ctx, "erase", a, items, func(item connectors.Item) (string, []byte, error) {
		body, err := erasure(item)
		return item.Key + ".erased", body, err
	})
}

// Reconcile implements [connectors.Reconciler]. A receiver cannot be asked, but
// sending again is harmless to one that follows the specification: the message
// keeps its webhook-id.
func (*Connector) Reconcile(_ context.Context, _ connectors.Account, items []connectors.Item) []connectors.Finding {
	out := make([]connectors.Finding, len(items))
	for i := range out {
		out[i].Verdict = connectors.Repeatable
	}
	return out
}

// payload returns the message of an item that was rendered. Its id is the same
// in every attempt, and another one for every other content: were a revision
// sent again under a narrower grant, a receiver that saw the wider one must not
// take it for a repetition.
func payload(item connectors.Item) (id string, body []byte, err error) {
	if item.Release == nil || len(item.Payload.Body) == 0 {
		return "", nil, errors.New("not rendered")
	}
	sum := sha256.Sum256(item.Payload.Body)
	return item.Key + "." + strconv.Itoa(item.Release.Revision()) + "." + hex.EncodeToString(sum[:6]), item.Payload.Body, nil
}

// sendAll sends the message of each item and returns when all have ended.
func (c *Connector) sendAll(
	ctx context.Context, op string, a connectors.Account, items []connectors.Item,
	message func(connectors.Item) (id string, body []byte, err error),
) []connectors.Outcome {
	sign, err := signer(a.Token)
	if err != nil {
		return connectors.FailAll(len(items), &connectors.Error{
			Class: connectors.Unauthorized, Op: op, Code: "bad_secret", Permanent: true, Reach: connectors.ReachConnection,
			Detail: "the connection's signing secret cannot be used; connect the webhook again with another one",
		})
	}
	out := make([]connectors.Outcome, len(items))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(items), inFlight) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(items); i = int(next.Add(1)) - 1 {
				out[i] = c.send(ctx, op, a, sign, items[i], message)
			}
		})
	}
	wg.Wait()
	return out
}

// send sends the message of one item.
func (c *Connector) send(
	ctx context.Context, op string, a connectors.Account, sign *standardwebhooks.Webhook, item connectors.Item,
	message func(connectors.Item) (id string, body []byte, err error),
) connectors.Outcome {
	id, body, err := message(item)
	if err != nil {
		return connectors.Failed(&connectors.Error{Class: connectors.Rejected, Op: op, Code: "unusable", Detail: "there is nothing that could be sent", Err: err})
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := request(ctx, a.BaseURL, sign, id, body)
	if err != nil {
		return connectors.Failed(&connectors.Error{
			Class: connectors.Rejected, Op: op, Code: "bad_address", Reach: connectors.ReachConnection, Err: err,
			Detail: "the connection's address cannot be used; connect the webhook again",
		})
	}
	resp, err := a.HTTP.Do(r)
	if err != nil {
		return connectors.Failed(noAnswer(op, err))
	}
	defer resp.Body.Close()
	if e := refusal(op, resp); e != nil {
		return connectors.Failed(e)
	}
	// The status is the confirmation. What little body there may be is read so
	// that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, drain)
	return connectors.Done(receipt(id, item))
}

// drain is how much of a body is read, in bytes.
const drain = 4 << 10

func receipt(id string, item connectors.Item) connectors.Receipt {
	r := connectors.Receipt{"webhook_id": id}
	if item.Release != nil {
		r[memberCall] = string(item.Release.Content().ID)
	} else if call := item.Receipt[memberCall]; call != "" {
		r[memberCall] = call
	}
	return r
}

// request returns the signed request.
func request(ctx context.Context, address string, sign *standardwebhooks.Webhook, id string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	signature, err := sign.Sign(id, now, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Callbridge")
	r.Header.Set(standardwebhooks.HeaderWebhookID, id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return r, nil
}

// noAnswer classifies the error of a request that got no answer.
func noAnswer(op string, err error) *connectors.Error {
	e := &connectors.Error{Class: connectors.Unknown, Op: op, Reach: connectors.ReachConnection, Err: err}
	switch {
	case errors.Is(err, outbound.ErrNotPublic), errors.Is(err, outbound.ErrElsewhere):
		e.Class, e.Code = connectors.Rejected, "address_refused"
		e.Detail = "the host's address is not on the public internet, so nothing was sent; use a public host, or have the operator allow this one"
	case errors.Is(err, context.Canceled):
		e.Code, e.Detail = "cancelled", "the service was asked to stop before the receiver had answered"
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Detail = "timeout", "the receiver did not answer in time; it should answer first and work afterwards"
	default:
		e.Code, e.Detail = "connection_cut", "the connection ended before the receiver had answered"
	}
	if e.Class == connectors.Unknown && outbound.NotSent(err) {
		e.Class = connectors.Transient
		if e.Code == "connection_cut" {
			e.Code, e.Detail = "unreachable", "no connection could be made to the receiver; see whether its host name, its certificate and its port 443 are in order"
		}
	}
	return e
}

// refusal classifies an answer; nil means that the receiver took the message.
func refusal(op string, resp *http.Response) *connectors.Error {
	status := resp.StatusCode
	e := &connectors.Error{Op: op, Status: status, Code: "http_" + strconv.Itoa(status)}
	after, said := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	switch {
	case status >= 200 && status <= 299:
		return nil
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && said:
		e.Class, e.RetryAfter, e.Reach = connectors.RateLimited, after, connectors.ReachConnection
		e.Detail = "the receiver asks to be sent less for a while"
	case status == http.StatusServiceUnavailable, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		e.Class, e.Reach = connectors.Transient, connectors.ReachConnection
		e.Detail = "the receiver says that it could not take the message now"
	case status >= 500:
		e.Class, e.Reach = connectors.Unknown, connectors.ReachConnection
		e.Detail = fmt.Sprintf("the receiver failed with status %d, and may have taken the message or not", status)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Class, e.Permanent, e.Reach = connectors.Unauthorized, true, connectors.ReachConnection
		e.Detail = "the receiver does not accept our signature; connect the webhook again with the secret that the receiver has"
	case status == http.StatusGone:
		e.Class, e.Permanent, e.Reach = connectors.Unauthorized, true, connectors.ReachConnection
		e.Detail = "the receiver says that this address is no longer in use; connect the webhook again with the new one"
	case status >= 300 && status <= 399:
		e.Class = connectors.Rejected
		e.Detail = "the receiver answers with a redirect, which is not followed; connect the webhook with the final address"
	default:
		e.Class = connectors.Rejected
		e.Detail = fmt.Sprintf("the receiver refused the message with status %d; its log should say why", status)
	}
	return e
}

// Bounds of a wait that the receiver asks for.
const (
	defaultRetryAfter = 30 * time.Second
	maxRetryAfter     = 24 * time.Hour
)

// retryAfter reads a Retry-After header, which is a number of seconds or a
// date, RFC 9110 section 10.2.3. said is false if there is none that can be
// read; the wait is then the default.
func retryAfter(h string, now time.Time) (wait time.Duration, said bool) {
	if s, err := strconv.ParseUint(h, 10, 32); err == nil {
		return min(max(time.Duration(s)*time.Second, time.Second), maxRetryAfter), true
	}
	if t, err := http.ParseTime(h); err == nil {
		return min(max(t.Sub(now), time.Second), maxRetryAfter), true
	}
	return defaultRetryAfter, false
}
