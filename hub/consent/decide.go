package consent

import (
	"bytes"
	"encoding/json"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/rule"
)

// Situation is all that a decision depends on beside the call. Its zero value
// permits nothing.
type Situation struct {
	Org          hub.OrgState
	OrgInfo      OrgInfo
	ConnectionID hub.ConnectionID    // the connection whose state this is; must be the one that the grant names
	Connection   hub.ConnectionState // its state
	Enabled      bool                // whether the integration is enabled
	TermsVersion string              // of the instance; the grant must have been made under it
	Policy       *Policy             // of the grant now in force; nil: there is none

	// AcceptedUnder is of the grant that was in force when the call was
	// accepted. nil: the same as Policy. Where they differ, only what both
	// permit is released: a grant made later gives an earlier call no more, and
	// one made narrower gives it less.
	AcceptedUnder *Policy
}

// OrgInfo is what rules and releases know of the org.
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
	Reason  Reason          // "" with Share
	Detail  string          // more about the reason, in English; holds nothing of the call. Often ""
	Route   json.RawMessage // with Share and Held: the destination, routing rules applied
}

// Decide says whether a call may be shared. Whatever is not clearly permitted
// is withheld; [Reasons] has the order in which obstacles are looked for. A
// call is Held only if nothing but the obstacle stands in its way.
func Decide(s Situation, c *Subject) Decision {
	d, _ := consider(&s, c)
	return d
}

// NewRelease returns the release of a call's revision, if and only if the
// verdict of the decision, which is the one of [Decide], is Share. It copies
// what it takes from the call.
func NewRelease(s Situation, call hub.Call, revision int) (*Release, Decision) {
	d, set := consider(&s, NewSubject(&call))
	if d.Verdict != Share {
		return nil, d
	}
	r := minimise(&call, set)
	r.revision = revision
	r.fields = s.Policy.fields
	if s.AcceptedUnder != nil {
		r.fields = set.sorted()
	}
	if r.language = s.OrgInfo.Language; r.language == "" {
		r.language = "en"
	}
	return &r, d
}

// consider returns the decision and, with Share and Held, the fields that may
// leave.
func consider(s *Situation, c *Subject) (Decision, fieldSet) {
	if r, detail := barred(s, c.call); r != "" {
		return withheld(r, detail), fieldSet{}
	}
	route, d := matched(s, s.Policy, c)
	if route == nil {
		return d, fieldSet{}
	}
	set := s.Policy.set
	if then := s.AcceptedUnder; then != nil && then != s.Policy {
		earlier, d := matched(s, then, c)
		if earlier == nil {
			return d, fieldSet{}
		}
		if !bytes.Equal(route, earlier) {
			return withheld(GrantChanged, "the call would go to another place now"), fieldSet{}
		}
		set = set.and(then.set)
	}
	if !c.carries(set) {
		return withheld(NoFieldLeft, ""), fieldSet{}
	}
	d = Decision{Verdict: Share, Route: route}
	if d.Reason, d.Detail = obstacle(s); d.Reason != "" {
		d.Verdict = Held
	}
	return d, set
}

func withheld(r Reason, detail string) Decision {
	return Decision{Verdict: Withheld, Reason: r, Detail: detail}
}

// barred returns why the call cannot be shared whatever it holds and whatever
// passes; "" if nothing bars it.
func barred(s *Situation, call *hub.Call) (r Reason, detail string) {
	switch {
	// Values that are not known count as the stricter ones.
	case call.Visibility != "" && call.Visibility != hub.VisibilityNormal:
		return PrivateCall, ""
	case call.RecordingConsent != "" && call.RecordingConsent != hub.ConsentGranted && call.RecordingConsent != hub.ConsentUnknown:
		return RecordingDenied, ""
	case s.Org != hub.OrgActive && s.Org != hub.OrgSuspended:
		return OrgCancelled, ""
	case !s.Enabled || s.Policy == nil:
		return NotEnabled, ""
	case s.ConnectionID != s.Policy.grant.Terms.Connection:
		return ConnectionBroken, "the grant is for another connection"
	case s.Connection != hub.Connected && s.Connection != hub.NeedsReauth && s.Connection != hub.Paused:
		return ConnectionBroken, "the account is disconnected"
	case s.Policy.grant.AcceptedTerms != s.TermsVersion:
		return TermsOutdated, ""
	}
	if then := s.AcceptedUnder; then != nil {
		now := s.Policy.grant
		switch {
		case then.grant.Integration != now.Integration:
			return GrantChanged, "the call was accepted for another integration"
		case now.Since > then.grant.Number:
			return GrantChanged, "the integration was disabled in between"
		case then.grant.Terms.Connection != now.Terms.Connection:
			return GrantChanged, "the call would go to another account now"
		}
	}
	return "", ""
}

// matched returns where p sends the call; nil, and why, if nowhere.
func matched(s *Situation, p *Policy, c *Subject) (json.RawMessage, Decision) {
	if p.when == nil && len(p.router.rules) == 0 && p.router.otherwise != nil {
		return p.router.otherwise.Destination, Decision{}
	}
	org := rule.Org{ID: string(s.OrgInfo.ID), Name: s.OrgInfo.Name, Region: s.OrgInfo.Region, Language: s.OrgInfo.Language}
	if p.when != nil {
		ok, err := p.when.Eval(c.view(), org)
		if err != nil {
			return nil, withheld(RuleFailed, err.Error())
		}
		if !ok {
			return nil, withheld(RuleNotMatched, "")
		}
	}
	route, err := p.router.find(c.view(), org)
	if err != nil {
		return nil, withheld(RuleFailed, err.Error())
	}
	if route == nil {
		return nil, withheld(NoRoute, "")
	}
	return route, Decision{}
}

// obstacle returns what holds a call that is otherwise shared; "" if nothing
// does. [barred] has let no other state through.
func obstacle(s *Situation) (r Reason, detail string) {
	switch s.Connection {
	case hub.Connected:
	case hub.NeedsReauth:
		r, detail = ConnectionBroken, "the provider refuses the access it gave; an admin must connect the account again"
	case hub.Paused:
		r, detail = ConnectionBroken, "the connection is paused"
	case hub.Disconnected:
		r = ConnectionBroken
	}
	if s.Org == hub.OrgSuspended {
		r, detail = OrgSuspended, ""
	}
	return r, detail
}
