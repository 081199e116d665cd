package slacktest

import (
	"html/template"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// mrkdwn returns Slack's mrkdwn as HTML: bold, italic, strike, code, links,
// quotes and line breaks. Whatever it does not know stays text.
func mrkdwn(s string) template.HTML {
	var b strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			b.WriteString("<br>")
		}
		if rest, ok := strings.CutPrefix(line, "&gt; "); ok {
			b.WriteString(`<span class="quote">` + inline(rest) + `</span>`)
			continue
		}
		b.WriteString(inline(line))
	}
	return template.HTML(b.String())
}

// tags gives the element of each delimiter.
func tagOf(delim byte) string {
	switch delim {
	case '*':
		return "strong"
	case '_':
		return "em"
	case '~':
		return "s"
	case '`':
		return "code"
	}
	return ""
}

// inline draws one line.
func inline(s string) string {
	var b strings.Builder
	prev := ' '
	for s != "" {
		if s[0] == '<' {
			if end := strings.IndexByte(s, '>'); end > 0 {
				b.WriteString(angle(s[1:end]))
				s, prev = s[end+1:], '>'
				continue
			}
		}
		if tag := tagOf(s[0]); tag != "" && !wordRune(prev) {
			if body, rest, ok := delimited(s); ok {
				inner := inline(body)
				if tag == "code" {
					inner = escape(body)
				}
				b.WriteString("<" + tag + ">" + inner + "</" + tag + ">")
				s, prev = rest, rune(tag[0])
				continue
			}
		}
		r, n := utf8.DecodeRuneInString(s)
		if r == '&' {
			if end := strings.IndexByte(s, ';'); end > 0 && end < 6 {
				n = end + 1
			}
		}
		b.WriteString(escape(s[:n]))
		s, prev = s[n:], r
	}
	return b.String()
}

// delimited returns what stands between the delimiter that s starts with and
// its end, if that ends a word.
func delimited(s string) (body, rest string, ok bool) {
	d := s[0]
	for i := 1; i < len(s); i++ {
		if s[i] != d || i == 1 || s[1] == ' ' || s[i-1] == ' ' {
			continue
		}
		if next, _ := utf8.DecodeRuneInString(s[i+1:]); i+1 < len(s) && wordRune(next) {
			continue
		}
		return s[1:i], s[i+1:], true
	}
	return "", "", false
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// angle draws what stands between < and >.
func angle(s string) string {
	target, label, _ := strings.Cut(s, "|")
	if label == "" {
		label = target
	}
	switch {
	case strings.HasPrefix(target, "@"), strings.HasPrefix(target, "#"), strings.HasPrefix(target, "!"):
		return `<span class="mention">` + escape(label) + `</span>`
	}
	u, err := url.Parse(unescape(target))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return escape("<" + s + ">")
	}
	return `<a href="` + template.HTMLEscapeString(u.String()) + `" rel="noreferrer">` + inline(label) + `</a>`
}

func unescape(s string) string {
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
}

func escape(s string) string { return template.HTMLEscapeString(unescape(s)) }
