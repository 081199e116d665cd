package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

const sentinels = 3

// Sentinel is a primary, a replica and three Sentinels that watch them. A dead
// primary is noticed after 1 s and replaced by the replica.
type Sentinel struct {
	primary, replica *Server
	watchers         []*Server
}

// StartSentinel starts a set that ends with the test, and returns when the
// replica has the primary's data and the Sentinels know all there is to know.
func StartSentinel(tb testing.TB) *Sentinel {
	tb.Helper()
	Require(tb)
	s := &Sentinel{}
	err := s.build(tb.TempDir())
	tb.Cleanup(func() {
		for _, n := range s.all() {
			n.cleanup(tb)
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// Addrs returns the Sentinels' host:port.
func (s *Sentinel) Addrs() []string { return addrs(s.watchers) }

// MasterName returns the name under which the Sentinels know the primary.
func (*Sentinel) MasterName() string { return "callbridge" }

// Primary returns the server that was the primary at the start.
func (s *Sentinel) Primary() *Server { return s.primary }

// Replica returns the server that was the replica at the start.
func (s *Sentinel) Replica() *Server { return s.replica }

// KillPrimary ends the first primary with SIGKILL.
func (s *Sentinel) KillPrimary() error { return s.primary.Kill() }

// Current returns the address of the primary that all Sentinels that run agree
// on, or "" while they do not.
func (s *Sentinel) Current(ctx context.Context) (string, error) {
	var current string
	for _, w := range s.watchers {
		if !w.Running() {
			continue
		}
		reply, err := w.Do(ctx, "SENTINEL", "get-master-addr-by-name", s.MasterName())
		if err != nil {
			return "", err
		}
		pair, ok := reply.([]any)
		if !ok || len(pair) != 2 {
			return "", errReply
		}
		addr := fmt.Sprintf("%s:%s", pair...)
		if current != "" && addr != current {
			return "", nil
		}
		current = addr
	}
	return current, nil
}

func (s *Sentinel) all() []*Server {
	all := slices.Concat([]*Server{s.primary, s.replica}, s.watchers)
	return slices.DeleteFunc(all, func(n *Server) bool { return n == nil })
}

func (s *Sentinel) build(dir string) error {
	args := slices.Concat(Options{}.args(), []string{"--repl-diskless-sync-delay", "0"})
	var err error
	if s.primary, err = newServerIn(dir, "primary", args, false); err != nil {
		return err
	}
	if s.replica, err = newServerIn(dir, "replica", slices.Concat(args, []string{"--replicaof", host, strconv.Itoa(s.primary.port)}), false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := s.replica.waitForSync(ctx); err != nil {
		return err
	}
	for i := range sentinels {
		w, err := s.watch(filepath.Join(dir, fmt.Sprintf("sentinel-%d", i)))
		if err != nil {
			return err
		}
		s.watchers = append(s.watchers, w)
	}
	// Sentinels find each other and the replicas through the primary.
	return poll(ctx, func() (bool, error) {
		for _, w := range s.watchers {
			if !w.hasInfo(ctx, []string{"INFO", "sentinel"}, fmt.Sprintf("master0:name=%s,status=ok,address=%s,slaves=1,sentinels=%d",
				s.MasterName(), s.primary.Addr(), sentinels)) {
				return false, nil
			}
		}
		return true, nil
	})
}

// watch starts a Sentinel, which keeps what it learns in its configuration.
func (s *Sentinel) watch(dir string) (*Server, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	config := filepath.Join(dir, "sentinel.conf")
	var err error
	for range 5 {
		w := &Server{dir: dir, sentinel: config}
		if w.port, err = freePort(); err != nil {
			return nil, err
		}
		lines := fmt.Sprintf("bind %[1]s\nport %[2]d\ndir %[3]q\nlogfile %[4]q\ndaemonize no\n"+
			"sentinel monitor %[5]s %[1]s %[6]d 2\n"+
			"sentinel down-after-milliseconds %[5]s 1000\n"+
			"sentinel failover-timeout %[5]s 5000\n",
			host, w.port, dir, w.logFile(), s.MasterName(), s.primary.port)
		if err = os.WriteFile(config, []byte(lines), 0o600); err != nil {
			return nil, fmt.Errorf("redistest: %w", err)
		}
		if err = w.start(); err == nil {
			return w, nil
		}
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	return nil, err
}
