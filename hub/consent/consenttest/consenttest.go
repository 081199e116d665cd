// Package consenttest makes releases for the tests of other packages, through
// the same door that the hub uses.
package consenttest

import (
	"encoding/json"
	"testing"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
)

const (
	connection = hub.ConnectionID("con_test")
	terms      = "test-terms"
)

// Release returns the release of call's revision 1 under a grant of exactly
// these fields, for an org whose language is English. It fails the test if the
// call may not be shared, such as a private one, or carries none of the fields.
func Release(tb testing.TB, call hub.Call, fields ...consent.Field) *consent.Release {
	tb.Helper()
	return ReleaseIn(tb, "en", call, fields...)
}

// ReleaseIn is [Release] for an org whose language is lang, such as "es".
func ReleaseIn(tb testing.TB, lang string, call hub.Call, fields ...consent.Field) *consent.Release {
	tb.Helper()
	return Revision(tb, lang, 1, call, fields...)
}

// Revision is [ReleaseIn] for any revision of the call.
func Revision(tb testing.TB, lang string, revision int, call hub.Call, fields ...consent.Field) *consent.Release {
	tb.Helper()
	s := Situation(tb, fields...)
	s.OrgInfo.Language = lang
	r, d := consent.NewRelease(s, call, revision)
	if d.Verdict != consent.Share {
		tb.Fatalf("consenttest: the call is not shared: %s %s", d.Reason, d.Detail)
	}
	return r
}

// AllFields returns every field but the custom ones.
func AllFields() []consent.Field {
	var out []consent.Field
	for _, f := range consent.Fields("en") {
		out = append(out, f.Field)
	}
	return out
}

// Situation returns one in which every call that carries any of the fields,
// and is not barred by itself, is shared with the destination {}.
func Situation(tb testing.TB, fields ...consent.Field) consent.Situation {
	tb.Helper()
	p, wrong := consent.Compile(consent.Grant{
		Number: 1, Since: 1, Integration: "int_test", EnabledBy: "test", AcceptedTerms: terms,
		Terms: consent.Terms{Connection: connection, Fields: fields, Destination: json.RawMessage(`{}`)},
	})
	if len(wrong) > 0 {
		tb.Fatalf("consenttest: the grant does not compile: %v", wrong)
	}
	return consent.Situation{
		Org: hub.OrgActive, OrgInfo: consent.OrgInfo{ID: "test", Name: "Test", Region: "us", Language: "en"},
		ConnectionID: connection, Connection: hub.Connected,
		Enabled: true, TermsVersion: terms, Policy: p,
	}
}
