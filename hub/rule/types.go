package rule

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/optiwe/callbridge/hub"
)

// objectType is a type with named members. Its values are [object]s.
type objectType struct {
	cel     *types.Type
	members []member
	place   map[string]int // of a member in members and in a value
}

// member is a member of an objectType.
type member struct {
	name string
	typ  *types.Type

	// max is the greatest size that estimates reckon with: characters of a
	// string, entries of a list or map.
	max uint64

	// needs names the released fields that give this member: any one of them
	// will do. nil: every release has it, or the object it is in decides.
	needs []string
}

// newType returns a type. Its name carries a prefix so that no rule uses it by
// accident: in CEL a type's name is a value.
func newType(name string, members ...member) *objectType {
	name = "callbridge." + name
	t := &objectType{cel: cel.ObjectType(name), members: members, place: make(map[string]int, len(members))}
	for i, m := range members {
		t.place[m.name] = i
	}
	return t
}

// Sizes that estimates reckon with: the bounds of the call format.
const (
	sizeShort = hub.MaxShortText
	sizeURL   = hub.MaxURL
	sizeText  = hub.MaxText
	sizeLong  = hub.MaxSummary
	sizeList  = hub.MaxList
)

func text(name string, size uint64, needs ...string) member {
	return member{name: name, typ: cel.StringType, max: size, needs: needs}
}

func texts(name string, needs ...string) member {
	return member{name: name, typ: cel.ListType(cel.StringType), max: sizeList, needs: needs}
}

func list(name string, of *objectType, needs ...string) member {
	return member{name: name, typ: cel.ListType(of.cel), max: sizeList, needs: needs}
}

func thing(name string, of *types.Type, needs ...string) member {
	return member{name: name, typ: of, max: 1, needs: needs}
}

// The types of rules. They are never changed.
//
//nolint:gochecknoglobals // constant tables
var (
	orgType = newType("Org", text("id", sizeShort), text("name", sizeShort), text("region", sizeShort), text("language", sizeShort))

	personType = newType("Person", text("name", sizeShort), text("email", sizeShort))

	// A participant's members as a release has them.
	participantType = newType("Participant",
		text("name", sizeShort, "participants.names"),
		text("email", sizeShort, "participants.emails"),
		text("phone", sizeShort, "participants.phones"),
		text("title", sizeShort, "participants.titles"),
		text("company", sizeShort, "account"),
		text("side", sizeShort),
	)
	accountType = newType("Account", text("name", sizeShort), text("domain", sizeShort))
	crmType     = newType("CRM", text("account_id", sizeShort), text("opportunity_id", sizeShort))
	customType  = cel.MapType(cel.StringType, cel.DynType)

	nextStepType  = newType("NextStep", text("text", sizeText), text("owner_email", sizeShort), text("due_on", sizeShort))
	talkShareType = newType("TalkShare", text("email", sizeShort), thing("share", cel.DoubleType))

	callType = newType("Call",
		text("id", sizeShort),
		text("title", sizeShort),
		thing("started_at", cel.TimestampType),
		thing("duration_seconds", cel.IntType),
		text("direction", sizeShort),
		text("medium", sizeShort),
		text("visibility", sizeShort),
		text("recording_consent", sizeShort),
		text("language", sizeShort),
		text("url", sizeURL),
		text("recording_url", sizeURL),
		text("transcript_url", sizeURL),
		thing("owner", personType.cel),
		list("participants", participantType),
		thing("account", accountType.cel),
		thing("crm", crmType.cel),
		text("summary", sizeLong),
		texts("key_points"),
		list("next_steps", nextStepType),
		texts("topics"),
		thing("sentiment", cel.DoubleType),
		list("talk_ratio", talkShareType),
		texts("risks"),
		texts("competitors"),
		text("disposition", sizeShort),
		texts("tags"),
		member{name: "custom", typ: customType, max: sizeList},
	)

	// In a release, next steps and talk ratio also say who it was as far as
	// that is released.
	releasedStepType = newType("ReleasedNextStep",
		text("text", sizeText), text("owner_name", sizeShort), text("owner_email", sizeShort), text("due_on", sizeShort))
	releasedShareType = newType("ReleasedTalkShare",
		text("name", sizeShort), text("email", sizeShort), text("side", sizeShort), thing("share", cel.DoubleType))

	releaseType = newType("Release",
		text("id", sizeShort),
		thing("revision", cel.IntType),
		text("title", sizeShort, "title"),
		thing("started_at", cel.TimestampType, "time"),
		thing("duration_seconds", cel.IntType, "time"),
		text("direction", sizeShort, "direction"),
		text("medium", sizeShort, "medium"),
		text("url", sizeURL, "url"),
		text("recording_url", sizeURL, "recording_url"),
		text("transcript_url", sizeURL, "transcript_url"),
		thing("owner", personType.cel, "owner"),
		list("participants", participantType,
			"participants.names", "participants.emails", "participants.phones", "participants.titles"),
		thing("account", accountType.cel, "account"),
		text("summary", sizeLong, "summary"),
		texts("key_points", "key_points"),
		list("next_steps", releasedStepType, "next_steps"),
		texts("topics", "topics"),
		thing("sentiment", cel.DoubleType, "sentiment"),
		list("talk_ratio", releasedShareType, "talk_ratio"),
		texts("risks", "risks"),
		texts("competitors", "competitors"),
		text("disposition", sizeShort, "disposition"),
		texts("tags", "tags"),
		member{name: "custom", typ: customType, max: sizeList}, // needs: see Expression.Needs
	)

	allTypes = byName(orgType, personType, participantType, accountType, crmType, nextStepType, talkShareType, callType,
		releasedStepType, releasedShareType, releaseType)
)

func byName(all ...*objectType) map[string]*objectType {
	out := make(map[string]*objectType, len(all))
	for _, t := range all {
		out[t.cel.TypeName()] = t
	}
	return out
}

// provider tells CEL the members of our types and how to read them.
type provider struct {
	types.Provider
}

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	if t, ok := allTypes[name]; ok {
		return types.NewTypeTypeWithParam(t.cel), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	t, ok := allTypes[name]
	if !ok {
		return p.Provider.FindStructFieldNames(name)
	}
	names := make([]string, len(t.members))
	for i, m := range t.members {
		names[i] = m.name
	}
	return names, true
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	t, ok := allTypes[name]
	if !ok {
		return p.Provider.FindStructFieldType(name, field)
	}
	i, ok := t.place[field]
	if !ok {
		return nil, false
	}
	return &types.FieldType{
		Type: t.members[i].typ,
		IsSet: func(target any) bool {
			o, ok := target.(*object)
			return ok && o.typ == t && present(o.values[i])
		},
		GetFrom: func(target any) (any, error) {
			o, ok := target.(*object)
			if !ok || o.typ != t {
				return nil, fmt.Errorf("read a member of %s: not one", name)
			}
			if o.values[i] == nil {
				return nil, absentError{field}
			}
			return o.values[i], nil
		},
	}, true
}

// present reports whether has() is true of a member: it is there, and not
// empty where empty and absent are the same.
func present(v ref.Val) bool {
	switch v := v.(type) {
	case nil:
		return false
	case types.String:
		return v != ""
	case interface{ Size() ref.Val }:
		return v.Size() != types.Int(0)
	}
	return true
}

// absentError is the error of reading a number or an object that the call does
// not carry.
type absentError struct{ member string }

func (e absentError) Error() string      { return "absent: " + e.member }
func (absentError) Is(target error) bool { return target == ErrAbsent }

// object is a value with members. It is a CEL value itself, so that evaluating
// wraps nothing.
type object struct {
	typ    *objectType
	values []ref.Val // nil: absent
}

func newObject(t *objectType, values ...ref.Val) *object { return &object{typ: t, values: values} }

var errNotNative = errors.New("an object is no value of its own; name one of its members")

// ConvertToNative implements ref.Val.
func (*object) ConvertToNative(reflect.Type) (any, error) { return nil, errNotNative }

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.typ.cel
	}
	return types.WrapErr(errNotNative)
}

// Equal implements ref.Val: objects are equal if all their members are.
func (o *object) Equal(other ref.Val) ref.Val {
	p, ok := other.(*object)
	if !ok || p.typ != o.typ {
		return types.False
	}
	for i, v := range o.values {
		w := p.values[i]
		if (v == nil) != (w == nil) || v != nil && v.Equal(w) != types.True {
			return types.False
		}
	}
	return types.True
}

// Type implements ref.Val.
func (o *object) Type() ref.Type { return o.typ.cel }

// Value implements ref.Val.
func (o *object) Value() any { return o }
