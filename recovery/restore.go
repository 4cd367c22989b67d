package recovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/importer"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/tiering"
)

// stageDir is where a restore works; it becomes the service's directory at the end.
const stageDir = ".restoring"

// segmentBytesFirst is what is allocated for a segment at first; a file grows to what its
// entries need, whatever the service's own segment size is.
const segmentBytesFirst = 16 << 20

// ErrNotEmpty: the directory to restore to holds a service already.
var ErrNotEmpty = errors.New("recovery: the directory is not empty")

// Restore rebuilds the hot logs of all shards from the archive's targets into a
// directory. How many there are the catalog of shard 0 says. The frames are the archived ones, byte for byte, checked three times: as
// fragments, as a chain of entries that folds to a valid catalog, and as files read
// back from the disk.
//
// Nothing is visible in Options.To before it is complete and durable. A restore that was
// killed, or failed, leaves a work directory with the objects that it had fetched; the next
// one goes on with those and fetches the others only. That takes as much disk as the
// archive, until the service appears.
//
// It never hangs: a target that does not answer is left out, and when too few fragments of
// anything are left it says so before it fetches a single one.
//
// The restored history ends with a whole entry. A transaction whose COMMIT lies
// beyond the point in time is invisible to every reader; the report names it.
func Restore(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Report{}, err
	}
	r := &restore{o: o, only: o.Log, report: Report{To: o.To, Unreachable: []string{}, NotGiven: []string{}, Lost: []Loss{}}, clock: time.Now()}
	err := r.run(ctx)
	return r.report, err
}

type restore struct {
	o      Options
	report Report
	clock  time.Time // when the current step began
	reader *tiering.Reader
	replay *replay
	stage  string
	spool  spool
	only   string         // the log that the report is limited to
	others []*restore     // of the other shards
	extent tiering.Extent // what is to be read

	seen    uint64   // the highest epoch in the archive
	empty   bool     // nothing of the shard was archived
	lacking []string // the targets without a good fragment of the object that was lost last
}

func (r *restore) run(ctx context.Context) error {
	lock, err := r.openStage()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	for _, do := range []func(context.Context) error{r.openArchive, r.survey, r.rebuild, r.verify, r.otherShards} {
		if err := do(ctx); err != nil {
			return errors.Join(err, r.leaveStage())
		}
	}
	return r.publish()
}

// step closes the current step under its name.
func (r *restore) step(name string) {
	now := time.Now()
	r.report.Steps = append(r.report.Steps, Step{Name: name, Seconds: now.Sub(r.clock).Seconds()})
	r.clock = now
}

func (r *restore) openArchive(ctx context.Context) error {
	r.o.Progress(Progress{Step: "manifest"})
	reader, err := tiering.OpenReader(ctx, tiering.ReaderOptions{Targets: reachable(ctx, r.o.Targets, r.o.AnswerWithin), Keys: r.o.Keys,
		Cluster: r.o.Cluster, Shard: r.o.Shard, OpTimeout: r.o.OpTimeout, ReadAheadBytes: r.o.MemoryMax, Cache: r.spool, Logger: r.o.Logger})
	if errors.Is(err, tiering.ErrNoArchive) && r.o.Shard != 0 {
		return r.nothingArchived(ctx)
	}
	if err != nil {
		return fmt.Errorf("reading the manifest: %w", err)
	}
	r.reader, r.seen = reader, reader.Epoch()
	cluster := reader.Cluster()
	r.report.Cluster = fmt.Sprintf("%x", cluster[:])
	for _, name := range reader.Targets() {
		if !slices.ContainsFunc(r.o.Targets, func(t tiering.Target) bool { return t.Name == name }) {
			r.report.NotGiven = append(r.report.NotGiven, name)
		}
	}
	r.report.ArchiveFirstLSN = reader.First()
	r.report.ArchivedLSN, r.report.ArchivedTime = reader.Covered(), wall(reader.CoveredTime())
	if err := r.oneShard(ctx); err != nil {
		return err
	}
	switch {
	case reader.Covered() == 0:
		return fmt.Errorf("%w: the manifest lists no entries", tiering.ErrNoArchive)
	case r.o.LSN > reader.Covered():
		return fmt.Errorf("the archive of cluster %s: %w", r.report.Cluster, &logcore.LagError{Asked: r.o.LSN, Available: reader.Covered()})
	case r.o.LSN != 0 && r.o.LSN < reader.First():
		return fmt.Errorf("%w: LSN %d, the archive begins at %d", logcore.ErrTrimmed, r.o.LSN, reader.First())
	}
	r.step("manifest")
	return nil
}

func (r *restore) point() point {
	p := point{lsn: r.o.LSN}
	if !r.o.Time.IsZero() {
		p.at = logcore.HLCAt(r.o.Time.Add(time.Millisecond)) - 1
	}
	return p
}

// survey ends the restore at once when fragments are missing that it can't do without, and
// names all of them.
func (r *restore) survey(ctx context.Context) error {
	p := r.point()
	r.extent = r.reader.Extent(r.end(), p.at)
	r.o.Progress(Progress{Step: "survey", Last: r.extent.Last, Total: r.extent.RawBytes})
	short, err := r.reader.Survey(ctx, r.end(), p.at)
	if err != nil {
		return fmt.Errorf("surveying the archive: %w", err)
	}
	if len(short) > 0 {
		r.report.Unreachable = r.reader.Unreachable()
		for _, s := range short {
			r.lose(s)
		}
		return fmt.Errorf("nothing was fetched: %w", short[0])
	}
	r.step("survey")
	return nil
}

// rebuild writes the hot log. What the archive can't give back ends the restore with
// an error that names it, and the report's Lost.
func (r *restore) rebuild(ctx context.Context) error {
	r.replay = newReplay()
	passed := func() {
		r.o.Progress(Progress{Step: "rebuild", LSN: r.replay.last.LSN, Last: r.extent.Last, Bytes: r.replay.frames, Total: r.extent.RawBytes})
	}
	spans := r.replay.through(r.spans(ctx), r.point(), passed)
	err := importer.Import(ctx, r.hotlogOptions(), spans)
	if err != nil {
		r.noteLoss(ctx, err)
	}
	stats := r.reader.Stats()
	r.report.ObjectsRead, r.report.BytesRead, r.report.FragmentsRebuilt = int(stats.Objects), stats.Bytes, int(stats.Rebuilt)
	r.report.ObjectsResumed, r.report.BytesResumed = int(stats.CachedObjects), stats.CachedBytes
	r.report.Unreachable = r.reader.Unreachable()
	if err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	// The entries of the first leader have no time yet: they alone are nothing, but for a shard that got its first log later.
	if r.replay.entries == 0 || !r.o.Time.IsZero() && r.replay.last.Time == 0 && r.o.Shard == 0 {
		return fmt.Errorf("%w: the archive has no entry at or before the point in time; it begins at LSN %d", logcore.ErrTrimmed, r.reader.First())
	}
	only := r.only
	if r.sharded() {
		only = "" // it may be in another shard
	}
	if err := r.replay.report(&r.report, r.o.Shard, only); err != nil {
		return err
	}
	r.report.Lost = append(r.report.Lost, lostBeginning(r.replay.state.Logs(), r.reader.First())...)
	r.report.Fork = r.report.LastLSN < r.report.ArchivedLSN
	r.step("rebuild")
	return nil
}

// end is the last LSN that the restore may reach.
func (r *restore) end() logcore.LSN {
	if r.o.LSN != 0 {
		return r.o.LSN
	}
	return r.reader.Covered()
}

func (r *restore) spans(ctx context.Context) iter.Seq2[segment.Span, error] {
	return func(yield func(segment.Span, error) bool) {
		for s, err := range r.reader.Spans(ctx, r.reader.First(), r.end()) {
			if !yield(ToHotLog(s), err) || err != nil {
				return
			}
		}
	}
}

// ToHotLog is an archived span as the hot log knows it.
func ToHotLog(s tiering.Span) segment.Span {
	return segment.Span{ID: segment.ID{Shard: s.Shard, First: s.SegmentFirst}, First: s.First, Last: s.Last,
		FirstTime: s.FirstTime, LastTime: s.LastTime, Prev: s.Prev, Sum: s.Sum, Sealed: s.Sealed, Frames: s.Frames}
}

// ToArchive is a span of the hot log as the archive knows it.
func ToArchive(s segment.Span) tiering.Span {
	return tiering.Span{Shard: s.ID.Shard, SegmentFirst: s.ID.First, First: s.First, Last: s.Last,
		FirstTime: s.FirstTime, LastTime: s.LastTime, Prev: s.Prev, Sum: s.Sum, Sealed: s.Sealed, Frames: s.Frames}
}

func (r *restore) hotlogOptions() hotlog.Options {
	return hotlog.Options{Dir: ShardDir(r.stage, r.o.Shard), Shard: r.o.Shard, SegmentBytes: segmentBytesFirst, LogOf: catalog.LogOf, Logger: r.o.Logger}
}

// verify reads back from the disk what was written, every byte.
func (r *restore) verify(ctx context.Context) error {
	progress := func(done, total int64) {
		r.o.Progress(Progress{Step: "verify", LSN: r.replay.last.LSN, Last: r.replay.last.LSN, Bytes: done, Total: total})
	}
	check, err := inspect.Check(ctx, inspect.CheckOptions{Dir: ShardDir(r.stage, r.o.Shard), LogOf: catalog.LogOf, Progress: progress})
	if err == nil && len(check.Problems) > 0 {
		err = errors.Join(check.Problems...)
	}
	if err == nil && (check.Last != r.replay.last.LSN || check.Entries != r.replay.entries) {
		err = fmt.Errorf("%w: the files hold %d entries to LSN %d, want %d to %d", logcore.ErrCorrupt, check.Entries, check.Last, r.replay.entries, r.replay.last.LSN)
	}
	if err != nil {
		return fmt.Errorf("verifying what was restored: %w", err)
	}
	r.report.Segments = check.Segments
	r.step("verify")
	return nil
}
