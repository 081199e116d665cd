package vault

import (
	"fmt"
	"time"

	"github.com/optiwe/callbridge/hub"
)

// Kind says what may be done about an [Error].
type Kind int

// The kinds.
const (
	// Later: the connection is as it was; try again later. The refresh was not
	// made, somebody else is making it, or its outcome is unknown.
	Later Kind = iota

	// Operator: the provider refuses our app or its settings, for every
	// customer. The connection is as it was; trying again is of no use before
	// the operator has done something.
	Operator

	// NeedsReauth: the connection is in state needs_reauth; an admin must
	// reconnect it.
	NeedsReauth

	// Gone: the org has no such connection, or it is disconnected.
	Gone
)

var kindNames = [...]string{"later", "operator", "needs_reauth", "gone"} //nolint:gochecknoglobals // a constant table

// String returns the kind's name, which is a metric label.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind(%d)", int(k))
	}
	return kindNames[k]
}

// Codes of our own, beside those of providers.
const (
	CodeRefreshing     = "refresh_in_progress"     // another process is refreshing and takes long
	CodeRefreshUnknown = "refresh_unknown"         // whether the provider spent the refresh token is unknown
	CodeNotStored      = "refresh_not_stored"      // new tokens came, and could not be stored: they are lost
	CodeNoRefresh      = "cannot_be_refreshed"     // the provider refuses a credential that has no refresh
	CodeNeedsReauth    = "connection_broken"       // was broken before
	CodeNotFound       = "connection_not_found"    // unknown or of another org
	CodeDisconnected   = "connection_disconnected" // for good
	CodeNoTokens       = "connection_without_tokens"
	CodeStopping       = "stopping" // this process is about to end
)

// Error is why there is no token. Its text holds no secret.
type Error struct {
	Kind       Kind
	Code       string
	Detail     string        // a sentence for the admin, with Operator for the operator
	RetryAfter time.Duration // with Later: earliest useful retry; 0: not known
	Err        error         // the cause for errors.Is; never printed
}

// Error returns kind, code and detail.
func (e *Error) Error() string {
	s := "token: " + e.Kind.String()
	if e.Code != "" {
		s += ": " + e.Code
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// usable returns nil if rec's tokens may be used.
func usable(rec Record) error {
	switch rec.State {
	case hub.Connected, hub.Paused:
	case hub.NeedsReauth:
		return &Error{Kind: NeedsReauth, Code: CodeNeedsReauth, Detail: "an admin must reconnect the connection"}
	case hub.Disconnected:
		return &Error{Kind: Gone, Code: CodeDisconnected, Detail: "the connection was disconnected"}
	}
	if len(rec.Sealed) == 0 {
		return &Error{Kind: Gone, Code: CodeNoTokens, Detail: "the connection has no tokens yet"}
	}
	return nil
}
