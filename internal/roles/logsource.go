package roles

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/pageserver"
)

// logSource is a log service, near or far, as a page server needs it.
type logSource struct{ c *client.Client }

var _ pageserver.LogSource = logSource{}

func sourceInfo(i client.LogInfo) pageserver.LogInfo {
	return pageserver.LogInfo{ID: i.ID, Name: i.Log, Format: i.PayloadFormat, Incarnation: i.Incarnation, Parent: i.ParentID, BranchLSN: i.BranchLSN,
		First: i.FirstLSN, HotFirst: i.HotFirstLSN, WriterOpen: i.WriterOpen, Bytes: i.Bytes, Last: i.LastLSN, LastTime: i.LastTime, Committed: i.Committed}
}

// List returns every log.
func (s logSource) List(ctx context.Context) ([]pageserver.LogInfo, error) {
	logs, err := s.c.Logs(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]pageserver.LogInfo, len(logs))
	for i, l := range logs {
		out[i] = sourceInfo(l)
	}
	return out, nil
}

// Info returns one log.
func (s logSource) Info(ctx context.Context, name string) (pageserver.LogInfo, error) {
	i, err := s.c.Info(ctx, name)
	return sourceInfo(i), err
}

func sourceEntry(e client.LogEntry) pageserver.Entry {
	return pageserver.Entry{LSN: e.LSN, Time: e.Time, Kind: e.Kind, Tx: e.Tx, Epoch: e.Epoch, Sequence: e.Sequence, Payload: e.Payload}
}

// Entry reads the one entry at an LSN.
func (s logSource) Entry(ctx context.Context, log pageserver.LogInfo, lsn logcore.LSN) (pageserver.Entry, bool, error) {
	for b, err := range s.c.Read(ctx, log.Name, client.ReadOptions{From: lsn, To: lsn}) {
		if errors.Is(err, logcore.ErrLSNInFuture) {
			return pageserver.Entry{}, false, nil
		}
		if err != nil {
			return pageserver.Entry{}, false, err
		}
		if len(b.Entries) > 0 {
			return sourceEntry(b.Entries[0]), true, nil
		}
	}
	return pageserver.Entry{}, false, nil
}

// gatherPostgres is how far the pages of a PostgreSQL log may be behind for the sake of fewer, larger batches: a node reads its own pages, so that only who
// makes a new one asks for the newest.
const gatherPostgres = 10 * time.Millisecond

// gathered is how long entries of a log of a format may gather before a page server gets them.
func gathered(format string) time.Duration {
	if format == payload.Format {
		return gatherPostgres
	}
	return 0
}

// Follow reads a log and waits at its end.
func (s logSource) Follow(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		for b, err := range s.c.Read(ctx, log.Name, client.ReadOptions{From: from, Follow: true, Gather: gathered(log.Format)}) {
			if err != nil {
				yield(pageserver.Batch{}, err)
				return
			}
			batch := pageserver.Batch{Through: b.Through, Entries: make([]pageserver.Entry, len(b.Entries))}
			for i, e := range b.Entries {
				batch.Entries[i] = sourceEntry(e)
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}

// CreateBranch creates a branch in the catalog.
func (s logSource) CreateBranch(ctx context.Context, parent, branch string, at logcore.LSN) (pageserver.LogInfo, error) {
	if _, err := s.c.CreateLog(ctx, branch, parent, at); err != nil {
		return pageserver.LogInfo{}, err
	}
	return s.Info(ctx, branch)
}
