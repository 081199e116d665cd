package connectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/mappings"
)

// descriptor checks what the connector says of itself.
func (su *suite) descriptor(t *testing.T) {
	if _, err := connectors.Open(su.d, connectors.Config{}); err != nil {
		t.Fatal(err)
	}
	h := su.open(t)
	if wrong := su.d.Destination(h.Destination); len(wrong) > 0 {
		t.Errorf("the harness' destination is refused: %v", wrong)
	}
	for _, raw := range []string{`[]`, `"x"`, `7`, `{`, `{"no_such_member":true}`} {
		wrong := su.d.Destination(json.RawMessage(raw))
		if len(wrong) == 0 {
			t.Errorf("the destination %s is accepted", raw)
		}
		for _, w := range wrong {
			if w.Detail == "" || (w.Pointer != "" && !strings.HasPrefix(w.Pointer, "/")) {
				t.Errorf("the destination %s: field error %+v", raw, w)
			}
		}
	}
	su.d.Destination(nil) // must not panic; whether it is accepted is the connector's affair
	seen := map[string]bool{}
	for _, f := range su.d.Schema(h.Destination).Fields {
		if f.Name == "" || seen[f.Name] {
			t.Errorf("the schema has the field %q twice or without a name", f.Name)
		}
		seen[f.Name] = true
	}
	if su.d.PaceKey != nil && su.d.PaceKey(h.Destination) != su.d.PaceKey(slices.Clone(h.Destination)) {
		t.Error("PaceKey is not a function of the destination")
	}
}

// render checks that rendering is pure, minimal and honest.
func (su *suite) render(t *testing.T) {
	t.Run("pure", func(t *testing.T) {
		s := su.session(t)
		item := s.prepared(s.shareItem(1))
		if !json.Valid(item.Payload.Body) {
			t.Fatalf("the payload is not JSON: %.200s", item.Payload.Body)
		}
		s.tap.arm(0, "")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				p, err := s.conn.Render(item)
				if err != nil || !bytes.Equal(p.Body, item.Payload.Body) || !slices.Equal(p.Losses, item.Payload.Losses) {
					t.Errorf("rendered again, the payload is another one (%v)", err)
				}
			})
		}
		wg.Wait()
		if n, _, _ := s.tap.seen(); n > 0 {
			t.Errorf("Render made %d requests", n)
		}
	})
	t.Run("released only", su.releasedOnly)
	t.Run("losses", su.losses)
	t.Run("overrides", su.overrides)
}

// releasedOnly renders with each field missing in turn, and with each alone.
func (su *suite) releasedOnly(t *testing.T) {
	s := su.session(t)
	call := sampleCall(marker(1, 1))
	call.CRM = &hub.CRM{AccountID: "cnrycrmaccount0001", OpportunityID: "cnrycrmopportun001"}
	for f := range canaries() {
		all := slices.DeleteFunc(everything(), func(g consent.Field) bool { return g == f })
		s.rendersOnly(t, call, all)
		s.rendersOnly(t, call, []consent.Field{f})
		s.rendersOnly(t, call, []consent.Field{f, consent.FieldMatchingEmails, consent.FieldMatchingPhones})
	}
}

func (s *session) rendersOnly(t *testing.T, call hub.Call, fields []consent.Field) {
	t.Helper()
	item := connectors.Item{
		Key: key(1), Kind: hub.KindShare, Destination: s.h.Destination, Release: releaseOf(t, call, fields),
	}
	p, err := s.conn.Render(item)
	if err != nil { // it may have too little to go on, and may not say what it had
		s.checkError("render", err)
		return
	}
	s.noLeak("the payload", string(p.Body), unreleased(fields))
	for _, l := range p.Losses {
		s.noLeak("a loss", l.Field+" "+l.Detail, everyCanary())
	}
}

// losses renders a summary of the greatest length: its end is there, or a loss
// is declared.
func (su *suite) losses(t *testing.T) {
	s := su.session(t)
	call := sampleCall(marker(1, 1))
	call.Title = "cnrytitle " + strings.Repeat("title ", 81) + "e"
	call.Summary = "cnrystart " + strings.Repeat("word ", 9_994) + "cnryend"
	item := s.shareItem(1)
	item.Release = releaseOf(t, call, usual())
	item = s.prepared(item)
	body := string(item.Payload.Body)
	if strings.Contains(body, "cnrystart") && !strings.Contains(body, "cnryend") && len(item.Payload.Losses) == 0 {
		t.Error("a long summary was cut and no loss is declared")
	}
	for _, l := range item.Payload.Losses {
		if l.Field == "" || l.Kind == "" {
			t.Errorf("the loss %+v does not say what was lost", l)
		}
		if l.Kind == mappings.Truncated && l.To >= l.From {
			t.Errorf("the loss %+v is none", l)
		}
	}
	s.share(item)
}

// overrides checks that what the admin mapped is what is sent.
func (su *suite) overrides(t *testing.T) {
	s := su.session(t)
	for _, f := range su.d.Schema(s.h.Destination).Fields {
		if f.Type != mappings.String || f.Values != nil || (f.MaxLength > 0 && f.MaxLength < 40) {
			continue
		}
		item := s.shareItem(1)
		item.Overrides = map[string]any{f.Name: "override41"}
		p, err := s.conn.Render(item)
		if err != nil {
			t.Errorf("render with %s overridden: %v", f.Name, err)
			continue
		}
		if !bytes.Contains(p.Body, []byte("override41")) {
			t.Errorf("%s was overridden, but the payload does not hold the value", f.Name)
		}
	}
}

// push checks sharing when all is well.
func (su *suite) push(t *testing.T) {
	t.Run("one copy", func(t *testing.T) {
		s := su.session(t)
		item := s.prepared(s.shareItem(1))
		s.share(item)
		c := s.wantCopies(item, 1)[0]
		if c.Revision != 1 {
			t.Errorf("the copy was written %d times, want once", c.Revision)
		}
		if !strings.Contains(c.Text, marker(1, 1)) {
			t.Errorf("the copy does not hold the title")
		}
		s.noLeak("the copy", c.Text, unreleased(usual()))
	})
	for name, text := range map[string]string{
		"markup":   `<!channel> <@U123> <https://evil.example|click> & &amp; *b* _i_ ~s~ ` + "`c`" + ` [x](y) <b>&lt;/b></script>`,
		"quoting":  `' OR Name LIKE '%' -- \ " \" \u0000 {{x}} ${x} %s %n`,
		"unicode":  "日本語 עברית 👩🏽‍🚀 e\u0301 \u202eabc\u202c \u2028 \ufeff \U0010ffff",
		"controls": "a\tb\r\nc\x01\x1f\x7fd",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := su.session(t)
			call := sampleCall(marker(1, 1))
			call.Title, call.Summary = text, text+"\n\n"+text
			call.KeyPoints, call.Topics = []string{text}, []string{text}
			call.Participants[0].Name, call.Account.Name = text, text
			call.NextSteps[0].Text = text
			item := s.shareItem(1)
			item.Release = releaseOf(t, call, usual())
			s.share(s.prepared(item))
		})
	}
}

// update checks corrections when all is well.
func (su *suite) update(t *testing.T) {
	s := su.session(t)
	if _, ok := s.raw.(connectors.Updater); !ok {
		return
	}
	r := s.share(s.prepared(s.shareItem(1)))
	other := s.prepared(s.shareItem(2))
	s.share(other)
	item := s.prepared(s.updateItem(1, r))
	ctx, cancel := s.ctx("")
	defer cancel()
	out := s.conn.Update(ctx, s.h.Account, []connectors.Item{item})[0]
	s.wantDelivered("update", item, out)
	c := s.wantCopies(item, 1)[0]
	if c.Revision != 2 {
		t.Errorf("the copy was written %d times, want 2", c.Revision)
	}
	if !strings.Contains(c.Text, marker(1, 2)) || strings.Contains(c.Text, marker(1, 1)) {
		t.Error("the copy does not hold the new text, and only that")
	}
	if c := s.wantCopies(other, 1)[0]; c.Revision != 1 {
		t.Error("the update changed another copy")
	}
}

// erase checks erasures when all is well.
func (su *suite) erase(t *testing.T) {
	s := su.session(t)
	if _, ok := s.raw.(connectors.Eraser); !ok {
		return
	}
	first := s.prepared(s.shareItem(1))
	r := s.share(first)
	other := s.prepared(s.shareItem(2))
	s.share(other)
	ctx, cancel := s.ctx("")
	defer cancel()
	erasure := s.eraseItem(1, r)
	for _, what := range []string{"erase", "erase of what is gone"} {
		out := s.conn.Erase(ctx, s.h.Account, []connectors.Item{erasure})[0]
		s.wantDelivered(what, erasure, out)
		s.wantCopies(first, 0)
		s.wantCopies(other, 1)
	}
	if _, ok := s.raw.(connectors.Updater); !ok {
		return
	}
	item := s.prepared(s.updateItem(1, r))
	out := s.conn.Update(ctx, s.h.Account, []connectors.Item{item})[0]
	s.checkOutcome("update of what is gone", out)
	if n := len(s.h.Copies()[item.Key]); out.Class != connectors.Gone && (out.Class != connectors.Delivered || n != 1) {
		t.Errorf("update of what is gone = %v (%v) with %d copies, want gone", out.Class, out.Err, n)
	}
}

// batch checks full batches, with and without faults.
func (su *suite) batch(t *testing.T) {
	first := 1 // the first request of a push that acts
	t.Run("in order", func(t *testing.T) {
		s := su.session(t)
		items := s.batchItems()
		s.tap.arm(0, "")
		ctx, cancel := s.ctx("")
		defer cancel()
		outs := s.conn.Push(ctx, s.h.Account, items)
		copies := s.wantAllDelivered("push", items, outs)
		for i, out := range outs {
			if !strings.Contains(copies[items[i].Key][0].Text, marker(i+1, 1)) {
				t.Errorf("item %d arrived as another one", i)
			}
			items[i].Receipt = out.Receipt
		}
		if _, acting, _ := s.tap.seen(); len(acting) > 0 {
			first = acting[0]
		}
		s.updateBatch(items)
		s.eraseBatch(items)
	})
	t.Run("of none", func(t *testing.T) {
		s := su.session(t)
		s.tap.arm(0, "")
		if out := s.conn.Push(t.Context(), s.h.Account, nil); len(out) != 0 {
			t.Errorf("%d outcomes for no items", len(out))
		}
		if n, _, _ := s.tap.seen(); n > 0 {
			t.Errorf("%d requests for no items", n)
		}
	})
	for _, f := range Faults() {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			su.batchFault(t, f, first)
		})
	}
}

// batchItems returns a full batch, prepared.
func (s *session) batchItems() []connectors.Item {
	s.t.Helper()
	items := make([]connectors.Item, s.d.BatchSize)
	for i := range items {
		items[i] = s.shareItem(i + 1)
	}
	return s.preparedAll(items)
}

// updateBatch corrects all items in one batch; receipts must have come in
// order for that.
func (s *session) updateBatch(items []connectors.Item) {
	s.t.Helper()
	if _, ok := s.raw.(connectors.Updater); !ok {
		return
	}
	updates := make([]connectors.Item, len(items))
	for i, it := range items {
		updates[i] = s.updateItem(i+1, it.Receipt)
	}
	updates = s.preparedAll(updates)
	ctx, cancel := s.ctx("")
	defer cancel()
	copies := s.wantAllDelivered("update", updates, s.conn.Update(ctx, s.h.Account, updates))
	for i, it := range updates {
		if !strings.Contains(copies[it.Key][0].Text, marker(i+1, 2)) {
			s.t.Errorf("item %d was corrected as another one", i)
		}
	}
}

// eraseBatch removes all items in one batch.
func (s *session) eraseBatch(items []connectors.Item) {
	s.t.Helper()
	if _, ok := s.raw.(connectors.Eraser); !ok {
		return
	}
	erasures := make([]connectors.Item, len(items))
	for i, it := range items {
		erasures[i] = s.eraseItem(i+1, it.Receipt)
	}
	ctx, cancel := s.ctx("")
	defer cancel()
	s.wantAllDelivered("erase", erasures, s.conn.Erase(ctx, s.h.Account, erasures))
}

// batchFault pushes a full batch while the k-th request fails, and settles all
// of it.
func (su *suite) batchFault(t *testing.T, f Fault, k int) {
	s := su.session(t)
	items := s.batchItems()
	for i := range items {
		items[i].Begun = time.Now()
	}
	s.tap.arm(k, f)
	ctx, cancel := s.ctx(f)
	defer cancel()
	outs := s.conn.Push(ctx, s.h.Account, items)
	s.heal(f)
	copies, counts := s.h.Copies(), map[connectors.Class]int{}
	for i, out := range outs {
		s.checkOutcome("push", out)
		counts[out.Class]++
		n := len(copies[items[i].Key])
		lied := s.h.StatusConfirms && f == EmptyOK
		switch out.Class {
		case connectors.Delivered:
			if n != 1 && !lied {
				t.Errorf("item %d is delivered, with %d copies", i, n)
			}
		case connectors.Transient, connectors.RateLimited, connectors.Unauthorized, connectors.Rejected:
			if n != 0 {
				t.Errorf("item %d is %v, but it is there", i, out.Class)
			}
		case connectors.Gone:
			t.Errorf("item %d is gone, but nobody asked for it", i)
		case connectors.Unknown:
		}
	}
	if f == BadMessage && (counts[connectors.Rejected] != 1 || counts[connectors.Delivered] != len(items)-1) {
		t.Errorf("one bad item in a batch of %d: outcomes %v, want all others delivered", len(items), counts)
	}
	s.settleBatch(f, items, outs)
}

// settleBatch does with the outcomes what the hub does and checks that each
// item has exactly one copy, or is honestly ambiguous.
func (s *session) settleBatch(f Fault, items []connectors.Item, outs []connectors.Outcome) {
	s.t.Helper()
	ctx, cancel := s.ctx("")
	defer cancel()
	var unknown, again []connectors.Item
	ambiguous := map[string]bool{}
	for i, out := range outs {
		switch out.Class {
		case connectors.Unknown:
			unknown = append(unknown, items[i])
		case connectors.Transient, connectors.RateLimited, connectors.Unauthorized, connectors.Rejected:
			again = append(again, items[i])
		case connectors.Delivered, connectors.Gone:
		}
	}
	if len(unknown) > 0 {
		for i, found := range s.conn.Reconcile(ctx, s.h.Account, unknown) {
			s.checkFinding(found)
			switch found.Verdict {
			case connectors.NotArrived, connectors.Repeatable:
				again = append(again, unknown[i])
			case connectors.CannotTell:
				ambiguous[unknown[i].Key] = true
			case connectors.Arrived:
			}
		}
	}
	if len(again) > 0 {
		s.wantAllDelivered("push again", again, s.conn.Push(ctx, s.h.Account, again))
	}
	if len(ambiguous) > 0 && s.h.CanReconcile {
		s.t.Errorf("%d items are ambiguous, but the connector is expected to reconcile", len(ambiguous))
	}
	copies := s.h.Copies()
	for _, it := range items {
		n := len(copies[it.Key])
		if n > 1 || (n == 0 && !ambiguous[it.Key] && (!s.h.StatusConfirms || f != EmptyOK)) {
			s.t.Errorf("an item has %d copies after all was settled", n)
		}
	}
}

// account checks what concerns the account itself.
func (su *suite) account(t *testing.T) {
	s := su.session(t)
	ctx, cancel := s.ctx("")
	defer cancel()
	if _, ok := s.raw.(connectors.Identifier); ok {
		id, err := s.conn.Identify(ctx, s.h.Account)
		if err != nil || id.AccountID == "" {
			t.Errorf("Identify = %q, %v", id.AccountID, err)
		}
		for _, f := range []Fault{Outage, BadToken, Revoked, Nonsense, EmptyOK, CutBefore} {
			s.h.Inject(f, -1)
			_, err := s.conn.Identify(ctx, s.h.Account)
			s.heal(f)
			if err == nil {
				t.Errorf("%s: Identify took it for an answer", f)
				continue
			}
			s.checkError("identify", err)
			if got := connectors.AsError(err).Class; (f == BadToken || f == Revoked) && got != connectors.Unauthorized {
				t.Errorf("%s: Identify says %v, want unauthorized", f, got)
			}
		}
	}
	if err := s.conn.Check(ctx, s.h.Account, s.h.Destination); err != nil {
		t.Errorf("Check of the harness' destination: %v", err)
	}
	if _, ok := s.raw.(connectors.Describer); ok {
		if schema, err := s.conn.Describe(ctx, s.h.Account, s.h.Destination); err != nil || len(schema.Fields) == 0 {
			t.Errorf("Describe found %d fields, %v", len(schema.Fields), err)
		}
	}
	if _, ok := s.raw.(connectors.Revoker); ok {
		for range 2 {
			if err := s.conn.Revoke(ctx, s.h.Account); err != nil {
				t.Errorf("Revoke: %v", err)
			}
		}
	}
}

// cancel checks that an operation ends with its context.
func (su *suite) cancel(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		s := su.session(t)
		item := s.prepared(s.shareItem(1))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		out := s.conn.Push(ctx, s.h.Account, []connectors.Item{item})[0]
		s.checkOutcome("push", out)
		quiet(t, &s.h)
		s.wantNotClaimed(item, out)
	})
	t.Run("during", func(t *testing.T) {
		t.Parallel()
		s := su.session(t)
		item := s.prepared(s.shareItem(1))
		s.h.Inject(Slow, -1)
		arrived := s.h.Requests()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		outs := make(chan connectors.Outcome, 1)
		go func() { outs <- s.conn.Push(ctx, s.h.Account, []connectors.Item{item})[0] }()
		until(t, "the request arrived", func() bool { return s.h.Requests() > arrived })
		cancel()
		select {
		case out := <-outs:
			s.checkOutcome("push", out)
			s.heal(Slow)
			s.wantNotClaimed(item, out)
		case <-time.After(s.wait):
			t.Fatal("Push goes on although its context was cancelled")
		}
	})
}

// wantNotClaimed checks the outcome of a cancelled push.
func (s *session) wantNotClaimed(item connectors.Item, out connectors.Outcome) {
	s.t.Helper()
	n := len(s.h.Copies()[item.Key])
	switch {
	case out.Class == connectors.Unknown:
	case out.Class == connectors.Transient && n == 0:
	default:
		s.t.Errorf("a cancelled push is %v (%v), with %d copies", out.Class, out.Err, n)
	}
}

// concurrent checks that a connector can be used by several goroutines.
func (su *suite) concurrent(t *testing.T) {
	s := su.session(t)
	const goroutines = 8
	items := make([]connectors.Item, goroutines)
	for i := range items {
		items[i] = s.shareItem(i + 1)
	}
	ctx, cancel := s.ctx("")
	defer cancel()
	outs := make([]connectors.Outcome, goroutines)
	var wg sync.WaitGroup
	for i := range items {
		wg.Go(func() {
			batch := items[i : i+1 : i+1]
			found, err := s.conn.Resolve(ctx, s.h.Account, batch)
			if err != nil {
				t.Errorf("resolve: %v", err)
				return
			}
			batch[0].Targets = found[0]
			if batch[0].Payload, err = s.conn.Render(batch[0]); err != nil {
				t.Errorf("render: %v", err)
				return
			}
			outs[i] = s.conn.Push(ctx, s.h.Account, batch)[0]
		})
	}
	wg.Wait()
	s.wantAllDelivered("push", items, outs)
}
