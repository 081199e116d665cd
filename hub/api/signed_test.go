package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// signed posts a call that is signed with the org's first secret.
func (c *client) signed(id string, call any, headers ...header) *reply {
	c.t.Helper()
	return c.signedWith(c.signing, id, time.Now(), call, headers...)
}

func (c *client) signedWith(secret, id string, at time.Time, call any, headers ...header) *reply {
	c.t.Helper()
	body, err := json.Marshal(call)
	ok(c.t, err)
	w, err := standardwebhooks.NewWebhook(secret)
	ok(c.t, err)
	signature, err := w.Sign(id, at, body)
	ok(c.t, err)
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/webhooks/calls/"+string(c.org), bytes.NewReader(body))
	ok(c.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", signature)
	for _, h := range headers {
		for k, v := range h {
			req.Header.Set(k, v)
			if v == "" {
				req.Header.Del(k)
			}
		}
	}
	return c.send(req, body)
}

func TestSignedCall(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	first := c.signed("msg_1", aCall("call-1")).is(http.StatusAccepted).want(map[string]any{"/status": "accepted", "/shares/0/decision": "share"})
	if again := c.signed("msg_1", aCall("call-1")).is(http.StatusAccepted); string(again.body) != string(first.body) {
		t.Errorf("another answer: %s, %s", first.body, again.body)
	}
	c.signed("msg_1", aCall("call-2")).problem(http.StatusUnprocessableEntity, codeKeyReused)
	// An Idempotency-Key of the same text is another one.
	c.post("/v1/calls", aCall("call-3"), header{"Idempotency-Key": "msg_1"}).is(http.StatusAccepted).want(map[string]any{"/call_id": "call-3"})
	a := c.get("/v1/audit?call_id=call-1&type=call.accepted").is(http.StatusOK)
	if got := a.text("/items/0/actor"); !strings.HasPrefix(got, "signature:sec_") {
		t.Errorf("actor %q", got)
	}
}

// TestWrongSignatures: 401, the same answer whether there is the org or not,
// and nothing stored.
func TestWrongSignatures(t *testing.T) {
	t.Parallel()
	c := newWorld(t).replica(withAPI(func(cfg *Config) { cfg.FailuresPerAddress = 1000 })).org("org_acme")
	c.hookIntegration()
	nobody := *c
	nobody.org = "org_nobody"
	wild := *c
	wild.org = "No%20Org!"
	now := time.Now()
	before := c.redis.Dump()
	const another = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for name, try := range map[string]func(*client) *reply{
		"another secret": func(c *client) *reply { return c.signedWith(another, "msg_1", now, aCall("call-1")) },
		"stale": func(c *client) *reply {
			return c.signedWith(c.signing, "msg_1", now.Add(-6*time.Minute), aCall("call-1"))
		},
		"from the future": func(c *client) *reply {
			return c.signedWith(c.signing, "msg_1", now.Add(6*time.Minute), aCall("call-1"))
		},
		"another id": func(c *client) *reply { return c.signed("msg_1", aCall("call-1"), header{"webhook-id": "msg_2"}) },
		"another time": func(c *client) *reply {
			return c.signed("msg_1", aCall("call-1"), header{"webhook-timestamp": strconv.FormatInt(now.Unix()-7, 10)})
		},
		"no id":        func(c *client) *reply { return c.signed("msg_1", aCall("call-1"), header{"webhook-id": ""}) },
		"no time":      func(c *client) *reply { return c.signed("msg_1", aCall("call-1"), header{"webhook-timestamp": ""}) },
		"no signature": func(c *client) *reply { return c.signed("msg_1", aCall("call-1"), header{"webhook-signature": ""}) },
		"another version": func(c *client) *reply {
			return c.signed("msg_1", aCall("call-1"), header{"webhook-signature": "v2,AAAA"})
		},
		"a rubbish id":       func(c *client) *reply { return c.signed("msg_1", aCall("call-1"), header{"webhook-id": "a b"}) },
		"wrong, and no call": func(c *client) *reply { return c.signedWith(another, "msg_1", now, "no call") },
	} {
		ours := try(c).problem(http.StatusUnauthorized, codeSignature)
		if ours.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: 401 without WWW-Authenticate", name)
		}
		for _, other := range []*client{&nobody, &wild} {
			theirs := try(other)
			if theirs.status != ours.status || string(theirs.body) != string(ours.body) {
				t.Errorf("%s: whether there is the org shows: %s %s", name, ours.body, theirs.body)
			}
		}
	}
	// A key of the org is no signature.
	c.post("/webhooks/calls/org_acme", aCall("call-1")).problem(http.StatusUnauthorized, codeSignature)
	if c.redis.Dump() != before {
		t.Error("something was stored")
	}
}

// TestSecretsRotate: two secrets hold at once; one that was deleted holds no
// more, at every replica and at once, also for what was answered before.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.replica(), w.replica()
	c := first.org("org_acme")
	there := c.at(second)
	there.signed("msg_1", aCall("call-1")).is(http.StatusAccepted) // in its cache
	made := c.post("/v1/signing-secrets", nil).is(http.StatusCreated)
	c.post("/v1/signing-secrets", nil).problem(http.StatusConflict, codeTooManySecrets)
	there.signedWith(made.text("/secret"), "msg_2", time.Now(), aCall("call-2")).is(http.StatusAccepted)
	there.signed("msg_3", aCall("call-3")).is(http.StatusAccepted)
	a := c.get("/v1/signing-secrets").is(http.StatusOK)
	if a.len("/items") != 2 || strings.Contains(string(a.body), "whsec_") {
		t.Errorf("the list of secrets: %s", a.body)
	}
	c.do(http.MethodDelete, "/v1/signing-secrets/"+a.text("/items/0/id"), nil).is(http.StatusNoContent)
	there.signed("msg_1", aCall("call-1")).problem(http.StatusUnauthorized, codeSignature)
	c.do(http.MethodDelete, "/v1/signing-secrets/"+a.text("/items/0/id"), nil).problem(http.StatusNotFound, codeNotFound)
	there.signed("msg_4", aCall("call-4")).problem(http.StatusUnauthorized, codeSignature)
	there.signedWith(made.text("/secret"), "msg_5", time.Now(), aCall("call-5")).is(http.StatusAccepted)
}
