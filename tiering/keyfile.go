package tiering

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
)

const (
	keyFileMagic   = "logcore-keyring"
	keyFileVersion = 2       // the newest that is read; written for wrapped keys, else 1
	keyFileMax     = 1 << 20 // bytes
	keysMax        = 4096
)

// keyEntry is a line of a key file: a key, or a wrapped one.
type keyEntry struct {
	id      KeyID
	key     [masterKeyBytes]byte
	wrapped []byte // as a KMS wrapped it; nil when key is the key itself
}

// GenerateKeyFile creates path, mode 0600, holding one new random key; the file and
// its directory are synced on return. It never replaces a file: an existing path is
// an error that wraps fs.ErrExist.
func GenerateKeyFile(path string) (*Keyring, error) {
	if err := writeKeyFile(path, encodeKeyFile([]keyEntry{newKey()})); err != nil {
		return nil, fmt.Errorf("tiering: creating key file %s: %w", path, err)
	}
	return LoadKeyFile(path) // verify what was written before anything relies on it
}

// GenerateWrappedKeyFile is GenerateKeyFile for a key that kms wraps: the file alone opens
// nothing. It fails with ErrKeyUnavailable when the service does not answer.
func GenerateWrappedKeyFile(path string, kms KMS) (*KMSKeyring, error) {
	entry, err := newWrappedKey(kms)
	if err != nil {
		return nil, err
	}
	if err := writeKeyFile(path, encodeKeyFile([]keyEntry{entry})); err != nil {
		return nil, fmt.Errorf("tiering: creating key file %s: %w", path, err)
	}
	return LoadWrappedKeyFile(path, kms)
}

func newKey() (e keyEntry) {
	rand.Read(e.key[:]) // never fails: crypto/rand aborts the process instead
	e.id = keyIDOf(e.key)
	return e
}

// RotateKeyFile adds a new key to a key file; from the next start on it is the current one,
// and what was sealed under the others stays readable. The file is replaced whole, and
// synced on return.
func RotateKeyFile(path string) (*Keyring, error) {
	if _, err := LoadKeyFile(path); err != nil {
		return nil, err
	}
	if err := addKey(path, newKey()); err != nil {
		return nil, err
	}
	return LoadKeyFile(path)
}

// RotateWrappedKeyFile is RotateKeyFile for keys that kms wraps.
func RotateWrappedKeyFile(path string, kms KMS) (*KMSKeyring, error) {
	if _, err := LoadWrappedKeyFile(path, kms); err != nil {
		return nil, err
	}
	entry, err := newWrappedKey(kms)
	if err != nil {
		return nil, err
	}
	if err := addKey(path, entry); err != nil {
		return nil, err
	}
	return LoadWrappedKeyFile(path, kms)
}

func addKey(path string, e keyEntry) error {
	entries, err := readKeyFile(path)
	if err != nil {
		return err
	}
	if len(entries) == keysMax {
		return fmt.Errorf("%w %s: it holds %d keys, and no more are allowed", ErrKeyFile, path, keysMax)
	}
	if err := durable.WriteFile(path, encodeKeyFile(append(entries, e)), 0o600); err != nil {
		return fmt.Errorf("tiering: adding a key to %s: %w", path, err)
	}
	return nil
}

// writeKeyFile makes path appear whole or not at all, and never over another file.
func writeKeyFile(path string, data []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	temp := path + ".new"
	if err := durable.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	err := os.Link(temp, path) // unlike rename it never replaces
	return errors.Join(err, os.Remove(temp), durable.SyncDir(filepath.Dir(path)))
}

// LoadKeyFile reads a key file. A file that others can read or write, or that is
// short, damaged or inconsistent, is refused with an error that wraps ErrKeyFile; one
// of a newer version with logcore.ErrUnsupportedVersion; a missing one with
// fs.ErrNotExist.
func LoadKeyFile(path string) (*Keyring, error) {
	entries, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	keys := make([][masterKeyBytes]byte, len(entries))
	for i, e := range entries {
		if e.wrapped != nil {
			return nil, fmt.Errorf("%w %s: key %v is wrapped by a key service, and none is configured", ErrKeyFile, path, e.id)
		}
		keys[i] = e.key
	}
	return newKeyring(keys), nil
}

// LoadWrappedKeyFile reads a key file whose keys kms wraps; it asks the service nothing
// yet. Errors are as for LoadKeyFile.
func LoadWrappedKeyFile(path string, kms KMS) (*KMSKeyring, error) {
	entries, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.wrapped == nil {
			return nil, fmt.Errorf("%w %s: key %v is not wrapped by a key service", ErrKeyFile, path, e.id)
		}
	}
	return newKMSKeyring(kms, entries), nil
}

func readKeyFile(path string) ([]keyEntry, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("tiering: key file %s: %w: restore it from your copy, without it the archive can't be read; for a new service make one with `logcore key generate FILE`", path, err)
	case err != nil:
		return nil, fmt.Errorf("tiering: key file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w %s: not a regular file", ErrKeyFile, path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w %s: mode is %04o, so others can use it: chmod 600 it", ErrKeyFile, path, info.Mode().Perm())
	case info.Size() > keyFileMax:
		return nil, fmt.Errorf("%w %s: %d bytes is no key file", ErrKeyFile, path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tiering: key file: %w", err)
	}
	entries, err := parseKeyFile(data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return entries, nil
}

func encodeKeyFile(entries []keyEntry) []byte {
	version := 1
	if slices.ContainsFunc(entries, func(e keyEntry) bool { return e.wrapped != nil }) {
		version = 2
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s version %d min-reader %d\n", keyFileMagic, version, version)
	for _, e := range entries {
		if e.wrapped != nil {
			fmt.Fprintf(&b, "wrapped %v %x\n", e.id, e.wrapped)
		} else {
			fmt.Fprintf(&b, "key %v %x\n", e.id, e.key)
		}
	}
	fmt.Fprintf(&b, "sha256 %x\n", sha256.Sum256(b.Bytes()))
	return b.Bytes()
}

// parseKeyFile checks the first line, then the checksum over everything before the
// last line, then each key against its id. No message ever quotes key bytes.
func parseKeyFile(data []byte) ([]keyEntry, error) {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	f := strings.Fields(string(first))
	if len(f) == 0 || f[0] != keyFileMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrKeyFile, keyFileMagic)
	}
	if len(f) != 5 || f[1] != "version" || f[3] != "min-reader" {
		return nil, fmt.Errorf("%w: its first line is damaged", ErrKeyFile)
	}
	minReader, err := strconv.Atoi(f[4])
	if err != nil {
		return nil, fmt.Errorf("%w: its first line is damaged", ErrKeyFile)
	}
	if minReader > keyFileVersion {
		return nil, fmt.Errorf("%w: key file version %s needs a reader of version %d, this build has %d: use a newer build", logcore.ErrUnsupportedVersion, f[2], minReader, keyFileVersion)
	}
	body, ok := bytes.CutSuffix(data, []byte("\n"))
	cut := bytes.LastIndexByte(body, '\n')
	if !ok || cut < 0 {
		return nil, fmt.Errorf("%w: it is cut short", ErrKeyFile)
	}
	if want := fmt.Sprintf("sha256 %x", sha256.Sum256(data[:cut+1])); string(body[cut+1:]) != want {
		return nil, fmt.Errorf("%w: its checksum does not match: it is damaged or cut short; restore it from your copy", ErrKeyFile)
	}
	return parseKeyLines(strings.Split(string(data[:cut]), "\n")[1:])
}

func parseKeyLines(lines []string) ([]keyEntry, error) {
	if len(lines) == 0 || len(lines) > keysMax {
		return nil, fmt.Errorf("%w: it holds %d keys: want 1 to %d", ErrKeyFile, len(lines), keysMax)
	}
	entries := make([]keyEntry, 0, len(lines))
	for i, line := range lines {
		e, err := parseKeyLine(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %v", ErrKeyFile, i+2, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseKeyLine(line string) (e keyEntry, err error) {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "key" && f[0] != "wrapped" {
		return e, errors.New(`want "key ID KEY" or "wrapped ID KEY"`)
	}
	raw, err := hex.DecodeString(f[2])
	if f[0] == "wrapped" {
		id, idErr := hex.DecodeString(f[1])
		if err != nil || idErr != nil || len(id) != len(e.id) || len(raw) == 0 || len(raw) > wrappedKeyMax {
			return e, fmt.Errorf("a wrapped key is 1 to %d bytes and its id %d, in hexadecimal digits", wrappedKeyMax, len(e.id))
		}
		return keyEntry{id: KeyID(id), wrapped: raw}, nil
	}
	if err != nil || len(raw) != masterKeyBytes {
		return e, fmt.Errorf("a key is %d hexadecimal digits", 2*masterKeyBytes)
	}
	e = keyEntry{id: keyIDOf([masterKeyBytes]byte(raw)), key: [masterKeyBytes]byte(raw)}
	if e.id.String() != f[1] {
		return e, fmt.Errorf("the key is not the one its id %q names", f[1])
	}
	return e, nil
}
