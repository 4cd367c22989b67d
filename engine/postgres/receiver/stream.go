package receiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/logcore/logcore/engine/postgres/wal"
)

// nextTimeline is where the server went when the timeline that was streamed ended.
type nextTimeline struct {
	timeline wal.Timeline
	start    wal.Position
}

// stream copies WAL from a position on until the timeline ends.
func (r *Receiver) stream(ctx context.Context, c *conn, at wal.Position) (nextTimeline, error) {
	if err := c.send(fmt.Sprintf("START_REPLICATION SLOT %s PHYSICAL %v TIMELINE %d", r.opts.Slot, at, r.timeline)); err != nil {
		return nextTimeline{}, err
	}
	f, err := r.newFlow(c, at)
	if err != nil {
		return nextTimeline{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	replies := make(chan struct{}, 1)
	acked := make(chan error, 1)
	var done sync.WaitGroup
	done.Go(func() {
		err := r.acknowledge(ctx, c, f, replies)
		if err != nil {
			c.close() // ends the receive below,
			cancel()  // or its wait for room
		}
		acked <- err
	})
	next, err := r.receive(ctx, c, f, replies)
	// What is under way gets into the log whatever became of the connection: only when it
	// is there does the log's end say where to go on. What only gathered the server sends again, unless the timeline has ended.
	if cerr := f.close(ctx, err == nil); err == nil {
		err = cerr
	}
	done.Wait()
	cancel()
	if ackErr := <-acked; ackErr != nil {
		return nextTimeline{}, ackErr // the cause of the other
	}
	return next, err
}

// receive takes messages of the stream and appends what ends between records.
func (r *Receiver) receive(ctx context.Context, c *conn, f *flow, replies chan<- struct{}) (nextTimeline, error) {
	for {
		m, err := c.receive()
		if err != nil {
			return nextTimeline{}, err
		}
		switch m := m.(type) {
		case *pgproto3.CopyBothResponse:
			if !r.streams.Swap(true) {
				r.opts.Monitor.streaming()
			}
		case *pgproto3.CopyData:
			if err := r.message(ctx, f, m.Data, replies); err != nil {
				return nextTimeline{}, err
			}
		case *pgproto3.CopyDone:
			return r.endOfTimeline(c)
		case *pgproto3.DataRow: // the timeline ended before it was asked for
			return r.finish(c, m)
		}
	}
}

const (
	messageWAL       = 'w'
	messageKeepalive = 'k'
	messageStatus    = 'r'
)

// message handles one message inside the stream.
func (r *Receiver) message(ctx context.Context, f *flow, data []byte, replies chan<- struct{}) error {
	switch {
	case len(data) >= 18 && data[0] == messageKeepalive:
		r.opts.Monitor.server.Store(binary.BigEndian.Uint64(data[1:]))
		if data[17] != 0 {
			ask(replies)
		}
		return nil
	case len(data) >= 25 && data[0] == messageWAL:
	default:
		return fmt.Errorf("a message of %d bytes inside the stream", len(data))
	}
	start, content := wal.Position(binary.BigEndian.Uint64(data[1:])), data[25:]
	if err := f.add(ctx, start, content); err != nil {
		return err
	}
	fed := uint64(start) + uint64(len(content))
	r.received.Store(fed)
	r.opts.Monitor.received.Store(fed)
	r.opts.Monitor.server.Store(binary.BigEndian.Uint64(data[9:]))
	return nil
}

func ask(replies chan<- struct{}) {
	select {
	case replies <- struct{}{}:
	default: // one is due already
	}
}

// complainAfter is how long an append may take before the log says so, each time again.
const complainAfter = 5 * time.Second

// acknowledge waits for the appends, in order, and tells the server how far the log
// reaches: at once when it has moved, when the server asks, and every StatusEvery. It ends when
// the flow is closed and every append has an outcome, also when the server is gone by then.
func (r *Receiver) acknowledge(ctx context.Context, c *conn, f *flow, replies <-chan struct{}) error {
	tick := time.NewTicker(r.opts.StatusEvery)
	defer tick.Stop()
	m := r.opts.Monitor
	w := outcomes{queue: f.queue, monitor: m}
	defer m.waitsSince(time.Time{})
	var lost error // the connection
	progress, complained := time.Now(), false
	for {
		source, waited := w.due()
		select {
		case s, ok := <-source:
			if !ok {
				return lost
			}
			w.oldest, progress = &s, time.Now()
			m.waitsSince(s.at)
			continue
		case <-waited:
			end, n, err := w.take()
			if end > 0 {
				r.durable.Store(uint64(end))
				m.durable.Store(uint64(end))
			}
			if err == nil {
				err = f.ended(ctx, n)
			}
			if err != nil {
				return err
			}
			if complained {
				m.set(ConditionService, "")
			}
			progress, complained = time.Now(), false
		case <-ctx.Done():
			return nil
		case <-replies:
		case <-tick.C:
			if late := time.Since(progress); w.oldest != nil && late > complainAfter {
				r.opts.Logger.Warn("receiver: LogCore does not acknowledge; commits that wait for it go on waiting, and nothing is lost", "since", late.Round(time.Second), "durable", r.Durable())
				m.set(ConditionService, fmt.Sprintf("LogCore does not acknowledge what was sent to it, since %v; the log reaches %v", w.oldest.at.UTC().Format(time.RFC3339), r.Durable()))
				progress, complained = time.Now(), true
			}
		}
		if lost != nil {
			continue
		}
		if lost = c.sendStatus(r.Received(), r.Durable()); lost != nil {
			c.close() // ends the other direction too
		}
	}
}

// outcomes takes what became of the appends, in order.
type outcomes struct {
	queue   <-chan submitted
	oldest  *submitted // without a known outcome; nil: the next of queue
	monitor *Monitor
}

// due returns what to wait for: the next append, or the outcome of the oldest.
func (w *outcomes) due() (source <-chan submitted, waited <-chan struct{}) {
	if w.oldest == nil {
		return w.queue, nil
	}
	return nil, w.oldest.pending.Done()
}

// take takes the outcome of the oldest append, and of those behind it that are known too: the server is
// told of all at once. It returns how many are durable, and the end of the last of them, 0 for none.
func (w *outcomes) take() (end wal.Position, n int, err error) {
	for {
		if err := w.oldest.pending.Err(); err != nil {
			return end, n, err
		}
		w.monitor.acknowledged(*w.oldest)
		end, w.oldest = w.oldest.end, nil
		n++
		select {
		case s, ok := <-w.queue:
			if !ok {
				return end, n, nil
			}
			w.oldest = &s
			w.monitor.waitsSince(s.at)
		default:
			return end, n, nil
		}
		select {
		case <-w.oldest.pending.Done():
		default:
			return end, n, nil
		}
	}
}

// sendStatus tells the server how far WAL arrived and how far it is durable.
// Nothing is replayed here; what is durable counts as applied, so that the server's lag columns
// mean something.
func (c *conn) sendStatus(received, durable wal.Position) error {
	now := time.Now().UnixMicro() - postgresEpochMicros
	b := make([]byte, 0, 39)
	b = append(b, 'd')
	b = binary.BigEndian.AppendUint32(b, 4+34)
	b = append(b, messageStatus)
	b = binary.BigEndian.AppendUint64(b, uint64(max(received, durable)))
	b = binary.BigEndian.AppendUint64(b, uint64(durable))
	b = binary.BigEndian.AppendUint64(b, uint64(durable))
	b = binary.BigEndian.AppendUint64(b, uint64(now))
	b = append(b, 0)
	if _, err := c.net.Write(b); err != nil {
		return fmt.Errorf("%w: %w", ErrConnection, err)
	}
	return nil
}

const postgresEpochMicros = 946684800 * 1e6

// endOfTimeline ends the stream from our side too, and learns where the server went.
func (r *Receiver) endOfTimeline(c *conn) (nextTimeline, error) {
	c.front.Send(&pgproto3.CopyDone{})
	if err := c.front.Flush(); err != nil {
		return nextTimeline{}, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	return r.finish(c, nil)
}

// finish reads to the end of the START_REPLICATION command.
func (r *Receiver) finish(c *conn, row *pgproto3.DataRow) (next nextTimeline, err error) {
	take := func(row *pgproto3.DataRow) {
		if len(row.Values) < 2 {
			return
		}
		var t uint64
		if _, serr := fmt.Sscan(string(row.Values[0]), &t); serr != nil {
			err = errors.Join(err, serr)
		}
		at, perr := wal.ParsePosition(string(row.Values[1]))
		next, err = nextTimeline{wal.Timeline(t), at}, errors.Join(err, perr)
	}
	if row != nil {
		take(row)
	}
	for {
		m, rerr := c.receive()
		if rerr != nil {
			return nextTimeline{}, rerr
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			take(m)
		case *pgproto3.ReadyForQuery:
			if err == nil && next.timeline == 0 {
				err = fmt.Errorf("%w: the server ended the stream", ErrConnection)
			}
			return next, err
		}
	}
}
