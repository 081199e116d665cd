package consent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/optiwe/callbridge/hub/rule"
)

// ChangeKind is what kind of change it is.
type ChangeKind string

// The kinds. A change widens if more, or something else, could leave by it.
const (
	FieldAdded         ChangeKind = "field_added"         // widens
	FieldRemoved       ChangeKind = "field_removed"       //
	ConditionNarrowed  ChangeKind = "condition_narrowed"  // certainly lets no call through that was not let through before
	ConditionChanged   ChangeKind = "condition_changed"   // widens, as far as can be told
	DestinationChanged ChangeKind = "destination_changed" // widens
	ConnectionChanged  ChangeKind = "connection_changed"  // widens
	MappingChanged     ChangeKind = "mapping_changed"     // does not: a mapping has nothing but the released fields
	ExpiryShortened    ChangeKind = "expiry_shortened"    //
	ExpiryExtended     ChangeKind = "expiry_extended"     // widens
)

// Widens reports whether a change of this kind needs an admin's acceptance.
func (k ChangeKind) Widens() bool {
	switch k {
	case FieldAdded, ConditionChanged, DestinationChanged, ConnectionChanged, ExpiryExtended:
		return true
	case FieldRemoved, ConditionNarrowed, MappingChanged, ExpiryShortened:
		return false
	}
	return true
}

// ChangeItem is one difference between two versions of terms.
type ChangeItem struct {
	Kind  ChangeKind `json:"kind"`
	Field Field      `json:"field,omitempty"` // with FieldAdded and FieldRemoved
}

// Change is the differences between two versions of terms. It is empty if
// there are none that matter.
type Change []ChangeItem

// Widens reports whether any of the differences widens: then the new terms
// hold only when an admin has accepted them. Otherwise they hold at once.
func (c Change) Widens() bool {
	return slices.ContainsFunc(c, func(i ChangeItem) bool { return i.Kind.Widens() })
}

// Compare returns what changes from before to after: the fields first, by name.
// In doubt a change counts as one that widens. A condition is known to be
// narrower if there was none before, or if it keeps every term that the former
// one joins with &&, each as it was but for blanks and brackets.
func Compare(before, after Terms) Change {
	var c Change
	was, is := newFieldSet(before.Fields).sorted(), newFieldSet(after.Fields).sorted()
	for _, f := range is {
		if !slices.Contains(was, f) {
			c = append(c, ChangeItem{FieldAdded, f})
		}
	}
	for _, f := range was {
		if !slices.Contains(is, f) {
			c = append(c, ChangeItem{FieldRemoved, f})
		}
	}
	c = append(c, compareWhen(before.When, after.When)...)
	if before.Connection != after.Connection {
		c = append(c, ChangeItem{Kind: ConnectionChanged})
	}
	if !sameJSON(before.Destination, after.Destination) {
		c = append(c, ChangeItem{Kind: DestinationChanged})
	}
	if !maps.EqualFunc(before.Mapping, after.Mapping, sameJSON) {
		c = append(c, ChangeItem{Kind: MappingChanged})
	}
	switch was, is := before.ExpiresAfterDays, after.ExpiresAfterDays; {
	case was == is:
	case is != 0 && (was == 0 || is < was):
		c = append(c, ChangeItem{Kind: ExpiryShortened})
	default:
		c = append(c, ChangeItem{Kind: ExpiryExtended})
	}
	return c
}

func compareWhen(before, after string) Change {
	before, after = strings.TrimSpace(before), strings.TrimSpace(after)
	switch {
	case before == after:
		return nil
	case before == "":
		return Change{{Kind: ConditionNarrowed}}
	case after == "":
		return Change{{Kind: ConditionChanged}}
	}
	was, err := rule.CompileCondition(before)
	if err != nil {
		return Change{{Kind: ConditionChanged}}
	}
	is, err := rule.CompileCondition(after)
	switch {
	case err != nil || !is.Implies(was):
		return Change{{Kind: ConditionChanged}}
	case was.Implies(is):
		return nil // written in another way
	}
	return Change{{Kind: ConditionNarrowed}}
}

// sameJSON reports whether both are the same JSON, whatever the order of
// members and the blanks. What is no JSON is the same only byte by byte.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	va, err := decodeJSON(a)
	if err != nil {
		return false
	}
	vb, err := decodeJSON(b)
	return err == nil && bytes.Equal(encode(va), encode(vb))
}

// Sentence says the change to people, in lang ("es", or else English).
func (i ChangeItem) Sentence(lang string) string {
	title := string(i.Field)
	if info, ok := i.Field.Describe(lang); ok {
		title = info.Title
	}
	if spanish(lang) {
		return i.spanish(title)
	}
	switch i.Kind {
	case FieldAdded:
		return fmt.Sprintf("%s is shared too.", title)
	case FieldRemoved:
		return fmt.Sprintf("%s is no longer shared.", title)
	case ConditionNarrowed:
		return "Fewer calls meet the condition."
	case ConditionChanged:
		return "Other calls than before may meet the condition."
	case DestinationChanged:
		return "Calls go to another place."
	case ConnectionChanged:
		return "Calls go to another account."
	case MappingChanged:
		return "The shared fields are arranged in another way."
	case ExpiryShortened:
		return "Copies are removed earlier."
	case ExpiryExtended:
		return "Copies stay longer."
	}
	return ""
}

//nolint:misspell // Spanish
func (i ChangeItem) spanish(title string) string {
	switch i.Kind {
	case FieldAdded:
		return fmt.Sprintf("Se comparte también: %s.", title)
	case FieldRemoved:
		return fmt.Sprintf("Ya no se comparte: %s.", title)
	case ConditionNarrowed:
		return "Menos llamadas cumplen la condición."
	case ConditionChanged:
		return "Pueden cumplir la condición otras llamadas que antes."
	case DestinationChanged:
		return "Las llamadas van a otro lugar."
	case ConnectionChanged:
		return "Las llamadas van a otra cuenta."
	case MappingChanged:
		return "Los campos compartidos se disponen de otra manera."
	case ExpiryShortened:
		return "Las copias se eliminan antes."
	case ExpiryExtended:
		return "Las copias permanecen más tiempo."
	}
	return ""
}
