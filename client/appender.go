package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

const (
	// messageBytesMax bounds a message of several entries; a larger entry goes alone.
	messageBytesMax = 1 << 20
	// messageBytesMin is the memory a message begins with, at least; else what the last one took.
	messageBytesMin = 1 << 10
	// watchEvery is how often somebody looks whether the service is silent.
	watchEvery = 100 * time.Millisecond
)

type appendStream = grpc.BidiStreamingClient[logcorev1.AppendLogsRequest, logcorev1.AppendLogsResponse]

// appender sends what all writers of a client have for one member, on one stream. It runs
// from when the first writer has something until the client is closed.
type appender struct {
	c *Client
	m *member

	mu      sync.Mutex
	ready   []*Writer // have something to send, each once; guarded by mu
	running bool      // guarded by mu
	wake    chan struct{}
	fresh   atomic.Int64 // entries queued since ready was last taken, about
}

func newAppender(c *Client, m *member) *appender {
	return &appender{c: c, m: m, wake: make(chan struct{}, 1)}
}

// schedule has w asked what it has to send. It must not be scheduled already.
func (a *appender) schedule(w *Writer) {
	a.mu.Lock()
	a.ready = append(a.ready, w)
	if !a.running {
		a.running = true
		a.c.running.Go(a.run)
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// takeReady returns who has something to send; spare is reused.
func (a *appender) takeReady(spare []*Writer) []*Writer {
	a.mu.Lock()
	defer a.mu.Unlock()
	ready := a.ready
	a.ready = spare[:0]
	a.fresh.Store(0)
	return ready
}

// run opens a stream when there is work, and another one when it breaks.
func (a *appender) run() {
	for {
		a.mu.Lock()
		n := len(a.ready)
		a.mu.Unlock()
		if n == 0 {
			select {
			case <-a.wake:
				continue
			case <-a.c.ctx.Done():
				return
			}
		}
		if a.stream(a.c.ctx); a.c.ctx.Err() != nil {
			return
		}
	}
}

// stream runs one stream until it breaks. Then all writers that used it, or wanted to, know.
func (a *appender) stream(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{a: a, cancel: cancel, expected: messageBytesMin}
	establish := time.AfterFunc(a.c.opts.establish(), func() { cancel(context.DeadlineExceeded) })
	st, err := a.m.logs.AppendLogs(ctx)
	if !establish.Stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		s.end(fmt.Errorf("%w at %s: %w", ErrUnavailable, a.m.addr, remote(err, a.m.addr)))
		return
	}
	s.st = st
	received := make(chan error, 1)
	watched := make(chan struct{})
	go func() { received <- s.receive() }() // both end with the stream, and are awaited below
	go func() { defer close(watched); s.watch(ctx) }()
	err = s.send(ctx, received)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // it was ended here, and this is why
	}
	cancel(err)
	<-watched
	s.end(err)
}

// session is one stream of an appender.
type session struct {
	a      *appender
	st     appendStream
	cancel context.CancelCauseFunc
	// expected is the size of the next message, about; the sender's.
	expected int
	// unacked is the number of entries sent and not acknowledged, about.
	unacked atomic.Int64
	// settled are the futures that the message at hand resolves; the receiver's. They are
	// told together, so that whoever waits for them finds all.
	settled []*Future
	// heard is when the message at hand came; the receiver's.
	heard time.Time

	mu       sync.Mutex
	channels []*Writer // of channel i+1; nil when its writer has gone; guarded by mu
}

// open gives w a channel.
func (s *session) open(w *Writer) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels = append(s.channels, w)
	return uint32(len(s.channels))
}

// leave gives a channel up.
func (s *session) leave(channel uint32) {
	s.mu.Lock()
	s.channels[channel-1] = nil
	s.mu.Unlock()
}

func (s *session) writer(channel uint32) *Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if channel == 0 || int(channel) > len(s.channels) {
		return nil
	}
	return s.channels[channel-1]
}

// writers returns all who have a channel.
func (s *session) writers() []*Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Writer
	for _, w := range s.channels {
		if w != nil {
			list = append(list, w)
		}
	}
	return list
}

// end tells every writer of the session, and those who wait for one, why it is over.
func (s *session) end(err error) {
	for _, w := range s.writers() {
		w.broke(s, err)
	}
	for _, w := range s.a.takeReady(nil) {
		w.unserved(s.a.m, err)
	}
}

// send sends what writers have as it comes, until the stream ends. It returns once the
// receiver has ended.
func (s *session) send(ctx context.Context, received <-chan error) error {
	var spare []*Writer
	for {
		s.gather()
		ready := s.a.takeReady(spare)
		for len(ready) > 0 {
			n, err := s.message(ready)
			if err != nil {
				for _, w := range ready[n:] {
					s.a.again(w)
				}
				return <-received // SendMsg says only that the stream ended; RecvMsg says why
			}
			ready = ready[n:]
		}
		spare = ready[:0]
		select {
		case err := <-received:
			return err
		case <-s.a.wake:
		}
	}
}

// Under load a message waits a moment for more when there are gatherFrom entries under way
// and what is new is less than a gatherShare-th of them: many small messages cost more than they gain.
const (
	gatherFrom  = 32
	gatherShare = 4
	gatherFor   = 50 * time.Microsecond
)

func (s *session) gather() {
	unacked := s.unacked.Load()
	if unacked < gatherFrom {
		return
	}
	// Not a timer: a process that is otherwise idle wakes up from one a millisecond late.
	for begun := time.Now(); s.a.fresh.Load() < unacked/gatherShare && time.Since(begun) < gatherFor; {
		runtime.Gosched()
	}
}

// again schedules w although it is scheduled: its turn did not come.
func (a *appender) again(w *Writer) {
	a.mu.Lock()
	a.ready = append(a.ready, w)
	a.mu.Unlock()
}

// message sends one message with what the first writers of ready have, and returns how
// many of them that were.
func (s *session) message(ready []*Writer) (n int, err error) {
	var raw wire.Raw
	b, now := raw.New(s.expected), time.Now()
	for n < len(ready) && len(b) < messageBytesMax {
		b = ready[n].take(s, b, now)
		n++
	}
	if len(b) == 0 {
		raw.Discard()
		return n, nil
	}
	s.expected = max(len(b)+len(b)/8, messageBytesMin)
	raw.Set(b)
	return n, s.st.SendMsg(&raw)
}

// receive takes answers until the stream ends.
func (s *session) receive() error {
	var raw wire.Raw
	defer raw.Free()
	var reader wire.AppendedReader
	for {
		err := s.st.RecvMsg(&raw)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w at %s: the service ended the stream", ErrUnavailable, s.a.m.addr)
		}
		if err != nil {
			return remote(err, s.a.m.addr)
		}
		s.heard = time.Now()
		err = reader.Read(raw.Bytes(), s.answered)
		for i, f := range s.settled {
			f.announce()
			s.settled[i] = nil
		}
		s.settled = s.settled[:0]
		if err != nil {
			err = fmt.Errorf("%w at %s: %w", ErrUnavailable, s.a.m.addr, err)
			s.cancel(err)
			return err
		}
		raw.Free()
	}
}

// answered is told what the service says of one channel.
func (s *session) answered(a *wire.LogAppended) error {
	w := s.writer(a.Channel)
	switch {
	case w == nil:
		return nil // it has gone
	case a.Err != nil:
		s.leave(a.Channel)
		w.broke(s, remote(a.Err, s.a.m.addr))
		return nil
	}
	return w.acknowledge(s, a, s.heard)
}

// probeShare: the other members are asked again after this part of ProbeAfter.
const probeShare = 4

// watch ends the stream when the service acknowledges nothing for too long, or sooner
// when another member leads.
func (s *session) watch(ctx context.Context) {
	tick := time.NewTicker(min(watchEvery, max(s.a.c.opts.Timeout/8, time.Millisecond)))
	defer tick.Stop()
	var probed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w, silent := s.silent()
		if silent > s.a.c.opts.Timeout {
			s.cancel(fmt.Errorf("%w at %s: no acknowledgement for %v", ErrUnavailable, s.a.m.addr, s.a.c.opts.Timeout))
			return
		}
		if silent < s.a.c.opts.ProbeAfter || time.Since(probed) < s.a.c.opts.ProbeAfter/probeShare || !s.a.c.router.several() {
			continue
		}
		probed = time.Now()
		if leader := w.probe(ctx, s.a.m); leader != "" {
			s.a.c.router.moved(w.log, s.a.m, leader)
			s.a.c.router.fails(s.a.m)
			s.cancel(fmt.Errorf("%w at %s: it is silent, and %s leads", ErrUnavailable, s.a.m.addr, leader))
			return
		}
	}
}

// silent returns the writer that has waited longest for an acknowledgement, and how long.
func (s *session) silent() (longest *Writer, since time.Duration) {
	for _, w := range s.writers() {
		if d := w.waiting(s); d > since {
			longest, since = w, d
		}
	}
	return longest, since
}
