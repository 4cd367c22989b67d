package verify_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/logcore/logcore/engine/postgres/redo"
	"github.com/logcore/logcore/engine/postgres/verify"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// run verifies the consistency sample; change may alter a record before it is redone.
func run(t *testing.T, change func(*wal.Record)) (*verify.Verifier, []*verify.Difference) {
	t.Helper()
	dir := t.TempDir()
	if err := walsample.Consistency.WriteDir(dir); err != nil {
		t.Fatal(err)
	}
	var differences []*verify.Difference
	v := verify.New(redo.Redo{}, func(d *verify.Difference) { c := *d; differences = append(differences, &c) })
	records := 0
	err := wal.ReadDir(context.Background(), wal.DirOptions{Dir: dir}, func(r *wal.Record) bool {
		records++
		change(r)
		v.Record(r)
		return true
	})
	var invalid *wal.InvalidError
	if !errors.As(err, &invalid) || !invalid.NothingWritten() || records != walsample.Consistency.Records {
		t.Fatalf("%d records, want %d, then %v", records, walsample.Consistency.Records, err)
	}
	return v, differences
}

func total(v *verify.Verifier) (c verify.Counts) {
	for _, k := range v.Counts() {
		c.Add(k)
	}
	return c
}

func TestEveryBlockIsRedoneAsTheServerDid(t *testing.T) {
	v, differences := run(t, func(*wal.Record) {})
	for _, d := range differences {
		t.Error(d)
	}
	if c := total(v); c.Equal < 2900 || c.Unnative != 0 || c.Unknown > 1 || c.NoImage > 1 {
		t.Errorf("%+v: want 2,900 equal blocks and nothing passed over", c)
	}
	if n := v.EarlyLeft(); n != 0 {
		t.Errorf("%d bits of visibility maps were never cleared", n)
	}
	kinds := 0
	for k, c := range v.Counts() {
		if kinds++; c.Equal == 0 && k != (verify.Kind{Manager: "XLOG", Operation: "FPI"}) {
			t.Errorf("%v: nothing was compared: %+v", k, c)
		}
	}
	if kinds < 29 {
		t.Errorf("%d kinds of records, want 29", kinds)
	}
}

// A record changed in one bit is redone to another page. Some bits mean nothing to redo: the transaction ids
// that only standbys look at, what decoding needs, hints. For every kind most bits must be noticed, or the
// comparison is blind to it.
func TestAFlippedBitIsADifference(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	flips := map[verify.Kind]int{}
	found := map[verify.Kind]int{}
	for round := range 8 {
		flipped := map[wal.Position]bool{}
		_, differences := run(t, func(r *wal.Record) {
			if len(r.Blocks) == 0 || rng.IntN(8) != round%8 || r.Blocks[0].HasImage && r.Blocks[0].Image.Apply {
				return
			}
			b := r.Data
			if d := r.Blocks[0].Data; len(d) > 0 && rng.IntN(2) == 0 {
				b = d
			}
			if len(b) == 0 {
				return
			}
			// The bytes are the decoder's own, used only once.
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			flipped[r.Start] = true
			flips[verify.KindOf(r)]++
		})
		for _, d := range differences {
			if flipped[d.Record] {
				found[d.Kind]++
				flipped[d.Record] = false
			}
		}
	}
	all, seen := 0, 0
	for k, n := range flips {
		all, seen = all+n, seen+found[k]
		if n >= 20 && found[k] == 0 {
			t.Errorf("%v: %d records with a flipped bit, none of them noticed", k, n)
		}
	}
	if all < 2000 || seen*10 < all*6 {
		t.Errorf("%d of %d flipped bits were noticed, want 6 of 10 of at least 2,000", seen, all)
	}
	t.Logf("%d of %d flipped bits were noticed", seen, all)
}
