// Package webhooks checks requests that come in signed. Calls are signed after
// the Standard Webhooks specification, version 1.0.0, with a secret that the
// producer shares with one org.
package webhooks

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/optiwe/callbridge/hub"
)

const (
	// Tolerance is how far the time of a signature may lie before or after
	// ours.
	Tolerance = 5 * time.Minute

	// MaxBody is how many bytes of a body are ever hashed.
	MaxBody = 1 << 20

	// MaxID is how many characters a webhook-id may have.
	MaxID = 128

	// maxSignatures bounds the header that lists signatures: a dozen of the
	// longest kind in use.
	maxSignatures = 2048
)

// What can be wrong with a request. Each reads as a sentence for the producer
// and says nothing that helps to guess a signature.
var (
	ErrMissingHeaders = errors.New("the headers webhook-id, webhook-timestamp and webhook-signature are all required")
	ErrHeaders        = errors.New("a webhook header is malformed")
	ErrStale          = errors.New("the webhook-timestamp is more than 5 minutes from our clock")
	ErrSignature      = errors.New("no signature in webhook-signature fits this id, timestamp and body under an active v1 secret")
	ErrTooLarge       = errors.New("the body is larger than 1 MiB")
)

// ErrSecret means that a secret is none: the fault is ours or the admin's, not
// the producer's.
var ErrSecret = errors.New("a signing secret is whsec_ and the base64 form of 24 to 64 bytes")

// Verify checks that body was signed with one of the secrets at a time no
// further than [Tolerance] from now, and returns its webhook-id, which stays
// the same when the producer sends it again. Two secrets are active while they
// are rotated. With no secret, nothing is valid.
//
// Everything that costs little is checked before anything is hashed. The error
// is one of this package's, wrapped; it holds nothing of the request.
//
// An id with a full stop is refused. The signed content is id, timestamp and
// body joined by full stops, so with one in the id the same signature would fit
// another split of the same bytes (the specification asks producers to avoid
// it).
func Verify(secrets []hub.Secret, header http.Header, body []byte, now time.Time) (id string, err error) {
	if len(body) > MaxBody {
		return "", ErrTooLarge
	}
	m, err := parse(header)
	if err != nil {
		return "", err
	}
	if age := now.Sub(m.at); age > Tolerance || age < -Tolerance {
		return "", ErrStale
	}
	for _, s := range secrets {
		if err := CheckSecret(s); err != nil {
			return "", err
		}
		w, err := standardwebhooks.NewWebhook(s.Reveal())
		if err != nil {
			return "", ErrSecret // the library's error would repeat a part of the secret
		}
		// The library compares times with its own clock; ours is done above.
		if w.VerifyIgnoringTimestamp(body, m.header) == nil {
			return m.id, nil
		}
	}
	return "", ErrSignature
}

// message is what the headers say.
type message struct {
	id     string
	at     time.Time
	header http.Header // these three, once each
}

// parse reads the three headers. Each must be there once: of several values it
// would be open which one counts.
func parse(header http.Header) (message, error) {
	only := make(http.Header, 3)
	for _, name := range []string{standardwebhooks.HeaderWebhookID, standardwebhooks.HeaderWebhookTimestamp, standardwebhooks.HeaderWebhookSignature} {
		values := header.Values(name)
		if len(values) == 0 || values[0] == "" {
			return message{}, ErrMissingHeaders
		}
		if len(values) > 1 {
			return message{}, fmt.Errorf("%w: %s occurs more than once", ErrHeaders, name)
		}
		only.Set(name, values[0])
	}
	m := message{id: only.Get(standardwebhooks.HeaderWebhookID), header: only}
	if !validID(m.id) {
		return message{}, fmt.Errorf("%w: webhook-id must be 1 to %d visible ASCII characters without a full stop", ErrHeaders, MaxID)
	}
	seconds, err := parseTimestamp(only.Get(standardwebhooks.HeaderWebhookTimestamp))
	if err != nil {
		return message{}, err
	}
	m.at = time.Unix(seconds, 0)
	if len(only.Get(standardwebhooks.HeaderWebhookSignature)) > maxSignatures {
		return message{}, fmt.Errorf("%w: webhook-signature is longer than %d bytes", ErrHeaders, maxSignatures)
	}
	return m, nil
}

func validID(id string) bool {
	if id == "" || len(id) > MaxID {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' || id[i] == '.' {
			return false
		}
	}
	return true
}

// parseTimestamp reads seconds since 1970 in the one form that the signature
// was made of: the library would sign +5 and 005 as 5.
func parseTimestamp(s string) (int64, error) {
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil || seconds < 0 || strconv.FormatInt(seconds, 10) != s {
		return 0, fmt.Errorf("%w: webhook-timestamp must be whole seconds since 1970", ErrHeaders)
	}
	return seconds, nil
}

const secretPrefix = "whsec_"

// NewSecret returns a secret of 32 random bytes to share with a producer.
func NewSecret() hub.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // documented never to return an error
	return hub.NewSecret(secretPrefix + base64.StdEncoding.EncodeToString(b[:]))
}

// CheckSecret returns [ErrSecret] if s is no secret of the specification: base64
// of 24 to 64 bytes, with or without the prefix whsec_.
func CheckSecret(s hub.Secret) error {
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(s.Reveal(), secretPrefix))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return ErrSecret
	}
	return nil
}
