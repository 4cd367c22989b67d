package erasure

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// Each loss of at most two of six, with each two of the fragments that are left swapped:
// the bytes come back all the same, and the swap is named. With one of them overwritten by
// the other instead, they come back unless that makes it three.
func TestEveryLossWithEverySwap(t *testing.T) {
	object := randomBytes(20, 1500) // six stripes, the last one short
	m, fragments := mustEncode(t, testMeta(4, 2), object)
	cases := 0
	subsets(6, 2, func(lost uint) {
		left := make([][]byte, 6)
		for i := range fragments {
			if lost>>i&1 == 0 {
				left[i] = fragments[i]
			}
		}
		for i := range 6 {
			for j := range 6 {
				if i == j || left[i] == nil || left[j] == nil {
					continue
				}
				cases++
				swapped := append([][]byte(nil), left...)
				swapped[i], swapped[j] = left[j], left[i]
				got, faults, err := Rebuild(m, swapped)
				if err != nil || !bytes.Equal(got, object) || len(faults) != 2 {
					t.Fatalf("lost %06b, %d and %d swapped: %v, faults %v", lost, i, j, err, faults)
				}
				twice := append([][]byte(nil), left...)
				twice[i] = left[j]
				got, faults, err = Rebuild(m, twice)
				switch few := bits.OnesCount(lost) == 2; {
				case few && !errors.Is(err, ErrTooFew):
					t.Fatalf("lost %06b, %d in the place of %d: %v, want ErrTooFew", lost, j, i, err)
				case !few && (err != nil || !bytes.Equal(got, object)) || len(faults) == 0:
					t.Fatalf("lost %06b, %d in the place of %d: %v, faults %v", lost, j, i, err, faults)
				}
			}
		}
	})
	if cases != 30+6*20+15*12 {
		t.Fatalf("%d cases", cases)
	}
}

// Any three losses are refused with a typed error, and without the work of a rebuild.
func TestThreeLossesAreRefused(t *testing.T) {
	m, fragments := mustEncode(t, testMeta(4, 2), randomBytes(21, 1500))
	refused := 0
	subsets(6, 3, func(lost uint) {
		if bits.OnesCount(lost) != 3 {
			return
		}
		left := make([][]byte, 6)
		for i := range fragments {
			if lost>>i&1 == 0 {
				left[i] = fragments[i]
			}
		}
		if _, _, err := Rebuild(m, left); !errors.Is(err, ErrTooFew) {
			t.Fatalf("lost %06b: %v, want ErrTooFew", lost, err)
		}
		if start, n, err := m.FragmentRange(100, 900); err != nil {
			t.Fatal(err)
		} else if _, _, err := ReadRange(m, 100, 900, cutAll(left, start, n)); !errors.Is(err, ErrTooFew) {
			t.Fatalf("lost %06b: a range: %v, want ErrTooFew", lost, err)
		}
		refused++
	})
	if refused != 20 {
		t.Fatalf("%d cases", refused)
	}
}

func cutAll(fragments [][]byte, start, n int64) [][]byte {
	out := make([][]byte, len(fragments))
	for i, f := range fragments {
		if f != nil {
			out[i] = f[start : start+n]
		}
	}
	return out
}

// Every single-bit flip of a fragment of 64 KiB is detected, in its header, its blocks and
// its checksums.
func TestEveryFlipOfA64KiBFragment(t *testing.T) {
	meta := testMeta(4, 2)
	meta.BlockBytes = (64<<10-HeaderBytes)/4 - 8
	m, fragments := mustEncode(t, meta, randomBytes(22, 4*4*meta.BlockBytes))
	f := fragments[5]
	if len(f) != 64<<10 {
		t.Fatalf("%d bytes", len(f))
	}
	sum, start := Sum(f), time.Now()
	for bit := range len(f) * 8 {
		f[bit/8] ^= 1 << (bit % 8)
		if len(VerifyFragment(&m, 5, f)) == 0 {
			t.Fatalf("flip of bit %d is not detected", bit)
		}
		if bit%4099 == 0 && Sum(f) == sum {
			t.Fatalf("flip of bit %d does not change the sum", bit)
		}
		f[bit/8] ^= 1 << (bit % 8)
	}
	t.Logf("%d flips in %v", len(f)*8, time.Since(start).Round(time.Millisecond))
}

// Every combination of losses of the codes people use, or as many as there is time for.
func TestCodes(t *testing.T) {
	for _, km := range [][2]int{{1, 1}, {4, 2}, {10, 4}, {20, 12}} {
		k, m := km[0], km[1]
		t.Run(fmt.Sprintf("%d+%d", k, m), func(t *testing.T) {
			object := randomBytes(uint64(k), 64*k*2+17)
			meta, fragments := mustEncode(t, testMeta(k, m), object)
			check := func(lost uint) {
				left := make([][]byte, k+m)
				for i := range fragments {
					if lost>>i&1 == 0 {
						left[i] = fragments[i]
					}
				}
				got, _, err := Rebuild(meta, left)
				if few := bits.OnesCount(lost) > m; few != errors.Is(err, ErrTooFew) || !few && (err != nil || !bytes.Equal(got, object)) {
					t.Fatalf("lost %b: %v", lost, err)
				}
			}
			if k+m <= 14 {
				subsets(k+m, m+1, check)
				return
			}
			r := rand.New(rand.NewPCG(23, 1))
			for range 300 {
				lost := uint(0)
				for _, i := range r.Perm(k + m)[:m+r.IntN(2)] {
					lost |= 1 << i
				}
				check(lost)
			}
		})
	}
}

// An object made piece by piece in its fragments is the same bytes as one coded at once,
// in every version, also in buffers that held another one before.
func TestCoderInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(24, 1))
	var c Coder
	for range 200 {
		object := randomBytes(r.Uint64(), 1+r.IntN(2000))
		m := testMeta(4, 2)
		m.Version, m.Length = 1+r.IntN(FormatVersion), int64(len(object))
		if m.Version == 1 {
			m.Digest = DigestOf(m, object)
		}
		if err := c.Begin(m); err != nil {
			t.Fatal(err)
		}
		var cuts []int
		for at := 0; at < len(object); at += 1 + r.IntN(300) {
			cuts = append(cuts, at)
		}
		for _, i := range r.Perm(len(cuts)) {
			end := len(object)
			if i+1 < len(cuts) {
				end = cuts[i+1]
			}
			c.WriteAt(object[cuts[i]:end], int64(cuts[i]))
		}
		if err := c.Parity(); err != nil {
			t.Fatal(err)
		}
		got := c.Finish()
		half := len(object) / 2
		want, err := Code(m, object[:half], nil, object[half:])
		if err != nil || got.Meta != want.Meta || got.Meta.Digest != DigestOf(m, object) {
			t.Fatalf("%v: %+v, want %+v", err, got.Meta, want.Meta)
		}
		for i, f := range got.Fragments {
			if !bytes.Equal(f, want.Fragments[i]) || got.Sums[i] != Sum(f) || want.Sums[i] != Sum(f) {
				t.Fatalf("version %d, %d bytes: fragment %d differs", m.Version, len(object), i)
			}
		}
	}
	if err := c.Begin(testMeta(4, 2)); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("an object of no bytes: %v", err)
	}
}
