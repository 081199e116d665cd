// Package webhook sends released calls to an address of the customer's own, as
// HTTP POST requests signed after the Standard Webhooks specification
// (https://www.standardwebhooks.com). It is the way to every system that has no
// connector.
//
// The body of a request is
//
//	{"type":"call.shared","data":{"call_id":"…","copy_id":"…","revision":1,"title":"…",…}}
//
// with the released members of the call in the shape of the call format. type
// is call.shared, call.updated (the same copy_id, a higher revision) or
// call.erased (data has copy_id, and call_id where it is known). What an
// admin's mapping gives replaces or adds members of data.
//
// Delivery is at least once. A request whose outcome is unknown is sent again
// with the same webhook-id, so a receiver that remembers the ids of some days
// handles each message once; see [Connector.Reconcile]. copy_id names the copy
// for its whole life.
//
// How answers are read:
//
//	2xx            delivered; the body is not read
//	429, and 503 with Retry-After
//	               later, after the time given (at most a day; 30 s if none is)
//	503, 408, 425  later
//	other 5xx      unknown: the receiver may have acted
//	401, 403, 410  the receiver wants none of our messages: the connection needs
//	               a person, and what waits is kept
//	3xx            rejected: redirects are not followed
//	other 4xx      rejected
package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/mappings"
)

const (
	batchSize      = 100
	parallel       = 4  // batches at once
	inFlight       = 32 // requests of one batch at once
	defaultTimeout = 30 * time.Second
)

// Descriptor describes the connector.
func Descriptor() connectors.Descriptor {
	return connectors.Descriptor{
		Name:        "webhook",
		Title:       "Webhook",
		Summary:     "Signed HTTP requests with the released fields as JSON, to any address of your own",
		BatchSize:   batchSize,
		Parallel:    parallel,
		Destination: checkDestination,
		Schema:      schema,
		Secret:      CheckSecret,
		New: func(cfg connectors.Config) (connectors.Connector, error) {
			if cfg.Timeout <= 0 {
				cfg.Timeout = defaultTimeout
			}
			return &Connector{timeout: cfg.Timeout}, nil
		},
	}
}

// Connector sends webhooks. It is made by [Descriptor] and may be used by
// several goroutines.
type Connector struct {
	timeout time.Duration // of one request
}

var (
	_ connectors.Connector  = (*Connector)(nil)
	_ connectors.Updater    = (*Connector)(nil)
	_ connectors.Eraser     = (*Connector)(nil)
	_ connectors.Reconciler = (*Connector)(nil)
)

// checkDestination accepts {} only: the connection's address says it all.
func checkDestination(raw json.RawMessage) []hub.FieldError {
	var d map[string]json.RawMessage
	if len(raw) > 0 && json.Unmarshal(raw, &d) != nil {
		return []hub.FieldError{{Detail: "must be {}: where to is the address of the connection"}}
	}
	var wrong []hub.FieldError
	for _, name := range slices.Sorted(maps.Keys(d)) {
		wrong = append(wrong, hub.FieldError{
			Pointer: "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name),
			Detail:  "is not known: a webhook's destination is {}",
		})
	}
	return wrong
}

// Members of data that are ours to set.
const (
	memberCall     = "call_id"
	memberCopy     = "copy_id"
	memberRevision = "revision"
)

// memberName is what an admin's mapping may call a member of data.
var memberName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// schema lets a mapping set every member of data but those that identify the
// message.
func schema(json.RawMessage) mappings.Schema {
	field := func(name string, t mappings.Type) mappings.Field { return mappings.Field{Name: name, Type: t} }
	return mappings.Schema{
		Fields: []mappings.Field{
			field("title", mappings.String),
			field("started_at", mappings.Time),
			field("duration_seconds", mappings.Number),
			field("direction", mappings.String),
			field("medium", mappings.String),
			field("url", mappings.String),
			field("recording_url", mappings.String),
			field("transcript_url", mappings.String),
			field("summary", mappings.String),
			field("key_points", mappings.List),
			field("topics", mappings.List),
			field("sentiment", mappings.Number),
			field("risks", mappings.List),
			field("competitors", mappings.List),
			field("disposition", mappings.String),
			field("tags", mappings.List),
		},
		Custom: mappable,
	}
}

func mappable(name string) bool {
	return memberName.MatchString(name) && name != memberCall && name != memberCopy && name != memberRevision
}

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes, after the specification
	maxSecret    = 512
)

// CheckSecret checks a signing secret: "whsec_" and the base64 of at least 24
// bytes, or at least 24 characters. As in the specification's libraries, what
// is base64 stands for the bytes that it encodes, with the prefix or without
// it; only what is no base64 is taken as it is. The error holds nothing of the
// secret.
func CheckSecret(secret hub.Secret) error {
	_, err := keyOf(secret)
	return err
}

// keyOf returns the key that the secret stands for.
func keyOf(secret hub.Secret) ([]byte, error) {
	s := secret.Reveal()
	encoded, prefixed := strings.CutPrefix(s, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	isBase64 := err == nil
	switch {
	case len(s) > maxSecret:
		return nil, fmt.Errorf("must not be longer than %d characters", maxSecret)
	case prefixed && (!isBase64 || len(key) < minSecret):
		return nil, fmt.Errorf("must be whsec_ followed by the base64 of at least %d random bytes", minSecret)
	case !prefixed && len(s) < minSecret:
		return nil, fmt.Errorf("must be whsec_ followed by base64, or at least %d characters", minSecret)
	case isBase64:
		return key, nil
	}
	return []byte(s), nil
}

// signer signs the messages of one account.
func signer(secret hub.Secret) (*standardwebhooks.Webhook, error) {
	key, err := keyOf(secret)
	if err != nil {
		return nil, err
	}
	return standardwebhooks.NewWebhookRaw(key)
}

// Types of messages.
const (
	typeShared  = "call.shared"
	typeUpdated = "call.updated"
	typeErased  = "call.erased"
)

// message is the body of a request. Its encoding is canonical: members of
// structs in this order, those of maps sorted. There is no timestamp in it,
// because the same content must give the same bytes; the header
// webhook-timestamp says when it was sent.
type message struct {
	Type string         `json:"type"`
	Data map[string]any `json:"data"`
}

// Render implements [connectors.Connector].
func (*Connector) Render(item connectors.Item) (connectors.Payload, error) {
	if item.Release == nil {
		return connectors.Payload{}, errors.New("there is no release")
	}
	m := message{Type: typeShared, Data: item.Release.View()}
	if item.Kind == hub.KindUpdate {
		m.Type = typeUpdated
	}
	delete(m.Data, "id")
	for name, v := range item.Overrides {
		if mappable(name) {
			m.Data[name] = v
		}
	}
	m.Data[memberCall] = item.Release.Content().ID
	m.Data[memberCopy] = item.Key
	m.Data[memberRevision] = item.Release.Revision()
	body, err := encode(m)
	return connectors.Payload{Body: body}, err
}

// erasure returns the message that says that a copy is to be removed.
func erasure(item connectors.Item) ([]byte, error) {
	m := message{Type: typeErased, Data: map[string]any{memberCopy: item.Key}}
	if id := item.Receipt[memberCall]; id != "" {
		m.Data[memberCall] = id
	}
	return encode(m)
}

func encode(m message) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is JSON for machines; escapes only make it longer
	if err := e.Encode(m); err != nil {
		// The encoder's error may quote content.
		return nil, errors.New("the released fields cannot be written as JSON")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
