package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// AcceptAnswer is what became of one call of [Store.AcceptAll].
type AcceptAnswer struct {
	AcceptResult
	Err error
}

// AcceptAll accepts calls of one org in order and in one round trip. Each is
// accepted or not by itself, as by [Store.Accept].
func (s *Store) AcceptAll(ctx context.Context, rs []AcceptRequest) []AcceptAnswer {
	out := make([]AcceptAnswer, len(rs))
	if len(rs) == 1 {
		out[0].AcceptResult, out[0].Err = s.Accept(ctx, rs[0])
		return out
	}
	calls := make([]acceptCall, len(rs))
	for i, r := range rs {
		if calls[i], out[i].Err = s.acceptCall(ctx, r); out[i].Err != nil {
			return failed(out, out[i].Err)
		}
	}
	cmds, err := s.pipeAccept(ctx, calls)
	if redis.HasErrorPrefix(err, "NOSCRIPT") { // none of them ran: they come in order
		if err = s.scripts.accept.Load(ctx, s.rdb).Err(); err != nil {
			return failed(out, err)
		}
		cmds, _ = s.pipeAccept(ctx, calls)
	}
	for i, c := range cmds {
		v, err := c.Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			out[i].Err = err
			continue
		}
		out[i].AcceptResult, out[i].Err = acceptResult(v)
	}
	return out
}

func failed(out []AcceptAnswer, err error) []AcceptAnswer {
	for i := range out {
		out[i].Err = err
	}
	return out
}

func (s *Store) pipeAccept(ctx context.Context, calls []acceptCall) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, len(calls))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range calls {
			cmds[i] = s.scripts.accept.EvalSha(ctx, p, c.keys, c.args...)
		}
		return nil
	})
	return cmds, err //nolint:wrapcheck // the caller looks at Redis' own error
}
