package salesforce

import (
	"bytes"
	"context"
	"io"
	"log" //nolint:depguard // simpleforce prints with it: the test sees that it does not
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/connectortest"
)

// provider answers everything with one body, and is what bad days are made of.
func provider(t *testing.T, h http.HandlerFunc) (*connector, connectors.Account) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := newConnector(connectors.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c, connectortest.Account(t, Descriptor(), s.URL, "token-canary")
}

// Bodies that make simpleforce panic or believe in success are errors here.
// Nothing of them, and nothing of the query, is printed anywhere.
func TestHostileAnswers(t *testing.T) { //nolint:paralleltest // it looks at the standard logger
	var printed bytes.Buffer
	before := log.Writer()
	log.SetOutput(&printed)
	t.Cleanup(func() { log.SetOutput(before) })
	for _, status := range []int{200, 400, 500} {
		for _, body := range []string{
			``, `null`, `[]`, `{}`, `7`, `"x"`, `[null]`, `<html>secret</html>`, `{"records":[null],"done":true,"totalSize":1}`,
			`{"records":[{"attributes":{"type":7}}],"done":true,"totalSize":1}`, `{"done":true,"totalSize":5,"records":[]}`,
			`{"done":false,"totalSize":5,"records":[],"nextRecordsUrl":"https://evil.example/services/data"}`,
			`{"done":false,"totalSize":5,"records":[],"nextRecordsUrl":"@evil.example/services/data"}`,
			`{"done":false,"totalSize":5,"records":[],"nextRecordsUrl":"/services/data/v67.0/query/x-2000"}`,
		} {
			c, a := provider(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			})
			_, err := c.Identify(t.Context(), a)
			if err == nil {
				t.Errorf("%d %s: Identify took it for an answer", status, body)
				continue
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "SELECT") || strings.Contains(err.Error(), a.BaseURL) {
				t.Errorf("%d %s: %v", status, body, err)
			}
			item := itemOf(nil, withID)
			item.Payload.Body = []byte(`{"CallObject":"` + item.Key + `","Callbridge_Id__c":"` + item.Key + `"}`)
			if out := c.Push(t.Context(), a, []connectors.Item{item})[0]; out.Class == connectors.Delivered || (status == 200 && out.Class != connectors.Unknown) {
				t.Errorf("%d %s: Push = %v", status, body, out.Class)
			}
		}
	}
	if printed.Len() > 0 {
		t.Errorf("printed: %s", printed.String())
	}
}

// A success without an id is none that could be recorded.
func TestSuccessWithoutID(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`[{"success":true}]`, `[{"success":true,"id":"nonsense"}]`, `[{"success":true,"id":"001bn0000000001AAA"}]`, `[{"success":true,"id":"00Tbn0000000001AAA"},{}]`} {
		c, a := provider(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		item := itemOf(nil, withID)
		item.Payload.Body = []byte(`{"CallObject":"` + item.Key + `","Callbridge_Id__c":"` + item.Key + `"}`)
		if out := c.Push(t.Context(), a, []connectors.Item{item})[0]; out.Class != connectors.Unknown {
			t.Errorf("%s: Push = %v, want unknown", body, out.Class)
		}
	}
}

// The token travels in one header, put there by the account's client, and
// never through simpleforce.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	var headers atomic.Value
	c, a := provider(t, func(w http.ResponseWriter, r *http.Request) {
		headers.Store(r.Header.Values("Authorization"))
		_, _ = io.WriteString(w, `{}`)
	})
	_, _ = c.Identify(t.Context(), a) // the answer is not what it asked for
	if got, _ := headers.Load().([]string); len(got) != 1 || got[0] != "Bearer token-canary" {
		t.Errorf("Authorization = %q", got)
	}
}

// A read that finds its connection reset is tried once more, and only once; a
// write never.
func TestReadsAreTriedTwice(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	c, a := provider(t, func(http.ResponseWriter, *http.Request) {})
	a.HTTP = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		n.Add(1)
		return nil, resetError{}
	})}
	_, err := c.Identify(t.Context(), a)
	if e := connectors.AsError(err); err == nil || e.Class != connectors.Transient || n.Load() != 2 {
		t.Errorf("Identify = %v after %d tries, want transient after 2", err, n.Load())
	}
	n.Store(0)
	item := itemOf(nil, withID)
	item.Payload.Body = []byte(`{"CallObject":"` + item.Key + `","Callbridge_Id__c":"` + item.Key + `"}`)
	c.Push(t.Context(), a, []connectors.Item{item})
	if n.Load() != 1 {
		t.Errorf("a write was tried %d times", n.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.Store(0)
	_, _ = c.Identify(ctx, a) // it cannot succeed
	if n.Load() > 1 {
		t.Errorf("%d tries for a caller who is gone", n.Load())
	}
}

func TestAddressThatIsNone(t *testing.T) {
	t.Parallel()
	c, a := provider(t, func(http.ResponseWriter, *http.Request) {})
	for _, base := range []string{"", "://", "http://[::1", "nowhere"} {
		a.BaseURL = base
		_, err := c.Identify(t.Context(), a)
		if e := connectors.AsError(err); err == nil || e.Class != connectors.Rejected {
			t.Errorf("%q: Identify = %v", base, err)
		}
		if err := c.Revoke(t.Context(), a); err == nil {
			t.Errorf("%q: Revoke succeeded", base)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for version, ok := range map[string]bool{"": true, "67.0": true, "v68.0": true, "67": false, "latest": false, "67.0/../": false} {
		if _, err := newConnector(connectors.Config{APIVersion: version}); (err == nil) != ok {
			t.Errorf("API version %q: %v", version, err)
		}
	}
	if _, err := connectors.Open(Descriptor(), connectors.Config{}); err != nil {
		t.Error(err)
	}
	if Descriptor().BudgetShare != 0.8 || Descriptor().BatchSize != 200 || !Descriptor().BearerToken {
		t.Errorf("descriptor %+v", Descriptor())
	}
}

// resetError is what a connection that was reset looks like.
type resetError struct{}

func (resetError) Error() string { return "read: connection reset by peer" }

func (resetError) Is(target error) bool { return target.Error() == "connection reset by peer" }
