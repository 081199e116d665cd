package webhook

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// FuzzRetryAfter checks that no header makes the hub wait for less than a
// second or more than a day.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 20, 15, 0, 0, 0, time.UTC)
	for _, s := range []string{"", "7", "-7", "99999999999999999999", "1e3", now.Add(time.Hour).Format(http.TimeFormat), "Mon, 01 Jan 0001 00:00:00 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, h string) {
		if wait, _ := retryAfter(h, now); wait < time.Second || wait > maxRetryAfter {
			t.Errorf("%q: wait %v", h, wait)
		}
	})
}

// FuzzDestination checks that nothing but the empty object is a destination.
func FuzzDestination(f *testing.F) {
	for _, s := range []string{"{}", "[]", `{"a":1}`, `{"a/b~":{}}`, "null", "", " {} ", "{}{}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 || len(checkDestination(raw)) > 0 {
			return
		}
		var v map[string]json.RawMessage
		if err := json.Unmarshal(raw, &v); err != nil || len(v) > 0 {
			t.Errorf("%q is accepted", raw)
		}
	})
}
