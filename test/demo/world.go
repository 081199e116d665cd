package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/connectors/slack/slacktest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/samples"
)

// startProviders starts the simulated Salesforce org and Slack workspace of the
// fictional company Acme.
func (d *demo) startProviders() error {
	var err error
	if d.crm, err = salesforcetest.Start(salesforcetest.Options{}); err != nil {
		return fmt.Errorf("demo: simulated salesforce: %w", err)
	}
	d.onClose(func() error { d.crm.Close(); return nil })
	if err := fillCRM(d.crm); err != nil {
		return err
	}
	w, err := samples.LoadWorkspace()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	o := slacktest.Options{TeamName: "Acme"}
	for _, u := range w.Users {
		o.Users = append(o.Users, slacktest.User{
			ID: u.ID, Name: u.Name, RealName: u.RealName, Title: u.Title, Email: u.Email, Guest: u.Guest, Deleted: u.Deleted,
		})
	}
	for _, c := range w.Channels {
		o.Channels = append(o.Channels, slacktest.Channel{
			ID: c.ID, Name: c.Name, Topic: c.Topic, Private: c.Private, ExtShared: c.ExtShared, Members: c.Members,
		})
	}
	for i := range d.extraChannels() {
		o.Channels = append(o.Channels, slacktest.Channel{ID: extraChannel(i), Name: fmt.Sprintf("calls-%02d", i)})
	}
	if d.slack, err = slacktest.Start(o); err != nil {
		return fmt.Errorf("demo: simulated slack: %w", err)
	}
	d.onClose(func() error { d.slack.Close(); return nil })
	return nil
}

// Generated calls are spread over some channels, because Slack takes one message
// a second in each: by the last two digits of their ids. More channels would not
// be faster: Slack answers some fifty questions about channels in a minute.
const mostExtraChannels = 25

func (d *demo) extraChannels() int {
	if d.o.Calls == 0 {
		return 0
	}
	return mostExtraChannels
}

func extraChannel(i int) string { return fmt.Sprintf("C0CALLS%04d", i) }

func fillCRM(s *salesforcetest.Server) error {
	crm, err := samples.LoadCRM()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	for _, u := range crm.Users {
		id := s.AddUser(u.Name, u.Email)
		if !u.Active {
			s.Deactivate(id)
		}
	}
	accounts := map[string]string{}
	for _, a := range crm.Accounts {
		accounts[a.Name] = s.AddAccount(a.Name, a.Website)
	}
	person := func(p samples.CRMPerson) salesforcetest.Person {
		return salesforcetest.Person{
			First: p.First, Last: p.Last, Title: p.Title, Email: p.Email, Phone: p.Phone, Mobile: p.Mobile,
			Company: p.Company, Account: accounts[p.Account],
		}
	}
	for _, c := range crm.Contacts {
		s.AddContact(person(c))
	}
	for _, l := range crm.Leads {
		s.AddLead(person(l))
	}
	for _, o := range crm.Opportunities {
		s.AddOpportunity(o.Name, accounts[o.Account], o.Stage, o.CloseDate)
	}
	return nil
}

// The channels of the sample workspace that cards go to.
const (
	salesChannel = "C0SALESCALL"
	dealsChannel = "C0ENTERPRIS"
)

const worthSharing = "call.duration_seconds >= 60 && call.direction != \"internal\""

// setUp makes the org, connects both accounts and enables both integrations,
// all through the API as an admin would.
func (d *demo) setUp(ctx context.Context) error {
	var err error
	if d.org, err = d.srv.Admin().CreateOrg(ctx, "Acme", "acme", "", "", "operator"); err != nil {
		return fmt.Errorf("demo: make the org: %w", err)
	}
	d.api = &client{base: "http://" + d.srv.Addr(), key: d.org.Key}
	crm, err := d.connect(ctx, map[string]any{
		"provider": "salesforce", "instance_url": d.crm.URL,
		"access_token": d.crm.AccessToken(), "refresh_token": d.crm.RefreshToken(),
	})
	if err != nil {
		return err
	}
	chat, err := d.connect(ctx, map[string]any{"provider": "slack", "access_token": d.slack.Token(), "team_id": d.slack.TeamID()})
	if err != nil {
		return err
	}
	d.s.line("Connected: the simulated Salesforce org and the simulated Slack workspace of Acme.")
	content := []string{
		"title", "time", "direction", "medium", "url", "owner", "account", "summary", "next_steps", "topics", "risks",
		"participants.names", "participants.titles",
	}
	d.salesforce, err = d.enable(ctx, map[string]any{
		"connection_id": crm, "name": "Calls to Salesforce", "when": worthSharing,
		"fields":      append([]string{"disposition", "matching.emails", "matching.phones"}, content...),
		"destination": map[string]any{"object": "Task", "external_id_field": salesforcetest.ExternalIDField},
	})
	if err != nil {
		return err
	}
	d.slackIntegration, err = d.enable(ctx, map[string]any{
		"connection_id": chat, "name": "Calls to Slack", "when": worthSharing, "fields": content, "destination": d.routes(),
	})
	if err != nil {
		return err
	}
	d.s.line("Enabled by an admin: both integrations, for calls of at least a minute that are not internal.")
	return nil
}

func (d *demo) routes() map[string]any {
	rules := []map[string]any{{"when": `"enterprise" in call.tags`, "channel": dealsChannel}}
	if n := d.extraChannels(); n > 0 {
		rules = nil
		for i := range n {
			var ends []string
			for n := i; n < 100; n += mostExtraChannels {
				ends = append(ends, fmt.Sprintf("call.id.endsWith(\"%02d\")", n))
			}
			rules = append(rules, map[string]any{"when": strings.Join(ends, " || "), "channel": extraChannel(i)})
		}
	}
	return map[string]any{"rules": rules, "otherwise": salesChannel}
}

func (d *demo) connect(ctx context.Context, body any) (hub.ConnectionID, error) {
	var out struct {
		ID hub.ConnectionID `json:"id"`
	}
	err := d.api.do(ctx, "POST", "/v1/connections", body, &out)
	return out.ID, err
}

func (d *demo) enable(ctx context.Context, body any) (hub.IntegrationID, error) {
	var out struct {
		ID hub.IntegrationID `json:"id"`
	}
	if err := d.api.do(ctx, "POST", "/v1/integrations", body, &out); err != nil {
		return "", err
	}
	accept := map[string]any{"accepted_terms": d.srv.Admin().Terms()}
	err := d.api.do(ctx, "POST", "/v1/integrations/"+string(out.ID)+"/enable", accept, &json.RawMessage{})
	return out.ID, err
}
