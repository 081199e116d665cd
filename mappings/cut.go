package mappings

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Ellipsis ends a text that was cut. It is one UTF-16 unit long.
const Ellipsis = "…"

// UTF16Len returns the length of s in UTF-16 units, which is how Salesforce
// and Slack count at worst. A byte that is not UTF-8 counts as one: it becomes
// U+FFFD when it is encoded.
func UTF16Len(s string) int {
	n := 0
	for _, r := range s {
		n += units(r)
	}
	return n
}

func units(r rune) int {
	if n := utf16.RuneLen(r); n > 0 {
		return n
	}
	return 1
}

// Cut returns s if it is no longer than limit UTF-16 units. Otherwise it
// returns the beginning of s with an ellipsis, both together no longer than
// limit, and true. It cuts between words if the last one begins in the second
// half of what fits, and never inside a character, an accent or an emoji with
// its modifiers. A limit below 1 leaves nothing.
func Cut(s string, limit int) (string, bool) {
	if limit < 1 {
		return "", s != ""
	}
	if len(s) <= limit { // a byte is at most one unit
		return s, false
	}
	n, end := 0, 0 // end: where the text must stop to leave room for the ellipsis
	for i, r := range s {
		if n <= limit-1 {
			end = i
		}
		if n += units(r); n > limit {
			return cutAt(s, end) + Ellipsis, true
		}
	}
	return s, false
}

// cutAt returns the beginning of s, at most end bytes, that ends with a word.
func cutAt(s string, end int) string {
	head := s[:end]
	next, _ := utf8.DecodeRuneInString(s[end:])
	if !unicode.IsSpace(next) {
		if i := strings.LastIndexFunc(head, unicode.IsSpace); i >= end/2 && i > 0 {
			head = head[:i]
		} else {
			head = whole(s, end)
		}
	}
	return strings.TrimRightFunc(head, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune(",;:-–—(", r)
	})
}

// whole returns the beginning of s, at most end bytes, that ends with a whole
// character as people see it.
func whole(s string, end int) string {
	for end > 0 {
		next, _ := utf8.DecodeRuneInString(s[end:])
		last, size := utf8.DecodeLastRuneInString(s[:end])
		if !joins(next) && last != zeroWidthJoiner {
			break
		}
		end -= size
	}
	return s[:end]
}

const zeroWidthJoiner = '\u200d'

// joins reports whether r belongs to the character before it: an accent, a
// variation selector, a joiner or a skin tone.
func joins(r rune) bool {
	return r == zeroWidthJoiner || unicode.In(r, unicode.Mn, unicode.Me, unicode.Mc) || 0x1F3FB <= r && r <= 0x1F3FF
}
