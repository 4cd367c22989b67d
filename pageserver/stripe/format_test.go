package stripe

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew; read the diff")

// TestGolden: the bytes of version 1, for ever.
func TestGolden(t *testing.T) {
	set := stripemap.Set{}.With(0).With(9).With(255)
	identity, stripes := encodeIdentity(0x1122334455667788), encodeStripes(set, true)
	out := fmt.Appendf(nil, "identity %x\nstripes %x\n", identity, stripes)
	const path = "testdata/v1.golden"
	if *rewrite {
		if err := os.WriteFile(path, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if golden, err := os.ReadFile(path); err != nil || !bytes.Equal(golden, out) {
		t.Fatalf("not as %s (%v):\n%s", path, err, out)
	}
	if id, err := decodeIdentity(identity); err != nil || id != 0x1122334455667788 {
		t.Errorf("identity %x, %v", id, err)
	}
	if got, complete, err := decodeStripes(stripes); err != nil || got != set || !complete {
		t.Errorf("stripes %v, %v, %v", got, complete, err)
	}
}

// TestDamageAndVersions: each flipped bit and each cut is damage, and a newer version is not.
func TestDamageAndVersions(t *testing.T) {
	good := encodeStripes(stripemap.All, false)
	for bit := range 8 * len(good) {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := decodeStripes(b); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for n := range len(good) {
		if _, _, err := decodeStripes(good[:n]); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for _, c := range []struct {
		name string
		at   int
		v    byte
		more int // another byte
		w    byte
		want error
	}{
		{"newer, readable", 8, 9, 10, 1, nil},
		{"newer", 8, 9, 10, 9, logcore.ErrUnsupportedVersion},
		{"flag", 12, 0x80, 8, 1, logcore.ErrUnsupportedVersion},
		{"version 0", 8, 0, 10, 0, logcore.ErrCorrupt},
	} {
		b := bytes.Clone(good[:len(good)-checksumBytes])
		b[c.at], b[c.more] = c.v, c.w
		sum := xxh3.Hash(b)
		for i := range checksumBytes {
			b = append(b, byte(sum>>(8*i)))
		}
		if _, _, err := decodeStripes(b); !errors.Is(err, c.want) || c.want == logcore.ErrUnsupportedVersion && errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, _, err := decodeStripes(encodeStripes(stripemap.Set{}, true)); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("no stripes: %v", err)
	}
	if _, err := decodeIdentity(encodeIdentity(0)); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("id 0: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encodeIdentity(7))
	f.Add(encodeStripes(stripemap.All, true))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := decodeIdentity(b); err == nil {
			if again, err := decodeIdentity(encodeIdentity(id)); err != nil || again != id {
				t.Fatalf("%x: %v", b, err)
			}
		}
		if set, complete, err := decodeStripes(b); err == nil {
			if s, c, err := decodeStripes(encodeStripes(set, complete)); err != nil || s != set || c != complete {
				t.Fatalf("%x: %v", b, err)
			}
		}
	})
}
