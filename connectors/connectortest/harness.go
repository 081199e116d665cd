// Package connectortest is the conformance suite of connectors: every
// connector runs [Run] against its fake, with every [Fault]. The suite is the
// specification of the contract in package connectors; read it as such.
package connectortest

import (
	"encoding/json"

	"github.com/optiwe/callbridge/connectors"
)

// Fault is a way in which a provider can fail.
type Fault string

// The faults. A fake applies the injected fault to the next requests that
// would act or look something up, and to nothing else.
const (
	RateLimit   Fault = "rate limit"   // refuses with its way of saying "later", with a delay of 7 s where it can say one
	Outage      Fault = "outage"       // answers 503 and did nothing
	ServerError Fault = "server error" // answers 500 after it did the work
	BadToken    Fault = "bad token"    // the token is expired: a refreshed one would work
	Revoked     Fault = "revoked"      // the account is gone for good
	BadMessage  Fault = "bad message"  // refuses the content; of the first item only, where a request carries several
	CutBefore   Fault = "cut before"   // reads the request, does nothing, cuts the connection
	CutAfter    Fault = "cut after"    // does the work, then cuts the connection without an answer
	Slow        Fault = "slow"         // does the work, and answers after the caller's deadline
	Huge        Fault = "huge"         // does the work, and answers with a body of 64 MiB
	Nonsense    Fault = "nonsense"     // does the work, and answers 200 with something that is not its format
	EmptyOK     Fault = "empty ok"     // did nothing, and answers 200 with an empty object or list
	Redirect    Fault = "redirect"     // answers 302 to another host, which must not be followed
)

// Faults lists all of them.
func Faults() []Fault {
	return []Fault{
		RateLimit, Outage, ServerError, BadToken, Revoked, BadMessage, CutBefore, CutAfter,
		Slow, Huge, Nonsense, EmptyOK, Redirect,
	}
}

// Harness is a connector's fake provider, ready for one subtest.
type Harness struct {
	// Account is a working account at the fake. Its token is a canary: it must
	// appear in no error and no payload.
	Account connectors.Account

	// Destination is one that the fake accepts.
	Destination json.RawMessage

	// Inject makes the next n requests fail with f. n < 0: until healed by
	// Inject(f, 0).
	Inject func(f Fault, n int)

	// Copies returns the copies now at the provider, by item key.
	Copies func() map[string][]Copy

	// Requests returns how many requests that act or look up have arrived,
	// those that failed included.
	Requests func() int

	// CanReconcile is whether the connector is expected to find out what
	// became of an attempt in this set-up.
	CanReconcile bool

	// StatusConfirms is whether the provider confirms by a 2xx status alone and
	// says nothing in the body, as webhooks do. Huge and Nonsense are then
	// confirmations like any other, and EmptyOK a lie that nobody could see
	// through.
	StatusConfirms bool
}

// Copy is what arrived at the fake.
type Copy struct {
	Text     string // all text that people would see, concatenated
	Revision int    // how many times it was written, from 1
}
