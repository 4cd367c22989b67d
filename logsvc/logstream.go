package logsvc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// channelsMax bounds the channels one stream may open in its life.
const channelsMax = 1 << 17

type logsServer = grpc.BidiStreamingServer[logcorev1.AppendLogsRequest, logcorev1.AppendLogsResponse]

// logsStream is one AppendLogs call. A receiver decodes and stages messages and queues each,
// whatever logs it is for, as one request of the loop; the loop marks it done, and the handler
// answers in the order of the messages, so a channel's answers are in order too.
type logsStream struct {
	s      *Service // of shard 0
	server logsServer

	channels map[uint32]*channel // only the receiver's

	mu       sync.Mutex
	lanes    []*lane // guarded by mu
	count    int     // of the messages in all lanes; guarded by mu
	bytes    int     // of them; guarded by mu
	finished bool    // nothing more will be received; guarded by mu
	over     bool    // the handler has ended; guarded by mu
	failed   error   // why the receiver ended, nil when the client did; guarded by mu

	ready chan struct{} // to the handler: look at the lanes
	room  chan struct{} // to the receiver: the lanes shrank
}

// lane is what a stream has under way in one shard. Answers of different shards overtake each other.
type lane struct {
	s     *Service
	slots []*logsOp   // in the order received; guarded by the stream's mu
	held  heldAnswers // only the handler's
}

// lane returns a shard's, which may be a new one.
func (st *logsStream) lane(s *Service) *lane {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, l := range st.lanes {
		if l.s == s {
			return l
		}
	}
	l := &lane{s: s}
	st.lanes = append(st.lanes, l)
	return l
}

func (st *logsStream) lanesNow() []*lane {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.lanes[:len(st.lanes):len(st.lanes)]
}

// channel is one log's part of a stream.
type channel struct {
	id    uint32
	log   string
	s     *Service // of the shard that the log is in
	token Token
	// closed: the receiver takes nothing more for it, because it refused something.
	closed bool // only the receiver's
	// failed is why it ended. From then on nothing of it is written: the client will use
	// the sequences behind again.
	failed error     // only the loop's
	lease  heldLease // only the loop's
	// told: the client has been told that it ended.
	told bool // only the handler's
	// archived: its entries are acknowledged once the archive covers them.
	archived bool // set when it is opened
	// holding is how many of its answers wait for the archive.
	holding int // only the handler's
}

// AppendLogs implements logcorev1.LogCoreServiceServer.
func (s *Service) AppendLogs(server logsServer) error {
	ctx, cancel := s.within(server.Context())
	defer cancel()
	st := &logsStream{s: s, server: server, channels: map[uint32]*channel{}, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	// The receiver ends when the handler returns, because that ends RecvMsg; the service
	// waits for it.
	s.running.Go(func() { st.receive(ctx) })
	err := st.answer(ctx)
	st.mu.Lock()
	st.over = true
	st.mu.Unlock()
	return s.status(err, "")
}

// receive takes messages until the client ends the stream, one can't be taken, or ctx
// ends.
func (st *logsStream) receive(ctx context.Context) {
	var raw wire.Raw
	defer raw.Free()
	var reader wire.AppendsReader
	var err error
	for {
		if err = st.server.RecvMsg(&raw); err != nil {
			break
		}
		var ops []*logsOp
		if ops, err = st.stage(ctx, &raw, &reader); err != nil {
			break
		}
		for i, op := range ops {
			if err = st.queue(ctx, op); err != nil {
				for _, rest := range ops[i+1:] {
					rest.done()
				}
				break
			}
		}
		if err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	st.mu.Lock()
	st.finished, st.failed = true, err
	st.mu.Unlock()
	signal(st.ready)
}

// queue waits for room and queues a message for the loop.
func (st *logsStream) queue(ctx context.Context, op *logsOp) error {
	for {
		st.mu.Lock()
		if st.over {
			st.mu.Unlock()
			op.done()
			return logcore.ErrClosed
		}
		if n := st.count; n == 0 || n < streamMessagesMax && st.bytes+op.bytes <= streamBytesMax {
			break
		}
		st.mu.Unlock()
		select {
		case <-st.room:
		case <-ctx.Done():
			op.done()
			return context.Cause(ctx)
		}
	}
	op.lane.slots = append(op.lane.slots, op)
	st.count++
	st.bytes += op.bytes
	st.mu.Unlock()
	err := op.s.submit(ctx, replication.Request{Bytes: op.bytes, Prepare: op.prepare, Done: func(err error) {
		op.fail(err)
		st.finish(op, err)
	}})
	if err != nil {
		for _, part := range op.parts {
			part.ch.closed = true
		}
		st.finish(op, err) // of every channel in it; the stream goes on
	}
	return nil
}

const (
	// overloadWait is how long a stream waits for room in the shard's queue before it
	// tells its client: not receiving slows the client down more gently than an error.
	overloadWait  = 500 * time.Millisecond
	overloadPause = 2 * time.Millisecond
)

// submit queues a request, and waits a while when the queue is full.
func (s *Service) submit(ctx context.Context, r replication.Request) error {
	for begun := time.Now(); ; {
		err := s.group.Submit(r)
		if !errors.Is(err, logcore.ErrOverloaded) || time.Since(begun) > overloadWait {
			return err
		}
		select {
		case <-time.After(overloadPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// finish marks a message done; the loop calls it, or the receiver for one that the loop
// did not take.
func (st *logsStream) finish(op *logsOp, err error) {
	op.done()
	st.mu.Lock()
	op.err, op.finished = err, true
	first := len(op.lane.slots) > 0 && op.lane.slots[0] == op
	st.mu.Unlock()
	if first {
		signal(st.ready)
	}
}

// answer sends answers as messages are done, many in one when they come fast, until the
// stream ends.
func (st *logsStream) answer(ctx context.Context) error {
	var done []*logsOp
	for {
		lanes := st.lanesNow()
		var rises <-chan struct{}
		if len(lanes) == 1 {
			rises = lanes[0].s.coverage.risen()
		}
		var end bool
		var failed error
		done, end, failed = st.take(done[:0])
		if err := st.send(done); err != nil {
			return err
		}
		if len(done) > 0 {
			signal(st.room)
		}
		waits := false
		for _, l := range st.lanesNow() {
			if err := st.release(l); err != nil {
				return err
			}
			waits = waits || !l.held.empty()
		}
		if end && !waits {
			return failed
		}
		var poll <-chan time.Time
		if waits && rises == nil { // several shards, or one that was not there before
			poll = time.After(coveragePoll)
		}
		select {
		case <-st.ready:
		case <-rises:
		case <-poll:
		case <-ctx.Done():
			if st.s.stopped.Err() != nil {
				return fmt.Errorf("logsvc: the service stops: %w", logcore.ErrClosed)
			}
			return ctx.Err()
		}
	}
}

// take takes the messages at the front that are done. end means that there will be
// nothing more, because of failed if that isn't nil.
func (st *logsStream) take(done []*logsOp) (_ []*logsOp, end bool, failed error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, l := range st.lanes {
		if l.held.full() {
			continue
		}
		n := 0
		for ; n < len(l.slots) && l.slots[n].finished; n++ {
			done = append(done, l.slots[n])
			st.bytes -= l.slots[n].bytes
		}
		st.count -= n
		rest := copy(l.slots, l.slots[n:])
		clear(l.slots[rest:])
		l.slots = l.slots[:rest]
	}
	return done, st.finished && st.count == 0, st.failed
}

// coveragePoll is how often a stream of several shards looks what the archive covers.
const coveragePoll = 5 * time.Millisecond

// send answers messages that are done, in as few of its own as fit answerBytes.
func (st *logsStream) send(done []*logsOp) error {
	for len(done) > 0 {
		n, size := 0, 0
		for ; n < len(done) && size < answerBytes; n++ {
			size += done[n].answerSize()
		}
		var raw wire.Raw
		b := raw.New(size)
		for _, op := range done[:n] {
			b = op.answer(b, &op.lane.held)
		}
		done = done[n:]
		if len(b) == 0 {
			raw.Discard()
			continue
		}
		raw.Set(b)
		if err := st.server.SendMsg(&raw); err != nil {
			return err
		}
	}
	return nil
}

// answerBytes is about how long an answer gets at most.
const answerBytes = 32 << 10
