package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/test/samples"
)

const canary = "zanzibar-quokka" // stands in every unreleased member

// document is a call with canaries in what is not released.
func document(id string) map[string]any {
	return map[string]any{
		"id": id, "title": "Discovery with Northwind Traders", "started_at": "2026-11-20T15:00:00-08:00",
		"duration_seconds": 1860, "direction": "outbound", "medium": "video",
		"owner": map[string]any{"name": "Dana Reyes", "email": "dana@acme.example"},
		"participants": []any{
			map[string]any{"name": "Dana Reyes", "email": "dana@acme.example", "side": "internal"},
			map[string]any{"name": "Priya Shah", "email": "priya@northwind.example", "phone": "+14155550123", "title": canary + " title", "side": "external"},
		},
		"account":     map[string]any{"name": "Northwind Traders", "domain": "northwind.example"},
		"summary":     "They want a pilot. Security asks for a questionnaire.",
		"next_steps":  []any{map[string]any{"text": "Send the security questionnaire", "due_on": "2026-11-27"}},
		"risks":       []any{canary + " risk"},
		"competitors": []any{canary + " competitor"},
		"tags":        []any{canary + " tag"},
		"custom":      map[string]any{"deal_size": canary},
	}
}

func released() []string {
	return []string{"title", "time", "direction", "owner", "account", "summary", "next_steps", "participants.names", "matching.emails"}
}

// TestContract drives the service through the contract: nothing enabled, nothing
// leaves; enabled, exactly the released fields arrive in the right places; a
// correction edits in place; the same again writes nothing.
func TestContract(t *testing.T) {
	w := newWorld(t, slacktest.Options{})
	owner := w.salesforce.AddUser("Dana Reyes", "dana@acme.example")
	account := w.salesforce.AddAccount("Northwind Traders", "https://northwind.example")
	contact := w.salesforce.AddContact(salesforcetest.Person{First: "Priya", Last: "Shah", Email: "priya@northwind.example", Account: account})
	o := w.createOrg(t, "Acme")
	log := &lockedBuffer{}
	s := w.serve(t, log)

	sf, sl, wh := w.connectSalesforce(t, o), w.connectSlack(t, o), w.connectWebhook(t, o)
	quietSalesforce, quietSlack := w.salesforce.Requests(), len(w.slack.Requests())
	a := o.must(t, 202, "POST", "/v1/calls", document("before"))
	if len(items(a, "shares")) != 0 {
		t.Errorf("shares without any integration: %v", a)
	}
	<-time.After(300 * time.Millisecond)
	if w.salesforce.Requests() != quietSalesforce || len(w.slack.Requests()) != quietSlack || w.webhook.Requests() != 0 {
		t.Error("something left although nothing was enabled")
	}

	o.integrate(t, sf, map[string]any{"object": "Task", "external_id_field": "Callbridge_Id__c"}, released()...)
	o.integrate(t, sl, map[string]any{"channel": "C0DEALS01"}, released()...)
	o.integrate(t, wh, map[string]any{}, released()...)
	a = o.must(t, 202, "POST", "/v1/calls", document("call-1"))
	if text(a, "status") != "accepted" || len(items(a, "shares")) != 3 {
		t.Fatalf("answer %v", a)
	}
	for _, tr := range o.await(t, "call-1") {
		if text(tr, "state") != "delivered" {
			t.Errorf("transfer %v", tr)
		}
	}
	tasks := w.salesforce.Tasks()
	if len(tasks) != 1 {
		t.Fatalf("%d tasks, want 1", len(tasks))
	}
	if got := [3]string{tasks[0].Text("WhoId"), tasks[0].Text("WhatId"), tasks[0].Text("OwnerId")}; got != [3]string{contact, account, owner} {
		t.Errorf("the task is on %v, want contact %s, account %s, owner %s", got, contact, account, owner)
	}
	for _, f := range []string{"Status", "TaskSubtype"} {
		if tasks[0].Text(f) == "" {
			t.Errorf("the task has no %s", f)
		}
	}
	messages := w.slack.Messages("C0DEALS01")
	if len(messages) != 1 {
		t.Fatalf("%d messages, want 1", len(messages))
	}
	arrived := map[string]string{
		"salesforce": fmt.Sprint(tasks[0]), "slack": fmt.Sprint(messages[0].Args), "webhook": string(w.webhook.Deliveries()[0].Body),
	}
	for where, got := range arrived {
		if !strings.Contains(got, "pilot") || !strings.Contains(got, "questionnaire") {
			t.Errorf("%s lacks released fields: %s", where, got)
		}
		if strings.Contains(got, canary) || strings.Contains(got, "+14155550123") || strings.Contains(got, "priya@northwind.example") {
			t.Errorf("%s has what was not released: %s", where, got)
		}
	}

	if a = o.must(t, 202, "POST", "/v1/calls", document("call-1")); text(a, "status") != "unchanged" {
		t.Errorf("the same again: %v", a)
	}
	hidden := document("call-1")
	hidden["risks"] = []any{canary + " other risk"}
	before := w.webhook.Requests() + len(w.slack.Requests())
	if a = o.must(t, 202, "POST", "/v1/calls", hidden); a["revision"] != 2.0 {
		t.Errorf("another risk: %v", a)
	}
	o.await(t, "call-1")
	if after := w.webhook.Requests() + len(w.slack.Requests()); after != before {
		t.Errorf("%d requests for a revision that changes nothing released", after-before)
	}
	corrected := document("call-1")
	corrected["summary"] = "Corrected: the pilot starts in March."
	o.must(t, 202, "POST", "/v1/calls", corrected)
	o.await(t, "call-1")
	if tasks = w.salesforce.Tasks(); len(tasks) != 1 || !strings.Contains(tasks[0].Text("Description"), "March") {
		t.Errorf("the correction at Salesforce: %d tasks", len(tasks))
	}
	if messages = w.slack.Messages("C0DEALS01"); len(messages) != 1 || !strings.Contains(messages[0].Visible(), "March") {
		t.Errorf("the correction at Slack: %d messages", len(messages))
	}
	private := document("secret")
	private["visibility"] = "private"
	for _, sh := range items(o.must(t, 202, "POST", "/v1/calls", private), "shares") {
		if text(sh, "decision") != "withheld" || text(sh, "reason") != "private_call" {
			t.Errorf("a private call: %v", sh)
		}
	}

	batchCost(t, w, o)

	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.done:
		if err != nil {
			t.Errorf("after SIGTERM: %v\n%s", err, log)
		}
	case <-time.After(11 * time.Second):
		t.Error("still there 11 s after SIGTERM")
	}
}

// batchCost posts 150 calls in one batch and counts what they cost at Salesforce.
func batchCost(t *testing.T, w *world, o *org) {
	t.Helper()
	var calls []any
	for i := range 150 {
		calls = append(calls, document(fmt.Sprintf("batch-%d", i)))
	}
	// The cards would come at one a second: only Salesforce counts here.
	for _, i := range items(o.must(t, 200, "GET", "/v1/integrations", nil), "items") {
		if text(i, "provider") == "slack" {
			o.must(t, 200, "POST", "/v1/integrations/"+text(i, "id")+"/disable", map[string]any{"wait": true})
		}
	}
	before := w.salesforce.Requests()
	results := items(o.must(t, 200, "POST", "/v1/calls:batch", map[string]any{"calls": calls}), "results")
	if len(results) != 150 {
		t.Fatalf("%d results, want 150", len(results))
	}
	for i := range 150 {
		o.await(t, fmt.Sprintf("batch-%d", i))
	}
	if n := len(w.salesforce.Tasks()); n != 151 {
		t.Errorf("%d tasks, want 151", n)
	}
	cost := w.salesforce.Requests() - before
	t.Logf("150 calls cost %d Salesforce calls", cost)
	if cost > 30 {
		t.Errorf("150 calls cost %d Salesforce calls, at most 30 are allowed", cost)
	}
}

// TestCanary looks for tokens, keys, secrets, call text and addresses wherever
// they must not be (I6): log lines at debug level, metrics, API answers other
// than the call's own, and Redis' append-only file.
func TestCanary(t *testing.T) {
	w := newWorld(t, slacktest.Options{})
	o := w.createOrg(t, "Acme")
	log := &lockedBuffer{}
	s := w.serve(t, log)
	sf, sl, wh := w.connectSalesforce(t, o), w.connectSlack(t, o), w.connectWebhook(t, o)
	o.integrate(t, sf, map[string]any{"object": "Task", "external_id_field": "Callbridge_Id__c"}, released()...)
	o.integrate(t, sl, map[string]any{"channel": "C0DEALS01"}, released()...)
	o.integrate(t, wh, map[string]any{}, released()...)
	o.must(t, 202, "POST", "/v1/calls", document("c1"))
	o.await(t, "c1")
	w.slack.Inject("nonsense", 2) // error paths are where secrets leak
	w.salesforce.ExpireTokens()
	w.webhook.Inject("outage", 1)
	corrected := document("c1")
	corrected["summary"] = "They want a pilot in spring. Security asks for a questionnaire."
	o.must(t, 202, "POST", "/v1/calls", corrected)
	<-time.After(2 * time.Second)
	bad := document("bad id with spaces priya@northwind.example")
	o.must(t, 422, "POST", "/v1/calls", bad)

	answers := ""
	for _, path := range []string{
		"/v1/connections", "/v1/integrations", "/v1/transfers", "/v1/audit?limit=500", "/v1/copies", "/v1/calls/c1",
		"/v1/copies?email=priya%40northwind.example", "/metrics",
	} {
		_, b, err := o.call(t.Context(), "GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answers += string(b)
	}
	s.kill()
	aof, err := w.redis.AppendOnly()
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{"the log": log.String(), "answers of the API": answers, "redis": string(aof)}
	if len(aof) < 1000 || len(log.String()) < 100 || len(answers) < 1000 {
		t.Fatalf("there is nothing to look through: log %d, answers %d, redis %d bytes", len(log.String()), len(answers), len(aof))
	}
	clientID, clientSecret := w.salesforce.ClientCredentials()
	_ = clientID
	secrets := map[string]string{
		"an access token": w.salesforce.AccessToken(), "a refresh token": w.salesforce.RefreshToken(), "a Slack token": w.slack.Token(),
		"the API key": o.Key, "the signing secret": strings.TrimPrefix(o.Secret, "whsec_"), "the webhook secret": strings.TrimPrefix(w.webhook.Secret(), "whsec_"),
		"the client secret": clientSecret, "call text": "Security asks for", "unreleased text": canary, "a title": "Discovery with",
		"an address": "priya@northwind.example", "the owner's address": "dana@acme.example", "a name": "Priya Shah", "a phone number": "4155550123",
	}
	for where, content := range places {
		for what, secret := range secrets {
			if secret != "" && strings.Contains(content, secret) {
				i := strings.Index(content, secret)
				t.Errorf("%s is in %s: …%q…", what, where, content[max(0, i-80):min(len(content), i+40)])
			}
		}
	}
}

// TestSettings: a setting that is missing or malformed ends the start with exit
// status 2 and a sentence that names it.
func TestSettings(t *testing.T) {
	good := []string{"CALLBRIDGE_REDIS_URL=redis://127.0.0.1:1", "CALLBRIDGE_KEYSET=file:/nowhere/keyset.json"}
	for name, c := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"no redis":          {nil, []string{"serve"}, "CALLBRIDGE_REDIS_URL"},
		"redis scheme":      {[]string{"CALLBRIDGE_REDIS_URL=http://x", good[1]}, []string{"serve"}, "CALLBRIDGE_"},
		"no keyset":         {good[:1], []string{"serve"}, "CALLBRIDGE_KEYSET"},
		"keyset not there":  {good, []string{"serve"}, "CALLBRIDGE_KEYSET"},
		"no public url":     {append([]string{"CALLBRIDGE_LISTEN=0.0.0.0:8080"}, good...), []string{"serve"}, "CALLBRIDGE_PUBLIC_URL"},
		"listen":            {append([]string{"CALLBRIDGE_LISTEN=8080"}, good...), []string{"serve"}, "CALLBRIDGE_LISTEN"},
		"retention":         {append([]string{"CALLBRIDGE_CALL_RETENTION=soon"}, good...), []string{"serve"}, "CALLBRIDGE_CALL_RETENTION"},
		"log level":         {append([]string{"CALLBRIDGE_LOG_LEVEL=loud"}, good...), []string{"serve"}, "CALLBRIDGE_LOG_LEVEL"},
		"slack api":         {append([]string{"CALLBRIDGE_SLACK_API_URL=https://slack.com/api"}, good...), []string{"serve"}, "CALLBRIDGE_SLACK_API_URL"},
		"half a client":     {append([]string{"CALLBRIDGE_SLACK_CLIENT_ID=1"}, good...), []string{"serve"}, "CALLBRIDGE_SLACK_CLIENT_SECRET"},
		"flag":              {nil, []string{"serve", "--listen", "nowhere"}, "CALLBRIDGE_LISTEN"},
		"unknown flag":      {nil, []string{"serve", "--bogus"}, "--bogus"},
		"unknown command":   {nil, []string{"bogus"}, "bogus"},
		"superfluous":       {nil, []string{"version", "x"}, "x"},
		"org without name":  {good, []string{"org", "create"}, "name"},
		"key without org":   {good, []string{"key", "create", "--role", "admin"}, "--org"},
		"key with bad role": {good, []string{"key", "create", "--org", "a", "--role", "boss"}, "boss"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := append([]string{"PATH=" + os.Getenv("PATH")}, c.env...)
			_, stderr, code := commandAll(t, env, c.args...)
			if code != 2 || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, %q; want exit 2 and a sentence with %q", code, stderr, c.want)
			}
		})
	}
}

// TestVolatileRedis: a Redis that keeps nothing is refused, unless allowed.
func TestVolatileRedis(t *testing.T) {
	w := newWorld(t, slacktest.Options{})
	if _, err := w.redis.Do(t.Context(), "CONFIG", "SET", "appendonly", "no"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.redis.Do(t.Context(), "CONFIG", "SET", "save", ""); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := commandAll(t, w.env, "serve")
	if code != 1 || !strings.Contains(stderr, "nothing on disk") {
		t.Errorf("exit %d, %q; want 1 and the reason", code, stderr)
	}
	out, _, code := commandAll(t, w.env, "doctor")
	if code != 1 || !strings.Contains(out, "FAULT") {
		t.Errorf("doctor: exit %d, %q; want 1 and a fault", code, out)
	}
	w.env = append(w.env, "CALLBRIDGE_ALLOW_VOLATILE_REDIS=1")
	w.serve(t, &lockedBuffer{}).kill()
}

// TestDemo runs what the README says a newcomer should run.
func TestDemo(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go run . demo", "go test ./..."} {
		if !strings.Contains(string(readme), want) {
			t.Errorf("README.md does not say %q", want)
		}
	}
	list, err := samples.Load()
	if err != nil {
		t.Fatal(err)
	}
	out, stderr, code := commandAll(t, nil, "demo", "--exit", "--listen", freeAddress(t))
	if code != 0 {
		t.Fatalf("demo --exit: exit %d\n%s\n%s", code, out, stderr)
	}
	if !strings.Contains(out, list[0].Call.Title) || !strings.Contains(out, "withheld") {
		t.Errorf("the demo does not tell what it does:\n%s", out)
	}
	out, stderr, code = commandAll(t, nil, "demo", "--exit", "--calls", "200", "--listen", freeAddress(t))
	if code != 0 {
		t.Fatalf("demo --exit --calls 200: exit %d\n%s\n%s", code, out, stderr)
	}
}

// TestVersion: the small commands print what they say.
func TestVersion(t *testing.T) {
	out, code := command(t, nil, "version")
	if code != 0 || !strings.HasPrefix(out, "callbridge ") {
		t.Errorf("version: exit %d, %q", code, out)
	}
	keyset, _ := command(t, nil, "keyset", "new")
	if !json.Valid([]byte(keyset)) {
		t.Errorf("keyset new printed %d bytes that are no JSON", len(keyset))
	}
}
