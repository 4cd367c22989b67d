package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/inspect"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/tiering"
)

// RepairOptions says which hot log to repair from what.
type RepairOptions struct {
	// Dir is the shard's directory; nobody may have it open. Required.
	Dir string
	// Shard is the shard it belongs to.
	Shard logcore.ShardID
	// Archive opens the archive; it is called only when something is damaged that the peers don't have. Required.
	Archive func(context.Context) (*tiering.Reader, error)
	// Peers yields the committed entries from an LSN on, up to another or, with 0, to the last there is, out of
	// another member's hot log; nil means that there are no others. They are asked before the archive.
	Peers func(ctx context.Context, from, to logcore.LSN) iter.Seq2[segment.Span, error]
	// Progress is told how many bytes of how many were checked; nil is allowed.
	Progress func(done, total int64)
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// RepairReport says what RepairHotLog found and did.
type RepairReport struct {
	Bytes    int64             // checked
	Damage   []error           // what was found, each naming its place
	Repaired []RepairedSegment // empty when nothing was damaged
}

// RepairedSegment is a segment that was written anew.
type RepairedSegment struct {
	File        string
	First, Last logcore.LSN
	// FromArchive is the last LSN that came from the archive, or from a peer; what is above came from the
	// damaged file, whose frames there are intact.
	FromArchive logcore.LSN
	FromPeer    bool
}

// RepairHotLog reads every byte of a hot log, and rewrites each segment that is damaged
// at or below its proven durable LSN: from a peer or the archive as far as that goes, and from
// the segment's own intact frames above. The new file is complete, durable and checked
// before it takes the damaged one's place; the damaged one is kept beside it under
// the suffix .corrupt.
//
// A torn tail is no damage and stays for hotlog.Open to cut. What the archive does not
// cover is never cut either: the error then wraps logcore.ErrCorrupt and names it.
func RepairHotLog(ctx context.Context, o RepairOptions) (RepairReport, error) {
	if o.Dir == "" || o.Archive == nil {
		return RepairReport{}, fmt.Errorf("%w: recovery: RepairOptions need Dir and Archive", logcore.ErrInvalid)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	check, err := inspect.Check(ctx, inspect.CheckOptions{Dir: o.Dir, LogOf: catalog.LogOf, Progress: o.Progress})
	report := RepairReport{Bytes: check.Bytes, Damage: append(check.Problems, check.Rotten...)}
	if err != nil || len(report.Damage) == 0 {
		return report, err
	}
	if len(check.Problems) == 0 {
		return report, rewriteMarks(ctx, o)
	}
	r := &repair{o: o, report: &report, damage: check.Problems}
	if err := r.run(ctx); err != nil {
		return report, fmt.Errorf("repairing the hot log %s, where %w: %w", o.Dir, errors.Join(check.Problems...), err)
	}
	if len(check.Rotten) > 0 {
		if err := rewriteMarks(ctx, o); err != nil {
			return report, err
		}
	}
	check, err = inspect.Check(ctx, inspect.CheckOptions{Dir: o.Dir, LogOf: catalog.LogOf, Progress: o.Progress})
	if err == nil && len(check.Problems) > 0 {
		err = fmt.Errorf("after the repair of %s: %w", o.Dir, errors.Join(check.Problems...))
	}
	return report, err
}

// rewriteMarks opens the log, which writes an unreadable mark again from what the other
// one says.
func rewriteMarks(ctx context.Context, o RepairOptions) error {
	l, _, err := hotlog.Open(ctx, hotlog.Options{Dir: o.Dir, Shard: o.Shard, SegmentBytes: segmentBytesFirst, LogOf: catalog.LogOf, Logger: o.Logger})
	if err != nil {
		return err
	}
	return l.Close()
}

type repair struct {
	o       RepairOptions
	report  *RepairReport
	damage  []error
	archive *tiering.Reader
}

func (r *repair) run(ctx context.Context) error {
	damaged := map[string]bool{}
	for _, p := range r.damage {
		var c *logcore.CorruptionError
		if !errors.As(p, &c) || c.Object == "" {
			return p // no damage to a segment: another version, or a disk that can't be read
		}
		damaged[c.Object] = true
	}
	lock, err := durable.Lock(r.o.Dir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	files, err := lookAt(r.o.Dir, damaged)
	if err != nil {
		return err
	}
	defer closeAll(files)
	for i := range files {
		if files[i].damaged {
			if err := r.segment(ctx, files, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// segment writes files[i] anew.
func (r *repair) segment(ctx context.Context, files []segmentFile, i int) error {
	f := files[i]
	want, err := f.extent(files, i)
	if err != nil {
		return err
	}
	spans, fromPeer, err := r.spans(ctx, want)
	if err != nil {
		return err
	}
	done := RepairedSegment{File: f.name, First: want.id.First, FromArchive: spans[len(spans)-1].Last, FromPeer: fromPeer}
	tail, err := f.intactTail(want.id, spans)
	if err != nil {
		return err
	}
	if tail.Last != 0 {
		spans = append(spans, tail)
	}
	done.Last = spans[len(spans)-1].Last
	if done.Last < want.proven {
		return &logcore.CorruptionError{Place: r.o.Dir, Object: f.name, Offset: -1, LSN: done.Last + 1, Reason: fmt.Sprintf(
			"LSN %d is proven durable, the archive reaches to LSN %d and the file is damaged above it: nothing holds these entries any more", want.proven, done.FromArchive)}
	}
	if err := replaceSegment(ctx, r.o, f, want, spans); err != nil {
		return err
	}
	r.report.Repaired = append(r.report.Repaired, done)
	r.o.Logger.Warn("recovery: hot log segment was corrupt; written anew", "file", filepath.Join(r.o.Dir, f.name),
		"first", done.First, "last", done.Last, "from_archive_to", done.FromArchive, "from_peer", done.FromPeer)
	return nil
}

// spans returns those of the wanted segment, from a peer or else the archive, and whether a peer had them.
func (r *repair) spans(ctx context.Context, want extent) (spans []segment.Span, fromPeer bool, err error) {
	if r.o.Peers != nil {
		if spans, err = r.fromPeers(ctx, want); err == nil {
			return spans, true, nil
		}
		r.o.Logger.Warn("recovery: no peer has the damaged segment; the archive is asked", "first", want.id.First, "err", err)
	}
	if r.archive == nil {
		var archiveErr error
		if r.archive, archiveErr = r.o.Archive(ctx); archiveErr != nil {
			return nil, false, errors.Join(err, fmt.Errorf("opening the archive: %w", archiveErr))
		}
	}
	spans, err = r.fromArchive(ctx, want)
	return spans, false, err
}

// fromPeers returns the spans of the wanted segment that another member holds, from its first entry on.
func (r *repair) fromPeers(ctx context.Context, want extent) (spans []segment.Span, err error) {
	for s, err := range r.o.Peers(ctx, want.id.First, want.last) {
		if err != nil {
			return nil, err
		}
		if s.ID != want.id {
			break
		}
		spans = append(spans, s)
	}
	if len(spans) == 0 || spans[0].First != want.id.First {
		return nil, fmt.Errorf("%w: it does not hold the segment that begins at LSN %d", logcore.ErrCorrupt, want.id.First)
	}
	return spans, nil
}

// fromArchive returns the spans of the wanted segment that the archive holds, from its
// first entry on.
func (r *repair) fromArchive(ctx context.Context, want extent) ([]segment.Span, error) {
	to := r.archive.Covered()
	if want.last != 0 {
		to = min(to, want.last)
	}
	var spans []segment.Span
	if to >= want.id.First {
		for s, err := range r.archive.Spans(ctx, want.id.First, to) {
			if err != nil {
				return nil, err
			}
			if s.SegmentFirst != want.id.First {
				break
			}
			spans = append(spans, ToHotLog(s))
		}
	}
	if len(spans) == 0 || spans[0].First != want.id.First {
		return nil, fmt.Errorf("%w: the archive, which reaches from LSN %d to %d, does not hold the segment that begins at LSN %d",
			logcore.ErrCorrupt, r.archive.First(), r.archive.Covered(), want.id.First)
	}
	return spans, nil
}

// intactTail returns the damaged file's own frames above those of the archive's spans, as
// far as they are intact and continue them; a span with Last 0 when there are none.
func (f segmentFile) intactTail(id segment.ID, spans []segment.Span) (segment.Span, error) {
	last := spans[len(spans)-1]
	if last.Sealed {
		return segment.Span{}, nil
	}
	at := int64(segment.FramesOffset)
	for _, s := range spans {
		at += int64(len(s.Frames))
	}
	frames := segment.NewReader(f.file, id, segment.Point{LSN: last.Last + 1, Offset: at, Prev: last.Sum}, f.size)
	tail := segment.Span{ID: id, First: last.Last + 1, Prev: last.Sum}
	for !tail.Sealed {
		e, sum, err := frames.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, logcore.ErrCorrupt) {
			break // the caller knows how far it must reach
		}
		if err != nil {
			return segment.Span{}, err
		}
		if tail.FirstTime == 0 {
			tail.FirstTime = e.Time
		}
		tail.LastTime = max(tail.LastTime, e.Time)
		tail.Last, tail.Sum, tail.Sealed = e.LSN, sum, e.Kind == logcore.KindSeal
	}
	if tail.Last == 0 {
		return tail, nil
	}
	tail.Frames = make([]byte, frames.Offset()-at)
	_, err := f.file.ReadAt(tail.Frames, at)
	return tail, err
}
