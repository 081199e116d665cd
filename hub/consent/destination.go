package consent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/rule"
)

// The bounds of a destination.
const (
	MaxRoutes       = 50
	maxDestination  = 16 << 10 // bytes
	memberRules     = "rules"
	memberWhen      = "when"
	memberOtherwise = "otherwise"
)

// Route is a place where calls of an integration can go.
type Route struct {
	Pointer     string          // to what it was made from, relative to the terms, such as "/destination/rules/0"
	Destination json.RawMessage // routing rules applied; canonical JSON: compact, members sorted
}

// router finds the route of a call. The zero router finds none.
type router struct {
	rules     []routeRule
	otherwise *Route // nil: withheld
}

type routeRule struct {
	when *rule.Condition
	to   Route
}

// compileDestination makes a destination ready. One without the member "rules"
// is its own route.
func compileDestination(raw json.RawMessage) (router, []hub.FieldError) {
	const at = "/destination"
	if len(raw) > maxDestination {
		return router{}, fault(at, "the destination is too large")
	}
	common, err := decodeObject(raw)
	if err != nil {
		return router{}, fault(at, "the destination must be a JSON object")
	}
	rules, routed := common[memberRules]
	otherwise := common[memberOtherwise]
	if !routed {
		if _, ok := common[memberOtherwise]; ok {
			return router{}, fault(at+"/otherwise", "otherwise goes with rules, and there are none")
		}
		return router{otherwise: &Route{Pointer: at, Destination: encode(common)}}, nil
	}
	delete(common, memberRules)
	delete(common, memberOtherwise)
	list, ok := rules.([]any)
	if !ok || len(list) == 0 || len(list) > MaxRoutes {
		return router{}, fault(at+"/rules", fmt.Sprintf("rules must be a list of 1 to %d rules", MaxRoutes))
	}
	var (
		r     router
		wrong []hub.FieldError
		keys  = map[string]bool{} // what the rules set
	)
	for i, e := range list {
		pointer := at + "/rules/" + strconv.Itoa(i)
		rr, set, bad := compileRoute(e, common, pointer)
		wrong = append(wrong, bad...)
		r.rules = append(r.rules, rr)
		for _, k := range set {
			keys[k] = true
		}
	}
	to, bad := compileOtherwise(otherwise, common, slices.Collect(maps.Keys(keys)))
	if wrong = append(wrong, bad...); len(wrong) > 0 {
		return router{}, wrong
	}
	r.otherwise = to
	return r, nil
}

// compileRoute makes one routing rule ready; set are the members it sets.
func compileRoute(raw any, common map[string]any, pointer string) (r routeRule, set []string, wrong []hub.FieldError) {
	o, ok := raw.(map[string]any)
	if !ok {
		return routeRule{}, nil, fault(pointer, "a rule must be an object with the member when and a place to go")
	}
	when, _ := o[memberWhen].(string)
	if strings.TrimSpace(when) == "" {
		return routeRule{}, nil, fault(pointer+"/when", "a rule needs a condition")
	}
	c, err := rule.CompileCondition(when)
	if err != nil {
		return routeRule{}, nil, fault(pointer+"/when", err.Error())
	}
	merged := maps.Clone(common)
	for k, v := range o {
		if k != memberWhen {
			merged[k] = v
			set = append(set, k)
		}
	}
	if len(set) == 0 {
		return routeRule{}, nil, fault(pointer, "a rule needs a place to go beside its condition")
	}
	return routeRule{when: c, to: Route{Pointer: pointer, Destination: encode(merged)}}, set, nil
}

// compileOtherwise returns where calls go that no rule takes; nil: nowhere. A
// string is the value of the one member that the rules set.
func compileOtherwise(raw any, common map[string]any, keys []string) (*Route, []hub.FieldError) {
	const pointer = "/destination/otherwise"
	merged := maps.Clone(common)
	switch v := raw.(type) {
	case nil:
		return nil, nil
	case string:
		if len(keys) != 1 {
			return nil, fault(pointer, "the rules set different members, so otherwise must be an object that names the one it means, or null")
		}
		merged[keys[0]] = v
	case map[string]any:
		maps.Copy(merged, v)
	default:
		return nil, fault(pointer, "otherwise must be a place to go (a string or an object), or null to share nothing")
	}
	return &Route{Pointer: pointer, Destination: encode(merged)}, nil
}

// routes returns every route there is.
func (r *router) routes() []Route {
	var out []Route
	for i := range r.rules {
		out = append(out, r.rules[i].to)
	}
	if r.otherwise != nil {
		out = append(out, *r.otherwise)
	}
	return out
}

// find returns the destination of a call; nil if there is none.
func (r *router) find(call *rule.View, org rule.Org) (json.RawMessage, error) {
	for i := range r.rules {
		ok, err := r.rules[i].when.Eval(call, org)
		if err != nil {
			return nil, fmt.Errorf("routing rule %d: %w", i+1, err)
		}
		if ok {
			return r.rules[i].to.Destination, nil
		}
	}
	if r.otherwise == nil {
		return nil, nil
	}
	return r.otherwise.Destination, nil
}

func fault(pointer, detail string) []hub.FieldError {
	return []hub.FieldError{{Pointer: pointer, Detail: detail}}
}

var errNotObject = errors.New("not a JSON object")

func decodeObject(raw json.RawMessage) (map[string]any, error) {
	v, err := decodeJSON(raw)
	if err != nil {
		return nil, err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, errNotObject
	}
	return o, nil
}

// decodeJSON decodes one document, numbers as they are written.
func decodeJSON(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return v, nil
}

// encode returns the canonical JSON of what decodeJSON gave.
func encode(v any) json.RawMessage {
	b, _ := json.Marshal(v) // cannot fail: it came from JSON
	return b
}
