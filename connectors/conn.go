package connectors

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/optiwe/callbridge/mappings"
)

// Conn is a connector made ready. Code outside this folder uses Conn and never
// asserts a [Connector] itself. It may be used by several goroutines.
type Conn struct {
	d Descriptor
	c Connector
}

// Open makes the connector that d describes.
func Open(d Descriptor, cfg Config) (*Conn, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	c, err := d.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("connector %s: %w", d.Name, err)
	}
	return &Conn{d: d, c: c}, nil
}

func (d Descriptor) validate() error {
	switch {
	case d.Name == "" || d.Title == "" || d.Summary == "":
		return fmt.Errorf("connector %q: name, title and summary are required", d.Name)
	case d.BatchSize < 1 || d.BatchSize > 200:
		return fmt.Errorf("connector %s: batch size %d is not 1 to 200", d.Name, d.BatchSize)
	case d.New == nil || d.Destination == nil || d.Schema == nil:
		return fmt.Errorf("connector %s: New, Destination and Schema are required", d.Name)
	case (d.PaceKey == nil) != (d.PaceInterval == 0):
		return fmt.Errorf("connector %s: PaceKey and PaceInterval go together", d.Name)
	}
	return nil
}

// Descriptor returns what is known of the connector.
func (c *Conn) Descriptor() Descriptor { return c.d }

// Render calls [Connector.Render].
func (c *Conn) Render(item Item) (Payload, error) { return c.c.Render(item) }

// Push calls [Connector.Push].
func (c *Conn) Push(ctx context.Context, a Account, items []Item) []Outcome {
	return exactly(len(items), c.c.Push(ctx, a, items))
}

// Update calls [Updater.Update]. A connector that is no Updater rejects every
// item with the code "updates_unsupported".
func (c *Conn) Update(ctx context.Context, a Account, items []Item) []Outcome {
	u, ok := c.c.(Updater)
	if !ok {
		return FailAll(len(items), &Error{
			Class: Rejected, Op: "update", Code: "updates_unsupported", Err: ErrUnsupported,
			Detail: c.d.Title + " cannot correct what it has received; the earlier version stays as it is",
		})
	}
	return exactly(len(items), u.Update(ctx, a, items))
}

// CanUpdate reports whether the connector carries corrections.
func (c *Conn) CanUpdate() bool { _, ok := c.c.(Updater); return ok }

// Erase calls [Eraser.Erase]. A connector that is no Eraser rejects every item
// with the code "erase_unsupported".
func (c *Conn) Erase(ctx context.Context, a Account, items []Item) []Outcome {
	e, ok := c.c.(Eraser)
	if !ok {
		return FailAll(len(items), &Error{
			Class: Rejected, Op: "erase", Code: "erase_unsupported", Err: ErrUnsupported,
			Detail: c.d.Title + " cannot remove what it has received; ask whoever runs the receiving end",
		})
	}
	return exactly(len(items), e.Erase(ctx, a, items))
}

// Resolve calls [Resolver.Resolve]; a connector that is no Resolver finds
// nothing for any item.
func (c *Conn) Resolve(ctx context.Context, a Account, items []Item) ([]Targets, error) {
	r, ok := c.c.(Resolver)
	if !ok {
		return make([]Targets, len(items)), nil
	}
	found, err := r.Resolve(ctx, a, items)
	if err != nil {
		return nil, AsError(err)
	}
	if len(found) != len(items) {
		return nil, &Error{Class: Unknown, Op: "resolve", Code: "internal", Detail: "the connector returned a wrong number of targets"}
	}
	return found, nil
}

// LookUps calls [Resolver.LookUps].
func (c *Conn) LookUps(item Item) []string {
	if r, ok := c.c.(Resolver); ok {
		return r.LookUps(item)
	}
	return nil
}

// Reconcile calls [Reconciler.Reconcile]; of a connector that is no Reconciler
// nothing can be told.
func (c *Conn) Reconcile(ctx context.Context, a Account, items []Item) []Finding {
	r, ok := c.c.(Reconciler)
	if !ok {
		return make([]Finding, len(items))
	}
	found := make([]Finding, len(items)) // of those left out nothing can be told
	copy(found, r.Reconcile(ctx, a, items))
	return found
}

// Describe calls [Describer.Describe], or returns [ErrUnsupported].
func (c *Conn) Describe(ctx context.Context, a Account, destination json.RawMessage) (mappings.Schema, error) {
	d, ok := c.c.(Describer)
	if !ok {
		return mappings.Schema{}, fmt.Errorf("%s: describe: %w", c.d.Name, ErrUnsupported)
	}
	return d.Describe(ctx, a, destination)
}

// Check calls [Checker.Check]; a connector that is no Checker has nothing to
// check.
func (c *Conn) Check(ctx context.Context, a Account, destination json.RawMessage) error {
	if k, ok := c.c.(Checker); ok {
		return k.Check(ctx, a, destination)
	}
	return nil
}

// Identify calls [Identifier.Identify], or returns [ErrUnsupported].
func (c *Conn) Identify(ctx context.Context, a Account) (Identity, error) {
	i, ok := c.c.(Identifier)
	if !ok {
		return Identity{}, fmt.Errorf("%s: identify: %w", c.d.Name, ErrUnsupported)
	}
	return i.Identify(ctx, a)
}

// Revoke calls [Revoker.Revoke]; a connector that is no Revoker has no token
// that the provider could forget.
func (c *Conn) Revoke(ctx context.Context, a Account) error {
	if r, ok := c.c.(Revoker); ok {
		return r.Revoke(ctx, a)
	}
	return nil
}

// exactly returns n outcomes: a connector that returned too few leaves the
// rest Unknown, which is the truth about them.
func exactly(n int, out []Outcome) []Outcome {
	for len(out) < n {
		out = append(out, Outcome{Class: Unknown, Err: &Error{Class: Unknown, Code: "internal", Detail: "the connector returned too few outcomes"}})
	}
	return out[:n]
}

// Registry holds the connectors of an instance.
type Registry struct {
	order  []string
	byName map[string]*Conn
}

// NewRegistry opens every descriptor with the config of its name; a missing
// one is the zero Config. It returns an error for a name that comes twice or a
// descriptor that is incomplete.
func NewRegistry(ds []Descriptor, configs map[string]Config) (*Registry, error) {
	r := &Registry{byName: make(map[string]*Conn, len(ds))}
	for _, d := range ds {
		if _, dup := r.byName[d.Name]; dup {
			return nil, fmt.Errorf("connector %s: listed twice", d.Name)
		}
		c, err := Open(d, configs[d.Name])
		if err != nil {
			return nil, err
		}
		r.byName[d.Name] = c
		r.order = append(r.order, d.Name)
	}
	return r, nil
}

// Get returns the connector of that name.
func (r *Registry) Get(name string) (*Conn, bool) {
	c, ok := r.byName[name]
	return c, ok
}

// Names returns the connectors' names in the order they were listed.
func (r *Registry) Names() []string { return slices.Clone(r.order) }
