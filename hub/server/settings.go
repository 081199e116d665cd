package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/optiwe/callbridge/hub"
)

// Settings is what an instance is told from outside. [Variables] says what each
// means; the zero value is not usable.
type Settings struct {
	RedisURL      hub.Secret // holds a password
	Listen        string
	MetricsListen string
	PublicURL     string
	Keyset        string

	SalesforceClientID     string
	SalesforceClientSecret hub.Secret
	SalesforceLoginURL     string
	SalesforceAPIVersion   string

	SlackClientID      string
	SlackClientSecret  hub.Secret
	SlackSigningSecret hub.Secret
	SlackAPIURL        string

	AllowPrivateHosts  []string
	AllowVolatileRedis bool
	Region             string
	Terms              string
	Retention          time.Duration
	QueueLimit         int
	CallRate           int
	LaneLease          time.Duration
	LogLevel           slog.Level
	LogFormat          string
}

// Variable is one setting: an environment variable that is also a flag of
// serve.
type Variable struct {
	Name    string // CALLBRIDGE_…
	Flag    string // redis-url
	Default string
	Help    string
	Secret  bool // better given in the environment: flags are seen by other users of the machine

	set func(*Settings, string) error
}

// SettingError is a setting that is missing or malformed.
type SettingError struct {
	Name   string
	Detail string
}

func (e *SettingError) Error() string { return e.Name + " " + e.Detail }

// Variables returns every setting, in the order of the documentation.
func Variables() []Variable {
	vs := []Variable{
		{Name: "REDIS_URL", Secret: true, Help: "address of Redis: redis://, rediss://, redis+sentinel:// or redis+cluster://", set: secret(func(s *Settings) *hub.Secret { return &s.RedisURL })},
		{Name: "LISTEN", Default: "127.0.0.1:8080", Help: "address of the HTTP server", set: listen(func(s *Settings) *string { return &s.Listen })},
		{Name: "METRICS_LISTEN", Help: "address of an HTTP server of its own for GET /metrics", set: listen(func(s *Settings) *string { return &s.MetricsListen })},
		{Name: "PUBLIC_URL", Help: "the address that browsers and providers use; required unless the listen address is loopback", set: address(func(s *Settings) *string { return &s.PublicURL })},
		{Name: "KEYSET", Help: "where the key-encryption key is: file:PATH or a KMS URI", set: text(func(s *Settings) *string { return &s.Keyset })},
		{Name: "SALESFORCE_CLIENT_ID", Help: "the Salesforce app; Salesforce is off when unset", set: text(func(s *Settings) *string { return &s.SalesforceClientID })},
		{Name: "SALESFORCE_CLIENT_SECRET", Secret: true, Help: "secret of the Salesforce app", set: secret(func(s *Settings) *hub.Secret { return &s.SalesforceClientSecret })},
		{Name: "SALESFORCE_LOGIN_URL", Default: "https://login.salesforce.com", Help: "default login host", set: address(func(s *Settings) *string { return &s.SalesforceLoginURL })},
		{Name: "SALESFORCE_API_VERSION", Default: "67.0", Help: "REST API version", set: apiVersion},
		{Name: "SLACK_CLIENT_ID", Help: "the Slack app; Slack is off when unset", set: text(func(s *Settings) *string { return &s.SlackClientID })},
		{Name: "SLACK_CLIENT_SECRET", Secret: true, Help: "secret of the Slack app", set: secret(func(s *Settings) *hub.Secret { return &s.SlackClientSecret })},
		{Name: "SLACK_SIGNING_SECRET", Secret: true, Help: "verifies requests from Slack", set: secret(func(s *Settings) *hub.Secret { return &s.SlackSigningSecret })},
		{Name: "SLACK_API_URL", Default: "https://slack.com/api/", Help: "base of Slack's Web API, ends in /", set: slackAPI},
		{Name: "ALLOW_PRIVATE_HOSTS", Help: "comma list of host:port that providers and webhook targets may have although they are not public", set: privateHosts},
		{Name: "ALLOW_VOLATILE_REDIS", Help: "1: start although Redis keeps nothing on disk", set: volatile},
		{Name: "REGION", Default: "us", Help: "region of this instance", set: text(func(s *Settings) *string { return &s.Region })},
		{Name: "TERMS_VERSION", Default: "2020-05-01", Help: "version of the terms that an admin accepts when enabling", set: text(func(s *Settings) *string { return &s.Terms })},
		{Name: "CALL_RETENTION", Default: "30d", Help: "how long call content is kept after its last transfer ended", set: retention},
		{Name: "QUEUE_LIMIT", Default: "250000", Help: "how many transfers may wait in one org", set: count(func(s *Settings) *int { return &s.QueueLimit })},
		{Name: "CALL_RATE", Default: "20000", Help: "how many calls one org may post in a second, to each replica", set: count(func(s *Settings) *int { return &s.CallRate })},
		{Name: "LANE_LEASE", Default: "15s", Help: "how long the work of a replica that died waits before another takes it over", set: lease},
		{Name: "LOG_LEVEL", Default: "info", Help: "debug, info, warn or error", set: logLevel},
		{Name: "LOG_FORMAT", Help: "json or text; by default json, and text on a terminal", set: logFormat},
	}
	for i := range vs {
		vs[i].Flag = strings.ToLower(strings.ReplaceAll(vs[i].Name, "_", "-"))
		vs[i].Name = "CALLBRIDGE_" + vs[i].Name
	}
	return vs
}

// ReadSettings reads every setting with lookup, which returns "" for one that
// is not set. The error is a *[SettingError] for the first that is wrong.
func ReadSettings(lookup func(name string) string) (Settings, error) {
	var s Settings
	for _, v := range Variables() {
		value := lookup(v.Name)
		if value == "" {
			value = v.Default
		}
		if value == "" {
			continue
		}
		if err := v.set(&s, value); err != nil {
			return s, &SettingError{v.Name, err.Error()}
		}
	}
	return s, nil
}

// Check returns what is wrong between the settings, for serving.
func (s Settings) Check() error {
	if s.RedisURL.IsZero() {
		return &SettingError{"CALLBRIDGE_REDIS_URL", "is not set; give the address of Redis, such as redis://127.0.0.1:6379"}
	}
	if s.Keyset == "" {
		return &SettingError{"CALLBRIDGE_KEYSET", "is not set; make a keyset with `callbridge keyset new > keyset.json`, chmod 600 it, and give file:PATH"}
	}
	if s.PublicURL == "" && !loopback(s.Listen) {
		return &SettingError{"CALLBRIDGE_PUBLIC_URL", "is not set; it is required because " + s.Listen + " is not a loopback address"}
	}
	for _, pair := range []struct {
		id     string
		secret hub.Secret
		name   string
	}{
		{s.SalesforceClientID, s.SalesforceClientSecret, "CALLBRIDGE_SALESFORCE_CLIENT_SECRET"},
		{s.SlackClientID, s.SlackClientSecret, "CALLBRIDGE_SLACK_CLIENT_SECRET"},
	} {
		if pair.id != "" && pair.secret.IsZero() {
			return &SettingError{pair.name, "is not set although the client id is; give both or neither"}
		}
	}
	return nil
}

func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func text(to func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		*to(s) = v
		return nil
	}
}

func secret(to func(*Settings) *hub.Secret) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		*to(s) = hub.NewSecret(v)
		return nil
	}
}

func listen(to func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		_, port, err := net.SplitHostPort(v)
		if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
			return fmt.Errorf("must be host:port, such as 127.0.0.1:8080")
		}
		*to(s) = v
		return nil
	}
}

func address(to func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("must be an address such as https://callbridge.example.com")
		}
		*to(s) = strings.TrimSuffix(v, "/")
		return nil
	}
}

func slackAPI(s *Settings, v string) error {
	if err := address(func(s *Settings) *string { return &s.SlackAPIURL })(s, v); err != nil || !strings.HasSuffix(v, "/") {
		return fmt.Errorf("must be an address that ends in /, such as https://slack.com/api/")
	}
	s.SlackAPIURL = v
	return nil
}

func apiVersion(s *Settings, v string) error {
	major, minor, ok := strings.Cut(v, ".")
	if n, err := strconv.Atoi(major); !ok || minor != "0" || err != nil || n < 46 {
		return fmt.Errorf("must be a version such as 67.0, at least 46.0")
	}
	s.SalesforceAPIVersion = v
	return nil
}

func privateHosts(s *Settings, v string) error {
	for h := range strings.SplitSeq(v, ",") {
		h = strings.TrimSpace(h)
		if h == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(h); err != nil || port == "" {
			return fmt.Errorf("must be a comma list of host:port; %q has no port", h)
		}
		s.AllowPrivateHosts = append(s.AllowPrivateHosts, h)
	}
	return nil
}

func volatile(s *Settings, v string) error {
	switch v {
	case "1", "true":
		s.AllowVolatileRedis = true
	case "0", "false":
	default:
		return fmt.Errorf("must be 1 or 0")
	}
	return nil
}

func retention(s *Settings, v string) error {
	d, err := ParseDuration(v)
	if err != nil || d < time.Hour {
		return fmt.Errorf("must be a duration such as 30d or 12h, at least 1h")
	}
	s.Retention = d
	return nil
}

// ParseDuration reads a duration such as "30d", "12h" or "1d12h".
func ParseDuration(v string) (time.Duration, error) {
	days, rest, ok := strings.Cut(v, "d")
	if !ok {
		return time.ParseDuration(v) //nolint:wrapcheck // it says what is wrong
	}
	n, err := strconv.Atoi(days)
	if err != nil || n < 0 || n > 36_500 {
		return 0, fmt.Errorf("%q is not a number of days", days)
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	return d + more, err //nolint:wrapcheck // it says what is wrong
}

func lease(s *Settings, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 3*time.Second || d > 10*time.Minute {
		return fmt.Errorf("must be a duration of 3s to 10m")
	}
	s.LaneLease = d
	return nil
}

func count(to func(*Settings) *int) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return fmt.Errorf("must be a whole number, at least 1")
		}
		*to(s) = n
		return nil
	}
}

func logLevel(s *Settings, v string) error {
	if err := s.LogLevel.UnmarshalText([]byte(v)); err != nil {
		return fmt.Errorf("must be debug, info, warn or error")
	}
	return nil
}

func logFormat(s *Settings, v string) error {
	if !slices.Contains([]string{"json", "text"}, v) {
		return fmt.Errorf("must be json or text")
	}
	s.LogFormat = v
	return nil
}
