package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
)

// exchange is a request on its way through.
type exchange struct {
	id     string // of the request
	route  string // pattern; "" if there is none
	who    admin.Principal
	bearer string
	body   []byte

	w *answer
	r *http.Request
}

type exchangeKey struct{}

// current returns the exchange that ctx belongs to.
func current(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// RequestID returns the id of the request that ctx belongs to, which its answer
// carries as X-Request-Id; "" if there is none. A log handler adds it to what is
// logged on the way.
func RequestID(ctx context.Context) string { return current(ctx).id }

// idOf takes over the id that a client or a proxy gave, if it is harmless.
func idOf(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); len(id) <= 64 && hub.ValidCallID(id) {
		return id
	}
	return hub.NewID("req")
}

// answer is a response writer that knows what was answered.
type answer struct {
	http.ResponseWriter

	status int // 0: nothing yet
}

// WriteHeader implements [http.ResponseWriter].
func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *answer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] reach the writer inside.
func (w *answer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ServeHTTP implements [http.Handler]. It expects a server that sets deadlines
// for reading requests.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	x := &exchange{id: idOf(r), w: &answer{ResponseWriter: w}}
	ctx := context.WithValue(r.Context(), exchangeKey{}, x)
	x.r = r.WithContext(ctx)
	h := w.Header()
	h.Set("X-Request-Id", x.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	defer func() {
		// Patterns only: paths can hold ids of calls, and queries addresses.
		a.log.DebugContext(ctx, "request", "method", r.Method, "route", x.route, "status", x.w.status,
			"duration", time.Since(started), "request_id", x.id, "org", x.who.Org)
	}()
	defer a.recovered(ctx, x)
	a.dispatch(x)
}

// recovered answers 500 for a handler that panicked.
func (a *API) recovered(ctx context.Context, x *exchange) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v) //nolint:forbidigo // net/http's own way to end a connection
	}
	what := fmt.Sprintf("%T", v) // the value may hold anything
	if err, ok := v.(runtime.Error); ok {
		what = err.Error()
	}
	a.log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("panic", what),
		slog.String("request_id", x.id), slog.String("route", x.route), slog.String("stack", string(debug.Stack())))
	if x.w.status == 0 {
		a.refuse(context.WithoutCancel(ctx), x.w, newProblem(http.StatusInternalServerError, codeInternal,
			"Something went wrong here. The operator finds it in the log under the X-Request-Id of this answer."))
	}
}

// dispatch hands the request to its route, or says why there is none.
func (a *API) dispatch(x *exchange) {
	h, pattern := a.mux.Handler(x.r)
	clean := path.Clean(x.r.URL.Path) == x.r.URL.Path // the mux would redirect to the clean one
	if pattern != "" && clean {
		x.route = pattern
		a.mux.ServeHTTP(x.w, x.r)
		return
	}
	// The mux knows which methods the path has, and says so in its own answer.
	probe := &probe{header: http.Header{}}
	h.ServeHTTP(probe, x.r)
	if clean && probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		a.refuse(x.r.Context(), x.w, newProblem(http.StatusMethodNotAllowed, codeMethod, "This address takes "+allow+" only.").with("Allow", allow))
		return
	}
	a.refuse(x.r.Context(), x.w, newProblem(http.StatusNotFound, codeNotFound, "There is nothing at this address. GET /openapi.json lists what there is."))
}

// probe is a response writer that keeps the status and the header only.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header       { return p.header }
func (p *probe) WriteHeader(status int)    { p.status = status }
func (*probe) Write(b []byte) (int, error) { return len(b), nil }
