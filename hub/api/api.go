// Package api is the REST API: docs/API.md describes it for those who use it,
// and GET /openapi.json for programs.
//
// It decides nothing itself. A request is authenticated, held against the table
// of routes in access.go, its body is checked against the schema that the
// document shows, and package admin or intake does what is asked. Every error,
// whoever finds it, becomes a problem document in one function, [problemOf].
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/intake"
)

// Config configures an API. Admin, Intake, Ready and Logger are required; zero
// numbers mean the defaults given there.
type Config struct {
	Admin  *admin.Service
	Intake *intake.Intake

	// Ready returns nil if calls can be accepted. What else it returns is
	// logged; whoever asks is told only that calls cannot be accepted, unless
	// it is a *[NotReady].
	Ready func(context.Context) error

	Logger  *slog.Logger
	Version string // of the program, for the document; "" is "dev"

	// RatePerOrg is how many requests an org may make in a second, where each
	// call of a batch counts as one. It holds for this process. Defaults to
	// 20,000.
	RatePerOrg float64

	// BurstPerOrg is how many it may make at once. Defaults to twice
	// RatePerOrg.
	BurstPerOrg int

	// FailuresPerAddress is how many requests in a second may come from one
	// address with a key or a signature that is not valid, before they are
	// refused unseen. Defaults to 20.
	FailuresPerAddress float64

	// ClientAddress returns what tells clients apart for FailuresPerAddress.
	// Defaults to the address that the request came from, of IPv6 the /64
	// network: behind a proxy that is the proxy's.
	ClientAddress func(*http.Request) string
}

// NotReady is a reason not to be ready that everybody may know.
type NotReady struct {
	Code   string // stable, such as "stopping"
	Detail string // a sentence
}

func (e *NotReady) Error() string { return e.Code + ": " + e.Detail }

// API serves the REST API. It may be used by several goroutines.
type API struct {
	cfg  Config
	log  *slog.Logger
	mux  *http.ServeMux
	huma huma.API

	routes   map[string]*route // by pattern
	document []byte

	orgs      *buckets // requests
	strangers *buckets // failed authentications
	regulars  *bearers // keys that were valid
}

// New returns an API.
func New(cfg Config) (*API, error) {
	if cfg.Admin == nil || cfg.Intake == nil || cfg.Ready == nil || cfg.Logger == nil {
		return nil, errors.New("api: Admin, Intake, Ready and Logger are required")
	}
	if cfg.RatePerOrg < 0 || cfg.BurstPerOrg < 0 || cfg.FailuresPerAddress < 0 {
		return nil, errors.New("api: rates must not be negative")
	}
	cfg.RatePerOrg = orDefault(cfg.RatePerOrg, 20_000)
	cfg.BurstPerOrg = orDefault(cfg.BurstPerOrg, max(1, int(2*cfg.RatePerOrg)))
	cfg.FailuresPerAddress = orDefault(cfg.FailuresPerAddress, 20)
	cfg.Version = orDefault(cfg.Version, "dev")
	if cfg.ClientAddress == nil {
		cfg.ClientAddress = remoteAddress
	}
	a := &API{
		cfg: cfg, log: cfg.Logger, mux: http.NewServeMux(), routes: map[string]*route{},
		orgs:      newBuckets(cfg.RatePerOrg, cfg.BurstPerOrg, 20_000),
		strangers: newBuckets(cfg.FailuresPerAddress, max(1, int(cfg.FailuresPerAddress)), 10_000),
		regulars:  newBearers(10_000),
	}
	for _, r := range routes() {
		a.routes[r.pattern()] = &r
	}
	a.huma = humago.New(a.mux, a.humaConfig())
	a.register()
	if err := a.finishDocument(); err != nil {
		return nil, err
	}
	return a, nil
}

// register adds every operation. Each is one row of the table of routes.
func (a *API) register() {
	a.registerSystem()
	a.registerCalls()
	a.registerSignedCalls()
	a.registerTransfers()
	a.registerConnections()
	a.registerIntegrations()
	a.registerPreview()
	a.registerCopies()
	a.registerAudit()
	a.registerKeys()
	a.registerSecrets()
	a.registerOrg()
	a.registerFields()
	describeShared(a.huma.OpenAPI().Components.Schemas)
}

// Document returns the OpenAPI document, as GET /openapi.json does.
func (a *API) Document() []byte { return a.document }

func (a *API) finishDocument() error {
	doc := a.huma.OpenAPI()
	for pattern, r := range a.routes {
		if operation(doc, r.path, r.method) == nil {
			return fmt.Errorf("api: the route %s has no handler", pattern)
		}
	}
	for _, name := range []string{"ErrorModel", "ErrorDetail", "None"} { // huma's own, which no answer has
		delete(doc.Components.Schemas.Map(), name)
	}
	var err error
	if a.document, err = json.Marshal(doc); err != nil {
		return fmt.Errorf("api: make the document: %w", err)
	}
	return nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// disableWait is how long a request to disable an integration waits at most
// until nothing is in flight.
const disableWait = 2 * time.Minute
