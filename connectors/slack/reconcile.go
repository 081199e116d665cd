package slack

import (
	"context"
	"fmt"
	"slices"
	"time"

	api "github.com/slack-go/slack"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
)

// The window of history that is read: before, for clocks that differ, and
// after the attempt began, for everything that an attempt can take.
const (
	before       = 2 * time.Minute
	after        = 15 * time.Minute
	historyLimit = 200 // messages; Slack gives some apps 15 at most
)

const methodHistory = "conversations.history"

// Reconcile looks for messages by the key in their metadata: one read of each
// channel's history around the time of the attempts. That needs the history
// scopes; without them nothing can be told. An edit or a deletion can simply be
// made again.
func (c *connector) Reconcile(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Finding {
	out := make([]connectors.Finding, len(items))
	l := c.look(a)
	type attempt struct {
		channel string
		to      string // channel or person that was posted to
		at      []int
	}
	var attempts []*attempt
	for i, item := range items {
		if item.Kind == hub.KindUpdate || item.Kind == hub.KindErase {
			out[i] = connectors.Finding{Verdict: connectors.Repeatable}
			continue
		}
		channel, to, e := l.where(ctx, item)
		if e != nil {
			out[i] = cannotTell(e)
			continue
		}
		n := slices.IndexFunc(attempts, func(t *attempt) bool { return t.channel == channel })
		if n < 0 {
			n = len(attempts)
			attempts = append(attempts, &attempt{channel: channel, to: to})
		}
		attempts[n].at = append(attempts[n].at, i)
	}
	for _, t := range attempts {
		h, e := l.history(ctx, t.channel, items, t.at)
		for _, i := range t.at {
			if e != nil {
				out[i] = cannotTell(e)
				continue
			}
			out[i] = h.find(a, t.channel, t.to, items[i].Key)
		}
	}
	return out
}

// where returns the channel to look in. That of a direct message is opened to
// learn its id, which shows nobody anything.
func (l *lookups) where(ctx context.Context, item connectors.Item) (channel, to string, _ *connectors.Error) {
	d, err := parseDestination(item.Destination)
	if err != nil || item.Begun.IsZero() {
		return "", "", &connectors.Error{Class: connectors.Rejected, Op: methodHistory, Code: "no_attempt", Detail: "it is not known where or when the attempt was made"}
	}
	if !d.owner {
		return d.channel, d.channel, nil
	}
	user := item.Targets[targetUser]
	if user == "" && item.Release != nil {
		t, e := l.owner(ctx, item.Release.Matching().OwnerEmail)
		if e != nil {
			return "", "", e
		}
		if t[targetRefused] != "" {
			return "", "", refusal(methodHistory, t[targetRefused])
		}
		user = t[targetUser]
	}
	ch, _, _, err := l.client.OpenConversationContext(ctx, &api.OpenConversationParameters{Users: []string{user}})
	if e := asError("conversations.open", err); e != nil {
		return "", "", e
	}
	if ch == nil || ch.ID == "" {
		return "", "", answerError("conversations.open", "empty_answer", "Slack did not name the conversation")
	}
	return ch.ID, user, nil
}

// past is what was read of a channel.
type past struct {
	messages []api.Message
	partial  bool // there is more in the window than was read
}

// history reads the window of the attempts in one channel.
func (l *lookups) history(ctx context.Context, channel string, items []connectors.Item, at []int) (past, *connectors.Error) {
	first, last := items[at[0]].Begun, items[at[0]].Begun
	for _, i := range at {
		if b := items[i].Begun; b.Before(first) {
			first = b
		} else if b.After(last) {
			last = b
		}
	}
	h, err := l.client.GetConversationHistoryContext(ctx, &api.GetConversationHistoryParameters{
		ChannelID: channel, Oldest: timestamp(first.Add(-before)), Latest: timestamp(last.Add(after)),
		Inclusive: true, Limit: historyLimit, IncludeAllMetadata: true,
	})
	if e := asError(methodHistory, err); e != nil {
		return past{}, e
	}
	if h.Messages == nil {
		return past{}, answerError(methodHistory, "empty_answer", "Slack did not list the channel's messages")
	}
	return past{messages: h.Messages, partial: h.HasMore || h.ResponseMetaData.NextCursor != ""}, nil
}

func timestamp(t time.Time) string { return fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000) }

// find looks for the message of a key. Only what the app itself posted counts:
// anybody in the workspace can read a key and post it again.
func (h past) find(a connectors.Account, channel, to, key string) connectors.Finding {
	hidden := false
	for i := range h.messages {
		m := &h.messages[i]
		if !ours(a, m) {
			continue
		}
		if m.Metadata.EventType == "" {
			hidden = true
			continue
		}
		if m.Metadata.EventType == eventType && m.Metadata.EventPayload["key"] == key && m.Timestamp != "" {
			return connectors.Finding{Verdict: connectors.Arrived, Receipt: receipt(a, to, channel, m.Timestamp)}
		}
	}
	switch {
	case h.partial:
		return cannotTell(&connectors.Error{Class: connectors.Rejected, Op: methodHistory, Code: "history_too_long", Detail: "the channel has more messages from that time than could be read"})
	case hidden:
		return cannotTell(&connectors.Error{Class: connectors.Rejected, Op: methodHistory, Code: "metadata_hidden", Detail: "Slack did not show the metadata of the app's messages"})
	}
	return connectors.Finding{Verdict: connectors.NotArrived}
}

// ours reports whether the app posted a message, as far as that is known.
func ours(a connectors.Account, m *api.Message) bool {
	user, bot := a.Facts[factBotUser], a.Facts[factBot]
	if user == "" && bot == "" {
		return true
	}
	return user != "" && m.User == user || bot != "" && m.BotID == bot
}

// cannotTell says why. That a scope is missing here is no fault of the
// connection: the history scopes are optional.
func cannotTell(e *connectors.Error) connectors.Finding {
	if e.Class == connectors.Unauthorized && e.Code == "missing_scope" {
		c := *e
		c.Class, c.Permanent, c.Reach = connectors.Rejected, false, connectors.ReachItem
		c.Detail = "the connection may not read the channel's history, so it cannot be told whether the message arrived; look in the channel"
		e = &c
	}
	return connectors.Finding{Verdict: connectors.CannotTell, Err: e}
}
