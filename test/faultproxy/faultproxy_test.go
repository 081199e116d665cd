package faultproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// server answers every line with "re: " and the line, and notes it.
type server struct {
	addr string

	mu   sync.Mutex
	seen []string
}

func newServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.answer(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return s
}

func (s *server) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		s.mu.Lock()
		s.seen = append(s.seen, lines.Text())
		s.mu.Unlock()
		if _, err := io.WriteString(conn, "re: "+lines.Text()+"\n"); err != nil {
			return
		}
	}
}

func (s *server) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// client asks one line at a time.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, p *Proxy) *client {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{conn: conn, r: bufio.NewReader(conn)}
}

// try asks one line over a new connection. Where the connection is reset at
// once, the system may tell the dial or the first read.
func try(p *Proxy, line string) (string, error) {
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return (&client{conn: conn, r: bufio.NewReader(conn)}).ask(line, long)
}

func (c *client) ask(line string, patience time.Duration) (string, error) {
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		return "", err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	answer, err := c.r.ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}

const (
	long  = 30 * time.Second
	short = 100 * time.Millisecond
)

func TestFaults(t *testing.T) {
	t.Parallel()
	cut := func(err error) bool { return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) }
	silent := func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
	well := func(err error) bool { return err == nil }
	tests := []struct {
		name     string
		fault    Fault
		patience time.Duration
		want     func(error) bool // of the second line
		seen     []string
	}{
		{"none", Fault{Kind: CutBefore, Match: "nobody says this"}, long, well, []string{"one", "two"}},
		{"cut before", Fault{Kind: CutBefore, Match: "TWO"}, long, cut, []string{"one"}},
		{"cut after", Fault{Kind: CutAfter, Match: "two"}, long, cut, []string{"one", "two"}},
		{"black hole before", Fault{Kind: BlackholeBefore, Match: "two"}, short, silent, []string{"one"}},
		{"black hole after", Fault{Kind: BlackholeAfter, Match: "two"}, short, silent, []string{"one", "two"}},
		{"delay", Fault{Kind: Delay, Match: "two", Delay: 5 * time.Millisecond}, long, well, []string{"one", "two"}},
		{"delay beyond patience", Fault{Kind: Delay, Match: "two", Delay: time.Hour}, short, silent, []string{"one"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			p := Start(t, s.addr)
			p.Inject(tt.fault)
			c := dial(t, p)
			if got, err := c.ask("one", long); err != nil || got != "re: one" {
				t.Fatalf("the line that the fault does not match: %q, %v", got, err)
			}
			got, err := c.ask("two", tt.patience)
			if !tt.want(err) {
				t.Errorf("got %q, %v", got, err)
			}
			// The server's note of a line that is under way when its answer is
			// swallowed may come a moment later.
			waitFor(t, func() bool { return len(s.lines()) >= len(tt.seen) })
			if diff := cmp.Diff(tt.seen, s.lines()); diff != "" {
				t.Errorf("the server saw (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTimesAndHeal(t *testing.T) {
	t.Parallel()
	p := Start(t, newServer(t).addr)
	p.Inject(Fault{Kind: CutBefore, Times: 2})
	p.Inject(Fault{Kind: CutAfter, Match: "x"})
	for i, want := range []bool{false, false, true} {
		_, err := try(p, "y")
		if (err == nil) != want {
			t.Errorf("request %d: %v", i, err)
		}
	}
	for range 3 { // without Times: until healed
		if _, err := try(p, "x"); err == nil {
			t.Error("no fault")
		}
	}
	if got := p.Struck(); got != 5 {
		t.Errorf("struck %d times, want 5", got)
	}
	p.Heal()
	if _, err := try(p, "x"); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := Start(t, s.addr)
	before := dial(t, p)
	if _, err := before.ask("before", long); err != nil {
		t.Fatal(err)
	}
	p.Inject(Fault{Kind: Refuse, Times: 1})
	if _, err := try(p, "refused"); err == nil {
		t.Error("a refused connection answered")
	}
	if _, err := before.ask("still", long); err != nil {
		t.Errorf("a connection that was open: %v", err)
	}
	if _, err := try(p, "after"); err != nil {
		t.Errorf("after the fault was used up: %v", err)
	}
	if diff := cmp.Diff([]string{"before", "still", "after"}, s.lines()); diff != "" {
		t.Errorf("the server saw (-want +got):\n%s", diff)
	}
}

func TestCutAndClose(t *testing.T) {
	t.Parallel()
	p := Start(t, newServer(t).addr)
	c, d := dial(t, p), dial(t, p)
	for _, c := range []*client{c, d} {
		if _, err := c.ask("x", long); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.Connections(); got != 2 {
		t.Errorf("%d connections, want 2", got)
	}
	p.Cut()
	if got, err := c.ask("x", long); err == nil {
		t.Errorf("after Cut: %q", got)
	}
	waitFor(t, func() bool { return p.Connections() == 0 })

	e := dial(t, p)
	p.Close()
	p.Close() // again does no harm
	if got, err := e.ask("x", long); err == nil {
		t.Errorf("after Close: %q", got)
	}
}

func TestOrderlyEndIsPassedOn(t *testing.T) {
	t.Parallel()
	p := Start(t, newServer(t).addr)
	c := dial(t, p)
	if _, err := io.WriteString(c.conn, "last\n"); err != nil {
		t.Fatal(err)
	}
	closeWrite(c.conn)
	got, err := io.ReadAll(c.r)
	if err != nil || string(got) != "re: last\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDeadTarget(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := Start(t, l.Addr().String())
	if got, err := try(p, "x"); err == nil {
		t.Errorf("got %q", got)
	}
}

// waitFor waits for what other goroutines do in their own time.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(long)
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("waited in vain")
		}
	}
}
