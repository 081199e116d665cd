package redistest

import (
	"bufio"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadReply(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want any
	}{
		{"+OK\r\n", "OK"},
		{"+\r\n", ""},
		{":-7\r\n", int64(-7)},
		{"$5\r\na\r\nbc\r\n", "a\r\nbc"},
		{"$0\r\n\r\n", ""},
		{"$-1\r\n", nil},
		{"*-1\r\n", nil},
		{"*0\r\n", []any(nil)},
		{"*3\r\n:1\r\n*1\r\n+x\r\n-ERR inner\r\n", []any{int64(1), []any{"x"}, ReplyError("ERR inner")}},
	}
	for _, tt := range tests {
		got, err := readReply(bufio.NewReader(strings.NewReader(tt.in)), 0)
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestReadReplyRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "\r\n", "+OK", "+OK\n", ":x\r\n", "$x\r\n", "$-2\r\n", "$3\r\nab\r\n", "$2\r\nabc\r\n",
		"$536870913\r\n", "*1048577\r\n", "*2\r\n:1\r\n", "%1\r\n", strings.Repeat("*1\r\n", maxDepth+2) + ":1\r\n",
	} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(in)), 0); err == nil {
			t.Errorf("%.40q: got %v, want an error", in, got)
		}
	}
	var reply ReplyError
	if _, err := readReply(bufio.NewReader(strings.NewReader("-ERR no\r\n")), 0); !errors.As(err, &reply) || reply != "ERR no" {
		t.Errorf("error reply: %v", err)
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add("*2\r\n$3\r\nfoo\r\n:1\r\n")
	f.Add("-ERR no\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := readReply(bufio.NewReader(strings.NewReader(in)), 0)
		if err != nil && got != nil {
			t.Errorf("%q: both %v and %v", in, got, err)
		}
	})
}
