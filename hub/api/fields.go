package api

import (
	"context"

	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/consent"
)

type fieldView struct {
	Field       string `json:"field" doc:"The name, as an integration's fields list it."`
	Sensitivity string `json:"sensitivity" enum:"ordinary,personal,spoken" doc:"ordinary: facts of the call. personal: tells who somebody is or how to reach them. spoken: what people said, or a judgement drawn from it."`
	Title       string `json:"title" doc:"What people call it."`
	Contains    string `json:"contains" doc:"Exactly what leaves with it."`
}

func (a *API) registerFields() {
	handle(a, op{
		pattern: "GET /v1/fields", id: "listFields", tag: tagIntegrations, summary: "List the fields that can be released",
		text:   "In the order in which people choose from them. A custom member of calls is released as `custom.<name>` beside these.",
		answer: example(`{"items":[{"field":"summary","sensitivity":"spoken","title":"Summary","contains":"The summary of the call."}],"next_cursor":null}`),
	}, func(_ context.Context, _ admin.Principal, p *integrationsQuery) (list[fieldView], error) {
		return cut(p.Page, consent.Fields(p.lang()), func(f consent.FieldInfo) string { return string(f.Field) }, func(f consent.FieldInfo) fieldView {
			return fieldView{Field: string(f.Field), Sensitivity: string(f.Sensitivity), Title: f.Title, Contains: f.Contains}
		})
	})
}
