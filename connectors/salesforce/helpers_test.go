package salesforce

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/connectortest"
	"github.com/optiwe/callbridge/connectors/salesforce/salesforcetest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
)

const (
	withID    = `{"object":"Task","external_id_field":"Callbridge_Id__c"}`
	withoutID = `{"object":"Task"}`
)

// bench is a connector and the fake org it works with.
type bench struct {
	t *testing.T
	s *salesforcetest.Server
	c *connector
	a connectors.Account
}

func newBench(t *testing.T, o ...salesforcetest.Options) *bench {
	t.Helper()
	s := salesforcetest.New(t, o...)
	c, err := newConnector(connectors.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, s: s, c: c, a: connectortest.Account(t, Descriptor(), s.URL, s.AccessToken())}
}

// keyOf returns the i-th item key.
func keyOf(i int) string {
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	b := []byte(strings.Repeat("a", 26))
	for p := len(b) - 1; i > 0; p, i = p-1, i/32 {
		b[p] = digits[i%32]
	}
	return string(b)
}

// discovery is a call with every member.
func discovery() hub.Call {
	sentiment := 0.4
	return hub.Call{
		ID: "call-2026-11-20-0042", Title: "Discovery with Northwind Traders",
		StartedAt:       time.Date(2026, 11, 20, 22, 30, 0, 0, time.FixedZone("", -8*3600)),
		DurationSeconds: 1860, Direction: "outbound", Medium: "video", RecordingConsent: hub.ConsentGranted,
		URL: "https://app.optiwe.example/calls/0042", RecordingURL: "https://app.optiwe.example/calls/0042/recording",
		TranscriptURL: "https://app.optiwe.example/calls/0042/transcript",
		Owner:         hub.Person{Name: "Dana Reyes", Email: "dana@acme.example"},
		Participants: []hub.Participant{
			{Name: "Dana Reyes", Email: "dana@acme.example", Side: hub.SideInternal},
			{Name: "Priya Shah", Email: "priya@northwind.example", Phone: "+14155550123", Title: "VP Operations", Company: "Northwind Traders", Side: hub.SideExternal},
		},
		Account: &hub.Account{Name: "Northwind Traders", Domain: "northwind.example"},
		Summary: "## Summary\n\nPriya's team wants **one** place for calls.\n\n- Budget is *approved*\n- Security review [starts Monday](https://sec.example/review)\n\n> \"We lose a day a week.\"",
		KeyPoints: []string{
			"Three regions, about 400 seats", "Current contract ends in **March**",
		},
		NextSteps: []hub.NextStep{
			{Text: "Send the security questionnaire", OwnerEmail: "dana@acme.example", DueOn: "2026-11-27"},
			{Text: "Share the seat list", OwnerEmail: "priya@northwind.example"},
			{Text: "Book a demo"},
		},
		Topics: []string{"pricing", "security"}, Sentiment: &sentiment,
		TalkRatio: []hub.TalkShare{{Email: "dana@acme.example", Share: 0.46}, {Email: "priya@northwind.example", Share: 0.54}},
		Risks:     []string{"Legal is slow"}, Competitors: []string{"Gongly"}, Disposition: "Connected", Tags: []string{"enterprise"},
		Custom: map[string]json.RawMessage{"deal_size": json.RawMessage(`120000`), "region": json.RawMessage(`"EMEA"`)},
	}
}

func everyField() []consent.Field {
	return append(consenttest.AllFields(), "custom.deal_size", "custom.region")
}

// share returns the i-th item of a call, to be shared to destination.
func (b *bench) share(i int, call hub.Call, destination string, fields ...consent.Field) connectors.Item {
	b.t.Helper()
	if len(fields) == 0 {
		fields = everyField()
	}
	return connectors.Item{
		Key: keyOf(i), Kind: hub.KindShare, Destination: json.RawMessage(destination),
		Release: consenttest.Release(b.t, call, fields...),
	}
}

// prepare resolves and renders items, as the hub does.
func (b *bench) prepare(items ...connectors.Item) []connectors.Item {
	b.t.Helper()
	found, err := b.c.Resolve(b.t.Context(), b.a, items)
	if err != nil {
		b.t.Fatalf("Resolve: %v", err)
	}
	for i := range items {
		items[i].Targets = found[i]
		if items[i].Payload, err = b.c.Render(items[i]); err != nil {
			b.t.Fatalf("Render: %v", err)
		}
	}
	return items
}

// push shares items and wants all of them delivered.
func (b *bench) push(items ...connectors.Item) []connectors.Item {
	b.t.Helper()
	items = b.prepare(items...)
	for i, out := range b.c.Push(b.t.Context(), b.a, items) {
		b.want(out, connectors.Delivered)
		items[i].Receipt = out.Receipt
	}
	return items
}

func (b *bench) want(out connectors.Outcome, class connectors.Class) {
	b.t.Helper()
	if out.Class != class {
		b.t.Fatalf("class = %v (%v), want %v", out.Class, out.Err, class)
	}
}

// update returns the correction of an item.
func (b *bench) update(item connectors.Item, call hub.Call, fields ...consent.Field) connectors.Item {
	b.t.Helper()
	if len(fields) == 0 {
		fields = everyField()
	}
	item.Kind = hub.KindUpdate
	item.Release = consenttest.Revision(b.t, "en", 2, call, fields...)
	return b.prepare(item)[0]
}

// task returns the only task of an item.
func (b *bench) task(item connectors.Item) salesforcetest.Record {
	b.t.Helper()
	list := b.s.TasksOf(item.Key)
	if len(list) != 1 {
		b.t.Fatalf("%d tasks of the item, want 1", len(list))
	}
	return list[0]
}
