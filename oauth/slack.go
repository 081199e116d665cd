package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/optiwe/callbridge/hub"
)

// SlackConfig is what refreshing at Slack needs. All fields are required.
type SlackConfig struct {
	ClientID     string
	ClientSecret hub.Secret
	APIURL       string // base of Slack's Web API, ends in "/"
	Client       ClientFunc
}

// Slack refreshes the bot tokens of workspaces for which the app has token
// rotation switched on. Bot tokens without rotation do not expire and have no
// refresh token.
type Slack struct {
	cfg SlackConfig
	api *url.URL
}

var _ Refresher = (*Slack)(nil)

// NewSlack returns a Slack.
func NewSlack(cfg SlackConfig) (*Slack, error) {
	switch {
	case cfg.ClientID == "" || cfg.ClientSecret.IsZero():
		return nil, errors.New("oauth: slack: client id and client secret are required")
	case cfg.Client == nil:
		return nil, errors.New("oauth: slack: Client is required")
	case !strings.HasSuffix(cfg.APIURL, "/"):
		return nil, errors.New("oauth: slack: the API address must end in /")
	}
	api, err := baseURL(cfg.APIURL)
	if err != nil {
		return nil, fmt.Errorf("oauth: slack: API address: %w", err)
	}
	return &Slack{cfg: cfg, api: api}, nil
}

// Refresh implements [Refresher] by one POST to oauth.v2.access. Slack rotates
// always and tells the new token's life.
func (s *Slack) Refresh(ctx context.Context, refresh hub.Secret, _ map[string]string) (Tokens, error) {
	ctx, cancel, err := begin(ctx)
	if err != nil {
		return Tokens{}, err
	}
	defer cancel()
	client, watch := newSingle(s.cfg.Client(s.api))
	asked := time.Now() // the life counts from before the answer, so that it is never taken for too long
	r, err := slack.RefreshOAuthV2TokenContext(ctx, client, s.cfg.ClientID, s.cfg.ClientSecret.Reveal(), refresh.Reveal(),
		slack.OAuthOptionAPIURL(s.cfg.APIURL))
	if err != nil {
		return Tokens{}, slackError(watch, err)
	}
	if !r.Ok || r.AccessToken == "" { // {} and {"ok":false} come without an error
		return Tokens{}, watch.cut(errNoAccess)
	}
	out := Tokens{Access: hub.NewSecret(r.AccessToken), Refresh: hub.NewSecret(r.RefreshToken), Facts: map[string]string{}}
	if r.RefreshToken == "" {
		out.Refresh = refresh
	}
	if r.ExpiresIn > 0 {
		out.Expires = asked.Add(time.Duration(r.ExpiresIn) * time.Second)
	}
	if r.Scope != "" {
		out.Scopes = strings.Split(r.Scope, ",")
	}
	for k, v := range map[string]string{"team_id": r.Team.ID, "bot_user_id": r.BotUserID, "app_id": r.AppID} {
		if v != "" {
			out.Facts[k] = v
		}
	}
	return out, nil
}

// slackError classifies what slack-go returned.
//
// Codes: docs.slack.dev, oauth.v2.access.
func slackError(watch *single, err error) *RefreshError {
	if limited, ok := errors.AsType[*slack.RateLimitedError](err); ok {
		e := ofStatus(http.StatusTooManyRequests)
		e.RetryAfter = min(max(limited.RetryAfter, 0), time.Hour)
		return e
	}
	if status := int(watch.status.Load()); status != 0 && (status < 200 || status > 299) {
		return ofStatus(status)
	}
	refused, ok := errors.AsType[slack.SlackErrorResponse](err)
	if !ok {
		return watch.cut(err)
	}
	e := &RefreshError{Code: codeOf(refused.Err), Status: http.StatusOK}
	switch e.Code {
	case "invalid_refresh_token", "token_revoked", "token_expired", "invalid_auth":
		e.Kind, e.Detail = Dead, "Slack no longer accepts our token: the app was removed or its token replaced; connect again"
	case "account_inactive", "team_access_not_granted":
		e.Kind, e.Detail = Dead, "the Slack workspace no longer lets the app in; connect again"
	case "ratelimited", "rate_limited":
		e.Kind, e.Detail, e.RetryAfter = Transient, "Slack takes no more token requests for now; it is tried again", time.Minute
	case "internal_error", "fatal_error", "service_unavailable", "request_timeout":
		e.Kind, e.Detail = Ambiguous, "Slack answered with an error of its own; the new tokens may be lost"
	case "bad_client_secret", "invalid_client_id":
		e.Kind, e.Detail = Operator, "Slack does not accept the app's client id or secret; check the settings"
	default:
		e.Kind, e.Detail = Operator, "Slack refuses the way the app asks; check the app's settings at Slack"
	}
	return e
}
