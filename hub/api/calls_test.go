package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/optiwe/callbridge/test/samples"
)

func TestPostCall(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	id := c.hookIntegration()
	first := c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).want(map[string]any{
		"/call_id": "call-1", "/revision": 1, "/status": "accepted", "/shares/0/integration_id": id,
		"/shares/0/provider": "webhook", "/shares/0/decision": "share", "/shares/0/reason": nil, "/shares/0/grant": 1,
	})
	if first.text("/shares/0/transfer_id") == "" {
		t.Errorf("no transfer: %s", first.body)
	}
	c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).want(map[string]any{
		"/revision": 1, "/status": "unchanged", "/shares/0/transfer_id": first.text("/shares/0/transfer_id"),
	})
	c.post("/v1/calls", aCall("call-1", map[string]any{"title": "Another title"})).is(http.StatusAccepted).want(map[string]any{
		"/revision": 2, "/status": "accepted",
	})
	c.post("/v1/calls", aCall("call-2", map[string]any{"visibility": "private"})).is(http.StatusAccepted).want(map[string]any{
		"/shares/0/decision": "withheld", "/shares/0/reason": "private_call", "/shares/0/transfer_id": nil,
	})
}

// TestSamplesConform: what real producers post is what the document describes.
func TestSamplesConform(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	all, err := samples.Load()
	ok(t, err)
	for _, s := range all {
		c.post("/v1/calls", s.Raw).is(http.StatusAccepted)
	}
	// With everything optional null, as the format allows.
	null := map[string]any{}
	for _, name := range []string{
		"direction", "medium", "visibility", "recording_consent", "language", "url", "recording_url", "transcript_url", "participants", "account",
		"crm", "key_points", "next_steps", "topics", "sentiment", "talk_ratio", "risks", "competitors", "disposition", "tags", "custom",
	} {
		null[name] = nil
	}
	c.post("/v1/calls", aCall("call-null", null)).is(http.StatusAccepted)
	c.post("/v1/calls", aCall("call-parts", map[string]any{
		"participants": []any{map[string]any{"name": nil, "email": nil, "phone": nil, "title": nil, "company": nil, "side": nil}},
		"account":      map[string]any{"name": nil, "domain": nil}, "next_steps": []any{map[string]any{"text": "x", "owner_email": nil, "due_on": nil}},
		"custom": map[string]any{"a": nil, "b": "text", "c": 1.5, "d": true},
	})).is(http.StatusAccepted)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	key := header{"Idempotency-Key": "order 66"}
	first := c.post("/v1/calls", aCall("call-1"), key).is(http.StatusAccepted)
	again := c.post("/v1/calls", aCall("call-1"), key).is(http.StatusAccepted)
	if string(first.body) != string(again.body) {
		t.Errorf("another answer: %s, %s", first.body, again.body)
	}
	before := c.redis.Dump()
	c.post("/v1/calls", aCall("call-2"), key).problem(http.StatusUnprocessableEntity, codeKeyReused)
	for _, bad := range []string{strings.Repeat("k", 256), "schlüssel", "tab\there"} {
		c.post("/v1/calls", aCall("call-3"), header{"Idempotency-Key": bad}).problem(http.StatusUnprocessableEntity, codeInvalidKey)
	}
	if c.redis.Dump() != before {
		t.Error("a refused request changed something")
	}
	c.post("/v1/calls", aCall("call-3"), header{"Idempotency-Key": strings.Repeat("~", 255)}).is(http.StatusAccepted)
}

func TestBatch(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	big := aCall("call-big", map[string]any{"custom": map[string]any{}})
	for i := range 100 {
		big["custom"].(map[string]any)["m"+strings.Repeat("i", i%60)+string(rune('a'+i%26))+string(rune('a'+i/26))] = strings.Repeat("x", 2000)
	}
	tooLarge := `{"id":"call-huge","summary":"` + strings.Repeat("x", maxCall) + `"}`
	parts := []any{
		aCall("call-1"), aCall("call-2", map[string]any{"visibility": "private"}),
		map[string]any{"id": "call-3"},
		aCall("call-1"), aCall("call-1", map[string]any{"title": "Corrected"}), 7, json.RawMessage(tooLarge), big,
	}
	a := c.post("/v1/calls:batch", map[string]any{"calls": parts})
	a.is(http.StatusOK).want(map[string]any{
		"/results/0/status": "accepted", "/results/0/call_id": "call-1", "/results/0/revision": 1,
		"/results/1/shares/0/reason": "private_call",
		"/results/2/code":            "invalid_input", "/results/2/status": 422,
		"/results/3/status": "unchanged", "/results/3/revision": 1,
		"/results/4/status": "accepted", "/results/4/revision": 2,
		"/results/5/code": "invalid_input",
		"/results/6/code": "body_too_large", "/results/6/status": 413,
		"/results/7/call_id": "call-big",
	})
	if a.len("/results") != len(parts) {
		t.Errorf("%d results for %d calls", a.len("/results"), len(parts))
	}
	if a.text("/results/2/errors/0/pointer") == "" || !strings.HasPrefix(a.text("/results/2/errors/0/pointer"), "/") {
		t.Errorf("pointers: %s", a.body)
	}
	c.get("/v1/calls/call-3").is(http.StatusNotFound)
	c.post("/v1/calls:batch", `{"calls":[]}`).is(http.StatusOK).want(map[string]any{"/results/0": nil})
}

func TestBatchIdempotency(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	key := header{"Idempotency-Key": "batch-1"}
	first := c.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-1"), aCall("call-2")}}, key).is(http.StatusOK)
	again := c.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-1"), aCall("call-2")}}, key).is(http.StatusOK)
	if string(first.body) != string(again.body) {
		t.Errorf("another answer: %s, %s", first.body, again.body)
	}
	c.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-1"), aCall("call-3")}}, key).is(http.StatusOK).want(map[string]any{
		"/results/0/call_id": "call-1", "/results/1/code": codeKeyReused,
	})
	// The same key is another one for a single call.
	c.post("/v1/calls", aCall("call-4"), key).is(http.StatusAccepted)
}

func TestBatchThatIsNone(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	before := c.redis.Dump()
	many := make([]any, 501)
	for i := range many {
		many[i] = 1
	}
	c.post("/v1/calls:batch", map[string]any{"calls": many}).problem(http.StatusUnprocessableEntity, codeInvalid, "/calls")
	c.post("/v1/calls:batch", `{"calls":`).problem(http.StatusBadRequest, codeMalformedJSON)
	c.post("/v1/calls:batch", ``).problem(http.StatusBadRequest, codeMalformedJSON)
	c.post("/v1/calls:batch", `{}`).problem(http.StatusUnprocessableEntity, codeInvalid, "/calls")
	c.post("/v1/calls:batch", `{"calls":[],"more":1}`).problem(http.StatusUnprocessableEntity, codeInvalid, "/more")
	c.post("/v1/calls:batch", `[]`).problem(http.StatusUnprocessableEntity, codeInvalid, "")
	if c.redis.Dump() != before {
		t.Error("a refused batch changed something")
	}
}

// TestGetCallSaysWhy follows a call: what was decided for every integration,
// and what became of it.
func TestGetCallSaysWhy(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	shared := c.hookIntegration()
	withheld := c.hookIntegration()
	c.do(http.MethodPatch, "/v1/integrations/"+withheld, map[string]any{"when": "call.duration_seconds > 100000"}).is(http.StatusOK)
	c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted)
	c.get("/v1/calls/call-1").is(http.StatusOK).want(map[string]any{
		"/call_id": "call-1", "/revision": 1, "/status": "accepted", "/erasure_id": nil,
		"/shares/0/integration_id": shared, "/shares/0/decision": "share", "/shares/0/reason": nil, "/shares/0/grant": 1,
		"/shares/0/transfer/state": "waiting", "/shares/0/transfer/kind": "share",
		"/shares/1/integration_id": withheld, "/shares/1/decision": "withheld", "/shares/1/reason": "rule_not_matched",
		"/shares/1/reason_text": "The call does not meet the integration's condition.", "/shares/1/transfer": nil, "/shares/1/grant": 2,
	})
	if got := c.get("/v1/calls/call-1", header{"Accept-Language": "es-MX"}).text("/shares/1/reason_text"); !strings.HasPrefix(got, "La llamada") {
		t.Errorf("reason in Spanish: %q", got)
	}
	// An integration made later never shared it, and says so.
	later := c.hookIntegration()
	c.get("/v1/calls/call-1").is(http.StatusOK).want(map[string]any{
		"/shares/2/integration_id": later, "/shares/2/decision": "withheld", "/shares/2/reason": "not_enabled",
		"/shares/2/provider": "webhook", "/shares/2/detail": "The integration was made after the call came in.",
	})
	// Permission gone before it was sent.
	c.post("/v1/integrations/"+shared+"/disable", nil).is(http.StatusOK).want(map[string]any{"/drained": true})
	c.get("/v1/calls/call-1").is(http.StatusOK).want(map[string]any{
		"/shares/0/decision": "share", "/shares/0/transfer/state": "withdrawn", "/shares/0/reason": "not_enabled",
		"/shares/0/reason_text": "The integration is not enabled. An admin can enable it.",
	})
}

func TestGetCallOfHeldAndSuperseded(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	c.do(http.MethodPatch, "/v1/org", map[string]any{"state": "suspended"}).is(http.StatusOK).want(map[string]any{"/state": "suspended"})
	first := c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).want(map[string]any{
		"/shares/0/decision": "share", "/shares/0/reason": "org_suspended",
	})
	c.get("/v1/calls/call-1").is(http.StatusOK).want(map[string]any{
		"/shares/0/transfer/state": "held", "/shares/0/reason": "org_suspended",
		"/shares/0/reason_text": "The organisation's account is suspended. The call is shared when it is active again.",
	})
	c.post("/v1/calls", aCall("call-1", map[string]any{"title": "Corrected"})).is(http.StatusAccepted)
	c.get("/v1/transfers/" + first.text("/shares/0/transfer_id")).is(http.StatusOK).want(map[string]any{"/state": "superseded"})
	c.do(http.MethodPatch, "/v1/org", map[string]any{"state": "active"}).is(http.StatusOK)
	c.get("/v1/calls/call-1").is(http.StatusOK).want(map[string]any{"/revision": 2, "/shares/0/transfer/state": "waiting", "/shares/0/reason": nil})
}

// TestLifeOfACall sends a call for real, corrects it, finds its copy by the
// person, and erases it.
func TestLifeOfACall(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	id := c.hookIntegration("title", "summary")
	c.deliver()
	auditor := c.role("auditor")
	transferID := c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).text("/shares/0/transfer_id")
	eventually(t, "delivered", func() bool { return auditor.get("/v1/transfers/"+transferID).text("/state") == "delivered" })
	a := auditor.get("/v1/transfers/" + transferID).is(http.StatusOK).want(map[string]any{
		"/id": transferID, "/call_id": "call-1", "/revision": 1, "/integration_id": id, "/grant": 1, "/provider": "webhook", "/kind": "share",
		"/attempts": 1, "/next_attempt_at": nil, "/error": nil, "/fields/0": "summary", "/fields/1": "title",
	})
	if a.text("/payload_digest") == "" || a.text("/finished_at") == "" || a.text("/created_at") == "" || a.at("/losses") == nil {
		t.Errorf("transfer: %s", a.body)
	}
	for _, query := range []string{"", "?call_id=call-1", "?email=PRIYA@northwind.example", "?phone=%2B1%20415%20555%200123", "?email=dana@acme.example&limit=1"} {
		auditor.get("/v1/copies" + query).is(http.StatusOK).want(map[string]any{
			"/items/0/call_id": "call-1", "/items/0/integration_id": id, "/items/0/provider": "webhook", "/items/0/transfer_id": transferID,
			"/items/0/revision": 1, "/items/0/grant": 1, "/items/0/payload_digest": a.text("/payload_digest"), "/next_cursor": nil,
		})
	}
	auditor.get("/v1/copies?email=nobody@acme.example").is(http.StatusOK).want(map[string]any{"/items/0": nil})
	auditor.get("/v1/copies?email=a@b.example&call_id=call-1").problem(http.StatusUnprocessableEntity, codeInvalid)

	update := c.post("/v1/calls", aCall("call-1", map[string]any{"title": "Corrected"})).is(http.StatusAccepted).text("/shares/0/transfer_id")
	eventually(t, "corrected", func() bool { return auditor.get("/v1/transfers/"+update).text("/state") == "delivered" })
	auditor.get("/v1/transfers/" + update).want(map[string]any{"/kind": "update", "/revision": 2})

	erased := c.do(http.MethodDelete, "/v1/calls/call-1", nil).is(http.StatusAccepted)
	if again := c.do(http.MethodDelete, "/v1/calls/call-1", nil).is(http.StatusAccepted); again.text("/erasure_id") != erased.text("/erasure_id") {
		t.Errorf("another erasure: %s, %s", erased.body, again.body)
	}
	eventually(t, "erased", func() bool { return auditor.get("/v1/copies").len("/items") == 0 })
	c.get("/v1/calls/call-1").is(http.StatusOK).want(map[string]any{
		"/status": "erased", "/erasure_id": erased.text("/erasure_id"), "/shares/0/transfer/state": "erased",
	})
	c.post("/v1/integrations/"+id+"/preview", map[string]any{"call_id": "call-1"}).problem(http.StatusUnprocessableEntity, codeInvalid, "/call_id")
	auditor.get("/v1/audit?type=transfer.&call_id=call-1").is(http.StatusOK).want(map[string]any{"/items/0/type": "transfer.begin", "/items/1/type": "transfer.delivered"})
}

func TestEraseWhatThereIsNot(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.do(http.MethodDelete, "/v1/calls/call-1", nil).problem(http.StatusNotFound, codeNotFound)
	c.get("/v1/calls/a%20b").problem(http.StatusNotFound, codeNotFound)
	c.get("/v1/calls/"+strings.Repeat("x", 200)).problem(http.StatusNotFound, codeNotFound)
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.replica(withQueue(2)).org("org_acme")
	c.hookIntegration()
	c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted)
	a := c.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-2"), aCall("call-3")}}).is(http.StatusOK)
	a.want(map[string]any{"/results/0/status": "accepted", "/results/1/code": codeQueueFull, "/results/1/status": 429})
	before := c.redis.Dump()
	full := c.post("/v1/calls", aCall("call-4")).problem(http.StatusTooManyRequests, codeQueueFull)
	if full.header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After: %q", full.header.Get("Retry-After"))
	}
	if c.redis.Dump() != before {
		t.Error("a refused call changed something")
	}
}
