package erasure

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/logcore/logcore"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew: only for a new format version")

func testMeta(k, m int) Meta {
	meta := Meta{Shard: 3, SegmentFirst: 100, First: 120, Last: 170, Epoch: 9, Kind: 2, K: k, M: m, BlockBytes: 64}
	copy(meta.Cluster[:], "cluster-of-tests")
	copy(meta.KeyID[:], "key-id-8")
	return meta
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func mustEncode(t testing.TB, m Meta, object []byte) (Meta, [][]byte) {
	t.Helper()
	m, fragments, err := Encode(m, object)
	if err != nil {
		t.Fatal(err)
	}
	return m, fragments
}

// subsets calls f with every subset of [0,n) of at most size elements, as a mask.
func subsets(n, size int, f func(mask uint)) {
	for mask := uint(0); mask < 1<<n; mask++ {
		bits := 0
		for i := range n {
			bits += int(mask >> i & 1)
		}
		if bits <= size {
			f(mask)
		}
	}
}

func TestEveryLossOfAtMostMRebuilds(t *testing.T) {
	for _, size := range []int{1, 3, 4, 63, 255, 256, 257, 300, 511, 512, 513, 1000, 5000} {
		object := randomBytes(uint64(size), size)
		m, fragments := mustEncode(t, testMeta(4, 2), object)
		subsets(6, 6, func(lost uint) {
			left, have := make([][]byte, 6), 0
			for i := range fragments {
				if lost>>i&1 == 0 {
					left[i] = fragments[i]
					have++
				}
			}
			got, faults, err := Rebuild(m, left)
			if have < 4 {
				if !errors.Is(err, ErrTooFew) {
					t.Fatalf("size %d, lost %06b: got error %v, want ErrTooFew", size, lost, err)
				}
				return
			}
			if err != nil || len(faults) > 0 || !bytes.Equal(got, object) {
				t.Fatalf("size %d, lost %06b: %v, faults %v", size, lost, err, faults)
			}
		})
	}
}

func TestAnyCode(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for k := 1; k <= 32; k++ {
		for m := 0; k+m <= 32; m += 3 {
			object := randomBytes(uint64(k*100+m), 1+r.IntN(3000))
			meta, fragments := mustEncode(t, testMeta(k, m), object)
			for _, i := range r.Perm(k + m)[:m] {
				fragments[i] = nil
			}
			got, _, err := Rebuild(meta, fragments)
			if err != nil || !bytes.Equal(got, object) {
				t.Fatalf("%d+%d: %v", k, m, err)
			}
		}
	}
	for _, km := range [][2]int{{0, 1}, {-1, 2}, {3, -1}, {30, 3}} {
		if _, _, err := Encode(testMeta(km[0], km[1]), []byte{1}); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("%d+%d: got %v, want ErrInvalid", km[0], km[1], err)
		}
	}
}

func TestEveryBitFlipIsDetected(t *testing.T) {
	object := randomBytes(5, 700) // three stripes, the last one short
	m, fragments := mustEncode(t, testMeta(4, 2), object)
	for i, f := range fragments {
		for bit := range len(f) * 8 {
			f[bit/8] ^= 1 << (bit % 8)
			if len(VerifyFragment(&m, i, f)) == 0 || len(VerifyFragment(nil, i, f)) == 0 {
				t.Fatalf("fragment %d: flip of bit %d is not detected", i, bit)
			}
			if bit%61 == 0 {
				got, faults, err := Rebuild(m, fragments)
				if err != nil || !bytes.Equal(got, object) || len(faults) == 0 || faults[0].Index != i {
					t.Fatalf("fragment %d, bit %d: rebuild: %v, faults %v", i, bit, err, faults)
				}
			}
			f[bit/8] ^= 1 << (bit % 8)
		}
		if faults := VerifyFragment(&m, i, f); len(faults) > 0 {
			t.Fatalf("fragment %d is whole, got %v", i, faults)
		}
	}
}

func TestEveryTruncationAndGrowthIsDetected(t *testing.T) {
	m, fragments := mustEncode(t, testMeta(4, 2), randomBytes(5, 300))
	f := fragments[1]
	for n := range f {
		if len(VerifyFragment(&m, 1, f[:n])) == 0 || len(VerifyFragment(nil, 1, f[:n])) == 0 {
			t.Fatalf("a fragment cut to %d bytes is not detected", n)
		}
	}
	long := append(bytes.Clone(f), 0)
	if len(VerifyFragment(&m, 1, long)) == 0 || len(VerifyFragment(nil, 1, long)) == 0 {
		t.Fatal("a trailing byte is not detected")
	}
}

// Different stripes may be rotten in different fragments: more fragments than m may
// be damaged as long as each stripe keeps k good blocks.
func TestRotInDifferentStripesOfManyFragments(t *testing.T) {
	object := randomBytes(6, 4*64*6)
	m, fragments := mustEncode(t, testMeta(4, 2), object)
	for i := range fragments {
		fragments[i][m.blockOffset(int64(i))] ^= 1
		fragments[(i+1)%6][m.blockOffset(int64(i))] ^= 1
	}
	got, faults, err := Rebuild(m, fragments)
	if err != nil || !bytes.Equal(got, object) || len(faults) != 12 {
		t.Fatalf("%v, %d faults %v", err, len(faults), faults)
	}
}

func TestSwappedFragmentsAreDetected(t *testing.T) {
	m, a := mustEncode(t, testMeta(4, 2), randomBytes(8, 900))
	other := testMeta(4, 2)
	other.First = 121
	_, b := mustEncode(t, other, randomBytes(8, 900)) // same bytes, another range
	_, c := mustEncode(t, testMeta(4, 2), randomBytes(9, 900))
	for i := range 6 {
		for j := range 6 {
			if i != j && len(VerifyFragment(&m, i, a[j])) == 0 {
				t.Fatalf("fragment %d in the place of %d is not detected", j, i)
			}
			for _, wrong := range [][]byte{b[j], c[j]} {
				if len(VerifyFragment(&m, i, wrong)) == 0 {
					t.Fatalf("fragment %d of another object in the place of %d is not detected", j, i)
				}
			}
		}
	}
	// A block of another index or stripe grafted under the right header.
	graft := bytes.Clone(a[0])
	copy(graft[HeaderBytes:], a[1][HeaderBytes:])
	if len(VerifyFragment(&m, 0, graft)) == 0 {
		t.Fatal("blocks of another fragment are not detected")
	}
	n := 64 + m.sumBytes()
	copy(graft[HeaderBytes:], a[0][HeaderBytes+n:HeaderBytes+2*n])
	if len(VerifyFragment(&m, 0, graft)) == 0 {
		t.Fatal("a block of another stripe is not detected")
	}
	// And Rebuild never returns wrong bytes: with three of other objects, it refuses.
	if _, _, err := Rebuild(m, [][]byte{b[0], a[0], c[2], b[3], a[4], a[5]}); !errors.Is(err, ErrTooFew) {
		t.Fatalf("got %v, want ErrTooFew", err)
	}
}

func TestReadRange(t *testing.T) {
	object := randomBytes(10, 1500)
	m, fragments := mustEncode(t, testMeta(4, 2), object)
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		off := r.Int64N(m.Length)
		n := 1 + r.Int64N(m.Length-off)
		start, length, err := m.FragmentRange(off, n)
		if err != nil {
			t.Fatal(err)
		}
		stripes := (off+n-1)/256 - off/256 + 1
		if length > stripes*int64(64+m.sumBytes()) {
			t.Fatalf("range [%d,+%d) wants %d bytes of each fragment for %d stripes", off, n, length, stripes)
		}
		pieces := make([][]byte, 6)
		for _, i := range r.Perm(6)[:4] {
			pieces[i] = fragments[i][start : start+length]
		}
		got, faults, err := ReadRange(m, off, n, pieces)
		if err != nil || len(faults) > 0 || !bytes.Equal(got, object[off:off+n]) {
			t.Fatalf("range [%d,+%d): %v %v", off, n, err, faults)
		}
	}
	for _, bad := range [][2]int64{{-1, 1}, {0, 0}, {0, 1501}, {1500, 1}, {1, 1 << 62}} {
		if _, _, err := m.FragmentRange(bad[0], bad[1]); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("range %v: got %v, want ErrInvalid", bad, err)
		}
	}
}

func TestReadRangeReportsTheRottenBlock(t *testing.T) {
	m, fragments := mustEncode(t, testMeta(4, 2), randomBytes(10, 1500))
	start, length, _ := m.FragmentRange(600, 10)
	pieces := make([][]byte, 6)
	for i := range pieces {
		pieces[i] = bytes.Clone(fragments[i][start : start+length])
	}
	pieces[2][5] ^= 4
	_, faults, err := ReadRange(m, 600, 10, pieces)
	if err != nil || len(faults) != 1 || faults[0].Index != 2 || faults[0].Offset != start {
		t.Fatalf("%v, faults %v, want one at offset %d of fragment 2", err, faults, start)
	}
}

// A fragment whose checksums all hold but whose bytes are not the object's can only
// be forged; the digest of the object still gives it away.
func TestForgedBlockFailsTheDigest(t *testing.T) {
	m, fragments := mustEncode(t, testMeta(4, 2), randomBytes(11, 200))
	forged := m
	_, other := mustEncode(t, testMeta(4, 2), randomBytes(12, 200))
	f := bytes.Clone(other[0])
	copy(f, fragments[0][:HeaderBytes])
	end := len(f) - m.sumBytes()
	m.putSum(f[end:], forged.blockSum(headerSum(forged, 0), 0, f[HeaderBytes:end]))
	fragments[0] = f
	if _, _, err := Rebuild(m, fragments); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("got %v, want ErrCorrupt", err)
	}
}

// The golden files of every version are readable, and written as they always were.
func TestGolden(t *testing.T) {
	object := randomBytes(42, 777)
	for version := 1; version <= FormatVersion; version++ {
		meta := testMeta(4, 2)
		if meta.Version = version; version >= 2 {
			copy(meta.Label[:], "what the caller wants to find again")
		}
		m, fragments := mustEncode(t, meta, object)
		var stored [][]byte
		for i, f := range fragments {
			path := filepath.Join("testdata", fmt.Sprintf("v%d-fragment-%d.golden", version, i))
			if *rewrite && version == FormatVersion {
				if err := os.WriteFile(path, f, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(golden, f) {
				t.Errorf("fragment %d is not encoded as %s any more", i, path)
			}
			stored = append(stored, golden)
		}
		stored[0], stored[2] = nil, nil
		got, _, err := Rebuild(m, stored)
		if err != nil || !bytes.Equal(got, object) {
			t.Fatalf("the golden fragments of version %d are not readable: %v", version, err)
		}
		h, err := ParseHeader(stored[1])
		if err != nil || h.Index != 1 || h.Digest != DigestOf(m, object) || h.Meta != m || h.Version != version {
			t.Fatalf("version %d: header %+v, %v", version, h, err)
		}
	}
}

// The hash of an object and of a fragment, computed once more in the plainest way.
func TestHashesAreWhatTheFormatSays(t *testing.T) {
	object := randomBytes(43, 777)
	m, fragments := mustEncode(t, testMeta(4, 2), object)
	leaf := func(f []byte, s int64) []byte {
		b := f[m.blockOffset(s):][:m.blockBytes(s)]
		sum := sha256.Sum256(append([]byte{0}, b...))
		return sum[:]
	}
	all := []byte{1, 4, 64, 0, 0, 0, 9, 3, 0, 0, 0, 0, 0, 0} // k 4, blocks of 64, length 777
	for s := range m.stripes() {
		for i := range 4 {
			all = append(all, leaf(fragments[i], s)...)
		}
	}
	if want := sha256.Sum256(all); m.Digest != want || DigestOf(m, object) != want {
		t.Errorf("digest %x, from the object %x, want %x", m.Digest, DigestOf(m, object), want)
	}
	for i, f := range fragments {
		all := append([]byte{2}, f[:HeaderBytes]...)
		for s := range m.stripes() {
			end := m.blockOffset(s) + int64(m.blockBytes(s))
			all = append(append(all, leaf(f, s)...), f[end:end+8]...)
		}
		if want := sha256.Sum256(all); Sum(f) != want {
			t.Errorf("fragment %d: sum %x, want %x", i, Sum(f), want)
		}
		if Sum(all) == Sum(f) || Sum(f[:len(f)-1]) == Sum(f) {
			t.Errorf("fragment %d: other bytes have its sum", i)
		}
	}
}

func TestUnknownVersionAndFlagAreNotCorruption(t *testing.T) {
	_, fragments := mustEncode(t, testMeta(4, 2), randomBytes(1, 100))
	for name, change := range map[string]func(h []byte){
		"version": func(h []byte) { h[offVersion], h[offMinReader] = 9, 9 },
		"flag":    func(h []byte) { h[offFlags+3] = 0x80 },
	} {
		f := bytes.Clone(fragments[0])
		change(f)
		resum(f)
		if _, err := ParseHeader(f); !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrUnsupportedVersion", name, err)
		}
	}
	// A newer version that old readers may read is read.
	f := bytes.Clone(fragments[0])
	f[offVersion] = 9
	resum(f)
	if _, err := ParseHeader(f); err != nil {
		t.Errorf("version 9 with min reader %d: %v", FormatVersion, err)
	}
}

func TestHeaderFieldsAreBounded(t *testing.T) {
	_, fragments := mustEncode(t, testMeta(4, 2), randomBytes(1, 100))
	for name, change := range map[string]func(h []byte){
		"length":       func(h []byte) { h[offLength+7] = 0xff },
		"block":        func(h []byte) { h[offBlock+3] = 0xff },
		"k":            func(h []byte) { h[offK] = 200 },
		"kind":         func(h []byte) { h[offKind] = 0 },
		"range":        func(h []byte) { h[offFirst+7] = 0xff },
		"index":        func(h []byte) { h[offIndex] = 6 },
		"short header": func(h []byte) { h[offHeaderLen] = 24; h[offHeaderLen+1] = 0 },
	} {
		f := bytes.Clone(fragments[0])
		change(f)
		resum(f)
		if _, err := ParseHeader(f); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}
