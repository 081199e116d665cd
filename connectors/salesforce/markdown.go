package salesforce

import (
	"regexp"
	"strings"
)

// plain turns Markdown into text that reads well where Markdown is not drawn,
// as in a task's comments: marks go, headings become lines of their own,
// bullets become "•", and links keep their address. What only looks like
// Markdown, such as snake_case or 2*3*4, stays as it is.
func plain(markdown string) string {
	var out []string
	fenced := false
	for line := range strings.SplitSeq(clean(markdown), "\n") {
		line = strings.TrimRight(line, " \t")
		trimmed := strings.TrimLeft(line, " \t")
		if strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~") {
			fenced = !fenced
			continue
		}
		if fenced {
			out = append(out, line)
			continue
		}
		out = append(out, plainLine(line))
	}
	return squeeze(out)
}

var (
	headingMark = regexp.MustCompile(`^#{1,6}[ \t]+`)
	headingEnd  = regexp.MustCompile(`[ \t]+#+$`)
	quoteMark   = regexp.MustCompile(`^(>[ \t]?)+`)
	ruleLine    = regexp.MustCompile(`^([-*_])([ \t]*([-*_]))*[ \t]*$`)
	bulletMark  = regexp.MustCompile(`^[-*+][ \t]+`)
	taskMark    = regexp.MustCompile(`^\[([ xX])\][ \t]+`)
	imageText   = regexp.MustCompile(`!\[([^\[\]]*)\]\([^()\s]*(?:[ \t]+"[^"]*")?\)`)
	linkText    = regexp.MustCompile(`\[([^\[\]]+)\]\(<?([^()<>\s]*(?:\([^()\s]*\)[^()<>\s]*)*)>?(?:[ \t]+"[^"]*")?\)`)
	autoLink    = regexp.MustCompile(`<((?:https?://|mailto:)[^<>\s]+)>`)
	codeSpan    = regexp.MustCompile("`+([^`]+)`+")
	strong      = regexp.MustCompile(`(\*\*|__)([^\s*_](?:[^*_]*[^\s*_])?)(\*\*|__)`)
	emphasis    = regexp.MustCompile(`(^|[\s(\[{"'“‘¿¡—–-])([*_])([^\s*_](?:[^*_]*[^\s*_])?)([*_])($|[\s)\]}"'”’.,;:!?—–-])`)
	struck      = regexp.MustCompile(`~~([^~\s](?:[^~]*[^~\s])?)~~`)
	escapedMark = regexp.MustCompile("\\\\([\\\\`*_{}\\[\\]()#+.!|>~-])")
)

// plainLine turns one line of Markdown into text.
func plainLine(line string) string {
	trimmed := strings.TrimLeft(line, " \t")
	indent := line[:len(line)-len(trimmed)]
	trimmed = quoteMark.ReplaceAllString(trimmed, "")
	switch {
	case isRule(trimmed):
		return ""
	case headingMark.MatchString(trimmed):
		return inline(headingEnd.ReplaceAllString(headingMark.ReplaceAllString(trimmed, ""), ""))
	case bulletMark.MatchString(trimmed):
		rest := bulletMark.ReplaceAllString(trimmed, "")
		mark := "• "
		if m := taskMark.FindStringSubmatch(rest); m != nil {
			rest = taskMark.ReplaceAllString(rest, "")
			mark = "☐ "
			if m[1] != " " {
				mark = "☑ "
			}
		}
		return strings.ReplaceAll(indent, "\t", "  ") + mark + inline(rest)
	}
	return inline(trimmed)
}

// isRule reports whether a line is a horizontal rule: three or more of one
// mark.
func isRule(line string) bool {
	if !ruleLine.MatchString(line) {
		return false
	}
	marks := strings.NewReplacer(" ", "", "\t", "").Replace(line)
	return len(marks) >= 3 && strings.Count(marks, marks[:1]) == len(marks)
}

// inline removes the marks within a line. Most lines have none, and the
// expressions are not cheap: each is only tried where its mark is.
func inline(s string) string {
	if strings.Contains(s, "](") {
		s = imageText.ReplaceAllString(s, "$1")
		s = linkText.ReplaceAllStringFunc(s, plainLink)
	}
	if strings.Contains(s, "<") {
		s = autoLink.ReplaceAllString(s, "$1")
	}
	if strings.Contains(s, "`") {
		s = codeSpan.ReplaceAllString(s, "$1")
	}
	if strings.ContainsAny(s, "*_") {
		s = strong.ReplaceAllString(s, "$2")
		// A space between two marks belongs to both, so that one pass can
		// miss every second one.
		for range 2 {
			s = emphasis.ReplaceAllString(s, "$1$3$5")
		}
	}
	if strings.Contains(s, "~~") {
		s = struck.ReplaceAllString(s, "$1")
	}
	if strings.Contains(s, `\`) {
		s = escapedMark.ReplaceAllString(s, "$1")
	}
	return s
}

// plainLink returns the text of a link with its address behind it.
func plainLink(link string) string {
	parts := linkText.FindStringSubmatch(link)
	if parts[2] == "" || parts[1] == parts[2] {
		return parts[1]
	}
	return parts[1] + " (" + parts[2] + ")"
}

// squeeze joins lines, with at most one empty line in a row and none at either
// end.
func squeeze(lines []string) string {
	var out []string
	for _, l := range lines {
		if l == "" && (len(out) == 0 || out[len(out)-1] == "") {
			continue
		}
		out = append(out, l)
	}
	return strings.TrimRight(strings.Join(out, "\n"), "\n")
}
