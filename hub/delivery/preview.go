package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/mappings"
)

// Preview is exactly what would leave.
type Preview struct {
	Decision consent.Decision
	Payload  json.RawMessage // nil unless the decision is to share
	Losses   []mappings.Loss
	Targets  connectors.Targets // what was found at the provider
	LookUps  []string           // what would be looked up, where nothing was
}

// PreviewRequest says what to preview.
type PreviewRequest struct {
	Snapshot  *directory.Snapshot
	Connector *connectors.Conn
	Situation consent.Situation
	Grant     consent.Grant // that the situation's policy was made from
	Key       string        // of the copy
	Call      hub.Call
	Revision  int
	Receipt   connectors.Receipt  // of a live copy: the preview is then of its correction
	Account   *connectors.Account // to look people up with; nil: nothing is looked up
}

// MakePreview makes the release and renders it as delivery does, and stops
// there: so the preview is exact by construction.
func MakePreview(ctx context.Context, r PreviewRequest) (Preview, error) {
	release, decision := consent.NewRelease(r.Situation, r.Call, r.Revision)
	p := Preview{Decision: decision}
	if release == nil {
		return p, nil
	}
	mapping, err := compileMapping(r.Connector, r.Grant, decision.Route)
	if err != nil {
		return p, err
	}
	values, losses, err := applyMapping(mapping, release)
	if err != nil {
		return p, err
	}
	item := connectors.Item{
		Key: r.Key, Kind: hub.KindShare, Release: release, Destination: decision.Route, Overrides: values, Receipt: r.Receipt,
	}
	if r.Receipt != nil {
		item.Kind = hub.KindUpdate
	}
	if r.Account != nil {
		targets, err := r.Connector.Resolve(ctx, *r.Account, []connectors.Item{item})
		if err != nil {
			return p, fmt.Errorf("preview: %w", err)
		}
		item.Targets = targets[0]
		p.Targets = targets[0]
	} else {
		p.LookUps = r.Connector.LookUps(item)
	}
	payload, err := r.Connector.Render(item)
	if err != nil {
		return p, fmt.Errorf("preview: %w", err)
	}
	p.Payload = payload.Body
	p.Losses = slices.Concat(losses, payload.Losses)
	return p, nil
}

// compileMapping makes a grant's mapping ready; nil if it has none.
func compileMapping(c *connectors.Conn, g consent.Grant, route json.RawMessage) (*mappings.Mapping, error) {
	if len(g.Terms.Mapping) == 0 {
		return nil, nil //nolint:nilnil // no mapping is an answer
	}
	names := make([]string, len(g.Terms.Fields))
	for i, f := range g.Terms.Fields {
		names[i] = string(f)
	}
	m, problems := mappings.Compile(g.Terms.Mapping, c.Descriptor().Schema(route), names)
	if len(problems) > 0 {
		return nil, fmt.Errorf("mapping of grant %d: %w", g.Number, problems[0])
	}
	return m, nil
}

// applyMapping evaluates the admin's mapping over the release.
func applyMapping(m *mappings.Mapping, r *consent.Release) (map[string]any, []mappings.Loss, error) {
	if m == nil {
		return nil, nil, nil
	}
	values, losses, err := m.Apply(r.View())
	if err != nil {
		return nil, nil, fmt.Errorf("apply the mapping: %w", err)
	}
	return values, losses, nil
}
