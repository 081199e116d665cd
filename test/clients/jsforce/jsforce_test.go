// Package jsforce_test checks the simulated Salesforce org with jsforce, a
// client for Node.js by other people: what that client understands, real
// programs do.
package jsforce_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
)

// requireEnv makes a missing node or npm a failure.
const requireEnv = "CALLBRIDGE_REQUIRE_CLIENTS"

func TestJSForce(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv(requireEnv) == "1" {
				t.Fatalf("%s is required and not installed", tool)
			}
			t.Skipf("%s is not installed; with %s=1 this fails", tool, requireEnv)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir := t.TempDir()
	for _, name := range []string{"package.json", ".npmrc", "jsforce.test.mjs"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(ctx, t, dir, nil, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev")

	org := salesforcetest.New(t)
	org.AddField("Task", salesforcetest.Field{Name: "Loose__c", Type: salesforcetest.Text, Length: 80, ExternalID: true})
	for i := range 2500 {
		org.AddLead(salesforcetest.Person{Last: fmt.Sprintf("Lead %d", i)})
	}
	run(ctx, t, dir, []string{"JSFORCE_ORG=" + where(t, org)}, "node", "--test", "--test-force-exit", "jsforce.test.mjs")
	calls := org.Calls()
	// One that works for two calls that failed at once, one with the token that
	// was used, and one of the grant that died of it.
	if calls["token"] != 3 {
		t.Errorf("%d refreshes, want 3", calls["token"])
	}
	for _, kind := range []string{"query", "upsert", "create", "update", "delete", "retrieve", "describe", "limits", "userinfo"} {
		if calls[kind] == 0 {
			t.Errorf("the client never made a call of the kind %s", kind)
		}
	}
}

// where returns what the client has to know of the org, as JSON. It refreshes
// with a grant of its own, so that the others outlive its death.
func where(tb testing.TB, org *salesforcetest.Server) string {
	tb.Helper()
	id, secret := org.ClientCredentials()
	_, refresh := org.Authorize()
	b, err := json.Marshal(map[string]string{
		"url": org.URL, "accessToken": org.AccessToken(), "refreshToken": refresh, "clientId": id, "clientSecret": secret, "orgId": org.OrgID(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func run(ctx context.Context, tb testing.TB, dir string, env []string, name string, args ...string) {
	tb.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", name, err, out)
	}
	tb.Logf("%s", out)
}
