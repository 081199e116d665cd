package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/hub/store"
)

// accepted is the answer to a call. Intake writes it; this type describes it.
type accepted struct {
	CallID   hub.CallID `json:"call_id" doc:"The id of the call, as it was sent."`
	Revision int        `json:"revision" minimum:"1" doc:"The number of the call's content: 1 at first, one more with each new content."`
	Status   string     `json:"status" enum:"accepted,unchanged,duplicate" doc:"accepted: stored as a new revision. unchanged: the content was known, and nothing was done. duplicate: the request was answered before."`
	Shares   []share    `json:"shares" nullable:"false" doc:"What was decided for each integration of the org."`
}

// share is the decision about one integration.
type share struct {
	IntegrationID hub.IntegrationID `json:"integration_id" doc:"The integration."`
	Provider      string            `json:"provider" doc:"Where it sends to."`
	Decision      string            `json:"decision" enum:"share,withheld" doc:"Whether the call is shared by it."`
	Reason        *string           `json:"reason" doc:"Why it is withheld or, with share, what it waits for. null: it is on its way."`
	TransferID    *hub.TransferID   `json:"transfer_id" doc:"The transfer that carries it; null if it is withheld."`
	Grant         int               `json:"grant,omitempty" doc:"The grant that was in force."`
	Detail        string            `json:"detail,omitempty" doc:"More about the reason."`
}

// callBatch is the body of a batch, for the document.
type callBatch struct {
	Calls []callBody `json:"calls" nullable:"false" maxItems:"500" doc:"The calls. They are accepted in this order, each by itself."`
}

// batchAnswer is the answer to a batch, for the document.
type batchAnswer struct {
	Results []batchResult `json:"results" nullable:"false" doc:"One result for each call, in order: the answer that the call would have had alone, or a problem."`
}

// batchResult is either an accepted or a problem.
type batchResult struct{}

// Schema implements [huma.SchemaProvider].
func (batchResult) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{refTo[accepted](r), refTo[problem](r)}}
}

type idempotent struct {
	Key string `header:"Idempotency-Key" doc:"1 to 255 printable ASCII characters. The same key with the same body gives the same answer and does nothing again, for at least 24 hours; with another body 422 idempotency_key_reused."`
}

const acceptedExample = `{"call_id":"call-2026-11-20-0042","revision":1,"status":"accepted","shares":[` +
	`{"integration_id":"int_q3v5zr2m7wlxk4d6jtb2ho5nea","provider":"slack","decision":"share","reason":null,"transfer_id":"tr_4kz7c2w5bqzj6v3t5r6ahm2nxe","grant":1},` +
	`{"integration_id":"int_b5rj7tq2l4x6cvm3kz5ah2nweo","provider":"salesforce","decision":"withheld","reason":"rule_not_matched","transfer_id":null,"grant":2}]}`

func (a *API) registerCalls() {
	handleRaw[idempotent, callBody, accepted](a, op{
		pattern: "POST /v1/calls", id: "postCall", tag: tagCalls, summary: "Post a call", status: http.StatusAccepted,
		text: "Stores the call and decides for every integration of the org whether it is shared. Once 202 is answered the call is stored and will be shared, whatever happens to us. " +
			"The same id with new content is a new revision, and corrects what was shared; with the same content nothing happens. At most 1 MiB.",
		request: example(callExample), answer: example(acceptedExample),
	}, a.postCall)

	handleRaw[idempotent, callBatch, batchAnswer](a, op{
		pattern: "POST /v1/calls:batch", id: "postCalls", tag: tagCalls, summary: "Post up to 500 calls",
		text: "Each call is accepted or refused by itself; `results` has one entry for each, in order: what the call alone would have been answered, or a problem whose pointers are relative to the call. " +
			"An `Idempotency-Key` holds for each call with its place in the batch. At most 16 MiB, of which each call may have 1 MiB.",
		request: example(`{"calls":[` + callExample + `]}`), answer: example(`{"results":[` + acceptedExample + `]}`),
	}, a.postBatch)

	handle(a, op{
		pattern: "GET /v1/calls/{id}", id: "getCall", tag: tagCalls, summary: "What became of a call, and why",
		text: "The call's newest revision without its content, and for every integration of the org: what was decided, why, under which grant, and where the transfer stands.",
		answer: example(`{"call_id":"call-2026-11-20-0042","revision":1,"status":"accepted","accepted_at":"2026-11-21T00:02:11.345Z","erasure_id":null,"shares":[` +
			`{"integration_id":"int_b5rj7tq2l4x6cvm3kz5ah2nweo","provider":"salesforce","decision":"withheld","reason":"rule_not_matched","reason_text":"The call does not meet the integration's condition.","detail":null,"grant":2,"transfer_id":null,"transfer":null}]}`),
	}, a.getCall)

	handle(a, op{
		pattern: "DELETE /v1/calls/{id}", id: "eraseCall", tag: tagCalls, summary: "Erase a call everywhere", status: http.StatusAccepted,
		text:   "Removes the content here at once and makes a transfer of kind `erase` for each copy at a destination. What waits to be shared is withdrawn. Erasing again gives the same erasure.",
		answer: example(`{"erasure_id":"era_m3kz5ah2nweob5rj7tq2l4x6cv"}`),
	}, a.eraseCall)
}

// postCall accepts one call that came with a key.
func (a *API) postCall(ctx context.Context, x *exchange, _ *idempotent) ([]byte, error) {
	key, err := idempotencyKey(x.r.Header)
	if err == nil {
		var call hub.Call
		if call, err = decodeCall(x.body); err == nil {
			return a.cfg.Intake.Accept(ctx, x.who.Org, intake.Request{
				Actor: x.who.Actor, Key: x.who.Key, Call: call, Body: x.body, IdempotencyKey: key,
			})
		}
	}
	return nil, errors.Join(a.confirm(ctx, x), err)
}

// decodeCall reads a call. The error is a *problem.
func decodeCall(body []byte) (hub.Call, error) {
	if len(body) > maxCall {
		return hub.Call{}, &http.MaxBytesError{Limit: maxCall}
	}
	call, wrong := hub.DecodeCall(body)
	if len(wrong) == 0 {
		return call, nil
	}
	return call, wrongBody(body, wrong)
}

// wrongBody tells a body that is no JSON from one that has wrong members.
func wrongBody(body []byte, wrong []hub.FieldError) error {
	switch {
	case json.Valid(body):
		return invalidInput(wrong...)
	case wrong[0].Pointer == "":
		return newProblem(http.StatusBadRequest, codeMalformedJSON, "The body cannot be read: "+wrong[0].Detail+".")
	}
	return malformed("it is not closed, or nested deeper than any parser should go")
}

// idempotencyKey returns the key as intake is told it: apart from those of
// other kinds of requests. "" if there is none.
func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	printable := !slices.ContainsFunc([]byte(key), func(b byte) bool { return b < ' ' || b > '~' })
	if len(values) > 1 || key == "" || len(key) > 255 || !printable {
		return "", newProblem(http.StatusUnprocessableEntity, codeInvalidKey, "Idempotency-Key must be one value of 1 to 255 printable ASCII characters, or left out.")
	}
	return "key:" + key, nil
}

// postBatch accepts several calls that came with a key.
func (a *API) postBatch(ctx context.Context, x *exchange, _ *idempotent) ([]byte, error) {
	key, err := idempotencyKey(x.r.Header)
	if err != nil {
		return nil, errors.Join(a.confirm(ctx, x), err)
	}
	parts, wrong := hub.SplitBatch(x.body)
	if len(wrong) > 0 {
		return nil, errors.Join(a.confirm(ctx, x), wrongBody(x.body, wrong))
	}
	if err := a.count(x.who.Org, max(0, len(parts)-1)); err != nil {
		return nil, err
	}
	results := make([]intake.Result, len(parts))
	var (
		requests []intake.Request
		places   []int // of requests, among the parts
	)
	for i, part := range parts {
		call, err := decodeCall(part)
		if err != nil {
			results[i].Err = err
			continue
		}
		r := intake.Request{Actor: x.who.Actor, Key: x.who.Key, Call: call, Body: part}
		if key != "" {
			r.IdempotencyKey = fmt.Sprintf("batch:%d:%s", i, key)
		}
		requests, places = append(requests, r), append(places, i)
	}
	if len(requests) == 0 {
		if err := a.confirm(ctx, x); err != nil {
			return nil, err
		}
		return a.batchResults(ctx, results)
	}
	out := a.cfg.Intake.AcceptAll(ctx, x.who.Org, requests)
	if err := forAll(out); err != nil {
		return nil, err
	}
	for k, i := range places {
		results[i] = out[k]
	}
	return a.batchResults(ctx, results)
}

// forAll returns the error that says something about the batch as a whole: the
// sender's key, or a store that none of the calls reached.
func forAll(out []intake.Result) error {
	var last error
	for _, r := range out {
		switch {
		case errors.Is(r.Err, intake.ErrSender):
			return r.Err
		case r.Err == nil || problemOf(r.Err).Status < http.StatusInternalServerError:
			return nil
		}
		last = r.Err
	}
	return last
}

func (a *API) batchResults(ctx context.Context, results []intake.Result) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"results":[`)
	for i, r := range results {
		if i > 0 {
			b.WriteByte(',')
		}
		if r.Err == nil {
			b.Write(r.Answer)
			continue
		}
		p, err := json.Marshal(a.problem(ctx, r.Err))
		if err != nil {
			return nil, fmt.Errorf("api: encode a problem: %w", err)
		}
		b.Write(p)
	}
	b.WriteString(`]}`)
	return b.Bytes(), nil
}

// callStatus is a call without its content.
type callStatus struct {
	CallID     hub.CallID    `json:"call_id" doc:"The id of the call."`
	Revision   int           `json:"revision" minimum:"1" doc:"The number of its newest content."`
	Status     string        `json:"status" enum:"accepted,erased,expired" doc:"accepted: the content is here. erased: it was erased on request. expired: it is gone because its time was over."`
	AcceptedAt *time.Time    `json:"accepted_at" doc:"When the newest revision was accepted."`
	ErasureID  *string       `json:"erasure_id" doc:"The erasure, if the call was erased."`
	Shares     []shareStatus `json:"shares" nullable:"false" doc:"Every integration of the org, and those that were there when the call was accepted."`
}

type shareStatus struct {
	IntegrationID hub.IntegrationID `json:"integration_id" doc:"The integration."`
	Provider      string            `json:"provider" doc:"Where it sends to."`
	Decision      string            `json:"decision" enum:"share,withheld" doc:"What was decided when the call was accepted."`
	Reason        *string           `json:"reason" doc:"Why it was withheld, what it waits for, or why what was decided came to nothing. null: nothing stood in its way."`
	ReasonText    *string           `json:"reason_text" doc:"The reason, for people; in the language of Accept-Language (en, es)."`
	Detail        *string           `json:"detail" doc:"More about the decision."`
	Grant         *int              `json:"grant" doc:"The grant in force when the call was accepted; null if there was none."`
	TransferID    *hub.TransferID   `json:"transfer_id" doc:"The transfer that carries it; null if it was withheld."`
	Transfer      *transfer         `json:"transfer" doc:"That transfer, as it stands now."`
}

// TransformSchema implements [huma.SchemaTransformer].
func (shareStatus) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return orNull(s, "transfer")
}

type callID struct {
	ID string `path:"id" doc:"The call's id." example:"call-2026-11-20-0042"`
}

type callQuery struct {
	ID string `path:"id" doc:"The call's id." example:"call-2026-11-20-0042"`
	Language
}

func (a *API) getCall(ctx context.Context, who admin.Principal, p *callQuery) (callStatus, error) {
	c, err := a.cfg.Admin.Call(ctx, who.Org, hub.CallID(p.ID))
	if err != nil {
		return callStatus{}, err
	}
	snap, err := a.cfg.Admin.Org(ctx, who.Org)
	if err != nil {
		return callStatus{}, err
	}
	v := callStatus{
		CallID: c.ID, Revision: c.Revision, Status: "accepted", AcceptedAt: timeOrNull(c.At),
		ErasureID: textOrNull(c.Erased), Shares: []shareStatus{},
	}
	switch {
	case c.Erased != "":
		v.Status = "erased"
	case c.Forgotten:
		v.Status = "expired"
	}
	var decided []intake.ShareAnswer
	if len(c.Shares) > 0 {
		if err := json.Unmarshal(c.Shares, &decided); err != nil {
			return v, fmt.Errorf("api: read the shares of a call: %w", err)
		}
	}
	for _, d := range decided {
		v.Shares = append(v.Shares, decidedShare(snap, d, c.Transfers, p.lang()))
	}
	for _, i := range snap.Integrations {
		if !slices.ContainsFunc(decided, func(d intake.ShareAnswer) bool { return d.Integration == i.ID }) {
			v.Shares = append(v.Shares, laterShare(snap, i, p.lang()))
		}
	}
	return v, nil
}

// decidedShare is what became of a decision.
func decidedShare(snap *directory.Snapshot, d intake.ShareAnswer, transfers []store.Transfer, lang string) shareStatus {
	v := shareStatus{
		IntegrationID: d.Integration, Provider: d.Provider, Decision: string(d.Decision), Detail: textOrNull(d.Detail),
		Grant: numberOrNull(d.Grant), TransferID: d.Transfer,
	}
	if d.Transfer == nil {
		if d.Reason != nil {
			v.Reason, v.ReasonText = textOrNull(string(*d.Reason)), textOrNull(d.Reason.Sentence(lang))
		}
		return v
	}
	// What it waited for at first may be over: the transfer itself says why it
	// is where it is.
	for _, t := range transfers {
		if t.ID == *d.Transfer {
			view := viewTransfer(snap, t)
			v.Transfer, v.Reason, v.ReasonText = &view, view.Reason, textOrNull(sentence(t, lang))
		}
	}
	return v
}

// laterShare answers for an integration that was made after the call came in.
func laterShare(snap *directory.Snapshot, i *directory.Integration, lang string) shareStatus {
	reason := consent.NotEnabled
	detail := "The integration was made after the call came in."
	v := shareStatus{
		IntegrationID: i.ID, Decision: string(consent.Withheld), Reason: textOrNull(string(reason)),
		ReasonText: textOrNull(reason.Sentence(lang)), Detail: &detail,
	}
	if c, ok := snap.Connections[i.Terms().Connection]; ok {
		v.Provider = c.Provider
	}
	return v
}

type erasure struct {
	ErasureID string `json:"erasure_id" doc:"Names the erasure in the audit log."`
}

func (a *API) eraseCall(ctx context.Context, who admin.Principal, p *callID) (erasure, error) {
	id, err := a.cfg.Admin.EraseCall(ctx, who, hub.CallID(p.ID))
	return erasure{id}, err
}
