package salesforce

import (
	"net/url"
	"strings"
)

// maxQuery bounds the literals of one query, in bytes of the URL they become.
// Salesforce answers 414 beyond 16 kB of URL, and has no query by POST.
const maxQuery = 12_000

// literal returns s as a string literal of SOQL.
//
// Source: "Quoted String Escape Sequences" of the SOQL and SOSL reference. A
// backslash and a quote are escaped; so are control characters, some of which a
// literal may not hold.
func literal(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\\' || r == '\'':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			const hex = "0123456789abcdef"
			b.WriteString(`\u00`)
			b.WriteByte(hex[r>>4])
			b.WriteByte(hex[r&15])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// literals returns a bracketed list of literals.
func literals(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = literal(s)
	}
	return "(" + strings.Join(quoted, ",") + ")"
}

// costOfLiteral is how many bytes of a URL a literal in a list takes.
func costOfLiteral(s string) int { return len(url.QueryEscape(literal(s))) + len("%2C") }

// chunks splits keys so that no part costs more than maxQuery. A single key
// that does stands alone.
func chunks(keys []string, cost func(string) int) [][]string {
	var out [][]string
	total, from := 0, 0
	for i, k := range keys {
		c := cost(k)
		if total+c > maxQuery && i > from {
			out = append(out, keys[from:i])
			total, from = 0, i
		}
		total += c
	}
	if from < len(keys) {
		out = append(out, keys[from:])
	}
	return out
}
