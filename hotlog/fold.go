package hotlog

import (
	"slices"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// foldBytes is how much becomes durable before the finisher is woken to fold it: little
// enough to be in the cache still, much enough to cost the committer nothing.
const foldBytes = 1 << 20

// fold makes the summaries of segments from memory, out of the cache and behind the
// committer, so that a sealed segment gets its footer without being read. Where it misses
// an entry, because the log was opened or cut in the middle of the segment or the cache
// has gone on, it leaves the segment to whoever reads it.
type fold struct {
	mu   sync.Mutex
	s    *segfile // the segment it is at
	b    *segment.Builder
	next logcore.LSN // to be added
	cuts uint64      // Log.cuts when it began with s
}

// foldUp takes in everything that is durable.
func (l *Log) foldUp() {
	l.fold.mu.Lock()
	defer l.fold.mu.Unlock()
	for l.foldStep() {
	}
}

// foldStep takes in what the cache holds, or goes to the next segment, and reports
// whether there may be more; fold.mu is held.
func (l *Log) foldStep() bool {
	f := &l.fold
	l.mu.Lock()
	view := *l.view.Load()
	at := slices.Index(view, f.s)
	switch {
	case len(view) == 0:
		l.mu.Unlock()
		return false
	case at < 0 || f.cuts != l.cuts:
		open := slices.IndexFunc(view, func(s *segfile) bool { return !s.finished })
		f.begin(l, view[max(open, 0)])
	case f.s.committed.sealed && (f.b == nil || f.next > f.s.committed.last) && at+1 < len(view):
		f.begin(l, view[at+1])
	}
	s, c := f.s, f.s.committed
	if f.b == nil || f.next > c.last {
		l.mu.Unlock()
		return false
	}
	runs := l.cache.pinned(f.next, c.last+1)
	l.mu.Unlock()
	if len(runs) == 0 {
		f.b = nil
		return true
	}
	var e logcore.Entry
	for _, r := range runs {
		for _, off := range r.offs {
			frame, sum := segment.TrustedFrame(&e, r.buf[off:])
			f.b.Add(&e, sum, frame)
			f.next++
		}
	}
	l.mu.Lock()
	unpin(runs)
	l.mu.Unlock()
	if c.sealed && f.next > c.last {
		sum := f.b.Summary()
		s.folded = &sum
	}
	return true
}

// begin goes to a segment; the log's mu is held.
func (f *fold) begin(l *Log, s *segfile) {
	f.s, f.cuts, f.next = s, l.cuts, s.header.ID.First
	f.b = segment.NewBuilder(s.header, l.opts.LogOf, segment.DigestSums)
}

// folded returns the summary of a sealed segment when it was made from memory.
func (l *Log) folded(s *segfile, c committed) (segment.Summary, bool) {
	l.fold.mu.Lock()
	defer l.fold.mu.Unlock()
	if s.folded == nil || s.folded.Last != c.last || s.folded.Sum != c.sum || s.folded.End != c.end {
		return segment.Summary{}, false // or it was cut since
	}
	return *s.folded, true
}
