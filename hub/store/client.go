package store

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Dial returns a client for the Redis at address, which is one of
//
//	redis://[user:password@]host:port[/db]           one node
//	rediss://…                                       one node, TLS
//	redis+sentinel://[user:password@]host:port,host:port/master[?db=n]
//	redis+cluster://[user:password@]host:port,host:port
//	rediss+sentinel://…, rediss+cluster://…          the same over TLS
//
// It does not connect yet. The error names what is wrong with the address and
// holds no password.
func Dial(address string) (redis.UniversalClient, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return nil, fmt.Errorf("redis address: want redis://, rediss://, redis+sentinel:// or redis+cluster://")
	}
	opts, path, err := parseAuthority(rest)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(scheme, "rediss") {
		opts.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tune(opts)
	switch scheme {
	case "redis", "rediss":
		if len(opts.Addrs) != 1 {
			return nil, fmt.Errorf("redis address: %s:// takes one host; for several say redis+cluster:// or redis+sentinel://", scheme)
		}
		if path != "" {
			if _, err := fmt.Sscanf(path, "%d", &opts.DB); err != nil {
				return nil, fmt.Errorf("redis address: the path must be a database number")
			}
		}
		return redis.NewClient(opts.Simple()), nil
	case "redis+sentinel", "rediss+sentinel":
		if path == "" {
			return nil, fmt.Errorf("redis address: %s:// needs the master's name as its path, such as redis+sentinel://host:26379/mymaster", scheme)
		}
		opts.MasterName = path
		return redis.NewFailoverClient(opts.Failover()), nil
	case "redis+cluster", "rediss+cluster":
		if path != "" && path != "0" {
			return nil, fmt.Errorf("redis address: a cluster has no database number")
		}
		c := opts.Cluster()
		// A client that stays on a dead primary turns an outage of 3 s into one
		// of a minute: go-redis reloads the topology once a minute by default.
		c.ClusterStateReloadInterval = time.Second
		return redis.NewClusterClient(c), nil
	}
	return nil, fmt.Errorf("redis address: scheme %q is not known: want redis, rediss, redis+sentinel or redis+cluster", scheme)
}

func parseAuthority(rest string) (*redis.UniversalOptions, string, error) {
	opts := &redis.UniversalOptions{}
	authority, path, _ := strings.Cut(rest, "/")
	path, query, _ := strings.Cut(path, "?")
	if user, hosts, ok := cutLast(authority, "@"); ok {
		authority = hosts
		u, err := url.Parse("redis://" + user + "@host")
		if err != nil {
			return nil, "", fmt.Errorf("redis address: the part before @ must be user:password, percent-encoded")
		}
		opts.Username = u.User.Username()
		opts.Password, _ = u.User.Password()
	}
	for host := range strings.SplitSeq(authority, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host += ":6379"
		}
		if _, port, err := net.SplitHostPort(host); err != nil || port == "" || strings.HasPrefix(host, ":") {
			return nil, "", fmt.Errorf("redis address: %q is not host:port", host)
		}
		opts.Addrs = append(opts.Addrs, host)
	}
	if query != "" {
		q, err := url.ParseQuery(query)
		if err != nil {
			return nil, "", fmt.Errorf("redis address: the query cannot be read")
		}
		for name := range q {
			if name != "db" {
				return nil, "", fmt.Errorf("redis address: %q is not known; only db may stand after ?", name)
			}
		}
		if _, err := fmt.Sscanf(q.Get("db"), "%d", &opts.DB); err != nil {
			return nil, "", fmt.Errorf("redis address: db must be a number")
		}
	}
	return opts, path, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// tune sets what the defaults of go-redis get wrong for us. Repeating a command
// whose answer was lost is allowed because every script may run twice.
func tune(o *redis.UniversalOptions) {
	o.MaxRetries = 3
	o.MinRetryBackoff = 10 * time.Millisecond
	o.MaxRetryBackoff = 500 * time.Millisecond
	o.DialTimeout = 2 * time.Second
	o.ReadTimeout = 5 * time.Second
	o.WriteTimeout = 5 * time.Second
	o.ContextTimeoutEnabled = true
	o.PoolSize = 64
	o.DialerRetries = 1
	o.DialerRetryTimeout = 20 * time.Millisecond
}

// Facts is what matters to us about a Redis server.
type Facts struct {
	Version     string // "7.0.15"
	Persistent  bool   // AOF or RDB snapshots are on, on every primary
	AppendFsync string // "always", "everysec", "no"; "" without AOF or when it may not be asked
	Eviction    string // maxmemory-policy; "" when it may not be asked
	Role        string // "master", "slave"
}

// Evicting reports whether the server may throw our data away when its memory
// is full.
func (f Facts) Evicting() bool { return f.Eviction != "" && f.Eviction != "noeviction" }

// Facts asks every primary and returns the weakest answer.
func (s *Store) Facts(ctx context.Context) (Facts, error) {
	if c, ok := s.rdb.(*redis.ClusterClient); ok {
		var worst Facts
		var found bool
		err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			f, err := nodeFacts(ctx, node)
			if err != nil {
				return err
			}
			s.factsMu.Lock()
			defer s.factsMu.Unlock()
			if !found || (worst.Persistent && !f.Persistent) || (!worst.Evicting() && f.Evicting()) {
				worst, found = f, true
			}
			return nil
		})
		return worst, err
	}
	return nodeFacts(ctx, s.rdb)
}

func nodeFacts(ctx context.Context, c redis.Cmdable) (Facts, error) {
	info, err := c.Info(ctx, "server", "persistence", "replication", "memory").Result()
	if err != nil {
		return Facts{}, fmt.Errorf("ask redis about itself: %w", err)
	}
	f := Facts{}
	values := map[string]string{}
	for line := range strings.SplitSeq(info, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[name] = value
		}
	}
	f.Version, f.Role = values["redis_version"], values["role"]
	f.Eviction = values["maxmemory_policy"]
	f.Persistent = values["aof_enabled"] == "1"
	// CONFIG is often forbidden by hosters: what it would add is then unknown.
	if v, err := c.ConfigGet(ctx, "appendfsync").Result(); err == nil && f.Persistent {
		f.AppendFsync = v["appendfsync"]
	}
	if v, err := c.ConfigGet(ctx, "save").Result(); err == nil && v["save"] != "" {
		f.Persistent = true
	}
	if v, err := c.ConfigGet(ctx, "maxmemory-policy").Result(); err == nil {
		f.Eviction = v["maxmemory-policy"]
	}
	return f, nil
}
