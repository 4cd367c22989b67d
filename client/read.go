package client

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// LogEntry is a committed entry of a log. The caller owns its slices.
type LogEntry struct {
	LSN      logcore.LSN
	Time     logcore.HLC
	Kind     logcore.Kind // Data, Part, Commit or Abort
	Tx       logcore.TxID
	Payload  []byte
	Position []byte // what the engine calls its position; may be empty
	Epoch    logcore.Epoch
	Sequence uint64
}

// ReadBatch is what one message of a read brings. Entries may be empty when only
// Through rose.
type ReadBatch struct {
	Entries []LogEntry
	// Through: everything of the log up to and including this LSN has been delivered
	// with this batch.
	Through logcore.LSN
}

// ReadOptions says what to read.
type ReadOptions struct {
	// From is the first LSN wanted; 0 means the beginning.
	From logcore.LSN
	// To is the last LSN wanted; 0 means the last committed one, or no end with Follow.
	To logcore.LSN
	// Follow waits for new entries at the end of the log.
	Follow bool
	// Limit ends the read after this many entries; 0 means no limit.
	Limit uint64
	// MaxStaleness lets any member answer from what it knows to have been complete so long
	// ago, rounded up to a millisecond. A read that doesn't follow is then hedged: a second member is asked too
	// when the first takes longer than 95 of 100 reads do, for one read in ten at most. 0: what was
	// acknowledged before the call is there.
	MaxStaleness time.Duration
	// Gather, with Follow: at the end of the log the service sends a batch no sooner than so long after the one before, at most a second after it and
	// rounded up to a millisecond, so that entries that come fast come together. What comes after a longer silence comes at once. 0: each as soon as it is there.
	Gather time.Duration
}

// Read yields the committed entries of a log in LSN order, each exactly once. Every
// payload has been checked against its checksum. A lost connection is resumed where
// it broke, within Options.RetryFor of the last progress; a follow ends only by To,
// Limit, ctx or an error, which is yielded last.
func (c *Client) Read(ctx context.Context, log string, opts ReadOptions) iter.Seq2[ReadBatch, error] {
	return func(yield func(ReadBatch, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r := reader{c: c, log: log, opts: opts, retry: newBudget(c.opts.RetryFor)}
		for {
			err := r.stream(ctx, yield)
			switch {
			case r.stopped || err == nil:
				return
			case errors.Is(err, ErrUnavailable) || refused(err):
				if r.opts.To != 0 && r.opts.From > r.opts.To {
					return // everything arrived, only the end of the stream was lost
				}
				if r.retry.wait(ctx) {
					continue
				}
			}
			yield(ReadBatch{}, err)
			return
		}
	}
}

// reader is one Read; From and Limit move on with what was delivered.
type reader struct {
	c       *Client
	log     string
	opts    ReadOptions
	retry   *budget
	stopped bool // the consumer has had enough
}

// stream reads until the stream ends (nil), the consumer stops, or an error.
func (r *reader) stream(ctx context.Context, yield func(ReadBatch, error) bool) error {
	m := r.c.router.to(r.log)
	err := r.streamFrom(ctx, m, yield)
	switch { // the next attempt asks another member
	case r.c.router.learn(r.log, err):
		if hint := wire.LeaderHint(err); hint != "" || errors.Is(err, logcore.ErrNotLeader) {
			r.c.router.moved(r.log, m, hint)
		}
	case errors.Is(err, ErrUnavailable):
		r.c.router.fails(m)
		r.c.router.moved(r.log, m, "")
	}
	return err
}

// streamFrom is stream at one member.
func (r *reader) streamFrom(ctx context.Context, m *member, yield func(ReadBatch, error) bool) error {
	b := r.begin(ctx, m)
	defer b.cancel()
	if b.err != nil || b.first == nil {
		return b.err
	}
	m = b.m
	for msg := b.first; ; {
		if msg == nil {
			var err error
			msg, err = b.st.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return remote(err, m.addr)
			}
		}
		batch, err := r.batch(msg, m.addr)
		if err != nil {
			return err
		}
		msg = nil
		r.retry.reset()
		if !yield(batch, nil) {
			r.stopped = true
			return nil
		}
		n := uint64(len(batch.Entries))
		if r.opts.Limit != 0 {
			if n >= r.opts.Limit {
				return nil
			}
			r.opts.Limit -= n
		}
		if batch.Through >= r.opts.From {
			r.opts.From = batch.Through + 1
		}
	}
}

func (r *reader) batch(msg *logcorev1.ReadResponse, addr string) (ReadBatch, error) {
	b := ReadBatch{Through: logcore.LSN(msg.ThroughLsn)}
	if len(msg.Entries) > 0 {
		b.Entries = make([]LogEntry, len(msg.Entries))
	}
	for i, e := range msg.Entries {
		if got := crc32.Checksum(e.Payload, castagnoli); got != e.PayloadCrc32C {
			return b, &logcore.CorruptionError{Place: addr, Object: "log " + r.log, Offset: -1, LSN: logcore.LSN(e.Lsn),
				Reason: fmt.Sprintf("payload checksum %08x, want %08x: damaged between the service and here", got, e.PayloadCrc32C)}
		}
		b.Entries[i] = LogEntry{LSN: logcore.LSN(e.Lsn), Time: logcore.HLC(e.Time), Kind: logcore.Kind(e.Kind),
			Payload: e.Payload, Position: e.EnginePosition, Epoch: logcore.Epoch(e.Epoch), Sequence: e.Sequence}
		copy(b.Entries[i].Tx[:], e.TransactionId)
	}
	return b, nil
}
