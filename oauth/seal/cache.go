package seal

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/optiwe/callbridge/hub"
)

// cacheKey names wrapped keys. The bytes are part of it, so that keys wrapped
// anew, or made anew for an org of the same name, are never mixed up.
type cacheKey struct {
	org     hub.OrgID
	wrapped [sha256.Size]byte
}

// cache keeps unwrapped keys, bounded in number and time. What was used
// longest ago is dropped first.
type cache struct {
	size   int
	keep   time.Duration
	flight singleflight.Group

	mu    sync.Mutex // guards what follows
	byKey map[cacheKey]*list.Element
	order *list.List // of *cached, most recently used first
}

type cached struct {
	key     cacheKey
	keys    *OrgKeys
	expires time.Time
}

func newCache(size int, keep time.Duration) *cache {
	return &cache{size: size, keep: keep, byKey: map[cacheKey]*list.Element{}, order: list.New()}
}

// get returns what is kept under k, or what load returns, which is then kept.
// Callers at the same time share one load; each waits no longer than its own
// ctx.
func (c *cache) get(ctx context.Context, k cacheKey, load func(context.Context) (*OrgKeys, error)) (*OrgKeys, error) {
	if keys := c.find(k); keys != nil {
		return keys, nil
	}
	name := string(k.org) + "\x00" + hex.EncodeToString(k.wrapped[:])
	done := c.flight.DoChan(name, func() (any, error) {
		// One caller's patience must not decide for the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unwrapTimeout)
		defer cancel()
		keys, err := load(ctx)
		if err != nil {
			return nil, err
		}
		c.put(k, keys)
		return keys, nil
	})
	select {
	case r := <-done:
		keys, _ := r.Val.(*OrgKeys) // nil with an error
		return keys, r.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("seal: unwrap keys of org %s: %w", k.org, ctx.Err())
	}
}

func (c *cache) find(k cacheKey) *OrgKeys {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byKey[k]
	if !ok {
		return nil
	}
	e := entryOf(el)
	if !time.Now().Before(e.expires) {
		c.drop(el)
		return nil
	}
	c.order.MoveToFront(el)
	return e.keys
}

func (c *cache) put(k cacheKey, keys *OrgKeys) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[k]; ok {
		c.drop(el)
	}
	c.byKey[k] = c.order.PushFront(&cached{key: k, keys: keys, expires: time.Now().Add(c.keep)})
	for c.order.Len() > c.size {
		c.drop(c.order.Back())
	}
}

func (c *cache) forget(org hub.OrgID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, el := range c.byKey {
		if k.org == org {
			c.drop(el)
		}
	}
}

// drop removes el; c.mu is held.
func (c *cache) drop(el *list.Element) {
	delete(c.byKey, entryOf(el).key)
	c.order.Remove(el)
}

func entryOf(el *list.Element) *cached {
	e, _ := el.Value.(*cached) // nothing else is ever put in
	return e
}
