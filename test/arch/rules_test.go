package arch

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// These tests show every rule something that keeps it and something that
// breaks it.

// in returns a package of this module that imports others of it.
func in(path string, imports ...string) pkg {
	return pkg{path: path, imports: imports}
}

func mod(path string) string { return module + "/" + path }

func TestImportRules(t *testing.T) {
	t.Parallel()
	table := [][]string{{"hub"}, {"connectors"}, {"connectors/*"}, {"connectors/all"}, {"main"}}
	lessTable := map[string][]string{"connectors/*": {"hub"}, "connectors/all": nil}
	tests := []struct {
		name string
		pkg  pkg
		want string // in the only problem; "" for none
	}{
		{"downwards", in("connectors", mod("hub"), "fmt"), ""},
		{"downwards over a pattern", in("connectors/all", mod("connectors/slack")), ""},
		{"upwards", in("hub", mod("connectors")), "hub: imports connectors, which is not in a lower layer"},
		{"sideways", in("connectors/slack", mod("connectors/webhook")), "connectors/slack: imports connectors/webhook, which is not in a lower layer"},
		{"unlisted", in("util"), "util: is in no layer"},
		{"unlisted and deeper than the pattern", in("connectors/slack/blocks"), "is in no layer"},
		{"a name beats a pattern", in("connectors/slack", mod("connectors/all")), "not in a lower layer"},
		{"an unlisted import", in("connectors", mod("hub"), mod("connectors/a/b")), ""}, // reported where it is found itself
		{"main, the root", in("main", mod("connectors/all"), mod("hub")), ""},
		{"importing main", in("hub", module), "hub: imports main, which is not in a lower layer"},

		{"a test of a higher layer", pkg{path: "hub", tests: []string{mod("connectors")}}, "hub: imports connectors"},
		{"a test of a fake", pkg{path: "connectors/slack", tests: []string{mod("connectors/slack/slacktest"), mod("test/redistest")}}, ""},
		{"a test of its own package", pkg{path: "hub", tests: []string{mod("hub")}}, ""},
		{"a fake is free", in("connectors/slack/slacktest", mod("connectors/all")), ""},
		{"a tool of tests is free", in("test/redistest", mod("connectors/all")), ""},
	}
	for _, tt := range tests {
		expect(t, tt.name, checkLayers(table, []pkg{tt.pkg}), tt.want)
	}

	for _, tt := range []struct {
		name string
		pkg  pkg
		want string
	}{
		{"allowed", in("connectors/slack", mod("hub"), "net/http"), ""},
		{"lower, but not allowed", in("connectors/slack", mod("connectors")), "connectors/slack: imports connectors; of this module it may import hub only"},
		{"its test too", pkg{path: "connectors/slack", tests: []string{mod("connectors")}}, "imports connectors;"},
		{"excepted by name", in("connectors/all", mod("connectors/slack")), ""},
		{"nothing narrower", in("main", mod("connectors/slack")), ""},
		{"hub with a library", in("hub", "net/url", "golang.org/x/text"), "hub: imports golang.org/x/text"},
		{"a test of hub with a library", pkg{path: "hub", tests: []string{"pgregory.net/rapid"}}, ""},
	} {
		expect(t, tt.name, checkNarrow(lessTable, []pkg{tt.pkg}), tt.want)
	}

	for _, tt := range []struct {
		name string
		pkg  pkg
		want string
	}{
		{"at home", in("hub/store", "example.org/redis/v9"), ""},
		{"beneath", in("hub/store/storetest", "example.org/redis/v9"), ""},
		{"elsewhere", in("hub/storage", "example.org/redis/v9/internal"), "hub/storage: imports example.org/redis/v9/internal, which only hub/store may"},
		{"in a test elsewhere", pkg{path: "test/e2e", tests: []string{"example.org/redis/v9"}}, "test/e2e: imports"},
		{"another library", in("hub", "example.org/redistribute"), ""},
	} {
		expect(t, tt.name, checkConfined(map[string]string{"example.org/redis": "hub/store"}, []pkg{tt.pkg}), tt.want)
	}

	for _, tt := range []struct {
		name string
		pkg  pkg
		want string
	}{
		{"a fake in the service", in("hub/server", mod("connectors/slack/slacktest")), "hub/server: imports connectors/slack/slacktest, which is for tests"},
		{"a tool in the service", in("hub/server", mod("test/redistest")), "which is for tests"},
		{"the demo in the service", in("hub/server", mod("test/demo")), "which is for tests"},
		{"a fake in main", in("main", mod("connectors/slack/slacktest")), "which is for tests"},
		{"the demo in main", in("main", mod("test/demo")), ""},
		{"a fake in the demo", in("test/demo", mod("connectors/slack/slacktest")), ""},
		{"a suite in a fake", in("connectors/slack/slacktest", mod("connectors/connectortest")), ""},
		{"a fake in a test", pkg{path: "hub/server", tests: []string{mod("connectors/slack/slacktest")}}, ""},
		{"net/http/httptest is not ours", in("hub/server", "net/http/httptest"), ""},
	} {
		expect(t, tt.name, checkTestOnly([]pkg{tt.pkg}), tt.want)
	}
}

// TestTables makes sure that no name of the tables is misspelt or listed twice.
func TestTables(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, l := range layers {
		for _, p := range l {
			if seen[p] {
				t.Errorf("%s is in two layers", p)
			}
			seen[p] = true
		}
	}
	for p, allowed := range narrow {
		for _, a := range append(allowed, p) {
			if !seen[a] {
				t.Errorf("%s of the narrower rules is in no layer", a)
			}
		}
	}
}

func TestPackageCommentRule(t *testing.T) {
	t.Parallel()
	const (
		with    = "// Package a does things.\npackage a\n"
		without = "package a\n"
	)
	for _, tt := range []struct {
		name    string
		sources []string
		want    string
	}{
		{"one", []string{with, without}, ""},
		{"none", []string{without}, "a: has 0 package comments"},
		{"two", []string{with, with}, "a: has 2 package comments"},
		{"other words", []string{"// A does things.\npackage a\n"}, "does not begin with"},
		{"another package's", []string{"// Package ab does things.\npackage a\n"}, "does not begin with"},
		{"main", []string{"// Callbridge does things.\npackage main\n"}, ""},
		{"a build tag is no comment", []string{"//go:build linux\n\npackage a\n"}, "has 0"},
		{"apart from the clause", []string{"// Package a does things.\n\npackage a\n"}, "has 0"},
		{"not Go", []string{"pakage a"}, "a:1:1"},
	} {
		expect(t, tt.name, checkPackageComment("a", tt.sources), tt.want)
	}
}

func TestDocumentRule(t *testing.T) {
	t.Parallel()
	repo := fstest.MapFS{
		"main.go": {}, "README.md": {}, "hub/consent/release.go": {}, "docs/CONNECTORS.md": {},
		"hub/store/lua/accept.lua": {}, "test": {Mode: fs.ModeDir},
	}
	for _, tt := range []struct{ text, want string }{
		{"`hub/consent/release.go`", ""},
		{"`hub/consent/`, `hub/consent` and `hub/`", ""},
		{"`hub/consent.Release`", ""},
		{"`hub/store/lua/*.lua`", ""},
		{"`connectors/<name>/`", ""},
		{"`and/or`, `text/plain`, `call.json`, `hub.OrgID`, `POST /v1/calls`, `a b/c`, `github.com/x/y.go`", "github.com/x/y.go"},
		{"\n\nsee `hub/gone`", "docs/X.md:3: names hub/gone, which does not exist"},
		{"`hub/gone.Thing`", "names hub/gone"},
		{"`hub/store/lua/*.sql`", "names hub/store/lua/*.sql"},
		{"`gone.go`", "names gone.go"},
		{"`CONNECTORS.md`", ""}, // beside the document
		{"[how](CONNECTORS.md) [up](../README.md) [part](CONNECTORS.md#top) [here](#top) [out](https://example.org/x.md)", ""},
		{"[how](GONE.md)", "names GONE.md"},
		{"```sh\ncd hub/gone/\n```", ""},
		{"```\nhub/          words\nhub/gone/     more\n  hub/also/ not looked at\n```\n`hub/consent`", "docs/X.md:3: names hub/gone"},
	} {
		expect(t, tt.text, checkDocument("docs/X.md", tt.text, repo), tt.want)
	}
}

func TestConnectorRule(t *testing.T) {
	t.Parallel()
	const all = "package all\nimport (\n\"github.com/optiwe/callbridge/connectors/a\"\n" +
		"b \"github.com/optiwe/callbridge/connectors/bee\"\n)\nvar _ = []any{a.Descriptor(), b.Descriptor()}\n"
	descriptor := func(name string) string { return "package " + name + "\nfunc Descriptor() int { return 0 }\n" }
	suite := func(name string) string {
		return "package " + name + "\nimport \"github.com/optiwe/callbridge/connectors/connectortest\"\nfunc TestX(t *testing.T) { connectortest.Run(t, nil, nil) }\n"
	}
	for _, tt := range []struct {
		name    string
		sources map[string]string
		want    string
	}{
		{"well", map[string]string{
			"connectors/all/all.go": all,
			"connectors/a/a.go":     descriptor("a"), "connectors/a/a_test.go": suite("a_test"),
			"connectors/bee/b.go": descriptor("bee"), "connectors/bee/b_test.go": suite("bee"),
			"connectors/outbound/outbound.go": "package outbound\n",
		}, ""},
		{"not listed", map[string]string{
			"connectors/all/all.go": all,
			"connectors/c/c.go":     descriptor("c"), "connectors/c/c_test.go": suite("c"),
		}, "connectors/c: is not in connectors/all"},
		{"not tested", map[string]string{
			"connectors/all/all.go": all, "connectors/a/a.go": descriptor("a"),
		}, "connectors/a: its tests do not call connectortest.Run"},
		{"imported, not listed", map[string]string{
			"connectors/all/all.go": strings.Replace(all, "a.Descriptor()", "a.Other()", 1),
			"connectors/a/a.go":     descriptor("a"), "connectors/a/a_test.go": suite("a"),
		}, "connectors/a: is not in connectors/all"},
		{"a suite that is not called", map[string]string{
			"connectors/all/all.go": all, "connectors/a/a.go": descriptor("a"),
			"connectors/a/a_test.go": strings.Replace(suite("a"), ".Run(", ".Faults(", 1),
		}, "do not call connectortest.Run"},
		{"a method is no Descriptor of the package", map[string]string{
			"connectors/conn.go": "package connectors\ntype C int\nfunc (C) Descriptor() int { return 0 }\n",
		}, ""},
	} {
		expect(t, tt.name, checkConnectors(tt.sources), tt.want)
	}
}

func TestDependencyRule(t *testing.T) {
	t.Parallel()
	const page = "# Architecture\n\n| `example.org/before` | not in the section |\n\n## 7. Dependencies\n\n" +
		"| module | what for |\n|---|---|\n| `example.org/a` | a |\n### More\n| `example.org/b/v2` | b |\n\n## After\n\n| `example.org/after` | x |\n"
	for _, tt := range []struct {
		name   string
		direct []string
		want   string
	}{
		{"well", []string{"example.org/a", "example.org/b/v2"}, ""},
		{"no row", []string{"example.org/a", "example.org/b/v2", "example.org/after"}, "0 rows for example.org/after"},
		{"stale row", []string{"example.org/a"}, "has example.org/b/v2, which go.mod does not require directly"},
	} {
		expect(t, tt.name, checkDependencies(tt.direct, page), tt.want)
	}
	expect(t, "twice", checkDependencies([]string{"example.org/a"}, "## Dependencies\n"+strings.Repeat("| `example.org/a` | a |\n", 2)), "2 rows")
}

func TestScriptRule(t *testing.T) {
	t.Parallel()
	const header = "-- take takes.\n--\n--   KEYS[1]  the lane\n--   ARGV[1]  how many\n--\n-- Returns how many it took.\n"
	const body = "\nlocal n = redis.call('ZCARD', KEYS[1])\nreturn n - ARGV[1]\n"
	for _, tt := range []struct{ name, text, want string }{
		{"well", header + body, ""},
		{"listed in order", strings.Replace(header, "ARGV[1]  ", "ARGV     ", 1) + body, ""},
		{"no header", strings.TrimPrefix(body, "\n"), "does not begin with a comment"},
		{"no key", strings.Replace(header, "KEYS[1]", "a key", 1) + body, "does not name KEYS[1]"},
		{"no argument", strings.Replace(header, "ARGV[1]", "a number", 1) + body, "does not name ARGV[1]"},
		{"another argument", header + strings.Replace(body, "ARGV[1]", "ARGV[2]", 1), "does not name ARGV[2]"},
		{"no result", strings.Replace(header, "Returns", "Gives", 1) + body, "does not say what it returns"},
		{"a preamble returns nothing", "-- KEYS[1] is any key.\nlocal function f() return KEYS[1] end\n", ""},
	} {
		problems := checkScript("x.lua", tt.text)
		if tt.name == "no header" {
			problems = problems[:min(1, len(problems))] // what else is missing follows from it
		}
		expect(t, tt.name, problems, tt.want)
	}
}

func TestMachineRule(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		bad  bool
	}{
		{"a\nread /" + "root/go/bin", true},
		{"\"/" + "work/main/hub\"", true},
		{"see /" + "home/dana/callbridge", true},
		{"/" + "Users/dana", true},
		{"image: gcr" + ".io/distroless", true},
		{"https://proxy." + "golang.org/x", true},
		{"registry." + "npmjs.org", true},
		{"https://example.org/" + "home/dana", false},
		{"the /" + "work of a lane", false},
		{"~/" + "root", false},
		{"pkg.go.dev and golang.org/x/text and slack.com", false},
	} {
		want := ""
		if tt.bad {
			want = "which only some machines have"
		}
		expect(t, tt.text, checkMachine("x", tt.text), want)
	}
}

func TestDockerfileRule(t *testing.T) {
	t.Parallel()
	const well = "FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build\nRUN CGO_ENABLED=0 \\\n  go build\n" +
		"# the image\nFROM scratch\nUSER 65532:65532\nHEALTHCHECK --interval=10s \\\n  CMD [\"/callbridge\", \"healthcheck\"]\nENTRYPOINT [\"/callbridge\"]\n"
	for _, tt := range []struct{ name, old, new, want string }{
		{"well", "", "", ""},
		{"no user", "USER 65532:65532", "", `runs as user ""`},
		{"root", "USER 65532:65532", "USER root", `runs as user "root"`},
		{"root by number", "USER 65532:65532", "USER 0:0", `runs as user "0"`},
		{"the user of another stage", "AS build\n", "AS build\nUSER 1\n", ""},
		{"a later stage", "ENTRYPOINT", "FROM build\nENTRYPOINT", `runs as user ""`},
		{"no check", "HEALTHCHECK --interval=10s", "LABEL x", "has no HEALTHCHECK"},
		{"the check is off", "HEALTHCHECK --interval=10s \\\n  CMD [\"/callbridge\", \"healthcheck\"]", "HEALTHCHECK NONE", "has no HEALTHCHECK"},
		{"dynamic", "CGO_ENABLED=0", "CGO_ENABLED=1", "CGO_ENABLED=0"},
		{"no tag", "golang:1.26.8-bookworm", "golang", `"golang" has no version`},
		{"latest", "golang:1.26.8-bookworm", "golang:latest", `"golang:latest" has no version`},
		{"another Go", "golang:1.26.8-", "golang:1.26.80-", `builds with "golang:1.26.80-bookworm"`},
		{"a shell", `ENTRYPOINT ["/callbridge"]`, "ENTRYPOINT /callbridge", "ENTRYPOINT is not a list"},
	} {
		problems := checkDockerfile(strings.Replace(well, tt.old, tt.new, 1), "module x\n\ngo 1.26.8\n")
		if tt.name == "a later stage" || tt.name == "no tag" || tt.name == "latest" {
			problems = problems[:min(1, len(problems))] // the rest follows from it
		}
		expect(t, tt.name, problems, tt.want)
	}
}

// expect reports a difference between the problems found and the one wanted.
func expect(t *testing.T, name string, problems []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(problems) > 0:
		t.Errorf("%s: %q, want no problem", name, problems)
	case want != "" && (len(problems) != 1 || !strings.Contains(fmt.Sprint(problems), want)):
		t.Errorf("%s: %q, want one with %q", name, problems, want)
	}
}
