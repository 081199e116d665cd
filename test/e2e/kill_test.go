package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors/slack/slacktest"
)

// TestI4I5Kill kills the service with SIGKILL at 50 random moments under load:
// no accepted call is lost (I4), nothing arrives twice (I5), and what is left
// ambiguous is counted and rare.
func TestI4I5Kill(t *testing.T) {
	w := newWorld(t, slacktest.Options{})
	log := &lockedBuffer{}
	s := w.serve(t, log)
	const orgs, kills = 5, 50
	var all []*org
	for i := range orgs {
		o := w.createOrg(t, fmt.Sprintf("Org %d", i))
		// Messages to the owner have no pace, so there is load at Slack too.
		o.integrate(t, w.connectSlack(t, o), map[string]any{"dm": "owner"}, released()...)
		o.integrate(t, w.connectSalesforce(t, o), map[string]any{"object": "Task", "external_id_field": "Callbridge_Id__c"}, released()...)
		all = append(all, o)
	}
	for i := range owners {
		w.slack.AddUser(slacktest.User{
			ID: fmt.Sprintf("U0OWNER%02d", i), Name: fmt.Sprintf("owner%d", i), RealName: "Owner", Email: ownerOf(i),
		})
	}

	ctx, stop := context.WithCancel(t.Context())
	accepted := make([]map[string]bool, orgs)
	var load sync.WaitGroup
	for i, o := range all {
		accepted[i] = map[string]bool{}
		load.Go(func() { postUntil(ctx, o, accepted[i]) })
	}
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for range kills {
		<-time.After(time.Duration(200+rng.IntN(600)) * time.Millisecond)
		s.kill()
		s = w.serve(t, log)
	}
	stop()
	load.Wait()

	calls, delivered, ambiguous := 0, 0, 0
	for i, o := range all {
		calls += len(accepted[i])
		o.drain(t)
		for id := range accepted[i] {
			for _, tr := range o.await(t, id) {
				switch text(tr, "state") {
				case "delivered":
					delivered++
				case "ambiguous":
					ambiguous++
				default:
					t.Errorf("org %d call %s: transfer %v", i, id, tr)
				}
			}
		}
	}
	records, messages := map[string]int{}, map[string]int{}
	for _, task := range w.salesforce.Tasks() {
		records[task.Key()]++
	}
	for _, m := range w.slack.All() {
		messages[m.Key()]++
	}
	doubles := 0
	for _, copies := range []map[string]int{records, messages} {
		for key, n := range copies {
			if n > 1 {
				doubles++
				t.Errorf("copy %s is there %d times", key, n)
			}
		}
	}
	t.Logf("kills %d, calls accepted %d, transfers delivered %d, ambiguous %d, doubles %d, records %d, messages %d",
		kills, calls, delivered, ambiguous, doubles, len(records), len(messages))
	if calls < 100 {
		t.Errorf("only %d calls were accepted: that is no load", calls)
	}
	if delivered+ambiguous != 2*calls {
		t.Errorf("%d transfers of %d calls came to an end, want %d", delivered+ambiguous, calls, 2*calls)
	}
	// The last call of each org may have been accepted although its answer was
	// not waited for.
	if len(records) < calls || len(records) > calls+orgs {
		t.Errorf("%d records of %d accepted calls", len(records), calls)
	}
	if len(messages) < calls-ambiguous {
		t.Errorf("%d messages of %d accepted calls, %d ambiguous", len(messages), calls, ambiguous)
	}
	if 100*ambiguous > 2*calls {
		t.Errorf("%d of %d transfers are ambiguous: more than 1 in 100", ambiguous, 2*calls)
	}
}

// owners is how many people the calls belong to: each has a direct message of
// their own, as reps do.
const owners = 40

func ownerOf(n int) string { return fmt.Sprintf("owner%d@acme.example", n%owners) }

// postUntil posts one call after the other and notes those that were accepted. A
// call whose answer was lost is posted again: it must be accepted once.
func postUntil(ctx context.Context, o *org, accepted map[string]bool) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("kill-%d", n)
		doc := document(id)
		doc["owner"] = map[string]any{"name": "Owner", "email": ownerOf(n)}
		for ctx.Err() == nil {
			status, answer, err := o.call(ctx, "POST", "/v1/calls", doc)
			if err == nil && status == 202 && json.Valid(answer) {
				accepted[id] = true
				break
			}
			<-time.After(20 * time.Millisecond)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// drain waits until the org has no open transfer.
func (o *org) drain(t *testing.T) {
	t.Helper()
	for range 2400 {
		open := 0
		for _, state := range []string{"waiting", "held"} {
			open += len(items(o.must(t, 200, "GET", "/v1/transfers?state="+state+"&limit=1", nil), "items"))
		}
		if open == 0 {
			open = len(items(o.must(t, 200, "GET", "/v1/transfers?state=sending&limit=1", nil), "items"))
		}
		if open == 0 {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatal("transfers are still open two minutes after the last kill")
}
