package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// wrongCalls is every member of a call wrong in every way, with the pointer
// that the answer must have.
func wrongCalls() map[string]struct {
	change  map[string]any
	pointer string
} {
	out := map[string]struct {
		change  map[string]any
		pointer string
	}{}
	add := func(name, member, pointer string, value any) {
		out[name] = struct {
			change  map[string]any
			pointer string
		}{map[string]any{member: value}, pointer}
	}
	kinds := map[string]any{"a number": 7, "a list": []any{1}, "an object": map[string]any{"x": 1}, "true": true, "a string": "text"}
	for member, fits := range map[string]string{
		"title": "a string", "summary": "a string", "started_at": "", "duration_seconds": "a number", "direction": "", "medium": "", "visibility": "",
		"recording_consent": "", "language": "", "url": "", "recording_url": "", "transcript_url": "", "owner": "", "participants": "", "account": "",
		"crm": "", "key_points": "", "next_steps": "", "topics": "", "sentiment": "", "talk_ratio": "", "risks": "", "competitors": "",
		"disposition": "a string", "tags": "",
	} {
		for kind, v := range kinds {
			if kind == fits || member == "language" && kind == "a string" {
				continue
			}
			pointer := "/" + member
			switch {
			case member == "owner" && kind == "an object", member == "account" && kind == "an object", member == "crm" && kind == "an object":
				pointer += "/x"
			case kind == "a list" && slices.Contains([]string{"participants", "key_points", "next_steps", "topics", "talk_ratio", "risks", "competitors", "tags"}, member):
				pointer += "/0"
			}
			add(member+" is "+kind, member, pointer, v)
		}
	}
	for _, member := range []string{"title", "started_at", "duration_seconds", "owner", "summary"} {
		add(member+" is null", member, "/"+member, nil)
	}
	long := strings.Repeat("x", 60_000)
	add("title too long", "title", "/title", long[:501])
	add("title empty", "title", "/title", "  ")
	add("summary too long", "summary", "/summary", long[:50_001])
	add("summary with NUL", "summary", "/summary", "a\x00b")
	add("time without zone", "started_at", "/started_at", "2026-11-20T15:00:00")
	add("time before 1970", "started_at", "/started_at", "1066-10-14T09:00:00Z")
	add("negative duration", "duration_seconds", "/duration_seconds", -1)
	add("duration of more than two days", "duration_seconds", "/duration_seconds", 172_801)
	add("half a second", "duration_seconds", "/duration_seconds", 0.5)
	add("unknown member", "tittle", "/tittle", "x")
	add("a member in another case", "Title", "/Title", "x")
	add("a member that needs escaping", "a/b~c", "/a~1b~0c", 1)
	add("script as a link", "url", "/url", "javascript:alert(1)")
	add("credentials in a link", "url", "/url", "https://user:pass@host.example/")
	add("sentiment above 1", "sentiment", "/sentiment", 1.01)
	add("owner without address", "owner", "/owner/email", map[string]any{"name": "Dana"})
	add("owner with a wrong address", "owner", "/owner/email", map[string]any{"email": "dana"})
	add("owner with more", "owner", "/owner/phone", map[string]any{"email": "d@a.example", "phone": "1"})
	add("participant's phone", "participants", "/participants/1/phone", []any{map[string]any{}, map[string]any{"phone": "555"}})
	add("participant's side", "participants", "/participants/0/side", []any{map[string]any{"side": "left"}})
	add("too many participants", "participants", "/participants", make([]map[string]any, 201))
	add("a step without text", "next_steps", "/next_steps/0/text", []any{map[string]any{}})
	add("a step without a day", "next_steps", "/next_steps/0/due_on", []any{map[string]any{"text": "x", "due_on": "tomorrow"}})
	add("a share above 1", "talk_ratio", "/talk_ratio/0/share", []any{map[string]any{"email": "a@b.example", "share": 2}})
	add("an object among the custom members", "custom", "/custom/x", map[string]any{"x": map[string]any{}})
	add("a custom member with a wrong name", "custom", "/custom/1x", map[string]any{"1x": 1})
	add("CRM id with a quote", "crm", "/crm/account_id", map[string]any{"account_id": "x' OR 1"})
	add("the id is none", "id", "/id", "two words")
	add("the id is too long", "id", "/id", long[:129])
	add("the id is a number", "id", "/id", 7)
	for i, m := range out { // a list of nulls is a list of what is not given
		if i == "too many participants" {
			l := make([]any, 201)
			for k := range l {
				l[k] = map[string]any{}
			}
			m.change["participants"] = l
		}
	}
	return out
}

// TestWrongCalls: each gets the answer that the contract promises, by every
// way in, and nothing is stored.
func TestWrongCalls(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.hookIntegration()
	all := wrongCalls()
	if len(all) < 100 {
		t.Fatalf("only %d wrong calls", len(all))
	}
	before := c.redis.Dump()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := all[name]
		body := aCall("call-wrong", w.change)
		if a := c.post("/v1/calls", body); a.status != http.StatusUnprocessableEntity || a.text("/code") != codeInvalid || !a.pointsAt(w.pointer) {
			t.Errorf("%s: %d, want 422 at %s: %s", name, a.status, w.pointer, a.body)
		}
		a := c.post("/v1/calls:batch", map[string]any{"calls": []any{body}}).is(http.StatusOK)
		if a.text("/results/0/code") != codeInvalid {
			t.Errorf("%s: in a batch: %s", name, a.body)
		}
	}
	for _, name := range []string{"title is a number", "unknown member"} {
		c.signed("msg-"+strings.ReplaceAll(name, " ", "-"), aCall("call-wrong", all[name].change)).problem(http.StatusUnprocessableEntity, codeInvalid, all[name].pointer)
	}
	if c.redis.Dump() != before {
		t.Error("something was stored")
	}
}

// TestBrokenDocuments is what is no JSON, or JSON of a kind that no parser
// should be given, at every route that takes a body.
func TestBrokenDocuments(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	id := c.hookIntegration()
	deep := strings.Repeat("[", 100_000)
	documents := map[string]struct {
		body   string
		status int
	}{
		"nothing":               {"", 400},
		"blanks":                {" \n", 400},
		"half an object":        {`{"id":"x"`, 400},
		"half a string":         {`{"id":"x`, 400},
		"a comma too much":      {`{"id":"x",}`, 400},
		"two documents":         {`{} {}`, 400},
		"rubbish":               {"\x00\x01\x02", 400},
		"XML":                   {`<call/>`, 400},
		"a byte order mark":     {"\ufeff{}", 400},
		"deep and open":         {deep, 400},
		"a wrong literal":       {`{"id":nul}`, 400},
		"a number that is none": {`{"id":01}`, 400},
		"single quotes":         {`{'id':'x'}`, 400},
		"null":                  {`null`, 422},
		"a string":              {`"call"`, 422},
		"a list":                {`[]`, 422},
		"a member twice":        {`{"accepted_terms":"a","accepted_terms":"a","id":"x","id":"x"}`, 422},
		"deep":                  {`{"x":` + strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000) + `}`, 422},
		"unknown members":       {`{"` + strings.Repeat("x", 1000) + `":1,"":2,"~/":3}`, 422},
	}
	before := c.redis.Dump()
	for _, r := range routes() {
		if r.body == 0 || r.path == "/webhooks/calls/{org}" {
			continue
		}
		path := strings.ReplaceAll(r.path, "{id}", id)
		for name, d := range documents {
			if strings.HasSuffix(path, "/disable") && d.body == "" {
				continue // its body may be left out
			}
			a := c.do(r.method, path, d.body)
			if a.status != d.status {
				t.Errorf("%s: %s: %d, want %d: %s", r.pattern(), name, a.status, d.status, a.body)
				continue
			}
			want := map[int]string{400: codeMalformedJSON, 422: codeInvalid}[d.status]
			if a.text("/code") != want {
				t.Errorf("%s: %s: %q, want %q", r.pattern(), name, a.text("/code"), want)
			}
		}
	}
	if c.redis.Dump() != before {
		t.Error("something was stored")
	}
}

// TestWrongMembers is every management body wrong, with the pointer to it.
func TestWrongMembers(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	id := c.hookIntegration()
	conn := c.get("/v1/connections").text("/items/0/id")
	integration := func(change map[string]any) map[string]any {
		b := map[string]any{"connection_id": conn, "name": "x", "fields": []any{"title"}, "destination": map[string]any{}}
		maps.Copy(b, change)
		return b
	}
	before := c.redis.Dump()
	for _, w := range []struct {
		request string
		body    any
		pointer string
	}{
		{"POST /v1/keys", map[string]any{}, "/role"},
		{"POST /v1/keys", map[string]any{"role": "owner"}, "/role"},
		{"POST /v1/keys", map[string]any{"Role": "admin"}, "/Role"},
		{"POST /v1/keys", map[string]any{"role": "admin", "name": strings.Repeat("x", 201)}, "/name"},
		{"POST /v1/keys", map[string]any{"role": "admin", "name": 7}, "/name"},
		{"POST /v1/keys", map[string]any{"role": "admin", "name": "a\x00b"}, "/name"},
		{"POST /v1/keys", map[string]any{"role": "admin", "org": "org_other"}, "/org"},
		{"PATCH /v1/org", map[string]any{}, "/state"},
		{"PATCH /v1/org", map[string]any{"state": "cancelled"}, "/state"},
		{"PATCH /v1/org", map[string]any{"state": "active", "region": "eu"}, "/region"},
		{"POST /v1/connections", map[string]any{}, "/provider"},
		{"POST /v1/connections", map[string]any{"provider": "teams"}, "/provider"},
		{"POST /v1/connections", map[string]any{"provider": 7}, "/provider"},
		{"POST /v1/connections", map[string]any{"provider": "webhook"}, "/url"},
		{"POST /v1/connections", map[string]any{"provider": "webhook"}, "/secret"},
		{"POST /v1/connections", map[string]any{"provider": "webhook", "url": c.hook.URL, "secret": "short"}, "/secret"},
		{"POST /v1/connections", map[string]any{"provider": "webhook", "url": "http://10.0.0.1/", "secret": c.hook.Secret()}, "/url"},
		{"POST /v1/connections", map[string]any{"provider": "webhook", "url": c.hook.URL, "secret": c.hook.Secret(), "access_token": "x"}, "/access_token"},
		{"POST /v1/connections", map[string]any{"provider": "salesforce", "access_token": "x"}, "/instance_url"},
		{"POST /v1/connections", map[string]any{"provider": "salesforce", "access_token": "x", "instance_url": "https://evil.example"}, "/instance_url"},
		{"POST /v1/connections", map[string]any{"provider": "salesforce", "instance_url": "https://acme.my.salesforce.com"}, "/access_token"},
		{"POST /v1/connections", map[string]any{"provider": "slack", "access_token": "x", "team_id": "t"}, "/team_id"},
		{"POST /v1/connections", map[string]any{"provider": "slack", "access_token": "x", "expires_in": -1}, "/expires_in"},
		{"POST /v1/connections", map[string]any{"provider": "slack", "access_token": "x", "expires_in": 1.5}, "/expires_in"},
		{"POST /v1/connections", map[string]any{"provider": "slack", "access_token": "x", "expires_in": 1e18}, "/expires_in"},
		{"POST /v1/integrations", map[string]any{}, "/connection_id"},
		{"POST /v1/integrations", map[string]any{}, "/name"},
		{"POST /v1/integrations", map[string]any{}, "/fields"},
		{"POST /v1/integrations", integration(map[string]any{"fields": []any{}}), "/fields"},
		{"POST /v1/integrations", integration(map[string]any{"fields": []any{"title", "everything"}}), "/fields/1"},
		{"POST /v1/integrations", integration(map[string]any{"fields": []any{"title", 7}}), "/fields/1"},
		{"POST /v1/integrations", integration(map[string]any{"fields": []any{"title", "title"}}), "/fields/1"},
		{"POST /v1/integrations", integration(map[string]any{"fields": "title"}), "/fields"},
		{"POST /v1/integrations", integration(map[string]any{"when": "call.nothing == 1"}), "/when"},
		{"POST /v1/integrations", integration(map[string]any{"when": "1 + 1"}), "/when"},
		{"POST /v1/integrations", integration(map[string]any{"when": strings.Repeat("x", 10_001)}), "/when"},
		{"POST /v1/integrations", integration(map[string]any{"destination": "C1"}), "/destination"},
		{"POST /v1/integrations", integration(map[string]any{"destination": map[string]any{"channel": "C1"}}), "/destination/channel"},
		{"POST /v1/integrations", integration(map[string]any{"destination": map[string]any{"rules": []any{}}}), "/destination/rules"},
		{"POST /v1/integrations", integration(map[string]any{"mapping": map[string]any{"title": "release.nothing"}}), "/mapping/title"},
		{"POST /v1/integrations", integration(map[string]any{"mapping": []any{}}), "/mapping"},
		{"POST /v1/integrations", integration(map[string]any{"expires_after_days": -1}), "/expires_after_days"},
		{"POST /v1/integrations", integration(map[string]any{"expires_after_days": "7"}), "/expires_after_days"},
		{"POST /v1/integrations", integration(map[string]any{"connection_id": "con_none"}), "/connection_id"},
		{"POST /v1/integrations", integration(map[string]any{"enabled": true}), "/enabled"},
		{"POST /v1/integrations", integration(map[string]any{"name": " "}), "/name"},
		{"PATCH /v1/integrations/" + id, map[string]any{}, ""},
		{"PATCH /v1/integrations/" + id, map[string]any{"state": "enabled"}, "/state"},
		{"PATCH /v1/integrations/" + id, map[string]any{"name": nil}, "/name"},
		{"PATCH /v1/integrations/" + id, map[string]any{"fields": nil}, "/fields"},
		{"PATCH /v1/integrations/" + id, map[string]any{"connection_id": nil}, "/connection_id"},
		{"PATCH /v1/integrations/" + id, map[string]any{"when": "call."}, "/when"},
		{"POST /v1/integrations/" + id + "/enable", map[string]any{}, "/accepted_terms"},
		{"POST /v1/integrations/" + id + "/disable", map[string]any{"wait": "yes"}, "/wait"},
		{"POST /v1/integrations/" + id + "/preview", map[string]any{}, "/call"},
		{"POST /v1/integrations/" + id + "/preview", map[string]any{"call_id": "x", "call": aCall("y")}, "/call_id"},
		{"POST /v1/integrations/" + id + "/preview", map[string]any{"call": map[string]any{"id": "x y"}}, "/call/id"},
		{"POST /v1/integrations/" + id + "/preview", map[string]any{"call": 7}, "/call"},
		{"POST /v1/integrations/" + id + "/preview", map[string]any{"call_id": "no-such-call"}, "/call_id"},
		{"GET /v1/transfers?limit=0", nil, "/limit"},
		{"GET /v1/transfers?limit=1001", nil, "/limit"},
		{"GET /v1/transfers?limit=ten", nil, "/limit"},
		{"GET /v1/transfers?state=lost", nil, "/state"},
		{"GET /v1/transfers?cursor=nonsense", nil, "/cursor"},
		{"GET /v1/transfers?call_id=call-1&cursor=nonsense", nil, "/cursor"},
		{"GET /v1/transfers?status=dead", nil, "/status"},
		{"GET /v1/audit?after=7", nil, "/cursor"},
		{"GET /v1/audit?after=1-0&cursor=1-0", nil, "/after"},
		{"GET /v1/copies?cursor=nonsense", nil, "/cursor"},
		{"GET /v1/copies?mail=x", nil, "/mail"},
		{"GET /v1/keys?cursor=nonsense", nil, "/cursor"},
		{"GET /v1/connections?cursor=nonsense", nil, "/cursor"},
	} {
		method, path, _ := strings.Cut(w.request, " ")
		c.do(method, path, w.body).problem(http.StatusUnprocessableEntity, codeInvalid, w.pointer)
	}
	if c.redis.Dump() != before {
		t.Error("something was stored")
	}
}
