package slack

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const ellipsis = "…"

// units returns the length of s as Slack counts at worst: in UTF-16 units.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// clean returns s without what no text for people holds: broken UTF-8, control
// characters but the line feed, and the characters that switch the direction
// of writing, which would reorder the card around them.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t', r == '\r', r == '\u2028', r == '\u2029':
			return ' '
		case unicode.IsControl(r), r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return -1
		}
		return r
	}, s)
}

// oneLine returns s in one line with single spaces.
func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// escape escapes the three characters that mean something to Slack in every
// text but plain_text. With them <!channel>, <@U…> and <https://…|…> are gone.
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// twin returns the character that looks like one of mrkdwn's delimiters and
// means nothing. mrkdwn has no escape for them.
func twin(r rune) rune {
	switch r {
	case '*':
		return '∗'
	case '_':
		return 'ˍ'
	case '~':
		return '∼'
	case '`':
		return 'ˋ'
	}
	return r
}

// data returns text that is data, not markup, for a mrkdwn text: escaped, and
// with every delimiter that could begin or end formatting replaced by its
// twin. One inside a word or between spaces stays, as it does nothing there. A
// > at the start, which would make a quote of the line, is replaced, too. It is
// at most as long as escape(s). An emoji's name between colons is left: all it
// can do is show that emoji.
func data(s string) string {
	var b strings.Builder
	rs := []rune(s)
	for i, r := range rs {
		if i == 0 && r == '>' {
			r = '＞'
		}
		if t := twin(r); t != r {
			before, after := neighbour(rs, i-1), neighbour(rs, i+1)
			if (!word(before) || !word(after)) && (before != ' ' || after != ' ') {
				r = t
			}
		}
		b.WriteString(escape(string(r)))
	}
	return b.String()
}

// inert is data without exceptions, for text that stands between delimiters.
func inert(s string) string { return escape(strings.Map(twin, s)) }

// neighbour returns the rune at i, or one that is neither a word nor a space.
func neighbour(rs []rune, i int) rune {
	if i < 0 || i >= len(rs) {
		return '\n'
	}
	return rs[i]
}

func word(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// cost is how long r is once escaped.
func cost(r rune) int {
	switch r {
	case '&':
		return len("&amp;")
	case '<', '>':
		return len("&lt;")
	}
	return utf16.RuneLen(r)
}

// shorten returns s if it has at most limit units once escaped, and otherwise
// its beginning, cut at the end of a sentence if there is one in its second
// half, or else between words, with an ellipsis. limit is at least 2.
func shorten(s string, limit int) (string, bool) {
	return shortenBy(s, limit, cost)
}

// shortenPlain is shorten for text that is not escaped.
func shortenPlain(s string, limit int) (string, bool) {
	return shortenBy(s, limit, utf16.RuneLen)
}

func shortenBy(s string, limit int, cost func(rune) int) (string, bool) {
	total := 0
	for _, r := range s {
		total += cost(r)
	}
	if total <= limit {
		return s, false
	}
	room := limit - units(" "+ellipsis)
	end, sentence, space, used := 0, 0, 0, 0
	var last rune
	for i, r := range s {
		if used+cost(r) > room {
			break
		}
		if unicode.IsSpace(r) {
			if used > room/2 {
				space = i
			}
			if endsSentence(last) && used > room/2 {
				sentence = i
			}
		}
		used += cost(r)
		last = r
		end = i + utf8.RuneLen(r)
		if strings.ContainsRune("。！？", r) && used > room/2 {
			sentence = end // no space follows in the languages that have these
		}
	}
	switch {
	case sentence > 0:
		return s[:sentence] + " " + ellipsis, true
	case space > 0:
		return strings.TrimRightFunc(s[:space], unicode.IsSpace) + ellipsis, true
	}
	return wholeCharacters(s, end) + ellipsis, true
}

func endsSentence(r rune) bool { return strings.ContainsRune(".!?…", r) }

// cutAtSentence reports whether shorten found the end of a sentence for s.
func cutAtSentence(s string) bool { return strings.HasSuffix(s, " "+ellipsis) }

// columns returns how wide s is: the characters of Chinese, Japanese and
// Korean take two columns each.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n++
		if unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul) {
			n++
		}
	}
	return n
}

// wholeCharacters returns s up to end, or a little less where end would part a
// character from the marks and joiners that belong to it.
func wholeCharacters(s string, end int) string {
	for range 8 {
		next, _ := utf8.DecodeRuneInString(s[end:])
		last, n := utf8.DecodeLastRuneInString(s[:end])
		if n == 0 || !unicode.Is(unicode.M, next) && next != '\u200d' && last != '\u200d' && (next < '\U0001F3FB' || next > '\U0001F3FF') {
			break
		}
		end -= n
	}
	return s[:end]
}
