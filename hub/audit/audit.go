// Package audit is the vocabulary of the audit log: what happened, to which
// call, under whose permission. An entry holds ids, field names, counts and
// keyed digests, and never content (invariant I8), so it can be kept when the
// content is erased.
//
// The log of an org is one Redis stream whose ids are 1-0, 2-0, 3-0…: a gapless
// sequence kept by the scripts of hub/store, in the same atomic step as the
// change it records. The id is meant to be the leaf index of a Merkle log.
package audit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub"
)

// Type says what happened.
type Type string

// The types of entries.
const (
	CallAccepted       Type = "call.accepted"
	CallErased         Type = "call.erased" // our own content is gone; the copies have transfers of kind erase
	ShareWithheld      Type = "share.withheld"
	TransferBegin      Type = "transfer.begin"
	TransferDelivered  Type = "transfer.delivered"
	TransferUnchanged  Type = "transfer.unchanged" // nothing to write: what is released is what the copy says already
	TransferRetry      Type = "transfer.retry"
	TransferHeld       Type = "transfer.held"
	TransferResumed    Type = "transfer.resumed"
	TransferUnknown    Type = "transfer.unknown" // found begun and without outcome; written before anything else is done with it
	TransferAmbiguous  Type = "transfer.ambiguous"
	TransferResolved   Type = "transfer.resolved" // a person settled an ambiguous one
	TransferReplayed   Type = "transfer.replayed" // a person asked for a dead one to be tried again
	TransferDead       Type = "transfer.dead"
	TransferWithdrawn  Type = "transfer.withdrawn"
	TransferSuperseded Type = "transfer.superseded"

	OrgCreated           Type = "org.created"
	OrgChanged           Type = "org.changed"
	KeyCreated           Type = "key.created"
	KeyRevoked           Type = "key.revoked"
	SecretCreated        Type = "signing_secret.created"
	SecretRevoked        Type = "signing_secret.revoked"
	ConnectionCreated    Type = "connection.created"
	ConnectionRepaired   Type = "connection.repaired"
	ConnectionBroken     Type = "connection.broken"
	ConnectionPaused     Type = "connection.paused"
	ConnectionDeleted    Type = "connection.disconnected"
	TokenInstalled       Type = "token.installed"
	TokenRefreshed       Type = "token.refreshed"
	TokenAmbiguous       Type = "token.refresh_unknown"
	IntegrationCreated   Type = "integration.created"
	IntegrationDrafted   Type = "integration.drafted"  // a widening that waits for acceptance
	IntegrationNarrowed  Type = "integration.narrowed" // took effect when saved
	IntegrationEnabled   Type = "integration.enabled"
	IntegrationDisabled  Type = "integration.disabled"
	IntegrationDeleted   Type = "integration.deleted"
	IntegrationPreviewed Type = "integration.previewed" // with look-ups at the provider
)

// Entry is one line of the log. Fields that do not apply are zero.
type Entry struct {
	ID          string            `json:"id"` // "1-0", "2-0"…; set by the store
	At          time.Time         `json:"at"` // the store's clock; set by the store
	Type        Type              `json:"type"`
	Actor       string            `json:"actor"` // "hub", "operator", "key:<id>", "signature:<secret id>"
	Call        hub.CallID        `json:"call_id,omitempty"`
	Revision    int               `json:"revision,omitempty"`
	Integration hub.IntegrationID `json:"integration_id,omitempty"`
	Connection  hub.ConnectionID  `json:"connection_id,omitempty"`
	Transfer    hub.TransferID    `json:"transfer_id,omitempty"`
	Grant       int               `json:"grant,omitempty"`
	Kind        hub.TransferKind  `json:"kind,omitempty"`
	Attempt     int               `json:"attempt,omitempty"`
	Reason      string            `json:"reason,omitempty"` // a reason or error code from a closed list or the provider's own
	Fields      []string          `json:"fields,omitempty"` // names of released or changed fields
	Digest      string            `json:"digest,omitempty"` // keyed digest of the payload
	Count       int               `json:"count,omitempty"`
	Subject     string            `json:"subject,omitempty"` // id of the key, secret, erasure… that the entry is about
}

// The names under which an entry's members stand in the stream. They are short
// because each is stored with every entry; scripts in hub/store write them.
const (
	keyAt, keyType, keyActor, keyCall, keyRevision = "at", "t", "by", "c", "r"
	keyIntegration, keyConnection, keyTransfer     = "i", "n", "x"
	keyGrant, keyKind, keyAttempt, keyReason       = "g", "k", "a", "w"
	keyFields, keyDigest, keyCount, keySubject     = "f", "d", "q", "s"
)

// Pairs returns the entry as the store writes it: names and values in turn,
// without id and time.
func (e Entry) Pairs() []string {
	p := []string{keyType, string(e.Type), keyActor, e.Actor}
	add := func(name, value string) {
		if value != "" {
			p = append(p, name, value)
		}
	}
	num := func(name string, n int) {
		if n != 0 {
			p = append(p, name, strconv.Itoa(n))
		}
	}
	add(keyCall, string(e.Call))
	num(keyRevision, e.Revision)
	add(keyIntegration, string(e.Integration))
	add(keyConnection, string(e.Connection))
	add(keyTransfer, string(e.Transfer))
	num(keyGrant, e.Grant)
	add(keyKind, string(e.Kind))
	num(keyAttempt, e.Attempt)
	add(keyReason, e.Reason)
	add(keyFields, strings.Join(e.Fields, ","))
	add(keyDigest, e.Digest)
	num(keyCount, e.Count)
	add(keySubject, e.Subject)
	return p
}

// Parse returns the entry that stands in the stream under id. Members that it
// does not know are left out: a newer version may have written them.
func Parse(id string, values map[string]string) (Entry, error) {
	e := Entry{
		ID: id, Type: Type(values[keyType]), Actor: values[keyActor],
		Call: hub.CallID(values[keyCall]), Integration: hub.IntegrationID(values[keyIntegration]),
		Connection: hub.ConnectionID(values[keyConnection]), Transfer: hub.TransferID(values[keyTransfer]),
		Kind: hub.TransferKind(values[keyKind]), Reason: values[keyReason], Digest: values[keyDigest],
		Subject: values[keySubject],
	}
	for name, to := range map[string]*int{
		keyRevision: &e.Revision, keyGrant: &e.Grant, keyAttempt: &e.Attempt, keyCount: &e.Count,
	} {
		if err := number(values, name, to); err != nil {
			return Entry{}, fmt.Errorf("audit entry %s: %w", id, err)
		}
	}
	ms, err := strconv.ParseInt(values[keyAt], 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("audit entry %s: time: %w", id, err)
	}
	e.At = time.UnixMilli(ms).UTC()
	if f := values[keyFields]; f != "" {
		e.Fields = strings.Split(f, ",")
	}
	return e, nil
}

func number(values map[string]string, name string, to *int) error {
	s, ok := values[name]
	if !ok || s == "" {
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("member %q: %w", name, err)
	}
	*to = n
	return nil
}
