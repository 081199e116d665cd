// Package redistest starts real redis-server processes for tests, benches and
// experiments: one node, a Cluster, or a primary with a replica and three
// Sentinels. Each listens on a free port of 127.0.0.1, has a folder of its
// own, and can be killed, paused and restarted in the same place.
//
// Without a redis-server on the PATH a test skips, or fails if
// CALLBRIDGE_REQUIRE_REDIS is 1, which CI sets.
//
// The processes end with the test. On Linux they also end when the process
// that started them dies without a chance to clean up.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// RequireEnv names the environment variable that, set to 1, makes a missing
// redis-server a failure instead of a reason to skip.
const RequireEnv = "CALLBRIDGE_REQUIRE_REDIS"

// ErrNotInstalled is returned when there is no redis-server on the PATH.
var ErrNotInstalled = errors.New("redis-server is not installed")

const (
	binary = "redis-server"
	host   = "127.0.0.1"

	// readyTimeout is generous: a loaded CI machine, and a restart that has to
	// read a large append-only file.
	readyTimeout = 60 * time.Second

	// pollInterval is how often a state that Redis announces to nobody is
	// looked at.
	pollInterval = 10 * time.Millisecond
)

// Options says how a server runs. The zero value is one that loses nothing.
type Options struct {
	// AppendFsync is "always", "everysec" or "no". Defaults to "always".
	AppendFsync string

	// Args are further arguments of redis-server, such as "--maxmemory",
	// "64mb". They come last, so they win.
	Args []string
}

// Server is a redis-server process and its folder. Its methods may be called
// by several goroutines; what changes the process waits for its turn.
type Server struct {
	dir     string
	ownsDir bool
	port    int
	args    []string

	busPort  int    // of a Cluster node, otherwise 0
	sentinel string // configuration file of a Sentinel, otherwise ""

	mu   sync.Mutex
	proc *process // guarded by mu; nil while the server is down
}

// Start starts a server that ends with the test. Its append-only file is on
// and uncompressed, so that a test can look for what must not be in it.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	Require(tb)
	s, err := newServer(tb.TempDir(), o.args(), false)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.cleanup(tb) })
	return s
}

// Launch starts a server without a test around it. The caller calls Close.
func Launch(o Options) (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, fmt.Errorf("redistest: make a folder: %w", err)
	}
	s, err := newServer(dir, o.args(), false)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.ownsDir = true
	return s, nil
}

// Require skips the test, or fails it where Redis is required, if there is no
// redis-server.
func Require(tb testing.TB) {
	tb.Helper()
	if _, err := exec.LookPath(binary); err == nil {
		return
	}
	if os.Getenv(RequireEnv) == "1" {
		tb.Fatalf("%v, and %s is 1", ErrNotInstalled, RequireEnv)
	}
	tb.Skipf("%v", ErrNotInstalled)
}

func (o Options) args() []string {
	fsync := o.AppendFsync
	if fsync == "" {
		fsync = "always"
	}
	return append([]string{"--appendonly", "yes", "--appendfsync", fsync}, o.Args...)
}

// newServer starts a server in dir on a free port, and tries other ports if
// somebody else was quicker to take them.
func newServer(dir string, args []string, clustered bool) (*Server, error) {
	if _, err := exec.LookPath(binary); err != nil {
		return nil, fmt.Errorf("redistest: %w", ErrNotInstalled)
	}
	var err error
	for range 5 {
		s := &Server{dir: dir, args: args}
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if clustered {
			if s.busPort, err = freePort(); err != nil {
				return nil, err
			}
		}
		if err = s.start(); err == nil {
			return s, nil
		}
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	return nil, err
}

// Addr returns the server's host:port.
func (s *Server) Addr() string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

// URL returns the server's address as a redis:// URL of database 0.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Dir returns the folder of the server: appendonlydir/ and redis.log are there.
func (s *Server) Dir() string { return s.dir }

// AppendOnly returns everything that the server has written to its append-only
// files: what a thief of the disk would read.
func (s *Server) AppendOnly() ([]byte, error) {
	var all bytes.Buffer
	err := filepath.WalkDir(filepath.Join(s.dir, "appendonlydir"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a rewrite took its place
		}
		all.Write(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("redistest: read the append-only files: %w", err)
	}
	return all.Bytes(), nil
}

// Running reports whether the process lives; a paused one does.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil && s.proc.alive()
}

// Kill ends the server with SIGKILL, as a crash would, and waits until it is
// gone. A server that is down already is no error.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(syscall.SIGKILL)
}

// Stop ends the server as an operator would, with SIGTERM, and waits until it
// is gone. Its data stays: Restart brings it back.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(syscall.SIGTERM)
}

// Restart starts the server again with the port, folder and arguments it had,
// and returns when it answers. A server that runs is stopped first.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.end(syscall.SIGTERM); err != nil {
		return err
	}
	return s.start()
}

// Pause stops the process with SIGSTOP: its connections stay open and nothing
// answers, until Resume.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// Close ends the server at once. It removes the folder that Launch made; that
// of Start belongs to the test.
func (s *Server) Close() error {
	err := s.Kill()
	if s.ownsDir {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// Do sends one command over a connection of its own and returns the reply: a
// string, an int64, nil or a []any of these. An error reply is a [ReplyError].
// Without a deadline in ctx it waits for 5 seconds.
func (s *Server) Do(ctx context.Context, args ...string) (any, error) {
	return do(ctx, s.Addr(), args...)
}

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return fmt.Errorf("redistest: %v to %s: it is down", sig, s.Addr())
	}
	return s.proc.signal(sig)
}

// start starts the process and waits until it answers. s.mu is held, or s is
// not shared yet.
func (s *Server) start() error {
	if s.sentinel != "" {
		return s.run([]string{s.sentinel, "--sentinel"})
	}
	args := slices.Concat([]string{
		"--bind", host, "--port", strconv.Itoa(s.port), "--dir", s.dir, "--logfile", s.logFile(),
		"--daemonize", "no", "--save", "", "--rdbcompression", "no",
	}, s.args)
	if s.busPort != 0 {
		args = append(args, "--cluster-port", strconv.Itoa(s.busPort))
	}
	return s.run(args)
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "redis.log") }

// run starts redis-server with args and waits until it answers.
func (s *Server) run(args []string) error {
	// What is wrong with the arguments Redis says on standard error, before it
	// has opened its log.
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	defer func() { _ = log.Close() }()
	from := fileSize(s.logFile())
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("redistest: start: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	err = poll(ctx, func() (bool, error) {
		if !p.alive() {
			return false, s.earlyExit(from)
		}
		// LOADING, while it reads its files, is an error reply like any other.
		pong, err := s.Do(ctx, "PING")
		return err == nil && pong == "PONG", nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("redistest: %s: %w", s.Addr(), err), p.end(syscall.SIGKILL))
	}
	s.proc = p
	return nil
}

// errPortTaken means that another process listens on the chosen port.
var errPortTaken = errors.New("the port is taken")

// earlyExit explains why the process ended before it answered, from what it
// wrote to its log after offset from.
func (s *Server) earlyExit(from int64) error {
	log := s.logTail(from)
	if strings.Contains(log, "Address already in use") {
		return errPortTaken
	}
	return fmt.Errorf("it ended before it answered; its log says:\n%s", log)
}

// logTail returns the end of the log, of what comes after offset from.
func (s *Server) logTail(from int64) string {
	const most = 4 << 10
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	b = b[min(from, int64(len(b))):]
	return string(b[max(0, len(b)-most):])
}

func (s *Server) end(sig syscall.Signal) error {
	p := s.proc
	s.proc = nil
	if p == nil {
		return nil
	}
	return p.end(sig)
}

// cleanup ends the server, and shows its log if the test failed.
func (s *Server) cleanup(tb testing.TB) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Errorf("redistest: end %s: %v", s.Addr(), err)
	}
	if tb.Failed() {
		tb.Logf("end of the log of Redis at %s:\n%s", s.Addr(), s.logTail(0))
	}
}

// Ports are taken from below the range that systems give to outgoing
// connections (from 32768 on Linux): from inside it, a client that dials a
// server which is down can be given the server's port, and talk to itself.
const (
	portFrom = 20000
	portTo   = 30000
)

func freePort() (int, error) {
	var err error
	for range 100 {
		port := portFrom + rand.IntN(portTo-portFrom)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("redistest: find a free port: %w", err)
}

// poll calls cond until it returns true or an error, or ctx is done.
func poll(ctx context.Context, cond func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}
