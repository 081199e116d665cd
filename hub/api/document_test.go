package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// operations returns the operations of the served document by "METHOD /path".
func operations(t *testing.T, c *client) map[string]map[string]any {
	t.Helper()
	doc := c.with("").get("/openapi.json").is(http.StatusOK)
	out := map[string]map[string]any{}
	paths, _ := doc.at("/paths").(map[string]any)
	for path, item := range paths {
		for method, op := range item.(map[string]any) {
			out[strings.ToUpper(method)+" "+path] = op.(map[string]any)
		}
	}
	return out
}

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	documents.Lock()
	defer documents.Unlock()
	v := validatorOf(t, c.api)
	if good, errs := v.ValidateDocument(); !good {
		for _, e := range errs {
			t.Errorf("%s: %s %v", e.Message, e.Reason, e.SchemaValidationErrors)
		}
	}
}

func TestDocumentSaysItsVersion(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.with("").get("/openapi.json").is(http.StatusOK).want(map[string]any{
		"/openapi": "3.1.0", "/info/title": "Callbridge", "/info/version": "test", "/components/schemas/ErrorModel": nil,
		"/components/securitySchemes/apiKey/scheme": "bearer",
	})
}

// TestDocumentDescribesEveryRoute holds the document against the table of
// routes, and looks for what a reader would miss.
func TestDocumentDescribesEveryRoute(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	ops := operations(t, c)
	for _, r := range routes() {
		op, found := ops[r.pattern()]
		if !found {
			t.Errorf("%s is not in the document", r.pattern())
			continue
		}
		delete(ops, r.pattern())
		for _, m := range []string{"summary", "description", "operationId"} {
			if s, _ := op[m].(string); len(s) < 4 {
				t.Errorf("%s: no %s", r.pattern(), m)
			}
		}
		if _, secured := op["security"]; secured == r.access.open() {
			t.Errorf("%s: security in the document: %v", r.pattern(), secured)
		}
		if body, has := op["requestBody"]; has != (r.body > 0) {
			t.Errorf("%s: body in the document: %v", r.pattern(), body)
		}
		for _, p := range list0(op["parameters"]) {
			if s, _ := p.(map[string]any)["description"].(string); s == "" {
				t.Errorf("%s: parameter %v is not described", r.pattern(), p)
			}
		}
	}
	for pattern := range ops {
		t.Errorf("%s is in the document and not in the table of routes", pattern)
	}
}

func list0(v any) []any {
	l, _ := v.([]any)
	return l
}

func TestDocumentDescribesEveryMember(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	doc := c.with("").get("/openapi.json").is(http.StatusOK)
	schemas, _ := doc.at("/components/schemas").(map[string]any)
	for name, s := range schemas {
		properties, _ := s.(map[string]any)["properties"].(map[string]any)
		for member, p := range properties {
			if text, _ := p.(map[string]any)["description"].(string); text == "" {
				t.Errorf("%s.%s is not described", name, member)
			}
		}
	}
}

// TestExamplesConform sends every example of the document through the document
// itself.
func TestExamplesConform(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	ops := operations(t, c)
	documents.Lock()
	defer documents.Unlock()
	v := validatorOf(t, c.api)
	for pattern, op := range ops {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{id}", "some-id", "{org}", "org_acme").Replace(path)
		req := httptest.NewRequest(method, "http://localhost"+path, nil)
		if body, ok := op["requestBody"].(map[string]any); ok {
			example := exampleOf(t, pattern, body)
			req = httptest.NewRequest(method, "http://localhost"+path, bytes.NewReader(example))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer cb_x")
			if good, errs := v.ValidateHttpRequestSync(req); !good {
				t.Errorf("%s: the example of the request: %s", pattern, reasons(errs))
			}
		}
		for status, r := range op["responses"].(map[string]any) {
			code, err := strconv.Atoi(status)
			ok(t, err)
			if code >= 300 || code == http.StatusNoContent {
				continue
			}
			example := exampleOf(t, pattern, r.(map[string]any))
			res := &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(example)), Request: req}
			if good, errs := v.ValidateHttpResponse(req, res); !good {
				t.Errorf("%s: the example of the answer: %s", pattern, reasons(errs))
			}
		}
	}
}

func exampleOf(t *testing.T, what string, in map[string]any) []byte {
	t.Helper()
	content, _ := in["content"].(map[string]any)
	media, _ := content["application/json"].(map[string]any)
	if media["example"] == nil {
		t.Errorf("%s: no example in %v", what, in["description"])
	}
	b, err := json.Marshal(media["example"])
	ok(t, err)
	return b
}

func reasons[E error](errs []E) string { return fmt.Sprint(errs) }
