// Package salesforce makes and keeps a completed call activity in Salesforce
// for every call that is shared: a Task of the subtype Call, linked to the
// contact or lead, the account or open opportunity, and the owner, where those
// can be told without a guess.
//
// A batch of up to 200 calls costs at most five queries to look people up (none
// where the cache has them) and one collections call to write, plus one to
// write those again whose link or field Salesforce refused. Two things make a
// batch cost more: a list of look-ups too long for one URL, which is cut into
// several queries, and a destination without an external id, which costs one
// query more ("No external id" below).
//
// # Which record a call is linked to
//
// The rules are fixed and never guess; the first that applies decides.
//
// The person (WhoId): of the external participants in the call's order, the
// first whose e-mail address belongs to exactly one contact; else the first
// whose phone number does. Several contacts with one address are told apart by
// the call's account if exactly one of them belongs to it (by id, by the domain
// of its website, or by name); otherwise that participant is passed over, and if
// nobody else is found there is no link and the loss is declared. Where no
// contact was found, and the call names no CRM record, the same for leads.
//
// What it is about (WhatId): nothing if the person is a lead, which Salesforce
// requires. Else the opportunity the call names; else the account: the one the
// call names, the contact's, the only one whose website has the call's account
// domain, or the only one with its name. If that account has exactly one open
// opportunity, it is linked; if not, the account is.
//
// The owner: the only active standard user with the owner's e-mail address.
// Without one, the task belongs to the connected user and the loss is declared.
//
// # No external id
//
// With "external_id_field" in the destination, a record is created by upsert, so
// that a repeated push cannot make a second one. (Mark the field as unique where
// the org lets you: two upserts at the very same time can make two records
// otherwise. Writes of one connection never overlap, but an attempt that we gave
// up on may still be at work when it is repeated.) Without it, every task carries
// the item's key in CallObject (the standard field "Call Object Identifier",
// which can be filtered), and a push looks for it, archived tasks included,
// before it creates anything. The field is also set where there is an external
// id, so that taking the external id out of a destination does no harm.
//
// A record whose id is known from a receipt is always written by that id: an
// upsert may not find it any more once Salesforce has archived it, and would
// bring back one that the customer deleted.
package salesforce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/mappings"
)

const (
	// defaultVersion is the API version that every org has in late 2026
	// (Summer '26).
	defaultVersion = "67.0"

	defaultTimeout = 30 * time.Second

	// maxRows is how many records one collections call takes.
	maxRows = 200
)

// Descriptor describes the connector.
func Descriptor() connectors.Descriptor {
	return connectors.Descriptor{
		Name:        "salesforce",
		Title:       "Salesforce",
		Summary:     "A completed call activity on the right contact, account and opportunity, corrected in place.",
		OAuth:       &connectors.OAuth{Provider: "salesforce", Scopes: []string{"api", "refresh_token"}},
		BearerToken: true,
		HostSuffix:  []string{".my.salesforce.com", ".salesforce.com", ".force.com"},
		BatchSize:   maxRows,
		BudgetShare: 0.8,
		Destination: checkDestination,
		Schema:      schema,
		New: func(cfg connectors.Config) (connectors.Connector, error) {
			return newConnector(cfg)
		},
	}
}

// connector implements every capability of package connectors. It has no state.
type connector struct {
	version string
	timeout time.Duration

	// settle is how long after its begin an attempt that nothing can be found
	// of may still be running at Salesforce: as long as we would have waited
	// for its answer.
	settle time.Duration
}

var (
	_ connectors.Connector  = (*connector)(nil)
	_ connectors.Resolver   = (*connector)(nil)
	_ connectors.Updater    = (*connector)(nil)
	_ connectors.Eraser     = (*connector)(nil)
	_ connectors.Reconciler = (*connector)(nil)
	_ connectors.Describer  = (*connector)(nil)
	_ connectors.Checker    = (*connector)(nil)
	_ connectors.Identifier = (*connector)(nil)
	_ connectors.Revoker    = (*connector)(nil)
)

var versionShape = regexp.MustCompile(`^[1-9][0-9]{1,2}\.0$`)

func newConnector(cfg connectors.Config) (*connector, error) {
	c := &connector{version: strings.TrimPrefix(cfg.APIVersion, "v"), timeout: cfg.Timeout}
	if c.version == "" {
		c.version = defaultVersion
	}
	if !versionShape.MatchString(c.version) {
		return nil, errors.New("the API version must look like " + defaultVersion)
	}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	c.settle = c.timeout
	return c, nil
}

// destination is where an integration's calls go.
type destination struct {
	Object          string `json:"object"`
	ExternalIDField string `json:"external_id_field,omitempty"` // a custom field of Task that is an external id; "" if the org has none
}

// customField is the shape of a custom field's name, in a namespace or not.
var customField = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*__c$`)

const maxFieldName = 80

func isCustomField(name string) bool {
	return len(name) <= maxFieldName && customField.MatchString(name)
}

// checkDestination is Descriptor.Destination.
func checkDestination(raw json.RawMessage) []hub.FieldError {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var d destination
	if err := dec.Decode(&d); err != nil || string(bytes.TrimSpace(raw)) == "null" {
		return []hub.FieldError{{Detail: `must be an object such as {"object":"Task"}, with "external_id_field" where the org has one`}}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return []hub.FieldError{{Detail: "must be one object and nothing after it"}}
	}
	var out []hub.FieldError
	if d.Object != "Task" {
		out = append(out, hub.FieldError{Pointer: "/object", Detail: `must be "Task"`})
	}
	if d.ExternalIDField != "" && !isCustomField(d.ExternalIDField) {
		out = append(out, hub.FieldError{Pointer: "/external_id_field", Detail: `must be the API name of a custom field, such as "Callbridge_Id__c"`})
	}
	return out
}

// parseDestination reads a destination that [checkDestination] has passed.
func parseDestination(raw json.RawMessage) (destination, error) {
	if wrong := checkDestination(raw); len(wrong) > 0 {
		return destination{}, fmt.Errorf("destination: %w", wrong[0])
	}
	var d destination
	if err := json.Unmarshal(raw, &d); err != nil {
		return destination{}, fmt.Errorf("destination: %w", err)
	}
	return d, nil
}

// API names of the fields of a Task that the connector writes.
const (
	fieldSubject     = "Subject"
	fieldDescription = "Description"
	fieldStatus      = "Status"
	fieldPriority    = "Priority"
	fieldSubtype     = "TaskSubtype"
	fieldDate        = "ActivityDate"
	fieldCallType    = "CallType"
	fieldDuration    = "CallDurationInSeconds"
	fieldDisposition = "CallDisposition"
	fieldCallObject  = "CallObject"
	fieldWho         = "WhoId"
	fieldWhat        = "WhatId"
	fieldOwner       = "OwnerId"
)

// Lengths of the text fields, in UTF-16 units.
const (
	maxSubject     = 255
	maxDescription = 32_000
	maxDisposition = 255
	maxPicklist    = 255
)

// mappable returns the standard fields that a mapping may set. Those that say
// which record it is and to whom it belongs are not among them: Id, CallObject
// and the external id, because a wrong value would make Callbridge lose or
// overwrite records; TaskSubtype, because the record would be no call; WhoId,
// WhatId and OwnerId, because an id in a mapping would bypass the matching
// rules and put a call in front of the wrong people.
func mappable() []mappings.Field {
	return []mappings.Field{
		{Name: fieldSubject, Title: "Subject", Type: mappings.String, MaxLength: maxSubject, Required: true},
		{Name: fieldDescription, Title: "Comments", Type: mappings.String, MaxLength: maxDescription},
		{Name: fieldStatus, Title: "Status", Type: mappings.String, MaxLength: maxPicklist, Required: true},
		{Name: fieldPriority, Title: "Priority", Type: mappings.String, MaxLength: maxPicklist, Required: true},
		{Name: fieldDate, Title: "Due date", Type: mappings.Date},
		{Name: fieldCallType, Title: "Call type", Type: mappings.String, Values: []string{"Inbound", "Outbound", "Internal"}},
		{Name: fieldDuration, Title: "Call duration in seconds", Type: mappings.Number},
		{Name: fieldDisposition, Title: "Call result", Type: mappings.String, MaxLength: maxDisposition},
	}
}

// schema is Descriptor.Schema.
func schema(raw json.RawMessage) mappings.Schema {
	d, _ := parseDestination(raw) // an unreadable one has no external id
	return mappings.Schema{
		Fields: mappable(),
		Custom: func(name string) bool { return isCustomField(name) && !strings.EqualFold(name, d.ExternalIDField) },
	}
}

// idShape is the shape of a record id.
var idShape = regexp.MustCompile(`^[A-Za-z0-9]{15}([A-Za-z0-9]{3})?$`)

// Prefixes of the ids of standard objects.
const (
	prefixAccount     = "001"
	prefixContact     = "003"
	prefixUser        = "005"
	prefixOpportunity = "006"
	prefixLead        = "00Q"
	prefixTask        = "00T"
)

// isID reports whether s is the id of a record of one of the objects.
func isID(s string, prefixes ...string) bool {
	if !idShape.MatchString(s) {
		return false
	}
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// receiptID returns the record id of a receipt, or "".
func receiptID(r connectors.Receipt) string {
	if id := r["id"]; isID(id, prefixTask) {
		return id
	}
	return ""
}

// receipt returns the receipt of a task.
func receipt(baseURL, id string) connectors.Receipt {
	return connectors.Receipt{"id": id, "url": baseURL + "/lightning/r/Task/" + id + "/view"}
}

// api returns the connector's way to an account for one operation.
func (c *connector) api(a connectors.Account, op string) *api {
	return &api{account: a, version: c.version, timeout: c.timeout, op: op}
}

// Identify implements [connectors.Identifier]: it reads the org's own record,
// which every user may.
func (c *connector) Identify(ctx context.Context, a connectors.Account) (connectors.Identity, error) {
	rows, err := c.api(a, "identify").query(ctx, "SELECT Id, Name, IsSandbox, InstanceName FROM Organization LIMIT 1")
	if err != nil {
		return connectors.Identity{}, err
	}
	if len(rows) != 1 || !isID(rows[0].text("Id"), "00D") {
		return connectors.Identity{}, unreadable("identify", true)
	}
	org := rows[0]
	facts := map[string]string{"org_id": org.text("Id")}
	if org["IsSandbox"] == true {
		facts["sandbox"] = "true"
	}
	if instance := org.text("InstanceName"); instance != "" {
		facts["instance"] = instance
	}
	return connectors.Identity{AccountID: org.text("Id"), AccountName: org.text("Name"), Facts: facts}, nil
}

// Revoke implements [connectors.Revoker].
func (c *connector) Revoke(ctx context.Context, a connectors.Account) error {
	if err := c.api(a, "revoke").revoke(ctx); err != nil {
		return err
	}
	return nil
}
