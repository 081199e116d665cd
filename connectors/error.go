package connectors

import (
	"errors"
	"fmt"
	"time"

	"github.com/optiwe/callbridge/mappings"
)

// Class says what may be done about the end of a call to a provider. It is the
// only thing the hub looks at: statuses and provider codes are for people who
// read the record.
type Class int

// The classes.
const (
	Unknown      Class = iota // may have run: it is reconciled, never blindly repeated
	Delivered                 // the provider confirmed it
	Transient                 // certainly not done; may work later
	RateLimited               // certainly not done; will work after RetryAfter
	Unauthorized              // the token is refused: refresh once, else the connection needs_reauth
	Rejected                  // this will never be accepted as it is: a person must change something
	Gone                      // the copy to be updated or erased is no longer there
)

var classNames = [...]string{"unknown", "delivered", "transient", "rate_limited", "unauthorized", "rejected", "gone"} //nolint:gochecknoglobals // a constant table

// String returns the class's name, which is a metric label and an API value.
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("class(%d)", int(c))
	}
	return classNames[c]
}

// Outcome is how one item of a Push, Update or Erase ended. The zero Outcome is
// Unknown.
type Outcome struct {
	Class   Class
	Receipt Receipt         // with Delivered
	Losses  []mappings.Loss // beyond those of the payload, such as a link that had to be dropped
	Err     *Error          // with every class but Delivered
}

// Done returns the outcome of a delivered item.
func Done(r Receipt, losses ...mappings.Loss) Outcome {
	return Outcome{Class: Delivered, Receipt: r, Losses: losses}
}

// Failed returns the outcome of an item that ended with err.
func Failed(err *Error) Outcome { return Outcome{Class: err.Class, Err: err} }

// FailAll returns n outcomes that ended with err.
func FailAll(n int, err *Error) []Outcome {
	out := make([]Outcome, n)
	for i := range out {
		out[i] = Failed(err)
	}
	return out
}

// Reach says how far a failure reaches beyond its own item.
type Reach int

// The reaches.
const (
	ReachItem       Reach = iota // this item only
	ReachPlace                   // everything with the same pace key, such as one Slack channel
	ReachConnection              // everything of the connection: the lane waits
)

// Error is a failed call to a provider. Its text holds no credential, no
// address and no content of a call, so it can be logged and shown to the org.
type Error struct {
	Class      Class
	Op         string        // "push", "resolve", …
	Status     int           // HTTP status; 0 if there was no answer
	Code       string        // the provider's own code, such as "channel_not_found", or ours, such as "connection_cut"
	Detail     string        // a sentence for the admin: the thing, the cause, the next step
	RetryAfter time.Duration // with RateLimited: earliest useful retry
	Reach      Reach         // how far it reaches
	Permanent  bool          // with Unauthorized: refreshing cannot help
	Err        error         // the cause for errors.Is; never printed
}

// Error returns class, code and detail. The cause is left out on purpose: what
// other packages put into an error's text can hold addresses and content.
func (e *Error) Error() string {
	s := e.Class.String()
	if e.Op != "" {
		s = e.Op + ": " + s
	}
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

// AsError returns err as an *Error; one that is none becomes class Unknown with
// code "internal", and its text is not taken over.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Class: Unknown, Code: "internal", Detail: "an error that the connector did not classify", Err: err}
}

// ErrUnsupported is returned by [Conn] for a capability that the connector
// does not have.
var ErrUnsupported = errors.New("the connector cannot do that")
