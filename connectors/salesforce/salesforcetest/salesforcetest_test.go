package salesforcetest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// caller is a client of the fake with a token.
type caller struct {
	t     *testing.T
	s     *Server
	token string
}

func newCaller(t *testing.T, o ...Options) *caller {
	t.Helper()
	s := New(t, o...)
	return &caller{t, s, s.AccessToken()}
}

// do makes a call and returns status, header and body. A path without a leading
// slash is one of the data API.
func (c *caller) do(method, path string, body any) (int, http.Header, string) {
	c.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		in = bytes.NewReader(j)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/services/data/v67.0/" + path
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.s.URL+path, in)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return resp.StatusCode, resp.Header, string(b)
}

// want makes a call and checks its status and that the body holds a text.
func (c *caller) want(status int, holds, method, path string, body any) string {
	c.t.Helper()
	got, _, text := c.do(method, path, body)
	if got != status || !strings.Contains(text, holds) {
		c.t.Errorf("%s %s = %d %.300s, want %d with %q", method, path, got, text, status, holds)
	}
	return text
}

func (c *caller) query(q string) (names []string, failure string) {
	c.t.Helper()
	status, _, text := c.do(http.MethodGet, "query?q="+url.QueryEscape(q), nil)
	if status != http.StatusOK {
		var errs []struct{ ErrorCode string }
		if err := json.Unmarshal([]byte(text), &errs); err != nil || len(errs) != 1 {
			c.t.Fatalf("%s: %d %s", q, status, text)
		}
		return nil, errs[0].ErrorCode
	}
	var res struct {
		TotalSize int
		Done      bool
		Records   []struct{ Name, Subject string }
	}
	if err := json.Unmarshal([]byte(text), &res); err != nil {
		c.t.Fatal(err)
	}
	names = []string{}
	for _, r := range res.Records {
		names = append(names, r.Name+r.Subject)
	}
	return names, ""
}

func (c *caller) form(path string, v url.Values) (int, map[string]string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.s.URL+path, strings.NewReader(v.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]string{}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			c.t.Fatalf("%s: %s", path, b)
		}
	}
	return resp.StatusCode, out
}

func TestTokens(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	id, secret := c.s.ClientCredentials()
	refresh := func(token string) (int, map[string]string) {
		return c.form("/services/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {id}, "client_secret": {secret}, "refresh_token": {token}})
	}
	c.want(200, "DailyApiRequests", "GET", "limits", nil)
	c.s.ExpireTokens()
	c.want(401, `[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`, "GET", "limits", nil)
	first := c.s.RefreshToken()
	status, got := refresh(first)
	if status != 200 || got["token_type"] != "Bearer" || got["instance_url"] != c.s.URL || got["expires_in"] != "" || got["refresh_token"] == first {
		t.Fatalf("refresh = %d %v", status, got)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(got["id"] + got["issued_at"]))
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); got["signature"] != want {
		t.Errorf("signature %q, want %q", got["signature"], want)
	}
	if len(got["issued_at"]) != 13 {
		t.Errorf("issued_at %q is not in milliseconds", got["issued_at"])
	}
	c.token = got["access_token"]
	c.want(200, "", "GET", "limits", nil)
	// The token that was used comes back: everything of the grant dies.
	if status, got := refresh(first); status != 400 || got["error"] != "invalid_grant" {
		t.Errorf("reuse = %d %v", status, got)
	}
	c.want(401, "", "GET", "limits", nil)
	if status, _ := refresh(got["refresh_token"]); status != 400 {
		t.Errorf("the grant lives after a reuse: %d", status)
	}
	_, other := c.s.Authorize()
	for name, v := range map[string]url.Values{
		"unsupported_grant_type": {"grant_type": {"password"}},
		"invalid_client_id":      {"grant_type": {"refresh_token"}, "client_id": {"x"}, "client_secret": {secret}, "refresh_token": {other}},
		"invalid_client":         {"grant_type": {"refresh_token"}, "client_id": {id}, "client_secret": {"x"}, "refresh_token": {other}},
		"invalid_grant":          {"grant_type": {"refresh_token"}, "client_id": {id}, "client_secret": {secret}, "refresh_token": {""}},
	} {
		if status, got := c.form("/services/oauth2/token", v); status != 400 || got["error"] != name {
			t.Errorf("%s: %d %v", name, status, got)
		}
	}
	if status, _ := refresh(other); status != 200 {
		t.Errorf("a refused refresh used the token up: %d", status)
	}
}

func TestRefreshWithoutRotation(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{KeepRefreshToken: true})
	id, secret := c.s.ClientCredentials()
	for range 2 {
		status, got := c.form("/services/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {id}, "client_secret": {secret}, "refresh_token": {c.s.RefreshToken()}})
		if _, rotated := got["refresh_token"]; status != 200 || rotated {
			t.Errorf("refresh = %d %v", status, got)
		}
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	access, refresh := c.s.Authorize()
	if status, _ := c.form("/services/oauth2/revoke", url.Values{"token": {c.token}}); status != 200 {
		t.Errorf("revoke an access token = %d", status)
	}
	c.want(401, "INVALID_SESSION_ID", "GET", "limits", nil)
	if status, got := c.form("/services/oauth2/revoke", url.Values{"token": {c.token}}); status != 400 || got["error"] != "invalid_token" {
		t.Errorf("revoke again = %d %v", status, got)
	}
	c.token = access
	c.want(200, "", "GET", "limits", nil)
	if status, _ := c.form("/services/oauth2/revoke", url.Values{"token": {refresh}}); status != 200 {
		t.Errorf("revoke a refresh token = %d", status)
	}
	c.want(401, "", "GET", "limits", nil)
	c.token = ""
	c.want(401, "", "GET", "limits", nil)
}

func TestUserInfo(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.want(200, "", "GET", "/services/oauth2/userinfo", nil)
	if text := c.want(200, c.s.OrgID(), "GET", "/services/oauth2/userinfo", nil); !strings.Contains(text, c.s.UserID()) {
		t.Errorf("userinfo = %s", text)
	}
	c.token = "x"
	c.want(403, "Bad_OAuth_Token", "GET", "/services/oauth2/userinfo", nil)
}

func TestVersions(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.want(200, `"version":"67.0"`, "GET", "/services/data", nil)
	c.want(200, "sobjects", "GET", "", nil)
	c.want(404, "NOT_FOUND", "GET", "/services/data/v99.0/limits", nil)
	c.want(410, "GONE", "GET", "/services/data/v20.0/limits", nil)
	c.want(404, "NOT_FOUND", "GET", "nowhere", nil)
	c.want(404, "NOT_FOUND", "GET", "sobjects/Nothing", nil)
	c.want(414, "", "GET", "query?q="+strings.Repeat("x", 17_000), nil)
}

func TestAllowance(t *testing.T) {
	t.Parallel()
	c := newCaller(t, Options{DailyLimit: 3})
	_, h, _ := c.do("GET", "limits", nil)
	if got := h.Get("Sforce-Limit-Info"); got != "api-usage=1/3" {
		t.Errorf("Sforce-Limit-Info = %q", got)
	}
	c.want(200, `"Remaining":1`, "GET", "limits", nil)
	c.want(200, "", "GET", "limits", nil)
	c.want(403, "REQUEST_LIMIT_EXCEEDED", "GET", "limits", nil)
	c.s.SetUsed(0)
	c.want(200, `"Remaining":2`, "GET", "limits", nil)
	if got := c.s.Calls()["limits"]; got != 5 {
		t.Errorf("%d calls were logged, want 5", got)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	nw := c.s.AddAccount("Northwind", "https://northwind.example")
	c.s.AddAccount("O'Neill \\ Sons", "100%_sure.example")
	c.s.AddAccount("Zürich AG", "")
	c.s.AddContact(Person{First: "Priya", Last: "Shah", Email: "priya@northwind.example", Account: nw})
	c.s.AddContact(Person{Last: "Loner", Email: "loner@x.example"})
	for q, want := range map[string][]string{
		"SELECT Name FROM Account WHERE Name = 'NORTHWIND'":                                                              {"Northwind"},
		`SELECT Name FROM Account WHERE Name = 'O\'Neill \\ Sons'`:                                                       {`O'Neill \ Sons`},
		`SELECT Name FROM Account WHERE Name = 'Z\u00fcrich AG'`:                                                         {"Zürich AG"},
		"SELECT Name FROM Account WHERE Name IN ('x','Northwind') OR Name = 'zürich ag'":                                 {"Northwind", "Zürich AG"},
		"SELECT Name FROM Account WHERE Name NOT IN ('Northwind') AND (NOT Name = 'x')":                                  {`O'Neill \ Sons`, "Zürich AG"},
		"SELECT Name FROM Account WHERE Website LIKE '%north%'":                                                          {"Northwind"},
		"SELECT Name FROM Account WHERE Website LIKE '100\\%\\_%'":                                                       {`O'Neill \ Sons`},
		"SELECT Name FROM Account WHERE Website LIKE '100\\%_'":                                                          {},
		"SELECT Name FROM Account WHERE Website = null":                                                                  {"Zürich AG"},
		"SELECT Name FROM Account WHERE Website != null ORDER BY Name DESC":                                              {`O'Neill \ Sons`, "Northwind"},
		"SELECT Name FROM Account ORDER BY Website NULLS LAST, Name LIMIT 2":                                             {`O'Neill \ Sons`, "Northwind"},
		"SELECT Name FROM Account ORDER BY Name LIMIT 1 OFFSET 1":                                                        {`O'Neill \ Sons`},
		"select name from account where id = '" + nw[:15] + "'":                                                          {"Northwind"},
		"SELECT Name, Account.Name FROM Contact WHERE Account.Name = 'northwind'":                                        {"Priya Shah"},
		"SELECT Name, Account.Name FROM Contact WHERE AccountId = null":                                                  {"Loner"},
		"SELECT Contact.Name FROM Contact WHERE IsDeleted = false AND CreatedDate > 2020-01-01T00:00:00Z ORDER BY Email": {"Loner", "Priya Shah"},
	} {
		got, failure := c.query(q)
		if diff := cmp.Diff(want, got); diff != "" || failure != "" {
			t.Errorf("%s: %s (-want +got):\n%s", q, failure, diff)
		}
	}
	for q, want := range map[string]string{
		"": "MALFORMED_QUERY", "SELECT": "MALFORMED_QUERY", "SELECT Name Account": "MALFORMED_QUERY", "SELECT * FROM Account": "MALFORMED_QUERY",
		"SELECT Name FROM Account WHERE": "MALFORMED_QUERY", "SELECT Name FROM Account WHERE Name = ": "MALFORMED_QUERY",
		"SELECT Name FROM Account WHERE Name = 'O'Neill'":                     "MALFORMED_QUERY",
		`SELECT Name FROM Account WHERE Name = 'a\'`:                          "MALFORMED_QUERY",
		`SELECT Name FROM Account WHERE Name = 'a\q'`:                         "MALFORMED_QUERY",
		"SELECT Name FROM Account WHERE Name = 'a\nb'":                        "MALFORMED_QUERY",
		"SELECT Name FROM Account WHERE Name IN ()":                           "MALFORMED_QUERY",
		"SELECT Name FROM Account WHERE Name = 'a' AND Name = 'b' OR Id = ''": "MALFORMED_QUERY",
		"SELECT Name FROM Account LIMIT x":                                    "MALFORMED_QUERY",
		"SELECT Name FROM Account; DROP":                                      "MALFORMED_QUERY",
		"SELECT Name, Name FROM Account":                                      "MALFORMED_QUERY",
		"SELECT Nothing FROM Account":                                         "INVALID_FIELD",
		"SELECT Name FROM Account WHERE Nothing = 1":                          "INVALID_FIELD",
		"SELECT Name FROM Account WHERE Name = 1":                             "INVALID_FIELD",
		"SELECT Id FROM Task WHERE Description = 'x'":                         "INVALID_FIELD",
		"SELECT Who2.Name FROM Task":                                          "INVALID_FIELD",
		"SELECT Name FROM Nothing":                                            "INVALID_TYPE",
		"SELECT Name FROM Account WHERE Id = 'x'":                             "INVALID_QUERY_FILTER_OPERATOR",
		"SELECT Name FROM Account WHERE " + strings.Repeat("(", 60) + "Name = 'x'" + strings.Repeat(")", 60): "MALFORMED_QUERY",
	} {
		if got, failure := c.query(q); failure != want {
			t.Errorf("%s = %v %s, want %s", q, got, failure, want)
		}
	}
	c.want(200, `"totalSize":3`, "GET", "query?q="+url.QueryEscape("SELECT COUNT() FROM Account"), nil)
	c.want(405, "METHOD_NOT_ALLOWED", "POST", "query?q=SELECT", nil)
}

func TestQueryPages(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	for i := range 4500 {
		c.s.AddAccount(fmt.Sprintf("Account %04d", i), "")
	}
	next := "query?q=" + url.QueryEscape("SELECT Name FROM Account ORDER BY Name")
	total := 0
	for pages := 1; ; pages++ {
		var res struct {
			TotalSize      int
			Done           bool
			NextRecordsURL string `json:"nextRecordsUrl"`
			Records        []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(c.want(200, "", "GET", next, nil)), &res); err != nil {
			t.Fatal(err)
		}
		total += len(res.Records)
		if res.Done {
			if pages != 3 || total != 4500 || res.TotalSize != 4500 {
				t.Errorf("%d rows on %d pages", total, pages)
			}
			break
		}
		next = strings.TrimPrefix(res.NextRecordsURL, "/services/data/v67.0/")
	}
	c.want(400, "INVALID_QUERY_LOCATOR", "GET", "query/01gnothing-2000", nil)
}

func task(more ...any) map[string]any {
	m := map[string]any{"attributes": map[string]string{"type": "Task"}, "Subject": "Call"}
	for i := 0; i < len(more); i += 2 {
		name, _ := more[i].(string)
		m[name] = more[i+1]
	}
	return m
}

func records(rows ...map[string]any) map[string]any { return map[string]any{"records": rows} }

func TestTaskRules(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	contact := c.s.AddContact(Person{Last: "Shah"})
	lead := c.s.AddLead(Person{Last: "Lee"})
	account := c.s.AddAccount("Northwind", "")
	gone := c.s.AddContact(Person{Last: "Gone"})
	c.s.Delete(gone)
	user := c.s.AddUser("Dana", "dana@acme.example")
	inactive := c.s.AddUser("Old", "old@acme.example")
	c.s.Deactivate(inactive)
	for name, row := range map[string]struct {
		fields map[string]any
		code   string // "" is success
	}{
		"plain":               {task("Status", "Completed", "TaskSubtype", "Call", "CallType", "Inbound", "CallDurationInSeconds", 60, "ActivityDate", "2026-11-20"), ""},
		"linked":              {task("WhoId", contact, "WhatId", account, "OwnerId", user), ""},
		"short id":            {task("WhoId", contact[:15]), ""},
		"lead":                {task("WhoId", lead), ""},
		"lead and account":    {task("WhoId", lead, "WhatId", account), "FIELD_INTEGRITY_EXCEPTION"},
		"account as who":      {task("WhoId", account), "FIELD_INTEGRITY_EXCEPTION"},
		"no such contact":     {task("WhoId", "003000000000001AAA"), "INVALID_CROSS_REFERENCE_KEY"},
		"deleted contact":     {task("WhoId", gone), "INVALID_CROSS_REFERENCE_KEY"},
		"not an id":           {task("WhoId", "Priya"), "MALFORMED_ID"},
		"inactive owner":      {task("OwnerId", inactive), "INACTIVE_OWNER_OR_USER"},
		"long subject":        {task("Subject", strings.Repeat("x", 256)), "STRING_TOO_LONG"},
		"longest subject":     {task("Subject", strings.Repeat("é", 255)), ""},
		"emoji count twice":   {task("Subject", strings.Repeat("👍", 128)), "STRING_TOO_LONG"},
		"long description":    {task("Description", strings.Repeat("x", 32001)), "STRING_TOO_LONG"},
		"call type":           {task("CallType", "Sideways"), "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"},
		"any status":          {task("Status", "Our own"), ""},
		"duration":            {task("CallDurationInSeconds", 100_000_000), "NUMBER_OUTSIDE_VALID_RANGE"},
		"duration as text":    {task("CallDurationInSeconds", "60"), "INVALID_TYPE_ON_FIELD_IN_RECORD"},
		"date with time":      {task("ActivityDate", "2026-11-20T10:00:00Z"), "INVALID_TYPE_ON_FIELD_IN_RECORD"},
		"read-only":           {task("IsClosed", true), "INVALID_FIELD_FOR_INSERT_UPDATE"},
		"id in an insert":     {task("Id", "00Tbn0000000001AAA"), "INVALID_FIELD_FOR_INSERT_UPDATE"},
		"required of account": {map[string]any{"attributes": map[string]string{"type": "Account"}, "Website": "x"}, "REQUIRED_FIELD_MISSING"},
		"e-mail":              {map[string]any{"attributes": map[string]string{"type": "Contact"}, "LastName": "x", "Email": "nobody"}, "INVALID_EMAIL_ADDRESS"},
	} {
		text := c.want(200, "", "POST", "composite/sobjects", records(row.fields))
		want := `"statusCode":"` + row.code + `"`
		if row.code == "" {
			want = `"success":true`
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %s", name, text, want)
		}
	}
	for _, r := range c.s.Tasks() {
		if r.Fields["OwnerId"] == nil || r.Fields["Priority"] != "Normal" || r.Fields["Status"] == nil {
			t.Errorf("a task without its defaults: %v", r.Fields)
		}
	}
}

func TestCollections(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	many := make([]map[string]any, 201)
	for i := range many {
		many[i] = task()
	}
	c.want(400, "EXCEEDED_ID_LIMIT", "POST", "composite/sobjects", records(many...))
	c.want(200, `"success":true`, "POST", "composite/sobjects", records(many[:200]...))
	c.want(400, "INVALID_FIELD", "POST", "composite/sobjects", records(task(), task("Nothing__c", 1)))
	c.want(400, "INVALID_TYPE", "POST", "composite/sobjects", records(map[string]any{"attributes": map[string]string{"type": "Nothing"}}))
	c.want(400, "INVALID_INPUT", "POST", "composite/sobjects", records(map[string]any{"Subject": "x"}))
	c.want(400, "INVALID_INPUT", "POST", "composite/sobjects", `{}`)
	c.want(400, "JSON_PARSER_ERROR", "POST", "composite/sobjects", `{"records":[null]}`)
	c.want(400, "JSON_PARSER_ERROR", "POST", "composite/sobjects", `nonsense`)
	c.want(405, "METHOD_NOT_ALLOWED", "PUT", "composite/sobjects", records(task()))
	if got := len(c.s.Tasks()); got != 200 {
		t.Fatalf("%d tasks, want 200", got)
	}

	upsert := "composite/sobjects/Task/" + ExternalIDField
	c.want(404, "NOT_FOUND", "PATCH", "composite/sobjects/Task/Subject", records(task(ExternalIDField, "a")))
	c.want(200, `"created":true`, "PATCH", upsert, records(task(ExternalIDField, "a")))
	c.want(200, `"created":false`, "PATCH", upsert, records(task(ExternalIDField, "A")))
	text := c.want(200, "DUPLICATE_VALUE", "PATCH", upsert, records(task(ExternalIDField, "b"), task(ExternalIDField, "b")))
	if strings.Count(text, `"success":true`) != 1 {
		t.Errorf("duplicate external ids: %s", text)
	}
	c.want(200, "MISSING_ARGUMENT", "PATCH", upsert, records(task()))
	c.want(200, "INVALID_FIELD_FOR_INSERT_UPDATE", "PATCH", upsert, records(task(ExternalIDField, "c", "Id", "00Tbn0000000001AAA")))
	c.want(200, "TaskSubtype", "PATCH", upsert, records(task(ExternalIDField, "a", "TaskSubtype", "Call")))
	c.want(200, "DUPLICATE_VALUE", "POST", "composite/sobjects", records(task(ExternalIDField, "a")))

	a := c.s.TasksOf("a")[0]
	if a.Writes != 2 {
		t.Errorf("a was written %d times", a.Writes)
	}
	c.want(200, `"success":true`, "PATCH", "composite/sobjects", records(task("id", a.ID, "Subject", "changed", "Description", nil)))
	c.want(200, "MISSING_ARGUMENT", "PATCH", "composite/sobjects", records(task()))
	c.want(200, "INVALID_CROSS_REFERENCE_KEY", "PATCH", "composite/sobjects", records(task("Id", "00Tbn0000zzzzzzAAA")))
	c.want(200, "MALFORMED_ID", "PATCH", "composite/sobjects", records(task("Id", "nonsense")))
	if got, _ := c.s.Record(a.ID); got.Text("Subject") != "changed" {
		t.Errorf("a = %v", got.Fields)
	}

	rolled := records(task(ExternalIDField, "d"), task(ExternalIDField, "a", "CallType", "Sideways"))
	rolled["allOrNone"] = true
	text = c.want(200, "ALL_OR_NONE_OPERATION_ROLLED_BACK", "PATCH", upsert, rolled)
	if len(c.s.TasksOf("d")) != 0 || !strings.Contains(text, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST") {
		t.Errorf("allOrNone: %s", text)
	}
	c.want(200, `"created":true`, "PATCH", upsert, records(task(ExternalIDField, "d")))

	c.want(200, `null`, "POST", "composite/sobjects/Task", map[string]any{"ids": []string{a.ID, "00Tbn0000zzzzzzAAA"}, "fields": []string{"subject"}})
	c.want(200, `"Subject":"changed"`, "GET", "composite/sobjects/Task?fields=Id,Subject&ids="+a.ID, nil)
	c.want(400, "INVALID_FIELD", "GET", "composite/sobjects/Task?fields=Nope&ids="+a.ID, nil)
	text = c.want(200, `"success":true`, "DELETE", "composite/sobjects?ids="+a.ID+",00Tbn0000zzzzzzAAA", nil)
	if !strings.Contains(text, "INVALID_CROSS_REFERENCE_KEY") {
		t.Errorf("delete: %s", text)
	}
	c.want(200, "ENTITY_IS_DELETED", "DELETE", "composite/sobjects?ids="+a.ID, nil)
	c.want(200, "ENTITY_IS_DELETED", "PATCH", "composite/sobjects", records(task("Id", a.ID)))
	c.want(200, `null`, "GET", "composite/sobjects/Task?fields=Id&ids="+a.ID, nil)
	c.want(200, `"created":true`, "PATCH", upsert, records(task(ExternalIDField, "a"))) // a deleted record is not found
}

func TestDeletedAndArchived(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	ids := map[string]string{}
	for _, key := range []string{"live", "deleted", "archived"} {
		c.want(200, `"created":true`, "PATCH", "composite/sobjects/Task/"+ExternalIDField, records(task(ExternalIDField, key, "Subject", key)))
		ids[key] = c.s.TasksOf(key)[0].ID
	}
	c.s.Delete(ids["deleted"])
	c.s.Archive(ids["archived"])
	if got, _ := c.query("SELECT Subject FROM Task"); !cmp.Equal(got, []string{"live"}) {
		t.Errorf("query sees %v", got)
	}
	text := c.want(200, `"totalSize":3`, "GET", "queryAll?q="+url.QueryEscape("SELECT Subject, IsDeleted, IsArchived FROM Task"), nil)
	if strings.Count(text, `"IsDeleted":true`) != 1 || strings.Count(text, `"IsArchived":true`) != 1 {
		t.Errorf("queryAll: %s", text)
	}
	c.want(200, "DUPLICATE_VALUE", "PATCH", "composite/sobjects/Task/"+ExternalIDField, records(task(ExternalIDField, "archived")))
	c.want(200, `"success":true`, "PATCH", "composite/sobjects", records(task("Id", ids["archived"])))
	c.s.Purge(ids["deleted"])
	c.want(200, `"totalSize":2`, "GET", "queryAll?q="+url.QueryEscape("SELECT Id FROM Task"), nil)
}

func TestSingleRecords(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.s.AddField("Task", Field{Name: "Loose__c", Type: Text, Length: 80, ExternalID: true})
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(c.want(201, `"success":true`, "POST", "sobjects/Task", map[string]any{"Subject": "x", "Loose__c": "a/b?c#d"})), &made); err != nil {
		t.Fatal(err)
	}
	c.want(400, "STRING_TOO_LONG", "POST", "sobjects/Task", map[string]any{"Subject": strings.Repeat("x", 300)})
	c.want(400, "INVALID_FIELD", "POST", "sobjects/Task", map[string]any{"Nope": 1})
	c.want(200, `"Subject":"x"`, "GET", "sobjects/Task/"+made.ID, nil)
	c.want(204, "", "PATCH", "sobjects/Task/"+made.ID, map[string]any{"Subject": "y"})
	c.want(400, "INVALID_TYPE_ON_FIELD", "PATCH", "sobjects/Task/"+made.ID, map[string]any{"Subject": 1})
	path := "sobjects/Task/Loose__c/"
	c.want(200, `"created":false`, "PATCH", path+"a%2Fb%3Fc%23d", map[string]any{"Subject": "z"})
	c.want(200, `"Subject":"z"`, "GET", path+"a%2Fb%3Fc%23d", nil)
	c.want(404, "NOT_FOUND", "PATCH", path+"new?updateOnly=true", map[string]any{"Subject": "n"})
	c.want(201, `"created":true`, "PATCH", path+"new", map[string]any{"Subject": "n"})
	c.want(400, "INVALID_FIELD", "PATCH", path+"new", map[string]any{"Loose__c": "new"})
	c.want(404, "NOT_FOUND", "GET", path+"nothing", nil)
	c.want(201, "", "POST", "sobjects/Task", map[string]any{"Subject": "twin", "Loose__c": "new"})
	c.want(300, "/services/data/v67.0/sobjects/Task/00T", "PATCH", path+"new", map[string]any{"Subject": "which"})
	c.want(200, "DUPLICATE_EXTERNAL_ID", "PATCH", "composite/sobjects/Task/Loose__c", records(task("Loose__c", "new")))
	c.want(204, "", "DELETE", "sobjects/Task/"+made.ID, nil)
	c.want(404, "ENTITY_IS_DELETED", "DELETE", "sobjects/Task/"+made.ID, nil)
	c.want(404, "NOT_FOUND", "GET", "sobjects/Task/00Tbn0000zzzzzzAAA", nil)
	text := c.want(200, `"name":"CallType"`, "GET", "sobjects/Task/describe", nil)
	for _, want := range []string{`"restrictedPicklist":true`, `"externalId":true`, `"length":32000`} {
		if !strings.Contains(text, want) {
			t.Errorf("describe lacks %s", want)
		}
	}
	c.want(200, `"Opportunity"`, "GET", "sobjects", nil)
}

func TestDerivedFields(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	account := c.s.AddAccount("Northwind", "")
	contact := c.s.AddContact(Person{First: "Priya", Last: "Shah", Account: account})
	deal := c.s.AddOpportunity("Deal", account, "Proposal", "2026-12-31")
	for _, fields := range []map[string]any{{"WhoId": contact}, {"WhatId": deal}, {"WhatId": account}} {
		fields["Status"] = "Completed"
		id, err := c.s.Add("Task", fields)
		if err != nil {
			t.Fatal(err)
		}
		c.want(200, `"AccountId":"`+account+`"`, "GET", "sobjects/Task/"+id+"?fields=AccountId", nil)
		c.want(200, `"IsClosed":true`, "GET", "sobjects/Task/"+id+"?fields=IsClosed", nil)
	}
}

func TestFullID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"000000000000000": "000000000000000AAA", "A00000000000000": "A00000000000000BAA", "AAAAAaaaaaAAAAA": "AAAAAaaaaaAAAAA5A5",
	} {
		if got := fullID(id); got != want {
			t.Errorf("fullID(%s) = %s, want %s", id, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for f, want := range map[Fault]struct {
		status int // 0: no answer
		holds  string
		did    bool
	}{
		RateLimit:   {403, "REQUEST_LIMIT_EXCEEDED", false},
		Outage:      {503, "SERVER_UNAVAILABLE", false},
		ServerError: {500, "UNKNOWN_EXCEPTION", true},
		BadToken:    {401, "INVALID_SESSION_ID", false},
		Revoked:     {403, "ORG_LOCKED", false},
		BadMessage:  {200, "FIELD_CUSTOM_VALIDATION_EXCEPTION", false},
		CutBefore:   {0, "", false},
		CutAfter:    {0, "", true},
		Huge:        {200, strings.Repeat(" ", 64<<20), true},
		Nonsense:    {200, "<!DOCTYPE html>", true},
		EmptyOK:     {200, "[]", false},
		Redirect:    {302, "", false},
	} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			c := newCaller(t)
			c.s.Inject(f, 1)
			status, h, text := c.do("POST", "composite/sobjects", records(task()))
			if status != want.status || (status != 0 && !strings.Contains(text, want.holds)) {
				t.Errorf("%d %.200s, want %d %.200s", status, text, want.status, want.holds)
			}
			if f == Redirect && !strings.HasPrefix(h.Get("Location"), "https://elsewhere.example/") {
				t.Errorf("Location = %q", h.Get("Location"))
			}
			if did := len(c.s.Tasks()) == 1; did != want.did {
				t.Errorf("the work was done: %v", did)
			}
			c.want(200, `"success":true`, "POST", "composite/sobjects", records(task())) // healed after one
			c.s.Inject(f, -1)
			c.s.Inject(f, 0)
			c.want(200, `"success":true`, "POST", "composite/sobjects", records(task()))
		})
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		c := newCaller(t)
		c.s.Inject(Slow, 1)
		client := &http.Client{Timeout: 200 * time.Millisecond}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.s.URL+"/services/data/v67.0/sobjects/Task", strings.NewReader(`{"Subject":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.token)
		if resp, err := client.Do(r); err == nil {
			resp.Body.Close()
			t.Error("a slow server answered")
		}
		if len(c.s.Tasks()) != 1 {
			t.Error("the work was not done")
		}
	})
}

func TestConcurrentUpserts(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for batch := range 5 {
				rows := make([]map[string]any, 200)
				for i := range rows {
					rows[i] = task(ExternalIDField, fmt.Sprintf("k%d-%d", batch, i), "Subject", fmt.Sprintf("by %d", g))
				}
				c.do("PATCH", "composite/sobjects/Task/"+ExternalIDField, records(rows...))
				c.query("SELECT Subject FROM Task LIMIT 5")
			}
		})
	}
	wg.Wait()
	if got := len(c.s.Tasks()); got != 1000 {
		t.Errorf("%d tasks, want 1,000", got)
	}
	if got := c.s.Calls(); got["upsert"] != 40 || got["query"] != 40 {
		t.Errorf("calls %v", got)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	account := c.s.AddAccount("Northwind <b>Traders</b>", "northwind.example")
	contact := c.s.AddContact(Person{First: "Priya", Last: "Shah", Title: "VP", Account: account})
	deal := c.s.AddOpportunity("Rollout", account, "Proposal", "2026-12-31")
	id, err := c.s.Add("Task", map[string]any{
		"Subject": "Discovery <script>alert(1)</script>", "Description": "First paragraph.\n\nSecond & last.", "Status": "Completed", "TaskSubtype": "Call",
		"CallType": "Outbound", "CallDurationInSeconds": 1860.0, "ActivityDate": "2026-11-20", "WhoId": contact, "WhatId": deal, "CallDisposition": "Connected",
	})
	if err != nil {
		t.Fatal(err)
	}
	c.token = "" // pages need none
	for path, holds := range map[string][]string{
		"/":                                 {"Discovery &lt;script&gt;", "31 min", "Priya Shah", "Rollout", "First paragraph."},
		"/lightning/r/Task/" + id + "/view": {"Second &amp; last.", "Integration User", "Completed", "20 Nov 2026", "31 min (1860 s)"},
		"/lightning/r/Account/" + account + "/view":      {"Northwind &lt;b&gt;", "Discovery", "Priya Shah"},
		"/lightning/r/Contact/" + contact[:15] + "/view": {"Discovery", "VP"},
		"/lightning/r/Opportunity/" + deal + "/view":     {"Discovery", "Proposal"},
		"/lightning/o/Task/list":                         {"1 record<", "Discovery"},
		"/style.css":                                     {"prefers-color-scheme: dark"},
	} {
		status, h, text := c.do("GET", path, nil)
		if status != 200 {
			t.Errorf("%s = %d", path, status)
		}
		for _, want := range holds {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not hold %q", path, want)
			}
		}
		if strings.Contains(text, "<script") || (path != "/style.css" && !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'")) {
			t.Errorf("%s has a script or no policy", path)
		}
	}
	for _, path := range []string{"/nowhere", "/lightning/r/Task/" + account + "/view", "/lightning/r/Task/x/view", "/lightning/o/Nothing/list"} {
		if status, _, _ := c.do("GET", path, nil); status != 404 {
			t.Errorf("%s = %d, want 404", path, status)
		}
	}
	if got := c.s.Requests(); got != 0 {
		t.Errorf("pages count as %d API calls", got)
	}
}

// FuzzQuery checks that no query breaks the parser.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"SELECT Id FROM Account WHERE Name = 'a' AND (Website LIKE '%x_' OR Name IN ('b','c')) ORDER BY Name DESC NULLS LAST LIMIT 5 OFFSET 1",
		"SELECT COUNT() FROM Task", "SELECT Account.Name FROM Contact WHERE Account.Website != null", `'\u12`, "SELECT Id FROM Task WHERE ActivityDate > 2020-01-01",
	} {
		f.Add(s)
	}
	d := newStore(time.Now)
	if _, err := d.create(d.object("Account"), map[string]any{"Name": "a"}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := d.parse(text)
		if err != nil {
			if q != nil {
				t.Error("both a query and an error")
			}
			return
		}
		if rows := d.run(q, true); q.limit >= 0 && len(rows) > q.limit {
			t.Errorf("%d rows, limit %d", len(rows), q.limit)
		}
	})
}
