package tiering

import "sync/atomic"

// ReaderStats counts what a Reader has read since it was opened.
type ReaderStats struct {
	Objects int64 // whole objects
	Bytes   int64 // of fragments, as they came from the targets
	// Rebuilt counts the data fragments that were missing, damaged or late, and were
	// computed from the others.
	Rebuilt int64
}

// Stats returns what r has read so far.
func (r *Reader) Stats() ReaderStats {
	return ReaderStats{Objects: r.stats.objects.Load(), Bytes: r.stats.bytes.Load(), Rebuilt: r.stats.rebuilt.Load()}
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

type readerCounts struct{ objects, bytes, rebuilt atomic.Int64 }

// countRebuilt is told which data fragments of an object came whole.
func (c *readerCounts) countRebuilt(whole []bool) {
	for _, ok := range whole {
		if !ok {
			c.rebuilt.Add(1)
		}
	}
}
