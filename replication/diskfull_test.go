package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

// noRoom, as the reserve, is more than any device has: no segment is allocated any more.
const noRoom = 1 << 60

// smallDisk mounts a file system of so many bytes. It needs root.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small disk (this test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// politeAppend appends as the service does: not when the disk is said to be full.
func politeAppend(ctx context.Context, g *Group, id logcore.LogID, body []byte) (place catalog.Place, err error) {
	err = g.Do(ctx, len(body), func(p *Proposer) error {
		if err := p.DiskFull(); err != nil {
			return err
		}
		l, err := p.Catalog().ByID(id)
		if err != nil {
			return err
		}
		place = p.Propose(dataDraft(id, l.Epoch, l.Sequence+1, body))
		return nil
	})
	return place, err
}

// fill appends until the disk is full, and returns the last acknowledged LSN. Any other
// end is an error: nobody may be left waiting.
func fill(t *testing.T, g *Group, id logcore.LogID, bodyBytes int) (last logcore.LSN) {
	t.Helper()
	ctx := testContext(t)
	for {
		place, err := politeAppend(ctx, g, id, make([]byte, bodyBytes))
		if errors.Is(err, logcore.ErrDiskFull) {
			if err := g.Err(); err != nil {
				t.Fatalf("a full disk ended the group: %v", err)
			}
			return last
		}
		if err != nil {
			t.Fatalf("after LSN %d: %v, want ErrDiskFull", last, err)
		}
		last = place.LSN
	}
}

// becomesLeader waits until the group takes requests.
func becomesLeader(t *testing.T, g *Group) {
	t.Helper()
	ctx := testContext(t)
	for {
		changed := g.Changed()
		if g.Status().Leading {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("it didn't heal: %+v", g.Status())
		}
	}
}

// TestDiskFull (F12): with no room for another segment, appends are refused and nobody
// is left waiting; reads go on, also after restarts; and once something was trimmed it all goes
// on without one.
func TestDiskFull(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	for len(g.HotLog().Segments()) < 4 {
		if _, err := appendOne(g, ctx, id, make([]byte, 32<<10)); err != nil {
			t.Fatal(err)
		}
	}
	g.Close()
	opts.Log.DiskReserveBytes = noRoom
	for range 3 {
		g = openGroup(t, opts)
		fill(t, g, id, 32<<10)
		segments := g.HotLog().Segments()
		if segments[len(segments)-1].Sealed {
			t.Fatal("the last segment was sealed with no room for another one")
		}
		if _, err := g.HotLog().Entries(g.Committed(), g.Committed()+1, 0); err != nil {
			t.Fatalf("read from a full log: %v", err)
		}
		// What frees something goes on.
		if err := g.Do(ctx, 100, func(p *Proposer) error {
			l, err := p.Catalog().ByID(id)
			if err != nil {
				return err
			}
			_, err = p.Command(catalog.Command{Op: catalog.OpTruncate, Log: id, LSN: l.FirstLSN() + 1})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		g.Close()
	}
	g = openGroup(t, opts)
	trim(t, g)
	if _, err := politeAppend(ctx, g, id, []byte("goes on")); err != nil {
		t.Fatal(err)
	}
	fill(t, g, id, 32<<10)
	g.Close()
	opts.Log.DiskReserveBytes = 0
	g = openGroup(t, opts)
	if _, err := politeAppend(ctx, g, id, []byte("goes on")); err != nil {
		t.Fatal(err)
	}
}

// trim does what the service's trimmer does under pressure, all of it archived.
func trim(t *testing.T, g *Group) {
	t.Helper()
	upTo := logcore.LSN(0)
	for _, s := range g.HotLog().Segments() {
		if s.Sealed && s.Last < g.Checkpoint() {
			upTo = s.Last
		}
	}
	if upTo == 0 {
		t.Fatalf("nothing can be trimmed: checkpoint at LSN %d, segments %+v", g.Checkpoint(), g.HotLog().Segments())
	}
	if err := g.HotLog().TrimHead(upTo); err != nil {
		t.Fatal(err)
	}
}

// sealTail seals segments until there is no room for another one.
func sealTail(t *testing.T, opts Options) (last logcore.Entry) {
	t.Helper()
	ctx := testContext(t)
	hotOpts := opts.withDefaults().Log
	hotOpts.LogOf = catalog.LogOf
	hot, _, err := hotlog.Open(ctx, hotOpts)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		tail, terr := hot.Entries(hot.Last(), hot.Last()+1, 0)
		if terr != nil {
			t.Fatal(terr)
		}
		last = tail[0]
		err = hot.Append(ctx, []logcore.Entry{{LSN: hot.Last() + 1, Term: last.Term, Kind: logcore.KindSeal, Time: last.Time + 1}})
	}
	if !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatal(err)
	}
	if err := hot.Close(); err != nil {
		t.Fatal(err)
	}
	return last
}

// TestSealedTailWithoutRoom: the last segment is sealed and there is no room for
// another: not even a new leader's first entry can be written. The group opens all the same,
// serves what there is to readers and the archiver, refuses requests with the reason, and goes on
// once something was trimmed.
func TestSealedTailWithoutRoom(t *testing.T) {
	ctx := testContext(t)
	opts := testOptions(t.TempDir())
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	last := logcore.LSN(0)
	for len(g.HotLog().Segments()) < 3 {
		place, err := appendOne(g, ctx, id, make([]byte, 32<<10))
		if err != nil {
			t.Fatal(err)
		}
		last = place.LSN
	}
	g.Close()
	opts.Log.DiskReserveBytes = noRoom
	sealTail(t, opts)
	for range 2 {
		g = openGroup(t, opts)
		if s := g.Status(); s.Leading || !errors.Is(s.Stalled, logcore.ErrDiskFull) || s.Err != nil || s.Committed < last {
			t.Fatalf("status %+v", s)
		}
		if _, err := politeAppend(ctx, g, id, nil); !errors.Is(err, logcore.ErrDiskFull) {
			t.Fatalf("append: %v", err)
		}
		g.View(func(s *catalog.State) {
			if l, err := s.ByID(id); err != nil || l.LastLSN != last {
				t.Fatalf("catalog %+v, %v", l, err)
			}
		})
		if len(readAll(t, g)) == 0 {
			t.Fatal("nothing to read")
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	g = openGroup(t, opts)
	trim(t, g)
	becomesLeader(t, g)
	if _, err := politeAppend(ctx, g, id, []byte("goes on")); err != nil {
		t.Fatal(err)
	}
	if s := g.Status(); s.Stalled != nil {
		t.Fatalf("status %+v", s)
	}
}

// TestUnannouncedWithoutRoom: a restored shard may not be served under the incarnation it
// had before, nor a new one under none: opening fails, with the reason.
func TestUnannouncedWithoutRoom(t *testing.T) {
	opts := testOptions(t.TempDir())
	opts.Log.DiskReserveBytes = noRoom
	if _, err := Open(testContext(t), opts); !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("open of a new shard: %v", err)
	}
	opts.Log.DiskReserveBytes = 0
	openGroup(t, opts).Close()
	opts.Log.DiskReserveBytes = noRoom
	last := sealTail(t, opts)
	if err := os.Remove(statePath(opts.Log.Dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := InitRestored(opts, last); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	opts = opts.withDefaults()
	hot, report, err := hotlog.Open(ctx, opts.Log)
	if err != nil {
		t.Fatal(err)
	}
	g, err := open(ctx, opts, hot, report)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for changed := g.Changed(); g.Status().Stalled == nil; changed = g.Changed() {
		<-changed
	}
	cancel()
	if err := g.waitReady(ctx); !errors.Is(err, logcore.ErrDiskFull) {
		t.Fatalf("open of a restored shard: %v, want ErrDiskFull", err)
	}
}

// TestSmallDisk fills a real device: the last append is refused and not left waiting, the
// shard restarts, and takes appends again after a trim.
func TestSmallDisk(t *testing.T) {
	for _, bodyBytes := range []int{100, 50 << 10, 300 << 10} {
		ctx := testContext(t)
		opts := testOptions(filepath.Join(smallDisk(t, "12m"), "shard"))
		g := openGroup(t, opts)
		id := createLog(t, g, "a")
		last := fill(t, g, id, bodyBytes)
		for range 3 {
			g.Close()
			g = openGroup(t, opts)
			if g.Committed() < last {
				t.Fatalf("committed %d, acknowledged %d", g.Committed(), last)
			}
			fill(t, g, id, bodyBytes)
		}
		checkLog(t, g)
		trim(t, g)
		becomesLeader(t, g)
		if _, err := politeAppend(ctx, g, id, []byte("goes on")); err != nil {
			t.Fatal(err)
		}
		g.Close()
	}
}

// TestNoByteFree: something else eats what was left free for the shard. It is never poisoned
// by that, restarts, and heals when the room is back.
func TestNoByteFree(t *testing.T) {
	ctx := testContext(t)
	disk := smallDisk(t, "8m")
	opts := testOptions(filepath.Join(disk, "shard"))
	g := openGroup(t, opts)
	id := createLog(t, g, "a")
	if _, err := politeAppend(ctx, g, id, []byte("first")); err != nil {
		t.Fatal(err)
	}
	eat := func() {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(disk, "filler"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	eat()
	last := fill(t, g, id, 50<<10)
	for range 3 {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		eat()
		g = openGroup(t, opts)
		if g.Committed() < last {
			t.Fatalf("committed %d, acknowledged %d", g.Committed(), last)
		}
		fill(t, g, id, 50<<10)
	}
	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	becomesLeader(t, g)
	if _, err := politeAppend(ctx, g, id, []byte("goes on")); err != nil {
		t.Fatal(err)
	}
	checkLog(t, g)
}
