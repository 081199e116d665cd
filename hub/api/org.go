package api

import (
	"context"
	"math"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
)

type orgView struct {
	ID            hub.OrgID  `json:"id" doc:"The org."`
	Name          string     `json:"name" doc:"What people call it."`
	Region        string     `json:"region" doc:"Where its data is kept."`
	Language      string     `json:"language" doc:"The language of the texts that people read at destinations."`
	State         string     `json:"state" enum:"active,suspended,cancelled" doc:"active: calls flow. suspended: they are taken in and held. cancelled: for good."`
	RetentionDays *int       `json:"retention_days" doc:"For how many days call content is kept after its last transfer ended; null: as long as the instance's setting says."`
	Terms         string     `json:"terms" doc:"The version of the terms in force, which enabling an integration accepts."`
	CreatedAt     *time.Time `json:"created_at" doc:"When it was made."`
}

type orgPatch struct {
	State string `json:"state" enum:"active,suspended" doc:"suspended stops everything at once: what waits is held, and goes out in order when the org is active again."`
}

const orgExample = `{"id":"org_acme","name":"Acme","region":"us","language":"en","state":"active","retention_days":null,"terms":"2020-05-01","created_at":"2026-11-20T09:00:00Z"}`

func (a *API) registerOrg() {
	handle(a, op{
		pattern: "GET /v1/org", id: "getOrg", tag: tagOrg, summary: "Look at the org",
		text: "The org that the key belongs to.", answer: example(orgExample),
	}, func(ctx context.Context, who admin.Principal, _ *none) (orgView, error) { return a.viewOrg(ctx, who) })
	handleBody(a, op{
		pattern: "PATCH /v1/org", id: "changeOrg", tag: tagOrg, summary: "Suspend or resume the org",
		text:    "Suspending stops all sharing at once. Nothing is lost: calls are taken in and held.",
		request: example(`{"state":"suspended"}`), answer: example(orgExample),
	}, func(ctx context.Context, who admin.Principal, _ *none, b *orgPatch) (orgView, error) {
		if err := a.cfg.Admin.SetOrgState(ctx, who, hub.OrgState(b.State)); err != nil {
			return orgView{}, err
		}
		return a.viewOrg(ctx, who)
	})
}

func (a *API) viewOrg(ctx context.Context, who admin.Principal) (orgView, error) {
	snap, err := a.cfg.Admin.Org(ctx, who.Org)
	if err != nil {
		return orgView{}, err
	}
	o := snap.Org
	return orgView{
		ID: o.ID, Name: o.Name, Region: o.Region, Language: o.Language, State: string(o.State),
		RetentionDays: numberOrNull(int(math.Ceil(o.Retention.Hours() / 24))), Terms: a.cfg.Admin.Terms(), CreatedAt: timeOrNull(o.CreatedAt),
	}, nil
}
