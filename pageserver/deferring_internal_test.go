package pageserver

import (
	"encoding/binary"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCompactionsWaitForIntake: while entries come in tables gather in level 0, up to a bound; once none do, what is there is
// compacted, also when nothing else happens.
func TestCompactionsWaitForIntake(t *testing.T) {
	var i intake
	i.last.Store(time.Now().Add(time.Hour).UnixNano()) // as long as the test says so, whatever this machine does meanwhile
	opts := &pebble.Options{FS: vfs.NewMem(), DisableWAL: true, MemTableSize: 1 << 20, L0CompactionThreshold: 4, Logger: pebbleLogger{slog.New(slog.DiscardHandler)}}
	scheduler := newDeferring(&i)
	opts.Experimental.CompactionScheduler = scheduler
	db, err := pebble.Open("store", opts)
	if err != nil {
		t.Fatal(err)
	}
	scheduler.begin()
	defer db.Close()
	table := func() {
		for k := range uint64(100) { // of all keys, so that each table is a sublevel of its own
			if err := db.Set(binary.BigEndian.AppendUint64(nil, k), make([]byte, 100), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	level0 := func(wanted func(int32) bool, what string) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			n := db.Metrics().Levels[0].Sublevels
			if wanted(n) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d sublevels: %s", n, what)
			}
		}
	}
	// The level below has something, or the first table is as good as compacted.
	table()
	table()
	done := i.ignored()
	level0(func(n int32) bool { return n <= 1 }, "somebody waits for a compaction")
	done()

	compacted := db.Metrics().Compact.Count
	for range deferSublevels - 2 {
		table()
	}
	time.Sleep(3 * 100 * time.Millisecond) // the scheduler looks ten times a second; on a machine that is late the test shows less, but does not fail
	if n := db.Metrics().Compact.Count; n != compacted {
		t.Errorf("%d compactions while entries come in and little waits", n-compacted)
	}
	for range deferSublevels {
		table()
	}
	level0(func(n int32) bool { return n < deferSublevels }, "more than the bound wait")

	table()
	table()
	i.last.Store(0)
	level0(func(n int32) bool { return n <= 1 }, "nothing comes in any more")
}

// TestNothingIsGrantedBeforeTheStoreIsOpen: an opening that fails leaves no compaction behind.
func TestNothingIsGrantedBeforeTheStoreIsOpen(t *testing.T) {
	var i intake
	d := newDeferring(&i)
	store := waiting(true)
	d.Register(2, &store)
	if ok, _ := d.TrySchedule(); ok || d.grant() {
		t.Error("granted while the store was being opened")
	}
	store = false // what waits would be granted beside the question
	d.begin()
	if ok, _ := d.TrySchedule(); !ok {
		t.Error("not granted when it was open")
	}
	d.Unregister()
	if ok, _ := d.TrySchedule(); ok || d.grant() {
		t.Error("granted when it was closed")
	}
}

// waiting is a store in which a compaction waits, or none does.
type waiting bool

func (w *waiting) GetAllowedWithoutPermission() int { return 2 }
func (w *waiting) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	return bool(*w), pebble.WaitingCompaction{}
}
func (w *waiting) Schedule(pebble.CompactionGrantHandle) bool { return true }
