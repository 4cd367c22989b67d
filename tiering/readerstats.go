package tiering

import "sync/atomic"

// ReaderStats counts what a Reader has read since it was opened.
type ReaderStats struct {
	Objects int64 // whole objects, those from the cache included
	// CachedObjects and CachedBytes count the objects that came from the cache instead.
	CachedObjects, CachedBytes int64
	Bytes                      int64 // of fragments, as they came from the targets
	// Requests counts the fragments, and ranges of them, that were asked for; Hedges those
	// that were asked for in addition because another one was late, and HedgesDenied those
	// that there was no budget for. GivenUp counts calls that were cut off as hopeless.
	Requests, Hedges, HedgesDenied, GivenUp int64
	// Rebuilt counts the data fragments that were missing, damaged or late, and were
	// computed from the others.
	Rebuilt int64
}

// Stats returns what r has read so far.
func (r *Reader) Stats() ReaderStats {
	s := ReaderStats{Objects: r.stats.objects.Load(), Bytes: r.stats.bytes.Load(), Rebuilt: r.stats.rebuilt.Load(), GivenUp: r.stats.givenUp.Load()}
	s.CachedObjects, s.CachedBytes = r.stats.cachedObjects.Load(), r.stats.cachedBytes.Load()
	s.Requests, s.Hedges, s.HedgesDenied = r.stats.hedge.counts()
	s.Requests += s.Hedges
	return s
}

// Unreachable names the targets whose last call failed, or that could not be opened.
func (r *Reader) Unreachable() []string {
	names := []string{}
	for _, t := range r.remotes {
		if ok, _ := t.health(); !ok {
			names = append(names, t.Name)
		}
	}
	return names
}

type readerCounts struct {
	objects, bytes, rebuilt, givenUp atomic.Int64
	cachedObjects, cachedBytes       atomic.Int64
	hedge                            hedgeBudget
}

// countRebuilt is told which data fragments of an object came whole.
func (c *readerCounts) countRebuilt(whole []bool) {
	for _, ok := range whole {
		if !ok {
			c.rebuilt.Add(1)
		}
	}
}
