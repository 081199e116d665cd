package audit_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
)

func whole() audit.Entry {
	return audit.Entry{
		ID: "7-0", At: time.Date(2026, 11, 20, 15, 0, 0, 123e6, time.UTC), Type: audit.TransferBegin, Actor: "hub", Call: "call:1",
		Revision: 2, Integration: "int_1", Connection: "con_1", Transfer: "tr_1", Grant: 3, Kind: hub.KindUpdate, Attempt: 4,
		Reason: "why", Fields: []string{"title", "custom.deal_size"}, Digest: "abc", Count: 5, Subject: "key_1",
	}
}

// values is what the store reads back of what it wrote.
func values(e audit.Entry) map[string]string {
	v := map[string]string{"at": strconv.FormatInt(e.At.UnixMilli(), 10)}
	for pair := range slices.Chunk(e.Pairs(), 2) {
		v[pair[0]] = pair[1]
	}
	return v
}

func TestPairsAndParse(t *testing.T) {
	t.Parallel()
	for _, e := range []audit.Entry{
		whole(),
		{ID: "1-0", At: time.UnixMilli(0).UTC(), Type: audit.OrgCreated, Actor: "operator"},
	} {
		got, err := audit.Parse(e.ID, values(e))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Error(d)
		}
	}
}

// A member that is added to Entry must be written and read.
func TestEveryMemberIsWritten(t *testing.T) {
	t.Parallel()
	e := whole()
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the whole entry has no %s", v.Type().Field(i).Name)
		}
	}
	if got, want := len(e.Pairs())/2, v.NumField()-2; got != want {
		t.Errorf("%d members are written, want all %d but id and time", got, want)
	}
}

func TestPairsLeavesOutWhatDoesNotApply(t *testing.T) {
	t.Parallel()
	got := audit.Entry{Type: audit.KeyCreated, Actor: "key:k1", Subject: "k2"}.Pairs()
	if d := cmp.Diff([]string{"t", "key.created", "by", "key:k1", "s", "k2"}, got); d != "" {
		t.Error(d)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]string){
		"no time":             func(v map[string]string) { delete(v, "at") },
		"time is no number":   func(v map[string]string) { v["at"] = "now" },
		"revision":            func(v map[string]string) { v["r"] = "two" },
		"grant":               func(v map[string]string) { v["g"] = "1.5" },
		"attempt":             func(v map[string]string) { v["a"] = "0x1" },
		"count beyond an int": func(v map[string]string) { v["q"] = "99999999999999999999" },
	} {
		v := values(whole())
		change(v)
		_, err := audit.Parse("7-0", v)
		if err == nil || !strings.Contains(err.Error(), "7-0") {
			t.Errorf("%s: %v; want an error that names the entry", name, err)
		}
	}
}

// A newer version may have written more.
func TestParseLeavesOutWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	e := whole()
	v := values(e)
	v["zz"] = "new"
	got, err := audit.Parse(e.ID, v)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(e, got); d != "" {
		t.Error(d)
	}
}

// What does not apply is left out of the JSON, and what applies has the names
// of the API.
func TestJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(audit.Entry{ID: "1-0", At: time.UnixMilli(1000).UTC(), Type: audit.OrgCreated, Actor: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"1-0","at":"1970-01-01T00:00:01Z","type":"org.created","actor":"operator"}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	text := rapid.StringMatching(`[a-zA-Z0-9_:. é"\\-]{0,20}`)
	small := rapid.IntRange(0, 1<<31-1)
	rapid.Check(t, func(t *rapid.T) {
		e := audit.Entry{
			ID: "1-0", At: time.UnixMilli(rapid.Int64Range(0, 1<<50).Draw(t, "at")).UTC(),
			Type: audit.Type(text.Draw(t, "type")), Actor: text.Draw(t, "actor"), Call: hub.CallID(text.Draw(t, "call")),
			Revision: small.Draw(t, "revision"), Integration: hub.IntegrationID(text.Draw(t, "integration")),
			Connection: hub.ConnectionID(text.Draw(t, "connection")), Transfer: hub.TransferID(text.Draw(t, "transfer")),
			Grant: small.Draw(t, "grant"), Kind: hub.TransferKind(text.Draw(t, "kind")), Attempt: small.Draw(t, "attempt"),
			Reason: text.Draw(t, "reason"), Digest: text.Draw(t, "digest"), Count: small.Draw(t, "count"), Subject: text.Draw(t, "subject"),
		}
		if f := rapid.SliceOfN(rapid.StringMatching(`[a-z._]{1,9}`), 0, 4).Draw(t, "fields"); len(f) > 0 {
			e.Fields = f
		}
		got, err := audit.Parse(e.ID, values(e))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("1-0", "at", "1", "r", "2")
	f.Add("x", "at", "-1", "f", "a,,b")
	f.Add("", "at", "9223372036854775807", "q", "-5")
	f.Fuzz(func(t *testing.T, id, k1, v1, k2, v2 string) {
		v := map[string]string{"at": "1", "t": "call.accepted", "by": "hub"}
		v[k1], v[k2] = v1, v2
		e, err := audit.Parse(id, v)
		if err != nil {
			return
		}
		// What was understood is written the same and read the same.
		again, err := audit.Parse(id, values(e))
		if err != nil {
			t.Fatalf("%+v is written as %v, which is refused: %v", e, e.Pairs(), err)
		}
		if d := cmp.Diff(e, again); d != "" {
			t.Fatalf("%+v comes back changed: %s", e, d)
		}
	})
}
