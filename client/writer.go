package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// ErrUnknownOutcome: the connection or the patience ended before the service said
// whether the transaction was written. The writer takes no more appends; close it,
// open another and look at the log's last entries.
var ErrUnknownOutcome = errors.New("client: unknown outcome: the transaction may or may not be in the log; close this writer, open another one and look")

// PositionBytesMax is the longest engine position.
const PositionBytesMax = 256

// WriterOptions says how a log is opened for writing.
type WriterOptions struct {
	// Name tells people who writes: host and process. Empty is allowed.
	Name string
	// Takeover fences the current writer even when it is alive.
	Takeover bool
	// Create creates the log when it does not exist.
	Create bool
	// PayloadFormat says what the payloads are, for instance "pages" or "raw": up to 32
	// bytes of [a-z0-9.-]. The first writer that says it settles it for the log; afterwards one that
	// says something else, or nothing, is refused with logcore.ErrPayloadFormat. Empty: not said.
	PayloadFormat string
	// EndOnFailure ends the writer with the first append that fails, even when it is known that nothing was
	// written: then nothing submitted behind it gets into the log without it.
	EndOnFailure bool
}

// Writer owns a writer epoch of a log. It may be used by many goroutines; appends get
// their order from the order of the calls. It renews its lease in the background
// until Close, which must be called.
type Writer struct {
	c     *Client
	log   string
	epoch logcore.Epoch
	// incarnation of the shard that granted the epoch: both together are the token.
	incarnation uint64
	entryMax    int
	// endOnFailure is WriterOptions.EndOnFailure.
	endOnFailure bool
	lease        time.Duration

	// turn is held by the call that queues a transaction's entries, so that they stay
	// together and in order.
	turn chan struct{}
	// work tells the writer's goroutine that there is something to do.
	work chan struct{}
	// cancel ends that goroutine; running waits for it.
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	queue    []*pending // not acknowledged, in sequence order; guarded by mu, as all below
	sent     int        // queue[:sent] went out on the channel
	bytes    int        // of queue
	sequence uint64     // of the last entry queued
	lastLSN  logcore.LSN
	pause    time.Duration // AdvisedPause
	err      error         // set once: no more appends
	closing  bool          // no more appends, not an error
	waiters  int           // who wait for room
	room     chan struct{} // closed and replaced when queue shrinks or err is set
	progress time.Time     // when an acknowledgement came last, or the oldest entry that waits for one was sent

	// at is the member that it writes to. Session and channel are its place there; nil
	// while it has none.
	at        *member
	session   *session
	channel   uint32
	scheduled bool // at its member's appender
	renewDue  bool // the lease is to be renewed
	held      bool // something went wrong; nothing is sent until tend has dealt with fault
	fault     error
	acked     bool // something was acknowledged since the last fault
}

// pending is an entry on its way.
type pending struct {
	entry    wire.Entry
	tx       logcore.TxID
	last     bool // of its transaction: future is resolved with it
	future   Future
	bytes    int // of memory, about
	attempts int // channels it was sent on
}

// OpenWriter raises the log's writer epoch and returns a writer that holds it. While
// another writer is alive it fails with logcore.ErrWriterActive unless Takeover is
// set; a log of another payload format is logcore.ErrPayloadFormat; an unknown log is logcore.ErrLogNotFound unless Create is set.
func (c *Client) OpenWriter(ctx context.Context, log string, opts WriterOptions) (*Writer, error) {
	again := notIdempotent
	if opts.Takeover {
		again = idempotent // it only raises the epoch once more
	}
	resp, err := unary(ctx, c, log, again, func(ctx context.Context, m *member) (*logcorev1.OpenWriterResponse, error) {
		return m.logs.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: log, Writer: opts.Name, Takeover: opts.Takeover, Create: opts.Create, PayloadFormat: opts.PayloadFormat})
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &Writer{
		c: c, log: log, epoch: logcore.Epoch(resp.Epoch), incarnation: resp.Incarnation, entryMax: int(resp.EntryBytesMax), endOnFailure: opts.EndOnFailure,
		lease: time.Duration(resp.LeaseMs) * time.Millisecond, lastLSN: logcore.LSN(resp.LastLsn), at: c.router.to(log),
		turn: make(chan struct{}, 1), work: make(chan struct{}, 1), room: make(chan struct{}), cancel: cancel,
	}
	w.running.Go(func() { w.tend(ctx) })
	return w, nil
}

// Log returns the name of the log.
func (w *Writer) Log() string { return w.log }

// Epoch returns the writer epoch this writer holds, or held.
func (w *Writer) Epoch() logcore.Epoch { return w.epoch }

// Incarnation returns the incarnation of the shard that granted the epoch. A restored
// shard may grant the same epoch again; the two together are granted once.
func (w *Writer) Incarnation() uint64 { return w.incarnation }

// EntryBytesMax is the largest part of a transaction, in bytes.
func (w *Writer) EntryBytesMax() int { return w.entryMax }

// LastLSN returns the LSN of the last entry of the log when the writer was opened, or
// of the last acknowledged one since.
func (w *Writer) LastLSN() logcore.LSN {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastLSN
}

func (w *Writer) stateLocked() error {
	if w.err != nil {
		return w.err
	}
	if w.closing {
		return fmt.Errorf("client: writer of log %q: %w", w.log, logcore.ErrClosed)
	}
	return nil
}

// Err returns why the writer takes no more appends, nil while it does.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *Writer) wake() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// roomLocked wakes everybody who waits for the queue to shrink.
func (w *Writer) roomLocked() {
	if w.waiters == 0 {
		return
	}
	close(w.room)
	w.room = make(chan struct{})
}

// poison ends the writer: err is what every pending and every later append gets.
func (w *Writer) poison(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.failLocked(w.err)
	w.mu.Unlock()
	w.wake()
}

// failLocked fails everything that is pending.
func (w *Writer) failLocked(err error) {
	for _, p := range w.queue {
		if p.last {
			p.future.resolve(Appended{}, err)
		}
	}
	w.queue, w.sent, w.bytes = nil, 0, 0
	w.leaveLocked()
	w.roomLocked()
}

// Close waits for what was submitted (until ctx ends), stops the background work and
// gives the lease back, so that the next writer need not wait for it. It returns the
// error that ended the writer, if one did. A second Close does nothing.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		w.running.Wait()
		return nil
	}
	w.closing = true
	w.mu.Unlock()
	err := w.drain(ctx)
	w.cancel()
	w.running.Wait()
	w.mu.Lock()
	w.leaveLocked()
	w.mu.Unlock()
	if err == nil {
		err = w.Err()
	}
	if errors.Is(err, logcore.ErrFenced) {
		return err // the lease is somebody else's
	}
	// Also after an unknown outcome: once the epoch is closed, a late append is refused.
	_, cerr := unary(ctx, w.c, w.log, idempotent, func(ctx context.Context, m *member) (*logcorev1.CloseWriterResponse, error) {
		return m.logs.CloseWriter(ctx, &logcorev1.CloseWriterRequest{Log: w.log, Epoch: uint64(w.epoch), Incarnation: w.incarnation})
	})
	if err == nil && cerr != nil {
		err = fmt.Errorf("client: log %q: everything submitted is durable, but the lease was not given back: %w", w.log, cerr)
	}
	return err
}

// drain waits until nothing is pending.
func (w *Writer) drain(ctx context.Context) error {
	for {
		w.mu.Lock()
		n, room := len(w.queue), w.room
		if n > 0 {
			w.waiters++
		}
		w.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-room:
			w.waited()
		case <-ctx.Done():
			w.waited()
			err := fmt.Errorf("%w: closed with %d entries not acknowledged: %w", ErrUnknownOutcome, n, ctx.Err())
			w.poison(err)
			return err
		}
	}
}

// waited is the end of a wait for room.
func (w *Writer) waited() {
	w.mu.Lock()
	w.waiters--
	w.mu.Unlock()
}

// AdvisedPause is how long the log service advised the writer, with its last
// acknowledgement, to wait before it appends more, because the page servers are behind; 0 when
// it need not wait. Info says how far behind. It is advice: nothing is refused to who does not wait, but who reads
// what it wrote waits for the page servers then.
func (w *Writer) AdvisedPause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pause
}
