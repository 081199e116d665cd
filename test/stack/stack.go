// Package stack builds the whole service but for HTTP, for tests: store, vault,
// connectors, intake, lanes and admin, over an embedded Redis or a real one, with
// the fakes of the providers at hand.
package stack

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/outbound"
	"github.com/optiwe/callbridge/connectors/salesforce"
	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/connectors/slack"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/connectors/webhook"
	"github.com/optiwe/callbridge/connectors/webhook/webhooktest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/delivery"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/seal"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Terms is the version of the terms in force.
const Terms = "2020-05-01"

// Options configure a Stack. The zero value of every field is usable.
type Options struct {
	Redis       string // address; "" embeds one
	Logger      *slog.Logger
	Slack       slacktest.Options
	Salesforce  salesforcetest.Options
	PostPace    time.Duration // between two Slack messages in one channel; 0: none
	Lease       time.Duration
	PushTimeout time.Duration
	Hold        bool // do not start the lanes
}

// Stack is the service in one process. Its fields are for tests to reach into.
type Stack struct {
	Store      *store.Store
	Sealer     *seal.Sealer
	Cache      *directory.Cache
	Registry   *connectors.Registry
	Vault      *vault.Vault
	Accounts   *delivery.Accounts
	Delivery   *delivery.Delivery
	Intake     *intake.Intake
	Admin      *admin.Service
	Mini       *miniredis.Miniredis // nil with a real Redis
	Slack      *slacktest.Server
	Salesforce *salesforcetest.Server
	Webhook    *webhooktest.Server

	Org   hub.OrgID
	Actor admin.Principal
}

// New builds a stack with one org and nothing connected, and takes it down when
// tb ends.
func New(tb testing.TB, o Options) *Stack {
	tb.Helper()
	s := &Stack{
		Slack: slacktest.New(tb, o.Slack), Salesforce: salesforcetest.New(tb, o.Salesforce),
		Webhook: webhooktest.New(tb, webhooktest.Options{}),
	}
	if o.Redis == "" {
		s.Mini = miniredis.RunT(tb)
		o.Redis = "redis://" + s.Mini.Addr()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(logWriter{tb}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s.build(tb, o)
	created, err := s.Admin.CreateOrg(tb.Context(), "Acme", "", "", "", "operator")
	if err != nil {
		tb.Fatalf("make an org: %v", err)
	}
	s.Org = created.ID
	s.Actor = admin.Principal{Org: s.Org, Role: hub.RoleAdmin, Actor: "key:test"}
	if !o.Hold {
		s.Delivery.Start(context.WithoutCancel(tb.Context()))
	}
	return s
}

// logWriter writes log lines to the test's log.
type logWriter struct{ tb testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.tb.Logf("%s", b)
	return len(b), nil
}

func (s *Stack) build(tb testing.TB, o Options) {
	tb.Helper()
	fatal := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatalf("build the stack: %v", err)
		}
	}
	keyset, err := seal.NewKeyset()
	fatal(err)
	path := filepath.Join(tb.TempDir(), "keyset.json")
	fatal(os.WriteFile(path, keyset, 0o600))
	kek, err := seal.Open("file:" + path)
	fatal(err)
	s.Sealer, err = seal.New(seal.Config{KEK: kek})
	fatal(err)
	rdb, err := store.Dial(o.Redis)
	fatal(err)
	s.Store, err = store.New(store.Config{Redis: rdb, Keys: s.Sealer})
	fatal(err)
	tb.Cleanup(func() { _ = s.Store.Close() })
	s.Cache = directory.NewCache(s.Store, 1000)
	paced := slack.Descriptor()
	if paced.PaceInterval = o.PostPace; o.PostPace == 0 {
		paced.PaceKey = nil
	}
	s.Registry, err = connectors.NewRegistry([]connectors.Descriptor{salesforce.Descriptor(), paced, webhook.Descriptor()}, nil)
	fatal(err)
	private := []string{host(s.Slack.URL), host(s.Salesforce.URL), s.Webhook.Host()}
	transport, err := outbound.NewTransport(outbound.Config{AllowPrivate: private})
	fatal(err)
	tb.Cleanup(transport.CloseIdleConnections)
	client := func(base *url.URL) *http.Client { return transport.For(base, outbound.Options{}) }
	id, secret := s.Salesforce.ClientCredentials()
	sf, err := oauth.NewSalesforce(oauth.SalesforceConfig{
		ClientID: id, ClientSecret: hub.NewSecret(secret), LoginURL: s.Salesforce.URL, Client: client,
		CheckURL: func(raw string) (*url.URL, error) {
			return outbound.CheckBaseURL(raw, salesforce.Descriptor().HostSuffix, private)
		},
	})
	fatal(err)
	sl, err := oauth.NewSlack(oauth.SlackConfig{
		ClientID: "1234.5678", ClientSecret: hub.NewSecret("fake-client-secret"), APIURL: s.Slack.APIURL() + "/", Client: client,
	})
	fatal(err)
	s.Vault, err = vault.New(vault.Config{
		Store: s.Store.Tokens("hub"), Keys: s.Store.Keys, Logger: o.Logger,
		Refreshers: map[string]oauth.Refresher{"salesforce": sf, "slack": sl},
	})
	fatal(err)
	s.Accounts = &delivery.Accounts{
		Vault: s.Vault, Transport: transport, Cache: outbound.NewCache(10_000), Store: s.Store, Connectors: s.Registry,
		AllowPrivate: private, Logger: o.Logger,
	}
	s.Delivery = delivery.New(delivery.Config{
		Store: s.Store, Cache: s.Cache, Connectors: s.Registry, Accounts: s.Accounts, Logger: o.Logger, Terms: Terms,
		Lease: o.Lease, PushTimeout: o.PushTimeout, Idle: 50 * time.Millisecond,
	})
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Delivery.Close(ctx); err != nil {
			tb.Errorf("stop the lanes: %v", err)
		}
		if err := s.Vault.Close(ctx); err != nil {
			tb.Errorf("close the vault: %v", err)
		}
	})
	s.Intake = intake.New(intake.Config{
		Store: s.Store, Cache: s.Cache, Connectors: s.Registry, Terms: Terms, Wake: s.Delivery.Wake,
	})
	s.Admin = admin.New(admin.Config{
		Store: s.Store, Cache: s.Cache, Connectors: s.Registry, Accounts: s.Accounts, Vault: s.Vault, Terms: Terms,
		Region: "us", AllowPrivate: private, SlackAPIURL: s.Slack.APIURL() + "/", SalesforceLoginURL: s.Salesforce.URL,
		Wake: s.Delivery.Wake, Logger: o.Logger,
	})
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// ConnectSalesforce connects the fake org.
func (s *Stack) ConnectSalesforce(tb testing.TB) hub.ConnectionID {
	tb.Helper()
	return s.connect(tb, admin.Import{
		Provider: "salesforce", InstanceURL: s.Salesforce.URL,
		AccessToken: hub.NewSecret(s.Salesforce.AccessToken()), RefreshToken: hub.NewSecret(s.Salesforce.RefreshToken()),
	})
}

// ConnectSlack connects the fake workspace.
func (s *Stack) ConnectSlack(tb testing.TB) hub.ConnectionID {
	tb.Helper()
	return s.connect(tb, admin.Import{Provider: "slack", AccessToken: hub.NewSecret(s.Slack.Token()), TeamID: s.Slack.TeamID()})
}

// ConnectWebhook connects the fake receiver.
func (s *Stack) ConnectWebhook(tb testing.TB) hub.ConnectionID {
	tb.Helper()
	return s.connect(tb, admin.Import{Provider: "webhook", URL: s.Webhook.URL, Secret: hub.NewSecret(s.Webhook.Secret())})
}

func (s *Stack) connect(tb testing.TB, in admin.Import) hub.ConnectionID {
	tb.Helper()
	c, err := s.Admin.ImportConnection(tb.Context(), s.Actor, in)
	if err != nil {
		tb.Fatalf("connect %s: %v", in.Provider, err)
	}
	return c.ID
}

// Everything is all fields that most tests release.
func Everything() []consent.Field {
	return []consent.Field{
		"title", "time", "direction", "medium", "url", "owner", "account", "summary", "key_points", "next_steps", "topics",
		"risks", "participants.names", "participants.titles", "matching.emails", "matching.phones", "disposition",
	}
}

// Integrate makes an integration of all calls to the destination, and enables
// it.
func (s *Stack) Integrate(tb testing.TB, conn hub.ConnectionID, destination string, fields ...consent.Field) hub.IntegrationID {
	tb.Helper()
	if len(fields) == 0 {
		fields = Everything()
	}
	i, err := s.Admin.CreateIntegration(tb.Context(), s.Actor, admin.NewIntegration{
		Name: "test", Terms: consent.Terms{Connection: conn, Fields: fields, Destination: json.RawMessage(destination)},
	})
	if err != nil {
		tb.Fatalf("make an integration: %v", err)
	}
	s.Enable(tb, i.ID)
	return i.ID
}

// Enable enables an integration.
func (s *Stack) Enable(tb testing.TB, id hub.IntegrationID) consent.Grant {
	tb.Helper()
	g, err := s.Admin.EnableIntegration(tb.Context(), s.Actor, id, Terms)
	if err != nil {
		tb.Fatalf("enable: %v", err)
	}
	return g
}

// Answer is what intake says of a call.
type Answer struct {
	CallID   hub.CallID           `json:"call_id"`
	Revision int                  `json:"revision"`
	Status   string               `json:"status"`
	Shares   []intake.ShareAnswer `json:"shares"`
}

// Post accepts a call.
func (s *Stack) Post(tb testing.TB, call hub.Call) Answer {
	tb.Helper()
	raw, err := s.Intake.Accept(tb.Context(), s.Org, intake.Request{Actor: "key:test", Call: call})
	if err != nil {
		tb.Fatalf("accept: %v", err)
	}
	var a Answer
	if err := json.Unmarshal(raw, &a); err != nil {
		tb.Fatalf("accept: %v", err)
	}
	return a
}

// Transfer returns a transfer as it stands.
func (s *Stack) Transfer(tb testing.TB, id hub.TransferID) store.Transfer {
	tb.Helper()
	t, err := s.Store.Transfer(tb.Context(), s.Org, id)
	if err != nil {
		tb.Fatalf("transfer: %v", err)
	}
	return t
}

// Await waits until the transfer is in one of the states, or fails after 20 s.
func (s *Stack) Await(tb testing.TB, id hub.TransferID, states ...hub.TransferState) store.Transfer {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		t := s.Transfer(tb, id)
		if slices.Contains(states, t.State) {
			return t
		}
		if time.Now().After(deadline) {
			tb.Fatalf("transfer %s is %s (%s %s %s), want one of %v", id, t.State, t.Reason, t.ErrCode, t.ErrDetail, states)
		}
		<-time.After(5 * time.Millisecond)
	}
}
