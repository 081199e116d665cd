package rule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"github.com/google/cel-go/parser"
)

// compiled is a rule of either kind.
type compiled struct {
	ast   *cel.Ast
	prog  cel.Program
	reads map[string]bool // the variables
}

func compile(in func() (environment, error), source string) (*compiled, error) {
	env, err := in()
	if err != nil {
		return nil, err
	}
	switch n := utf8.RuneCountInString(source); {
	case strings.TrimSpace(source) == "":
		return nil, &Error{Detail: "the rule is empty"}
	case n > MaxLength:
		return nil, &Error{Detail: fmt.Sprintf("the rule has %d characters, and %d are allowed", n, MaxLength)}
	case !utf8.ValidString(source) || strings.ContainsRune(source, 0):
		return nil, &Error{Detail: "the rule must be UTF-8 text without the character NUL"}
	}
	tree, issues := compileSafely(env.cel, source)
	if issues.Err() != nil {
		return nil, sentence(issues)
	}
	c := &compiled{ast: tree, reads: map[string]bool{}}
	if err := c.inspect(); err != nil {
		return nil, err
	}
	cost, err := env.cel.EstimateCost(tree, sizes{})
	if err != nil {
		return nil, &Error{Detail: "the rule is of a kind whose cost cannot be told; write it in a simpler way"}
	}
	if cost.Max > maxEstimate {
		return nil, &Error{Detail: "the rule could take too long for a large call; use fewer loops inside each other, shorter texts or less replacing"}
	}
	c.prog, err = env.cel.Program(tree, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &Error{Detail: "the rule cannot be prepared: one of its constants or regular expressions is not valid"}
	}
	return c, nil
}

// compileSafely parses and checks source. A panic of the library, which would
// be a fault of it, becomes an issue like any other: rules come from outside.
func compileSafely(env *cel.Env, source string) (tree *cel.Ast, issues *cel.Issues) {
	defer func() {
		if recover() != nil {
			errs := common.NewErrors(common.NewTextSource(source))
			errs.ReportErrorString(common.NoLocation, "internal")
			tree, issues = nil, cel.NewIssues(errs)
		}
	}()
	return env.Compile(source)
}

// unwanted are functions that the libraries bring along and that rules cannot
// use: dyn switches type checking off, format and quote are for programs.
func unwanted(function string) bool {
	switch function {
	case "dyn", "format", "strings.quote", "type":
		return true
	}
	return false
}

// inspect looks at every node of the tree for what rules may not contain, and
// notes the variables they read.
func (c *compiled) inspect() error {
	var bad *Error
	report := func(e ast.Expr, detail string) {
		if bad == nil {
			bad = c.at(e.ID(), detail)
		}
	}
	native := c.ast.NativeRep()
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case e.Kind() == ast.StructKind:
			report(e, "a rule cannot make objects")
		case e.Kind() == ast.CallKind && unwanted(e.AsCall().FunctionName()):
			report(e, "the function "+e.AsCall().FunctionName()+" is not available")
		case e.Kind() == ast.IdentKind:
			c.reads[e.AsIdent()] = true
		}
	}))
	if bad != nil {
		return bad
	}
	return nil
}

// at returns the error at the node with that id.
func (c *compiled) at(id int64, detail string) *Error {
	loc := c.ast.NativeRep().SourceInfo().GetStartLocation(id)
	if loc.Line() < 1 {
		return &Error{Detail: detail}
	}
	return &Error{Line: loc.Line(), Column: loc.Column() + 1, Detail: detail}
}

// conjuncts returns the terms of the outermost &&, each spelt canonically,
// sorted.
func conjuncts(tree *cel.Ast) ([]string, error) {
	info := tree.NativeRep().SourceInfo()
	var out []string
	var walk func(e ast.Expr) error
	walk = func(e ast.Expr) error {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
			for _, arg := range e.AsCall().Args() {
				if err := walk(arg); err != nil {
					return err
				}
			}
			return nil
		}
		s, err := parser.Unparse(e, info)
		if err != nil {
			return &Error{Detail: "the rule is of a kind that cannot be compared with later versions of it; write it in a simpler way"}
		}
		out = append(out, s)
		return nil
	}
	if err := walk(tree.NativeRep().Expr()); err != nil {
		return nil, err
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// sizes tells the estimate how large what a rule reads can be.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	if size, ok := pathSize(node.Path()); ok {
		return &checker.SizeEstimate{Max: size}
	}
	switch t := node.Type(); {
	case t == nil:
		return nil
	case t.Kind() == types.StringKind || t.Kind() == types.DynKind:
		return &checker.SizeEstimate{Max: sizeLong}
	case t.Kind() == types.ListKind || t.Kind() == types.MapKind:
		return &checker.SizeEstimate{Max: sizeList}
	}
	return nil
}

// EstimateCallCost implements checker.CostEstimator: the libraries know their
// own.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// pathSize returns the greatest size of what a path such as
// call.participants.@items.name names.
func pathSize(path []string) (uint64, bool) {
	if len(path) < 2 {
		return 0, false
	}
	t := map[string]*objectType{"call": callType, "org": orgType, "release": releaseType}[path[0]]
	for i, step := range path[1:] {
		if t == nil {
			return 0, false
		}
		at, ok := t.place[step]
		if !ok {
			return 0, false
		}
		m := t.members[at]
		rest := path[i+2:]
		if len(rest) == 0 {
			return m.max, true
		}
		switch {
		case m.typ.Kind() == types.StructKind:
			t = allTypes[m.typ.TypeName()]
			continue
		case m.typ.Kind() == types.ListKind && rest[0] == "@items":
			elem := m.typ.Parameters()[0]
			if elem.Kind() != types.StructKind {
				return sizeText, true
			}
			if len(rest) < 2 {
				return 1, true
			}
			at, ok := allTypes[elem.TypeName()].place[rest[1]]
			if !ok {
				return 0, false
			}
			return allTypes[elem.TypeName()].members[at].max, true
		default: // a custom member
			return sizeText, true
		}
	}
	return 0, false
}

// Patterns of the checker's own messages. The names that they show stand in
// the rule.
var (
	undefinedField = regexp.MustCompile(`^undefined field '([^']*)'`)
	undeclared     = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload     = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'`)
	badRange       = regexp.MustCompile(`^expression of type '([^']*)' cannot be range of a comprehension`)
	badSelect      = regexp.MustCompile(`^type '([^']*)' does not support field selection`)
	badMatch       = regexp.MustCompile(`^expected type '([^']*)' but found '([^']*)'`)
)

// sentence returns the first issue as a sentence for whoever wrote the rule.
func sentence(issues *cel.Issues) *Error {
	errs := issues.Errors()
	if len(errs) == 0 {
		return &Error{Detail: "the rule cannot be compiled"}
	}
	slices.SortStableFunc(errs, func(a, b *cel.Error) int {
		if a.Location.Line() != b.Location.Line() {
			return a.Location.Line() - b.Location.Line()
		}
		return a.Location.Column() - b.Location.Column()
	})
	first := errs[0]
	e := &Error{Detail: explain(first.Message)}
	if l := first.Location; l.Line() >= 1 && l.Column() >= 0 {
		e.Line, e.Column = l.Line(), l.Column()+1
	}
	return e
}

func explain(msg string) string {
	if m := undefinedField.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("there is no member %q%s", m[1], suggestion(m[1]))
	}
	if m := undeclared.FindStringSubmatch(msg); m != nil {
		if strings.HasPrefix(m[1], "@") || strings.ContainsAny(m[1], "_[]!&|<>=+*/%?-") && !strings.ContainsAny(m[1], "abcdefghijklmnopqrstuvwxyz") {
			return "an operator is used in a way that does not exist"
		}
		return fmt.Sprintf("there is nothing named %q; a condition reads call and org, a mapping reads release, and a text stands in quotes", m[1])
	}
	if m := noOverload.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("%s does not work with %s", operatorName(m[1]), typeNames(m[2]))
	}
	if m := badRange.FindStringSubmatch(msg); m != nil {
		return "exists, all, map and filter need a list, and this is " + plainType(m[1])
	}
	if m := badSelect.FindStringSubmatch(msg); m != nil {
		return plainType(m[1]) + " has no members"
	}
	if m := badMatch.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("%s is expected here, and this is %s", plainType(m[1]), plainType(m[2]))
	}
	switch {
	case strings.HasPrefix(msg, "Syntax error: mismatched input '<EOF>'"), strings.Contains(msg, "<EOF>"):
		return "the rule ends too early: something is missing at its end, such as a closing bracket or quote"
	case strings.Contains(msg, "token recognition error"):
		return "there is a character here that does not belong, or a quote is not closed"
	case strings.HasPrefix(msg, "Syntax error"):
		return "the rule cannot be read here: an operator, a bracket or a comma is missing or too many"
	case strings.Contains(msg, "recursion"), strings.Contains(msg, "nesting"), strings.Contains(msg, "nested"):
		return "the rule is nested too deeply; write it with fewer brackets or loops inside each other"
	case strings.Contains(msg, "regex"), strings.Contains(msg, "matches"):
		return "the regular expression is not valid or too large"
	case strings.Contains(msg, "timestamp"):
		return `the point in time is not valid; write it like timestamp("2026-11-20T15:00:00Z")`
	case strings.Contains(msg, "duration"):
		return `the length of time is not valid; write it like duration("90s")`
	case strings.Contains(msg, "limit"), strings.Contains(msg, "exceeds"):
		return "the rule is too large"
	case strings.Contains(msg, "macro"), strings.Contains(msg, "argument"), strings.Contains(msg, "has()"):
		return "the arguments are not what this function takes; has takes one member, exists, all, map and filter a name and an expression"
	}
	return "the rule cannot be compiled here"
}

// operatorName returns what people call the function of a checker message.
func operatorName(f string) string {
	if op, ok := operators.FindReverse(f); ok && op != "" {
		return op
	}
	switch f {
	case operators.Index:
		return "[ ]"
	case operators.Conditional:
		return "? :"
	case operators.Negate:
		return "-"
	case operators.In:
		return "in"
	}
	return f
}

// typeNames rewrites the list of types of a "no matching overload" message,
// such as "(list(string), int)" or "string.(int)".
func typeNames(s string) string {
	target, args, member := strings.Cut(s, ".(")
	if !member {
		target, args = "", strings.TrimPrefix(s, "(")
	}
	var out []string
	if target != "" {
		out = append(out, plainType(target))
	}
	for _, a := range splitTypes(strings.TrimSuffix(args, ")")) {
		out = append(out, plainType(a))
	}
	switch len(out) {
	case 0:
		return "nothing"
	case 1:
		return out[0]
	}
	return strings.Join(out[:len(out)-1], ", ") + " and " + out[len(out)-1]
}

// splitTypes splits at commas that are not inside brackets.
func splitTypes(s string) []string {
	var out []string
	depth, from := 0, 0
	for i, r := range s {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, s[from:i])
				from = i + 1
			}
		}
	}
	return append(out, s[from:])
}

// plainType returns a CEL type's name in plain words, with its article.
func plainType(t string) string {
	t = strings.TrimSpace(t)
	switch {
	case t == "string":
		return "a text"
	case t == "int" || t == "uint":
		return "a whole number"
	case t == "double":
		return "a number"
	case t == "bool":
		return "true or false"
	case t == "google.protobuf.Timestamp" || t == "timestamp":
		return "a point in time"
	case t == "google.protobuf.Duration" || t == "duration":
		return "a length of time"
	case t == "null_type" || t == "null":
		return "null"
	case t == "dyn":
		return "a custom value"
	case t == "bytes":
		return "bytes"
	case strings.HasPrefix(t, "list("):
		return "a list"
	case strings.HasPrefix(t, "map("):
		return "a map"
	case strings.HasPrefix(t, "type("):
		return "a type"
	}
	if _, ok := allTypes[t]; ok {
		return "an object"
	}
	return "something else"
}

func typeName(t *cel.Type) string { return plainType(t.String()) }

// suggestion returns a hint at the member that is spelt most like name, or "".
func suggestion(name string) string {
	best, least := "", 2+len(name)/3
	for _, t := range allTypes {
		for _, m := range t.members {
			d := distance(name, m.name)
			if d < least || d == least && best != "" && m.name < best {
				best, least = m.name, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of letters to insert, delete or replace to get from a
// to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// eval evaluates prog. The error is an *EvalError.
func eval(prog cel.Program, vars *scope, source string) (ref.Val, error) {
	out, _, err := prog.Eval(vars)
	if err != nil {
		return nil, evalError(err, source)
	}
	return out, nil
}

// evalError returns err as a sentence. CEL's own texts can hold what the call
// holds, so nothing of them is taken over but a key that stands in the rule.
func evalError(err error, source string) *EvalError {
	if cancelled, ok := errors.AsType[interpreter.EvalCancelledError](err); ok && cancelled.Cause == interpreter.CostLimitExceeded {
		return &EvalError{Detail: "the rule takes too long for this call", err: ErrCost}
	}
	if absent, ok := errors.AsType[absentError](err); ok {
		return &EvalError{
			Detail: fmt.Sprintf("the call carries no %s; ask has() first", absent.member), err: ErrAbsent,
		}
	}
	msg := err.Error()
	detail := "the rule has no result for this call"
	switch {
	case strings.Contains(msg, "no such key"):
		_, key, _ := strings.Cut(msg, "no such key: ")
		if !spelt(source, key) {
			key = "of that name"
		}
		return &EvalError{Detail: fmt.Sprintf("the call carries no custom member %s; ask has() or in first", key), err: ErrAbsent}
	case strings.Contains(msg, "no such overload"):
		detail = "a custom member of this call has another type than the rule expects"
	case strings.Contains(msg, "by zero"):
		detail = "the rule divides by zero for this call"
	case strings.Contains(msg, "overflow"), strings.Contains(msg, "range"):
		detail = "a number or index of the rule is out of range for this call"
	case strings.Contains(msg, "index"):
		detail = "the rule reads an entry that a list of this call does not have"
	case strings.Contains(msg, "pars"), strings.Contains(msg, "conver"), strings.Contains(msg, "timestamp"):
		detail = "a text of this call cannot be read as what the rule expects"
	}
	return &EvalError{Detail: detail, err: errNoResult}
}

// spelt reports whether the rule itself names the key, rather than finding it
// in the call.
func spelt(source, key string) bool {
	return key != "" && (strings.Contains(source, "."+key) || strings.Contains(source, `"`+key+`"`) || strings.Contains(source, "'"+key+"'"))
}

var errNoResult = errors.New("no result")
