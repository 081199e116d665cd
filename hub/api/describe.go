package api

import (
	"maps"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/audit"
	"github.com/optiwe/callbridge/mappings"
)

// describeShared says in the document what types of other packages hold. They
// have no business to know of it.
func describeShared(r huma.Registry) {
	describe[hub.FieldError](r, map[string]string{
		"pointer": "A JSON pointer to the member, such as /owner/email; empty for the whole. A query parameter is pointed at as /name.",
		"detail":  "What is expected of it. It holds none of the value.",
	})
	describe[mappings.Loss](r, map[string]string{
		"field":  "The destination's field.",
		"kind":   "truncated: cut to fit. replaced: by a fallback. dropped: left out.",
		"detail": "More about it, without content.",
		"from":   "With truncated: the length before.",
		"to":     "With truncated: the length after.",
	})
	describe[audit.Entry](r, map[string]string{
		"id":             "Its place in the log: 1-0, 2-0 and so on.",
		"at":             "When, by the store's clock.",
		"type":           "What happened, such as transfer.delivered.",
		"actor":          "Who did it: hub, operator, key:<id> or signature:<secret id>.",
		"call_id":        "The call that it is about.",
		"revision":       "The revision of the call.",
		"integration_id": "The integration that it is about.",
		"connection_id":  "The connection that it is about.",
		"transfer_id":    "The transfer that it is about.",
		"grant":          "The grant that it was done under, or that it made.",
		"kind":           "What the transfer does: share, update or erase.",
		"attempt":        "Which attempt of the transfer it was.",
		"reason":         "Why: a code of ours or the provider's.",
		"fields":         "Names of the fields that were released or changed.",
		"digest":         "A keyed digest of what was sent.",
		"count":          "How many, such as transfers that a call made.",
		"subject":        "The id of the key, the secret or the erasure that it is about.",
	})
	loss := schemaOf[mappings.Loss](r)
	loss.Properties["kind"].Enum = []any{string(mappings.Truncated), string(mappings.Replaced), string(mappings.Dropped)}
}

func describe[T any](r huma.Registry, texts map[string]string) {
	s := schemaOf[T](r)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if p, ok := s.Properties[name]; ok {
			p.Description = texts[name]
		}
	}
}
