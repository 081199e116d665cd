// Package rule is the language in which an admin says which calls an
// integration concerns and what becomes of a release: CEL, the Common
// Expression Language, over one call.
//
// A [Condition] is true or false of a call and its org; an [Expression] is a
// value made from a release. Both are compiled and type-checked once, when they
// are saved, and may then be evaluated by several goroutines at once. They are
// free of side effects and know no clock; a time zone that a rule names is looked
// up in the system's database. What one evaluation may cost is
// bounded twice: by an estimate for the largest possible call when it is
// compiled, and by a count while it runs.
//
// The texts of all errors are sentences for the admin who wrote the rule. They
// hold nothing of the call.
package rule

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
)

// The bounds of a rule.
const (
	MaxLength     = 4096       // characters
	maxNesting    = 60         // of the grammar's own rules; some twenty parentheses
	maxNodes      = 2000       // of the syntax tree, macros expanded
	maxLoops      = 2          // of exists, all, map and filter inside each other
	maxRegexp     = 500        // instructions of a regular expression's program
	maxCost       = 1_000_000  // CEL's own units, while it runs: a few milliseconds
	maxEstimate   = 50_000_000 // likewise, estimated for the largest call
	maxFmtDigits  = 20
	maxParseTries = 5
)

// Error says why a rule cannot be compiled.
type Error struct {
	Line   int    // from 1; 0 if the error has no place
	Column int    // from 1, in characters; 0 if the error has no place
	Detail string // a sentence
}

// Error returns the sentence, with the place before it.
func (e *Error) Error() string {
	switch {
	case e.Line > 1:
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Detail)
	case e.Column > 0:
		return fmt.Sprintf("column %d: %s", e.Column, e.Detail)
	}
	return e.Detail
}

// EvalError says why a rule has no result for a call.
type EvalError struct {
	Detail string // a sentence; holds nothing of the call
	err    error
}

// Error returns the sentence.
func (e *EvalError) Error() string { return e.Detail }

// Is reports whether e has the same cause as one of the package's own errors.
func (e *EvalError) Is(target error) bool { return errors.Is(e.err, target) }

// Causes of an [EvalError], for errors.Is.
var (
	ErrAbsent = errors.New("the call does not carry the member")
	ErrCost   = errors.New("the rule costs too much for this call")
)

// Condition is a compiled rule that is true or false. It is immutable.
type Condition struct {
	prog     cel.Program
	source   string
	conjunct []string // the terms of the outermost &&, each in one canonical spelling, sorted
	org      bool     // whether it reads org
}

// CompileCondition compiles a condition over call and org, such as
//
//	call.duration_seconds >= 120 && call.participants.exists(p, p.side == "external")
//
// The error is an [*Error].
func CompileCondition(source string) (*Condition, error) {
	c, err := compile(conditionEnv, source)
	if err != nil {
		return nil, err
	}
	// A custom member alone may be true or false; each call will tell.
	if k := c.ast.OutputType(); !k.IsExactType(cel.BoolType) && k.Kind() != types.DynKind {
		return nil, &Error{Detail: "a condition must be true or false, and this one is " + typeName(k)}
	}
	terms, err := conjuncts(c.ast)
	if err != nil {
		return nil, err
	}
	return &Condition{prog: c.prog, source: source, conjunct: terms, org: c.reads["org"]}, nil
}

// Source returns what the condition was compiled from.
func (c *Condition) Source() string { return c.source }

// Eval reports whether the condition holds of the call. The error is an
// [*EvalError].
func (c *Condition) Eval(call *View, org Org) (bool, error) {
	vars := scope{name: "call", value: call.call}
	if c.org {
		vars.org = org.value()
	}
	out, err := eval(c.prog, &vars, c.source)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, &EvalError{Detail: "the custom member is not true or false in this call", err: errNoResult}
	}
	return bool(b), nil
}

// Implies reports whether c certainly holds only where o does: every term of
// the outermost && of o is one of c's too. False means "not certain".
func (c *Condition) Implies(o *Condition) bool {
	have := make(map[string]bool, len(c.conjunct))
	for _, t := range c.conjunct {
		have[t] = true
	}
	for _, t := range o.conjunct {
		if !have[t] {
			return false
		}
	}
	return true
}

// Org is what a rule may know of the org.
type Org struct {
	ID, Name, Region, Language string
}

func (o Org) value() ref.Val {
	return newObject(orgType, types.String(o.ID), types.String(o.Name), types.String(o.Region), types.String(o.Language))
}

// scope holds the variables of one evaluation.
type scope struct {
	name       string // of value
	value, org ref.Val
}

// ResolveName implements interpreter.Activation.
func (s *scope) ResolveName(name string) (any, bool) {
	switch {
	case name == s.name:
		return s.value, true
	case name == "org" && s.org != nil:
		return s.org, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (*scope) Parent() cel.Activation { return nil }

// environment is what rules of one kind are compiled in.
type environment struct{ cel *cel.Env }

// The two environments take milliseconds to build, never change, and are built
// when the first rule is compiled.
//
//nolint:gochecknoglobals // constants that are expensive to make
var (
	conditionEnv = sync.OnceValues(func() (environment, error) {
		return newEnvironment(
			cel.Variable("call", callType.cel),
			cel.Variable("org", orgType.cel),
		)
	})
	expressionEnv = sync.OnceValues(func() (environment, error) {
		return newEnvironment(cel.Variable("release", releaseType.cel))
	})
)

func newEnvironment(vars ...cel.EnvOption) (environment, error) {
	opts := append([]cel.EnvOption{
		cel.CustomTypeProvider(provider{types.NewEmptyRegistry()}),
		cel.EnableMacroCallTracking(), // conjuncts unparses
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxLength),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserErrorRecoveryLimit(maxParseTries),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegexp),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateRegexLiterals(),
			cel.ValidateComprehensionNestingLimit(maxLoops),
		),
		ext.Strings(ext.StringsVersion(5), ext.StringsMaxPrecision(maxFmtDigits)),
	}, vars...)
	e, err := cel.NewEnv(opts...)
	if err != nil {
		return environment{}, fmt.Errorf("build the rule environment: %w", err)
	}
	return environment{cel: e}, nil
}
