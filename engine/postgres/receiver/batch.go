package receiver

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// batch collects WAL until it ends between two records.
//
// Invariant: pieces hold the bytes [start, fed).
type batch struct {
	header       payload.Payload // of what take makes, but for Start and Content
	decoder      *wal.Decoder
	start, fed   wal.Position
	pieces       [][]byte
	partBytesMax int
	bytesMax     int
}

func (r *Receiver) newBatch(c *conn, at wal.Position) (*batch, error) {
	d, err := wal.NewDecoder(wal.Options{Start: at, SegmentBytes: c.segmentBytes, SystemID: r.systemID})
	if err != nil {
		return nil, err
	}
	return &batch{header: payload.Payload{Kind: payload.KindWAL, SystemID: r.systemID, Timeline: r.timeline, SegmentBytes: c.segmentBytes},
		decoder: d, start: at, fed: at, partBytesMax: r.log.PartBytesMax(), bytesMax: r.opts.RecordBytesMax}, nil
}

// add takes the next bytes, which are copied, and checks every record that is whole.
func (b *batch) add(content []byte) error {
	piece := append([]byte(nil), content...)
	b.pieces = append(b.pieces, piece)
	b.fed += wal.Position(len(piece))
	b.decoder.Feed(piece)
	var rec wal.Record
	for {
		err := b.decoder.Next(&rec)
		if errors.Is(err, wal.ErrMore) {
			break
		}
		if err != nil {
			return fmt.Errorf("what the server sent: %w", err)
		}
	}
	if int(b.fed-b.start) > b.bytesMax {
		return fmt.Errorf("%w: a WAL record, or the rest of a segment, of more than %d bytes at %v: raise RecordBytesMax", logcore.ErrTooLarge, b.bytesMax, b.start)
	}
	return nil
}

// ready is how many bytes take would take.
func (b *batch) ready() int {
	if end := b.decoder.Boundary(); end > b.start {
		return int(end - b.start)
	}
	return 0
}

// take returns all that ends between records, as the parts of one transaction; nil when
// there is nothing.
func (b *batch) take() (parts [][]byte, end wal.Position) {
	end = b.decoder.Boundary()
	if end <= b.start {
		return nil, 0
	}
	content := b.cut(int(end - b.start))
	room := b.partBytesMax - payload.HeaderBytes
	for at := b.start; len(content) > 0; {
		n := min(len(content), room)
		p := b.header
		p.Start, p.Content = at, content[:n]
		parts = append(parts, p.Append(make([]byte, 0, payload.HeaderBytes+n)))
		content = content[n:]
		at += wal.Position(n)
	}
	b.start = end
	return parts, end
}

// cut takes the first n bytes out of the pieces.
func (b *batch) cut(n int) []byte {
	if n <= len(b.pieces[0]) {
		out := b.pieces[0][:n]
		if b.pieces[0] = b.pieces[0][n:]; len(b.pieces[0]) == 0 {
			b.pieces = b.pieces[1:]
		}
		return out
	}
	out := make([]byte, 0, n)
	for len(out) < n {
		p := b.pieces[0]
		m := min(n-len(out), len(p))
		out = append(out, p[:m]...)
		if b.pieces[0] = p[m:]; m == len(p) {
			b.pieces = b.pieces[1:]
		}
	}
	return out
}
