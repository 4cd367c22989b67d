package pageserver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// coldRig is a rig with a place for checkpoints.
type coldRig struct {
	*rig
	bucket *bucket.Faults
}

func newColdRig(t *testing.T, transactions int) *coldRig {
	r := &coldRig{newRig(t, transactions), bucket.NewFaults(mem.New())}
	r.opts.Checkpoints, r.opts.CheckpointInterval = enginetest.Checkpoints(t, r.bucket), time.Hour
	return r
}

// elsewhere makes the next page server one on an empty machine.
func (r *coldRig) elsewhere() {
	r.opts.Dir = r.t.TempDir()
	r.opts.Checkpoints = enginetest.Checkpoints(r.t, r.bucket)
}

func (r *coldRig) checkpoint(s *enginetest.Subject) pageserver.CheckpointStatus {
	r.t.Helper()
	if _, err := s.WaitLSN(r.t.Context(), "db", pageserver.ReadAt{LSN: r.source.Last(), Wait: wait}); err != nil {
		r.t.Fatal(err)
	}
	st, err := s.Checkpoint(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// checkpointed returns a rig with one checkpoint of everything, and no page server.
func checkpointed(t *testing.T, transactions int) *coldRig {
	r := newColdRig(t, transactions)
	s := r.start()
	r.compare(s, "db", 5)
	r.checkpoint(s)
	s.Stop(t)
	r.elsewhere()
	return r
}

// TestColdStartGoesOnFromTheCheckpoint: what the checkpoint holds is not asked of the log
// again, which no longer has it.
func TestColdStartGoesOnFromTheCheckpoint(t *testing.T) {
	r := checkpointed(t, 300)
	held := r.source.Last()
	r.append("db", 50)
	r.source.Trim("db", held-1)
	s := r.start()
	r.compare(s, "db", 40)
	if s.CheckpointStatus().BeganFrom == 0 {
		t.Fatal("it did not begin from the checkpoint")
	}
	if n := r.metric("store_rebuilds_total"); n != 0 {
		t.Errorf("the store was built again %v times", n)
	}
	// When all is local the bucket is not needed.
	deadline := time.Now().Add(wait)
	for s.CheckpointStatus().MissingBytes > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are missing still", s.CheckpointStatus().MissingBytes)
		}
		time.Sleep(time.Millisecond)
	}
	r.bucket.Down()
	r.compare(s, "db", 20)
	s.Stop(t)
	r.compare(r.start(), "db", 20)
}

// TestColdStartWithoutACheckpoint: an empty bucket, one that is gone and one whose every
// manifest is damaged are all the same: the pages come from the log.
func TestColdStartWithoutACheckpoint(t *testing.T) {
	for name, spoil := range map[string]func(*coldRig){
		"the bucket is gone": func(r *coldRig) { r.bucket.Down() },
		"every manifest is damaged": func(r *coldRig) {
			r.bucket.Add(bucket.Fault{Op: bucket.OpGet, Key: "*/manifest/*", Effect: bucket.WrongBytes(900)})
		},
		"every manifest is cut short": func(r *coldRig) {
			r.bucket.Add(bucket.Fault{Op: bucket.OpGet, Key: "*/manifest/*", Effect: bucket.ShortRead()})
		},
		"every table is gone": func(r *coldRig) {
			r.bucket.Add(bucket.Fault{Op: bucket.OpGet, Key: "*/table/*", Effect: bucket.Fail(bucket.ErrNotFound)})
		},
		"every table is damaged": func(r *coldRig) {
			r.bucket.Add(bucket.Fault{Op: bucket.OpGet, Key: "*/table/*", Effect: bucket.WrongBytes(4000)})
		},
		"every table is cut short": func(r *coldRig) {
			r.bucket.Add(bucket.Fault{Op: bucket.OpGet, Key: "*/table/*", Effect: bucket.ShortRead()})
		},
		"the listing shows no manifest": func(r *coldRig) {
			r.bucket.Add(bucket.Fault{Op: bucket.OpList, Effect: bucket.Effect{Hides: func(string, bool) bool { return true }}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := checkpointed(t, 120)
			spoil(r)
			s := r.start()
			r.compare(s, "db", 30)
			s.Stop(t)
			r.bucket.Up()
			r.compare(r.start(), "db", 10)
		})
	}
}

// TestDamageInTransferGoesBy: a block that arrives damaged is asked for again.
func TestDamageInTransferGoesBy(t *testing.T) {
	r := checkpointed(t, 200)
	rule := r.bucket.Add(bucket.Fault{Op: bucket.OpGet, Key: "*/table/*", Count: 2, Effect: bucket.WrongBytes(5000)})
	s := r.start()
	r.compare(s, "db", 20)
	if rule.Hits() == 0 || value(r.corruptions) != 0 {
		t.Logf("%d blocks damaged", rule.Hits())
	}
	if rule.Hits() == 0 {
		t.Error("nothing was damaged: the run is void")
	}
	if s.CheckpointStatus().BeganFrom == 0 || r.metric("store_rebuilds_total") != 0 {
		t.Error("the store was built from the log")
	}
}

// TestCheckpointOfAnotherIncarnation: what a log service had before it was restored, and has
// no more, is not served: a checkpoint that ends behind the restored log is not begun from,
// and one that seems to fit is thrown away once the log service has said who it is, at the
// start or only later.
func TestCheckpointOfAnotherIncarnation(t *testing.T) {
	for name, c := range map[string]struct{ down, more bool }{"nothing new": {}, "others in their place": {more: true}, "it does not answer": {down: true}, "it does not answer, others in their place": {down: true, more: true}} {
		t.Run(name, func(t *testing.T) {
			r := checkpointed(t, 200)
			r.source.Restore(2, r.source.Last()-20)
			if c.more {
				r.append("db", 60)
			}
			if c.down {
				r.source.SetDown(errors.New("down"))
			}
			s := r.start()
			if began := s.CheckpointStatus().BeganFrom; (began > 0) != (c.down || c.more) {
				t.Errorf("it began from checkpoint %d", began)
			}
			r.source.SetDown(nil)
			r.compare(s, "db", 40)
			if n := r.metric("incarnation_resets_total"); (n > 0) != (c.down || c.more) {
				t.Errorf("%v logs thrown away", n)
			}
			// The new incarnation has checkpoints of its own from now on.
			r.checkpoint(s)
			s.Stop(t)
			r.elsewhere()
			s = r.start()
			r.compare(s, "db", 10)
			if s.CheckpointStatus().BeganFrom == 0 || r.metric("incarnation_resets_total") != 0 {
				t.Error("it did not begin from the new incarnation's checkpoint")
			}
		})
	}
}

// TestCheckpointOfAnotherHistory: a log service that was put back from a copy keeps its
// incarnation; a checkpoint of entries that it no longer has is thrown away.
func TestCheckpointOfAnotherHistory(t *testing.T) {
	r := checkpointed(t, 200)
	r.source.Rollback(r.source.Last() - 30)
	r.append("db", 60)
	s := r.start()
	r.compare(s, "db", 40)
	if s.CheckpointStatus().BeganFrom == 0 || r.metric("incarnation_resets_total") == 0 {
		t.Error("the checkpoint was not begun from, or not thrown away: the run is void")
	}
}

// TestDamagedTableIsFetchedAgain: a table of the local store that rots is replaced by the
// checkpoint's; the log, which no longer has its beginning, is not needed.
func TestDamagedTableIsFetchedAgain(t *testing.T) {
	r := newColdRig(t, 300)
	damaged := 0
	// Pebble may merge a table with others right after the checkpoint: that one is not in it.
	for range 10 {
		s := r.start()
		r.compare(s, "db", 5)
		r.checkpoint(s)
		s.Stop(t)
		m, err := enginetest.Checkpoints(t, r.bucket).Newest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held := map[string]bool{}
		for _, table := range m.Tables {
			held[table.Name] = true
		}
		if damaged = damageTables(t, r.opts.Dir, func(name string) bool { return held[name] }); damaged > 0 {
			break
		}
	}
	if damaged == 0 {
		t.Fatal("no table of the store is in the checkpoint: the run is void")
	}
	r.source.Trim("db", r.source.Last()-1)
	s := r.start()
	r.compare(s, "db", 60)
	if n := value(r.corruptions); n == 0 {
		t.Error("no corruption counted")
	}
	if n := r.metric("store_rebuilds_total"); n != 0 || r.metric("refetched_tables_total") == 0 {
		t.Errorf("%v stores built again, %v tables fetched again", n, r.metric("refetched_tables_total"))
	}
}

// TestDamagedTableThatNoCheckpointHas: the store is built again.
func TestDamagedTableThatNoCheckpointHas(t *testing.T) {
	r := newColdRig(t, 300)
	s := r.start()
	r.compare(s, "db", 5)
	s.Stop(t)
	damageTables(t, r.opts.Dir, everyTable)
	r.compare(r.start(), "db", 60)
}

// TestADamagedTableIsNotCheckpointed: rot is found before it is stored as sound.
func TestADamagedTableIsNotCheckpointed(t *testing.T) {
	r := newColdRig(t, 200)
	s := r.start()
	r.compare(s, "db", 5)
	s.Stop(t)
	damageTables(t, r.opts.Dir, everyTable)
	s = r.start()
	deadline := time.Now().Add(wait)
	for {
		if _, err := s.Checkpoint(t.Context()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint was made after the store was built again")
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.Stop(t)
	r.elsewhere()
	s = r.start()
	r.compare(s, "db", 40)
}

func everyTable(string) bool { return true }

// damageTables flips a byte in every table of a store that is chosen, and returns their
// number.
func damageTables(t *testing.T, dir string, chosen func(name string) bool) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if !chosen(filepath.Base(name)) {
			continue
		}
		n++
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/3] ^= 4
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestTwoPageServersOfOneStore: the newer one makes the checkpoints, the older one stands
// by, and both serve.
func TestTwoPageServersOfOneStore(t *testing.T) {
	r := newColdRig(t, 150)
	a := r.start()
	r.compare(a, "db", 5)
	r.checkpoint(a)
	r.elsewhere()
	b := r.start()
	st := r.checkpoint(b)
	if st.Epoch == 0 || st.BeganFrom == 0 {
		t.Errorf("the newer one: %+v", st)
	}
	r.append("db", 20)
	_, err := a.Checkpoint(t.Context())
	if !errors.Is(err, logcore.ErrFenced) {
		t.Errorf("the older one made a checkpoint: %v", err)
	}
	if st := a.CheckpointStatus(); !st.StandingBy || st.Epoch != 0 {
		t.Errorf("the older one: %+v", st)
	}
	r.compare(a, "db", 10)
	r.compare(b, "db", 10)
	// Told to, it takes over.
	if st, err := a.Checkpoint(t.Context()); err != nil || st.StandingBy {
		t.Errorf("the older one was told to: %+v, %v", st, err)
	}
}

// TestCheckpointsNeedAPlace says what to do.
func TestCheckpointsNeedAPlace(t *testing.T) {
	s := newRig(t, 10).start()
	if _, err := s.Checkpoint(t.Context()); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "checkpoint_target") {
		t.Errorf("got %v", err)
	}
	if st := s.CheckpointStatus(); st.Where != "" {
		t.Errorf("%+v", st)
	}
}

// TestACheckpointOfDamage: were a checkpoint to hold a damaged table as sound, the page
// server does not fetch it for ever but builds the pages from the log.
func TestACheckpointOfDamage(t *testing.T) {
	r := newColdRig(t, 200)
	s := r.start()
	r.compare(s, "db", 5)
	r.checkpoint(s)
	s.Stop(t)
	damageTables(t, r.opts.Dir, everyTable)
	repo := enginetest.Checkpoints(t, r.bucket)
	good, err := repo.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, err := repo.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := checkpoint.Content{StoreVersion: good.StoreVersion, Logs: good.Logs, Dir: filepath.Join(r.opts.Dir, "store"), FS: vfs.Default}
	if _, err := h.Save(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	r.elsewhere()
	s = r.start()
	r.compare(s, "db", 60)
	if r.metric("refetched_tables_total") == 0 || r.metric("store_rebuilds_total") == 0 {
		t.Errorf("%v tables fetched again, %v stores built again: the run is void", r.metric("refetched_tables_total"), r.metric("store_rebuilds_total"))
	}
	// Its own checkpoint is sound again.
	r.checkpoint(s)
	s.Stop(t)
	r.elsewhere()
	s = r.start()
	r.compare(s, "db", 20)
	if n := r.metric("store_rebuilds_total"); n != 0 {
		t.Errorf("the next one was built again %v times", n)
	}
}

// TestDiskFullWhileFetching: on a disk that the store does not fit on, what is fetched is served without
// being kept, ingest waits, and both go on when there is room.
func TestDiskFullWhileFetching(t *testing.T) {
	r := newColdRig(t, 50)
	last := logcore.LSN(0)
	for i := range 1000 {
		page := make([]byte, 4096)
		for j := range page {
			page[j] = byte(r.rng.Uint32())
		}
		last = appendRecords(t, r.source, "db", engine.Record{Space: engine.SpaceOf(500), Op: engine.OpImage, Page: uint32(i), PageSize: 4096, Data: page})
	}
	s := r.start()
	r.compare(s, "db", 2)
	r.checkpoint(s)
	s.Stop(t)
	r.elsewhere()
	dir := smallDisk(t, "3m")
	r.opts.Dir, r.opts.DiskReserveBytes = filepath.Join(dir, "pages"), 1<<20
	r.spaces = []engine.Space{engine.SpaceOf(500)}
	s = r.start()
	r.append("db", 20)
	for range 3 {
		if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", last, r.spaces); err != nil {
			t.Fatal(err)
		}
	}
	statusOf(t, s.Server, "db", pageserver.StateDiskFull)
	if st := s.CheckpointStatus(); st.BeganFrom == 0 || st.MissingBytes == 0 {
		t.Fatalf("%+v: the run is void", st)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	r.compare(s, "db", 3)
	statusOf(t, s.Server, "db", pageserver.StateFollowing)
	for begun := time.Now(); s.CheckpointStatus().MissingBytes > 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > wait {
			t.Fatalf("%d bytes are missing still", s.CheckpointStatus().MissingBytes)
		}
	}
	r.bucket.Down()
	r.compare(s, "db", 3)
	if n := r.metric("store_rebuilds_total"); n != 0 || value(r.corruptions) != 0 {
		t.Errorf("%v rebuilds, %v corruptions", n, value(r.corruptions))
	}
	s.Stop(t)
	r.compare(r.start(), "db", 3)
}
