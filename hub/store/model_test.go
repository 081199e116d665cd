package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
)

// model says in plain Go what the scripts must do to transfers.
type model struct {
	*world
	t *rapid.T

	active  bool
	conns   map[hub.ConnectionID]hub.ConnectionState
	enabled map[hub.IntegrationID]bool
	calls   map[hub.CallID]*modelCall
	xs      map[hub.TransferID]*modelTransfer
	order   []hub.TransferID // as they were made
	made    int
	lanes   []*Lane // what workers hold, or believe to hold, oldest first
}

type modelCall struct {
	rev     int
	content string // "" after an erasure
	erased  bool
	last    map[hub.IntegrationID]*modelTransfer
	copies  map[hub.IntegrationID]bool
}

type modelTransfer struct {
	id           hub.TransferID
	call         hub.CallID
	integ        hub.IntegrationID
	conn         hub.ConnectionID
	erase        bool
	state        hub.TransferState
	after, next  *modelTransfer
	fence, began string // of who wrote last, and of who began it
	attempts     int
	rev          int
}

func (x *modelTransfer) waits() bool { return x.state == hub.StateWaiting || x.state == hub.StateHeld }

func modelConn(i hub.IntegrationID) hub.ConnectionID {
	if i == intB {
		return conB
	}
	return conA
}

// TestModel runs random sequences of everything that happens to calls and
// transfers against the model. After every step the store agrees with it, and
// all its indexes, counters, lanes and the audit log hold together; at the end,
// when every obstacle is gone, every transfer comes to an end.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c, pass := openMini(t)
		defer func() { _ = c.Close() }()
		h := newHarness(t, c, pass)
		h.tb = rt
		m := &model{
			world: h.newWorld("org_m"), t: rt, active: true,
			conns:   map[hub.ConnectionID]hub.ConnectionState{conA: hub.Connected, conB: hub.Connected},
			enabled: map[hub.IntegrationID]bool{intA: true, intB: true, "int_c": true},
			calls:   map[hub.CallID]*modelCall{}, xs: map[hub.TransferID]*modelTransfer{},
		}
		m.enable("int_c", conA)
		rt.Repeat(map[string]func(*rapid.T){
			"accept":     m.acceptAny,
			"claim":      func(*rapid.T) { m.claimAny() },
			"claim two":  func(*rapid.T) { m.claimAny() },
			"begin":      m.beginAny,
			"begin more": m.beginAny,
			"finish":     m.finishAny,
			"finish all": m.finishAny,
			"time":       m.timePasses,
			"enable":     m.toggle,
			"org":        m.orgAny,
			"connection": m.connAny,
			"sweep":      m.sweepAny,
			"settle":     m.settleAny,
			"erase":      m.eraseAny,
			"":           func(*rapid.T) { m.agrees() },
		})
		m.healAndDrain()
	})
}

// agrees compares the states, and checks that the store is whole.
func (m *model) agrees() {
	m.t.Helper()
	m.consistent()
	for _, id := range m.order {
		x, got := m.xs[id], m.hash(xferKey(m.org, id))
		want := []string{string(x.state), strconv.Itoa(x.attempts), ""}
		if x.after != nil {
			want[2] = string(x.after.id)
		}
		if d := cmp.Diff(want, []string{got["s"], got["at"], got["af"]}); d != "" {
			m.t.Fatalf("transfer %s of %s at %s (state, attempts, behind): %s", id, x.call, x.integ, d)
		}
	}
	for id, c := range m.calls {
		for _, i := range []hub.IntegrationID{intA, intB, "int_c"} {
			_, has := m.hash(copiesKey(m.org, id))[string(i)]
			if has != c.copies[i] {
				m.t.Fatalf("copy of %s at %s is registered: %v, want %v", id, i, has, c.copies[i])
			}
		}
	}
}

// settleModel is settle of lua/common.lua.
func (m *model) settleModel(x *modelTransfer, to hub.TransferState) {
	x.state = to
	switch {
	case x.after != nil:
		x.after.next = x.next
		if x.next != nil {
			x.next.after = x.after
		} else if c := m.calls[x.call]; c.last[x.integ] == x {
			c.last[x.integ] = x.after
		}
		x.after, x.next = nil, nil
	case to != hub.StateAmbiguous:
		m.unblockModel(x)
	}
}

func (*model) unblockModel(x *modelTransfer) {
	if x.next != nil {
		x.next.after, x.next = nil, nil
	}
}

// behindModel is behind of lua/common.lua.
func (m *model) behindModel(prev *modelTransfer, to hub.TransferState) *modelTransfer {
	switch {
	case prev == nil:
		return nil
	case prev.waits() && !prev.erase:
		after := prev.after
		m.settleModel(prev, to)
		return after
	case prev.waits(), prev.state == hub.StateSending, prev.state == hub.StateAmbiguous:
		return prev
	}
	return nil
}

func (m *model) admitModel(x, after *modelTransfer) {
	x.state = hub.StateWaiting
	if m.conns[x.conn] != hub.Disconnected && (!m.active || m.conns[x.conn] != hub.Connected) {
		x.state = hub.StateHeld
	}
	if after != nil {
		x.after, after.next = after, x
	}
	m.xs[x.id] = x
	m.order = append(m.order, x.id)
	m.calls[x.call].last[x.integ] = x
}

func (m *model) acceptAny(t *rapid.T) {
	call := hub.CallID(rapid.SampledFrom([]string{"c1", "c2", "c3"}).Draw(t, "call"))
	content := rapid.SampledFrom([]string{"one", "two", "three"}).Draw(t, "content")
	var shares []Share
	for _, i := range []hub.IntegrationID{intA, intB, "int_c"} {
		switch rapid.IntRange(0, 3).Draw(t, "decision") {
		case 0: // the rule of another integration
		case 1:
			shares = append(shares, withhold(m.share(i), "rule_not_matched"))
		default:
			s := m.share(i)
			s.Transfer = hub.TransferID(fmt.Sprintf("tr_%02d", m.made)) // the same for the same draws
			m.made++
			shares = append(shares, s)
		}
	}
	r := must(m.Accept(m.tb.Context(), m.request(call, content, shares...)))(m.tb)
	c := m.calls[call]
	if c == nil {
		c = &modelCall{last: map[hub.IntegrationID]*modelTransfer{}, copies: map[hub.IntegrationID]bool{}}
		m.calls[call] = c
	}
	if c.content == content {
		if r.Status != "unchanged" {
			t.Fatalf("the same content was %s", r.Status)
		}
		return
	}
	if r.Status != "accepted" {
		t.Fatalf("new content was %s", r.Status)
	}
	c.rev, c.content, c.erased = c.rev+1, content, false
	for _, s := range shares {
		if !s.OK {
			m.behindModel(c.last[s.Integration], hub.StateWithdrawn)
			continue
		}
		after := m.behindModel(c.last[s.Integration], hub.StateSuperseded)
		m.admitModel(&modelTransfer{id: s.Transfer, call: call, integ: s.Integration, conn: modelConn(s.Integration), rev: c.rev}, after)
	}
}

// claimAny claims a lane, if one is due, and checks that it may be worked and
// that what it brings may be sent.
func (m *model) claimAny() {
	l := m.claimWith(m.org, ClaimOptions{Batch: map[string]int{"*": 3}, Lease: time.Minute})
	now := must(m.Now(m.tb.Context()))(m.tb)
	for _, id := range m.order { // what a claim empties
		if x := m.xs[id]; m.conns[x.conn] == hub.Disconnected && x.state.Open() {
			m.emptied(x)
		}
	}
	if l == nil {
		for _, id := range m.order {
			x := m.xs[id]
			c := m.hash(connKey(m.org, x.conn))
			due := int64(atoi(m.hash(xferKey(m.org, id))["du"]))
			if x.state.Open() && x.after == nil && m.active && m.conns[x.conn] == hub.Connected &&
				max(due, int64(atoi(c["lease"])), int64(atoi(c["pause"]))) <= now.UnixMilli() {
				m.t.Fatalf("nothing was due, and yet %s of %s is %s", id, x.conn, x.state)
			}
		}
		return
	}
	if !m.active || m.conns[l.Connection] != hub.Connected || len(l.Transfers) == 0 || len(l.Transfers) > 3 {
		m.t.Fatalf("lane %s was given out with %d transfers; org active: %v, connection %s", l.Connection, len(l.Transfers), m.active, m.conns[l.Connection])
	}
	for _, c := range l.Transfers {
		x := m.xs[c.ID]
		if x == nil || !x.state.Open() || x.after != nil || x.conn != l.Connection || c.Unknown != (x.state == hub.StateSending) {
			m.t.Fatalf("claimed %s with unknown %v; by the model it is %+v", c.ID, c.Unknown, x)
		}
		if c.Unknown {
			x.fence = l.Fence
		}
		call := m.calls[x.call]
		if (c.Copy != nil) != call.copies[x.integ] || c.Latest != call.rev || !x.erase && string(c.Content) != call.content {
			m.t.Fatalf("claimed %+v of call %+v", c, call)
		}
		if !c.Unknown && !x.erase && (c.Kind == hub.KindUpdate) != (c.Copy != nil) {
			m.t.Fatalf("claimed a %s with copy %v", c.Kind, c.Copy)
		}
	}
	for _, o := range m.lanes {
		if o.Connection == l.Connection && o.Fence == l.Fence {
			m.t.Fatalf("lane %s was given out twice with fence %s", l.Connection, l.Fence)
		}
	}
	m.lanes = append(m.lanes, l)
	if len(m.lanes) > 6 {
		m.lanes = m.lanes[1:]
	}
}

// emptied takes over what a claim did to the lane of a connection that is gone.
// When it comes to that depends on the line; what it does, not.
func (m *model) emptied(x *modelTransfer) {
	got := m.transfer(x.id)
	if got.State == x.state {
		return
	}
	want := hub.StateWithdrawn
	if x.erase {
		want = hub.StateDead
	}
	if x.state == hub.StateSending {
		want = hub.StateAmbiguous
	}
	if got.State != want || got.Reason != "disconnected" {
		m.t.Fatalf("%s of a lane that is gone became %s (%s), want %s", x.id, got.State, got.Reason, want)
	}
	m.settleModel(x, want)
}

// laneAny draws one of the lanes that workers hold or held.
func (m *model) laneAny(t *rapid.T) *Lane {
	if len(m.lanes) == 0 {
		t.Skip("no worker")
	}
	return rapid.SampledFrom(m.lanes).Draw(t, "lane")
}

// holds reports whether the lane is the worker's by its fence, and by its lease.
func (m *model) holds(l *Lane) (fence, lease bool) {
	c := m.hash(connKey(m.org, l.Connection))
	now := must(m.Now(m.tb.Context()))(m.tb).UnixMilli()
	return c["fence"] == l.Fence, int64(atoi(c["lease"])) > now
}

func (m *model) beginAny(t *rapid.T) {
	l := m.laneAny(t)
	var items []BeginItem
	for _, c := range l.Transfers {
		if rapid.IntRange(0, 5).Draw(t, "include") == 0 {
			continue
		}
		b := m.item(c)
		b.Revision = c.Revision
		if b.Kind != hub.KindErase && rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
			b.Grant--
		}
		items = append(items, b)
	}
	fence, lease := m.holds(l)
	got, err := m.Begin(m.tb.Context(), l, time.Minute, items)
	if !fence || !lease {
		if !errors.Is(err, ErrLost) {
			t.Fatalf("begin of a lane that is lost: %v", err)
		}
		return
	}
	ok(m.tb, err)
	want := make([]Verdict, len(items))
	for i, b := range items {
		want[i] = m.beginModel(l, b)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("verdicts: %s", d)
	}
}

func (m *model) beginModel(l *Lane, b BeginItem) Verdict {
	x := m.xs[b.Transfer]
	switch {
	case x.state == hub.StateSending && x.began == l.Fence:
		return Begun
	case !x.waits() || x.after != nil:
		return Settled
	case !m.active || m.conns[x.conn] != hub.Connected:
		x.state = hub.StateHeld
		return OnHold
	case !x.erase && !m.enabled[x.integ]:
		m.settleModel(x, hub.StateWithdrawn)
		return Disabled
	case !x.erase && b.Grant != m.seen[x.integ].Current:
		return Outdated
	}
	x.state, x.fence, x.began = hub.StateSending, l.Fence, l.Fence
	x.attempts++
	return Begun
}

func (m *model) finishAny(t *rapid.T) {
	l := m.laneAny(t)
	var endings []Ending
	for _, c := range l.Transfers {
		if rapid.IntRange(0, 7).Draw(t, "leave out") == 0 {
			continue
		}
		endings = append(endings, m.endingAny(t, c))
	}
	f := Finish{Endings: endings, Keep: rapid.Bool().Draw(t, "keep"), OK: rapid.Bool().Draw(t, "ok")}
	if rapid.IntRange(0, 5).Draw(t, "pause") == 0 {
		f.Pause = 30 * time.Second
	}
	fence, _ := m.holds(l)
	var want []bool
	for _, e := range endings {
		want = append(want, m.finishModel(l, e, fence))
	}
	got := m.finish(l, f)
	if d := cmp.Diff(want, got); len(endings) > 0 && d != "" {
		t.Fatalf("applied: %s", d)
	}
	if rapid.IntRange(0, 3).Draw(t, "answer lost") == 0 { // the same again
		if fence, _ = m.holds(l); fence {
			again := m.finish(l, f)
			for i, e := range endings {
				if got[i] && !again[i] && e.To != hub.StateSending {
					t.Fatalf("the repeat of %+v was not applied", e)
				}
			}
		}
	}
}

func (m *model) endingAny(t *rapid.T, c Claimed) Ending {
	begun := m.xs[c.ID].state == hub.StateSending
	e := Ending{Transfer: c.ID, Delay: rapid.SampledFrom([]time.Duration{0, 10 * time.Second, 10 * time.Minute}).Draw(t, "delay")}
	e.To = rapid.SampledFrom([]hub.TransferState{
		hub.StateDelivered, hub.StateDelivered, hub.StateWaiting, hub.StateHeld, hub.StateAmbiguous, hub.StateDead, hub.StateWithdrawn,
		hub.StateSuperseded, hub.StateSending,
	}).Draw(t, "to")
	e.Entry = map[hub.TransferState]audit.Type{
		hub.StateDelivered: audit.TransferUnchanged, hub.StateWaiting: audit.TransferRetry, hub.StateHeld: audit.TransferHeld,
		hub.StateAmbiguous: audit.TransferAmbiguous, hub.StateDead: audit.TransferDead, hub.StateWithdrawn: audit.TransferWithdrawn,
		hub.StateSuperseded: audit.TransferSuperseded,
	}[e.To]
	switch {
	case e.To == hub.StateDelivered && begun:
		d := delivered(c)
		e.Entry, e.Receipt, e.Payload, e.Released = audit.TransferDelivered, d.Receipt, d.Payload, d.Released
		e.Expire = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "expire")
	case e.To == hub.StateDead:
		e.Gone = rapid.Bool().Draw(t, "gone")
	}
	e.Uncounted = begun && rapid.Bool().Draw(t, "uncounted")
	return e
}

func (m *model) finishModel(l *Lane, e Ending, mine bool) bool {
	x := m.xs[e.Transfer]
	begun := x.state == hub.StateSending && x.fence == l.Fence
	unbegun := mine && x.waits() && x.fence != l.Fence && x.after == nil
	if !begun && !unbegun {
		same := x.state == e.To && (e.To == hub.StateWithdrawn || e.To == hub.StateSuperseded) // somebody else was first
		return same || x.fence == l.Fence && x.state != hub.StateSending
	}
	if e.To == hub.StateSending {
		return begun
	}
	x.fence = l.Fence
	if e.Uncounted {
		x.attempts--
	}
	c := m.calls[x.call]
	switch {
	case e.To == hub.StateWaiting || e.To == hub.StateHeld:
		if x.next == nil || x.erase {
			x.state = e.To
			return true
		}
		to := hub.StateSuperseded
		if x.next.erase {
			to = hub.StateWithdrawn
		}
		m.settleModel(x, to)
		return true
	case e.To == hub.StateDelivered && x.erase:
		m.erasedModel(x)
	case e.To == hub.StateDelivered:
		c.copies[x.integ] = true
	case e.Gone:
		c.copies[x.integ] = false
	}
	m.settleModel(x, e.To)
	return true
}

// erasedModel takes a copy away.
func (m *model) erasedModel(x *modelTransfer) {
	c := m.calls[x.call]
	if !c.copies[x.integ] {
		return
	}
	c.copies[x.integ] = false
	for _, o := range m.xs {
		if o.call == x.call && o.integ == x.integ && o.state == hub.StateDelivered && !o.erase {
			o.state = hub.StateErased
		}
	}
}

func (m *model) timePasses(t *rapid.T) {
	m.pass(rapid.SampledFrom([]time.Duration{time.Millisecond, 20 * time.Second, 2 * time.Minute, 20 * time.Minute}).Draw(t, "time"))
}

func (m *model) toggle(t *rapid.T) {
	i := rapid.SampledFrom([]hub.IntegrationID{intA, intB, "int_c"}).Draw(t, "integration")
	if m.enabled[i] {
		m.disable(i)
		if rapid.Bool().Draw(t, "sweep") {
			m.sweepModel(modelConn(i), SweepWithdraw, i)
		}
	} else {
		m.enable(i, modelConn(i))
	}
	m.enabled[i] = !m.enabled[i]
}

func (m *model) orgAny(t *rapid.T) {
	m.active = !m.active
	state, what := hub.OrgSuspended, SweepHold
	if m.active {
		state, what = hub.OrgActive, SweepResume
	}
	m.orgState(state)
	for _, c := range []hub.ConnectionID{conA, conB} {
		// To resume is for good: without it, what the claims took out of the line stays out.
		if what == SweepResume || rapid.Bool().Draw(t, "sweep") {
			m.sweepModel(c, what, "")
		}
	}
}

func (m *model) connAny(t *rapid.T) {
	c := rapid.SampledFrom([]hub.ConnectionID{conA, conB}).Draw(t, "connection")
	states := []hub.ConnectionState{hub.Connected, hub.Connected, hub.NeedsReauth, hub.Paused}
	if rapid.IntRange(0, 9).Draw(t, "for good") == 0 {
		states = []hub.ConnectionState{hub.Disconnected}
	}
	to := rapid.SampledFrom(states).Draw(t, "state")
	changed := m.connState(c, to, audit.ConnectionPaused)
	if changed != (m.conns[c] != to && m.conns[c] != hub.Disconnected) && changed == (m.conns[c] == hub.Disconnected) {
		t.Fatalf("from %s to %s changed: %v", m.conns[c], to, changed)
	}
	if changed {
		m.conns[c] = to
	}
}

func (m *model) sweepAny(t *rapid.T) {
	c := rapid.SampledFrom([]hub.ConnectionID{conA, conB}).Draw(t, "connection")
	what := rapid.SampledFrom([]Sweep{SweepWithdraw, SweepHold, SweepResume}).Draw(t, "what")
	integ := rapid.SampledFrom([]hub.IntegrationID{"", intA, intB, "int_c"}).Draw(t, "integration")
	m.sweepModel(c, what, integ)
}

func (m *model) sweepModel(conn hub.ConnectionID, what Sweep, integ hub.IntegrationID) {
	want := 0
	for _, id := range m.order {
		x := m.xs[id]
		if x.conn != conn || integ != "" && x.integ != integ || !x.waits() {
			continue
		}
		before := x.state
		switch {
		case what == SweepHold:
			x.state = hub.StateHeld
		case what == SweepResume:
			x.state = hub.StateWaiting
		case !x.erase:
			m.settleModel(x, hub.StateWithdrawn)
		}
		if x.state != before {
			want++
		}
	}
	if got := must(m.SweepLane(m.tb.Context(), m.org, conn, what, integ, "why", actor))(m.tb); got != want {
		m.t.Fatalf("%s of %s %q changed %d, want %d", what, conn, integ, got, want)
	}
}

func (m *model) settleAny(t *rapid.T) {
	var some []hub.TransferID
	for _, id := range m.order {
		if s := m.xs[id].state; s == hub.StateDead || s == hub.StateAmbiguous || rapid.IntRange(0, 19).Draw(t, "wrong") == 0 {
			some = append(some, id)
		}
	}
	if len(some) == 0 {
		t.Skip("nothing to settle")
	}
	x := m.xs[rapid.SampledFrom(some).Draw(t, "transfer")]
	what := rapid.SampledFrom([]SettleWhat{SettleRetry, SettleResend, SettleDelivered}).Draw(t, "what")
	err := m.Settle(m.tb.Context(), m.org, x.id, what, actor)
	c := m.calls[x.call]
	need := hub.StateAmbiguous
	if what == SettleRetry {
		need = hub.StateDead
	}
	switch {
	case x.state != need:
		if !errors.Is(err, ErrState) {
			t.Fatalf("%s of one that is %s: %v", what, x.state, err)
		}
		return
	case what == SettleRetry && c.last[x.integ] != x:
		if !errors.Is(err, ErrBlocked) {
			t.Fatalf("retry of one that was overtaken: %v", err)
		}
		return
	}
	ok(m.tb, err)
	switch {
	case what == SettleDelivered:
		if x.erase {
			m.erasedModel(x)
		} else {
			c.copies[x.integ] = true
		}
		x.state = hub.StateDelivered
		m.unblockModel(x)
	case x.next != nil && !x.erase:
		x.state = hub.StateSuperseded
		m.unblockModel(x)
	default:
		x.state, x.attempts, x.fence = hub.StateWaiting, 0, ""
	}
}

func (m *model) eraseAny(t *rapid.T) {
	call := hub.CallID(rapid.SampledFrom([]string{"c1", "c2", "c3"}).Draw(t, "call"))
	only := rapid.SampledFrom([]hub.IntegrationID{"", "", intA, intB}).Draw(t, "only")
	id, err := m.Erase(m.tb.Context(), m.org, call, only, actor)
	c := m.calls[call]
	if c == nil {
		if !errors.Is(err, ErrNotFound) {
			t.Fatalf("erase of an unknown call: %v", err)
		}
		return
	}
	ok(m.tb, err)
	if only == "" && c.erased {
		return
	}
	if only == "" {
		c.erased, c.content = true, ""
		if got := must(m.Call(m.tb.Context(), m.org, call))(m.tb); got.Erased != id {
			t.Fatalf("erased as %s, told %s", got.Erased, id)
		}
	}
	for _, i := range []hub.IntegrationID{intA, intB, "int_c"} {
		x := c.last[i]
		if x == nil || only != "" && only != i || x.erase && x.state != hub.StateDead {
			continue
		}
		due := c.copies[i] || x.state == hub.StateSending || x.state == hub.StateAmbiguous || x.after != nil
		after := m.behindModel(x, hub.StateWithdrawn)
		if !due {
			continue
		}
		made := hub.TransferID(m.hash(callKey(m.org, call))["x:"+string(i)])
		if m.xs[made] != nil {
			t.Fatalf("no erasure was made at %s", i)
		}
		m.admitModel(&modelTransfer{id: made, call: call, integ: i, conn: x.conn, erase: true, rev: c.rev}, after)
	}
}

// healAndDrain removes every obstacle and works until nothing is left: every
// transfer ends, in a state that people see.
func (m *model) healAndDrain() {
	m.orgState(hub.OrgActive)
	for c, s := range m.conns {
		if s != hub.Disconnected && s != hub.Connected {
			m.connState(c, hub.Connected, audit.ConnectionRepaired)
		}
		must(m.SweepLane(m.tb.Context(), m.org, c, SweepResume, "", "", actor))(m.tb)
	}
	for range 500 {
		m.pass(time.Hour)
		l := m.claimWith(m.org, ClaimOptions{})
		if l == nil {
			if m.settleRest() {
				continue
			}
			break
		}
		m.begin(l)
		m.deliverOrWithdraw(l)
	}
	m.consistent()
	for id, x := range m.allTransfers() {
		if x.open() || x["s"] == "ambiguous" {
			m.t.Fatalf("%s is %s for ever (%s, behind %q)", id, x["s"], x["w"], x["af"])
		}
	}
	if lines := m.zset(readyKey(m.org.Shard())); len(lines) != 0 {
		m.t.Fatalf("in line with nothing to do: %v", lines)
	}
}

func (m *model) deliverOrWithdraw(l *Lane) {
	f := Finish{OK: true}
	for _, c := range l.Transfers {
		if m.transfer(c.ID).State == hub.StateSending {
			f.Endings = append(f.Endings, delivered(c))
		}
	}
	if slices.Contains(m.finish(l, f), false) {
		m.t.Fatal("a delivery was lost in a lane that nobody else has")
	}
}

// settleRest settles one ambiguous transfer and reports whether there was one.
func (m *model) settleRest() bool {
	ts, _, err := m.Transfers(m.tb.Context(), m.org, TransferFilter{State: hub.StateAmbiguous}, Page{Limit: 1})
	ok(m.tb, err)
	if len(ts) == 0 {
		return false
	}
	what := SettleDelivered
	if len(ts[0].ID)%2 == 0 {
		what = SettleResend
	}
	ok(m.tb, m.Settle(m.tb.Context(), m.org, ts[0].ID, what, actor))
	return true
}
