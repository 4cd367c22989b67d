package tiering

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew: only for a new format version")

// golden compares with a file of an earlier build, which is kept for ever.
func golden(t *testing.T, name string, data []byte) []byte {
	t.Helper()
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
	return want
}

func testKeys() *Keyring {
	var k [32]byte
	for i := range k {
		k[i] = byte(i)
	}
	return newKeyring([][32]byte{k})
}

func testKey(b byte) keyEntry { return keyEntry{id: keyIDOf([32]byte{b}), key: [32]byte{b}} }

func testSpan(frames []byte) Span {
	return Span{Shard: 2, SegmentFirst: 10, First: 12, Last: 40, FirstTime: 100 << 16, LastTime: 200 << 16, Prev: 7, Sum: 9, Sealed: true, Frames: frames}
}

func testFrames(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>4) ^ byte(i/100)
	}
	return b
}

func mustSeal(t testing.TB, s Span, chunkBytes int) []byte {
	t.Helper()
	b, err := sealObject(context.Background(), testKeys(), testKeys().Current(), testCluster, s, compression{chunkBytes: chunkBytes})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestObjectGolden(t *testing.T) {
	span := testSpan(testFrames(10_000))
	object := mustSeal(t, span, chunkBytesMin)
	wrapped, err := sealObject(t.Context(), testKMSKeys(), testKeys().Current(), testCluster, span, compression{chunkBytes: chunkBytesMin})
	if err != nil {
		t.Fatal(err)
	}
	for name, object := range map[string][]byte{"object-v1.golden": nil, "object-v2.golden": object, "object-v2-wrapped.golden": wrapped} {
		stored := object
		if object == nil { // an older version: read, and never written again
			if stored, err = os.ReadFile(filepath.Join("testdata", name)); err != nil {
				t.Fatal(err)
			}
		} else {
			stored = golden(t, name, object)
		}
		got, err := openObject(t.Context(), testKeys(), stored)
		if err != nil || !bytes.Equal(got.Frames, span.Frames) {
			t.Fatalf("%s is not readable: %v", name, err)
		}
		got.Frames = nil
		want := span
		want.Frames = nil
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %+v, want %+v", name, got, want)
		}
		// The header and its layout are pinned; what zstd makes of a chunk may change with its
		// version, which is why keys depend on it.
		if object != nil && !bytes.Equal(stored[:offObjSeed], object[:offObjSeed]) {
			t.Errorf("the header is laid out otherwise than in %s", name)
		}
	}
}

func TestObjectsOfAllSizes(t *testing.T) {
	for _, n := range []int{1, 100, 4095, 4096, 4097, 8192, 50_000, 3 << 20} {
		chunk := chunkBytesMin
		if n > 1<<20 {
			chunk = compressFast.chunkBytes
		}
		span := testSpan(testFrames(n))
		a, b := mustSeal(t, span, chunk), mustSeal(t, span, chunk)
		if !bytes.Equal(a, b) {
			t.Fatalf("%d bytes: sealed twice, other bytes", n)
		}
		got, err := openObject(t.Context(), testKeys(), a)
		if err != nil || !bytes.Equal(got.Frames, span.Frames) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		// Another range with the same frames, then other frames.
		span.Last++
		c := mustSeal(t, span, chunk)
		span.Frames[0]++
		d := mustSeal(t, span, chunk)
		// A key of its own for each: with equal nonces anything else would be fatal.
		ha, _ := parseObjectHeader(a)
		hc, _ := parseObjectHeader(c)
		hd, _ := parseObjectHeader(d)
		if ha.seed == hc.seed || hc.seed == hd.seed || ha.seed == ([32]byte{}) {
			t.Fatalf("%d bytes: two objects have the same key", n)
		}
	}
	for _, bad := range []Span{{}, testSpan(nil), {SegmentFirst: 5, First: 4, Last: 6, Frames: []byte{1}}} {
		if _, err := sealObject(t.Context(), testKeys(), testKeys().Current(), testCluster, bad, compressFast); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	}
}

func TestEveryFlipOfAnObjectIsDetected(t *testing.T) {
	object := mustSeal(t, testSpan(testFrames(9000)), chunkBytesMin)
	for bit := range len(object) * 8 {
		object[bit/8] ^= 1 << (bit % 8)
		if _, err := openObject(t.Context(), testKeys(), object); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("flip of bit %d: %v", bit, err)
		}
		object[bit/8] ^= 1 << (bit % 8)
	}
	for n := range object {
		if _, err := openObject(t.Context(), testKeys(), object[:n]); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
}

// A chunk moved to another place, or a header of another object over it, fails though
// every byte of it is authentic.
func TestSwappedChunksAreDetected(t *testing.T) {
	frames := bytes.Repeat(testFrames(chunkBytesMin), 3) // three equal chunks, three equal lengths
	object := mustSeal(t, testSpan(frames), chunkBytesMin)
	h, err := parseObjectHeader(object)
	if err != nil || len(h.chunks) != 3 || h.chunks[0].sealed != h.chunks[1].sealed {
		t.Fatalf("%v %+v", err, h.chunks)
	}
	c0, c1 := h.chunks[0], h.chunks[1]
	swapped := bytes.Clone(object)
	copy(swapped[c0.at:], object[c1.at:c1.at+int64(c1.sealed)])
	copy(swapped[c1.at:], object[c0.at:c0.at+int64(c0.sealed)])
	if _, err := openObject(t.Context(), testKeys(), swapped); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("swapped chunks: %v", err)
	}
	renamed := bytes.Clone(object)
	renamed[offObjLast] ^= 1
	resum(renamed)
	if _, err := openObject(t.Context(), testKeys(), renamed); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("another range in the header: %v", err)
	}
}

// resum makes the checksum of a changed header fit.
func resum(b []byte) {
	n := binary.LittleEndian.Uint32(b[offHeaderLen:])
	binary.LittleEndian.PutUint32(b[n-4:], crc32c(b[:n-4]))
}

func testRecord() *record {
	o := &object{Meta: erasure.Meta{Cluster: testCluster, Shard: 2, SegmentFirst: 10, First: 12, Last: 40, Epoch: 3, Kind: uint8(KindSealed), K: 4, M: 2,
		BlockBytes: 4096, Length: 9999, Digest: [32]byte{1, 2}, KeyID: testKeys().Current(), Version: 1},
		level: 1, final: true, prev: 7, sum: 9, firstTime: 100 << 16, lastTime: 200 << 16, rawBytes: 20000, fragments: make([]fragment, 6)}
	for i := range o.fragments {
		o.fragments[i] = fragment{targetNames[i], [32]byte{byte(i)}}
	}
	o.fragments[4].target = ""
	return &record{cluster: testCluster, shard: 2, number: 5, epoch: 3, prev: [32]byte{8}, kind: recordRollup, incarnation: 0x1122, targets: targetNames,
		objects: []*object{o}, retired: []objectName{{10, 12, 20, KindTail, 3, [8]byte{5}}}}
}

func testClaim() *record {
	return &record{cluster: testCluster, shard: 2, epoch: 4, kind: recordClaim, incarnation: 0x1122, archiver: [16]byte{1, 2, 3, 15: 9}, targets: targetNames}
}

func TestRecordGolden(t *testing.T) {
	checkGolden(t, "record-v2.golden", testRecord2())
	checkGolden(t, "claim-v2.golden", testClaim())
	checkGolden(t, "keychange-v2.golden", testKeyChange(t))
}

// Records of version 1 stay readable, by who has the key.
func TestRecordGolden1(t *testing.T) {
	for file, want := range map[string]*record{"record-v1.golden": testRecord(), "claim-v1.golden": testClaim()} {
		stored, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseRecord(t.Context(), testKeys(), stored)
		if err != nil || !reflect.DeepEqual(r, want) {
			t.Errorf("%s: %+v, %v", file, r, err)
		}
		if _, err := parseRecord(t.Context(), newKeyring([][32]byte{{66}}), stored); !errors.Is(err, ErrKeyNotFound) {
			t.Errorf("%s without its key: %v", file, err)
		}
		stored[60] ^= 1
		fixSum(stored)
		if _, err := parseRecord(t.Context(), testKeys(), stored); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s forged: %v", file, err)
		}
	}
}

// testRecord2 has something in every section but dropped.
func testRecord2() *record {
	r := testRecord()
	o := r.objects[0]
	o.Version = 2
	o.Label = o.label()
	r.leaving, r.left = []string{"b2"}, []string{"old"}
	r.tombstones = []Tombstone{{ErasedExpired, 3, 1, 11, 9, 4096, time.UnixMilli(1700000000123).UTC()}}
	r.settings = map[string]string{"code": "4+2", "hold/3": "case 17"}
	return r
}

// testKeyChange is a change of keys, signed by the old and the new one.
func testKeyChange(t testing.TB) *record {
	r := testRecord()
	r.kind, r.retired = recordKeys, nil
	var err error
	if r.signers, err = newSigner(context.Background(), testKeys(), &record{cluster: r.cluster, shard: r.shard, number: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if r.signers, err = newSigner(context.Background(), testKeys2(), r, r.signers); err != nil {
		t.Fatal(err)
	}
	return r
}

// testKeys2 has the key of testKeys and a newer one.
func testKeys2() *Keyring {
	return newKeyring([][32]byte{testKeys().keys[testKeys().Current()], {2: 9}})
}

// A claim names its archiver, and nothing else does.
func TestArchiverInARecord(t *testing.T) {
	nobody, change := testClaim(), testRecord()
	nobody.archiver, change.archiver = [16]byte{}, [16]byte{1}
	for _, r := range []*record{nobody, change} {
		b, err := encodeRecord(t.Context(), testKeys(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRecord(t.Context(), testKeys(), b); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func checkGolden(t *testing.T, file string, want *record) {
	t.Helper()
	encoded, err := encodeRecord(t.Context(), testKeys2(), want)
	if err != nil {
		t.Fatal(err)
	}
	stored := golden(t, file, encoded)
	if !bytes.Equal(stored, encoded) {
		t.Error("records are not encoded as in the golden file any more")
	}
	r, err := parseRecord(t.Context(), testKeys2(), stored)
	if err != nil || !reflect.DeepEqual(r, want) {
		t.Fatalf("%+v, want %+v, %v", r, want, err)
	}
	again, err := encodeRecord(t.Context(), testKeys2(), r)
	if err != nil || !bytes.Equal(again, encoded) {
		t.Fatalf("decoded and encoded again it differs: %v", err)
	}
}

func TestEveryFlipOfARecordIsDetected(t *testing.T) {
	for _, r := range []*record{testRecord2(), testKeyChange(t)} {
		encoded, err := encodeRecord(t.Context(), testKeys2(), r)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range len(encoded) * 8 {
			encoded[bit/8] ^= 1 << (bit % 8)
			if _, err := parseRecord(t.Context(), nil, encoded); !errors.Is(err, logcore.ErrCorrupt) {
				t.Fatalf("flip of bit %d: %v", bit, err)
			}
			// Even with a checksum that fits, the signature tells, also to who has no key.
			fixed := bytes.Clone(encoded)
			if bit/8 < len(fixed)-4 && bit/8 != offHeaderLen {
				fixSum(fixed)
				if _, err := parseRecord(t.Context(), nil, fixed); err == nil {
					t.Fatalf("forged bit %d passes", bit)
				}
			}
			encoded[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestUnknownVersionsAreNotCorruption(t *testing.T) {
	rec, err := encodeRecord(t.Context(), testKeys(), testRecord())
	if err != nil {
		t.Fatal(err)
	}
	object := mustSeal(t, testSpan(testFrames(100)), chunkBytesMin)
	for name, change := range map[string]func(b []byte){
		"version": func(b []byte) { b[offVersion], b[offMinReader] = 9, 9 },
		"flag":    func(b []byte) { b[offFlags] = 1 },
	} {
		for _, b := range [][]byte{bytes.Clone(rec), bytes.Clone(object)} {
			change(b)
			resum(b)
			_, err1 := parseRecord(t.Context(), nil, b)
			_, err2 := openObject(t.Context(), testKeys(), b)
			if string(b[:8]) == recordMagic && !errors.Is(err1, logcore.ErrUnsupportedVersion) || string(b[:8]) == objectMagic && !errors.Is(err2, logcore.ErrUnsupportedVersion) {
				t.Errorf("%s: %v, %v", name, err1, err2)
			}
		}
	}
	for _, off := range []int{offObjCodec, offObjAEAD, offObjKeyScheme} {
		b := bytes.Clone(object)
		b[off] = 77
		resum(b)
		if _, err := parseObjectHeader(b); !errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Errorf("byte %d: %v", off, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	made, err := GenerateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", info.Mode())
	}
	read, err := LoadKeyFile(path)
	if err != nil || read.Current() != made.Current() || len(read.IDs()) != 1 {
		t.Fatal(err)
	}
	if _, err := GenerateKeyFile(path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("over an existing file: %v", err)
	}
	if _, err := LoadKeyFile(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing: %v", err)
	}
	good, _ := os.ReadFile(path)
	os.Chmod(path, 0o644)
	if _, err := LoadKeyFile(path); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("open to all: %v", err)
	}
	// Every cut and every flip is refused.
	for n := range good {
		if _, err := parseKeyFile(good[:n]); !errors.Is(err, ErrKeyFile) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	for bit := range len(good) * 8 {
		good[bit/8] ^= 1 << (bit % 8)
		if _, err := parseKeyFile(good); !errors.Is(err, ErrKeyFile) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Fatalf("flip of bit %d: %v", bit, err)
		}
		good[bit/8] ^= 1 << (bit % 8)
	}
	newer := bytes.Replace(good, []byte("version 1 min-reader 1"), []byte("version 9 min-reader 9"), 1)
	if _, err := parseKeyFile(newer); !errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Fatalf("newer: %v", err)
	}
	if _, err := read.Derive(t.Context(), KeyID{1}, nil, "x"); !errors.Is(err, ErrKeyNotFound) {
		t.Fatalf("unknown id: %v", err)
	}
}

func TestKeyFileGolden(t *testing.T) {
	for name, entries := range map[string][]keyEntry{
		"keyring-v1.golden": {testKey(1), testKey(2)},
		"keyring-v2.golden": {{id: testKey(1).id, wrapped: []byte("as a key service wrapped it")}, testKey(2)},
	} {
		stored := golden(t, name, encodeKeyFile(entries))
		got, err := parseKeyFile(stored)
		if err != nil || !reflect.DeepEqual(got, entries) {
			t.Fatalf("%s: %v, %+v", name, err, got)
		}
		if !bytes.Equal(stored, encodeKeyFile(got)) {
			t.Errorf("key files are not encoded as in %s any more", name)
		}
	}
}

func TestLayout(t *testing.T) {
	n := objectName{10, 12, 40, KindSealed, 3, [8]byte{1, 255}}
	key := n.key(testCluster, 7, 31)
	got, index, ok := parseFragmentKey(testCluster, 7, key)
	if !ok || got != n || index != 31 {
		t.Fatalf("%s: %v %+v %d", key, ok, got, index)
	}
	rn := recordName{12, 3, true}
	if got, ok := parseRecordKey(testCluster, 7, rn.key(testCluster, 7)); !ok || got != rn {
		t.Fatalf("%v %+v", ok, got)
	}
	if l, ok := parseLocation(key); !ok || l != (Location{testCluster, 7}) {
		t.Fatalf("%v %+v", ok, l)
	}
	for _, bad := range []string{"", key + "x", key[1:], strings.Replace(key, "-s-", "-x-", 1), strings.ToUpper(key), "lc1-zz/s00000000/x", rn.key(testCluster, 8)} {
		if _, _, ok := parseFragmentKey(testCluster, 7, bad); ok {
			t.Errorf("%q is taken for a fragment", bad)
		}
		if _, ok := parseRecordKey(testCluster, 7, bad); ok {
			t.Errorf("%q is taken for a record", bad)
		}
	}
}
