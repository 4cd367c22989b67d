package stripe

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
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

// goldenMap has everything that a map can have.
func goldenMap() stripemap.Map {
	low := stripemap.Set{}.With(0).With(9).With(255)
	return stripemap.Map{Generation: 77, Incarnation: 0x1122334455667788, Owners: 2, Servers: []stripemap.Server{
		{ID: 5, Address: "a:1", Owns: stripemap.All.Without(low)},
		{ID: 9, Address: "[::1]:7421", Draining: true, Owns: low, Joins: stripemap.Set{}.With(1)},
	}}
}

// TestGoldenMap: the bytes of version 1 of a map, for ever; what is read back is what was
// written, and every flipped bit and every cut is damage.
func TestGoldenMap(t *testing.T) {
	b := encodeMap(goldenMap())
	out := fmt.Appendf(nil, "map %x\n", b)
	const path = "testdata/map-v1.golden"
	if *rewrite {
		if err := os.WriteFile(path, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if golden, err := os.ReadFile(path); err != nil || !bytes.Equal(golden, out) {
		t.Fatalf("not as %s (%v):\n%s", path, err, out)
	}
	if m, err := decodeMap(b); err != nil || !reflect.DeepEqual(m, goldenMap()) {
		t.Errorf("%+v, %v", m, err)
	}
	for bit := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeMap(bad); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for n := range len(b) {
		if _, err := decodeMap(b[:n]); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	// Sound bytes that no map can have.
	body := b[headerBytes : len(b)-checksumBytes]
	for name, change := range map[string]func([]byte) []byte{
		"another byte":        func(b []byte) []byte { return append(b, 0) },
		"no page server":      func(b []byte) []byte { return append(b[:20], 0, 0, 0, 0) },
		"too many":            func(b []byte) []byte { b[20], b[21] = 255, 255; return b },
		"one more":            func(b []byte) []byte { b[20]++; return b },
		"owners":              func(b []byte) []byte { b[16] = 99; return b },
		"no owners":           func(b []byte) []byte { b[16] = 0; return b },
		"an unknown state":    func(b []byte) []byte { b[mapHeadBytes+8] = 2; return b },
		"a longer address":    func(b []byte) []byte { b[mapHeadBytes+9] = 200; return b },
		"ids that don't rise": func(b []byte) []byte { b[mapHeadBytes] = 200; return b },
	} {
		if m, err := decodeMap(encode(mapMagic, 0, change(bytes.Clone(body)))); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if _, err := decodeMap(encode(mapMagic, 1, body)); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Errorf("an unknown flag: %v", err)
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
	f.Add(encodeMap(goldenMap()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMap(b); err == nil {
			if again, err := decodeMap(encodeMap(m)); err != nil || !reflect.DeepEqual(again, m) {
				t.Fatalf("%x: %v", b, err)
			}
		}
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
