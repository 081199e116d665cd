package outbound

import (
	"container/list"
	"sync"
	"time"

	"github.com/optiwe/callbridge/connectors"
)

// Cache keeps the look-ups of many connections in memory, bounded by number;
// what was used longest ago is dropped first. It may be used by several
// goroutines.
type Cache struct {
	max int

	mu    sync.Mutex // guards what follows
	byKey map[cacheKey]*list.Element
	order *list.List // of *cacheEntry, most recently used first
}

type cacheKey struct{ connection, key string }

type cacheEntry struct {
	key     cacheKey
	value   any
	expires time.Time
}

// NewCache returns a Cache of at most max entries. max below 1 means 10,000.
func NewCache(max int) *Cache { //nolint:predeclared // what it is
	if max < 1 {
		max = 10_000
	}
	return &Cache{max: max, byKey: make(map[cacheKey]*list.Element), order: list.New()}
}

// For returns the part of the cache that belongs to one connection. Parts see
// nothing of each other, and share the bound.
func (c *Cache) For(connection string) connectors.Cache { return part{c, connection} }

// Forget drops everything of one connection.
func (c *Cache) Forget(connection string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.byKey {
		if k.connection == connection {
			c.drop(e)
		}
	}
}

// Len returns how many entries there are, those that have expired unseen
// included.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

func (c *Cache) get(k cacheKey) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byKey[k]
	if !ok {
		return nil, false
	}
	e := entryOf(el)
	if !time.Now().Before(e.expires) {
		c.drop(el)
		return nil, false
	}
	c.order.MoveToFront(el)
	return e.value, true
}

func (c *Cache) put(k cacheKey, v any, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[k]; ok {
		c.drop(el)
	}
	if ttl <= 0 {
		return
	}
	c.byKey[k] = c.order.PushFront(&cacheEntry{key: k, value: v, expires: time.Now().Add(ttl)})
	if c.order.Len() > c.max {
		c.drop(c.order.Back())
	}
}

// drop removes el; c.mu is held.
func (c *Cache) drop(el *list.Element) {
	delete(c.byKey, entryOf(el).key)
	c.order.Remove(el)
}

func entryOf(el *list.Element) *cacheEntry {
	e, _ := el.Value.(*cacheEntry) // nothing else is ever put in
	return e
}

// part is a connection's view of a Cache.
type part struct {
	c          *Cache
	connection string
}

var _ connectors.Cache = part{}

// Get implements [connectors.Cache].
func (p part) Get(key string) (any, bool) { return p.c.get(cacheKey{p.connection, key}) }

// Put implements [connectors.Cache].
func (p part) Put(key string, v any, ttl time.Duration) { p.c.put(cacheKey{p.connection, key}, v, ttl) }
