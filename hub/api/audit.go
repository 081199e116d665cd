package api

import (
	"context"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/hub/store"
)

type auditQuery struct {
	Page
	After         string `query:"after" maxLength:"32" doc:"Only entries after this id: the same as cursor." example:"41-0"`
	Type          string `query:"type" maxLength:"64" doc:"Only entries of this type; one that ends in a full stop wants all that begin so, such as transfer." example:"transfer.delivered"`
	IntegrationID string `query:"integration_id" maxLength:"128" doc:"Only those of this integration."`
	CallID        string `query:"call_id" maxLength:"128" doc:"Only those of this call."`
}

func (a *API) registerAudit() {
	handle(a, op{
		pattern: "GET /v1/audit", id: "listAudit", tag: tagEvidence, summary: "Read the audit log",
		text: "Oldest first. Ids are 1-0, 2-0, 3-0 and so on without a gap, so a missing entry shows. An entry holds ids, names of fields, counts and keyed digests, and never what was said in a call.",
		answer: example(`{"items":[{"id":"42-0","at":"2026-11-21T00:02:11.902Z","type":"transfer.delivered","actor":"hub","call_id":"call-2026-11-20-0042","revision":1,` +
			`"integration_id":"int_q3v5zr2m7wlxk4d6jtb2ho5nea","connection_id":"con_7wlxk4d6jtb2ho5neaq3v5zr2m","transfer_id":"tr_4kz7c2w5bqzj6v3t5r6ahm2nxe","grant":1,"kind":"share","attempt":1,"digest":"4ZsVQ9aB"}],"next_cursor":null}`),
	}, a.listAudit)
}

func (a *API) listAudit(ctx context.Context, who admin.Principal, p *auditQuery) (list[audit.Entry], error) {
	pg := p.store()
	switch {
	case p.Cursor != "" && p.After != "":
		return list[audit.Entry]{}, invalidInput(hub.FieldError{Pointer: "/after", Detail: "must not be given together with cursor"})
	case p.After != "":
		pg.Cursor = p.After
	}
	f := store.AuditFilter{Type: audit.Type(p.Type), Integration: hub.IntegrationID(p.IntegrationID), Call: hub.CallID(p.CallID)}
	entries, next, err := a.cfg.Admin.Audit(ctx, who.Org, f, pg)
	if err != nil {
		return list[audit.Entry]{}, err
	}
	return listOf(entries, next, func(e audit.Entry) audit.Entry { return e }), nil
}
