package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/mappings"
	"github.com/optiwe/callbridge/oauth/seal"
)

// Transfer is one transfer as it stands.
type Transfer struct {
	ID          hub.TransferID
	Call        hub.CallID
	Revision    int
	Integration hub.IntegrationID
	Connection  hub.ConnectionID
	Grant       int // it began under, or before that the one in force when the call was accepted
	Kind        hub.TransferKind
	State       hub.TransferState
	Reason      string // why it is held, withdrawn, ambiguous or dead: a code
	Attempts    int
	Due         time.Time // next attempt, while waiting or held
	After       hub.TransferID
	ErrClass    string
	ErrCode     string
	ErrDetail   string
	Receipt     connectors.Receipt
	Fields      []string
	Losses      []mappings.Loss
	Payload     string // keyed digest of what was sent
	CreatedAt   time.Time
	BegunAt     time.Time
	FinishedAt  time.Time
}

func transferFields() []string {
	return []string{
		"c", "r", "i", "n", "g", "k", "s", "w", "at", "du", "af", "ec", "eo", "ed", "rc", "fl", "ls", "pd", "cr", "bg", "fn",
	}
}

// parseTransfer reads the values of transferFields.
func parseTransfer(id hub.TransferID, v []any) (Transfer, error) {
	t := Transfer{
		ID: id, Call: hub.CallID(str(at(v, 0))), Revision: int(num(at(v, 1))), Integration: hub.IntegrationID(str(at(v, 2))),
		Connection: hub.ConnectionID(str(at(v, 3))), Grant: int(num(at(v, 4))), Kind: hub.TransferKind(str(at(v, 5))),
		State: hub.TransferState(str(at(v, 6))), Reason: str(at(v, 7)), Attempts: int(num(at(v, 8))), Due: ms(at(v, 9)),
		After: hub.TransferID(str(at(v, 10))), ErrClass: str(at(v, 11)), ErrCode: str(at(v, 12)), ErrDetail: str(at(v, 13)),
		Payload: str(at(v, 17)), CreatedAt: ms(at(v, 18)), BegunAt: ms(at(v, 19)), FinishedAt: ms(at(v, 20)),
	}
	if rc := str(at(v, 14)); rc != "" {
		if err := json.Unmarshal([]byte(rc), &t.Receipt); err != nil {
			return t, fmt.Errorf("store: receipt of %s: %w", id, err)
		}
	}
	if fl := str(at(v, 15)); fl != "" {
		t.Fields = strings.Split(fl, ",")
	}
	if ls := str(at(v, 16)); ls != "" {
		if err := json.Unmarshal([]byte(ls), &t.Losses); err != nil {
			return t, fmt.Errorf("store: losses of %s: %w", id, err)
		}
	}
	return t, nil
}

// Transfer returns one transfer, or [ErrNotFound].
func (s *Store) Transfer(ctx context.Context, org hub.OrgID, id hub.TransferID) (Transfer, error) {
	ts, err := s.readTransfers(ctx, org, []string{string(id)})
	if err != nil {
		return Transfer{}, err
	}
	if len(ts) == 0 {
		return Transfer{}, fmt.Errorf("transfer: %w", ErrNotFound)
	}
	return ts[0], nil
}

// readTransfers reads transfers in one round trip; those that are not there are
// left out.
func (s *Store) readTransfers(ctx context.Context, org hub.OrgID, ids []string) ([]Transfer, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	cmds := make([]*redis.SliceCmd, len(ids))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HMGet(ctx, xferKey(org, hub.TransferID(id)), transferFields()...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: read transfers: %w", err)
	}
	out := make([]Transfer, 0, len(ids))
	for i, c := range cmds {
		if v := c.Val(); str(at(v, 0)) != "" {
			t, err := parseTransfer(hub.TransferID(ids[i]), v)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// TransferFilter says which transfers are wanted. Zero fields want all.
type TransferFilter struct {
	State       hub.TransferState
	Integration hub.IntegrationID
	Call        hub.CallID
}

func (f TransferFilter) wants(t Transfer) bool {
	return (f.State == "" || t.State == f.State) &&
		(f.Integration == "" || t.Integration == f.Integration) &&
		(f.Call == "" || t.Call == f.Call)
}

// Page is where a list goes on.
type Page struct {
	Cursor string // "" for the beginning, and in an answer for the end
	Limit  int    // 1 to 1,000
}

// ErrCursor is returned for a cursor that is not one of ours.
var ErrCursor = errors.New("store: the cursor is not one of this list")

// scanMost is how many entries one page of a filtered list looks at: a page may
// come back shorter than asked for, with a cursor to go on.
const scanMost = 20_000

// Transfers lists transfers, newest first.
func (s *Store) Transfers(ctx context.Context, org hub.OrgID, f TransferFilter, p Page) ([]Transfer, string, error) {
	if f.Call != "" {
		return s.transfersOfCall(ctx, org, f, p)
	}
	index := indexKey(org, "")
	switch f.State {
	case hub.StateWaiting, hub.StateHeld, hub.StateAmbiguous, hub.StateDead, hub.StateWithdrawn, hub.StateSuperseded:
		index = indexKey(org, f.State)
	case hub.StateSending: // stands with the waiting ones, see lua/common.lua
		index = indexKey(org, hub.StateWaiting)
	case hub.StateDelivered, hub.StateErased, "":
	}
	cur, err := parseCursor(p.Cursor)
	if err != nil {
		return nil, "", err
	}
	var out []Transfer
	for looked := 0; looked < scanMost; {
		members, err := s.window(ctx, index, &cur, max(p.Limit, 100))
		if err != nil {
			return nil, "", err
		}
		if len(members) == 0 {
			return out, "", nil
		}
		looked += len(members)
		ids := make([]string, len(members))
		for i, m := range members {
			ids[i] = m.member
		}
		ts, err := s.readTransfers(ctx, org, ids)
		if err != nil {
			return nil, "", err
		}
		for _, t := range ts {
			if f.wants(t) {
				out = append(out, t)
				if len(out) == p.Limit {
					return out, cursor{score: scoreOf(members, string(t.ID)), member: string(t.ID)}.String(), nil
				}
			}
		}
	}
	return out, cur.String(), nil
}

func (s *Store) transfersOfCall(ctx context.Context, org hub.OrgID, f TransferFilter, p Page) ([]Transfer, string, error) {
	l, err := s.rdb.HGet(ctx, callKey(org, f.Call), "xl").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, "", fmt.Errorf("store: transfers of a call: %w", err)
	}
	ids := strings.Fields(l)
	slices.Reverse(ids)
	if p.Cursor != "" {
		i := slices.Index(ids, p.Cursor)
		if i < 0 {
			return nil, "", ErrCursor
		}
		ids = ids[i+1:]
	}
	ts, err := s.readTransfers(ctx, org, ids)
	if err != nil {
		return nil, "", err
	}
	var out []Transfer
	for _, t := range ts {
		if !f.wants(t) {
			continue
		}
		if len(out) == p.Limit {
			return out, string(out[len(out)-1].ID), nil
		}
		out = append(out, t)
	}
	return out, "", nil
}

// cursor is a place in a sorted set read from its highest score down.
type cursor struct {
	score  float64
	member string
}

func (c cursor) String() string {
	return strconv.FormatFloat(c.score, 'f', -1, 64) + "~" + c.member
}

func parseCursor(s string) (cursor, error) {
	if s == "" {
		return cursor{score: math.Inf(1)}, nil
	}
	score, member, ok := strings.Cut(s, "~")
	f, err := strconv.ParseFloat(score, 64)
	if !ok || err != nil || math.IsNaN(f) {
		return cursor{}, ErrCursor
	}
	return cursor{score: f, member: member}, nil
}

type member struct {
	member string
	score  float64
}

func scoreOf(ms []member, name string) float64 {
	for _, m := range ms {
		if m.member == name {
			return m.score
		}
	}
	return 0
}

// window returns the next n members below the cursor, highest first, and moves
// the cursor to the last of them; there are fewer at the end of the list. Members
// of one score come in descending order of their names, as Redis keeps them.
func (s *Store) window(ctx context.Context, key string, cur *cursor, n int) ([]member, error) {
	top := "+inf"
	if !math.IsInf(cur.score, 1) {
		top = strconv.FormatFloat(cur.score, 'f', -1, 64)
	}
	var out []member
	for skip := int64(0); ; {
		zs, err := s.rdb.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: key, Start: top, Stop: "-inf", ByScore: true, Rev: true, Offset: skip, Count: int64(n),
		}).Result()
		if err != nil {
			return nil, fmt.Errorf("store: read a list: %w", err)
		}
		skip += int64(len(zs))
		for _, z := range zs {
			name, _ := z.Member.(string)
			if z.Score == cur.score && name >= cur.member || len(out) == n {
				continue // of the page before, or of the one after
			}
			out = append(out, member{name, z.Score})
		}
		if len(out) == n || len(zs) < n {
			break
		}
	}
	if len(out) > 0 {
		last := out[len(out)-1]
		cur.score, cur.member = last.score, last.member
	}
	return out, nil
}

// Call is a call as it stands, without its content.
type Call struct {
	ID        hub.CallID
	Revision  int
	Shares    json.RawMessage // as they were answered when the revision was accepted
	Erased    string          // id of the erasure, if it was erased
	Forgotten bool            // its content is gone because its time was over
	At        time.Time       // when the revision was accepted
	Transfers []Transfer      // all, newest first
}

// Call returns a call, or [ErrNotFound].
func (s *Store) Call(ctx context.Context, org hub.OrgID, id hub.CallID) (Call, error) {
	v, err := s.rdb.HMGet(ctx, callKey(org, id), "rev", "sh", "gone", "cr", "xl", "dg").Result()
	if err != nil {
		return Call{}, fmt.Errorf("store: read a call: %w", err)
	}
	if str(at(v, 0)) == "" {
		return Call{}, fmt.Errorf("call: %w", ErrNotFound)
	}
	c := Call{
		ID: id, Revision: int(num(v[0])), Shares: json.RawMessage(str(v[1])), Erased: str(v[2]), At: ms(v[3]),
		Forgotten: str(v[5]) == "" && str(v[2]) == "",
	}
	ids := strings.Fields(str(v[4]))
	slices.Reverse(ids)
	c.Transfers, err = s.readTransfers(ctx, org, ids)
	return c, err
}

// Content returns the newest content of a call as JSON, or [ErrNotFound] if
// there is none or it is gone.
func (s *Store) Content(ctx context.Context, org hub.OrgID, id hub.CallID) (content []byte, revision int, err error) {
	v, err := s.rdb.HMGet(ctx, callKey(org, id), "ct", "rev").Result()
	if err != nil {
		return nil, 0, fmt.Errorf("store: read a call: %w", err)
	}
	if str(at(v, 0)) == "" {
		return nil, 0, fmt.Errorf("content of the call: %w", ErrNotFound)
	}
	keys, err := s.Keys(ctx, org)
	if err != nil {
		return nil, 0, err
	}
	content, err = keys.Open(seal.PurposeCall, []string{string(id)}, []byte(str(v[0])))
	if err != nil {
		return nil, 0, fmt.Errorf("store: open a call: %w", err)
	}
	return content, int(num(v[1])), nil
}

// AuditFilter says which entries are wanted. Zero fields want all.
type AuditFilter struct {
	Type        audit.Type // or a prefix of one that ends in '.', such as "transfer."
	Integration hub.IntegrationID
	Call        hub.CallID
}

func (f AuditFilter) wants(e audit.Entry) bool {
	return (f.Type == "" || e.Type == f.Type || strings.HasSuffix(string(f.Type), ".") && strings.HasPrefix(string(e.Type), string(f.Type))) &&
		(f.Integration == "" || e.Integration == f.Integration) &&
		(f.Call == "" || e.Call == f.Call)
}

// Audit returns entries after the id p.Cursor, oldest first, and the id to go
// on after, which is "" at the end. A filtered page may be shorter than asked
// for and yet have more behind it.
func (s *Store) Audit(ctx context.Context, org hub.OrgID, f AuditFilter, p Page) ([]audit.Entry, string, error) {
	start := "-"
	if p.Cursor != "" {
		if !validEntryID(p.Cursor) {
			return nil, "", ErrCursor
		}
		start = "(" + p.Cursor
	}
	var out []audit.Entry
	for looked := 0; looked < scanMost; {
		n := int64(max(p.Limit+1, 500))
		if f == (AuditFilter{}) {
			n = int64(p.Limit + 1)
		}
		msgs, err := s.rdb.XRangeN(ctx, auditKey(org), start, "+", n).Result()
		if err != nil {
			return nil, "", fmt.Errorf("store: read the audit log: %w", err)
		}
		for _, m := range msgs {
			if len(out) == p.Limit {
				return out, strings.TrimPrefix(start, "("), nil
			}
			e, err := entry(m)
			if err != nil {
				return nil, "", err
			}
			start = "(" + m.ID
			if f.wants(e) {
				out = append(out, e)
			}
		}
		looked += len(msgs)
		if int64(len(msgs)) < n {
			return out, "", nil
		}
	}
	return out, strings.TrimPrefix(start, "("), nil
}

func validEntryID(id string) bool {
	seq, zero, ok := strings.Cut(id, "-")
	if _, err := strconv.ParseUint(seq, 10, 63); err != nil {
		return false
	}
	return ok && zero == "0"
}

func entry(m redis.XMessage) (audit.Entry, error) {
	values := make(map[string]string, len(m.Values))
	for k, v := range m.Values {
		values[k] = str(v)
	}
	return audit.Parse(m.ID, values)
}

// CopiesOfCall returns the live copies of a call.
func (s *Store) CopiesOfCall(ctx context.Context, org hub.OrgID, call hub.CallID) ([]Copy, error) {
	return s.copiesOf(ctx, org, []string{string(call)})
}

// CopiesOfSubject returns the live copies of all calls that concern the person
// with that normalised address or number.
func (s *Store) CopiesOfSubject(ctx context.Context, org hub.OrgID, subject string) ([]Copy, error) {
	keys, err := s.Keys(ctx, org)
	if err != nil {
		return nil, err
	}
	digest, err := keys.Digest(seal.PurposeSubject, []byte(subject))
	if err != nil {
		return nil, err
	}
	calls, err := s.rdb.SMembers(ctx, subjectKey(org, digest)).Result()
	if err != nil {
		return nil, fmt.Errorf("store: calls of a person: %w", err)
	}
	slices.Sort(calls)
	return s.copiesOf(ctx, org, calls)
}

func (s *Store) copiesOf(ctx context.Context, org hub.OrgID, calls []string) ([]Copy, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	cmds := make([]*redis.MapStringStringCmd, len(calls))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range calls {
			cmds[i] = p.HGetAll(ctx, copiesKey(org, hub.CallID(c)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: read the copy register: %w", err)
	}
	var out []Copy
	for i, cmd := range cmds {
		for integ, reg := range cmd.Val() {
			c, err := parseCopy(reg, hub.CallID(calls[i]), hub.IntegrationID(integ))
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Copy) int {
		if c := compare(a.Call, b.Call); c != 0 {
			return c
		}
		return compare(a.Integration, b.Integration)
	})
	return out, nil
}

// Copies lists all live copies of an org, last written first.
func (s *Store) Copies(ctx context.Context, org hub.OrgID, p Page) ([]Copy, string, error) {
	cur, err := parseCursor(p.Cursor)
	if err != nil {
		return nil, "", err
	}
	members, err := s.window(ctx, copyIndexKey(org), &cur, p.Limit)
	if err != nil || len(members) == 0 {
		return nil, "", err
	}
	cmds := make([]*redis.StringCmd, len(members))
	_, err = s.rdb.Pipelined(ctx, func(pl redis.Pipeliner) error {
		for i, m := range members {
			call, integ, _ := strings.Cut(m.member, " ")
			cmds[i] = pl.HGet(ctx, copiesKey(org, hub.CallID(call)), integ)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, "", fmt.Errorf("store: read the copy register: %w", err)
	}
	var out []Copy
	for i, m := range members {
		if cmds[i].Val() == "" {
			continue // erased since the index was read
		}
		call, integ, _ := strings.Cut(m.member, " ")
		c, err := parseCopy(cmds[i].Val(), hub.CallID(call), hub.IntegrationID(integ))
		if err != nil {
			return nil, "", err
		}
		out = append(out, c)
	}
	if len(members) < p.Limit {
		return out, "", nil
	}
	return out, cur.String(), nil
}

// Settle outcomes. ErrState is wrapped with the state the transfer is in.
var (
	ErrState   = errors.New("store: the transfer is in another state")
	ErrBlocked = errors.New("store: a newer transfer of the same call and integration exists")
)

// SettleWhat is what a person decided about a transfer.
type SettleWhat string

// The decisions; see lua/settle.lua.
const (
	SettleRetry     SettleWhat = "retry"
	SettleResend    SettleWhat = "resend"
	SettleDelivered SettleWhat = "delivered"
)

// Settle carries out what a person decided about a dead or an ambiguous
// transfer. It returns [ErrNotFound], [ErrState] or [ErrBlocked].
func (s *Store) Settle(ctx context.Context, org hub.OrgID, id hub.TransferID, what SettleWhat, actor string) error {
	v, err := s.run(ctx, s.scripts.settle, "settle", []string{orgKey(org)}, string(org), string(id), string(what), actor,
		hub.NewID("set"))
	if err != nil {
		return err
	}
	switch answer := str(v); {
	case answer == "ok":
		return nil
	case answer == "none":
		return fmt.Errorf("transfer: %w", ErrNotFound)
	case answer == "blocked":
		return ErrBlocked
	case strings.HasPrefix(answer, "state:"):
		return fmt.Errorf("%w: %s", ErrState, strings.TrimPrefix(answer, "state:"))
	}
	return odd("settle", v)
}

// Erase removes a call's content and makes an erasure of every copy; with only,
// of the copy at that one integration, and the content stays. It returns the
// erasure's id: that of an earlier one if the call was erased before.
func (s *Store) Erase(ctx context.Context, org hub.OrgID, call hub.CallID, only hub.IntegrationID, actor string) (string, error) {
	id := hub.NewID(hub.ErasurePrefix)
	ids := map[string]string{}
	for {
		arg, err := json.Marshal(ids)
		if err != nil {
			return "", fmt.Errorf("store: erase: %w", err)
		}
		v, err := s.run(ctx, s.scripts.erase, "erase", []string{orgKey(org), callKey(org, call)},
			string(org), string(call), id, actor, arg, string(only))
		if err != nil {
			return "", err
		}
		l := list(v)
		switch str(at(l, 0)) {
		case "ok", "again":
			return str(at(l, 1)), nil
		case "none":
			return "", fmt.Errorf("call: %w", ErrNotFound)
		case "missing": // ids are made before the script runs, so that it may run twice
			for _, integ := range l[1:] {
				ids[str(integ)] = hub.NewID(hub.TransferPrefix)
			}
		default:
			return "", odd("erase", v)
		}
	}
}

// SweepCalls forgets the content of calls of one shard whose time is over, and
// returns how many.
func (s *Store) SweepCalls(ctx context.Context, shard, most int) (int, error) {
	v, err := s.run(ctx, s.scripts.sweepCalls, "sweep calls", []string{shardPrefix(shard) + "retain"},
		most, (24 * time.Hour).Milliseconds())
	if err != nil {
		return 0, err
	}
	return int(num(at(list(v), 0))), nil
}

// Expired gives out copies of one shard whose time is over. One that is not
// settled with [Store.ExpiryDone] comes again after an hour.
func (s *Store) Expired(ctx context.Context, shard, most int) ([]Expiry, error) {
	v, err := s.run(ctx, s.scripts.expire, "expire", []string{shardPrefix(shard) + "expire"}, most, time.Hour.Milliseconds())
	if err != nil {
		return nil, err
	}
	var out []Expiry
	for _, m := range list(v) {
		if p := strings.SplitN(str(m), "|", 3); len(p) == 3 {
			out = append(out, Expiry{hub.OrgID(p[0]), hub.CallID(p[1]), hub.IntegrationID(p[2])})
		}
	}
	return out, nil
}

// Expiry is a copy that is to be erased.
type Expiry struct {
	Org         hub.OrgID
	Call        hub.CallID
	Integration hub.IntegrationID
}

// ExpiryDone says that the erasure of the copy is under way.
func (s *Store) ExpiryDone(ctx context.Context, e Expiry) error {
	key := prefix(e.Org) + "expire"
	if err := s.rdb.ZRem(ctx, key, string(e.Org)+"|"+string(e.Call)+"|"+string(e.Integration)).Err(); err != nil {
		return fmt.Errorf("store: expiry done: %w", err)
	}
	return nil
}
