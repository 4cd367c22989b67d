package pageserver_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// objectsOf returns the keys of a bucket whose part follows the store's name.
func objectsOf(t *testing.T, b bucket.Bucket, part string) (keys []string) {
	t.Helper()
	err := b.List(t.Context(), "", "", func(a bucket.Attributes) bool {
		if strings.Contains(a.Key, part) {
			keys = append(keys, a.Key)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// mutation does something to one of several objects.
type mutation struct {
	part   string                                                 // of the keys of those that it may hit
	change func(rng *rand.Rand, b []byte, others [][]byte) []byte // nil removes it
}

func flipAt(where func(rng *rand.Rand, n int) int) func(*rand.Rand, []byte, [][]byte) []byte {
	return func(rng *rand.Rand, b []byte, _ [][]byte) []byte {
		b[where(rng, len(b))] ^= 1 << rng.IntN(8)
		return b
	}
}

// mutations reach the parts of what is stored: the header, body and checksum of a manifest;
// the header of a table, its first block, and the end, where Pebble's index, its filter and
// its footer are.
func mutations() map[string]mutation {
	cut := func(rng *rand.Rand, b []byte, _ [][]byte) []byte { return b[:rng.IntN(len(b))] }
	anyone := func(rng *rand.Rand, _ []byte, others [][]byte) []byte {
		return bytes.Clone(others[rng.IntN(len(others))])
	}
	gone := func(*rand.Rand, []byte, [][]byte) []byte { return nil }
	anywhere := func(rng *rand.Rand, n int) int { return rng.IntN(n) }
	return map[string]mutation{
		"manifest, header":     {"/manifest/", flipAt(func(rng *rand.Rand, n int) int { return rng.IntN(168) })},
		"manifest, body":       {"/manifest/", flipAt(func(rng *rand.Rand, n int) int { return 168 + rng.IntN(n-168) })},
		"manifest, checksum":   {"/manifest/", flipAt(func(rng *rand.Rand, n int) int { return n - 1 - rng.IntN(8) })},
		"manifest, cut":        {"/manifest/", cut},
		"manifest, another":    {"/manifest/", anyone},
		"manifest, gone":       {"/manifest/", gone},
		"table, header":        {"/table/", flipAt(func(rng *rand.Rand, n int) int { return rng.IntN(96) })},
		"table, first block":   {"/table/", flipAt(func(rng *rand.Rand, n int) int { return 96 + rng.IntN(min(n-96, 4096)) })},
		"table, anywhere":      {"/table/", flipAt(anywhere)},
		"table, index, footer": {"/table/", flipAt(func(rng *rand.Rand, n int) int { return n - 1 - rng.IntN(min(n-96, 600)) })},
		"table, cut":           {"/table/", cut},
		"table, another":       {"/table/", anyone},
		"table, gone":          {"/table/", gone},
	}
}

// TestMutatedCheckpoints changes every kind of object of a checkpoint in every way and starts
// a page server from what is left: no page is ever wrong. The newest checkpoint is passed
// over, or the store is built from the log.
func TestMutatedCheckpoints(t *testing.T) {
	r := newColdRig(t, 150)
	s := r.start()
	r.compare(s, "db", 2)
	r.checkpoint(s)
	r.append("db", 30)
	r.checkpoint(s)
	s.Stop(t)
	source, rebuilt, older := r.bucket, 0, 0
	for name, m := range mutations() {
		t.Run(name, func(t *testing.T) {
			for _, all := range []bool{false, true} {
				changed := mem.New()
				keys := objectsOf(t, source, m.part)
				hit := keys
				if !all {
					// The listing begins with the newest manifest.
					hit = keys[:1]
				}
				var others [][]byte
				for _, key := range keys {
					others = append(others, get(t, source, key))
				}
				for _, key := range objectsOf(t, source, "") {
					b := get(t, source, key)
					if slices.Contains(hit, key) {
						if b = m.change(r.rng, b, others); b == nil {
							continue
						}
					}
					if err := changed.PutIfAbsent(t.Context(), key, b); err != nil {
						t.Fatal(err)
					}
				}
				r.bucket = bucket.NewFaults(changed)
				r.elsewhere()
				s := r.start()
				for range 6 {
					at := 1 + r.rng.Uint64N(uint64(r.source.Last()))
					if err := compareAt(t.Context(), r, s, at); err != nil {
						t.Fatalf("all %v: %v", all, err)
					}
				}
				t.Logf("all of them %v: began from checkpoint %d, %v damaged, %v tables fetched again, %v stores built again", all, s.CheckpointStatus().BeganFrom, value(r.corruptions),
					r.metric("refetched_tables_total"), r.metric("store_rebuilds_total"))
				if r.metric("store_rebuilds_total") > 0 {
					rebuilt++
				} else if s.CheckpointStatus().BeganFrom == 2 {
					older++
				}
				s.Stop(t)
			}
		})
	}
	if rebuilt < 4 || older < 4 {
		t.Errorf("%d stores were built again, %d began from an older checkpoint: the run is void", rebuilt, older)
	}
}

func get(t *testing.T, b bucket.Bucket, key string) []byte {
	t.Helper()
	data, err := b.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func compareAt(ctx context.Context, r *coldRig, s *enginetest.Subject, at uint64) error {
	n, err := enginetest.Compare(ctx, s.Server, r.source, pages.Decoder{}, "db", logcore.LSN(at), r.spaces)
	if err == nil && n == 0 {
		return fmt.Errorf("no page compared at LSN %d", at)
	}
	return err
}
