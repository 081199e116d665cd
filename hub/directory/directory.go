// Package directory is who and what there is in an org: its keys, its
// connections, its integrations and their grants. [Snapshot] is all of that at
// one version; [Service] changes it. Every change is made against the version
// it was decided on, so two admins cannot overwrite each other unseen.
package directory

import (
	"encoding/json"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/consent"
)

// Org is a customer.
type Org struct {
	ID        hub.OrgID    `json:"id"`
	Name      string       `json:"name"`
	Region    string       `json:"region"`
	Language  string       `json:"language"` // BCP 47 tag of the texts people read at destinations
	State     hub.OrgState `json:"-"`        // kept apart: the scripts read it
	CreatedAt time.Time    `json:"created_at"`

	// Retention is how long call content is kept after its last transfer
	// ended. 0: as long as the instance's setting says.
	Retention time.Duration `json:"retention,omitempty"`
}

// Key is an API key. The key itself is known to nobody but its holder.
type Key struct {
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"`
	Role      hub.Role  `json:"role"`
	Digest    string    `json:"digest"` // keyed digest of the secret part
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
}

// SigningSecret verifies incoming signed calls.
type SigningSecret struct {
	ID        string     `json:"id"`
	Secret    hub.Secret `json:"-"` // sealed on its own
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
}

// Connection is an org's account at a provider, without its tokens.
type Connection struct {
	ID          hub.ConnectionID    `json:"id"`
	Provider    string              `json:"provider"`
	State       hub.ConnectionState `json:"-"` // kept apart: the scripts read it
	Cause       string              `json:"-"` // why it is not connected: a code
	AccountID   string              `json:"account_id,omitempty"`
	AccountName string              `json:"account_name,omitempty"`
	BaseURL     string              `json:"base_url"`
	Facts       map[string]string   `json:"facts,omitempty"`
	Scopes      []string            `json:"scopes,omitempty"` // held, where known
	CreatedAt   time.Time           `json:"created_at"`
	CreatedBy   string              `json:"created_by"`
	Health      Health              `json:"-"`
}

// Health is what is known of a connection from using it. Zero times mean never.
type Health struct {
	LastSuccess time.Time
	LastError   time.Time
	ErrorCode   string
	ErrorDetail string
	Budget      connectors.Budget
	BudgetAt    time.Time
}

// Integration is what an admin enables.
type Integration struct {
	ID        hub.IntegrationID `json:"id"`
	Name      string            `json:"name"`
	Enabled   bool              `json:"-"` // kept apart: the scripts read it
	Current   int               `json:"-"` // number of the grant in force; 0 while there is none
	Draft     *consent.Terms    `json:"draft,omitempty"`
	Grants    []consent.Grant   `json:"-"` // all, oldest first
	CreatedAt time.Time         `json:"created_at"`
	CreatedBy string            `json:"created_by"`
}

// Grant returns the grant of that number.
func (i *Integration) Grant(number int) (consent.Grant, bool) {
	if number < 1 || number > len(i.Grants) {
		return consent.Grant{}, false
	}
	return i.Grants[number-1], true
}

// Terms returns what the integration permits now or, before it was first
// enabled, would permit.
func (i *Integration) Terms() consent.Terms {
	if g, ok := i.Grant(i.Current); ok {
		return g.Terms
	}
	if i.Draft != nil {
		return *i.Draft
	}
	return consent.Terms{}
}

// Snapshot is an org's configuration at one version. It is shared and must not
// be changed.
type Snapshot struct {
	Org          Org
	Version      int64
	Keys         map[string]Key
	Secrets      []SigningSecret
	Connections  map[hub.ConnectionID]*Connection
	Integrations []*Integration // oldest first

	policies *policies // compiled grants; nil in a snapshot that no cache made
}

// Integration returns the integration of that id.
func (s *Snapshot) Integration(id hub.IntegrationID) (*Integration, bool) {
	for _, i := range s.Integrations {
		if i.ID == id {
			return i, true
		}
	}
	return nil, false
}

// RawDestination is the destination of terms, never nil.
func RawDestination(t consent.Terms) json.RawMessage {
	if len(t.Destination) == 0 {
		return json.RawMessage(`{}`)
	}
	return t.Destination
}

// Change is what a new version of an org's configuration writes. Only what is
// set is written.
type Change struct {
	Version int64 // decided on; 0 makes the org

	Org              *Org
	Keys             []Key
	DropKeys         []string
	Secrets          []SigningSecret
	DropSecrets      []string
	Connections      []*Connection // their documents; states have steps of their own
	NewConnections   []*Connection // made without tokens, in the state given
	Integrations     []*Integration
	NewGrants        []consent.Grant
	DropIntegrations []hub.IntegrationID // no longer listed; their grants are kept as evidence

	Entries []audit.Entry
}
