package slack

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	api "github.com/slack-go/slack"

	"github.com/optiwe/callbridge/connectors"
)

// Push posts each item's message. Items of one channel go one after the other,
// in order; several channels are served at once.
func (c *connector) Push(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.each(ctx, a, methodPost, items)
}

// Update edits each copy in place. Doing it twice does no harm.
func (c *connector) Update(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.each(ctx, a, methodUpdate, items)
}

// Erase deletes each copy and asks for it to be deleted once more: that Slack
// then knows no such message is the proof that it is gone, and needs no scope
// to read the channel.
func (c *connector) Erase(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.each(ctx, a, methodDelete, items)
}

// sender does the work of one Push, Update or Erase.
type sender struct {
	account connectors.Account
	client  *api.Client
	method  string
	stop    atomic.Pointer[connectors.Error] // set when the whole connection must wait
}

// each sends the items, grouped by channel.
func (c *connector) each(ctx context.Context, a connectors.Account, method string, items []connectors.Item) []connectors.Outcome {
	out := make([]connectors.Outcome, len(items))
	s := &sender{account: a, client: c.client(a), method: method}
	groups, order := map[string][]int{}, []string{}
	for i, item := range items {
		at := place(item)
		if at == "" { // refused before it had a place
			at = strconv.Itoa(i)
		}
		if groups[at] == nil {
			order = append(order, at)
		}
		groups[at] = append(groups[at], i)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, places)
	for _, at := range order {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.group(ctx, items, groups[at], out)
		})
	}
	wg.Wait()
	return out
}

// place is where an item goes, as far as needed to keep what goes to one place
// in order.
func place(item connectors.Item) string {
	if ch := item.Receipt[receiptChannel]; ch != "" {
		return ch
	}
	if u := item.Targets[targetUser]; u != "" {
		return u
	}
	return item.Targets[targetChannel]
}

// group sends the items of one place in order. After a failure that reaches
// beyond its item, or one without a clear end, the rest is not begun.
func (s *sender) group(ctx context.Context, items []connectors.Item, at []int, out []connectors.Outcome) {
	var rest *connectors.Error
	for _, i := range at {
		if e := s.stop.Load(); e != nil {
			rest = e
		}
		if rest == nil && ctx.Err() != nil {
			rest = s.notBegun("there was no time left")
		}
		if rest != nil {
			out[i] = connectors.Failed(rest)
			continue
		}
		out[i] = s.send(ctx, items[i])
		switch e := out[i].Err; {
		case e == nil:
		case e.Class == connectors.Unknown:
			rest = s.notBegun("an earlier message to the same place had no clear end")
		case e.Reach == connectors.ReachConnection:
			s.stop.CompareAndSwap(nil, e)
		case e.Reach == connectors.ReachPlace, e.Class == connectors.RateLimited:
			rest = e
		}
	}
}

func (s *sender) notBegun(why string) *connectors.Error {
	return &connectors.Error{Class: connectors.Transient, Op: s.method, Code: "not_begun", Detail: why}
}

func (s *sender) send(ctx context.Context, item connectors.Item) connectors.Outcome {
	if s.method == methodDelete {
		return s.erase(ctx, item)
	}
	var m message
	if err := json.Unmarshal(item.Payload.Body, &m); err != nil {
		return connectors.Failed(&connectors.Error{Class: connectors.Rejected, Op: s.method, Code: "bad_payload", Detail: "the rendered message cannot be read", Err: err})
	}
	if e := allowed(s.method, item, m); e != nil {
		return connectors.Failed(e)
	}
	if s.method == methodUpdate {
		return s.update(ctx, item, m)
	}
	return s.post(ctx, m)
}

// allowed reports why a message may not be sent: its place was refused, or was
// never checked.
func allowed(method string, item connectors.Item, m message) *connectors.Error {
	if code := item.Targets[targetRefused]; code != "" {
		return refusal(method, code)
	}
	if method == methodUpdate && (m.Channel == "" || m.TS == "") {
		return refusal(method, refusedReceipt)
	}
	if m.Channel == "" || m.Channel != item.Targets[targetChannel] && m.Channel != item.Targets[targetUser] {
		return &connectors.Error{
			Class: connectors.Transient, Op: method, Code: "unchecked",
			Detail: "it has not been looked up who reads the channel, so nothing was sent",
		}
	}
	return nil
}

// content puts the message into the request, byte for byte as it was rendered.
func (s *sender) content(m message) api.MsgOption {
	return api.UnsafeMsgOptionEndpoint(endpoint(s.account)+s.method, func(v url.Values) {
		v.Set("text", m.Text)
		v.Set("blocks", string(m.Blocks))
		v.Set("metadata", string(m.Metadata))
		if m.TS != "" {
			v.Set("ts", m.TS)
		}
		if m.UnfurlLinks != nil && !*m.UnfurlLinks {
			v.Set("unfurl_links", "false")
		}
		if m.UnfurlMedia != nil && !*m.UnfurlMedia {
			v.Set("unfurl_media", "false")
		}
	})
}

// post posts a message. Refused because the app is not in a public channel, it
// enters the channel and posts once more, if it was given the scope for that.
func (s *sender) post(ctx context.Context, m message) connectors.Outcome {
	r, e := s.postOnce(ctx, m)
	if e != nil && e.Code == "not_in_channel" && holds(s.account, scopeJoin) {
		if _, _, _, err := s.client.JoinConversationContext(ctx, m.Channel); err != nil {
			return connectors.Failed(asError("conversations.join", err))
		}
		r, e = s.postOnce(ctx, m)
	}
	if e != nil {
		return connectors.Failed(e)
	}
	return connectors.Done(r)
}

func (s *sender) postOnce(ctx context.Context, m message) (connectors.Receipt, *connectors.Error) {
	channel, ts, err := s.client.PostMessageContext(ctx, m.Channel, s.content(m))
	if e := s.answered(channel, ts, err); e != nil {
		if e.Class == connectors.RateLimited && !channelID.MatchString(m.Channel) {
			e.Reach = connectors.ReachItem // a direct message is its own place
		}
		return nil, e
	}
	return receipt(s.account, m.Channel, channel, ts), nil
}

// answered checks that Slack named the message. The library takes an answer
// without it for success.
func (s *sender) answered(channel, ts string, err error) *connectors.Error {
	if e := asError(s.method, err); e != nil {
		return e
	}
	if channel == "" || ts == "" {
		return answerError(s.method, "empty_answer", "Slack said yes but did not name the message")
	}
	return nil
}

// receipt names a copy. to is what was posted to: a channel or a person.
func receipt(a connectors.Account, to, channel, ts string) connectors.Receipt {
	r := connectors.Receipt{receiptChannel: channel, receiptTimestamp: ts}
	if !channelID.MatchString(to) {
		r[receiptUser] = to
	}
	if u := permalink(a.Facts[factURL], channel, ts); u != "" {
		r[receiptURL] = u
	}
	return r
}

// permalink is the address of a message, made from the workspace's own. It is
// what chat.getPermalink would answer.
func permalink(workspace, channel, ts string) string {
	if webURL(workspace) == "" {
		return ""
	}
	return strings.TrimRight(workspace, "/") + "/archives/" + channel + "/p" + strings.ReplaceAll(ts, ".", "")
}

func (s *sender) update(ctx context.Context, item connectors.Item, m message) connectors.Outcome {
	channel, ts, _, err := s.client.UpdateMessageContext(ctx, m.Channel, m.TS, s.content(m))
	if e := s.answered(channel, ts, err); e != nil {
		return connectors.Failed(e)
	}
	return connectors.Done(maps.Clone(item.Receipt))
}

func (s *sender) erase(ctx context.Context, item connectors.Item) connectors.Outcome {
	channel, ts := item.Receipt[receiptChannel], item.Receipt[receiptTimestamp]
	if channel == "" || ts == "" {
		return connectors.Failed(refusal(s.method, refusedReceipt))
	}
	for range 2 {
		gotChannel, gotTS, err := s.client.DeleteMessageContext(ctx, channel, ts)
		e := s.answered(gotChannel, gotTS, err)
		switch {
		case e != nil && e.Class == connectors.Gone:
			return connectors.Done(maps.Clone(item.Receipt))
		case e != nil:
			return connectors.Failed(e)
		}
	}
	return connectors.Failed(answerError(s.method, "still_there", "Slack deleted the message twice, so it is not certain that it is gone"))
}
