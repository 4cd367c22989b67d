package node

import (
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew; read the diff")

var goldenSeeds = map[uint64]string{1: "127.0.0.1:7422", 0x4123456789abcdef: "db-1.example:7422"}

func TestGoldenSeeds(t *testing.T) {
	const path = "testdata/peers-v1.golden"
	if *rewrite {
		if err := os.WriteFile(path, encodeSeeds(goldenSeeds), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := encodeSeeds(goldenSeeds); string(got) != string(file) {
		t.Errorf("encoded %q, golden %q", got, file)
	}
	if got, err := decodeSeeds(file, "f"); err != nil || !maps.Equal(got, goldenSeeds) {
		t.Errorf("decoded %v, %v", got, err)
	}
}

func TestSeedsFile(t *testing.T) {
	dir := t.TempDir()
	if got, err := readSeeds(dir); err != nil || got != nil {
		t.Errorf("nothing there: %v, %v", got, err)
	}
	if err := writeSeeds(dir, goldenSeeds); err != nil {
		t.Fatal(err)
	}
	if got, err := readSeeds(dir); err != nil || !maps.Equal(got, goldenSeeds) {
		t.Errorf("read %v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, seedsName), make([]byte, seedsBytesMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSeeds(dir); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("too long: %v", err)
	}
}

func TestSeedsFlips(t *testing.T) {
	good := encodeSeeds(goldenSeeds)
	for i := range good {
		for bit := range 8 {
			b := []byte(string(good))
			b[i] ^= 1 << bit
			if _, err := decodeSeeds(b, "f"); !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
		if _, err := decodeSeeds(good[:i], "f"); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestSeedsVersions(t *testing.T) {
	for head, want := range map[string]error{
		"version 1 min-reader 1 flags 0": nil,
		"version 9 min-reader 1 flags 0": nil,
		"version 2 min-reader 2 flags 0": logcore.ErrUnsupportedVersion,
		"version 1 min-reader 1 flags 1": logcore.ErrUnsupportedVersion,
		"version 0 min-reader 0 flags 0": logcore.ErrCorrupt,
		"version 1 min-reader 2 flags 0": logcore.ErrCorrupt,
	} {
		body := "logcore-peers " + head + "\npeer 0000000000000001 a:1\n"
		_, err := decodeSeeds(fmt.Appendf(nil, "%scrc32c %08x\n", body, crc32.Checksum([]byte(body), castagnoli)), "f")
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", head, err, want)
		}
	}
	if _, err := decodeSeeds([]byte("logcore-peers version 2 min-reader 2 flags 0\n"+strings.Repeat("x", 50)), "f"); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("a newer file: %v", err)
	}
}

func FuzzDecodeSeeds(f *testing.F) {
	f.Add(encodeSeeds(goldenSeeds))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeSeeds(data, "f")
		if err != nil {
			return
		}
		if again, err := decodeSeeds(encodeSeeds(got), "f"); err != nil || !maps.Equal(again, got) {
			t.Errorf("%v written again is %v, %v", got, again, err)
		}
	})
}
