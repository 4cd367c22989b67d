package archived

import (
	"context"
	"fmt"
	"iter"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/pageserver"
)

// A part of a span is handed on in batches of at most about this much, so that whoever takes
// them can look in between whether it may go on.
const (
	batchBytes   = 1 << 20
	batchEntries = 4096
)

// Read implements pageserver.Archive.
func (a *Archive) Read(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		r := &reading{a: a, ctx: ctx, yield: yield, next: from}
		for {
			before := r.next
			where, err := a.locate(ctx, log)
			if err == nil && r.next == from && from < where.truncated {
				err = fmt.Errorf("archived: %w: log %q begins at LSN %d", logcore.ErrTrimmed, log.Name, where.truncated)
			}
			if err != nil {
				yield(pageserver.Batch{}, err)
				return
			}
			// What was archived meanwhile may be elsewhere.
			if more := r.extents(where.extents); !more || r.next == before {
				return
			}
		}
	}
}

// reading is one Read call.
type reading struct {
	a     *Archive
	ctx   context.Context
	yield func(pageserver.Batch, error) bool
	next  logcore.LSN
}

// extents reads one extent after the other. It returns false when there is nothing behind what it read.
func (r *reading) extents(all []catalog.Extent) (more bool) {
	for _, e := range all {
		if r.next > e.Last {
			continue
		}
		r.next = max(r.next, e.First)
		if more := r.extent(e); !more || r.next <= e.Last {
			return false
		}
	}
	return true
}

// extent reads an extent as far as it is archived. It returns false when the consumer wants no
// more, or was told of an error.
func (r *reading) extent(e catalog.Extent) (more bool) {
	s := r.a.shard(e.Shard)
	for r.next <= e.Last {
		_, covered, err := s.covered(r.ctx)
		if err != nil {
			return r.fail(e, err)
		}
		if e.Index(r.next) > covered {
			return true
		}
		before := r.next
		more, err := r.once(s, e)
		if err != nil {
			return r.fail(e, err)
		}
		if !more {
			return false
		}
		if r.next == before {
			return true // what was archived is no more: the next call sees why
		}
	}
	return true
}

func (r *reading) fail(e catalog.Extent, err error) bool {
	r.yield(pageserver.Batch{}, fmt.Errorf("archived: shard %d, LSN %d: %w", e.Shard, r.next, err))
	return false
}

// once takes part in one pass.
func (r *reading) once(s *shard, e catalog.Extent) (more bool, err error) {
	n, err := s.join(e.Log, e.Index(r.next))
	if err != nil {
		return false, err
	}
	defer n.leave()
	for r.next <= e.Last {
		select {
		case of, open := <-n.parts:
			if !open {
				return true, n.err
			}
			if !r.hand(e, of) {
				return false, nil
			}
			if of.err != nil {
				return false, of.err
			}
		case <-r.ctx.Done():
			return false, r.ctx.Err()
		}
	}
	return true, nil
}

// hand gives a part to the consumer, as the log's own LSNs.
func (r *reading) hand(e catalog.Extent, of part) (more bool) {
	through := min(of.through+e.Base, e.Last)
	var b pageserver.Batch
	bytes := 0
	for _, entry := range of.entries {
		if entry.LSN += e.Base; entry.LSN > e.Last {
			break
		}
		b.Entries = append(b.Entries, entry)
		if bytes += len(entry.Payload); bytes >= batchBytes || len(b.Entries) >= batchEntries {
			b.Through = entry.LSN
			r.next = b.Through + 1
			if !r.yield(b, nil) {
				return false
			}
			b, bytes = pageserver.Batch{}, 0
		}
	}
	if of.err != nil { // nothing is known of what comes after the entries
		if len(b.Entries) == 0 {
			return true
		}
		through = b.Entries[len(b.Entries)-1].LSN
	}
	if through < r.next {
		return true
	}
	b.Through, r.next = through, through+1
	return r.yield(b, nil)
}
