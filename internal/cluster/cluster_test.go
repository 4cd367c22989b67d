package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore"
)

var golden = Identity{ID: ID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, Marked: true, Supersedes: 300}

func TestGolden(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("testdata", "golden-v1"))
	if err != nil {
		t.Fatal(err)
	}
	if got := appendFile(nil, golden); !bytes.Equal(got, file) {
		t.Errorf("encoded %q, golden %q", got, file)
	}
	if got, err := decodeFile(file, "v1"); err != nil || got != golden {
		t.Errorf("decoded %v, %v", got, err)
	}
}

func TestWriteRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of nothing: %v", err)
	}
	for _, want := range []Identity{{ID: NewID()}, {ID: NewID(), Marked: true}, {ID: NewID(), Supersedes: 1<<64 - 1}} {
		if err := Write(dir, want); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadIdentity(dir); err != nil || got != want {
			t.Errorf("ReadIdentity = %v, %v; want %v", got, err, want)
		}
		if got, err := Read(dir); err != nil || got != want.ID {
			t.Errorf("Read = %v, %v; want %v", got, err, want.ID)
		}
	}
}

func TestEveryFlipIsFound(t *testing.T) {
	whole := appendFile(nil, golden)
	for i := range whole {
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1 << bit
			if _, err := decodeFile(flipped, "f"); !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
				t.Fatalf("flip of bit %d of byte %d: %v", bit, i, err)
			}
		}
		if _, err := decodeFile(whole[:i], "f"); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := decodeFile(append(bytes.Clone(whole), '\n'), "f"); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("with a byte too many: %v", err)
	}
}

func TestOtherVersions(t *testing.T) {
	file := func(head string) []byte {
		body := "logcore-cluster " + head + "\nid " + golden.ID.String() + "\ntargets unmarked\nsupersedes 0\n"
		return fmt.Appendf(nil, "%scrc32c %08x\n", body, crc32.Checksum([]byte(body), castagnoli))
	}
	for head, want := range map[string]error{
		"version 1 min-reader 1 flags 0": nil,
		"version 7 min-reader 1 flags 0": nil,
		"version 2 min-reader 2 flags 0": logcore.ErrUnsupportedVersion,
		"version 1 min-reader 1 flags 1": logcore.ErrUnsupportedVersion,
		"version 0 min-reader 0 flags 0": logcore.ErrCorrupt,
		"version 1 min-reader 0 flags 0": logcore.ErrCorrupt,
	} {
		if _, err := decodeFile(file(head), "f"); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", head, err, want)
		}
	}
	// A newer file may hold anything behind its first line.
	if _, err := decodeFile([]byte("logcore-cluster version 2 min-reader 2 flags 0\n"+strings.Repeat("x", 100)), "f"); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("newer file: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(appendFile(nil, golden))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeFile(data, "f")
		if err == nil && got.ID == (ID{}) {
			t.Error("a zero id passed")
		}
		if again, err2 := decodeFile(appendFile(nil, got), "f"); err == nil && (err2 != nil || again != got) {
			t.Errorf("%v written again is %v, %v", got, again, err2)
		}
	})
}
