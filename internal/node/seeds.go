package node

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
)

// The seeds file holds where a node that joined met the others, until it has a catalog of its own. FORMAT.md
// describes it.
const (
	seedsName     = "peers"
	seedsMagic    = "logcore-peers version 1 min-reader 1 flags 0"
	seedsStart    = "logcore-peers version "
	seedsBytesMax = 64 << 10
	seedsMax      = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeSeeds(seeds map[uint64]string) []byte {
	b := []byte(seedsMagic + "\n")
	for _, id := range slices.Sorted(maps.Keys(seeds)) {
		b = fmt.Appendf(b, "peer %016x %s\n", id, seeds[id])
	}
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

func writeSeeds(dir string, seeds map[uint64]string) error {
	if err := durable.WriteFile(filepath.Join(dir, seedsName), encodeSeeds(seeds), 0o600); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// readSeeds returns what the file says; nothing when there is none.
func readSeeds(dir string) (map[uint64]string, error) {
	path := filepath.Join(dir, seedsName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if info.Size() > seedsBytesMax {
		return nil, seedsDamage(path, "%d bytes long", info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return decodeSeeds(b, path)
}

func seedsDamage(path, format string, args ...any) error {
	return &logcore.CorruptionError{Place: filepath.Dir(path), Object: filepath.Base(path), Offset: -1, Reason: fmt.Sprintf(format, args...)}
}

func decodeSeeds(b []byte, path string) (map[uint64]string, error) {
	lines := bytes.Split(b, []byte("\n"))
	var version, min, flags uint16
	if _, err := fmt.Sscanf(string(lines[0]), seedsStart+"%d min-reader %d flags %d", &version, &min, &flags); err != nil || version == 0 || min == 0 || min > version {
		return nil, seedsDamage(path, "first line %.80q", lines[0])
	}
	if min > 1 || flags != 0 {
		return nil, fmt.Errorf("%w: %s: version %d needs a reader of at least %d, flags %#x: use a newer build", logcore.ErrUnsupportedVersion, path, version, min, flags)
	}
	if len(lines) < 3 || len(lines) > seedsMax+3 || len(lines[len(lines)-1]) != 0 {
		return nil, seedsDamage(path, "%d lines", len(lines))
	}
	sum := lines[len(lines)-2]
	body := b[:len(b)-len(sum)-1]
	if want := fmt.Sprintf("crc32c %08x", crc32.Checksum(body, castagnoli)); string(sum) != want {
		return nil, seedsDamage(path, "%.40q, want %q", sum, want)
	}
	seeds := map[uint64]string{}
	for _, line := range lines[1 : len(lines)-2] {
		f := bytes.Split(line, []byte(" "))
		if len(f) != 3 || string(f[0]) != "peer" || len(f[1]) != 16 || len(f[2]) == 0 {
			return nil, seedsDamage(path, "line %.80q", line)
		}
		id, err := strconv.ParseUint(string(f[1]), 16, 64)
		if err != nil || id == 0 || seeds[id] != "" {
			return nil, seedsDamage(path, "line %.80q", line)
		}
		seeds[id] = string(f[2])
	}
	return seeds, nil
}
