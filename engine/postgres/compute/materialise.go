package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/cluster"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// ingestWait is how long a page server that is behind is waited for; the rest of the log is applied here.
const ingestWait = 10 * time.Second

// clockSkews are by how much the database's clock may be ahead of the log's: they are tried in turn.
var clockSkews = []time.Duration{0, time.Minute, time.Hour}

// errNotBefore says that the store has no state that is certainly before the target.
var errNotBefore = errors.New("compute: the page server has nothing from before that moment")

// Materialise writes into dir, which must be empty or missing, the data directory as of target: what the page server has, and what the log has behind that. The
// time that takes depends on the size of the data, not on the length of the log. Without a page server, or when it can't, the directory is made from the log alone, by
// Build. to is the log's last LSN.
func Materialise(ctx context.Context, dir string, s Store, log Log, to logcore.LSN, target Target, logger *slog.Logger) (Result, error) {
	if logger == nil {
		logger = slog.Default()
	}
	if target.LSN == 0 || target.LSN > to {
		target.LSN = to
	}
	if s != nil {
		if err := emptyDir(dir); err != nil {
			return Result{}, err
		}
		for _, skew := range clockSkews {
			r, err := fromStore(ctx, dir, s, log, target, skew, logger)
			if err == nil || ctx.Err() != nil || errors.Is(err, logcore.ErrInvalid) {
				return r, err
			}
			if err := clearDir(dir); err != nil {
				return Result{}, err
			}
			if target.Time.IsZero() || !errors.Is(err, errNotBefore) {
				logger.Warn("compute: the data directory is made from the log alone, which takes longer", "err", err)
				break
			}
		}
	}
	return Build(ctx, dir, log(ctx, 0, target.LSN), target, logger)
}

func fromStore(ctx context.Context, dir string, s Store, log Log, target Target, skew time.Duration, logger *slog.Logger) (Result, error) {
	at, err := storeLSN(ctx, s, log, target, skew)
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	release, err := s.Hold(ctx, at)
	if err != nil {
		return Result{}, err
	}
	f, err := fill(ctx, dir, s, at)
	release()
	if err != nil {
		return Result{}, err
	}
	if !target.Time.IsZero() && f.checkpoint.LastCommit != 0 && postgresTime(f.checkpoint.LastCommit).After(target.Time) {
		return Result{}, errNotBefore
	}
	logger.Info("compute: the pages are there", "lsn", at, "pages", f.pages, "took", time.Since(began).Round(time.Millisecond))
	b := &build{dir: dir, target: target, log: logger, base: f.base.Start, baseEnd: f.base.End, history: f.history}
	defer b.close()
	if b.cluster, err = cluster.Open(dir, logger); err != nil {
		return Result{}, err
	}
	b.result = Result{SystemID: f.base.SystemID, Segment: f.base.SegmentBytes, LSN: at, BaseBytes: f.base.Bytes, Pages: f.pages}
	if t := f.checkpoint.LastCommit; t != 0 {
		b.result.LastCommit = postgresTime(t)
	}
	segment := wal.Position(f.base.SegmentBytes)
	start := f.checkpoint.At - f.checkpoint.At%segment
	b.replay, err = b.cluster.ResumeReplay(start, cluster.Known{Counters: f.checkpoint.At, Prev: f.checkpoint.Prev})
	if err != nil {
		return Result{}, err
	}
	return b.tail(ctx, log, start, at)
}

// storeLSN returns the LSN as of which the store is read: the target, or, when what is asked for is no LSN or the store isn't there yet, one before it.
func storeLSN(ctx context.Context, s Store, log Log, target Target, skew time.Duration) (at logcore.LSN, err error) {
	at = target.LSN
	switch {
	case !target.Time.IsZero():
		var before logcore.LSN
		if before, err = s.Before(ctx, target.Time.Add(-skew)); err == nil {
			at = min(at, before)
		}
	case target.Position != 0:
		at, err = lastUpTo(ctx, log, at, target.Position)
	}
	if err == nil && at == 0 {
		err = errNotBefore
	}
	if err != nil {
		return 0, err
	}
	ingested, err := s.Ingested(ctx, at, ingestWait)
	return min(at, ingested), err
}

// walEntry is the WAL of one transaction of the log, as far as it was read.
type walEntry struct {
	first, lsn logcore.LSN // of its first entry that was read, and where it counts from
	start, end wal.Position
}

// walAt returns the first WAL at or behind an LSN; the zero value when there is none up to to.
func walAt(ctx context.Context, log Log, from, to logcore.LSN) (w walEntry, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var x transactions
	for e, err := range log(ctx, from, to) {
		if err != nil {
			return w, err
		}
		c := x.take(e)
		for _, raw := range c.payloads {
			p, err := payload.Decode(raw)
			if err != nil {
				return w, fmt.Errorf("compute: entry %d: %w", e.LSN, err)
			}
			if p.Kind != payload.KindWAL {
				continue
			}
			if w.lsn == 0 {
				w = walEntry{c.first, e.LSN, p.Start, p.End()}
			}
			w.end = p.End()
		}
		if w.lsn != 0 {
			return w, nil
		}
	}
	return w, nil
}

// lastUpTo returns the LSN of the last entry at or before to whose WAL ends at or before a position, 0 when there is none. WAL is in
// the order of its positions, so it looks at few entries.
func lastUpTo(ctx context.Context, log Log, to logcore.LSN, position wal.Position) (logcore.LSN, error) {
	low, high := logcore.LSN(0), to // the entry is in [low, high]; at low, the last seen that is one
	found := logcore.LSN(0)
	for low < high {
		middle := low + (high-low)/2
		w, err := walAt(ctx, log, middle+1, high)
		if err != nil {
			return 0, err
		}
		if w.lsn != 0 && w.end <= position {
			low, found = w.lsn, w.lsn
		} else {
			high = middle
		}
	}
	return found, nil
}

// tailFrom returns an LSN from which on the log has all WAL from a position on, and little before it.
func tailFrom(ctx context.Context, log Log, at logcore.LSN, position wal.Position) (logcore.LSN, error) {
	const first = 64
	for back := logcore.LSN(first); back < at; back *= 2 {
		w, err := walAt(ctx, log, at-back, at)
		if err != nil && !errors.Is(err, logcore.ErrTrimmed) {
			return 0, err
		}
		if err == nil && w.lsn != 0 && w.start <= position {
			return w.first, nil // its parts are before where it counts from
		}
	}
	return 0, nil
}

// tail feeds the log from a position, which begins a segment, to the target: what is in the files up to an LSN, then what isn't yet.
func (b *build) tail(ctx context.Context, log Log, start wal.Position, at logcore.LSN) (Result, error) {
	from, err := tailFrom(ctx, log, at, start)
	if err != nil {
		return Result{}, err
	}
	behind := false
	var x transactions
	for e, err := range log(ctx, from, b.target.LSN) {
		if err != nil {
			return Result{}, err
		}
		if e.LSN > at && !behind {
			b.replay.Behind()
			behind = true
		}
		for _, raw := range x.take(e).payloads {
			if err := b.tailPayload(raw, start, e.LSN, behind); err != nil {
				return Result{}, fmt.Errorf("compute: entry %d: %w", e.LSN, err)
			}
		}
		if b.done {
			break
		}
	}
	return b.finish()
}

func (b *build) tailPayload(raw []byte, start wal.Position, lsn logcore.LSN, behind bool) error {
	p, err := payload.Decode(raw)
	switch {
	case err != nil:
		return err
	case b.done:
		return nil
	case p.Kind == payload.KindHistory && behind:
		b.history, b.timeline = p.Content, p.Timeline
	case p.Kind != payload.KindWAL || b.due == 0 && p.End() <= start:
		b.timeline = p.Timeline
		return nil
	}
	if p.Kind != payload.KindWAL {
		return nil
	}
	if b.due == 0 {
		if p.Start > start {
			return fmt.Errorf("%w: WAL from %v on, where %v is due", logcore.ErrCorrupt, p.Start, start)
		}
		p.Content, p.Start, b.due = p.Content[start-p.Start:], start, start
	}
	if err := b.wal(p); err != nil {
		return err
	}
	if b.done && !behind {
		return errNotBefore // the target is before what the store has
	}
	b.result.LSN = max(b.result.LSN, lsn)
	return nil
}
