package webhook_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/connectortest"
	"github.com/optiwe/callbridge/connectors/webhook"
	"github.com/optiwe/callbridge/connectors/webhook/webhooktest"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
)

// secret is not the published example, so that it can be looked for in texts.
var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a canary of a signing secret, 39 bytes"))

func TestConformance(t *testing.T) {
	connectortest.Run(t, webhook.Descriptor(), func(tb testing.TB) connectortest.Harness {
		tb.Helper()
		s := webhooktest.New(tb, webhooktest.Options{Secret: secret})
		return connectortest.Harness{
			Account:     connectortest.Account(tb, webhook.Descriptor(), s.URL, secret),
			Destination: json.RawMessage(`{}`),
			Inject:      func(f connectortest.Fault, n int) { s.Inject(webhooktest.Fault(f), n) },
			Copies: func() map[string][]connectortest.Copy {
				out := map[string][]connectortest.Copy{}
				for key, copies := range s.Copies() {
					for _, c := range copies {
						out[key] = append(out[key], connectortest.Copy{Text: c.Text(), Revision: c.Writes})
					}
				}
				return out
			},
			Requests:       s.Requests,
			CanReconcile:   true,
			StatusConfirms: true,
		}
	})
}

const key = "abcdefghijklmnopqrstuvwxyz"

// call is a small one, with text that JSON and HTML would escape.
func call() hub.Call {
	return hub.Call{
		ID: "call-42", Title: "Q&A <Northwind>", StartedAt: time.Date(2026, 11, 20, 15, 0, 0, 0, time.FixedZone("", -8*3600)),
		DurationSeconds: 1860, Owner: hub.Person{Name: "Dana", Email: "dana@acme.example"}, Summary: "It went well.",
		NextSteps: []hub.NextStep{{Text: "Send it", OwnerEmail: "dana@acme.example", DueOn: "2026-11-27"}},
		Topics:    []string{"pricing"},
		Custom:    map[string]json.RawMessage{"deal_size": json.RawMessage(`120000.50`)},
	}
}

func item(tb testing.TB, kind hub.TransferKind, revision int, overrides map[string]any) connectors.Item {
	tb.Helper()
	it := connectors.Item{
		Key: key, Kind: kind, Destination: json.RawMessage(`{}`), Overrides: overrides,
		Release: consenttest.Revision(tb, "en", revision, call(), "title", "time", "owner", "summary", "next_steps", "topics", "custom.deal_size"),
	}
	p, err := conn(tb).Render(it)
	if err != nil {
		tb.Fatal(err)
	}
	it.Payload = p
	return it
}

func conn(tb testing.TB) *connectors.Conn {
	tb.Helper()
	c, err := connectors.Open(webhook.Descriptor(), connectors.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestBody fixes the bytes that receivers see.
func TestBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		item connectors.Item
		want string
	}{
		{
			"share", item(t, hub.KindShare, 1, nil),
			`{"type":"call.shared","data":{"call_id":"call-42","copy_id":"abcdefghijklmnopqrstuvwxyz","custom":{"deal_size":120000.50},` +
				`"duration_seconds":1860,"next_steps":[{"due_on":"2026-11-27","owner_email":"dana@acme.example","owner_name":"Dana","text":"Send it"}],` +
				`"owner":{"email":"dana@acme.example","name":"Dana"},"revision":1,"started_at":"2026-11-20T15:00:00-08:00",` +
				`"summary":"It went well.","title":"Q&A <Northwind>","topics":["pricing"]}}`,
		},
		{
			"update with a mapping", item(t, hub.KindUpdate, 2, map[string]any{
				"summary": "Short.", "topics": []string{"a", "b"}, "stage": nil, "size": int64(7),
				"call_id": "x", "copy_id": "x", "revision": 9, "not a name": 1,
			}),
			`{"type":"call.updated","data":{"call_id":"call-42","copy_id":"abcdefghijklmnopqrstuvwxyz","custom":{"deal_size":120000.50},` +
				`"duration_seconds":1860,"next_steps":[{"due_on":"2026-11-27","owner_email":"dana@acme.example","owner_name":"Dana","text":"Send it"}],` +
				`"owner":{"email":"dana@acme.example","name":"Dana"},"revision":2,"size":7,"stage":null,"started_at":"2026-11-20T15:00:00-08:00",` +
				`"summary":"Short.","title":"Q&A <Northwind>","topics":["a","b"]}}`,
		},
	} {
		if diff := gocmp.Diff(c.want, string(c.item.Payload.Body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if len(c.item.Payload.Losses) != 0 {
			t.Errorf("%s: losses %v", c.name, c.item.Payload.Losses)
		}
	}
}

// TestLife sends a call through all that can happen to it and looks at what a
// receiver sees.
func TestLife(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{Secret: secret})
	a := connectortest.Account(t, webhook.Descriptor(), s.URL+"?tenant=7", secret)
	c := conn(t)

	one := item(t, hub.KindShare, 1, nil)
	receipt := c.Push(t.Context(), a, []connectors.Item{one})[0].Receipt
	c.Push(t.Context(), a, []connectors.Item{one}) // the hub repeats it after an unknown outcome
	narrower := item(t, hub.KindShare, 1, map[string]any{"summary": nil})
	c.Push(t.Context(), a, []connectors.Item{narrower})
	two := item(t, hub.KindUpdate, 2, nil)
	two.Receipt = receipt
	c.Update(t.Context(), a, []connectors.Item{two})
	c.Erase(t.Context(), a, []connectors.Item{{Key: key, Kind: hub.KindErase, Receipt: receipt}})
	c.Erase(t.Context(), a, []connectors.Item{{Key: key, Kind: hub.KindErase}})

	got := s.Deliveries()
	type seen struct {
		Type      string
		Revision  int
		Call      string
		Duplicate bool
		Status    int
	}
	var list []seen
	for _, d := range got {
		list = append(list, seen{d.Type, d.Revision, d.CallID, d.Duplicate, d.Status})
	}
	want := []seen{
		{"call.shared", 1, "call-42", false, 200},
		{"call.shared", 1, "call-42", true, 200},
		{"call.shared", 1, "call-42", false, 200},
		{"call.updated", 2, "call-42", false, 200},
		{"call.erased", 0, "call-42", false, 200},
		{"call.erased", 0, "", true, 200},
	}
	if diff := gocmp.Diff(want, list); diff != "" {
		t.Fatalf("deliveries (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got[0].ID, key+".1.") || got[0].ID == got[2].ID || got[4].ID != key+".erased" {
		t.Errorf("webhook ids %q, %q, %q", got[0].ID, got[2].ID, got[4].ID)
	}
	if want := (connectors.Receipt{"webhook_id": got[0].ID, "call_id": "call-42"}); !gocmp.Equal(want, receipt) {
		t.Errorf("receipt %v, want %v", receipt, want)
	}
	if len(s.Copies()) != 0 {
		t.Errorf("copies are left: %v", s.Copies())
	}
}

// TestAnswers has a row for every status that is read in a way of its own.
func TestAnswers(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, c := range []struct {
		status     int
		retryAfter string
		want       connectors.Class
		wait       time.Duration // about
		permanent  bool
	}{
		{status: 200, want: connectors.Delivered},
		{status: 202, want: connectors.Delivered},
		{status: 204, want: connectors.Delivered},
		{status: 301, want: connectors.Rejected},
		{status: 308, want: connectors.Rejected},
		{status: 400, want: connectors.Rejected},
		{status: 401, want: connectors.Unauthorized, permanent: true},
		{status: 403, want: connectors.Unauthorized, permanent: true},
		{status: 404, want: connectors.Rejected},
		{status: 408, want: connectors.Transient},
		{status: 409, want: connectors.Rejected},
		{status: 410, want: connectors.Unauthorized, permanent: true},
		{status: 413, want: connectors.Rejected},
		{status: 425, want: connectors.Transient},
		{status: 429, want: connectors.RateLimited, wait: 30 * time.Second},
		{status: 429, retryAfter: "120", want: connectors.RateLimited, wait: 2 * time.Minute},
		{status: 429, retryAfter: "0", want: connectors.RateLimited, wait: time.Second},
		{status: 429, retryAfter: "999999999", want: connectors.RateLimited, wait: 24 * time.Hour},
		{status: 429, retryAfter: "-1", want: connectors.RateLimited, wait: 30 * time.Second},
		{status: 429, retryAfter: "soon", want: connectors.RateLimited, wait: 30 * time.Second},
		{status: 429, retryAfter: in(time.Hour), want: connectors.RateLimited, wait: time.Hour},
		{status: 429, retryAfter: in(-time.Hour), want: connectors.RateLimited, wait: time.Second},
		{status: 429, retryAfter: in(1000 * time.Hour), want: connectors.RateLimited, wait: 24 * time.Hour},
		{status: 500, want: connectors.Unknown},
		{status: 502, want: connectors.Unknown},
		{status: 503, want: connectors.Transient},
		{status: 503, retryAfter: "60", want: connectors.RateLimited, wait: time.Minute},
		{status: 504, want: connectors.Unknown},
		{status: 599, want: connectors.Unknown},
	} {
		t.Run(fmt.Sprint(c.status, c.retryAfter), func(t *testing.T) {
			t.Parallel()
			s := webhooktest.New(t, webhooktest.Options{Secret: secret})
			header := http.Header{}
			if c.retryAfter != "" {
				header.Set("Retry-After", c.retryAfter)
			}
			s.Answer(c.status, header, 1)
			a := connectortest.Account(t, webhook.Descriptor(), s.URL, secret)
			out := conn(t).Push(t.Context(), a, []connectors.Item{item(t, hub.KindShare, 1, nil)})[0]
			if out.Class != c.want {
				t.Fatalf("class %v (%v), want %v", out.Class, out.Err, c.want)
			}
			if out.Err == nil {
				return
			}
			if out.Err.Status != c.status || out.Err.Detail == "" || out.Err.Permanent != c.permanent {
				t.Errorf("error %+v", *out.Err)
			}
			if d := out.Err.RetryAfter - c.wait; d < -2*time.Second || d > 0 {
				t.Errorf("RetryAfter %v, want %v", out.Err.RetryAfter, c.wait)
			}
		})
	}
}

// TestUnreachable checks that what certainly was not sent may be sent again.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{})
	gone, err := webhooktest.Start(webhooktest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	a := connectortest.Account(t, webhook.Descriptor(), gone.URL, secret)
	out := conn(t).Push(t.Context(), a, []connectors.Item{item(t, hub.KindShare, 1, nil)})[0]
	if out.Class != connectors.Transient || out.Err.Code != "unreachable" {
		t.Errorf("nobody listens: %v (%v), want transient", out.Class, out.Err)
	}
	a = connectortest.Account(t, webhook.Descriptor(), s.URL, secret)
	a.BaseURL = gone.URL
	out = conn(t).Push(t.Context(), a, []connectors.Item{item(t, hub.KindShare, 1, nil)})[0]
	if out.Class != connectors.Rejected || out.Err.Code != "address_refused" {
		t.Errorf("another host: %v (%v), want rejected", out.Class, out.Err)
	}
}

// TestTimeout checks that a receiver that does not answer costs no more than
// the time it is given, and that the outcome is then unknown.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{Secret: secret})
	s.Inject(webhooktest.Slow, -1)
	c, err := connectors.Open(webhook.Descriptor(), connectors.Config{Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	a := connectortest.Account(t, webhook.Descriptor(), s.URL, secret)
	out := c.Push(t.Context(), a, []connectors.Item{item(t, hub.KindShare, 1, nil)})[0]
	if out.Class != connectors.Unknown || out.Err.Code != "timeout" {
		t.Errorf("%v (%v), want unknown, timeout", out.Class, out.Err)
	}
}

// TestNotRendered checks that nothing is sent for an item without payload.
func TestNotRendered(t *testing.T) {
	t.Parallel()
	s := webhooktest.New(t, webhooktest.Options{Secret: secret})
	a := connectortest.Account(t, webhook.Descriptor(), s.URL, secret)
	out := conn(t).Push(t.Context(), a, []connectors.Item{{Key: key}, {Key: key, Release: &consent.Release{}}})
	for _, o := range out {
		if o.Class != connectors.Rejected {
			t.Errorf("%v (%v), want rejected", o.Class, o.Err)
		}
	}
	if _, err := conn(t).Render(connectors.Item{Key: key}); err == nil {
		t.Error("an item without release is rendered")
	}
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", n))) }
	for _, c := range []struct {
		secret string
		ok     bool
	}{
		{"whsec_" + b64(24), true},
		{"whsec_" + b64(64), true},
		{b64(24), true},
		{"not base64 at all, but long enough", true},
		{"whsec_" + b64(23), false},
		{"whsec_" + b64(24) + "!", false},
		{"whsec_", false},
		{"", false},
		{strings.Repeat("k", 23), false},
		{strings.Repeat("k", 513), false},
	} {
		err := webhook.CheckSecret(hub.NewSecret(c.secret))
		if (err == nil) != c.ok {
			t.Errorf("%q: %v, want ok %v", c.secret, err, c.ok)
		}
		if err != nil && len(c.secret) > 6 && strings.Contains(err.Error(), c.secret[6:]) {
			t.Errorf("the error holds the secret: %v", err)
		}
		if !c.ok {
			continue
		}
		s := webhooktest.New(t, webhooktest.Options{Secret: c.secret})
		a := connectortest.Account(t, webhook.Descriptor(), s.URL, c.secret)
		if out := conn(t).Push(t.Context(), a, []connectors.Item{item(t, hub.KindShare, 1, nil)})[0]; out.Class != connectors.Delivered {
			t.Errorf("%q: a receiver with the same secret says %v", c.secret, out.Err)
		}
	}
	bad := connectors.Account{Token: hub.NewSecret("short")}
	if out := conn(t).Push(t.Context(), bad, []connectors.Item{item(t, hub.KindShare, 1, nil)})[0]; out.Class != connectors.Unauthorized || !out.Err.Permanent {
		t.Errorf("a secret that cannot be used: %v (%v), want unauthorized for good", out.Class, out.Err)
	}
}

// TestVerifiedByTheLibrary checks a delivery with the specification's library
// alone, as a receiver would, with the secret in both of its forms.
func TestVerifiedByTheLibrary(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
		lib, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		s := webhooktest.New(t, webhooktest.Options{Secret: secret})
		a := connectortest.Account(t, webhook.Descriptor(), s.URL, secret)
		var verified error
		tap := *a.HTTP
		tap.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			data := make([]byte, r.ContentLength)
			if _, err := body.Read(data); err != nil {
				return nil, err
			}
			verified = cmp.Or(verified, lib.Verify(data, r.Header))
			return a.HTTP.Transport.RoundTrip(r)
		})
		a2 := a
		a2.HTTP = &tap
		out := conn(t).Push(t.Context(), a2, []connectors.Item{item(t, hub.KindShare, 1, nil)})[0]
		if out.Class != connectors.Delivered || verified != nil {
			t.Errorf("%v (%v), the library says %v", out.Class, out.Err, verified)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestMapping checks which members of data an admin may map.
func TestMapping(t *testing.T) {
	t.Parallel()
	schema := webhook.Descriptor().Schema(nil)
	for name, want := range map[string]bool{
		"stage": true, "_x9": true, "call_id": false, "copy_id": false, "revision": false,
		"": false, "9x": false, "a.b": false, "a b": false, strings.Repeat("x", 65): false,
	} {
		if got := schema.Custom(name); got != want {
			t.Errorf("%q can be mapped: %v, want %v", name, got, want)
		}
	}
	for _, f := range schema.Fields {
		if !slices.ContainsFunc([]string{"string", "number", "list", "datetime"}, func(s string) bool { return s == string(f.Type) }) {
			t.Errorf("%s has the type %q", f.Name, f.Type)
		}
	}
}

func BenchmarkPush(b *testing.B) {
	s := webhooktest.New(b, webhooktest.Options{Secret: secret, Forget: true})
	a := connectortest.Account(b, webhook.Descriptor(), s.URL, secret)
	c := conn(b)
	items := make([]connectors.Item, webhook.Descriptor().BatchSize)
	for i := range items {
		items[i] = item(b, hub.KindShare, 1, nil)
		items[i].Key = fmt.Sprintf("%026d", i)
	}
	b.ResetTimer()
	for b.Loop() {
		for _, out := range c.Push(b.Context(), a, items) {
			if out.Class != connectors.Delivered {
				b.Fatal(out.Err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(items))/b.Elapsed().Seconds(), "messages/s")
}
