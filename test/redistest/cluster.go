package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const slots = 16384

// Cluster is a Redis Cluster on this machine. A dead primary is noticed after
// 1.5 s; one that has a replica is then replaced by it.
type Cluster struct {
	dir       string
	ownsDir   bool
	primaries int
	nodes     []*Server // the primaries first, then their replicas in turn
}

// StartCluster starts a Cluster of primaries, at least 3, each with so many
// replicas, and returns when every node knows every other and all slots are
// served. It ends with the test.
func StartCluster(tb testing.TB, primaries, replicas int) *Cluster {
	tb.Helper()
	Require(tb)
	c, err := newCluster(tb.TempDir(), primaries, replicas, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, n := range c.nodes {
			n.cleanup(tb)
		}
	})
	return c
}

// LaunchCluster starts a Cluster without a test around it; see [StartCluster].
// The caller calls Close.
func LaunchCluster(primaries, replicas int, o Options) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, fmt.Errorf("redistest: make a folder: %w", err)
	}
	c, err := newCluster(dir, primaries, replicas, o)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	c.ownsDir = true
	return c, nil
}

// Addrs returns the nodes' host:port, the first primaries first.
func (c *Cluster) Addrs() []string { return addrs(c.nodes) }

// Nodes returns the nodes in the order of Addrs.
func (c *Cluster) Nodes() []*Server { return append([]*Server(nil), c.nodes...) }

// KillPrimary ends node i, 0 ≤ i < primaries, with SIGKILL. It is a primary
// unless a fail-over has happened before. Nodes()[i].Restart brings it back.
func (c *Cluster) KillPrimary(i int) error {
	if i < 0 || i >= c.primaries {
		return fmt.Errorf("redistest: kill primary %d of %d", i, c.primaries)
	}
	return c.nodes[i].Kill()
}

// Wait returns when every node that runs says that all slots are served, by
// nodes that run: after a killed primary, when its replica has taken over.
func (c *Cluster) Wait(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		running := make(map[string]bool)
		for _, n := range c.nodes {
			running[n.Addr()] = n.Running()
		}
		for _, n := range c.nodes {
			if running[n.Addr()] && !n.servesAll(ctx, running) {
				return false, nil
			}
		}
		return true, nil
	})
}

// servesAll reports whether, in the node's view, the Cluster is well and every
// owner of slots is one of running.
func (s *Server) servesAll(ctx context.Context, running map[string]bool) bool {
	if !s.hasInfo(ctx, []string{"CLUSTER", "INFO"}, "cluster_state:ok", "cluster_slots_ok:"+strconv.Itoa(slots)) {
		return false
	}
	view, err := s.Do(ctx, "CLUSTER", "NODES")
	if err != nil {
		return false
	}
	for line := range strings.Lines(fmt.Sprint(view)) {
		// id address@bus flags primary ping pong epoch link slots…
		f := strings.Fields(line)
		const slotsFrom = 8
		if len(f) <= slotsFrom {
			continue
		}
		if addr, _, _ := strings.Cut(f[1], "@"); !running[addr] {
			return false
		}
	}
	return true
}

// Close ends all nodes at once, and removes the folder that LaunchCluster made.
func (c *Cluster) Close() error {
	err := closeAll(c.nodes)
	if c.ownsDir {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

func newCluster(dir string, primaries, replicas int, o Options) (*Cluster, error) {
	if primaries < 3 || replicas < 0 {
		return nil, fmt.Errorf("redistest: a Cluster of %d primaries with %d replicas each: it takes 3 primaries to agree on anything", primaries, replicas)
	}
	c := &Cluster{dir: dir, primaries: primaries}
	err := c.build(primaries*(1+replicas), o)
	if err != nil {
		return nil, errors.Join(err, closeAll(c.nodes))
	}
	return c, nil
}

func (c *Cluster) build(size int, o Options) error {
	args := append([]string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
		"--cluster-node-timeout", "1500",
		// A replica may always take over: how long it was apart is not what
		// tests of a fail-over are about.
		"--cluster-replica-validity-factor", "0",
		"--repl-diskless-sync-delay", "0",
	}, o.args()...)
	for i := range size {
		s, err := newServerIn(c.dir, fmt.Sprintf("node-%d", i), args, true)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := c.introduce(ctx); err != nil {
		return err
	}
	return c.attachReplicas(ctx)
}

// introduce gives the primaries their slots and makes all nodes known to each
// other. Every pair is introduced: gossip alone takes seconds.
func (c *Cluster) introduce(ctx context.Context) error {
	for i, n := range c.nodes[:c.primaries] {
		first, last := i*slots/c.primaries, (i+1)*slots/c.primaries-1
		if _, err := n.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		if _, err := n.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
			return err
		}
	}
	for i, n := range c.nodes {
		for _, m := range c.nodes[i+1:] {
			if _, err := n.Do(ctx, "CLUSTER", "MEET", host, strconv.Itoa(m.port), strconv.Itoa(m.busPort)); err != nil {
				return err
			}
		}
	}
	known := fmt.Sprintf("cluster_known_nodes:%d", len(c.nodes))
	return c.all(ctx, func(n *Server) bool {
		return n.hasInfo(ctx, []string{"CLUSTER", "INFO"}, "cluster_state:ok", known)
	})
}

// attachReplicas makes the nodes after the primaries their replicas, in turn,
// and waits until each has its primary's data and every node knows of it.
func (c *Cluster) attachReplicas(ctx context.Context) error {
	replicas := c.nodes[c.primaries:]
	for i, n := range replicas {
		id, err := c.nodes[i%c.primaries].Do(ctx, "CLUSTER", "MYID")
		if err != nil {
			return err
		}
		if _, err := n.Do(ctx, "CLUSTER", "REPLICATE", fmt.Sprint(id)); err != nil {
			return err
		}
	}
	for _, n := range replicas {
		if err := n.waitForSync(ctx); err != nil {
			return err
		}
	}
	return c.all(ctx, func(n *Server) bool {
		view, err := n.Do(ctx, "CLUSTER", "NODES")
		return err == nil && strings.Count(fmt.Sprint(view), "slave ") == len(replicas) &&
			!strings.Contains(fmt.Sprint(view), "fail")
	})
}

// all waits until ok is true of every node at once.
func (c *Cluster) all(ctx context.Context, ok func(*Server) bool) error {
	return poll(ctx, func() (bool, error) {
		for _, n := range c.nodes {
			if !ok(n) {
				return false, nil
			}
		}
		return true, nil
	})
}

// newServerIn starts a server in a new folder beneath dir.
func newServerIn(dir, name string, args []string, clustered bool) (*Server, error) {
	sub := filepath.Join(dir, name)
	if err := os.Mkdir(sub, 0o700); err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	return newServer(sub, args, clustered)
}

// waitForSync returns when the server, a replica, is up to date.
func (s *Server) waitForSync(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		return s.hasInfo(ctx, []string{"INFO", "replication"}, "role:slave", "master_link_status:up"), nil
	})
}

// hasInfo reports whether the answer to an INFO-like command has all of lines.
func (s *Server) hasInfo(ctx context.Context, command []string, lines ...string) bool {
	reply, err := s.Do(ctx, command...)
	if err != nil {
		return false
	}
	text := "\n" + strings.ReplaceAll(fmt.Sprint(reply), "\r\n", "\n")
	for _, l := range lines {
		if !strings.Contains(text, "\n"+l+"\n") {
			return false
		}
	}
	return true
}

func addrs(servers []*Server) []string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Addr())
	}
	return list
}

func closeAll(servers []*Server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
