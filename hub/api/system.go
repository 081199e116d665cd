package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/optiwe/callbridge/hub/admin"
)

type health struct {
	Status string `json:"status" enum:"ok" doc:"Always ok: anything else is a problem document."`
}

func (a *API) registerSystem() {
	handle(a, op{
		pattern: "GET /healthz", id: "getHealth", tag: tagSystem, summary: "Whether the process lives",
		text:   "Looks at nothing but the process itself.",
		answer: health{"ok"},
	}, func(context.Context, admin.Principal, *none) (health, error) { return health{"ok"}, nil })

	handle(a, op{
		pattern: "GET /readyz", id: "getReadiness", tag: tagSystem, summary: "Whether calls can be accepted",
		text:   "Writes to the store, so that a Redis that cannot be written to takes no calls.",
		answer: health{"ok"},
	}, func(ctx context.Context, _ admin.Principal, _ *none) (health, error) {
		err := a.cfg.Ready(ctx)
		if err == nil {
			return health{"ok"}, nil
		}
		p := newProblem(http.StatusServiceUnavailable, codeNotReady, "The store cannot be written to at the moment.")
		if e, ok := errors.AsType[*NotReady](err); ok {
			p = newProblem(http.StatusServiceUnavailable, e.Code, e.Detail)
		} else {
			a.log.WarnContext(ctx, "not ready", "request_id", RequestID(ctx), "error", err)
		}
		return health{}, p.after(retryReady)
	})

	document := op{
		pattern: "GET /openapi.json", id: "getDocument", tag: tagSystem, summary: "This document",
		text:   "The OpenAPI 3.1 document of the API, made from the types that the program itself reads and writes.",
		answer: example(`{"openapi":"3.1.0","info":{"title":"Callbridge","version":"1.0.0"},"paths":{}}`),
	}
	add(a, document, nil, func(context.Context, *exchange, *none) (*rawOutput, error) { return rawJSON(a.document), nil })
	answers[openapi](a, document)
}

// openapi is as much of an OpenAPI document as the document says of itself.
type openapi struct {
	_ struct{} `additionalProperties:"true"`

	OpenAPI string         `json:"openapi" doc:"The version of the specification."`
	Info    map[string]any `json:"info" doc:"Title and version."`
	Paths   map[string]any `json:"paths" doc:"The operations."`
}

// retryReady is when to ask again whether calls can be accepted.
const retryReady = 2 * time.Second
