package hub

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// A Secret is a credential or a key that must not reach a log, an error text
// or an API answer. Every way Go prints or encodes a value gives "[redacted]";
// [Secret.Reveal] is the only way out, so its uses are easy to find.
//
// The zero Secret is empty. A Secret may be used by several goroutines.
type Secret struct {
	// A pointer, because fmt cannot call Format on a Secret that is an
	// unexported field of another struct: it then prints the fields
	// themselves, and of a pointer that is only the address.
	v *string
}

// NewSecret returns a Secret that holds v.
func NewSecret(v string) Secret {
	if v == "" {
		return Secret{}
	}
	return Secret{v: &v}
}

// Reveal returns the secret itself. The caller passes it on to whatever needs
// it and keeps it nowhere.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.v == nil }

// Equal reports whether both hold the same, in constant time for secrets of
// one length.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// Format prints "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted) // fmt has nowhere to put an error
}

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// LogValue logs "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText encodes "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
