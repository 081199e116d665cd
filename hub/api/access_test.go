package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/optiwe/callbridge/hub"
)

// bodyFor is a body that a route takes, for tests that are about who may do
// something and not about what.
func bodyFor(r route) any {
	switch {
	case r.body == 0:
		return nil
	case r.path == "/v1/calls":
		return aCall("call-of-the-walk")
	case r.path == "/v1/calls:batch":
		return map[string]any{"calls": []any{}}
	}
	return map[string]any{}
}

// TestEveryRouteByEveryRole walks the table of routes: nobody gets in without a
// key, and a key does what its role may and nothing else.
func TestEveryRouteByEveryRole(t *testing.T) {
	t.Parallel()
	admin := newClient(t)
	clients := map[hub.Role]*client{
		hub.RoleIngest: admin.role("ingest"), hub.RoleAuditor: admin.role("auditor"), hub.RoleAdmin: admin.role("admin"),
	}
	for _, r := range routes() {
		if r.access.open() {
			continue
		}
		path := strings.ReplaceAll(r.path, "{id}", "nothing-of-this-name")
		a := admin.with("").do(r.method, path, bodyFor(r)).problem(http.StatusUnauthorized, codeUnauthorized)
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: 401 without WWW-Authenticate", r.pattern())
		}
		for role, c := range clients {
			a := c.do(r.method, path, bodyFor(r))
			if forbidden := a.status == http.StatusForbidden; forbidden == r.access.allows(role) {
				t.Errorf("%s as %s: %d, allowed: %v: %s", r.pattern(), role, a.status, r.access.allows(role), a.body)
			}
			if a.status == http.StatusUnauthorized || a.status >= 500 {
				t.Errorf("%s as %s: %d: %s", r.pattern(), role, a.status, a.body)
			}
			if strings.Contains(r.path, "{id}") && r.access.allows(role) && a.status != http.StatusNotFound && a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s as %s: %d for what there is not: %s", r.pattern(), role, a.status, a.body)
			}
		}
	}
}

// TestTableOfRoutes states for every role what it may do, in the words of the
// contract, apart from the table itself.
func TestTableOfRoutes(t *testing.T) {
	t.Parallel()
	for _, r := range routes() {
		if r.access.open() {
			switch r.path {
			case "/healthz", "/readyz", "/openapi.json", "/webhooks/calls/{org}":
			default:
				t.Errorf("%s is open to everybody", r.pattern())
			}
			continue
		}
		ingest := strings.HasPrefix(r.path, "/v1/calls") && r.method != http.MethodDelete
		if r.access.allows(hub.RoleIngest) != ingest {
			t.Errorf("%s for ingest: %v", r.pattern(), r.access)
		}
		if r.access.allows(hub.RoleAuditor) != (r.method == http.MethodGet) {
			t.Errorf("%s for auditor: %v", r.pattern(), r.access)
		}
		if !r.access.allows(hub.RoleAdmin) {
			t.Errorf("%s is closed to admin", r.pattern())
		}
	}
}

// TestOtherOrgsAreNotFound (I7): with another org's key, nothing of an org can
// be read, changed or noticed: every answer is the one for what there is not.
func TestOtherOrgsAreNotFound(t *testing.T) {
	t.Parallel()
	r := newWorld(t).replica()
	acme, other := r.org("org_acme"), r.org("org_other")
	integration := acme.hookIntegration()
	accepted := acme.post("/v1/calls", aCall("call-1")).is(http.StatusAccepted)
	mine := map[string]string{
		"/v1/calls/": "call-1", "/v1/transfers/": accepted.text("/shares/0/transfer_id"), "/v1/integrations/": integration,
		"/v1/connections/":     acme.get("/v1/connections").is(http.StatusOK).text("/items/0/id"),
		"/v1/keys/":            acme.get("/v1/keys").is(http.StatusOK).text("/items/0/id"),
		"/v1/signing-secrets/": acme.get("/v1/signing-secrets").is(http.StatusOK).text("/items/0/id"),
	}
	bodies := map[string]any{
		"POST /v1/transfers/{id}/resolve":    map[string]any{"as": "delivered"},
		"PATCH /v1/integrations/{id}":        map[string]any{"name": "mine now"},
		"POST /v1/integrations/{id}/enable":  map[string]any{"accepted_terms": testTerms},
		"POST /v1/integrations/{id}/preview": map[string]any{"call_id": "call-1"},
		"POST /v1/integrations/{id}/disable": map[string]any{"wait": true},
	}
	before := acme.redis.Dump()
	for _, route := range routes() {
		prefix, rest, ok := strings.Cut(route.path, "{id}")
		if !ok {
			continue
		}
		id, ok := mine[prefix]
		if !ok || id == "" {
			t.Fatalf("%s: the test has no object of this kind", route.pattern())
		}
		theirs := other.do(route.method, prefix+id+rest, bodies[route.pattern()])
		nothing := other.do(route.method, prefix+id[:len(id)-1]+"x"+rest, bodies[route.pattern()])
		theirs.problem(http.StatusNotFound, codeNotFound)
		if string(theirs.body) != string(nothing.body) {
			t.Errorf("%s: another org's object can be told from none: %s %s", route.pattern(), theirs.body, nothing.body)
		}
	}
	for _, path := range []string{
		"/v1/transfers", "/v1/transfers?call_id=call-1", "/v1/transfers?integration_id=" + integration, "/v1/connections", "/v1/integrations",
		"/v1/copies", "/v1/copies?call_id=call-1", "/v1/copies?email=priya@northwind.example", "/v1/audit?call_id=call-1", "/v1/audit?integration_id=" + integration,
	} {
		if a := other.get(path).is(http.StatusOK); a.len("/items") != 0 {
			t.Errorf("%s shows another org's: %s", path, a.body)
		}
	}
	if after := acme.redis.Dump(); after != before {
		t.Errorf("requests with another org's key changed something")
	}
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	c := newWorld(t).replica(withAPI(func(cfg *Config) { cfg.FailuresPerAddress = 1000 })).org("org_acme")
	good := "Bearer " + c.key
	for name, value := range map[string]string{
		"no scheme": c.key, "another scheme": "Basic " + c.key, "a part of it": good[:len(good)-1], "more than it": good + "x",
		"another secret": good[:len(good)-4] + "aaaa", "another org": "Bearer " + strings.Replace(c.key, "org_acme", "org_none", 1),
		"nothing": "Bearer ", "rubbish": "Bearer cb_ _ _", "a wild org": "Bearer cb_../../x_k_s", "very long": "Bearer cb_" + strings.Repeat("a_", 2000),
	} {
		for _, path := range []string{"/v1/org", "/v1/calls/x"} {
			if a := c.with("").get(path, header{"Authorization": value}); a.status != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		if a := c.with("").post("/v1/calls", aCall("call-1"), header{"Authorization": value}); a.status != http.StatusUnauthorized {
			t.Errorf("%s: posting: %d %s", name, a.status, a.body)
		}
	}
	c.with("").get("/v1/org", header{"Authorization": "bearer " + c.key}).is(http.StatusOK) // the scheme's case does not matter
}

// TestRevokedKey revokes a key at one replica while another has it in its cache:
// the very next request there is refused, whatever it asks.
func TestRevokedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.replica(), w.replica()
	acme := first.org("org_acme")
	acme.hookIntegration()
	for name, try := range map[string]func(*client) *reply{
		"a new call":         func(c *client) *reply { return c.post("/v1/calls", aCall("call-2")) },
		"the same call":      func(c *client) *reply { return c.post("/v1/calls", aCall("call-1")) },
		"an old answer":      func(c *client) *reply { return c.post("/v1/calls", aCall("call-1"), header{"Idempotency-Key": "k1"}) },
		"a reused key":       func(c *client) *reply { return c.post("/v1/calls", aCall("call-3"), header{"Idempotency-Key": "k1"}) },
		"a wrong call":       func(c *client) *reply { return c.post("/v1/calls", `{}`) },
		"no JSON":            func(c *client) *reply { return c.post("/v1/calls", `{`) },
		"a wrong key header": func(c *client) *reply { return c.post("/v1/calls", aCall("call-1"), header{"Idempotency-Key": "ü"}) },
		"a batch": func(c *client) *reply {
			return c.post("/v1/calls:batch", map[string]any{"calls": []any{aCall("call-4")}})
		},
		"a batch of nothing": func(c *client) *reply { return c.post("/v1/calls:batch", map[string]any{"calls": []any{}}) },
		"a batch, all wrong": func(c *client) *reply { return c.post("/v1/calls:batch", map[string]any{"calls": []any{1}}) },
		"reading":            func(c *client) *reply { return c.get("/v1/calls/call-1") },
	} {
		made := acme.post("/v1/keys", map[string]any{"role": "ingest"}).is(http.StatusCreated)
		there := acme.with(made.text("/key")).at(second)
		there.post("/v1/calls", aCall("call-1"), header{"Idempotency-Key": "k1"}).is(http.StatusAccepted) // in its cache now
		acme.do(http.MethodDelete, "/v1/keys/"+made.text("/id"), nil).is(http.StatusNoContent)
		if a := try(there); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	acme.get("/v1/calls/call-2").is(http.StatusNotFound)
	acme.get("/v1/calls/call-3").is(http.StatusNotFound)
	acme.get("/v1/calls/call-4").is(http.StatusNotFound)
}

// TestNewKeyElsewhere: a key made at one replica works at once at another that
// has the org in its cache.
func TestNewKeyElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.replica(), w.replica()
	acme := first.org("org_acme")
	acme.at(second).post("/v1/calls", aCall("call-1")).is(http.StatusAccepted)
	acme.role("ingest").at(second).post("/v1/calls", aCall("call-2")).is(http.StatusAccepted)
}
