package pages

import (
	"math/rand/v2"
	"testing"
)

// Segments behave as a plain set does, through their bytes too.
func TestSegments(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var s segments
		set := map[uint32]bool{}
		for range 60 {
			if rng.IntN(5) == 0 {
				k := uint32(2 + rng.IntN(4))
				gone := func(n uint32) bool { return n%k == 0 }
				s.remove(gone, func(n uint32) {
					if !gone(n) || !set[n] {
						t.Fatalf("%d was removed", n)
					}
					delete(set, n)
				})
			}
			n := uint32(rng.IntN(40))
			s.add(n)
			set[n] = true
		}
		var w writer
		w.segments(s)
		r := reader{b: w.b}
		back := r.segments(nil)
		if r.short || len(r.b) > 0 {
			t.Fatalf("%v is not read back", s)
		}
		got := map[uint32]bool{}
		for _, v := range back {
			for n := v.from; n < v.to; n++ {
				got[n] = true
			}
		}
		for n := range uint32(50) {
			if got[n] != set[n] {
				t.Fatalf("%d: %v, want %v in %v", n, got[n], set[n], s)
			}
		}
	}
}
