package delivery_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/intake"
	"github.com/optiwe/callbridge/test/redistest"
	"github.com/optiwe/callbridge/test/stack"
)

// TestI1DisableDrains races an admin who disables an integration against load, a
// thousand times: once the answer is there, no message of it is sent, and none
// was sent later than the answer says.
func TestI1DisableDrains(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, redistest.Options{}) // the embedded one is too slow for so many
	s := stack.New(t, stack.Options{Redis: redis.URL()})
	conns := map[bool]hub.ConnectionID{true: s.ConnectSlack(t), false: s.ConnectWebhook(t)}
	places := map[bool]string{true: `{"channel":"C0DEALS01"}`, false: `{}`}
	ids := map[bool]hub.IntegrationID{}
	for isChat, conn := range conns {
		ids[isChat] = s.Integrate(t, conn, places[isChat])
	}

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for p := range 3 {
		load.Go(func() { post(ctx, t, s, p) })
	}
	defer stop()

	rng := rand.New(rand.NewPCG(1, 2))
	const races = 1000
	off := map[bool][]span{}
	for race := range races {
		isChat := race%2 == 0
		pause(time.Duration(rng.IntN(4000)) * time.Microsecond)
		d, err := s.Admin.DisableIntegration(t.Context(), s.Actor, ids[isChat], true)
		quiet := span{from: time.Now()}
		if err != nil || !d.Drained {
			t.Fatalf("race %d: drained %v, %v", race, d.Drained, err)
		}
		pause(time.Duration(rng.IntN(1000)) * time.Microsecond)
		quiet.to = time.Now()
		if race%50 < 2 { // an integration that was enabled a thousand times is not what is tested
			if err := s.Admin.DeleteIntegration(t.Context(), s.Actor, ids[isChat]); err != nil {
				t.Fatal(err)
			}
			ids[isChat] = s.Integrate(t, conns[isChat], places[isChat])
		} else {
			s.Enable(t, ids[isChat])
		}
		off[isChat] = append(off[isChat], quiet)
	}
	stop()
	load.Wait()
	sent := 0
	for isChat, spans := range off {
		times := sentAt(s, isChat)
		sent += len(times)
		for _, at := range times {
			for _, q := range spans {
				if at.After(q.from) && at.Before(q.to) {
					t.Errorf("a message was sent at %v; disabled with wait was answered at %v, enabled again at %v", at, q.from, q.to)
				}
			}
		}
	}
	t.Logf("%d races, %d messages sent between them", races, sent)
	if sent < races/10 {
		t.Errorf("only %d messages were sent in %d races: that is no load", sent, races)
	}
}

// span is a time in which nothing may be sent.
type span struct{ from, to time.Time }

// pause waits without anything to wait for: the race needs chance.
func pause(d time.Duration) { <-time.After(d) }

func post(ctx context.Context, t *testing.T, s *stack.Stack, p int) {
	call := sample(t, "12")
	call.DurationSeconds = 600
	for n := 0; ctx.Err() == nil; n++ {
		call.ID = hub.CallID(fmt.Sprintf("race-%d-%d", p, n))
		_, err := s.Intake.Accept(ctx, s.Org, intake.Request{Actor: "key:test", Call: call})
		if err != nil && ctx.Err() == nil {
			t.Errorf("accept: %v", err)
			return
		}
		pause(3 * time.Millisecond)
	}
}

// sentAt returns when each message arrived.
func sentAt(s *stack.Stack, chat bool) []time.Time {
	var out []time.Time
	if chat {
		for _, r := range s.Slack.Requests() {
			if r.Method == "chat.postMessage" {
				out = append(out, r.At)
			}
		}
		return out
	}
	for _, d := range s.Webhook.Deliveries() {
		out = append(out, d.At)
	}
	return out
}
