package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/mappings"
)

var errNoText = errors.New("must be a string") // of secrets and members of patches

// rawObject is an object whose members a connector knows.
type rawObject json.RawMessage

// Schema implements [huma.SchemaProvider].
func (rawObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// MarshalJSON implements [json.Marshaler].
func (o rawObject) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("{}"), nil
	}
	return o, nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (o *rawObject) UnmarshalJSON(b []byte) error {
	*o = rawObject(append([]byte(nil), b...))
	return nil
}

// source is a mapping.
type source mappings.Source

// Schema implements [huma.SchemaProvider].
func (source) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: &huma.Schema{
		Description: "The name of a released field, a CEL expression over release, a number, true, false, or null to leave the field empty.",
	}}
}

// Terms is what an integration permits, for answers.
type Terms struct {
	ConnectionID     hub.ConnectionID `json:"connection_id" doc:"The account that it goes to."`
	Fields           []string         `json:"fields" nullable:"false" doc:"The names of the fields that may leave; see GET /v1/fields."`
	When             string           `json:"when" doc:"A CEL expression over call and org; empty: every call."`
	Destination      rawObject        `json:"destination" doc:"Where it goes."`
	Mapping          source           `json:"mapping" doc:"What goes into the destination's fields, beside the defaults."`
	ExpiresAfterDays *int             `json:"expires_after_days" doc:"After how many days copies are removed; null: they stay."`
}

func viewTerms(t consent.Terms) Terms {
	v := Terms{
		ConnectionID: t.Connection, Fields: []string{}, When: t.When, Destination: rawObject(directory.RawDestination(t)),
		Mapping: source(t.Mapping), ExpiresAfterDays: numberOrNull(t.ExpiresAfterDays),
	}
	for _, f := range t.Fields {
		v.Fields = append(v.Fields, string(f))
	}
	if v.Mapping == nil {
		v.Mapping = source{}
	}
	return v
}

type integration struct {
	ID       hub.IntegrationID `json:"id" doc:"The integration."`
	Name     string            `json:"name" doc:"What people call it."`
	Provider string            `json:"provider" doc:"Where it sends to."`
	State    string            `json:"state" enum:"enabled,disabled" doc:"Whether calls are shared by it."`
	Enabled  bool              `json:"enabled" doc:"The same."`
	Grant    *int              `json:"grant" doc:"The number of the grant in force or, while it is disabled, of the last one; null before it was ever enabled."`
	Terms
	Draft     *draft     `json:"draft" doc:"What waits for an admin to accept it by enabling; null if nothing does."`
	CreatedAt *time.Time `json:"created_at" doc:"When it was made."`
	CreatedBy string     `json:"created_by" doc:"Who made it."`
}

// TransformSchema implements [huma.SchemaTransformer].
func (integration) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return orNull(s, "draft")
}

type draft struct {
	Terms
	Widens  bool     `json:"widens" doc:"Whether more, or something else, could leave than by the grant."`
	Changes []change `json:"changes" nullable:"false" doc:"What differs from the grant."`
}

type change struct {
	Kind   string  `json:"kind" enum:"field_added,field_removed,condition_narrowed,condition_changed,destination_changed,connection_changed,mapping_changed,expiry_shortened,expiry_extended" doc:"What kind of change it is."`
	Field  *string `json:"field" doc:"With field_added and field_removed: which."`
	Widens bool    `json:"widens" doc:"Whether it needs an admin's acceptance."`
	Text   string  `json:"text" doc:"The change, for people."`
}

func viewIntegration(snap *directory.Snapshot, i *directory.Integration, lang string) integration {
	v := integration{
		ID: i.ID, Name: i.Name, State: "disabled", Enabled: i.Enabled, Grant: numberOrNull(i.Current), Terms: viewTerms(i.Terms()),
		CreatedAt: timeOrNull(i.CreatedAt), CreatedBy: i.CreatedBy,
	}
	if i.Enabled {
		v.State = "enabled"
	}
	if c, ok := snap.Connections[i.Terms().Connection]; ok {
		v.Provider = c.Provider
	}
	if i.Draft != nil {
		v.Draft = viewDraft(i, *i.Draft, lang)
	}
	return v
}

func viewDraft(i *directory.Integration, t consent.Terms, lang string) *draft {
	var before consent.Terms
	g, granted := i.Grant(i.Current)
	if granted {
		before = g.Terms
	}
	changes := consent.Compare(before, t)
	d := &draft{Terms: viewTerms(t), Widens: changes.Widens(), Changes: []change{}}
	for _, c := range changes {
		if !granted && c.Kind != consent.FieldAdded {
			continue // there is nothing that it could differ from
		}
		d.Changes = append(d.Changes, change{
			Kind: string(c.Kind), Field: textOrNull(string(c.Field)), Widens: c.Kind.Widens(), Text: c.Sentence(lang),
		})
	}
	return d
}

// newIntegration is the body that makes one.
type newIntegration struct {
	ConnectionID     hub.ConnectionID `json:"connection_id" minLength:"1" maxLength:"128" doc:"The account that it goes to."`
	Name             string           `json:"name" minLength:"1" maxLength:"200" doc:"What people call it."`
	Fields           []consent.Field  `json:"fields" nullable:"false" minItems:"1" maxItems:"200" doc:"The names of the fields that may leave; see GET /v1/fields, and custom.<name>."`
	When             *string          `json:"when,omitempty" nullable:"true" maxLength:"10000" doc:"A CEL expression over call and org that says which calls. Left out: every call."`
	Destination      *rawObject       `json:"destination,omitempty" doc:"Where it goes. Slack: {\"channel\"}, {\"dm\":\"owner\"} or {\"rules\",\"otherwise\"}; Salesforce: {\"object\":\"Task\"}; webhook: {}."`
	Mapping          *source          `json:"mapping,omitempty" doc:"What goes into the destination's fields, beside the defaults."`
	ExpiresAfterDays *int             `json:"expires_after_days,omitempty" nullable:"true" minimum:"0" maximum:"3650" doc:"After how many days copies are removed. Left out, or 0: they stay."`
}

// TransformSchema implements [huma.SchemaTransformer].
func (newIntegration) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["destination"].Nullable, s.Properties["mapping"].Nullable = true, true
	return s
}

// patch is a member of a change: left out, it stays as it is; null, it becomes
// what it is when it was never set.
type patch[T any] struct {
	set   bool
	value T
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *patch[T]) UnmarshalJSON(b []byte) error {
	p.set = true
	return json.Unmarshal(b, &p.value)
}

func (p *patch[T]) pointer() *T {
	if !p.set {
		return nil
	}
	return &p.value
}

// changedIntegration is the body that changes one; its schema is made from
// newIntegration's.
type changedIntegration struct {
	ConnectionID     patch[hub.ConnectionID]
	Name             patch[string]
	Fields           patch[[]consent.Field]
	When             patch[string]
	Destination      patch[json.RawMessage]
	Mapping          patch[mappings.Source]
	ExpiresAfterDays patch[int]
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *changedIntegration) UnmarshalJSON(b []byte) error {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	for name, to := range map[string]json.Unmarshaler{
		"connection_id": &c.ConnectionID, "name": &c.Name, "fields": &c.Fields, "when": &c.When,
		"destination": &c.Destination, "mapping": &c.Mapping, "expires_after_days": &c.ExpiresAfterDays,
	} {
		if raw, ok := members[name]; ok {
			if err := to.UnmarshalJSON(raw); err != nil {
				return err
			}
		}
	}
	return nil
}

type integrationID struct {
	ID string `path:"id" doc:"The integration's id." example:"int_q3v5zr2m7wlxk4d6jtb2ho5nea"`
}

type integrationQuery struct {
	ID string `path:"id" doc:"The integration's id." example:"int_q3v5zr2m7wlxk4d6jtb2ho5nea"`
	Language
}

type integrationsQuery struct {
	Page
	Language
}

type grantsQuery struct {
	ID string `path:"id" doc:"The integration's id." example:"int_q3v5zr2m7wlxk4d6jtb2ho5nea"`
	Page
}

// grant is a version of an integration's permission, for answers.
type grant struct {
	Grant         int               `json:"grant" minimum:"1" doc:"Its number within the integration."`
	IntegrationID hub.IntegrationID `json:"integration_id" doc:"The integration."`
	EnabledBy     string            `json:"enabled_by" doc:"Who accepted it."`
	EnabledAt     *time.Time        `json:"enabled_at" doc:"When."`
	AcceptedTerms string            `json:"accepted_terms" doc:"The version of the terms that were accepted."`
	Since         int               `json:"since" doc:"The first grant of this unbroken time of being enabled. A call is shared by a later grant only if it was accepted since."`
	Terms
}

func viewGrant(g consent.Grant) grant {
	return grant{
		Grant: g.Number, IntegrationID: g.Integration, EnabledBy: g.EnabledBy, EnabledAt: timeOrNull(g.EnabledAt),
		AcceptedTerms: g.AcceptedTerms, Since: g.Since, Terms: viewTerms(g.Terms),
	}
}

type enabling struct {
	AcceptedTerms string `json:"accepted_terms" maxLength:"64" doc:"The version of the terms that the admin accepts: the one in force, see GET /v1/org."`
}

type disabling struct {
	Wait *bool `json:"wait,omitempty" nullable:"true" doc:"Answer only when nothing of it is in flight, or after two minutes."`
}

type drained struct {
	Drained bool       `json:"drained" doc:"Whether nothing of it is in flight. Nothing begins any more in any case."`
	At      *time.Time `json:"at" doc:"When that was so, by the store's clock."`
}

const termsExample = `"connection_id":"con_7wlxk4d6jtb2ho5neaq3v5zr2m","fields":["title","summary","next_steps"],"when":"call.duration_seconds >= 120","destination":{"channel":"C024BE91L"},"mapping":{},"expires_after_days":null`

const integrationExample = `{"id":"int_q3v5zr2m7wlxk4d6jtb2ho5nea","name":"Sales channel","provider":"slack","state":"enabled","enabled":true,"grant":1,` + termsExample +
	`,"draft":null,"created_at":"2026-11-20T09:05:00Z","created_by":"key:b5rj7tq2l4x6"}`

const grantExample = `{"grant":1,"integration_id":"int_q3v5zr2m7wlxk4d6jtb2ho5nea","enabled_by":"key:b5rj7tq2l4x6","enabled_at":"2026-11-20T09:06:00Z","accepted_terms":"2020-05-01","since":1,` + termsExample + `}`

func (a *API) registerIntegrations() {
	handleBody(a, op{
		pattern: "POST /v1/integrations", id: "createIntegration", tag: tagIntegrations, summary: "Make an integration", status: http.StatusCreated,
		text: "It is made disabled: nothing is shared by it before it is enabled. Rules and mappings are compiled and checked now.",
		request: example(`{"connection_id":"con_7wlxk4d6jtb2ho5neaq3v5zr2m","name":"Sales channel","fields":["title","summary","next_steps"],` +
			`"when":"call.duration_seconds >= 120","destination":{"channel":"C024BE91L"}}`),
		answer: example(integrationExample),
	}, a.createIntegration)
	handle(a, op{
		pattern: "GET /v1/integrations", id: "listIntegrations", tag: tagIntegrations, summary: "List integrations",
		text: "Oldest first.", answer: example(`{"items":[` + integrationExample + `],"next_cursor":null}`),
	}, a.listIntegrations)
	handle(a, op{
		pattern: "GET /v1/integrations/{id}", id: "getIntegration", tag: tagIntegrations, summary: "Look at an integration",
		text: "What it permits and, where something waits for acceptance, what would change.", answer: example(integrationExample),
	}, func(ctx context.Context, who admin.Principal, p *integrationQuery) (integration, error) {
		i, err := a.cfg.Admin.Integration(ctx, who.Org, hub.IntegrationID(p.ID))
		return a.oneIntegration(ctx, who, i, p.lang(), err)
	})
	handleBody(a, op{
		pattern: "PATCH /v1/integrations/{id}", id: "changeIntegration", tag: tagIntegrations, summary: "Change an integration",
		text: "Members that are left out stay as they are; `null` unsets one. What narrows takes effect at once, as a new grant; what widens makes a draft, and the old grant holds until an admin enables it. " +
			"A member is replaced as a whole, an object too.",
		schema: patchSchema(a.huma.OpenAPI().Components.Schemas), media: []string{"application/merge-patch+json"},
		request: example(`{"fields":["title","summary"],"expires_after_days":90}`), answer: example(integrationExample),
	}, a.changeIntegration)
	handleEmpty(a, op{
		pattern: "DELETE /v1/integrations/{id}", id: "deleteIntegration", tag: tagIntegrations, summary: "Delete an integration",
		text: "Stops it and takes it off the list. What waits is withdrawn; copies stay in the register, and its grants are kept as evidence.",
	}, func(ctx context.Context, who admin.Principal, p *integrationID) error {
		return a.cfg.Admin.DeleteIntegration(ctx, who, hub.IntegrationID(p.ID))
	})
	handle(a, op{
		pattern: "GET /v1/integrations/{id}/grants", id: "listGrants", tag: tagIntegrations, summary: "List an integration's grants",
		text: "Every version of its permission, oldest first: who accepted what, and when.", answer: example(`{"items":[` + grantExample + `],"next_cursor":null}`),
	}, a.listGrants)
	handleBody(a, op{
		pattern: "POST /v1/integrations/{id}/enable", id: "enableIntegration", tag: tagIntegrations, summary: "Enable an integration, or accept its draft",
		text:    "Makes a grant of the draft. Calls accepted from now on are shared by it; calls accepted before are not. The destination is looked at first: a channel that outsiders can read is refused.",
		request: example(`{"accepted_terms":"2020-05-01"}`), answer: example(grantExample),
	}, func(ctx context.Context, who admin.Principal, p *integrationID, b *enabling) (grant, error) {
		g, err := a.cfg.Admin.EnableIntegration(ctx, who, hub.IntegrationID(p.ID), b.AcceptedTerms)
		return viewGrant(g), err
	})
	handleBody(a, op{
		pattern: "POST /v1/integrations/{id}/disable", id: "disableIntegration", tag: tagIntegrations, summary: "Disable an integration",
		text:    "Nothing of it begins after the answer, and what waits is withdrawn. With `wait` nothing is in flight either when the answer comes.",
		request: example(`{"wait":true}`), answer: example(`{"drained":true,"at":"2026-11-21T00:05:00.120Z"}`), optional: true,
	}, a.disableIntegration)
}

func (a *API) oneIntegration(ctx context.Context, who admin.Principal, i *directory.Integration, lang string, err error) (integration, error) {
	if err != nil {
		return integration{}, err
	}
	snap, err := a.cfg.Admin.Org(ctx, who.Org)
	if err != nil {
		return integration{}, err
	}
	return viewIntegration(snap, i, lang), nil
}

func (a *API) createIntegration(ctx context.Context, who admin.Principal, p *Language, b *newIntegration) (integration, error) {
	t := consent.Terms{Connection: b.ConnectionID, Fields: b.Fields, Destination: json.RawMessage(`{}`)}
	if b.When != nil {
		t.When = *b.When
	}
	if b.Destination != nil {
		t.Destination = json.RawMessage(*b.Destination)
	}
	if b.Mapping != nil {
		t.Mapping = mappings.Source(*b.Mapping)
	}
	if b.ExpiresAfterDays != nil {
		t.ExpiresAfterDays = *b.ExpiresAfterDays
	}
	i, err := a.cfg.Admin.CreateIntegration(ctx, who, admin.NewIntegration{Name: b.Name, Terms: t})
	return a.oneIntegration(ctx, who, i, p.lang(), err)
}

func (a *API) listIntegrations(ctx context.Context, who admin.Principal, p *integrationsQuery) (list[integration], error) {
	snap, err := a.cfg.Admin.Org(ctx, who.Org)
	if err != nil {
		return list[integration]{}, err
	}
	return cut(p.Page, snap.Integrations, func(i *directory.Integration) string { return string(i.ID) },
		func(i *directory.Integration) integration { return viewIntegration(snap, i, p.lang()) })
}

// patchSchema is newIntegration's schema with every member optional.
func patchSchema(r huma.Registry) *huma.Schema {
	from := schemaOf[newIntegration](r)
	s := &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false, MinProperties: new(1), Properties: from.Properties,
		Description: "The members to change.",
	}
	s.PrecomputeMessages()
	r.Map()["IntegrationPatch"] = s
	return &huma.Schema{Ref: "#/components/schemas/IntegrationPatch"}
}

func (a *API) changeIntegration(ctx context.Context, who admin.Principal, p *integrationQuery, b *changedIntegration) (integration, error) {
	change := admin.IntegrationPatch{
		Name: b.Name.pointer(), Connection: b.ConnectionID.pointer(), Fields: b.Fields.pointer(), When: b.When.pointer(),
		Destination: b.Destination.pointer(), Mapping: b.Mapping.pointer(), ExpiresAfterDays: b.ExpiresAfterDays.pointer(),
	}
	if d := change.Destination; d != nil && string(*d) == "null" {
		*d = json.RawMessage(`{}`)
	}
	i, err := a.cfg.Admin.ChangeIntegration(ctx, who, hub.IntegrationID(p.ID), change)
	return a.oneIntegration(ctx, who, i, p.lang(), err)
}

func (a *API) listGrants(ctx context.Context, who admin.Principal, p *grantsQuery) (list[grant], error) {
	i, err := a.cfg.Admin.Integration(ctx, who.Org, hub.IntegrationID(p.ID))
	if err != nil {
		return list[grant]{}, err
	}
	return cut(p.Page, i.Grants, func(g consent.Grant) string { return strconv.Itoa(g.Number) }, viewGrant)
}

func (a *API) disableIntegration(ctx context.Context, who admin.Principal, p *integrationID, b *disabling) (drained, error) {
	wait := b.Wait != nil && *b.Wait
	if wait {
		// Both deadlines: the server goes on reading, to notice a client that
		// leaves, and takes the end of its time to read for one. Where they
		// cannot be moved, they hold.
		deadline, rc := time.Now().Add(disableWait+10*time.Second), http.NewResponseController(current(ctx).w)
		if err := errors.Join(rc.SetReadDeadline(deadline), rc.SetWriteDeadline(deadline)); err != nil {
			a.log.DebugContext(ctx, "deadlines not moved", "request_id", RequestID(ctx), "error", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, disableWait)
		defer cancel()
	}
	d, err := a.cfg.Admin.DisableIntegration(ctx, who, hub.IntegrationID(p.ID), wait)
	return drained{Drained: d.Drained, At: timeOrNull(d.At)}, err
}
