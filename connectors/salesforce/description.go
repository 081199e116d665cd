package salesforce

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/mappings"
)

// words are the texts that people read in a task.
type words struct {
	call, callWith                                         string
	keyPoints, nextSteps, risks, competitors, topics, tags string
	people, talk, sentiment, medium, account, owner, more  string
	recording, transcript, link                            string
	due                                                    string // with a date
	positive, neutral, negative                            string
	internal, external                                     string
	media                                                  map[string]string
	date                                                   func(time.Time) string
}

// wordsFor returns the texts in a language: Spanish for "es" and what starts
// with it, English for all others.
func wordsFor(language string) *words {
	if l := strings.ToLower(language); l == "es" || strings.HasPrefix(l, "es-") || strings.HasPrefix(l, "es_") {
		return spanish()
	}
	return english()
}

func english() *words {
	return &words{
		call: "Call", callWith: "Call with %s",
		keyPoints: "Key points", nextSteps: "Next steps", risks: "Risks", competitors: "Competitors", topics: "Topics", tags: "Tags",
		people: "People", talk: "Talk time", sentiment: "Sentiment", medium: "Medium", account: "Account", owner: "Owner", more: "More",
		recording: "Recording", transcript: "Transcript", link: "Full call",
		due: "due %s", positive: "positive", neutral: "neutral", negative: "negative", internal: "internal", external: "external",
		media: map[string]string{"phone": "Phone", "video": "Video", "webinar": "Webinar", "demo": "Demo", "in_person": "In person"},
		date:  func(t time.Time) string { return t.Format("2 Jan 2006") },
	}
}

func spanish() *words {
	return &words{
		call: "Llamada", callWith: "Llamada con %s",
		keyPoints: "Puntos clave", nextSteps: "Próximos pasos", risks: "Riesgos", competitors: "Competidores", topics: "Temas", tags: "Etiquetas",
		people: "Participantes",                                                                                                       //nolint:misspell // it is Spanish
		talk:   "Tiempo de palabra", sentiment: "Tono", medium: "Medio", account: "Cuenta", owner: "Responsable", more: "Otros datos", //nolint:misspell // it is Spanish
		recording: "Grabación", transcript: "Transcripción", link: "Llamada completa",
		due: "para el %s", positive: "positivo", neutral: "neutro", negative: "negativo", internal: "interno", external: "externo",
		media: map[string]string{"phone": "Teléfono", "video": "Vídeo", "webinar": "Seminario web", "demo": "Demostración", "in_person": "En persona"},
		date: func(t time.Time) string {
			months := [...]string{"ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"}
			return fmt.Sprintf("%d %s %d", t.Day(), months[t.Month()-1], t.Year())
		},
	}
}

// minSummary is how much of a summary is kept, in units, before other parts
// are cut as well.
const minSummary = 8_000

// description returns the comments of the task, with at most limit units: the
// summary first, because the timeline shows the first lines, then what was
// said, who was there, and the links, which are never cut. If it is too long,
// the summary is cut first, then the rest from its end. from is the length
// before, 0 if nothing was cut.
func (t *task) description(limit int) (text string, from int) {
	summary := plain(t.call.Summary)
	said := t.said()
	links := t.links()
	whole := joinParts(summary, said, links)
	n := mappings.UTF16Len(whole)
	if n <= limit {
		return whole, 0
	}
	// Two empty lines between the three parts.
	room := limit - mappings.UTF16Len(links) - 2*len("\n\n")
	forSummary := max(room-mappings.UTF16Len(said), min(minSummary, room))
	summary, _ = cutText(summary, forSummary)
	said, _ = cutText(said, room-mappings.UTF16Len(summary))
	text = joinParts(summary, said, links)
	if mappings.UTF16Len(text) > limit { // links longer than a task
		text, _ = cutText(text, limit)
	}
	return text, n
}

// said returns the part between summary and links.
func (t *task) said() string {
	c, w := &t.call, t.words
	var steps []string
	for _, s := range t.release.NextSteps() {
		steps = append(steps, t.step(s))
	}
	var facts []string
	fact := func(label, value string) {
		if value != "" {
			facts = append(facts, label+": "+value)
		}
	}
	fact(w.competitors, commaList(c.Competitors))
	fact(w.topics, commaList(c.Topics))
	fact(w.sentiment, t.sentiment())
	fact(w.medium, w.media[c.Medium])
	if c.Account != nil {
		fact(w.account, joinNonEmpty(" · ", oneLine(c.Account.Name), oneLine(c.Account.Domain)))
	}
	fact(w.owner, nameAndEmail(c.Owner.Name, c.Owner.Email))
	fact(w.talk, t.talk())
	fact(w.tags, commaList(c.Tags))
	return joinParts(
		section(w.keyPoints, c.KeyPoints),
		section(w.nextSteps, steps),
		section(w.risks, c.Risks),
		section(w.people, t.people()),
		strings.Join(facts, "\n"),
		section(w.more, t.custom()),
	)
}

// section returns a heading and a bullet for each entry; "" if there is none.
func section(title string, entries []string) string {
	var b strings.Builder
	for _, e := range entries {
		if e = oneLine(inline(clean(e))); e != "" {
			b.WriteString("\n• " + e)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return title + b.String()
}

// step returns a next step with who does it and until when.
func (t *task) step(s consent.NextStep) string {
	var who []string
	if name := nameAndEmail(s.OwnerName, ""); name != "" {
		who = append(who, name)
	} else if s.OwnerEmail != "" {
		who = append(who, oneLine(s.OwnerEmail))
	}
	if s.DueOn != "" {
		due := s.DueOn
		if d, err := time.Parse(time.DateOnly, s.DueOn); err == nil {
			due = t.words.date(d)
		}
		who = append(who, fmt.Sprintf(t.words.due, due))
	}
	if len(who) == 0 {
		return s.Text
	}
	return s.Text + " (" + strings.Join(who, ", ") + ")"
}

func (t *task) people() []string {
	var out []string
	for _, p := range t.call.Participants {
		who := nameAndEmail(p.Name, p.Email)
		detail := joinNonEmpty(", ", oneLine(p.Title), oneLine(p.Company), oneLine(p.Phone))
		if who == "" && detail == "" {
			continue
		}
		line := joinNonEmpty(", ", who, detail)
		if p.Side == hub.SideInternal {
			line += " (" + t.words.internal + ")"
		}
		out = append(out, line)
	}
	return out
}

func (t *task) talk() string {
	var out []string
	for _, s := range t.release.Speakers() {
		who := s.Name
		if who == "" {
			who = s.Email
		}
		if who == "" { // not released, or not known: the side is
			who = map[string]string{hub.SideInternal: t.words.internal, hub.SideExternal: t.words.external}[s.Side]
		}
		if who = oneLine(who); who != "" {
			out = append(out, fmt.Sprintf("%s %.0f %%", who, s.Share*100))
		}
	}
	return strings.Join(out, ", ")
}

func (t *task) sentiment() string {
	if t.call.Sentiment == nil {
		return ""
	}
	v, w := *t.call.Sentiment, t.words.neutral
	switch {
	case v >= 0.2:
		w = t.words.positive
	case v <= -0.2:
		w = t.words.negative
	}
	return w + " (" + strconv.FormatFloat(v, 'f', -1, 64) + ")"
}

// custom returns the custom members, by name.
func (t *task) custom() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(t.call.Custom)) {
		raw := t.call.Custom[name]
		value := string(raw)
		var s string
		if json.Unmarshal(raw, &s) == nil {
			value = s
		}
		if value = oneLine(value); value != "" && value != "null" {
			out = append(out, oneLine(name)+": "+value)
		}
	}
	return out
}

func (t *task) links() string {
	var out []string
	for _, l := range []struct{ label, url string }{
		{t.words.link, t.call.URL}, {t.words.recording, t.call.RecordingURL}, {t.words.transcript, t.call.TranscriptURL},
	} {
		if u := oneLine(l.url); u != "" {
			out = append(out, l.label+": "+u)
		}
	}
	return strings.Join(out, "\n")
}

func nameAndEmail(name, email string) string {
	name, email = oneLine(name), oneLine(email)
	if name != "" && email != "" {
		return name + " <" + email + ">"
	}
	return name + email
}

func commaList(list []string) string {
	var out []string
	for _, s := range list {
		if s = oneLine(s); s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

func joinNonEmpty(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}

// joinParts joins parts with an empty line between them.
func joinParts(parts ...string) string { return joinNonEmpty("\n\n", parts...) }
