package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// checkLayers finds imports that do not go downwards, and packages that are in
// no layer.
func checkLayers(layers [][]string, pkgs []pkg) []string {
	var problems []string
	for _, p := range pkgs {
		if testOnly(p.path) {
			continue
		}
		own := layerOf(layers, p.path)
		if own < 0 {
			problems = append(problems, fmt.Sprintf("%s: is in no layer; put it into the table in test/arch and in docs/ARCHITECTURE.md", p.path))
			continue
		}
		for _, imp := range slices.Concat(p.imports, p.tests) {
			dep, ok := within(imp)
			if !ok || testOnly(dep) || dep == p.path {
				continue
			}
			if l := layerOf(layers, dep); l >= own {
				problems = append(problems, fmt.Sprintf("%s: imports %s, which is not in a lower layer", p.path, dep))
			}
		}
	}
	return problems
}

// layerOf returns the index of the layer of a package, or -1.
func layerOf(layers [][]string, pkg string) int {
	for i, l := range layers {
		if slices.Contains(l, pkg) {
			return i
		}
	}
	return slices.IndexFunc(layers, func(l []string) bool {
		return slices.ContainsFunc(l, func(pattern string) bool { return matches(pattern, pkg) })
	})
}

// checkNarrow finds imports, of a package or its tests, that its own list does
// not have, and in hub anything but the standard library.
func checkNarrow(narrow map[string][]string, pkgs []pkg) []string {
	var problems []string
	for _, p := range pkgs {
		if p.path == "hub" {
			for _, imp := range p.imports {
				if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") {
					problems = append(problems, fmt.Sprintf("hub: imports %s; it is the vocabulary, and imports the standard library only", imp))
				}
			}
		}
		allowed := allowedBy(narrow, p.path)
		if allowed == nil || testOnly(p.path) {
			continue
		}
		for _, imp := range slices.Concat(p.imports, p.tests) {
			if dep, ok := within(imp); ok && dep != p.path && !testOnly(dep) && !slices.Contains(allowed, dep) {
				problems = append(problems, fmt.Sprintf("%s: imports %s; of this module it may import %s only", p.path, dep, strings.Join(allowed, ", ")))
			}
		}
	}
	return problems
}

func allowedBy(narrow map[string][]string, pkg string) []string {
	if allowed, ok := narrow[pkg]; ok {
		return allowed
	}
	for pattern, allowed := range narrow {
		if matches(pattern, pkg) {
			return allowed
		}
	}
	return nil
}

// checkConfined finds libraries imported outside the folder that has them.
func checkConfined(confined map[string]string, pkgs []pkg) []string {
	var problems []string
	for _, p := range pkgs {
		for _, imp := range slices.Concat(p.imports, p.tests) {
			for library, folder := range confined {
				if beneath(imp, library) && !beneath(p.path, folder) {
					problems = append(problems, fmt.Sprintf("%s: imports %s, which only %s may", p.path, imp, folder))
				}
			}
		}
	}
	return problems
}

// checkTestOnly finds packages made for tests that something else imports.
func checkTestOnly(pkgs []pkg) []string {
	var problems []string
	for _, p := range pkgs {
		if testOnly(p.path) {
			continue
		}
		for _, imp := range p.imports {
			dep, ok := within(imp)
			if ok && testOnly(dep) && (p.path != "main" || dep != "test/demo") {
				problems = append(problems, fmt.Sprintf("%s: imports %s, which is for tests", p.path, dep))
			}
		}
	}
	return problems
}

// testOnly reports whether a package is for tests only: its name ends in
// "test", or it is beneath test/.
func testOnly(pkg string) bool {
	return strings.HasPrefix(pkg, "test/") || strings.HasSuffix(pkg, "test")
}

// matches is path.Match; the patterns are our own.
func matches(pattern, pkg string) bool {
	ok, err := path.Match(pattern, pkg)
	return err == nil && ok
}

// beneath reports whether p is folder or within it.
func beneath(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }
