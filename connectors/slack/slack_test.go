package slack_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/connectortest"
	"github.com/optiwe/callbridge/connectors/slack"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/hub"
)

const deals = "C0DEALS01"

// canaryToken is a token of Slack's form that is easy to find wherever it
// leaks.
const canaryToken = "xoxb-1111-2222-canarytoken"

// TestConformance runs the suite of every connector: with the scopes that let
// the app read history, without them, and for direct messages.
func TestConformance(t *testing.T) {
	for _, tt := range []struct {
		name        string
		scopes      []string
		destination string
		reconciles  bool
	}{
		{"with history", slacktest.DefaultScopes(), `{"channel":"` + deals + `"}`, true},
		{"without history", neededScopes(), `{"channel":"` + deals + `"}`, false},
		{"direct message", slacktest.DefaultScopes(), `{"dm":"owner"}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			connectortest.Run(t, slack.Descriptor(), func(tb testing.TB) connectortest.Harness {
				return harness(tb, tt.scopes, tt.destination, tt.reconciles)
			})
		})
	}
}

func neededScopes() []string { return slack.Descriptor().OAuth.Scopes }

func harness(tb testing.TB, scopes []string, destination string, reconciles bool) connectortest.Harness {
	tb.Helper()
	ws := slacktest.New(tb, slacktest.Options{Token: canaryToken, Scopes: scopes})
	ws.AddUser(slacktest.User{ID: "U0OWNER01", Name: "owner", RealName: "Dana", Email: "cnryowner@acme.example"})
	return connectortest.Harness{
		Account:      account(tb, ws),
		Destination:  []byte(destination),
		Inject:       func(f connectortest.Fault, n int) { ws.Inject(slacktest.Fault(f), n) },
		Copies:       func() map[string][]connectortest.Copy { return copies(ws) },
		Requests:     func() int { return ws.Count() },
		CanReconcile: reconciles,
	}
}

// account returns an account at the workspace with the facts that Identify
// would have found.
func account(tb testing.TB, ws *slacktest.Server) connectors.Account {
	tb.Helper()
	a := connectortest.Account(tb, slack.Descriptor(), ws.APIURL(), ws.Token())
	a.Facts = map[string]string{"team_id": ws.TeamID(), "url": ws.URL + "/", "bot_user_id": ws.BotUserID()}
	return a
}

// copies returns the messages now in the workspace, by the key in their
// metadata.
func copies(ws *slacktest.Server) map[string][]connectortest.Copy {
	out := map[string][]connectortest.Copy{}
	for _, m := range ws.All() {
		if key := m.Key(); key != "" && !m.Deleted {
			out[key] = append(out[key], connectortest.Copy{Text: m.Visible(), Revision: 1 + len(m.Edits)})
		}
	}
	return out
}

// send does with one item what the hub does with a batch.
func send(tb testing.TB, conn *connectors.Conn, a connectors.Account, it connectors.Item) connectors.Outcome {
	tb.Helper()
	found, err := conn.Resolve(tb.Context(), a, []connectors.Item{it})
	if err != nil {
		tb.Fatal(err)
	}
	it.Targets = found[0]
	if it.Payload, err = conn.Render(it); err != nil {
		tb.Fatal(err)
	}
	if it.Kind == hub.KindUpdate {
		return conn.Update(tb.Context(), a, []connectors.Item{it})[0]
	}
	return conn.Push(tb.Context(), a, []connectors.Item{it})[0]
}

// get returns the body at an address.
func get(tb testing.TB, address string) string {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, address, nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return string(body)
}
