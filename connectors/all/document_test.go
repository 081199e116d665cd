package all_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// documented finds the files that docs/CONNECTORS.md gives in full.
var documented = regexp.MustCompile("(?ms)^```go\n// file: (\\S+)\n\n(.*?)^```$")

// TestDocumentedConnector compiles the connector that docs/CONNECTORS.md
// explains and runs the conformance suite on it, so that the page stays true.
// The files are laid over the source tree, not written into it.
func TestDocumentedConnector(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "CONNECTORS.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for _, m := range documented.FindAllSubmatch(page, -1) {
		name := filepath.FromSlash(string(m[1]))
		file := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(file, m[2], 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, name)] = file
	}
	if len(replace) != 3 {
		t.Fatalf("the page has %d files, want the connector, its test and its fake", len(replace))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "roomchat.test")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", list, "-o", binary, "./connectors/roomchat")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the documented connector does not compile: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), binary, "-test.timeout=5m")
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("the documented connector does not pass the suite: %v\n%s", err, out)
	}
}
