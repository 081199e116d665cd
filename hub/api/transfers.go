package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
	"github.com/optiwe/callbridge/mappings"
)

type transfer struct {
	ID            hub.TransferID    `json:"id" doc:"The transfer."`
	CallID        hub.CallID        `json:"call_id" doc:"The call that it carries."`
	Revision      int               `json:"revision" doc:"The revision of the call."`
	IntegrationID hub.IntegrationID `json:"integration_id" doc:"The integration that it is made by."`
	Grant         *int              `json:"grant" doc:"The grant that it began under or, before that, the one in force when the call was accepted; null for an erasure, which needs none."`
	Provider      string            `json:"provider" doc:"Where it goes."`
	Kind          string            `json:"kind" enum:"share,update,erase" doc:"share makes the copy, update corrects it, erase removes it."`
	State         string            `json:"state" enum:"waiting,sending,held,ambiguous,delivered,dead,withdrawn,superseded,erased" doc:"Where it stands."`
	Reason        *string           `json:"reason" doc:"Why it is held, withdrawn, ambiguous or dead: a code."`
	Attempts      int               `json:"attempts" doc:"How often it was begun."`
	NextAttemptAt *time.Time        `json:"next_attempt_at" doc:"When it is tried next, while it waits or is held."`
	Error         *transferError    `json:"error" doc:"How the last attempt failed; null if none did."`
	Receipt       map[string]string `json:"receipt" doc:"What the provider calls the copy, such as a record id, or a channel and a timestamp. Empty before it is delivered. url, where given, is where people find it."`
	Fields        []string          `json:"fields" nullable:"false" doc:"The names of the fields that left."`
	Losses        []mappings.Loss   `json:"losses" nullable:"false" doc:"What did not survive the way to the destination."`
	PayloadDigest *string           `json:"payload_digest" doc:"A keyed digest of exactly what was sent, the same as a preview's."`
	CreatedAt     *time.Time        `json:"created_at" doc:"When the call was accepted, or the erasure asked for."`
	FinishedAt    *time.Time        `json:"finished_at" doc:"When it came to its end; null before."`
}

// TransformSchema implements [huma.SchemaTransformer].
func (transfer) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return orNull(s, "error")
}

type transferError struct {
	Class  string `json:"class" doc:"What kind of failure it is: unknown, transient, rate_limited, unauthorized, rejected or gone."`
	Code   string `json:"code" doc:"The provider's own code, or ours."`
	Detail string `json:"detail" doc:"A sentence: the thing, the cause, the next step."`
}

func viewTransfer(snap *directory.Snapshot, t store.Transfer) transfer {
	v := transfer{
		ID: t.ID, CallID: t.Call, Revision: t.Revision, IntegrationID: t.Integration, Grant: numberOrNull(t.Grant),
		Kind: string(t.Kind), State: string(t.State), Reason: textOrNull(t.Reason), Attempts: t.Attempts,
		Receipt: map[string]string{}, Fields: orEmpty(t.Fields), Losses: orEmpty(t.Losses),
		PayloadDigest: textOrNull(t.Payload), CreatedAt: timeOrNull(t.CreatedAt), FinishedAt: timeOrNull(t.FinishedAt),
	}
	if c, ok := snap.Connections[t.Connection]; ok {
		v.Provider = c.Provider
	}
	if t.State == hub.StateWaiting || t.State == hub.StateHeld {
		v.NextAttemptAt = timeOrNull(t.Due)
	}
	if t.ErrClass != "" {
		v.Error = &transferError{Class: t.ErrClass, Code: t.ErrCode, Detail: t.ErrDetail}
	}
	if t.Receipt != nil {
		v.Receipt = t.Receipt
	}
	return v
}

const transferExample = `{"id":"tr_4kz7c2w5bqzj6v3t5r6ahm2nxe","call_id":"call-2026-11-20-0042","revision":1,"integration_id":"int_q3v5zr2m7wlxk4d6jtb2ho5nea","grant":1,` +
	`"provider":"slack","kind":"share","state":"delivered","reason":null,"attempts":1,"next_attempt_at":null,"error":null,` +
	`"receipt":{"channel":"C024BE91L","ts":"1795219331.000200"},"fields":["title","summary"],"losses":[],"payload_digest":"4ZsVQ9aB",` +
	`"created_at":"2026-11-21T00:02:11.345Z","finished_at":"2026-11-21T00:02:11.902Z"}`

type transferQuery struct {
	Page
	State         string `query:"state" enum:"waiting,sending,held,ambiguous,delivered,dead,withdrawn,superseded,erased" doc:"Only those in this state."`
	IntegrationID string `query:"integration_id" maxLength:"128" doc:"Only those of this integration."`
	CallID        string `query:"call_id" maxLength:"128" doc:"Only those of this call."`
}

type transferID struct {
	ID string `path:"id" doc:"The transfer's id." example:"tr_4kz7c2w5bqzj6v3t5r6ahm2nxe"`
}

type resolution struct {
	As string `json:"as" enum:"delivered,resend" doc:"delivered: it arrived, somebody looked. resend: it did not; send it."`
}

func (a *API) registerTransfers() {
	handle(a, op{
		pattern: "GET /v1/transfers", id: "listTransfers", tag: tagTransfers, summary: "List transfers",
		text:   "Newest first. Filters can be combined.",
		answer: example(`{"items":[` + transferExample + `],"next_cursor":null}`),
	}, a.listTransfers)
	handle(a, op{
		pattern: "GET /v1/transfers/{id}", id: "getTransfer", tag: tagTransfers, summary: "Look at a transfer",
		text: "Where it stands, what left with it and what the provider calls the copy.", answer: example(transferExample),
	}, func(ctx context.Context, who admin.Principal, p *transferID) (transfer, error) {
		t, err := a.cfg.Admin.Transfer(ctx, who.Org, hub.TransferID(p.ID))
		return a.oneTransfer(ctx, who, t, err)
	})
	handle(a, op{
		pattern: "POST /v1/transfers/{id}/retry", id: "retryTransfer", tag: tagTransfers, summary: "Try a dead transfer again",
		text: "For one that the provider refused, after what it refused was mended. The permission is checked again before anything is sent.", answer: example(transferExample),
	}, func(ctx context.Context, who admin.Principal, p *transferID) (transfer, error) {
		return a.settle(ctx, who, p.ID, store.SettleRetry)
	})
	handleBody(a, op{
		pattern: "POST /v1/transfers/{id}/resolve", id: "resolveTransfer", tag: tagTransfers, summary: "Settle an ambiguous transfer",
		text:    "For one that may have arrived and of which the provider cannot tell: look at the destination, and say what you found.",
		request: example(`{"as":"delivered"}`), answer: example(transferExample),
	}, func(ctx context.Context, who admin.Principal, p *transferID, b *resolution) (transfer, error) {
		what := store.SettleResend
		if b.As == "delivered" {
			what = store.SettleDelivered
		}
		return a.settle(ctx, who, p.ID, what)
	})
}

func (a *API) listTransfers(ctx context.Context, who admin.Principal, p *transferQuery) (list[transfer], error) {
	f := store.TransferFilter{
		State: hub.TransferState(p.State), Integration: hub.IntegrationID(p.IntegrationID), Call: hub.CallID(p.CallID),
	}
	ts, next, err := a.cfg.Admin.Transfers(ctx, who.Org, f, p.store())
	if err != nil {
		return list[transfer]{}, err
	}
	snap, err := a.cfg.Admin.Org(ctx, who.Org)
	if err != nil {
		return list[transfer]{}, err
	}
	return listOf(ts, next, func(t store.Transfer) transfer { return viewTransfer(snap, t) }), nil
}

func (a *API) settle(ctx context.Context, who admin.Principal, id string, what store.SettleWhat) (transfer, error) {
	t, err := a.cfg.Admin.SettleTransfer(ctx, who, hub.TransferID(id), what)
	return a.oneTransfer(ctx, who, t, err)
}

func (a *API) oneTransfer(ctx context.Context, who admin.Principal, t store.Transfer, err error) (transfer, error) {
	if err != nil {
		return transfer{}, err
	}
	snap, err := a.cfg.Admin.Org(ctx, who.Org)
	if err != nil {
		return transfer{}, err
	}
	return viewTransfer(snap, t), nil
}
