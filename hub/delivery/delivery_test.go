package delivery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/samples"
	"github.com/optiwe/callbridge/test/stack"
)

func sample(tb testing.TB, name string) hub.Call {
	tb.Helper()
	list, err := samples.Load()
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range list {
		if strings.HasPrefix(s.Name, name) {
			return s.Call
		}
	}
	tb.Fatalf("no sample %q", name)
	return hub.Call{}
}

// TestMainJob is the whole main job in one process: a call comes in, and exactly
// what was allowed arrives at all three destinations, is corrected in place and
// erased again.
func TestMainJob(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.Options{})
	s.Integrate(t, s.ConnectSalesforce(t), `{"object":"Task","external_id_field":"Callbridge_Id__c"}`)
	s.Integrate(t, s.ConnectSlack(t), `{"channel":"C0DEALS01"}`)
	s.Integrate(t, s.ConnectWebhook(t), `{}`)

	call := sample(t, "01")
	a := s.Post(t, call)
	if len(a.Shares) != 3 || a.Revision != 1 || a.Status != "accepted" {
		t.Fatalf("answer %+v", a)
	}
	for _, sh := range a.Shares {
		tr := s.Await(t, *sh.Transfer, hub.StateDelivered)
		if len(tr.Receipt) == 0 || tr.Payload == "" {
			t.Errorf("%s: receipt %v, digest %q", sh.Provider, tr.Receipt, tr.Payload)
		}
	}
	if n := len(s.Salesforce.Tasks()); n != 1 {
		t.Errorf("%d tasks, want 1", n)
	}
	if n := len(s.Slack.All()); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
	if again := s.Post(t, call); again.Status != "unchanged" || again.Revision != 1 {
		t.Errorf("the same again: %+v", again)
	}

	call.Summary = "Corrected: they want a pilot in March."
	b := s.Post(t, call)
	for _, sh := range b.Shares {
		if tr := s.Await(t, *sh.Transfer, hub.StateDelivered); tr.Kind != hub.KindUpdate {
			t.Errorf("%s: kind %s, want update", sh.Provider, tr.Kind)
		}
	}
	if tasks := s.Salesforce.Tasks(); len(tasks) != 1 || !strings.Contains(tasks[0].Text("Description"), "pilot in March") {
		t.Errorf("after the correction: %d tasks, %q", len(tasks), tasks[0].Text("Description"))
	}
	if ms := s.Slack.All(); len(ms) != 1 || !strings.Contains(ms[0].Visible(), "pilot in March") {
		t.Errorf("after the correction: %d messages", len(ms))
	}

	if _, err := s.Admin.EraseCall(t.Context(), s.Actor, call.ID); err != nil {
		t.Fatal(err)
	}
	stored, err := s.Admin.Call(t.Context(), s.Org, call.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range stored.Transfers {
		if tr.Kind == hub.KindErase {
			s.Await(t, tr.ID, hub.StateDelivered)
		}
	}
	if n := len(s.Salesforce.Tasks()); n != 0 {
		t.Errorf("%d tasks after the erasure, want 0", n)
	}
}

// TestSlowProviderOutlivesTheLease: a batch that takes longer than a lease keeps
// its lane, through a refresh too, and is sent once.
func TestSlowProviderOutlivesTheLease(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.Options{Lease: 3 * time.Second})
	s.Integrate(t, s.ConnectSalesforce(t), `{"object":"Task","external_id_field":"Callbridge_Id__c"}`)
	s.Salesforce.ExpireTokens()
	s.Salesforce.SetLatency(1500 * time.Millisecond)
	a := s.Post(t, sample(t, "01"))
	tr := s.Await(t, *a.Shares[0].Transfer, hub.StateDelivered)
	if tr.Attempts != 1 || len(s.Salesforce.Tasks()) != 1 {
		t.Errorf("%d attempts, %d tasks; want one of each", tr.Attempts, len(s.Salesforce.Tasks()))
	}
	if took := tr.FinishedAt.Sub(tr.BegunAt); took < 3*time.Second {
		t.Errorf("it took %v, which is no longer than a lease: nothing was shown", took)
	}
}
