// Package hub is the vocabulary of Callbridge: the words that every other
// package uses for the same thing. It holds identifiers, states, the call
// itself and the [Secret] that cannot be printed. It imports the standard
// library only, does no I/O and knows no provider.
package hub

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
)

// Identifiers. Each is opaque to everything but the part that made it. Org,
// connection, integration and transfer ids are made here and contain only
// a–z, 0–9, '-' and '_'; a call's id is chosen by its producer, see
// [ValidCallID].
type (
	// OrgID names an org.
	OrgID string
	// ConnectionID names a connection.
	ConnectionID string
	// IntegrationID names an integration.
	IntegrationID string
	// CallID names a call within its org.
	CallID string
	// TransferID names a transfer.
	TransferID string
)

// Prefixes that tell people what an identifier names.
const (
	OrgPrefix         = "org"
	ConnectionPrefix  = "con"
	IntegrationPrefix = "int"
	TransferPrefix    = "tr"
	ErasurePrefix     = "era"
	KeyPrefix         = "key"
)

// NewID returns prefix, '_' and 26 characters of a–z and 2–7 that carry 128
// random bits. It cannot fail: crypto/rand ends the process if the system has
// no randomness to give.
func NewID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // documented never to return an error
	return prefix + "_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

var (
	orgID  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	callID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
)

// ValidOrgID reports whether s can be an org's id: 1–64 of a–z, 0–9, '-' and
// '_', not starting with '-' or '_'.
func ValidOrgID(s string) bool { return orgID.MatchString(s) }

// ValidCallID reports whether s can be a call's id: 1–128 of A–Z, a–z, 0–9,
// '.', '_', ':' and '-'.
func ValidCallID(s string) bool { return callID.MatchString(s) }

// Shards is how many shards there are. It can never change: an org belongs to
// its shard for life.
const Shards = 64

// Shard returns the org's shard, 0 to [Shards]-1.
func (o OrgID) Shard() int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(o)) // a hash never returns an error
	return int(h.Sum32() % Shards)
}

// OrgState says whether an org's calls flow.
type OrgState string

// The states of an org.
const (
	OrgActive    OrgState = "active"
	OrgSuspended OrgState = "suspended" // transfers are held, and go out when the org is active again
	OrgCancelled OrgState = "cancelled" // final: nothing is accepted and nothing leaves
)

// ConnectionState is the health of a connection.
type ConnectionState string

// The states of a connection.
const (
	Connected    ConnectionState = "connected"
	NeedsReauth  ConnectionState = "needs_reauth" // the provider refuses our token: an admin must reconnect; transfers are held
	Paused       ConnectionState = "paused"       // the provider or an admin asked for a stop; transfers are held
	Disconnected ConnectionState = "disconnected" // final: tokens destroyed, transfers withdrawn
)

// TransferKind is what a transfer does at the destination.
type TransferKind string

// The kinds of a transfer.
const (
	KindShare  TransferKind = "share"  // makes the copy
	KindUpdate TransferKind = "update" // corrects the copy in place
	KindErase  TransferKind = "erase"  // removes the copy
)

// TransferState is where a transfer stands. docs/ARCHITECTURE.md has the
// diagram.
type TransferState string

// The states of a transfer.
const (
	StateWaiting    TransferState = "waiting"    // in its lane, due at some time
	StateSending    TransferState = "sending"    // begun; found after a crash, its outcome is unknown
	StateHeld       TransferState = "held"       // waits for the org, the connection or the API budget; resumes by itself
	StateAmbiguous  TransferState = "ambiguous"  // may have arrived, and the provider cannot tell: a person decides
	StateDelivered  TransferState = "delivered"  // the provider confirmed it
	StateDead       TransferState = "dead"       // the provider will never accept it as it is; can be replayed after a fix
	StateWithdrawn  TransferState = "withdrawn"  // the permission went away before it began
	StateSuperseded TransferState = "superseded" // a newer revision took its place
	StateErased     TransferState = "erased"     // the copy it made was removed again
)

// TransferStates lists every state of a transfer in the order people meet them.
func TransferStates() []TransferState {
	return []TransferState{
		StateWaiting, StateSending, StateHeld, StateAmbiguous, StateDelivered,
		StateDead, StateWithdrawn, StateSuperseded, StateErased,
	}
}

// Open reports whether the transfer can still lead to a send by itself.
func (s TransferState) Open() bool {
	return s == StateWaiting || s == StateSending || s == StateHeld
}

// Role is what a key or a member may do.
type Role string

// The roles of an API key. Each is a set of its own, not a ladder.
const (
	RoleIngest  Role = "ingest"  // may post calls and read their shares
	RoleAuditor Role = "auditor" // may read
	RoleAdmin   Role = "admin"   // may do everything in its org
)

// ParseRole returns the role named s.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case RoleIngest, RoleAuditor, RoleAdmin:
		return r, nil
	}
	return "", fmt.Errorf("role %q is not known: want ingest, auditor or admin", s)
}

// FieldError is one thing wrong with a document somebody sent.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901 pointer to the member, such as "/owner/email"; "" is the document
	Detail  string `json:"detail"`  // a sentence that says what is expected; holds none of the value
}

func (e FieldError) Error() string {
	if e.Pointer == "" {
		return e.Detail
	}
	return e.Pointer + ": " + e.Detail
}
