package store

import (
	"context"
	"fmt"

	"github.com/optiwe/callbridge/hub"
)

// RewrapAll wraps the data keys of every org with the key-encryption key now in
// use, and returns how many needed it. The data keys themselves stay the same,
// so what is being served goes on. After an error some are done; repeating is
// safe.
func (s *Store) RewrapAll(ctx context.Context) (int, error) {
	orgs, err := s.Orgs(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, org := range orgs {
		changed, err := s.rewrap(ctx, org)
		if err != nil {
			return n, err
		}
		if changed {
			n++
		}
	}
	return n, nil
}

func (s *Store) rewrap(ctx context.Context, org hub.OrgID) (bool, error) {
	wrapped, err := s.rdb.HGet(ctx, orgKey(org), "keyset").Bytes()
	if err != nil {
		return false, fmt.Errorf("store: keys of org %s: %w", org, err)
	}
	again, changed, err := s.sealer.Rewrap(ctx, org, wrapped)
	if err != nil || !changed {
		return false, err //nolint:wrapcheck // says what it did
	}
	if err := s.rdb.HSet(ctx, orgKey(org), "keyset", again).Err(); err != nil {
		return false, fmt.Errorf("store: keys of org %s: %w", org, err)
	}
	return true, nil
}
