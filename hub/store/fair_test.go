package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/hub"
)

// fairness is some orgs of one shard, their work and their workers.
type fairness struct {
	*harness
	worlds  map[hub.OrgID]*world
	waiting map[hub.OrgID]map[hub.ConnectionID]int // transfers due, by lane
	leased  []*Lane
	turns   map[hub.OrgID]map[hub.OrgID]int // turns that others had while an org waited for one
	calls   int
}

// due reports whether the org has a lane with work that nobody has.
func (f *fairness) due(org hub.OrgID) bool {
	for conn, n := range f.waiting[org] {
		if n > 0 && !slices.ContainsFunc(f.leased, func(l *Lane) bool { return l.Org == org && l.Connection == conn }) {
			return true
		}
	}
	return false
}

func (f *fairness) accept(org hub.OrgID, lane int) {
	w, integ := f.worlds[org], hub.IntegrationID(fmt.Sprintf("int_%d", lane))
	s := w.share(integ)
	s.Connection = hub.ConnectionID(fmt.Sprintf("con_%d", lane))
	f.calls++
	w.accept(hub.CallID(fmt.Sprintf("c%d", f.calls)), "x", s)
	f.waiting[org][s.Connection]++
}

// TestFairTurns: whatever floods, lanes and workers there are, an org that has
// work due waits for at most one turn of each other org before it has its own,
// and nothing that is due is left when there is a worker for it.
func TestFairTurns(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c, pass := openMini(t)
		defer func() { _ = c.Close() }()
		f := &fairness{
			harness: newHarness(t, c, pass), worlds: map[hub.OrgID]*world{},
			waiting: map[hub.OrgID]map[hub.ConnectionID]int{}, turns: map[hub.OrgID]map[hub.OrgID]int{},
		}
		f.tb = rt
		orgs := sameShard(rapid.IntRange(2, 4).Draw(rt, "orgs"))
		lanes := map[hub.OrgID]int{}
		for _, o := range orgs {
			f.worlds[o], f.waiting[o], f.turns[o] = f.newOrg(o), map[hub.ConnectionID]int{}, map[hub.OrgID]int{}
			lanes[o] = rapid.IntRange(1, 3).Draw(rt, "lanes")
			for i := range lanes[o] {
				f.worlds[o].connect(hub.ConnectionID(fmt.Sprintf("con_%d", i)), "webhook")
				f.worlds[o].enable(hub.IntegrationID(fmt.Sprintf("int_%d", i)), hub.ConnectionID(fmt.Sprintf("con_%d", i)))
			}
		}
		for range rapid.IntRange(5, 40).Draw(rt, "steps") {
			f.pass(time.Millisecond)
			switch rapid.SampledFrom([]string{"flood", "accept", "work", "work", "give back", "give back"}).Draw(rt, "step") {
			case "flood":
				o := rapid.SampledFrom(orgs).Draw(rt, "org")
				for range 5 {
					f.accept(o, rapid.IntRange(0, lanes[o]-1).Draw(rt, "lane"))
				}
			case "accept":
				o := rapid.SampledFrom(orgs).Draw(rt, "org")
				f.accept(o, rapid.IntRange(0, lanes[o]-1).Draw(rt, "lane"))
			case "work":
				f.claim(rt, orgs)
			case "give back":
				f.giveBack(rt)
			}
		}
		for _, w := range f.worlds {
			w.consistent()
		}
	})
}

func (f *fairness) claim(t *rapid.T, orgs []hub.OrgID) {
	l := f.claimWith(orgs[0], ClaimOptions{Batch: map[string]int{"*": 1}})
	if l == nil {
		for _, o := range orgs {
			if f.due(o) {
				t.Fatalf("no turn was given although %s has work due: %v", o, f.waiting[o])
			}
		}
		return
	}
	for _, o := range orgs {
		switch {
		case o == l.Org || !f.due(o):
			clear(f.turns[o])
		default:
			if f.turns[o][l.Org]++; f.turns[o][l.Org] > 1 {
				t.Fatalf("%s had %d turns while %s waited for one", l.Org, f.turns[o][l.Org], o)
			}
		}
	}
	f.leased = append(f.leased, l)
}

func (f *fairness) giveBack(t *rapid.T) {
	if len(f.leased) == 0 {
		return
	}
	i := rapid.IntRange(0, len(f.leased)-1).Draw(t, "worker")
	l, w := f.leased[i], f.worlds[f.leased[i].Org]
	f.leased = slices.Delete(f.leased, i, i+1)
	w.begin(l)
	w.deliver(l)
	f.waiting[l.Org][l.Connection] -= len(l.Transfers)
}
