package consent

// Reason says why a call is not shared, or not yet. The list is closed.
type Reason string

// The reasons, in the order in which they are looked for: a decision has the
// first that applies. Those up to [NoFieldLeft] withhold the call; the last
// two hold it, except that a connection that is gone for good withholds.
const (
	PrivateCall      Reason = "private_call"      // the call is private: never shared, whatever an integration says
	RecordingDenied  Reason = "recording_denied"  // somebody refused to be recorded: never shared either
	OrgCancelled     Reason = "org_cancelled"     // the org is cancelled, or in no state that is known
	NotEnabled       Reason = "not_enabled"       // the integration is not enabled, or has no grant
	ConnectionBroken Reason = "connection_broken" // disconnected: withheld. Needs to be reconnected, or paused: held
	TermsOutdated    Reason = "terms_outdated"    // the grant was made under other terms than those in force
	GrantChanged     Reason = "grant_changed"     // what was permitted when the call was accepted is no longer
	RuleNotMatched   Reason = "rule_not_matched"  // the integration's condition does not hold
	RuleFailed       Reason = "rule_failed"       // a condition has no result for the call
	NoRoute          Reason = "no_route"          // none of the routing rules holds
	NoFieldLeft      Reason = "no_field_left"     // the call carries none of the fields that may leave
	OrgSuspended     Reason = "org_suspended"     // the org is suspended: held
)

// Reasons lists every reason, in the order in which they are looked for.
func Reasons() []Reason {
	return []Reason{
		PrivateCall, RecordingDenied, OrgCancelled, NotEnabled, ConnectionBroken, TermsOutdated, GrantChanged,
		RuleNotMatched, RuleFailed, NoRoute, NoFieldLeft, OrgSuspended,
	}
}

// Sentence says the reason to people, in lang ("es", or else English). It is ""
// for "" and for what is no reason.
func (r Reason) Sentence(lang string) string {
	if spanish(lang) {
		return r.spanish()
	}
	switch r {
	case PrivateCall:
		return "The call is private. Private calls are never shared."
	case RecordingDenied:
		return "Somebody in the call did not agree to being recorded. Such calls are never shared."
	case OrgCancelled:
		return "The organisation's account is cancelled. Nothing leaves any more."
	case NotEnabled:
		return "The integration is not enabled. An admin can enable it."
	case ConnectionBroken:
		return "The connection to the provider does not work. An admin must connect it again."
	case TermsOutdated:
		return "The integration was enabled under earlier terms. An admin must accept the current ones."
	case GrantChanged:
		return "What may be shared was changed after the call came in, and no longer covers it."
	case RuleNotMatched:
		return "The call does not meet the integration's condition."
	case RuleFailed:
		return "The integration's condition has no result for this call, so it is not shared."
	case NoRoute:
		return "None of the integration's routing rules says where this call goes."
	case NoFieldLeft:
		return "The call carries none of the fields that the integration may share."
	case OrgSuspended:
		return "The organisation's account is suspended. The call is shared when it is active again."
	}
	return ""
}

//nolint:misspell // Spanish
func (r Reason) spanish() string {
	switch r {
	case PrivateCall:
		return "La llamada es privada. Las llamadas privadas nunca se comparten."
	case RecordingDenied:
		return "Alguien en la llamada no aceptó que se grabara. Esas llamadas nunca se comparten."
	case OrgCancelled:
		return "La cuenta de la organización está cancelada. Ya no sale nada."
	case NotEnabled:
		return "La integración no está activada. Un administrador puede activarla."
	case ConnectionBroken:
		return "La conexión con el proveedor no funciona. Un administrador debe volver a conectarla."
	case TermsOutdated:
		return "La integración se activó con condiciones anteriores. Un administrador debe aceptar las actuales."
	case GrantChanged:
		return "Lo que se puede compartir cambió después de llegar la llamada y ya no la incluye."
	case RuleNotMatched:
		return "La llamada no cumple la condición de la integración."
	case RuleFailed:
		return "La condición de la integración no da resultado para esta llamada, así que no se comparte."
	case NoRoute:
		return "Ninguna de las reglas de la integración dice adónde va esta llamada."
	case NoFieldLeft:
		return "La llamada no contiene ninguno de los campos que la integración puede compartir."
	case OrgSuspended:
		return "La cuenta de la organización está suspendida. La llamada se compartirá cuando vuelva a estar activa."
	}
	return ""
}
