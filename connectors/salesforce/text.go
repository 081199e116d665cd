package salesforce

import (
	"strings"
	"unicode"

	"github.com/optiwe/callbridge/mappings"
)

// cutText returns s with at most limit UTF-16 units, which is what Salesforce
// counts at worst. from is the length before, and 0 if nothing was cut.
func cutText(s string, limit int) (cut string, from int) {
	cut, shortened := mappings.Cut(s, limit)
	if !shortened {
		return s, 0
	}
	return cut, mappings.UTF16Len(s)
}

// clean returns s as valid UTF-8 without control characters but line breaks
// and tabs.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\u2028' || r == '\u2029':
			return '\n'
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
}

// oneLine returns s cleaned, on one line, with single spaces.
func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }
