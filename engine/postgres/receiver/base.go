package receiver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// basePieceBytes is how much of a base backup one entry holds.
const basePieceBytes = 1 << 20

// base copies a base backup of the server into the log and returns where the WAL that goes
// with it begins.
func (r *Receiver) base(ctx context.Context, c *conn) (wal.Position, error) {
	if err := c.send("BASE_BACKUP (LABEL 'logcore', CHECKPOINT 'fast', WAL false, MANIFEST 'no', TABLESPACE_MAP true)"); err != nil {
		return 0, err
	}
	start, timeline, err := c.backupPoint()
	if err != nil {
		return 0, err
	}
	r.timeline = timeline
	r.opts.Logger.Info("receiver: the log begins with a base backup", "from", start, "timeline", timeline)
	b := backup{r: r, header: payload.Payload{Kind: payload.KindBase, SystemID: r.systemID, Timeline: timeline, SegmentBytes: c.segmentBytes, Start: start}}
	b.position = payload.AppendPosition(nil, timeline, start)
	if err := b.copy(ctx, c); err != nil {
		return 0, err
	}
	end, _, err := c.backupPoint()
	if err != nil {
		return 0, err
	}
	if err := c.untilReady(); err != nil {
		return 0, err
	}
	last := b.header
	last.Kind, last.Content = payload.KindBaseEnd, binary.LittleEndian.AppendUint64(nil, uint64(end))
	b.submit(ctx, last)
	if err := b.wait(ctx, 0); err != nil {
		return 0, err
	}
	r.opts.Logger.Info("receiver: the base backup is complete", "bytes", b.bytes, "to", end)
	return r.begin(segmentStart(start, c.segmentBytes)), nil
}

// backupPoint reads a result with a position and a timeline.
func (c *conn) backupPoint() (at wal.Position, t wal.Timeline, err error) {
	for {
		m, err := c.receive()
		if err != nil {
			return 0, 0, err
		}
		row, ok := m.(*pgproto3.DataRow)
		if !ok {
			continue
		}
		if len(row.Values) != 2 {
			return 0, 0, fmt.Errorf("BASE_BACKUP: a row of %d columns", len(row.Values))
		}
		at, err = wal.ParsePosition(string(row.Values[0]))
		n, nerr := strconv.ParseUint(string(row.Values[1]), 10, 32)
		return at, wal.Timeline(n), errors.Join(err, nerr)
	}
}

// untilReady reads to the end of a command.
func (c *conn) untilReady() error {
	for {
		m, err := c.receive()
		if err != nil {
			return err
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return nil
		}
	}
}

// backup is a base backup on its way into the log.
type backup struct {
	r        *Receiver
	header   payload.Payload
	position []byte
	archive  string
	piece    []byte
	inflight []Pending
	bytes    int64
}

// copy takes the archives until the server says that there are no more.
func (b *backup) copy(ctx context.Context, c *conn) error {
	const newArchive, data = 'n', 'd'
	for {
		m, err := c.receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.CopyDone:
			return b.flush(ctx)
		case *pgproto3.CopyData:
			switch {
			case len(m.Data) > 1 && m.Data[0] == newArchive:
				if err := b.flush(ctx); err != nil {
					return err
				}
				name, _, _ := bytes.Cut(m.Data[1:], []byte{0})
				b.archive = string(name)
			case len(m.Data) > 1 && m.Data[0] == data:
				if err := b.add(ctx, m.Data[1:]); err != nil {
					return err
				}
			}
		}
	}
}

func (b *backup) add(ctx context.Context, data []byte) error {
	b.bytes += int64(len(data))
	room := min(basePieceBytes, b.r.log.PartBytesMax()-1024)
	if len(b.piece)+len(data) > room {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.piece = append(b.piece, data...)
	return nil
}

// flush appends the piece collected so far.
func (b *backup) flush(ctx context.Context) error {
	if len(b.piece) == 0 {
		return nil
	}
	p := b.header
	p.Content = payload.Piece{Archive: b.archive, Data: b.piece}.Append(nil)
	b.piece = b.piece[:0]
	b.submit(ctx, p)
	return b.wait(ctx, b.r.opts.InflightMax/8)
}

func (b *backup) submit(ctx context.Context, p payload.Payload) {
	b.inflight = append(b.inflight, b.r.log.Submit(ctx, [][]byte{p.Append(nil)}, b.position))
}

// wait returns when at most so many appends are under way.
func (b *backup) wait(ctx context.Context, most int) error {
	for len(b.inflight) > most {
		if err := wait(ctx, b.inflight[0]); err != nil {
			return err
		}
		b.inflight = b.inflight[1:]
	}
	return nil
}
