package pageserver

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
)

// commitAt returns the last commit of one log at or before an LSN.
func (r *reader) commitAt(owner *logState, lsn logcore.LSN) (logcore.LSN, logcore.HLC, bool, error) {
	lower := appendLogKey(nil, tagCommit, owner.id)
	it, err := r.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(lower)})
	if err != nil {
		return 0, 0, false, err
	}
	defer it.Close()
	valid := it.Last()
	if lsn != ^logcore.LSN(0) {
		valid = it.SeekLT(appendCommitKey(nil, owner.id, lsn+1))
	}
	if !valid {
		return 0, 0, false, it.Error()
	}
	sealed, err := it.ValueAndErr()
	if err != nil {
		return 0, 0, false, err
	}
	var last commit
	err = decodeCommits(it.Key(), sealed, func(c commit) bool {
		if c.lsn > lsn {
			return false
		}
		last = c
		return true
	})
	return last.lsn, last.time, err == nil, err
}

// lastCommit returns the last visible change at or before an LSN, that of an ancestor
// when the branch has none.
func (r *reader) lastCommit(l *logState, lsn logcore.LSN) (logcore.LSN, logcore.HLC, bool, error) {
	for owner, bound := l, lsn; owner != nil; owner, bound = owner.parent, min(bound, owner.branch.lsn) {
		at, t, found, err := r.commitAt(owner, bound)
		if err != nil || found {
			return at, t, found, err
		}
	}
	return 0, 0, false, nil
}

// resolve returns the last visible change at or before a time. Times rise with LSNs,
// so it halves the range of LSNs that can hold it. When that change may have been
// collected the error wraps logcore.ErrTrimmed.
func (r *reader) resolve(l *logState, t logcore.HLC) (logcore.LSN, logcore.HLC, bool, error) {
	visible, low := l.snapshot().ingested, logcore.LSN(0)
	// Invariant: the answer is above low or there is none above it; it is not above visible.
	var best logcore.LSN
	var bestTime logcore.HLC
	for low < visible {
		middle := low + (visible-low+1)/2
		at, when, found, err := r.lastCommit(l, middle)
		switch {
		case err != nil:
			return 0, 0, false, err
		case !found:
			low = middle
		case when <= t:
			best, bestTime, low = at, when, middle
		default:
			visible = at - 1 // at > low, or its time would have been found before
		}
	}
	if best == 0 {
		return 0, 0, false, nil
	}
	return best, bestTime, true, r.checkLastOfTime(l, best)
}

// checkLastOfTime makes sure that no commit right after one that resolve found was
// collected: of those below the horizon only some are kept, and an older one would pass
// for the last of its time. The newest at or before the horizon is always kept, and so is
// the newest that a branch sees of its parent. The error wraps logcore.ErrTrimmed.
func (r *reader) checkLastOfTime(l *logState, found logcore.LSN) error {
	owner, bound := l.ownerOf(found)
	p := owner.readable.Load()
	if p == nil || found >= p.horizon {
		return nil
	}
	last, _, _, err := r.commitAt(owner, min(bound, p.horizon))
	if err != nil || last == found {
		return err
	}
	return fmt.Errorf("pageserver: log %q: %w: its changes are kept from LSN %d on, that time is before: ask for a later one", l.name(), logcore.ErrTrimmed, p.horizon)
}
