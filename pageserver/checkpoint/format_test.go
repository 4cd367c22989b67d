package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files again")

// golden is a manifest and a table that never change.
func golden(t testing.TB) (*Manifest, []byte, Table, []byte, []byte) {
	t.Helper()
	content := bytes.Repeat([]byte("a page, and another one. "), 200) // two blocks
	table, object, err := sealFile(t.Context(), testKeys{7}, [16]byte{1, 2, 3}, content, blockBytesMin)
	if err != nil {
		t.Fatal(err)
	}
	table.Name, table.Epoch, table.store = "000123.sst", 2, "main"
	m := &Manifest{Cluster: [16]byte{1, 2, 3}, Epoch: 2, Number: 3, Incarnation: 0xabc, Prev: Digest{9}, Created: time.Unix(1_700_000_000, 5).UTC(), Server: [16]byte{4},
		Name: "main", Stripes: stripemap.All, StoreVersion: 2,
		Logs:   []Log{{ID: 7, Name: "orders", Incarnation: 0xabc, Ingested: 99, Entry: 98}},
		Small:  []Small{{Name: "MANIFEST-000001", Data: []byte("pebble's own")}, {Name: "marker.manifest.000001.MANIFEST-000001", Data: []byte{}}},
		Tables: []Table{table}, Warm: []Block{{0, 1}, {0, 0}}}
	b, err := m.seal(t.Context(), testKeys{7})
	if err != nil {
		t.Fatal(err)
	}
	return m, b, table, object, content
}

// goldenShared is a manifest of version 2: of some stripes, with a loan.
func goldenShared(t testing.TB) (*Manifest, []byte) {
	t.Helper()
	m, _, _, _, _ := golden(t)
	m.Stripes = stripemap.Set{}.With(0).With(77).With(255)
	m.Loans = []Loan{{Store: "main.00000000000000ab.1", Number: 2, Until: time.Unix(1_700_086_400, 7).UTC()}}
	b, err := m.seal(t.Context(), testKeys{7})
	if err != nil {
		t.Fatal(err)
	}
	return m, b
}

func TestGolden(t *testing.T) {
	m, b, table, object, content := golden(t)
	shared, b2 := goldenShared(t)
	for name, data := range map[string][]byte{"manifest-v1.golden": b, "manifest-v2.golden": b2, "table-v1.golden": object} {
		path := filepath.Join("testdata", name)
		if *rewrite {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s: this build writes other bytes", name)
		}
	}
	stored, err := os.ReadFile(filepath.Join("testdata", "manifest-v1.golden"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := openManifest(t.Context(), testKeys{7}, stored)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("read\n%+v\nwant\n%+v", got, m)
	}
	if stored, err = os.ReadFile(filepath.Join("testdata", "manifest-v2.golden")); err != nil {
		t.Fatal(err)
	}
	if got, err := openManifest(t.Context(), testKeys{7}, stored); err != nil || !reflect.DeepEqual(got, shared) {
		t.Errorf("%v: read\n%+v\nwant\n%+v", err, got, shared)
	}
	c, err := newBlockCipher(t.Context(), testKeys{7}, got.Cluster, table)
	if err != nil {
		t.Fatal(err)
	}
	for i := range table.blocks() {
		off, n := table.stored(i)
		block, err := c.open(nil, "golden", i, object[off:off+n])
		if err != nil {
			t.Fatal(err)
		}
		at := i * table.Block
		if !bytes.Equal(block, content[at:at+table.blockLen(i)]) {
			t.Errorf("block %d has other content", i)
		}
	}
}

// TestEveryBit flips each bit of a manifest, and of the header and a part of a table's
// blocks: every one is noticed.
func TestEveryBit(t *testing.T) {
	_, b, table, object, _ := golden(t)
	_, shared := goldenShared(t)
	for _, b := range [][]byte{b, shared} {
		for bit := range len(b) * 8 {
			bad := bytes.Clone(b)
			bad[bit/8] ^= 1 << (bit % 8)
			_, err := openManifest(t.Context(), testKeys{7}, bad)
			if err == nil {
				t.Fatalf("bit %d of the manifest may be flipped", bit)
			}
			if !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
				t.Fatalf("bit %d: %v", bit, err)
			}
		}
	}
	c, err := newBlockCipher(t.Context(), testKeys{7}, [16]byte{1, 2, 3}, table)
	if err != nil {
		t.Fatal(err)
	}
	off, n := table.stored(1)
	for bit := 0; bit < int(n)*8; bit += 7 {
		bad := bytes.Clone(object[off : off+n])
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := c.open(nil, "x", 1, bad); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("bit %d of a block: %v", bit, err)
		}
	}
}

// TestABlockElsewhere: a block under another number, of another table or another cluster
// is no block, also when its checksum is made to fit.
func TestABlockElsewhere(t *testing.T) {
	_, _, table, object, content := golden(t)
	other, otherObject, err := sealFile(t.Context(), testKeys{7}, [16]byte{1, 2, 3}, content[:len(content)-1], blockBytesMin)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newBlockCipher(t.Context(), testKeys{7}, [16]byte{1, 2, 3}, table)
	if err != nil {
		t.Fatal(err)
	}
	fit := func(stored []byte, i int) []byte {
		sealed := bytes.Clone(stored[:len(stored)-checksumBytes])
		return binary.LittleEndian.AppendUint64(sealed, xxh3.HashSeed(sealed, uint64(i)))
	}
	off0, n0 := table.stored(0)
	otherOff, otherN := other.stored(0)
	for name, stored := range map[string][]byte{
		"another number":   fit(object[off0:off0+n0], 1),
		"another table":    otherObject[otherOff : otherOff+otherN],
		"as it lies":       object[off0 : off0+n0],
		"nothing":          nil,
		"less than a tag":  make([]byte, blockExtra-1),
		"an empty content": fit(make([]byte, blockExtra), 1),
	} {
		want := 1
		if name == "another table" {
			want = 0
		}
		if _, err := c.open(nil, "x", want, stored); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnsupportedVersions(t *testing.T) {
	_, b, _, _, _ := golden(t)
	change := func(off int, v byte) []byte {
		c := bytes.Clone(b)
		c[off] = v
		return c
	}
	newer := change(offVersion, 9)
	newer[offMinReader] = 3
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"a newer reader":           {newer, logcore.ErrUnsupportedVersion},
		"a flag":                   {change(offFlags, 1), logcore.ErrUnsupportedVersion},
		"no version":               {change(offVersion, 0), logcore.ErrCorrupt},
		"a reader above the value": {change(offMinReader, 2), logcore.ErrCorrupt},
		"no magic":                 {change(0, 'x'), logcore.ErrCorrupt},
		"short":                    {b[:manHeaderBytes-1], logcore.ErrCorrupt},
		"shorter":                  {b[:5], logcore.ErrCorrupt},
		"cut":                      {b[:len(b)-1], logcore.ErrCorrupt},
		"longer":                   {append(bytes.Clone(b), 0), logcore.ErrCorrupt},
	} {
		if _, err := openManifest(t.Context(), testKeys{7}, c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := openManifest(t.Context(), testKeys{8}, b); err == nil || errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("a key that is missing: %v, want an error that is no corruption", err)
	}
}

func FuzzManifestBody(f *testing.F) {
	m, _, _, _, _ := golden(f)
	f.Add(uint8(1), m.body())
	f.Add(uint8(1), (&Manifest{Name: "x"}).body())
	shared, _ := goldenShared(f)
	f.Add(uint8(2), shared.body())
	f.Fuzz(func(t *testing.T, version uint8, b []byte) {
		got := &Manifest{Epoch: 1 << 40, Number: 1 << 40, version: uint16(version)}
		if err := got.parseBody(b); err != nil {
			if !errors.Is(err, logcore.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(got.body(), b) {
			t.Fatal("written again it has other bytes")
		}
		for _, w := range got.Warm {
			if got.Tables[w.Table].blockLen(w.Block) <= 0 {
				t.Fatal("a warm block without content")
			}
		}
	})
}

func FuzzManifestHeader(f *testing.F) {
	_, b, _, _, _ := golden(f)
	f.Add(b)
	f.Add(b[:manHeaderBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= manHeaderBytes { // let it come past the checksum
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint64(b[offManSum:], xxh3.Hash(b[:offManSum]))
		}
		_, _, err := parseManifestHeader(b)
		if err != nil && !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Fatal(err)
		}
	})
}
