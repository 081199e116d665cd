package outbound_test

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/optiwe/callbridge/connectors/outbound"
)

func TestCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := outbound.NewCache(3)
		a, b := c.For("a"), c.For("b")
		a.Put("k", 1, time.Minute)
		a.Put("k", 2, time.Minute)
		b.Put("k", 3, 2*time.Minute)
		if v, ok := a.Get("k"); !ok || v != 2 {
			t.Errorf("a has %v, %v, want 2", v, ok)
		}
		if v, ok := b.Get("k"); !ok || v != 3 {
			t.Errorf("b has %v, %v, want 3", v, ok)
		}
		<-time.After(time.Minute)
		if v, ok := a.Get("k"); ok {
			t.Errorf("after its time a has %v", v)
		}
		if _, ok := b.Get("k"); !ok {
			t.Error("b's entry is gone before its time")
		}
		b.Put("gone", 1, 0)
		if _, ok := b.Get("gone"); ok {
			t.Error("an entry without time to live is kept")
		}
		c.Forget("b")
		if n := c.Len(); n != 0 {
			t.Errorf("%d entries are left, want none", n)
		}
	})
}

// TestCacheBound checks that what was used longest ago goes first.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	c := outbound.NewCache(2)
	p := c.For("a")
	p.Put("1", 1, time.Hour)
	p.Put("2", 2, time.Hour)
	p.Get("1")
	p.Put("3", 3, time.Hour)
	for key, want := range map[string]bool{"1": true, "2": false, "3": true} {
		if _, ok := p.Get(key); ok != want {
			t.Errorf("%s is there: %v, want %v", key, ok, want)
		}
	}
	if c.Len() != 2 {
		t.Errorf("%d entries, want 2", c.Len())
	}
}

func TestCacheConcurrent(t *testing.T) {
	t.Parallel()
	c := outbound.NewCache(10)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p := c.For(strconv.Itoa(i % 3))
			for j := range 200 {
				p.Put(strconv.Itoa(j%20), j, time.Hour)
				p.Get(strconv.Itoa(j % 7))
			}
			c.Forget("0")
		})
	}
	wg.Wait()
	if c.Len() > 10 {
		t.Errorf("%d entries, want 10 at most", c.Len())
	}
}
