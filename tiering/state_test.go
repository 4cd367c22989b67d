package tiering

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

func obj(kind Kind, segment, first, last logcore.LSN, level uint8, final bool) *object {
	return &object{Meta: erasure.Meta{Cluster: testCluster, SegmentFirst: segment, First: first, Last: last, Epoch: 1, Kind: uint8(kind), K: 1, M: 1, BlockBytes: 1, Length: 1,
		Digest: [32]byte{byte(first), byte(last), byte(kind), level}}, level: level, final: final, rawBytes: int64(last - first + 1),
		fragments: []fragment{{target: "a1"}, {target: "a2"}}}
}

// fold applies objects one record each.
func fold(t *testing.T, objects ...*object) *state {
	t.Helper()
	s := &state{cluster: testCluster}
	for _, o := range objects {
		s = next(t, s, s.change(1, targetNames, o))
	}
	return s
}

func next(t *testing.T, s *state, r *record) *state {
	t.Helper()
	b, err := encodeRecord(context.Background(), testKeys(), r)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.apply(r, hashOf(b))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func ranges(objects []*object) (out []string) {
	for _, o := range objects {
		out = append(out, fmt.Sprintf("%v[%d,%d]", o.kind(), o.First, o.Last))
	}
	return out
}

func TestFold(t *testing.T) {
	T := func(first, last logcore.LSN) *object { return obj(KindTail, 1, first, last, 0, false) }
	for name, c := range map[string]struct {
		objects []*object
		live    []string
		path    []string
		retired int
	}{
		"tails":               {[]*object{T(1, 5), T(6, 9)}, []string{"tail[1,5]", "tail[6,9]"}, []string{"tail[1,5]", "tail[6,9]"}, 0},
		"a gap ends the path": {[]*object{T(1, 5), T(7, 9)}, []string{"tail[1,5]", "tail[7,9]"}, []string{"tail[1,5]"}, 0},
		"a folded tail supersedes those inside it": {[]*object{T(1, 5), T(6, 9), T(10, 12), obj(KindTail, 1, 1, 9, 1, false)},
			[]string{"tail[1,9]", "tail[10,12]"}, []string{"tail[1,9]", "tail[10,12]"}, 2},
		"a sealed segment supersedes its tails": {[]*object{T(1, 5), T(6, 9), obj(KindSealed, 1, 1, 9, 0, true)}, []string{"sealed[1,9]"}, []string{"sealed[1,9]"}, 2},
		"a part of a sealed segment does not": {[]*object{T(1, 5), T(6, 9), obj(KindSealed, 1, 1, 7, 0, false)},
			[]string{"sealed[1,7]", "tail[1,5]", "tail[6,9]"}, []string{"tail[1,5]", "tail[6,9]"}, 0},
		"all its parts do": {[]*object{T(1, 5), T(6, 9), obj(KindSealed, 1, 1, 7, 0, false), obj(KindSealed, 1, 8, 9, 0, true)},
			[]string{"sealed[1,7]", "sealed[8,9]"}, []string{"sealed[1,7]", "sealed[8,9]"}, 2},
		"a later segment is left alone": {[]*object{T(1, 9), obj(KindTail, 10, 10, 12, 0, false), obj(KindSealed, 1, 1, 9, 0, true)},
			[]string{"sealed[1,9]", "tail[10,12]"}, []string{"sealed[1,9]", "tail[10,12]"}, 1},
		"placed anew": {[]*object{T(1, 5), T(1, 5)}, []string{"tail[1,5]"}, []string{"tail[1,5]"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := fold(t, c.objects...)
			if got := ranges(s.live); !slices.Equal(got, c.live) {
				t.Errorf("live %v, want %v", got, c.live)
			}
			if got := ranges(s.path); !slices.Equal(got, c.path) {
				t.Errorf("path %v, want %v", got, c.path)
			}
			if len(s.retired) != c.retired {
				t.Errorf("%d retired, want %d", len(s.retired), c.retired)
			}
			// A rollup says the same, and loading may begin at it.
			r := next(t, s, s.rollup(1, targetNames, nil))
			fresh, err := (&state{cluster: testCluster}).apply(s.rollup(1, targetNames, nil), r.hash)
			if err != nil || !sameObjects(fresh.live, s.live) || !slices.Equal(ranges(fresh.path), c.path) || !slices.Equal(fresh.retired, s.retired) || fresh.number != r.number {
				t.Errorf("rollup: %v", err)
			}
		})
	}
}

func TestRecordsThatDoNotFollowAreRefused(t *testing.T) {
	s := fold(t, obj(KindTail, 1, 1, 5, 0, false), obj(KindTail, 1, 6, 7, 0, false))
	for name, change := range map[string]func(r *record){
		"number": func(r *record) { r.number++ },
		"hash":   func(r *record) { r.prev[3] ^= 1 },
		"epoch":  func(r *record) { r.epoch = 0 },
		"kind":   func(r *record) { r.kind = recordClaim },
	} {
		r := s.change(1, targetNames)
		change(r)
		if _, err := s.apply(r, [32]byte{}); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := s.rollup(1, targetNames, nil)
	r.objects = r.objects[:1]
	if _, err := s.apply(r, [32]byte{}); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("a rollup that forgets an object: %v", err)
	}
}

// TestPathAgainstSearch compares findPath with trying every way.
func TestPathAgainstSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var live []*object
		for range 1 + rng.IntN(9) {
			first := logcore.LSN(1 + rng.IntN(8))
			live = upsert(live, obj(Kind(1+rng.IntN(2)), 1, first, first+logcore.LSN(rng.IntN(4)), 0, false))
		}
		var furthest func(at logcore.LSN) logcore.LSN
		furthest = func(at logcore.LSN) logcore.LSN {
			best := at - 1
			for _, o := range live {
				if o.First == at {
					best = max(best, furthest(o.Last+1))
				}
			}
			return best
		}
		path := findPath(live)
		for i, o := range path[1:] {
			if o.First != path[i].Last+1 {
				t.Fatalf("%v of %v has a gap", ranges(path), ranges(live))
			}
		}
		if got, want := path[len(path)-1].Last, furthest(live[0].First); got != want || path[0].First != live[0].First {
			t.Fatalf("%v of %v reaches %d, want %d", ranges(path), ranges(live), got, want)
		}
	}
}

func TestFindRun(t *testing.T) {
	var path []*object
	for i := range logcore.LSN(20) {
		path = append(path, obj(KindTail, 1, 1+i, 1+i, 0, false))
	}
	if run := findRun(path, 16, 1000); len(run) != 16 || run[15].Last != 20 {
		t.Fatalf("%v", ranges(run))
	}
	if run := findRun(path, 16, 15); run != nil {
		t.Fatalf("too large together: %v", ranges(run))
	}
	path[10] = obj(KindTail, 1, 11, 11, 1, false)
	if run := findRun(path, 16, 1000); run != nil {
		t.Fatalf("levels mixed: %v", ranges(run))
	}
	if run := findRun(path, 9, 1000); len(run) != 9 || run[0].First != 12 {
		t.Fatalf("%v", ranges(run))
	}
}
