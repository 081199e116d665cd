package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/directory"
)

type connection struct {
	ID          hub.ConnectionID `json:"id" doc:"The connection."`
	Provider    string           `json:"provider" doc:"Whose account it is."`
	AccountName string           `json:"account_name" doc:"What people call it: the name it was given, or the provider's."`
	AccountID   *string          `json:"account_id" doc:"The provider's id of the account, where known."`
	Host        string           `json:"host" doc:"Scheme and host of its address. The rest of a webhook's address may be a secret, and is not shown."`
	State       string           `json:"state" enum:"connected,needs_reauth,paused,disconnected" doc:"connected: it works. needs_reauth: the provider refuses our token, and an admin must connect again; what waits is held. paused: nothing is sent. disconnected: for good."`
	Cause       *string          `json:"cause" doc:"Why it is not connected: a code."`
	Scopes      scopes           `json:"scopes" doc:"What the token permits."`
	LastSuccess *time.Time       `json:"last_success" doc:"When the provider last took something."`
	LastError   *connectionError `json:"last_error" doc:"How a request to the provider last failed."`
	APIBudget   *apiBudget       `json:"api_budget" doc:"The provider's daily API allowance, where it tells."`
	CreatedAt   *time.Time       `json:"created_at" doc:"When it was made."`
	CreatedBy   string           `json:"created_by" doc:"Who made it."`
}

// TransformSchema implements [huma.SchemaTransformer].
func (connection) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return orNull(s, "last_error", "api_budget")
}

type scopes struct {
	Held    []string `json:"held" nullable:"false" doc:"Those the token has, where the provider tells."`
	Needed  []string `json:"needed" nullable:"false" doc:"Those we need."`
	Missing []string `json:"missing" nullable:"false" doc:"Needed and not held. Empty while those held are not known."`
	Surplus []string `json:"surplus" nullable:"false" doc:"Held and not needed: better taken away."`
}

type connectionError struct {
	Code   string     `json:"code" doc:"The provider's own code, or ours."`
	Detail string     `json:"detail" doc:"A sentence."`
	At     *time.Time `json:"at" doc:"When."`
}

type apiBudget struct {
	Used  int        `json:"used" doc:"Requests used in the last 24 hours, by everybody."`
	Limit int        `json:"limit" doc:"Requests allowed in 24 hours."`
	At    *time.Time `json:"at" doc:"When the provider said so."`
}

func (a *API) viewConnection(c *directory.Connection) connection {
	h := c.Health
	v := connection{
		ID: c.ID, Provider: c.Provider, AccountName: c.AccountName, AccountID: textOrNull(c.AccountID), Host: schemeAndHost(c.BaseURL),
		State: string(c.State), Cause: textOrNull(c.Cause), Scopes: scopesOf(c.Scopes, a.cfg.Admin.ScopesNeeded(c.Provider)),
		LastSuccess: timeOrNull(h.LastSuccess), CreatedAt: timeOrNull(c.CreatedAt), CreatedBy: c.CreatedBy,
	}
	if !h.LastError.IsZero() {
		v.LastError = &connectionError{Code: h.ErrorCode, Detail: h.ErrorDetail, At: timeOrNull(h.LastError)}
	}
	if h.Budget.Limit > 0 {
		v.APIBudget = &apiBudget{Used: h.Budget.Used, Limit: h.Budget.Limit, At: timeOrNull(h.BudgetAt)}
	}
	return v
}

func schemeAndHost(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func scopesOf(held, needed []string) scopes {
	s := scopes{Held: orEmpty(held), Needed: orEmpty(needed), Missing: []string{}, Surplus: []string{}}
	if len(held) == 0 {
		return s
	}
	for _, n := range needed {
		if !slices.Contains(held, n) {
			s.Missing = append(s.Missing, n)
		}
	}
	for _, h := range held {
		if !slices.Contains(needed, h) {
			s.Surplus = append(s.Surplus, h)
		}
	}
	return s
}

// secretText is a secret in a request body.
type secretText struct{ hub.Secret }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *secretText) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errNoText
	}
	s.Secret = hub.NewSecret(text)
	return nil
}

// newConnection is the body that imports an account. Which members it has
// depends on the provider; see importSchema.
type newConnection struct {
	Provider     string     `json:"provider"`
	AccountName  string     `json:"account_name"`
	InstanceURL  string     `json:"instance_url"`
	AccessToken  secretText `json:"access_token"`
	RefreshToken secretText `json:"refresh_token"`
	ExpiresIn    int        `json:"expires_in"`
	TeamID       string     `json:"team_id"`
	URL          string     `json:"url"`
	Secret       secretText `json:"secret"`
}

// importSchema is the schema of the body for every connector of this instance,
// told apart by provider.
func importSchema(r huma.Registry, providers []connectors.Descriptor) *huma.Schema {
	union := &huma.Schema{
		Description:   "An account with tokens that were made elsewhere. The provider decides which members there are.",
		Discriminator: &huma.Discriminator{PropertyName: "provider", Mapping: map[string]string{}},
	}
	for _, d := range providers {
		name := "Import" + strings.ToUpper(d.Name[:1]) + d.Name[1:]
		s := importOf(d)
		s.PrecomputeMessages()
		r.Map()[name] = s
		ref := "#/components/schemas/" + name
		union.OneOf = append(union.OneOf, &huma.Schema{Ref: ref})
		union.Discriminator.Mapping[d.Name] = ref
	}
	return union
}

func importOf(d connectors.Descriptor) *huma.Schema {
	text := func(most int, text string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: &most, Description: text}
	}
	secret := func(text string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(16 << 10), WriteOnly: true, Description: text}
	}
	maybe := func(s *huma.Schema) *huma.Schema {
		s.Nullable, s.MinLength = true, nil
		return s
	}
	s := &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"provider"},
		Description: d.Title + ": " + d.Summary + ".",
		Properties: map[string]*huma.Schema{
			"provider":     {Type: huma.TypeString, Enum: []any{d.Name}, Description: "Always " + d.Name + "."},
			"account_name": maybe(text(200, "What people call it. Left out: what the provider says.")),
		},
	}
	must := func(name string, p *huma.Schema) {
		s.Properties[name] = p
		s.Required = append(s.Required, name)
	}
	if d.OAuth == nil {
		must("url", text(hub.MaxURL, "The whole address that requests are sent to. https, and a public host."))
		must("secret", secret("The secret that requests are signed with."))
		return s
	}
	must("access_token", secret("An access token. Never given back."))
	s.Properties["refresh_token"] = maybe(secret("Its refresh token. We refresh from now on: nobody else must use it."))
	switch d.Name {
	case "salesforce":
		must("instance_url", text(hub.MaxURL, "The org's address, such as https://acme.my.salesforce.com."))
	case "slack":
		s.Properties["expires_in"] = &huma.Schema{Type: huma.TypeInteger, Nullable: true, Minimum: new(0.0), Maximum: new(315_360_000.0), Description: "In how many seconds the access token expires; 0 or left out: never."}
		s.Properties["team_id"] = maybe(text(64, "The workspace, to make sure that the token is of that one."))
	default:
		must("url", text(hub.MaxURL, "The address of the provider's API."))
	}
	return s
}

const connectionExample = `{"id":"con_7wlxk4d6jtb2ho5neaq3v5zr2m","provider":"slack","account_name":"Acme","account_id":"T024BE7LD","host":"https://slack.com","state":"connected","cause":null,` +
	`"scopes":{"held":["chat:write","channels:read"],"needed":["chat:write","channels:read"],"missing":[],"surplus":[]},` +
	`"last_success":"2026-11-21T00:02:11.902Z","last_error":null,"api_budget":null,"created_at":"2026-11-20T09:00:00Z","created_by":"key:b5rj7tq2l4x6"}`

type connectionID struct {
	ID string `path:"id" doc:"The connection's id." example:"con_7wlxk4d6jtb2ho5neaq3v5zr2m"`
}

func (a *API) registerConnections() {
	schemas := a.huma.OpenAPI().Components.Schemas
	handleBody(a, op{
		pattern: "POST /v1/connections", id: "importConnection", tag: tagConnections, summary: "Connect an account with existing tokens", status: http.StatusCreated,
		text: "The provider is asked whose account it is. An account that is connected already keeps its id, gets the new tokens and sends what was held. " +
			"Tokens are sealed at once, and no call ever gives them back.",
		schema:  importSchema(schemas, a.cfg.Admin.Providers()),
		request: example(`{"provider":"webhook","url":"https://hooks.acme.example/calls","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`),
		answer:  example(connectionExample),
	}, a.importConnection)
	handle(a, op{
		pattern: "GET /v1/connections", id: "listConnections", tag: tagConnections, summary: "List connections",
		text: "Oldest first, with their health.", answer: example(`{"items":[` + connectionExample + `],"next_cursor":null}`),
	}, func(ctx context.Context, who admin.Principal, p *Page) (list[connection], error) {
		all, err := a.cfg.Admin.Connections(ctx, who.Org)
		if err != nil {
			return list[connection]{}, err
		}
		return cut(*p, all, func(c *directory.Connection) string { return string(c.ID) }, a.viewConnection)
	})
	handle(a, op{
		pattern: "GET /v1/connections/{id}", id: "getConnection", tag: tagConnections, summary: "Look at a connection",
		text: "How it is: its state, what the token permits, when it last worked, and how much of the API allowance is used.", answer: example(connectionExample),
	}, func(ctx context.Context, who admin.Principal, p *connectionID) (connection, error) {
		c, err := a.cfg.Admin.Connection(ctx, who.Org, hub.ConnectionID(p.ID))
		if err != nil {
			return connection{}, err
		}
		return a.viewConnection(c), nil
	})
	handleEmpty(a, op{
		pattern: "DELETE /v1/connections/{id}", id: "deleteConnection", tag: tagConnections, summary: "Disconnect an account",
		text: "Nothing is sent from now on. The provider is made to forget our token first; where it cannot be reached the connection is paused, and the answer is 502: delete it again. " +
			"What waits is withdrawn. Copies that live there stay in the register.",
	}, func(ctx context.Context, who admin.Principal, p *connectionID) error {
		return a.cfg.Admin.DeleteConnection(ctx, who, hub.ConnectionID(p.ID))
	})
}

func (a *API) importConnection(ctx context.Context, who admin.Principal, _ *none, b *newConnection) (connection, error) {
	c, err := a.cfg.Admin.ImportConnection(ctx, who, admin.Import{
		Provider: b.Provider, Name: strings.TrimSpace(b.AccountName), InstanceURL: b.InstanceURL, AccessToken: b.AccessToken.Secret,
		RefreshToken: b.RefreshToken.Secret, ExpiresIn: time.Duration(b.ExpiresIn) * time.Second, TeamID: b.TeamID,
		URL: b.URL, Secret: b.Secret.Secret,
	})
	if err != nil {
		return connection{}, err
	}
	return a.viewConnection(c), nil
}

// Schema implements [huma.SchemaProvider].
func (secretText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, WriteOnly: true}
}
