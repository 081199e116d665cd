package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors/webhook/webhooktest"
	"github.com/optiwe/callbridge/hub/consent"
)

func TestConnections(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	made := c.post("/v1/connections", map[string]any{
		"provider": "webhook", "account_name": " Warehouse ", "url": c.hook.URL + "?key=hidden-in-the-address", "secret": c.hook.Secret(),
	}).is(http.StatusCreated).want(map[string]any{
		"/provider": "webhook", "/account_name": "Warehouse", "/state": "connected", "/cause": nil, "/host": "http://" + hostOf(t, c.hook.URL),
		"/last_success": nil, "/last_error": nil, "/api_budget": nil, "/account_id": nil,
	})
	slack := c.post("/v1/connections", map[string]any{
		"provider": "slack", "access_token": c.slack.Token(), "refresh_token": nil, "team_id": c.slack.TeamID(),
	}).is(http.StatusCreated).want(map[string]any{"/provider": "slack", "/state": "connected", "/account_id": c.slack.TeamID()})
	if slack.len("/scopes/held") == 0 || slack.len("/scopes/needed") == 0 || slack.len("/scopes/missing") != 0 {
		t.Errorf("scopes: %s", slack.body)
	}
	// The same account again keeps its id.
	c.post("/v1/connections", map[string]any{"provider": "slack", "access_token": c.slack.Token()}).is(http.StatusCreated).
		want(map[string]any{"/id": slack.text("/id")})
	all := c.get("/v1/connections").is(http.StatusOK)
	if all.len("/items") != 2 {
		t.Errorf("connections: %s", all.body)
	}
	one := c.get("/v1/connections/" + made.text("/id")).is(http.StatusOK).want(map[string]any{"/id": made.text("/id")})
	for _, a := range []*reply{made, slack, all, one} {
		for _, secret := range []string{c.hook.Secret(), c.slack.Token(), "hidden-in-the-address"} {
			if strings.Contains(string(a.body), secret) {
				t.Errorf("%s gives a secret back: %s", a.what, a.body)
			}
		}
	}
	c.do(http.MethodDelete, "/v1/connections/"+made.text("/id"), nil).is(http.StatusNoContent)
	c.get("/v1/connections/" + made.text("/id")).is(http.StatusOK).want(map[string]any{"/state": "disconnected", "/cause": "disconnected_by_admin"})
	c.do(http.MethodDelete, "/v1/connections/"+made.text("/id"), nil).problem(http.StatusNotFound, codeNotFound)
}

func TestConnectionWithAWrongTeam(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.post("/v1/connections", map[string]any{"provider": "slack", "access_token": c.slack.Token(), "team_id": "T0ANOTHER"}).
		problem(http.StatusUnprocessableEntity, codeInvalid, "/team_id")
}

// TestProviderAway: a token that cannot be revoked pauses the connection, and
// the answer says to try again.
func TestProviderAway(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	id := c.post("/v1/connections", map[string]any{"provider": "slack", "access_token": c.slack.Token()}).is(http.StatusCreated).text("/id")
	c.slack.Close()
	c.do(http.MethodDelete, "/v1/connections/"+id, nil).problem(http.StatusBadGateway, codeProvider)
	c.get("/v1/connections/" + id).is(http.StatusOK).want(map[string]any{"/state": "paused", "/cause": "disconnecting"})
}

func TestScopes(t *testing.T) {
	t.Parallel()
	got := fmt.Sprint(scopesOf([]string{"a", "x"}, []string{"a", "b"}))
	if want := "{[a x] [a b] [b] [x]}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := fmt.Sprint(scopesOf(nil, []string{"a"})); got != "{[] [a] [] []}" {
		t.Errorf("held are not known: %s", got)
	}
	for base, want := range map[string]string{"https://u:p@h.example:8443/secret?q=1": "https://h.example:8443", "": "", "%": "", "nothing": ""} {
		if got := schemeAndHost(base); got != want {
			t.Errorf("%q: %q, want %q", base, got, want)
		}
	}
}

// TestIntegration takes one through its life.
func TestIntegration(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	conn := c.hookConnection()
	made := c.post("/v1/integrations", map[string]any{
		"connection_id": conn, "name": "Warehouse", "fields": []any{"title", "summary"}, "when": nil, "expires_after_days": 0,
	}).is(http.StatusCreated).want(map[string]any{
		"/name": "Warehouse", "/provider": "webhook", "/state": "disabled", "/enabled": false, "/grant": nil, "/fields/0": "title", "/when": "",
		"/expires_after_days": nil, "/draft/widens": true, "/draft/changes/0/kind": "field_added", "/draft/changes/0/field": "summary", "/draft/changes/2": nil,
	})
	id := made.text("/id")
	path := "/v1/integrations/" + id
	c.post(path+"/enable", map[string]any{"accepted_terms": "1999-01-01"}).problem(http.StatusUnprocessableEntity, codeTermsOutdated, "/accepted_terms")
	c.post(path+"/enable", map[string]any{"accepted_terms": testTerms}).is(http.StatusOK).want(map[string]any{"/grant": 1, "/fields/0": "title", "/accepted_terms": testTerms})
	c.get(path).is(http.StatusOK).want(map[string]any{"/state": "enabled", "/grant": 1, "/draft": nil})

	// A widening waits, and the old grant holds.
	c.do(http.MethodPatch, path, map[string]any{"fields": []any{"title", "summary", "participants.emails"}}).is(http.StatusOK).want(map[string]any{
		"/grant": 1, "/fields/2": nil, "/draft/fields/2": "participants.emails", "/draft/widens": true,
		"/draft/changes/0/kind": "field_added", "/draft/changes/0/widens": true, "/draft/changes/0/text": "Participants' e-mail addresses is shared too.",
	})
	if got := c.get(path + "?lang=es").text("/draft/changes/0/text"); !strings.HasPrefix(got, "Se ") {
		t.Errorf("in Spanish: %q", got)
	}
	c.post(path+"/enable", map[string]any{"accepted_terms": testTerms}).is(http.StatusOK).want(map[string]any{"/grant": 2})
	// A narrowing holds at once.
	c.do(http.MethodPatch, path, `{"fields":["title"],"expires_after_days":30,"mapping":null,"destination":null}`, header{"Content-Type": "application/merge-patch+json"}).
		is(http.StatusOK).want(map[string]any{"/grant": 3, "/fields/0": "title", "/fields/1": nil, "/expires_after_days": 30, "/draft": nil})
	c.do(http.MethodPatch, path, map[string]any{"when": "call.duration_seconds > 60", "name": "Renamed"}).is(http.StatusOK).
		want(map[string]any{"/grant": 4, "/when": "call.duration_seconds > 60", "/name": "Renamed"})
	c.do(http.MethodPatch, path, `{"when":null}`).is(http.StatusOK).want(map[string]any{"/grant": 4, "/draft/when": "", "/draft/changes/0/kind": "condition_changed"})

	grants := c.get(path + "/grants").is(http.StatusOK)
	if grants.len("/items") != 4 || grants.number("/items/2/grant") != 3 {
		t.Errorf("grants: %s", grants.body)
	}
	c.get(path + "/grants?limit=3").is(http.StatusOK).want(map[string]any{"/items/2/grant": 3, "/next_cursor": "3"})
	c.get(path + "/grants?limit=3&cursor=3").is(http.StatusOK).want(map[string]any{"/items/0/grant": 4, "/next_cursor": nil})

	c.post(path+"/disable", map[string]any{"wait": true}).is(http.StatusOK).want(map[string]any{"/drained": true})
	c.get(path).is(http.StatusOK).want(map[string]any{"/state": "disabled", "/grant": 4})
	c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).want(map[string]any{"/shares/0/reason": "not_enabled"})
	c.do(http.MethodDelete, path, nil).is(http.StatusNoContent)
	c.get(path).problem(http.StatusNotFound, codeNotFound)
	c.do(http.MethodDelete, path, nil).problem(http.StatusNotFound, codeNotFound)
}

// TestDisableWaits: the answer comes only when what is in flight has landed.
func TestDisableWaits(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	conn := c.post("/v1/connections", map[string]any{"provider": "webhook", "url": c.gate.URL, "secret": c.hook.Secret()}).is(http.StatusCreated).text("/id")
	id := c.integrationOf(conn)
	c.deliver()
	transferID := c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).text("/shares/0/transfer_id")
	<-c.gate.arrived
	path := "/v1/integrations/" + id + "/disable"
	c.post(path, nil).is(http.StatusOK).want(map[string]any{"/drained": false})
	// The server's own deadlines are shorter than the wait.
	hasty := httptest.NewUnstartedServer(c.api)
	hasty.Config.ReadTimeout, hasty.Config.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	hasty.Start()
	t.Cleanup(hasty.Close)
	there := *c.replica
	there.url = hasty.URL
	done := make(chan *reply)
	go func() { done <- c.at(&there).post(path, map[string]any{"wait": true}) }()
	eventually(t, "it waits", func() bool { return strings.Count(c.log.String(), `"route":"POST /v1/integrations/{id}/disable"`) == 1 })
	select {
	case a := <-done:
		t.Fatalf("answered %s while a message was in flight", a.body)
	case <-time.After(600 * time.Millisecond):
	}
	c.gate.open()
	a := (<-done).is(http.StatusOK).want(map[string]any{"/drained": true})
	landed := c.get("/v1/transfers/" + transferID).is(http.StatusOK).want(map[string]any{"/state": "delivered"})
	if landed.text("/finished_at") > a.text("/at") {
		t.Errorf("finished at %s, after the answer's %s", landed.text("/finished_at"), a.text("/at"))
	}
}

func TestDestinationIsLookedAt(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	conn := c.post("/v1/connections", map[string]any{"provider": "slack", "access_token": c.slack.Token()}).is(http.StatusCreated).text("/id")
	enabled := func(channel string) *reply {
		id := c.post("/v1/integrations", map[string]any{
			"connection_id": conn, "name": "Sales", "fields": []any{"title", "summary"}, "destination": map[string]any{"channel": channel},
		}).is(http.StatusCreated).text("/id")
		return c.post("/v1/integrations/"+id+"/enable", map[string]any{"accepted_terms": testTerms})
	}
	enabled("C0SALES01").is(http.StatusOK)
	a := enabled("C0SHARED1")
	if a.status != http.StatusUnprocessableEntity || !a.pointsAt("/destination") {
		t.Errorf("a channel that outsiders read: %d %s", a.status, a.body)
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	conn := c.hookConnection()
	id := c.post("/v1/integrations", map[string]any{
		"connection_id": conn, "name": "Warehouse", "fields": []any{"title"}, "when": "call.duration_seconds > 60",
	}).is(http.StatusCreated).text("/id")
	path := "/v1/integrations/" + id + "/preview"
	before := c.redis.Dump()
	given := c.post(path, map[string]any{"call": aCall("call-1")}).is(http.StatusOK).want(map[string]any{
		"/decision": "share", "/reason": nil, "/targets/resolved": false,
	})
	if given.at("/payload") == nil || given.text("/payload_digest") == "" || strings.Contains(string(given.body), "Priya") {
		t.Errorf("preview: %s", given.body)
	}
	c.post(path, map[string]any{"call": aCall("call-1", map[string]any{"duration_seconds": 5})}).is(http.StatusOK).want(map[string]any{
		"/decision": "withheld", "/reason": "rule_not_matched", "/payload": nil, "/payload_digest": nil, "/reason_text": "The call does not meet the integration's condition.",
	})
	if c.redis.Dump() != before {
		t.Error("a preview stored something")
	}
	c.post(path, map[string]any{"call": aCall("call-1"), "resolve": true}).is(http.StatusOK).want(map[string]any{"/targets/resolved": true})
	c.get("/v1/audit?type=integration.previewed").is(http.StatusOK).want(map[string]any{"/items/0/integration_id": id, "/items/0/call_id": "call-1"})

	// What is sent later has the digest of what was seen.
	c.post("/v1/integrations/"+id+"/enable", map[string]any{"accepted_terms": testTerms}).is(http.StatusOK)
	c.deliver()
	transferID := c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).text("/shares/0/transfer_id")
	eventually(t, "delivered", func() bool { return c.get("/v1/transfers/"+transferID).text("/state") == "delivered" })
	c.get("/v1/transfers/" + transferID).want(map[string]any{"/payload_digest": given.text("/payload_digest")})
	c.post(path, map[string]any{"call_id": "call-1"}).is(http.StatusOK).want(map[string]any{"/decision": "share"})
}

func TestSettleTransfers(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	c.hook.Inject(webhooktest.BadMessage, 1)
	c.deliver()
	id := c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted).text("/shares/0/transfer_id")
	path := "/v1/transfers/" + id
	eventually(t, "dead", func() bool { return c.get(path).text("/state") == "dead" })
	dead := c.get(path).is(http.StatusOK).want(map[string]any{"/error/class": "rejected", "/next_attempt_at": nil})
	if dead.text("/error/code") == "" || dead.text("/error/detail") == "" || dead.text("/finished_at") == "" {
		t.Errorf("dead: %s", dead.body)
	}
	c.get("/v1/transfers?state=dead").is(http.StatusOK).want(map[string]any{"/items/0/id": id, "/items/1": nil})
	if got := c.get("/v1/calls/call-1").is(http.StatusOK).text("/shares/0/reason_text"); got != dead.text("/error/detail") {
		t.Errorf("why: %q, want %q", got, dead.text("/error/detail"))
	}
	c.post(path+"/resolve", map[string]any{"as": "delivered"}).problem(http.StatusConflict, codeWrongState)
	c.post(path+"/retry", nil).is(http.StatusOK)
	eventually(t, "delivered", func() bool { return c.get(path).text("/state") == "delivered" })
	c.post(path+"/retry", nil).problem(http.StatusConflict, codeWrongState)
	c.get("/v1/transfers/tr_nothing").problem(http.StatusNotFound, codeNotFound)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	made := c.post("/v1/keys", map[string]any{"role": "auditor", "name": "DPO"}).is(http.StatusCreated).want(map[string]any{"/role": "auditor", "/name": "DPO"})
	if !strings.HasPrefix(made.text("/key"), "cb_org_acme_"+made.text("/id")+"_") {
		t.Errorf("key: %s", made.text("/key"))
	}
	all := c.get("/v1/keys").is(http.StatusOK).want(map[string]any{"/items/0/role": "admin", "/items/1/id": made.text("/id")})
	if strings.Contains(string(all.body), "cb_") || strings.Contains(string(all.body), "digest") {
		t.Errorf("the list of keys: %s", all.body)
	}
	c.do(http.MethodDelete, "/v1/keys/"+made.text("/id"), nil).is(http.StatusNoContent)
	c.with(made.text("/key")).get("/v1/org").problem(http.StatusUnauthorized, codeUnauthorized)
	c.do(http.MethodDelete, "/v1/keys/"+made.text("/id"), nil).problem(http.StatusNotFound, codeNotFound)
}

func TestOrg(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.get("/v1/org").is(http.StatusOK).want(map[string]any{
		"/id": "org_acme", "/name": "Acme", "/region": "us", "/language": "en", "/state": "active", "/terms": testTerms, "/retention_days": nil,
	})
	c.do(http.MethodPatch, "/v1/org", map[string]any{"state": "suspended"}).is(http.StatusOK).want(map[string]any{"/state": "suspended"})
	c.get("/v1/audit?type=org.changed").is(http.StatusOK).want(map[string]any{"/items/0/reason": "suspended"})
}

func TestFields(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	a := c.get("/v1/fields").is(http.StatusOK).want(map[string]any{"/items/0/field": "title", "/items/0/title": "Title", "/items/0/sensitivity": "ordinary"})
	if a.len("/items") != len(consent.Fields("en")) {
		t.Errorf("%d fields", a.len("/items"))
	}
	c.get("/v1/fields?lang=es").want(map[string]any{"/items/0/title": "Título"})
	c.get("/v1/fields", header{"Accept-Language": "fr, es-AR;q=0.9, en;q=0.8"}).want(map[string]any{"/items/0/title": "Título"})
	c.get("/v1/fields?lang=en", header{"Accept-Language": "es"}).want(map[string]any{"/items/0/title": "Title"})
	c.get("/v1/fields", header{"Accept-Language": "estonian"}).want(map[string]any{"/items/0/title": "Title"})
}

// TestLists walks every list page by page and finds each item once.
func TestLists(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for range 3 {
		c.hookIntegration()
	}
	c.role("ingest")
	c.role("auditor")
	for i := range 5 {
		c.post("/v1/calls", aCall(fmt.Sprintf("call-%d", i))).is(http.StatusAccepted)
	}
	c.post("/v1/signing-secrets", nil).is(http.StatusCreated)
	for path, want := range map[string]int{
		"/v1/transfers?": 15, "/v1/transfers?call_id=call-3&": 3, "/v1/transfers?state=waiting&": 15, "/v1/connections?": 3, "/v1/integrations?": 3,
		"/v1/keys?": 3, "/v1/signing-secrets?": 2, "/v1/fields?": len(consent.Fields("en")), "/v1/audit?type=call.accepted&": 5, "/v1/copies?": 0,
	} {
		seen := map[string]bool{}
		cursor := ""
		for pages := 0; ; pages++ {
			a := c.get(path + "limit=2&cursor=" + url.QueryEscape(cursor)).is(http.StatusOK)
			if a.len("/items") > 2 || pages > 100 {
				t.Fatalf("%s: page %d has %d items", path, pages, a.len("/items"))
			}
			items, _ := a.at("/items").([]any)
			for _, item := range items {
				b, err := json.Marshal(item)
				ok(t, err)
				if seen[string(b)] {
					t.Errorf("%s: twice: %s", path, b)
				}
				seen[string(b)] = true
			}
			if cursor = a.text("/next_cursor"); cursor == "" {
				if a.at("/next_cursor") != nil {
					t.Errorf("%s: next_cursor at the end: %s", path, a.body)
				}
				break
			}
		}
		if len(seen) != want {
			t.Errorf("%s: %d items, want %d", path, len(seen), want)
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	id := c.hookIntegration()
	c.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted)
	a := c.get("/v1/audit").is(http.StatusOK).want(map[string]any{"/items/0/id": "1-0", "/items/0/type": "org.created", "/items/0/actor": "operator"})
	last := ""
	for i := range a.len("/items") {
		if want := fmt.Sprintf("%d-0", i+1); a.text(fmt.Sprintf("/items/%d/id", i)) != want {
			t.Errorf("entry %d: %s", i, a.text(fmt.Sprintf("/items/%d/id", i)))
		}
		last = a.text(fmt.Sprintf("/items/%d/id", i))
	}
	c.get("/v1/audit?after=1-0&limit=1").want(map[string]any{"/items/0/id": "2-0", "/next_cursor": "2-0"})
	c.get("/v1/audit?cursor=2-0&limit=1").want(map[string]any{"/items/0/id": "3-0"})
	if a := c.get("/v1/audit?after=" + last); a.len("/items") != 0 || a.at("/next_cursor") != nil {
		t.Errorf("after the last: %s", a.body)
	}
	c.get("/v1/audit?integration_id=" + id + "&type=integration.enabled").want(map[string]any{"/items/0/grant": 1, "/items/1": nil})
	c.get("/v1/audit?type=nothing.of.this.kind").is(http.StatusOK).want(map[string]any{"/items/0": nil})
}

// TestNothingLeaks (I6): secrets, addresses and what was said appear in no log
// line at any level, and in no answer but those that hold them by contract.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.replica().org("org_acme")
	c.hookIntegration("title", "summary", "participants.emails")
	c.deliver()
	const canary, said = "xoxb-canary-token-4711", "the canary sang in the boardroom"
	call := aCall("call-1", map[string]any{"summary": said})
	id := c.post("/v1/calls", call).is(http.StatusAccepted).text("/shares/0/transfer_id")
	eventually(t, "delivered", func() bool { return c.get("/v1/transfers/"+id).text("/state") == "delivered" })
	var answers []*reply
	see := func(a *reply) { answers = append(answers, a) }
	see(c.post("/v1/connections", map[string]any{"provider": "slack", "access_token": canary, "refresh_token": canary}))
	see(c.post("/v1/connections", map[string]any{"provider": "salesforce", "access_token": canary, "instance_url": "https://" + canary + ".example"}))
	see(c.post("/v1/connections", map[string]any{"provider": "webhook", "url": c.hook.URL + "?" + canary, "secret": canary}))
	see(c.post("/v1/connections", map[string]any{"provider": "slack", "access_token": []any{canary}}))
	see(c.post("/v1/connections", map[string]any{"provider": canary}))
	see(c.post("/v1/connections", `{"provider":"slack","access_token":"`+canary+`"`))
	see(c.post("/v1/keys", map[string]any{"role": canary, "name": []any{canary}}))
	see(c.post("/v1/calls", aCall("call-2", map[string]any{"summary": []any{said}})))
	see(c.post("/v1/calls", `{"id":"call-2","summary":"`+said))
	see(c.get("/v1/transfers?state=" + canary))
	see(c.get("/v1/transfers?limit=" + canary))
	see(c.with("cb_org_acme_key_" + canary).get("/v1/org"))
	see(c.signed("msg_1", call, header{"webhook-signature": "v1," + canary}))
	for _, path := range []string{"/v1/calls/call-1", "/v1/transfers", "/v1/connections", "/v1/integrations", "/v1/audit?limit=1000", "/v1/copies?email=priya@northwind.example", "/v1/keys", "/v1/signing-secrets", "/v1/org"} {
		see(c.get(path).is(http.StatusOK))
	}
	secrets := []string{canary, said, "priya@northwind.example", "dana@acme.example", c.hook.Secret(), c.signing, strings.TrimPrefix(c.key, "cb_"), "Discovery with Northwind"}
	for _, secret := range secrets {
		for _, a := range answers {
			if strings.Contains(string(a.body), secret) {
				t.Errorf("%s: the answer holds %q: %s", a.what, secret, a.body)
			}
		}
		if i := strings.Index(w.log.String(), secret); i >= 0 {
			t.Errorf("the log holds %q: …%.200s", secret, w.log.String()[max(0, i-200):])
		}
	}
	if !strings.Contains(w.log.String(), `"route":"GET /v1/copies"`) {
		t.Error("the log has no line of the requests")
	}
}
