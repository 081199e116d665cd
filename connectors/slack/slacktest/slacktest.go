// Package slacktest is a simulated Slack workspace: a real HTTP server that
// answers Slack's Web API as its documents say, refuses what Slack refuses,
// can be told to fail in every way a connector must survive, and draws the
// workspace as its members would see it on a page at "/".
//
// Tests start one with [New], programs without a test with [Start]:
//
//	ws := slacktest.New(t)
//	client := slack.New(ws.Token(), slack.OptionAPIURL(ws.APIURL()+"/"))
//
// It knows one workspace and one app in it. What is not simulated: threads'
// reply counts, files, reactions, events sent to the app.
package slacktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits that the fake enforces, in characters as Slack counts them (UTF-16
// units at worst). They are those of Slack's reference for Block Kit, except
// where a comment says otherwise.
const (
	MaxBlocks      = 50
	MaxSectionText = 3000
	MaxFields      = 10
	MaxFieldText   = 2000
	MaxHeaderText  = 150
	MaxContext     = 10
	MaxActions     = 25
	MaxButtonText  = 75
	MaxButtonValue = 2000
	MaxURL         = 3000
	MaxID          = 255
	MaxText        = 40000 // of chat.postMessage; Slack cuts there, the fake refuses
	MaxUpdateText  = 4000  // of chat.update
	MaxMetadata    = 8000  // bytes; Slack does not publish its number

	// MaxBlocksText is the sum of all text in blocks. Slack does not publish
	// it: 9,597 characters are reported as accepted and 11,341 as refused with
	// msg_blocks_too_long, so the fake takes the safe side.
	MaxBlocksText = 9600
)

// Options configure a workspace. The zero value of each field means the
// default given there.
type Options struct {
	// Listen is the address to listen on. Defaults to a free port of 127.0.0.1.
	Listen string

	// TeamName is the workspace's name. Defaults to "Acme".
	TeamName string

	// TeamURL is what auth.test calls the workspace's address; permalinks
	// start with it. Defaults to the server's own address, whose page then
	// shows the message.
	TeamURL string

	// Token is the bot token that works. Defaults to a random one.
	Token string

	// Scopes are those the token holds. Defaults to [DefaultScopes].
	Scopes []string

	// Channels and Users fill the workspace. Both default to a small company
	// with the channels of [DefaultChannels] and the people of [DefaultUsers].
	Channels []Channel
	Users    []User

	// PostInterval is the pace of chat.postMessage in one channel, after a
	// burst of PostBurst messages. Defaults to 1 s and a burst of 3. A
	// negative interval means no pace.
	PostInterval time.Duration
	PostBurst    int

	// Minute is the window of the method tiers: in it, a method of tier 2
	// answers 20 times, of tier 3 50 times, of tier 4 100 times. Defaults to
	// one minute. A negative one means no limit.
	Minute time.Duration

	// ClientID and ClientSecret are the app's, for oauth.v2.access. They
	// default to "1234.5678" and "fake-client-secret".
	ClientID     string
	ClientSecret string

	// Rotation makes oauth.v2.access give expiring tokens with a refresh
	// token. TokenLife is how long they live. Defaults to 12 hours.
	Rotation  bool
	TokenLife time.Duration

	// PreventDeletion makes chat.delete answer
	// compliance_exports_prevent_deletion, as a workspace does that exports
	// everything for compliance.
	PreventDeletion bool

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// DefaultScopes returns the scopes of a full installation of Callbridge.
func DefaultScopes() []string {
	return []string{
		"channels:history", "channels:read", "chat:write", "groups:history",
		"groups:read", "im:history", "im:read", "im:write", "users:read", "users:read.email",
	}
}

// Server is a running workspace. Its methods may be called by several
// goroutines.
type Server struct {
	// URL is the server's address without a trailing slash. The page is there.
	URL string

	opts     Options
	http     *http.Server
	done     chan struct{} // closed by Close
	closed   sync.Once
	served   chan struct{} // closed when the listener is no longer served
	teamID   string
	botUser  string
	botID    string
	methods  map[string]method
	redirect string // where the fault Redirect points

	mu        sync.Mutex // guards everything below
	tokens    map[string]*token
	refresh   map[string]*token // by refresh token
	codes     map[string]*code
	channels  map[string]*Channel
	users     map[string]*User
	messages  map[string][]*Message // by channel, oldest first
	lastTS    int64                 // microseconds of the newest message
	buckets   map[string]*bucket    // pace of chat.postMessage by channel
	windows   map[string]*window    // tier windows by method
	fault     Fault
	faultLeft int // how many requests fail; < 0: all
	requests  []Request
	strayed   int // requests that followed a redirect
	nextDM    int
}

// Request is one request that arrived at the Web API.
type Request struct {
	Method string            // such as "chat.postMessage"
	Args   map[string]string // without the token
	At     time.Time
	Status int    // of the answer; 0 if none was given
	Error  string // Slack's code; "" for ok and for faults without one
}

// TB is what [New] needs of a test.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// New starts a workspace that ends with the test. Without options, or with
// the zero ones, limits of pace and tiers are off so that tests are fast; give
// PostInterval and Minute to have them.
func New(tb TB, opts ...Options) *Server {
	tb.Helper()
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	if o.PostInterval == 0 {
		o.PostInterval = -1
	}
	if o.Minute == 0 {
		o.Minute = -1
	}
	s, err := Start(o)
	if err != nil {
		tb.Fatalf("slacktest: %v", err)
		return nil
	}
	tb.Cleanup(s.Close)
	return s
}

// Start starts a workspace. The caller closes it.
func Start(o Options) (*Server, error) {
	o = o.withDefaults()
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("slacktest: listen: %w", err)
	}
	s := &Server{
		URL: "http://" + ln.Addr().String(), opts: o,
		done: make(chan struct{}), served: make(chan struct{}),
		teamID: "T0ACME001", botUser: "U0CALLBRG", botID: "B0CALLBRG",
		tokens: map[string]*token{}, refresh: map[string]*token{}, codes: map[string]*code{},
		channels: map[string]*Channel{}, users: map[string]*User{}, messages: map[string][]*Message{},
		buckets: map[string]*bucket{}, windows: map[string]*window{},
	}
	s.methods = s.table()
	if s.opts.TeamURL == "" {
		s.opts.TeamURL = s.URL + "/"
	}
	if _, port, err := net.SplitHostPort(ln.Addr().String()); err == nil {
		s.redirect = "http://localhost:" + port + "/strayed"
	}
	s.AddUser(User{ID: s.botUser, Name: "callbridge", RealName: "Callbridge", Bot: true})
	for _, u := range o.Users {
		s.AddUser(u)
	}
	for _, c := range o.Channels {
		s.AddChannel(c)
	}
	s.tokens[o.Token] = &token{access: o.Token, scopes: o.Scopes}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			_ = ln.Close() // the listener broke; requests will show it
		}
	}()
	return s, nil
}

func (o Options) withDefaults() Options {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&o.Listen, "127.0.0.1:0")
	def(&o.TeamName, "Acme")
	def(&o.Token, "xoxb-"+strings.ToLower(rand.Text()))
	def(&o.ClientID, "1234.5678")
	def(&o.ClientSecret, "fake-client-secret")
	if o.Scopes == nil {
		o.Scopes = DefaultScopes()
	}
	if o.Channels == nil {
		o.Channels = DefaultChannels()
	}
	if o.Users == nil {
		o.Users = DefaultUsers()
	}
	if o.PostInterval == 0 {
		o.PostInterval = time.Second
	}
	if o.PostBurst == 0 {
		o.PostBurst = 3
	}
	if o.Minute == 0 {
		o.Minute = time.Minute
	}
	if o.TokenLife == 0 {
		o.TokenLife = 12 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Close stops the server and waits until every request has ended. It may be
// called more than once.
func (s *Server) Close() {
	s.closed.Do(func() {
		close(s.done)
		_ = s.http.Close() // only listeners' errors, and nobody is left to act on them
		<-s.served
	})
}

// APIURL is the base of the Web API, without a trailing slash.
func (s *Server) APIURL() string { return s.URL + "/api" }

// Token returns the token that the workspace was started with.
func (s *Server) Token() string { return s.opts.Token }

// TeamID returns the workspace's id.
func (s *Server) TeamID() string { return s.teamID }

// BotUserID returns the user id of the app's bot.
func (s *Server) BotUserID() string { return s.botUser }

// Messages returns the messages now in a channel, oldest first.
func (s *Server) Messages(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Message, 0, len(s.messages[channel]))
	for _, m := range s.messages[channel] {
		if !m.Deleted {
			out = append(out, m.clone())
		}
	}
	return out
}

// All returns every message that was ever posted, deleted ones included,
// sorted by channel and then oldest first.
func (s *Server) All() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Message
	for _, id := range slices.Sorted(maps.Keys(s.messages)) {
		for _, m := range s.messages[id] {
			out = append(out, m.clone())
		}
	}
	return out
}

// Requests returns every request to the Web API so far, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Count returns how many requests arrived for the methods, or for all of them
// if none is named.
func (s *Server) Count(methods ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if len(methods) == 0 || slices.Contains(methods, r.Method) {
			n++
		}
	}
	return n
}

// Strayed returns how many requests followed a redirect that the fault
// Redirect gave.
func (s *Server) Strayed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strayed
}

// SetScopes changes the scopes of the token that the workspace was started
// with, as a reinstallation does.
func (s *Server) SetScopes(scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tokens[s.opts.Token]; t != nil {
		t.scopes = slices.Clone(scopes)
	}
}

// ExpireTokens makes every access token that can expire, and the one the
// workspace was started with, expire now.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tokens {
		if !t.expires.IsZero() || t.access == s.opts.Token {
			t.expires = s.opts.Now().Add(-time.Second)
		}
	}
}
