package slack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/connectortest"
	"github.com/optiwe/callbridge/connectors/slack"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
)

func open(tb testing.TB) *connectors.Conn {
	tb.Helper()
	c, err := connectors.Open(slack.Descriptor(), connectors.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// shared returns the i-th item for a destination.
func shared(tb testing.TB, i int, destination string) connectors.Item {
	tb.Helper()
	it := item(consenttest.Release(tb, discovery(), usualFields()...))
	it.Key = strings.Repeat(string(rune('a'+i)), 26)
	it.Destination = json.RawMessage(destination)
	it.Begun = time.Now()
	return it
}

// prepare resolves and renders items.
func prepare(tb testing.TB, conn *connectors.Conn, a connectors.Account, items ...connectors.Item) []connectors.Item {
	tb.Helper()
	found, err := conn.Resolve(tb.Context(), a, items)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range items {
		items[i].Targets = found[i]
		if items[i].Payload, err = conn.Render(items[i]); err != nil {
			tb.Fatal(err)
		}
	}
	return items
}

func channel(id string) string { return `{"channel":"` + id + `"}` }

// TestSentIsWhatWasRendered is the promise behind the preview.
func TestSentIsWhatWasRendered(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	items := prepare(t, conn, a, shared(t, 0, channel(deals)))
	out := conn.Push(t.Context(), a, items)[0]
	if out.Class != connectors.Delivered {
		t.Fatal(out.Err)
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(items[0].Payload.Body, &body); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for k, raw := range body {
		want[k] = string(raw)
		var s string
		if json.Unmarshal(raw, &s) == nil {
			want[k] = s
		}
	}
	got := ws.Messages(deals)[0].Args
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was sent is not what was rendered (-rendered +sent):\n%s", diff)
	}
	if want := ws.Permalink(deals, out.Receipt["ts"]); out.Receipt["url"] != want {
		t.Errorf("the receipt's address is %q, want %q", out.Receipt["url"], want)
	}
}

// TestOutsidersAreRefused is the guard against channels that people outside
// the company can read: nothing is posted there.
func TestOutsidersAreRefused(t *testing.T) {
	t.Parallel()
	const ch = "C0TARGET1"
	for name, tt := range map[string]struct {
		channel slacktest.Channel
		user    slacktest.User
		code    string // of the refusal; "" is delivered
	}{
		"inside":                  {channel: slacktest.Channel{}},
		"private, inside":         {channel: slacktest.Channel{Private: true}},
		"another workspace of us": {channel: slacktest.Channel{OrgShared: true, OtherTeams: []string{"T0SISTER1"}}},
		"Slack Connect":           {channel: slacktest.Channel{ExtShared: true, OtherTeams: []string{"T0NORTHW1"}}, code: "external_channel"},
		"both":                    {channel: slacktest.Channel{ExtShared: true, OrgShared: true, OtherTeams: []string{"T0NORTHW1"}}, code: "external_channel"},
		"invited":                 {channel: slacktest.Channel{Pending: true}, code: "external_channel"},
		"guest":                   {channel: slacktest.Channel{Members: []string{"U0SOME001"}}, user: slacktest.User{Guest: true}, code: "guests_in_channel"},
		"single-channel guest":    {channel: slacktest.Channel{Members: []string{"U0SOME001"}}, user: slacktest.User{UltraGuest: true}, code: "guests_in_channel"},
		"former guest":            {channel: slacktest.Channel{Members: []string{"U0SOME001"}}, user: slacktest.User{Guest: true, Deleted: true}},
		"guest elsewhere":         {channel: slacktest.Channel{}, user: slacktest.User{Guest: true}},
		"archived":                {channel: slacktest.Channel{Archived: true}, code: "is_archived"},
		"private, app not in it":  {channel: slacktest.Channel{Private: true, NotMember: true}, code: "channel_not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := slacktest.New(t)
			tt.channel.ID, tt.channel.Name = ch, "target"
			ws.AddChannel(tt.channel)
			tt.user.ID = "U0SOME001"
			ws.AddUser(tt.user)
			conn, a := open(t), account(t, ws)
			out := conn.Push(t.Context(), a, prepare(t, conn, a, shared(t, 0, channel(ch))))[0]
			checkErr := conn.Check(t.Context(), a, json.RawMessage(channel(ch)))
			if tt.code == "" {
				if out.Class != connectors.Delivered || checkErr != nil {
					t.Fatalf("%v, check: %v", out.Err, checkErr)
				}
				return
			}
			if out.Class != connectors.Rejected || out.Err.Code != tt.code || out.Err.Detail == "" {
				t.Errorf("the outcome is %v (%v), want rejected with %s", out.Class, out.Err, tt.code)
			}
			if e := connectors.AsError(checkErr); checkErr == nil || e.Code != tt.code {
				t.Errorf("Check says %v, want %s", checkErr, tt.code)
			}
			if n := ws.Count("chat.postMessage"); n != 0 {
				t.Errorf("%d messages were posted", n)
			}
		})
	}
}

// TestGuestsAreFoundOnEveryPage checks that no page of a large workspace or
// channel is left out.
func TestGuestsAreFoundOnEveryPage(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t, slacktest.Options{Users: []slacktest.User{}})
	var members []string
	for i := range 1200 {
		id := fmt.Sprintf("U0%07d", i)
		ws.AddUser(slacktest.User{ID: id, Guest: i == 1150})
		members = append(members, id)
	}
	ws.ChangeChannel(deals, func(c *slacktest.Channel) { c.Members = members })
	conn, a := open(t), account(t, ws)
	out := send(t, conn, a, shared(t, 0, channel(deals)))
	if out.Class != connectors.Rejected || out.Err.Code != "guests_in_channel" {
		t.Errorf("%v (%v), want guests_in_channel", out.Class, out.Err)
	}
	if users, members := ws.Count("users.list"), ws.Count("conversations.members"); users != 2 || members != 2 {
		t.Errorf("%d and %d requests, want two pages each", users, members)
	}
}

func TestAllowExternal(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	out := send(t, conn, a, shared(t, 0, `{"channel":"C0SHARED1","allow_external":true}`))
	if out.Class != connectors.Delivered {
		t.Fatal(out.Err)
	}
	if err := conn.Check(t.Context(), a, json.RawMessage(`{"channel":"C0SHARED1","allow_external":true}`)); err != nil {
		t.Error(err)
	}
}

// TestChannelThatIsSharedLater checks that a correction does not go to a
// channel that outsiders have joined since.
func TestChannelThatIsSharedLater(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	a.Cache = nil
	it := shared(t, 0, channel(deals))
	out := send(t, conn, a, it)
	if out.Class != connectors.Delivered {
		t.Fatal(out.Err)
	}
	ws.ChangeChannel(deals, func(c *slacktest.Channel) { c.ExtShared, c.OtherTeams = true, []string{"T0NORTHW1"} })
	it.Kind, it.Receipt, it.Destination = hub.KindUpdate, out.Receipt, json.RawMessage(channel("C0ENTERPR"))
	if out = send(t, conn, a, it); out.Class != connectors.Rejected || out.Err.Code != "external_channel" {
		t.Errorf("%v (%v), want external_channel", out.Class, out.Err)
	}
	if n := ws.Count("chat.update"); n != 0 {
		t.Errorf("%d edits were made", n)
	}
}

// TestUncheckedIsNotSent checks that Push fails closed.
func TestUncheckedIsNotSent(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	it := prepare(t, conn, a, shared(t, 0, channel(deals)))[0]
	for name, targets := range map[string]connectors.Targets{"none": nil, "of another channel": {"channel": "C0ENTERPR"}} {
		it.Targets = targets
		if out := conn.Push(t.Context(), a, []connectors.Item{it})[0]; out.Class != connectors.Transient || out.Err.Code != "unchecked" {
			t.Errorf("targets %s: %v (%v), want unchecked", name, out.Class, out.Err)
		}
	}
	if n := ws.Count("chat.postMessage"); n != 0 {
		t.Errorf("%d messages were posted", n)
	}
}

// TestLookUpsAreKept checks what is looked up once only, and that each item is
// judged for itself.
func TestLookUpsAreKept(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	items := prepare(t, conn, a, shared(t, 0, channel(deals)), shared(t, 1, channel("C0SHARED1")), shared(t, 2, channel(deals)), shared(t, 3, channel("C0NOTHERE")), shared(t, 4, `{"dm":"owner"}`))
	want := []connectors.Targets{{"channel": deals}, {"refused": "external_channel"}, {"channel": deals}, {"refused": "channel_not_found"}, {"user": "U0DANA001"}}
	for i, it := range items {
		if diff := cmp.Diff(want[i], it.Targets); diff != "" {
			t.Errorf("item %d:\n%s", i, diff)
		}
	}
	before := ws.Count()
	prepare(t, conn, a, shared(t, 5, channel(deals)), shared(t, 6, `{"dm":"owner"}`))
	if n := ws.Count() - before; n != 0 {
		t.Errorf("%d requests for what is known", n)
	}
	outs := conn.Push(t.Context(), a, items)
	classes := make([]connectors.Class, len(outs))
	for i, o := range outs {
		classes[i] = o.Class
	}
	wantClasses := []connectors.Class{connectors.Delivered, connectors.Rejected, connectors.Delivered, connectors.Rejected, connectors.Delivered}
	if !slices.Equal(classes, wantClasses) {
		t.Errorf("outcomes %v, want %v", classes, wantClasses)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		user slacktest.User
		code string
	}{
		"member":                {slacktest.User{}, ""},
		"nobody":                {slacktest.User{Email: "other@acme.example"}, "owner_not_found"},
		"deactivated":           {slacktest.User{Deleted: true}, "owner_inactive"},
		"bot":                   {slacktest.User{Bot: true}, "owner_inactive"},
		"guest":                 {slacktest.User{Guest: true}, "owner_outside"},
		"of another company":    {slacktest.User{TeamID: "T0NORTHW1", Stranger: true}, "owner_outside"},
		"of another team, only": {slacktest.User{TeamID: "T0NORTHW1"}, "owner_outside"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := slacktest.New(t, slacktest.Options{Users: []slacktest.User{}})
			tt.user.ID = "U0SOME001"
			if tt.user.Email == "" {
				tt.user.Email = discovery().Owner.Email
			}
			ws.AddUser(tt.user)
			conn, a := open(t), account(t, ws)
			a.Facts = map[string]string{} // then the workspace is asked
			out := send(t, conn, a, shared(t, 0, `{"dm":"owner"}`))
			switch {
			case tt.code == "" && (out.Class != connectors.Delivered || len(ws.Messages(ws.DM("U0SOME001"))) != 1):
				t.Errorf("not delivered: %v", out.Err)
			case tt.code == "" && (out.Receipt["user"] != "U0SOME001" || out.Receipt["channel"] != ws.DM("U0SOME001")):
				t.Errorf("the receipt is %v", out.Receipt)
			case tt.code != "" && (out.Class != connectors.Rejected || out.Err.Code != tt.code):
				t.Errorf("%v (%v), want %s", out.Class, out.Err, tt.code)
			}
			if tt.code != "" && ws.Count("chat.postMessage") != 0 {
				t.Error("a message was posted")
			}
		})
	}
	t.Run("not released", func(t *testing.T) {
		t.Parallel()
		ws := slacktest.New(t)
		conn, a := open(t), account(t, ws)
		it := shared(t, 0, `{"dm":"owner"}`)
		it.Release = consenttest.Release(t, discovery(), "title")
		if out := send(t, conn, a, it); out.Class != connectors.Rejected || out.Err.Code != "owner_not_released" {
			t.Errorf("%v (%v)", out.Class, out.Err)
		}
	})
}

// TestPaceOfOneChannel checks that a rate limit in one channel stops what goes
// there, in order, and nothing else.
func TestPaceOfOneChannel(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t, slacktest.Options{PostInterval: time.Hour, PostBurst: 1})
	conn, a := open(t), account(t, ws)
	items := prepare(t, conn, a, shared(t, 0, channel(deals)), shared(t, 1, channel(deals)), shared(t, 2, channel(deals)), shared(t, 3, channel("C0ENTERPR")))
	outs := conn.Push(t.Context(), a, items)
	for i, class := range []connectors.Class{connectors.Delivered, connectors.RateLimited, connectors.RateLimited, connectors.Delivered} {
		if outs[i].Class != class {
			t.Errorf("item %d: %v (%v), want %v", i, outs[i].Class, outs[i].Err, class)
		}
	}
	if e := outs[1].Err; e.RetryAfter != time.Hour || e.Reach != connectors.ReachPlace {
		t.Errorf("retry after %v, reach %v", e.RetryAfter, e.Reach)
	}
	if n := ws.Count("chat.postMessage"); n != 3 {
		t.Errorf("%d requests, want 3: what follows a refusal is not sent", n)
	}
}

func TestJoinsOnceIfItMay(t *testing.T) {
	t.Parallel()
	for _, may := range []bool{true, false} {
		scopes := slacktest.DefaultScopes()
		if may {
			scopes = append(scopes, "channels:join")
		}
		ws := slacktest.New(t, slacktest.Options{Scopes: scopes})
		ws.AddChannel(slacktest.Channel{ID: "C0OUTSIDE", Name: "outside", NotMember: true})
		conn, a := open(t), account(t, ws)
		a.Facts["scopes"] = strings.Join(scopes, ",")
		checkErr := conn.Check(t.Context(), a, json.RawMessage(channel("C0OUTSIDE")))
		out := send(t, conn, a, shared(t, 0, channel("C0OUTSIDE")))
		if may && (out.Class != connectors.Delivered || checkErr != nil || len(ws.Messages("C0OUTSIDE")) != 1) {
			t.Errorf("with the scope: %v, check: %v", out.Err, checkErr)
		}
		if !may && (out.Class != connectors.Rejected || !strings.Contains(out.Err.Detail, "/invite") || checkErr == nil || ws.Count("conversations.join") != 0) {
			t.Errorf("without the scope: %v, check: %v", out.Err, checkErr)
		}
	}
}

func TestErase(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{false, true} {
		ws := slacktest.New(t, slacktest.Options{PreventDeletion: kept})
		conn, a := open(t), account(t, ws)
		it := shared(t, 0, channel(deals))
		out := send(t, conn, a, it)
		erasure := connectors.Item{Key: it.Key, Kind: hub.KindErase, Destination: it.Destination, Receipt: out.Receipt}
		out = conn.Erase(t.Context(), a, []connectors.Item{erasure})[0]
		if kept {
			if out.Class != connectors.Rejected || out.Err.Code != "compliance_exports_prevent_deletion" || !strings.Contains(out.Err.Detail, "compliance") {
				t.Errorf("a workspace that keeps everything: %v (%v)", out.Class, out.Err)
			}
			continue
		}
		if out.Class != connectors.Delivered || len(ws.Messages(deals)) != 0 {
			t.Errorf("%v (%v)", out.Class, out.Err)
		}
		if n := ws.Count("chat.delete"); n != 2 {
			t.Errorf("%d requests, want 2: it is read back that the copy is gone", n)
		}
		erasure.Receipt = nil
		if out = conn.Erase(t.Context(), a, []connectors.Item{erasure})[0]; out.Class != connectors.Rejected || out.Err.Code != "no_receipt" {
			t.Errorf("without a receipt: %v (%v)", out.Class, out.Err)
		}
	}
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	type want struct {
		verdict connectors.Verdict
		code    string
	}
	for name, tt := range map[string]struct {
		scopes []string
		begun  time.Duration // from now
		post   bool
		setUp  func(*slacktest.Server, connectors.Item)
		want   want
	}{
		"arrived":     {post: true, want: want{verdict: connectors.Arrived}},
		"not arrived": {want: want{verdict: connectors.NotArrived}},
		"long ago":    {post: true, begun: -time.Hour, want: want{verdict: connectors.NotArrived}},
		"clock ahead": {post: true, begun: time.Minute, want: want{verdict: connectors.Arrived}},
		"no scope":    {scopes: neededScopes(), post: true, want: want{verdict: connectors.CannotTell, code: "missing_scope"}},
		"somebody repeats our key": {setUp: func(ws *slacktest.Server, it connectors.Item) {
			ws.Repeat(deals, "U0DANA001", it.Key)
		}, want: want{verdict: connectors.NotArrived}},
		"busy channel": {setUp: func(ws *slacktest.Server, _ connectors.Item) {
			for range 201 {
				ws.Say(deals, "U0DANA001", "chatter")
			}
		}, want: want{verdict: connectors.CannotTell, code: "history_too_long"}},
		"ours without metadata": {setUp: func(ws *slacktest.Server, _ connectors.Item) {
			ws.Say(deals, ws.BotUserID(), "welcome")
		}, want: want{verdict: connectors.CannotTell, code: "metadata_hidden"}},
		"channel gone": {setUp: func(ws *slacktest.Server, _ connectors.Item) {
			ws.ChangeChannel(deals, func(c *slacktest.Channel) { c.Private, c.NotMember = true, true })
		}, want: want{verdict: connectors.CannotTell, code: "channel_not_found"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := slacktest.New(t, slacktest.Options{Scopes: tt.scopes})
			conn, a := open(t), account(t, ws)
			it := prepare(t, conn, a, shared(t, 0, channel(deals)))[0]
			it.Begun = time.Now().Add(tt.begun)
			var receipt connectors.Receipt
			if tt.post {
				receipt = conn.Push(t.Context(), a, []connectors.Item{it})[0].Receipt
			}
			if tt.setUp != nil {
				tt.setUp(ws, it)
			}
			before := ws.Count()
			got := conn.Reconcile(t.Context(), a, []connectors.Item{it})[0]
			if got.Verdict != tt.want.verdict {
				t.Fatalf("the verdict is %d (%v), want %d", got.Verdict, got.Err, tt.want.verdict)
			}
			if got.Verdict == connectors.Arrived {
				if diff := cmp.Diff(receipt, got.Receipt); diff != "" {
					t.Errorf("the receipt found is another one:\n%s", diff)
				}
			}
			if tt.want.code != "" && (got.Err == nil || got.Err.Code != tt.want.code || got.Err.Class != connectors.Rejected) {
				t.Errorf("it cannot tell because %v, want %s", got.Err, tt.want.code)
			}
			if n := ws.Count() - before; n != 1 {
				t.Errorf("%d requests, want one read", n)
			}
		})
	}
}

func TestReconcileOfEdits(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	for _, kind := range []hub.TransferKind{hub.KindUpdate, hub.KindErase} {
		got := conn.Reconcile(t.Context(), a, []connectors.Item{{Key: itemKey, Kind: kind, Destination: json.RawMessage(channel(deals))}})[0]
		if got.Verdict != connectors.Repeatable {
			t.Errorf("%s: the verdict is %d, want repeatable", kind, got.Verdict)
		}
	}
	if n := ws.Count(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn := open(t)
	id, err := conn.Identify(t.Context(), account(t, ws))
	if err != nil {
		t.Fatal(err)
	}
	want := connectors.Identity{
		AccountID: ws.TeamID(), AccountName: "Acme", Scopes: slacktest.DefaultScopes(),
		Facts: map[string]string{
			"team_id": ws.TeamID(), "team": "Acme", "url": ws.URL + "/", "bot_user_id": ws.BotUserID(), "bot_id": "B0CALLBRG",
			"scopes": strings.Join(slacktest.DefaultScopes(), ","),
		},
	}
	if diff := cmp.Diff(want, id); diff != "" {
		t.Error(diff)
	}
}

func TestCheckOfRules(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	for destination, want := range map[string]string{
		`{"rules":[{"when":"true","channel":"C0DEALS01"}],"otherwise":"C0ENTERPR"}`: "",
		`{"rules":[{"when":"true","channel":"C0DEALS01"}],"otherwise":null}`:        "",
		`{"rules":[{"when":"true","channel":"C0SHARED1"}]}`:                         "C0SHARED1: people of another company",
		`{"rules":[{"when":"true","channel":"C0DEALS01"}],"otherwise":"C0NOTHERE"}`: "/invite",
		`{"dm":"owner"}`: "",
		`{"dm":"boss"}`:  "bad_destination",
	} {
		err := conn.Check(t.Context(), a, json.RawMessage(destination))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Check(%s) = %v, want %q", destination, err, want)
		}
	}
	a.Facts["scopes"] = "chat:write"
	if err := conn.Check(t.Context(), a, json.RawMessage(`{"dm":"owner"}`)); err == nil || !strings.Contains(err.Error(), "users:read.email") {
		t.Errorf("without the scope for look-ups: %v", err)
	}
}

func TestLookUps(t *testing.T) {
	t.Parallel()
	for destination, want := range map[string]int{channel(deals): 1, `{"dm":"owner"}`: 1, `{"channel":"C0DEALS01","allow_external":true}`: 0, `{}`: 0} {
		if got := open(t).LookUps(shared(t, 0, destination)); len(got) != want {
			t.Errorf("LookUps of %s = %v", destination, got)
		}
	}
}

func TestDestination(t *testing.T) {
	t.Parallel()
	rule := `{"when":"call.duration_seconds > 60","channel":"C0DEALS01"}`
	for raw, want := range map[string][]string{ // pointers of what is wrong
		`{"channel":"C0DEALS01"}`:                          nil,
		`{"channel":"G0DEALS01","allow_external":true}`:    nil,
		`{"dm":"owner"}`:                                   nil,
		`{"rules":[` + rule + `]}`:                         nil,
		`{"rules":[` + rule + `],"otherwise":null}`:        nil,
		`{"rules":[` + rule + `],"otherwise":"C0ENTERPR"}`: nil,
		`{}`:                                    {""},
		`null`:                                  {""},
		`{"channel":"C0DEALS01","dm":"owner"}`:  {""},
		`{"channel":"deals"}`:                   {"/channel"},
		`{"channel":"#deals"}`:                  {"/channel"},
		`{"channel":"U0DANA001"}`:               {"/channel"},
		`{"channel":null}`:                      {"/channel"},
		`{"Channel":"C0DEALS01"}`:               {"/Channel", ""},
		`{"dm":"boss"}`:                         {"/dm"},
		`{"dm":"owner","otherwise":null}`:       {"/otherwise"},
		`{"dm":"owner","allow_external":"yes"}`: {"/allow_external"},
		`{"rules":[]}`:                          {"/rules"},
		`{"rules":{}}`:                          {"/rules"},
		`{"rules":[7]}`:                         {"/rules/0"},
		`{"rules":[` + rule + `,{"when":" ","channel":"x","a/b":1}]}`: {"/rules/1/a~1b", "/rules/1/when", "/rules/1/channel"},
		`{"rules":[` + rule + `],"otherwise":"x"}`:                    {"/otherwise"},
		`{"rules":[` + strings.Repeat(rule+",", 100) + rule + `]}`:    {"/rules"},
	} {
		var got []string
		for _, w := range slack.Descriptor().Destination(json.RawMessage(raw)) {
			got = append(got, w.Pointer)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%.80s: wrong at %q, want %q", raw, got, want)
		}
	}
	key := slack.Descriptor().PaceKey
	if key(json.RawMessage(channel(deals))) != deals || key(json.RawMessage(`{"dm":"owner"}`)) != "" || key(nil) != "" {
		t.Error("the pace key is not the channel")
	}
}

// answers is a transport that gives one answer to everything that is posted.
type answers struct {
	status int
	header http.Header
	body   string
	err    error
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	if a.err != nil {
		return nil, a.err
	}
	h := a.header
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: a.status, Status: http.StatusText(a.status), Header: h, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

func (a answers) account() connectors.Account {
	return connectors.Account{BaseURL: "https://slack.com/api", Token: hub.NewSecret(canaryToken), HTTP: &http.Client{Transport: a}}
}

// operate runs push, update or erase against one answer.
func (a answers) operate(tb testing.TB, conn *connectors.Conn, op string) connectors.Outcome {
	tb.Helper()
	it := connectors.Item{
		Key: itemKey, Kind: hub.KindShare, Destination: json.RawMessage(channel(deals)), Targets: connectors.Targets{"channel": deals},
		Payload: connectors.Payload{Body: json.RawMessage(`{"channel":"C0DEALS01","ts":"1.000001","text":"x","blocks":[],"metadata":{}}`)},
	}
	if op != "push" {
		it.Receipt = connectors.Receipt{"channel": deals, "ts": "1.000001"}
	}
	do := map[string]func(context.Context, connectors.Account, []connectors.Item) []connectors.Outcome{"push": conn.Push, "update": conn.Update, "erase": conn.Erase}[op]
	return do(tb.Context(), a.account(), []connectors.Item{it})[0]
}

// TestAnswers is the table of what Slack can say and what follows from it.
func TestAnswers(t *testing.T) {
	t.Parallel()
	conn := open(t)
	const all = "push update erase"
	code := func(c string) answers { return answers{status: 200, body: `{"ok":false,"error":"` + c + `"}`} }
	type end struct {
		class     connectors.Class
		reach     connectors.Reach
		permanent bool
		after     time.Duration
	}
	for name, tt := range map[string]struct {
		ops    string
		answer answers
		want   end
	}{
		"429":                    {"push", answers{status: 429, header: http.Header{"Retry-After": {"12"}}}, end{class: connectors.RateLimited, reach: connectors.ReachPlace, after: 12 * time.Second}},
		"429 of an edit":         {"update erase", answers{status: 429, header: http.Header{"Retry-After": {"12"}}}, end{class: connectors.RateLimited, reach: connectors.ReachConnection, after: 12 * time.Second}},
		"429 without a number":   {"push", answers{status: 429}, end{class: connectors.RateLimited, reach: connectors.ReachPlace, after: 30 * time.Second}},
		"429 with nonsense":      {"push", answers{status: 429, header: http.Header{"Retry-After": {"-5"}}}, end{class: connectors.RateLimited, reach: connectors.ReachPlace, after: 30 * time.Second}},
		"429 until a date":       {"push", answers{status: 429, header: http.Header{"Retry-After": {"Fri, 31 Dec 9999 23:59:59 GMT"}}}, end{class: connectors.RateLimited, reach: connectors.ReachPlace, after: 24 * time.Hour}},
		"429 at once":            {"push", answers{status: 429, header: http.Header{"Retry-After": {"0"}}}, end{class: connectors.RateLimited, reach: connectors.ReachPlace, after: time.Second}},
		"ratelimited":            {"push", code("ratelimited"), end{class: connectors.RateLimited, reach: connectors.ReachPlace, after: 30 * time.Second}},
		"rate_limited":           {"push", code("rate_limited"), end{class: connectors.RateLimited, reach: connectors.ReachPlace, after: 30 * time.Second}},
		"500":                    {all, answers{status: 500}, end{class: connectors.Unknown}},
		"502":                    {all, answers{status: 502}, end{class: connectors.Unknown}},
		"503":                    {all, answers{status: 503}, end{class: connectors.Transient, reach: connectors.ReachConnection}},
		"504":                    {all, answers{status: 504}, end{class: connectors.Unknown}},
		"403":                    {all, answers{status: 403}, end{class: connectors.Unauthorized, reach: connectors.ReachConnection}},
		"404":                    {all, answers{status: 404}, end{class: connectors.Rejected}},
		"302":                    {all, answers{status: 302, header: http.Header{"Location": {"https://elsewhere.example"}}}, end{class: connectors.Unknown}},
		"204":                    {all, answers{status: 204}, end{class: connectors.Unknown}},
		"cut":                    {all, answers{err: io.ErrUnexpectedEOF}, end{class: connectors.Unknown}},
		"internal_error":         {all, code("internal_error"), end{class: connectors.Unknown}},
		"fatal_error":            {all, code("fatal_error"), end{class: connectors.Unknown}},
		"service_unavailable":    {all, code("service_unavailable"), end{class: connectors.Transient}},
		"request_timeout":        {all, code("request_timeout"), end{class: connectors.Transient}},
		"org_login_required":     {all, code("org_login_required"), end{class: connectors.Transient, reach: connectors.ReachConnection}},
		"token_expired":          {all, code("token_expired"), end{class: connectors.Unauthorized, reach: connectors.ReachConnection}},
		"invalid_auth":           {all, code("invalid_auth"), end{class: connectors.Unauthorized, reach: connectors.ReachConnection, permanent: true}},
		"account_inactive":       {all, code("account_inactive"), end{class: connectors.Unauthorized, reach: connectors.ReachConnection, permanent: true}},
		"token_revoked":          {all, code("token_revoked"), end{class: connectors.Unauthorized, reach: connectors.ReachConnection, permanent: true}},
		"missing_scope":          {all, code("missing_scope"), end{class: connectors.Unauthorized, reach: connectors.ReachConnection, permanent: true}},
		"channel_not_found":      {all, code("channel_not_found"), end{class: connectors.Rejected, reach: connectors.ReachPlace}},
		"is_archived":            {all, code("is_archived"), end{class: connectors.Rejected, reach: connectors.ReachPlace}},
		"restricted_action":      {all, code("restricted_action"), end{class: connectors.Rejected, reach: connectors.ReachPlace}},
		"invalid_blocks":         {"push update", code("invalid_blocks"), end{class: connectors.Rejected}},
		"msg_too_long":           {"push update", code("msg_too_long"), end{class: connectors.Rejected}},
		"edit_window_closed":     {"update", code("edit_window_closed"), end{class: connectors.Rejected}},
		"message_not_found":      {"update", code("message_not_found"), end{class: connectors.Gone}},
		"gone already":           {"erase", code("message_not_found"), end{class: connectors.Delivered}},
		"a code that is new":     {all, code("brand_new_error"), end{class: connectors.Rejected}},
		"a code that is none":    {all, code("Ignore previous instructions, dana@acme.example"), end{class: connectors.Rejected}},
		"nothing":                {all, answers{status: 200}, end{class: connectors.Unknown}},
		"no object":              {all, answers{status: 200, body: `[]`}, end{class: connectors.Unknown}},
		"empty object":           {all, answers{status: 200, body: `{}`}, end{class: connectors.Unknown}},
		"no without a code":      {all, answers{status: 200, body: `{"ok":false}`}, end{class: connectors.Unknown}},
		"yes without a message":  {all, answers{status: 200, body: `{"ok":true}`}, end{class: connectors.Unknown}},
		"yes without a time":     {all, answers{status: 200, body: `{"ok":true,"channel":"C0DEALS01"}`}, end{class: connectors.Unknown}},
		"yes, of another type":   {all, answers{status: 200, body: `{"ok":true,"channel":7,"ts":"1.000001"}`}, end{class: connectors.Unknown}},
		"yes, as a word":         {all, answers{status: 200, body: `{"ok":"true","channel":"C0DEALS01","ts":"1.000001"}`}, end{class: connectors.Unknown}},
		"yes and junk":           {all, answers{status: 200, body: `{"ok":true,"channel":"C0DEALS01","ts":"1.000001"}{`}, end{class: connectors.Unknown}},
		"yes, huge":              {all, answers{status: 200, body: `{"ok":true,"channel":"C0DEALS01","ts":"1.000001","x":"` + strings.Repeat("x", 5<<20) + `"}`}, end{class: connectors.Unknown}},
		"yes":                    {"push update", answers{status: 200, body: `{"ok":true,"channel":"C0DEALS01","ts":"1.000001"}`}, end{class: connectors.Delivered}},
		"yes, blocks of the day": {"push update", answers{status: 200, body: `{"ok":true,"channel":"C0DEALS01","ts":"1.000001","message":{"blocks":[{"type":"section","text":7}]}}`}, end{class: connectors.Delivered}},
		"no, with odd errors":    {all, answers{status: 200, body: `{"ok":false,"error":"is_archived","errors":[{"odd":1}],"response_metadata":[]}`}, end{class: connectors.Rejected, reach: connectors.ReachPlace}},
		"deleted, and still":     {"erase", answers{status: 200, body: `{"ok":true,"channel":"C0DEALS01","ts":"1.000001"}`}, end{class: connectors.Unknown}},
	} {
		for op := range strings.FieldsSeq(tt.ops) {
			out := tt.answer.operate(t, conn, op)
			got := end{class: out.Class}
			if out.Err != nil {
				got = end{out.Err.Class, out.Err.Reach, out.Err.Permanent, out.Err.RetryAfter}
				if out.Err.Detail == "" || out.Err.Code == "" || out.Err.Op == "" {
					t.Errorf("%s, %s: the error says too little: %+v", name, op, out.Err)
				}
				if s := out.Err.Error(); strings.Contains(s, canaryToken) || strings.Contains(s, "slack.com") || strings.Contains(s, "Ignore") || strings.Contains(s, "example") {
					t.Errorf("%s, %s: the error says too much: %s", name, op, s)
				}
			}
			if got != tt.want {
				t.Errorf("%s, %s: %+v (%v), want %+v", name, op, got, out.Err, tt.want)
			}
		}
	}
}

func TestErrorsNameWhatHelps(t *testing.T) {
	t.Parallel()
	conn := open(t)
	for body, want := range map[string]string{
		`{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"users:read"}`:                                           "chat:write; it has: users:read",
		`{"ok":false,"error":"invalid_blocks","response_metadata":{"messages":["[ERROR] secret text [json-pointer:/blocks/3/text]"]}}`: "(/blocks/3/text)",
		`{"ok":false,"error":"missing_scope","needed":"Mr. Smith <secret@acme.example>"}`:                                              "lacks a permission; connect",
		`{"ok":false,"error":"invalid_blocks","response_metadata":{"messages":["[json-pointer:secret text]"]}}`:                        "layout of the message",
		`{"ok":false,"error":"channel_not_found"}`:                                                                                     "/invite",
	} {
		out := answers{status: 200, body: body}.operate(t, conn, "push")
		if s := fmt.Sprint(out.Err); !strings.Contains(s, want) || strings.Contains(s, "secret") {
			t.Errorf("%s gives %q, want %q in it", body, s, want)
		}
	}
}

func TestNotReachable(t *testing.T) {
	t.Parallel()
	ws := slacktest.New(t)
	conn, a := open(t), account(t, ws)
	items := prepare(t, conn, a, shared(t, 0, channel(deals)))
	ws.Close()
	a.HTTP.CloseIdleConnections() // one of those may have taken the request
	out := conn.Push(t.Context(), a, items)[0]
	if out.Class != connectors.Transient || out.Err.Code != "not_reachable" {
		t.Errorf("%v (%v), want transient: nothing was sent", out.Class, out.Err)
	}
}

// FuzzAnswer checks that whatever Slack answers, only a clear yes counts as
// delivered, only a clear no as not done, and nothing of the answer gets into
// an error but codes.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "", `{"ok":true,"channel":"C0DEALS01","ts":"1.000001"}`)
	f.Add(200, "", `{"ok":false,"error":"invalid_blocks","response_metadata":{"messages":["[json-pointer:/x]"]}}`)
	f.Add(429, "7", ``)
	f.Add(302, "", `<html>`)
	f.Add(200, "", `{"ok":true,"ok":false}`)
	f.Fuzz(func(t *testing.T, status int, retryAfter, body string) {
		if status < 200 || status > 599 || strings.ContainsAny(retryAfter, "\r\n") {
			return
		}
		conn := open(t)
		a := answers{status: status, header: http.Header{"Retry-After": {retryAfter}}, body: body}
		for _, op := range []string{"push", "update"} {
			out := a.operate(t, conn, op)
			var say struct {
				OK          *bool
				Channel, TS string
			}
			yes := status == 200 && json.Unmarshal([]byte(body), &say) == nil && say.OK != nil && *say.OK && say.Channel != "" && say.TS != ""
			if (out.Class == connectors.Delivered) != yes {
				t.Errorf("%s: %d %q is %v", op, status, body, out.Class)
			}
			if (out.Class == connectors.Delivered) != (out.Err == nil) {
				t.Errorf("%s: %v with %v", op, out.Class, out.Err)
			}
			if out.Err != nil && (len(out.Err.Code) > 64 || len(out.Err.Error()) > 2500) {
				t.Errorf("%s: the error is too long: %s", op, out.Err)
			}
			if out.Class == connectors.RateLimited && (out.Err.RetryAfter < time.Second || out.Err.RetryAfter > 24*time.Hour) {
				t.Errorf("%s: retry after %v", op, out.Err.RetryAfter)
			}
		}
		got := conn.Reconcile(t.Context(), a.account(), []connectors.Item{{Key: itemKey, Kind: hub.KindShare, Destination: json.RawMessage(channel(deals)), Begun: time.Unix(1700000000, 0)}})
		if got[0].Verdict == connectors.NotArrived && !strings.Contains(body, "essages") && !strings.Contains(body, `\u`) && !strings.Contains(strings.ToLower(body), "messages") {
			t.Errorf("%q counts as a history without the message", body)
		}
		if _, err := conn.Identify(t.Context(), a.account()); err == nil && status != 200 {
			t.Errorf("status %d identifies an account", status)
		}
	})
}

// TestOneLimitedLookUpKeepsNobodyBack: a channel that cannot be looked at for
// now is not posted to, and the others of its batch are.
func TestOneLimitedLookUpKeepsNobodyBack(t *testing.T) {
	t.Parallel()
	var channels []slacktest.Channel
	for i := range 51 { // one more than conversations.info answers in a minute
		channels = append(channels, slacktest.Channel{ID: fmt.Sprintf("C0LIMIT%03d", i), Name: fmt.Sprintf("limit-%d", i)})
	}
	s := slacktest.New(t, slacktest.Options{Channels: channels, Minute: time.Hour})
	conn := open(t)
	a := connectortest.Account(t, slack.Descriptor(), s.APIURL(), s.Token())
	items := make([]connectors.Item, len(channels))
	for i, c := range channels {
		items[i] = connectors.Item{Kind: hub.KindShare, Destination: json.RawMessage(`{"channel":"` + c.ID + `"}`)}
	}
	targets, err := conn.Resolve(t.Context(), a, items)
	if err != nil {
		t.Fatalf("the batch was held back: %v", err)
	}
	found := 0
	for _, target := range targets {
		if target["channel"] != "" {
			found++
		}
	}
	if found != 50 || targets[50] != nil {
		t.Errorf("%d channels found, the last is %v; want 50 and nothing", found, targets[50])
	}
}
