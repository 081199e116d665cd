// Package seal encrypts what Callbridge keeps, so that whoever reads its store
// or a backup of it reads nothing.
//
// There are two layers. The instance has a key-encryption key, a [KEK], from a
// file or a key management service. Each org has keys of its own, made by
// [Sealer.NewOrgKeys] and stored wrapped by the KEK: one to encrypt with
// ([OrgKeys.Seal]) and one to make keyed digests with ([OrgKeys.Digest]).
// Destroying the wrapped keys makes everything of that org unreadable,
// except where a backup still holds them.
//
// Everything sealed is bound to where it belongs: its purpose, its org and
// fields of the caller, such as connection and token version. It does not open
// anywhere else, nor in the place of its successor.
package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/optiwe/callbridge/hub"
)

// ErrOpen is returned for what does not open: it was changed, belongs
// somewhere else, or its key is gone. Which of these is not told, because it
// cannot be known.
var ErrOpen = errors.New("seal: does not open here")

// Purpose says what something sealed or digested is for. What was made for one
// purpose is of no use for another. A purpose can never be renamed: it is part
// of everything stored.
type Purpose string

// Purposes of what is sealed.
const (
	PurposeToken         Purpose = "token"          // OAuth tokens and fixed secrets of a connection
	PurposeCall          Purpose = "call"           // content of a call
	PurposeTransfer      Purpose = "transfer"       // details of a transfer, such as receipts and targets
	PurposeWebhookSecret Purpose = "webhook_secret" // secrets that producers sign calls with
	PurposeIdempotency   Purpose = "idempotency"    // stored answers, and digests of request bodies
	PurposeState         Purpose = "oauth_state"    // what an OAuth flow keeps between its two ends
)

// Purposes of digests.
const (
	PurposeContent Purpose = "content" // a call's content, to tell whether a revision changed anything
	PurposeSubject Purpose = "subject" // a person's e-mail address or phone number, normalised
	PurposePayload Purpose = "payload" // what was sent to a provider
	PurposePace    Purpose = "pace"    // a place that messages are paced to, such as a channel
	PurposeAPIKey  Purpose = "api_key" // an API key
)

// A KEK is a key-encryption key. It wraps org keys and nothing else.
// Implementations may be used by several goroutines.
type KEK interface {
	// Wrap encrypts plaintext, bound to ad.
	Wrap(ctx context.Context, plaintext, ad []byte) ([]byte, error)

	// Unwrap returns what was wrapped with the same ad. It returns an error
	// wrapping [ErrOpen] if that cannot be, and any other if it does not know.
	Unwrap(ctx context.Context, wrapped, ad []byte) ([]byte, error)

	// Stale reports whether wrapped was wrapped by another key than Wrap uses
	// now, so that it should be wrapped anew. A service that rotates its keys
	// unseen reports false.
	Stale(wrapped []byte) bool
}

// Config configures a [Sealer]. The zero value of every field but KEK means
// the default given there.
type Config struct {
	KEK KEK // required

	// CacheFor is how long unwrapped org keys are kept in memory, which is how
	// long an org's keys go on working here after the KEK was withdrawn or the
	// wrapped keys were destroyed ([Sealer.Forget] ends it at once). Defaults
	// to 5 minutes, which is also the most.
	CacheFor time.Duration

	// CacheSize is how many orgs' keys are kept. Defaults to 10,000; one takes
	// about 4 kB.
	CacheSize int
}

const (
	defaultCacheFor  = 5 * time.Minute
	defaultCacheSize = 10_000
	unwrapTimeout    = 10 * time.Second // of one call to the KEK on behalf of all who wait
	maxWrapped       = 64 << 10         // bytes; two keys have about 300
)

// Sealer makes and opens the keys of orgs. It may be used by several
// goroutines.
type Sealer struct {
	kek   KEK
	cache *cache
}

// New returns a Sealer.
func New(cfg Config) (*Sealer, error) {
	if cfg.KEK == nil {
		return nil, errors.New("seal: a KEK is required")
	}
	if cfg.CacheFor < 0 || cfg.CacheFor > defaultCacheFor || cfg.CacheSize < 0 {
		return nil, fmt.Errorf("seal: CacheFor must be at most %v and CacheSize not negative", defaultCacheFor)
	}
	if cfg.CacheFor == 0 {
		cfg.CacheFor = defaultCacheFor
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = defaultCacheSize
	}
	return &Sealer{kek: cfg.KEK, cache: newCache(cfg.CacheSize, cfg.CacheFor)}, nil
}

// NewOrgKeys makes the keys of an org, wrapped for storing. What is returned
// opens for that org only.
func (s *Sealer) NewOrgKeys(ctx context.Context, org hub.OrgID) ([]byte, error) {
	data, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("seal: make an encryption key: %w", err)
	}
	digest, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("seal: make a digest key: %w", err)
	}
	bundle, err := encodeBundle(data, digest)
	if err != nil {
		return nil, err
	}
	wrapped, err := s.kek.Wrap(ctx, bundle, wrapAD(org))
	if err != nil {
		return nil, fmt.Errorf("seal: wrap keys of org %s: %w", org, err)
	}
	return wrapped, nil
}

// OrgKeys returns the org's keys from what [Sealer.NewOrgKeys] returned. They
// are kept in memory for a while; of several calls at once for one org one
// asks the KEK.
func (s *Sealer) OrgKeys(ctx context.Context, org hub.OrgID, wrapped []byte) (*OrgKeys, error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return nil, fmt.Errorf("seal: unwrap keys of org %s: %w", org, ErrOpen)
	}
	id := cacheKey{org: org, wrapped: sha256.Sum256(wrapped)}
	return s.cache.get(ctx, id, func(ctx context.Context) (*OrgKeys, error) {
		bundle, err := s.kek.Unwrap(ctx, wrapped, wrapAD(org))
		if err != nil {
			return nil, fmt.Errorf("seal: unwrap keys of org %s: %w", org, err)
		}
		return decodeBundle(org, bundle)
	})
}

// Rewrap wraps an org's keys anew if the KEK's current key did not wrap them,
// and reports whether it did. The org's keys stay the same, so that nothing
// else has to be encrypted anew.
func (s *Sealer) Rewrap(ctx context.Context, org hub.OrgID, wrapped []byte) (again []byte, changed bool, err error) {
	if !s.kek.Stale(wrapped) {
		return wrapped, false, nil
	}
	bundle, err := s.kek.Unwrap(ctx, wrapped, wrapAD(org))
	if err != nil {
		return nil, false, fmt.Errorf("seal: unwrap keys of org %s: %w", org, err)
	}
	again, err = s.kek.Wrap(ctx, bundle, wrapAD(org))
	if err != nil {
		return nil, false, fmt.Errorf("seal: wrap keys of org %s: %w", org, err)
	}
	return again, true, nil
}

// Forget drops the org's keys from memory. Copies that callers hold go on
// working.
func (s *Sealer) Forget(org hub.OrgID) { s.cache.forget(org) }

// OrgKeys are the keys of one org. Hold them for one piece of work, not
// longer. They may be used by several goroutines.
type OrgKeys struct {
	org    hub.OrgID
	data   tink.AEAD
	digest prf.PRF
}

// Org returns whose keys they are.
func (k *OrgKeys) Org() hub.OrgID { return k.org }

// Seal encrypts plaintext, bound to purpose, org and ad, in that order and with
// exactly these fields. The result is 45 bytes longer than plaintext.
func (k *OrgKeys) Seal(purpose Purpose, ad []string, plaintext []byte) ([]byte, error) {
	sealed, err := k.data.Encrypt(plaintext, bind("seal|v1", purpose, k.org, ad...))
	if err != nil {
		return nil, fmt.Errorf("seal: encrypt a %s of org %s: %w", purpose, k.org, err)
	}
	return sealed, nil
}

// Open returns what [OrgKeys.Seal] sealed with the same purpose, org and ad,
// and an error wrapping [ErrOpen] for anything else.
func (k *OrgKeys) Open(purpose Purpose, ad []string, sealed []byte) ([]byte, error) {
	plaintext, err := k.data.Decrypt(sealed, bind("seal|v1", purpose, k.org, ad...))
	if err != nil {
		return nil, fmt.Errorf("open a %s of org %s: %w", purpose, k.org, ErrOpen)
	}
	return plaintext, nil
}

// Digest returns a keyed digest of data: 43 characters of base64url. The same
// purpose, org and data give the same digest as long as the org's keys exist;
// without these it tells nothing of the data, and cannot be found by trying.
// Boundaries count: ("ab", "c") and ("a", "bc") differ.
func (k *OrgKeys) Digest(purpose Purpose, data ...[]byte) (string, error) {
	sum, err := k.digest.ComputePRF(bind("digest|v1", purpose, k.org, data...), sha256.Size)
	if err != nil {
		return "", fmt.Errorf("seal: digest a %s of org %s: %w", purpose, k.org, err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// wrapAD binds wrapped keys to their org.
func wrapAD(org hub.OrgID) []byte { return bind[string]("keyset|v1", "", org) }

// bind writes the fields one after the other, each behind its length, so that
// no two lists of fields give the same bytes.
func bind[T string | []byte](domain string, purpose Purpose, org hub.OrgID, fields ...T) []byte {
	n := 3*4 + len(domain) + len(purpose) + len(org)
	for _, f := range fields {
		n += 4 + len(f)
	}
	b := make([]byte, 0, n)
	b = field(b, domain)
	b = field(b, purpose)
	b = field(b, org)
	for _, f := range fields {
		b = field(b, f)
	}
	return b
}

func field[T ~string | ~[]byte](b []byte, f T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(f))) //nolint:gosec // G115: nothing in memory here comes near 4 GiB
	return append(b, f...)
}

const bundleVersion = 1

// encodeBundle returns version, then each keyset behind its length.
func encodeBundle(keysets ...*keyset.Handle) ([]byte, error) {
	out := []byte{bundleVersion}
	for _, h := range keysets {
		var b bytes.Buffer
		if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&b)); err != nil {
			return nil, fmt.Errorf("seal: encode a key: %w", err)
		}
		out = field(out, b.Bytes())
	}
	return out, nil
}

// decodeBundle is the inverse of encodeBundle. Its errors hold nothing of the
// bundle.
func decodeBundle(org hub.OrgID, bundle []byte) (*OrgKeys, error) {
	broken := fmt.Errorf("seal: keys of org %s: unknown form: %w", org, ErrOpen)
	if len(bundle) == 0 || bundle[0] != bundleVersion {
		return nil, broken
	}
	data, rest, ok := cutField(bundle[1:])
	if !ok {
		return nil, broken
	}
	digest, rest, ok := cutField(rest)
	if !ok || len(rest) != 0 {
		return nil, broken
	}
	dh, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(data)))
	if err != nil {
		return nil, broken
	}
	gh, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(digest)))
	if err != nil {
		return nil, broken
	}
	a, err := aead.New(dh)
	if err != nil {
		return nil, broken
	}
	set, err := prf.NewPRFSet(gh)
	if err != nil {
		return nil, broken
	}
	p, ok := set.PRFs[set.PrimaryID]
	if !ok {
		return nil, broken
	}
	return &OrgKeys{org: org, data: a, digest: p}, nil
}

func cutField(b []byte) (f, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n, b := int64(binary.BigEndian.Uint32(b)), b[4:]
	if int64(len(b)) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
