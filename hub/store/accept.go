package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth/seal"
)

// Share is what was decided for one integration.
type Share struct {
	Integration hub.IntegrationID
	Connection  hub.ConnectionID
	Grant       int    // in force; 0 for none
	OK          bool   // shared, now or when a passing obstacle is gone
	Reason      string // why not, or why not yet
	Transfer    hub.TransferID
	Pace        string // the connector's pace key, in clear; kept as a keyed digest
}

// AcceptRequest is one call to be stored.
type AcceptRequest struct {
	Org       hub.OrgID
	Call      hub.CallID
	Version   int64  // of the configuration that Shares were decided on
	Actor     string // who sent it, for the audit log
	Token     string // made by the caller once, the same for every repeat; no space in it
	Content   []byte // the call, as JSON
	Canonical []byte // what identical content is recognised by
	Shares    []Share
	Answer    []byte // JSON of the answer's "shares", given back when nothing has changed

	Subjects  []string      // normalised addresses and numbers of the people concerned, in clear; kept as keyed digests
	Limit     int           // most transfers that may wait in the org
	Retention time.Duration // how long the content is kept

	IdempotencyKey string // "" for none
	Body           []byte // what the idempotency key stands for
	IdempotencyTTL time.Duration
}

// AcceptResult says what became of a call.
type AcceptResult struct {
	Status string          // accepted, unchanged
	Replay bool            // the answer is that of an earlier request with the same idempotency key
	Full   int             // > 0: nothing was stored, because so many transfers wait already
	Answer json.RawMessage // what the sender is answered
}

type acceptShare struct {
	I  string `json:"i"`
	N  string `json:"n"`
	OK int    `json:"ok"`
	W  string `json:"w"`
	G  string `json:"g"`
	X  string `json:"x"`
	P  string `json:"p"`
}

type acceptArgs struct {
	Org    string        `json:"org"`
	Call   string        `json:"call"`
	Ver    string        `json:"ver"`
	Tok    string        `json:"tok"`
	Actor  string        `json:"actor"`
	Dg     string        `json:"dg"`
	Limit  int           `json:"limit"`
	Retain int64         `json:"retain"`
	IK     int           `json:"ik"`
	IH     string        `json:"ih"`
	ITTL   int64         `json:"ittl"`
	Sh     string        `json:"sh"`
	Subj   []string      `json:"subj"`
	Shares []acceptShare `json:"shares"`
}

// Accept stores a call with its decisions and transfers, in one round trip. It
// returns [ErrStale] if the configuration has moved on, [ErrKeyReused] or
// [ErrNotFound]; in each case, and with Full, nothing was stored. Any other
// error leaves it unknown: repeating the same request is safe.
func (s *Store) Accept(ctx context.Context, r AcceptRequest) (AcceptResult, error) {
	c, err := s.acceptCall(ctx, r)
	if err != nil {
		return AcceptResult{}, err
	}
	v, err := s.run(ctx, s.scripts.accept, "accept", c.keys, c.args...)
	if err != nil {
		return AcceptResult{}, err
	}
	return acceptResult(v)
}

// acceptCall is one run of lua/accept.lua.
type acceptCall struct {
	keys []string
	args []any
}

func (s *Store) acceptCall(ctx context.Context, r AcceptRequest) (acceptCall, error) {
	keys, err := s.Keys(ctx, r.Org)
	if err != nil {
		return acceptCall{}, err
	}
	sealed, err := keys.Seal(seal.PurposeCall, []string{string(r.Call)}, r.Content)
	if err != nil {
		return acceptCall{}, fmt.Errorf("store: seal call: %w", err)
	}
	d := digester{keys: keys}
	a := acceptArgs{
		Org: string(r.Org), Call: string(r.Call), Ver: strconv.FormatInt(r.Version, 10), Tok: r.Token,
		Actor: r.Actor, Dg: d.of(seal.PurposeContent, r.Canonical), Limit: r.Limit,
		Retain: r.Retention.Milliseconds(), Sh: string(r.Answer), Subj: make([]string, 0, len(r.Subjects)),
		Shares: make([]acceptShare, 0, len(r.Shares)),
	}
	third := orgKey(r.Org)
	if r.IdempotencyKey != "" {
		// The key is a client's text of any kind: a digest has a known shape.
		third = idemKey(r.Org, d.of(seal.PurposeIdempotency, []byte("key"), []byte(r.IdempotencyKey)))
		a.IK, a.IH, a.ITTL = 1, d.of(seal.PurposeIdempotency, []byte("body"), r.Body), r.IdempotencyTTL.Milliseconds()
	}
	for _, sub := range r.Subjects {
		a.Subj = append(a.Subj, d.of(seal.PurposeSubject, []byte(sub)))
	}
	for _, sh := range r.Shares {
		e := acceptShare{
			I: string(sh.Integration), N: string(sh.Connection), W: sh.Reason,
			G: strconv.Itoa(sh.Grant), X: string(sh.Transfer),
		}
		if sh.OK {
			e.OK = 1
		}
		if sh.Pace != "" {
			e.P = d.short(seal.PurposePace, []byte(sh.Pace))
		}
		a.Shares = append(a.Shares, e)
	}
	arg, err := json.Marshal(a)
	if err = errors.Join(err, d.err); err != nil {
		return acceptCall{}, fmt.Errorf("store: accept: %w", err)
	}
	return acceptCall{keys: []string{orgKey(r.Org), callKey(r.Org, r.Call), third}, args: []any{arg, sealed}}, nil
}

// replayed reads the status out of an earlier answer.
func replayed(text string) (AcceptResult, error) {
	var a struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return AcceptResult{}, fmt.Errorf("store: accept: read the stored answer: %w", err)
	}
	return AcceptResult{Status: a.Status, Replay: true, Answer: json.RawMessage(text)}, nil
}

func acceptResult(v any) (AcceptResult, error) {
	l := list(v)
	switch str(at(l, 0)) {
	case "ok":
		return AcceptResult{Status: str(at(l, 1)), Answer: json.RawMessage(str(at(l, 2)))}, nil
	case "replay":
		return replayed(str(at(l, 1)))
	case "reused":
		return AcceptResult{}, ErrKeyReused
	case "stale":
		return AcceptResult{}, ErrStale
	case "full":
		return AcceptResult{Full: int(num(at(l, 1)))}, nil
	case "noorg":
		return AcceptResult{}, ErrNotFound
	}
	return AcceptResult{}, odd("accept", v)
}
