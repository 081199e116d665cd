package consent_test

import (
	"encoding/json"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
)

// canary returns a text that can be found again: no other holds it.
func canary(code string) string { return "cnry" + code }

const (
	canaryDuration  = 98765
	canarySentiment = 0.123456
	canaryShare     = 0.654321
	canaryNumber    = "314159265358979323846" // beyond 64 bits
)

// fullCall returns a call whose every member holds a canary of its own, but
// for those that decisions look at.
func fullCall() hub.Call {
	sentiment := canarySentiment
	return hub.Call{
		ID: "call-1", Title: canary("ti"),
		StartedAt: time.Date(2031, 11, 20, 15, 0, 0, 0, time.FixedZone("", -8*3600)), DurationSeconds: canaryDuration,
		Direction: canary("di"), Medium: canary("md"), Visibility: hub.VisibilityNormal, RecordingConsent: hub.ConsentGranted,
		Language: canary("la"), URL: canary("ur"), RecordingURL: canary("rc"), TranscriptURL: canary("tr"),
		Owner: hub.Person{Name: canary("on"), Email: canary("oe") + "@acme.example"},
		Participants: []hub.Participant{
			{Name: canary("on"), Email: canary("oe") + "@acme.example", Side: hub.SideInternal},
			{Name: canary("pn"), Email: canary("pe") + "@northwind.example", Phone: canary("pp"), Title: canary("pt"), Company: canary("pc"), Side: hub.SideExternal},
		},
		Account: &hub.Account{Name: canary("an"), Domain: canary("ad")},
		CRM:     &hub.CRM{AccountID: canary("ca"), OpportunityID: canary("cp")},
		Summary: canary("su"), KeyPoints: []string{canary("kp"), "second"},
		NextSteps: []hub.NextStep{
			{Text: canary("ns"), OwnerEmail: canary("oe") + "@acme.example", DueOn: canary("nd")},
			{Text: "of a participant", OwnerEmail: canary("pe") + "@northwind.example"},
			{Text: "of somebody who was not there", OwnerEmail: canary("ne") + "@acme.example"},
		},
		Topics: []string{canary("tp")}, Sentiment: &sentiment,
		TalkRatio: []hub.TalkShare{
			{Email: canary("oe") + "@acme.example", Share: canaryShare},
			{Email: canary("pe") + "@northwind.example", Share: 0.25},
			{Email: canary("te") + "@acme.example", Share: 0.09},
		},
		Risks: []string{canary("rk")}, Competitors: []string{canary("cm")}, Disposition: canary("ds"), Tags: []string{canary("tg")},
		Custom: map[string]json.RawMessage{
			"one": json.RawMessage(`"` + canary("c1") + `"`), "two": json.RawMessage(`"` + canary("c2") + `"`),
			"number": json.RawMessage(canaryNumber), "nothing": json.RawMessage(`null`),
		},
	}
}

// allFields returns every field, with those of fullCall's custom members.
func allFields() []consent.Field {
	var out []consent.Field
	for _, f := range consent.Fields("en") {
		out = append(out, f.Field)
	}
	return append(out, "custom.one", "custom.two", "custom.number", "custom.nothing", "custom.absent")
}

// carrier says which fields let a canary into the content of a release: each
// list is of fields that do it together, and any of the lists will do.
func carriers() map[string][][]consent.Field {
	const (
		names, emails  = consent.FieldParticipantNames, consent.FieldParticipantEmails
		phones, titles = consent.FieldParticipantPhones, consent.FieldParticipantTitles
		account, owner = consent.FieldAccount, consent.FieldOwner
		steps, talk    = consent.FieldNextSteps, consent.FieldTalkRatio
	)
	return map[string][][]consent.Field{
		"ti": {{consent.FieldTitle}}, "di": {{consent.FieldDirection}}, "md": {{consent.FieldMedium}}, "la": {},
		"ur": {{consent.FieldURL}}, "rc": {{consent.FieldRecordingURL}}, "tr": {{consent.FieldTranscriptURL}},
		"on": {{owner}, {names}}, "oe": {{owner}, {emails}},
		"pn": {{names}}, "pe": {{emails}}, "pp": {{phones}}, "pt": {{titles}},
		"pc": {{account, names}, {account, emails}, {account, phones}, {account, titles}},
		"an": {{account}}, "ad": {{account}}, "ca": {}, "cp": {},
		"su": {{consent.FieldSummary}}, "kp": {{consent.FieldKeyPoints}},
		"ns": {{steps}}, "nd": {{steps}}, "ne": {{steps, emails}}, "te": {{talk, emails}},
		"tp": {{consent.FieldTopics}}, "rk": {{consent.FieldRisks}}, "cm": {{consent.FieldCompetitors}},
		"ds": {{consent.FieldDisposition}}, "tg": {{consent.FieldTags}}, "c1": {{"custom.one"}}, "c2": {{"custom.two"}},
	}
}

// figures are the canaries that are numbers or dates.
func figures() map[string]consent.Field {
	return map[string]consent.Field{
		"98765": consent.FieldTime, "2031-11-20T15:00:00-08:00": consent.FieldTime,
		"0.123456": consent.FieldSentiment, "0.654321": consent.FieldTalkRatio, canaryNumber: "custom.number",
	}
}
