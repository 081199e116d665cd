// Package mappings is the language in which an admin says what goes into a
// destination field: the name of a released field, a constant, or a CEL
// expression over the release. A mapping is compiled and checked when it is
// saved, and applied without any I/O.
//
// A mapping sees the view of a release and nothing else, so it can put into a
// field only what may leave anyway; see [Source] for what can be written.
// Whatever does not fit the destination is cut, replaced or left out, and
// declared as a [Loss]; one field that fails never stops the others.
package mappings

import "encoding/json"

// Type is what a destination field can hold.
type Type string

// The types of destination fields.
const (
	String Type = "string"
	Number Type = "number"
	Bool   Type = "bool"
	Date   Type = "date"     // YYYY-MM-DD
	Time   Type = "datetime" // RFC 3339
	List   Type = "list"     // of strings
)

// Field is one field of a destination, as far as a mapping has to know it.
type Field struct {
	Name      string
	Title     string   // for people; "" means Name
	Type      Type     // "" accepts any type but a list, which becomes a text
	MaxLength int      // in UTF-16 units, which is what both providers count at worst; of each entry of a list; 0 is no limit
	Values    []string // the only values allowed; nil allows all
	Required  bool     // a mapping may not make it empty: its default stays instead
}

// Schema is what a mapping is checked against.
type Schema struct {
	Fields []Field

	// Custom says whether a field that is not in Fields may be mapped all the
	// same, such as a field that the customer added at the provider. nil
	// allows none.
	Custom func(name string) bool
}

// LossKind is what kind of content did not survive the way to the destination.
type LossKind string

// The kinds of loss.
const (
	Truncated LossKind = "truncated" // cut to fit a length
	Replaced  LossKind = "replaced"  // replaced by a fallback, such as a picklist's default
	Dropped   LossKind = "dropped"   // left out
)

// Loss is one declared loss. It holds no content, so it may be kept in the
// audit log.
type Loss struct {
	Field  string   `json:"field"` // the destination's field
	Kind   LossKind `json:"kind"`
	Detail string   `json:"detail,omitempty"` // a sentence for people, without content
	From   int      `json:"from,omitempty"`   // length before, where Kind is Truncated
	To     int      `json:"to,omitempty"`     // length after
}

// Source is the uncompiled form of a mapping: destination field to what goes
// into it. That is one of
//
//   - a string that is the name of a released field, such as "summary",
//     "participants.names" or "custom.deal_size": the content of that field;
//   - any other string: a CEL expression over release, such as
//     "release.title + ' (' + release.account.name + ')'"; a fixed text is one
//     in quotes of its own, "'Call'". No name of a field means anything as an
//     expression, so the two cannot be taken for each other;
//   - a number or a boolean: that constant;
//   - null: the field is left empty.
//
// A field that is not mapped has what its connector gives it by default.
type Source map[string]json.RawMessage
