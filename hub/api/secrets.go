package api

import (
	"context"
	"net/http"
	"time"

	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/directory"
)

// SigningSecret is a secret without the secret itself, for answers.
type SigningSecret struct {
	ID        string     `json:"id" doc:"The secret's id. It is not the secret."`
	CreatedAt *time.Time `json:"created_at" doc:"When it was made."`
	CreatedBy string     `json:"created_by" doc:"Who made it."`
}

type madeSecret struct {
	SigningSecret
	Secret string `json:"secret" doc:"The secret itself, as Standard Webhooks writes it. It is shown this once."`
}

type secretID struct {
	ID string `path:"id" doc:"The secret's id." example:"sec_q3v5zr2m7wlxk4d6jtb2ho5nea"`
}

func viewSecret(s directory.SigningSecret) SigningSecret {
	return SigningSecret{ID: s.ID, CreatedAt: timeOrNull(s.CreatedAt), CreatedBy: s.CreatedBy}
}

func (a *API) registerSecrets() {
	const one = `{"id":"sec_q3v5zr2m7wlxk4d6jtb2ho5nea","created_at":"2026-11-20T09:00:00Z","created_by":"operator"`
	handle(a, op{
		pattern: "POST /v1/signing-secrets", id: "createSigningSecret", tag: tagOrg, summary: "Make a signing secret", status: http.StatusCreated,
		text:   "For producers that sign calls instead of carrying a key. An org has at most two, so that one can replace the other without a gap.",
		answer: example(one + `,"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`),
	}, func(ctx context.Context, who admin.Principal, _ *none) (madeSecret, error) {
		s, err := a.cfg.Admin.CreateSigningSecret(ctx, who)
		if err != nil {
			return madeSecret{}, err
		}
		return madeSecret{SigningSecret: viewSecret(s), Secret: s.Secret.Reveal()}, nil
	})
	handle(a, op{
		pattern: "GET /v1/signing-secrets", id: "listSigningSecrets", tag: tagOrg, summary: "List signing secrets",
		text: "Oldest first, without the secrets themselves.", answer: example(`{"items":[` + one + `}],"next_cursor":null}`),
	}, func(ctx context.Context, who admin.Principal, p *Page) (list[SigningSecret], error) {
		snap, err := a.cfg.Admin.Org(ctx, who.Org)
		if err != nil {
			return list[SigningSecret]{}, err
		}
		return cut(*p, snap.Secrets, func(s directory.SigningSecret) string { return s.ID }, viewSecret)
	})
	handleEmpty(a, op{
		pattern: "DELETE /v1/signing-secrets/{id}", id: "deleteSigningSecret", tag: tagOrg, summary: "Delete a signing secret",
		text: "At once and for good, on every replica: the next call signed with it is 401.",
	}, func(ctx context.Context, who admin.Principal, p *secretID) error {
		return a.cfg.Admin.DeleteSigningSecret(ctx, who, p.ID)
	})
}
