package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
)

// guard is what stands before every operation: the key, the role, the rate, the
// id in the path and the body.
func (a *API) guard(r *route) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		ctx := hc.Context()
		x := current(ctx)
		if err := a.admit(ctx, x, r); err != nil {
			a.refuse(ctx, x.w, err)
			return
		}
		next(hc)
	}
}

func (a *API) admit(ctx context.Context, x *exchange, r *route) error {
	if !r.access.open() {
		if err := a.identify(ctx, x, !r.late); err != nil {
			return err
		}
		if !r.access.allows(x.who.Role) {
			return newProblem(http.StatusForbidden, codeForbidden, "A key with the role "+string(x.who.Role)+" may not do this.")
		}
		if err := a.count(x.who.Org, 1); err != nil {
			return err
		}
	}
	if id := x.r.PathValue("id"); id != "" && !hub.ValidCallID(id) {
		return notFound() // no id of ours or of a call looks like this
	}
	if r.body == 0 {
		return nil
	}
	var err error
	x.body, err = readBody(x, r.body)
	return err
}

// identify finds out whose key the request carries.
func (a *API) identify(ctx context.Context, x *exchange, fresh bool) error {
	var ok bool
	if x.bearer, ok = bearer(x.r.Header); !ok {
		return unauthorized("Send an API key as: Authorization: Bearer cb_…")
	}
	address := a.cfg.ClientAddress(x.r)
	if a.strangers.empty(address) && !a.regulars.has(x.bearer) {
		return a.tooManyFailures(address)
	}
	var err error
	x.who, err = a.cfg.Admin.Authenticate(ctx, x.bearer, fresh)
	if errors.Is(err, admin.ErrUnauthenticated) && !fresh {
		// The key may have been made since our configuration was read.
		x.who, err = a.cfg.Admin.Authenticate(ctx, x.bearer, true)
	}
	if errors.Is(err, admin.ErrUnauthenticated) {
		if _, ok := a.strangers.take(address, 1); !ok {
			return a.tooManyFailures(address)
		}
		return unauthorized("The API key is not valid, or was revoked.").
			with("WWW-Authenticate", `Bearer realm="callbridge", error="invalid_token"`)
	}
	if err != nil {
		return err
	}
	a.regulars.add(x.bearer)
	return nil
}

func (a *API) tooManyFailures(address string) error {
	wait, _ := a.strangers.take(address, 1)
	return rateLimited(wait, "Too many requests with keys or signatures that are not valid came from this address. Check the key, and try again later.")
}

// confirm makes sure that a key that was checked against an old configuration
// is still valid, for requests of a late route that end without the step that
// would have checked it.
func (a *API) confirm(ctx context.Context, x *exchange) error {
	if x.bearer == "" {
		return nil
	}
	return a.identify(ctx, x, true)
}

// count takes n requests off what the org may make.
func (a *API) count(org hub.OrgID, n int) error {
	if wait, ok := a.orgs.take(string(org), n); !ok {
		return rateLimited(wait, "The org makes more requests in a second than it may. Try again later; calls can be posted in batches, but each of a batch counts.")
	}
	return nil
}

// bearer returns the key that the header carries.
func bearer(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, key, ok := strings.Cut(values[0], " ")
	return strings.TrimSpace(key), ok && strings.EqualFold(scheme, "Bearer")
}
