// Package standardwebhooks checks our signatures against the JavaScript library
// of the Standard Webhooks project. Run npm install in this folder first; with
// CALLBRIDGE_REQUIRE_CLIENTS=1 the test does that itself and may not be
// skipped.
package standardwebhooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/samples"
	"github.com/optiwe/callbridge/webhooks"
)

// message is one request to judge.mjs.
type message struct {
	Do        string `json:"do"`
	Secret    string `json:"secret"`
	ID        string `json:"id"`
	Timestamp int64  `json:"timestamp"`
	Body      string `json:"body"`
	Signature string `json:"signature,omitempty"`
}

// TestJavaScriptLibrary lets the JavaScript library sign the sample calls. We
// must accept each, and nothing that was changed on the way; and the library
// must say the same of both.
func TestJavaScriptLibrary(t *testing.T) {
	t.Parallel()
	dir := modules(t)
	all, err := samples.Load()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now() // the JavaScript library knows no other clock
	secret := webhooks.NewSecret()
	var messages []message
	for i, s := range all {
		messages = append(messages, message{"sign", secret.Reveal(), fmt.Sprintf("msg_%d", i), now.Unix() - int64(i), string(s.Raw), ""})
	}
	var signatures []string
	judge(t, dir, messages, &signatures)
	var checks []message
	var ours []bool
	for i, m := range messages {
		m.Do, m.Signature = "verify", signatures[i]
		for _, change := range []func(*message){
			func(*message) {},
			func(m *message) { m.Body += " " },
			func(m *message) { m.ID += "x" },
			func(m *message) { m.Timestamp++ },
			func(m *message) { m.Signature = "v1," + m.Signature[4:] },
			func(m *message) { m.Signature = "v2,x v1,eA== " + m.Signature },
			func(m *message) { m.Secret = webhooks.NewSecret().Reveal() },
		} {
			changed := m
			change(&changed)
			checks, ours = append(checks, changed), append(ours, verify(changed, now))
		}
	}
	var theirs []bool
	judge(t, dir, checks, &theirs)
	accepted := 0
	for i := range checks {
		if ours[i] != theirs[i] {
			t.Errorf("message %s, check %d: we say %t, the JavaScript library %t", checks[i].ID, i%7, ours[i], theirs[i])
		}
		if ours[i] {
			accepted++
		}
	}
	if want := 2 * len(all); accepted != want {
		t.Errorf("accepted %d of %d, want %d", accepted, len(checks), want)
	}
}

func verify(m message, now time.Time) bool {
	h := http.Header{}
	h.Set("webhook-id", m.ID)
	h.Set("webhook-timestamp", fmt.Sprint(m.Timestamp))
	h.Set("webhook-signature", m.Signature)
	_, err := webhooks.Verify([]hub.Secret{hub.NewSecret(m.Secret)}, h, []byte(m.Body), now)
	return err == nil
}

// judge asks the JavaScript library, from the folder that holds it.
func judge(t *testing.T, dir string, messages []message, answers any) {
	t.Helper()
	in, err := json.Marshal(messages)
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("judge.mjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", script)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, complaints.String())
	}
	if err := json.Unmarshal(out, answers); err != nil {
		t.Fatalf("answer of judge.mjs: %v", err)
	}
}

// modules returns a folder in which the JavaScript library is installed.
func modules(t *testing.T) string {
	t.Helper()
	required := os.Getenv("CALLBRIDGE_REQUIRE_CLIENTS") == "1"
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if required {
				t.Fatalf("%s is needed because CALLBRIDGE_REQUIRE_CLIENTS=1: %v", tool, err)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
	if _, err := os.Stat("node_modules/standardwebhooks"); err == nil {
		return "."
	}
	if !required {
		t.Skip("run npm install in test/clients/standardwebhooks to check against the JavaScript library")
	}
	dir := t.TempDir()
	manifest, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	return dir
}
