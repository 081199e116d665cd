package slack

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxLink is the longest address that becomes a link within text; the buttons
// take longer ones.
const maxLink = 500

// Bounds that keep the work on hostile text small: emphasis within emphasis,
// bytes of source that a gist is made from, bytes from the beginning of an
// emphasis or a link to its end.
const (
	maxDepth  = 4
	maxSource = 8000
	maxReach  = 1000
)

// style is how a span of text looks.
type style uint8

const (
	bold style = 1 << iota
	italic
	strike
	code
)

// span is a piece of text in one style.
type span struct {
	text  string
	style style
	url   string // http or https; "" is no link
}

// line is a paragraph, a heading or a list item.
type line struct {
	prefix  string // "• ", "1. ", "&gt; " or ""; mrkdwn
	heading bool
	spans   []span
}

// text returns the line's text without its looks.
func (l line) text() string {
	var b strings.Builder
	for _, s := range l.spans {
		b.WriteString(s.text)
	}
	return b.String()
}

// parseMarkdown reads the Markdown that summaries are written in: headings,
// paragraphs, lists, quotes, code, emphasis and links. What it does not know
// is text. It never fails, and nothing of the source gets through as markup of
// Slack's: that is made from the result by mrkdwn.
func parseMarkdown(src string) []line {
	p := parser{}
	for raw := range strings.SplitSeq(clean(src), "\n") {
		p.line(raw)
	}
	p.flush()
	return p.out
}

// parser joins the lines of a paragraph.
type parser struct {
	out    []line
	para   []string
	fenced bool
}

func (p *parser) flush() {
	if len(p.para) > 0 {
		p.add(line{}, strings.Join(p.para, " "))
		p.para = nil
	}
}

// add appends a line unless nothing of it would be seen.
func (p *parser) add(l line, text string) {
	l.spans = inline(strings.TrimSpace(text), 0, 0)
	if strings.TrimSpace(l.text()) == "" {
		return
	}
	if l.heading {
		for i := range l.spans {
			l.spans[i].style |= bold
		}
	}
	p.out = append(p.out, l)
}

func (p *parser) line(raw string) {
	s := strings.TrimSpace(raw)
	if strings.HasPrefix(s, "```") || strings.HasPrefix(s, "~~~") {
		p.flush()
		p.fenced = !p.fenced
		return
	}
	switch {
	case p.fenced:
		if s != "" {
			p.out = append(p.out, line{spans: []span{{text: s}}})
		}
	case s == "":
		p.flush()
	case strings.Trim(s, "-") == "" || strings.Trim(s, "=") == "" || strings.Trim(s, "*") == "" && len(s) > 2:
		p.rule()
	default:
		p.block(s)
	}
}

// rule is a line of dashes: under a paragraph it makes that a heading.
func (p *parser) rule() {
	if len(p.para) == 0 {
		return
	}
	text := strings.Join(p.para, " ")
	p.para = nil
	p.add(line{heading: true}, text)
}

func (p *parser) block(s string) {
	if rest := strings.TrimLeft(s, "#"); len(s)-len(rest) <= 6 && rest != s && (rest == "" || rest[0] == ' ') {
		p.flush()
		p.add(line{heading: true}, strings.TrimRight(strings.TrimSpace(rest), "#"))
		return
	}
	if rest, ok := strings.CutPrefix(s, ">"); ok {
		p.flush()
		p.add(line{prefix: "&gt; "}, strings.TrimLeft(rest, "> "))
		return
	}
	if prefix, rest, ok := listItem(s); ok {
		p.flush()
		p.add(line{prefix: prefix}, rest)
		return
	}
	if strings.HasPrefix(s, "|") {
		p.flush()
		p.tableRow(s)
		return
	}
	p.para = append(p.para, s)
}

// tableRow shows a row's cells in a line.
func (p *parser) tableRow(s string) {
	if strings.Trim(s, "|-: ") == "" {
		return // the line under a table's head
	}
	cells := strings.Split(strings.Trim(s, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	p.add(line{}, strings.Join(cells, " · "))
}

// split parts s after at most n bytes, between characters.
func split(s string, n int) (head, tail string) {
	if len(s) <= n {
		return s, ""
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], s[n:]
}

// listItem returns the mrkdwn prefix and the text of a list item.
func listItem(s string) (prefix, rest string, ok bool) {
	if len(s) > 2 && strings.ContainsRune("-*+•", firstRune(s)) {
		_, n := utf8.DecodeRuneInString(s)
		if s[n] == ' ' {
			rest = strings.TrimSpace(s[n:])
			for mark, box := range map[string]string{"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "} {
				if after, found := strings.CutPrefix(rest, mark); found {
					return box, after, true
				}
			}
			return "• ", rest, true
		}
	}
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if digits == 0 || digits > 3 || len(s) < digits+2 || s[digits] != '.' && s[digits] != ')' || s[digits+1] != ' ' {
		return "", "", false
	}
	n, err := strconv.Atoi(s[:digits])
	if err != nil {
		return "", "", false
	}
	return strconv.Itoa(n) + ". ", strings.TrimSpace(s[digits+2:]), true
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

func lastRune(s string) rune {
	r, _ := utf8.DecodeLastRuneInString(s)
	return r
}

// inline reads the spans of a line.
func inline(s string, st style, depth int) []span {
	var out []span
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			out = append(out, span{text: plain.String(), style: st})
			plain.Reset()
		}
	}
	prev := ' '
	for s != "" {
		if found, rest, ok := construct(s, prev, st, depth); ok {
			flush()
			out = append(out, found...)
			prev, s = ')', rest
			continue
		}
		if s[0] == '\\' && len(s) > 1 && strings.ContainsRune("\\`*_{}[]()#+-.!~>|<&", rune(s[1])) {
			s = s[1:]
		}
		r, n := utf8.DecodeRuneInString(s)
		prev = r
		plain.WriteString(s[:n])
		s = s[n:]
	}
	flush()
	return out
}

// construct reads the code, emphasis or link that s begins with.
func construct(s string, prev rune, st style, depth int) (found []span, rest string, ok bool) {
	if !strings.ContainsRune("`*_~<![", rune(s[0])) {
		return nil, "", false
	}
	if depth >= maxDepth {
		return nil, "", false
	}
	head, _ := split(s, maxReach)
	switch s[0] {
	case '`':
		found, rest, ok = codeSpan(head, st)
	case '*', '_', '~':
		found, rest, ok = emphasis(head, prev, st, depth)
	case '<':
		found, rest, ok = autolink(head, st)
	case '!':
		if len(head) > 1 && head[1] == '[' {
			found, rest, ok = link(head[1:], st, depth)
		}
	case '[':
		found, rest, ok = link(head, st, depth)
	}
	return found, s[len(head)-len(rest):], ok
}

func codeSpan(s string, st style) ([]span, string, bool) {
	ticks := s[:len(s)-len(strings.TrimLeft(s, "`"))]
	body, rest, ok := strings.Cut(s[len(ticks):], ticks)
	if !ok || strings.TrimSpace(body) == "" {
		return nil, "", false
	}
	return []span{{text: strings.TrimSpace(body), style: st | code}}, rest, true
}

func emphasis(s string, prev rune, st style, depth int) ([]span, string, bool) {
	delim, add := s[:1], italic
	if len(s) > 1 && s[1] == s[0] {
		delim, add = s[:2], bold
	}
	if s[0] == '~' {
		if len(delim) == 1 {
			return nil, "", false
		}
		add = strike
	}
	body := s[len(delim):]
	if body == "" || body[0] == ' ' || s[0] == '_' && word(prev) {
		return nil, "", false
	}
	for at := 1; ; {
		i := strings.Index(body[min(at, len(body)):], delim)
		if i < 0 {
			return nil, "", false
		}
		i += at
		if len(delim) == 2 && strings.HasPrefix(body[i+2:], s[:1]) {
			i++ // of three, the outer two
		}
		after := body[i+len(delim):]
		double := len(delim) == 1 && (strings.HasPrefix(after, delim) || body[i-1] == delim[0])
		if body[i-1] == ' ' || double || s[0] == '_' && after != "" && word(firstRune(after)) {
			at = i + 1
			continue
		}
		return inline(body[:i], st|add, depth+1), after, true
	}
}

func autolink(s string, st style) ([]span, string, bool) {
	inner, rest, ok := strings.Cut(s[1:], ">")
	if !ok || safeLink(inner) == "" {
		return nil, "", false
	}
	return []span{{text: inner, style: st, url: safeLink(inner)}}, rest, true
}

// link reads [label](address "title"). An address that may not be linked to
// leaves the label.
func link(s string, st style, depth int) ([]span, string, bool) {
	label, rest, ok := strings.Cut(s[1:], "](")
	if !ok || strings.ContainsAny(label, "[]") || strings.TrimSpace(label) == "" {
		return nil, "", false
	}
	target, rest, ok := strings.Cut(rest, ")")
	if !ok {
		return nil, "", false
	}
	address, _, _ := strings.Cut(strings.TrimSpace(target), " ")
	found := inline(label, st, depth+1)
	for i := range found {
		found[i].url = safeLink(strings.Trim(address, "<>"))
	}
	return found, rest, true
}

// safeLink returns an address that may be linked to within text, or "": one
// that is absolute, http or https, and not overlong.
func safeLink(s string) string {
	u := webURL(s)
	if units(escape(u)) > maxLink {
		return ""
	}
	return u
}

// webURL returns s in normal form if it is an absolute http or https address,
// else "". What Slack uses to delimit links is percent-encoded in it.
func webURL(s string) string {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return ""
	}
	out := strings.NewReplacer("|", "%7C", "<", "%3C", ">", "%3E", " ", "%20", `"`, "%22", "\u2028", "", "\u2029", "").Replace(u.String())
	if clean(out) != out || strings.Contains(out, "\n") || units(out) > maxURL {
		return ""
	}
	return out
}

// mrkdwn returns the spans as Slack's mrkdwn. Emphasis is left out where Slack
// would show its delimiters, which is next to a letter.
func mrkdwn(spans []span) string {
	var b strings.Builder
	last := ' '
	for i, s := range spans {
		next := ' '
		if i+1 < len(spans) {
			next = firstRune(spans[i+1].text)
		}
		begin, end := firstRune(s.text), lastRune(s.text)
		b.WriteString(s.mrkdwn(word(last) && begin != ' ' || word(next) && end != ' '))
		if s.text != "" {
			last = end
		}
	}
	return b.String()
}

func (s span) mrkdwn(cramped bool) string {
	if strings.TrimSpace(s.text) == "" {
		return s.text
	}
	text := data(s.text)
	if s.style != 0 && !cramped {
		text = s.dressed()
	}
	if s.url != "" {
		return "<" + escape(s.url) + "|" + text + ">"
	}
	return text
}

// dressed puts the delimiters around the text, and spaces outside of them.
func (s span) dressed() string {
	core := strings.TrimSpace(s.text)
	lead, trail, _ := strings.Cut(s.text, core)
	if s.style&code != 0 {
		core = inert(core)
	} else {
		core = data(core)
	}
	for _, d := range []struct {
		style style
		mark  string
	}{{code, "`"}, {strike, "~"}, {italic, "_"}, {bold, "*"}} {
		if s.style&d.style != 0 {
			core = d.mark + core + d.mark
		}
	}
	return lead + core + trail
}

// plainSpans returns the spans without looks and links.
func plainSpans(spans []span) []span {
	return []span{{text: line{spans: spans}.text()}}
}

// cutSpans returns the first n bytes of the spans' text.
func cutSpans(spans []span, n int) []span {
	var out []span
	for _, s := range spans {
		if n <= 0 {
			break
		}
		if len(s.text) > n {
			s.text = s.text[:n]
		}
		n -= len(s.text)
		out = append(out, s)
	}
	return out
}

// fit returns the line as mrkdwn of at most limit units, shortened if need be.
func (l line) fit(limit int) (text string, cut bool) {
	room := limit - units(l.prefix)
	spans := l.spans
	for try := range 4 {
		if try == 3 {
			spans = plainSpans(l.spans)
			room = limit - units(l.prefix)
		}
		whole := line{spans: spans}.text()
		short, wasCut := shorten(whole, max(2, room))
		kept := spans
		if wasCut {
			body := strings.TrimRight(strings.TrimSuffix(short, ellipsis), " ")
			kept = append(cutSpans(spans, len(body)), span{text: strings.TrimPrefix(short, body)})
		}
		out := l.prefix + mrkdwn(kept)
		if over := units(out) - limit; over > 0 && try < 3 {
			room -= over
			continue
		}
		return out, wasCut
	}
	return "", true
}

// lineWidth is how many characters fit into a line of a usual window.
const lineWidth = 95

// gist returns the beginning of Markdown as mrkdwn: at most that many lines of
// a usual window, cut at the end of a sentence where there is one. A heading at
// the start says little and is left out; one at the end says nothing and is,
// too.
func gist(src string, lines int) (text string, cut bool) {
	head, tail := split(src, maxSource)
	defer func() { cut = cut || strings.TrimSpace(tail) != "" }()
	all := parseMarkdown(head)
	for len(all) > 1 && all[0].heading {
		all = all[1:]
	}
	var out []string
	for i, l := range all {
		if lines == 0 {
			return strings.Join(out, "\n"), true
		}
		if l.heading && i+1 < len(all) && all[i+1].heading {
			continue // the one below it says more
		}
		limit := lines*lineWidth - 1
		if t := l.text(); columns(t) > units(t)*3/2 {
			limit /= 2
		}
		s, wasCut := l.fit(limit)
		if wasCut && len(out) > 0 && !cutAtSentence(s) || l.heading && i > 0 && (lines == 1 || !fits(all[i+1:], lines-1)) {
			return strings.Join(out, "\n"), true
		}
		out = append(out, s)
		if wasCut {
			return strings.Join(out, "\n"), true
		}
		lines = max(0, lines-(columns(s)+lineWidth)/lineWidth)
	}
	return strings.Join(out, "\n"), false
}

// fits reports whether something of what follows a heading can be shown.
func fits(following []line, lines int) bool {
	if len(following) == 0 {
		return false
	}
	s, cut := following[0].fit(lines*lineWidth - 1)
	return !cut || cutAtSentence(s)
}
