package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/oauth/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newKeysetFile writes a fresh keyset and returns its path.
func newKeysetFile(tb testing.TB) string {
	tb.Helper()
	b, err := seal.NewKeyset()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "keyset.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func newSealer(tb testing.TB) *seal.Sealer {
	tb.Helper()
	return sealerOf(tb, newKeysetFile(tb))
}

func sealerOf(tb testing.TB, path string) *seal.Sealer {
	tb.Helper()
	kek, err := seal.Open("file:" + path)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := seal.New(seal.Config{KEK: kek})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newOrgKeys(tb testing.TB, s *seal.Sealer, org hub.OrgID) *seal.OrgKeys {
	tb.Helper()
	wrapped, err := s.NewOrgKeys(tb.Context(), org)
	if err != nil {
		tb.Fatal(err)
	}
	return openOrgKeys(tb, s, org, wrapped)
}

func openOrgKeys(tb testing.TB, s *seal.Sealer, org hub.OrgID, wrapped []byte) *seal.OrgKeys {
	tb.Helper()
	k, err := s.OrgKeys(tb.Context(), org, wrapped)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func mustSeal(tb testing.TB, k *seal.OrgKeys, ad []string, plaintext string) []byte {
	tb.Helper()
	b, err := k.Seal(seal.PurposeToken, ad, []byte(plaintext))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// A sealed token opens in its own place only: I7, and an old version put back
// is refused.
func TestSealedIsBoundToItsPlace(t *testing.T) {
	t.Parallel()
	s := newSealer(t)
	ours, theirs := newOrgKeys(t, s, "org_a"), newOrgKeys(t, s, "org_b")
	ad := []string{"con_1", "salesforce", "7"}
	sealed := mustSeal(t, ours, ad, "plaintext")

	got, err := ours.Open(seal.PurposeToken, ad, sealed)
	if err != nil || string(got) != "plaintext" {
		t.Fatalf("Open in its place = %q, %v", got, err)
	}
	if len(sealed) != len("plaintext")+45 || bytes.Contains(sealed, []byte("plaintext")) {
		t.Errorf("sealed is %d bytes or readable", len(sealed))
	}
	for _, c := range []struct {
		name    string
		keys    *seal.OrgKeys
		purpose seal.Purpose
		ad      []string
	}{
		{"another org", theirs, seal.PurposeToken, ad},
		{"another purpose", ours, seal.PurposeCall, ad},
		{"another connection", ours, seal.PurposeToken, []string{"con_2", "salesforce", "7"}},
		{"a later version", ours, seal.PurposeToken, []string{"con_1", "salesforce", "8"}},
		{"an earlier version", ours, seal.PurposeToken, []string{"con_1", "salesforce", "6"}},
		{"fields joined", ours, seal.PurposeToken, []string{"con_1salesforce", "7"}},
		{"fields split elsewhere", ours, seal.PurposeToken, []string{"con_1s", "alesforce", "7"}},
		{"a field less", ours, seal.PurposeToken, []string{"con_1", "salesforce"}},
		{"an empty field more", ours, seal.PurposeToken, []string{"con_1", "salesforce", "7", ""}},
		{"no fields", ours, seal.PurposeToken, nil},
	} {
		if got, err := c.keys.Open(c.purpose, c.ad, sealed); !errors.Is(err, seal.ErrOpen) || got != nil {
			t.Errorf("%s: Open = %q, %v; want ErrOpen", c.name, got, err)
		}
	}
}

// Even with the same key, what is bound to one org does not open for another.
func TestWrappedKeysOpenForTheirOrgOnly(t *testing.T) {
	t.Parallel()
	s := newSealer(t)
	wrapped, err := s.NewOrgKeys(t.Context(), "org_a")
	if err != nil {
		t.Fatal(err)
	}
	openOrgKeys(t, s, "org_a", wrapped) // and is in the cache now
	if _, err := s.OrgKeys(t.Context(), "org_b", wrapped); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("OrgKeys of another org = %v; want ErrOpen", err)
	}
	for name, b := range map[string][]byte{"empty": nil, "cut": wrapped[:len(wrapped)-1], "huge": make([]byte, 1<<17)} {
		if _, err := s.OrgKeys(t.Context(), "org_a", b); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: OrgKeys = %v; want ErrOpen", name, err)
		}
	}
}

func TestKeysOfAnotherInstanceDoNotOpen(t *testing.T) {
	t.Parallel()
	wrapped, err := newSealer(t).NewOrgKeys(t.Context(), "org_a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newSealer(t).OrgKeys(t.Context(), "org_a", wrapped); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("OrgKeys = %v; want ErrOpen", err)
	}
}

func TestSealOpenProperty(t *testing.T) {
	t.Parallel()
	k := newOrgKeys(t, newSealer(t), "org_a")
	rapid.Check(t, func(t *rapid.T) {
		ad := rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "ad")
		other := rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "other")
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		sealed, err := k.Seal(seal.PurposeCall, ad, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Open(seal.PurposeCall, ad, sealed)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("Open = %x, %v", got, err)
		}
		_, err = k.Open(seal.PurposeCall, other, sealed)
		if same := fmt.Sprintf("%q", ad) == fmt.Sprintf("%q", other); same != (err == nil) {
			t.Fatalf("Open with %q of what was sealed with %q = %v", other, ad, err)
		}
	})
}

func TestDigest(t *testing.T) {
	t.Parallel()
	s := newSealer(t)
	wrapped, err := s.NewOrgKeys(t.Context(), "org_a")
	if err != nil {
		t.Fatal(err)
	}
	k := openOrgKeys(t, s, "org_a", wrapped)
	digest := func(k *seal.OrgKeys, p seal.Purpose, data ...string) string {
		t.Helper()
		var bs [][]byte
		for _, d := range data {
			bs = append(bs, []byte(d))
		}
		d, err := k.Digest(p, bs...)
		if err != nil || len(d) != 43 || strings.Trim(d, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			t.Fatalf("Digest = %q, %v", d, err)
		}
		return d
	}
	want := digest(k, seal.PurposeSubject, "ab", "c")
	s.Forget("org_a")
	if got := digest(openOrgKeys(t, s, "org_a", wrapped), seal.PurposeSubject, "ab", "c"); got != want {
		t.Errorf("the same digest again = %s; want %s", got, want)
	}
	for name, got := range map[string]string{
		"other boundaries": digest(k, seal.PurposeSubject, "a", "bc"),
		"other purpose":    digest(k, seal.PurposePace, "ab", "c"),
		"other org":        digest(newOrgKeys(t, s, "org_b"), seal.PurposeSubject, "ab", "c"),
		"other data":       digest(k, seal.PurposeSubject, "ab", "d"),
	} {
		if got == want {
			t.Errorf("%s gives the same digest", name)
		}
	}
}

// Rotation while serving: what the old key wrapped still opens, what the new
// key wrapped opens in a process that read the file before.
func TestRotate(t *testing.T) {
	t.Parallel()
	path := newKeysetFile(t)
	serving := sealerOf(t, path)
	wrapped, err := serving.NewOrgKeys(t.Context(), "org_a")
	if err != nil {
		t.Fatal(err)
	}
	sealed := mustSeal(t, openOrgKeys(t, serving, "org_a", wrapped), nil, "plaintext")
	if _, changed, err := serving.Rewrap(t.Context(), "org_a", wrapped); changed || err != nil {
		t.Errorf("Rewrap before the rotation: changed %v, %v", changed, err)
	}

	if err := seal.Rotate(path); err != nil {
		t.Fatal(err)
	}
	command := sealerOf(t, path)
	again, changed, err := command.Rewrap(t.Context(), "org_a", wrapped)
	if err != nil || !changed || bytes.Equal(again, wrapped) {
		t.Fatalf("Rewrap after the rotation: changed %v, %v", changed, err)
	}
	if _, changed, err := command.Rewrap(t.Context(), "org_a", again); changed || err != nil {
		t.Errorf("Rewrap twice: changed %v, %v", changed, err)
	}
	serving.Forget("org_a")
	for name, w := range map[string][]byte{"old": wrapped, "new": again} {
		for who, s := range map[string]*seal.Sealer{"serving": serving, "command": command} {
			got, err := openOrgKeys(t, s, "org_a", w).Open(seal.PurposeToken, nil, sealed)
			if err != nil || string(got) != "plaintext" {
				t.Errorf("%s process, %s wrapping: Open = %q, %v", who, name, got, err)
			}
		}
	}
}

func TestRotateReplacesTheFileInOneStep(t *testing.T) {
	t.Parallel()
	path := newKeysetFile(t)
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var reads sync.WaitGroup
	reads.Go(func() {
		for !stop.Load() {
			if _, err := seal.Open("file:" + link); err != nil {
				t.Errorf("Open during rotations: %v", err)
				return
			}
		}
	})
	for range 20 {
		if err := seal.Rotate(link); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	reads.Wait()
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is no link any more: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files in the folder, %v; want the keyset alone", len(left), err)
	}
}

func TestRotateThatFailsLeavesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := seal.Rotate(path); err == nil {
		t.Error("Rotate of a broken file succeeded")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "{" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

// A process whose keyset file is gone or broken says so, not that the keys are
// wrong.
func TestFileBrokenWhileServing(t *testing.T) {
	t.Parallel()
	path := newKeysetFile(t)
	serving := sealerOf(t, path)
	foreign, err := newSealer(t).NewOrgKeys(t.Context(), "org_a")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = serving.OrgKeys(t.Context(), "org_a", foreign)
	if err == nil || errors.Is(err, seal.ErrOpen) || !strings.Contains(err.Error(), "keyset file") {
		t.Errorf("OrgKeys without the file = %v", err)
	}
}

func TestOpenRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, err := seal.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, b []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const hmac = `{"primaryKeyId":691856985,"key":[{"keyData":{"typeUrl":"type.googleapis.com/google.crypto.tink.HmacKey","keyMaterialType":"SYMMETRIC","value":"EgQIAxAgGiDZsmkTufMG/XlKlk9m7bqxustjUPT2YULEVm8mOp2mSA=="},"outputPrefixType":"TINK","keyId":691856985,"status":"ENABLED"}]}`
	raw := strings.ReplaceAll(string(good), `"TINK"`, `"RAW"`)
	for _, c := range []struct{ name, uri, want string }{
		{"empty", "", "want file:PATH"},
		{"no scheme", "/etc/keyset.json", "has no scheme"},
		{"aws", "aws-kms://arn:aws:kms:us-east-1:1:key/2", "not built in"},
		{"gcp", "gcp-kms://projects/p/locations/l", "supports file:PATH only"},
		{"no path", "file:", "path is missing"},
		{"host", "file://host/keyset", "file://HOST/PATH"},
		{"missing", "file:" + filepath.Join(dir, "nowhere"), "does not exist"},
		{"folder", "file:" + dir, "not a regular file"},
		{"no content", "file:" + file("empty", nil, 0o600), "is empty"},
		{"world", "file:" + file("world", good, 0o644), "chmod 600"},
		{"group may write", "file:" + file("group", good, 0o660), "chmod 600"},
		{"huge", "file:" + file("huge", bytes.Repeat([]byte{' '}, 1<<20+1), 0o600), "too large"},
		{"no JSON", "file:" + file("text", []byte("canary-secret"), 0o600), "holds no JSON"},
		{"other JSON", "file:" + file("json", []byte(`{"canary-secret":1}`), 0o600), "no valid Tink keyset"},
		{"no keys", "file:" + file("nokeys", []byte(`{"primaryKeyId":1,"key":[]}`), 0o600), "no valid Tink keyset"},
		{"encrypted", "file:" + file("enc", []byte(`{"encryptedKeyset":"canary-secret"}`), 0o600), "encrypted keyset"},
		{"other keys", "file:" + file("hmac", []byte(hmac), 0o600), "not for encryption"},
		{"no prefix", "file:" + file("raw", []byte(raw), 0o600), "prefix TINK"},
	} {
		kek, err := seal.Open(c.uri)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Open = %v; want %q in it", c.name, err, c.want)
			continue
		}
		if kek != nil || strings.Contains(err.Error(), "canary-secret") {
			t.Errorf("%s: Open gave a key, or its error tells the content: %v", c.name, err)
		}
	}
	for _, uri := range []string{
		"file:" + file("ok", good, 0o600), "file://" + file("ok3", good, 0o400), "file:" + file("okg", good, 0o440),
	} {
		if _, err := seal.Open(uri); err != nil {
			t.Errorf("Open(%q) = %v", uri, err)
		}
	}
}

func TestNewRefusals(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]seal.Config{
		"no KEK":         {},
		"kept too long":  {KEK: &countingKEK{}, CacheFor: time.Hour},
		"negative size":  {KEK: &countingKEK{}, CacheSize: -1},
		"negative times": {KEK: &countingKEK{}, CacheFor: -1},
	} {
		if _, err := seal.New(cfg); err == nil {
			t.Errorf("%s: New succeeded", name)
		}
	}
}

// countingKEK is a slow KEK, as a key management service is, that wraps with
// nothing.
type countingKEK struct {
	slow    time.Duration
	fail    atomic.Bool
	unwraps atomic.Int64
}

func (*countingKEK) Wrap(_ context.Context, p, ad []byte) ([]byte, error) {
	return append(append([]byte{byte(len(ad))}, ad...), p...), nil
}

func (k *countingKEK) Unwrap(ctx context.Context, w, ad []byte) ([]byte, error) {
	k.unwraps.Add(1)
	select {
	case <-time.After(k.slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if k.fail.Load() {
		return nil, errors.New("service down")
	}
	if !bytes.HasPrefix(w[1:], ad) {
		return nil, seal.ErrOpen
	}
	return w[1+len(ad):], nil
}

func (*countingKEK) Stale([]byte) bool { return false }

func TestKeysAreCachedBoundedAndShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := &countingKEK{slow: 100 * time.Millisecond}
		s, err := seal.New(seal.Config{KEK: kek, CacheSize: 2})
		if err != nil {
			t.Fatal(err)
		}
		wrapped := map[hub.OrgID][]byte{}
		for _, org := range []hub.OrgID{"org_a", "org_b", "org_c"} {
			if wrapped[org], err = s.NewOrgKeys(t.Context(), org); err != nil {
				t.Fatal(err)
			}
		}
		use := func(org hub.OrgID, want int64) {
			t.Helper()
			openOrgKeys(t, s, org, wrapped[org])
			if got := kek.unwraps.Load(); got != want {
				t.Errorf("%d unwraps so far; want %d", got, want)
			}
		}
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() { openOrgKeys(t, s, "org_a", wrapped["org_a"]) })
		}
		wg.Wait()
		use("org_a", 1) // 30 at once, one unwrap
		use("org_b", 2)
		use("org_a", 2) // so that b was used longest ago
		use("org_c", 3) // drops b
		use("org_a", 3)
		use("org_b", 4)
		s.Forget("org_b")
		use("org_b", 5)
		<-time.After(5*time.Minute - time.Second)
		use("org_b", 5)
		<-time.After(time.Second)
		use("org_b", 6) // time is up

		// A failure is not kept, and one caller's patience is its own.
		s.Forget("org_a")
		kek.fail.Store(true)
		if _, err := s.OrgKeys(t.Context(), "org_a", wrapped["org_a"]); err == nil || errors.Is(err, seal.ErrOpen) {
			t.Errorf("OrgKeys while the service is down = %v", err)
		}
		kek.fail.Store(false)
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		wg.Go(func() {
			if _, err := s.OrgKeys(short, "org_a", wrapped["org_a"]); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("OrgKeys with a short deadline = %v", err)
			}
		})
		synctest.Wait()
		use("org_a", 8)
		wg.Wait()
	})
}

func FuzzOpen(f *testing.F) {
	k := newOrgKeys(f, newSealer(f), "org_a")
	ad := []string{"con_1", "1"}
	sealed := mustSeal(f, k, ad, "plaintext")
	f.Add([]byte{}, 0)
	f.Add([]byte{1}, 0)
	f.Add([]byte{0x80}, 44)
	f.Add(sealed, -1)
	f.Fuzz(func(t *testing.T, change []byte, at int) {
		mutated := change
		if at >= 0 { // laid over the real thing
			mutated = bytes.Clone(sealed)
			for i, c := range change {
				mutated[(at%len(mutated)+i)%len(mutated)] ^= c
			}
		}
		got, err := k.Open(seal.PurposeToken, ad, mutated)
		switch {
		case bytes.Equal(mutated, sealed):
			if err != nil || string(got) != "plaintext" {
				t.Errorf("Open of the real thing = %q, %v", got, err)
			}
		case !errors.Is(err, seal.ErrOpen) || got != nil:
			t.Errorf("Open(%x) = %q, %v; want ErrOpen", mutated, got, err)
		}
	})
}

func FuzzOrgKeys(f *testing.F) {
	s := newSealer(f)
	wrapped, err := s.NewOrgKeys(f.Context(), "org_a")
	if err != nil {
		f.Fatal(err)
	}
	open, err := seal.New(seal.Config{KEK: &countingKEK{}}) // lets any bundle through
	if err != nil {
		f.Fatal(err)
	}
	plain, err := open.NewOrgKeys(f.Context(), "org_a")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add(plain)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := s.OrgKeys(t.Context(), "org_a", b); err == nil && !bytes.Equal(b, wrapped) {
			t.Errorf("OrgKeys(%x) opened", b)
		}
		if len(b) > 0 {
			// Anything but a panic: the form behind the KEK is not authenticated here.
			if k, err := open.OrgKeys(t.Context(), "org_a", b); err == nil && k.Org() != "org_a" {
				t.Errorf("keys of org %s", k.Org())
			}
		}
	})
}

func FuzzKeysetFile(f *testing.F) {
	good, err := seal.NewKeyset()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"primaryKeyId":1,"key":[{}]}`))
	f.Add([]byte(`{"encryptedKeyset":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "keyset.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		kek, err := seal.Open("file:" + path)
		if err != nil {
			return
		}
		wrapped, err := kek.Wrap(t.Context(), []byte("plaintext"), nil)
		if err != nil {
			t.Fatalf("a KEK that opened does not wrap: %v", err)
		}
		if got, err := kek.Unwrap(t.Context(), wrapped, nil); err != nil || string(got) != "plaintext" || kek.Stale(wrapped) {
			t.Errorf("Unwrap = %q, %v", got, err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	k := newOrgKeys(b, newSealer(b), "org_a")
	plaintext := make([]byte, 1200)
	ad := []string{"con_1", "salesforce", "7"}
	b.SetBytes(int64(len(plaintext)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Seal(seal.PurposeToken, ad, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	k := newOrgKeys(b, newSealer(b), "org_a")
	ad := []string{"con_1", "salesforce", "7"}
	sealed := mustSeal(b, k, ad, strings.Repeat("x", 1200))
	b.SetBytes(1200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(seal.PurposeToken, ad, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	k := newOrgKeys(b, newSealer(b), "org_a")
	data := []byte("dana@acme.example")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Digest(seal.PurposeSubject, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOrgKeysCached(b *testing.B) {
	s := newSealer(b)
	wrapped, err := s.NewOrgKeys(b.Context(), "org_a")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.OrgKeys(b.Context(), "org_a", wrapped); err != nil {
			b.Fatal(err)
		}
	}
}
