package redistest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestServerKeepsItsDataThroughKillAndRestart(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	mustDo(t, s, "SET", "answer", "42")
	addr := s.Addr()

	for _, down := range []struct {
		name string
		end  func() error
	}{{"kill", s.Kill}, {"stop", s.Stop}, {"restart of a running one", func() error { return nil }}} {
		must(t, down.end())
		must(t, s.Restart())
		if got := mustDo(t, s, "GET", "answer"); got != "42" {
			t.Errorf("after %s: got %v, want 42", down.name, got)
		}
	}
	if s.Addr() != addr {
		t.Errorf("the address changed from %s to %s", addr, s.Addr())
	}
	if want := "redis://" + addr + "/0"; s.URL() != want {
		t.Errorf("URL is %s, want %s", s.URL(), want)
	}
}

func TestServerOptions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		options Options
		setting string
		want    string
	}{
		{Options{}, "appendfsync", "always"},
		{Options{AppendFsync: "everysec"}, "appendfsync", "everysec"},
		{Options{AppendFsync: "no"}, "appendfsync", "no"},
		{Options{}, "appendonly", "yes"},
		{Options{Args: []string{"--appendonly", "no"}}, "appendonly", "no"},
		{Options{Args: []string{"--maxmemory-policy", "allkeys-lru"}}, "maxmemory-policy", "allkeys-lru"},
	}
	for _, tt := range tests {
		t.Run(tt.setting+" "+tt.want, func(t *testing.T) {
			t.Parallel()
			got := mustDo(t, Start(t, tt.options), "CONFIG", "GET", tt.setting)
			if diff := cmp.Diff([]any{tt.setting, tt.want}, got); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendOnlyHidesNothing(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	// Long and repetitive: what Redis would compress in a rewritten file.
	needle := strings.Repeat("needle ", 100)
	mustDo(t, s, "SET", "hay", needle)
	for _, state := range []string{"as written", "rewritten"} {
		b, err := s.AppendOnly()
		must(t, err)
		if !bytes.Contains(b, []byte(needle)) {
			t.Errorf("%s: the value is not in the append-only files", state)
		}
		mustDo(t, s, "BGREWRITEAOF")
		eventually(t, func() bool {
			return s.hasInfo(t.Context(), []string{"INFO", "persistence"}, "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0")
		})
	}
}

func TestPausedServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	must(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := s.Do(ctx, "PING"); err == nil {
		t.Errorf("a paused server answered %v", got)
	}
	if !s.Running() {
		t.Error("a paused server does not count as running")
	}
	must(t, s.Resume())
	if got := mustDo(t, s, "PING"); got != "PONG" {
		t.Errorf("after Resume: %v", got)
	}

	must(t, s.Pause())
	must(t, s.Stop()) // sees SIGTERM although it was paused
	if s.Running() {
		t.Error("runs after Stop")
	}
	if err := s.Pause(); err == nil {
		t.Error("Pause of a server that is down: no error")
	}
}

func TestKilledServerRefusesConnections(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	must(t, s.Kill())
	must(t, s.Kill()) // again is no error
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		_ = conn.Close()
		t.Error("a killed server takes connections")
	}
}

func TestLaunchRemovesItsFolder(t *testing.T) {
	t.Parallel()
	Require(t)
	s, err := Launch(Options{AppendFsync: "no"})
	must(t, err)
	if _, err := os.Stat(s.Dir()); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	must(t, s.Close()) // again is no error
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestLaunchSaysWhyRedisEnded(t *testing.T) {
	t.Parallel()
	Require(t)
	for _, args := range [][]string{
		{"--no-such-setting", "yes"},                 // said on standard error
		{"--aclfile", "no-such-folder/no-such-file"}, // said in the log
	} {
		s, err := Launch(Options{Args: args})
		if err == nil {
			_ = s.Close()
			t.Fatalf("%v: no error", args)
		}
		if !strings.Contains(err.Error(), args[0][2:]) && !strings.Contains(err.Error(), args[1]) {
			t.Errorf("the error does not hold Redis' own: %v", err)
		}
	}
}

func TestTakenPortIsNoticed(t *testing.T) {
	t.Parallel()
	Require(t)
	l, err := net.Listen("tcp", host+":0")
	must(t, err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	s := &Server{dir: t.TempDir(), args: Options{}.args()}
	s.port, err = strconv.Atoi(port)
	must(t, err)
	if err := s.start(); !errors.Is(err, errPortTaken) {
		t.Errorf("got %v, want %v", err, errPortTaken)
	}
}

// recorder is a testing.TB that notes how a test ended.
type recorder struct {
	testing.TB
	end string
}

func (*recorder) Helper() {}

func (r *recorder) Skipf(string, ...any) { r.end = "skip"; runtime.Goexit() }

func (r *recorder) Fatalf(string, ...any) { r.end = "fatal"; runtime.Goexit() }

func TestMissingServerSkipsOrFails(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Launch(Options{}); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("Launch: %v, want %v", err, ErrNotInstalled)
	}
	for _, tt := range []struct{ env, want string }{{"", "skip"}, {"0", "skip"}, {"1", "fatal"}} {
		t.Setenv(RequireEnv, tt.env)
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Require(r)
		}()
		<-done
		if r.end != tt.want {
			t.Errorf("%s=%q: %q, want %q", RequireEnv, tt.env, r.end, tt.want)
		}
	}
}

// orphanEnv makes this test binary start a server and wait to be killed.
const orphanEnv = "REDISTEST_ORPHAN"

func TestServerDiesWithItsParent(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		s, err := Launch(Options{})
		must(t, err)
		fmt.Fprintf(os.Stderr, "listening %s %s\n", s.Addr(), s.Dir())
		select {}
	}
	t.Parallel()
	Require(t)
	if runtime.GOOS != "linux" {
		return // no other system promises it
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), orphanEnv+"=1")
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	var addr, dir string
	_, err = fmt.Fscanf(bufio.NewReader(stderr), "listening %s %s\n", &addr, &dir)
	must(t, err)
	defer func() { _ = os.RemoveAll(dir) }()

	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return true
		}
		_ = conn.Close()
		return false
	})
}

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 1)
	if n := len(c.Addrs()); n != 6 {
		t.Fatalf("%d nodes, want 6", n)
	}
	must(t, c.Wait(t.Context()))
	must(t, c.KillPrimary(0))
	must(t, c.Wait(t.Context()))
	if !c.Nodes()[3].hasInfo(t.Context(), []string{"INFO", "replication"}, "role:master") {
		t.Error("the replica of the killed primary did not take its place")
	}

	must(t, c.Nodes()[0].Restart())
	eventually(t, func() bool {
		return c.Nodes()[0].hasInfo(t.Context(), []string{"INFO", "replication"}, "role:slave")
	})
	if err := c.KillPrimary(3); err == nil {
		t.Error("KillPrimary of a node that is a replica: no error")
	}
}

func TestClusterWithoutReplicas(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 0)
	owner := c.Nodes()[2]
	if got := mustDo(t, owner, "SET", "foo", "bar"); got != "OK" { // foo is in slot 12182
		t.Errorf("SET on its owner: %v", got)
	}
	_, err := c.Nodes()[0].Do(t.Context(), "GET", "foo")
	if want := "MOVED 12182 " + owner.Addr(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("GET elsewhere: %v, want %s", err, want)
	}
	if _, err := LaunchCluster(2, 0, Options{}); err == nil {
		t.Error("a Cluster of two: no error")
	}
}

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t)
	if n := len(s.Addrs()); n != 3 {
		t.Errorf("%d Sentinels, want 3", n)
	}
	mustDo(t, s.Primary(), "SET", "answer", "42")
	if got, err := s.Primary().Do(t.Context(), "WAIT", "1", "5000"); err != nil || got != int64(1) {
		t.Fatalf("WAIT: %v, %v", got, err)
	}
	if got, err := s.Current(t.Context()); err != nil || got != s.Primary().Addr() {
		t.Errorf("the Sentinels say %s, %v, want %s", got, err, s.Primary().Addr())
	}
	must(t, s.KillPrimary())
	eventually(t, func() bool {
		addr, err := s.Current(t.Context())
		return err == nil && addr == s.Replica().Addr()
	})
	if got := mustDo(t, s.Replica(), "GET", "answer"); got != "42" {
		t.Errorf("the new primary has %v, want 42", got)
	}
}

func mustDo(t *testing.T, s *Server, args ...string) any {
	t.Helper()
	reply, err := s.Do(t.Context(), args...)
	must(t, err)
	return reply
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what other processes do in their own time.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, poll(ctx, func() (bool, error) { return cond(), nil }))
}
