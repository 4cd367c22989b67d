package pageserver

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

func memoryStore(t *testing.T, fs vfs.FS, readOnly bool) *pebble.DB {
	t.Helper()
	db, err := pebble.Open("store", &pebble.Options{FS: fs, Comparer: comparer, DisableWAL: true, ReadOnly: readOnly, Logger: pebbleLogger{slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// TestWriteSet: a set holds what was added and not taken out again, whatever was between;
// versions reach the store in the order of their keys, everything else in its own.
func TestWriteSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	db := memoryStore(t, vfs.NewMem(), false)
	defer db.Close()
	set, want := newWriteSet(), map[string]string{}
	var marks []writeMark
	var wants []map[string]string
	clone := func() map[string]string {
		m := map[string]string{}
		for k, v := range want {
			m[k] = v
		}
		return m
	}
	for lsn := logcore.LSN(1); lsn <= 400; lsn++ {
		marks, wants = append(marks, set.mark()), append(wants, clone())
		for range rng.IntN(6) {
			space, page, value := engine.Space{Hi: rng.Uint64N(3), Lo: rng.Uint64N(3)}, rng.Uint32N(8), make([]byte, 1+rng.IntN(200))
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			at := pos{lsn, uint32(len(set.versions))}
			k, v := set.version(space, page, len(value))
			appendVersionKey(k[:0], 1, space, page, at)
			copy(v, value)
			want[string(k)] = string(value)
		}
		key := []byte{tagPart, byte(rng.IntN(4))}
		if rng.IntN(3) == 0 {
			set.remove(key, append(bytes.Clone(key), 0xff))
			delete(want, string(key))
		} else {
			value := []byte{byte(lsn), byte(lsn >> 8)}
			set.set(key, value)
			want[string(key)] = string(value)
		}
		if rng.IntN(10) == 0 { // an entry failed
			n := rng.IntN(len(marks))
			set.truncate(marks[n])
			want, marks, wants = wants[n], marks[:n], wants[:n]
		}
	}
	b := db.NewBatch()
	if err := set.addTo(b); err != nil {
		t.Fatal(err)
	}
	var last []byte
	for r := b.Reader(); ; {
		_, key, _, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if key[0] == tagVersion {
			// Spaces come in any order, so it is the order inside one that counts.
			if bytes.HasPrefix(key, last[:min(len(last), spacePrefixBytes)]) && bytes.Compare(last, key) >= 0 {
				t.Fatalf("%x after %x", key, last)
			}
			last = bytes.Clone(key)
		}
	}
	if err := db.Apply(b, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	n := 0
	for it.First(); it.Valid(); it.Next() {
		if n++; want[string(it.Key())] != string(it.Value()) {
			t.Errorf("key %x: %x, want %x", it.Key(), it.Value(), want[string(it.Key())])
		}
	}
	if n != len(want) || n == 0 {
		t.Errorf("%d keys in the store, want %d", n, len(want))
	}
	if set.release(); set.size() != 0 || !set.empty() {
		t.Error("a released set holds something")
	}
}

// ofPosition is a set with something in it, after which the log is ingested up to an LSN.
func ofPosition(set *writeSet, lsn logcore.LSN, bytes int) *writeSet {
	set.set(appendCommitKey(nil, 1, lsn), make([]byte, bytes))
	set.pos, set.entries = stateValue{name: "db", ingested: lsn}, set.entries+1
	return set
}

// TestCommitterKeepsOrder: sets become visible in the order given, whoever writes them; one
// that waits is taken back while there is room in it.
func TestCommitterKeepsOrder(t *testing.T) {
	s := &Server{opts: Options{MemTableBytes: 32 << 20}, db: memoryStore(t, vfs.NewMem(), false), metrics: newMetrics(&Server{})}
	defer s.db.Close()
	l := newLogState(1, nil, stateValue{name: "db"})
	c := newCommitter(t.Context(), s, l, func() { t.Error("failed") })
	rng := rand.New(rand.NewPCG(3, 4))
	const last = 3000
	for lsn := logcore.LSN(1); lsn <= last; lsn++ {
		seen := l.snapshot().ingested
		set, err := c.take()
		if err != nil {
			t.Fatal(err)
		}
		if set.size() >= writeSetBytesMax {
			t.Fatalf("a set of %d bytes was taken back", set.size())
		}
		if set.pos.ingested >= lsn || seen >= lsn {
			t.Fatalf("LSN %d is visible and was never given", max(set.pos.ingested, seen))
		}
		if err := c.give(ofPosition(set, lsn, rng.IntN(2*besideBytesMin))); err != nil {
			t.Fatal(err)
		}
		if now := l.snapshot().ingested; now < seen {
			t.Fatalf("LSN %d was visible, now it is %d", seen, now)
		}
		if rng.IntN(50) == 0 {
			if err := c.settle(); err != nil || l.snapshot().ingested != lsn || !c.idle() {
				t.Fatalf("settled: %v, LSN %d is visible, want %d", err, l.snapshot().ingested, lsn)
			}
		}
	}
	if err := c.close(); err != nil || l.snapshot().ingested != last {
		t.Fatalf("closed: %v, LSN %d is visible, want %d", err, l.snapshot().ingested, last)
	}
	for lsn := logcore.LSN(1); lsn <= last; lsn++ {
		_, closer, err := s.db.Get(appendCommitKey(nil, 1, lsn))
		if err != nil {
			t.Fatalf("LSN %d: %v", lsn, err)
		}
		closer.Close()
	}
}

// TestCommitterFails: nothing is written or shown after a set that could not be, and the
// stream is ended.
func TestCommitterFails(t *testing.T) {
	fs := vfs.NewMem()
	if err := memoryStore(t, fs, false).Close(); err != nil {
		t.Fatal(err)
	}
	for _, bytes := range []int{1, 2 * besideBytesMin} {
		s := &Server{opts: Options{MemTableBytes: 32 << 20}, db: memoryStore(t, fs, true), metrics: newMetrics(&Server{})}
		l := newLogState(1, nil, stateValue{name: "db"})
		failed := make(chan struct{}, 1)
		c := newCommitter(t.Context(), s, l, func() { failed <- struct{}{} })
		set, err := c.take()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.give(ofPosition(set, 7, bytes)); err == nil {
			<-failed // written beside
		}
		_, taken := c.take()
		for what, err := range map[string]error{"settle": c.settle(), "take": taken, "give": c.give(ofPosition(newWriteSet(), 8, 1)), "close": c.close()} {
			if !errors.Is(err, pebble.ErrReadOnly) {
				t.Errorf("%s after a failure: %v", what, err)
			}
		}
		if at := l.snapshot().ingested; at != 0 {
			t.Errorf("LSN %d is visible and is not in the store", at)
		}
		if err := s.db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestChainsRotate: what was used lately outlives a rotation, once; pointers stay valid
// until the next one.
func TestChainsRotate(t *testing.T) {
	var c chainCache
	id := func(n uint32) pageID { return pageID{engine.SpaceOf(1), n} }
	for n := range uint32(300) {
		c.of(id(n)).begin(pos{logcore.LSN(n), 0}, versionHeader{depth: uint16(n)})
	}
	c.rotate()
	var kept []uint32
	for n := uint32(0); n < 300; n += 7 {
		v, ok := c.get(id(n))
		if !ok || v.depth != uint16(n) {
			t.Fatalf("page %d after a rotation: %v %v", n, v, ok)
		}
		v.depth++
		if again, _ := c.get(id(n)); again.depth != uint16(n)+1 {
			t.Fatalf("page %d: a change was lost", n)
		}
		kept = append(kept, n)
	}
	c.rotate()
	for n := range uint32(300) {
		if _, ok := c.get(id(n)); ok != slices.Contains(kept, n) {
			t.Errorf("page %d after two rotations: %v", n, ok)
		}
	}
}
