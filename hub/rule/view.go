package rule

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/optiwe/callbridge/hub"
)

// View is a call in the form in which rules read it: made once, and then used
// for every rule that is asked about the call. It is immutable; it keeps
// pointers into the call, which must not change while it is in use.
//
// A text or list that the call does not carry is empty; sentiment, account and
// crm are absent, and reading them is an error unless has() was asked first.
type View struct{ call ref.Val }

// ViewOf returns the view of a call.
func ViewOf(call *hub.Call) *View {
	v := newObject(callType,
		types.String(call.ID),
		types.String(call.Title),
		types.Timestamp{Time: call.StartedAt},
		types.Int(call.DurationSeconds),
		types.String(call.Direction),
		types.String(call.Medium),
		types.String(call.Visibility),
		types.String(call.RecordingConsent),
		types.String(call.Language),
		types.String(call.URL),
		types.String(call.RecordingURL),
		types.String(call.TranscriptURL),
		newObject(personType, types.String(call.Owner.Name), types.String(call.Owner.Email)),
		objects(call.Participants, func(p *hub.Participant) ref.Val {
			return newObject(participantType, types.String(p.Name), types.String(p.Email), types.String(p.Phone),
				types.String(p.Title), types.String(p.Company), types.String(p.Side))
		}),
		nil, // account
		nil, // crm
		types.String(call.Summary),
		stringList(call.KeyPoints),
		objects(call.NextSteps, func(s *hub.NextStep) ref.Val {
			return newObject(nextStepType, types.String(s.Text), types.String(s.OwnerEmail), types.String(s.DueOn))
		}),
		stringList(call.Topics),
		nil, // sentiment
		objects(call.TalkRatio, func(s *hub.TalkShare) ref.Val {
			return newObject(talkShareType, types.String(s.Email), types.Double(s.Share))
		}),
		stringList(call.Risks),
		stringList(call.Competitors),
		types.String(call.Disposition),
		stringList(call.Tags),
		customMap(call.Custom),
	)
	if a := call.Account; a != nil {
		v.values[callType.place["account"]] = newObject(accountType, types.String(a.Name), types.String(a.Domain))
	}
	if c := call.CRM; c != nil {
		v.values[callType.place["crm"]] = newObject(crmType, types.String(c.AccountID), types.String(c.OpportunityID))
	}
	if s := call.Sentiment; s != nil {
		v.values[callType.place["sentiment"]] = types.Double(*s)
	}
	return &View{call: v}
}

func stringList(l []string) ref.Val { return types.NewStringList(types.DefaultTypeAdapter, l) }

func objects[T any](in []T, f func(*T) ref.Val) ref.Val {
	out := make([]ref.Val, len(in))
	for i := range in {
		out[i] = f(&in[i])
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

// customMap returns custom members: strings, booleans, null, and numbers as
// int where they are written without fraction and exponent and fit 64 bits,
// else as double.
func customMap(in map[string]json.RawMessage) ref.Val {
	out := make(map[string]any, len(in))
	for name, raw := range in {
		if v, ok := decode(raw); ok {
			out[name] = v
		}
	}
	return types.NewStringInterfaceMap(types.DefaultTypeAdapter, out)
}

// decode returns a JSON scalar as a CEL value.
func decode(raw json.RawMessage) (ref.Val, bool) {
	raw = bytes.TrimSpace(raw)
	switch string(raw) {
	case "":
		return nil, false
	case "null":
		return types.NullValue, true
	case "true":
		return types.True, true
	case "false":
		return types.False, true
	}
	if raw[0] == '"' {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return nil, false
		}
		return types.String(s), true
	}
	return number(json.Number(raw))
}

// scalar returns a JSON scalar as a CEL value.
func scalar(v any) (ref.Val, bool) {
	switch v := v.(type) {
	case nil:
		return types.NullValue, true
	case string:
		return types.String(v), true
	case bool:
		return types.Bool(v), true
	case int:
		return types.Int(v), true
	case int64:
		return types.Int(v), true
	case float64:
		return types.Double(v), true
	case json.Number:
		return number(v)
	}
	return nil, false
}

func number(n json.Number) (ref.Val, bool) {
	if !strings.ContainsAny(string(n), ".eE") {
		if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
			return types.Int(i), true
		}
	}
	f, err := n.Float64()
	if err != nil {
		return nil, false
	}
	return types.Double(f), true
}

// fromJSON returns the object of type t that a map in the shape of the call
// format describes. What has the wrong type counts as absent.
func fromJSON(t *objectType, in map[string]any) *object {
	o := newObject(t, make([]ref.Val, len(t.members))...)
	for i, m := range t.members {
		o.values[i] = memberFromJSON(m.typ, in[m.name])
	}
	return o
}

func memberFromJSON(t *types.Type, in any) ref.Val {
	switch t.Kind() { //nolint:exhaustive // no member has another kind
	case types.StringKind:
		s, _ := in.(string)
		return types.String(s)
	case types.IntKind, types.DoubleKind:
		return numberAs(t, in)
	case types.TimestampKind:
		s, _ := in.(string)
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil
		}
		return types.Timestamp{Time: at}
	case types.StructKind:
		m, ok := in.(map[string]any)
		if !ok {
			return nil
		}
		return fromJSON(allTypes[t.TypeName()], m)
	case types.MapKind:
		m, _ := in.(map[string]any)
		out := make(map[string]any, len(m))
		for k, v := range m {
			if s, ok := scalar(v); ok {
				out[k] = s
			}
		}
		return types.NewStringInterfaceMap(types.DefaultTypeAdapter, out)
	case types.ListKind:
		l, _ := in.([]any)
		out := make([]ref.Val, 0, len(l))
		for _, e := range l {
			if v := memberFromJSON(t.Parameters()[0], e); v != nil {
				out = append(out, v)
			}
		}
		return types.NewRefValList(types.DefaultTypeAdapter, out)
	}
	return nil
}

func numberAs(t *types.Type, in any) ref.Val {
	v, ok := scalar(in)
	if !ok {
		return nil
	}
	switch n := v.(type) {
	case types.Int:
		if t.Kind() == types.DoubleKind {
			return types.Double(n)
		}
		return n
	case types.Double:
		if t.Kind() == types.IntKind {
			return types.Int(n)
		}
		return n
	}
	return nil
}
