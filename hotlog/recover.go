package hotlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// RecoveryReport says what Open found and did.
type RecoveryReport struct {
	Created        bool        // there was no log
	Segments       int         // live segments found
	First, Last    logcore.LSN // what the log holds now; Last = First-1 when empty
	Proven         logcore.LSN // what the marks proved durable; the entries up to Last were found intact behind it
	Clean          bool        // it had been closed in good order
	Torn           bool        // a write that was under way, never acknowledged, was cut
	ZeroedBytes    int64       // behind Last, where torn writes can have been
	RewrittenBytes int64       // intact but unproven, written and synced again
	FootersRebuilt int         // bad footers, to be made anew from intact frames
	MarksTorn      int         // unreadable mark slots
	ScannedBytes   int64       // frames checked
	Took           time.Duration
}

// recover brings the directory into the state the committer works from.
func (l *Log) recover(ctx context.Context, mode openMode) (report RecoveryReport, err error) {
	began := time.Now()
	c, err := segdir.Load(l.dir)
	adopted := false
	defer func() {
		if !adopted {
			c.CloseFiles()
		}
	}()
	if err != nil {
		return report, err
	}
	if c.Importing != mode.importing || mode.importing && len(c.Live) > 0 {
		return report, fmt.Errorf("%w: hotlog: an import into %s did not finish: remove the directory and import again", logcore.ErrInvalid, l.dir.Path())
	}
	l.nextSlot = c.SlotMax
	for _, name := range c.Tmp {
		if err := l.dir.Remove(name); err != nil {
			return report, fmt.Errorf("hotlog: %w", err)
		}
	}
	report.Segments, report.Created = len(c.Live), len(c.Live) == 0
	segs, err := l.recoverSegments(ctx, &c, &report)
	if err != nil {
		return report, err
	}
	adopted = true
	l.view.Store(&segs)
	if err := l.adoptFree(c.Free); err != nil {
		return report, err
	}
	if err := l.openTail(segs, mode); err != nil {
		return report, err
	}
	report.First, report.Last = l.First(), l.last
	report.Took = time.Since(began)
	return report, nil
}

// recoverSegments reads all live segments and repairs what a crash left.
func (l *Log) recoverSegments(ctx context.Context, c *segdir.Contents, report *RecoveryReport) ([]*segfile, error) {
	for _, x := range c.Live {
		if shard := x.Identity.Header.ID.Shard; shard != l.opts.Shard {
			return nil, fmt.Errorf("%w: hotlog: %s holds shard %d, not %d", logcore.ErrInvalid, l.dir.Path(), shard, l.opts.Shard)
		}
	}
	found, errs := l.readSegments(ctx, c)
	var segs []*segfile
	for i, x := range c.Live {
		r, err := found[i], errs[i]
		if err == nil {
			err = c.Follows(i, r)
		}
		if err != nil {
			return nil, err
		}
		s := &segfile{header: r.Header, name: x.Name, f: x.File, mark: r.Mark, sum: r.Summary, sealed: r.Sealed, finished: r.Finished && !r.TornMark,
			committed: committed{last: r.Last, end: r.End, sum: r.Sum, sealed: r.Sealed}}
		report.note(r)
		if err := l.repair(s, r, i == len(c.Live)-1, report); err != nil {
			return nil, fmt.Errorf("hotlog: repair %s/%s: %w", l.dir.Path(), x.Name, err)
		}
		segs = append(segs, s)
	}
	return segs, nil
}

// readSegments reads what must be read of each segment: the footers of the finished
// ones, all frames of the others; as many at a time as there are processors.
func (l *Log) readSegments(ctx context.Context, c *segdir.Contents) ([]segment.Recovered, []error) {
	found, errs := make([]segment.Recovered, len(c.Live)), make([]error, len(c.Live))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(c.Live)) {
		readers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(c.Live); i = int(next.Add(1)) - 1 {
				if errs[i] = ctx.Err(); errs[i] == nil {
					found[i], errs[i] = c.Recover(i, segment.RecoverOptions{})
				}
			}
		})
	}
	readers.Wait()
	return found, errs
}

// note adds one segment to the report.
func (r *RecoveryReport) note(s segment.Recovered) {
	r.Proven, r.Clean = s.Mark.LSN, s.Mark.Clean && s.Mark.LSN == s.Last
	r.Torn = s.Torn
	if s.TornMark {
		r.MarksTorn++
	}
	if s.Scanned {
		r.ScannedBytes += s.End - segment.FramesOffset
	}
}

// repair makes the newest segment ready to be written.
//
// Whatever is intact but not proven is written and synced again before anyone may
// rely on it: after a failed sync the page cache may show bytes that the disk has
// not got, and would go on to call them clean. Behind the last entry everything
// that the torn writes can have reached becomes zero, or the entries to come could
// be followed by frames that were given up.
func (l *Log) repair(s *segfile, r segment.Recovered, newest bool, report *RecoveryReport) error {
	end := r.End
	if r.FooterError != nil {
		report.FootersRebuilt++
		l.opts.Corruptions.Inc()
		l.log.Warn("hot log: footer is corrupt; it is made anew from its intact frames", "dir", l.dir.Path(), "segment", s.name, "err", r.FooterError)
	}
	if !newest || s.finished {
		return nil // the housekeeper finishes what is not
	}
	if !report.Clean {
		if _, err := s.f.WriteAt(s.header.Append(nil), 0); err != nil {
			return err
		}
		if err := s.f.Sync(); err != nil {
			return err
		}
		// The cache may show a mark that the disk has not got, and the one that it has
		// instead may speak of what is zeroed below.
		m := s.mark
		m.Seq, m.Clean = m.Seq+1, false
		if err := s.writeMark(m); err != nil {
			return err
		}
		if err := rewrite(s.f, s.mark.End, r.End); err != nil {
			return err
		}
		if err := zero(s.f, end, s.mark.Reach); err != nil {
			return err
		}
		report.RewrittenBytes = r.End - s.mark.End
		report.ZeroedBytes = max(min(s.mark.Reach, s.f.Size())-end, 0)
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	return s.writeMark(s.next(s.committed, end+l.opts.reachAheadBytes()))
}

// rewrite writes [from, to) of a file over itself, without syncing.
func rewrite(f media.File, from, to int64) error {
	buf := make([]byte, min(1<<20, max(to-from, 0)))
	for from < to {
		n := int(min(int64(len(buf)), to-from))
		if got, err := f.ReadAt(buf[:n], from); got < n {
			return err
		}
		if _, err := f.WriteAt(buf[:n], from); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// adoptFree takes the free files into the pool, finishing what a crash interrupted.
func (l *Log) adoptFree(free []segdir.Segment) error {
	for i, x := range free {
		p := poolFile{name: x.Name, f: x.File, seq: x.Identity.Mark.Seq}
		var err error
		if x.Identity.Refree {
			if x.Identity.Mark.State != segment.StateFree {
				p.seq++ // the other slot is the free one: torn in its place, nothing would say so
			}
			p.seq, err = freeMarks(x.File, p.seq)
		}
		if err == nil {
			err = segdir.Keep(x.File)
		}
		if err == nil {
			err = l.pooled(p)
		}
		if err != nil {
			for _, y := range free[i:] {
				y.File.Close()
			}
			return fmt.Errorf("hotlog: %s/%s: %w", l.dir.Path(), x.Name, err)
		}
	}
	return nil
}

// openTail sets where the next entry goes, and begins a segment when the last one
// is sealed or there is none.
func (l *Log) openTail(segs []*segfile, mode openMode) error {
	start := mode.start
	if len(segs) > 0 {
		l.tail = segs[len(segs)-1]
		l.last, l.lastSum = l.tail.committed.last, l.tail.committed.sum
		l.durable.Store(uint64(l.last))
		term, err := l.Term(l.last)
		if err != nil {
			return err
		}
		l.lastTerm = term
		if !l.tail.sealed {
			return nil
		}
		start = segment.Header{ID: segment.ID{Shard: l.opts.Shard, First: l.last + 1}, Prev: l.lastSum, PrevTerm: l.lastTerm}
	}
	if start.ID.First == 0 {
		start.ID = segment.ID{Shard: l.opts.Shard, First: 1}
	}
	l.tail = newSegfile(start)
	l.last, l.lastSum, l.lastTerm = start.ID.First-1, start.Prev, start.PrevTerm
	l.durable.Store(uint64(l.last))
	_, err := l.begin(l.tail)
	if len(segs) > 0 && errors.Is(err, logcore.ErrDiskFull) {
		l.log.Warn("hot log: no room for the next segment; reads work, appends fail until there is", "dir", l.dir.Path(), "err", err)
		return nil
	}
	return err
}
