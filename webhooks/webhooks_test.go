package webhooks_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/webhooks"
)

// The vector that the Standard Webhooks project tests its libraries with.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime      = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

// sign is the specification once more, without the library.
func sign(secret, id string, at int64, body string) string {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%d.%s", id, at, body) // a hash never returns an error
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func headers(id, at, signature string) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", at)
	h.Set("webhook-signature", signature)
	return h
}

func secrets(s ...string) []hub.Secret {
	out := make([]hub.Secret, len(s))
	for i := range s {
		out[i] = hub.NewSecret(s[i])
	}
	return out
}

func TestPublishedVector(t *testing.T) {
	t.Parallel()
	if got := sign(vectorSecret, vectorID, vectorTime, vectorBody); got != vectorSignature {
		t.Fatalf("our own signature is %s, the published one %s", got, vectorSignature)
	}
	for _, secret := range []string{vectorSecret, strings.TrimPrefix(vectorSecret, "whsec_")} {
		id, err := webhooks.Verify(secrets(secret), headers(vectorID, fmt.Sprint(vectorTime), vectorSignature), []byte(vectorBody), time.Unix(vectorTime, 0))
		if id != vectorID || err != nil {
			t.Errorf("id %q, %v", id, err)
		}
	}
}

// TestOtherLibrary signs with the library's own signer.
func TestOtherLibrary(t *testing.T) {
	t.Parallel()
	secret := webhooks.NewSecret()
	w, err := standardwebhooks.NewWebhook(secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_790_000_000, 999_000_000)
	signature, err := w.Sign("msg_1", at, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := webhooks.Verify([]hub.Secret{secret}, headers("msg_1", "1790000000", signature), []byte("body"), at); err != nil {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const (
		old     = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw0s"
		current = vectorSecret
		other   = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		id      = "msg_1"
		at      = int64(1_790_000_000)
		body    = `{"id":"1"}`
	)
	now := time.Unix(at, 0)
	good := sign(current, id, at, body)
	stamp := fmt.Sprint(at)
	wrong := sign(other, id, at, body)
	with := func(change func(http.Header)) http.Header {
		h := headers(id, stamp, good)
		change(h)
		return h
	}
	cases := map[string]struct {
		secrets []hub.Secret
		header  http.Header
		body    string
		now     time.Time
		want    error
	}{
		"signed":                       {secrets(current), headers(id, stamp, good), body, now, nil},
		"old secret while rotating":    {secrets(current, old), headers(id, stamp, sign(old, id, at, body)), body, now, nil},
		"new secret while rotating":    {secrets(old, current), headers(id, stamp, good), body, now, nil},
		"signed with both":             {secrets(current), headers(id, stamp, sign(old, id, at, body)+" "+good), body, now, nil},
		"other versions beside":        {secrets(current), headers(id, stamp, "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5B v2,x , "+good), body, now, nil},
		"empty body":                   {secrets(current), headers(id, stamp, sign(current, id, at, "")), "", now, nil},
		"5 minutes old":                {secrets(current), headers(id, stamp, good), body, now.Add(5 * time.Minute), nil},
		"5 minutes ahead":              {secrets(current), headers(id, stamp, good), body, now.Add(-5 * time.Minute), nil},
		"too old":                      {secrets(current), headers(id, stamp, good), body, now.Add(5*time.Minute + time.Millisecond), webhooks.ErrStale},
		"too new":                      {secrets(current), headers(id, stamp, good), body, now.Add(-5*time.Minute - time.Millisecond), webhooks.ErrStale},
		"far future":                   {secrets(current), headers(id, "9223372036854775807", good), body, now, webhooks.ErrStale},
		"1970":                         {secrets(current), headers(id, "0", sign(current, id, 0, body)), body, now, webhooks.ErrStale},
		"no secret":                    {nil, headers(id, stamp, good), body, now, webhooks.ErrSignature},
		"retired secret":               {secrets(current), headers(id, stamp, sign(old, id, at, body)), body, now, webhooks.ErrSignature},
		"other secret":                 {secrets(current, old), headers(id, stamp, wrong), body, now, webhooks.ErrSignature},
		"other body":                   {secrets(current), headers(id, stamp, good), body + " ", now, webhooks.ErrSignature},
		"other id":                     {secrets(current), headers("msg_2", stamp, good), body, now, webhooks.ErrSignature},
		"other time":                   {secrets(current), headers(id, fmt.Sprint(at+1), good), body, now, webhooks.ErrSignature},
		"unknown version":              {secrets(current), headers(id, stamp, "v2"+good[2:]), body, now, webhooks.ErrSignature},
		"no version":                   {secrets(current), headers(id, stamp, good[3:]), body, now, webhooks.ErrSignature},
		"shortened":                    {secrets(current), headers(id, stamp, good[:len(good)-2]), body, now, webhooks.ErrSignature},
		"only the version":             {secrets(current), headers(id, stamp, "v1,"), body, now, webhooks.ErrSignature},
		"no id":                        {secrets(current), with(func(h http.Header) { h.Del("webhook-id") }), body, now, webhooks.ErrMissingHeaders},
		"no timestamp":                 {secrets(current), with(func(h http.Header) { h.Del("webhook-timestamp") }), body, now, webhooks.ErrMissingHeaders},
		"no signature":                 {secrets(current), with(func(h http.Header) { h.Del("webhook-signature") }), body, now, webhooks.ErrMissingHeaders},
		"no header":                    {secrets(current), nil, body, now, webhooks.ErrMissingHeaders},
		"empty id":                     {secrets(current), with(func(h http.Header) { h.Set("webhook-id", "") }), body, now, webhooks.ErrMissingHeaders},
		"two ids":                      {secrets(current), with(func(h http.Header) { h.Add("webhook-id", "msg_2") }), body, now, webhooks.ErrHeaders},
		"two timestamps":               {secrets(current), with(func(h http.Header) { h.Add("webhook-timestamp", stamp) }), body, now, webhooks.ErrHeaders},
		"two signature headers":        {secrets(current), with(func(h http.Header) { h.Add("webhook-signature", good) }), body, now, webhooks.ErrHeaders},
		"id with a space":              {secrets(current), headers("msg 1", stamp, sign(current, "msg 1", at, body)), body, now, webhooks.ErrHeaders},
		"id that is not ASCII":         {secrets(current), headers("msgé", stamp, sign(current, "msgé", at, body)), body, now, webhooks.ErrHeaders},
		"id too long":                  {secrets(current), headers(strings.Repeat("a", 129), stamp, good), body, now, webhooks.ErrHeaders},
		"timestamp with a sign":        {secrets(current), headers(id, "+"+stamp, good), body, now, webhooks.ErrHeaders},
		"timestamp with a zero":        {secrets(current), headers(id, "0"+stamp, good), body, now, webhooks.ErrHeaders},
		"timestamp with a fraction":    {secrets(current), headers(id, stamp+".0", good), body, now, webhooks.ErrHeaders},
		"timestamp in milliseconds":    {secrets(current), headers(id, stamp+"000", good), body, now, webhooks.ErrStale},
		"negative timestamp":           {secrets(current), headers(id, "-1", good), body, now, webhooks.ErrHeaders},
		"timestamp beyond 64 bits":     {secrets(current), headers(id, "9223372036854775808", good), body, now, webhooks.ErrHeaders},
		"timestamp as text":            {secrets(current), headers(id, now.Format(time.RFC3339), good), body, now, webhooks.ErrHeaders},
		"signatures too long":          {secrets(current), headers(id, stamp, strings.Repeat(wrong+" ", 50)+good), body, now, webhooks.ErrHeaders},
		"body too large":               {secrets(current), headers(id, stamp, good), strings.Repeat("a", webhooks.MaxBody+1), now, webhooks.ErrTooLarge},
		"secret that is no base64":     {secrets("whsec_!"), headers(id, stamp, good), body, now, webhooks.ErrSecret},
		"secret that is too short":     {secrets("whsec_AAAA"), headers(id, stamp, good), body, now, webhooks.ErrSecret},
		"empty secret":                 {[]hub.Secret{{}}, headers(id, stamp, sign("", id, at, body)), body, now, webhooks.ErrSecret},
		"bytes moved from body to id":  {secrets(current), headers("msg_1."+stamp, stamp, sign(current, "msg_1."+stamp, at, body)), body, now, webhooks.ErrHeaders},
		"the largest body there is":    {secrets(current), headers(id, stamp, sign(current, id, at, strings.Repeat("a", webhooks.MaxBody))), strings.Repeat("a", webhooks.MaxBody), now, nil},
		"the longest id there is":      {secrets(current), headers(strings.Repeat("=", 128), stamp, sign(current, strings.Repeat("=", 128), at, body)), body, now, nil},
		"headers in another case":      {secrets(current), http.Header{http.CanonicalHeaderKey("WEBHOOK-ID"): {id}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {good}}, body, now, nil},
		"further headers do not count": {secrets(current), with(func(h http.Header) { h.Set("svix-id", "msg_2") }), body, now, nil},
	}
	for name, c := range cases {
		got, err := webhooks.Verify(c.secrets, c.header, []byte(c.body), c.now)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if want := c.header.Get("webhook-id"); err == nil && got != want || err != nil && got != "" {
			t.Errorf("%s: id %q", name, got)
		}
		if err != nil {
			for _, hidden := range []string{good[3:20], sign(old, id, at, body)[3:20], "MfKQ", id, "+1790"} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("%s: the error holds %q: %v", name, hidden, err)
				}
			}
		}
	}
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	a, b := webhooks.NewSecret(), webhooks.NewSecret()
	rest, ok := strings.CutPrefix(a.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(key) != 32 {
		t.Errorf("%d bytes, %v", len(key), err)
	}
	if a.Equal(b) {
		t.Error("two secrets are the same")
	}
	if err := webhooks.CheckSecret(a); err != nil {
		t.Error(err)
	}
}

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	of := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for s, ok := range map[string]bool{
		of(24): true, of(64): true, of(32)[6:]: true, vectorSecret: true,
		"": false, "whsec_": false, of(23): false, of(65): false, "whpk_" + of(32)[6:]: false, of(32) + " ": false, of(32)[:40]: false, "whsec_whsec_" + of(32)[6:]: false,
	} {
		if err := webhooks.CheckSecret(hub.NewSecret(s)); (err == nil) != ok {
			t.Errorf("%d characters: %v, want ok %t", len(s), err, ok)
		}
	}
}

// verifyPlainly is the specification and our own limits, without the library.
func verifyPlainly(secret, id, at, signatures, body string, now int64) bool {
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return c < '!' || c > '~' || c == '.' }) {
		return false
	}
	var seconds int64
	for _, c := range at {
		if c < '0' || c > '9' || seconds > now+300 {
			return false
		}
		seconds = 10*seconds + int64(c-'0')
	}
	if at == "" || at[0] == '0' && at != "0" || seconds < now-300 || seconds > now+300 || len(signatures) > 2048 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + at + "." + body))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for s := range strings.SplitSeq(signatures, " ") {
		if version, rest, _ := strings.Cut(s, ","); version == "v1" {
			if first, _, _ := strings.Cut(rest, ","); first == want {
				return true
			}
		}
	}
	return false
}

// FuzzVerify holds Verify against the plain implementation, on the headers as
// they come and with a right signature put in among them.
func FuzzVerify(f *testing.F) {
	const now = int64(1_790_000_000)
	f.Add("msg_1", "1790000000", "v1,x", `{"id":"1"}`, true)
	f.Add("msg_1", "1790000300", "", "", true)
	f.Add("msg.1", "1790000000", "v1a,x v1,", "1790000000.{}", true)
	f.Add("a", "+1790000000", "v1,,", "\x00", false)
	f.Add("é", "01790000000", " , v1,a,b", "{}", true)
	f.Add("", "-1", strings.Repeat("v1,x ", 500), "{}", false)
	f.Fuzz(func(t *testing.T, id, at, signatures, body string, signed bool) {
		if signed {
			key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(vectorSecret, "whsec_"))
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(id + "." + at + "." + body))
			signatures += " v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		}
		got, err := webhooks.Verify(secrets(vectorSecret), headers(id, at, signatures), []byte(body), time.Unix(now, 0))
		want := verifyPlainly(vectorSecret, id, at, signatures, body, now)
		if (err == nil) != want {
			t.Fatalf("%v, but valid is %t", err, want)
		}
		if err == nil && got != id || err != nil && got != "" {
			t.Errorf("id %q", got)
		}
		if err == nil {
			return
		}
		for _, typed := range []error{webhooks.ErrMissingHeaders, webhooks.ErrHeaders, webhooks.ErrStale, webhooks.ErrSignature, webhooks.ErrTooLarge} {
			if errors.Is(err, typed) {
				return
			}
		}
		t.Errorf("an error of no kind: %v", err)
	})
}

func BenchmarkVerify(b *testing.B) {
	body := strings.Repeat("a", 4096)
	h := headers("msg_1", "1790000000", sign(vectorSecret, "msg_1", 1_790_000_000, body))
	s := secrets(vectorSecret)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := webhooks.Verify(s, h, []byte(body), time.Unix(1_790_000_000, 0)); err != nil {
			b.Fatal(err)
		}
	}
}
