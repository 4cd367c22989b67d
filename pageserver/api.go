package pageserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// ReadAt says as of when to read and how long to wait for it.
type ReadAt struct {
	// LSN to read at; 0 means the newest ingested one.
	LSN logcore.LSN
	// NotModifiedSince, when not 0, is the caller's knowledge that none of the pages
	// changed in (NotModifiedSince, LSN]: it is enough to wait for it.
	NotModifiedSince logcore.LSN
	// Log, when not 0, is the id of the log that is meant. A branch that is reset, or deleted and created anew, is
	// another log of the same name, and the page server may not know that yet.
	Log logcore.LogID
	// Wait bounds the wait for LSN; 0 means WaitDefault, more than WaitMax is WaitMax.
	Wait time.Duration

	// past: what LSN held is all that is asked for; see answersUnconfirmed.
	past bool
}

func (at ReadAt) patience() time.Duration {
	if at.Wait <= 0 {
		return WaitDefault
	}
	return min(at.Wait, WaitMax)
}

// target is the LSN that must be ingested.
func (at ReadAt) target() want {
	w := want{lsn: at.LSN, newest: at.LSN == 0}
	if at.NotModifiedSince != 0 && (at.LSN == 0 || at.NotModifiedSince < at.LSN) {
		w.lsn = at.NotModifiedSince
	}
	return w
}

// Page is one page as of an LSN.
type Page struct {
	Number uint32
	// Data is nil when the page does not exist. It is shared: do not write to it.
	Data []byte
	// Digest is the XXH3-64 of Data.
	Digest uint64
	// LastLSN is the LSN of the last change at or before the LSN read at; 0 when the
	// page does not exist. For a page that exists without ever having been written it
	// is that of the space's last change of length.
	LastLSN logcore.LSN
}

// PageSet is the answer to GetPages.
type PageSet struct {
	LSN logcore.LSN
	// Incarnation is that of the log service that the pages come from: under another one,
	// the same LSN may mean something else.
	Incarnation uint64
	Pages       []Page
}

// Size is the length of a space.
type Size struct {
	LSN logcore.LSN
	// Incarnation is as in PageSet.
	Incarnation uint64
	// Pages is the number of pages, PageSize their size in bytes, 0 when the space
	// does not exist.
	Pages, PageSize uint32
	// LastLSN is the log's last visible change at or before LSN, whatever its space.
	LastLSN logcore.LSN
}

// GetPages returns pages of a log or branch as of an LSN, in the order asked for, at
// most PagesMax. Errors wrap logcore.ErrLogNotFound, logcore.ErrInvalid,
// *logcore.LagError when the LSN was not ingested in time, or
// *logcore.CorruptionError when a page is damaged and could not be healed in time.
func (s *Server) GetPages(ctx context.Context, log string, space engine.Space, numbers []uint32, at ReadAt) (PageSet, error) {
	start := time.Now()
	defer func() { s.metrics.latency.Observe(time.Since(start).Seconds()) }()
	if len(numbers) > PagesMax {
		return PageSet{}, fmt.Errorf("pageserver: %w: %d pages asked for, at most %d at a time", logcore.ErrInvalid, len(numbers), PagesMax)
	}
	set := PageSet{Pages: make([]Page, 0, len(numbers))}
	var err error
	set.LSN, err = s.read(ctx, log, at.ofPast(), func(r *reader, l *logState, lsn logcore.LSN) error {
		if err := s.checkHeld(l, space, numbers...); err != nil {
			return err
		}
		set.Pages, set.Incarnation = set.Pages[:0], r.incarnation
		if err := r.pagesAtLSN(l, space, numbers, lsn, &set); err != nil {
			return errors.Join(s.checkHeld(l, space, numbers...), err)
		}
		// Those that went meanwhile may have been removed under the reader.
		return s.checkHeld(l, space, numbers...)
	})
	if err != nil {
		return PageSet{}, err
	}
	s.metrics.pages.Add(float64(len(numbers)))
	return set, nil
}

// SpaceSize returns the length of a space as of an LSN. Errors are those of GetPages.
func (s *Server) SpaceSize(ctx context.Context, log string, space engine.Space, at ReadAt) (Size, error) {
	var size Size
	var err error
	size.LSN, err = s.read(ctx, log, at.ofPast(), func(r *reader, l *logState, lsn logcore.LSN) error {
		v, _, err := r.size(l, space, endOf(lsn))
		if err != nil {
			return err
		}
		size.Pages, size.PageSize, size.Incarnation = v.pages, v.pageSize, r.incarnation
		size.LastLSN, _, _, err = r.lastCommit(l, lsn)
		return err
	})
	return size, err
}

// WaitLSN returns once an LSN is ingested, with the LSN that is. Errors are those of
// GetPages.
func (s *Server) WaitLSN(ctx context.Context, log string, at ReadAt) (logcore.LSN, error) {
	ingested, _, err := s.waitLSN(ctx, log, at)
	return ingested, err
}

// waitLSN is WaitLSN with the incarnation of the log service.
func (s *Server) waitLSN(ctx context.Context, log string, at ReadAt) (ingested logcore.LSN, incarnation uint64, err error) {
	_, err = s.read(ctx, log, at, func(r *reader, l *logState, _ logcore.LSN) error {
		ingested, incarnation = l.snapshot().ingested, r.incarnation
		return nil
	})
	return ingested, incarnation, err
}

// ResolveTime returns the last visible LSN of a log at or before a wall-clock time,
// and that LSN's clock. It waits until everything the log service has is ingested,
// since any of it may have happened before t. A time before the log's first change is
// an error that wraps logcore.ErrTrimmed.
func (s *Server) ResolveTime(ctx context.Context, log string, t time.Time, wait time.Duration) (logcore.LSN, logcore.HLC, error) {
	last := logcore.HLCAt(t.Add(time.Millisecond)) - 1
	at := ReadAt{Wait: wait}
	info, err := s.sourceInfo(ctx, log)
	switch at.LSN = max(info.Last, info.BranchLSN); {
	case err == nil:
	case !errors.Is(err, logcore.ErrLogNotFound) && s.passed(log, last, &at):
	default:
		return 0, 0, fmt.Errorf("pageserver: log %q: %w", log, err)
	}
	var lsn logcore.LSN
	var hlc logcore.HLC
	_, err = s.read(ctx, log, at, func(r *reader, l *logState, _ logcore.LSN) error {
		var found bool
		var err error
		lsn, hlc, found, err = r.resolve(l, last)
		if err == nil && !found {
			err = fmt.Errorf("pageserver: log %q: %w: it has no change at or before %v", log, logcore.ErrTrimmed, t.UTC().Format(time.RFC3339Nano))
		}
		return err
	})
	return lsn, hlc, err
}

// passed reports whether a log's ingested entries go beyond a time: then all of those up to it are
// there, whether the log service answers or not. It sets at to what is there.
func (s *Server) passed(log string, t logcore.HLC, at *ReadAt) bool {
	l := s.registry.named(log)
	if l == nil {
		return false
	}
	v := l.snapshot()
	*at = ReadAt{LSN: v.visible, Wait: at.Wait}.ofPast()
	return v.visibleTime > t
}

// CreateBranch forks a log at an LSN, 0 meaning the newest ingested one, and returns
// the branch's id and the LSN. The branch exists durably in the catalog on return.
// Errors are those of GetPages and those of the source.
func (s *Server) CreateBranch(ctx context.Context, parent, branch string, at ReadAt) (logcore.LogID, logcore.LSN, error) {
	if err := logcore.ValidateLogName(branch); err != nil {
		return 0, 0, err
	}
	lsn, err := s.read(ctx, parent, at, func(*reader, *logState, logcore.LSN) error { return nil })
	if err != nil {
		return 0, 0, err
	}
	info, err := s.opts.Source.CreateBranch(ctx, parent, branch, lsn)
	if err != nil {
		return 0, 0, fmt.Errorf("pageserver: branch %q of %q: %w", branch, parent, err)
	}
	if _, err := s.adoptWithParents(ctx, info); err != nil {
		return 0, 0, err
	}
	return info.ID, lsn, nil
}

// unconfirmedPause is the pause before the log service is asked again whether it has the history
// that pages come from.
const unconfirmedPause = 10 * time.Millisecond

// readAttempts is how often a read begins again after the log's pages were thrown
// away or healed under it.
const readAttempts = 4

// read waits until a log is ingested as far as asked and calls visit with a reader
// and the LSN to read at. When visit meets damage, it is counted and healed, and visit
// is called again.
func (s *Server) read(ctx context.Context, log string, at ReadAt, visit func(*reader, *logState, logcore.LSN) error) (logcore.LSN, error) {
	deadline := time.Now().Add(at.patience())
	var damage error
	for range readAttempts {
		l, err := s.lookupBefore(ctx, log, at.Log, deadline)
		if err != nil {
			return 0, err
		}
		seen := l.generations()
		lsn, err := s.waitWithParents(ctx, l, at, deadline)
		if err == nil {
			err = s.classify(s.visit(l, seen, lsn, visit))
		}
		switch {
		case errors.Is(err, errVanished):
		case err == nil || !errors.Is(err, logcore.ErrCorrupt), isRedoError(err), errors.Is(err, logcore.ErrWrongPageServer):
			return lsn, err
		case errors.Is(err, errStopped):
			return 0, err // the log's own entries are at fault, not the store
		default:
			if damage = err; s.repair(ctx, l, seen, err, deadline) != nil {
				return 0, err
			}
		}
	}
	if damage != nil {
		return 0, damage
	}
	return 0, fmt.Errorf("pageserver: log %q: %w: its pages are being built again", log, logcore.ErrOverloaded)
}

// lookupBefore returns a log by name; with an id, the log of that name and no other.
func (s *Server) lookupBefore(ctx context.Context, name string, id logcore.LogID, deadline time.Time) (*logState, error) {
	if l := s.registry.named(name); l != nil && (id == 0 || l.id == id) {
		return l, nil // nearly always; a deadline costs as much as the rest of a cached page
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	l, err := s.lookup(ctx, name)
	if err != nil || id == 0 || l.id == id {
		return l, err
	}
	info, err := s.sourceInfo(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("pageserver: log %q: %w", name, err)
	}
	if info.ID != id {
		return nil, fmt.Errorf("pageserver: %w: %q with the id %d: it has %d now: it was reset, or deleted and created anew", logcore.ErrLogNotFound, name, uint64(id), uint64(info.ID))
	}
	return s.adoptWithParents(ctx, info)
}

// waitWithParents waits for what is asked of a log and, on a branch, for its parents
// up to where it branched off. It returns the LSN to read at.
func (s *Server) waitWithParents(ctx context.Context, l *logState, at ReadAt, deadline time.Time) (logcore.LSN, error) {
	w := at.target()
	var ingested logcore.LSN
	for {
		if at.past && s.answersUnconfirmed(ctx, l, w, deadline) {
			return at.LSN, nil
		}
		w.past = at.past && time.Until(deadline) > 0
		var err error
		if ingested, err = s.waitFor(ctx, l, w, deadline); err == nil {
			break
		}
		if !errors.Is(err, errUnconfirmed) {
			return 0, err
		}
		select { // it is there by now, and the log service has been asked just now
		case <-time.After(unconfirmedPause):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	lsn, need := at.LSN, w.lsn
	if w.newest {
		lsn, need = ingested, ingested
	}
	for a := l; a.parent != nil; a = a.parent {
		need = min(need, a.branch.lsn)
		if _, err := s.waitFor(ctx, a.parent, want{lsn: need}, deadline); err != nil {
			return 0, err
		}
	}
	return lsn, nil
}

// visit calls fn with a reader, provided that the states of the log and its ancestors
// still are those that were waited for.
func (s *Server) visit(l *logState, seen []uint64, lsn logcore.LSN, fn func(*reader, *logState, logcore.LSN) error) error {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return logcore.ErrClosed
	}
	if !slices.Equal(seen, l.generations()) {
		return errVanished
	}
	r := s.newReader()
	defer r.close()
	r.exact, r.incarnation = l.covers(lsn), l.info().Incarnation
	if err := l.checkReadable(lsn); err != nil {
		return err
	}
	err := fn(r, l, lsn)
	// What was read may have been collected meanwhile.
	if trimmed := l.checkReadable(lsn); trimmed != nil {
		return trimmed
	}
	return err
}

// repair heals the damage that a read met, as far as a read can wait for it: nil
// means that it may try again.
func (s *Server) repair(ctx context.Context, l *logState, seen []uint64, err error, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var page *damagedPage
	if errors.As(err, &page) {
		return s.heal(ctx, page)
	}
	s.noteStoreError(err)
	return l.awaitNewGeneration(ctx, seen)
}
