package logsvc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// What one append stream may have under way; beyond it the service stops receiving,
// and HTTP/2 flow control stops the client.
const (
	streamMessagesMax = 256
	streamBytesMax    = 32 << 20
)

type appendServer = grpc.BidiStreamingServer[logcorev1.AppendStreamRequest, logcorev1.AppendStreamResponse]

// appendStream is one AppendStream call. A receiver stages messages and queues them for
// the loop, the loop marks them done, and the handler acknowledges them in order. The
// first error, in that order, ends the stream once everything before it is acknowledged.
type appendStream struct {
	s      *Service
	log    string
	server appendServer

	mu       sync.Mutex
	slots    []*slot // in the order received; guarded by mu
	bytes    int     // of slots; guarded by mu
	finished bool    // nothing more will be received; guarded by mu
	over     bool    // the handler has ended; guarded by mu

	// failed is the error that a message was refused or ended with. From then on none is
	// taken: what is behind it must not be written, as the client will use its sequences again.
	failed error // only the loop's

	ready chan struct{} // to the handler: look at slots
	room  chan struct{} // to the receiver: slots shrank
}

// slot is one message. err and done are guarded by appendStream.mu.
type slot struct {
	op   *appendOp
	err  error
	done bool
}

// appendStream is AppendStream of a log of this shard, from its first message on.
func (s *Service) appendStream(server appendServer, first *logcorev1.AppendStreamRequest) error {
	ctx, cancel := s.within(server.Context())
	defer cancel()
	st := &appendStream{s: s, server: server, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	// The receiver ends when the handler returns, because that ends Recv; the service
	// waits for it.
	s.running.Go(func() { st.receive(ctx, first) })
	err := st.acknowledge(ctx)
	st.mu.Lock()
	st.over = true
	name := st.log
	st.mu.Unlock()
	return wire.ToStatus(s.located(err), name)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// receive takes messages until the client ends the stream, a message can't be taken,
// or ctx ends.
func (st *appendStream) receive(ctx context.Context, req *logcorev1.AppendStreamRequest) {
	var t Token
	archived := false
	for first := true; ; first = false {
		var err error
		if !first {
			req, err = st.server.Recv()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			st.refuse(err)
			break
		}
		if first {
			st.mu.Lock()
			st.log = req.Log
			st.mu.Unlock()
			l, err := st.s.logByName(req.Log)
			if err == nil {
				err = st.s.coverage.check(&l)
			}
			if err != nil {
				st.refuse(err)
				break
			}
			t = Token{l.ID, logcore.Epoch(req.Epoch), req.Incarnation}
			archived = l.Durability == catalog.DurabilityArchive
		}
		op, err := st.s.admit(ctx, t, req.Entries)
		if err != nil {
			st.refuse(err)
			break
		}
		op.archived = archived
		if !st.queue(ctx, op) {
			break
		}
	}
	st.mu.Lock()
	st.finished = true
	st.mu.Unlock()
	signal(st.ready)
}

// queue waits for room and queues a message for the loop. It returns false when the
// stream is over.
func (st *appendStream) queue(ctx context.Context, op *appendOp) bool {
	for {
		st.mu.Lock()
		if st.over {
			st.mu.Unlock()
			op.done()
			return false
		}
		if n := len(st.slots); n == 0 || n < streamMessagesMax && st.bytes+op.bytes <= streamBytesMax {
			break
		}
		st.mu.Unlock()
		select {
		case <-st.room:
		case <-ctx.Done():
			op.done()
			return false
		}
	}
	sl := &slot{op: op}
	st.slots = append(st.slots, sl)
	st.bytes += op.bytes
	st.mu.Unlock()
	done := func(err error) {
		op.done()
		st.finish(sl, err)
	}
	err := st.s.submit(ctx, replication.Request{Bytes: op.bytes, Prepare: func(p *replication.Proposer) error { return st.prepare(p, op) },
		Done: func(err error) {
			if err != nil && st.failed == nil {
				st.failed = err
			}
			done(err)
		}})
	if err != nil {
		done(err)
		return false
	}
	return true
}

// prepare runs on the loop.
func (st *appendStream) prepare(p *replication.Proposer, op *appendOp) error {
	if st.failed != nil {
		return fmt.Errorf("behind a message that was refused: %w", st.failed)
	}
	return op.prepare(p)
}

// refuse ends the stream with err after what came before.
func (st *appendStream) refuse(err error) {
	st.mu.Lock()
	st.slots = append(st.slots, &slot{err: err, done: true})
	st.mu.Unlock()
	signal(st.ready)
}

// finish marks a message done; the loop calls it.
func (st *appendStream) finish(sl *slot, err error) {
	st.mu.Lock()
	sl.err, sl.done = err, true
	first := st.slots[0] == sl
	st.mu.Unlock()
	if first {
		signal(st.ready)
	}
}

// acknowledge sends acknowledgements as messages become durable, many in one when they
// come fast, until the stream ends.
func (st *appendStream) acknowledge(ctx context.Context) error {
	for {
		done, err, end := st.take()
		if n := len(done); n > 0 && done[n-1].archived {
			if err := st.covered(ctx, done); err != nil {
				return err
			}
		}
		if len(done) > 0 {
			resp := &logcorev1.AppendStreamResponse{}
			for _, op := range done {
				op.acknowledged()
				resp.Entries = appended(resp.Entries, op.places)
				resp.ThroughSequence = op.first + uint64(len(op.places)) - 1
			}
			if err := st.server.Send(resp); err != nil {
				return err
			}
			signal(st.room)
		}
		if err != nil || end {
			return err
		}
		select {
		case <-st.ready:
		case <-ctx.Done():
			if st.s.stopped.Err() != nil {
				return fmt.Errorf("logsvc: the service stops: %w", logcore.ErrClosed)
			}
			return ctx.Err()
		}
	}
}

// covered returns once the archive covers messages that are done.
func (st *appendStream) covered(ctx context.Context, done []*appendOp) error {
	var last logcore.LSN
	for _, op := range done {
		last = max(last, op.index)
	}
	err := st.s.coverage.wait(ctx, last)
	if err != nil && st.s.stopped.Err() != nil {
		return fmt.Errorf("logsvc: the service stops: %w", logcore.ErrClosed)
	}
	return err
}

// take takes the messages at the front that are done: those that were written, then
// the first error, if that is next. end means that there will be nothing more.
func (st *appendStream) take() (done []*appendOp, err error, end bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := 0
	for ; n < len(st.slots) && st.slots[n].done; n++ {
		if err = st.slots[n].err; err != nil {
			break
		}
		done = append(done, st.slots[n].op)
		st.bytes -= st.slots[n].op.bytes
	}
	clear(st.slots[:n])
	st.slots = st.slots[n:]
	return done, err, st.finished && len(st.slots) == 0
}
