package hub

import (
	"net/url"
	"strings"
	"time"
	"unicode"
)

// The formats of texts in a call. Each check accepts what real systems accept
// and refuses what cannot be meant; none of them looks anything up.

// Years that a date in a call may have. What lies outside is a mistake of the
// producer, such as seconds taken for milliseconds.
const (
	firstYear = 1970
	lastYear  = 2999
)

// parseTime reads a time after RFC 3339 with at most nine fractional digits.
// It keeps the offset it was written with; time.Parse alone also takes forms
// that RFC 3339 does not have, such as a comma before the fraction.
func parseTime(s string) (time.Time, bool) {
	if !timeShape(s) {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation(time.RFC3339, s, time.UTC)
	return t, err == nil && plausibleYear(t)
}

func plausibleYear(t time.Time) bool { return firstYear <= t.Year() && t.Year() <= lastYear }

// timeShape checks the places of digits and marks, and the bounds of the
// offset.
func timeShape(s string) bool {
	rest, ok := strings.CutSuffix(s, "Z")
	if !ok {
		if len(s) < len("+00:00") {
			return false
		}
		var offset string
		rest, offset = s[:len(s)-6], s[len(s)-6:]
		if !shaped(offset, "+00:00") && !shaped(offset, "-00:00") || offset[1:3] > "23" || offset[4:] > "59" {
			return false
		}
	}
	const seconds = "0000-00-00T00:00:00"
	if len(rest) < len(seconds) || !shaped(rest[:len(seconds)], seconds) {
		return false
	}
	fraction := rest[len(seconds):]
	return fraction == "" || len(fraction) <= 10 && shaped(fraction, ".000000000"[:len(fraction)]) && len(fraction) > 1
}

// shaped reports whether s has a digit wherever shape has a 0, and is shape
// everywhere else.
func shaped(s, shape string) bool {
	if len(s) != len(shape) {
		return false
	}
	for i := range len(s) {
		if shape[i] == '0' && !isDigit(s[i]) || shape[i] != '0' && s[i] != shape[i] {
			return false
		}
	}
	return true
}

// validDate reports whether s is a day of the calendar as YYYY-MM-DD.
func validDate(s string) bool {
	if !shaped(s, "0000-00-00") {
		return false
	}
	t, err := time.Parse(time.DateOnly, s)
	return err == nil && plausibleYear(t)
}

// plausibleEmail reports whether s can be an e-mail address: one @, a local
// part without spaces and quotes, and a domain with a dot. Letters of any
// script are allowed on both sides (RFC 6531).
func plausibleEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || len(s) > MaxEmail || local == "" || len(local) > 64 {
		return false
	}
	for _, c := range local {
		if !letterOrDigit(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", c) {
			return false
		}
	}
	return plausibleDomain(domain)
}

// plausibleDomain reports whether s can be a public domain name: at least two
// labels of letters, digits and hyphens, the last one not a number.
func plausibleDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	labels, last := 0, ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !letterOrDigit(c) && c != '-' {
				return false
			}
		}
		labels, last = labels+1, label
	}
	return labels >= 2 && strings.Trim(last, "0123456789") != ""
}

// letterOrDigit reports whether c is a letter or digit of any script, or a mark
// that belongs to one.
func letterOrDigit(c rune) bool {
	if c < 0x80 {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	return unicode.IsLetter(c) || unicode.IsMark(c) || unicode.IsDigit(c)
}

// validPhone reports whether s is a number after E.164: + and 7 to 15 digits,
// the first of them not 0.
func validPhone(s string) bool {
	if len(s) < 8 || len(s) > 16 || s[0] != '+' || s[1] == '0' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// validURL reports whether s is an http or https address with a host and
// without credentials. White space, control characters, quotes, backslashes
// and angle brackets must be percent-encoded: browsers and chat clients read
// them in different ways.
func validURL(s string) bool {
	if len(s) > MaxURL {
		return false
	}
	for _, c := range s {
		switch {
		case c <= ' ', c == 0x7f, c == '"', c == '<', c == '>', c == '\\', c == '`':
			return false
		case c >= 0x80 && (!unicode.IsGraphic(c) || unicode.IsSpace(c)):
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil
}

// plausibleLanguage reports whether s looks like a BCP 47 tag, such as "en",
// "pt-BR" or "zh-Hant-TW".
func plausibleLanguage(s string) bool {
	if len(s) > 35 {
		return false
	}
	first := true
	for part := range strings.SplitSeq(s, "-") {
		if first && (len(part) < 2 || len(part) > 3 || strings.ContainsAny(part, "0123456789")) {
			return false
		}
		if part == "" || len(part) > 8 || !alphanumeric(part) {
			return false
		}
		first = false
	}
	return true
}

// alphanumeric reports whether s has nothing but A–Z, a–z and 0–9.
func alphanumeric(s string) bool {
	for i := range len(s) {
		if b := s[i]; b >= 0x80 || !letterOrDigit(rune(b)) {
			return false
		}
	}
	return true
}

// validCRMID reports whether s can be the id of a record in a CRM: 1 to 64 of
// A–Z, a–z and 0–9. Salesforce's have 15 or 18.
func validCRMID(s string) bool { return s != "" && len(s) <= 64 && alphanumeric(s) }

// validCustomName reports whether s can name a custom member: a letter, then up
// to 63 of letters, digits and '_'.
func validCustomName(s string) bool {
	if s == "" || len(s) > MaxCustomName || isDigit(s[0]) || s[0] == '_' {
		return false
	}
	return alphanumeric(strings.ReplaceAll(s, "_", ""))
}
