package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/store"
)

// The sweeper forgets content whose time is over (P6) and has copies erased
// that were to stay for some days only.
const (
	sweepEvery = time.Minute
	sweepMost  = 500 // of each kind, in one shard at a time
)

func (s *Server) startSweeper(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			// Replicas that start together must not sweep together.
			timer := time.NewTimer(sweepEvery/2 + rand.N(sweepEvery)) //nolint:gosec // spreading load needs no secret
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			s.sweep(ctx)
		}
	}()
	s.onClose("sweeper", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}

// sweep goes once through all shards.
func (s *Server) sweep(ctx context.Context) {
	for shard := range hub.Shards {
		err := s.sweepShard(ctx, shard)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.cfg.Logger.WarnContext(ctx, "shard not swept, it is swept again in a minute", "shard", shard, "error", err)
			return
		}
	}
}

func (s *Server) sweepShard(ctx context.Context, shard int) error {
	for {
		n, err := s.store.SweepCalls(ctx, shard, sweepMost)
		if err != nil {
			return err //nolint:wrapcheck // the store says what it did
		}
		if n < sweepMost {
			break
		}
	}
	due, err := s.store.Expired(ctx, shard, sweepMost)
	if err != nil {
		return err //nolint:wrapcheck // the store says what it did
	}
	for _, e := range due {
		_, err := s.store.Erase(ctx, e.Org, e.Call, e.Integration, "hub")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err //nolint:wrapcheck // the store says what it did
		}
		if err := s.store.ExpiryDone(ctx, e); err != nil {
			return err //nolint:wrapcheck // the store says what it did
		}
		s.delivery.Wake(shard)
	}
	return nil
}
