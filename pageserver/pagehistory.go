package pageserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// Limits of History.
const (
	// ChangesDefault is how many changes are returned unless asked otherwise.
	ChangesDefault = 100
	// ChangesMax is the most.
	ChangesMax = 1000
	// changesTxWait bounds the search for the transactions' ids in the log.
	changesTxWait = 5 * time.Second
)

// ChangeKind says what happened to a page. The numbers are those of the wire.
type ChangeKind uint8

// The kinds of a change. The store may keep any change as an image; it then is one.
const (
	ChangeImage ChangeKind = 1 // it became a whole new content
	ChangeDelta ChangeKind = 2 // ranges were overwritten
	ChangeRedo  ChangeKind = 3 // the engine's own record was applied
	ChangeInit  ChangeKind = 4 // the engine's own record made it, whatever was there
	ChangeCut   ChangeKind = 5 // it lost its content with its space's, or with the end of it
)

// Change is one change of a page.
type Change struct {
	LSN  logcore.LSN // of the commit that made it visible
	Time logcore.HLC
	// Tx is zero when the entry is not there any more.
	Tx   logcore.TxID
	Kind ChangeKind
	// BytesChanged is how many bytes of the page differ from before.
	BytesChanged int
	// RecordBytes is what the store has of the change; 0 for a cut.
	RecordBytes int

	owner string // the log that has it
}

// ChangeRange says which changes of a page.
type ChangeRange struct {
	// From and To are bounds, both included; 0 is none.
	From, To logcore.LSN
	// Limit is the most changes; 0 means ChangesDefault, the most is ChangesMax.
	Limit int
}

// Changes is the answer to History.
type Changes struct {
	LSN         logcore.LSN // up to which was looked
	Incarnation uint64
	Changes     []Change // the last one first
	// Next is what To has to be to go on; 0 when there are no more.
	Next logcore.LSN
	// CompleteFrom is the log's horizon: changes below it may have been collected; 0 when none were.
	CompleteFrom logcore.LSN
}

// History returns what changed a page of a log or branch, the last change first. A change of
// a branch's parent before the fork is one of the branch's page. Errors are those of GetPages.
func (s *Server) History(ctx context.Context, log string, space engine.Space, page uint32, of ChangeRange, wait time.Duration) (Changes, error) {
	if of.Limit == 0 {
		of.Limit = ChangesDefault
	}
	if of.Limit < 0 || of.Limit > ChangesMax || of.To != 0 && of.From > of.To {
		return Changes{}, fmt.Errorf("pageserver: %w: %d changes from LSN %d to %d: want 1 to %d, forwards", logcore.ErrInvalid, of.Limit, of.From, of.To, ChangesMax)
	}
	var out Changes
	_, err := s.read(ctx, log, ReadAt{LSN: of.To, Wait: wait}, func(r *reader, l *logState, lsn logcore.LSN) error {
		if err := s.checkHeld(l, space, page); err != nil {
			return err
		}
		out = Changes{LSN: lsn, Incarnation: r.incarnation}
		if p := l.readable.Load(); p != nil {
			out.CompleteFrom = p.horizon
		}
		if err := r.changes(l, space, page, endOf(lsn), of, &out); err != nil {
			return err
		}
		return s.checkHeld(l, space, page)
	})
	if err != nil {
		return Changes{}, err
	}
	s.findTransactions(ctx, out.Changes)
	return out, nil
}

// changes walks back from a place over the versions and cuts of a page.
func (r *reader) changes(l *logState, space engine.Space, page uint32, at pos, of ChangeRange, out *Changes) error {
	for {
		v, err := r.newest(l, space, page, at)
		if err != nil {
			return err
		}
		if v.at == (pos{}) || v.at.lsn < of.From {
			return nil
		}
		at = v.at.before()
		c := Change{LSN: v.at.lsn, Kind: ChangeCut}
		if v.alive {
			c.Kind, c.RecordBytes = changeKind(v)
		}
		after, before, err := r.aroundChange(l, space, page, v.at)
		if err != nil {
			return err
		}
		if !v.alive && before == nil {
			continue // it had no content to lose
		}
		if len(out.Changes) == of.Limit {
			out.Next = c.LSN
			return r.dropLast(out)
		}
		c.BytesChanged = differing(before, after)
		if c.Time, c.owner, err = r.commitOf(l, c.LSN); err != nil {
			return err
		}
		out.Changes = append(out.Changes, c)
	}
}

// dropLast leaves the changes of the LSN at which the next answer begins to that answer:
// unless there would be none left.
func (r *reader) dropLast(out *Changes) error {
	n := len(out.Changes)
	for n > 0 && out.Changes[n-1].LSN == out.Next {
		n--
	}
	if n == 0 {
		return fmt.Errorf("pageserver: %w: one transaction changed the page more than %d times: ask for more changes at a time", logcore.ErrInvalid, len(out.Changes))
	}
	out.Changes = out.Changes[:n]
	return nil
}

// changeKind says what the change was that a version ends with, and how long what is kept of it.
func changeKind(v version) (ChangeKind, int) {
	steps := v.body
	switch {
	case v.header.kind == kindImage:
		return ChangeImage, len(v.body)
	case v.header.kind == kindDelta:
		return ChangeDelta, len(v.body)
	case v.header.flags&(flagInit|flagImage) != 0 && v.at == v.first:
		return ChangeInit, len(v.body)
	case v.header.kind == kindRun:
		steps = v.lastChange()
	}
	for b := steps; len(b) > 0; b = b[stepHeaderBytes+binary.LittleEndian.Uint32(b)&^stepRanges:] {
		if binary.LittleEndian.Uint32(b)&stepRanges == 0 {
			return ChangeRedo, len(steps)
		}
	}
	return ChangeDelta, len(steps)
}

// lastChange returns the steps of a run's last change.
func (v version) lastChange() (steps []byte) {
	body := v.body[v.header.imageBytes():]
	for at := v.first; len(body) > 0; {
		at, steps, body, _ = nextChange(body, at)
	}
	return steps
}

// aroundChange returns a page as of a place and right before it, nil where it had no content.
func (r *reader) aroundChange(l *logState, space engine.Space, page uint32, at pos) (after, before []byte, err error) {
	a, err := r.page(l, space, page, at)
	if err != nil {
		return nil, nil, err
	}
	b, err := r.page(l, space, page, at.before())
	return a.data, b.data, err
}

// differing counts the bytes that differ; what one of the two lacks is zeros.
func differing(a, b []byte) int {
	if len(a) < len(b) {
		a, b = b, a
	}
	n := 0
	for i, v := range a {
		if i < len(b) && v != b[i] || i >= len(b) && v != 0 {
			n++
		}
	}
	return n
}

// commitOf returns the clock of the commit at an LSN and the log that has it.
func (r *reader) commitOf(l *logState, lsn logcore.LSN) (logcore.HLC, string, error) {
	l, _ = l.ownerOf(lsn)
	at, t, found, err := r.commitAt(l, lsn)
	if err != nil || !found || at != lsn {
		return 0, l.name(), err
	}
	return t, l.name(), nil
}

// findTransactions asks the logs which transactions the changes are of, as far as they know
// and in bounded time: the pages do not depend on it.
func (s *Server) findTransactions(ctx context.Context, changes []Change) {
	ctx, cancel := context.WithTimeout(ctx, changesTxWait)
	defer cancel()
	infos := map[string]LogInfo{}
	for i := range changes {
		c := &changes[i]
		if i > 0 && changes[i-1].LSN == c.LSN {
			c.Tx = changes[i-1].Tx
			continue
		}
		info, ok := infos[c.owner]
		if !ok {
			var err error
			if info, err = s.opts.Source.Info(ctx, c.owner); err != nil {
				return
			}
			infos[c.owner] = info
		}
		if e, found, err := s.opts.Source.Entry(ctx, info, c.LSN); err == nil && found {
			c.Tx = e.Tx
		} else if ctx.Err() != nil {
			return
		}
	}
}
