package salesforcetest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
)

// grant is one authorisation of the app by the connected user.
type grant struct {
	access  map[string]bool // access tokens that are valid
	latest  string          // the newest access token, valid or not
	refresh string          // in force; "" where the grant is revoked
	old     map[string]bool // refresh tokens that were rotated away
}

func newToken(prefix string) string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // documented never to return an error
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// newGrant returns a grant with a token pair. s.mu is held, or nobody else has s.
func (s *Server) newGrant() *grant {
	g := &grant{access: map[string]bool{}, refresh: newToken("5Aep8"), old: map[string]bool{}}
	g.issue(s.org.id)
	return g
}

// issue makes a new access token of an org.
func (g *grant) issue(org string) {
	g.latest = newToken(org[:15] + "!AQ")
	g.access[g.latest] = true
}

func (g *grant) revoke() {
	g.refresh = ""
	clear(g.access)
}

// AccessToken returns the newest access token of the first grant, or "" if it
// is no longer valid.
func (s *Server) AccessToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grants[0]; g.access[g.latest] {
		return g.latest
	}
	return ""
}

// RefreshToken returns the refresh token of the first grant that is in force.
func (s *Server) RefreshToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants[0].refresh
}

// Authorize makes another grant, as if the user had connected the app once
// more, and returns its tokens.
func (s *Server) Authorize() (access, refresh string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.newGrant()
	s.grants = append(s.grants, g)
	return g.latest, g.refresh
}

// ExpireTokens ends every access token; refresh tokens still work.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		clear(g.access)
	}
}

// RevokeGrant ends every token, as an admin does who removes the app.
func (s *Server) RevokeGrant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		g.revoke()
	}
}

// authorized reports whether r carries a valid access token. s.mu is held.
func (s *Server) authorized(r *http.Request) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || (!strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "OAuth")) || token == "" {
		return false
	}
	for _, g := range s.grants {
		if g.access[token] {
			return true
		}
	}
	return false
}

// serveToken answers the refresh-token grant. As with Salesforce's rotation,
// each refresh token works once, and one that comes back ends the whole grant.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		s.oauthError(w, r, "token", "invalid_request", "malformed body")
		return
	}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if u, p, ok := r.BasicAuth(); ok {
		id, secret = u, p
	}
	switch {
	case r.PostForm.Get("grant_type") != "refresh_token":
		s.oauthError(w, r, "token", "unsupported_grant_type", "grant type not supported")
		return
	case id != s.o.ClientID:
		s.oauthError(w, r, "token", "invalid_client_id", "client identifier invalid")
		return
	case !hmac.Equal([]byte(secret), []byte(s.o.ClientSecret)):
		s.oauthError(w, r, "token", "invalid_client", "invalid client credentials")
		return
	}
	body, ok := s.refresh(r.PostForm.Get("refresh_token"))
	if !ok {
		s.oauthError(w, r, "token", "invalid_grant", "expired access/refresh token")
		return
	}
	s.note(r, "token", 0, http.StatusOK, "")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, body)
}

func (s *Server) refresh(token string) (map[string]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		if g.old[token] {
			g.revoke()
			return nil, false
		}
		if token == "" || g.refresh != token {
			continue
		}
		g.issue(s.org.id)
		identity := s.URL + "/id/" + s.org.id + "/" + s.d.user
		issued := strconv.FormatInt(s.o.Now().UnixMilli(), 10)
		mac := hmac.New(sha256.New, []byte(s.o.ClientSecret))
		_, _ = mac.Write([]byte(identity + issued)) // a hash never returns an error
		body := map[string]string{
			"access_token": g.latest, "token_type": "Bearer", "scope": "api refresh_token", "instance_url": s.URL,
			"id": identity, "issued_at": issued, "signature": base64.StdEncoding.EncodeToString(mac.Sum(nil)),
		}
		if !s.o.KeepRefreshToken {
			g.old[g.refresh] = true
			g.refresh = newToken("5Aep8")
			body["refresh_token"] = g.refresh
		}
		return body, true
	}
	return nil, false
}

func (s *Server) oauthError(w http.ResponseWriter, r *http.Request, kind, code, description string) {
	s.note(r, kind, 0, http.StatusBadRequest, "")
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
}

// serveRevoke ends a token: an access token alone, or a refresh token with
// everything of its grant.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		s.oauthError(w, r, "revoke", "invalid_request", "malformed body")
		return
	}
	if !s.revoke(r.PostForm.Get("token")) {
		s.oauthError(w, r, "revoke", "invalid_token", "invalid token")
		return
	}
	s.note(r, "revoke", 0, http.StatusOK, "")
	w.WriteHeader(http.StatusOK)
}

func (s *Server) revoke(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		if g.access[token] {
			delete(g.access, token)
			return true
		}
		if token != "" && g.refresh == token {
			g.revoke()
			return true
		}
	}
	return false
}

func (s *Server) serveUserInfo(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	ok := s.authorized(r)
	u := s.d.get(s.d.user)
	body := map[string]any{
		"sub": s.URL + "/id/" + s.org.id + "/" + s.d.user, "user_id": s.d.user, "organization_id": s.org.id,
		"preferred_username": u.fields["Username"], "name": u.fields["Name"], "email": u.fields["Email"], "active": true,
	}
	s.mu.Unlock()
	if !ok {
		s.note(r, "userinfo", 0, http.StatusForbidden, "")
		http.Error(w, "Bad_OAuth_Token", http.StatusForbidden)
		return
	}
	s.note(r, "userinfo", 0, http.StatusOK, "")
	writeJSON(w, http.StatusOK, body)
}
