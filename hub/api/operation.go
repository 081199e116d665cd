package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
)

// Tags of the document, in the order in which people meet them.
const (
	tagCalls        = "Calls"
	tagTransfers    = "Transfers"
	tagConnections  = "Connections"
	tagIntegrations = "Integrations"
	tagEvidence     = "Evidence"
	tagOrg          = "Org and keys"
	tagSystem       = "System"
)

func (a *API) humaConfig() huma.Config {
	c := huma.DefaultConfig("Callbridge", a.cfg.Version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // served by an operation of our own
	c.CreateHooks = nil                                   // no "$schema" members in answers
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	c.Transformers = []huma.Transformer{transform}
	c.RejectUnknownQueryParameters = true // a filter misspelt would show what was not asked for
	c.Info.Description = "Shares analysed sales calls with Salesforce, Slack and webhooks, only where an integration that an admin enabled permits it, " +
		"and keeps a record of what left, when, where to and under whose permission.\n\n" +
		"Every request but the three of the system and the signed call carries an API key: `Authorization: Bearer cb_…`. A key belongs to one org and has one role: " +
		"`ingest` posts calls and reads what became of them, `auditor` reads, `admin` does everything in its org. Another org's objects are not found.\n\n" +
		"Errors are problem documents (RFC 9457) with a stable `code`. A document that is no JSON is 400 `malformed_json`; one whose members are not as they must be " +
		"is 422 `invalid_input`, with a JSON pointer to each of them in `errors` (a query parameter is pointed at as `/name`). " +
		"Lists take `limit` and `cursor` and answer `items` and `next_cursor`, which is null at the end; a filtered page may be shorter than asked for and yet have more behind it."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.Servers = []*huma.Server{{URL: "/", Description: "This instance"}}
	c.Tags = []*huma.Tag{
		{Name: tagCalls, Description: "Calls come in, are decided for every integration of the org, and are stored before 202 is answered."},
		{Name: tagTransfers, Description: "A transfer is one call on its way to one destination. It ends in a state that can be seen here."},
		{Name: tagConnections, Description: "The org's accounts at providers, and how they are. Tokens go in and never come out."},
		{Name: tagIntegrations, Description: "What is shared: which calls, which fields, where to, for how long. Nothing leaves before an admin enables it."},
		{Name: tagEvidence, Description: "The audit log, and the register of the copies that live at destinations."},
		{Name: tagOrg, Description: "The org itself, its API keys and its signing secrets."},
		{Name: tagSystem, Description: "For operators and tools."},
	}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		keyScheme: {Type: "http", Scheme: "bearer", BearerFormat: "cb_…", Description: "An API key of the org."},
	}
	return c
}

// schemaName names a type in the document.
func schemaName(t reflect.Type, hint string) string {
	name := strings.NewReplacer("View", "", "Body", "").Replace(huma.DefaultSchemaNamer(t, hint))
	if list, ok := strings.CutPrefix(name, "List"); ok && list != "" {
		return schemaNameOf(list) + "List"
	}
	return schemaNameOf(name)
}

func schemaNameOf(name string) string {
	if name == "Entry" {
		return "AuditEntry"
	}
	return name
}

const keyScheme = "apiKey"

// op is what the document says of an operation beside what its types say.
type op struct {
	pattern string // the route, such as "POST /v1/keys"
	id      string // operationId
	tag     string
	summary string
	text    string // description
	status  int    // of success; 0: 200, or 204 for an operation without an answer
	request any    // example of the body
	answer  any    // example of the answer

	optional bool         // the body may be left out
	schema   *huma.Schema // of the body, where its type does not say it
	media    []string     // of the body beside application/json
}

// none is the parameters or the answer of an operation that has none.
type none struct{}

// output is an answer in JSON.
type output[O any] struct{ Body O }

// rawOutput is an answer that is JSON already.
type rawOutput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

func rawJSON(b []byte) *rawOutput { return &rawOutput{ContentType: "application/json", Body: b} }

// handle registers an operation without a body.
func handle[P, O any](a *API, o op, f func(context.Context, admin.Principal, *P) (O, error)) {
	add(a, o, nil, func(ctx context.Context, x *exchange, p *P) (*output[O], error) {
		out, err := f(ctx, x.who, p)
		return &output[O]{Body: out}, err
	})
}

// handleEmpty registers an operation without a body and without an answer.
func handleEmpty[P any](a *API, o op, f func(context.Context, admin.Principal, *P) error) {
	add(a, o, nil, func(ctx context.Context, x *exchange, p *P) (*none, error) {
		return &none{}, f(ctx, x.who, p)
	})
}

// handleBody registers an operation with a JSON body, which is checked against the
// schema of B.
func handleBody[P, B, O any](a *API, o op, f func(context.Context, admin.Principal, *P, *B) (O, error)) {
	schemas := a.huma.OpenAPI().Components.Schemas
	schema := o.schema
	if schema == nil {
		schema = schemas.Schema(reflect.TypeFor[B](), true, o.id+"Request")
	}
	add(a, o, schema, func(ctx context.Context, x *exchange, p *P) (*output[O], error) {
		var b B
		if len(x.body) > 0 || !o.optional {
			if err := decode(schemas, schema, x.body, &b); err != nil {
				return nil, err
			}
		}
		out, err := f(ctx, x.who, p, &b)
		return &output[O]{Body: out}, err
	})
}

// decode reads a body into b, which points to a struct.
func decode(schemas huma.Registry, schema *huma.Schema, body []byte, b any) error {
	v, err := parse(body)
	if err != nil {
		return err
	}
	if wrong := check(schemas, schema, v); len(wrong) > 0 {
		return invalidInput(wrong...)
	}
	if err := json.Unmarshal(body, b); err != nil {
		// The schema let something through that the type cannot hold. The
		// error's text may hold the value.
		return invalidInput(hub.FieldError{Detail: "has a member of another type than it must have"})
	}
	return nil
}

// handleRaw registers an operation that reads its body and makes its answer itself,
// and that the document describes as taking a B and answering an O.
func handleRaw[P, B, O any](a *API, o op, f func(context.Context, *exchange, *P) ([]byte, error)) {
	body := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[B](), true, o.id+"Request")
	add(a, o, body, func(ctx context.Context, x *exchange, p *P) (*rawOutput, error) {
		out, err := f(ctx, x, p)
		return rawJSON(out), err
	})
	answers[O](a, o)
}

// answers describes the answer of an operation that makes it itself.
func answers[O any](a *API, o op) {
	answer := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[O](), true, o.id+"Response")
	a.described(o.pattern).Responses[strconv.Itoa(orDefault(o.status, http.StatusOK))].Content = map[string]*huma.MediaType{
		"application/json": {Schema: answer, Example: o.answer},
	}
}

// add registers an operation behind its route's guard.
func add[P, O any](a *API, o op, body *huma.Schema, f func(context.Context, *exchange, *P) (*O, error)) {
	r, ok := a.routes[o.pattern]
	if !ok {
		r = &route{} // huma refuses a route without a method: the table lacks it
	}
	h := huma.Operation{
		OperationID: o.id, Method: r.method, Path: r.path, DefaultStatus: o.status, Summary: o.summary,
		Description: o.text + roles(r.access), Tags: []string{o.tag},
		Middlewares: huma.Middlewares{a.guard(r)}, Responses: map[string]*huma.Response{},
	}
	if !r.access.open() {
		h.Security = []map[string][]string{{keyScheme: {}}}
	}
	for _, status := range failures(r, o) {
		h.Responses[strconv.Itoa(status)] = a.failure(status)
	}
	huma.Register(a.huma, h, func(ctx context.Context, p *P) (*O, error) {
		out, err := f(ctx, current(ctx), p)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
	d := a.described(o.pattern)
	if body != nil {
		d.RequestBody = &huma.RequestBody{
			Required: !o.optional,
			Content:  map[string]*huma.MediaType{"application/json": {Schema: body, Example: o.request}},
		}
		for _, m := range o.media {
			d.RequestBody.Content[m] = &huma.MediaType{Schema: body, Example: o.request}
		}
	}
	for status, r := range d.Responses {
		if m := r.Content["application/json"]; m != nil && status < "300" {
			m.Example = o.answer
		}
	}
}

func (a *API) described(pattern string) *huma.Operation {
	method, path, _ := strings.Cut(pattern, " ")
	return operation(a.huma.OpenAPI(), path, method)
}

// operation returns an operation of the document, or nil.
func operation(doc *huma.OpenAPI, path, method string) *huma.Operation {
	item := doc.Paths[path]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[method]
}

// roles says for the document whose key opens a route.
func roles(who access) string {
	if who.open() {
		return ""
	}
	names := make([]string, len(who))
	for i, r := range who {
		names[i] = "`" + string(r) + "`"
	}
	return "\n\nKeys that may: " + strings.Join(names, ", ") + "."
}

// failures returns the statuses of problems that an operation can answer.
func failures(r *route, o op) []int {
	set := map[int]bool{http.StatusInternalServerError: true, http.StatusServiceUnavailable: true}
	if !r.access.open() {
		set[http.StatusUnauthorized], set[http.StatusForbidden], set[http.StatusTooManyRequests] = true, true, true
		set[http.StatusUnprocessableEntity] = true // parameters
	}
	if strings.Contains(r.path, "{id}") {
		set[http.StatusNotFound] = true
	}
	if r.body > 0 {
		for _, s := range []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity} {
			set[s] = true
		}
	}
	if r.method != http.MethodGet && r.access.allows(hub.RoleAdmin) && o.tag != tagCalls {
		set[http.StatusConflict], set[http.StatusBadGateway] = true, true
	}
	if o.tag == tagCalls && r.body > 0 {
		set[http.StatusUnauthorized], set[http.StatusTooManyRequests] = true, true
	}
	return slices.Sorted(maps.Keys(set))
}

// failure describes a problem of that status.
func (a *API) failure(status int) *huma.Response {
	components := a.huma.OpenAPI().Components
	name := fmt.Sprintf("Problem%d", status)
	if components.Responses == nil {
		components.Responses = map[string]*huma.Response{}
	}
	if components.Responses[name] == nil {
		r := &huma.Response{
			Description: failureText(status),
			Content: map[string]*huma.MediaType{
				problemType: {Schema: components.Schemas.Schema(reflect.TypeFor[problem](), true, "")},
			},
		}
		switch status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			r.Headers = map[string]*huma.Param{"Retry-After": {
				Description: "Seconds after which trying again may help.", Schema: &huma.Schema{Type: huma.TypeInteger},
			}}
		case http.StatusUnauthorized:
			r.Headers = map[string]*huma.Param{"WWW-Authenticate": {
				Description: "The kind of credential that is asked for.", Schema: &huma.Schema{Type: huma.TypeString},
			}}
		}
		components.Responses[name] = r
	}
	return &huma.Response{Ref: "#/components/responses/" + name}
}

func failureText(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "The body is no JSON document (`malformed_json`) or did not arrive as a whole (`body_incomplete`)."
	case http.StatusUnauthorized:
		return "The key (`unauthorized`) or the signature (`invalid_signature`) is missing or not valid. Nothing was done."
	case http.StatusForbidden:
		return "The key's role may not do this (`forbidden`)."
	case http.StatusNotFound:
		return "The org has no such thing (`not_found`). What belongs to another org is not found either."
	case http.StatusRequestTimeout:
		return "The body took too long to arrive (`request_timeout`)."
	case http.StatusConflict:
		return "The request does not fit the state something is in. The code says how."
	case http.StatusRequestEntityTooLarge:
		return "The body is too large (`body_too_large`). It was not read."
	case http.StatusUnsupportedMediaType:
		return "The body says that it is no JSON in UTF-8, or is compressed (`unsupported_media_type`)."
	case http.StatusUnprocessableEntity:
		return "Members or parameters are not as they must be (`invalid_input`, with one entry of `errors` for each), or what they ask for is refused; the code says why."
	case http.StatusTooManyRequests:
		return "Too many requests (`rate_limited`), or too many transfers of the org wait (`queue_full`). Nothing was stored."
	case http.StatusInternalServerError:
		return "A fault of ours (`internal_error`). It is in the operator's log under the answer's X-Request-Id."
	case http.StatusBadGateway:
		return "A provider had to be reached and was not (`provider_unreachable`)."
	case http.StatusServiceUnavailable:
		return "The store cannot be reached (`store_unavailable`), or the org's configuration is being changed (`configuration_busy`). Posting a call again is safe."
	}
	return http.StatusText(status)
}

// orNull lets members of an object that are objects themselves be null, which
// huma's tags cannot say.
func orNull(s *huma.Schema, names ...string) *huma.Schema {
	for _, name := range names {
		p := s.Properties[name]
		text := p.Description
		p.Description = ""
		s.Properties[name] = &huma.Schema{Description: text, OneOf: []*huma.Schema{p, {Type: "null"}}}
	}
	return s
}

// example is an example in the document.
func example(text string) any { return json.RawMessage(text) }

// refTo returns a reference to the schema of T.
func refTo[T any](r huma.Registry) *huma.Schema { return r.Schema(reflect.TypeFor[T](), true, "") }

// schemaOf returns the schema of T itself.
func schemaOf[T any](r huma.Registry) *huma.Schema { return r.Schema(reflect.TypeFor[T](), false, "") }
