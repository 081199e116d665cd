package api

import (
	"strings"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
	"github.com/optiwe/callbridge/hub/store"
)

// Language is the language in which texts for people are asked for.
type Language struct {
	Lang   string `query:"lang" maxLength:"35" example:"es" doc:"The language of texts for people, es or en. Goes before Accept-Language."`
	Accept string `header:"Accept-Language" example:"es-MX,es;q=0.9,en;q=0.8" doc:"The language of texts for people: Spanish where it comes before English, else English."`
}

// lang returns "es" or "en".
func (l Language) lang() string {
	for tag := range strings.SplitSeq(l.Lang+","+l.Accept, ",") {
		tag, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(tag)), ";")
		primary, _, _ := strings.Cut(strings.TrimSpace(tag), "-")
		if primary == "es" || primary == "en" {
			return primary
		}
	}
	return "en"
}

// sentence says why a transfer is where it is; "" if it is on its way or
// arrived, and nothing is to be said about that.
func sentence(t store.Transfer, lang string) string {
	if t.State == hub.StateDead || t.State == hub.StateAmbiguous || t.State == hub.StateWaiting && t.Reason == "" {
		return t.ErrDetail // the provider's or the connector's own account
	}
	if s := consent.Reason(t.Reason).Sentence(lang); s != "" {
		return s
	}
	en, es := reasonTexts(t.State, t.Reason)
	if lang == "es" && es != "" {
		return es
	}
	return en
}

// reasonTexts says reasons that are not those of a decision, in English and
// Spanish.
func reasonTexts(state hub.TransferState, reason string) (en, es string) {
	switch reason {
	case "api_budget":
		return "The share of the provider's daily API allowance that calls may use is used up. It goes on by itself when there is room again.",
			"Se agotó la parte de la cuota diaria de la API del proveedor reservada para las llamadas. Continuará sola cuando haya margen."
	case "content_gone":
		return "The call's content was gone before it could be sent.", "El contenido de la llamada ya no existía cuando se iba a enviar."
	case "erased":
		return "The call was erased before it was sent.", "La llamada se eliminó antes de enviarse."
	case "disconnected":
		return "The account was disconnected before it was sent.", "La cuenta se desconectó antes de enviarse."
	case "disconnecting":
		return "The account is being disconnected.", "La cuenta se está desconectando."
	case "no_copy":
		return "There was no copy to remove.", "No había ninguna copia que eliminar."
	}
	switch state {
	case hub.StateSuperseded:
		return "A newer revision of the call took its place.", "Una revisión más reciente de la llamada ocupó su lugar."
	case hub.StateErased:
		return "The copy was removed again.", "La copia se eliminó después."
	case hub.StateHeld:
		return "It waits for the connection or the org, and goes on by itself.", "Espera a la conexión o a la organización y continuará sola."
	case hub.StateWithdrawn:
		return "The permission went away before it was sent.", "El permiso se retiró antes de enviarse."
	case hub.StateWaiting, hub.StateSending, hub.StateDelivered, hub.StateDead, hub.StateAmbiguous:
	}
	return "", ""
}
