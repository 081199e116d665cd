package vaulttest_test

import (
	"context"
	"testing"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth/vault/vaulttest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	vaulttest.RunStore(t, func(testing.TB) vaulttest.Harness {
		m := vaulttest.NewMemory()
		return vaulttest.Harness{
			Store: m,
			SetState: func(_ context.Context, org hub.OrgID, conn hub.ConnectionID, state hub.ConnectionState) error {
				m.SetState(org, conn, state)
				return nil
			},
		}
	})
}
