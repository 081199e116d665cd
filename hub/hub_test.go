package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/optiwe/callbridge/hub"
)

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		id := hub.NewID(hub.TransferPrefix)
		rest, ok := strings.CutPrefix(id, "tr_")
		if !ok || len(rest) != 26 || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different ids of 1000", len(seen))
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"acme": true, "org_a-1": true, "1": true, strings.Repeat("a", 64): true,
		"": false, "Acme": false, "_a": false, "-a": false, "a.b": false, "a\n": false, "a}": false, strings.Repeat("a", 65): false,
	} {
		if got := hub.ValidOrgID(id); got != want {
			t.Errorf("ValidOrgID(%q) = %t", id, got)
		}
	}
	for id, want := range map[string]bool{
		"call-2026-11-20-0042": true, "webinar:1": true, "A_b.C": true, strings.Repeat("a", 128): true,
		"": false, "a b": false, "a/b": false, "ä": false, "a\n": false, strings.Repeat("a", 129): false,
	} {
		if got := hub.ValidCallID(id); got != want {
			t.Errorf("ValidCallID(%q) = %t", id, got)
		}
	}
}

// TestShardsAreForLife pins the shard of some orgs: another hash would lose
// every org in Redis.
func TestShardsAreForLife(t *testing.T) {
	t.Parallel()
	used := map[int]bool{}
	for i := range 5000 {
		used[hub.OrgID(fmt.Sprintf("org-%d", i)).Shard()] = true
	}
	if len(used) != hub.Shards {
		t.Errorf("5000 orgs use %d shards", len(used))
	}
	for org, want := range map[hub.OrgID]int{"acme": 47, "org_demo": 53, "a": 44} {
		if got := org.Shard(); got != want {
			t.Errorf("shard of %s is %d, was %d", org, got, want)
		}
	}
}

func TestTransferStates(t *testing.T) {
	t.Parallel()
	open := map[hub.TransferState]bool{hub.StateWaiting: true, hub.StateSending: true, hub.StateHeld: true}
	states := hub.TransferStates()
	if len(states) != 9 {
		t.Errorf("%d states", len(states))
	}
	for _, s := range states {
		if s.Open() != open[s] {
			t.Errorf("%s: open is %t", s, s.Open())
		}
	}
}

func TestParseRole(t *testing.T) {
	t.Parallel()
	for _, r := range []hub.Role{hub.RoleAdmin, hub.RoleAuditor, hub.RoleIngest} {
		if got, err := hub.ParseRole(string(r)); got != r || err != nil {
			t.Errorf("%s: %q, %v", r, got, err)
		}
	}
	for _, s := range []string{"", "Admin", "owner", "admin "} {
		if got, err := hub.ParseRole(s); err == nil || got != "" {
			t.Errorf("%q is the role %q", s, got)
		}
	}
}

// TestSecretStaysInside (I6) prints, logs and encodes a secret in every way,
// also as part of something else.
func TestSecretStaysInside(t *testing.T) {
	t.Parallel()
	const value = "hunter2-canary"
	type holder struct {
		inner  hub.Secret
		Public hub.Secret
		Pair   []hub.Secret
		ByName map[string]hub.Secret
		Any    any
	}
	s := hub.NewSecret(value)
	h := holder{s, s, []hub.Secret{s}, map[string]hub.Secret{"a": s}, s}
	var out bytes.Buffer
	for _, v := range []any{s, &s, h, &h, []any{h}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10v"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	for _, hidden := range []string{value, "hunter", fmt.Sprintf("%x", value)} {
		if strings.Contains(out.String(), hidden) {
			t.Errorf("%q came out:\n%s", hidden, out.String())
		}
	}
	if s.Reveal() != value || h.inner.Reveal() != value || s.IsZero() {
		t.Error("the secret does not reveal what it holds")
	}
	if s.String() != "[redacted]" {
		t.Errorf("String gives %q", s.String())
	}
}

func TestSecretEqual(t *testing.T) {
	t.Parallel()
	a, b, zero := hub.NewSecret("a"), hub.NewSecret("b"), hub.Secret{}
	if !a.Equal(hub.NewSecret("a")) || a.Equal(b) || a.Equal(zero) || !zero.Equal(hub.NewSecret("")) {
		t.Error("Equal is wrong")
	}
	if !zero.IsZero() || zero.Reveal() != "" || !hub.NewSecret("").IsZero() {
		t.Error("the zero Secret is not empty")
	}
}

func TestFieldErrorReads(t *testing.T) {
	t.Parallel()
	if got := (hub.FieldError{Pointer: "/owner/email", Detail: "is required"}).Error(); got != "/owner/email: is required" {
		t.Error(got)
	}
	if got := (hub.FieldError{Detail: "must be an object, not a list"}).Error(); got != "must be an object, not a list" {
		t.Error(got)
	}
}
