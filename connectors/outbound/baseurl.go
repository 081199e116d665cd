package outbound

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxURL   = 2048 // bytes of an address
	maxHost  = 253  // bytes of a name, RFC 1035
	maxLabel = 63   // bytes of a label, RFC 1035
)

// CheckBaseURL checks the address of a connection as a customer typed it or a
// provider named it, and returns it in normal form: host in lower case, no
// port 443, no slash at its end.
//
// The address must be https://, its host a public-looking DNS name in ASCII,
// without user, port or fragment. With suffixes, which are a provider's
// domains, the host must match one of them: ".example.com" matches the names
// beneath example.com, "example.com" matches that name only; a query or a
// Punycode label is refused then. Without suffixes any name will do, and the
// path and the query are kept as they are: the address is a webhook's whole
// address.
//
// A host:port of allowPrivate may be reached by http as well, and may be
// anything: an IP address, another port, a host outside suffixes.
//
// Errors are sentences for the admin and hold nothing of raw, which can
// contain a secret. CheckBaseURL resolves nothing: the addresses behind the
// name are checked by [Transport] when it dials.
func CheckBaseURL(raw string, suffixes, allowPrivate []string) (*url.URL, error) {
	allowed, err := parseAllowList(allowPrivate)
	if err != nil {
		return nil, err
	}
	u, err := parseBase(raw)
	if err != nil {
		return nil, err
	}
	u.Host = strings.ToLower(u.Host)
	if suffixes != nil || strings.Trim(u.Path, "/") == "" {
		u.Path = strings.TrimRight(u.Path, "/")
		u.RawPath = strings.TrimRight(u.RawPath, "/")
	}
	if allowed.has(hostPort(u)) {
		return u, nil
	}
	if u.Scheme != "https" {
		return nil, errors.New("must start with https://")
	}
	switch u.Port() {
	case "":
	case "443":
		u.Host = u.Hostname()
	default:
		return nil, errors.New("must not name a port")
	}
	if err := checkName(u.Host); err != nil {
		return nil, err
	}
	if suffixes == nil {
		return u, nil
	}
	if u.RawQuery != "" || u.ForceQuery {
		return nil, errors.New("must not have a query")
	}
	if strings.HasPrefix(u.Host, "xn--") || strings.Contains(u.Host, ".xn--") {
		return nil, errors.New("must be the provider's own host name")
	}
	if !slices.ContainsFunc(suffixes, func(s string) bool { return matches(u.Host, strings.ToLower(s)) }) {
		return nil, errors.New("must be one of the provider's hosts: " + strings.Join(suffixes, ", "))
	}
	return u, nil
}

// parseBase parses raw and refuses what no base address may have.
func parseBase(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, errors.New("must not be longer than " + strconv.Itoa(maxURL) + " bytes")
	}
	for _, c := range []byte(raw) {
		// A backslash is a slash to browsers and part of the user to others.
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return nil, errors.New("must be ASCII without spaces, control characters and backslashes")
		}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("must be an address such as https://host.example") // err quotes raw
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("must start with https://")
	case u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("must name a host")
	case u.User != nil:
		return nil, errors.New("must not hold a user name or password")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("must not have a fragment (#)")
	case strings.HasSuffix(u.Host, ":") || (u.Port() != "" && !validPort(u.Port())):
		return nil, errors.New("must not name such a port")
	case slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return nil, errors.New("must not have . or .. in its path")
	}
	return u, nil
}

// checkName checks that host, in lower case, is a DNS name that can be public.
func checkName(host string) error {
	if strings.HasPrefix(host, "[") {
		return errors.New("must be a host name, not an IP address")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return errors.New("must be a host name, not an IP address")
	}
	labels := strings.Split(host, ".")
	if len(host) > maxHost || len(labels) < 2 || slices.ContainsFunc(labels, badLabel) {
		return errors.New("must be a full host name such as host.example, without a dot at its end")
	}
	// Resolvers take 127.1, 0x7f.1 and 0177.0.0.1 for addresses. A top-level
	// domain never starts with a digit (RFC 3696).
	last := labels[len(labels)-1]
	if last[0] >= '0' && last[0] <= '9' {
		return errors.New("must be a host name, not an IP address")
	}
	if slices.Contains([]string{"localhost", "local", "internal", "home", "lan", "corp", "arpa"}, last) {
		return errors.New("must be a public host")
	}
	return nil
}

// badLabel reports whether s cannot be a label of a host name: letters, digits
// and hyphens inside, RFC 1123.
func badLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return true
	}
	return strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// matches reports whether host is suffix, or beneath it if suffix starts with
// a dot.
func matches(host, suffix string) bool {
	if strings.HasPrefix(suffix, ".") {
		return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return host == suffix
}

func validPort(s string) bool {
	p, err := strconv.ParseUint(s, 10, 16)
	return err == nil && p > 0
}
