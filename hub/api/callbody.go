package api

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
)

// callBody is a call as the document describes it. It is read by
// [hub.DecodeCall], which says what is allowed; here that is said again as far
// as a schema can say it, and tests hold the two against each other.
type callBody hub.Call

const callExample = `{"id":"call-2026-11-20-0042","title":"Discovery with Northwind Traders","started_at":"2026-11-20T15:00:00-08:00","duration_seconds":1860,` +
	`"direction":"outbound","medium":"video","visibility":"normal","recording_consent":"granted","language":"en","url":"https://app.optiwe.example/calls/0042",` +
	`"owner":{"name":"Dana Reyes","email":"dana@acme.example"},` +
	`"participants":[{"name":"Priya Shah","email":"priya@northwind.example","phone":"+14155550123","title":"VP Operations","company":"Northwind Traders","side":"external"}],` +
	`"account":{"name":"Northwind Traders","domain":"northwind.example"},"crm":{"account_id":null,"opportunity_id":null},` +
	`"summary":"Priya wants to replace two tools before the March renewal. Security review is the gate.",` +
	`"key_points":["Renewal in March"],"next_steps":[{"text":"Send the security questionnaire","owner_email":"dana@acme.example","due_on":"2026-11-27"}],` +
	`"topics":["pricing","security"],"sentiment":0.4,"talk_ratio":[{"email":"dana@acme.example","share":0.46}],"disposition":"Connected","tags":["enterprise"],"custom":{"deal_size":120000}}`

// TransformSchema implements [huma.SchemaTransformer].
func (callBody) TransformSchema(r huma.Registry, s *huma.Schema) *huma.Schema {
	m := members{s}
	m.text("id", 128, `^[A-Za-z0-9._:-]{1,128}$`, "The producer's id of the call. The same id with new content is a new revision.")
	m.filled("title", hub.MaxTitle, "What the call is called.")
	m.say("started_at", "When it began, after RFC 3339 with a zone.")
	m.number("duration_seconds", 0, hub.MaxDuration, "How long it took, in seconds.")
	m.oneOf("direction", "Who called whom.", "inbound", "outbound", "internal")
	m.oneOf("medium", "How people met.", "phone", "video", "webinar", "demo", "in_person")
	m.oneOf("visibility", "A private call is never shared, whatever an integration says.", hub.VisibilityNormal, hub.VisibilityPrivate)
	m.oneOf("recording_consent", "A call with denied is never shared.", hub.ConsentGranted, hub.ConsentDenied, hub.ConsentUnknown)
	m.say("language", "The language spoken, a tag after BCP 47.")
	m.url("url", "The call's page.")
	m.url("recording_url", "The recording.")
	m.url("transcript_url", "The transcript.")
	m.say("owner", "The person in the org whose call it is.")
	m.list("participants", "Who was in it.")
	m.say("account", "The company it was with.")
	m.say("crm", "Ids of the CRM's own records, where they are known.")
	m.filled("summary", hub.MaxSummary, "The summary, as Markdown.")
	m.texts("key_points", hub.MaxText, "The key points.")
	m.list("next_steps", "What somebody said they would do.")
	m.texts("topics", hub.MaxShortText, "The topics that came up.")
	m.number("sentiment", -1, 1, "The mood of the call, from -1 to 1.")
	m.list("talk_ratio", "How much of the talking each person did.")
	m.texts("risks", hub.MaxText, "The risks seen.")
	m.texts("competitors", hub.MaxShortText, "The competitors mentioned.")
	m.text("disposition", hub.MaxShortText, "", "How it ended.")
	m.texts("tags", hub.MaxShortText, "Tags of the producer's own.")
	s.Properties["custom"] = &huma.Schema{
		Type: huma.TypeObject, Nullable: true, MaxProperties: new(hub.MaxCustom),
		Description: "Anything else: names of a letter and up to 63 letters, digits and '_'; texts, numbers, true, false and null.",
		AdditionalProperties: &huma.Schema{OneOf: []*huma.Schema{
			{Type: huma.TypeString, MaxLength: new(hub.MaxCustomText)}, {Type: huma.TypeNumber}, {Type: huma.TypeBoolean}, {Type: "null"},
		}},
	}
	describeParts(r)
	m.optional()
	return orNull(s, "account", "crm")
}

// describeParts does the same for the objects inside a call.
func describeParts(r huma.Registry) {
	part := func(t reflect.Type) members { return members{r.Schema(t, false, "")} }

	owner := part(reflect.TypeFor[hub.Person]())
	owner.text("name", hub.MaxShortText, "", "The name.")
	owner.email("email", "The e-mail address.")
	owner.s.Required = []string{"email"}
	owner.optional()

	p := part(reflect.TypeFor[hub.Participant]())
	p.text("name", hub.MaxShortText, "", "The name.")
	p.email("email", "The e-mail address.")
	p.text("phone", 16, `^\+[0-9]{7,15}$`, "The phone number after E.164.")
	p.text("title", hub.MaxShortText, "", "The job title.")
	p.text("company", hub.MaxShortText, "", "The company.")
	p.oneOf("side", "Of the org, or not.", hub.SideInternal, hub.SideExternal)
	p.optional()

	account := part(reflect.TypeFor[hub.Account]())
	account.text("name", hub.MaxShortText, "", "The name.")
	account.say("domain", "The domain of its addresses.")
	account.optional()

	crm := part(reflect.TypeFor[hub.CRM]())
	crm.text("account_id", 64, `^[A-Za-z0-9]{1,64}$`, "The account's record.")
	crm.text("opportunity_id", 64, `^[A-Za-z0-9]{1,64}$`, "The opportunity's record.")
	crm.optional()

	step := part(reflect.TypeFor[hub.NextStep]())
	step.filled("text", hub.MaxText, "What will be done.")
	step.email("owner_email", "Who does it.")
	step.say("due_on", "The day by which, YYYY-MM-DD.").Format = "date"
	step.optional()

	talk := part(reflect.TypeFor[hub.TalkShare]())
	talk.email("email", "Who.")
	talk.number("share", 0, 1, "How much, from 0 to 1.")
	talk.optional()
}

// members says more of an object's members than their types do.
type members struct{ s *huma.Schema }

func (m members) say(name, text string) *huma.Schema {
	p := m.s.Properties[name]
	p.Description = text
	return p
}

func (m members) text(name string, most int, pattern, text string) {
	p := m.say(name, text)
	p.MaxLength, p.Pattern = &most, pattern
}

func (m members) filled(name string, most int, text string) {
	m.text(name, most, "", text)
	m.s.Properties[name].MinLength = new(1)
}

func (m members) email(name, text string) { m.text(name, hub.MaxEmail, "", text) }

func (m members) url(name, text string) { m.text(name, hub.MaxURL, `^[Hh][Tt][Tt][Pp][Ss]?://`, text) }

func (m members) number(name string, low, high float64, text string) {
	p := m.say(name, text)
	p.Minimum, p.Maximum, p.Format = &low, &high, ""
}

func (m members) oneOf(name, text string, values ...string) {
	p := m.say(name, text)
	for _, v := range values {
		p.Enum = append(p.Enum, v)
	}
}

func (m members) list(name, text string) { m.say(name, text).MaxItems = new(hub.MaxList) }

func (m members) texts(name string, most int, text string) {
	m.list(name, text)
	m.s.Properties[name].Items.MaxLength, m.s.Properties[name].Items.MinLength = &most, new(1)
}

// optional lets every member that is not required be null, which means that it
// is not given.
func (m members) optional() {
	required := map[string]bool{}
	for _, name := range m.s.Required {
		required[name] = true
	}
	for name, p := range m.s.Properties {
		if required[name] || p.Ref != "" {
			continue
		}
		p.Nullable = true
		if len(p.Enum) > 0 {
			p.Enum = append(p.Enum, nil)
		}
	}
	m.s.PrecomputeMessages()
}
