package salesforce

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/mappings"
)

// erasedSubject is what a record in the recycle bin is called.
const erasedSubject = "Call erased"

// lostWipe is declared when a record was deleted and its text could not be
// overwritten before.
const lostWipe = "the text could not be overwritten before the record was deleted; it stays in Salesforce's recycle bin until that is emptied (usually after 15 days)"

// Erase implements [connectors.Eraser]. A deleted record lies in the recycle
// bin for some days, from where it can be brought back, and no REST call
// empties that. So the text and the links are overwritten first; then the record
// is deleted; then it is read back, the recycle bin included. Each step is one
// call for the whole batch, and may be repeated.
//
// Custom fields that a mapping filled are overwritten if item.Overrides names
// them.
func (c *connector) Erase(ctx context.Context, a connectors.Account, items []connectors.Item) []connectors.Outcome {
	w := c.api(a, "erase")
	out := make([]connectors.Outcome, len(items))
	rows := w.rowsToErase(ctx, items, out)
	if len(rows) == 0 {
		return out
	}
	fail := func(err *connectors.Error) []connectors.Outcome {
		for _, r := range rows {
			out[r.item] = connectors.Failed(err)
		}
		return out
	}
	wiped, err := w.wipe(ctx, rows)
	if err != nil {
		return fail(err)
	}
	deleted, err := w.remove(ctx, rows)
	if err != nil {
		return fail(err)
	}
	left, err := w.stillThere(ctx, rows)
	if err != nil {
		return fail(err)
	}
	for i, r := range rows {
		switch {
		case left[r.id]:
			out[r.item] = connectors.Failed(refusedRow(w.op, deleted[i].Errors))
		case !wiped[i]:
			out[r.item] = connectors.Done(receipt(a.BaseURL, r.id), mappings.Loss{Field: fieldDescription, Kind: mappings.Dropped, Detail: lostWipe})
		default:
			out[r.item] = connectors.Done(receipt(a.BaseURL, r.id))
		}
	}
	return out
}

// rowsToErase returns a row for every item whose record is at Salesforce or may
// be. An item without a receipt is looked for by its key; one that is not there
// is erased.
func (a *api) rowsToErase(ctx context.Context, items []connectors.Item, out []connectors.Outcome) []*row {
	var rows []*row
	missing := map[string][]*row{}
	for i := range items {
		r := &row{item: i, id: receiptID(items[i].Receipt), record: map[string]json.RawMessage{
			"attributes": json.RawMessage(`{"type":"Task"}`), fieldSubject: quoted(erasedSubject),
		}}
		for _, f := range []string{fieldDescription, fieldDisposition, fieldWho, fieldWhat} {
			r.record[f] = json.RawMessage("null")
		}
		d, err := parseDestination(items[i].Destination)
		for name := range items[i].Overrides {
			if isCustomField(name) && !strings.EqualFold(name, d.ExternalIDField) {
				r.record[name] = json.RawMessage("null")
			}
		}
		switch {
		case r.id != "":
			rows = append(rows, r)
		case err != nil:
			out[i] = connectors.Failed(&connectors.Error{Class: connectors.Rejected, Op: a.op, Code: "payload_unreadable", Detail: "neither receipt nor destination say which record it is", Err: err})
		default:
			missing[keyField(d)] = append(missing[keyField(d)], r)
		}
	}
	for field, list := range missing {
		found, absent := a.findRows(ctx, field, list, items, out)
		rows = append(rows, found...)
		for _, r := range absent {
			out[r.item] = connectors.Done(nil)
		}
	}
	return rows
}

// wipe overwrites the rows and reports for each whether nothing of it is left
// to read. A record that cannot be changed is no reason not to delete it.
func (a *api) wipe(ctx context.Context, rows []*row) ([]bool, *connectors.Error) {
	for _, r := range rows {
		r.record["id"] = quoted(r.id)
	}
	results, err := a.collections(ctx, http.MethodPatch, "composite/sobjects", rows)
	for columns := 0; err != nil && columns < maxColumns && dropColumn(err, rows, ""); columns++ {
		results, err = a.collections(ctx, http.MethodPatch, "composite/sobjects", rows)
	}
	if err != nil {
		return nil, err
	}
	wiped := make([]bool, len(rows))
	for i, res := range results {
		wiped[i] = res.done() || goneAlready(res.Errors)
	}
	return wiped, nil
}

// goneAlready reports whether a record was refused because it does not exist.
func goneAlready(errs []rawError) bool {
	if len(errs) == 0 {
		return false
	}
	code := errs[0].refusal().code
	return code == codeBadLink || verdictOf(code).class == connectors.Gone
}

// remove deletes the rows. What it says of each is only believed together with
// [api.stillThere].
func (a *api) remove(ctx context.Context, rows []*row) ([]rowResult, *connectors.Error) {
	body, err := a.call(ctx, http.MethodDelete, "composite/sobjects?allOrNone=false&ids="+strings.Join(idsOf(rows), ","), nil)
	if err != nil {
		return nil, err
	}
	results, ok := decodeResults(body, len(rows))
	if !ok {
		return nil, unreadable(a.op, false)
	}
	return results, nil
}

// stillThere returns the ids of the records that are not deleted.
func (a *api) stillThere(ctx context.Context, rows []*row) (map[string]bool, *connectors.Error) {
	found, err := a.queryAll(ctx, "SELECT Id, IsDeleted FROM Task WHERE Id IN "+literals(idsOf(rows)))
	if err != nil {
		return nil, err
	}
	left := map[string]bool{}
	for _, r := range found {
		if r["IsDeleted"] != true {
			// A receipt may hold an id in its short form.
			left[r.text("Id")] = true
			left[r.text("Id")[:min(15, len(r.text("Id")))]] = true
		}
	}
	return left, nil
}

func idsOf(rows []*row) []string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.id
	}
	return ids
}
