package consent

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/rule"
	"github.com/optiwe/callbridge/mappings"
)

// The bounds of terms.
const (
	MaxFields      = 200
	MaxExpiresDays = 3650
)

// Policy is a grant made ready to decide with: its conditions compiled, its
// fields sorted. It is immutable and may be used by several goroutines.
type Policy struct {
	grant  Grant
	set    fieldSet
	fields []Field         // of set, sorted
	when   *rule.Condition // nil: every call
	router router
}

// Compile makes a grant ready. It returns what is wrong with its terms, as
// [Check] does; the Policy is nil then.
func Compile(g Grant) (*Policy, []hub.FieldError) {
	p := &Policy{grant: g, set: newFieldSet(g.Terms.Fields)}
	p.fields = p.set.sorted()
	wrong := checkFields(g.Terms.Fields)
	if g.Terms.Connection == "" {
		wrong = append(wrong, fault("/connection_id", "a connection is required")...)
	}
	if strings.TrimSpace(g.Terms.When) != "" {
		c, err := rule.CompileCondition(g.Terms.When)
		if err != nil {
			wrong = append(wrong, fault("/when", err.Error())...)
		}
		p.when = c
	}
	r, bad := compileDestination(g.Terms.Destination)
	p.router = r
	wrong = append(wrong, bad...)
	if d := g.Terms.ExpiresAfterDays; d < 0 || d > MaxExpiresDays {
		wrong = append(wrong, fault("/expires_after_days", fmt.Sprintf("must be a number of days from 1 to %d, or 0 for copies that stay", MaxExpiresDays))...)
	}
	names := make([]string, len(p.fields))
	for i, f := range p.fields {
		names[i] = string(f)
	}
	_, bad = mappings.Compile(g.Terms.Mapping, mappings.Open(), names)
	for _, b := range bad {
		wrong = append(wrong, hub.FieldError{Pointer: "/mapping" + b.Pointer, Detail: b.Detail})
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return p, nil
}

// Check returns what is wrong with terms, with pointers into them such as
// "/fields/2", "/when", "/destination/rules/0/when" and "/mapping/Subject".
// What depends on the connector is not checked: whether it accepts each of
// [Policy.Routes], and whether the mapping fits its schema.
func Check(t Terms) []hub.FieldError {
	_, wrong := Compile(Grant{Terms: t})
	return wrong
}

func checkFields(fields []Field) []hub.FieldError {
	if len(fields) > MaxFields {
		return fault("/fields", fmt.Sprintf("at most %d fields can be released", MaxFields))
	}
	var wrong []hub.FieldError
	content := false
	for i, f := range fields {
		pointer := "/fields/" + strconv.Itoa(i)
		switch {
		case !ValidField(string(f)):
			wrong = append(wrong, fault(pointer, "there is no field of this name")...)
		case slices.Contains(fields[:i], f):
			wrong = append(wrong, fault(pointer, "the field is listed twice")...)
		case !f.Matching():
			content = true
		}
	}
	if !content && len(wrong) == 0 {
		wrong = fault("/fields", "at least one field that is not for look-ups only is required")
	}
	return wrong
}

// Grant returns the grant the policy was made from. The caller must not change
// what it points to.
func (p *Policy) Grant() Grant { return p.grant }

// Fields returns the fields that the grant permits, sorted.
func (p *Policy) Fields() []Field { return slices.Clone(p.fields) }

// Routes returns every place where calls can go, in the order of the rules. A
// connector has to accept each of them.
func (p *Policy) Routes() []Route { return p.router.routes() }
