// Package oauth speaks to the token endpoints of providers. It knows what a
// token answer holds and what each refusal means; it keeps nothing. Tokens are
// kept by [github.com/optiwe/callbridge/oauth/vault], which also sees to it
// that a refresh token is used once.
package oauth

import (
	"context"
	"fmt"
	"time"

	"github.com/optiwe/callbridge/hub"
)

// Tokens is what a provider gave for one connection. A connection whose
// credential is a fixed secret, such as a webhook, has that secret as Access
// and nothing to refresh.
type Tokens struct {
	Access  hub.Secret
	Refresh hub.Secret // empty: there is nothing to refresh with

	// Expires is when Access ends. Zero: the provider does not tell, and only
	// its refusal shows that the token is spent (Salesforce).
	Expires time.Time

	// InstanceURL is where the account's API is, without a trailing slash:
	// Salesforce's instance, a webhook's full address. Empty from a refresh:
	// as before.
	InstanceURL string

	Scopes []string          // scopes held; nil: the provider did not tell
	Facts  map[string]string // see connectors.Account.Facts; from a refresh, only what it told

	// Warning is a constant code for the log where an otherwise good answer
	// held something that was not taken over, such as [WarnInstanceURL].
	Warning string
}

// WarnInstanceURL is the [Tokens.Warning] of a refresh whose answer named an
// instance that is not allowed. The tokens are good and must be kept, the old
// one is spent; the address was not taken over.
const WarnInstanceURL = "instance_url_not_allowed"

// FactLoginURL is the key, in a connection's facts, of the host at which its
// Salesforce tokens were issued and are refreshed.
const FactLoginURL = "login_url"

// Refresher exchanges a refresh token for new tokens.
type Refresher interface {
	// Refresh makes exactly one request to the provider, and none after an
	// error: providers revoke everything when a refresh token comes twice. It
	// returns within 15 seconds, sooner if ctx is done. Facts are those of the
	// connection and are not changed.
	//
	// Tokens.Refresh is never empty in its answer: a provider that does not
	// rotate keeps the old one. Every error is a *[RefreshError].
	Refresh(ctx context.Context, refresh hub.Secret, facts map[string]string) (Tokens, error)
}

// Kind says what a failed refresh means. It decides what happens to the
// connection.
type Kind int

// The kinds.
const (
	// Ambiguous: the provider may have spent the refresh token. The zero Kind,
	// because it is what must be assumed.
	Ambiguous Kind = iota
	Transient      // the refresh certainly did not happen; it may be tried again
	Operator       // the provider refuses our app or our settings: no customer can mend that
	Dead           // the provider refuses this refresh token for good: an admin must reconnect
)

var kindNames = [...]string{"ambiguous", "transient", "operator", "dead"} //nolint:gochecknoglobals // a constant table

// String returns the kind's name, which is a metric label.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind(%d)", int(k))
	}
	return kindNames[k]
}

// RefreshError is a failed refresh. Its text holds nothing of the request and
// nothing of the answer but a checked code.
type RefreshError struct {
	Kind       Kind
	Code       string        // the provider's code, such as "invalid_grant", or ours, such as "not_reached"
	Detail     string        // a sentence for the admin or, with Operator, for the operator
	Status     int           // HTTP status; 0 if there was no answer
	RetryAfter time.Duration // with Transient: earliest useful retry; 0: not told
	Err        error         // the cause for errors.Is; never printed
}

// Error returns kind, code and detail. The cause is left out on purpose: what
// other packages put into an error's text can hold addresses and tokens.
func (e *RefreshError) Error() string {
	s := "refresh: " + e.Kind.String()
	if e.Code != "" {
		s += ": " + e.Code
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns the cause.
func (e *RefreshError) Unwrap() error { return e.Err }
