package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/test/samples"
)

// share is what the API says of one integration and one call.
type share struct {
	Integration hub.IntegrationID `json:"integration_id"`
	Provider    string            `json:"provider"`
	Decision    string            `json:"decision"`
	Reason      *consent.Reason   `json:"reason"`
	TransferID  *string           `json:"transfer_id"`
}

// transfer is what the API says of a transfer.
type transfer struct {
	State   hub.TransferState `json:"state"`
	Kind    hub.TransferKind  `json:"kind"`
	Receipt map[string]string `json:"receipt"`
	Losses  []struct {
		Field  string `json:"field"`
		Kind   string `json:"kind"`
		Detail string `json:"detail"`
	} `json:"losses"`
	Error *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"error"`
}

// accepted is the answer to a posted call.
type accepted struct {
	Revision int     `json:"revision"`
	Status   string  `json:"status"`
	Shares   []share `json:"shares"`
}

// samples posts the sample calls one after the other and says what became of
// each.
func (d *demo) samples(ctx context.Context) error {
	list, err := samples.Load()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.s.title("Calls come in")
	c := newCheck(d)
	for _, s := range list {
		var a accepted
		if err := d.api.do(ctx, "POST", "/v1/calls", s.Raw, &a); err != nil {
			return err
		}
		c.expect(s.Call, a)
		if err := d.tell(ctx, s, a); err != nil {
			return err
		}
	}
	return d.conclude(c)
}

// tell says what was decided about a call and, when it has arrived, where.
func (d *demo) tell(ctx context.Context, s samples.Sample, a accepted) error {
	facts := []string{fmt.Sprintf("%d min", (s.Call.DurationSeconds+30)/60)}
	if s.Call.Language != "" {
		facts = append(facts, s.Call.Language)
	}
	if s.Revision > 1 {
		facts = append(facts, "corrected")
	}
	d.s.line("")
	d.s.line("  " + d.s.paint("1", cut(s.Call.Title, 60)) + "  " + d.s.dim(strings.Join(facts, " · ")))
	for _, sh := range a.Shares {
		line, err := d.outcome(ctx, sh)
		if err != nil {
			return err
		}
		d.s.line("    " + line)
	}
	return nil
}

// patience is how long the demo waits for one transfer. Slack takes one message
// a second in a channel; nothing else should keep it waiting.
const patience = 30 * time.Second

func (d *demo) outcome(ctx context.Context, sh share) (string, error) {
	name := map[string]string{"salesforce": "Salesforce", "slack": "Slack"}[sh.Provider]
	if sh.Decision != "share" || sh.TransferID == nil {
		why := ""
		if sh.Reason != nil {
			why = sh.Reason.Sentence("en")
		}
		return d.s.held("–") + fmt.Sprintf(" %-11s", name) + d.s.held("withheld") + "  " + why, nil
	}
	t, err := d.settled(ctx, *sh.TransferID)
	if err != nil {
		return "", err
	}
	if t.State != hub.StateDelivered {
		text := string(t.State)
		if t.Error != nil {
			text += ": " + t.Error.Code + " " + t.Error.Detail
		}
		return d.s.bad("✗") + fmt.Sprintf(" %-11s", name) + d.s.bad(text), nil
	}
	verb := "shared"
	if t.Kind == hub.KindUpdate {
		verb = "edited in place"
	}
	text := []string{d.s.good("✓") + fmt.Sprintf(" %-11s", name) + d.s.good(verb) + "  " + d.place(sh.Provider, t.Receipt)}
	for _, l := range t.Losses {
		note := l.Field + " " + l.Kind
		if l.Detail != "" {
			note += ": " + l.Detail
		}
		text = append(text, strings.Repeat(" ", 17)+d.s.dim(note))
	}
	return strings.Join(text, "\n"), nil
}

// settled waits until a transfer has come to an end.
func (d *demo) settled(ctx context.Context, id string) (transfer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		var t transfer
		if err := d.api.do(ctx, "GET", "/v1/transfers/"+id, nil, &t); err != nil {
			return t, err
		}
		if !t.State.Open() {
			return t, nil
		}
		select {
		case <-ctx.Done():
			return t, fmt.Errorf("demo: a transfer is still %s after %v: %w", t.State, patience, ctx.Err())
		case <-tick.C:
		}
	}
}

// place says in words where a copy is.
func (d *demo) place(provider string, receipt map[string]string) string {
	if provider == "slack" {
		for _, m := range d.slack.Messages(receipt["channel"]) {
			if m.TS == receipt["ts"] {
				return "card in #" + channelName(receipt["channel"])
			}
		}
		return "nowhere to be seen"
	}
	task, ok := d.crm.Record(receipt["id"])
	if !ok {
		return "nowhere to be seen"
	}
	on := []string{}
	for _, link := range []string{"WhoId", "WhatId"} {
		if r, ok := d.crm.Record(task.Text(link)); ok {
			name := r.Text("Name")
			if name == "" {
				name = strings.TrimSpace(r.Text("FirstName") + " " + r.Text("LastName"))
			}
			on = append(on, name)
		}
	}
	if len(on) == 0 {
		return "call logged, nobody of it is known to the CRM"
	}
	return "call logged on " + strings.Join(on, ", ")
}

func channelName(id string) string {
	w, err := samples.LoadWorkspace()
	if err == nil {
		for _, c := range w.Channels {
			if c.ID == id {
				return c.Name
			}
		}
	}
	return id
}

const postBatch = 100

// generated posts generated calls in batches and watches until all have come to
// an end.
func (d *demo) generated(ctx context.Context) error {
	calls := samples.Generate(rand.New(rand.NewPCG(1, uint64(d.o.Calls))), d.o.Calls)
	d.s.title(fmt.Sprintf("%d generated calls", len(calls)))
	c := newCheck(d)
	posted := bar{s: d.s, what: "posted", total: len(calls), last: -1}
	for from := 0; from < len(calls); from += postBatch {
		part := calls[from:min(from+postBatch, len(calls))]
		var out struct {
			Results []json.RawMessage `json:"results"`
		}
		if err := d.api.do(ctx, "POST", "/v1/calls:batch", map[string]any{"calls": part}, &out); err != nil {
			return err
		}
		for i, raw := range out.Results {
			var a accepted
			if err := json.Unmarshal(raw, &a); err != nil || a.Status == "" {
				return fmt.Errorf("demo: call %d was not accepted: %s", from+i, raw)
			}
			c.expect(part[i], a)
		}
		posted.at(from + len(part))
	}
	if err := d.watch(ctx, c); err != nil {
		return err
	}
	return d.conclude(c)
}

// watch follows the copies as they arrive.
func (d *demo) watch(ctx context.Context, c *check) error {
	arrived := bar{s: d.s, what: "delivered", total: c.shares, last: -1}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, since := -1, time.Now()
	for {
		n := min(c.arrived(), c.shares)
		arrived.at(n)
		if n >= c.shares {
			return d.quiet(ctx)
		}
		if n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("demo: nothing has arrived for %v: %d of %d", patience, n, c.shares)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("demo: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// quiet waits until no transfer is open any more.
func (d *demo) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		if err := d.api.do(ctx, "GET", "/v1/transfers?state=waiting&limit=1", nil, &list); err != nil {
			return err
		}
		open := len(list.Items)
		if err := d.api.do(ctx, "GET", "/v1/transfers?state=sending&limit=1", nil, &list); err != nil {
			return err
		}
		if open+len(list.Items) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("demo: transfers are still under way after %v: %w", patience, ctx.Err())
		case <-tick.C:
		}
	}
}
