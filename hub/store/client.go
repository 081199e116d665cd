package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Dial returns a client for the Redis at address, which is one of
//
//	redis://[user:password@]host[:port][/db]          one node
//	rediss://…                                        one node, TLS
//	redis+sentinel://[user:password@]host[:port],…/master[?db=n]
//	redis+cluster://[user:password@]host[:port],…
//	rediss+sentinel://…, rediss+cluster://…           the same over TLS
//
// It does not connect yet. The error names what is wrong with the address and
// holds no password.
func Dial(address string) (redis.UniversalClient, error) {
	kind, opts, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	tune(opts)
	switch kind {
	case kindSentinel:
		return redis.NewFailoverClient(opts.Failover()), nil
	case kindCluster:
		c := opts.Cluster()
		// A client that stays on a dead primary turns an outage of 3 s into one
		// of a minute: go-redis reloads the topology once a minute by default.
		c.ClusterStateReloadInterval = time.Second
		return redis.NewClusterClient(c), nil
	case kindNode:
	}
	return redis.NewClient(opts.Simple()), nil
}

// kind is how Redis is set up.
type kind int

const (
	kindNode kind = iota
	kindSentinel
	kindCluster
)

func (k kind) String() string { return [...]string{"node", "sentinel", "cluster"}[k] }

func parseAddress(address string) (kind, *redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return 0, nil, errors.New("redis address: want redis://, rediss://, redis+sentinel:// or redis+cluster://")
	}
	base, how, _ := strings.Cut(scheme, "+")
	k, known := map[string]kind{"": kindNode, "sentinel": kindSentinel, "cluster": kindCluster}[how]
	if !known || base != "redis" && base != "rediss" || strings.HasSuffix(scheme, "+") {
		return 0, nil, errors.New("redis address: the scheme is not known: want redis, rediss, redis+sentinel or redis+cluster")
	}
	opts, path, err := parseAuthority(rest)
	if err != nil {
		return 0, nil, err
	}
	if base == "rediss" {
		opts.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	switch k {
	case kindNode:
		if len(opts.Addrs) != 1 {
			return 0, nil, errors.New("redis address: redis:// takes one host; for several say redis+cluster:// or redis+sentinel://")
		}
		if path != "" {
			if opts.DB, err = database(path); err != nil {
				return 0, nil, err
			}
		}
	case kindSentinel:
		if path == "" {
			return 0, nil, errors.New("redis address: redis+sentinel:// needs the master's name as its path, such as redis+sentinel://host:26379/mymaster")
		}
		opts.MasterName = path
	case kindCluster:
		if path != "" && path != "0" || opts.DB != 0 {
			return 0, nil, errors.New("redis address: a cluster has no database number")
		}
	}
	return k, opts, nil
}

// parseAuthority reads [user:password@]host[:port],…[/path][?db=n]. Its errors
// quote nothing of the address: a password that was not percent-encoded can be
// in any part of it.
func parseAuthority(rest string) (*redis.UniversalOptions, string, error) {
	opts := &redis.UniversalOptions{}
	user, rest, hasUser := cutLast(rest, "@")
	if hasUser {
		name, password, ok := strings.Cut(user, ":")
		var err1, err2 error
		opts.Username, err1 = url.PathUnescape(name)
		opts.Password, err2 = url.PathUnescape(password)
		if !ok || opts.Password == "" || err1 != nil || err2 != nil {
			return nil, "", errors.New("redis address: the part before @ must be user:password or :password, percent-encoded")
		}
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	n := 0
	for host := range strings.SplitSeq(authority, ",") {
		n++
		addr, err := hostPort(host)
		if err != nil {
			return nil, "", fmt.Errorf("redis address: host %d %w", n, err)
		}
		opts.Addrs = append(opts.Addrs, addr)
	}
	if hasQuery {
		q, err := url.ParseQuery(query)
		if err != nil || len(q) != 1 || len(q["db"]) != 1 {
			return nil, "", errors.New("redis address: only db=n may stand after ?")
		}
		if opts.DB, err = database(q.Get("db")); err != nil {
			return nil, "", err
		}
	}
	return opts, path, nil
}

// hostPort adds the port that was left out. An IPv6 address stands in brackets.
func hostPort(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port, err = net.SplitHostPort(s + ":6379")
	}
	if err != nil || host == "" || strings.ContainsAny(host, " \t@%/[]") {
		return "", errors.New("must be host or host:port, an IPv6 address in brackets")
	}
	if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
		return "", errors.New("must have a port from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

func database(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, errors.New("redis address: the database must be a number")
	}
	return int(n), nil
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

// Facts asks every primary and returns the weakest answer of each kind.
func (s *Store) Facts(ctx context.Context) (Facts, error) {
	c, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return nodeFacts(ctx, s.rdb)
	}
	var mu sync.Mutex
	var nodes []Facts
	err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		f, err := nodeFacts(ctx, node)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, f)
		return nil
	})
	if err != nil {
		return Facts{}, fmt.Errorf("ask the cluster's primaries: %w", err)
	}
	if len(nodes) == 0 {
		return Facts{}, errors.New("ask the cluster's primaries: there are none")
	}
	return weakest(nodes), nil
}

func weakest(nodes []Facts) Facts {
	worst := nodes[0]
	for _, f := range nodes[1:] {
		if olderVersion(f.Version, worst.Version) {
			worst.Version = f.Version
		}
		worst.Persistent = worst.Persistent && f.Persistent
		if syncRank(f.AppendFsync) < syncRank(worst.AppendFsync) {
			worst.AppendFsync = f.AppendFsync
		}
		if f.Evicting() {
			worst.Eviction = f.Eviction
		}
		if f.Role != "master" {
			worst.Role = f.Role
		}
	}
	return worst
}

func syncRank(fsync string) int { return slices.Index([]string{"", "no", "everysec", "always"}, fsync) }

// olderVersion compares versions such as "7.0.15" number by number.
func olderVersion(a, b string) bool {
	return slices.Compare(versionNumbers(a), versionNumbers(b)) < 0
}

func versionNumbers(v string) []int {
	var out []int
	for part := range strings.SplitSeq(v, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}

func nodeFacts(ctx context.Context, c redis.Cmdable) (Facts, error) {
	info, err := c.Info(ctx).Result() // all of it: hosters' servers and tests' do not know every section
	if err != nil {
		return Facts{}, fmt.Errorf("ask redis about itself: %w", err)
	}
	values := map[string]string{}
	for line := range strings.SplitSeq(info, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[name] = value
		}
	}
	f := Facts{
		Version: values["redis_version"], Role: values["role"],
		Eviction: values["maxmemory_policy"], Persistent: values["aof_enabled"] == "1",
	}
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

// Problem returns why the server must not be trusted with calls, in a sentence
// with what to do about it; nil if there is no reason.
func (f Facts) Problem() error {
	switch {
	case f.Version != "" && !atLeast7(f.Version):
		return fmt.Errorf("redis is version %s; 7.0 or later is needed", f.Version)
	case !f.Persistent:
		return fmt.Errorf("redis keeps nothing on disk; set appendonly yes and appendfsync always")
	case f.Evicting():
		return fmt.Errorf("redis may throw data away when its memory is full (maxmemory-policy %s); set maxmemory-policy noeviction", f.Eviction)
	}
	return nil
}

func atLeast7(version string) bool {
	var major int
	_, err := fmt.Sscanf(version, "%d.", &major)
	return err != nil || major >= 7
}
