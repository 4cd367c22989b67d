package cluster

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
)

// Layout of the file; FORMAT.md describes it.
const (
	fileMagic     = "logcore-cluster"
	formatVersion = 1
	minReader     = 1
	fileBytesMax  = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// marks are the words for Identity.Marked.
var marks = map[bool]string{false: "unmarked", true: "marked"}

func appendFile(dst []byte, identity Identity) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, "%s version %d min-reader %d flags 0\nid %v\ntargets %s\nsupersedes %d\n", fileMagic, formatVersion, minReader,
		identity.ID, marks[identity.Marked], identity.Supersedes)
	return fmt.Appendf(dst, "crc32c %08x\n", crc32.Checksum(dst[start:], castagnoli))
}

// decodeFile reads the first line before the checksum: a newer version may end otherwise.
func decodeFile(data []byte, path string) (Identity, error) {
	bad := func(format string, args ...any) (Identity, error) {
		return Identity{}, &logcore.CorruptionError{Place: path, Object: "cluster identity", Offset: -1, Reason: fmt.Sprintf(format, args...)}
	}
	if len(data) > fileBytesMax {
		return bad("more than %d bytes", fileBytesMax)
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	f := strings.Split(string(first), " ")
	if len(f) != 7 || f[0] != fileMagic || f[1] != "version" || f[3] != "min-reader" || f[5] != "flags" {
		return bad("the first line is not that of a cluster file")
	}
	var numbers [3]uint64
	for i := range numbers {
		n, err := strconv.ParseUint(f[2+2*i], 10, 32)
		if err != nil {
			return bad("the first line is not that of a cluster file")
		}
		numbers[i] = n
	}
	version, reader, flags := numbers[0], numbers[1], numbers[2]
	if reader > formatVersion {
		return Identity{}, fmt.Errorf("%w: %s: version %d needs a reader of version %d, this one is %d: use a newer build", logcore.ErrUnsupportedVersion, path, version, reader, formatVersion)
	}
	if version == 0 || reader == 0 || reader > version {
		return bad("version %d, minimum reader %d", version, reader)
	}
	if flags != 0 {
		return Identity{}, fmt.Errorf("%w: %s: unknown flags %#x: use a newer build", logcore.ErrUnsupportedVersion, path, flags)
	}
	body, tail, found := bytes.Cut(data, []byte("crc32c "))
	if want := fmt.Sprintf("%08x\n", crc32.Checksum(body, castagnoli)); !found || string(tail) != want {
		return bad("the checksum does not match")
	}
	lines := strings.Split(string(body[len(first)+1:]), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return bad("%d lines, want 5", len(lines)+1)
	}
	var out Identity
	digits, ok := strings.CutPrefix(lines[0], "id ")
	if n, err := hex.Decode(out.ID[:], []byte(digits)); !ok || err != nil || n != len(out.ID) || strings.ToLower(digits) != digits || out.ID == (ID{}) {
		return bad("the id is not 32 hexadecimal digits")
	}
	out.Marked = lines[1] == "targets "+marks[true]
	if !out.Marked && lines[1] != "targets "+marks[false] {
		return bad("the third line is neither that of marked nor of unmarked targets")
	}
	number, ok := strings.CutPrefix(lines[2], "supersedes ")
	n, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || number != strconv.FormatUint(n, 10) {
		return bad("the superseded epoch is not a decimal number")
	}
	out.Supersedes = n
	return out, nil
}
