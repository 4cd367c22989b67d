package pageserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
)

// Where the entries of a log come from.
const (
	FromLogService = "log service"
	FromArchive    = "archive"
)

// A log of which much is missing is read straight from the archive up to where that ends, then
// the log service is followed from the last entry on. While the archive is read no stream of the
// log stands: nothing newest is served, and what a named LSN held is after the log service was
// asked, as it is while it can't be reached at all; see answersUnconfirmed.
//
// The order of the entries is checked as with any source, across the switch as well: epochs and
// sequence numbers tell what is missing or comes twice. The archive is read from the last entry
// ingested on, and has to have that very one: so it is the archive of this history.

// errArchive marks an error of the archive: the log itself is not at fault. It hides what the
// error means elsewhere: entries that the archive gave up, say, are no reason to stop a log
// that the log service still has.
type errArchive struct{ err error }

func (e *errArchive) Error() string { return e.err.Error() }

// catchUp reads the archive as long as a log is far behind, and returns what the log service
// says of the log then. An error of the archive is none: the log service is followed.
func (s *Server) catchUp(ctx context.Context, l *logState, info LogInfo) (LogInfo, error) {
	for {
		why, err := s.farBehind(l, info)
		if err != nil || why == "" {
			return info, err
		}
		s.comesFrom(l, FromArchive, why)
		before, began := l.snapshot().entry, time.Now()
		err = s.readArchive(ctx, l, info)
		var archive *errArchive
		switch {
		case errors.As(err, &archive):
			s.log.Warn("pageserver: reading a log from the archive ended; the log service is followed", "log", l.name(), "from", uint64(l.snapshot().entry)+1, "err", err)
		case err != nil:
			return info, err
		}
		if l.snapshot().entry == before || err != nil {
			l.archiveAfter = time.Now().Add(archiveRetry)
		}
		s.log.Info("pageserver: a log was read from the archive", "log", l.name(), "after", uint64(before), "through", uint64(l.snapshot().entry), "took", time.Since(began).Round(time.Millisecond))
		// It may have been restored meanwhile.
		if info, err = s.sourceInfo(ctx, l.name()); err != nil {
			return info, err
		}
		if err := s.confirm(ctx, l, info); err != nil {
			return info, err
		}
	}
}

// comesFrom notes where the entries of a log come from, and says it when that is new.
func (s *Server) comesFrom(l *logState, from, why string) {
	changed := false
	l.update(func() {
		changed = l.from != from
		l.from = from
	})
	if !changed {
		return
	}
	s.metrics.switches.WithLabelValues(from).Inc()
	s.log.Info("pageserver: entries come from the "+from, "log", l.name(), "from", uint64(max(l.snapshot().entry, l.branch.lsn))+1, "why", why)
}

// farBehind says why a log is to be read from the archive, "" when it is not.
func (s *Server) farBehind(l *logState, info LogInfo) (why string, err error) {
	entry := max(l.snapshot().entry, l.branch.lsn)
	if s.opts.Archive == nil || info.Last <= entry || time.Now().Before(l.archiveAfter) {
		return "", nil
	}
	if next := max(entry+1, info.First); info.HotFirst > next {
		return fmt.Sprintf("the log service has entries from LSN %d on itself, LSN %d is wanted", info.HotFirst, next), nil
	}
	have, err := s.ingestedBytes(l)
	if err != nil {
		return "", err
	}
	if behind := info.Bytes - min(have, info.Bytes); behind >= uint64(s.opts.ArchiveAfterBytes) {
		return fmt.Sprintf("%d bytes are missing", behind), nil
	}
	return "", nil
}

// ingestedBytes returns how long the payloads are that are ingested of a log's own entries,
// about: what came after the last milestone is not counted across a restart.
func (s *Server) ingestedBytes(l *logState) (uint64, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return 0, logcore.ErrClosed
	}
	return s.ingestedBytesLocked(l)
}

// ingestedBytesLocked is ingestedBytes for who holds storeMu.
func (s *Server) ingestedBytesLocked(l *logState) (uint64, error) {
	if n := l.bytes.Load(); n > 0 {
		return n, nil
	}
	n, err := bytesThrough(s.db, l.id, ^logcore.LSN(0))
	if err != nil {
		return 0, s.noteStoreError(err)
	}
	l.bytes.CompareAndSwap(0, n)
	return max(n, l.bytes.Load()), nil
}

// readArchive ingests what the archive has of a log beyond what is there. An *errArchive is the
// archive's. All that it took over is in the store when it returns.
func (s *Server) readArchive(ctx context.Context, l *logState, info LogInfo) error {
	l.update(func() { l.catching = true })
	defer l.update(func() { l.catching = false })
	stream, cancel := context.WithCancel(ctx)
	defer cancel()
	w := newIngester(stream, s, l, cancel)
	err := s.ingestArchive(stream, w, info)
	if werr := w.close(); werr != nil {
		return werr // what the archive says follows from it
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var broken *violation
	var archive *errArchive
	switch {
	case errors.As(err, &broken):
		s.log.Error("pageserver: the archive leaves entries out or repeats them", "log", l.name(), "err", err)
		// What it said about stretches without entries may be wrong as well.
		l.update(func() { l.state.ingested = max(l.state.entry, l.state.branchLSN) })
		return &errArchive{err}
	case errors.As(err, &archive):
		s.noteArchive(archive.err)
	case err == nil:
		s.noteArchive(nil)
	}
	return err
}

func (s *Server) ingestArchive(ctx context.Context, w *ingester, info LogInfo) error {
	v := w.l.snapshot()
	met := v.entry <= w.l.branch.lsn // there is no last entry to meet
	for batch, err := range s.opts.Archive.Read(ctx, info, max(v.entry, w.l.branch.lsn+1)) {
		if err == nil && !met {
			batch, met, err = meet(v, batch)
		}
		if err != nil {
			return &errArchive{err}
		}
		if batch.Through <= w.pos.ingested && len(batch.Entries) == 0 {
			continue // the log service said as much before
		}
		if err := s.takeBatch(ctx, w.l, w, batch); err != nil {
			return err
		}
		s.metrics.archiveEntries.Add(float64(len(batch.Entries)))
	}
	return nil
}

// meet takes the entry that was ingested last off the front of the first batch that comes.
func meet(v stateValue, batch Batch) (Batch, bool, error) {
	if len(batch.Entries) == 0 && batch.Through < v.entry {
		return batch, false, nil
	}
	if len(batch.Entries) == 0 || !v.isLast(&batch.Entries[0]) {
		return batch, false, fmt.Errorf("%w: the archive does not have the entry at LSN %d that was ingested last: it is of another history", logcore.ErrFenced, v.entry)
	}
	batch.Entries = batch.Entries[1:]
	return batch, true, nil
}

// isLast reports whether an entry is the one that was ingested last.
func (v *stateValue) isLast(e *Entry) bool {
	return e.LSN == v.entry && e.Time == v.entryTime && e.Tx == v.entryTx && e.Epoch == v.epoch && e.Sequence == v.sequence
}

// takeBatch ingests a batch once there is room for it.
func (s *Server) takeBatch(ctx context.Context, l *logState, w *ingester, batch Batch) error {
	err := s.room.await(ctx, func(full error) { l.update(func() { l.lastErr = full }) })
	if err == nil {
		err = s.ingestBatch(w, batch)
	}
	var bad *badEntry
	if err != nil && w.spilled && errors.As(err, &bad) {
		err = errors.Join(err, s.removeAbove(l))
	}
	return err
}

// withoutSource goes on with a log, from the archive, while the log service does not answer
// because of cause. It returns an error in any case, when there is no more: nothing is confirmed.
func (s *Server) withoutSource(ctx context.Context, l *logState, cause error) error {
	if s.opts.Archive == nil || ctx.Err() != nil || errors.Is(cause, logcore.ErrLogNotFound) {
		return cause
	}
	info, err := s.archivedInfo(ctx, l)
	if err == nil {
		err = s.ingestWithout(ctx, l, info, cause)
	}
	var archive *errArchive
	switch {
	case err == nil:
		return fmt.Errorf("%w; what the archive holds is served, up to LSN %d", cause, l.snapshot().ingested)
	case errors.As(err, &archive), errors.Is(err, errNotArchived):
		return fmt.Errorf("%w; nor does the archive give more: %v", cause, err)
	}
	return err
}

func (s *Server) ingestWithout(ctx context.Context, l *logState, info LogInfo, cause error) error {
	if l.parent != nil {
		if err := s.awaitIngested(ctx, l.parent, l.branch.lsn); err != nil {
			return err
		}
	}
	if err := s.persistNew(l); err != nil {
		return err
	}
	if err := s.chooseDecoder(l, info); err != nil {
		return err
	}
	s.comesFrom(l, FromArchive, cause.Error())
	l.update(func() { l.lastErr = cause })
	return s.readArchive(ctx, l, info)
}

// errNotArchived: the archive has nothing of the log, or of another history.
var errNotArchived = errors.New("pageserver: not in the archive")

// archivedInfo returns a log as the archive knows it.
func (s *Server) archivedInfo(ctx context.Context, l *logState) (LogInfo, error) {
	infos, err := s.archivedLogs(ctx)
	for _, info := range infos {
		if info.ID != l.id {
			continue
		}
		if why := l.voidFor(info); why != "" {
			return LogInfo{}, fmt.Errorf("%w: %s", errNotArchived, why)
		}
		return info, nil
	}
	if err != nil {
		return LogInfo{}, &errArchive{err}
	}
	return LogInfo{}, errNotArchived
}

// awaitIngested returns when a log and its ancestors are ingested up to an LSN, confirmed or not.
func (s *Server) awaitIngested(ctx context.Context, l *logState, lsn logcore.LSN) error {
	for began := time.Now(); ; {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if l.covers(lsn) {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(roomEvery): // of an ancestor
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Since(began) > sourceTimeout {
			return fmt.Errorf("%w: its parent is not ingested up to LSN %d yet", errNotArchived, lsn)
		}
	}
}
