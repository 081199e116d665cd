package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/directory"
)

// APIKey is a key without the key itself, for answers.
type APIKey struct {
	ID        string     `json:"id" doc:"The key's id. It is not the key."`
	Name      string     `json:"name" doc:"What people call it."`
	Role      string     `json:"role" enum:"ingest,auditor,admin" doc:"What it may do."`
	CreatedAt *time.Time `json:"created_at" doc:"When it was made."`
	CreatedBy string     `json:"created_by" doc:"Who made it."`
}

type madeKey struct {
	APIKey
	Key string `json:"key" doc:"The key itself. It is shown this once."`
}

type newKey struct {
	Role string `json:"role" enum:"ingest,auditor,admin" doc:"What it may do: ingest posts calls and reads what became of them, auditor reads, admin does everything in the org."`
	Name string `json:"name,omitempty" maxLength:"200" doc:"What people call it."`
}

type keyID struct {
	ID string `path:"id" doc:"The key's id." example:"b5rj7tq2l4x6"`
}

func viewKey(k directory.Key) APIKey {
	return APIKey{ID: k.ID, Name: k.Name, Role: string(k.Role), CreatedAt: timeOrNull(k.CreatedAt), CreatedBy: k.CreatedBy}
}

func (a *API) registerKeys() {
	const one = `{"id":"b5rj7tq2l4x6","name":"Call pipeline","role":"ingest","created_at":"2026-11-20T09:00:00Z","created_by":"operator"`
	handleBody(a, op{
		pattern: "POST /v1/keys", id: "createKey", tag: tagOrg, summary: "Make an API key", status: http.StatusCreated,
		text:    "The key is in this answer and nowhere else: we keep a digest of it.",
		request: example(`{"role":"ingest","name":"Call pipeline"}`),
		answer:  example(one + `,"key":"cb_org_acme_b5rj7tq2l4x6_…"}`),
	}, func(ctx context.Context, who admin.Principal, _ *none, b *newKey) (madeKey, error) {
		k, err := a.cfg.Admin.CreateKey(ctx, who, hub.Role(b.Role), b.Name)
		if err != nil {
			return madeKey{}, err
		}
		return madeKey{APIKey: viewKey(k.Key), Key: k.Text.Reveal()}, nil
	})
	handle(a, op{
		pattern: "GET /v1/keys", id: "listKeys", tag: tagOrg, summary: "List API keys",
		text: "Oldest first, without the keys themselves.", answer: example(`{"items":[` + one + `}],"next_cursor":null}`),
	}, func(ctx context.Context, who admin.Principal, p *Page) (list[APIKey], error) {
		snap, err := a.cfg.Admin.Org(ctx, who.Org)
		if err != nil {
			return list[APIKey]{}, err
		}
		id := func(k directory.Key) string { return k.ID }
		all := sortedBy(slices.Collect(maps.Values(snap.Keys)), func(k directory.Key) time.Time { return k.CreatedAt }, id)
		return cut(*p, all, id, viewKey)
	})
	handleEmpty(a, op{
		pattern: "DELETE /v1/keys/{id}", id: "revokeKey", tag: tagOrg, summary: "Revoke an API key",
		text: "At once and for good, on every replica: the next request with it is 401.",
	}, func(ctx context.Context, who admin.Principal, p *keyID) error {
		return a.cfg.Admin.RevokeKey(ctx, who, p.ID)
	})
}
