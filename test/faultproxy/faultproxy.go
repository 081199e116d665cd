// Package faultproxy puts a TCP proxy between a client and a server that fails
// in chosen ways at chosen requests: the connection is cut before the server
// has seen the request, or after the server has acted on it and before its
// answer arrives; requests are late, or nothing comes back at all.
//
// The proxy knows no protocol. What it reads from a client at once, up to
// 64 KiB, is a request to it: right for protocols in which a client waits for
// its answer, such as Redis without pipelines across requests and HTTP/1.1.
package faultproxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Kind is what goes wrong.
type Kind int

// The kinds.
const (
	CutBefore       Kind = iota + 1 // the request is not forwarded, the connection is reset
	CutAfter                        // the request is forwarded; when the answer comes, the connection is reset instead
	BlackholeBefore                 // neither this request nor later ones of the connection are forwarded; it stays open
	BlackholeAfter                  // the request is forwarded, nothing of the connection's answers arrives; it stays open
	Delay                           // the request is forwarded after Fault.Delay
	Refuse                          // new connections are reset before anything is read; Match has no meaning
)

// Fault is a failure and the requests that it meets.
type Fault struct {
	Kind Kind

	// Match must be in the request, whatever its case. Empty matches every
	// request.
	Match string

	// Times is how often the fault strikes before it is used up. 0 means until
	// Heal.
	Times int

	// Delay is for how long a request is held back; only with the kind Delay.
	Delay time.Duration
}

// Proxy listens on a port of 127.0.0.1. Its methods may be called by several
// goroutines.
type Proxy struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup
	ctx      context.Context //nolint:containedctx // ends what Close has to wait for
	cancel   context.CancelFunc

	mu     sync.Mutex // guards what follows
	faults []Fault
	struck int
	links  map[*link]struct{}
}

// Start starts a proxy to target, a host:port, that ends with the test.
func Start(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := Listen(target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// Listen starts a proxy without a test around it. The caller calls Close.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{target: target, listener: l, ctx: ctx, cancel: cancel, links: make(map[*link]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the host:port to connect to instead of the target.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Inject adds a fault to those in force. The first that matches a request
// strikes, and no other.
func (p *Proxy) Inject(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, f)
}

// Heal removes all faults. A connection that fell into a black hole stays
// there, as it would in a network.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Cut resets every open connection now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// Struck returns how often a fault has met a request or a connection.
func (p *Proxy) Struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.struck
}

// Connections returns how many connections are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close cuts everything and returns when the proxy is gone.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

// strike returns the fault that meets a request, or a new connection if
// request is nil, and uses it up by one.
func (p *Proxy) strike(request []byte) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	lower := bytes.ToLower(request)
	for i, f := range p.faults {
		if (f.Kind == Refuse) != (request == nil) ||
			f.Kind != Refuse && !bytes.Contains(lower, bytes.ToLower([]byte(f.Match))) {
			continue
		}
		p.struck++
		if f.Times == 1 {
			p.faults = slices.Delete(p.faults, i, i+1)
		} else if f.Times > 1 {
			p.faults[i].Times--
		}
		return f
	}
	return Fault{}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		if p.strike(nil).Kind == Refuse {
			reset(client)
			continue
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn

	mu     sync.Mutex
	answer Kind // guarded by mu; CutAfter or BlackholeAfter once one has struck
}

func (l *link) cut() {
	reset(l.client)
	reset(l.server)
}

func (p *Proxy) serve(client net.Conn) {
	server, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	l := &link{client: client, server: server}
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	stop := context.AfterFunc(p.ctx, l.cut) // Close may have been called before the link was listed
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() { l.answers() })
	p.requests(l)
	wg.Wait()
	l.cut()
}

// requests forwards what the client sends until one side ends.
func (p *Proxy) requests(l *link) {
	buf := make([]byte, 64<<10)
	for swallow := false; ; {
		n, err := l.client.Read(buf)
		if n > 0 && !swallow {
			f := p.strike(buf[:n])
			switch f.Kind {
			case CutBefore:
				l.cut()
				return
			case BlackholeBefore:
				swallow = true
				continue
			case CutAfter, BlackholeAfter:
				l.setAnswer(f.Kind)
			case Delay:
				if !p.wait(f.Delay) {
					return
				}
			case Refuse:
			}
			if _, err := l.server.Write(buf[:n]); err != nil {
				l.cut()
				return
			}
		}
		if err != nil {
			closeWrite(l.server)
			return
		}
	}
}

// answers forwards what the server sends until one side ends.
func (l *link) answers() {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buf)
		switch kind := l.getAnswer(); {
		case n > 0 && kind == CutAfter:
			l.cut()
			return
		case n > 0 && kind != BlackholeAfter:
			if _, err := l.client.Write(buf[:n]); err != nil {
				l.cut()
				return
			}
		}
		if err != nil {
			closeWrite(l.client)
			return
		}
	}
}

func (l *link) setAnswer(k Kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = k
}

func (l *link) getAnswer() Kind {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answer
}

// wait reports whether d has passed before the proxy was closed.
func (p *Proxy) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// reset closes c with a RST, so that the other side cannot take it for an
// orderly end.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// closeWrite passes on that one side has said all it had to say.
func closeWrite(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}
