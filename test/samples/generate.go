package samples

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/optiwe/callbridge/hub"
)

// Generate returns n random valid calls with ids of their own. The same state of
// rng gives the same calls. About one in twenty is private, one in thirty was
// recorded without consent, and one in twelve is internal; half of the others
// are with people whom the CRM of [LoadCRM] knows.
func Generate(rng *rand.Rand, n int) []hub.Call {
	run := strconv.FormatUint(rng.Uint64(), 36)
	out := make([]hub.Call, n)
	for i := range out {
		out[i] = newCall(rng, "gen-"+run+"-"+strconv.Itoa(i+1))
	}
	return out
}

// person is somebody who can be in a generated call.
type person struct{ name, email, phone, title string }

// company is somebody to have a call with.
type company struct {
	name, domain string
	people       []person
}

var (
	reps = []person{
		{"Dana Reyes", "dana@acme.example", "", "Account Executive"},
		{"Sam Okafor", "sam@acme.example", "", "Solutions Engineer"},
		{"Tomás Iglesias", "tomas@acme.example", "", "Account Manager"},
		{"Lena Vogt", "lena@acme.example", "", "Account Executive DACH"},
		{"Camille Moreau", "camille@acme.example", "", "Account Executive"},
		{"Rafael Nunes", "rafael@acme.example", "", "Regional Director LATAM"},
		{"Aiko Tanaka", "aiko@acme.example", "", "Account Executive"},
		{"Noor Haddad", "noor@acme.example", "", "Partner Manager MEA"},
		{"Marta Lindqvist", "marta@acme.example", "", "VP Sales"},
	}
	// The first half of the companies is in the CRM.
	companies = []company{
		{"Northwind Traders", "northwind.example", []person{
			{"Priya Shah", "priya@northwind.example", "+14155550123", "VP Operations"},
			{"Luis Ortega", "luis.ortega@northwind.example", "", "Warehouse Systems Lead"},
		}},
		{"Muebles Casa Lumbre", "casalumbre.example", []person{
			{"María Fernanda Ruiz", "mf.ruiz@casalumbre.example", "+34915550142", "Jefa de compras"},
		}},
		{"Hafenwerk Logistik GmbH", "hafenwerk.example", []person{
			{"Jürgen Brößke", "juergen.broesske@hafenwerk.example", "+494066969177", "Leiter Disposition"},
			{"Anneliese Thöne", "anneliese.thoene@hafenwerk.example", "", "IT-Sicherheit"},
		}},
		{"Bluebird Health", "bluebird.example", []person{
			{"Marcus Bell", "marcus.bell@bluebird.example", "+12125550109", "Head of Procurement"},
			{"Ingrid Solheim", "ingrid.solheim@bluebird.example", "", "General Counsel"},
		}},
		{"Juniper & Rowe", "juniperrowe.example", []person{
			{"Theo Marsh", "theo.marsh@juniperrowe.example", "+16175550131", "COO"},
			{"Wren Castellano", "wren@juniperrowe.example", "", "Fleet Manager"},
		}},
		{"Panadería Sol", "panaderiasol.example", []person{
			{"Inés Carrasco", "ines@panaderiasol.example", "+525555550117", "Directora de logística"},
		}},
		{"Kältetechnik Brandt", "kaelte-brandt.example", []person{
			{"Uwe Krämer", "u.kraemer@kaelte-brandt.example", "+493023125177", "Einkauf"},
			{"Silke Brandt", "s.brandt@kaelte-brandt.example", "", "Geschäftsführung"},
		}},
		{"Stellar Freight", "stellarfreight.example", []person{
			{"Amara Diallo", "amara.diallo@stellarfreight.example", "+17135550182", "Director of Transport"},
			{"Pete O'Hara", "pete.ohara@stellarfreight.example", "", "Dispatcher"},
		}},
	}
	media        = []string{"phone", "video", "video", "video", "webinar", "demo", "in_person"}
	dispositions = []string{"Connected", "Connected", "Connected", "Demo held", "Left message", "Rescheduled"}
	competitors  = []string{"Routewise", "Fahrplan & Söhne", "Dispatchly"}
	tags         = []string{"enterprise", "mid-market", "renewal", "q1", "expansion", "trial"}
	forecasts    = []string{`"commit"`, `"best case"`, `"pipeline"`, `"omitted"`}
)

// phrases are the texts of one language.
type phrases struct {
	language  string
	kinds     []string // of calls, for titles
	sentences []string
	steps     []string
	topics    []string
}

var languages = []phrases{
	{
		"en",
		[]string{"Discovery with", "Follow-up with", "Pricing call with", "Quarterly review with", "Demo for"},
		[]string{
			"They plan their routes by hand and lose about two hours every morning.",
			"The main worry is how long the connection to the warehouse system takes.",
			"Budget is approved in principle, but **not before** the new fiscal year.",
			"The team liked that a decision of the planner is kept.",
			"A pilot with five vehicles would be enough to decide.",
			"Drivers complain about late changes, above all on Mondays.",
			"Security wants to see where the data is stored.",
			"They asked for a price per stop instead of per vehicle.",
			"Two other suppliers are being looked at; none has been tried.",
			"The decision is planned for the end of the quarter.",
		},
		[]string{"Send the proposal", "Book the technical session", "Answer the security questionnaire", "Share the reference of a similar fleet", "Call again after the board meeting"},
		[]string{"pricing", "security", "integration", "pilot", "drivers", "reporting"},
	},
	{
		"es",
		[]string{"Reunión con", "Seguimiento con", "Demostración para", "Renovación de"},
		[]string{
			"Planifican las rutas a mano y pierden unas dos horas cada mañana.",
			"Les preocupa que tarde la conexión con el sistema del almacén.",
			"El presupuesto está aprobado, pero no antes del próximo ejercicio.",
			"Al equipo le gustó que la decisión del planificador se respete.",
			"Bastaría un piloto con cinco vehículos para decidir.",
			"Piden un precio por parada en lugar de por vehículo.",
		},
		[]string{"Enviar la propuesta", "Agendar la sesión técnica", "Responder el cuestionario de seguridad"},
		[]string{"precio", "seguridad", "integración", "piloto"},
	},
	{
		"de",
		[]string{"Erstgespräch mit", "Nachfassen bei", "Vorführung für", "Preisgespräch mit"},
		[]string{
			"Die Touren werden von Hand geplant, das kostet jeden Morgen zwei Stunden.",
			"Die größte Sorge ist die Anbindung an das Lagersystem.",
			"Das Budget ist grundsätzlich freigegeben, aber erst im neuen Jahr.",
			"Ein Pilot mit fünf Fahrzeugen würde für die Entscheidung reichen.",
			"Der Betriebsrat möchte wissen, wie lange Positionen gespeichert werden.",
		},
		[]string{"Angebot schicken", "Termin mit der IT vereinbaren", "Fragen zum Datenschutz beantworten"},
		[]string{"Preise", "Datenschutz", "Schnittstellen", "Pilot"},
	},
	{
		"ja",
		[]string{"初回ヒアリング：", "フォローアップ：", "製品デモ："},
		[]string{
			"配車計画は毎朝二時間かけて手作業で作成している。",
			"倉庫システムとの連携にかかる期間を懸念されている。",
			"予算は承認済みだが、執行は来年度以降になる。",
			"五台での試行ができれば判断できるとのこと。",
		},
		[]string{"提案書を送付する", "技術打合せの日程を調整する"},
		[]string{"価格", "連携", "試行導入"},
	},
}

// epoch is when the first generated call can have begun.
var epoch = time.Date(2026, time.September, 1, 7, 0, 0, 0, time.UTC)

func newCall(rng *rand.Rand, id string) hub.Call {
	l := &languages[skewed(rng, len(languages))]
	rep := pick(rng, reps)
	began := epoch.AddDate(0, 0, rng.IntN(85)).Add(time.Duration(rng.IntN(600)) * time.Minute)
	c := hub.Call{
		ID:               hub.CallID(id),
		StartedAt:        began.In(zone(rng)),
		DurationSeconds:  20 + int(rng.ExpFloat64()*1200)%7200,
		Direction:        "outbound",
		Medium:           pick(rng, media),
		Visibility:       hub.VisibilityNormal,
		RecordingConsent: hub.ConsentGranted,
		Language:         l.language,
		URL:              "https://app.optiwe.example/calls/" + id,
		RecordingURL:     "https://app.optiwe.example/calls/" + id + "/recording",
		TranscriptURL:    "https://app.optiwe.example/calls/" + id + "/transcript",
		Owner:            hub.Person{Name: rep.name, Email: rep.email},
		Participants:     []hub.Participant{participant(rep, "", hub.SideInternal)},
		Summary:          summary(rng, l),
		KeyPoints:        some(rng, l.sentences, 4),
		Topics:           some(rng, l.topics, 3),
		Disposition:      pick(rng, dispositions),
		Tags:             some(rng, tags, 2),
	}
	if rng.IntN(20) == 0 {
		c.Visibility = hub.VisibilityPrivate
	}
	switch rng.IntN(30) {
	case 0:
		c.RecordingConsent = hub.ConsentDenied
	case 1, 2:
		c.RecordingConsent = hub.ConsentUnknown
	}
	for _, text := range some(rng, l.steps, 3) {
		c.NextSteps = append(c.NextSteps, hub.NextStep{Text: text, OwnerEmail: rep.email, DueOn: began.AddDate(0, 0, 1+rng.IntN(20)).Format(time.DateOnly)})
	}
	if rng.IntN(12) == 0 {
		colleagues(rng, &c, rep)
	} else {
		visitors(rng, &c, l)
	}
	c.TalkRatio = talkRatio(rng, c.Participants)
	return c
}

// colleagues makes c an internal call.
func colleagues(rng *rand.Rand, c *hub.Call, rep person) {
	c.Direction, c.Title = "internal", "Pipeline review"
	for _, p := range some(rng, reps, 3) {
		if p != rep {
			c.Participants = append(c.Participants, participant(p, "", hub.SideInternal))
		}
	}
}

// visitors makes c a call with a company.
func visitors(rng *rand.Rand, c *hub.Call, l *phrases) {
	with := pick(rng, companies)
	c.Title = pick(rng, l.kinds) + " " + with.name
	c.Account = &hub.Account{Name: with.name, Domain: with.domain}
	if rng.IntN(4) == 0 {
		c.Direction = "inbound"
	}
	for i, p := range with.people {
		if i > 0 && rng.IntN(2) == 0 {
			continue
		}
		c.Participants = append(c.Participants, participant(p, with.name, hub.SideExternal))
	}
	if c.Medium == "phone" && with.people[0].phone != "" && rng.IntN(2) == 0 { // the producer knows the number only
		c.Participants = append(c.Participants[:1], hub.Participant{Phone: with.people[0].phone, Side: hub.SideExternal})
	}
	mood := float64(rng.IntN(201)-100) / 100
	c.Sentiment = &mood
	if rng.IntN(3) == 0 {
		c.Competitors = []string{pick(rng, competitors)}
		c.Risks = some(rng, l.sentences, 1)
	}
	c.Custom = map[string]json.RawMessage{
		"deal_size": json.RawMessage(strconv.Itoa(1000 * (5 + rng.IntN(295)))),
		"forecast":  json.RawMessage(pick(rng, forecasts)),
	}
}

func participant(p person, company, side string) hub.Participant {
	return hub.Participant{Name: p.name, Email: p.email, Phone: p.phone, Title: p.title, Company: company, Side: side}
}

// summary returns one to four paragraphs.
func summary(rng *rand.Rand, l *phrases) string {
	var b []byte
	for i := range 1 + skewed(rng, 4) {
		if i > 0 {
			b = append(b, "\n\n"...)
		}
		for j := range 2 + rng.IntN(4) {
			if j > 0 {
				b = append(b, ' ')
			}
			b = append(b, pick(rng, l.sentences)...)
		}
	}
	return string(b)
}

// talkRatio shares the talking between those who have an address.
func talkRatio(rng *rand.Rand, people []hub.Participant) []hub.TalkShare {
	var out []hub.TalkShare
	left := 100
	for _, p := range people {
		if p.Email == "" {
			continue
		}
		part := rng.IntN(left + 1)
		left -= part
		out = append(out, hub.TalkShare{Email: p.Email, Share: float64(part) / 100})
	}
	return out
}

// zone returns an offset that people live at.
func zone(rng *rand.Rand) *time.Location {
	hours := pick(rng, []int{-8, -5, -3, 0, 1, 4, 9})
	if hours == 0 {
		return time.UTC
	}
	return time.FixedZone("", hours*3600)
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// skewed returns an index below n; low ones are more likely.
func skewed(rng *rand.Rand, n int) int { return rng.IntN(1 + rng.IntN(n)) }

// some returns up to limit neighbours of from, at least one.
func some[T any](rng *rand.Rand, from []T, limit int) []T {
	n := 1 + rng.IntN(min(limit, len(from)))
	start := rng.IntN(len(from) - n + 1)
	return append([]T(nil), from[start:start+n]...)
}
