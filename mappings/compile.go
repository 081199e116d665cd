package mappings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/rule"
)

// MaxFields is how many destination fields one mapping may set.
const MaxFields = 200

// Mapping is a compiled mapping. It is immutable and may be used by several
// goroutines. The zero Mapping sets nothing.
type Mapping struct {
	fields []mapped // by name
	evals  bool     // whether any of them is an expression
}

type mapped struct {
	field Field
	from  source
}

// Compile checks src against the schema and makes it ready. fields are the
// names of the fields that are released; a mapping that reads another is
// refused. What is wrong is returned with pointers relative to the mapping, in
// the order of the fields' names; the Mapping is nil then.
func Compile(src Source, schema Schema, fields []string) (*Mapping, []hub.FieldError) {
	if len(src) > MaxFields {
		return nil, []hub.FieldError{{Detail: fmt.Sprintf("a mapping can set %d fields at most", MaxFields)}}
	}
	m := &Mapping{fields: make([]mapped, 0, len(src))}
	var wrong []hub.FieldError
	for _, name := range slices.Sorted(maps.Keys(src)) {
		f, detail := schema.field(name)
		var from source
		if detail == "" {
			from, detail = compileSource(src[name], f, fields)
		}
		if detail != "" {
			wrong = append(wrong, hub.FieldError{Pointer: "/" + escape(name), Detail: detail})
			continue
		}
		m.fields = append(m.fields, mapped{f, from})
		m.evals = m.evals || from.expr != nil
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return m, nil
}

// Open is a schema that accepts every field: what a mapping is checked against
// where the destination's own schema is not at hand.
func Open() Schema { return Schema{Custom: func(string) bool { return true }} }

// field returns the field of that name, or what is wrong with it.
func (s Schema) field(name string) (f Field, detail string) {
	for _, f := range s.Fields {
		if f.Name == name {
			return f, ""
		}
	}
	if name != "" && s.Custom != nil && s.Custom(name) {
		return Field{Name: name}, ""
	}
	return Field{}, "the destination has no field of this name that a mapping can set"
}

// escape escapes a name for a pointer (RFC 6901).
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func compileSource(raw json.RawMessage, f Field, fields []string) (from source, detail string) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return source{}, "it is not valid JSON"
	}
	switch v := v.(type) {
	case string:
		if from, detail = compileText(v, fields); detail != "" {
			return source{}, detail
		}
	case json.Number:
		from = source{kind: rule.Number, constant: number(v)}
		if from.constant == nil {
			return source{}, "the number is too large"
		}
	case bool:
		from = source{kind: rule.Truth, constant: v}
	case nil:
		from = source{kind: rule.Nothing}
	default:
		return source{}, "it must be a string (the name of a released field, or an expression), a number, true, false or null"
	}
	if detail = fits(from.kind, f); detail != "" {
		return source{}, detail
	}
	if from.read == nil && from.expr == nil {
		if _, loss := convert(f, from, from.constant); loss != nil {
			return source{}, "this constant does not fit the field: " + loss.Detail
		}
	}
	return from, ""
}

func compileText(s string, fields []string) (from source, detail string) {
	if strings.HasPrefix(s, matchingPrefix) {
		return source{}, s + " may be used for look-ups only, not as content"
	}
	if from, ok := named(s); ok {
		if !slices.Contains(fields, s) {
			return source{}, notReleased(s)
		}
		return from, ""
	}
	e, err := rule.CompileExpression(s)
	if err != nil {
		if re, ok := errors.AsType[*rule.Error](err); ok {
			return source{}, re.Error()
		}
		return source{}, "it cannot be compiled"
	}
	for _, n := range e.Needs() {
		if !n.Met(fields) {
			return source{}, notReleased(n.Member)
		}
	}
	if !e.Constant() {
		return source{kind: e.Kind(), glue: glueWords, expr: e}, ""
	}
	v, err := e.Eval(rule.RecordOf(nil))
	if err != nil {
		return source{}, "it has no value: " + err.Error()
	}
	return source{kind: e.Kind(), glue: glueWords, constant: v}, ""
}

func notReleased(what string) string {
	return "it reads " + what + ", which is not among the fields that are released; release it too, or leave it out here"
}

// fits returns what is wrong with giving a value of kind k to f.
func fits(k rule.Kind, f Field) string {
	if k == rule.Nothing && f.Required {
		return "the field must not be empty"
	}
	ok := true
	switch f.Type {
	case "", String, List:
	case Number:
		ok = k == rule.Number || k == rule.Whole || k == rule.Any || k == rule.Nothing
	case Bool:
		ok = k == rule.Truth || k == rule.Any || k == rule.Nothing
	case Date, Time:
		ok = k == rule.Moment || k == rule.Text || k == rule.Any || k == rule.Nothing
	}
	if !ok {
		return describe(k, f.Type)
	}
	return ""
}
