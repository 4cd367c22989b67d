package pageserver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/pages"
)

// shortFS has room for so many writes of half of what is asked, then none until it is told.
type shortFS struct {
	vfs.FS
	refused atomic.Int64 // writes that found no room
	full    atomic.Bool
}

func (s *shortFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	return &shortFile{f, s}, err
}

type shortFile struct {
	vfs.File
	s *shortFS
}

func (f *shortFile) Write(p []byte) (int, error) {
	if f.s.full.Load() {
		n, err := f.File.Write(p[:len(p)/2]) // what there was room for
		if f.s.refused.Add(1) == 3 {
			f.s.full.Store(false)
		}
		return n, errors.Join(err, syscall.ENOSPC)
	}
	return f.File.Write(p)
}

// TestManifestWaitsForRoom: a write that finds no room goes on where it ended; other files fail.
func TestManifestWaitsForRoom(t *testing.T) {
	short := &shortFS{FS: vfs.NewMem()}
	d := diskFS{short, &room{}}
	write := func(name string) error {
		t.Helper()
		f, err := d.Create(name, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = f.Write([]byte("all of it"))
		return err
	}
	short.full.Store(true)
	if err := write("MANIFEST-000001"); err != nil || short.refused.Load() != 3 {
		t.Errorf("%v after %d writes that found no room", err, short.refused.Load())
	}
	f, err := d.Open("MANIFEST-000001")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 32)
	if n, _ := f.Read(got); string(got[:n]) != "all of it" {
		t.Errorf("%q was written", got[:n])
	}
	short.full.Store(true)
	if err := write("000002.sst"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a table: %v", err)
	}
}

// TestAbandonedAsIfKilled: a manifest that nobody wants to wait for any more is left as it is, for good, and so is
// every file that it may name, whatever becomes of the room.
func TestAbandonedAsIfKilled(t *testing.T) {
	short := &shortFS{FS: vfs.NewMem()}
	d := diskFS{short, &room{}}
	for _, name := range []string{"MANIFEST-000001", "000002.sst"} {
		f, err := d.Create(name, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write([]byte("on the disk")); err != nil {
			t.Fatal(err)
		}
		if name != "MANIFEST-000001" {
			continue
		}
		short.refused.Store(10) // it stays full
		short.full.Store(true)
		d.room.hurry.Store(true)
		if n, err := f.Write(nil); n != 0 || err != nil {
			t.Errorf("%d bytes, %v: Pebble ends the process", n, err)
		}
		short.full.Store(false)
		if n, err := f.Write([]byte("after a gap")); n != 11 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
	}
	if err := d.room.isStuck(); !errors.Is(err, logcore.ErrDiskFull) {
		t.Errorf("stuck: %v", err)
	}
	marker, err := d.Create("marker.manifest.000002.MANIFEST-000009", "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(marker.Sync(), marker.Close(), d.Remove("000002.sst"), d.Remove("MANIFEST-000001")); err != nil {
		t.Error(err)
	}
	names, err := short.List("")
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"000002.sst", "MANIFEST-000001"}) {
		t.Errorf("%q, %v", names, err)
	}
	f, err := short.Open("MANIFEST-000001")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); string(got) != "on the disk" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	d.room.begin()
	if err := errors.Join(d.room.isStuck(), d.Remove("000002.sst")); err != nil {
		t.Errorf("opened again: %v", err)
	}
}

// brokenFS has no room for what it is told, by category.
type brokenFS struct {
	vfs.FS
	category atomic.Value // of vfs.DiskWriteCategory
	refused  atomic.Int64
}

func (b *brokenFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category == b.category.Load() {
		b.refused.Add(1)
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return b.FS.Create(name, category)
}

// TestNothingWaitsInPebble: while tables can't be merged, or memory can't be written, ingest waits where it can be
// told to end, says why, does not keep Pebble busy in vain, and goes on when there is room.
func TestNothingWaitsInPebble(t *testing.T) {
	for _, category := range []vfs.DiskWriteCategory{"pebble-compaction", "pebble-memtable-flush"} {
		t.Run(string(category), func(t *testing.T) {
			opts := Options{Dir: t.TempDir(), Source: struct{ LogSource }{}, Decoder: pages.Decoder{}, MemTableBytes: 256 << 10, Logger: slog.New(slog.DiscardHandler)}
			s, err := Open(opts)
			if err != nil {
				t.Fatal(err)
			}
			broken := &brokenFS{FS: vfs.Default}
			broken.category.Store(vfs.DiskWriteCategory(""))
			with := s.pebbleOptions()
			with.FS = diskFS{broken, &s.room}
			if err := s.db.Close(); err != nil {
				t.Fatal(err)
			}
			if s.db, err = pebble.Open(filepath.Join(opts.Dir, storeDir), with); err != nil {
				t.Fatal(err)
			}
			s.room.hurry.Store(false) // as when it runs
			broken.category.Store(category)
			rng := rand.New(rand.NewPCG(1, 2))
			write := func(ctx context.Context) error {
				b := s.db.NewBatch()
				defer b.Close()
				key, value := make([]byte, 16), make([]byte, 4<<10)
				for i := range value {
					value[i] = byte(rng.Uint32())
				}
				for range 8 {
					binary.BigEndian.PutUint64(key, rng.Uint64())
					if err := b.Set(key, value, nil); err != nil {
						return err
					}
				}
				if err := s.ingest(ctx, b); err != nil {
					return err
				}
				if rng.IntN(8) == 0 {
					return s.flushStore(ctx) // one more table
				}
				return nil
			}
			try := func() error {
				done := make(chan error, 1)
				go func() { done <- write(t.Context()) }()
				select {
				case err := <-done:
					return err
				case <-time.After(time.Minute):
					t.Fatal("a writer waits inside Pebble")
					return nil
				}
			}
			began := time.Now()
			for err = nil; err == nil; err = try() {
				if time.Since(began) > time.Minute {
					t.Fatal("it was written for a minute: the run is void")
				}
			}
			if !errors.Is(err, logcore.ErrDiskFull) {
				t.Fatalf("ingest: %v", err)
			}
			if err := s.room.look(); !errors.Is(err, logcore.ErrDiskFull) {
				t.Errorf("the room: %v", err)
			}
			if tries, most := broken.refused.Load(), int64(4*(1+time.Since(began)/roomEvery)); tries > most {
				t.Errorf("Pebble tried %d times in %v", tries, time.Since(began))
			}
			broken.category.Store(vfs.DiskWriteCategory(""))
			for err != nil && time.Since(began) < 2*time.Minute {
				time.Sleep(crowdedPause)
				err = try()
			}
			if err := errors.Join(err, s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}
