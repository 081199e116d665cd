package slack

import (
	"context"
	"slices"
	"strings"

	"github.com/optiwe/callbridge/connectors"
)

const methodAuthTest = "auth.test"

// Identify asks auth.test whose token it is. The scopes come from the header
// that Slack adds to the answer.
func (c *connector) Identify(ctx context.Context, a connectors.Account) (connectors.Identity, error) {
	who, err := c.client(a).AuthTestContext(ctx)
	if err != nil {
		return connectors.Identity{}, asError(methodAuthTest, err)
	}
	if who.TeamID == "" {
		return connectors.Identity{}, answerError(methodAuthTest, "empty_answer", "Slack did not say whose token it is")
	}
	id := connectors.Identity{AccountID: who.TeamID, AccountName: who.Team, Facts: map[string]string{}}
	for s := range strings.SplitSeq(who.Header.Get("X-Oauth-Scopes"), ",") {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(id.Scopes, s) {
			id.Scopes = append(id.Scopes, s)
		}
	}
	slices.Sort(id.Scopes)
	for k, v := range map[string]string{
		factTeam: who.TeamID, "team": who.Team, factURL: who.URL, factBotUser: who.UserID,
		factBot: who.BotID, factEnterprise: who.EnterpriseID, factScopes: strings.Join(id.Scopes, ","),
	} {
		if v != "" {
			id.Facts[k] = v
		}
	}
	return id, nil
}

// Revoke makes Slack forget the token. A token that Slack refuses for good
// already is no error; one that has only expired is: its refresh token lives.
func (c *connector) Revoke(ctx context.Context, a connectors.Account) error {
	_, err := c.client(a).SendAuthRevokeContext(ctx, "")
	e := asError(methodRevoke, err)
	if e == nil || e.Class == connectors.Unauthorized && e.Permanent {
		return nil
	}
	return e
}

// holds reports whether the account is known to hold a scope.
func holds(a connectors.Account, scope string) bool {
	return slices.Contains(strings.Split(a.Facts[factScopes], ","), scope)
}
