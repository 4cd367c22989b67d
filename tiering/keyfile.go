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
	"strconv"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
)

const (
	keyFileMagic   = "logcore-keyring"
	keyFileVersion = 1       // also the min reader version this build understands up to
	keyFileMax     = 1 << 20 // bytes
	keysMax        = 4096
)

// GenerateKeyFile creates path, mode 0600, holding one new random key; the file and
// its directory are synced on return. It never replaces a file: an existing path is
// an error that wraps fs.ErrExist.
func GenerateKeyFile(path string) (*Keyring, error) {
	var key [masterKeyBytes]byte
	rand.Read(key[:]) // never fails: crypto/rand aborts the process instead
	if err := writeKeyFile(path, encodeKeyFile([][masterKeyBytes]byte{key})); err != nil {
		return nil, fmt.Errorf("tiering: creating key file %s: %w", path, err)
	}
	return LoadKeyFile(path) // verify what was written before anything relies on it
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
	keys, err := parseKeyFile(data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return newKeyring(keys), nil
}

func encodeKeyFile(keys [][masterKeyBytes]byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s version %d min-reader %d\n", keyFileMagic, keyFileVersion, keyFileVersion)
	for _, k := range keys {
		fmt.Fprintf(&b, "key %v %x\n", keyIDOf(k), k)
	}
	fmt.Fprintf(&b, "sha256 %x\n", sha256.Sum256(b.Bytes()))
	return b.Bytes()
}

// parseKeyFile checks the first line, then the checksum over everything before the
// last line, then each key against its id. No message ever quotes key bytes.
func parseKeyFile(data []byte) ([][masterKeyBytes]byte, error) {
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

func parseKeyLines(lines []string) ([][masterKeyBytes]byte, error) {
	if len(lines) == 0 || len(lines) > keysMax {
		return nil, fmt.Errorf("%w: it holds %d keys: want 1 to %d", ErrKeyFile, len(lines), keysMax)
	}
	keys := make([][masterKeyBytes]byte, 0, len(lines))
	for i, line := range lines {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "key" {
			return nil, fmt.Errorf("%w: line %d is not \"key ID KEY\"", ErrKeyFile, i+2)
		}
		raw, err := hex.DecodeString(f[2])
		if err != nil || len(raw) != masterKeyBytes {
			return nil, fmt.Errorf("%w: line %d: a key is %d hexadecimal digits", ErrKeyFile, i+2, 2*masterKeyBytes)
		}
		key := [masterKeyBytes]byte(raw)
		if keyIDOf(key).String() != f[1] {
			return nil, fmt.Errorf("%w: line %d: the key is not the one its id %q names", ErrKeyFile, i+2, f[1])
		}
		keys = append(keys, key)
	}
	return keys, nil
}
