package outbound_test

import (
	"strings"
	"testing"

	"github.com/optiwe/callbridge/connectors/outbound"
)

// salesforce are suffixes as a provider has them.
var salesforce = []string{".my.salesforce.com", "login.salesforce.com"}

func TestCheckBaseURL(t *testing.T) {
	t.Parallel()
	list := []string{"127.0.0.1:8080", "crm.internal:9443"}
	for _, c := range []struct {
		raw      string
		suffixes []string
		want     string // "" is refused
	}{
		{"https://acme.my.salesforce.com", salesforce, "https://acme.my.salesforce.com"},
		{"https://acme.my.salesforce.com/", salesforce, "https://acme.my.salesforce.com"},
		{"https://ACME--uat.sandbox.My.Salesforce.com:443", salesforce, "https://acme--uat.sandbox.my.salesforce.com"},
		{"https://login.salesforce.com", salesforce, "https://login.salesforce.com"},
		{"https://hooks.example.com/a/b?token=1", nil, "https://hooks.example.com/a/b?token=1"},
		{"https://hooks.example.com/a/b/", nil, "https://hooks.example.com/a/b/"},
		{"https://hooks.example.com/a%2Fb/?", nil, "https://hooks.example.com/a%2Fb/?"},
		{"https://hooks.example.com/", nil, "https://hooks.example.com"},
		{"https://acme.my.salesforce.com/x//", salesforce, "https://acme.my.salesforce.com/x"},
		{"https://xn--mller-kva.example/hook", nil, "https://xn--mller-kva.example/hook"},
		{"http://127.0.0.1:8080/x", salesforce, "http://127.0.0.1:8080/x"},
		{"https://127.0.0.1:8080", nil, "https://127.0.0.1:8080"},
		{"http://crm.internal:9443", nil, "http://crm.internal:9443"},

		// suffixes match whole labels at the end, and nothing else
		{"https://my.salesforce.com", salesforce, ""},
		{"https://.my.salesforce.com", salesforce, ""},
		{"https://evilmy.salesforce.com", salesforce, ""},
		{"https://acme.my.salesforce.com.evil.example", salesforce, ""},
		{"https://acme.my.salesforce.com@evil.example", salesforce, ""},
		{"https://evil.example/.my.salesforce.com", salesforce, ""},
		{"https://evil.example?.my.salesforce.com", salesforce, ""},
		{"https://evil.example#.my.salesforce.com", salesforce, ""},
		{`https://evil.example\.my.salesforce.com`, salesforce, ""},
		{"https://evil.example%2f.my.salesforce.com", salesforce, ""},
		{"https://evil.example%00.my.salesforce.com", salesforce, ""},
		{"https://a.login.salesforce.com", salesforce, ""},
		{"https://acme.my.salesforce.com?x=1", salesforce, ""},
		{"https://acme.my.salesforce.com?", salesforce, ""},

		// look-alikes
		{"https://acme.my.sаlesforce.com", salesforce, ""}, // Cyrillic а
		{"https://acme.my.salesforce。com", salesforce, ""}, // ideographic full stop
		{"https://acme.my.salesforceⓒom", salesforce, ""},
		{"https://xn--acme-abc.my.salesforce.com", salesforce, ""},
		{"https://a.xn--p1ai.my.salesforce.com", salesforce, ""},
		{"https://müller.example", nil, ""},

		// scheme, user, port, fragment, dots
		{"http://acme.my.salesforce.com", salesforce, ""},
		{"ftp://hooks.example.com", nil, ""},
		{"//hooks.example.com", nil, ""},
		{"https:hooks.example.com", nil, ""},
		{"https:///hooks", nil, ""},
		{"javascript:alert(1)", nil, ""},
		{"file:///etc/passwd", nil, ""},
		{"", nil, ""},
		{"https://", nil, ""},
		{"https://user@hooks.example.com", nil, ""},
		{"https://user:pw@hooks.example.com", nil, ""},
		{"https://@hooks.example.com", nil, ""},
		{"https://hooks.example.com:8443", nil, ""},
		{"https://hooks.example.com:", nil, ""},
		{"https://hooks.example.com:0443", nil, ""},
		{"https://hooks.example.com:99999", nil, ""},
		{"https://hooks.example.com#x", nil, ""},
		{"https://hooks.example.com#", nil, ""},
		{"https://hooks.example.com.", nil, ""},
		{"https://acme.my.salesforce.com.", salesforce, ""},
		{"https://hooks..example.com", nil, ""},
		{"https://-hooks.example.com", nil, ""},
		{"https://hooks_.example.com", nil, ""},
		{"https://hooks.example.com/a/../b", nil, ""},
		{"https://hooks.example.com/a/%2e%2e/b", nil, ""},
		{" https://hooks.example.com", nil, ""},
		{"https://hooks.example.com/a b", nil, ""},
		{"https://hooks.example.com/\r\nX: y", nil, ""},
		{"https://" + strings.Repeat("a", 64) + ".example", nil, ""},
		{"https://" + strings.Repeat("a.", 127) + "example", nil, ""},
		{"https://hooks.example.com/" + strings.Repeat("a", 2048), nil, ""},

		// addresses, and names that are one or are ours
		{"https://127.0.0.1", nil, ""},
		{"https://8.8.8.8", nil, ""},
		{"https://127.1", nil, ""},
		{"https://0x7f.1", nil, ""},
		{"https://0177.0.0.1", nil, ""},
		{"https://2130706433", nil, ""},
		{"https://0x7f000001", nil, ""},
		{"https://1.2.3.0x4", nil, ""},
		{"https://[::1]", nil, ""},
		{"https://[::ffff:127.0.0.1]", nil, ""},
		{"https://[fe80::1%25eth0]", nil, ""},
		{"https://169.254.169.254/latest/meta-data", nil, ""},
		{"https://metadata.google.internal", nil, ""},
		{"https://localhost", nil, ""},
		{"https://a.localhost", nil, ""},
		{"https://intranet", nil, ""},
		{"https://printer.local", nil, ""},
		{"http://127.0.0.1:8081", nil, ""},
		{"http://127.0.0.1", nil, ""},
	} {
		u, err := outbound.CheckBaseURL(c.raw, c.suffixes, list)
		if err != nil {
			if c.want != "" {
				t.Errorf("%q: %v, want %q", c.raw, err, c.want)
			}
			continue
		}
		if u.String() != c.want {
			t.Errorf("%q is accepted as %q, want %q", c.raw, u, c.want)
		}
	}
}

// TestCheckBaseURLKeepsSecrets checks that no error repeats the address, whose
// path or query may be a secret.
func TestCheckBaseURLKeepsSecrets(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"https://127.0.0.1/cnry", "https://h.example:8443/cnry", "ftp://cnry", "https://%zz/cnry",
		"https://user:cnry@h.example", "https://h.example/cnry#x", "https://cnry.example",
	} {
		_, err := outbound.CheckBaseURL(raw, []string{".my.salesforce.com"}, nil)
		if err == nil {
			t.Errorf("%s is accepted", raw)
		} else if strings.Contains(err.Error(), "cnry") {
			t.Errorf("the error holds the address: %v", err)
		}
	}
}

// FuzzCheckBaseURL checks that whatever is accepted for a provider is a plain
// https address beneath the provider's domain.
func FuzzCheckBaseURL(f *testing.F) {
	for _, s := range []string{
		"https://acme.my.salesforce.com", "https://acme.my.salesforce.com@evil.example", "https://a.my.salesforce.com:443/x/",
		"https://[::1]", `https://e\.my.salesforce.com`, "https://a%2e.my.salesforce.com", "HTTPS://A.MY.SALESFORCE.COM",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := outbound.CheckBaseURL(raw, []string{".my.salesforce.com"}, nil)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Port() != "" || u.Fragment != "" || u.RawQuery != "" ||
			!strings.HasSuffix(u.Host, ".my.salesforce.com") || strings.ToLower(u.Host) != u.Host {
			t.Errorf("%q is accepted as %q", raw, u)
		}
		again, err := outbound.CheckBaseURL(u.String(), []string{".my.salesforce.com"}, nil)
		if err != nil || again.String() != u.String() {
			t.Errorf("%q is accepted as %q, which is not in normal form: %v", raw, u, err)
		}
	})
}
