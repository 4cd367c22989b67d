package archived_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/archived"
	"github.com/logcore/logcore/tiering"
)

// world is a real service with two shards, and its archive.
type world struct {
	t       *testing.T
	dir     roles.DevDir
	c       *client.Client
	keys    tiering.KeyProvider
	targets *roles.Targets

	mu      sync.Mutex
	readers []*tiering.Reader // guarded by mu
}

func newWorld(t *testing.T, ctx context.Context) *world {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	dir, err := roles.PrepareDevDir(ctx, filepath.Join(t.TempDir(), "lc"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.DefaultLogService()
	cfg.SegmentBytes, cfg.DiskReserveBytes, cfg.Shards, cfg.ArchiveMaxAge = 1<<20, 1<<20, 2, 100*time.Millisecond
	r, err := roles.StartDev(ctx, roles.DevOptions{Dir: dir, Listen: "127.0.0.1:0", Config: *cfg, Version: "test", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	if w.c, err = client.Dial(ctx, client.Options{Addr: r.Addr(), Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.c.Close() })
	if w.keys, err = tiering.LoadKeyFile(dir.Key); err != nil {
		t.Fatal(err)
	}
	if w.targets, err = roles.OpenTargets(ctx, dir.Targets, quiet); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.targets.Close() })
	return w
}

func (w *world) archive() *archived.Archive {
	w.t.Helper()
	a, err := archived.New(archived.Options{RefreshEvery: time.Millisecond, Open: func(ctx context.Context, shard logcore.ShardID) (*tiering.Reader, error) {
		r, err := tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: w.targets.All, Keys: w.keys, Shard: shard, ReadAheadBytes: 16 << 20})
		w.mu.Lock()
		defer w.mu.Unlock()
		w.readers = append(w.readers, r)
		return r, err
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { a.Close() })
	return a
}

// objects is how many objects were read of the archive.
func (w *world) objects() (n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.readers {
		n += r.Stats().Objects
	}
	return n
}

func (w *world) append(ctx context.Context, log string, entries int) {
	w.t.Helper()
	writer, err := w.c.OpenWriter(ctx, log, client.WriterOptions{Create: true, Takeover: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer writer.Close(ctx)
	for i := range entries {
		if _, err := writer.AppendTx(ctx, logcore.TxID{}, [][]byte{bytes.Repeat(fmt.Appendf(nil, "%s %d;", log, i), 300)}, nil); err != nil {
			w.t.Fatal(err)
		}
	}
}

// hold compares what the archive has of a log with what the log service has.
func (w *world) hold(ctx context.Context, a *archived.Archive, info pageserver.LogInfo, from logcore.LSN) error {
	var want []client.LogEntry
	for b, err := range w.c.Read(ctx, info.Name, client.ReadOptions{From: max(from, info.BranchLSN+1), To: info.Last}) {
		if err != nil {
			return err
		}
		for _, e := range b.Entries {
			e.Payload = bytes.Clone(e.Payload)
			want = append(want, e)
		}
	}
	n, through := 0, from-1
	for b, err := range a.Read(ctx, info, from) {
		if err != nil {
			return err
		}
		if b.Through <= through {
			return fmt.Errorf("through LSN %d after %d", b.Through, through)
		}
		for _, e := range b.Entries {
			if n >= len(want) {
				return fmt.Errorf("%s: an entry at LSN %d that the log service does not have", info.Name, e.LSN)
			}
			x := want[n]
			if e.LSN != x.LSN || e.Time != x.Time || e.Kind != x.Kind || e.Tx != x.Tx || e.Epoch != x.Epoch || e.Sequence != x.Sequence || !bytes.Equal(e.Payload, x.Payload) {
				return fmt.Errorf("%s: entry %d at LSN %d, want LSN %d", info.Name, n, e.LSN, x.LSN)
			}
			n++
		}
		through = b.Through
	}
	if n != len(want) || through < info.Last {
		return fmt.Errorf("%s: %d of %d entries, through LSN %d of %d", info.Name, n, len(want), through, info.Last)
	}
	return nil
}

// TestArchiveHoldsTheLogs: of logs in two shards, branches and one that has moved, the archive gives the very
// entries that the log service does; many readers at once share what is read.
func TestArchiveHoldsTheLogs(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	w := newWorld(t, ctx)
	const logs = 12
	for i := range logs {
		w.append(ctx, fmt.Sprintf("log%d", i), 60)
	}
	first, err := w.c.Info(ctx, "log0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.CreateLog(ctx, "branch", "log0", first.LastLSN/2); err != nil {
		t.Fatal(err)
	}
	w.append(ctx, "branch", 20)
	if _, err := w.c.MoveLog(ctx, "log0", 1-first.Shard); err != nil {
		t.Fatal(err)
	}
	w.append(ctx, "log0", 60)
	w.append(ctx, "branch", 20)
	for _, log := range []string{"log0", "branch", "log1", "log2", "log3"} { // in both shards
		if _, err := w.c.Flush(ctx, log); err != nil {
			t.Fatal(err)
		}
	}
	a := w.archive()
	infos, err := a.Logs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	moved, before := false, w.objects()
	failed := make(chan error, len(infos))
	for _, info := range infos {
		live, err := w.c.Info(ctx, info.Name)
		if err != nil || live.ID != info.ID || live.Incarnation != info.Incarnation || live.LastLSN != info.Last || live.Bytes != info.Bytes || live.BranchLSN != info.BranchLSN || live.ParentID != info.Parent {
			t.Errorf("%+v, the log service says %+v, %v", info, live, err)
		}
		moved = moved || len(live.Extents) > 0
		go func() { failed <- w.hold(ctx, a, info, info.BranchLSN+1) }()
	}
	for range infos {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if len(infos) != logs+1 || !moved {
		t.Errorf("%d logs, moved: %v", len(infos), moved)
	}
	extent := int64(0)
	for _, r := range w.readers {
		extent += int64(r.Extent(r.Covered(), 0).Objects)
	}
	// Each reader by itself would read most objects of its shard.
	if read := w.objects() - before; read > 4*extent || extent < 2 {
		t.Errorf("%d objects read of %d, by %d readers", read, extent, len(infos))
	} else {
		t.Logf("%d objects read of %d, by %d readers", read, extent, len(infos))
	}
	// From the middle, and what was archived later.
	w.append(ctx, "log3", 40)
	if _, err := w.c.Flush(ctx, "log3"); err != nil {
		t.Fatal(err)
	}
	if infos, err = a.Logs(ctx); err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if err := w.hold(ctx, a, info, max(info.BranchLSN, info.Last/2)+1); err != nil {
			t.Error(err)
		}
		info.Incarnation++
		for _, err := range a.Read(ctx, info, info.BranchLSN+1) {
			if !errors.Is(err, logcore.ErrFenced) {
				t.Errorf("of another incarnation: %v", err)
			}
		}
	}
	if err := a.Check(ctx); err != nil || len(a.Unreachable()) > 0 {
		t.Errorf("%v, %v", err, a.Unreachable())
	}
	none := pageserver.LogInfo{ID: 1 << 30, Name: "none", Incarnation: infos[0].Incarnation}
	for _, err := range a.Read(ctx, none, 1) {
		if !errors.Is(err, logcore.ErrLogNotFound) {
			t.Errorf("of no log: %v", err)
		}
	}
	// Truncated: its beginning can't be had from here either.
	last := infos[len(infos)-1]
	for _, info := range infos {
		if info.Name == "log3" {
			last = info
		}
	}
	if _, err := w.c.Truncate(ctx, "log3", last.Last); err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.Flush(ctx, "log3"); err != nil {
		t.Fatal(err)
	}
	for _, err := range a.Read(ctx, last, 1) {
		if !errors.Is(err, logcore.ErrTrimmed) {
			t.Errorf("of what was truncated: %v", err)
		}
	}
}
