package mappings

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub/rule"
)

// Fields returns the names of the destination fields that the mapping sets,
// sorted.
func (m *Mapping) Fields() []string {
	out := make([]string, len(m.fields))
	for i, f := range m.fields {
		out[i] = f.field.Name
	}
	return out
}

// Apply returns the values of the mapped fields for a release, given by its
// view, and what was lost on the way, in the order of the fields' names. A value
// is, after the type of its field:
//
//	String   string; "" where the release has nothing for it
//	Number   int64 where it is whole, else float64
//	Bool     bool
//	Date     string, YYYY-MM-DD in the zone the call was given in
//	Time     string, RFC 3339 in the zone the call was given in
//	List     []string, without empty entries
//	""       string, int64, float64 or bool
//
// or nil where the release has nothing for a field that is not a String or
// List: the destination's field is to be emptied. A field that is left out of
// the result keeps what its connector gives it by default; each that is left
// out has a Loss.
//
// Apply is pure. It returns an error only if view is nil.
func (m *Mapping) Apply(view map[string]any) (map[string]any, []Loss, error) {
	if view == nil {
		return nil, nil, errors.New("apply a mapping: there is no release")
	}
	var record *rule.Record
	if m.evals {
		record = rule.RecordOf(view)
	}
	out := make(map[string]any, len(m.fields))
	var losses []Loss
	for _, f := range m.fields {
		v, failed := f.from.value(view, record)
		if failed != nil {
			losses = append(losses, *dropped(f.field, failed.Detail))
			continue
		}
		v, loss := convert(f.field, f.from, v)
		if loss != nil {
			losses = append(losses, *loss)
			if v == nil {
				continue
			}
		}
		out[f.field.Name] = v
	}
	return out, losses, nil
}

func (s source) value(view map[string]any, record *rule.Record) (any, *rule.EvalError) {
	switch {
	case s.read != nil:
		return s.read(view), nil
	case s.expr != nil:
		v, err := s.expr.Eval(record)
		if err == nil {
			return v, nil
		}
		if ee, ok := errors.AsType[*rule.EvalError](err); ok {
			return nil, ee
		}
		return nil, &rule.EvalError{Detail: "the expression has no value for this call"}
	}
	return s.constant, nil
}

// convert returns v as f holds it. With a loss, a value of nil means that the
// field is left out.
func convert(f Field, from source, v any) (any, *Loss) {
	if empty(v) {
		return nothing(f)
	}
	switch f.Type {
	case String:
		return convertText(f, join(v, from.glue))
	case List:
		return convertList(f, v)
	case Number:
		return convertNumber(f, v)
	case Bool:
		return convertBool(f, v)
	case Date, Time:
		return convertMoment(f, v)
	case "":
		switch v := v.(type) {
		case bool, int64:
			return restrict(f, v)
		case float64:
			return convertNumber(f, v)
		}
		return convertText(f, join(v, from.glue))
	}
	return nil, dropped(f, "the field has a type that no mapping can give")
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	}
	return false
}

// nothing returns what f is given where the release has nothing for it.
func nothing(f Field) (any, *Loss) {
	switch {
	case f.Required:
		return nil, &Loss{Field: f.Name, Kind: Replaced, Detail: "the mapping gave nothing, and the field must not be empty: its default is used"}
	case f.Type == String:
		return "", nil
	case f.Type == List:
		return []string{}, nil
	}
	return nil, nil
}

func dropped(f Field, detail string) *Loss {
	return &Loss{Field: f.Name, Kind: Dropped, Detail: detail}
}

// join returns a scalar or a list of them as one text.
func join(v any, glue string) string {
	l, ok := v.([]any)
	if !ok {
		s, _ := text(v)
		return s
	}
	return strings.Join(entries(l), glue)
}

// entries returns the entries of a list as texts, without empty ones.
func entries(l []any) []string {
	out := make([]string, 0, len(l))
	for _, e := range l {
		if s, ok := text(e); ok && s != "" {
			out = append(out, s)
		}
	}
	return out
}

func convertText(f Field, s string) (any, *Loss) {
	if s == "" {
		return nothing(f)
	}
	if f.Values != nil {
		return restrict(f, s)
	}
	if f.MaxLength == 0 {
		return s, nil
	}
	short, cut := Cut(s, f.MaxLength)
	if !cut {
		return s, nil
	}
	return short, &Loss{
		Field: f.Name, Kind: Truncated, From: UTF16Len(s), To: UTF16Len(short),
		Detail: fmt.Sprintf("cut to the %d characters that the field holds", f.MaxLength),
	}
}

// restrict returns v if it is one of the values that f allows; the case of
// letters does not matter.
func restrict(f Field, v any) (any, *Loss) {
	if f.Values == nil {
		return v, nil
	}
	s, _ := text(v)
	if allowed, ok := allowedValue(f, s); ok {
		if _, isText := v.(string); isText {
			return allowed, nil
		}
		return v, nil
	}
	if f.Required {
		return nil, &Loss{Field: f.Name, Kind: Replaced, Detail: "the value is none of those that the field allows: its default is used"}
	}
	return nil, dropped(f, "the value is none of those that the field allows")
}

func allowedValue(f Field, s string) (string, bool) {
	if slices.Contains(f.Values, s) {
		return s, true
	}
	i := slices.IndexFunc(f.Values, func(a string) bool { return strings.EqualFold(a, s) })
	if i < 0 {
		return "", false
	}
	return f.Values[i], true
}

func convertList(f Field, v any) (any, *Loss) {
	l, ok := v.([]any)
	if !ok {
		l = []any{v}
	}
	all := entries(l)
	out := make([]string, 0, len(all))
	refused, from, to := 0, 0, 0
	for _, s := range all {
		if f.Values != nil {
			a, ok := allowedValue(f, s)
			if !ok {
				refused++
				continue
			}
			s = a
		}
		if f.MaxLength > 0 {
			short, cut := Cut(s, f.MaxLength)
			if cut {
				from, to = from+UTF16Len(s), to+UTF16Len(short)
			}
			s = short
		}
		out = append(out, s)
	}
	switch {
	case len(out) == 0 && f.Required:
		return nothing(f)
	case refused > 0:
		return out, &Loss{Field: f.Name, Kind: Dropped, Detail: fmt.Sprintf("%d of %d entries are none of those that the field allows", refused, len(all))}
	case from > 0:
		return out, &Loss{Field: f.Name, Kind: Truncated, From: from, To: to, Detail: fmt.Sprintf("entries cut to the %d characters that the field holds", f.MaxLength)}
	}
	return out, nil
}

func convertNumber(f Field, v any) (any, *Loss) {
	if s, ok := v.(string); ok {
		if n, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			v = n
		}
	}
	switch n := v.(type) {
	case int64:
		return restrict(f, n)
	case float64:
		switch {
		case math.IsNaN(n) || math.IsInf(n, 0):
			return nil, dropped(f, "the value is not a number")
		case n == math.Trunc(n) && math.Abs(n) < 1<<53:
			return restrict(f, int64(n))
		}
		return restrict(f, n)
	}
	return nil, dropped(f, "the value is not a number")
}

func convertBool(f Field, v any) (any, *Loss) {
	switch b := v.(type) {
	case bool:
		return b, nil
	case string:
		if p, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(b))); err == nil && len(strings.TrimSpace(b)) > 1 {
			return p, nil
		}
	}
	return nil, dropped(f, "the value is not true or false")
}

func convertMoment(f Field, v any) (any, *Loss) {
	at, isTime := v.(time.Time)
	if s, ok := v.(string); ok {
		s = strings.TrimSpace(s)
		if f.Type == Date {
			if d, err := time.Parse(time.DateOnly, s); err == nil {
				at, isTime = d, true
			}
		}
		if d, err := time.Parse(time.RFC3339Nano, s); err == nil {
			at, isTime = d, true
		}
	}
	switch {
	case !isTime || at.Year() < 1 || at.Year() > 9999:
		return nil, dropped(f, "the value is not "+typeNames[f.Type])
	case f.Type == Date:
		return at.Format(time.DateOnly), nil
	}
	return at.Format(time.RFC3339), nil
}
