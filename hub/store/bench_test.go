package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/redistest"
)

func benchWorld(b *testing.B, o redistest.Options) *world {
	b.Helper()
	redistest.Require(b)
	s := redistest.Start(b, o)
	return newHarness(b, connectTo(b, s.URL()), sleep).newWorld("org_a")
}

// benchRequests are calls of 2 kB, each shared by one integration.
func benchRequests(w *world, start, n int) []AcceptRequest {
	version := w.version()
	content := make([]byte, 2000)
	rs := make([]AcceptRequest, n)
	for i := range rs {
		rs[i] = AcceptRequest{
			Org: w.org, Call: hub.CallID(fmt.Sprintf("c%d", start+i)), Version: version, Actor: actor, Token: hub.NewID("req"), Content: content,
			Canonical: fmt.Append(nil, start+i), Shares: []Share{w.share(intA)}, Answer: []byte("[]"), Limit: 1 << 30, Retention: retention,
			IdempotencyKey: fmt.Sprint(start + i), IdempotencyTTL: time.Hour, Subjects: []string{"ada@example.com", "bob@example.com"},
		}
	}
	return rs
}

// BenchmarkAccept is one call at a time from each of 16 goroutines.
func BenchmarkAccept(b *testing.B) {
	for _, fsync := range []string{"always", "everysec"} {
		b.Run(fsync, func(b *testing.B) {
			w := benchWorld(b, redistest.Options{AppendFsync: fsync})
			rs := benchRequests(w, 0, b.N)
			var next atomic.Int64
			b.SetParallelism(8) // times 2 processors
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := w.Accept(context.Background(), rs[next.Add(1)-1]); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// BenchmarkBatch is claim, begin and finish of 200 transfers.
func BenchmarkBatch(b *testing.B) {
	w := benchWorld(b, redistest.Options{})
	for i := range b.N {
		b.StopTimer()
		for _, a := range w.AcceptAll(b.Context(), benchRequests(w, 200*i, 200)) {
			ok(b, a.Err)
		}
		b.StartTimer()
		l := w.claim()
		if len(l.Transfers) != 200 {
			b.Fatal(len(l.Transfers))
		}
		w.begin(l)
		w.deliver(l)
	}
	b.ReportMetric(200*float64(b.N)/b.Elapsed().Seconds(), "transfers/s")
}

// BenchmarkIdleClaim is a look at a shard that has nothing to do.
func BenchmarkIdleClaim(b *testing.B) {
	w := benchWorld(b, redistest.Options{})
	for b.Loop() {
		w.noLane()
	}
}

// BenchmarkMemory tells what Redis needs for a call that was delivered.
func BenchmarkMemory(b *testing.B) {
	w := benchWorld(b, redistest.Options{})
	used := func() int {
		info := must(w.rdb.Info(b.Context(), "memory").Result())(b)
		var n int
		_, _ = fmt.Sscanf(info[len("# Memory\r\n"):], "used_memory:%d", &n)
		return n
	}
	before := used()
	for i := range b.N {
		for _, a := range w.AcceptAll(b.Context(), benchRequests(w, 200*i, 200)) {
			ok(b, a.Err)
		}
		l := w.claim()
		w.begin(l)
		w.deliver(l)
	}
	b.ReportMetric(float64(used()-before)/float64(200*b.N), "B/call")
}
