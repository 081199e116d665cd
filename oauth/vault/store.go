package vault

import (
	"context"
	"errors"
	"time"

	"github.com/optiwe/callbridge/hub"
)

// Errors of a [Store].
var (
	// ErrNotFound is returned for a connection that the org does not have.
	ErrNotFound = errors.New("connection not found")

	// ErrStale is returned by a write whose condition did not hold: somebody
	// else has moved the connection on. Nothing was changed.
	ErrStale = errors.New("the connection's tokens have moved on")
)

// Store keeps, for each connection, its sealed tokens with their version, its
// state, and at most one intent: the note that somebody is about to refresh.
// Implementations are checked by vaulttest.RunStore.
//
// All calls for one connection are linearizable, across processes. A write is
// durable when it returns. Methods may be called by several goroutines. Time
// is the store's own clock, so that the clocks of processes need not agree;
// a lease lives while that clock is before its end.
//
// Every write may be repeated with the same arguments after a lost answer, and
// then answers as the first did. To InstallTokens, PutTokens and
// EndRefresh a connection that is not there is no special case; the others
// return [ErrNotFound]. An error other than [ErrNotFound] and
// [ErrStale] leaves it unknown whether the write happened.
//
// Of a connection in state disconnected, or of an org's other connection,
// nothing is ever changed here. Whoever disconnects a connection, or destroys
// its tokens, removes its intent too.
//
// An implementation that keeps an audit log writes its entry in the same step
// as the change: tokens installed, refresh taken over after an unknown one,
// refresh done, refresh unknown, connection broken.
type Store interface {
	// LoadTokens returns the connection as it is, or [ErrNotFound].
	LoadTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID) (Record, error)

	// InstallTokens stores the tokens that an admin brought: version must be
	// one more than the stored version, which is 0 for a connection that has
	// no tokens yet, else ErrStale. (The stored version with the same sealed
	// bytes is a repeat: nil, and nothing is done.) The state becomes connected, whatever it was but
	// disconnected (ErrStale), and an intent is removed. A connection that
	// the store does not know is made, with nothing but this.
	InstallTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, provider string, version int, sealed []byte) error

	// TakeRefresh asks for the right to refresh, and on Taken writes the
	// intent. The checks are made in this order:
	//
	//  1. State needs_reauth or disconnected: Closed.
	//  2. Stored version is not t.Version: Moved.
	//  3. An intent of t.Taker itself: Taken; a repeat. Its lease starts anew
	//     and nothing else changes.
	//  4. No intent: Taken. The intent is {Taker, lease from now, Tries 1}.
	//  5. An intent whose lease lives: Busy.
	//  6. An intent whose lease ran out: with t.Takeover Taken, and the intent
	//     becomes {Taker, lease from now, Tries+1, not Unknown}; without it
	//     Orphaned.
	//
	// The answer holds the record as it is afterwards. ErrNotFound where there
	// is no connection.
	TakeRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, t Take) (Answer, error)

	// PutTokens stores what the refresh of version gave, as version+1, and
	// removes the intent, if the stored version is version and the intent is
	// taker's, whether or not its lease has run out. A repeat (the stored
	// version is version+1, put by taker) is nil. Anything else is ErrStale.
	PutTokens(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, version int, taker string, sealed []byte) error

	// EndRefresh notes how taker's refresh ended without new tokens. If the
	// intent is not taker's, or is Unknown already (a repeat), nothing is done
	// and nil returned.
	//
	// Certainly not done (end.Unknown false): the intent is removed if its
	// Tries is 1. Otherwise it had been taken over from an attempt that is
	// still unknown: it stays, with Tries-1, Unknown, and a lease that ends
	// end.Pause from now.
	//
	// Unknown: the intent stays, marked Unknown, and its lease ends end.Pause
	// from now.
	EndRefresh(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, taker string, end End) error

	// BreakConnection sets the state to needs_reauth and removes the intent,
	// if the stored version is b.Version, the state is connected or paused,
	// and
	//   - with a b.Taker: the intent is that taker's;
	//   - without: no intent is there whose lease lives and that is not Unknown,
	//     because that refresh may yet bring a good token.
	//
	// A connection of that version in needs_reauth already: nil. Anything else
	// is ErrStale, and ErrNotFound where there is no connection.
	BreakConnection(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, b Break) error
}

// Record is a connection, as much as the vault needs of it.
type Record struct {
	Provider string // name of the connector, such as "salesforce"
	State    hub.ConnectionState
	Version  int    // counts the token pairs that were stored; 0: none yet
	Sealed   []byte // the tokens of that version; empty: none, or destroyed
	Intent   Intent // the zero Intent: nobody is refreshing
}

// Intent is the note that somebody is refreshing, or was.
type Intent struct {
	Taker   string        // who; "": there is no intent
	Left    time.Duration // until the lease ends, by the store's clock; 0 or less: it has run out
	Tries   int           // this attempt and the unknown ones before it, of this version; from 1
	Unknown bool          // the attempt ended, and nobody knows whether the provider spent the refresh token
}

// Live reports whether somebody is refreshing at this moment.
func (i Intent) Live() bool { return i.Taker != "" && i.Left > 0 && !i.Unknown }

// Take asks for the right to refresh.
type Take struct {
	Version int // of the tokens to be refreshed

	// Taker names this attempt; no two attempts have the same. It is the fence
	// as well: every later write of the refresher names it, and is refused
	// once somebody else has taken.
	Taker string

	Lease    time.Duration // how long, from now; whole milliseconds
	Takeover bool          // take over from an attempt whose outcome nobody knows
}

// Answer is what came of a [Take].
type Answer struct {
	Verdict Verdict
	Record  Record // as it is after the take
}

// Verdict says what came of a [Take].
type Verdict int

// The verdicts.
const (
	Busy     Verdict = iota // somebody else is refreshing
	Taken                   // the caller refreshes, and nobody else
	Moved                   // other tokens are stored than those to be refreshed: use these
	Orphaned                // an earlier attempt's outcome is unknown, and a takeover was not asked for
	Closed                  // the connection is broken or disconnected
)

// End says how a refresh ended that brought no tokens.
type End struct {
	Unknown bool          // the provider may have spent the refresh token
	Code    string        // the provider's code or ours, for the audit log; holds no secret
	Detail  string        // a sentence for the connection's health; holds no secret
	Pause   time.Duration // before the next take, where the intent stays; whole milliseconds
}

// Break says which tokens the provider refused for good.
type Break struct {
	Version int
	Taker   string // of the refresh that was refused; "": the access token was
	Code    string // the provider's code or ours, for the audit log; holds no secret
	Detail  string // a sentence for the admin: the cause and what to do; holds no secret
}
