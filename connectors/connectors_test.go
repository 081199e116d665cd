package connectors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/mappings"
)

// plain is a connector that can do nothing optional.
type plain struct {
	outcomes int // how many Push returns
}

func (plain) Render(connectors.Item) (connectors.Payload, error) {
	return connectors.Payload{Body: json.RawMessage(`{}`)}, nil
}

func (p plain) Push(context.Context, connectors.Account, []connectors.Item) []connectors.Outcome {
	out := make([]connectors.Outcome, p.outcomes)
	for i := range out {
		out[i] = connectors.Done(connectors.Receipt{"id": fmt.Sprint(i)})
	}
	return out
}

// able can do everything, and returns as many results as it is told.
type able struct {
	plain
	results int
	err     error
}

func (a able) Update(ctx context.Context, acc connectors.Account, items []connectors.Item) []connectors.Outcome {
	return a.Push(ctx, acc, items)
}

func (a able) Erase(ctx context.Context, acc connectors.Account, items []connectors.Item) []connectors.Outcome {
	return a.Push(ctx, acc, items)
}

func (a able) Resolve(context.Context, connectors.Account, []connectors.Item) ([]connectors.Targets, error) {
	return make([]connectors.Targets, a.results), a.err
}

func (able) LookUps(connectors.Item) []string { return []string{"contact by e-mail"} }

func (a able) Reconcile(context.Context, connectors.Account, []connectors.Item) []connectors.Finding {
	out := make([]connectors.Finding, a.results)
	for i := range out {
		out[i].Verdict = connectors.Arrived
	}
	return out
}

func (able) Describe(context.Context, connectors.Account, json.RawMessage) (mappings.Schema, error) {
	return mappings.Schema{Fields: []mappings.Field{{Name: "text"}}}, nil
}

func (a able) Check(context.Context, connectors.Account, json.RawMessage) error { return a.err }

func (able) Identify(context.Context, connectors.Account) (connectors.Identity, error) {
	return connectors.Identity{AccountID: "1"}, nil
}

func (a able) Revoke(context.Context, connectors.Account) error { return a.err }

func descriptor(name string, c connectors.Connector) connectors.Descriptor {
	return connectors.Descriptor{
		Name: name, Title: "Test", Summary: "Nothing arrives.", BatchSize: 10,
		Destination: func(json.RawMessage) []hub.FieldError { return nil },
		Schema:      func(json.RawMessage) mappings.Schema { return mappings.Schema{} },
		New:         func(connectors.Config) (connectors.Connector, error) { return c, nil },
	}
}

func open(t *testing.T, c connectors.Connector) *connectors.Conn {
	t.Helper()
	conn, err := connectors.Open(descriptor("test", c), connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func items(n int) []connectors.Item { return make([]connectors.Item, n) }

func TestOpenRefusesIncompleteDescriptors(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*connectors.Descriptor){
		"no name":        func(d *connectors.Descriptor) { d.Name = "" },
		"no title":       func(d *connectors.Descriptor) { d.Title = "" },
		"no summary":     func(d *connectors.Descriptor) { d.Summary = "" },
		"no batch":       func(d *connectors.Descriptor) { d.BatchSize = 0 },
		"batch of 201":   func(d *connectors.Descriptor) { d.BatchSize = 201 },
		"no New":         func(d *connectors.Descriptor) { d.New = nil },
		"no Destination": func(d *connectors.Descriptor) { d.Destination = nil },
		"no Schema":      func(d *connectors.Descriptor) { d.Schema = nil },
		"a key but no pace": func(d *connectors.Descriptor) {
			d.PaceKey = func(json.RawMessage) string { return "" }
		},
		"a pace but no key": func(d *connectors.Descriptor) { d.PaceInterval = time.Second },
		"New fails": func(d *connectors.Descriptor) {
			d.New = func(connectors.Config) (connectors.Connector, error) { return nil, io.EOF }
		},
	} {
		d := descriptor("test", plain{})
		spoil(&d)
		if _, err := connectors.Open(d, connectors.Config{}); err == nil {
			t.Errorf("%s: the descriptor is accepted", name)
		}
	}
}

// TestMissingCapabilities checks what the hub gets from a connector that can
// render and push only.
func TestMissingCapabilities(t *testing.T) {
	t.Parallel()
	c, ctx := open(t, plain{}), t.Context()
	for op, outs := range map[string][]connectors.Outcome{
		"updates_unsupported": c.Update(ctx, connectors.Account{}, items(2)),
		"erase_unsupported":   c.Erase(ctx, connectors.Account{}, items(2)),
	} {
		if len(outs) != 2 {
			t.Fatalf("%s: %d outcomes, want 2", op, len(outs))
		}
		for _, o := range outs {
			if o.Class != connectors.Rejected || o.Err.Code != op || o.Err.Detail == "" || !errors.Is(o.Err, connectors.ErrUnsupported) {
				t.Errorf("%s: outcome %v (%v)", op, o.Class, o.Err)
			}
		}
	}
	if c.CanUpdate() || !open(t, able{}).CanUpdate() {
		t.Error("CanUpdate does not say what is so")
	}
	if found, err := c.Resolve(ctx, connectors.Account{}, items(2)); err != nil || len(found) != 2 {
		t.Errorf("Resolve found %v, %v", found, err)
	}
	if l := c.LookUps(connectors.Item{}); l != nil {
		t.Errorf("LookUps %v", l)
	}
	for _, f := range c.Reconcile(ctx, connectors.Account{}, items(2)) {
		if f.Verdict != connectors.CannotTell || f.Err != nil {
			t.Errorf("Reconcile found %+v, want that nothing can be told", f)
		}
	}
	if _, err := c.Describe(ctx, connectors.Account{}, nil); !errors.Is(err, connectors.ErrUnsupported) {
		t.Errorf("Describe: %v", err)
	}
	if _, err := c.Identify(ctx, connectors.Account{}); !errors.Is(err, connectors.ErrUnsupported) {
		t.Errorf("Identify: %v", err)
	}
	if err := errors.Join(c.Check(ctx, connectors.Account{}, nil), c.Revoke(ctx, connectors.Account{})); err != nil {
		t.Errorf("Check and Revoke: %v", err)
	}
}

func TestCapabilitiesArePassedOn(t *testing.T) {
	t.Parallel()
	broken := &connectors.Error{Class: connectors.Rejected, Code: "not_in_channel"}
	c, ctx := open(t, able{plain: plain{outcomes: 2}, results: 2}), t.Context()
	for op, outs := range map[string][]connectors.Outcome{
		"push":   c.Push(ctx, connectors.Account{}, items(2)),
		"update": c.Update(ctx, connectors.Account{}, items(2)),
		"erase":  c.Erase(ctx, connectors.Account{}, items(2)),
	} {
		if len(outs) != 2 || outs[1].Class != connectors.Delivered || outs[1].Receipt["id"] != "1" {
			t.Errorf("%s: outcomes %v", op, outs)
		}
	}
	if f := c.Reconcile(ctx, connectors.Account{}, items(2)); len(f) != 2 || f[1].Verdict != connectors.Arrived {
		t.Errorf("findings %v", f)
	}
	if s, err := c.Describe(ctx, connectors.Account{}, nil); err != nil || len(s.Fields) != 1 {
		t.Errorf("Describe = %v, %v", s, err)
	}
	if id, err := c.Identify(ctx, connectors.Account{}); err != nil || id.AccountID != "1" {
		t.Errorf("Identify = %v, %v", id, err)
	}
	if l := c.LookUps(connectors.Item{}); len(l) != 1 {
		t.Errorf("LookUps = %v", l)
	}
	bad := open(t, able{err: broken})
	if err := bad.Check(ctx, connectors.Account{}, nil); !errors.Is(err, broken) {
		t.Errorf("Check = %v", err)
	}
	if err := bad.Revoke(ctx, connectors.Account{}); !errors.Is(err, broken) {
		t.Errorf("Revoke = %v", err)
	}
	if _, err := bad.Resolve(ctx, connectors.Account{}, items(1)); connectors.AsError(err) != broken {
		t.Errorf("Resolve = %v", err)
	}
	if p, err := c.Render(connectors.Item{}); err != nil || string(p.Body) != "{}" {
		t.Errorf("Render = %s, %v", p.Body, err)
	}
}

// TestWrongNumberOfResults checks that no item takes another's result, and that
// what nothing was said of is unknown.
func TestWrongNumberOfResults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for returned := range 5 {
		c := open(t, able{plain: plain{outcomes: returned}, results: returned})
		outs := c.Push(ctx, connectors.Account{}, items(2))
		found := c.Reconcile(ctx, connectors.Account{}, items(2))
		if len(outs) != 2 || len(found) != 2 {
			t.Fatalf("%d returned: %d outcomes and %d findings, want 2", returned, len(outs), len(found))
		}
		for i := range 2 {
			class, verdict := connectors.Unknown, connectors.CannotTell
			if i < returned {
				class, verdict = connectors.Delivered, connectors.Arrived
			}
			if outs[i].Class != class || (class == connectors.Unknown) != (outs[i].Err != nil) {
				t.Errorf("%d returned: outcome %d is %v (%v), want %v", returned, i, outs[i].Class, outs[i].Err, class)
			}
			if found[i].Verdict != verdict {
				t.Errorf("%d returned: finding %d is %v, want %v", returned, i, found[i].Verdict, verdict)
			}
		}
		if _, err := c.Resolve(ctx, connectors.Account{}, items(2)); (err == nil) != (returned == 2) {
			t.Errorf("%d returned: Resolve = %v", returned, err)
		}
	}
}

// TestErrorText checks that an error prints what it was given for people, and
// not its cause.
func TestErrorText(t *testing.T) {
	t.Parallel()
	cause := errors.New("post https://acme.example?token=cnry")
	e := &connectors.Error{Class: connectors.Unknown, Op: "push", Code: "connection_cut", Detail: "the connection ended", Err: cause}
	if got, want := e.Error(), "push: unknown: connection_cut: the connection ended"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	for _, verb := range []string{"%v", "%s", "%q", "%+v"} {
		if s := fmt.Sprintf(verb, e); strings.Contains(s, "cnry") {
			t.Errorf("%s prints the cause: %s", verb, s)
		}
	}
	if !errors.Is(e, cause) {
		t.Error("the cause is lost")
	}
	wrapped := fmt.Errorf("share: %w", e)
	if connectors.AsError(wrapped) != e {
		t.Error("AsError does not find the error")
	}
	if got := connectors.AsError(cause); got.Class != connectors.Unknown || got.Code != "internal" || strings.Contains(got.Error(), "cnry") {
		t.Errorf("AsError of a stranger = %v", got)
	}
}

func TestClassNames(t *testing.T) {
	t.Parallel()
	var got []string
	for c := connectors.Unknown; c <= connectors.Gone+1; c++ {
		got = append(got, c.String())
	}
	want := []string{"unknown", "delivered", "transient", "rate_limited", "unauthorized", "rejected", "gone", "class(7)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if s := connectors.Class(-1).String(); s != "class(-1)" {
		t.Errorf("class -1 is %q", s)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	if o := (connectors.Outcome{}); o.Class != connectors.Unknown {
		t.Errorf("the zero outcome is %v, want unknown", o.Class)
	}
	e := &connectors.Error{Class: connectors.Gone}
	for _, o := range connectors.FailAll(3, e) {
		if o.Class != connectors.Gone || o.Err != e {
			t.Errorf("outcome %+v", o)
		}
	}
	loss := mappings.Loss{Field: "text", Kind: mappings.Dropped}
	if o := connectors.Done(connectors.Receipt{"id": "1"}, loss); o.Class != connectors.Delivered || o.Err != nil || len(o.Losses) != 1 {
		t.Errorf("Done = %+v", o)
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	var told connectors.Config
	a := descriptor("a", plain{})
	a.New = func(cfg connectors.Config) (connectors.Connector, error) { told = cfg; return plain{}, nil }
	r, err := connectors.NewRegistry(
		[]connectors.Descriptor{descriptor("b", plain{}), a},
		map[string]connectors.Config{"a": {APIVersion: "67.0"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "a"}, r.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if told.APIVersion != "67.0" {
		t.Errorf("a was told %+v", told)
	}
	if c, ok := r.Get("a"); !ok || c.Descriptor().Name != "a" {
		t.Error("a is not there")
	}
	if _, ok := r.Get("c"); ok {
		t.Error("c is there")
	}
	r.Names()[0] = "changed"
	if r.Names()[0] != "b" {
		t.Error("a caller can change the registry")
	}
	for name, ds := range map[string][]connectors.Descriptor{
		"twice":      {descriptor("a", plain{}), descriptor("a", plain{})},
		"incomplete": {{Name: "a"}},
	} {
		if _, err := connectors.NewRegistry(ds, nil); err == nil {
			t.Errorf("%s: the registry is made", name)
		}
	}
}
