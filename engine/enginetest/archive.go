package enginetest

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/pageserver"
)

// Archive is the archive of a Source: what it had up to an LSN. It may be used by many
// goroutines.
type Archive struct {
	// BatchEntries is the most entries of a batch; 0 means 8.
	BatchEntries int
	// Mangle, when set, may replace what a batch became on its way.
	Mangle func(log string, batch pageserver.Batch) []pageserver.Batch

	source *Source

	mu      sync.Mutex
	covered logcore.LSN          // guarded by mu, as all below
	infos   []pageserver.LogInfo // as of covered
	entries map[logcore.LogID][]pageserver.Entry
	down    error
	reads   int
	taken   int // entries
}

var _ pageserver.Archive = (*Archive)(nil)

// NewArchive returns an archive that has nothing yet.
func NewArchive(source *Source) *Archive {
	return &Archive{source: source, entries: map[logcore.LogID][]pageserver.Entry{}}
}

// Cover archives everything that the source has now.
func (a *Archive) Cover() {
	s := a.source
	s.mu.Lock()
	defer s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.covered, a.infos = s.last, nil
	for id, l := range s.logs {
		a.infos = append(a.infos, s.infoOf(l))
		a.entries[id] = append([]pageserver.Entry(nil), l.entries...)
	}
}

// SetDown makes every call fail with err; nil brings the archive back.
func (a *Archive) SetDown(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = err
}

// Taken returns how many times a log was read, and how many entries were handed out.
func (a *Archive) Taken() (reads, entries int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reads, a.taken
}

// Logs implements pageserver.Archive.
func (a *Archive) Logs(context.Context) ([]pageserver.LogInfo, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.infos, a.down
}

// Check implements pageserver.Archive.
func (a *Archive) Check(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.down
}

// Unreachable implements pageserver.Archive.
func (a *Archive) Unreachable() []string {
	if a.Check(context.Background()) != nil {
		return []string{"all"}
	}
	return nil
}

// Read implements pageserver.Archive.
func (a *Archive) Read(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		a.mu.Lock()
		a.reads++
		a.mu.Unlock()
		for ctx.Err() == nil {
			batch, err := a.next(log, from)
			if err != nil {
				yield(pageserver.Batch{}, err)
				return
			}
			if batch.Through < from {
				return
			}
			from = batch.Through + 1
			all := []pageserver.Batch{batch}
			if a.Mangle != nil {
				all = a.Mangle(log.Name, batch)
			}
			for _, b := range all {
				if !yield(b, nil) {
					return
				}
			}
		}
		yield(pageserver.Batch{}, ctx.Err())
	}
}

func (a *Archive) next(log pageserver.LogInfo, from logcore.LSN) (pageserver.Batch, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down != nil {
		return pageserver.Batch{}, a.down
	}
	for _, info := range a.infos {
		if info.ID == log.ID && info.Incarnation != log.Incarnation {
			return pageserver.Batch{}, fmt.Errorf("%w: incarnation %x", logcore.ErrFenced, info.Incarnation)
		}
	}
	limit := a.BatchEntries
	if limit == 0 {
		limit = 8
	}
	out := pageserver.Batch{Through: a.covered}
	for _, e := range a.entries[log.ID] {
		if e.LSN < from {
			continue
		}
		if len(out.Entries) == limit {
			out.Through = out.Entries[limit-1].LSN
			break
		}
		out.Entries = append(out.Entries, e)
	}
	a.taken += len(out.Entries)
	return out, nil
}
