package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/optiwe/callbridge/hub"
)

// readBody reads the request's body, at most limit bytes. What says that it is
// larger is not read at all.
func readBody(x *exchange, limit int64) ([]byte, error) {
	r := x.r
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	if r.ContentLength == 0 {
		return nil, nil
	}
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(x.w, r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, err
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return nil, newProblem(http.StatusRequestTimeout, codeTimeout, "The body took too long to arrive. Send it again.")
	}
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, codeBodyBroken, "The body ended before it was complete. Send it again.")
	}
	return buf.Bytes(), nil
}

// checkMediaType refuses a body that says it is no JSON in UTF-8. One that says
// nothing is taken for JSON.
func checkMediaType(h http.Header) error {
	wrong := newProblem(http.StatusUnsupportedMediaType, codeMediaType, "The body must be JSON in UTF-8, not compressed: Content-Type: application/json.")
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return wrong
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(ct)
	if err != nil {
		return wrong
	}
	isJSON := mediaType == "application/json" || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
	if charset := params["charset"]; !isJSON || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return wrong
	}
	return nil
}

// maxDepth is how many objects and lists may be inside each other, in bodies
// other than calls.
const maxDepth = 32

// parse reads a JSON document into maps, slices, strings, [json.Number]s, bools
// and nil. Unlike encoding/json it refuses members that occur twice, NUL in
// texts, and what is nested deeper than [maxDepth]. The error is a *problem.
func parse(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, malformed("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	p := parser{body: body, d: d}
	v := p.value("", 0)
	if p.err == nil {
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			p.err = malformed("something follows it")
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	if len(p.wrong) > 0 {
		return nil, invalidInput(p.wrong...)
	}
	return v, nil
}

// parser keeps the first error, after which nothing is read any more.
type parser struct {
	body  []byte
	d     *json.Decoder
	wrong []hub.FieldError
	err   error
}

func (p *parser) fail(pointer, detail string) {
	if len(p.wrong) < hub.MaxFieldErrors {
		p.wrong = append(p.wrong, hub.FieldError{Pointer: pointer, Detail: detail})
	}
}

func (p *parser) token() json.Token {
	if p.err != nil {
		return nil
	}
	t, err := p.d.Token()
	if err != nil {
		detail := "it ends too early"
		if e, ok := errors.AsType[*json.SyntaxError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) {
			detail = "there is a mistake at byte " + strconv.FormatInt(e.Offset, 10)
		}
		p.err = malformed(detail)
	}
	return t
}

func (p *parser) value(pointer string, depth int) any {
	switch t := p.token().(type) {
	case json.Delim:
		if depth == maxDepth {
			p.err = wrongBody(p.body, []hub.FieldError{{Pointer: pointer, Detail: "is nested too deep"}})
			return nil
		}
		if t == '{' {
			return p.object(pointer, depth+1)
		}
		return p.list(pointer, depth+1)
	case string:
		if strings.ContainsRune(t, 0) {
			p.fail(pointer, "must not contain NUL")
		}
		return t
	default:
		return t
	}
}

func (p *parser) object(pointer string, depth int) any {
	out := map[string]any{}
	for p.err == nil && p.d.More() {
		name, ok := p.token().(string)
		if !ok {
			break
		}
		at := pointer + "/" + escapePointer(name)
		v := p.value(at, depth)
		if _, twice := out[name]; twice {
			p.fail(at, "occurs more than once")
		}
		out[name] = v
	}
	p.token()
	return out
}

func (p *parser) list(pointer string, depth int) any {
	out := []any{}
	for p.err == nil && p.d.More() {
		out = append(out, p.value(pointer+"/"+strconv.Itoa(len(out)), depth))
	}
	p.token()
	return out
}
