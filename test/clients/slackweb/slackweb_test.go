// Package slackweb_test checks the simulated Slack workspace with Slack's own client
// for Node.js: what that client understands, real programs do.
package slackweb_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors/slack/slacktest"
)

// requireEnv makes a missing node or npm a failure.
const requireEnv = "CALLBRIDGE_REQUIRE_CLIENTS"

func TestSlackWebAPI(t *testing.T) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv(requireEnv) == "1" {
				t.Fatalf("%s is required and not installed", tool)
			}
			t.Skipf("%s is not installed; with %s=1 this fails", tool, requireEnv)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	for _, name := range []string{"package.json", ".npmrc", "slackweb.test.mjs"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(ctx, t, dir, nil, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev")

	free := slacktest.New(t)
	paced := slacktest.New(t, slacktest.Options{PostInterval: time.Hour, PostBurst: 1})
	run(ctx, t, dir, []string{"SLACKWEB_WORKSPACE=" + where(t, free), "SLACKWEB_PACED=" + where(t, paced)},
		"node", "--test", "--test-force-exit", "slackweb.test.mjs")
	if n := free.Count("chat.postMessage"); n == 0 {
		t.Error("the client never reached the workspace")
	}
}

// where returns the address and token of a workspace as JSON.
func where(tb testing.TB, ws *slacktest.Server) string {
	tb.Helper()
	b, err := json.Marshal(map[string]string{"url": ws.APIURL() + "/", "token": ws.Token()})
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
