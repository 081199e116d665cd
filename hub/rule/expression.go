package rule

import (
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// Kind is what an expression gives.
type Kind int

// The kinds. Any is known only when the expression is evaluated, as of a custom
// member.
const (
	Any Kind = iota
	Text
	Whole  // a whole number
	Number // a number with a fraction
	Truth  // true or false
	Moment // a point in time
	Texts  // a list of texts
	Items  // a list of anything else but objects
	Nothing
)

// Expression is a compiled expression that gives a value. It is immutable.
type Expression struct {
	prog   cel.Program
	source string
	kind   Kind
	needs  []Need
	reads  bool // whether it reads release at all
}

// Need is something an expression reads, and the fields that give it: any one
// of them will do.
type Need struct {
	Member string // as people know it, such as "summary" or "custom.deal_size"
	Fields []string
	Prefix string // in place of Fields: any field whose name begins with it
}

// Met reports whether fields give what is needed.
func (n Need) Met(fields []string) bool {
	return slices.ContainsFunc(fields, func(f string) bool {
		return slices.Contains(n.Fields, f) || n.Prefix != "" && strings.HasPrefix(f, n.Prefix)
	})
}

// CompileExpression compiles an expression over release, such as
//
//	"Call with " + release.account.name
//
// A release has the members of a call that can be released; see
// docs/ARCHITECTURE.md. The error is an [*Error].
func CompileExpression(source string) (*Expression, error) {
	c, err := compile(expressionEnv, source)
	if err != nil {
		return nil, err
	}
	kind, ok := kindOf(c.ast.OutputType())
	if !ok {
		return nil, &Error{Detail: "the expression gives " + typeName(c.ast.OutputType()) + "; a text, a number, true or false, a point in time or a list of them is expected"}
	}
	return &Expression{prog: c.prog, source: source, kind: kind, needs: c.needs(), reads: c.reads["release"]}, nil
}

// Kind returns what the expression gives.
func (e *Expression) Kind() Kind { return e.kind }

// Needs returns what the expression reads of a release.
func (e *Expression) Needs() []Need { return slices.Clone(e.needs) }

// Constant reports whether the expression gives the same for every release.
func (e *Expression) Constant() bool { return !e.reads }

// Record is a release in the form in which expressions read it. It is
// immutable.
type Record struct{ release ref.Val }

// RecordOf returns the record of a release's view: a map in the shape of the
// call format. A member of the wrong type counts as absent.
func RecordOf(view map[string]any) *Record { return &Record{release: fromJSON(releaseType, view)} }

// Eval returns the expression's value for a release: nil, string, int64,
// float64, bool, [time.Time] in the zone it was given in, or []any of these.
// The error is an [*EvalError].
func (e *Expression) Eval(r *Record) (any, error) {
	out, err := eval(e.prog, &scope{name: "release", value: r.release}, e.source)
	if err != nil {
		return nil, err
	}
	return native(out)
}

func kindOf(t *cel.Type) (Kind, bool) {
	switch t.Kind() { //nolint:exhaustive // nothing else fits a field
	case types.DynKind, types.TypeParamKind: // the latter of an empty list's entries
		return Any, true
	case types.StringKind:
		return Text, true
	case types.IntKind, types.UintKind:
		return Whole, true
	case types.DoubleKind:
		return Number, true
	case types.BoolKind:
		return Truth, true
	case types.TimestampKind:
		return Moment, true
	case types.NullTypeKind:
		return Nothing, true
	case types.ListKind:
		switch elem, ok := kindOf(t.Parameters()[0]); {
		case ok && elem == Text:
			return Texts, true
		case ok && elem != Texts && elem != Items:
			return Items, true
		}
	}
	return Any, false
}

func native(v ref.Val) (any, error) {
	switch v := v.(type) {
	case types.Null:
		return nil, nil //nolint:nilnil // null is a value
	case types.String:
		return string(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if uint64(v) > 1<<62 {
			return float64(v), nil
		}
		return int64(v), nil //nolint:gosec // checked above
	case types.Double:
		return float64(v), nil
	case types.Bool:
		return bool(v), nil
	case types.Timestamp:
		return v.Time, nil
	case traits.Lister:
		return nativeList(v)
	}
	return nil, &EvalError{Detail: "the expression gave something that no field can hold", err: errNoResult}
}

func nativeList(l traits.Lister) (any, error) {
	out := []any{}
	for it := l.Iterator(); it.HasNext() == types.True; {
		v, err := native(it.Next())
		if err != nil {
			return nil, err
		}
		if _, ok := v.([]any); ok {
			return nil, &EvalError{Detail: "the expression gave a list of lists, which no field can hold", err: errNoResult}
		}
		out = append(out, v)
	}
	return out, nil
}

// needs returns what the tree reads of a release, by the types of what its
// selections are made on.
func (c *compiled) needs() []Need {
	var out []Need
	add := func(n Need) {
		if !slices.ContainsFunc(out, func(o Need) bool { return o.Member == n.Member }) {
			out = append(out, n)
		}
	}
	native := c.ast.NativeRep()
	custom := map[int64]bool{} // selections of release.custom that a literal key narrows
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		operand, key, ok := keyed(e)
		if !ok {
			return
		}
		if isCustom(native, operand) {
			custom[operand.ID()] = true
			add(Need{Member: "custom." + key, Fields: []string{"custom." + key}})
		}
	}))
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.SelectKind {
			return
		}
		s := e.AsSelect()
		t, ok := allTypes[native.GetType(s.Operand().ID()).TypeName()]
		if !ok {
			return
		}
		m := t.members[t.place[s.FieldName()]]
		switch {
		case isCustom(native, e):
			if !custom[e.ID()] {
				add(Need{Member: "custom", Prefix: "custom."})
			}
		case len(m.needs) > 0:
			name := m.name
			if t == participantType {
				name = "participants." + name
			}
			add(Need{Member: name, Fields: m.needs})
		}
	}))
	return out
}

// isCustom reports whether e selects the custom members of a release.
func isCustom(tree *ast.AST, e ast.Expr) bool {
	if e.Kind() != ast.SelectKind || e.AsSelect().FieldName() != "custom" {
		return false
	}
	return tree.GetType(e.AsSelect().Operand().ID()).TypeName() == releaseType.cel.TypeName()
}

// keyed returns the operand and the literal key of x.key, x["key"] and
// "key" in x.
func keyed(e ast.Expr) (operand ast.Expr, key string, ok bool) {
	switch e.Kind() { //nolint:exhaustive // no other node has a key
	case ast.SelectKind:
		return e.AsSelect().Operand(), e.AsSelect().FieldName(), true
	case ast.CallKind:
		call := e.AsCall()
		args := call.Args()
		if len(args) != 2 {
			return nil, "", false
		}
		at := args
		switch call.FunctionName() {
		case operators.Index:
		case operators.In:
			at = []ast.Expr{args[1], args[0]}
		default:
			return nil, "", false
		}
		if at[1].Kind() != ast.LiteralKind {
			return nil, "", false
		}
		s, isText := at[1].AsLiteral().(types.String)
		return at[0], string(s), isText
	default:
		return nil, "", false
	}
}

// String returns the kind in plain words, with its article.
func (k Kind) String() string {
	switch k {
	case Any:
		return "a custom value"
	case Text:
		return "a text"
	case Whole:
		return "a whole number"
	case Number:
		return "a number"
	case Truth:
		return "true or false"
	case Moment:
		return "a point in time"
	case Texts:
		return "a list of texts"
	case Items:
		return "a list"
	case Nothing:
		return "nothing"
	}
	return "something else"
}
