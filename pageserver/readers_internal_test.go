package pageserver

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore/engine"
)

// TestReadersMissNothing: a reader that was used is used again, and none after something was
// written, whichever of opening, writing and giving back came first.
func TestReadersMissNothing(t *testing.T) {
	s := &Server{opts: Options{MemTableBytes: 32 << 20}, db: memoryStore(t, vfs.NewMem(), false)}
	defer func() {
		if err := s.db.Close(); err != nil { // an iterator was left open
			t.Error(err)
		}
	}()
	id := pageID{engine.SpaceOf(1), 2}
	write := func(at pos) {
		key := appendVersionKey(nil, 1, id.space, id.page, at)
		if err := s.db.Set(key, sealImage(key, []byte{byte(at.lsn)}), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		s.readers.renew()
	}
	l := newLogState(1, nil, stateValue{name: "db"})
	newest := func(r *reader) pos {
		v, err := r.seek(l, id.space, id.page, endOf(1<<60))
		if err != nil {
			t.Fatal(err)
		}
		return v.at
	}
	write(pos{1, 0})
	first := s.newReader()
	if at := newest(first); at != (pos{1, 0}) {
		t.Fatalf("newest version at %v", at)
	}
	first.close()
	again := s.newReader()
	if again != first {
		t.Error("a reader was thrown away though nothing was written")
	}
	other := s.newReader() // in use, like again, while something is written
	newest(other)
	write(pos{2, 0})
	again.close()
	other.close()
	fresh := s.newReader()
	if at := newest(fresh); at != (pos{2, 0}) {
		t.Errorf("a reader opened after a write sees %v", at)
	}
	fresh.close()
	write(pos{3, 0})
	last := s.newReader()
	if at := newest(last); at != (pos{3, 0}) {
		t.Errorf("a reader kept over a write sees %v", at)
	}
	last.close()
	var many []*reader
	for range 100 {
		r := s.newReader()
		newest(r)
		many = append(many, r)
	}
	for _, r := range many {
		r.close()
	}
	if n := len(s.readers.free); n == 0 || n > 64 {
		t.Errorf("%d readers are kept", n)
	}
	s.readers.renew()
	if n := len(s.readers.free); n != 0 {
		t.Errorf("%d readers are kept after a write", n)
	}
}
