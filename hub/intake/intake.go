// Package intake is how a call comes in: it is decided for every integration of
// its org, and stored with its decisions and transfers in one step. After that
// it will be shared, whatever happens to this process (invariant I4).
package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/directory"
	"github.com/optiwe/callbridge/hub/store"
)

// Config configures an Intake. Zero durations and limits mean the defaults
// given there.
type Config struct {
	Store      *store.Store
	Cache      *directory.Cache
	Connectors *connectors.Registry

	// Terms is the version of the terms that grants must have been accepted
	// under.
	Terms string

	// Limit is how many transfers may wait in one org. Defaults to 250,000.
	Limit int

	// Retention is how long content is kept after its call's last transfer
	// ended; an org's own setting can only shorten it. Defaults to 30 days.
	Retention time.Duration

	// IdempotencyTTL is how long an idempotency key is remembered. Defaults to
	// 24 h, which is also the least that may be set.
	IdempotencyTTL time.Duration

	// Wake is called after transfers were stored in the shard, so that the
	// workers of this process begin at once.
	Wake func(shard int)
}

// Intake accepts calls. It may be used by several goroutines.
type Intake struct{ cfg Config }

// New returns an Intake.
func New(cfg Config) *Intake {
	if cfg.Limit == 0 {
		cfg.Limit = 250_000
	}
	if cfg.Retention == 0 {
		cfg.Retention = 30 * 24 * time.Hour
	}
	cfg.IdempotencyTTL = max(cfg.IdempotencyTTL, 24*time.Hour)
	return &Intake{cfg: cfg}
}

// Request is one call to be accepted.
type Request struct {
	Actor          string // who sent it, for the audit log
	Call           hub.Call
	Body           []byte // as it was sent: what the idempotency key stands for
	IdempotencyKey string // "" for none

	// Key and Secret name the API key or the signing secret that the call came
	// with; "" for neither. The configuration that the call is decided on must
	// still have it, so whoever checked it may have done so on an old one.
	Key    string
	Secret string
}

// known reports whether the configuration has what the request came with.
func (r *Request) known(snap *directory.Snapshot) bool {
	if r.Key != "" {
		if _, ok := snap.Keys[r.Key]; !ok {
			return false
		}
	}
	return r.Secret == "" || slices.ContainsFunc(snap.Secrets, func(x directory.SigningSecret) bool { return x.ID == r.Secret })
}

// ErrSender means that the API key or the signing secret that a call came with
// is no longer valid. Nothing was stored.
var ErrSender = errors.New("intake: the key or signing secret of the sender is no longer valid")

// ShareAnswer is what the sender is told of one integration.
type ShareAnswer struct {
	Integration hub.IntegrationID `json:"integration_id"`
	Provider    string            `json:"provider"`
	Decision    consent.Verdict   `json:"decision"`
	Reason      *consent.Reason   `json:"reason"`
	Transfer    *hub.TransferID   `json:"transfer_id"`
	Grant       int               `json:"grant,omitempty"`
	Detail      string            `json:"detail,omitempty"`
}

// FullError says that an org has as many transfers waiting as it may. Nothing
// was stored.
type FullError struct {
	Waiting    int
	RetryAfter time.Duration
}

func (e *FullError) Error() string {
	return fmt.Sprintf("%d transfers of this org wait already; post the call again later", e.Waiting)
}

// Accept decides and stores one call and returns the answer for its sender. It
// returns a *[FullError], [ErrSender], [store.ErrKeyReused] or [store.ErrNotFound];
// nothing was stored then. After any other error it is unknown whether the call was
// stored: sending it again is safe, because identical content changes nothing.
func (in *Intake) Accept(ctx context.Context, org hub.OrgID, r Request) (json.RawMessage, error) {
	out := in.AcceptAll(ctx, org, []Request{r})
	return out[0].Answer, out[0].Err
}

// Result is how one call of several was answered.
type Result struct {
	Answer json.RawMessage
	Err    error
}

// AcceptAll is like Accept for several calls, in order and in one round trip.
// Each is accepted or not by itself.
func (in *Intake) AcceptAll(ctx context.Context, org hub.OrgID, rs []Request) []Result {
	out := make([]Result, len(rs))
	snap, err := in.cfg.Cache.Get(ctx, org)
	if err != nil {
		return failAll(out, err)
	}
	todo := make([]int, len(rs))
	for i := range rs {
		todo[i] = i
	}
	tokens := make([]string, len(rs))
	for i := range tokens {
		tokens[i] = hub.NewID("acc")
	}
	var early []int // answered before the script looked at the configuration's version
	// A stale configuration costs one more round trip, and an admin who changes
	// it all the time a few.
	for range 10 {
		if todo = refuse(snap, rs, todo, out); len(todo) == 0 {
			break
		}
		reqs := make([]store.AcceptRequest, len(todo))
		for k, i := range todo {
			if reqs[k], err = in.request(snap, rs[i], tokens[i]); err != nil {
				return failAll(out, err)
			}
		}
		var stale []int
		for k, res := range in.cfg.Store.AcceptAll(ctx, reqs) {
			if errors.Is(res.Err, store.ErrStale) {
				stale = append(stale, todo[k])
				continue
			}
			if res.Replay || errors.Is(res.Err, store.ErrKeyReused) {
				early = append(early, todo[k])
			}
			out[todo[k]] = result(res)
		}
		if len(stale) < len(todo) {
			in.cfg.Wake(org.Shard())
		}
		if todo = stale; len(todo) == 0 {
			break
		}
		if snap, err = in.cfg.Cache.Reload(ctx, org); err != nil {
			break
		}
	}
	for _, i := range todo {
		out[i].Err = errors.Join(err, fmt.Errorf("intake: %w", store.ErrStale))
	}
	in.recheck(ctx, org, rs, early, out)
	return out
}

// refuse settles those of todo whose sender snap does not know, and returns the
// others.
func refuse(snap *directory.Snapshot, rs []Request, todo []int, out []Result) []int {
	left := todo[:0]
	for _, i := range todo {
		if !rs[i].known(snap) {
			out[i] = Result{Err: ErrSender}
			continue
		}
		left = append(left, i)
	}
	return left
}

// recheck looks at the senders of requests that were answered from what an
// idempotency key remembers, whatever the configuration: somebody whose key was
// revoked is told nothing.
func (in *Intake) recheck(ctx context.Context, org hub.OrgID, rs []Request, early []int, out []Result) {
	if len(early) == 0 {
		return
	}
	snap, err := in.cfg.Cache.Fresh(ctx, org)
	if err != nil {
		for _, i := range early {
			out[i] = Result{Err: err}
		}
		return
	}
	refuse(snap, rs, early, out)
}

func failAll(out []Result, err error) []Result {
	for i := range out {
		out[i].Err = err
	}
	return out
}

func result(r store.AcceptAnswer) Result {
	if r.Err != nil {
		return Result{Err: r.Err}
	}
	if r.Full > 0 {
		// A lane empties at thousands a second when its provider is well; when
		// it is not, a minute is soon enough.
		return Result{Err: &FullError{Waiting: r.Full, RetryAfter: time.Minute}}
	}
	return Result{Answer: r.Answer}
}

func (in *Intake) request(snap *directory.Snapshot, r Request, token string) (store.AcceptRequest, error) {
	subject := consent.NewSubject(&r.Call)
	req := store.AcceptRequest{
		Org: snap.Org.ID, Call: r.Call.ID, Version: snap.Version, Actor: r.Actor, Token: token,
		Canonical: hub.Canonical(r.Call), Limit: in.cfg.Limit, Retention: in.retention(snap.Org),
		IdempotencyKey: r.IdempotencyKey, Body: r.Body, IdempotencyTTL: in.cfg.IdempotencyTTL,
		Subjects: subjects(r.Call),
	}
	var err error
	if req.Content, err = json.Marshal(r.Call); err != nil {
		return req, fmt.Errorf("intake: encode the call: %w", err)
	}
	answers := make([]ShareAnswer, 0, len(snap.Integrations))
	for _, i := range snap.Integrations {
		share, answer, err := in.decide(snap, i, subject)
		if err != nil {
			return req, err
		}
		req.Shares = append(req.Shares, share)
		answers = append(answers, answer)
	}
	if req.Answer, err = json.Marshal(answers); err != nil {
		return req, fmt.Errorf("intake: encode the answer: %w", err)
	}
	return req, nil
}

func (in *Intake) decide(snap *directory.Snapshot, i *directory.Integration, call *consent.Subject) (store.Share, ShareAnswer, error) {
	sit, err := snap.Situation(i, 0, in.cfg.Terms)
	if err != nil {
		return store.Share{}, ShareAnswer{}, err
	}
	d := consent.Decide(sit, call)
	share := store.Share{
		Integration: i.ID, Connection: i.Terms().Connection, Grant: i.Current,
		OK: d.Verdict != consent.Withheld, Reason: string(d.Reason),
	}
	answer := ShareAnswer{Integration: i.ID, Decision: d.Verdict, Grant: i.Current, Detail: d.Detail}
	if d.Verdict == consent.Held {
		answer.Decision = consent.Share // it is shared; the reason says what it waits for
	}
	if d.Reason != "" {
		answer.Reason = &d.Reason
	}
	if c, ok := snap.Connections[share.Connection]; ok {
		answer.Provider = c.Provider
		if conn, ok := in.cfg.Connectors.Get(c.Provider); ok && share.OK {
			if key := conn.Descriptor().PaceKey; key != nil {
				share.Pace = key(d.Route)
			}
		}
	}
	if share.OK {
		share.Transfer = hub.TransferID(hub.NewID(hub.TransferPrefix))
		answer.Transfer = &share.Transfer
	}
	return share, answer, nil
}

func (in *Intake) retention(o directory.Org) time.Duration {
	if o.Retention > 0 && o.Retention < in.cfg.Retention {
		return o.Retention
	}
	return in.cfg.Retention
}

// subjects returns the addresses and numbers of the people that the call
// concerns, each once, normalised with [NormalSubject].
func subjects(c hub.Call) []string {
	seen := map[string]bool{}
	var out []string
	add := func(s string) {
		if s = NormalSubject(s); s != "" && !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	add(c.Owner.Email)
	for _, p := range c.Participants {
		add(p.Email)
		add(p.Phone)
	}
	return out
}

// NormalSubject returns the form of an e-mail address or a phone number under
// which a person is found: lower case, without blanks and the usual
// punctuation of numbers.
func NormalSubject(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if strings.Contains(s, "@") {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -().\u00a0", r) {
			return -1
		}
		return r
	}, s)
}
