package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const maxKeysetFile = 1 << 20 // bytes; a key has about 300

// NewKeyset returns a new keyset with one key, as a Tink keyset in JSON, in
// clear: whoever has it can open everything. It belongs into a file that
// nobody else can read, and into a backup apart from that of the store.
func NewKeyset() ([]byte, error) {
	h, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("seal: make a keyset: %w", err)
	}
	return encodeKeyset(h)
}

// Open returns the KEK that uri names. There is one kind so far: "file:PATH",
// a keyset as [NewKeyset] makes it. Errors are sentences for the operator; they
// name uri's path and hold nothing of the file's content.
//
// A file that changes while the KEK is in use, because [Rotate] added a key, is
// read again as soon as something does not open with the keys in memory.
func Open(uri string) (KEK, error) {
	scheme, rest, ok := strings.Cut(uri, ":")
	switch {
	case uri == "":
		return nil, errors.New("no keyset is named: want file:PATH, a file made by `callbridge keyset new`")
	case !ok:
		return nil, fmt.Errorf("keyset %q has no scheme: want file:PATH, such as file:%s", uri, uri)
	case scheme != "file":
		return nil, fmt.Errorf("keyset scheme %q is not built in: this build supports file:PATH only, and no key management service", scheme+":")
	}
	path, err := pathOf(rest)
	if err != nil {
		return nil, err
	}
	f := &fileKEK{path: path}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// pathOf takes the path from what stands behind "file:".
func pathOf(rest string) (string, error) {
	if path, ok := strings.CutPrefix(rest, "//"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", errors.New("keyset: file://HOST/PATH is not supported: want file:PATH or file:///PATH")
		}
		return path, nil
	}
	if rest == "" {
		return "", errors.New("keyset: the path is missing: want file:PATH")
	}
	return rest, nil
}

// Rotate adds a new key to the keyset file at path and makes it the one that
// wraps from now on. The earlier keys stay, so that what they wrapped still
// opens. The file is replaced in one step: it is whole at every moment, even
// if the machine stops.
//
// Processes that use the same file go on with what they have read, and read it
// again when they meet something that the new key wrapped. A process with a
// copy of the file cannot: give it the new copy before anything is wrapped
// anew.
func Rotate(path string) error {
	h, mode, err := readKeyset(path)
	if err != nil {
		return err
	}
	m := keyset.NewManagerFromHandle(h)
	id, err := m.Add(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return fmt.Errorf("keyset file %s: add a key: %w", path, err)
	}
	if err := m.SetPrimary(id); err != nil {
		return fmt.Errorf("keyset file %s: make the new key the first: %w", path, err)
	}
	rotated, err := m.Handle()
	if err != nil {
		return fmt.Errorf("keyset file %s: add a key: %w", path, err)
	}
	b, err := encodeKeyset(rotated)
	if err != nil {
		return err
	}
	// A link, such as those Kubernetes makes, must stay one.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("keyset file %s: %w", path, cause(err))
	}
	if err := replaceFile(target, b, mode); err != nil {
		return fmt.Errorf("keyset file %s: %w", path, err)
	}
	return nil
}

// fileKEK is a KEK from a keyset file.
type fileKEK struct {
	path string

	mu   sync.RWMutex // guards what follows
	keys kekKeys
	seen fs.FileInfo // of the file as it was read
}

var _ KEK = (*fileKEK)(nil)

type kekKeys struct {
	aead    tink.AEAD
	primary [prefixSize]byte
}

// prefixSize is the length of what Tink puts before each ciphertext: 1 and the
// key's id.
const prefixSize = 5

// Wrap implements [KEK].
func (f *fileKEK) Wrap(_ context.Context, plaintext, ad []byte) ([]byte, error) {
	return f.current().aead.Encrypt(plaintext, ad)
}

// Unwrap implements [KEK].
func (f *fileKEK) Unwrap(_ context.Context, wrapped, ad []byte) ([]byte, error) {
	b, err := f.current().aead.Decrypt(wrapped, ad)
	if err == nil {
		return b, nil
	}
	changed, err := f.reload()
	if err != nil {
		return nil, err
	}
	if !changed {
		return nil, ErrOpen
	}
	if b, err = f.current().aead.Decrypt(wrapped, ad); err != nil {
		return nil, ErrOpen
	}
	return b, nil
}

// Stale implements [KEK].
func (f *fileKEK) Stale(wrapped []byte) bool {
	k := f.current()
	return !bytes.HasPrefix(wrapped, k.primary[:])
}

func (f *fileKEK) current() kekKeys {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.keys
}

// reload reads the file again if it is another than the one in memory, and
// reports whether it was.
func (f *fileKEK) reload() (changed bool, err error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return false, fmt.Errorf("keyset file %s: %w", f.path, cause(err))
	}
	f.mu.RLock()
	seen := f.seen
	f.mu.RUnlock()
	if os.SameFile(info, seen) && info.ModTime().Equal(seen.ModTime()) && info.Size() == seen.Size() {
		return false, nil
	}
	return true, f.load()
}

func (f *fileKEK) load() error {
	info, err := os.Stat(f.path) // before reading: a change in between is then noticed later
	if err != nil {
		return describe(f.path, err)
	}
	h, _, err := readKeyset(f.path)
	if err != nil {
		return err
	}
	keys, err := newKEKKeys(h)
	if err != nil {
		return fmt.Errorf("keyset file %s: %w", f.path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys, f.seen = keys, info
	return nil
}

// newKEKKeys checks that h is what NewKeyset makes or an operator made with
// Tink's own tool: keys that encrypt with associated data and mark what they
// encrypted.
func newKEKKeys(h *keyset.Handle) (kekKeys, error) {
	a, err := aead.New(h)
	if err != nil {
		return kekKeys{}, errors.New("its keys are not for encryption (AEAD): make one with `callbridge keyset new`")
	}
	probe, err := a.Encrypt(nil, nil)
	if err != nil {
		return kekKeys{}, errors.New("its primary key does not encrypt: make one with `callbridge keyset new`")
	}
	primary, err := h.Primary()
	if err != nil {
		return kekKeys{}, errors.New("it has no primary key: make one with `callbridge keyset new`")
	}
	if _, marked := primary.Key().IDRequirement(); !marked || len(probe) < prefixSize {
		return kekKeys{}, errors.New("its primary key has no output prefix: make one with the prefix TINK")
	}
	k := kekKeys{aead: a}
	copy(k.primary[:], probe)
	return k, nil
}

// readKeyset reads and checks the keyset file at path and returns its mode too.
func readKeyset(path string) (*keyset.Handle, fs.FileMode, error) {
	f, err := os.Open(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, 0, describe(path, err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, 0, describe(path, err)
	}
	mode := info.Mode()
	switch {
	case !mode.IsRegular():
		return nil, 0, fmt.Errorf("keyset file %s is not a regular file", path)
	case mode.Perm()&0o037 != 0:
		return nil, 0, fmt.Errorf("keyset file %s can be used by others (mode %04o): run chmod 600 %s", path, mode.Perm(), path)
	case info.Size() == 0:
		return nil, 0, fmt.Errorf("keyset file %s is empty: fill it with `callbridge keyset new`", path)
	case info.Size() > maxKeysetFile:
		return nil, 0, fmt.Errorf("keyset file %s is too large to be a keyset", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeysetFile+1))
	if err != nil {
		return nil, 0, describe(path, err)
	}
	h, err := decodeKeyset(b)
	if err != nil {
		return nil, 0, fmt.Errorf("keyset file %s %w", path, err)
	}
	return h, mode.Perm(), nil
}

// decodeKeyset reads a keyset. Its errors hold nothing of b.
func decodeKeyset(b []byte) (*keyset.Handle, error) {
	var form struct {
		Encrypted json.RawMessage `json:"encryptedKeyset"`
	}
	if json.Unmarshal(b, &form) != nil {
		return nil, errors.New("holds no JSON: it must be a Tink keyset, as `callbridge keyset new` prints it")
	}
	if form.Encrypted != nil {
		return nil, errors.New("holds an encrypted keyset: it must be in clear, as `callbridge keyset new` prints it")
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, errors.New("holds no valid Tink keyset: make one with `callbridge keyset new`")
	}
	return h, nil
}

func encodeKeyset(h *keyset.Handle) ([]byte, error) {
	var raw, out bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&raw)); err != nil {
		return nil, fmt.Errorf("seal: encode a keyset: %w", err)
	}
	// Tink varies the white space between runs on purpose.
	if err := json.Indent(&out, raw.Bytes(), "", "  "); err != nil {
		return nil, errors.New("seal: encode a keyset: not JSON")
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// replaceFile puts b in the place of the file at path, or leaves that as it
// was.
func replaceFile(path string, b []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".keyset-*")
	if err != nil {
		return fmt.Errorf("make a new file beside it: %w", cause(err))
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()           // the first error is the one that counts
			_ = os.Remove(tmp.Name()) // and this one holds a key
		}
	}()
	if err := tmp.Chmod(mode); err != nil {
		return fmt.Errorf("set the new file's mode: %w", cause(err))
	}
	if _, err := tmp.Write(b); err != nil {
		return fmt.Errorf("write the new file: %w", cause(err))
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("write the new file to disk: %w", cause(err))
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("close the new file: %w", cause(err))
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("replace it: %w", cause(err))
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // G304: where the operator's file is
	if err != nil {
		return fmt.Errorf("write its folder to disk: %w", cause(err))
	}
	defer func() { _ = d.Close() }() // only read
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write its folder to disk: %w", cause(err))
	}
	return nil
}

// describe returns a sentence for an error of the file at path.
func describe(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("keyset file %s does not exist: make it with `callbridge keyset new`", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("keyset file %s must not be read by this user: check its owner and mode", path)
	}
	return fmt.Errorf("keyset file %s: %w", path, cause(err))
}

// cause returns what is wrong without the path, which the caller names.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}
