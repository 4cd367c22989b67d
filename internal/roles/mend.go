package roles

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/recovery"
)

const (
	mendWithin   = 10 * time.Minute // for one segment: the archive may be far away
	mendQueueMax = 64               // more damage than that is found again by whoever reads it
)

// damages is what is known to be damaged, by file.
type damages struct {
	mu sync.Mutex
	by map[string]*logcore.CorruptionError
}

func (d *damages) add(e *logcore.CorruptionError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil {
		d.by = map[string]*logcore.CorruptionError{}
	}
	d.by[e.Place+"/"+e.Object] = e
}

func (d *damages) gone(e *logcore.CorruptionError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.by, e.Place+"/"+e.Object)
}

// list says in words what is damaged.
func (d *damages) list() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.by)) {
		out = append(out, fmt.Sprintf("the hot log is damaged: %v: it is repaired from another member or the archive as soon as one holds the segment, or at the next start", d.by[name]))
	}
	return out
}

// damaged is told by the hot log of what it found. It must not wait.
func (s *logService) damaged(e *logcore.CorruptionError) {
	s.damage.add(e)
	select {
	case s.mending <- e:
	default:
	}
}

// mend repairs sealed segments from another member, or else the archive, while the log is in use. What can't be
// repaired so stays in the status: the open segment is repaired by the next start.
func (s *logService) mend(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.mending:
			if err := s.mendSegment(ctx, e); err != nil && ctx.Err() == nil {
				s.process.log.Error("a damaged segment of the hot log was not repaired", "segment", e.Object, "lsn", e.LSN, "err", err)
			}
		}
	}
}

func (s *logService) mendSegment(ctx context.Context, e *logcore.CorruptionError) error {
	ctx, cancel := context.WithTimeout(ctx, mendWithin)
	defer cancel()
	p := s.partOf(e.Place)
	hot := p.group.HotLog()
	info, err := segmentOf(hot, e.LSN)
	if err != nil {
		return err
	}
	if _, err := hot.Span(info.First, info.Last); err == nil {
		s.damage.gone(e) // repaired since, when the same damage was found twice
		return nil
	}
	if s.node != nil {
		whole, err := s.node.Segment(ctx, p.id, info.First, info.Last)
		if err == nil {
			err = hot.Repair(whole)
		}
		if err == nil {
			s.damage.gone(e)
			return nil
		}
		s.process.log.Warn("a damaged segment was not repaired from another member; the archive is asked", "segment", e.Object, "err", err)
	}
	archive, err := p.openReader(ctx)
	if err != nil {
		return err
	}
	var whole segment.Span
	for part, err := range archive.Spans(ctx, info.First, info.Last) {
		if err != nil {
			return err
		}
		next := recovery.ToHotLog(part)
		if whole.Last == 0 {
			whole = next
			continue
		}
		whole.Last, whole.Sum, whole.Sealed, whole.LastTime = next.Last, next.Sum, next.Sealed, max(whole.LastTime, next.LastTime)
		whole.Frames = append(whole.Frames[:len(whole.Frames):len(whole.Frames)], next.Frames...)
	}
	if err := hot.Repair(whole); err != nil {
		return err
	}
	s.damage.gone(e)
	return nil
}

// partOf returns the shard whose directory it is.
func (s *logService) partOf(dir string) *shardPart {
	for _, p := range s.parts {
		if filepath.Clean(dir) == filepath.Clean(s.shardDir(p.id)) {
			return p
		}
	}
	return s.parts[0]
}

// segmentOf returns the sealed segment that holds an LSN.
func segmentOf(hot *hotlog.Log, lsn logcore.LSN) (hotlog.SegmentInfo, error) {
	for _, info := range hot.Segments() {
		if info.First <= lsn && lsn <= info.Last && info.Sealed {
			return info, nil
		}
	}
	return hotlog.SegmentInfo{}, fmt.Errorf("no sealed segment holds LSN %d: it is repaired by the next start", lsn)
}

// openOrRepair opens the group. When the hot log can't be opened because it is damaged,
// it is repaired from the archive first; without an archive damage can only be refused.
func (s *logService) openOrRepair(ctx context.Context, open func() error) error {
	err := open()
	if !errors.Is(err, logcore.ErrCorrupt) {
		return err
	}
	s.process.log.Warn("the hot log is damaged; repairing it from the other members or the archive", "err", err)
	if err := s.repair(ctx); err != nil {
		return err
	}
	return open()
}
