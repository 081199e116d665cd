package slacktest

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const maxRequest = 2 << 20

// args are the arguments of a request: form values, or the members of a JSON
// body, those that are not strings in their JSON form.
type args map[string]string

// answer is what a method answers. A code makes it ok:false.
type answer struct {
	status int // 0 is 200
	code   string
	body   map[string]any
}

func refuse(code string, extra ...any) answer {
	a := answer{code: code, body: map[string]any{}}
	for i := 0; i+1 < len(extra); i += 2 {
		if k, ok := extra[i].(string); ok {
			a.body[k] = extra[i+1]
		}
	}
	return a
}

// call is one authenticated request to a method.
type call struct {
	args   args
	token  *token
	now    time.Time
	client *http.Request
}

// method is one method of the Web API.
type method struct {
	scope  string // needed whatever the arguments; "" for none or when do checks it
	tier   int    // 1 to 4; 0 has no tier
	public bool   // needs no token
	do     func(call) answer
}

func (s *Server) table() map[string]method {
	return map[string]method{
		"api.test":              {public: true, do: func(call) answer { return answer{} }},
		"apps.uninstall":        {tier: 1, do: s.appsUninstall},
		"auth.revoke":           {tier: 3, do: s.authRevoke},
		"auth.test":             {do: s.authTest},
		"chat.delete":           {scope: "chat:write", tier: 3, do: s.chatDelete},
		"chat.postMessage":      {scope: "chat:write", do: s.chatPost},
		"chat.update":           {scope: "chat:write", tier: 3, do: s.chatUpdate},
		"conversations.history": {tier: 3, do: s.history},
		"conversations.info":    {tier: 3, do: s.info},
		"conversations.join":    {scope: "channels:join", tier: 3, do: s.join},
		"conversations.list":    {tier: 2, do: s.list},
		"conversations.members": {tier: 4, do: s.members},
		"conversations.open":    {scope: "im:write", tier: 3, do: s.open},
		"oauth.v2.access":       {public: true, do: s.oauthAccess},
		"users.info":            {scope: "users:read", tier: 4, do: s.userInfo},
		"users.list":            {scope: "users:read", tier: 2, do: s.userList},
		"users.lookupByEmail":   {scope: "users:read.email", tier: 3, do: s.userByEmail},
	}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/{method}", s.serveAPI)
	mux.HandleFunc("/strayed", s.stray)
	mux.HandleFunc("GET /oauth/v2/authorize", s.authorize)
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /archives/{channel}", s.page)
	mux.HandleFunc("GET /archives/{channel}/{message}", s.page)
	return mux
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("method")
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	in, token, err := readArgs(r)
	rec := Request{Method: name, Args: maps.Clone(in), At: s.opts.Now()}
	act := func() answer {
		if err != nil {
			return refuse("invalid_form_data")
		}
		return s.dispatch(name, in, token, r)
	}
	// The request is known before it is worked on, so that whoever sees its
	// effect sees it in the log, too.
	s.mu.Lock()
	at := len(s.requests)
	s.requests = append(s.requests, rec)
	s.mu.Unlock()

	var status int
	var code string
	if f := s.takeFault(name); f != "" {
		status, code = s.fail(w, r, f, act)
	} else {
		a := act()
		if name == "auth.test" && a.code == "" {
			s.scopeHeaders(w, token)
		}
		status, code = s.write(w, a)
	}
	s.mu.Lock()
	s.requests[at].Status, s.requests[at].Error = status, code
	s.mu.Unlock()
}

// readArgs returns the arguments of a request and its token, from the query,
// a form or a JSON body, as Slack accepts them.
func readArgs(r *http.Request) (args, string, error) {
	in := args{}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/json" {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return in, "", err
		}
		var body map[string]json.RawMessage
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &body); err != nil {
				return in, "", err
			}
		}
		for k, v := range body {
			var str string
			if json.Unmarshal(v, &str) == nil {
				in[k] = str
			} else {
				in[k] = string(v)
			}
		}
	} else {
		if kind == "multipart/form-data" {
			if err := r.ParseMultipartForm(maxRequest); err != nil {
				return in, "", err
			}
		}
		if err := r.ParseForm(); err != nil {
			return in, "", err
		}
		for k, v := range r.Form {
			in[k] = v[0]
		}
	}
	token := in["token"]
	delete(in, "token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = bearer
	}
	return in, token, nil
}

// dispatch checks token, scope and pace, and does the request's work.
func (s *Server) dispatch(name string, in args, access string, r *http.Request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.methods[name]
	if !ok {
		return refuse("unknown_method", "req_method", name)
	}
	c := call{args: in, now: s.opts.Now(), client: r}
	if !m.public {
		t, code := s.tokenState(access, c.now)
		if code != "" {
			return refuse(code)
		}
		c.token = t
	}
	if m.scope != "" {
		if a := s.needScope(c.token, m.scope); a.code != "" {
			return a
		}
	}
	if wait := s.tierWait(name, m.tier, c.now); wait > 0 {
		return later(wait)
	}
	return m.do(c)
}

// needScope returns the refusal for a token without any of the scopes, or an
// empty answer.
func (*Server) needScope(t *token, scopes ...string) answer {
	if slices.ContainsFunc(scopes, t.has) {
		return answer{}
	}
	return refuse("missing_scope", "needed", strings.Join(scopes, ","), "provided", strings.Join(t.scopes, ","))
}

func later(wait time.Duration) answer {
	seconds := int(math.Ceil(wait.Seconds()))
	return answer{status: http.StatusTooManyRequests, code: "ratelimited", body: map[string]any{"retry_after": max(1, seconds)}}
}

func (*Server) write(w http.ResponseWriter, a answer) (status int, code string) {
	body := map[string]any{"ok": a.code == ""}
	maps.Copy(body, a.body)
	if a.code != "" {
		body["error"] = a.code
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if wait, ok := body["retry_after"].(int); ok {
		w.Header().Set("Retry-After", strconv.Itoa(wait))
		delete(body, "retry_after")
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(body) // the caller may be gone
	return a.status, a.code
}

func (s *Server) scopeHeaders(w http.ResponseWriter, access string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tokens[access]; t != nil {
		w.Header().Set("X-Oauth-Scopes", strings.Join(t.scopes, ","))
	}
}

// bucket is the pace of one channel.
type bucket struct {
	tokens float64
	at     time.Time
}

// paceWait takes one message out of the channel's pace, or returns how long to
// wait.
func (s *Server) paceWait(channel string, now time.Time) time.Duration {
	if s.opts.PostInterval < 0 {
		return 0
	}
	burst := float64(s.opts.PostBurst)
	b := s.buckets[channel]
	if b == nil {
		b = &bucket{tokens: burst, at: now}
		s.buckets[channel] = b
	}
	b.tokens = min(burst, b.tokens+float64(now.Sub(b.at))/float64(s.opts.PostInterval))
	b.at = now
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) * float64(s.opts.PostInterval))
	}
	b.tokens--
	return 0
}

// window counts the requests of a method in the current minute.
type window struct {
	start time.Time
	n     int
}

func (s *Server) tierWait(name string, tier int, now time.Time) time.Duration {
	limits := map[int]int{1: 1, 2: 20, 3: 50, 4: 100}
	limit, ok := limits[tier]
	if !ok || s.opts.Minute < 0 {
		return 0
	}
	w := s.windows[name]
	if w == nil || now.Sub(w.start) >= s.opts.Minute {
		w = &window{start: now}
		s.windows[name] = w
	}
	if w.n >= limit {
		return s.opts.Minute - now.Sub(w.start)
	}
	w.n++
	return 0
}

func (s *Server) authTest(c call) answer {
	body := map[string]any{
		"url": s.opts.TeamURL, "team": s.opts.TeamName, "team_id": s.teamID,
		"user": "callbridge", "user_id": s.botUser, "bot_id": s.botID, "is_enterprise_install": false,
	}
	if !c.token.expires.IsZero() {
		body["expires_in"] = int(c.token.expires.Sub(c.now).Seconds())
	}
	return answer{body: body}
}

// place returns the channel that a message may be posted to.
func (s *Server) place(id string, t *token) (*Channel, answer) {
	if u := s.users[id]; u != nil {
		if u.Deleted || u.Bot {
			return nil, refuse("channel_not_found")
		}
		return s.openDM(id), answer{}
	}
	c := s.channels[id]
	switch {
	case c == nil || c.Private && c.NotMember:
		return nil, refuse("channel_not_found")
	case c.Archived:
		return nil, refuse("is_archived")
	case c.NotMember && !t.has("chat:write.public"):
		return nil, refuse("not_in_channel")
	case c.ReadOnly:
		return nil, refuse("restricted_action_read_only_channel")
	}
	return c, answer{}
}

func (s *Server) chatPost(c call) answer {
	ch, refused := s.place(c.args["channel"], c.token)
	if refused.code != "" {
		return refused
	}
	if a := checkContent(c.args, MaxText); a.code != "" {
		return a
	}
	if wait := s.paceWait(ch.ID, c.now); wait > 0 {
		return later(wait)
	}
	m := &Message{Channel: ch.ID, TS: s.nextTS(c.now), User: s.botUser, PostedAt: c.now}
	m.take(c.args)
	s.messages[ch.ID] = append(s.messages[ch.ID], m)
	return answer{body: map[string]any{"channel": ch.ID, "ts": m.TS, "message": s.messageJSON(m, true)}}
}

// take puts what was sent into the message. Metadata stays when an update
// carries none.
func (m *Message) take(in args) {
	m.Text = in["text"]
	m.Blocks = nil
	if b := in["blocks"]; b != "" {
		m.Blocks = json.RawMessage(b)
	}
	if meta := in["metadata"]; meta != "" {
		m.Metadata = json.RawMessage(meta)
	}
	m.Args = maps.Clone(in)
}

// own returns a message of the app.
func (s *Server) own(c call, notOwn string) (*Message, answer) {
	ch := s.channels[c.args["channel"]]
	if ch == nil || ch.Private && ch.NotMember {
		return nil, refuse("channel_not_found")
	}
	m := s.find(ch.ID, c.args["ts"])
	switch {
	case m == nil:
		return nil, refuse("message_not_found")
	case m.User != s.botUser:
		return nil, refuse(notOwn)
	}
	return m, answer{}
}

func (s *Server) chatUpdate(c call) answer {
	m, refused := s.own(c, "cant_update_message")
	if refused.code != "" {
		return refused
	}
	if a := checkContent(c.args, MaxUpdateText); a.code != "" {
		return a
	}
	m.take(c.args)
	m.Edits = append(m.Edits, c.now)
	return answer{body: map[string]any{"channel": m.Channel, "ts": m.TS, "text": m.Text, "message": s.messageJSON(m, true)}}
}

func (s *Server) chatDelete(c call) answer {
	m, refused := s.own(c, "cant_delete_message")
	if refused.code != "" {
		return refused
	}
	if s.opts.PreventDeletion {
		return refuse("compliance_exports_prevent_deletion")
	}
	m.Deleted = true
	return answer{body: map[string]any{"channel": m.Channel, "ts": m.TS}}
}

// kindScope returns the scope of a family such as "read" or "history" that a
// channel needs.
func kindScope(c *Channel, family string) string {
	switch {
	case c.User != "":
		return "im:" + family
	case c.Private:
		return "groups:" + family
	}
	return "channels:" + family
}

// seen returns a channel that the token may see.
func (s *Server) seen(c call, family string) (*Channel, answer) {
	ch := s.channels[c.args["channel"]]
	if ch == nil {
		return nil, refuse("channel_not_found")
	}
	if a := s.needScope(c.token, kindScope(ch, family)); a.code != "" {
		return nil, a
	}
	if ch.Private && ch.NotMember {
		return nil, refuse("channel_not_found")
	}
	return ch, answer{}
}

func (s *Server) info(c call) answer {
	ch, refused := s.seen(c, "read")
	if refused.code != "" {
		return refused
	}
	return answer{body: map[string]any{"channel": s.conversationJSON(ch)}}
}

func (s *Server) join(c call) answer {
	ch := s.channels[c.args["channel"]]
	switch {
	case ch == nil:
		return refuse("channel_not_found")
	case ch.Archived:
		return refuse("is_archived")
	case ch.Private || ch.User != "":
		return refuse("method_not_supported_for_channel_type")
	}
	ch.NotMember = false
	return answer{body: map[string]any{"channel": s.conversationJSON(ch)}}
}

func (s *Server) open(c call) answer {
	u := s.users[c.args["users"]]
	if u == nil || u.Bot {
		return refuse("user_not_found")
	}
	if u.Deleted {
		return refuse("user_disabled")
	}
	return answer{body: map[string]any{"channel": s.conversationJSON(s.openDM(u.ID))}}
}

func (s *Server) list(c call) answer {
	if a := s.needScope(c.token, "channels:read", "groups:read", "im:read", "mpim:read"); a.code != "" {
		return a
	}
	types := strings.Split(c.args["types"], ",")
	if c.args["types"] == "" {
		types = []string{"public_channel"}
	}
	var found []any
	for _, id := range slices.Sorted(maps.Keys(s.channels)) {
		ch := s.channels[id]
		kind := "public_channel"
		switch {
		case ch.User != "":
			kind = "im"
		case ch.Private:
			kind = "private_channel"
		}
		hidden := ch.Private && ch.NotMember || ch.Archived && truth(c.args["exclude_archived"]) || !c.token.has(kindScope(ch, "read"))
		if slices.Contains(types, kind) && !hidden {
			found = append(found, s.conversationJSON(ch))
		}
	}
	return paged("channels", found, c.args)
}

func (s *Server) members(c call) answer {
	ch, refused := s.seen(c, "read")
	if refused.code != "" {
		return refused
	}
	var found []any
	if !ch.NotMember {
		found = append(found, s.botUser)
	}
	for _, m := range ch.Members {
		found = append(found, m)
	}
	if ch.User != "" {
		found = append(found, ch.User)
	}
	return paged("members", found, c.args)
}

// history answers newest first, as Slack does.
func (s *Server) history(c call) answer {
	ch, refused := s.seen(c, "history")
	if refused.code != "" {
		return refused
	}
	if ch.NotMember {
		return refuse("not_in_channel")
	}
	inclusive := truth(c.args["inclusive"])
	var found []any
	for _, m := range slices.Backward(s.messages[ch.ID]) {
		if !m.Deleted && within(m.TS, c.args["oldest"], c.args["latest"], inclusive) {
			found = append(found, s.messageJSON(m, truth(c.args["include_all_metadata"])))
		}
	}
	a := paged("messages", found, c.args)
	if a.code == "" {
		more, _ := a.body["response_metadata"].(map[string]any)
		a.body["has_more"] = more["next_cursor"] != ""
	}
	return a
}

// within reports whether a message's timestamp lies in a window.
func within(ts, oldest, latest string, inclusive bool) bool {
	at := micros(ts)
	if oldest != "" && (at < micros(oldest) || !inclusive && at == micros(oldest)) {
		return false
	}
	if latest != "" && (at > micros(latest) || !inclusive && at == micros(latest)) {
		return false
	}
	return true
}

// micros returns a timestamp such as "1700000000.000100" in microseconds.
func micros(ts string) int64 {
	whole, frac, _ := strings.Cut(ts, ".")
	frac = (frac + "000000")[:6]
	n, err := strconv.ParseInt(whole+frac, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func truth(v string) bool { return v == "true" || v == "1" }

// paged cuts a list at limit and adds a cursor.
func paged(name string, all []any, in args) answer {
	limit, start := 100, 0
	if v := in["limit"]; v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 1000 {
			return refuse("invalid_limit")
		}
		if n > 0 {
			limit = n
		}
	}
	if v := in["cursor"]; v != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(v, "next:"))
		if err != nil || n < 0 || n > len(all) {
			return refuse("invalid_cursor")
		}
		start = n
	}
	end := min(start+limit, len(all))
	next := ""
	if end < len(all) {
		next = "next:" + strconv.Itoa(end)
	}
	page := append([]any{}, all[start:end]...)
	return answer{body: map[string]any{name: page, "response_metadata": map[string]any{"next_cursor": next}}}
}

func (s *Server) userInfo(c call) answer {
	u := s.users[c.args["user"]]
	if u == nil {
		return refuse("user_not_found")
	}
	return answer{body: map[string]any{"user": s.userJSON(u)}}
}

func (s *Server) userByEmail(c call) answer {
	for _, id := range slices.Sorted(maps.Keys(s.users)) {
		if u := s.users[id]; u.Email != "" && strings.EqualFold(u.Email, c.args["email"]) {
			return answer{body: map[string]any{"user": s.userJSON(u)}}
		}
	}
	return refuse("users_not_found")
}

func (s *Server) userList(c call) answer {
	var found []any
	for _, id := range slices.Sorted(maps.Keys(s.users)) {
		found = append(found, s.userJSON(s.users[id]))
	}
	return paged("members", found, c.args)
}
