// Package slack shares calls with a Slack workspace: a card in a channel or a
// direct message to the call's owner, corrected and removed in place.
//
// A message is posted once. Slack has no idempotency key for bots, so an
// attempt whose end is unknown is looked for by the opaque key in the
// message's metadata, where the scopes allow reading the channel's history,
// and is left to a person otherwise.
//
// Before every send the channel is checked: one that people outside the
// company can read, because it is shared with another company (Slack Connect)
// or has guests in it, is refused unless the destination allows it.
//
// github.com/slack-go/slack makes the requests and reads the answers. What
// stands between it and the network decides what an answer means, see guard.
package slack

import (
	"time"

	"github.com/optiwe/callbridge/connectors"
)

const (
	batchSize      = 20
	parallel       = 2                // Pushes of one workspace at once
	places         = 4                // channels posted to at once within a Push
	pace           = time.Second      // chat.postMessage: one a second and channel
	defaultTimeout = 30 * time.Second // of one request
)

// Optional scopes. With the history ones an attempt of unknown outcome is
// looked for; with channels:join the app enters public channels by itself.
const (
	scopeJoin        = "channels:join"
	scopePostPublic  = "chat:write.public"
	factScopes       = "scopes" // comma list
	factTeam         = "team_id"
	factEnterprise   = "enterprise_id"
	factURL          = "url" // of the workspace, such as https://acme.slack.com/
	factBotUser      = "bot_user_id"
	factBot          = "bot_id"
	receiptChannel   = "channel"
	receiptTimestamp = "ts"
	receiptUser      = "user" // whom a direct message is to
	receiptURL       = "url"
)

// Descriptor returns what is known of the connector.
func Descriptor() connectors.Descriptor {
	return connectors.Descriptor{
		Name:    "slack",
		Title:   "Slack",
		Summary: "A card for each call in a channel, or as a direct message to its owner, edited in place when the call is corrected.",
		OAuth: &connectors.OAuth{Provider: "slack", Scopes: []string{
			"chat:write",       // post, correct, remove
			"channels:read",    // who can read a public channel
			"groups:read",      // who can read a private channel
			"users:read",       // whether a member is a guest
			"users:read.email", // the owner's account
		}},
		HostSuffix:   []string{"slack.com", "slack-gov.com"},
		BatchSize:    batchSize,
		Parallel:     parallel,
		PaceKey:      paceKey,
		PaceInterval: pace,
		Destination:  checkDestination,
		Schema:       schema,
		New:          open,
	}
}

// connector is the connector. It keeps nothing between calls.
type connector struct {
	timeout time.Duration
}

var (
	_ connectors.Connector  = (*connector)(nil)
	_ connectors.Resolver   = (*connector)(nil)
	_ connectors.Updater    = (*connector)(nil)
	_ connectors.Eraser     = (*connector)(nil)
	_ connectors.Reconciler = (*connector)(nil)
	_ connectors.Checker    = (*connector)(nil)
	_ connectors.Identifier = (*connector)(nil)
	_ connectors.Revoker    = (*connector)(nil)
)

func open(cfg connectors.Config) (connectors.Connector, error) {
	c := &connector{timeout: cfg.Timeout}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	return c, nil
}
