package slacktest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// token is an access token, and its refresh token where it has one.
type token struct {
	access  string
	refresh string
	scopes  []string
	expires time.Time // zero: never
	revoked bool
}

func (t *token) has(scope string) bool { return slices.Contains(t.scopes, scope) }

// code is an authorisation code that has not been used.
type code struct {
	redirect  string
	challenge string // PKCE, S256; "" without
	scopes    []string
}

// tokenState returns the token, or the code with which Slack refuses it.
func (s *Server) tokenState(access string, now time.Time) (*token, string) {
	t := s.tokens[access]
	switch {
	case access == "":
		return nil, "not_authed"
	case t == nil:
		return nil, "invalid_auth"
	case t.revoked:
		return nil, "token_revoked"
	case !t.expires.IsZero() && now.After(t.expires):
		return nil, "token_expired"
	}
	return t, ""
}

// NewCode returns an authorisation code, as a user who clicks Allow would
// bring back. scopes nil are those of [Options].
func (s *Server) NewCode(redirectURI string, scopes ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issueCode(redirectURI, "", scopes)
}

func (s *Server) issueCode(redirect, challenge string, scopes []string) string {
	if len(scopes) == 0 {
		scopes = s.opts.Scopes
	}
	c := "code-" + strings.ToLower(rand.Text())
	s.codes[c] = &code{redirect: redirect, challenge: challenge, scopes: scopes}
	return c
}

// authorize stands for Slack's page "… wants to access your workspace", and
// always says yes.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || back.Host == "" || q.Get("client_id") != s.opts.ClientID {
		http.Error(w, "bad_redirect_uri or invalid_client_id", http.StatusBadRequest)
		return
	}
	var scopes []string
	if v := q.Get("scope"); v != "" {
		scopes = strings.Split(v, ",")
	}
	s.mu.Lock()
	c := s.issueCode(q.Get("redirect_uri"), q.Get("code_challenge"), scopes)
	s.mu.Unlock()
	answer := back.Query()
	answer.Set("code", c)
	answer.Set("state", q.Get("state"))
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (s *Server) oauthAccess(c call) answer {
	id, secret, basic := c.client.BasicAuth()
	if !basic {
		id, secret = c.args["client_id"], c.args["client_secret"]
	}
	switch {
	case id != s.opts.ClientID:
		return refuse("invalid_client_id")
	case secret != s.opts.ClientSecret:
		return refuse("bad_client_secret")
	}
	switch grant := c.args["grant_type"]; grant {
	case "", "authorization_code":
		return s.redeem(c)
	case "refresh_token":
		return s.rotate(c)
	default:
		return refuse("invalid_grant_type")
	}
}

func (s *Server) redeem(c call) answer {
	got := s.codes[c.args["code"]]
	switch {
	case got == nil:
		return refuse("invalid_code")
	case got.redirect != "" && got.redirect != c.args["redirect_uri"]:
		return refuse("bad_redirect_uri")
	case got.challenge != "" && got.challenge != s256(c.args["code_verifier"]):
		return refuse("invalid_code_verifier")
	}
	delete(s.codes, c.args["code"])
	return s.grant(got.scopes, c.now)
}

// rotate gives a new pair; the old refresh token is revoked on use.
func (s *Server) rotate(c call) answer {
	old := s.refresh[c.args["refresh_token"]]
	if old == nil || old.revoked {
		return refuse("invalid_refresh_token")
	}
	delete(s.refresh, old.refresh)
	return s.grant(old.scopes, c.now)
}

func (s *Server) grant(scopes []string, now time.Time) answer {
	t := &token{access: "xoxb-" + strings.ToLower(rand.Text()), scopes: scopes}
	body := map[string]any{
		"token_type": "bot", "scope": strings.Join(scopes, ","), "bot_user_id": s.botUser, "app_id": "A0CALLBRG",
		"team": map[string]any{"id": s.teamID, "name": s.opts.TeamName}, "enterprise": nil, "is_enterprise_install": false,
		"authed_user": map[string]any{"id": "U0DANA001"},
	}
	if s.opts.Rotation {
		t.access = "xoxe." + t.access
		t.refresh = "xoxe-1-" + strings.ToLower(rand.Text())
		t.expires = now.Add(s.opts.TokenLife)
		s.refresh[t.refresh] = t
		body["refresh_token"], body["expires_in"] = t.refresh, int(s.opts.TokenLife.Seconds())
	}
	s.tokens[t.access] = t
	body["access_token"] = t.access
	return answer{body: body}
}

func s256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (*Server) authRevoke(c call) answer {
	if !truth(c.args["test"]) {
		c.token.revoked = true
	}
	return answer{body: map[string]any{"revoked": !truth(c.args["test"])}}
}

func (s *Server) appsUninstall(c call) answer {
	switch {
	case c.args["client_id"] != s.opts.ClientID:
		return refuse("client_id_token_mismatch")
	case c.args["client_secret"] != s.opts.ClientSecret:
		return refuse("bad_client_secret")
	}
	for _, t := range s.tokens {
		t.revoked = true
	}
	clear(s.refresh)
	return answer{}
}
