// Package connectors defines what a connector is. Implementations live one
// folder each beneath this one; the list of those shipped is in connectors/all.
//
// A connector translates between the hub and one provider's API. It does not
// see orgs, lanes, consent or how tokens are kept: the hub decides whether to
// call, hands it an [Account] with an authorised HTTP client, and decides from
// the [Class] of each [Outcome] what happens next. A connector does not retry,
// sleep or log: the hub owns retries, and two retry loops multiply.
//
// docs/CONNECTORS.md explains how to write one.
package connectors

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/mappings"
)

// Connector is what every connector can do. Its methods may be called by
// several goroutines at once.
//
// A connector that can do more implements the optional interfaces beside this
// one: [Resolver], [Updater], [Eraser], [Reconciler], [Describer], [Checker],
// [Identifier], [Revoker]. Nobody but [Conn] asserts them.
type Connector interface {
	// Render returns exactly what Push would send for the item. It is pure:
	// the same item gives the same bytes on every machine and at every time.
	// It reads item.Release, Key, Kind, Destination, Receipt, Targets and
	// Overrides. A release that cannot be rendered at all is an error whose
	// text holds no content; whatever can be sent with something left out is
	// sent, and the loss declared.
	Render(item Item) (Payload, error)

	// Push sends the payloads of items, which have kind share, and returns one
	// outcome for each, in order. There are at most Descriptor.BatchSize items,
	// no two with the same Key. Push returns soon after ctx is done; what it
	// cannot know then has the class Unknown.
	//
	// It must not return before every request it made has ended.
	Push(ctx context.Context, a Account, items []Item) []Outcome
}

// Resolver looks people and records up at the provider before rendering.
type Resolver interface {
	// Resolve returns what it found for each item, in order, using nothing but
	// item.Release.Matching and item.Destination. A Targets that is nil means that nothing was
	// found, which is no error. An error stands for the whole batch and is an
	// *[Error] where the provider said something.
	Resolve(ctx context.Context, a Account, items []Item) ([]Targets, error)

	// LookUps says, for people, what Resolve would look up for the item, such
	// as "contact by e-mail". No addresses in it. Pure.
	LookUps(item Item) []string
}

// Updater corrects a copy in place. A connector without it cannot carry
// corrections, and the hub says so instead of sending a second copy.
type Updater interface {
	// Update is like Push for items of kind update; item.Receipt names the copy.
	Update(ctx context.Context, a Account, items []Item) []Outcome
}

// Eraser removes copies.
type Eraser interface {
	// Erase removes the copy that item.Receipt names, and reads back that it
	// is gone. A copy that was gone already is Delivered. Items have no
	// Release and no Payload.
	Erase(ctx context.Context, a Account, items []Item) []Outcome
}

// Reconciler finds out what became of an attempt whose outcome is unknown.
type Reconciler interface {
	// Reconcile looks for what an earlier Push or Update of each item (same
	// Key, begun at item.Begun) left at the provider. It changes nothing there.
	// Of an Erase, which can always be repeated, it says Repeatable; such an item
	// has no Release.
	Reconcile(ctx context.Context, a Account, items []Item) []Finding
}

// Describer lists the fields of a destination object.
type Describer interface {
	// Describe returns the schema that mappings to the destination are checked
	// against, from the provider itself.
	Describe(ctx context.Context, a Account, destination json.RawMessage) (mappings.Schema, error)
}

// Checker checks a destination against the live account when an integration
// is enabled.
type Checker interface {
	// Check returns an *[Error] with a sentence for the admin if the
	// destination does not exist, cannot be written to or could be read by
	// people outside the org.
	Check(ctx context.Context, a Account, destination json.RawMessage) error
}

// Identifier asks the provider whose account it is.
type Identifier interface {
	// Identify makes one cheap call with the account's token. It is made when
	// a connection is imported and to probe a quiet one.
	Identify(ctx context.Context, a Account) (Identity, error)
}

// Revoker makes the provider forget our token.
type Revoker interface {
	// Revoke makes the account's token invalid. A token that was invalid
	// already is no error.
	Revoke(ctx context.Context, a Account) error
}

// Account is what a connector sees of a connection. Its zero fields mean that
// the connection has no such thing.
type Account struct {
	// BaseURL is where the provider's API is, without a trailing slash:
	// Salesforce's instance, Slack's Web API, a webhook's full address.
	BaseURL string

	// Token is the access token in force, for libraries that must put it into
	// the request themselves; a webhook's signing secret. It must not leave the
	// connector in any other way.
	Token hub.Secret

	// HTTP reaches nothing but BaseURL's host, follows no redirect, checks at
	// dial time that the address is public, and does not retry. It adds
	// "Authorization: Bearer <Token>" to requests that carry no Authorization
	// header, if Descriptor.BearerToken is set.
	HTTP *http.Client

	// Facts is what Identify and the token answer said of the account, such as
	// Slack's "team_id".
	Facts map[string]string

	// Cache keeps look-ups of this connection for some minutes. It is never
	// nil in the hub.
	Cache Cache

	// OnBudget is called with the API budget whenever the provider tells it.
	// nil: nobody wants to know.
	OnBudget func(Budget)
}

// Cache keeps what a connector looked up, in memory, bounded in size and time.
// Keys and values never leave the process.
type Cache interface {
	Get(key string) (any, bool)
	// Put keeps v for ttl at most; it may be dropped earlier.
	Put(key string, v any, ttl time.Duration)
}

// Budget is how much of the provider's daily allowance of API calls is used,
// by everybody who uses that account.
type Budget struct {
	Used  int `json:"used"`
	Limit int `json:"limit"`
}

// Identity is whose account a connection is.
type Identity struct {
	AccountID   string            // stable at the provider: Salesforce's org id, Slack's team id
	AccountName string            // for people
	Scopes      []string          // scopes held, where the provider tells; nil where not
	Facts       map[string]string // kept with the connection; see Account.Facts
}

// Item is one transfer, as much as a connector may know of it.
type Item struct {
	Key         string           // names the copy: the same for its share, updates and erasure; 26 of a–z and 2–7, opaque
	Kind        hub.TransferKind //
	Release     *consent.Release // nil for an erasure
	Destination json.RawMessage  // the destination of the grant, routing rules already applied
	Overrides   map[string]any   // what the admin's mapping gave, by destination field; see Descriptor.Schema
	Receipt     Receipt          // of the live copy; nil where there is none
	Targets     Targets          // what Resolve found
	Payload     Payload          // what Render gave
	Begun       time.Time        // when the attempt to be reconciled began; zero otherwise
}

// Receipt is what the provider calls the copy, such as a record id, or a
// channel and a timestamp. The member "url", where present, is where people
// find the copy.
type Receipt map[string]string

// Targets is what was found at the provider, such as "who_id" or "channel".
// It is part of what is previewed and recorded; no addresses in it.
type Targets map[string]string

// Payload is exactly what is sent.
type Payload struct {
	Body   json.RawMessage // canonical JSON; Push sends this and adds no call data to it
	Losses []mappings.Loss
}

// Finding is what Reconcile learned of one item.
type Finding struct {
	Verdict Verdict
	Receipt Receipt // with Arrived
	Err     *Error  // with CannotTell, why; nil: the provider offers no way
}

// Verdict says what became of an attempt.
type Verdict int

// The verdicts.
const (
	CannotTell Verdict = iota // the attempt becomes ambiguous, or is looked for again if Err says try later
	Arrived                   // the copy is there as the payload says
	NotArrived                // it is certainly not there: the transfer may begin again
	Repeatable                // it may or may not be there, and sending again is harmless (upsert by external id)
)

// Descriptor is all that the hub, the console and the documents know about a
// connector without asking it. It is data; forms, API enumerations, metric
// labels and the README's table are made from it.
type Descriptor struct {
	Name    string // lower case, the value of "provider" in the API; a folder of that name
	Title   string // for people
	Summary string // one sentence: what arrives there

	// OAuth names the flow and the scopes needed. nil: the connection has no
	// OAuth, its credential is a fixed secret.
	OAuth *OAuth

	BearerToken bool     // the HTTP client adds the token as a bearer token
	HostSuffix  []string // hosts a BaseURL may have, such as ".my.salesforce.com"; nil: any public host

	BatchSize int // items in one Push; 1 to 200
	Parallel  int // Pushes of one connection at once; 0 means 1

	// Pace keeps messages to one place apart: two items with the same PaceKey
	// are at least PaceInterval apart. nil: no pace.
	PaceKey      func(destination json.RawMessage) string
	PaceInterval time.Duration

	// BudgetShare is how much of the provider's daily API allowance shares may
	// use, 0 to 1; beyond it they are held, and only updates and erasures go
	// on. 0: no budget is kept.
	BudgetShare float64

	// Destination checks an integration's destination (after routing rules:
	// each route is checked) without any I/O and returns what is wrong, with
	// pointers relative to it.
	Destination func(raw json.RawMessage) []hub.FieldError

	// Schema returns the destination fields that a mapping may set.
	Schema func(destination json.RawMessage) mappings.Schema

	// Secret checks the fixed secret of a connection without OAuth when it is
	// imported. The error is a sentence that holds none of it. nil: any will do.
	Secret func(secret hub.Secret) error

	// New makes the connector. It is called once at start.
	New func(Config) (Connector, error)
}

// OAuth is what a connector needs of the provider's OAuth.
type OAuth struct {
	Provider string   // "salesforce", "slack"
	Scopes   []string // needed
}

// Config is what a connector may be told at start.
type Config struct {
	APIVersion string        // version of the provider's API, where it has any; "" is the connector's default
	Timeout    time.Duration // of one request; 0 means 30 s
}
