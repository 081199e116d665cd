package consent

import (
	"encoding/json"

	"github.com/optiwe/callbridge/hub"
)

// Policy is a grant made ready to decide with. It is immutable and may be used
// by several goroutines.
type Policy struct {
	grant  Grant
	set    fieldSet
	fields []Field // of set, sorted
}

// Compile makes a grant ready. It returns what is wrong with its terms.
func Compile(g Grant) (*Policy, []hub.FieldError) {
	if g.Terms.When != "" {
		return nil, []hub.FieldError{{Pointer: "/when", Detail: "conditions cannot be compiled"}}
	}
	p := &Policy{grant: g, set: newFieldSet(g.Terms.Fields)}
	p.fields = p.set.sorted()
	return p, nil
}

// Grant returns the grant the policy was made from. The caller must not change
// what it points to.
func (p *Policy) Grant() Grant { return p.grant }

// Situation is all that a decision depends on beside the call.
type Situation struct {
	Org          hub.OrgState
	OrgInfo      OrgInfo
	ConnectionID hub.ConnectionID    // the integration's connection; must be the one that the grant names
	Connection   hub.ConnectionState // its state
	Enabled      bool                // whether the integration is enabled
	TermsVersion string              // of the instance; the grant must have been made under it
	Policy       *Policy             // of the grant now in force; nil: there is none

	// AcceptedUnder is of the grant that was in force when the call was
	// accepted. nil: the same as Policy.
	AcceptedUnder *Policy
}

// OrgInfo is what a rule may know of the org.
type OrgInfo struct {
	ID       hub.OrgID
	Name     string
	Region   string
	Language string // BCP 47; "" is "en"
}

// Verdict says what becomes of a call at an integration.
type Verdict string

// The verdicts.
const (
	Withheld Verdict = "withheld" // it is not shared
	Share    Verdict = "share"    // it is shared
	Held     Verdict = "held"     // it is shared as soon as a passing obstacle is gone
)

// Decision is a verdict and why.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	Detail  string          // more about the reason, for people; holds no content of the call
	Route   json.RawMessage // with Share and Held: the destination, routing rules applied
}

// Reason says why a call is not shared, or not yet.
type Reason string

// NewRelease returns the release of a call.
func NewRelease(s Situation, call hub.Call, revision int) (*Release, Decision) {
	if s.Policy == nil {
		return nil, Decision{Verdict: Withheld, Reason: "not_enabled"}
	}
	r := minimise(&call, s.Policy.set)
	r.revision, r.fields, r.language = revision, s.Policy.fields, s.OrgInfo.Language
	if r.language == "" {
		r.language = "en"
	}
	return &r, Decision{Verdict: Share, Route: s.Policy.grant.Terms.Destination}
}
