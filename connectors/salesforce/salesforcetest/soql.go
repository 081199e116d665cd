package salesforcetest

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

var errNotObject = errors.New("not a JSON object")

// The part of SOQL that the fake understands:
//
//	SELECT field, Relation.field, … FROM Object
//	  [WHERE condition] [ORDER BY field [ASC|DESC] [NULLS FIRST|LAST], …]
//	  [LIMIT n] [OFFSET n]
//	SELECT COUNT() FROM Object …
//
// A condition compares a field with = != < <= > >= LIKE, IN and NOT IN, joined
// by AND, OR and NOT. As in Salesforce, AND and OR cannot be mixed without
// brackets, strings are compared without regard to case, and long text cannot
// be a condition.

// queryError is a refusal of a query.
type queryError struct{ code, message string }

func (e *queryError) Error() string { return e.code + ": " + e.message }

func malformed(format string, args ...any) error {
	return &queryError{"MALFORMED_QUERY", fmt.Sprintf(format, args...)}
}

type tokenKind int

const (
	tokEnd tokenKind = iota
	tokName
	tokString
	tokNumber
	tokDate // a date or a moment, unquoted
	tokSymbol
)

type token struct {
	kind tokenKind
	text string // of a string: what it means, escapes resolved
}

var (
	soqlName   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:]*`)
	soqlDate   = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,3})?(Z|[+-]\d{2}:?\d{2}))?`)
	soqlNumber = regexp.MustCompile(`^[+-]?\d+(\.\d+)?`)
)

// lex splits a query into tokens.
func lex(q string) ([]token, error) {
	var out []token
	for q != "" {
		switch c := q[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			q = q[1:]
		case c == '\'':
			s, rest, err := lexString(q[1:])
			if err != nil {
				return nil, err
			}
			out, q = append(out, token{tokString, s}), rest
		case soqlName.MatchString(q):
			n := soqlName.FindString(q)
			out, q = append(out, token{tokName, n}), q[len(n):]
		case soqlDate.MatchString(q):
			n := soqlDate.FindString(q)
			out, q = append(out, token{tokDate, n}), q[len(n):]
		case soqlNumber.MatchString(q):
			n := soqlNumber.FindString(q)
			out, q = append(out, token{tokNumber, n}), q[len(n):]
		default:
			sym := q[:1]
			for _, s := range []string{"!=", "<=", ">=", "<>"} {
				if strings.HasPrefix(q, s) {
					sym = s
				}
			}
			if strings.IndexByte("(),=<>!", sym[0]) < 0 {
				r, _ := utf8.DecodeRuneInString(q)
				return nil, malformed("unexpected token: '%c'", r)
			}
			out, q = append(out, token{tokSymbol, sym}), q[len(sym):]
		}
	}
	return append(out, token{tokEnd, "<EOF>"}), nil
}

// lexString reads a string literal after its opening quote.
func lexString(q string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(q); i++ {
		switch c := q[i]; c {
		case '\'':
			return b.String(), q[i+1:], nil
		case '\n', '\r':
			return "", "", malformed("line breaks not allowed in string literals")
		case '\\':
			i++
			if i == len(q) {
				return "", "", malformed("unterminated string literal")
			}
			n, err := unescape(&b, q[i:])
			if err != nil {
				return "", "", err
			}
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return "", "", malformed("unterminated string literal")
}

// unescape writes what the escape sequence at the start of s, its backslash
// removed, means, and returns its length. \% and \_ stay as they are: LIKE
// reads them.
func unescape(b *strings.Builder, s string) (int, error) {
	simple := map[byte]string{'n': "\n", 'r': "\r", 't': "\t", 'b': "\b", 'f': "\f", '"': `"`, '\'': "'", '\\': `\`, 'N': "\n", 'R': "\r", 'T': "\t", 'B': "\b", 'F': "\f"}
	if v, ok := simple[s[0]]; ok {
		b.WriteString(v)
		return 1, nil
	}
	switch s[0] {
	case '%', '_':
		b.WriteByte('\\')
		b.WriteByte(s[0])
		return 1, nil
	case 'u':
		if len(s) < 5 {
			break
		}
		n, err := strconv.ParseUint(s[1:5], 16, 16)
		if err != nil {
			break
		}
		b.WriteString(string(utf16.Decode([]uint16{uint16(n)})))
		return 5, nil
	}
	return 0, malformed("invalid string literal: illegal character sequence '\\%c' in string literal", s[0])
}

// query is a parsed statement.
type query struct {
	count  bool
	fields []string
	object *object
	where  condition // nil: everything
	order  []ordering
	limit  int // -1: none
	offset int
}

type ordering struct {
	field     string
	desc      bool
	nullsLast bool
}

// condition says whether a record belongs to the result.
type condition func(r *record) bool

type parser struct {
	d    *store
	toks []token
	pos  int
	o    *object
	deep int
}

func (p *parser) peek() token { return p.toks[p.pos] }

func (p *parser) take() token {
	t := p.toks[p.pos]
	if t.kind != tokEnd {
		p.pos++
	}
	return t
}

// word takes the next token if it is the keyword w.
func (p *parser) word(w string) bool {
	if t := p.peek(); t.kind == tokName && strings.EqualFold(t.text, w) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) symbol(s string) bool {
	if t := p.peek(); t.kind == tokSymbol && t.text == s {
		p.pos++
		return true
	}
	return false
}

func (p *parser) unexpected() error { return malformed("unexpected token: '%s'", p.peek().text) }

// parse reads a statement.
func (d *store) parse(text string) (*query, error) {
	toks, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{d: d, toks: toks}
	q := &query{limit: -1}
	if !p.word("SELECT") {
		return nil, p.unexpected()
	}
	if err := p.selectList(q); err != nil {
		return nil, err
	}
	if err := p.from(q); err != nil {
		return nil, err
	}
	if p.word("WHERE") {
		if q.where, err = p.conditions(); err != nil {
			return nil, err
		}
	}
	if err := p.tail(q); err != nil {
		return nil, err
	}
	if p.peek().kind != tokEnd {
		return nil, p.unexpected()
	}
	return q, nil
}

func (p *parser) selectList(q *query) error {
	for {
		t := p.take()
		if t.kind != tokName {
			p.pos--
			return p.unexpected()
		}
		if strings.EqualFold(t.text, "COUNT") && p.symbol("(") {
			if !p.symbol(")") || len(q.fields) > 0 {
				return p.unexpected()
			}
			q.count = true
			return nil
		}
		q.fields = append(q.fields, t.text)
		if !p.symbol(",") {
			return nil
		}
	}
}

func (p *parser) from(q *query) error {
	if !p.word("FROM") {
		return p.unexpected()
	}
	t := p.take()
	if t.kind != tokName {
		return malformed("unexpected token: '%s'", t.text)
	}
	q.object = p.d.object(t.text)
	if q.object == nil {
		return &queryError{"INVALID_TYPE", fmt.Sprintf("sObject type '%s' is not supported.", t.text)}
	}
	p.o = q.object
	for i, name := range q.fields {
		if strings.EqualFold(name, "FIELDS") {
			return malformed("FIELDS() is not supported")
		}
		path, err := p.path(name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(q.fields[:i], func(s string) bool { return strings.EqualFold(s, path.String()) }) {
			return malformed("duplicate field selected: %s", name)
		}
		q.fields[i] = path.String()
	}
	return nil
}

func (p *parser) tail(q *query) error {
	if p.word("ORDER") {
		if !p.word("BY") {
			return p.unexpected()
		}
		for {
			o, err := p.ordering()
			if err != nil {
				return err
			}
			q.order = append(q.order, o)
			if !p.symbol(",") {
				break
			}
		}
	}
	var err error
	if p.word("LIMIT") {
		if q.limit, err = p.count(); err != nil {
			return err
		}
	}
	if p.word("OFFSET") {
		q.offset, err = p.count()
	}
	return err
}

func (p *parser) ordering() (ordering, error) {
	t := p.take()
	if t.kind != tokName {
		return ordering{}, malformed("unexpected token: '%s'", t.text)
	}
	path, err := p.path(t.text)
	if err != nil {
		return ordering{}, err
	}
	o := ordering{field: path.String()}
	if p.word("DESC") {
		o.desc = true
	} else {
		p.word("ASC")
	}
	if p.word("NULLS") {
		switch {
		case p.word("LAST"):
			o.nullsLast = true
		case p.word("FIRST"):
		default:
			return o, p.unexpected()
		}
	}
	return o, nil
}

func (p *parser) count() (int, error) {
	t := p.take()
	n, err := strconv.Atoi(t.text)
	if t.kind != tokNumber || err != nil || n < 0 {
		return 0, malformed("unexpected token: '%s'", t.text)
	}
	return n, nil
}

// conditions reads conditions joined by AND or by OR, but not by both.
func (p *parser) conditions() (condition, error) {
	if p.deep++; p.deep > 50 {
		return nil, malformed("too many brackets")
	}
	defer func() { p.deep-- }()
	first, err := p.one()
	if err != nil {
		return nil, err
	}
	all := []condition{first}
	joiner := ""
	for {
		switch {
		case joiner != "OR" && p.word("AND"):
			joiner = "AND"
		case joiner != "AND" && p.word("OR"):
			joiner = "OR"
		case len(all) == 1:
			return first, nil
		case joiner == "AND":
			return func(r *record) bool { return !slices.ContainsFunc(all, func(c condition) bool { return !c(r) }) }, nil
		default:
			return func(r *record) bool { return slices.ContainsFunc(all, func(c condition) bool { return c(r) }) }, nil
		}
		c, err := p.one()
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
}

// one reads a condition in brackets, a negated one, or a comparison.
func (p *parser) one() (condition, error) {
	if p.word("NOT") {
		c, err := p.one()
		if err != nil {
			return nil, err
		}
		return func(r *record) bool { return !c(r) }, nil
	}
	if p.symbol("(") {
		c, err := p.conditions()
		if err != nil {
			return nil, err
		}
		if !p.symbol(")") {
			return nil, p.unexpected()
		}
		return c, nil
	}
	t := p.take()
	if t.kind != tokName {
		return nil, malformed("unexpected token: '%s'", t.text)
	}
	path, err := p.path(t.text)
	if err != nil {
		return nil, err
	}
	if path.last.noFilter {
		return nil, &queryError{"INVALID_FIELD", fmt.Sprintf("field '%s' can not be filtered in a query call", path)}
	}
	return p.comparison(path)
}

func (p *parser) comparison(path fieldPath) (condition, error) {
	get := func(r *record) any { return folded(path.last, path.value(p.d, r)) }
	switch {
	case p.word("IN"):
		in, err := p.list(path)
		if err != nil {
			return nil, err
		}
		return func(r *record) bool { return in[get(r)] }, nil
	case p.word("NOT"):
		if !p.word("IN") {
			return nil, p.unexpected()
		}
		in, err := p.list(path)
		if err != nil {
			return nil, err
		}
		return func(r *record) bool { return !in[get(r)] }, nil
	case p.word("LIKE"):
		t := p.take()
		if t.kind != tokString {
			return nil, malformed("unexpected token: '%s'", t.text)
		}
		like, err := likePattern(t.text)
		if err != nil {
			return nil, err
		}
		return func(r *record) bool { s, ok := get(r).(string); return ok && like.MatchString(s) }, nil
	}
	op := p.take()
	if op.kind != tokSymbol || !slices.Contains([]string{"=", "!=", "<>", "<", "<=", ">", ">="}, op.text) {
		return nil, malformed("unexpected token: '%s'", op.text)
	}
	want, err := p.literal(path)
	if err != nil {
		return nil, err
	}
	return func(r *record) bool {
		got := get(r)
		switch op.text {
		case "=":
			return got == want
		case "!=", "<>":
			return got != want
		}
		c, ok := compare(got, want)
		switch op.text {
		case "<":
			return ok && c < 0
		case "<=":
			return ok && c <= 0
		case ">":
			return ok && c > 0
		}
		return ok && c >= 0
	}, nil
}

// list reads a bracketed list of literals.
func (p *parser) list(path fieldPath) (map[any]bool, error) {
	if !p.symbol("(") {
		return nil, p.unexpected()
	}
	out := map[any]bool{}
	for {
		v, err := p.literal(path)
		if err != nil {
			return nil, err
		}
		out[v] = true
		if p.symbol(")") {
			return out, nil
		}
		if !p.symbol(",") {
			return nil, p.unexpected()
		}
	}
}

// literal reads a value that the field can be compared with, in the form that
// [folded] gives.
func (p *parser) literal(path fieldPath) (any, error) {
	t := p.take()
	if t.kind == tokName && strings.EqualFold(t.text, "null") {
		return nil, nil //nolint:nilnil // SOQL's null
	}
	wrong := &queryError{"INVALID_FIELD", fmt.Sprintf("value of filter criterion for field '%s' must be of type %s", path, path.last.Type)}
	switch path.last.Type {
	case Boolean:
		if t.kind == tokName && (strings.EqualFold(t.text, "true") || strings.EqualFold(t.text, "false")) {
			return strings.EqualFold(t.text, "true"), nil
		}
	case Int, Double:
		if n, err := strconv.ParseFloat(t.text, 64); err == nil && t.kind == tokNumber {
			return n, nil
		}
	case Date:
		if t.kind == tokDate && len(t.text) == len(time.DateOnly) {
			return t.text, nil
		}
	case DateTime:
		if moment, err := time.Parse("2006-01-02T15:04:05.999Z07:00", t.text); err == nil && t.kind == tokDate {
			return stamp(moment), nil
		}
	case ID, Reference:
		if t.kind == tokString && (t.text == "" || idShape.MatchString(t.text)) {
			return fullID(t.text), nil
		}
		if t.kind == tokString {
			return nil, &queryError{"INVALID_QUERY_FILTER_OPERATOR", fmt.Sprintf("invalid ID field: %s", t.text)}
		}
	case Text, Area, Picklist, Combobox, Email, Phone, URL:
		if t.kind == tokString {
			return orNil(strings.ToLower(t.text)), nil
		}
	}
	if t.kind == tokEnd || t.kind == tokSymbol {
		return nil, malformed("unexpected token: '%s'", t.text)
	}
	return nil, wrong
}

// folded returns the value v of f in the form in which values are compared:
// text in lower case. An id keeps its case.
func folded(f *Field, v any) any {
	s, ok := v.(string)
	switch {
	case !ok:
		return v
	case f.Type == ID || f.Type == Reference || f.Type == Date || f.Type == DateTime:
		return s
	}
	return orNil(strings.ToLower(s))
}

func compare(a, b any) (int, bool) {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return strings.Compare(x, y), ok
	case float64:
		y, ok := b.(float64)
		return cmp.Compare(x, y), ok
	}
	return 0, false
}

// likePattern translates a LIKE pattern: % is anything, _ is one character,
// and a backslash before either means the character itself.
func likePattern(s string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString(`(?is)\A`)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && (s[i+1] == '%' || s[i+1] == '_'):
			i++
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		case c == '%':
			b.WriteString(`.*`)
		case c == '_':
			b.WriteString(`.`)
		default:
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, malformed("the LIKE pattern is not understood")
	}
	return re, nil
}

// fieldPath is a field, reached through at most one relationship.
type fieldPath struct {
	through *Field // the reference field; nil: the object's own field
	last    *Field
}

func (f fieldPath) String() string {
	if f.through == nil {
		return f.last.Name
	}
	return f.through.Relation + "." + f.last.Name
}

func (f fieldPath) value(d *store, r *record) any {
	if f.through == nil {
		return r.value(d, f.last.Name)
	}
	other := d.reference(r, f.through.Name)
	if other == nil {
		return nil
	}
	return other.value(d, f.last.Name)
}

// path resolves a field's name as it stands in a query.
func (p *parser) path(name string) (fieldPath, error) {
	parts := strings.Split(name, ".")
	if len(parts) > 1 && strings.EqualFold(parts[0], p.o.name) {
		parts = parts[1:] // "Task.Subject"
	}
	missing := func(column, on string) error {
		return &queryError{"INVALID_FIELD", fmt.Sprintf("No such column '%s' on entity '%s'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name.", column, on)}
	}
	if len(parts) == 1 {
		f := p.o.field(parts[0])
		if f == nil {
			return fieldPath{}, missing(parts[0], p.o.name)
		}
		return fieldPath{last: f}, nil
	}
	through := p.o.relation(parts[0])
	if through == nil || len(parts) > 2 {
		return fieldPath{}, &queryError{"INVALID_FIELD", fmt.Sprintf("Didn't understand relationship '%s' in field path.", parts[0])}
	}
	for _, target := range through.RefersTo {
		if f := p.d.object(target).field(parts[1]); f != nil {
			return fieldPath{through: through, last: f}, nil
		}
	}
	return fieldPath{}, missing(parts[1], through.RefersTo[0])
}

// run returns the records of q, in order. all includes those that are deleted
// or archived.
func (d *store) run(q *query, all bool) []*record {
	var out []*record
	for _, r := range d.order[strings.ToLower(q.object.name)] {
		if !all && (r.deleted || r.archived) {
			continue
		}
		if q.where == nil || q.where(r) {
			out = append(out, r)
		}
	}
	if len(q.order) > 0 {
		d.sort(q, out)
	}
	out = out[min(q.offset, len(out)):]
	if q.limit >= 0 {
		out = out[:min(q.limit, len(out))]
	}
	return out
}

func (d *store) sort(q *query, rs []*record) {
	p := &parser{d: d, o: q.object}
	paths := make([]fieldPath, len(q.order))
	for i, o := range q.order {
		paths[i], _ = p.path(o.field) // was resolved when parsed
	}
	slices.SortStableFunc(rs, func(a, b *record) int {
		for i, o := range q.order {
			f := paths[i].last
			x, y := folded(f, paths[i].value(d, a)), folded(f, paths[i].value(d, b))
			if (x == nil) != (y == nil) {
				if (x == nil) != o.nullsLast {
					return -1
				}
				return 1
			}
			c, _ := compare(x, y)
			if o.desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

// ParseLiteral returns what a string literal of SOQL means, by the rules that
// the fake's queries follow.
func ParseLiteral(s string) (string, error) {
	toks, err := lex(s)
	if err != nil {
		return "", err
	}
	if len(toks) != 2 || toks[0].kind != tokString {
		return "", malformed("not one string literal")
	}
	return toks[0].text, nil
}
