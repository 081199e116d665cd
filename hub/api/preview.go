package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/mappings"
)

// previewBody asks for a preview of a call as given, or of one that was
// accepted.
type previewBody struct {
	Call    json.RawMessage `json:"call,omitempty" doc:"The call to be previewed."`
	CallID  string          `json:"call_id,omitempty" maxLength:"128" doc:"Instead of call: one that was accepted."`
	Resolve bool            `json:"resolve,omitempty" doc:"Look people up at the provider, as sending would. It is audited as your act. Otherwise targets say what would be looked up."`
}

type previewAnswer struct {
	Decision      string          `json:"decision" enum:"share,withheld" doc:"Whether the call would be shared if the integration were enabled and the connection well."`
	Reason        *string         `json:"reason" doc:"Why not: a code."`
	ReasonText    *string         `json:"reason_text" doc:"Why not, for people."`
	Detail        *string         `json:"detail" doc:"More about the reason."`
	Payload       json.RawMessage `json:"payload" doc:"Exactly what would leave; null if nothing would."`
	PayloadDigest *string         `json:"payload_digest" doc:"The digest that the transfer would carry."`
	Losses        []mappings.Loss `json:"losses" nullable:"false" doc:"What would not survive the way to the destination."`
	Targets       targets         `json:"targets" doc:"Whom and what it would be put to at the provider."`
}

type targets struct {
	Resolved    bool              `json:"resolved" doc:"Whether the provider was asked."`
	Found       map[string]string `json:"found" doc:"What was found there, such as who_id."`
	WouldLookUp []string          `json:"would_look_up" nullable:"false" doc:"What sending would look up, if the provider was not asked."`
}

const previewExample = `{"decision":"share","reason":null,"reason_text":null,"detail":null,"payload":{"channel":"C024BE91L","text":"Discovery with Northwind Traders"},` +
	`"payload_digest":"4ZsVQ9aB","losses":[],"targets":{"resolved":false,"found":{},"would_look_up":["channel by id"]}}`

func (a *API) registerPreview() {
	schemas := a.huma.OpenAPI().Components.Schemas
	handleBody(a, op{
		pattern: "POST /v1/integrations/{id}/preview", id: "previewIntegration", tag: tagIntegrations, summary: "See exactly what would leave",
		text: "Makes the message or the record as sending would, by the integration's draft if it has one, and stops there. Nothing is sent. " +
			"`payload_digest` is what the transfer would carry, which proves later that what was sent is what was seen.",
		schema:  previewSchema(schemas),
		request: example(`{"call_id":"call-2026-11-20-0042"}`), answer: example(previewExample),
	}, a.preview)
}

// previewSchema says that either a call or the id of one is given. The call
// itself is checked as one that is posted.
func previewSchema(r huma.Registry) *huma.Schema {
	s := schemaOf[previewBody](r)
	s.Properties["call"] = &huma.Schema{Description: s.Properties["call"].Description, OneOf: []*huma.Schema{refTo[callBody](r)}}
	return refTo[previewBody](r)
}

func (a *API) preview(ctx context.Context, who admin.Principal, p *integrationQuery, b *previewBody) (previewAnswer, error) {
	r := admin.PreviewRequest{CallID: hub.CallID(b.CallID), Resolve: b.Resolve}
	switch given := len(b.Call) > 0; {
	case given && b.CallID != "":
		return previewAnswer{}, invalidInput(hub.FieldError{Pointer: "/call_id", Detail: "must not be given together with call"})
	case given:
		call, err := decodeCall(b.Call)
		if err != nil {
			return previewAnswer{}, beneath("/call", err)
		}
		r.Call = &call
	case b.CallID == "":
		return previewAnswer{}, invalidInput(hub.FieldError{Pointer: "/call", Detail: "is required, or call_id"})
	}
	res, err := a.cfg.Admin.PreviewIntegration(ctx, who, hub.IntegrationID(p.ID), r)
	if err != nil {
		return previewAnswer{}, err
	}
	d := res.Decision
	v := previewAnswer{
		Decision: string(d.Verdict), Reason: textOrNull(string(d.Reason)), ReasonText: textOrNull(d.Reason.Sentence(p.lang())), Detail: textOrNull(d.Detail),
		Payload: res.Payload, PayloadDigest: textOrNull(res.Digest), Losses: orEmpty(res.Losses),
		Targets: targets{Resolved: b.Resolve, Found: res.Targets, WouldLookUp: orEmpty(res.LookUps)},
	}
	if d.Verdict == consent.Held {
		v.Decision = string(consent.Share)
	}
	if v.Payload == nil {
		v.Payload = json.RawMessage("null")
	}
	if v.Targets.Found == nil {
		v.Targets.Found = connectors.Targets{}
	}
	return v, nil
}

// beneath moves the pointers of a problem into a member.
func beneath(member string, err error) error {
	p, ok := errors.AsType[*problem](err)
	if !ok {
		return err
	}
	moved := *p
	moved.Errors = make([]hub.FieldError, len(p.Errors))
	for i, e := range p.Errors {
		moved.Errors[i] = hub.FieldError{Pointer: member + e.Pointer, Detail: e.Detail}
	}
	return &moved
}
