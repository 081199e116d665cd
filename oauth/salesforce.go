package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/optiwe/callbridge/hub"
)

// SalesforceConfig is what refreshing at Salesforce needs. All fields are
// required.
type SalesforceConfig struct {
	ClientID     string
	ClientSecret hub.Secret

	// LoginURL is the host asked for connections without a [FactLoginURL] of
	// their own, such as https://login.salesforce.com. It is the operator's
	// setting and is not checked.
	LoginURL string

	// CheckURL returns the normal form of an address that came from a customer
	// or from an answer, or an error if it is no Salesforce host.
	CheckURL func(raw string) (*url.URL, error)

	Client ClientFunc
}

// Salesforce refreshes tokens of Salesforce's web server flow. Connections
// that were made server-to-server have no refresh token and need none of this.
type Salesforce struct {
	cfg   SalesforceConfig
	login *url.URL
}

var _ Refresher = (*Salesforce)(nil)

// NewSalesforce returns a Salesforce.
func NewSalesforce(cfg SalesforceConfig) (*Salesforce, error) {
	switch {
	case cfg.ClientID == "" || cfg.ClientSecret.IsZero():
		return nil, errors.New("oauth: salesforce: client id and client secret are required")
	case cfg.CheckURL == nil || cfg.Client == nil:
		return nil, errors.New("oauth: salesforce: CheckURL and Client are required")
	}
	login, err := baseURL(cfg.LoginURL)
	if err != nil {
		return nil, fmt.Errorf("oauth: salesforce: login address: %w", err)
	}
	return &Salesforce{cfg: cfg, login: login}, nil
}

// Refresh implements [Refresher] by one POST to /services/oauth2/token.
//
// The answer names the instance, which can differ from the one before (an org
// was moved or renamed), and has no expiry. With refresh token rotation it
// holds a new refresh token and the old one is dead.
func (s *Salesforce) Refresh(ctx context.Context, refresh hub.Secret, facts map[string]string) (Tokens, error) {
	login, err := s.loginURL(facts)
	if err != nil {
		return Tokens{}, err
	}
	ctx, cancel, err := begin(ctx)
	if err != nil {
		return Tokens{}, err
	}
	defer cancel()
	client, watch := newSingle(s.cfg.Client(login))
	cfg := oauth2.Config{
		ClientID:     s.cfg.ClientID,
		ClientSecret: s.cfg.ClientSecret.Reveal(),
		Endpoint: oauth2.Endpoint{
			TokenURL: login.JoinPath("/services/oauth2/token").String(),
			// Left to itself, oauth2 tries both styles, the token in each.
			AuthStyle: oauth2.AuthStyleInParams,
		},
	}
	source := cfg.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, client), &oauth2.Token{RefreshToken: refresh.Reveal()})
	t, err := source.Token()
	if err != nil {
		return Tokens{}, salesforceError(watch, err)
	}
	return s.tokens(t), nil
}

// loginURL returns the host at which the connection's tokens were issued.
func (s *Salesforce) loginURL(facts map[string]string) (*url.URL, error) {
	raw := facts[FactLoginURL]
	if raw == "" {
		return s.login, nil
	}
	u, err := s.cfg.CheckURL(raw)
	if err != nil {
		return nil, &RefreshError{
			Kind: Operator, Code: "login_url_not_allowed", Err: err,
			Detail: "the connection's login host is not one of Salesforce's; nothing was sent",
		}
	}
	return u, nil
}

func (s *Salesforce) tokens(t *oauth2.Token) Tokens {
	out := Tokens{
		Access:  hub.NewSecret(t.AccessToken),
		Refresh: hub.NewSecret(t.RefreshToken), // the old one where the answer has none
		Expires: t.Expiry,
		Facts:   map[string]string{},
	}
	if id, _ := t.Extra("id").(string); id != "" {
		if org, user, ok := salesforceIdentity(id); ok {
			out.Facts["org_id"], out.Facts["user_id"] = org, user
		}
	}
	if scope, _ := t.Extra("scope").(string); scope != "" {
		out.Scopes = strings.Fields(scope)
	}
	if raw, _ := t.Extra("instance_url").(string); raw != "" {
		u, err := s.cfg.CheckURL(raw)
		if err != nil {
			// The tokens are good all the same, and the old ones are spent.
			out.Warning = WarnInstanceURL
			return out
		}
		out.InstanceURL = strings.TrimRight(u.String(), "/")
	}
	return out
}

// salesforceIdentity takes the ids from an identity address, such as
// https://login.salesforce.com/id/00D…/005….
func salesforceIdentity(id string) (org, user string, ok bool) {
	u, err := url.Parse(id)
	if err != nil {
		return "", "", false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) != 3 || parts[0] != "id" || !salesforceID(parts[1]) || !salesforceID(parts[2]) {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// salesforceID reports whether s has the form of a record id: 15 or 18 letters
// and digits.
func salesforceID(s string) bool {
	return (len(s) == 15 || len(s) == 18) && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// salesforceError classifies what oauth2 returned.
//
// Codes: help.salesforce.com, "OAuth Error Codes"; RFC 6749 section 5.2.
func salesforceError(watch *single, err error) *RefreshError {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return watch.cut(err)
	}
	status := int(watch.status.Load())
	if refused.ErrorCode == "" || status >= 500 || status == 429 {
		return ofStatus(status)
	}
	e := &RefreshError{Code: codeOf(refused.ErrorCode), Status: status}
	description := strings.ToLower(refused.ErrorDescription)
	switch e.Code {
	case "invalid_grant":
		if strings.Contains(description, "rate") && strings.Contains(description, "exceeded") {
			e.Kind, e.Code, e.Detail = Transient, "login_rate_exceeded", "Salesforce takes no more logins of this user for now; it is tried again"
			e.RetryAfter = time.Minute
			return e
		}
		e.Kind, e.Detail = Dead, invalidGrant(description)
	case "inactive_user":
		e.Kind, e.Detail = Dead, "the Salesforce user is inactive; connect again with an active user"
	case "inactive_org", "org_locked":
		e.Kind, e.Detail = Dead, "the Salesforce org is inactive or locked; connect again once it is open"
	case "OAUTH_APP_BLOCKED", "OAUTH_APPROVAL_ERROR_GENERIC":
		e.Kind, e.Detail = Dead, "the app is blocked or not installed in the Salesforce org; let a Salesforce admin allow it, then connect again"
	case "rate_limit_exceeded":
		e.Kind, e.Detail, e.RetryAfter = Transient, "Salesforce takes no more token requests for now; it is tried again", time.Minute
	case "temporarily_unavailable", "server_error", "unknown_error":
		e.Kind, e.Detail = Ambiguous, "Salesforce answered with an error of its own; the new tokens may be lost"
	case "invalid_client", "invalid_client_id", "invalid_client_credentials":
		e.Kind, e.Detail = Operator, "Salesforce does not accept the app's client id or secret; check the settings"
	default:
		e.Kind, e.Detail = Operator, "Salesforce refuses the way the app asks; check the app's settings at Salesforce"
	}
	return e
}

// invalidGrant returns the sentence for a refused refresh token. Salesforce
// tells the cause in words only.
func invalidGrant(description string) string {
	for _, c := range []struct{ words, cause string }{
		{"inactive user", "the Salesforce user is inactive; connect again with an active user"},
		{"inactive org", "the Salesforce org is inactive; connect again once it is active"},
		{"ip restricted", "the user's profile does not allow this service's addresses; allow them in Salesforce, then connect again"},
		{"hasn't approved", "the app is not approved for the Salesforce user; let a Salesforce admin allow it, then connect again"},
		{"authentication failure", "Salesforce refuses the user; check the user in Salesforce, then connect again"},
	} {
		if strings.Contains(description, c.words) {
			return c.cause
		}
	}
	return "Salesforce no longer accepts our token: it was revoked, replaced by a newer authorisation, or unused for too long; connect again"
}

// baseURL parses an address of the operator's settings.
func baseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("want an address such as https://host.example") // err quotes raw
	}
	return u, nil
}
