package demo

import (
	"fmt"
	"io"
	"strings"
)

// screen is what people watch. Errors of writing to it are not noticed: there
// is nowhere else to say them.
type screen struct {
	w      io.Writer
	colour bool
}

func (s screen) line(text string) { _, _ = fmt.Fprintln(s.w, text) }

func (s screen) title(text string) { s.line("\n" + s.paint("1", text)) }

func (s screen) pair(name, value string) {
	s.line(fmt.Sprintf("  %-22s%s", name, s.paint("36", value)))
}

func (s screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s screen) good(text string) string { return s.paint("32", text) }
func (s screen) held(text string) string { return s.paint("33", text) }
func (s screen) bad(text string) string  { return s.paint("31", text) }
func (s screen) dim(text string) string  { return s.paint("2", text) }

// bar draws a progress bar over itself on a terminal, and a line now and then
// elsewhere.
type bar struct {
	s     screen
	what  string
	total int
	last  int // percent drawn last
}

func (b *bar) at(n int) {
	percent := 100
	if b.total > 0 {
		percent = 100 * n / b.total
	}
	if percent == b.last && n < b.total {
		return
	}
	if b.s.colour {
		const width = 40
		full := width * percent / 100
		_, _ = fmt.Fprintf(b.s.w, "\r  %-10s %s%s %3d %%  %d of %d ", b.what,
			b.s.good(strings.Repeat("█", full)), b.s.dim(strings.Repeat("░", width-full)), percent, n, b.total)
		if n >= b.total {
			b.s.line("")
		}
	} else if percent/25 != b.last/25 || n >= b.total && b.last < 100 {
		b.s.line(fmt.Sprintf("  %-10s %3d %%  %d of %d", b.what, percent, n, b.total))
	}
	b.last = percent
}

// cut shortens text to n runes.
func cut(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return string(r[:n-1]) + "…"
}
