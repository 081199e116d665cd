package slack

import (
	"fmt"
	"strings"
	"time"
)

// words are the texts of a card in one language.
type words struct {
	newCall, correctedCall string // notifications; nothing of the call in them
	call                   string
	with, fromUs, owner    string
	account, outcome       string
	sentiment, talk        string
	positive, neutral      string
	negative               string
	keyPoints, nextSteps   string
	risks, topics          string
	competitors, tags      string
	open, recording        string
	transcript, rest       string
	more                   string // format: %d
	moreLines              string // format: %d
	updated                string // format: %d
	due                    string // format: %s
	percent                string // format: %s %f
	internal, external     string
	mediums                map[string]string
	directions             map[string]string
	days                   [7]string
	months                 [12]string
	english                bool
}

// wordsFor returns the texts for a BCP 47 tag: Spanish, or else English.
func wordsFor(tag string) words {
	base, _, _ := strings.Cut(strings.ReplaceAll(strings.ToLower(tag), "_", "-"), "-")
	if base == "es" {
		return spanish()
	}
	return english()
}

func english() words {
	return words{
		newCall: "New call shared", correctedCall: "A shared call was updated", call: "Call",
		with: "With", fromUs: "From our side", owner: "Owner", account: "Account", outcome: "Outcome",
		sentiment: "Sentiment", talk: "Talk ratio", positive: "Positive", neutral: "Neutral", negative: "Negative",
		keyPoints: "Key points", nextSteps: "Next steps", risks: "Risks", topics: "Topics", competitors: "Competitors", tags: "Tags",
		open: "Open call", recording: "Recording", transcript: "Transcript", rest: "Read the rest",
		more: "+%d more", moreLines: "and %d more", updated: "Updated · revision %d", due: "due %s", percent: "%s %.0f%%",
		internal: "Our side", external: "Their side",
		mediums:    map[string]string{"phone": "Phone call", "video": "Video call", "webinar": "Webinar", "demo": "Demo", "in_person": "In person"},
		directions: map[string]string{"inbound": "Inbound", "outbound": "Outbound", "internal": "Internal"},
		days:       [7]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"},
		months:     [12]string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"},
		english:    true,
	}
}

func spanish() words {
	return words{
		newCall: "Nueva llamada compartida", correctedCall: "Se actualizó una llamada compartida", call: "Llamada",
		with: "Con", fromUs: "Por nuestra parte", account: "Cuenta", outcome: "Resultado",
		owner:     "Responsable", //nolint:misspell // Spanish
		sentiment: "Tono", talk: "Reparto de la palabra", positive: "Positivo", neutral: "Neutro", negative: "Negativo",
		keyPoints: "Puntos clave", nextSteps: "Próximos pasos", risks: "Riesgos", topics: "Temas", competitors: "Competidores", tags: "Etiquetas",
		open: "Abrir llamada", recording: "Grabación", transcript: "Transcripción", rest: "Leer el resto",
		more: "+%d más", moreLines: "y %d más", updated: "Actualizada · revisión %d", due: "para el %s", percent: "%s %.0f %%",
		internal: "Nuestra parte", external: "Su parte",
		mediums:    map[string]string{"phone": "Llamada telefónica", "video": "Videollamada", "webinar": "Webinar", "demo": "Demo", "in_person": "En persona"},
		directions: map[string]string{"inbound": "Entrante", "outbound": "Saliente", "internal": "Interna"},
		days:       [7]string{"dom", "lun", "mar", "mié", "jue", "vie", "sáb"},
		months:     [12]string{"ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"},
	}
}

// date returns a day, such as "Fri, Nov 27" or "vie, 27 nov".
func (w words) date(t time.Time) string {
	day, month := w.days[t.Weekday()], w.months[t.Month()-1]
	if w.english {
		return fmt.Sprintf("%s, %s %d", day, month, t.Day())
	}
	return fmt.Sprintf("%s, %d %s", day, t.Day(), month)
}

// moment returns a time in its own zone, such as
// "Fri, Nov 20, 2026, 3:00 PM (UTC−8)".
func (w words) moment(t time.Time) string {
	clock := t.Format("15:04")
	year := fmt.Sprintf(" %d, ", t.Year())
	if w.english {
		clock = t.Format("3:04 PM")
		year = fmt.Sprintf(", %d, ", t.Year())
	}
	return w.date(t) + year + clock + " (" + zone(t) + ")"
}

// zone returns the offset of a time, such as "UTC−8" or "UTC+5:30".
func zone(t time.Time) string {
	_, offset := t.Zone()
	sign := "+"
	if offset < 0 {
		sign, offset = "−", -offset
	}
	hours, minutes := offset/3600, offset%3600/60
	switch {
	case hours == 0 && minutes == 0:
		return "UTC"
	case minutes == 0:
		return fmt.Sprintf("UTC%s%d", sign, hours)
	}
	return fmt.Sprintf("UTC%s%d:%02d", sign, hours, minutes)
}

// length returns a duration, such as "45 s", "31 min" or "1 h 05 min".
func length(seconds int) string {
	minutes := (seconds + 30) / 60
	switch {
	case seconds < 60:
		return fmt.Sprintf("%d s", seconds)
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d h %02d min", minutes/60, minutes%60)
}
