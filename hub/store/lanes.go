package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/mappings"
	"github.com/optiwe/callbridge/oauth/seal"
	"github.com/optiwe/callbridge/oauth/vault"
)

// Lane is a lane leased to one worker, with a batch of its due transfers.
type Lane struct {
	Org        hub.OrgID
	Connection hub.ConnectionID
	Provider   string
	Fence      string // what this worker writes carries it
	Version    int64  // of the org's configuration, now
	Until      time.Time
	Transfers  []Claimed
	Tokens     vault.Record // of the connection, so that a batch needs no round trip for them
}

// Claimed is a transfer in a worker's hands.
type Claimed struct {
	ID          hub.TransferID
	Call        hub.CallID
	Revision    int
	Integration hub.IntegrationID
	Kind        hub.TransferKind
	Accepted    int // the grant in force when the call was accepted
	Attempts    int // before this one
	State       hub.TransferState
	Unknown     bool      // begun before, and its outcome is unknown
	Begun       time.Time // when, if Unknown
	Content     []byte    // the call as JSON; nil when it was erased or for an erasure
	Unreadable  bool      // the content is there and does not open: it was damaged
	Latest      int       // the call's newest revision
	Copy        *Copy     // the live copy, if there is one
}

// Copy is an entry of the copy register.
type Copy struct {
	Call        hub.CallID         `json:"call_id"`
	Integration hub.IntegrationID  `json:"integration_id"`
	Connection  hub.ConnectionID   `json:"connection_id"`
	Transfer    hub.TransferID     `json:"transfer_id"` // that last wrote it
	Revision    int                `json:"revision"`
	Grant       int                `json:"grant"`
	Receipt     connectors.Receipt `json:"receipt"`
	Released    string             `json:"-"` // keyed digest of the released content it shows
	Payload     string             `json:"payload_digest"`
	At          time.Time          `json:"at"` // when it was last written
}

// ClaimOptions says how to claim.
type ClaimOptions struct {
	Token string                   // of this claim, the same for a repeat
	Lease time.Duration            // how long the lane is ours without an Extend
	Batch map[string]int           // provider -> most transfers; "*" for those not named, else 1
	Pace  map[string]time.Duration // provider -> time between two transfers of one pace key
}

// mostContent is how many bytes of sealed content a batch may carry beyond its
// first transfer: the answer is held in memory as a whole, here and in Redis.
const mostContent = 8 << 20

// Claim leases the lane of the shard that is due first. With no lane due it
// returns nil and in how long one will be, at most idle.
func (s *Store) Claim(ctx context.Context, shard int, o ClaimOptions, idle time.Duration) (*Lane, time.Duration, error) {
	most := map[string]int{"*": 1}
	maps.Copy(most, o.Batch)
	batch, err := json.Marshal(most)
	if err != nil {
		return nil, 0, fmt.Errorf("store: claim: %w", err)
	}
	paces := make(map[string]int64, len(o.Pace))
	for p, d := range o.Pace {
		paces[p] = d.Milliseconds()
	}
	pace, err := json.Marshal(paces)
	if err != nil {
		return nil, 0, fmt.Errorf("store: claim: %w", err)
	}
	sent := time.Now()
	v, err := s.run(ctx, s.scripts.claim, "claim",
		[]string{readyKey(shard), shardPrefix(shard) + "claim:" + o.Token}, o.Lease.Milliseconds(), batch, pace, mostContent)
	if err != nil {
		return nil, 0, err
	}
	l := list(v)
	switch str(at(l, 0)) {
	case "none":
		if str(at(l, 1)) == "" {
			return nil, idle, nil
		}
		wait := min(max(num(at(l, 1))-num(at(l, 2)), 1), idle.Milliseconds())
		return nil, time.Duration(wait) * time.Millisecond, nil
	case "lane":
		lane, err := s.lane(ctx, l)
		if err != nil {
			return nil, 0, err
		}
		// Our own clock runs from before the request was sent, so our idea of
		// the lease ends before Redis' does.
		lane.Until = sent.Add(o.Lease)
		return lane, 0, nil
	}
	return nil, 0, odd("claim", v)
}

func (s *Store) lane(ctx context.Context, l []any) (*Lane, error) {
	lane := &Lane{
		Org: hub.OrgID(str(at(l, 1))), Connection: hub.ConnectionID(str(at(l, 2))), Fence: str(at(l, 3)),
		Provider: str(at(l, 4)), Version: num(at(l, 5)),
	}
	keys, err := s.Keys(ctx, lane.Org)
	if err != nil {
		return nil, err
	}
	if k := list(at(l, 8)); len(k) == 8 {
		lane.Tokens = record(k, num(k[5]))
	}
	for _, raw := range list(at(l, 7)) {
		x := list(raw)
		c := Claimed{
			ID: hub.TransferID(str(at(x, 0))), Call: hub.CallID(str(at(x, 1))), Revision: int(num(at(x, 2))),
			Integration: hub.IntegrationID(str(at(x, 3))), Kind: hub.TransferKind(str(at(x, 4))),
			Accepted: int(num(at(x, 6))), Attempts: int(num(at(x, 7))), Unknown: num(at(x, 8)) == 1,
			Latest: int(num(at(x, 11))), State: hub.TransferState(str(at(x, 14))),
		}
		if c.Unknown {
			c.Begun = ms(at(x, 9))
		}
		if sealed := str(at(x, 10)); sealed != "" && c.Kind != hub.KindErase {
			// One that does not open must not keep the rest of the lane from
			// moving.
			c.Content, err = keys.Open(seal.PurposeCall, []string{string(c.Call)}, []byte(sealed))
			c.Unreadable = err != nil
		}
		if reg := str(at(x, 12)); reg != "" {
			cp, err := parseCopy(reg, c.Call, c.Integration)
			if err != nil {
				return nil, err
			}
			c.Copy = &cp
		}
		lane.Transfers = append(lane.Transfers, c)
	}
	return lane, nil
}

type storedCopy struct {
	X  string      `json:"x"`
	N  string      `json:"n"`
	R  json.Number `json:"r"`
	G  json.Number `json:"g"`
	RC string      `json:"rc"`
	RD string      `json:"rd"`
	PD string      `json:"pd"`
	At float64     `json:"at"`
}

func parseCopy(reg string, call hub.CallID, integ hub.IntegrationID) (Copy, error) {
	var sc storedCopy
	if err := json.Unmarshal([]byte(reg), &sc); err != nil {
		return Copy{}, fmt.Errorf("store: read the copy register of %s: %w", call, err)
	}
	c := Copy{
		Call: call, Integration: integ, Connection: hub.ConnectionID(sc.N), Transfer: hub.TransferID(sc.X),
		Released: sc.RD, Payload: sc.PD, At: time.UnixMilli(int64(sc.At)).UTC(),
	}
	c.Revision, _ = strconv.Atoi(sc.R.String())
	c.Grant, _ = strconv.Atoi(sc.G.String())
	if sc.RC != "" {
		if err := json.Unmarshal([]byte(sc.RC), &c.Receipt); err != nil {
			return Copy{}, fmt.Errorf("store: read the receipt of %s: %w", call, err)
		}
	}
	return c, nil
}

// BeginItem is a transfer about to begin.
type BeginItem struct {
	Transfer    hub.TransferID
	Integration hub.IntegrationID
	Grant       int // the release was made under it; 0 for an erasure
	Kind        hub.TransferKind
	Revision    int
	Fields      string // names of the released fields, joined by commas
}

// Verdict is what begin said of one transfer.
type Verdict string

// The verdicts of begin; see lua/begin.lua.
const (
	Begun    Verdict = "begun"
	Disabled Verdict = "disabled"
	Outdated Verdict = "stale"
	OnHold   Verdict = "held"
	Settled  Verdict = "gone"
)

// Begin takes the last look at the permissions and writes the records (I1, I2).
// Only what is [Begun] may be sent. With [ErrLost] nothing was begun; after any
// other error it is unknown, nothing may be sent, and repeating is safe.
func (s *Store) Begin(ctx context.Context, l *Lane, lease time.Duration, items []BeginItem) ([]Verdict, error) {
	type item struct {
		X string `json:"x"`
		I string `json:"i"`
		G string `json:"g"`
		K string `json:"k"`
		R string `json:"r"`
		F string `json:"f"`
	}
	args := struct {
		Org   string `json:"org"`
		Conn  string `json:"conn"`
		Fence string `json:"fence"`
		Lease int64  `json:"lease"`
		Items []item `json:"items"`
	}{string(l.Org), string(l.Connection), l.Fence, lease.Milliseconds(), make([]item, 0, len(items))}
	for _, i := range items {
		args.Items = append(args.Items, item{
			string(i.Transfer), string(i.Integration), strconv.Itoa(i.Grant), string(i.Kind),
			strconv.Itoa(i.Revision), i.Fields,
		})
	}
	arg, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("store: begin: %w", err)
	}
	sent := time.Now()
	v, err := s.run(ctx, s.scripts.begin, "begin", []string{orgKey(l.Org)}, arg)
	if err != nil {
		return nil, err
	}
	reply := list(v)
	if str(at(reply, 0)) == "lost" {
		return nil, ErrLost
	}
	if len(reply) != len(items)+1 {
		return nil, odd("begin", v)
	}
	l.Until = sent.Add(lease)
	out := make([]Verdict, len(items))
	for i := range out {
		out[i] = Verdict(str(reply[i+1]))
	}
	return out, nil
}

// Ending is how one transfer of a batch ended.
type Ending struct {
	Transfer  hub.TransferID
	To        hub.TransferState
	Entry     audit.Type
	Reason    string        // a code, for the transfer and the audit log
	Delay     time.Duration // for waiting and held: until it is due
	Uncounted bool          // the attempt does not count
	Gone      bool          // the copy is no longer at the provider: take it out of the register
	Receipt   connectors.Receipt
	Losses    []mappings.Loss
	Payload   []byte        // what was sent; kept as a keyed digest
	Digest    string        // such a digest itself, where Payload is nil
	Released  []byte        // canonical released content; kept as a keyed digest
	Expire    time.Duration // erase the copy after this; 0: it stays
	Err       *connectors.Error
}

// Finish is the end of a batch.
type Finish struct {
	Endings []Ending
	Keep    bool          // more of this batch is to come: the lane stays ours
	Pause   time.Duration // nothing of the lane for so long
	OK      bool          // the provider answered well
	Err     *connectors.Error
}

type finishItem struct {
	X       string `json:"x"`
	To      string `json:"to"`
	W       string `json:"w"`
	Typ     string `json:"typ"`
	Delay   int64  `json:"delay"`
	Uncount int    `json:"uncount"`
	Gone    int    `json:"gone"`
	RC      string `json:"rc"`
	LS      string `json:"ls"`
	PD      string `json:"pd"`
	RD      string `json:"rd"`
	EC      string `json:"ec"`
	EO      string `json:"eo"`
	ED      string `json:"ed"`
	Expire  int64  `json:"expire"`
}

// Finish records the endings and, unless Keep, gives the lane back. It returns
// for each ending whether it was applied; one that was not has been taken over
// by a worker with a newer fence. After an error it is unknown what was
// recorded; repeating is safe, and if nobody does, the lease ends and what was
// begun is found with its outcome unknown.
func (s *Store) Finish(ctx context.Context, l *Lane, f Finish) ([]bool, error) {
	keys, err := s.Keys(ctx, l.Org)
	if err != nil {
		return nil, err
	}
	d := digester{keys: keys}
	args := struct {
		Org   string       `json:"org"`
		Conn  string       `json:"conn"`
		Fence string       `json:"fence"`
		Keep  int          `json:"keep"`
		Pause int64        `json:"pause"`
		OK    int          `json:"ok"`
		EC    string       `json:"ec"`
		ED    string       `json:"ed"`
		Items []finishItem `json:"items"`
	}{
		Org: string(l.Org), Conn: string(l.Connection), Fence: l.Fence, Keep: bit(f.Keep),
		Pause: f.Pause.Milliseconds(), OK: bit(f.OK), Items: make([]finishItem, 0, len(f.Endings)),
	}
	if f.Err != nil {
		args.EC, args.ED = f.Err.Code, f.Err.Detail
	}
	for _, e := range f.Endings {
		it, err := ending(&d, e)
		if err != nil {
			return nil, err
		}
		args.Items = append(args.Items, it)
	}
	arg, err := json.Marshal(args)
	if err = errors.Join(err, d.err); err != nil {
		return nil, fmt.Errorf("store: finish: %w", err)
	}
	v, err := s.run(ctx, s.scripts.finish, "finish", []string{orgKey(l.Org)}, arg)
	if err != nil {
		return nil, err
	}
	reply := list(v)
	if len(reply) != len(f.Endings)+1 {
		return nil, odd("finish", v)
	}
	out := make([]bool, len(f.Endings))
	for i := range out {
		out[i] = str(reply[i+1]) == "applied"
	}
	return out, nil
}

func ending(d *digester, e Ending) (finishItem, error) {
	it := finishItem{
		X: string(e.Transfer), To: string(e.To), W: e.Reason, Typ: string(e.Entry), Delay: e.Delay.Milliseconds(),
		Uncount: bit(e.Uncounted), Gone: bit(e.Gone), RC: "{}", LS: "[]", Expire: e.Expire.Milliseconds(),
	}
	if e.Err != nil {
		it.EC, it.EO, it.ED = e.Err.Class.String(), e.Err.Code, e.Err.Detail
	}
	if e.Receipt != nil {
		b, err := json.Marshal(e.Receipt)
		if err != nil {
			return it, fmt.Errorf("store: receipt of %s: %w", e.Transfer, err)
		}
		it.RC = string(b)
	}
	if len(e.Losses) > 0 {
		b, err := json.Marshal(e.Losses)
		if err != nil {
			return it, fmt.Errorf("store: losses of %s: %w", e.Transfer, err)
		}
		it.LS = string(b)
	}
	if e.Payload != nil {
		it.PD = d.of(seal.PurposePayload, e.Payload)
	}
	if e.Digest != "" {
		it.PD = e.Digest
	}
	if e.Released != nil {
		it.RD = d.of(purposeReleased, e.Released)
	}
	return it, nil
}

// ReleasedDigest returns the keyed digest under which the copy register knows
// released content.
func (s *Store) ReleasedDigest(ctx context.Context, org hub.OrgID, released []byte) (string, error) {
	keys, err := s.Keys(ctx, org)
	if err != nil {
		return "", err
	}
	return keys.Digest(purposeReleased, released)
}

// PayloadDigest returns the keyed digest of a payload, as transfers carry it.
func (s *Store) PayloadDigest(ctx context.Context, org hub.OrgID, payload []byte) (string, error) {
	keys, err := s.Keys(ctx, org)
	if err != nil {
		return "", err
	}
	return keys.Digest(seal.PurposePayload, payload)
}

// CopyKey returns the key that names the copy of a call at an integration: 26
// characters of a–z and 2–7, the same for its share, updates and erasure.
func (s *Store) CopyKey(ctx context.Context, org hub.OrgID, call hub.CallID, integ hub.IntegrationID) (string, error) {
	keys, err := s.Keys(ctx, org)
	if err != nil {
		return "", err
	}
	d := digester{keys: keys}
	return d.short(purposeCopy, []byte(integ), []byte(call)), d.err
}

// Extend keeps the lane for another lease. It returns [ErrLost] if the lane is
// no longer ours.
func (s *Store) Extend(ctx context.Context, l *Lane, lease time.Duration) error {
	v, err := s.run(ctx, s.scripts.extend, "extend", []string{orgKey(l.Org)},
		string(l.Org), string(l.Connection), l.Fence, lease.Milliseconds())
	if err != nil {
		return err
	}
	if num(v) != 1 {
		return ErrLost
	}
	return nil
}

// Sweep is what [Store.SweepLane] does to what waits in a lane.
type Sweep string

// The sweeps.
const (
	SweepWithdraw Sweep = "withdraw"
	SweepHold     Sweep = "hold"
	SweepResume   Sweep = "resume"
)

const (
	sweepChunk = 500

	// A lane that is worked between two chunks moves under the sweep, and
	// transfers are passed over: it goes through again until nothing changes.
	sweepPasses = 10
)

// SweepLane withdraws, holds or resumes what waits in a lane, of one
// integration or ("") of all, in steps short enough to disturb nobody. It
// returns how many transfers changed. After an error a part may be done;
// repeating is safe.
func (s *Store) SweepLane(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, what Sweep, integ hub.IntegrationID, reason, actor string) (int, error) {
	all := 0
	for range sweepPasses {
		changed, chunks, err := s.sweepPass(ctx, org, conn, what, integ, reason, actor)
		all += changed
		if err != nil || changed == 0 || chunks == 1 {
			return all, err
		}
	}
	return all, nil
}

func (s *Store) sweepPass(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, what Sweep, integ hub.IntegrationID, reason, actor string) (changed, chunks int, err error) {
	for from := int64(0); from >= 0; chunks++ {
		v, err := s.run(ctx, s.scripts.sweepLane, "sweep lane", []string{orgKey(org)},
			string(org), string(conn), string(what), string(integ), reason, actor, from, sweepChunk)
		if err != nil {
			return changed, chunks, err
		}
		l := list(v)
		if len(l) != 2 {
			return changed, chunks, odd("sweep lane", v)
		}
		from = num(l[0])
		changed += int(num(l[1]))
	}
	return changed, chunks, nil
}

// InFlight returns how many transfers of the integration are being sent now.
func (s *Store) InFlight(ctx context.Context, org hub.OrgID, integ hub.IntegrationID) (int, error) {
	n, err := s.rdb.HGet(ctx, integKey(org, integ), "fly").Int()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("store: in flight: %w", err)
	}
	return n, nil
}

// Now is Redis' clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	t, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("store: clock: %w", err)
	}
	return t.UTC(), nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
