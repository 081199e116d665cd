package slack

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/optiwe/callbridge/hub"
)

const maxRules = 100

// channelID matches the ids of channels, private channels and direct messages.
var channelID = regexp.MustCompile(`^[CGD][A-Z0-9]{2,}$`)

// destination is one that routing rules have been applied to: a channel, or a
// direct message to the call's owner.
type destination struct {
	channel       string // "" for the owner
	owner         bool
	allowExternal bool
}

// parseDestination reads a destination after routing. Anything but exactly one
// channel or the owner is an error.
func parseDestination(raw json.RawMessage) (destination, error) {
	var d destination
	m, ok := object(raw)
	if !ok || len(checkDestination(raw)) > 0 {
		return d, fmt.Errorf("slack: the destination is not valid")
	}
	if m["rules"] != nil {
		return d, fmt.Errorf("slack: the destination still has rules")
	}
	d.channel, _ = str(m["channel"])
	d.owner = m["dm"] != nil
	d.allowExternal = string(m["allow_external"]) == "true"
	return d, nil
}

// paceKey is the channel; what goes to owners goes to many places and has no
// pace.
func paceKey(raw json.RawMessage) string {
	d, err := parseDestination(raw)
	if err != nil {
		return ""
	}
	return d.channel
}

// checkDestination checks the three forms that a destination may have:
// {"channel":"C…"}, {"dm":"owner"} and {"rules":[{"when","channel"}…],
// "otherwise":"C…" or null}, each with "allow_external". Whether a rule's
// condition compiles is checked by the hub.
func checkDestination(raw json.RawMessage) []hub.FieldError {
	m, ok := object(raw)
	if !ok {
		return []hub.FieldError{{Detail: `must be an object such as {"channel":"C0123456789"}`}}
	}
	wrong := unknown("", m, "channel", "dm", "rules", "otherwise", "allow_external")
	wrong = append(wrong, checkForm(m)...)
	if v, ok := m["allow_external"]; ok && string(v) != "true" && string(v) != "false" {
		wrong = append(wrong, hub.FieldError{Pointer: "/allow_external", Detail: "must be true or false"})
	}
	return wrong
}

func checkForm(m map[string]json.RawMessage) []hub.FieldError {
	var forms []string
	for _, k := range []string{"channel", "dm", "rules"} {
		if _, ok := m[k]; ok {
			forms = append(forms, k)
		}
	}
	if len(forms) != 1 {
		return []hub.FieldError{{Detail: `must have exactly one of "channel", "dm" and "rules"`}}
	}
	var wrong []hub.FieldError
	if _, ok := m["otherwise"]; ok && forms[0] != "rules" {
		wrong = append(wrong, hub.FieldError{Pointer: "/otherwise", Detail: `may only stand beside "rules"`})
	}
	switch forms[0] {
	case "channel":
		wrong = append(wrong, checkChannel("/channel", m["channel"])...)
	case "dm":
		if s, ok := str(m["dm"]); !ok || s != "owner" {
			wrong = append(wrong, hub.FieldError{Pointer: "/dm", Detail: `must be "owner"`})
		}
	case "rules":
		wrong = append(wrong, checkRules(m)...)
	}
	return wrong
}

func checkRules(m map[string]json.RawMessage) []hub.FieldError {
	var rules []json.RawMessage
	if err := json.Unmarshal(m["rules"], &rules); err != nil || len(rules) == 0 || len(rules) > maxRules {
		return []hub.FieldError{{Pointer: "/rules", Detail: fmt.Sprintf("must be a list of 1 to %d rules", maxRules)}}
	}
	var wrong []hub.FieldError
	for i, raw := range rules {
		at := fmt.Sprintf("/rules/%d", i)
		rule, ok := object(raw)
		if !ok {
			wrong = append(wrong, hub.FieldError{Pointer: at, Detail: `must be an object with "when" and "channel"`})
			continue
		}
		wrong = append(wrong, unknown(at, rule, "when", "channel")...)
		if s, ok := str(rule["when"]); !ok || strings.TrimSpace(s) == "" {
			wrong = append(wrong, hub.FieldError{Pointer: at + "/when", Detail: "must be a condition in CEL"})
		}
		wrong = append(wrong, checkChannel(at+"/channel", rule["channel"])...)
	}
	if v, ok := m["otherwise"]; ok && string(v) != "null" {
		wrong = append(wrong, checkChannel("/otherwise", v)...)
	}
	return wrong
}

func checkChannel(at string, raw json.RawMessage) []hub.FieldError {
	if s, ok := str(raw); !ok || !channelID.MatchString(s) {
		return []hub.FieldError{{Pointer: at, Detail: "must be a channel's id such as C0123456789 (in Slack: the channel's details, at the bottom), not its name"}}
	}
	return nil
}

// unknown reports the members of m that are not among known. Their names are
// not repeated: they may be anything.
func unknown(at string, m map[string]json.RawMessage, known ...string) []hub.FieldError {
	var wrong []hub.FieldError
	for k := range m {
		if !slices.Contains(known, k) {
			wrong = append(wrong, hub.FieldError{Pointer: at + "/" + escapePointer(k), Detail: "is not a member of a Slack destination"})
		}
	}
	slices.SortFunc(wrong, func(a, b hub.FieldError) int { return strings.Compare(a.Pointer, b.Pointer) })
	return wrong
}

// escapePointer escapes a reference token, RFC 6901.
func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// object decodes a JSON object by the exact names of its members.
func object(raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return nil, false
	}
	return m, true
}

func str(raw json.RawMessage) (string, bool) {
	var s *string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}
