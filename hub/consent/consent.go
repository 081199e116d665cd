// Package consent decides what may leave. It is pure: no clock of its own, no
// I/O, no provider. [Decide] says whether a call is shared by an integration
// and why; a [Release] is the only form in which call data can leave, and only
// this package can make one.
//
// What an admin permits is stated as [Terms], checked with [Check] and, once
// accepted, kept as a numbered [Grant]; [Compile] makes it a [Policy] to decide
// with. [Compare] tells whether new terms widen what may leave, which takes an
// admin's acceptance, or narrow it, which holds at once.
package consent

import (
	"encoding/json"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/mappings"
)

// Terms is what an integration permits: which calls, which fields, where to,
// how they are mapped and for how long.
type Terms struct {
	Connection       hub.ConnectionID `json:"connection_id"`
	Fields           []Field          `json:"fields"`
	When             string           `json:"when,omitempty"` // CEL over call and org; "" is every call
	Destination      json.RawMessage  `json:"destination"`
	Mapping          mappings.Source  `json:"mapping,omitempty"`
	ExpiresAfterDays int              `json:"expires_after_days,omitempty"` // 0: copies stay
}

// Grant is an immutable, numbered version of an integration's permission.
type Grant struct {
	Number        int               `json:"grant"` // 1, 2, 3… within the integration
	Integration   hub.IntegrationID `json:"integration_id"`
	Terms         Terms             `json:"terms"`
	Since         int               `json:"since"`      // the first grant of this unbroken time of being enabled
	EnabledBy     string            `json:"enabled_by"` // opaque actor, such as "key:key_…"
	EnabledAt     time.Time         `json:"enabled_at"`
	AcceptedTerms string            `json:"accepted_terms"`
}
