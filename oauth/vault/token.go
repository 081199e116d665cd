package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"time"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth"
	"github.com/optiwe/callbridge/oauth/seal"
)

// Token is what a connection is used with. Treat Scopes and Facts as
// read-only.
type Token struct {
	Access      hub.Secret
	Version     int    // give it to [Vault.Refresh] if the provider refuses Access
	Provider    string // name of the connector
	Expires     time.Time
	InstanceURL string // where the account's API is; a webhook's full address
	Scopes      []string
	Facts       map[string]string
}

// held is what is sealed: the tokens of one version, and when they came.
type held struct {
	oauth.Tokens
	issued time.Time
}

// wire is held as it stands in the store, inside the seal. Members may be
// added; none may change its meaning.
type wire struct {
	Access      string            `json:"access"`
	Refresh     string            `json:"refresh,omitempty"`
	Expires     int64             `json:"expires,omitempty"` // Unix milliseconds; 0: unknown
	Issued      int64             `json:"issued"`            // Unix milliseconds
	InstanceURL string            `json:"instance_url,omitempty"`
	Scopes      []string          `json:"scopes,omitempty"`
	Facts       map[string]string `json:"facts,omitempty"`
}

// sealTokens encrypts h as the given version of a connection's tokens.
func sealTokens(k *seal.OrgKeys, conn hub.ConnectionID, provider string, version int, h held) ([]byte, error) {
	w := wire{
		Access: h.Access.Reveal(), Refresh: h.Refresh.Reveal(),
		Issued: h.issued.UnixMilli(), InstanceURL: h.InstanceURL, Scopes: h.Scopes, Facts: h.Facts,
	}
	if !h.Expires.IsZero() {
		w.Expires = h.Expires.UnixMilli()
	}
	b, err := json.Marshal(w)
	if err != nil {
		return nil, errors.New("vault: encode tokens") // err could quote them
	}
	sealed, err := k.Seal(seal.PurposeToken, place(conn, provider, version), b)
	if err != nil {
		return nil, fmt.Errorf("vault: seal tokens: %w", err)
	}
	return sealed, nil
}

// openTokens is the inverse of sealTokens.
func openTokens(k *seal.OrgKeys, conn hub.ConnectionID, rec Record) (held, error) {
	b, err := k.Open(seal.PurposeToken, place(conn, rec.Provider, rec.Version), rec.Sealed)
	if err != nil {
		return held{}, fmt.Errorf("vault: tokens of connection %s, version %d: %w", conn, rec.Version, err)
	}
	var w wire
	if json.Unmarshal(b, &w) != nil {
		return held{}, fmt.Errorf("vault: tokens of connection %s, version %d: unknown form", conn, rec.Version) // the cause could quote them
	}
	h := held{
		Tokens: oauth.Tokens{
			Access: hub.NewSecret(w.Access), Refresh: hub.NewSecret(w.Refresh),
			InstanceURL: w.InstanceURL, Scopes: w.Scopes, Facts: w.Facts,
		},
		issued: time.UnixMilli(w.Issued),
	}
	if w.Expires != 0 {
		h.Expires = time.UnixMilli(w.Expires)
	}
	return h, nil
}

// place is where sealed tokens belong. A version put back is in the wrong
// place.
func place(conn hub.ConnectionID, provider string, version int) []string {
	return []string{string(conn), provider, strconv.Itoa(version)}
}

// token returns what the holder of a connection gets to see.
func (h held) token(rec Record) Token {
	return Token{
		Access: h.Access, Version: rec.Version, Provider: rec.Provider,
		Expires: h.Expires, InstanceURL: h.InstanceURL, Scopes: h.Scopes, Facts: h.Facts,
	}
}

// renewed returns h with what a refresh gave. What the answer did not tell
// stays.
func (h held) renewed(fresh oauth.Tokens, now time.Time) held {
	next := held{Tokens: fresh, issued: now}
	next.Warning = ""
	if next.Refresh.IsZero() {
		next.Refresh = h.Refresh
	}
	if next.InstanceURL == "" {
		next.InstanceURL = h.InstanceURL
	}
	if next.Scopes == nil {
		next.Scopes = h.Scopes
	}
	next.Facts = maps.Clone(h.Facts)
	if next.Facts == nil {
		next.Facts = make(map[string]string, len(fresh.Facts))
	}
	maps.Copy(next.Facts, fresh.Facts)
	return next
}

// spent reports whether the access token is known to have expired.
func (h held) spent(now time.Time) bool { return !h.Expires.IsZero() && !now.Before(h.Expires) }

// due returns when to refresh ahead of expiry: margin before it, but never in
// the first two thirds of the token's life, and up to a fifth of that later
// for some connections, so that many that were made together do not refresh
// together. All processes find the same.
func (h held) due(conn hub.ConnectionID, version int, margin time.Duration) time.Time {
	margin = min(margin, h.Expires.Sub(h.issued)/3)
	hash := fnv.New32a()
	_, _ = fmt.Fprintf(hash, "%s %d", conn, version) // a hash never returns an error
	late := margin / 5 * time.Duration(hash.Sum32()%1000) / 1000
	return h.Expires.Add(late - margin)
}
