package api

import (
	"net/http"
	"slices"

	"github.com/optiwe/callbridge/hub"
)

// access says whose key opens a route.
type access []hub.Role

func (a access) allows(r hub.Role) bool { return slices.Contains(a, r) }

// open reports whether no key is asked for.
func (a access) open() bool { return len(a) == 0 }

// route is a row of the table of routes.
type route struct {
	method string
	path   string
	access access

	// body is how many bytes a body may have; 0: none is read.
	body int64

	// late: the key may be checked against an old configuration first, because
	// what the route does checks it again on the newest one, in the round trip
	// that it makes anyway.
	late bool
}

func (r *route) pattern() string { return r.method + " " + r.path }

// Limits of bodies.
const (
	maxCall    = 1 << 20
	maxBatch   = 16 << 20
	maxPreview = maxCall + 4<<10 // a call and what stands around it
	maxBody    = 256 << 10       // of everything else
)

// routes is the table of routes: what there is, and who may do it. A route that
// stands here and is not registered, or the other way round, is a fault that
// [New] reports.
func routes() []route {
	const (
		get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	)
	var (
		everybody = access{}
		posting   = access{hub.RoleIngest, hub.RoleAdmin}
		anyone    = access{hub.RoleIngest, hub.RoleAuditor, hub.RoleAdmin} // with a key
		reading   = access{hub.RoleAuditor, hub.RoleAdmin}
		ruling    = access{hub.RoleAdmin}
	)
	return []route{
		{get, "/healthz", everybody, 0, false},
		{get, "/readyz", everybody, 0, false},
		{get, "/openapi.json", everybody, 0, false},

		{post, "/v1/calls", posting, maxCall, true},
		{post, "/v1/calls:batch", posting, maxBatch, true},
		{post, "/webhooks/calls/{org}", everybody, maxCall, false}, // a signature instead of a key
		{get, "/v1/calls/{id}", anyone, 0, false},
		{del, "/v1/calls/{id}", ruling, 0, false},

		{get, "/v1/transfers", reading, 0, false},
		{get, "/v1/transfers/{id}", reading, 0, false},
		{post, "/v1/transfers/{id}/retry", ruling, 0, false},
		{post, "/v1/transfers/{id}/resolve", ruling, maxBody, false},

		{post, "/v1/connections", ruling, maxBody, false},
		{get, "/v1/connections", reading, 0, false},
		{get, "/v1/connections/{id}", reading, 0, false},
		{del, "/v1/connections/{id}", ruling, 0, false},

		{post, "/v1/integrations", ruling, maxBody, false},
		{get, "/v1/integrations", reading, 0, false},
		{get, "/v1/integrations/{id}", reading, 0, false},
		{patch, "/v1/integrations/{id}", ruling, maxBody, false},
		{del, "/v1/integrations/{id}", ruling, 0, false},
		{get, "/v1/integrations/{id}/grants", reading, 0, false},
		{post, "/v1/integrations/{id}/preview", ruling, maxPreview, false},
		{post, "/v1/integrations/{id}/enable", ruling, maxBody, false},
		{post, "/v1/integrations/{id}/disable", ruling, maxBody, false},

		{get, "/v1/copies", reading, 0, false},
		{get, "/v1/audit", reading, 0, false},

		{post, "/v1/keys", ruling, maxBody, false},
		{get, "/v1/keys", reading, 0, false},
		{del, "/v1/keys/{id}", ruling, 0, false},
		{post, "/v1/signing-secrets", ruling, 0, false},
		{get, "/v1/signing-secrets", reading, 0, false},
		{del, "/v1/signing-secrets/{id}", ruling, 0, false},
		{get, "/v1/org", reading, 0, false},
		{patch, "/v1/org", ruling, maxBody, false},
		{get, "/v1/fields", reading, 0, false},
	}
}
