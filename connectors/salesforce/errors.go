package salesforce

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/optiwe/callbridge/connectors"
)

// codeSession is the one code that a refresh of the token cures.
const codeSession = "INVALID_SESSION_ID"

// How long to leave a connection alone. Salesforce never says; its allowances
// are counted over 24 hours, and a maintenance lasts minutes to hours.
const (
	waitQuota       = 15 * time.Minute
	waitStorage     = time.Hour
	waitMaintenance = 10 * time.Minute
	maxRetryAfter   = 24 * time.Hour
)

// verdict is what a code of Salesforce's means.
type verdict struct {
	class     connectors.Class
	reach     connectors.Reach
	after     time.Duration // with RateLimited
	permanent bool          // with Unauthorized
	detail    string
}

// verdictOf returns what a code means, whether it stands at a record or at a
// whole call. A code that is not listed is Transient: a refusal means that
// nothing was done, Salesforce keeps adding codes, and some of those are
// passing; the hub gives up after its usual number of tries, and a person then
// sees the code.
func verdictOf(code string) verdict {
	switch code {
	case codeSession, "INVALID_AUTH_HEADER":
		return verdict{class: connectors.Unauthorized, reach: connectors.ReachConnection, detail: "Salesforce does not accept the session any more"}

	case "API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED", "CLIENT_NOT_ACCESSIBLE_FOR_USER", "INVALID_CLIENT",
		"LOGIN_DURING_RESTRICTED_TIME", "LOGIN_DURING_RESTRICTED_DOMAIN", "INSUFFICIENT_ACCESS", "TRIAL_EXPIRED", "ORG_LOCKED",
		"INACTIVE_ORG", "ORGANIZATION_INACTIVE":
		return verdict{class: connectors.Unauthorized, reach: connectors.ReachConnection, permanent: true, detail: "Salesforce refuses the connected user or app; ask a Salesforce admin to allow it, then reconnect"}

	case "UNABLE_TO_LOCK_ROW", "UNKNOWN_EXCEPTION", "PROCESSING_HALTED", "BATCH_PROCESSING_HALTED", "ALL_OR_NONE_OPERATION_ROLLED_BACK":
		return verdict{class: connectors.Transient, detail: "Salesforce could not write the record just now"}
	case "SERVER_UNAVAILABLE", "REQUEST_RUNNING_TOO_LONG", "QUERY_TIMEOUT", "FUNCTIONALITY_TEMPORARILY_UNAVAILABLE", "TOO_MANY_APEX_REQUESTS":
		return verdict{class: connectors.Transient, reach: connectors.ReachConnection, detail: "Salesforce is busy"}

	case "REQUEST_LIMIT_EXCEEDED", "LIMIT_EXCEEDED", "EXCEEDED_QUOTA":
		return verdict{class: connectors.RateLimited, reach: connectors.ReachConnection, after: waitQuota, detail: "the Salesforce org has used up its API calls; they come back over 24 hours"}
	case "STORAGE_LIMIT_EXCEEDED":
		return verdict{class: connectors.RateLimited, reach: connectors.ReachConnection, after: waitStorage, detail: "the Salesforce org is full; free some data storage"}
	case "ORG_IN_MAINTENANCE", "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE":
		return verdict{class: connectors.RateLimited, reach: connectors.ReachConnection, after: waitMaintenance, detail: "the Salesforce org is in maintenance"}

	case "STRING_TOO_LONG", codeDescriptionTooLong, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "NUMBER_OUTSIDE_VALID_RANGE",
		"INVALID_TYPE_ON_FIELD_IN_RECORD", "INVALID_EMAIL_ADDRESS", "JSON_PARSER_ERROR", "MISSING_ARGUMENT", "INVALID_INPUT":
		return verdict{class: connectors.Rejected, detail: "Salesforce refuses a value; check the mapping"}
	case "REQUIRED_FIELD_MISSING":
		return verdict{class: connectors.Rejected, detail: "Salesforce requires a field; set it in the mapping, or make it optional in Salesforce"}
	case "FIELD_CUSTOM_VALIDATION_EXCEPTION", "FIELD_FILTER_VALIDATION_EXCEPTION":
		return verdict{class: connectors.Rejected, detail: "a validation rule of the Salesforce org refuses the record"}
	case "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "CANNOT_EXECUTE_FLOW_TRIGGER":
		return verdict{class: connectors.Rejected, detail: "a trigger or flow of the Salesforce org failed on the record"}
	case "DUPLICATES_DETECTED", "DUPLICATE_VALUE":
		return verdict{class: connectors.Rejected, detail: "the Salesforce org has a record that this one would duplicate"}
	case "DUPLICATE_EXTERNAL_ID":
		return verdict{class: connectors.Rejected, detail: "several tasks carry this call's external id; delete all but one, and mark the field as unique"}
	case "INVALID_FIELD", "INVALID_FIELD_FOR_INSERT_UPDATE", "INVALID_TYPE", "MALFORMED_QUERY", "INVALID_QUERY_FILTER_OPERATOR":
		return verdict{class: connectors.Rejected, detail: "the connected user cannot see or write a field; check its permissions and the mapping"}
	case "FIELD_INTEGRITY_EXCEPTION", "INACTIVE_OWNER_OR_USER", "TXN_SECURITY_RUNTIME_EXCEPTION", "TXN_SECURITY_METERING_ERROR", "TXN_SECURITY_NO_ACCESS":
		return verdict{class: connectors.Rejected, detail: "a rule of the Salesforce org refuses the record"}
	case "INSUFFICIENT_ACCESS_OR_READONLY", codeNoAccessToLink, "TRANSFER_REQUIRES_READ", codeBadLink:
		return verdict{class: connectors.Rejected, detail: "the connected user may not write the record, or a record it is linked to"}
	case "ENTITY_IS_LOCKED":
		// Not Gone, although it stands there in some lists: the record lives,
		// and an approval process has locked it.
		return verdict{class: connectors.Rejected, detail: "an approval process has locked the record"}

	case "ENTITY_IS_DELETED", "MALFORMED_ID", "NOT_FOUND", "ENTITY_IS_ARCHIVED":
		return verdict{class: connectors.Gone, detail: "the record is no longer in Salesforce"}
	}
	return verdict{class: connectors.Transient, detail: "Salesforce refused for a reason that is not known here"}
}

const (
	codeBadLink            = "INVALID_CROSS_REFERENCE_KEY"
	codeNoAccessToLink     = "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"
	codeDescriptionTooLong = "MAX_TASK_DESCRIPTION_EXCEEEDED" // three E's
)

// refusal is what Salesforce said, without its words: messages quote what was
// sent.
type refusal struct {
	code   string
	fields []string // API names
	column string   // with INVALID_FIELD at a whole call: the field that does not exist
}

func (e *refusal) Error() string { return e.code }

// rawError is an error as it stands in a body. Records carry statusCode, calls
// errorCode, and OAuth error.
type rawError struct {
	StatusCode string   `json:"statusCode"`
	ErrorCode  string   `json:"errorCode"`
	OAuth      string   `json:"error"`
	Message    string   `json:"message"`
	Fields     []string `json:"fields"`
}

var (
	codeShape  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,99}$`)
	fieldShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,79}$`)
	noColumn   = regexp.MustCompile(`No such column '([A-Za-z][A-Za-z0-9_]{0,79})'`)
)

// refusal returns what is safe to keep of an error.
func (e rawError) refusal() *refusal {
	r := &refusal{}
	for _, c := range []string{e.StatusCode, e.ErrorCode, e.OAuth} {
		if codeShape.MatchString(c) {
			r.code = c
			break
		}
	}
	for _, f := range e.Fields {
		if fieldShape.MatchString(f) && len(r.fields) < 20 {
			r.fields = append(r.fields, f)
		}
	}
	if m := noColumn.FindStringSubmatch(e.Message); m != nil {
		r.column = m[1]
	}
	return r
}

// parseErrors reads the body of a refused call: a list of errors, or one.
func parseErrors(body []byte) []rawError {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil
	}
	var list []rawError
	if body[0] == '[' {
		if json.Unmarshal(body, &list) != nil {
			return nil
		}
		return list
	}
	var one rawError
	if json.Unmarshal(body, &one) != nil {
		return nil
	}
	return []rawError{one}
}

// refusedCall classifies an answer other than 2xx. A write that ended in a 5xx
// may have been done, unless it is 503.
func refusedCall(op string, read bool, status int, h http.Header, body []byte) *connectors.Error {
	r := &refusal{}
	message := ""
	if list := parseErrors(body); len(list) > 0 {
		r, message = list[0].refusal(), list[0].Message
	}
	e := &connectors.Error{Op: op, Status: status, Code: r.code, Err: r}
	switch {
	case status == http.StatusMultipleChoices:
		apply(e, verdictOf("DUPLICATE_EXTERNAL_ID"))
	case status >= 300 && status < 400:
		e.Code = "redirected"
		apply(e, verdict{class: connectors.Transient, reach: connectors.ReachConnection, detail: "Salesforce sent us to another address; if the org has moved, reconnect it"})
	case status >= 500 && status != http.StatusServiceUnavailable:
		apply(e, verdict{class: connectors.Transient, reach: connectors.ReachConnection, detail: "Salesforce had an error of its own"})
		if !read {
			e.Class, e.Reach = connectors.Unknown, connectors.ReachItem
		}
	case status == http.StatusServiceUnavailable && verdictOf(r.code).class != connectors.RateLimited:
		apply(e, verdictOf("SERVER_UNAVAILABLE"))
	case status == http.StatusTooManyRequests:
		apply(e, verdictOf("REQUEST_LIMIT_EXCEEDED"))
	case status == http.StatusUnauthorized:
		apply(e, verdictOf(codeSession))
		// Two sessions that a refresh would only give again.
		if strings.Contains(message, "Connected app is not attached to Agent") || strings.Contains(message, "This session is not valid for use with the REST API") {
			e.Permanent = true
		}
	case status == http.StatusGone:
		apply(e, verdict{class: connectors.Transient, reach: connectors.ReachConnection, detail: "Salesforce has retired the API version; set a newer one"})
	case r.code == "" && status == http.StatusForbidden:
		apply(e, verdictOf("INSUFFICIENT_ACCESS"))
	case r.code == "" && status < 500:
		apply(e, verdict{class: connectors.Rejected, detail: "Salesforce does not accept the request"})
	default:
		apply(e, verdictOf(r.code))
	}
	if e.Class == connectors.Gone {
		// At a whole call it is the object or the external id that is missing.
		e.Class, e.Detail = connectors.Rejected, "the destination's object or external id field does not exist in the Salesforce org, or the connected user cannot see it"
	}
	if after := retryAfter(h); after > 0 && e.Class == connectors.RateLimited {
		e.RetryAfter = after
	}
	if e.Code == "" {
		e.Code = "http_" + strconv.Itoa(status)
	}
	return e
}

func apply(e *connectors.Error, v verdict) {
	e.Class, e.Reach, e.RetryAfter, e.Permanent, e.Detail = v.class, v.reach, v.after, v.permanent, v.detail
}

// retryAfter reads a Retry-After header in seconds. Salesforce sends none; a
// proxy in front of it may.
func retryAfter(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s <= 0 {
		return 0
	}
	return min(time.Duration(min(s, int(maxRetryAfter/time.Second)))*time.Second, maxRetryAfter)
}

// refusedRow classifies the refusal of one record.
func refusedRow(op string, errs []rawError) *connectors.Error {
	if len(errs) == 0 {
		// It says that it did not do it, and not why.
		return &connectors.Error{Class: connectors.Transient, Op: op, Code: "no_reason", Detail: "Salesforce refused the record without a reason"}
	}
	r := errs[0].refusal()
	e := &connectors.Error{Op: op, Status: http.StatusOK, Code: r.code, Err: r}
	apply(e, verdictOf(r.code))
	if len(r.fields) > 0 {
		e.Detail += " (" + strings.Join(r.fields, ", ") + ")"
	}
	return e
}

// noAnswer classifies a request that got no answer. notDone says that it can
// have had no effect: it is a read, or it never left.
func noAnswer(op string, err error, notDone bool) *connectors.Error {
	e := &connectors.Error{Class: connectors.Unknown, Op: op, Code: "connection_cut", Detail: "the connection to Salesforce was cut before the answer came", Err: err}
	if ne, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || (ok && ne.Timeout()) {
		e.Code, e.Detail = "timeout", "Salesforce did not answer in time"
	}
	if notDone {
		e.Class, e.Reach = connectors.Transient, connectors.ReachConnection
		if e.Code != "timeout" {
			e.Code, e.Detail = "unreachable", "Salesforce cannot be reached"
		}
	}
	if errors.Is(err, context.Canceled) {
		e.Code, e.Detail, e.Reach = "cancelled", "we stopped waiting for Salesforce", connectors.ReachItem
	}
	return e
}

// unreadable is the error of an answer that is not what was asked for. A write
// may have been done.
func unreadable(op string, read bool) *connectors.Error {
	e := &connectors.Error{Class: connectors.Unknown, Op: op, Status: http.StatusOK, Code: "answer_unreadable", Detail: "Salesforce gave an answer that cannot be understood"}
	if read {
		e.Class = connectors.Transient
	}
	return e
}

func tooLarge(op string, read bool) *connectors.Error {
	e := unreadable(op, read)
	e.Code, e.Detail = "answer_too_large", "Salesforce gave an answer that is too large"
	return e
}

// hides reports whether a query was refused because the connected user cannot
// see an object or a field of it, which is a setting of the org and no failure.
func hides(e *connectors.Error) bool {
	return slices.Contains([]string{"INVALID_TYPE", "INVALID_FIELD"}, e.Code)
}
