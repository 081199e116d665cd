package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// ReplyError is an error that Redis answered, such as "LOADING Redis is
// loading the dataset in memory".
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// errReply means that what arrived is not a RESP2 reply.
var errReply = errors.New("not a reply of Redis")

const (
	doTimeout = 5 * time.Second

	// Bounds of a reply, against nonsense that would have us allocate it.
	maxBulk  = 512 << 20 // Redis' own proto-max-bulk-len
	maxArray = 1 << 20
	maxDepth = 32
)

// do sends one command to addr and reads the reply; see [Server.Do].
func do(ctx context.Context, addr string, args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, doTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()

	if _, err := conn.Write(appendCommand(nil, args)); err != nil {
		return nil, fmt.Errorf("redistest: send a command: %w", err)
	}
	reply, err := readReply(bufio.NewReader(conn), 0)
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	return reply, nil
}

func appendCommand(b []byte, args []string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// readReply reads one RESP2 reply. An error inside an array is an element of
// it; at the top it is the error.
func readReply(r *bufio.Reader, depth int) (any, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("read a reply: %w", err)
	}
	if len(line) < 3 || line[len(line)-2] != '\r' || depth > maxDepth {
		return nil, errReply
	}
	text := string(line[1 : len(line)-2])
	switch line[0] {
	case '+':
		return text, nil
	case '-':
		if depth > 0 {
			return ReplyError(text), nil
		}
		return nil, ReplyError(text)
	case ':':
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errReply
		}
		return n, nil
	case '$':
		return readBulk(r, text)
	case '*':
		return readArray(r, text, depth)
	}
	return nil, errReply
}

func readBulk(r *bufio.Reader, length string) (any, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < -1 || n > maxBulk {
		return nil, errReply
	}
	if n == -1 {
		return nil, nil //nolint:nilnil // RESP2 has a null, and nil is what it is
	}
	// Reading through a limit grows the buffer with what arrives, not with
	// what was announced.
	b, err := io.ReadAll(io.LimitReader(r, int64(n)+2))
	if err != nil {
		return nil, fmt.Errorf("read a reply: %w", err)
	}
	if len(b) != n+2 || string(b[n:]) != "\r\n" {
		return nil, errReply
	}
	return string(b[:n]), nil
}

func readArray(r *bufio.Reader, length string, depth int) (any, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < -1 || n > maxArray {
		return nil, errReply
	}
	if n == -1 {
		return nil, nil //nolint:nilnil // as in readBulk
	}
	var items []any
	for range n {
		item, err := readReply(r, depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}
