package salesforce

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
)

// The table of codes. A code that is not known is tried again, and the hub ends
// that after its usual number of tries.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	for class, codes := range map[connectors.Class]string{
		connectors.Unauthorized: `INVALID_SESSION_ID INVALID_AUTH_HEADER API_DISABLED_FOR_ORG API_CURRENTLY_DISABLED CLIENT_NOT_ACCESSIBLE_FOR_USER
			INVALID_CLIENT LOGIN_DURING_RESTRICTED_TIME LOGIN_DURING_RESTRICTED_DOMAIN INSUFFICIENT_ACCESS TRIAL_EXPIRED ORG_LOCKED`,
		connectors.Transient: `UNABLE_TO_LOCK_ROW SERVER_UNAVAILABLE REQUEST_RUNNING_TOO_LONG QUERY_TIMEOUT UNKNOWN_EXCEPTION
			FUNCTIONALITY_TEMPORARILY_UNAVAILABLE TOO_MANY_APEX_REQUESTS PROCESSING_HALTED BATCH_PROCESSING_HALTED A_CODE_OF_TOMORROW`,
		connectors.RateLimited: `REQUEST_LIMIT_EXCEEDED LIMIT_EXCEEDED EXCEEDED_QUOTA STORAGE_LIMIT_EXCEEDED ORG_IN_MAINTENANCE
			INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE`,
		connectors.Rejected: `STRING_TOO_LONG MAX_TASK_DESCRIPTION_EXCEEEDED INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST NUMBER_OUTSIDE_VALID_RANGE
			INVALID_TYPE_ON_FIELD_IN_RECORD JSON_PARSER_ERROR REQUIRED_FIELD_MISSING FIELD_CUSTOM_VALIDATION_EXCEPTION FIELD_FILTER_VALIDATION_EXCEPTION
			CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY CANNOT_EXECUTE_FLOW_TRIGGER DUPLICATES_DETECTED DUPLICATE_VALUE INVALID_FIELD
			INVALID_FIELD_FOR_INSERT_UPDATE INVALID_TYPE FIELD_INTEGRITY_EXCEPTION INACTIVE_OWNER_OR_USER INSUFFICIENT_ACCESS_OR_READONLY
			INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY TRANSFER_REQUIRES_READ INVALID_CROSS_REFERENCE_KEY ENTITY_IS_LOCKED DUPLICATE_EXTERNAL_ID`,
		connectors.Gone: `ENTITY_IS_DELETED MALFORMED_ID NOT_FOUND ENTITY_IS_ARCHIVED`,
	} {
		for code := range strings.FieldsSeq(codes) {
			v := verdictOf(code)
			if v.class != class || v.detail == "" {
				t.Errorf("%s is %v (%q), want %v", code, v.class, v.detail, class)
			}
			if wantWait := class == connectors.RateLimited; (v.after >= 10*time.Minute) != wantWait || (wantWait && v.reach != connectors.ReachConnection) {
				t.Errorf("%s waits %v with reach %v", code, v.after, v.reach)
			}
			if v.permanent != (class == connectors.Unauthorized && code != codeSession && code != "INVALID_AUTH_HEADER") {
				t.Errorf("%s: permanent is %v", code, v.permanent)
			}
		}
	}
}

func TestRefusedCall(t *testing.T) {
	t.Parallel()
	list := func(code, message string) string {
		b, err := json.Marshal([]map[string]string{{"errorCode": code, "message": message}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, c := range map[string]struct {
		status      int
		body        string
		header      string
		read, write connectors.Class
		code        string
		permanent   bool
		after       time.Duration
	}{
		"session":             {401, list("INVALID_SESSION_ID", "Session expired or invalid"), "", connectors.Unauthorized, connectors.Unauthorized, "INVALID_SESSION_ID", false, 0},
		"session, no body":    {401, "", "", connectors.Unauthorized, connectors.Unauthorized, "http_401", false, 0},
		"session for ever":    {401, list("INVALID_SESSION_ID", "This session is not valid for use with the REST API"), "", connectors.Unauthorized, connectors.Unauthorized, "INVALID_SESSION_ID", true, 0},
		"agent":               {401, list("X", "Connected app is not attached to Agent"), "", connectors.Unauthorized, connectors.Unauthorized, "X", true, 0},
		"org locked":          {403, list("ORG_LOCKED", ""), "", connectors.Unauthorized, connectors.Unauthorized, "ORG_LOCKED", true, 0},
		"forbidden, no body":  {403, "", "", connectors.Unauthorized, connectors.Unauthorized, "http_403", true, 0},
		"quota":               {403, list("REQUEST_LIMIT_EXCEEDED", ""), "", connectors.RateLimited, connectors.RateLimited, "REQUEST_LIMIT_EXCEEDED", false, waitQuota},
		"quota, proxy says":   {429, "slow down", "7", connectors.RateLimited, connectors.RateLimited, "http_429", false, 7 * time.Second},
		"quota, absurd":       {429, "", "999999999999", connectors.RateLimited, connectors.RateLimited, "http_429", false, maxRetryAfter},
		"malformed":           {400, list("JSON_PARSER_ERROR", ""), "", connectors.Rejected, connectors.Rejected, "JSON_PARSER_ERROR", false, 0},
		"no such field":       {404, list("NOT_FOUND", ""), "", connectors.Rejected, connectors.Rejected, "NOT_FOUND", false, 0},
		"unknown code":        {400, list("A_CODE_OF_TOMORROW", ""), "", connectors.Transient, connectors.Transient, "A_CODE_OF_TOMORROW", false, 0},
		"uri too long":        {414, "", "", connectors.Rejected, connectors.Rejected, "http_414", false, 0},
		"several":             {300, `["/services/data/v67.0/sobjects/Task/00T"]`, "", connectors.Rejected, connectors.Rejected, "http_300", false, 0},
		"redirect":            {302, "", "", connectors.Transient, connectors.Transient, "redirected", false, 0},
		"retired":             {410, list("GONE", ""), "", connectors.Transient, connectors.Transient, "GONE", false, 0},
		"error":               {500, list("UNKNOWN_EXCEPTION", ""), "", connectors.Transient, connectors.Unknown, "UNKNOWN_EXCEPTION", false, 0},
		"bad gateway":         {502, "<html>", "", connectors.Transient, connectors.Unknown, "http_502", false, 0},
		"gateway timeout":     {504, "", "", connectors.Transient, connectors.Unknown, "http_504", false, 0},
		"unavailable":         {503, "<html>", "", connectors.Transient, connectors.Transient, "http_503", false, 0},
		"maintenance":         {503, list("ORG_IN_MAINTENANCE", ""), "", connectors.RateLimited, connectors.RateLimited, "ORG_IN_MAINTENANCE", false, waitMaintenance},
		"oauth":               {400, `{"error":"invalid_token","error_description":"d"}`, "", connectors.Transient, connectors.Transient, "invalid_token", false, 0},
		"empty list":          {400, `[]`, "", connectors.Rejected, connectors.Rejected, "http_400", false, 0},
		"null":                {400, `null`, "", connectors.Rejected, connectors.Rejected, "http_400", false, 0},
		"a code that is text": {400, list("priya@northwind.example said no", ""), "", connectors.Rejected, connectors.Rejected, "http_400", false, 0},
	} {
		for _, read := range []bool{true, false} {
			h := http.Header{}
			if c.header != "" {
				h.Set("Retry-After", c.header)
			}
			e := refusedCall("push", read, c.status, h, []byte(c.body))
			want := c.write
			if read {
				want = c.read
			}
			if e.Class != want || e.Code != c.code || e.Permanent != c.permanent || e.RetryAfter != c.after || e.Status != c.status || e.Detail == "" {
				t.Errorf("%s (read %v) = %+v, want class %v, code %s", name, read, e, want, c.code)
			}
			if strings.Contains(e.Error(), "northwind") || strings.Contains(e.Error(), "said") {
				t.Errorf("%s: the error holds Salesforce's words: %v", name, e)
			}
		}
	}
}

func TestRefusedRow(t *testing.T) {
	t.Parallel()
	e := refusedRow("push", []rawError{{StatusCode: "STRING_TOO_LONG", Message: "Subject: data value too large: secret plan", Fields: []string{"Subject", "not a field!", "Region__c"}}})
	if want := "push: rejected: STRING_TOO_LONG: Salesforce refuses a value; check the mapping (Subject, Region__c)"; e.Error() != want {
		t.Errorf("error %q, want %q", e.Error(), want)
	}
	if e := refusedRow("push", nil); e.Class != connectors.Transient || e.Code == "" {
		t.Errorf("without a reason: %+v", e)
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err     error
		notDone bool
		class   connectors.Class
		code    string
		reach   connectors.Reach
	}{
		"cut":             {errors.New("EOF"), false, connectors.Unknown, "connection_cut", connectors.ReachItem},
		"cut of a read":   {errors.New("EOF"), true, connectors.Transient, "unreachable", connectors.ReachConnection},
		"timeout":         {context.DeadlineExceeded, false, connectors.Unknown, "timeout", connectors.ReachItem},
		"read timeout":    {context.DeadlineExceeded, true, connectors.Transient, "timeout", connectors.ReachConnection},
		"dial":            {&net.OpError{Op: "dial", Err: errors.New("refused")}, true, connectors.Transient, "unreachable", connectors.ReachConnection},
		"cancelled":       {context.Canceled, false, connectors.Unknown, "cancelled", connectors.ReachItem},
		"cancelled early": {context.Canceled, true, connectors.Transient, "cancelled", connectors.ReachItem},
	} {
		e := noAnswer("push", c.err, c.notDone)
		if e.Class != c.class || e.Code != c.code || e.Reach != c.reach || !errors.Is(e, c.err) {
			t.Errorf("%s = %+v, want %v %s", name, e, c.class, c.code)
		}
	}
}

func TestParseLimitInfo(t *testing.T) {
	t.Parallel()
	for h, want := range map[string]connectors.Budget{
		"api-usage=18/5000": {Used: 18, Limit: 5000},
		"api-usage=25/5000; per-app-api-usage=17/250(appName=x)": {Used: 25, Limit: 5000},
		"per-app-api-usage=17/250(appName=x), api-usage=25/5000": {Used: 25, Limit: 5000},
		"per-app-api-usage=17/250(appName=x)":                    {},
		"api-usage=18":                                           {}, "": {}, "api-usage=-1/5": {}, "api-usage=1/0": {Used: 1}, "api-usage=99999999999/1": {},
	} {
		got, ok := parseLimitInfo(h)
		if got != want || ok != (want.Limit > 0) {
			t.Errorf("parseLimitInfo(%q) = %+v, %v", h, got, ok)
		}
	}
}

// FuzzAnswers feeds every decoder of what Salesforce sends.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		`[]`, `null`, `{}`, `[null]`, `[{}]`, `[{"id":"00Tbn0000000001AAA","success":true,"errors":[]}]`,
		`[{"success":false,"errors":[{"statusCode":"UNABLE_TO_LOCK_ROW","message":"m","fields":["A"]}]}]`,
		`[{"message":"No such column 'A__c' on sobject of type Task","errorCode":"INVALID_FIELD"}]`,
		`{"error":"invalid_grant","error_description":"x"}`, `<html>`, `[[]]`, `[{"errors":null}]`, `{"records":[null],"done":true,"totalSize":1}`,
	} {
		f.Add(400, []byte(s), "api-usage=1/2")
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, header string) {
		e := refusedCall("push", false, status, http.Header{"Retry-After": {header}}, body)
		if e.Class == connectors.Delivered || e.Code == "" || (e.Class == connectors.RateLimited) != (e.RetryAfter > 0) || e.RetryAfter > maxRetryAfter {
			t.Errorf("refusedCall = %+v", e)
		}
		if status >= 500 && status != http.StatusServiceUnavailable && e.Class != connectors.Unknown {
			t.Errorf("a write that ended in %d is %v", status, e.Class)
		}
		if b, ok := parseLimitInfo(header); ok && (b.Limit <= 0 || b.Used < 0) {
			t.Errorf("budget %+v", b)
		}
		for n := range 3 {
			results, ok := decodeResults(body, n)
			if ok && len(results) != n {
				t.Fatalf("%d results of %d", len(results), n)
			}
			for _, res := range results {
				r := &row{record: map[string]json.RawMessage{fieldWho: quoted("x"), fieldCallType: quoted("x"), fieldSubject: quoted("x"), "Callbridge_Id__c": quoted("x")}}
				r.repair(res.Errors, "Callbridge_Id__c")
				if r.record[fieldSubject] == nil || r.record["Callbridge_Id__c"] == nil {
					t.Error("a repair took out what makes the record")
				}
				if e := refusedRow("push", res.Errors); e.Class == connectors.Delivered || e.Class == connectors.Unknown {
					t.Errorf("refusedRow = %+v", e)
				}
			}
		}
	})
}
