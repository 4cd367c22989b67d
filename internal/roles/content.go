package roles

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
)

// content knows what is in the frames of the archive, for its compaction.
type content struct {
	shard logcore.ShardID
	// view calls f with the catalog as it is.
	view func(f func(*catalog.State))
}

var _ tiering.Content = content{}

// Version implements tiering.Content: what was given up changes it.
func (c content) Version(context.Context) (version string, err error) {
	h := fnv.New64a()
	c.view(func(s *catalog.State) {
		for _, l := range s.Logs() {
			fmt.Fprintf(h, "%d %d %d %d;", l.ID, l.Parent, l.BranchLSN, l.TruncatedBefore)
			if l.Gone || len(l.Extents) > 0 {
				fmt.Fprintf(h, "%d %v;", l.Base, l.Gone)
			}
		}
	})
	return fmt.Sprintf("%016x", h.Sum64()), nil
}

// heir is a branch that sees the entries [from, upTo] of a log it descends from.
type heir struct {
	log        logcore.LogID
	from, upTo logcore.LSN
}

// needs is who needs the entries of which logs.
type needs struct {
	from  map[logcore.LogID]logcore.LSN // below it a log has given its entries up; a log that is not there and below next was deleted
	next  logcore.LogID
	heirs map[logcore.LogID][]heir // of its branches, theirs, and so on
}

func (c content) needs() needs {
	n := needs{from: map[logcore.LogID]logcore.LSN{}, heirs: map[logcore.LogID][]heir{}}
	c.view(func(s *catalog.State) {
		n.next = s.NextLog()
		for _, l := range s.Logs() {
			n.from[l.ID] = givenUpBefore(l)
		}
		for _, l := range s.Logs() {
			chain, err := s.Chain(l.ID, c.shard)
			if err != nil {
				continue // there is no log without its parents
			}
			for _, e := range chain {
				if e.Shard == c.shard && e.Log != l.ID {
					n.heirs[e.Log] = append(n.heirs[e.Log], heir{l.ID, heirFrom(l, e), e.Last - e.Base})
				}
			}
		}
	})
	return n
}

// givenUpBefore returns the index in the shard below which a log has given its entries up. Of one that has been in
// several shards nothing counts as given up: what it is truncated before is known where it is now.
func givenUpBefore(l *catalog.Log) logcore.LSN {
	if l.Gone || len(l.Extents) > 0 {
		return 0
	}
	return l.Index(l.TruncatedBefore)
}

// heirFrom returns the index of the first entry that a branch needs of an extent.
func heirFrom(l *catalog.Log, e catalog.Extent) logcore.LSN {
	if l.Gone || l.TruncatedBefore <= e.Base {
		return 0
	}
	return l.TruncatedBefore - e.Base
}

// of returns the branches that need an entry, and whether nobody does.
func (n needs) of(log logcore.LogID, lsn logcore.LSN) (heirs []logcore.LogID, givenUp bool) {
	for _, h := range n.heirs[log] {
		if h.from <= lsn && lsn <= h.upTo {
			heirs = append(heirs, h.log)
		}
	}
	from, exists := n.from[log]
	return heirs, len(heirs) == 0 && (lsn < from || !exists && log < n.next)
}

// Entries implements tiering.Content.
func (c content) Entries(_ context.Context, span tiering.Span) ([]tiering.ContentEntry, error) {
	needs := c.needs()
	var out []tiering.ContentEntry
	open := map[logcore.TxID][]int{} // parts of a transaction, as indexes into out
	for e, err := range recovery.ToHotLog(span).Entries() {
		if err != nil {
			return nil, err
		}
		if !e.Kind.OfLog() {
			continue
		}
		rec, err := catalog.DecodeRecord(e.Payload)
		if err != nil {
			return nil, err
		}
		if rec.Erased {
			continue
		}
		heirs, givenUp := needs.of(rec.Log, e.LSN)
		entry := tiering.ContentEntry{LSN: e.LSN, Log: rec.Log, Heirs: heirs, Deleted: givenUp,
			Bytes: segment.FrameBytes(len(e.Payload)) - segment.FrameBytes(erased(rec).Size())}
		if e.Kind == logcore.KindPart {
			open[e.Tx] = append(open[e.Tx], len(out))
			out = append(out, entry)
			continue
		}
		entry.Closed, entry.Aborted = e.Time, e.Kind == logcore.KindAbort
		for _, i := range open[e.Tx] { // of this transaction: they go when it does
			out[i].Closed, out[i].Aborted = entry.Closed, entry.Aborted
		}
		delete(open, e.Tx)
		out = append(out, entry)
	}
	return out, nil
}

// erased is a record without its body.
func erased(r catalog.Record) catalog.Record {
	return catalog.Record{Log: r.Log, Epoch: r.Epoch, Sequence: r.Sequence, Position: r.Position, Erased: true, ErasedBytes: uint64(len(r.Body))}
}

// Erase implements tiering.Content. What is erased becomes an aborted entry without a body,
// with the checksum that the entry had.
func (c content) Erase(_ context.Context, span tiering.Span, gone func(lsn logcore.LSN) bool) (tiering.Span, error) {
	s := recovery.ToHotLog(span)
	out := s
	out.Frames = make([]byte, 0, len(s.Frames))
	r := span.Prev
	at := 0
	f := fillers{id: s.ID}
	for e, err := range s.Entries() {
		if err != nil {
			return tiering.Span{}, err
		}
		n := int(segment.FrameBytes(len(e.Payload)))
		frame := s.Frames[at : at+n]
		_, sum, _, err := segment.DecodeFrame(frame, s.ID, r)
		if err != nil {
			return tiering.Span{}, err
		}
		if gone(e.LSN) {
			if out.Frames, err = f.erase(out.Frames, r, sum, e); err != nil {
				return tiering.Span{}, fmt.Errorf("erase entry %d: %w", e.LSN, err)
			}
		} else {
			out.Frames = append(out.Frames, frame...)
		}
		r, at = sum, at+n
	}
	return recovery.ToArchive(out), nil
}

// fillers finds the four bytes that make the checksum of a frame what it should be. The
// checksum is linear: how each bit of the filler moves it depends only on how far it is
// from the end of the frame, so that it is found out once for each padding.
type fillers struct {
	id     segment.ID
	solved map[int]*[32]uint32 // by bytes of padding: filler bits for each bit of a checksum
}

// erase appends the frame of e without its body and with the checksum sum.
func (f *fillers) erase(dst []byte, prev, sum uint32, e logcore.Entry) ([]byte, error) {
	rec, err := catalog.DecodeRecord(e.Payload)
	if err != nil {
		return nil, err
	}
	rec = erased(rec)
	e.Kind = logcore.KindAbort
	try := func(filler uint32) ([]byte, uint32) {
		rec.Filler = [4]byte{byte(filler), byte(filler >> 8), byte(filler >> 16), byte(filler >> 24)}
		e.Payload = rec.Append(nil)
		return segment.AppendFrame(dst, f.id, prev, e)
	}
	_, plain := try(0)
	padding := int(segment.FrameBytes(rec.Size())) - segment.FrameHeaderBytes - rec.Size()
	solved := f.solved[padding]
	if solved == nil {
		var moved [32]uint32
		for bit := range moved {
			_, with := try(1 << bit)
			moved[bit] = with ^ plain
		}
		if solved, err = invert(moved); err != nil {
			return nil, err
		}
		if f.solved == nil {
			f.solved = map[int]*[32]uint32{}
		}
		f.solved[padding] = solved
	}
	filler := uint32(0)
	for bit := range solved {
		if (plain^sum)>>bit&1 == 1 {
			filler ^= solved[bit]
		}
	}
	out, got := try(filler)
	if got != sum {
		return nil, fmt.Errorf("%w: the checksum came to %08x, not %08x", logcore.ErrInvalid, got, sum)
	}
	return out, nil
}

// invert returns for each bit of a checksum the filler that moves that bit alone, given
// what each bit of the filler moves.
func invert(moved [32]uint32) (*[32]uint32, error) {
	var made [32]uint32 // by row: which bits of the filler it is made of
	for i := range made {
		made[i] = 1 << i
	}
	for bit := range 32 {
		pivot := -1
		for row := bit; row < 32; row++ {
			if moved[row]>>bit&1 == 1 {
				pivot = row
				break
			}
		}
		if pivot < 0 {
			return nil, fmt.Errorf("%w: the filler does not reach every checksum", logcore.ErrInvalid)
		}
		moved[bit], moved[pivot] = moved[pivot], moved[bit]
		made[bit], made[pivot] = made[pivot], made[bit]
		for row := range 32 {
			if row != bit && moved[row]>>bit&1 == 1 {
				moved[row] ^= moved[bit]
				made[row] ^= made[bit]
			}
		}
	}
	return &made, nil
}
