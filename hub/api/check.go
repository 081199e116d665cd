package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
)

// checker holds a parsed body against the schema that the document shows for
// it, so the two cannot disagree.
//
// It stands in the place of [huma.Validate], which takes names of members in
// any case, repeats values (secrets too) in its errors, and names places in a
// form that cannot be turned into a pointer without doubt. It knows as much of
// JSON Schema as schemas of request bodies here use.
type checker struct {
	schemas huma.Registry
	wrong   []hub.FieldError
}

// check returns what is wrong with v, up to [hub.MaxFieldErrors] problems.
func check(schemas huma.Registry, s *huma.Schema, v any) []hub.FieldError {
	c := checker{schemas: schemas}
	c.value(s, v, "")
	return c.wrong
}

func (c *checker) fail(pointer, detail string) {
	if len(c.wrong) < hub.MaxFieldErrors {
		c.wrong = append(c.wrong, hub.FieldError{Pointer: pointer, Detail: detail})
	}
}

func (c *checker) value(s *huma.Schema, v any, pointer string) {
	for s.Ref != "" {
		s = c.schemas.SchemaFromRef(s.Ref)
	}
	if s.Discriminator != nil {
		c.union(s, v, pointer)
		return
	}
	if v == nil && (s.Nullable || s.Type == "") {
		return
	}
	switch s.Type {
	case huma.TypeString:
		c.text(s, v, pointer)
	case huma.TypeInteger:
		c.integer(s, v, pointer)
	case huma.TypeNumber:
		if _, ok := v.(json.Number); !ok {
			c.fail(pointer, "must be a number")
		}
	case huma.TypeBoolean:
		if _, ok := v.(bool); !ok {
			c.fail(pointer, "must be true or false")
		}
	case huma.TypeArray:
		c.list(s, v, pointer)
	case huma.TypeObject:
		c.object(s, v, pointer)
	}
}

// union takes the schema that the value itself names.
func (c *checker) union(s *huma.Schema, v any, pointer string) {
	m, ok := v.(map[string]any)
	if !ok {
		c.fail(pointer, "must be an object")
		return
	}
	by := s.Discriminator.PropertyName
	at := pointer + "/" + escapePointer(by)
	name, given := m[by]
	if !given {
		c.fail(at, "is required")
		return
	}
	text, _ := name.(string) // what is no string names nothing
	ref, ok := s.Discriminator.Mapping[text]
	if !ok {
		c.fail(at, "must be one of "+strings.Join(slices.Sorted(maps.Keys(s.Discriminator.Mapping)), ", "))
		return
	}
	c.value(&huma.Schema{Ref: ref}, v, pointer)
}

func (c *checker) text(s *huma.Schema, v any, pointer string) {
	t, ok := v.(string)
	n := utf8.RuneCountInString(t)
	switch {
	case !ok:
		c.fail(pointer, "must be a string")
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, v):
		c.fail(pointer, "must be one of "+joined(s.Enum))
	case s.MinLength != nil && n < *s.MinLength:
		c.fail(pointer, "must not be empty")
	case s.MaxLength != nil && n > *s.MaxLength:
		c.fail(pointer, fmt.Sprintf("must have at most %d characters", *s.MaxLength))
	}
}

func joined(values []any) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return strings.Join(out, ", ")
}

func (c *checker) integer(s *huma.Schema, v any, pointer string) {
	low, high := math.Inf(-1), math.Inf(1)
	if s.Minimum != nil {
		low = *s.Minimum
	}
	if s.Maximum != nil {
		high = *s.Maximum
	}
	n, ok := v.(json.Number)
	i, err := strconv.ParseInt(n.String(), 10, 64)
	switch {
	case !ok || err != nil:
		c.fail(pointer, "must be a whole number")
	case float64(i) < low || float64(i) > high:
		c.fail(pointer, fmt.Sprintf("must be a number from %.0f to %.0f", low, high))
	}
}

func (c *checker) list(s *huma.Schema, v any, pointer string) {
	l, ok := v.([]any)
	switch {
	case !ok:
		c.fail(pointer, "must be a list")
		return
	case s.MinItems != nil && len(l) < *s.MinItems:
		c.fail(pointer, fmt.Sprintf("must have at least %d entries", *s.MinItems))
	case s.MaxItems != nil && len(l) > *s.MaxItems:
		c.fail(pointer, fmt.Sprintf("must have at most %d entries", *s.MaxItems))
		return
	}
	for i, e := range l {
		c.value(s.Items, e, pointer+"/"+strconv.Itoa(i))
	}
}

func (c *checker) object(s *huma.Schema, v any, pointer string) {
	m, ok := v.(map[string]any)
	if !ok {
		c.fail(pointer, "must be an object")
		return
	}
	if s.MinProperties != nil && len(m) < *s.MinProperties {
		c.fail(pointer, "must have at least one member")
	}
	for _, name := range s.Required {
		if _, given := m[name]; !given {
			c.fail(pointer+"/"+escapePointer(name), "is required")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		at := pointer + "/" + escapePointer(name)
		if p, known := s.Properties[name]; known {
			c.value(p, m[name], at)
			continue
		}
		switch more := s.AdditionalProperties.(type) {
		case *huma.Schema:
			c.value(more, m[name], at)
		case bool:
			if !more {
				c.fail(at, "is not a member of this request")
			}
		}
	}
}
