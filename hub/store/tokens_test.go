package store

import (
	"context"
	"testing"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/oauth/vault"
	"github.com/optiwe/callbridge/oauth/vault/vaulttest"
)

// TestTokens runs the vault's own suite on the store.
func TestTokens(t *testing.T) {
	eachBackend(t, func(t *testing.T, b backend) {
		if b.name == "miniredis" {
			b.open = openRunning // the suite waits for leases to end
		}
		vaulttest.RunStore(t, func(tb testing.TB) vaulttest.Harness {
			tb.Helper()
			h := b.new(tb)
			h.newOrg("org_a")
			h.newOrg("org_b")
			return vaulttest.Harness{
				Store: h.Tokens(actor),
				SetState: func(ctx context.Context, org hub.OrgID, conn hub.ConnectionID, s hub.ConnectionState) error {
					_, err := h.SetConnection(ctx, org, conn, s, "", actor, audit.ConnectionPaused)
					return err
				},
			}
		})
	})
}

// Whatever the vault does is in the audit log, in the same step.
func TestTokensAudited(t *testing.T) {
	t.Parallel()
	h := backend{"miniredis", openMini}.new(t)
	w := h.newWorld("org_a")
	n := len(w.entries())
	tokens, ctx := w.Tokens(""), t.Context()
	ok(t, tokens.InstallTokens(ctx, w.org, "con_x", "slack", 1, []byte("one")))
	must(tokens.TakeRefresh(ctx, w.org, "con_x", vault.Take{Version: 1, Taker: "t1", Lease: time.Second}))(t)
	h.pass(time.Minute)
	must(tokens.TakeRefresh(ctx, w.org, "con_x", vault.Take{Version: 1, Taker: "t2", Lease: time.Second, Takeover: true}))(t)
	ok(t, tokens.PutTokens(ctx, w.org, "con_x", 1, "t2", []byte("two")))
	must(tokens.TakeRefresh(ctx, w.org, "con_x", vault.Take{Version: 2, Taker: "t3", Lease: time.Second}))(t)
	ok(t, tokens.EndRefresh(ctx, w.org, "con_x", "t3", vault.End{Unknown: true, Code: "timeout", Detail: "No answer.", Pause: time.Second}))
	health := must(tokens.s.rdb.HMGet(ctx, connKey(w.org, "con_x"), "erc", "erd").Result())(t)
	if health[0] != "timeout" || health[1] != "No answer." {
		t.Errorf("health %v", health)
	}
	ok(t, tokens.BreakConnection(ctx, w.org, "con_x", vault.Break{Version: 2, Code: "invalid_grant", Detail: "Connect again."}))
	var got []audit.Type
	for _, e := range w.entries()[n:] {
		if e.Connection != "con_x" {
			t.Errorf("entry %+v", e)
		}
		got = append(got, e.Type)
	}
	want := []audit.Type{audit.TokenInstalled, audit.TokenAmbiguous, audit.TokenRefreshed, audit.TokenAmbiguous, audit.ConnectionBroken}
	if len(got) != len(want) {
		t.Fatalf("entries %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d is %s, want %s", i, got[i], want[i])
		}
	}
	// Waking a lane is for those that have work: an idle one takes no place.
	if lines := w.zset(prefix(w.org) + "lanes:" + string(w.org)); len(lines) != 0 {
		t.Errorf("in line with nothing to do: %v", lines)
	}
	w.consistent()
}
