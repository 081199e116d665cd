package api

import (
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// buckets is a token bucket for each key, of at most so many keys: beyond that
// those that are full, and so say nothing, are forgotten first.
type buckets struct {
	limit rate.Limit
	burst int
	most  int

	mu    sync.Mutex
	byKey map[string]*rate.Limiter // guarded by mu
}

func newBuckets(perSecond float64, burst, most int) *buckets {
	return &buckets{limit: rate.Limit(perSecond), burst: burst, most: most, byKey: map[string]*rate.Limiter{}}
}

// take takes n tokens, or none and says how long until there are enough. More
// than the burst are counted as the burst: they could never be had.
func (b *buckets) take(key string, n int) (wait time.Duration, ok bool) {
	now := time.Now()
	r := b.of(key, now).ReserveN(now, min(n, b.burst))
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// empty reports whether there is no token.
func (b *buckets) empty(key string) bool {
	now := time.Now()
	b.mu.Lock()
	l, ok := b.byKey[key]
	b.mu.Unlock()
	return ok && l.TokensAt(now) < 1
}

func (b *buckets) of(key string, now time.Time) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.byKey[key]
	if !ok {
		if len(b.byKey) >= b.most {
			b.makeRoom(now)
		}
		l = rate.NewLimiter(b.limit, b.burst)
		b.byKey[key] = l
	}
	return l
}

// makeRoom forgets full buckets among some that chance picks, or one that is
// not. mu is held.
func (b *buckets) makeRoom(now time.Time) {
	const look = 100
	seen, before := 0, len(b.byKey)
	for key, l := range b.byKey {
		if l.TokensAt(now) >= float64(b.burst) {
			delete(b.byKey, key)
		}
		if seen++; seen == look {
			break
		}
	}
	if len(b.byKey) < before {
		return
	}
	for key := range b.byKey {
		delete(b.byKey, key)
		return
	}
}

// bearers remembers digests of keys that were valid, so that a client behind
// the same address as one that fails all the time is told from it.
type bearers struct {
	most int

	mu   sync.Mutex
	seen map[[sha256.Size]byte]struct{} // guarded by mu
}

func newBearers(most int) *bearers {
	return &bearers{most: most, seen: map[[sha256.Size]byte]struct{}{}}
}

func (b *bearers) add(bearer string) {
	d := sha256.Sum256([]byte(bearer))
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.seen[d]; ok {
		return
	}
	if len(b.seen) >= b.most {
		for old := range b.seen {
			delete(b.seen, old)
			break
		}
	}
	b.seen[d] = struct{}{}
}

func (b *bearers) has(bearer string) bool {
	d := sha256.Sum256([]byte(bearer))
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.seen[d]
	return ok
}

// remoteAddress returns the address of the other end: of IPv6 the /64 network,
// because one client has all of it.
func remoteAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Is4() || ip.Is4In6() {
		return host
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return host
	}
	return network.String()
}
