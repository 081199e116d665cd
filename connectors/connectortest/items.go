package connectortest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/consent/consenttest"
)

// canaries are texts that stand in one field each of every call here, so that
// wherever one turns up it is known what leaked.
func canaries() map[consent.Field][]string {
	return map[consent.Field][]string{
		consent.FieldTitle:             {"cnrytitle"},
		consent.FieldURL:               {"cnryurl"},
		consent.FieldRecordingURL:      {"cnryrecording"},
		consent.FieldTranscriptURL:     {"cnrytranscript"},
		consent.FieldOwner:             {"cnryowner"},
		consent.FieldParticipantNames:  {"cnryname"},
		consent.FieldParticipantEmails: {"cnryemail"},
		consent.FieldParticipantPhones: {"14155550177"},
		consent.FieldParticipantTitles: {"cnryjob"},
		consent.FieldAccount:           {"cnryaccount", "cnrycrm"},
		consent.FieldSummary:           {"cnrysummary"},
		consent.FieldKeyPoints:         {"cnrypoint"},
		consent.FieldNextSteps:         {"cnrystep"},
		consent.FieldTopics:            {"cnrytopic"},
		consent.FieldSentiment:         {"0.7391"},
		consent.FieldTalkRatio:         {"0.5173"},
		consent.FieldRisks:             {"cnryrisk"},
		consent.FieldCompetitors:       {"cnrycompetitor"},
		consent.FieldDisposition:       {"cnrydisposition"},
		consent.FieldTags:              {"cnrytag"},
		"custom.deal":                  {"cnrycustom"},
	}
}

// usual are the fields that the suite's items release; what they do not is
// looked for everywhere.
func usual() []consent.Field {
	return []consent.Field{
		consent.FieldTitle, consent.FieldTime, consent.FieldURL, consent.FieldOwner,
		consent.FieldParticipantNames, consent.FieldAccount, consent.FieldSummary,
		consent.FieldKeyPoints, consent.FieldNextSteps, consent.FieldTopics,
		consent.FieldMatchingEmails, consent.FieldMatchingPhones,
	}
}

// everything returns all fields, the custom one included.
func everything() []consent.Field { return append(consenttest.AllFields(), "custom.deal") }

// sampleCall returns a call with a canary in every field. marker, a word of
// letters and digits, stands in its title.
func sampleCall(marker string) hub.Call {
	sentiment := 0.7391
	return hub.Call{
		ID:               hub.CallID("call-" + marker),
		Title:            "cnrytitle " + marker,
		StartedAt:        time.Date(2026, 11, 20, 15, 0, 0, 0, time.FixedZone("", -8*3600)),
		DurationSeconds:  1860,
		Direction:        "outbound",
		Medium:           "video",
		Visibility:       hub.VisibilityNormal,
		RecordingConsent: hub.ConsentGranted,
		Language:         "en",
		URL:              "https://app.optiwe.example/calls/cnryurl",
		RecordingURL:     "https://app.optiwe.example/calls/cnryrecording",
		TranscriptURL:    "https://app.optiwe.example/calls/cnrytranscript",
		Owner:            hub.Person{Name: "Dana cnryowner", Email: "cnryowner@acme.example"},
		Participants: []hub.Participant{
			{Name: "Lee cnryname", Email: "lee.cnryemail@acme.example", Title: "cnryjob", Side: hub.SideInternal},
			{
				Name: "Priya cnryname", Email: "priya.cnryemail@northwind.example", Phone: "+14155550177",
				Title: "VP cnryjob", Company: "cnryaccount", Side: hub.SideExternal,
			},
		},
		Account:     &hub.Account{Name: "Northwind cnryaccount", Domain: "cnryaccount.example"},
		Summary:     "They talked about **cnrysummary** and agreed to meet again.",
		KeyPoints:   []string{"A point: cnrypoint"},
		NextSteps:   []hub.NextStep{{Text: "Send cnrystep", OwnerEmail: "lee.cnryemail@acme.example", DueOn: "2026-11-27"}},
		Topics:      []string{"cnrytopic"},
		Sentiment:   &sentiment,
		TalkRatio:   []hub.TalkShare{{Email: "lee.cnryemail@acme.example", Share: 0.5173}},
		Risks:       []string{"cnryrisk"},
		Competitors: []string{"cnrycompetitor"},
		Disposition: "cnrydisposition",
		Tags:        []string{"cnrytag"},
		Custom:      map[string]json.RawMessage{"deal": json.RawMessage(`"cnrycustom"`)},
	}
}

// key returns the i-th item key.
func key(i int) string {
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	b := []byte(strings.Repeat("a", 26))
	for p := len(b) - 1; i > 0; p, i = p-1, i/len(digits) {
		b[p] = digits[i%len(digits)]
	}
	return string(b)
}

// marker returns a word that stands in the title of the i-th item's revision.
func marker(i, revision int) string { return fmt.Sprintf("mark%dr%dx", i, revision) }

// shareItem returns the i-th item, to be shared.
func (s *session) shareItem(i int) connectors.Item {
	s.t.Helper()
	return connectors.Item{
		Key:         key(i),
		Kind:        hub.KindShare,
		Release:     consenttest.Revision(s.t, "en", 1, sampleCall(marker(i, 1)), usual()...),
		Destination: s.h.Destination,
	}
}

// updateItem returns the second revision of the i-th item.
func (s *session) updateItem(i int, r connectors.Receipt) connectors.Item {
	s.t.Helper()
	call := sampleCall(marker(i, 2))
	call.ID = sampleCall(marker(i, 1)).ID
	return connectors.Item{
		Key:         key(i),
		Kind:        hub.KindUpdate,
		Release:     consenttest.Revision(s.t, "en", 2, call, usual()...),
		Destination: s.h.Destination,
		Receipt:     r,
	}
}

// eraseItem returns the erasure of the i-th item.
func (s *session) eraseItem(i int, r connectors.Receipt) connectors.Item {
	return connectors.Item{Key: key(i), Kind: hub.KindErase, Destination: s.h.Destination, Receipt: r}
}

// unreleased returns the canaries of every field that is not in fields.
func unreleased(fields []consent.Field) []string {
	var out []string
next:
	for f, words := range canaries() {
		for _, g := range fields {
			if f == g {
				continue next
			}
		}
		out = append(out, words...)
	}
	return out
}

// everyCanary returns the canaries of all fields.
func everyCanary() []string { return unreleased(nil) }

// releaseOf returns the release of call with fields.
func releaseOf(tb testing.TB, call hub.Call, fields []consent.Field) *consent.Release {
	tb.Helper()
	return consenttest.Release(tb, call, fields...)
}
