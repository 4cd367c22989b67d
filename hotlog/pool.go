package hotlog

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

const (
	poolTarget = 1 // files kept ready, so that a roll costs no wait
	poolMax    = 2 // recycled files beyond it are removed
)

// poolFile is a file that holds no segment.
type poolFile struct {
	name string
	f    media.File
	seq  uint64 // of its newest mark
}

// newName returns the next name for a segment file, and that under which it is prepared.
func (l *Log) newName() (name, tmp string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextSlot++
	return segdir.Name(l.nextSlot)
}

// freeMarks writes both marks of a file free, one after the other. The segment in
// it, if any, is gone with the first; with only one, a rotten block would bring it
// back.
func freeMarks(f media.File, seq uint64) (uint64, error) {
	buf := media.Buffer(segment.BlockBytes)
	for range 2 {
		seq++
		segment.Mark{Seq: seq, State: segment.StateFree}.Append(buf[:0])
		if err := f.WriteSync([]media.Write{{P: buf, Off: segment.MarkSlotOffset(seq)}}); err != nil {
			return seq, err
		}
	}
	return seq, nil
}

// prepare makes a new file for the pool: zeroed, marked free, then named.
func (l *Log) prepare() (poolFile, error) {
	free, err := l.dir.Free()
	if err != nil {
		return poolFile{}, err
	}
	if free-l.opts.SegmentBytes < l.opts.DiskReserveBytes {
		return poolFile{}, fmt.Errorf("%w: %s has %d bytes free, a segment of %d would leave less than the reserve of %d: free some space, or trim the log",
			logcore.ErrDiskFull, l.dir.Path(), free, l.opts.SegmentBytes, l.opts.DiskReserveBytes)
	}
	name, tmp := l.newName()
	f, err := l.dir.Create(tmp, l.opts.SegmentBytes)
	if err != nil {
		return poolFile{}, err
	}
	seq, err := freeMarks(f, 0)
	if err == nil {
		err = l.dir.Rename(tmp, name)
	}
	if err == nil {
		err = l.dir.SyncDir()
	}
	if err != nil {
		f.Close()
		return poolFile{}, errors.Join(err, l.dir.Remove(tmp))
	}
	return poolFile{name: name, f: f, seq: seq}, nil
}

// take returns a prepared file, or prepares one now.
func (l *Log) take() (poolFile, error) {
	l.mu.Lock()
	if n := len(l.pool); n > 0 {
		p := l.pool[n-1]
		l.pool = l.pool[:n-1]
		l.mu.Unlock()
		return p, nil
	}
	l.mu.Unlock()
	l.metrics.inlinePrepares.Inc()
	return l.prepare()
}

// recycle frees the file of a segment that is in no view any more and keeps it for
// later, or removes it when the pool is full or the file has an odd size.
func (l *Log) recycle(s *segfile) error {
	seq, err := freeMarks(s.f, s.mark.Seq)
	if err != nil {
		return fmt.Errorf("recycle %s: %w", s.name, err)
	}
	return l.pooled(poolFile{name: s.name, f: s.f, seq: seq})
}

// pooled puts a free file into the pool or removes it.
func (l *Log) pooled(p poolFile) error {
	l.mu.Lock()
	keep := len(l.pool) < poolMax && p.f.Size() == l.opts.SegmentBytes
	if keep {
		l.pool = append(l.pool, p)
	}
	l.mu.Unlock()
	if keep {
		return nil
	}
	return errors.Join(p.f.Close(), l.dir.Remove(p.name), l.dir.SyncDir())
}

// wakeHousekeeper wakes those who work in the background.
func (l *Log) wakeHousekeeper() {
	poke(l.hkWake)
	poke(l.finWake)
}

// poke wakes whoever waits for c, or will.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// whenever does work each time wake is poked, until the log is closed: what no commit should
// wait for.
func (l *Log) whenever(wake chan struct{}, work func()) {
	for {
		select {
		case <-l.stop:
			return
		case <-wake:
			work()
		}
	}
}

// housekeep fills the pool. A failure costs nothing but a wait at the next roll, which
// then meets the error itself.
func (l *Log) housekeep() {
	for {
		l.mu.Lock()
		enough := len(l.pool) >= poolTarget || l.err != nil
		l.mu.Unlock()
		if enough {
			return
		}
		p, err := l.prepare()
		if err != nil {
			l.log.Warn("hot log: no segment could be prepared", "dir", l.dir.Path(), "err", err)
			return
		}
		l.mu.Lock()
		l.pool = append(l.pool, p)
		l.mu.Unlock()
	}
}
