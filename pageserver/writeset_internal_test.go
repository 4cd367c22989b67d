package pageserver

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
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

// placedSteps are the steps of a version that come with one change.
type placedSteps struct {
	at    pos
	steps string
}

// changesOf returns the changes of a version.
func changesOf(t *testing.T, key, sealed []byte) (versionHeader, []placedSteps) {
	t.Helper()
	h, body, err := decodeVersion(key, sealed)
	if err != nil {
		t.Fatal(err)
	}
	at := decodePos(key[versionPrefixBytes:])
	if h.kind != kindRun {
		return h, []placedSteps{{at, string(body)}}
	}
	var all []placedSteps
	for rest := body; len(rest) > 0; {
		var steps []byte
		at, steps, rest, _ = nextChange(rest, at)
		all = append(all, placedSteps{at, string(steps)})
	}
	return h, all
}

// TestWriteSet: a set holds what was added and not taken out again, whatever was between;
// versions reach the store in the order of their keys with the changes that joined them,
// everything else in its own order.
func TestWriteSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	db := memoryStore(t, vfs.NewMem(), false)
	defer db.Close()
	type content struct {
		versions map[string][]placedSteps
		others   map[string]string
		newest   map[pageID]string // the key of a page's newest version
		commits  []commit
		states   []stateOp
	}
	set, want := newWriteSet(), content{map[string][]placedSteps{}, map[string]string{}, map[pageID]string{}, nil, nil}
	var marks []writeMark
	var wants []content
	clone := func() content {
		c := content{map[string][]placedSteps{}, maps.Clone(want.others), maps.Clone(want.newest), slices.Clone(want.commits), slices.Clone(want.states)}
		for k, v := range want.versions {
			c.versions[k] = slices.Clone(v)
		}
		return c
	}
	state := make([]byte, 40)
	runs := 0
	for lsn := logcore.LSN(1); lsn <= 1000; lsn++ {
		marks, wants = append(marks, set.mark()), append(wants, clone())
		for range rng.IntN(6) {
			id := pageID{engine.Space{Hi: rng.Uint64N(3), Lo: rng.Uint64N(3)}, rng.Uint32N(8)}
			redo := make([]byte, rng.IntN(200))
			for i := range redo {
				redo[i] = byte(rng.Uint32())
			}
			steps := appendSteps(nil, []step{{redo: redo}})
			at := pos{lsn, uint32(len(set.versions))}
			if newest, ok := want.newest[id]; ok && rng.IntN(3) > 0 {
				copy(set.change(id.space, id.page, at, 77, len(steps)), steps)
				want.versions[newest] = append(want.versions[newest], placedSteps{at, string(steps)})
				runs++
				continue
			}
			value := append(appendVersionHeader(nil, versionHeader{kind: kindRedo, flags: flagBlind, depth: 1, pageSize: 8}), steps...)
			k, v := set.version(id.space, id.page, len(value))
			appendVersionKey(k[:0], 1, id.space, id.page, at)
			copy(v, value)
			want.versions[string(k)], want.newest[id] = []placedSteps{{at, string(steps)}}, string(k)
		}
		key := []byte{tagPart, byte(rng.IntN(4))}
		if rng.IntN(3) == 0 {
			set.remove(key, append(bytes.Clone(key), 0xff))
			delete(want.others, string(key))
		} else {
			value := []byte{byte(lsn), byte(lsn >> 8)}
			set.set(key, value)
			want.others[string(key)] = string(value)
		}
		c := commit{lsn, logcore.HLC(10*lsn + logcore.LSN(rng.IntN(10)))}
		set.commits, want.commits = append(set.commits, c), append(want.commits, c)
		state = append([]byte(nil), state[:rng.IntN(len(state)+1)]...)
		for range rng.IntN(60) {
			state = append(state, byte(rng.Uint32()))
		}
		set.setState(pos{lsn, 0}, state)
		want.states = append(want.states, stateOp{at: pos{lsn, 0}, state: state})
		if rng.IntN(10) == 0 { // an entry failed
			n := max(0, len(marks)-1-rng.IntN(5))
			set.truncate(marks[n])
			want, marks, wants = wants[n], marks[:n], wants[:n]
		}
	}
	b := db.NewBatch()
	if err := set.addTo(b, 1); err != nil {
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
	versions, others, keys := 0, 0, 0
	for it.First(); it.Valid(); it.Next() {
		switch key := it.Key(); key[0] {
		case tagVersion:
			versions++
			h, got := changesOf(t, key, it.Value())
			if w := want.versions[string(key)]; !slices.Equal(got, w) || len(w) > 1 && (h.kind != kindRun || h.chainBytes != 77) {
				t.Errorf("key %x: %+v %+v, want %+v", key, h, got, w)
			}
		case tagPart:
			if others++; want.others[string(key)] != string(it.Value()) {
				t.Errorf("key %x: %x, want %x", key, it.Value(), want.others[string(key)])
			}
		default:
			keys++
		}
	}
	if versions != len(want.versions) || others != len(want.others) || runs < 500 || keys > len(want.commits)/5 {
		t.Errorf("%d versions, %d others, %d keys of commits and states, want %d, %d, few of %d; %d changes joined", versions, others, keys, len(want.versions), len(want.others), len(want.commits), runs)
	}
	s := &Server{db: db}
	r, l := s.newReader(), newLogState(1, nil, stateValue{name: "db"})
	defer r.close()
	for i, c := range want.commits {
		for at := c.lsn; i+1 < len(want.commits) && at < want.commits[i+1].lsn; at++ {
			if lsn, time, found, err := r.commitAt(l, at); err != nil || !found || lsn != c.lsn || time != c.time {
				t.Fatalf("commit at LSN %d: %d %d %v %v, want %v", at, lsn, time, found, err, c)
			}
			if got, err := r.decoderState(l, endOf(at)); err != nil || !bytes.Equal(got, want.states[i].state) {
				t.Fatalf("state at LSN %d: %x %v, want %x", at, got, err, want.states[i].state)
			}
		}
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
