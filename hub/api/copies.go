package api

import (
	"context"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/store"
)

type copyView struct {
	CallID        hub.CallID        `json:"call_id" doc:"The call that it shows."`
	Revision      int               `json:"revision" doc:"The revision that it shows."`
	IntegrationID hub.IntegrationID `json:"integration_id" doc:"The integration that made it."`
	ConnectionID  hub.ConnectionID  `json:"connection_id" doc:"The account that it is in."`
	Provider      string            `json:"provider" doc:"Where it is."`
	TransferID    hub.TransferID    `json:"transfer_id" doc:"The transfer that last wrote it."`
	Grant         int               `json:"grant" doc:"The grant that it was written under."`
	Receipt       map[string]string `json:"receipt" doc:"What the provider calls it."`
	PayloadDigest *string           `json:"payload_digest" doc:"A keyed digest of what was written."`
	At            *time.Time        `json:"at" doc:"When it was last written."`
}

type copyQuery struct {
	Page
	CallID string `query:"call_id" maxLength:"128" doc:"Only those of this call."`
	Email  string `query:"email" maxLength:"254" doc:"Only those of calls that concern the person with this address." example:"priya@northwind.example"`
	Phone  string `query:"phone" maxLength:"64" doc:"Only those of calls that concern the person with this number." example:"+14155550123"`
}

func (a *API) registerCopies() {
	handle(a, op{
		pattern: "GET /v1/copies", id: "listCopies", tag: tagEvidence, summary: "List live copies at destinations",
		text: "The records and messages that exist at providers now: all of the org, last written first; of one call; or of all calls that concern a person. Give one of `call_id`, `email` and `phone`, or none.",
		answer: example(`{"items":[{"call_id":"call-2026-11-20-0042","revision":1,"integration_id":"int_q3v5zr2m7wlxk4d6jtb2ho5nea","connection_id":"con_7wlxk4d6jtb2ho5neaq3v5zr2m",` +
			`"provider":"slack","transfer_id":"tr_4kz7c2w5bqzj6v3t5r6ahm2nxe","grant":1,"receipt":{"channel":"C024BE91L","ts":"1795219331.000200"},"payload_digest":"4ZsVQ9aB","at":"2026-11-21T00:02:11.902Z"}],"next_cursor":null}`),
	}, a.listCopies)
}

func (a *API) listCopies(ctx context.Context, who admin.Principal, p *copyQuery) (list[copyView], error) {
	given := 0
	for _, s := range []string{p.CallID, p.Email, p.Phone} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		return list[copyView]{}, invalidInput(hub.FieldError{Detail: "give one of call_id, email and phone"})
	}
	snap, err := a.cfg.Admin.Org(ctx, who.Org)
	if err != nil {
		return list[copyView]{}, err
	}
	f := admin.CopyFilter{Call: hub.CallID(p.CallID), Email: p.Email, Phone: p.Phone}
	cs, next, err := a.cfg.Admin.Copies(ctx, who.Org, f, p.store())
	if err != nil {
		return list[copyView]{}, err
	}
	view := func(c store.Copy) copyView {
		v := copyView{
			CallID: c.Call, Revision: c.Revision, IntegrationID: c.Integration, ConnectionID: c.Connection, TransferID: c.Transfer,
			Grant: c.Grant, Receipt: c.Receipt, PayloadDigest: textOrNull(c.Payload), At: timeOrNull(c.At),
		}
		if v.Receipt == nil {
			v.Receipt = map[string]string{}
		}
		if conn, ok := snap.Connections[c.Connection]; ok {
			v.Provider = conn.Provider
		}
		return v
	}
	if given == 0 {
		return listOf(cs, next, view), nil
	}
	return cut(p.Page, cs, func(c store.Copy) string { return string(c.Call) + "~" + string(c.Integration) }, view)
}
