package recovery

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog/segment"
)

// replay folds entries as they pass: it proves that they make a valid history and
// finds out what there is in it.
type replay struct {
	state   *catalog.State
	first   logcore.LSN
	last    logcore.Entry // without its payload
	entries uint64
	bytes   int64
	frames  int64                    // bytes of frames
	open    map[logcore.TxID]*openTx // transactions with parts and no end so far
}

type openTx struct {
	log   logcore.LogID
	epoch logcore.Epoch
	first logcore.LSN
	parts int
}

func newReplay() *replay {
	return &replay{state: catalog.NewState(), open: map[logcore.TxID]*openTx{}}
}

// add folds one entry.
func (r *replay) add(e logcore.Entry) error {
	if err := r.state.Apply(e); err != nil {
		return err
	}
	if r.first == 0 {
		r.first = e.LSN
	}
	r.entries++
	r.bytes += int64(len(e.Payload))
	if e.Kind.OfLog() {
		if err := r.track(e); err != nil {
			return err
		}
	}
	r.last = e
	r.last.Payload = nil
	return nil
}

func (r *replay) track(e logcore.Entry) error {
	if e.Kind != logcore.KindPart {
		delete(r.open, e.Tx) // data, commit and abort each end what they name
		return nil
	}
	tx := r.open[e.Tx]
	if tx == nil {
		rec, err := catalog.DecodeRecord(e.Payload)
		if err != nil {
			return err
		}
		tx = &openTx{log: rec.Log, epoch: rec.Epoch, first: e.LSN}
		r.open[e.Tx] = tx
	}
	tx.parts++
	return nil
}

// report writes what was found in a shard into rep; only the named log, when there is a name.
func (r *replay) report(rep *Report, shard logcore.ShardID, only string) error {
	rep.Entries, rep.EntryBytes = r.entries, r.bytes
	rep.FirstLSN, rep.LastLSN, rep.LastTime = r.first, r.last.LSN, wall(r.last.Time)
	if only != "" {
		if _, err := r.state.ByName(only); err != nil {
			return fmt.Errorf("%w at LSN %d: it holds %s", err, r.last.LSN, r.names())
		}
	}
	name := map[logcore.LogID]string{}
	for _, l := range r.state.Logs() {
		name[l.ID] = l.Name
	}
	rep.Logs = []LogReport{}
	for _, l := range r.state.Logs() {
		if !l.Gone && (only == "" || l.Name == only) {
			rep.Logs = append(rep.Logs, LogReport{Log: l.Name, Shard: uint32(shard), ID: uint64(l.ID), Parent: name[l.Parent], FirstLSN: l.FirstLSN(),
				LastLSN: l.LastLSN, LastTime: wall(l.LastTime), Entries: l.Entries, Bytes: l.Bytes, Epoch: uint64(l.Epoch)})
		}
	}
	rep.Unfinished = []Unfinished{}
	for id, tx := range r.open {
		if only == "" || name[tx.log] == only {
			rep.Unfinished = append(rep.Unfinished, Unfinished{Log: name[tx.log], Tx: id.String(), First: tx.first, Parts: tx.parts})
		}
	}
	slices.SortFunc(rep.Unfinished, func(a, b Unfinished) int { return cmp.Compare(a.First, b.First) })
	return nil
}

func (r *replay) names() string {
	list := "no log"
	for i, l := range r.state.Logs() {
		if i == 0 {
			list = l.Name
			continue
		}
		list += ", " + l.Name
	}
	return list
}

func wall(h logcore.HLC) time.Time {
	if h == 0 {
		return time.Time{}
	}
	return h.Wall()
}

// point is where a restore stops: after the last entry that keep accepts.
type point struct {
	lsn logcore.LSN // 0: no limit
	at  logcore.HLC // 0: no limit
}

func (p point) keeps(e logcore.Entry) bool {
	return (p.lsn == 0 || e.LSN <= p.lsn) && (p.at == 0 || e.Time <= p.at)
}

// through yields the spans up to the point, folds every entry of them, and calls
// passed after each span. It returns after the span in which the point lies.
func (r *replay) through(spans iter.Seq2[segment.Span, error], p point, passed func()) iter.Seq2[segment.Span, error] {
	return func(yield func(segment.Span, error) bool) {
		for s, err := range spans {
			if err != nil {
				yield(segment.Span{}, err)
				return
			}
			kept, whole, err := r.take(s, p)
			if err != nil {
				yield(segment.Span{}, fmt.Errorf("replaying LSN %d to %d: %w", s.First, s.Last, err))
				return
			}
			if len(kept.Frames) > 0 && !yield(kept, nil) {
				return
			}
			r.frames += int64(len(kept.Frames))
			passed()
			if !whole {
				return
			}
		}
	}
}

// take folds the entries of s up to the point and returns the span they make; whole is
// false when the point cut it.
func (r *replay) take(s segment.Span, p point) (kept segment.Span, whole bool, err error) {
	prev, off := s.Prev, 0
	kept = s
	kept.Last, kept.LastTime, kept.Sealed = s.First-1, 0, false
	for off < len(s.Frames) {
		e, sum, n, err := segment.DecodeFrame(s.Frames[off:], s.ID, prev)
		if err != nil {
			return segment.Span{}, false, err
		}
		if !p.keeps(e) {
			kept.Frames, kept.Sum = s.Frames[:off], prev
			return kept, false, nil
		}
		if err := r.add(e); err != nil {
			return segment.Span{}, false, err
		}
		off += n
		prev = sum
		kept.Last, kept.LastTime = e.LSN, max(kept.LastTime, e.Time)
	}
	if r.last.LSN != s.Last || prev != s.Sum {
		return segment.Span{}, false, fmt.Errorf("%w: the span ends at LSN %d with checksum %08x, want %d with %08x", logcore.ErrCorrupt, r.last.LSN, prev, s.Last, s.Sum)
	}
	return s, true, nil
}
