package simdisk_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/media/mediatest"
)

func TestSimdisk(t *testing.T) {
	var last *simdisk.Disk
	mediatest.Run(t, func(t *testing.T, again bool) media.Dir {
		if again {
			return last.Crash(7) // all that was synced survives any crash
		}
		last = simdisk.New(1)
		return last
	})
}

// The harness must be able to fail: unsynced data is lost in some crashes and torn
// in some, and kept in some.
func TestCrashLosesUnsynced(t *testing.T) {
	d := simdisk.New(1)
	f, err := d.Create("a", 8192)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SyncDir(); err != nil {
		t.Fatal(err)
	}
	full := bytes.Repeat([]byte{1}, 8192)
	if _, err := f.WriteAt(full, 0); err != nil {
		t.Fatal(err)
	}
	var lost, kept, torn int
	for seed := range uint64(200) {
		switch got := readAll(t, d.Crash(seed)); {
		case bytes.Equal(got, full):
			kept++
		case bytes.Equal(got, make([]byte, 8192)):
			lost++
		default:
			torn++
		}
	}
	if lost < 20 || kept < 20 || torn < 20 {
		t.Fatalf("lost %d, kept %d, torn %d of 200", lost, kept, torn)
	}
}

// After a failed sync the data is readable, a second sync succeeds, and the data
// is gone after a crash: what ext4 does.
func TestFailedSyncLosesSilently(t *testing.T) {
	gone := 0
	for seed := range uint64(20) {
		d := simdisk.New(seed)
		f, err := d.Create("a", 4096)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.SyncDir(); err != nil {
			t.Fatal(err)
		}
		full := bytes.Repeat([]byte{1}, 4096)
		if _, err := f.WriteAt(full, 0); err != nil {
			t.Fatal(err)
		}
		d.Hook = func(op simdisk.Op) error {
			if op.Kind == "sync" && op.Sync == 0 {
				return errors.New("injected")
			}
			return nil
		}
		if f.Sync() == nil || f.Sync() != nil {
			t.Fatal("first sync must fail, second must not")
		}
		if !bytes.Equal(readAll(t, d), full) {
			t.Fatal("the cache lost the data")
		}
		if !bytes.Equal(readAll(t, d.Crash(seed)), full) {
			gone++
		}
	}
	if gone < 3 {
		t.Fatalf("data gone in %d of 20", gone)
	}
}

func readAll(t *testing.T, d *simdisk.Disk) []byte {
	t.Helper()
	f, err := d.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, f.Size())
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}
