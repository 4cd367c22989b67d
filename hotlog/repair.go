package hotlog

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// corruptSuffix marks a damaged file that was replaced, for whoever wants to look at it.
const corruptSuffix = ".corrupt"

// Repair puts a sealed segment anew, from a span of all its entries out of the archive
// or from a peer. The file is written, read back and finished beside the damaged one,
// then takes its name; the damaged one
// stays as *.corrupt where the medium can. Reads go on meanwhile; Close waits. The span must be the segment that the
// log knows: its first LSN, its end and both checksums, or the error wraps
// logcore.ErrInvalid. It is for what OnDamage tells of; it also repairs a rotten
// header, mark or footer of a sealed segment. The newest segment can't be repaired so.
func (l *Log) Repair(span segment.Span) error {
	l.repairMu.Lock()
	defer l.repairMu.Unlock()
	old, cuts, err := l.repairable(span)
	if err != nil {
		return err
	}
	fresh, tmp, err := l.rebuild(old, span)
	if err != nil {
		return fmt.Errorf("hotlog: repair of %s/%s: %w", l.dir.Path(), old.name, err)
	}
	l.structMu.Lock()
	defer l.structMu.Unlock()
	if err := l.replace(old, fresh, tmp, cuts); err != nil {
		return errors.Join(fmt.Errorf("hotlog: repair of %s/%s: %w", l.dir.Path(), old.name, err), fresh.f.Close())
	}
	l.log.Warn("hot log: segment was corrupt; written anew", "dir", l.dir.Path(), "segment", old.name, "first", span.First, "last", span.Last)
	return old.f.Close()
}

// repairable returns the segment that the span is of, and how often the tail was cut.
func (l *Log) repairable(span segment.Span) (*segfile, uint64, error) {
	if err := l.Err(); err != nil {
		return nil, 0, err
	}
	view := *l.view.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range view[:max(len(view)-1, 0)] {
		c := s.committed
		if s.header.ID == span.ID && span.First == span.ID.First && span.Sealed && c.sealed && span.Last == c.last && span.Sum == c.sum && span.Prev == s.header.Prev {
			return s, l.cuts, nil
		}
	}
	return nil, 0, fmt.Errorf("%w: hotlog: repair with LSNs %d to %d of segment %d, which is no sealed segment of this log", logcore.ErrInvalid, span.First, span.Last, span.ID.First)
}

// rebuild makes the file of a segment anew, under a temporary name.
func (l *Log) rebuild(old *segfile, span segment.Span) (*segfile, string, error) {
	_, tmp := l.newName()
	l.mu.Lock()
	s := &segfile{header: old.header, name: old.name, committed: old.committed, sealed: true}
	l.mu.Unlock()
	f, err := l.dir.Create(tmp, wholeBlocks(max(l.opts.SegmentBytes, s.committed.end)))
	if err != nil {
		return nil, "", err
	}
	s.f = f
	_, err = f.WriteAt(s.header.Append(nil), 0)
	if err == nil {
		_, err = f.WriteAt(span.Frames, segment.FramesOffset)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		s.sum, err = segment.Summarize(f, s.header, s.committed.end, l.opts.LogOf, segment.DigestSums)
	}
	if err == nil && (s.sum.Last != span.Last || s.sum.Sum != span.Sum) {
		err = fmt.Errorf("%w: the span's entries end at LSN %d with checksum %08x", logcore.ErrInvalid, s.sum.Last, s.sum.Sum)
	}
	if err == nil {
		s.finished, s.checked = true, true
		err = s.writeFooter(s.committed, s.sum.AppendFooter(nil))
	}
	if err != nil {
		return nil, "", errors.Join(err, f.Close(), l.dir.Remove(tmp))
	}
	segdir.Loosen(f)
	return s, tmp, nil
}

// replace gives fresh the name of old and its place in the view; structMu is held.
func (l *Log) replace(old, fresh *segfile, tmp string, cuts uint64) error {
	l.mu.Lock()
	view := slices.Clone(*l.view.Load())
	l.mu.Unlock()
	i := slices.Index(view, old)
	if i < 0 || l.cuts != cuts { // a cut segment is no more what the span says
		return errors.Join(errGone, l.dir.Remove(tmp))
	}
	if err := l.dir.Link(old.name, old.name+corruptSuffix); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, errors.ErrUnsupported) {
		l.log.Warn("hot log: the damaged file is not kept", "dir", l.dir.Path(), "segment", old.name, "err", err)
	}
	// Commit point: of the repair. When it fails nobody knows which of the files a crash
	// would leave, and a later cut would go to one of them only.
	err := l.dir.Rename(tmp, old.name)
	if err == nil {
		err = l.dir.SyncDir()
	}
	if err != nil {
		return l.stopWriting(err)

	}
	view[i] = fresh
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(*l.view.Load()); n > len(view) {
		view = append(view, (*l.view.Load())[len(view):]...) // begun meanwhile
	}
	l.view.Store(&view)
	return nil
}
