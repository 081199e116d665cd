package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
)

const blocked = 1<<53 - 1 // lua/common.lua

// consistent checks all that has to be true of an org's keys at every moment:
// indexes, counters, lanes, lines, chains, the copy register and the audit log.
func (w *world) consistent() {
	w.tb.Helper()
	xs := w.allTransfers()
	w.indexesHold(xs)
	w.countersHold(xs)
	w.chainsHold(xs)
	w.lanesHold(xs)
	w.copiesHold(xs)
	w.auditHolds(xs)
}

// raw is a transfer's hash with its id as "id".
type raw map[string]string

func (x raw) open() bool {
	return x["s"] == "waiting" || x["s"] == "held" || x["s"] == "sending"
}

func (w *world) allTransfers() map[string]raw {
	w.tb.Helper()
	start := prefix(w.org) + "xfer:" + string(w.org) + ":"
	out := map[string]raw{}
	for _, k := range w.keysLike(start) {
		id := strings.TrimPrefix(k, start)
		out[id] = w.hash(k)
		out[id]["id"] = id
	}
	return out
}

// indexesHold: every transfer stands in the index of its state, and nowhere else.
func (w *world) indexesHold(xs map[string]raw) {
	w.tb.Helper()
	want := map[string]map[string]bool{}
	for id, x := range xs {
		s := x["s"]
		if s == "sending" {
			s = "waiting"
		}
		if want[s] == nil {
			want[s] = map[string]bool{}
		}
		want[s][id] = true
	}
	for _, s := range hub.TransferStates() {
		got := w.zset(indexKey(w.org, s))
		switch s {
		case hub.StateDelivered, hub.StateErased, hub.StateSending:
			if len(got) != 0 {
				w.tb.Errorf("index of %s exists", s)
			}
			continue
		case hub.StateWaiting, hub.StateHeld, hub.StateAmbiguous, hub.StateDead, hub.StateWithdrawn, hub.StateSuperseded:
		}
		for id := range got {
			if !want[string(s)][id] {
				w.tb.Errorf("index of %s has %s, which is %s", s, id, xs[id]["s"])
			}
		}
		for id := range want[string(s)] {
			if _, ok := got[id]; !ok {
				w.tb.Errorf("index of %s lacks %s", s, id)
			}
		}
	}
	if all := w.zset(indexKey(w.org, "")); len(all) != len(xs) {
		w.tb.Errorf("index of all has %d transfers, there are %d", len(all), len(xs))
	}
}

func (w *world) countersHold(xs map[string]raw) {
	w.tb.Helper()
	open, fly, calls := 0, map[string]int{}, map[string]int{}
	for _, x := range xs {
		if x.open() {
			open++
			calls[x["c"]]++
		}
		if x["s"] == "sending" && x["ud"] != "1" {
			fly[x["i"]]++
		}
	}
	if got := atoi(w.hash(orgKey(w.org))["open"]); got != open {
		w.tb.Errorf("org counts %d open transfers, there are %d", got, open)
	}
	start := prefix(w.org) + "call:" + string(w.org) + ":"
	for _, k := range w.keysLike(start) {
		c := strings.TrimPrefix(k, start)
		if got := atoi(w.hash(k)["open"]); got != calls[c] {
			w.tb.Errorf("call %s counts %d open transfers, there are %d", c, got, calls[c])
		}
	}
	start = prefix(w.org) + "integ:" + string(w.org) + ":"
	for _, k := range w.keysLike(start) {
		i := strings.TrimPrefix(k, start)
		if got := atoi(w.hash(k)["fly"]); got != fly[i] {
			w.tb.Errorf("integration %s counts %d in flight, there are %d", i, got, fly[i])
		}
	}
}

// chainsHold: of one call and integration, whatever is open or ambiguous stands
// in one line, each behind the one before, and the call points at the last.
func (w *world) chainsHold(xs map[string]raw) {
	w.tb.Helper()
	heads, tails := map[string][]string{}, map[string][]string{}
	for id, x := range xs {
		live := x.open() || x["s"] == "ambiguous"
		if !live {
			if x["af"] != "" || x["nx"] != "" {
				w.tb.Errorf("%s is %s and yet in a chain: behind %q, before %q", id, x["s"], x["af"], x["nx"])
			}
			continue
		}
		place := x["c"] + " " + x["i"]
		if a := x["af"]; a == "" {
			heads[place] = append(heads[place], id)
		} else if xs[a]["nx"] != id || xs[a]["c"]+" "+xs[a]["i"] != place {
			w.tb.Errorf("%s is behind %s, which has %q behind it", id, a, xs[a]["nx"])
		}
		if n := x["nx"]; n == "" {
			tails[place] = append(tails[place], id)
		} else if xs[n]["af"] != id {
			w.tb.Errorf("%s has %s behind it, which is behind %q", id, n, xs[n]["af"])
		}
		if x["s"] != "waiting" && x["s"] != "held" && x["af"] != "" {
			w.tb.Errorf("%s is %s although it is behind %s", id, x["s"], x["af"])
		}
	}
	for place, ids := range heads {
		if len(ids) != 1 || len(tails[place]) != 1 {
			w.tb.Errorf("call and integration %s have heads %v and tails %v", place, ids, tails[place])
			continue
		}
		call, integ, _ := strings.Cut(place, " ")
		if last := w.hash(callKey(w.org, hub.CallID(call)))["x:"+integ]; last != tails[place][0] {
			w.tb.Errorf("call %s has %s as its last transfer at %s, want %s", call, last, integ, tails[place][0])
		}
	}
}

// lanesHold: the lane of a connection holds its open transfers, and a lane that
// has work to do is in line.
func (w *world) lanesHold(xs map[string]raw) {
	w.tb.Helper()
	want := map[string]map[string]raw{}
	for id, x := range xs {
		if x.open() {
			if want[x["n"]] == nil {
				want[x["n"]] = map[string]raw{}
			}
			want[x["n"]][id] = x
		}
	}
	start := prefix(w.org) + "lane:" + string(w.org) + ":"
	conns := map[string]bool{}
	for _, k := range w.keysLike(start) {
		conns[strings.TrimPrefix(k, start)] = true
	}
	for c := range want {
		conns[c] = true
	}
	now := float64(must(w.Now(w.tb.Context()))(w.tb).UnixMilli())
	lines := w.zset(prefix(w.org) + "lanes:" + string(w.org))
	active := w.hash(orgKey(w.org))["st"] == "active"
	for c := range conns {
		lane := w.zset(laneKey(w.org, hub.ConnectionID(c)))
		due := float64(blocked)
		for id, score := range lane {
			x, open := want[c][id]
			if !open {
				w.tb.Errorf("lane %s holds %s, which is %s", c, id, xs[id]["s"])
				continue
			}
			if (score >= blocked) != (x["af"] != "") {
				w.tb.Errorf("lane %s has %s due at %.0f, and it waits behind %q", c, id, score, x["af"])
			}
			due = min(due, score)
		}
		if len(lane) != len(want[c]) {
			w.tb.Errorf("lane %s holds %d transfers, %d are open", c, len(lane), len(want[c]))
		}
		conn := w.hash(connKey(w.org, hub.ConnectionID(c)))
		works := conn["st"] == "connected" && active && due < blocked || conn["st"] == "disconnected" && len(lane) > 0
		if conn["st"] == "disconnected" {
			due = now
		}
		if works {
			latest := max(due, now, float64(atoi(conn["lease"])), float64(atoi(conn["pause"])))
			if score, ok := lines[c]; !ok || score > latest {
				w.tb.Errorf("lane %s is in line for %.0f (there: %v), want at most %.0f", c, score, ok, latest)
			}
		}
	}
	first := float64(blocked)
	for _, score := range lines {
		first = min(first, score)
	}
	score, ok := w.zset(readyKey(w.org.Shard()))[string(w.org)]
	if ok != (len(lines) > 0) || ok && score > max(first, now) {
		w.tb.Errorf("org is in line for %.0f (there: %v), its first lane for %.0f", score, ok, first)
	}
}

func (w *world) copiesHold(xs map[string]raw) {
	w.tb.Helper()
	index, counts, entries := w.zset(copyIndexKey(w.org)), map[string]int{}, 0
	start := prefix(w.org) + "cp:" + string(w.org) + ":"
	for _, k := range w.keysLike(start) {
		call := strings.TrimPrefix(k, start)
		for integ, reg := range w.hash(k) {
			var c storedCopy
			if err := json.Unmarshal([]byte(reg), &c); err != nil {
				w.tb.Errorf("copy of %s at %s: %v", call, integ, err)
				continue
			}
			entries++
			counts[c.N]++
			if _, ok := index[call+" "+integ]; !ok {
				w.tb.Errorf("the index of copies lacks %s at %s", call, integ)
			}
			if x := xs[c.X]; x["s"] != "delivered" || x["n"] != c.N {
				w.tb.Errorf("the copy of %s at %s was written by %s, which is %s", call, integ, c.X, x["s"])
			}
		}
	}
	if entries != len(index) {
		w.tb.Errorf("the index of copies has %d, there are %d", len(index), entries)
	}
	for _, c := range must(w.rdb.SMembers(w.tb.Context(), prefix(w.org)+"conns:"+string(w.org)).Result())(w.tb) {
		if got := atoi(w.hash(connKey(w.org, hub.ConnectionID(c)))["copies"]); got != counts[c] {
			w.tb.Errorf("connection %s counts %d copies, there are %d", c, got, counts[c])
		}
	}
}

// auditHolds: the ids are 1-0 … n-0, what is being sent has begun, and every
// outcome of a begun transfer stands behind its beginning.
func (w *world) auditHolds(xs map[string]raw) {
	w.tb.Helper()
	begun, attempts := map[hub.TransferID]bool{}, map[hub.TransferID]int{}
	unknown := map[hub.TransferID]bool{}
	es := w.entries()
	for n, e := range es {
		if want := fmt.Sprintf("%d-0", n+1); e.ID != want {
			w.tb.Fatalf("audit entry %d has the id %s, want %s", n, e.ID, want)
		}
		switch e.Type { //nolint:exhaustive // the others say nothing of transfers
		case audit.TransferBegin:
			if begun[e.Transfer] {
				w.tb.Errorf("entry %s: %s begins, and has begun already", e.ID, e.Transfer)
			}
			begun[e.Transfer] = true
			attempts[e.Transfer]++
		case audit.TransferUnknown:
			if !begun[e.Transfer] || unknown[e.Transfer] {
				w.tb.Errorf("entry %s: %s is unknown (begun %v, known to be unknown %v)", e.ID, e.Transfer, begun[e.Transfer], unknown[e.Transfer])
			}
			unknown[e.Transfer] = true
		case audit.TransferDelivered:
			if !begun[e.Transfer] {
				w.tb.Errorf("entry %s: %s is delivered and has not begun", e.ID, e.Transfer)
			}
			delete(begun, e.Transfer)
			delete(unknown, e.Transfer)
		case audit.TransferRetry, audit.TransferHeld, audit.TransferAmbiguous, audit.TransferDead,
			audit.TransferWithdrawn, audit.TransferSuperseded, audit.TransferUnchanged:
			delete(begun, e.Transfer)
			delete(unknown, e.Transfer)
		default:
		}
	}
	if got := atoi(w.hash(orgKey(w.org))["aseq"]); got != len(es) {
		w.tb.Errorf("the org counts %d audit entries, there are %d", got, len(es))
	}
	for _, id := range slices.Sorted(maps.Keys(xs)) {
		if sending := xs[id]["s"] == "sending"; sending != begun[hub.TransferID(id)] {
			w.tb.Errorf("%s is %s, and by the audit log it has begun without outcome: %v", id, xs[id]["s"], begun[hub.TransferID(id)])
		}
	}
}
