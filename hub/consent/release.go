package consent

import (
	"github.com/optiwe/callbridge/hub"
)

// Release is call data that may leave: the fields a grant permits, of one
// revision of one call. Connectors see releases only.
//
// The zero Release holds nothing. A Release is immutable and may be used by
// several goroutines.
type Release struct {
	content  hub.Call // only released members are set, and the id
	revision int
	fields   []Field
	matching Matching
	language string
}

// Matching is what may be used to look people and records up at the provider,
// and for nothing else: it never goes into a payload.
type Matching struct {
	Emails        []string // of external participants, in the call's order, lower case
	Phones        []string // of external participants, E.164
	OwnerEmail    string   // of the call's owner, where the field owner is released
	AccountDomain string   // where the field account is released
	AccountName   string   // where the field account is released
	AccountID     string   // the provider's own id, where the call carries it
	OpportunityID string   // the provider's own id, where the call carries it
}

// Content returns the call with nothing in it but its id and the released
// members. The caller must not change what it points to.
func (r *Release) Content() hub.Call { return r.content }

// Revision returns the call's revision, from 1.
func (r *Release) Revision() int { return r.revision }

// Fields returns the names of the fields released, sorted. Those the call does
// not carry are included: the grant permits them.
func (r *Release) Fields() []Field { return r.fields }

// Matching returns what look-ups may use.
func (r *Release) Matching() Matching { return r.matching }

// Language returns the org's language as a BCP 47 tag, such as "en" or "es";
// texts that people read at the destination are in it.
func (r *Release) Language() string { return r.language }

// Has reports whether field is released.
func (r *Release) Has(field Field) bool {
	for _, f := range r.fields {
		if f == field {
			return true
		}
	}
	return false
}
