package salesforce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/mappings"
)

// maxColumns is how many fields that do not exist are taken out of a
// collections call, each at the cost of sending it again, before it is given
// up. Salesforce names one at a time and refuses the whole call for it.
const maxColumns = 3

// Push implements [connectors.Connector].
func (c *connector) Push(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.api(a, "push").write(ctx, items, true)
}

// Update implements [connectors.Updater]. A record that the receipt does not
// name is looked for by its key, and never made anew.
func (c *connector) Update(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	return c.api(a, "update").write(ctx, items, false)
}

// row is one record on its way.
type row struct {
	item     int // index of the item
	id       string
	record   map[string]json.RawMessage
	losses   []mappings.Loss
	repaired bool // was sent again without what Salesforce refused
}

// write writes every item and returns how each ended. create says whether a
// record that is not there is made.
func (a *api) write(ctx context.Context, items []connectors.Item, create bool) []connectors.Outcome {
	out := make([]connectors.Outcome, len(items))
	var byID []*row
	upserts := map[string][]*row{} // by external id field
	missing := map[string][]*row{} // records to be looked for, by the field that carries the key
	for i := range items {
		d, record, err := readPayload(&items[i])
		if err != nil {
			out[i] = connectors.Failed(&connectors.Error{Class: connectors.Rejected, Op: a.op, Code: "payload_unreadable", Detail: "the record cannot be written as it was rendered", Err: err})
			continue
		}
		r := &row{item: i, record: record, id: receiptID(items[i].Receipt)}
		switch {
		case r.id != "":
			byID = append(byID, r)
		case create && d.ExternalIDField != "":
			upserts[d.ExternalIDField] = append(upserts[d.ExternalIDField], r)
		default:
			field := keyField(d)
			missing[field] = append(missing[field], r)
		}
	}
	var creates []*row
	for _, field := range slices.Sorted(maps.Keys(missing)) {
		found, absent := a.findRows(ctx, field, missing[field], items, out)
		byID = append(byID, found...)
		if create {
			creates = append(creates, absent...)
			continue
		}
		for _, r := range absent {
			e := &connectors.Error{Op: a.op, Code: "NOT_FOUND"}
			apply(e, verdictOf(e.Code))
			out[r.item] = connectors.Failed(e)
		}
	}
	for _, r := range byID {
		r.record["id"] = quoted(r.id)
		delete(r.record, fieldSubtype) // "set at creation, cannot be changed later"
	}
	a.writeRows(ctx, http.MethodPatch, "composite/sobjects", "", byID, out)
	for _, field := range slices.Sorted(maps.Keys(upserts)) {
		a.writeRows(ctx, http.MethodPatch, "composite/sobjects/Task/"+url.PathEscape(field), field, upserts[field], out)
	}
	a.writeRows(ctx, http.MethodPost, "composite/sobjects", "", creates, out)
	return out
}

// keyField is the field of a task that carries the item's key.
func keyField(d destination) string {
	if d.ExternalIDField != "" {
		return d.ExternalIDField
	}
	return fieldCallObject
}

// readPayload returns the destination and the record of an item, with the type
// that a collections call asks for.
func readPayload(item *connectors.Item) (destination, map[string]json.RawMessage, error) {
	d, err := parseDestination(item.Destination)
	if err != nil {
		return d, nil, err
	}
	var record map[string]json.RawMessage
	if err := json.Unmarshal(item.Payload.Body, &record); err != nil {
		return d, nil, fmt.Errorf("read payload: %w", err)
	}
	// The record must be this item's: its key is in it, and nothing that names
	// another record.
	key := quoted(item.Key)
	if !bytes.Equal(record[fieldCallObject], key) || (d.ExternalIDField != "" && !bytes.Equal(record[d.ExternalIDField], key)) {
		return d, nil, errors.New("read payload: the record is not the item's")
	}
	for name := range record {
		if strings.EqualFold(name, "id") || strings.EqualFold(name, "attributes") {
			return d, nil, errors.New("read payload: the record names another")
		}
	}
	record["attributes"] = json.RawMessage(`{"type":"Task"}`)
	return d, record, nil
}

func quoted(s string) json.RawMessage { return json.RawMessage(`"` + s + `"`) } // an id or a key: nothing to escape

// findRows looks up which of rows are at Salesforce already. A failure ends all
// of them, since none was written.
func (a *api) findRows(ctx context.Context, field string, rows []*row, items []connectors.Item, out []connectors.Outcome) (found, absent []*row) {
	keys := make([]string, len(rows))
	for i, r := range rows {
		keys[i] = items[r.item].Key
	}
	ids, err := a.locate(ctx, field, keys)
	if err != nil {
		for _, r := range rows {
			out[r.item] = connectors.Failed(err)
		}
		return nil, nil
	}
	for _, r := range rows {
		if r.id = ids[items[r.item].Key]; r.id != "" {
			found = append(found, r)
		} else {
			absent = append(absent, r)
		}
	}
	return found, absent
}

// locate returns the ids of the tasks that carry the keys in field. Archived
// ones are found, those in the recycle bin are not. Of several with one key the
// oldest counts.
func (a *api) locate(ctx context.Context, field string, keys []string) (map[string]string, *connectors.Error) {
	ids := make(map[string]string, len(keys))
	for _, part := range chunks(keys, costOfLiteral) {
		rows, err := a.queryAll(ctx, "SELECT Id, "+field+" FROM Task WHERE "+field+" IN "+literals(part)+" AND IsDeleted = false ORDER BY CreatedDate, Id")
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			key, id := r.text(field), r.text("Id")
			if ids[key] == "" && isID(id, prefixTask) {
				ids[key] = id
			}
		}
	}
	return ids, nil
}

// writeRows writes rows by one collections call, and by a second one those that
// Salesforce refused for something they can do without. upsertField is the
// external id of an upsert, "" otherwise.
func (a *api) writeRows(ctx context.Context, method, path, upsertField string, rows []*row, out []connectors.Outcome) {
	columns := 0
	for len(rows) > 0 {
		results, err := a.collections(ctx, method, path, rows)
		if err != nil {
			if columns < maxColumns && dropColumn(err, rows, upsertField) {
				columns++
				continue
			}
			for _, r := range rows {
				out[r.item] = connectors.Failed(err)
			}
			return
		}
		var again []*row
		for i, r := range rows {
			res := results[i]
			switch {
			case res.done() && isID(res.ID, prefixTask):
				out[r.item] = connectors.Done(receipt(a.account.BaseURL, res.ID), r.losses...)
			case res.Success == nil || res.done():
				out[r.item] = connectors.Failed(unreadable(a.op, false))
			case !r.repaired && r.repair(res.Errors, upsertField):
				r.repaired = true
				again = append(again, r)
			default:
				out[r.item] = connectors.Failed(a.refused(r, res.Errors, upsertField))
			}
		}
		rows = again
	}
}

// refused classifies the refusal of a row, where what the code alone says is
// not the whole truth.
func (a *api) refused(r *row, errs []rawError, upsertField string) *connectors.Error {
	e := refusedRow(a.op, errs)
	if len(errs) == 0 {
		return e
	}
	said := errs[0].refusal()
	switch {
	case said.code == codeBadLink && r.id != "" && !r.has(fieldWho, fieldWhat, fieldOwner):
		// Nothing left that could be a bad link but the record's own id.
		apply(e, verdictOf("NOT_FOUND"))
	case said.code == "DUPLICATE_VALUE" && upsertField != "" && (len(said.fields) == 0 || slices.Contains(said.fields, upsertField)):
		// Somebody created the record since Salesforce looked for it: the
		// next upsert finds it.
		e.Class, e.Detail = connectors.Transient, "the record is being written by somebody else"
	}
	return e
}

// has reports whether the row sets any of the fields.
func (r *row) has(fields ...string) bool {
	return slices.ContainsFunc(fields, func(f string) bool { return r.record[f] != nil })
}

// drop takes a field out of the row and records the loss.
func (r *row) drop(field string, kind mappings.LossKind, detail string) bool {
	if r.record[field] == nil {
		return false
	}
	delete(r.record, field)
	r.losses = append(r.losses, mappings.Loss{Field: field, Kind: kind, Detail: detail})
	return true
}

// Details of what was dropped because Salesforce refused it.
const (
	lostLink   = "Salesforce refuses the link; the task is written without it"
	lostOwner  = "Salesforce refuses the owner; the task belongs to the connected user"
	lostValue  = "Salesforce refuses the value; the task is written without it"
	lostColumn = "the field does not exist in the Salesforce org, or the connected user cannot see it"
)

// repair takes out of the row what Salesforce refused, if the record is worth
// writing without it, and reports whether there was anything to take out.
func (r *row) repair(errs []rawError, upsertField string) bool {
	changed := false
	for _, raw := range errs {
		e := raw.refusal()
		switch e.code {
		case codeBadLink, codeNoAccessToLink, "FIELD_INTEGRITY_EXCEPTION", "INSUFFICIENT_ACCESS_OR_READONLY":
			changed = r.dropLinks(e.fields) || changed
		case "INACTIVE_OWNER_OR_USER", "TRANSFER_REQUIRES_READ":
			changed = r.drop(fieldOwner, mappings.Replaced, lostOwner) || changed
		case "INVALID_FIELD_FOR_INSERT_UPDATE":
			// An upsert that meets an existing record may not carry the
			// subtype, which that record has already: no loss.
			if slices.Contains(e.fields, fieldSubtype) && r.has(fieldSubtype) {
				delete(r.record, fieldSubtype)
				changed = true
			}
			changed = r.dropOptional(e.fields, upsertField) || changed
		case "STRING_TOO_LONG", "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "NUMBER_OUTSIDE_VALID_RANGE", "INVALID_TYPE_ON_FIELD_IN_RECORD",
			"INVALID_EMAIL_ADDRESS", "MALFORMED_ID":
			changed = r.dropOptional(e.fields, upsertField) || changed
		}
	}
	return changed
}

// dropLinks takes out the links that Salesforce named; if it named none, those
// to person and subject; and if there are none, the owner.
func (r *row) dropLinks(named []string) bool {
	who := func() bool { return r.drop(fieldWho, mappings.Dropped, lostLink) }
	what := func() bool { return r.drop(fieldWhat, mappings.Dropped, lostLink) }
	owner := func() bool { return r.drop(fieldOwner, mappings.Replaced, lostOwner) }
	changed := false
	for _, f := range named {
		switch f {
		case fieldWho:
			changed = who() || changed
		case fieldWhat:
			changed = what() || changed
		case fieldOwner:
			changed = owner() || changed
		}
	}
	if changed {
		return true
	}
	a, b := who(), what()
	return a || b || owner()
}

// dropOptional takes out the fields that Salesforce named, if a record without
// them is still the call. Subject, comments and status are not of that kind.
func (r *row) dropOptional(named []string, upsertField string) bool {
	changed := false
	for _, f := range named {
		optional := isCustomField(f) && !strings.EqualFold(f, upsertField)
		switch f {
		case fieldCallType, fieldDisposition, fieldDuration, fieldPriority, fieldDate:
			optional = true
		}
		if optional {
			changed = r.drop(f, mappings.Dropped, lostValue) || changed
		}
	}
	return changed
}

// dropColumn takes the custom field that a refused call named out of every row
// that sets it. false: there was none.
func dropColumn(err *connectors.Error, rows []*row, upsertField string) bool {
	said, ok := errors.AsType[*refusal](err)
	if !ok || said.code != "INVALID_FIELD" || !isCustomField(said.column) || strings.EqualFold(said.column, upsertField) {
		return false
	}
	changed := false
	for _, r := range rows {
		changed = r.drop(said.column, mappings.Dropped, lostColumn) || changed
	}
	return changed
}

// rowResult is one entry of the answer to a collections call.
type rowResult struct {
	ID      string     `json:"id"`
	Success *bool      `json:"success"` // nil: it does not say
	Errors  []rawError `json:"errors"`
}

func (r rowResult) done() bool { return r.Success != nil && *r.Success }

// collections makes one collections call. Each row stands for itself
// (allOrNone is false).
func (a *api) collections(ctx context.Context, method, path string, rows []*row) ([]rowResult, *connectors.Error) {
	in := struct {
		AllOrNone bool                         `json:"allOrNone"`
		Records   []map[string]json.RawMessage `json:"records"`
	}{Records: make([]map[string]json.RawMessage, len(rows))}
	for i, r := range rows {
		in.Records[i] = r.record
	}
	body, err := canonical(in)
	if err != nil {
		return nil, &connectors.Error{Class: connectors.Rejected, Op: a.op, Code: "payload_unreadable", Detail: "the record cannot be written as it was rendered", Err: err}
	}
	answer, failure := a.call(ctx, method, path, body)
	if failure != nil {
		return nil, failure
	}
	results, ok := decodeResults(answer, len(rows))
	if !ok {
		return nil, unreadable(a.op, false)
	}
	return results, nil
}

// decodeResults reads the answer to a collections call of n rows.
func decodeResults(body []byte, n int) ([]rowResult, bool) {
	var out []rowResult
	if err := json.Unmarshal(body, &out); err != nil || len(out) != n {
		return nil, false
	}
	return out, true
}

// Reconcile implements [connectors.Reconciler]. Whatever can be written again
// without harm needs no look: updates and erasures by record id, and upserts. A
// record without an external id is looked for by its key.
func (c *connector) Reconcile(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Finding {
	w := c.api(a, "reconcile")
	out := make([]connectors.Finding, len(items))
	var open []int
	var keys []string
	for i := range items {
		d, err := parseDestination(items[i].Destination)
		switch {
		case items[i].Kind != hub.KindShare || receiptID(items[i].Receipt) != "" || (err == nil && d.ExternalIDField != ""):
			out[i] = connectors.Finding{Verdict: connectors.Repeatable}
		case err != nil:
			out[i] = connectors.Finding{Err: &connectors.Error{Class: connectors.Rejected, Op: w.op, Code: "payload_unreadable", Detail: "the destination cannot be understood", Err: err}}
		default:
			open, keys = append(open, i), append(keys, items[i].Key)
		}
	}
	if len(open) == 0 {
		return out
	}
	ids, failure := w.locate(ctx, fieldCallObject, keys)
	for _, i := range open {
		id := ids[items[i].Key]
		switch {
		case failure != nil:
			out[i] = connectors.Finding{Err: failure}
		case id != "":
			out[i] = connectors.Finding{Verdict: connectors.Arrived, Receipt: receipt(a.BaseURL, id)}
		default:
			out[i] = c.absent(items[i].Begun)
		}
	}
	return out
}

// absent is the finding for a record that is not there. A request that we gave
// up on may still be at work at Salesforce, so "not there" is only believed
// when as much time has passed since the attempt began as we would have given
// it.
func (c *connector) absent(begun time.Time) connectors.Finding {
	if left := c.settle - time.Since(begun); !begun.IsZero() && left > 0 {
		return connectors.Finding{Err: &connectors.Error{
			Class: connectors.RateLimited, Op: "reconcile", Code: "still_running", RetryAfter: left,
			Detail: "the attempt may still be at work at Salesforce; it is looked for again in a moment",
		}}
	}
	return connectors.Finding{Verdict: connectors.NotArrived}
}
