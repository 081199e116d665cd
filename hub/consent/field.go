package consent

import (
	"slices"
	"strings"

	"github.com/optiwe/callbridge/hub"
)

// Field names a part of a call that an integration can release, such as
// "summary", "participants.names" or "custom.deal_size". [Fields] lists those
// that every call has; "custom.<name>" is the member <name> of the call's
// custom ones.
type Field string

// The fields that every call has.
const (
	FieldTitle             Field = "title"
	FieldTime              Field = "time" // start and duration
	FieldDirection         Field = "direction"
	FieldMedium            Field = "medium"
	FieldURL               Field = "url"
	FieldRecordingURL      Field = "recording_url"
	FieldTranscriptURL     Field = "transcript_url"
	FieldOwner             Field = "owner"
	FieldParticipantNames  Field = "participants.names"
	FieldParticipantEmails Field = "participants.emails"
	FieldParticipantPhones Field = "participants.phones"
	FieldParticipantTitles Field = "participants.titles"
	FieldAccount           Field = "account"
	FieldSummary           Field = "summary"
	FieldKeyPoints         Field = "key_points"
	FieldNextSteps         Field = "next_steps"
	FieldTopics            Field = "topics"
	FieldSentiment         Field = "sentiment"
	FieldTalkRatio         Field = "talk_ratio"
	FieldRisks             Field = "risks"
	FieldCompetitors       Field = "competitors"
	FieldDisposition       Field = "disposition"
	FieldTags              Field = "tags"
	FieldMatchingEmails    Field = "matching.emails" // for look-ups at the provider, and nothing else
	FieldMatchingPhones    Field = "matching.phones" // for look-ups at the provider, and nothing else
)

// CustomPrefix begins the name of every field that releases a custom member.
const CustomPrefix = "custom."

// Sensitivity says how careful an admin should be with a field.
type Sensitivity string

// The sensitivities.
const (
	Ordinary Sensitivity = "ordinary" // facts of the call itself
	Personal Sensitivity = "personal" // tells who somebody is or how to reach them
	Spoken   Sensitivity = "spoken"   // what people said, or a judgement drawn from it
)

// FieldInfo describes a field to the admin who chooses it.
type FieldInfo struct {
	Field       Field
	Sensitivity Sensitivity
	Title       string // in the language asked for
	Contains    string // a sentence: exactly what leaves with it
}

// bit is the place of a field in a fieldSet.
type bit uint32

const (
	bitTitle bit = 1 << iota
	bitTime
	bitDirection
	bitMedium
	bitURL
	bitRecordingURL
	bitTranscriptURL
	bitOwner
	bitNames
	bitEmails
	bitPhones
	bitTitles
	bitAccount
	bitSummary
	bitKeyPoints
	bitNextSteps
	bitTopics
	bitSentiment
	bitTalkRatio
	bitRisks
	bitCompetitors
	bitDisposition
	bitTags
	bitMatchingEmails
	bitMatchingPhones
)

const bitsParticipants = bitNames | bitEmails | bitPhones | bitTitles

// fieldRow is a row of the table of fields.
type fieldRow struct {
	field       Field
	bit         bit
	sensitivity Sensitivity
	en, es      fieldText
}

type fieldText struct{ title, contains string }

// fieldTable is the one list of fields, in the order in which people choose
// from it. It is never changed.
//
//nolint:gochecknoglobals,misspell // a constant table, half of it Spanish
var fieldTable = []fieldRow{
	{
		FieldTitle, bitTitle, Ordinary,
		fieldText{"Title", "The title of the call."},
		fieldText{"Título", "El título de la llamada."},
	},
	{
		FieldTime, bitTime, Ordinary,
		fieldText{"Time", "When the call began and how long it took."},
		fieldText{"Fecha y duración", "Cuándo empezó la llamada y cuánto duró."},
	},
	{
		FieldDirection, bitDirection, Ordinary,
		fieldText{"Direction", "Whether the call was inbound, outbound or internal."},
		fieldText{"Dirección", "Si la llamada fue entrante, saliente o interna."},
	},
	{
		FieldMedium, bitMedium, Ordinary,
		fieldText{"Medium", "Whether it was a phone call, a video call, a webinar, a demo or a meeting in person."},
		fieldText{"Medio", "Si fue una llamada telefónica, una videollamada, un webinar, una demo o una reunión en persona."},
	},
	{
		FieldURL, bitURL, Ordinary,
		fieldText{"Link to the call", "The address of the call's page; whoever opens it still has to sign in there."},
		fieldText{"Enlace a la llamada", "La dirección de la página de la llamada; quien la abra tendrá que iniciar sesión allí."},
	},
	{
		FieldRecordingURL, bitRecordingURL, Spoken,
		fieldText{"Link to the recording", "The address of the recording."},
		fieldText{"Enlace a la grabación", "La dirección de la grabación."},
	},
	{
		FieldTranscriptURL, bitTranscriptURL, Spoken,
		fieldText{"Link to the transcript", "The address of the transcript."},
		fieldText{"Enlace a la transcripción", "La dirección de la transcripción."},
	},
	{
		FieldOwner, bitOwner, Personal,
		fieldText{"Owner", "The name and e-mail address of the person in your organisation whose call it is."},
		fieldText{"Responsable", "El nombre y el correo electrónico de la persona de su organización a cargo de la llamada."},
	},
	{
		FieldParticipantNames, bitNames, Personal,
		fieldText{"Participants' names", "The name of each participant, and whether they are of your organisation."},
		fieldText{"Nombres de los participantes", "El nombre de cada participante y si pertenece a su organización."},
	},
	{
		FieldParticipantEmails, bitEmails, Personal,
		fieldText{"Participants' e-mail addresses", "The e-mail address of each participant; also in next steps and talk ratio where those are released."},
		fieldText{"Correos de los participantes", "El correo electrónico de cada participante; también en los próximos pasos y en el reparto de la palabra si se comparten."},
	},
	{
		FieldParticipantPhones, bitPhones, Personal,
		fieldText{"Participants' phone numbers", "The phone number of each participant."},
		fieldText{"Teléfonos de los participantes", "El número de teléfono de cada participante."},
	},
	{
		FieldParticipantTitles, bitTitles, Personal,
		fieldText{"Participants' job titles", "The job title of each participant."},
		fieldText{"Cargos de los participantes", "El cargo de cada participante."},
	},
	{
		FieldAccount, bitAccount, Ordinary,
		fieldText{"Account", "The name and domain of the company the call was with, the company of each participant where participants are released, and the ids of the CRM's own records for looking them up."},
		fieldText{"Cuenta", "El nombre y el dominio de la empresa con la que se habló, la empresa de cada participante si se comparten participantes, y los identificadores del CRM para buscar sus registros."},
	},
	{
		FieldSummary, bitSummary, Spoken,
		fieldText{"Summary", "The summary of the call."},
		fieldText{"Resumen", "El resumen de la llamada."},
	},
	{
		FieldKeyPoints, bitKeyPoints, Spoken,
		fieldText{"Key points", "The key points of the call."},
		fieldText{"Puntos clave", "Los puntos clave de la llamada."},
	},
	{
		FieldNextSteps, bitNextSteps, Spoken,
		fieldText{"Next steps", "What was agreed and by when; who does it only as far as owner or participants are released too."},
		fieldText{"Próximos pasos", "Lo acordado y para cuándo; quién lo hará, solo si también se comparten el responsable o los participantes."},
	},
	{
		FieldTopics, bitTopics, Spoken,
		fieldText{"Topics", "The topics that came up."},
		fieldText{"Temas", "Los temas tratados."},
	},
	{
		FieldSentiment, bitSentiment, Spoken,
		fieldText{"Sentiment", "A number from -1 to 1 for the mood of the call."},
		fieldText{"Sentimiento", "Un número de -1 a 1 que mide el tono de la llamada."},
	},
	{
		FieldTalkRatio, bitTalkRatio, Spoken,
		fieldText{"Talk ratio", "How much each side talked; who it was only as far as owner or participants are released too."},
		fieldText{"Reparto de la palabra", "Cuánto habló cada parte; quién fue, solo si también se comparten el responsable o los participantes."},
	},
	{
		FieldRisks, bitRisks, Spoken,
		fieldText{"Risks", "The risks seen in the call."},
		fieldText{"Riesgos", "Los riesgos detectados en la llamada."},
	},
	{
		FieldCompetitors, bitCompetitors, Spoken,
		fieldText{"Competitors", "The competitors that were mentioned."},
		fieldText{"Competidores", "Los competidores mencionados."},
	},
	{
		FieldDisposition, bitDisposition, Ordinary,
		fieldText{"Disposition", "How the call ended, such as Connected."},
		fieldText{"Resultado", "Cómo terminó la llamada, por ejemplo «Connected»."},
	},
	{
		FieldTags, bitTags, Ordinary,
		fieldText{"Tags", "The tags of the call."},
		fieldText{"Etiquetas", "Las etiquetas de la llamada."},
	},
	{
		FieldMatchingEmails, bitMatchingEmails, Personal,
		fieldText{"Look-up by e-mail", "The e-mail addresses of external participants, used to look them up at the provider and for nothing else."},
		fieldText{"Búsqueda por correo", "Los correos de los participantes externos, usados para buscarlos en el proveedor y para nada más."},
	},
	{
		FieldMatchingPhones, bitMatchingPhones, Personal,
		fieldText{"Look-up by phone", "The phone numbers of external participants, used to look them up at the provider and for nothing else."},
		fieldText{"Búsqueda por teléfono", "Los teléfonos de los participantes externos, usados para buscarlos en el proveedor y para nada más."},
	},
}

// Fields returns every field but the custom ones, in the order in which people
// choose from it, with texts in lang ("es", or else English).
func Fields(lang string) []FieldInfo {
	out := make([]FieldInfo, len(fieldTable))
	for i, r := range fieldTable {
		t := r.en
		if spanish(lang) {
			t = r.es
		}
		out[i] = FieldInfo{Field: r.field, Sensitivity: r.sensitivity, Title: t.title, Contains: t.contains}
	}
	return out
}

// Describe returns what there is to know of f, with texts in lang ("es", or
// else English); false if there is no such field.
func (f Field) Describe(lang string) (FieldInfo, bool) {
	for _, i := range Fields(lang) {
		if i.Field == f {
			return i, true
		}
	}
	name, ok := f.Custom()
	if !ok || !validCustomName(name) {
		return FieldInfo{}, false
	}
	i := FieldInfo{Field: f, Sensitivity: Spoken, Title: name, Contains: "The custom member " + name + " of the call."}
	if spanish(lang) {
		i.Contains = "El dato propio " + name + " de la llamada."
	}
	return i, true
}

// ParseField returns the field named s; false if there is none.
func ParseField(s string) (Field, bool) { return Field(s), ValidField(s) }

// ValidField reports whether s names a field: one of [Fields], or "custom."
// and the name of a custom member as a call can have it.
func ValidField(s string) bool {
	if _, ok := bitOf(Field(s)); ok {
		return true
	}
	name, ok := Field(s).Custom()
	return ok && validCustomName(name)
}

// Custom returns the name of the custom member that f releases; false if f is
// another field.
func (f Field) Custom() (name string, ok bool) { return strings.CutPrefix(string(f), CustomPrefix) }

// Matching reports whether f is for look-ups only: nothing it releases ever
// gets into a payload.
func (f Field) Matching() bool { return f == FieldMatchingEmails || f == FieldMatchingPhones }

// validCustomName reports whether s can name a custom member: a letter, then
// letters, digits and '_', at most [hub.MaxCustomName] in all.
func validCustomName(s string) bool {
	if s == "" || len(s) > hub.MaxCustomName {
		return false
	}
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r != '_' && (r < '0' || r > '9')) {
			return false
		}
	}
	return true
}

func bitOf(f Field) (bit, bool) {
	for i := range fieldTable {
		if fieldTable[i].field == f {
			return fieldTable[i].bit, true
		}
	}
	return 0, false
}

// fieldSet is a set of fields.
type fieldSet struct {
	bits   bit
	custom []string // names, sorted, each once
}

// newFieldSet returns the set of fields; names that are no field are left out.
func newFieldSet(fields []Field) fieldSet {
	var s fieldSet
	for _, f := range fields {
		if b, ok := bitOf(f); ok {
			s.bits |= b
		} else if name, ok := f.Custom(); ok && validCustomName(name) {
			s.custom = append(s.custom, name)
		}
	}
	slices.Sort(s.custom)
	s.custom = slices.Compact(s.custom)
	return s
}

// and returns what is in both sets.
func (s fieldSet) and(o fieldSet) fieldSet {
	out := fieldSet{bits: s.bits & o.bits}
	for _, name := range s.custom {
		if _, ok := slices.BinarySearch(o.custom, name); ok {
			out.custom = append(out.custom, name)
		}
	}
	return out
}

// has reports whether any of the fields of b is in the set.
func (s fieldSet) has(b bit) bool { return s.bits&b != 0 }

// sorted returns the names of the fields, sorted.
func (s fieldSet) sorted() []Field {
	out := make([]Field, 0, len(fieldTable)+len(s.custom))
	for i := range fieldTable {
		if s.has(fieldTable[i].bit) {
			out = append(out, fieldTable[i].field)
		}
	}
	for _, name := range s.custom {
		out = append(out, Field(CustomPrefix+name))
	}
	slices.Sort(out)
	return slices.Clip(out)
}

// spanish reports whether a BCP 47 tag asks for Spanish.
func spanish(lang string) bool {
	return len(lang) >= 2 && strings.EqualFold(lang[:2], "es") && (len(lang) == 2 || lang[2] == '-' || lang[2] == '_')
}
