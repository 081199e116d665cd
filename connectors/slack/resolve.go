package slack

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	api "github.com/slack-go/slack"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
)

// What Resolve tells Push. Exactly one of them is set; without one nothing is
// sent.
const (
	targetChannel = "channel" // checked, may be posted to
	targetUser    = "user"    // the owner's account, checked
	targetRefused = "refused" // why nothing may be sent there, one of the codes below
)

// Codes of refusals that are ours. Those of Slack's are taken over.
const (
	refusedExternal      = "external_channel"
	refusedGuests        = "guests_in_channel"
	refusedGuestsUnknown = "guests_unknown"
	refusedDestination   = "bad_destination"
	refusedOwnerUnnamed  = "owner_not_released"
	refusedOwnerMissing  = "owner_not_found"
	refusedOwnerOutside  = "owner_outside"
	refusedOwnerInactive = "owner_inactive"
	refusedReceipt       = "no_receipt"
)

// How long look-ups are kept. What decides who can read a channel is never
// older than two minutes, but for the list of the workspace's guests.
const (
	keepChannel = 2 * time.Minute
	keepRefusal = 15 * time.Second
	keepUser    = 10 * time.Minute
	keepGuests  = 10 * time.Minute
)

// Bounds of the look for guests, in pages of pageSize.
const (
	pageSize       = 999
	maxUserPages   = 20
	maxMemberPages = 10
)

// Resolve finds the owner's account for direct messages, and checks that the
// channel can be read by nobody outside the company for everything else.
//
// A channel counts as open to outsiders if it is or is about to be shared with
// another company (Slack Connect), or if a guest of the workspace is in it.
// Channels shared between workspaces of one Enterprise organisation are inside.
// allow_external switches the check off. What cannot be found out is an error,
// and nothing is sent.
func (c *connector) Resolve(ctx context.Context, a connectors.Account, items []connectors.Item) ([]connectors.Targets, error) {
	l := c.look(a)
	out := make([]connectors.Targets, len(items))
	found := 0
	for i, item := range items {
		t, err := l.target(ctx, item)
		switch {
		case err == nil:
			out[i] = t
			found++
		case err.Class == connectors.RateLimited:
			l.limited = err
		default:
			return nil, err
		}
	}
	if found == 0 && l.limited != nil {
		return nil, l.limited
	}
	// What could not be looked up yet has no target: it is not sent, and does
	// not keep back what could.
	return out, nil
}

// LookUps says what Resolve would look up.
func (*connector) LookUps(item connectors.Item) []string {
	d, err := parseDestination(item.Destination)
	switch {
	case err != nil:
		return nil
	case d.owner:
		return []string{"the owner's Slack account, by e-mail"}
	case d.allowExternal:
		return nil
	}
	return []string{"whether people outside the company can read the channel"}
}

// lookups makes the look-ups of one call, each once.
type lookups struct {
	account  connectors.Account
	client   *api.Client
	channels map[string]string // id to refusal
	infos    map[string]*api.Channel
	limited  *connectors.Error // Slack answers no more look-ups of channels for now
}

func (c *connector) look(a connectors.Account) *lookups {
	return &lookups{account: a, client: c.client(a), channels: map[string]string{}, infos: map[string]*api.Channel{}}
}

// target returns where an item may go.
func (l *lookups) target(ctx context.Context, item connectors.Item) (connectors.Targets, *connectors.Error) {
	d, wrong := parseDestination(item.Destination)
	if wrong != nil {
		return refused(refusedDestination), nil //nolint:nilerr // Push says what is wrong with it
	}
	if item.Kind == hub.KindUpdate {
		return l.copyTarget(ctx, item.Receipt, d)
	}
	if d.owner {
		if item.Release == nil {
			return refused(refusedOwnerUnnamed), nil
		}
		return l.owner(ctx, item.Release.Matching().OwnerEmail)
	}
	return l.channelTarget(ctx, d.channel, d.allowExternal)
}

// copyTarget checks the place where the copy to be corrected is. It may be
// another one than the destination says today.
func (l *lookups) copyTarget(ctx context.Context, r connectors.Receipt, d destination) (connectors.Targets, *connectors.Error) {
	if r[receiptChannel] == "" || r[receiptTimestamp] == "" {
		return refused(refusedReceipt), nil
	}
	if r[receiptUser] == "" {
		return l.channelTarget(ctx, r[receiptChannel], d.allowExternal)
	}
	if code, err := l.userByID(ctx, r[receiptUser]); err != nil || code != "" {
		return refused(code), err
	}
	return connectors.Targets{targetChannel: r[receiptChannel]}, nil
}

func (l *lookups) channelTarget(ctx context.Context, id string, allowExternal bool) (connectors.Targets, *connectors.Error) {
	if !allowExternal {
		if code, err := l.channel(ctx, id); err != nil || code != "" {
			return refused(code), err
		}
	}
	return connectors.Targets{targetChannel: id}, nil
}

func refused(code string) connectors.Targets { return connectors.Targets{targetRefused: code} }

// channel returns why nothing may be sent to a channel, or "".
func (l *lookups) channel(ctx context.Context, id string) (string, *connectors.Error) {
	if code, ok := l.channels[id]; ok {
		return code, nil
	}
	if code, ok := cached[string](l.account, "channel:"+id); ok {
		l.channels[id] = code
		return code, nil
	}
	code, err := l.readers(ctx, id)
	if err != nil {
		return "", err
	}
	l.channels[id] = code
	keep := keepChannel
	if code != "" {
		keep = keepRefusal
	}
	remember(l.account, "channel:"+id, code, keep)
	return code, nil
}

// readers looks at who can read a channel.
func (l *lookups) readers(ctx context.Context, id string) (string, *connectors.Error) {
	ch, code, err := l.info(ctx, id)
	switch {
	case err != nil || code != "":
		return code, err
	case ch.IsArchived:
		return "is_archived", nil
	case ch.IsIM:
		return l.userByID(ctx, ch.User)
	case l.external(ch):
		return refusedExternal, nil
	}
	return l.guests(ctx, id)
}

// info reads a channel's state. A refusal that concerns the channel alone is a
// code; whatever else goes wrong is an error.
func (l *lookups) info(ctx context.Context, id string) (*api.Channel, string, *connectors.Error) {
	if ch, ok := l.infos[id]; ok {
		return ch, "", nil
	}
	if l.limited != nil {
		return nil, "", l.limited
	}
	ch, err := l.client.GetConversationInfoContext(ctx, &api.GetConversationInfoInput{ChannelID: id, IncludeNumMembers: true})
	const method = "conversations.info"
	if e := asError(method, err); e != nil {
		if placeOnly(e, id) {
			return nil, e.Code, nil
		}
		return nil, "", e
	}
	if ch.ID == "" {
		return nil, "", answerError(method, "empty_answer", "Slack did not describe the channel")
	}
	if ch.ID != id {
		return nil, "channel_not_found", nil
	}
	l.infos[id] = ch
	return ch, "", nil
}

// placeOnly reports whether a failed look-up concerns the place alone. The
// scopes of direct messages are none of those we ask for, so their lack says
// nothing about the connection.
func placeOnly(e *connectors.Error, id string) bool {
	return e.Reach == connectors.ReachPlace && e.Class == connectors.Rejected || e.Code == "missing_scope" && id[0] != 'C'
}

// external reports whether people of another company can read a channel, now
// or as soon as they accept.
func (l *lookups) external(ch *api.Channel) bool {
	if ch.IsExtShared || ch.IsPendingExtShared || len(ch.PendingShared) > 0 {
		return true
	}
	if ch.IsShared && !ch.IsOrgShared && !ch.IsGlobalShared {
		return true
	}
	return slices.ContainsFunc(ch.ConnectedTeamIDs, func(team string) bool {
		return team != l.account.Facts[factTeam] && team != l.account.Facts[factEnterprise] && !slices.Contains(ch.InternalTeamIDs, team)
	})
}

// guests looks for guests of the workspace among a channel's members. Slack
// does not tell of a channel whether it has any.
func (l *lookups) guests(ctx context.Context, id string) (string, *connectors.Error) {
	guests, code, err := l.workspaceGuests(ctx)
	if err != nil || code != "" || len(guests) == 0 {
		return code, err
	}
	cursor := ""
	for range maxMemberPages {
		members, next, err := l.client.GetUsersInConversationContext(ctx, &api.GetUsersInConversationParameters{ChannelID: id, Limit: pageSize, Cursor: cursor})
		if e := asError("conversations.members", err); e != nil {
			if placeOnly(e, id) {
				return e.Code, nil
			}
			return "", e
		}
		if members == nil && next == "" {
			return "", answerError("conversations.members", "empty_answer", "Slack did not list the channel's members")
		}
		if slices.ContainsFunc(members, func(m string) bool { return guests[m] }) {
			return refusedGuests, nil
		}
		if cursor = next; cursor == "" {
			return "", nil
		}
	}
	return refusedGuestsUnknown, nil
}

// workspaceGuests returns the ids of the workspace's guests, and of accounts
// of other companies that are visible in it.
func (l *lookups) workspaceGuests(ctx context.Context) (map[string]bool, string, *connectors.Error) {
	if g, ok := cached[map[string]bool](l.account, "guests"); ok {
		return g, "", nil
	}
	guests, seen := map[string]bool{}, 0
	p := l.client.GetUsersPaginated(api.GetUsersOptionLimit(pageSize))
	for range maxUserPages {
		var err error
		p, err = p.Next(ctx)
		if p.Done(err) {
			remember(l.account, "guests", guests, keepGuests)
			return guests, "", nil
		}
		if e := asError("users.list", err); e != nil {
			return nil, "", e
		}
		seen += len(p.Users)
		if seen == 0 {
			return nil, "", answerError("users.list", "empty_answer", "Slack did not list the workspace's members")
		}
		for i := range p.Users {
			if outsider(&p.Users[i]) {
				guests[p.Users[i].ID] = true
			}
		}
	}
	return nil, refusedGuestsUnknown, nil
}

func outsider(u *api.User) bool {
	return !u.Deleted && (u.IsRestricted || u.IsUltraRestricted || u.IsStranger)
}

// owner finds the account of a call's owner.
func (l *lookups) owner(ctx context.Context, email string) (connectors.Targets, *connectors.Error) {
	if email == "" {
		return refused(refusedOwnerUnnamed), nil
	}
	if id, ok := cached[string](l.account, "owner:"+email); ok {
		return connectors.Targets{targetUser: id}, nil
	}
	u, err := l.client.GetUserByEmailContext(ctx, email)
	const method = "users.lookupByEmail"
	if e := asError(method, err); e != nil {
		if e.Code == "users_not_found" {
			return refused(refusedOwnerMissing), nil
		}
		return nil, e
	}
	code, e := l.member(ctx, method, u)
	if e != nil || code != "" {
		return refused(code), e
	}
	remember(l.account, "owner:"+email, u.ID, keepUser)
	return connectors.Targets{targetUser: u.ID}, nil
}

// userByID returns why nothing may be sent to a person, or "".
func (l *lookups) userByID(ctx context.Context, id string) (string, *connectors.Error) {
	if code, ok := cached[string](l.account, "user:"+id); ok {
		return code, nil
	}
	u, err := l.client.GetUserInfoContext(ctx, id)
	const method = "users.info"
	if e := asError(method, err); e != nil {
		if e.Code == "user_not_found" || e.Code == "user_not_visible" {
			return refusedOwnerMissing, nil
		}
		return "", e
	}
	code, e := l.member(ctx, method, u)
	if e == nil && code == "" {
		remember(l.account, "user:"+id, code, keepUser)
	}
	return code, e
}

// member returns why a person is no member of this company, or "".
func (l *lookups) member(ctx context.Context, method string, u *api.User) (string, *connectors.Error) {
	switch {
	case u.ID == "":
		return "", answerError(method, "empty_answer", "Slack did not describe the person")
	case u.Deleted, u.IsBot:
		return refusedOwnerInactive, nil
	case outsider(u):
		return refusedOwnerOutside, nil
	}
	team, enterprise, err := l.home(ctx)
	if err != nil {
		return "", err
	}
	inside := u.TeamID == team || slices.Contains(u.Enterprise.Teams, team) || enterprise != "" && u.Enterprise.EnterpriseID == enterprise
	if !inside {
		return refusedOwnerOutside, nil
	}
	return "", nil
}

// home returns the ids of the connection's workspace and its Enterprise
// organisation, if it has one.
func (l *lookups) home(ctx context.Context) (team, enterprise string, _ *connectors.Error) {
	if t := l.account.Facts[factTeam]; t != "" {
		return t, l.account.Facts[factEnterprise], nil
	}
	who, err := l.client.AuthTestContext(ctx)
	if e := asError(methodAuthTest, err); e != nil {
		return "", "", e
	}
	if who.TeamID == "" {
		return "", "", answerError(methodAuthTest, "empty_answer", "Slack did not say whose token it is")
	}
	return who.TeamID, who.EnterpriseID, nil
}

// cached returns what was remembered under a key.
func cached[T any](a connectors.Account, key string) (T, bool) {
	var none T
	if a.Cache == nil {
		return none, false
	}
	v, ok := a.Cache.Get("slack:" + key)
	t, is := v.(T)
	return t, ok && is
}

func remember(a connectors.Account, key string, v any, ttl time.Duration) {
	if a.Cache != nil {
		a.Cache.Put("slack:"+key, v, ttl)
	}
}

// refusal returns the error for a code in Targets.
func refusal(op, code string) *connectors.Error {
	e := &connectors.Error{Class: connectors.Rejected, Op: op, Code: code}
	switch code {
	case refusedExternal:
		e.Reach = connectors.ReachPlace
		e.Detail = "people of another company can read the channel, or are invited to it; choose another channel, or allow external channels for this integration"
	case refusedGuests:
		e.Reach = connectors.ReachPlace
		e.Detail = "guests of the workspace can read the channel; choose another channel, remove the guests, or allow external channels for this integration"
	case refusedGuestsUnknown:
		e.Reach = connectors.ReachPlace
		e.Detail = "the workspace or the channel is too large to look for guests among the readers; choose a smaller channel, or allow external channels for this integration"
	case refusedDestination:
		e.Detail = "the destination is not a channel or the owner; change the integration"
	case refusedOwnerUnnamed:
		e.Detail = `the call's owner is not known here; add the field "owner" to the integration so that the account can be looked up by e-mail`
	case refusedOwnerMissing:
		e.Detail = "no Slack account has the e-mail address of the call's owner"
	case refusedOwnerOutside:
		e.Detail = "the Slack account of the call's owner is a guest's or of another company"
	case refusedOwnerInactive:
		e.Detail = "the Slack account of the call's owner is deactivated or a bot"
	case refusedReceipt:
		e.Detail = "it is not known which message is the copy"
	case "missing_scope":
		e.Reach, e.Detail = connectors.ReachPlace, "the connection may not look at conversations of that kind, so it cannot be told who reads them; choose a channel"
	default:
		e.Reach, e.Detail = connectors.ReachPlace, placeSentence(code)
	}
	return e
}

// Check looks at every channel of a destination: that it exists, that the app
// can post to it, and that nobody outside the company reads it.
func (c *connector) Check(ctx context.Context, a connectors.Account, raw json.RawMessage) error {
	m, ok := object(raw)
	if wrong := checkDestination(raw); !ok || len(wrong) > 0 {
		return refusal("check", refusedDestination)
	}
	l := c.look(a)
	external := string(m["allow_external"]) == "true"
	for _, id := range channelsOf(m) {
		if err := l.check(ctx, id, external); err != nil {
			err.Op = "check"
			if len(m["rules"]) > 0 {
				err.Detail = id + ": " + err.Detail
			}
			return err
		}
	}
	if m["dm"] != nil && a.Facts[factScopes] != "" && !holds(a, "users:read.email") {
		return &connectors.Error{
			Class: connectors.Rejected, Op: "check", Code: "missing_scope",
			Detail: "the connection may not look accounts up by e-mail (users:read.email); connect Slack again to grant it",
		}
	}
	return nil
}

// check looks at one channel.
func (l *lookups) check(ctx context.Context, id string, allowExternal bool) *connectors.Error {
	ch, code, err := l.info(ctx, id)
	switch {
	case err != nil:
		return err
	case code != "":
		return refusal("", code)
	case ch.IsArchived:
		return refusal("", "is_archived")
	case !ch.IsIM && !ch.IsMember && !holds(l.account, scopeJoin) && !holds(l.account, scopePostPublic):
		return refusal("", "not_in_channel")
	case allowExternal:
		return nil
	}
	if code, err = l.channel(ctx, id); err != nil {
		return err
	}
	if code != "" {
		return refusal("", code)
	}
	return nil
}

// channelsOf returns the channels of a valid destination, each once.
func channelsOf(m map[string]json.RawMessage) []string {
	var ids []string
	add := func(raw json.RawMessage) {
		if id, ok := str(raw); ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	add(m["channel"])
	var rules []map[string]json.RawMessage
	if json.Unmarshal(m["rules"], &rules) == nil {
		for _, r := range rules {
			add(r["channel"])
		}
	}
	add(m["otherwise"])
	return ids
}
