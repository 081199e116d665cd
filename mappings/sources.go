package mappings

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub/rule"
)

// source gives the value of one mapped field.
type source struct {
	kind rule.Kind
	glue string // between the entries of a list that becomes a text

	// Exactly one of the rest is used, the first that is set; none of them: the
	// constant nil.
	read     func(view map[string]any) any
	expr     *rule.Expression
	constant any
}

// Glue between the entries of a list that becomes a text.
const (
	glueWords = ", "
	glueLines = "\n"
)

// released are the fields that can be named as they are, and how they are read
// from a view. Each field of package consent but those for matching is here;
// a test of that package makes sure. The map is never changed.
//
//nolint:gochecknoglobals // a constant table
var released = map[string]source{
	"title":               {kind: rule.Text, read: member("title")},
	"time":                {kind: rule.Moment, read: startedAt},
	"direction":           {kind: rule.Text, read: member("direction")},
	"medium":              {kind: rule.Text, read: member("medium")},
	"url":                 {kind: rule.Text, read: member("url")},
	"recording_url":       {kind: rule.Text, read: member("recording_url")},
	"transcript_url":      {kind: rule.Text, read: member("transcript_url")},
	"owner":               {kind: rule.Text, read: either("owner", "name", "email")},
	"participants.names":  {kind: rule.Texts, glue: glueWords, read: each("participants", entry("name"))},
	"participants.emails": {kind: rule.Texts, glue: glueWords, read: each("participants", entry("email"))},
	"participants.phones": {kind: rule.Texts, glue: glueWords, read: each("participants", entry("phone"))},
	"participants.titles": {kind: rule.Texts, glue: glueWords, read: each("participants", entry("title"))},
	"account":             {kind: rule.Text, read: either("account", "name", "domain")},
	"summary":             {kind: rule.Text, read: member("summary")},
	"key_points":          {kind: rule.Texts, glue: glueLines, read: member("key_points")},
	"next_steps":          {kind: rule.Texts, glue: glueLines, read: each("next_steps", step)},
	"topics":              {kind: rule.Texts, glue: glueWords, read: member("topics")},
	"sentiment":           {kind: rule.Number, read: member("sentiment")},
	"talk_ratio":          {kind: rule.Texts, glue: glueWords, read: each("talk_ratio", share)},
	"risks":               {kind: rule.Texts, glue: glueLines, read: member("risks")},
	"competitors":         {kind: rule.Texts, glue: glueWords, read: member("competitors")},
	"disposition":         {kind: rule.Text, read: member("disposition")},
	"tags":                {kind: rule.Texts, glue: glueWords, read: member("tags")},
}

// The fields that release a custom member, and those for look-ups only.
const (
	customPrefix   = "custom."
	matchingPrefix = "matching."
)

// named returns the source that gives the content of the field named name;
// false if there is no such field.
func named(name string) (source, bool) {
	if s, ok := released[name]; ok {
		return s, true
	}
	if custom, ok := strings.CutPrefix(name, customPrefix); ok && custom != "" {
		return source{kind: rule.Any, glue: glueWords, read: func(view map[string]any) any {
			m, _ := view["custom"].(map[string]any)
			return number(m[custom])
		}}, true
	}
	return source{}, false
}

func member(name string) func(map[string]any) any {
	return func(view map[string]any) any { return number(view[name]) }
}

// number returns v with a json.Number as what it stands for: int64 where it is
// whole, else float64; a number beyond both is not there.
func number(v any) any {
	switch n := v.(type) {
	case int:
		return int64(n)
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i
		}
		if f, err := n.Float64(); err == nil {
			return f
		}
		return nil
	}
	return v
}

func startedAt(view map[string]any) any {
	s, _ := view["started_at"].(string)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil
	}
	return t
}

// either returns the first of two members of an object that is not empty.
func either(object, first, second string) func(map[string]any) any {
	return func(view map[string]any) any {
		m, _ := view[object].(map[string]any)
		for _, name := range []string{first, second} {
			if s, _ := m[name].(string); s != "" {
				return s
			}
		}
		return nil
	}
}

// each returns a text for every object of a list, those without one left out.
func each(list string, text func(map[string]any) string) func(map[string]any) any {
	return func(view map[string]any) any {
		in, _ := view[list].([]any)
		out := make([]any, 0, len(in))
		for _, e := range in {
			m, _ := e.(map[string]any)
			if s := text(m); s != "" {
				out = append(out, s)
			}
		}
		return out
	}
}

func entry(name string) func(map[string]any) string {
	return func(m map[string]any) string {
		s, _ := m[name].(string)
		return s
	}
}

// step returns a next step with who does it and by when in brackets.
func step(m map[string]any) string {
	what := entry("text")(m)
	who := entry("owner_name")(m)
	if who == "" {
		who = entry("owner_email")(m)
	}
	var extra []string
	for _, s := range []string{who, entry("due_on")(m)} {
		if s != "" {
			extra = append(extra, s)
		}
	}
	if what == "" || len(extra) == 0 {
		return what
	}
	return what + " (" + strings.Join(extra, ", ") + ")"
}

// share returns who talked how much, such as "Dana Reyes 46%".
func share(m map[string]any) string {
	f, ok := m["share"].(float64)
	if !ok {
		return ""
	}
	percent := strconv.Itoa(int(math.Round(f*100))) + "%"
	for _, name := range []string{"name", "email", "side"} {
		if s := entry(name)(m); s != "" {
			return s + " " + percent
		}
	}
	return percent
}

// text returns a scalar as people write it; false if v is none.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "", false
		}
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case time.Time:
		return v.Format(time.RFC3339), true
	}
	return "", false
}

// describe names a kind and type that do not go together.
func describe(k rule.Kind, t Type) string {
	return fmt.Sprintf("it gives %s, and the field holds %s", k, typeNames[t])
}

//nolint:gochecknoglobals // a constant table
var typeNames = map[Type]string{
	"": "a value", String: "a text", Number: "a number", Bool: "true or false",
	Date: "a date", Time: "a point in time", List: "a list",
}
