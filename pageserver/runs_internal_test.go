package pageserver

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// runOf returns the key and the value of a run over a page of 8 bytes: at LSN 10*n its n-th byte
// becomes n.
func runOf(header versionHeader, from, through int) (key, value []byte) {
	at := func(n int) pos { return pos{logcore.LSN(10 * n), 0} }
	header.kind, header.depth, header.pageSize = kindRun, 1, 8
	value = appendVersionHeader(nil, header)
	before := at(from)
	for n := from; n <= through; n++ {
		steps := []step{{ranges: []engine.Range{{Offset: uint32(n), Data: []byte{byte(n)}}}}}
		value = appendSteps(appendChange(value, before, at(n), stepsBytes(steps)), steps)
		before = at(n)
	}
	return appendVersionKey(nil, 1, engine.SpaceOf(1), 0, at(from)), value
}

// TestRunsAreReadAtEveryLSN: a reader sees of a run what came up to its LSN; an image at a run's
// end, a run that goes on from it, and one that was written blindly, with and without a cut
// below it, change nothing else.
func TestRunsAreReadAtEveryLSN(t *testing.T) {
	for _, c := range []struct {
		name  string
		cutAt logcore.LSN // 0: there is none
		image bool
		blind bool
	}{{name: "two runs"}, {name: "image", image: true}, {name: "blind", blind: true}, {name: "blind over a cut", blind: true, cutAt: 35}} {
		t.Run(c.name, func(t *testing.T) {
			s := &Server{db: memoryStore(t, vfs.NewMem(), false), cache: newPageCache(1 << 20)}
			s.metrics = newMetrics(s)
			defer s.db.Close()
			set := func(key, value []byte) {
				if err := s.db.Set(key, seal(key, value), pebble.NoSync); err != nil {
					t.Fatal(err)
				}
			}
			set(runOf(versionHeader{flags: flagInit}, 1, 3))
			above := versionHeader{base: pos{30, 0}}
			if c.blind {
				above = versionHeader{flags: flagBlind}
			}
			set(runOf(above, 4, 6))
			if c.cutAt > 0 {
				set(appendSpaceKey(nil, tagCut, 1, engine.SpaceOf(1), pos{c.cutAt, 0}), encodeCut(cutValue{}))
			}
			if c.image {
				key := appendVersionKey(nil, 1, engine.SpaceOf(1), 0, pos{30, 0})
				set(key, append(appendVersionHeader(nil, versionHeader{kind: kindImage, pageSize: 8}), 0, 1, 2, 3, 0, 0, 0, 0))
			}
			l := newLogState(1, nil, stateValue{name: "db", ingested: 100})
			for lsn := logcore.LSN(1); lsn < 80; lsn++ {
				want := make([]byte, 8)
				for n := 1; n <= 6 && logcore.LSN(10*n) <= lsn; n++ {
					if cut := c.cutAt; cut == 0 || lsn < cut || logcore.LSN(10*n) > cut {
						want[n] = byte(n)
					}
				}
				r := s.newReader()
				v, err := r.newest(l, engine.SpaceOf(1), 0, endOf(lsn))
				if gone := lsn < 10 || c.cutAt > 0 && lsn >= c.cutAt && lsn < 40; err != nil || v.alive == gone {
					t.Fatalf("LSN %d: %+v, %v", lsn, v, err)
				} else if !gone {
					p, err := r.pageOf(v, engine.SpaceOf(1), 0)
					if last := min(lsn/10*10, 60); err != nil || !bytes.Equal(p.data, want) || p.last != last {
						t.Fatalf("LSN %d: %x of LSN %d, %v, want %x of %d", lsn, p.data, p.last, err, want, last)
					}
				}
				r.close()
			}
			s.readers.renew()
		})
	}
}

// TestCutShort: what has several places loses those behind one, and nothing else.
func TestCutShort(t *testing.T) {
	db := memoryStore(t, vfs.NewMem(), false)
	defer db.Close()
	key, value := runOf(versionHeader{flags: flagInit}, 1, 3)
	states := newWriteSet()
	for n := range 3 {
		states.setState(pos{logcore.LSN(10 * (n + 1)), 0}, []byte{'s', byte(n), 't'})
	}
	for bound := logcore.LSN(10); bound < 40; bound++ {
		b := db.NewBatch()
		if err := states.addStates(b, 1); err != nil {
			t.Fatal(err)
		}
		if err := b.Set(key, seal(key, value), nil); err != nil {
			t.Fatal(err)
		}
		if err := db.Apply(b, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		left := min(int(bound)/10, 3)
		it, err := db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		short := db.NewBatch()
		for it.First(); it.Valid(); it.Next() {
			if err := cutShort(short, it.Key(), it.Value(), endOf(bound)); err != nil {
				t.Fatal(err)
			}
		}
		if want := uint32(2); left == 3 && short.Count() != 0 || left < 3 && short.Count() != want {
			t.Fatalf("LSN %d: %d values changed", bound, short.Count())
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.Apply(short, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		sealed, closer, err := db.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := changesOf(t, key, sealed); len(got) != left || got[left-1].at.lsn != logcore.LSN(10*left) {
			t.Errorf("LSN %d: %d changes are left, %v", bound, len(got), got)
		}
		closer.Close()
		r := (&Server{db: db}).newReader()
		if got, err := r.decoderState(newLogState(1, nil, stateValue{}), endOfHistory); err != nil || !bytes.Equal(got, []byte{'s', byte(left - 1), 't'}) {
			t.Errorf("LSN %d: state %q, %v", bound, got, err)
		}
		r.drop()
	}
}
