package slacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Channel is a conversation of the workspace.
type Channel struct {
	ID         string // C…, G… or D…
	Name       string
	Topic      string
	Private    bool
	Archived   bool
	ReadOnly   bool // only admins may post
	NotMember  bool // the app's bot is not in it
	ExtShared  bool // shared with another company (Slack Connect)
	Pending    bool // an invitation to another company is open
	OrgShared  bool // shared with another workspace of the same company
	OtherTeams []string
	Members    []string // user ids besides the bot
	User       string   // of a direct message: the other side
}

// User is an account of the workspace, or one that is visible in it.
type User struct {
	ID         string
	Name       string
	RealName   string
	Title      string
	Email      string
	TeamID     string // "" is the workspace's own
	Deleted    bool
	Bot        bool
	Guest      bool // multi-channel guest
	UltraGuest bool // single-channel guest
	Stranger   bool // from another company, seen through a shared channel
}

// Message is a message of a channel.
type Message struct {
	Channel  string
	TS       string
	User     string
	Text     string
	Blocks   json.RawMessage // as sent; nil if there were none
	Metadata json.RawMessage // as sent; nil if there was none
	Args     map[string]string
	PostedAt time.Time
	Edits    []time.Time
	Deleted  bool
}

func (m *Message) clone() Message {
	c := *m
	c.Args = maps.Clone(m.Args)
	c.Edits = slices.Clone(m.Edits)
	return c
}

// Key returns the key that the message's metadata carries, or "".
func (m *Message) Key() string {
	var meta struct {
		Payload map[string]any `json:"event_payload"`
	}
	if json.Unmarshal(m.Metadata, &meta) != nil {
		return ""
	}
	key, _ := meta.Payload["key"].(string)
	return key
}

// Visible returns all text that people see in the message, concatenated, with
// Slack's escapes undone.
func (m *Message) Visible() string {
	var parts []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if s, ok := v["text"].(string); ok {
				parts = append(parts, s)
			}
			if s, ok := v["url"].(string); ok {
				parts = append(parts, s)
			}
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if k != "url" {
					walk(v[k])
				}
			}
		}
	}
	var blocks any
	if json.Unmarshal(m.Blocks, &blocks) == nil {
		walk(blocks)
	}
	parts = append(parts, m.Text)
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(strings.Join(parts, "\n"))
}

// DefaultChannels returns the channels of the workspace that a zero [Options]
// gives.
func DefaultChannels() []Channel {
	return []Channel{
		{ID: "C0DEALS01", Name: "deals", Topic: "Every customer call, minutes after it ended", Members: []string{"U0DANA001", "U0TOMAS01"}},
		{ID: "C0ENTERPR", Name: "enterprise", Topic: "Enterprise accounts", Members: []string{"U0DANA001"}},
		{ID: "C0IBERIA1", Name: "ventas-iberia", Topic: "Llamadas de España y Portugal", Members: []string{"U0TOMAS01"}},
		{ID: "C0PRIVATE", Name: "leadership", Private: true, Members: []string{"U0DANA001"}},
		{ID: "C0SHARED1", Name: "ext-northwind", Topic: "Shared with Northwind", ExtShared: true, OtherTeams: []string{"T0NORTHW1"}, Members: []string{"U0DANA001", "U0PRIYA01"}},
	}
}

// DefaultUsers returns the people of the workspace that a zero [Options]
// gives: those of Acme in the sample calls, and one of another company.
func DefaultUsers() []User {
	return []User{
		{ID: "U0DANA001", Name: "dana", RealName: "Dana Reyes", Title: "Account Executive", Email: "dana@acme.example"},
		{ID: "U0SAM0001", Name: "sam", RealName: "Sam Okafor", Title: "Solutions Engineer", Email: "sam@acme.example"},
		{ID: "U0TOMAS01", Name: "tomas", RealName: "Tomás Iglesias", Title: "Account Manager", Email: "tomas@acme.example"},
		{ID: "U0LENA001", Name: "lena", RealName: "Lena Vogt", Title: "Account Executive DACH", Email: "lena@acme.example"},
		{ID: "U0CAMILLE", Name: "camille", RealName: "Camille Moreau", Title: "Account Executive", Email: "camille@acme.example"},
		{ID: "U0RAFAEL1", Name: "rafael", RealName: "Rafael Nunes", Title: "Regional Director LATAM", Email: "rafael@acme.example"},
		{ID: "U0AIKO001", Name: "aiko", RealName: "Aiko Tanaka", Title: "Account Executive", Email: "aiko@acme.example"},
		{ID: "U0GREG001", Name: "greg", RealName: "Greg Whitman", Title: "Account Executive", Email: "greg@acme.example"},
		{ID: "U0NOOR001", Name: "noor", RealName: "Noor Haddad", Title: "Partner Manager MEA", Email: "noor@acme.example"},
		{ID: "U0MARTA01", Name: "marta", RealName: "Marta Lindqvist", Title: "VP Sales", Email: "marta@acme.example"},
		{ID: "U0PRIYA01", Name: "priya", RealName: "Priya Shah", Email: "priya@northwind.example", TeamID: "T0NORTHW1", Stranger: true},
	}
}

// AddChannel adds a channel or replaces the one of that id.
func (s *Server) AddChannel(c Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels[c.ID] = &c
}

// ChangeChannel changes a channel of the workspace; one that does not exist is
// left alone.
func (s *Server) ChangeChannel(id string, change func(*Channel)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.channels[id]; c != nil {
		change(c)
	}
}

// AddUser adds an account or replaces the one of that id.
func (s *Server) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.ID] = &u
}

// DM returns the id of the direct message between the app and a user, or "" if
// there is none yet.
func (s *Server) DM(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findDM(user)
}

func (s *Server) findDM(user string) string {
	for id, c := range s.channels {
		if c.User == user && user != "" {
			return id
		}
	}
	return ""
}

// openDM returns the direct message with a user and makes it if need be.
func (s *Server) openDM(user string) *Channel {
	id := s.findDM(user)
	if id == "" {
		s.nextDM++
		id = fmt.Sprintf("D0DIRECT%02d", s.nextDM)
		s.channels[id] = &Channel{ID: id, User: user}
	}
	return s.channels[id]
}

// nextTS returns a timestamp that no message has yet.
func (s *Server) nextTS(now time.Time) string {
	s.lastTS = max(s.lastTS+1, now.UnixMicro())
	return fmt.Sprintf("%d.%06d", s.lastTS/1e6, s.lastTS%1e6)
}

func (s *Server) find(channel, ts string) *Message {
	for _, m := range s.messages[channel] {
		if m.TS == ts && !m.Deleted {
			return m
		}
	}
	return nil
}

func (s *Server) conversationJSON(c *Channel) map[string]any {
	im := c.User != ""
	teams := append([]string{s.teamID}, c.OtherTeams...)
	out := map[string]any{
		"id": c.ID, "created": 1700000000, "is_im": im, "is_mpim": false, "is_group": c.Private && !im, "is_channel": !c.Private && !im,
		"is_private": c.Private || im, "is_archived": c.Archived, "is_open": im,
	}
	if im {
		out["user"] = c.User
		return out
	}
	out["name"], out["name_normalized"] = c.Name, c.Name
	out["topic"] = map[string]any{"value": c.Topic, "creator": "", "last_set": 0}
	out["is_member"] = !c.NotMember
	out["is_read_only"] = c.ReadOnly
	out["is_shared"] = c.ExtShared || c.OrgShared
	out["is_ext_shared"], out["is_org_shared"], out["is_pending_ext_shared"] = c.ExtShared, c.OrgShared, c.Pending
	out["context_team_id"], out["conversation_host_id"] = s.teamID, s.teamID
	out["num_members"] = len(c.Members) + 1
	if c.ExtShared {
		out["connected_team_ids"] = c.OtherTeams
	}
	if c.OrgShared {
		out["internal_team_ids"] = teams
	}
	out["shared_team_ids"] = teams
	if c.Pending {
		out["pending_shared"] = []string{"E0PENDING"}
	}
	return out
}

func (s *Server) userJSON(u *User) map[string]any {
	team := u.TeamID
	if team == "" {
		team = s.teamID
	}
	return map[string]any{
		"id": u.ID, "team_id": team, "name": u.Name, "real_name": u.RealName, "deleted": u.Deleted,
		"is_bot": u.Bot, "is_restricted": u.Guest || u.UltraGuest, "is_ultra_restricted": u.UltraGuest, "is_stranger": u.Stranger,
		"profile": map[string]any{"real_name": u.RealName, "title": u.Title, "email": u.Email, "team": team},
	}
}

func (s *Server) messageJSON(m *Message, metadata bool) map[string]any {
	out := map[string]any{"type": "message", "user": m.User, "bot_id": s.botID, "team": s.teamID, "text": m.Text, "ts": m.TS}
	if m.User != s.botUser {
		delete(out, "bot_id")
	}
	if m.Blocks != nil {
		out["blocks"] = m.Blocks
	}
	if metadata && m.Metadata != nil {
		out["metadata"] = m.Metadata
	}
	if n := len(m.Edits); n > 0 {
		out["edited"] = map[string]any{"user": m.User, "ts": fmt.Sprintf("%d.000000", m.Edits[n-1].Unix())}
	}
	return out
}

// Say posts a message of a member, as a person at the keyboard would.
func (s *Server) Say(channel, user, text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	m := &Message{Channel: channel, TS: s.nextTS(now), User: user, Text: text, PostedAt: now}
	s.messages[channel] = append(s.messages[channel], m)
	return m.TS
}

// Repeat posts a message of a member that carries another message's key in its
// metadata, as any app of a workspace could.
func (s *Server) Repeat(channel, user, key string) {
	ts := s.Say(channel, user, "copy")
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.find(channel, ts); m != nil {
		m.Metadata = json.RawMessage(fmt.Sprintf(`{"event_type":"callbridge_copy","event_payload":{"key":%q,"revision":1}}`, key))
	}
}
