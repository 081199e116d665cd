package slacktest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slack-go/slack"

	"github.com/optiwe/callbridge/connectors/slack/slacktest"
)

const deals = "C0DEALS01"

// call makes a request with a form body and returns the answer.
func call(tb testing.TB, ws *slacktest.Server, token, method string, form url.Values) (reply, map[string]any) {
	tb.Helper()
	if form == nil {
		form = url.Values{}
	}
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, ws.APIURL()+"/"+method, strings.NewReader(form.Encode()))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return roundTrip(tb, req)
}

// reply is an answer without its body.
type reply struct {
	status int
	header http.Header
}

func roundTrip(tb testing.TB, req *http.Request) (reply, map[string]any) {
	tb.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		tb.Fatalf("%s answered %q: %v", req.URL.Path, raw, err)
	}
	return reply{resp.StatusCode, resp.Header}, body
}

// want checks that an answer is ok, or has the error code.
func want(tb testing.TB, body map[string]any, code string) {
	tb.Helper()
	got, _ := body["error"].(string)
	if got != code || body["ok"] != (code == "") {
		tb.Errorf("ok %v, error %q, want error %q", body["ok"], got, code)
	}
}

func text(s string) url.Values { return url.Values{"channel": {deals}, "text": {s}} }

func TestToken(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	_, body := call(t, ws, "", "auth.test", nil)
	want(t, body, "not_authed")
	_, body = call(t, ws, "xoxb-wrong", "auth.test", nil)
	want(t, body, "invalid_auth")
	_, body = call(t, ws, "", "auth.test", url.Values{"token": {ws.Token()}})
	want(t, body, "")
	resp, body := call(t, ws, ws.Token(), "auth.test", nil)
	want(t, body, "")
	if body["team_id"] != ws.TeamID() || body["user_id"] != ws.BotUserID() {
		t.Errorf("auth.test says %v", body)
	}
	if got := resp.header.Get("X-Oauth-Scopes"); got != strings.Join(slacktest.DefaultScopes(), ",") {
		t.Errorf("the scopes are %q", got)
	}
	ws.ExpireTokens()
	_, body = call(t, ws, ws.Token(), "auth.test", nil)
	want(t, body, "token_expired")
}

func TestUnknownMethod(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	_, body := call(t, ws, ws.Token(), "chat.explode", nil)
	want(t, body, "unknown_method")
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	_, body := call(t, ws, ws.Token(), "auth.revoke", nil)
	want(t, body, "")
	_, body = call(t, ws, ws.Token(), "auth.test", nil)
	want(t, body, "token_revoked")
}

func TestScopes(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t, slacktest.Options{Scopes: []string{"chat:write"}})
	for method, tt := range map[string]struct {
		form   url.Values
		needed string
	}{
		"chat.postMessage":      {text("hi"), ""},
		"conversations.info":    {url.Values{"channel": {deals}}, "channels:read"},
		"conversations.history": {url.Values{"channel": {"C0PRIVATE"}}, "groups:history"},
		"conversations.join":    {url.Values{"channel": {deals}}, "channels:join"},
		"conversations.open":    {url.Values{"users": {"U0DANA001"}}, "im:write"},
		"users.list":            {nil, "users:read"},
		"users.lookupByEmail":   {url.Values{"email": {"dana@acme.example"}}, "users:read.email"},
	} {
		_, body := call(t, ws, ws.Token(), method, tt.form)
		if tt.needed == "" {
			want(t, body, "")
			continue
		}
		want(t, body, "missing_scope")
		if body["needed"] != tt.needed || body["provided"] != "chat:write" {
			t.Errorf("%s: needed %v, provided %v, want %s", method, body["needed"], body["provided"], tt.needed)
		}
	}
	ws.SetScopes(slacktest.DefaultScopes()...)
	_, body := call(t, ws, ws.Token(), "users.list", nil)
	want(t, body, "")
}

func TestPostUpdateDelete(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	client := slack.New(ws.Token(), slack.OptionAPIURL(ws.APIURL()+"/"), slack.OptionHTTPClient(&http.Client{}))
	meta := slack.SlackMetadata{EventType: "x", EventPayload: map[string]any{"key": "k1"}}
	channel, ts, err := client.PostMessageContext(t.Context(), deals, slack.MsgOptionText("first", false), slack.MsgOptionMetadata(meta))
	if err != nil || channel != deals {
		t.Fatal(channel, err)
	}
	_, second, err := client.PostMessageContext(t.Context(), deals, slack.MsgOptionText("second", false))
	if err != nil || second <= ts {
		t.Fatalf("timestamps %s, %s: %v", ts, second, err)
	}
	if _, _, _, err := client.UpdateMessageContext(t.Context(), deals, ts, slack.MsgOptionText("corrected", false)); err != nil {
		t.Fatal(err)
	}
	m := ws.Messages(deals)
	if len(m) != 2 || m[0].Text != "corrected" || len(m[0].Edits) != 1 || m[0].Key() != "k1" {
		t.Fatalf("the channel holds %+v", m)
	}
	if _, _, err := client.DeleteMessageContext(t.Context(), deals, ts); err != nil {
		t.Fatal(err)
	}
	_, _, err = client.DeleteMessageContext(t.Context(), deals, ts)
	if e, ok := errors.AsType[slack.SlackErrorResponse](err); !ok || e.Err != "message_not_found" {
		t.Errorf("deleting twice: %v", err)
	}
	if n := len(ws.Messages(deals)); n != 1 {
		t.Errorf("%d messages are left, want 1", n)
	}
	if n := len(ws.All()); n != 2 {
		t.Errorf("%d messages were posted, want 2", n)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	ws.AddChannel(slacktest.Channel{ID: "C0ARCHIVE", Name: "old", Archived: true})
	ws.AddChannel(slacktest.Channel{ID: "C0OUTSIDE", Name: "outside", NotMember: true})
	ws.AddChannel(slacktest.Channel{ID: "C0SECRET1", Name: "secret", Private: true, NotMember: true})
	ws.AddChannel(slacktest.Channel{ID: "C0ANNOUNC", Name: "announce", ReadOnly: true})
	ws.AddUser(slacktest.User{ID: "U0GONE001", Deleted: true})
	for channel, code := range map[string]string{
		deals: "", "C0NOTHERE": "channel_not_found", "C0ARCHIVE": "is_archived", "C0OUTSIDE": "not_in_channel", "C0SECRET1": "channel_not_found",
		"C0ANNOUNC": "restricted_action_read_only_channel", "U0DANA001": "", "U0GONE001": "channel_not_found",
	} {
		_, body := call(t, ws, ws.Token(), "chat.postMessage", url.Values{"channel": {channel}, "text": {"x"}})
		want(t, body, code)
	}
	dm := ws.DM("U0DANA001")
	if len(ws.Messages(dm)) != 1 {
		t.Errorf("the direct message %q is not there", dm)
	}
	_, body := call(t, ws, ws.Token(), "conversations.info", url.Values{"channel": {dm}})
	want(t, body, "")
	if c, _ := body["channel"].(map[string]any); c["is_im"] != true || c["user"] != "U0DANA001" {
		t.Errorf("the direct message is %v", c)
	}
	_, body = call(t, ws, ws.Token(), "chat.update", url.Values{"channel": {deals}, "ts": {ws.Say(deals, "U0DANA001", "mine")}, "text": {"x"}})
	want(t, body, "cant_update_message")
}

func TestJoin(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t, slacktest.Options{Scopes: append(slacktest.DefaultScopes(), "channels:join")})
	ws.AddChannel(slacktest.Channel{ID: "C0OUTSIDE", Name: "outside", NotMember: true})
	_, body := call(t, ws, ws.Token(), "conversations.join", url.Values{"channel": {"C0PRIVATE"}})
	want(t, body, "method_not_supported_for_channel_type")
	_, body = call(t, ws, ws.Token(), "conversations.join", url.Values{"channel": {"C0OUTSIDE"}})
	want(t, body, "")
	_, body = call(t, ws, ws.Token(), "chat.postMessage", url.Values{"channel": {"C0OUTSIDE"}, "text": {"x"}})
	want(t, body, "")
}

func TestSharedChannel(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	_, body := call(t, ws, ws.Token(), "conversations.info", url.Values{"channel": {"C0SHARED1"}})
	c, _ := body["channel"].(map[string]any)
	if c["is_ext_shared"] != true || c["is_shared"] != true || fmt.Sprint(c["connected_team_ids"]) != "[T0NORTHW1]" {
		t.Errorf("a shared channel is %v", c)
	}
	ws.ChangeChannel(deals, func(c *slacktest.Channel) { c.Pending = true })
	_, body = call(t, ws, ws.Token(), "conversations.info", url.Values{"channel": {deals}})
	if c, _ := body["channel"].(map[string]any); c["is_pending_ext_shared"] != true || c["is_ext_shared"] != false {
		t.Errorf("a channel with an open invitation is %v", c)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	ws := slacktest.New(t, slacktest.Options{Now: func() time.Time { now = now.Add(time.Second); return now }})
	var ts []string
	for i := range 5 {
		_, body := call(t, ws, ws.Token(), "chat.postMessage", url.Values{
			"channel": {deals}, "text": {fmt.Sprint(i)}, "metadata": {`{"event_type":"e","event_payload":{"key":"k"}}`},
		})
		ts = append(ts, fmt.Sprint(body["ts"]))
	}
	read := func(more url.Values) (texts string, hasMore, metadata bool) {
		more.Set("channel", deals)
		_, body := call(t, ws, ws.Token(), "conversations.history", more)
		want(t, body, "")
		list, _ := body["messages"].([]any)
		for _, m := range list {
			m, _ := m.(map[string]any)
			texts += fmt.Sprint(m["text"])
			metadata = metadata || m["metadata"] != nil
		}
		hasMore, _ = body["has_more"].(bool)
		return texts, hasMore, metadata
	}
	for _, tt := range []struct {
		form     url.Values
		texts    string
		more     bool
		metadata bool
	}{
		{url.Values{}, "43210", false, false},
		{url.Values{"include_all_metadata": {"true"}}, "43210", false, true},
		{url.Values{"limit": {"2"}}, "43", true, false},
		{url.Values{"limit": {"2"}, "cursor": {"next:2"}}, "21", true, false},
		{url.Values{"oldest": {ts[1]}}, "432", false, false},
		{url.Values{"oldest": {ts[1]}, "inclusive": {"1"}}, "4321", false, false},
		{url.Values{"oldest": {ts[1]}, "latest": {ts[3]}, "inclusive": {"true"}}, "321", false, false},
	} {
		texts, more, metadata := read(tt.form)
		if texts != tt.texts || more != tt.more || metadata != tt.metadata {
			t.Errorf("history with %v = %s, %v, %v, want %s, %v, %v", tt.form, texts, more, metadata, tt.texts, tt.more, tt.metadata)
		}
	}
}

func TestUsersAndMembers(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	ws.AddUser(slacktest.User{ID: "U0GUEST01", Name: "guest", Guest: true})
	client := slack.New(ws.Token(), slack.OptionAPIURL(ws.APIURL()+"/"), slack.OptionHTTPClient(&http.Client{}))
	u, err := client.GetUserByEmailContext(t.Context(), "DANA@acme.example")
	if err != nil || u.ID != "U0DANA001" || u.TeamID != ws.TeamID() {
		t.Errorf("look-up by e-mail: %+v, %v", u, err)
	}
	if _, err := client.GetUserByEmailContext(t.Context(), "nobody@acme.example"); err == nil || err.Error() != "users_not_found" {
		t.Errorf("look-up of nobody: %v", err)
	}
	all, err := client.GetUsersContext(t.Context(), slack.GetUsersOptionLimit(2))
	if err != nil || len(all) != len(slacktest.DefaultUsers())+2 {
		t.Errorf("%d users in pages of 2: %v", len(all), err)
	}
	members, _, err := client.GetUsersInConversationContext(t.Context(), &slack.GetUsersInConversationParameters{ChannelID: deals})
	if err != nil || len(members) != 3 {
		t.Errorf("members %v, %v", members, err)
	}
	channels, _, err := client.GetConversationsContext(t.Context(), &slack.GetConversationsParameters{Types: []string{"public_channel", "private_channel"}})
	if err != nil || len(channels) != len(slacktest.DefaultChannels()) {
		t.Errorf("%d channels, %v", len(channels), err)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	ws := slacktest.New(t, slacktest.Options{PostInterval: time.Second, PostBurst: 2, Now: func() time.Time { return now }})
	for i, code := range []string{"", "", "ratelimited"} {
		resp, body := call(t, ws, ws.Token(), "chat.postMessage", text("x"))
		want(t, body, code)
		if i == 2 && (resp.status != http.StatusTooManyRequests || resp.header.Get("Retry-After") != "1") {
			t.Errorf("status %d, Retry-After %q", resp.status, resp.header.Get("Retry-After"))
		}
	}
	_, body := call(t, ws, ws.Token(), "chat.postMessage", url.Values{"channel": {"C0ENTERPR"}, "text": {"x"}})
	want(t, body, "") // another channel has a pace of its own
	now = now.Add(time.Second)
	_, body = call(t, ws, ws.Token(), "chat.postMessage", text("x"))
	want(t, body, "")
	if n := len(ws.Messages(deals)); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

func TestTiers(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	ws := slacktest.New(t, slacktest.Options{Minute: 30 * time.Second, Now: func() time.Time { return now }})
	for i := range 51 {
		code := ""
		if i == 50 {
			code = "ratelimited"
		}
		resp, body := call(t, ws, ws.Token(), "conversations.info", url.Values{"channel": {deals}})
		want(t, body, code)
		if i == 50 && resp.header.Get("Retry-After") != "30" {
			t.Errorf("Retry-After %q, want 30", resp.header.Get("Retry-After"))
		}
	}
	now = now.Add(30 * time.Second)
	_, body := call(t, ws, ws.Token(), "conversations.info", url.Values{"channel": {deals}})
	want(t, body, "")
}

func TestOAuth(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	ws := slacktest.New(t, slacktest.Options{Rotation: true, Now: func() time.Time { return now }})
	const back = "https://cb.example/oauth/slack/callback"
	client := &http.Client{}
	base := slack.OAuthOptionAPIURL(ws.APIURL() + "/")
	if _, err := slack.GetOAuthV2ResponseContext(t.Context(), client, "1234.5678", "wrong", ws.NewCode(back), back, base); err == nil || err.Error() != "bad_client_secret" {
		t.Errorf("with a wrong secret: %v", err)
	}
	code := ws.NewCode(back, "chat:write")
	first, err := slack.GetOAuthV2ResponseContext(t.Context(), client, "1234.5678", "fake-client-secret", code, back, base)
	if err != nil || first.ExpiresIn != 43200 || first.Scope != "chat:write" || first.Team.ID != ws.TeamID() {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, err := slack.GetOAuthV2ResponseContext(t.Context(), client, "1234.5678", "fake-client-secret", code, back, base); err == nil || err.Error() != "invalid_code" {
		t.Errorf("a code used twice: %v", err)
	}
	second, err := slack.RefreshOAuthV2TokenContext(t.Context(), client, "1234.5678", "fake-client-secret", first.RefreshToken, base)
	if err != nil || second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Fatalf("%+v, %v", second, err)
	}
	if _, err := slack.RefreshOAuthV2TokenContext(t.Context(), client, "1234.5678", "fake-client-secret", first.RefreshToken, base); err == nil || err.Error() != "invalid_refresh_token" {
		t.Errorf("a refresh token used twice: %v", err)
	}
	_, body := call(t, ws, second.AccessToken, "auth.test", nil)
	want(t, body, "")
	now = now.Add(13 * time.Hour)
	_, body = call(t, ws, second.AccessToken, "auth.test", nil)
	want(t, body, "token_expired")
	_, body = call(t, ws, ws.Token(), "apps.uninstall", url.Values{"client_id": {"1234.5678"}, "client_secret": {"fake-client-secret"}})
	want(t, body, "")
	if _, err := slack.RefreshOAuthV2TokenContext(t.Context(), client, "1234.5678", "fake-client-secret", second.RefreshToken, base); err == nil {
		t.Error("a refresh token works after the app was removed")
	}
}

func TestAuthorizeWithPKCE(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	const back = "https://cb.example/callback?x=1"
	q := url.Values{"client_id": {"1234.5678"}, "redirect_uri": {back}, "state": {"s1"}, "scope": {"chat:write"}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ws.URL+"/oauth/v2/authorize?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || to.Query().Get("state") != "s1" || to.Query().Get("x") != "1" {
		t.Fatalf("redirected to %v, %v", to, err)
	}
	form := url.Values{"code": {to.Query().Get("code")}, "redirect_uri": {back}, "client_id": {"1234.5678"}, "client_secret": {"fake-client-secret"}}
	_, body := call(t, ws, "", "oauth.v2.access", form)
	want(t, body, "invalid_code_verifier")
	form.Set("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") // the example of RFC 7636
	_, body = call(t, ws, "", "oauth.v2.access", form)
	want(t, body, "")
}

// TestFaults checks what each fault does and answers.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault  slacktest.Fault
		acts   bool
		status int // 0: the connection is cut
		body   string
	}{
		{slacktest.RateLimit, false, 429, `"ratelimited"`},
		{slacktest.Outage, false, 503, ""},
		{slacktest.ServerError, true, 500, ""},
		{slacktest.BadToken, false, 200, `"token_expired"`},
		{slacktest.Revoked, false, 200, `"account_inactive"`},
		{slacktest.BadMessage, false, 200, `"invalid_blocks"`},
		{slacktest.CutBefore, false, 0, ""},
		{slacktest.CutAfter, true, 0, ""},
		{slacktest.Huge, true, 200, "padding"},
		{slacktest.Nonsense, true, 200, "<!doctype html>"},
		{slacktest.EmptyOK, false, 200, "{}"},
		{slacktest.Redirect, false, 302, ""},
	} {
		t.Run(string(tt.fault), func(t *testing.T) {
			t.Parallel()
			ws := slacktest.New(t)
			ws.Inject(tt.fault, 1)
			form := text("x")
			form.Set("token", ws.Token())
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ws.APIURL()+"/chat.postMessage", strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := http.DefaultTransport.RoundTrip(req)
			if (err != nil) != (tt.status == 0) {
				t.Fatal(err)
			}
			if err == nil {
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(body), tt.body) {
					t.Errorf("status %d, %d bytes, %v", resp.StatusCode, len(body), err)
				}
				if tt.fault == slacktest.Huge && len(body) < 64<<20 {
					t.Errorf("the huge answer has %d bytes", len(body))
				}
			}
			if n := len(ws.Messages(deals)); (n == 1) != tt.acts {
				t.Errorf("%d messages, want it to act: %v", n, tt.acts)
			}
			_, body := call(t, ws, ws.Token(), "chat.postMessage", text("y"))
			want(t, body, "") // healed by itself
			if n := ws.Count("chat.postMessage"); n != 2 {
				t.Errorf("%d requests were logged, want 2", n)
			}
		})
	}
}

func TestConcurrentPosts(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				_, body := call(t, ws, ws.Token(), "chat.postMessage", text("x"))
				want(t, body, "")
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, m := range ws.Messages(deals) {
		if seen[m.TS] {
			t.Errorf("two messages have the timestamp %s", m.TS)
		}
		seen[m.TS] = true
	}
	if len(seen) != 160 {
		t.Errorf("%d messages, want 160", len(seen))
	}
}

func TestStartAndClose(t *testing.T) {
	t.Parallel()
	ws, err := slacktest.Start(slacktest.Options{TeamName: "Elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	if _, body := call(t, ws, ws.Token(), "auth.test", nil); body["team"] != "Elsewhere" {
		t.Errorf("the team is %v", body["team"])
	}
	ws.Close()
	ws.Close()
	if _, err := slacktest.Start(slacktest.Options{Listen: "256.0.0.1:0"}); err == nil {
		t.Error("it listens at an address that there is not")
	}
}
