package connectortest

import (
	"net/url"
	"testing"

	"github.com/optiwe/callbridge/connectors"
	"github.com/optiwe/callbridge/connectors/outbound"
	"github.com/optiwe/callbridge/hub"
)

// Account returns an account at the fake whose address is baseURL, as the hub
// would make it: an HTTP client that reaches that host only and adds token
// where d asks for it, and a cache in memory. Its connections are closed when
// tb ends, and before the fake's server is, if that was started first.
func Account(tb testing.TB, d connectors.Descriptor, baseURL, token string) connectors.Account {
	tb.Helper()
	u, err := url.Parse(baseURL)
	if err != nil {
		tb.Fatalf("the fake's address: %v", err)
	}
	tr, err := outbound.NewTransport(outbound.Config{AllowPrivate: []string{u.Host}})
	if err != nil {
		tb.Fatalf("the fake's address: %v", err)
	}
	tb.Cleanup(tr.CloseIdleConnections)
	base, err := outbound.CheckBaseURL(baseURL, d.HostSuffix, []string{u.Host})
	if err != nil {
		tb.Fatalf("the fake's address %v", err)
	}
	secret := hub.NewSecret(token)
	var o outbound.Options
	if d.BearerToken {
		o.Bearer = secret
	}
	return connectors.Account{
		BaseURL: base.String(),
		Token:   secret,
		HTTP:    tr.For(base, o),
		Cache:   outbound.NewCache(0).For("test"),
	}
}
