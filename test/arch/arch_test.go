// Package arch holds tests of the repository itself: that packages import only
// what lies beneath them, and that documents, scripts, connectors and the
// Dockerfile keep the rules that no compiler knows.
//
// Each rule is a function from what it reads to the list of what is wrong, so
// that rules_test.go can show it something broken.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/optiwe/callbridge"

// layers lists every package, lowest first. A package may import those of
// lower layers only; within a layer there are no imports. A * stands for one
// path element, and a name beats a pattern, so that a new connector changes
// nothing here. A package listed that does not exist is no fault.
//
// Packages whose name ends in "test", and all beneath test/, stand outside:
// they may import anything, and only tests may import them. The one exception
// is main, which imports test/demo.
var layers = [][]string{
	{"hub"},
	{"hub/rule", "oauth", "oauth/seal"},
	{"mappings", "hub/audit"},
	{"hub/consent"},
	{"connectors"},
	{"connectors/outbound"},
	{"hub/directory", "connectors/*"},
	{"oauth/vault", "connectors/all"},
	{"hub/store"},
	{"hub/intake"},
	{"hub/delivery", "webhooks"},
	{"hub/admin"},
	{"hub/api", "hub/console"},
	{"hub/server"},
	{"main"},
}

// narrow lists packages that may import less of the module than their layer
// allows. A name beats a pattern here too; no list means no narrower rule.
var narrow = map[string][]string{
	"connectors/*":   {"hub", "hub/consent", "mappings", "connectors", "connectors/outbound"}, // I3: a connector sees releases, not the hub
	"connectors/all": nil,
}

// confined lists libraries that only one folder may import, its tests included.
var confined = map[string]string{
	"github.com/redis/go-redis":          "hub/store",             // key names and scripts in one place
	"github.com/simpleforce/simpleforce": "connectors/salesforce", // dormant: it must stay easy to replace
}

func TestImports(t *testing.T) {
	t.Parallel()
	report(t, checkLayers(layers, packages(t)))
	report(t, checkNarrow(narrow, packages(t)))
	report(t, checkConfined(confined, packages(t)))
}

// TestTestsStayTests is apart from TestImports because what it protects is:
// nothing of the fakes is in the service.
func TestTestsStayTests(t *testing.T) {
	t.Parallel()
	report(t, checkTestOnly(packages(t)))
}

func TestPackageComments(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		var texts []string
		for _, f := range p.files {
			texts = append(texts, read(t, f))
		}
		report(t, checkPackageComment(p.path, texts))
	}
}

func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	docs := []string{"README.md"}
	for _, f := range files(t) {
		if strings.HasPrefix(f, "docs/") && strings.HasSuffix(f, ".md") {
			docs = append(docs, f)
		}
	}
	for _, d := range docs {
		report(t, checkDocument(d, read(t, d), os.DirFS(root)))
	}
}

func TestConnectorsAreListedAndTested(t *testing.T) {
	t.Parallel()
	sources := make(map[string]string)
	for _, f := range files(t) {
		if strings.HasPrefix(f, "connectors/") && strings.HasSuffix(f, ".go") {
			sources[f] = read(t, f)
		}
	}
	report(t, checkConnectors(sources))
}

func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	report(t, checkDependencies(direct, read(t, "docs/ARCHITECTURE.md")))
}

func TestScriptsHaveHeaders(t *testing.T) {
	t.Parallel()
	for _, f := range files(t) {
		if strings.HasSuffix(f, ".lua") {
			report(t, checkScript(f, read(t, f)))
		}
	}
}

func TestNoFileNamesAMachine(t *testing.T) {
	t.Parallel()
	for _, f := range files(t) {
		report(t, checkMachine(f, read(t, f)))
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	report(t, checkDockerfile(read(t, "Dockerfile"), read(t, "go.mod")))
}

func report(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

// root is the repository, seen from the folder in which go test runs this.
var root = filepath.Join("..", "..")

// pkg is a package of the module.
type pkg struct {
	path    string   // within the module; "main" for its root
	imports []string // import paths
	tests   []string // further import paths of its tests
	files   []string // its Go files within the module; its tests if it has no others
}

func packages(t *testing.T) []pkg {
	t.Helper()
	list, err := listPackages()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var listPackages = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var list []pkg
	for dec := json.NewDecoder(out); ; {
		var p struct {
			ImportPath                                         string
			Imports, TestImports, XTestImports                 []string
			GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, errors.Join(err, cmd.Wait())
		}
		dir, _ := within(p.ImportPath)
		own := slices.DeleteFunc(slices.Concat(p.GoFiles, p.IgnoredGoFiles), func(f string) bool { return strings.HasSuffix(f, "_test.go") })
		if len(own) == 0 {
			own = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
		for i, f := range own {
			if dir != "main" {
				own[i] = path.Join(dir, f)
			}
		}
		list = append(list, pkg{
			path: dir, imports: p.Imports, tests: slices.Concat(p.TestImports, p.XTestImports), files: own,
		})
	}
	return list, cmd.Wait()
})

// within returns the path of a package within the module, "main" for its root.
func within(importPath string) (string, bool) {
	if importPath == module {
		return "main", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// files returns the text files of the repository, slash-separated, without the
// folders that .gitignore names.
func files(t *testing.T) []string {
	t.Helper()
	ignored := map[string]bool{".git": true}
	for line := range strings.Lines(read(t, ".gitignore")) {
		if dir, ok := strings.CutSuffix(strings.TrimSpace(line), "/"); ok {
			ignored[strings.TrimPrefix(dir, "/")] = true
		}
	}
	var list []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (ignored[name] || ignored[d.Name()]):
			return fs.SkipDir
		case d.Type().IsRegular() && !strings.ContainsRune(read(t, name), 0):
			list = append(list, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// read returns a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
