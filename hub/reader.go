package hub

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxFieldErrors is how many problems are reported of one document. Reading
// stops at the last of them.
const MaxFieldErrors = 100

// A reader takes one JSON text (RFC 8259) apart in a single pass and gathers
// everything that is wrong with it.
//
// It is written by hand because encoding/json replaces invalid UTF-8 and
// unpaired surrogates silently, lets a later duplicate of a member win, and
// stops at the first wrong value.
//
// Once stopped is set, by a text that is no JSON or by the last error there is
// room for, every method returns at once and the loops of its callers end.
type reader struct {
	src      string
	pos      int
	valid    bool // src is UTF-8 throughout, so no string needs a check of its own
	depth    int  // objects and lists that are open
	maxDepth int  // 0 is no limit
	path     []step
	errs     []FieldError
	stopped  bool
}

// step is one reference of a pointer: the name of a member, or the index of an
// entry if there is no name. (A member named "" is index -1.)
type step struct {
	name  string
	index int
}

// newReader returns a reader at the beginning of data. Texts that it returns
// share the memory of one copy of data.
func newReader(data []byte, maxDepth int) *reader {
	src := string(data)
	r := &reader{src: src, valid: utf8.ValidString(src), maxDepth: maxDepth, path: make([]step, 0, 8)}
	if strings.HasPrefix(src, "\ufeff") {
		r.syntax("it begins with a byte order mark, which JSON must not have")
	}
	return r
}

// end reports whatever comes after the value that was read.
func (r *reader) end() {
	if r.next(); r.pos < len(r.src) {
		r.syntax("nothing may follow the document")
	}
}

// fail reports what is wrong at the current place.
func (r *reader) fail(detail string) { r.failAt(r.pointer(), detail) }

func (r *reader) failAt(pointer, detail string) {
	if r.stopped {
		return
	}
	r.errs = append(r.errs, FieldError{Pointer: pointer, Detail: detail})
	r.stopped = len(r.errs) == MaxFieldErrors
}

// syntax reports that the text is no JSON at pos. That is then the only
// problem: what has been read so far may not be what was meant.
func (r *reader) syntax(detail string) {
	if r.stopped {
		return
	}
	if r.pos >= len(r.src) {
		detail = "it ends too early"
	}
	line := 1 + strings.Count(r.src[:r.pos], "\n")
	column := 1 + utf8.RuneCountInString(r.src[strings.LastIndexByte(r.src[:r.pos], '\n')+1:r.pos])
	r.errs = []FieldError{{Detail: fmt.Sprintf("the document is not valid JSON at line %d, column %d: %s", line, column, detail)}}
	r.stopped = true
}

// tooDeep reports nesting beyond maxDepth, which is then the only problem.
func (r *reader) tooDeep() {
	if r.stopped {
		return
	}
	r.errs = []FieldError{{Pointer: r.pointer(), Detail: fmt.Sprintf("is nested too deep: more than %d levels in the document", r.maxDepth)}}
	r.stopped = true
}

// pointer returns the RFC 6901 pointer to the current place.
func (r *reader) pointer() string {
	var b strings.Builder
	for _, s := range r.path {
		b.WriteByte('/')
		if s.name == "" && s.index >= 0 {
			b.WriteString(strconv.Itoa(s.index))
			continue
		}
		b.WriteString(escapePointer(s.name))
	}
	return b.String()
}

func escapePointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// next skips white space and returns the byte that follows, or 0 at the end.
func (r *reader) next() byte {
	for !r.stopped && r.pos < len(r.src) {
		switch b := r.src[r.pos]; b {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return b
		}
	}
	return 0
}

// kind says in words what the value that begins with b is; "" if none begins
// so.
func kind(b byte) string {
	switch b {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return "a number"
	}
	return ""
}

// expect reports whether the next value is of the kind want. Any other is
// reported and skipped.
func (r *reader) expect(want string) bool {
	got := kind(r.next())
	if got == want {
		return true
	}
	if got == "" {
		r.syntax("a value is expected")
		return false
	}
	r.fail("must be " + want + ", not " + got)
	r.skip()
	return false
}

// null reports whether the next value is null, and consumes it if so.
func (r *reader) null() bool {
	if r.next() != 'n' {
		return false
	}
	r.literal("null")
	return true
}

// maxName is how many bytes of a member's name a pointer repeats.
const maxName = 128

// members calls each with the name of every member of the object that begins
// here; each must consume the member's value.
func (r *reader) members(each func(name string)) {
	if !r.open() {
		return
	}
	if r.next() == '}' {
		r.shut()
		return
	}
	for !r.stopped {
		name, fault := r.name()
		switch {
		case fault != "":
			r.fail("holds a member whose name " + fault)
			r.skip()
		case len(name) > maxName:
			r.fail(fmt.Sprintf("holds a member whose name is longer than %d bytes", maxName))
			r.skip()
		default:
			r.path = append(r.path, step{name: name, index: -1})
			each(name)
			r.path = r.path[:len(r.path)-1]
		}
		if !r.more('{') {
			r.shut()
			return
		}
	}
}

// entries calls each for every entry of the list that begins here; each must
// consume the entry.
func (r *reader) entries(each func(i int)) {
	if !r.open() {
		return
	}
	if r.next() == ']' {
		r.shut()
		return
	}
	for i := 0; !r.stopped; i++ {
		r.path = append(r.path, step{index: i})
		each(i)
		r.path = r.path[:len(r.path)-1]
		if !r.more('[') {
			r.shut()
			return
		}
	}
}

// open steps into an object or list.
func (r *reader) open() bool {
	if r.depth++; r.maxDepth > 0 && r.depth > r.maxDepth {
		r.tooDeep()
		return false
	}
	r.pos++
	return true
}

// shut steps over the end of an object or list.
func (r *reader) shut() {
	r.depth--
	r.pos++
}

// name reads a member's name and the colon.
func (r *reader) name() (name, fault string) {
	if r.next() != '"' {
		r.syntax("a member's name in double quotes is expected")
		return "", ""
	}
	name, fault = r.quoted()
	if r.next() != ':' {
		r.syntax("a colon is expected")
		return "", ""
	}
	r.pos++
	return name, fault
}

// more reports whether another member or entry follows, after a comma, in what
// opened with bracket. If not, pos is at the closing bracket.
func (r *reader) more(bracket byte) bool {
	switch r.next() {
	case ',':
		r.pos++
		return true
	case bracket + 2: // ASCII: [ and ], { and } are two apart
		return false
	}
	if bracket == '{' {
		r.syntax("a comma or a closing brace is expected")
	} else {
		r.syntax("a comma or a closing bracket is expected")
	}
	return false
}

// skip consumes a value and checks nothing but that it is JSON. It does not
// recurse, so a deep text cannot exhaust the stack.
func (r *reader) skip() {
	var opened []byte
	for !r.stopped {
		b := r.next()
		switch b {
		case '{', '[':
			if !r.open() {
				return
			}
			if r.next() == b+2 {
				r.shut()
				break
			}
			opened = append(opened, b)
			if b == '{' {
				r.name()
			}
			continue
		default:
			r.scalar(b)
		}
		for len(opened) > 0 {
			last := opened[len(opened)-1]
			if r.more(last) {
				if last == '{' {
					r.name()
				}
				break
			}
			if r.stopped {
				return
			}
			r.shut()
			opened = opened[:len(opened)-1]
		}
		if len(opened) == 0 {
			return
		}
	}
}

// scalar consumes a string, number or literal that begins with b.
func (r *reader) scalar(b byte) {
	switch kind(b) {
	case "a string":
		r.quoted()
	case "a number":
		r.number()
	case "null":
		r.literal("null")
	case "true or false":
		r.boolean()
	default:
		r.syntax("a value is expected")
	}
}

func (r *reader) boolean() bool {
	if r.next() == 't' {
		r.literal("true")
		return true
	}
	r.literal("false")
	return false
}

func (r *reader) literal(word string) {
	if r.stopped {
		return
	}
	if !strings.HasPrefix(r.src[r.pos:], word) {
		r.syntax("a value is expected")
		return
	}
	r.pos += len(word)
}

// number consumes a number and returns it as it is written.
func (r *reader) number() string {
	start := r.pos
	if r.at('-') {
		r.pos++
	}
	switch {
	case r.at('0'):
		r.pos++
	case !r.digits():
		return ""
	}
	if r.at('.') {
		r.pos++
		if !r.digits() {
			return ""
		}
	}
	if r.at('e') || r.at('E') {
		r.pos++
		if r.at('+') || r.at('-') {
			r.pos++
		}
		if !r.digits() {
			return ""
		}
	}
	return r.src[start:r.pos]
}

func (r *reader) at(b byte) bool { return r.pos < len(r.src) && r.src[r.pos] == b }

// digits consumes at least one digit.
func (r *reader) digits() bool {
	start := r.pos
	for r.pos < len(r.src) && isDigit(r.src[r.pos]) {
		r.pos++
	}
	if r.pos == start {
		r.syntax("a digit is expected")
		return false
	}
	return true
}

// quoted consumes a string. fault says in words why it cannot be taken although
// it is JSON; it continues a sentence whose subject is the string.
func (r *reader) quoted() (s, fault string) {
	start := r.pos + 1
	for i := start; i < len(r.src); i++ {
		switch b := r.src[i]; {
		case b == '"':
			r.pos = i + 1
			return r.src[start:i], r.checkUTF8(r.src[start:i])
		case b == '\\':
			r.pos = i
			return r.escaped(start)
		case b < ' ':
			r.pos = i
			r.syntax("a control character in a string must be escaped")
			return "", ""
		}
	}
	r.pos = len(r.src)
	r.syntax("")
	return "", ""
}

func (r *reader) checkUTF8(s string) (fault string) {
	if r.valid || utf8.ValidString(s) {
		return ""
	}
	return "must be valid UTF-8"
}

// escaped consumes the rest of a string that began at start and has its first
// backslash at pos.
func (r *reader) escaped(start int) (s, fault string) {
	out := append(make([]byte, 0, r.pos-start+64), r.src[start:r.pos]...)
	for r.pos < len(r.src) {
		switch b := r.src[r.pos]; {
		case b == '"':
			raw := r.src[start:r.pos]
			r.pos++
			if f := r.checkUTF8(raw); f != "" {
				fault = f
			}
			return string(out), fault
		case b < ' ':
			r.syntax("a control character in a string must be escaped")
			return "", ""
		case b != '\\':
			out = append(out, b)
			r.pos++
		default:
			c, f := r.escape()
			if f != "" {
				fault = f
			}
			out = utf8.AppendRune(out, c)
		}
		if r.stopped {
			return "", ""
		}
	}
	r.syntax("")
	return "", ""
}

// escape consumes one escape sequence, or the two of a surrogate pair.
func (r *reader) escape() (c rune, fault string) {
	r.pos++
	if r.pos >= len(r.src) {
		r.syntax("")
		return 0, ""
	}
	b := r.src[r.pos]
	if b == 'u' {
		return r.unicodeEscape()
	}
	i := strings.IndexByte(`"\/bfnrt`, b)
	if i < 0 {
		r.syntax("there is no such escape sequence")
		return 0, ""
	}
	r.pos++
	return rune("\"\\/\b\f\n\r\t"[i]), ""
}

const halfPair = "must not hold half a surrogate pair"

// unicodeEscape consumes uXXXX, and the \uXXXX of a second surrogate after it.
func (r *reader) unicodeEscape() (c rune, fault string) {
	c, ok := r.hex4(r.pos + 1)
	if !ok {
		r.syntax(`four hexadecimal digits are expected after \u`)
		return 0, ""
	}
	r.pos += 5
	switch {
	case c == 0:
		return c, "must not hold the character NUL"
	case 0xDC00 <= c && c < 0xE000:
		return utf8.RuneError, halfPair
	case 0xD800 <= c && c < 0xDC00:
		low, ok := rune(0), false
		if strings.HasPrefix(r.src[r.pos:], `\u`) {
			low, ok = r.hex4(r.pos + 2)
		}
		if !ok || low < 0xDC00 || low >= 0xE000 {
			return utf8.RuneError, halfPair // what follows is read as what it is
		}
		r.pos += 6
		return 0x10000 + (c-0xD800)<<10 + (low - 0xDC00), ""
	}
	return c, ""
}

// hex4 reads the four hexadecimal digits at i.
func (r *reader) hex4(i int) (c rune, ok bool) {
	if i+4 > len(r.src) {
		return 0, false
	}
	for _, b := range []byte(r.src[i : i+4]) {
		switch {
		case isDigit(b):
			c = c<<4 + rune(b-'0')
		case 'a' <= b|0x20 && b|0x20 <= 'f':
			c = c<<4 + rune(b|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	return c, true
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
