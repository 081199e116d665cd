package arch

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkPackageComment finds a package that does not have exactly one comment.
func checkPackageComment(pkg string, sources []string) []string {
	var problems []string
	n := 0
	for _, src := range sources {
		f, err := parser.ParseFile(token.NewFileSet(), pkg, src, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return []string{fmt.Sprintf("%s: %v", pkg, err)}
		}
		text := f.Doc.Text()
		if text == "" {
			continue
		}
		n++
		if want := "Package " + f.Name.Name + " "; f.Name.Name != "main" && !strings.HasPrefix(text, want) {
			problems = append(problems, fmt.Sprintf("%s: its comment does not begin with %q", pkg, want))
		}
	}
	if n != 1 {
		problems = append(problems, fmt.Sprintf("%s: has %d package comments, not 1", pkg, n))
	}
	return problems
}

var (
	codeSpan  = regexp.MustCompile("`([^`]+)`")
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	pathLike  = regexp.MustCompile(`^[\w.*-]+(/[\w.*-]+)*/?$`)
	selector  = regexp.MustCompile(`\.[A-Z]\w*$`) // hub/consent.Release names the package
	fileNames = regexp.MustCompile(`\.(go|md|lua|yml|yaml|sh|html|sql)$`)
)

// checkDocument finds names of files and folders, in code spans, links and the
// first column of untagged code blocks, that the repository does not have. A
// name is looked at if it begins with a folder of the repository's root or
// looks like a source file; a * stands for any part of a name. What a reader
// is to make or fill in is written `connectors/<name>`.
func checkDocument(name, text string, repo fs.FS) []string {
	entries, err := fs.ReadDir(repo, ".")
	if err != nil {
		return []string{err.Error()}
	}
	top := make(map[string]bool)
	for _, e := range entries {
		top[e.Name()] = e.IsDir()
	}
	var problems []string
	check := func(line int, ref, base string) {
		ref, _, _ = strings.Cut(ref, "#")
		first, _, deep := strings.Cut(ref, "/")
		dir := top[first] && deep
		if !pathLike.MatchString(ref) || !dir && !fileNames.MatchString(ref) && base == "" {
			return
		}
		ref = strings.TrimSuffix(selector.ReplaceAllString(ref, ""), "/")
		for _, candidate := range []string{ref, path.Join(base, ref), path.Join(path.Dir(name), ref)} {
			if found, err := fs.Glob(repo, candidate); err == nil && len(found) > 0 {
				return
			}
		}
		problems = append(problems, fmt.Sprintf("%s:%d: names %s, which does not exist", name, line, ref))
	}
	fence := ""
	line := 0
	for l := range strings.Lines(text) {
		line++
		if mark, ok := strings.CutPrefix(strings.TrimSpace(l), "```"); ok {
			if fence == "" {
				fence = "```" + mark
			} else {
				fence = ""
			}
			continue
		}
		switch fence {
		case "":
			for _, m := range codeSpan.FindAllStringSubmatch(l, -1) {
				check(line, m[1], "")
			}
			for _, m := range mdLink.FindAllStringSubmatch(codeSpan.ReplaceAllString(l, ""), -1) {
				if !strings.Contains(m[1], ":") && !strings.HasPrefix(m[1], "#") {
					check(line, m[1], path.Dir(name))
				}
			}
		case "```":
			if f := strings.Fields(l); len(f) > 0 && l[0] != ' ' && strings.HasSuffix(f[0], "/") {
				check(line, f[0], "")
			}
		}
	}
	return problems
}

// checkConnectors finds folders beneath connectors/ that have a Descriptor and
// are not in connectors/all, or whose tests do not run the suite. sources are
// the Go files beneath connectors/ by name.
func checkConnectors(sources map[string]string) []string {
	described, suited, listed := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for name, src := range sources {
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
		if err != nil {
			return []string{err.Error()}
		}
		dir := path.Dir(name)
		test := strings.HasSuffix(name, "_test.go")
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "Descriptor" && !test {
				described[dir] = true
			}
		}
		for called := range calls(f) {
			switch {
			case test && called == module+"/connectors/connectortest.Run":
				suited[dir] = true
			case dir == "connectors/all" && !test:
				if p, ok := strings.CutSuffix(called, ".Descriptor"); ok {
					listed[strings.TrimPrefix(p, module+"/")] = true
				}
			}
		}
	}
	var problems []string
	for _, dir := range slices.Sorted(maps.Keys(described)) {
		if !listed[dir] {
			problems = append(problems, fmt.Sprintf("%s: is not in connectors/all", dir))
		}
		if !suited[dir] {
			problems = append(problems, fmt.Sprintf("%s: its tests do not call connectortest.Run", dir))
		}
	}
	return problems
}

// calls returns the functions of other packages that a file uses, as import
// path, '.' and name.
func calls(f *ast.File) map[string]bool {
	imports := make(map[string]string)
	for _, i := range f.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		local := path.Base(p)
		if i.Name != nil {
			local = i.Name.Name
		}
		imports[local] = p
	}
	used := make(map[string]bool)
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && imports[x.Name] != "" {
				used[imports[x.Name]+"."+sel.Sel.Name] = true
			}
		}
		return true
	})
	return used
}

var (
	heading    = regexp.MustCompile(`^(#+)\s+(.*)`)
	moduleCell = regexp.MustCompile("^\\|\\s*`([\\w.-]+\\.[\\w-]+(?:/[\\w.-]+)*)`")
)

// checkDependencies compares the direct dependencies of go.mod with the table
// under the heading Dependencies: one row each, the module first, in a code
// span.
func checkDependencies(direct []string, architecture string) []string {
	rows := make(map[string]int)
	level := 0 // of the heading we are beneath, 0 outside the section
	for line := range strings.Lines(architecture) {
		if h := heading.FindStringSubmatch(line); h != nil {
			if strings.Contains(h[2], "Dependencies") {
				level = len(h[1])
			} else if len(h[1]) <= level {
				level = 0
			}
		}
		if m := moduleCell.FindStringSubmatch(line); m != nil && level > 0 {
			rows[m[1]]++
		}
	}
	var problems []string
	for _, d := range direct {
		if rows[d] != 1 {
			problems = append(problems, fmt.Sprintf("docs/ARCHITECTURE.md: the table of dependencies has %d rows for %s, not 1", rows[d], d))
		}
		delete(rows, d)
	}
	for _, d := range slices.Sorted(maps.Keys(rows)) {
		problems = append(problems, fmt.Sprintf("docs/ARCHITECTURE.md: the table of dependencies has %s, which go.mod does not require directly", d))
	}
	return problems
}

var (
	scriptParam  = regexp.MustCompile(`\b(KEYS|ARGV)\[\d+\]`)
	scriptReturn = regexp.MustCompile(`(?m)^return\b`)
)

// checkScript finds a Lua script whose first comment does not say what its keys
// and arguments are, each by its number or all in order ("ARGV  org, lease"),
// and what it returns.
func checkScript(name, text string) []string {
	header, body := "", text
	for strings.HasPrefix(body, "--") {
		line, rest, _ := strings.Cut(body, "\n")
		header, body = header+line+"\n", rest
	}
	var problems []string
	if header == "" {
		problems = append(problems, fmt.Sprintf("%s: does not begin with a comment", name))
	}
	params := scriptParam.FindAllString(body, -1)
	slices.Sort(params)
	for _, p := range slices.Compact(params) {
		kind, _, _ := strings.Cut(p, "[")
		if !strings.Contains(header, p) && !strings.Contains(header, kind+" ") {
			problems = append(problems, fmt.Sprintf("%s: its header does not name %s", name, p))
		}
	}
	if scriptReturn.MatchString(body) && !strings.Contains(header, "Returns") {
		problems = append(problems, fmt.Sprintf("%s: its header does not say what it returns", name))
	}
	return problems
}

// machineNames are the names that belong to one machine or network. They are
// put together here so that this file does not hold them.
var machineNames = func() []*regexp.Regexp {
	var list []*regexp.Regexp
	for _, folder := range []string{"root", `work/(main|shared|\.)`, `home/\w+`, `Users/\w+`, "private/tmp"} {
		list = append(list, regexp.MustCompile(`(?m)(^|[^\w./<>~-])`+"/"+folder+`\b`))
	}
	for _, host := range [][2]string{
		{"golang", "proxy."},
		{"golang", "sum."},
		{"npmjs", "registry."},
		{"yarnpkg", "registry."},
		{"debian", "deb."},
		{"debian", "security."},
		{"debian", "snapshot."},
		{"nodesource", "deb."},
		{"pypi", ""},
		{"pythonhosted", "files."},
		{"docker", ""},
		{"gcr", ""},
		{"ghcr", ""},
		{"quay", ""},
	} {
		list = append(list, regexp.MustCompile(`\b`+regexp.QuoteMeta(host[1]+host[0])+`\.(org|com|io|dev)\b`))
	}
	return list
}()

// checkMachine finds absolute paths of a developer's machine and hosts of
// package registries.
func checkMachine(name, text string) []string {
	var problems []string
	for _, re := range machineNames {
		if at := re.FindStringIndex(text); at != nil {
			line := 1 + strings.Count(text[:at[1]], "\n")
			problems = append(problems, fmt.Sprintf("%s:%d: names %q, which only some machines have", name, line, strings.TrimSpace(text[at[0]:at[1]])))
		}
	}
	return problems
}

var (
	version   = regexp.MustCompile(`^\d+\.\d+`)
	goVersion = regexp.MustCompile(`(?m)^go (\S+)`)
)

// checkDockerfile finds an image that runs as root, has no health check or is
// not static, base images without a version, and a Go other than go.mod's.
func checkDockerfile(text, gomod string) []string {
	type instruction struct{ name, args string }
	var all []instruction
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "" && name[0] != '#' {
			all = append(all, instruction{strings.ToUpper(name), strings.TrimSpace(args)})
		}
	}
	var problems []string
	stages := map[string]bool{"scratch": true}
	static, user, health, entry := false, "", "", ""
	for _, i := range all {
		switch i.name {
		case "FROM":
			user, health, entry = "", "", "" // of the last stage, the image
			f := slices.DeleteFunc(strings.Fields(i.args), func(s string) bool { return strings.HasPrefix(s, "--") })
			image := cmp.Or(append(f, "")...)
			name, tag, _ := strings.Cut(path.Base(image), ":")
			if !stages[image] && !version.MatchString(tag) {
				problems = append(problems, fmt.Sprintf("Dockerfile: %q has no version", image))
			}
			if m := goVersion.FindStringSubmatch(gomod); name == "golang" && (m == nil || !strings.HasPrefix(tag+"-", m[1]+"-")) {
				problems = append(problems, fmt.Sprintf("Dockerfile: builds with %q, and go.mod says %q", image, m))
			}
			if len(f) == 3 {
				stages[f[2]] = true
			}
		case "USER":
			user, _, _ = strings.Cut(i.args, ":")
		case "HEALTHCHECK":
			health = i.args
		case "ENTRYPOINT":
			entry = i.args
		}
		static = static || strings.Contains(i.args, "CGO_ENABLED=0")
	}
	if user == "" || user == "0" || user == "root" {
		problems = append(problems, fmt.Sprintf("Dockerfile: the image runs as user %q", user))
	}
	if !strings.Contains(health, "CMD") {
		problems = append(problems, "Dockerfile: the image has no HEALTHCHECK")
	}
	if !strings.HasPrefix(entry, "[") {
		problems = append(problems, "Dockerfile: ENTRYPOINT is not a list, and there is no shell to read anything else")
	}
	if !static {
		problems = append(problems, "Dockerfile: nothing is built with CGO_ENABLED=0")
	}
	return problems
}
