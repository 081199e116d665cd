package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzManagementBodies sends what it likes to every route that takes a body:
// never a 5xx, and always a problem with a code where it is refused.
func FuzzManagementBodies(f *testing.F) {
	w := newWorld(f)
	c := w.replica(withAPI(func(cfg *Config) { cfg.RatePerOrg = 1e9 })).org("org_acme")
	id := c.hookIntegration()
	conn := c.get("/v1/connections").text("/items/0/id")
	var taking []route
	for _, r := range routes() {
		if r.body > 0 && !r.access.open() {
			taking = append(taking, r)
		}
	}
	for i, body := range []string{
		``, `{}`, `null`, `{"role":"admin"}`, `{"state":"active"}`, `{"accepted_terms":"2020-05-01"}`, `{"wait":false}`, `{"as":"resend"}`, callExample,
		`{"calls":[` + callExample + `,1]}`, `{"call":` + callExample + `}`, `{"call_id":"x","resolve":false}`,
		`{"connection_id":"` + conn + `","name":"x","fields":["title","custom.a"],"when":"call.title == 'x'","destination":{"rules":[{"when":"true"}],"otherwise":null},"mapping":{"a":"release.title + 1","b":7,"c":null}}`,
		`{"fields":["title"],"when":null,"expires_after_days":3}`,
		`{"provider":"webhook","url":"https://127.0.0.1/","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`,
		`{"provider":"slack","access_token":"x","expires_in":99999999999999999999}`,
		`{"provider":"salesforce","access_token":"x","instance_url":"https://[::1]:99/"}`,
	} {
		f.Add(uint(i), []byte(body))
		f.Add(uint(i+3), []byte(body))
	}
	f.Fuzz(func(t *testing.T, which uint, body []byte) {
		r := taking[which%uint(len(taking))]
		req := httptest.NewRequest(r.method, strings.ReplaceAll(r.path, "{id}", id), strings.NewReader(string(body)))
		req.Header.Set("Authorization", "Bearer "+c.key)
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		c.api.ServeHTTP(rec, req)
		switch {
		case rec.Code >= 500 && rec.Code != http.StatusBadGateway:
			t.Errorf("%s %q: %d %s", r.pattern(), body, rec.Code, rec.Body)
		case rec.Code >= 400 && (rec.Header().Get("Content-Type") != problemType || !strings.Contains(rec.Body.String(), `"code":"`)):
			t.Errorf("%s %q: %d is no problem: %s", r.pattern(), body, rec.Code, rec.Body)
		}
	})
}

// FuzzRequests sends any method, path, query and key.
func FuzzRequests(f *testing.F) {
	c := newWorld(f).replica(withAPI(func(cfg *Config) { cfg.RatePerOrg, cfg.FailuresPerAddress = 1e9, 1e9 })).org("org_acme")
	for _, r := range routes() {
		f.Add(r.method, r.path, "limit=1&cursor=x", true, "es")
	}
	f.Add("GET", "/v1/transfers", "cursor=1~tr_x&state=dead", true, "")
	f.Add("GET", "/v1/audit", "after=1-0&type=transfer.", true, "")
	f.Add("OPTIONS", "//v1//..", "%zz", false, ";")
	f.Fuzz(func(t *testing.T, method, path, query string, withKey bool, lang string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Method, req.URL.Path, req.URL.RawQuery = method, path, query
		req.Header["Accept-Language"] = []string{lang}
		if withKey {
			req.Header.Set("Authorization", "Bearer "+c.key)
		}
		rec := httptest.NewRecorder()
		c.api.ServeHTTP(rec, req)
		if rec.Code >= 500 {
			t.Errorf("%s %q ? %q: %d %s", method, path, query, rec.Code, rec.Body)
		}
		if rec.Code >= 400 && rec.Header().Get("Content-Type") != problemType {
			t.Errorf("%s %q ? %q: %d is no problem: %s", method, path, query, rec.Code, rec.Body)
		}
	})
}
