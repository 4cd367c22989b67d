// Package receiver makes a LogCore log of a running PostgreSQL's write-ahead log. To the
// server it is a physical standby: it streams the WAL through a replication slot and
// reports as flushed only what the log has acknowledged. Named in
// synchronous_standby_names, it makes each commit wait until LogCore has it.
//
// Nothing is installed in the server. The protocol is PostgreSQL's streaming replication protocol
// (chapter "Streaming Replication Protocol" of its documentation).
package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Pending is an append under way.
type Pending interface {
	// Done is closed once the entry is durable, or was refused.
	Done() <-chan struct{}
	// Err says, once Done is closed, why it was refused; nil when it is durable.
	Err() error
}

// Log is where the WAL goes: the writer of one LogCore log.
type Log interface {
	// Tail returns the payload of the log's last entry; false when it has none.
	Tail(ctx context.Context) ([]byte, bool, error)
	// Submit appends parts as one transaction, in the order of the calls. It waits only
	// for room. The parts must not change any more. When one fails, so do all behind it.
	Submit(ctx context.Context, parts [][]byte, position []byte) Pending
	// PartBytesMax is how long a part may be.
	PartBytesMax() int
}

// Options say which server is followed and how.
type Options struct {
	// ConnString is how to reach the server: a URL or keywords, as for psql. Required.
	ConnString string
	// StandbyName is the application_name that synchronous_standby_names lists. "" is
	// "logcore".
	StandbyName string
	// Slot is the physical replication slot, made when it doesn't exist. "" is "logcore".
	Slot string
	// StatusEvery is how often the server hears from us when nothing happens; 0 is one
	// second. It must be well below wal_sender_timeout.
	StatusEvery time.Duration
	// RecordBytesMax bounds the WAL, headers of its pages included, that is kept until its last record is whole; 0 is room for
	// PostgreSQL's longest record, 1 GiB, and what may come before it. Of a record three copies are in memory when it is appended.
	RecordBytesMax int
	// InflightMax is how many appends may be under way; 0 is 64.
	InflightMax int
	// Connected, when it is set, is called once, when the server first took the connection and everything
	// about it was found right.
	Connected func()
	// SettingsEvery is how often the server's settings are looked at while it streams; 0 is one minute.
	SettingsEvery time.Duration
	// Paced: when page servers are behind the server's WAL is taken more slowly, so that a node made of their pages is made soon.
	Paced bool
	// Monitor is told how it goes; nil: nobody is.
	Monitor *Monitor
	Logger  *slog.Logger
}

// beforeRecordMax is how much whole WAL may wait for its append before a record that is not whole.
const beforeRecordMax = 64 << 20

func (o Options) withDefaults() Options {
	if o.StandbyName == "" {
		o.StandbyName = "logcore"
	}
	if o.Slot == "" {
		o.Slot = "logcore"
	}
	if o.StatusEvery == 0 {
		o.StatusEvery = time.Second
	}
	if o.RecordBytesMax == 0 {
		o.RecordBytesMax = wal.RecordSpanMax + beforeRecordMax
	}
	if o.InflightMax == 0 {
		o.InflightMax = 64
	}
	if o.SettingsEvery == 0 {
		o.SettingsEvery = time.Minute
	}
	if o.Monitor == nil {
		o.Monitor = NewMonitor("")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.ConnString == "" {
		errs = append(errs, errors.New("no ConnString: how to reach the server"))
	}
	if o.StatusEvery < 0 || o.SettingsEvery < 0 || o.RecordBytesMax < wal.PageBytes || o.InflightMax < 1 {
		errs = append(errs, fmt.Errorf("the limits StatusEvery %v, SettingsEvery %v, RecordBytesMax %d, InflightMax %d: out of range", o.StatusEvery, o.SettingsEvery, o.RecordBytesMax, o.InflightMax))
	}
	for _, c := range o.Slot {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' || len(o.Slot) > 63 {
			errs = append(errs, fmt.Errorf("slot %q: up to 63 of a-z, 0-9 and _", o.Slot))
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("receiver: %w: %w", logcore.ErrInvalid, err)
	}
	return nil
}

// Receiver copies one server's WAL into one log.
type Receiver struct {
	opts Options
	log  Log

	systemID uint64
	timeline wal.Timeline
	received atomic.Uint64 // position behind the last byte that arrived
	durable  atomic.Uint64 // position behind the last byte that the log has acknowledged
	told     atomic.Bool   // Connected was called
	streams  atomic.Bool   // the Monitor was told of this connection
}

// New returns a receiver; Run makes it work.
func New(opts Options, log Log) (*Receiver, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Receiver{opts: opts, log: log}, nil
}

// Received returns the position behind the last byte that came from the server.
func (r *Receiver) Received() wal.Position { return wal.Position(r.received.Load()) }

// Durable returns the position behind the last byte that the log has acknowledged: all
// that was ever reported to the server as flushed.
func (r *Receiver) Durable() wal.Position { return wal.Position(r.durable.Load()) }

// Connected reports whether the server ever took a connection.
func (r *Receiver) Connected() bool { return r.told.Load() }

// Run follows the server until ctx ends, which is its nil, or something is wrong. It
// resumes where the log ends, without a gap or a duplicate. A connection that breaks is an error that
// wraps ErrConnection; to call Run again is how to try again. What can't get better by trying,
// such as another cluster's WAL, wraps logcore.ErrInvalid.
func (r *Receiver) Run(ctx context.Context) error {
	err := ended(ctx, r.run(ctx))
	r.opts.Monitor.Ended(err)
	return err
}

func (r *Receiver) run(ctx context.Context) error {
	c, err := connect(ctx, r.opts)
	if err != nil {
		return err
	}
	defer c.close()
	stop := context.AfterFunc(ctx, c.close) // ends a read or write that waits
	defer stop()
	if err := r.check(c); err != nil {
		return err
	}
	if !r.told.Swap(true) && r.opts.Connected != nil {
		r.opts.Connected()
	}
	if err := c.ensureSlot(r.opts.Slot); err != nil { // first: it keeps the WAL that a base backup needs
		return err
	}
	at, err := r.resume(ctx, c)
	if err != nil {
		return err
	}
	defer r.watching(ctx)()
	r.streams.Store(false)
	for {
		next, err := r.stream(ctx, c, at)
		if err != nil {
			return err
		}
		if at, err = r.turn(ctx, c, next); err != nil {
			return err
		}
	}
}

// watching watches the server's settings until the function that it returns is called.
func (r *Receiver) watching(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { r.watch(ctx) })
	return func() {
		cancel()
		watcher.Wait()
	}
}

// ended turns what a cancelled context led to into nil.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("receiver: %w", err)
}

// resume finds where to go on: at the end of the log. One that is empty, or whose base
// backup was given up, begins with a base backup.
func (r *Receiver) resume(ctx context.Context, c *conn) (wal.Position, error) {
	id, err := c.identify()
	if err != nil {
		return 0, err
	}
	tail, found, err := r.log.Tail(ctx)
	if err != nil {
		return 0, err
	}
	r.systemID, r.timeline = id.systemID, id.timeline
	if !found {
		return r.base(ctx, c)
	}
	p, err := payload.Decode(tail)
	if err != nil {
		return 0, fmt.Errorf("the last entry of the log: %w", err)
	}
	if p.Kind == payload.KindBase {
		return r.base(ctx, c)
	}
	at := resumeAt(p)
	if err := c.continues(p, id, at); err != nil {
		return 0, err
	}
	r.timeline = p.Timeline
	return r.begin(at), nil
}

// resumeAt returns where the WAL goes on behind a log's last payload.
func resumeAt(p payload.Payload) wal.Position {
	switch p.Kind {
	case payload.KindHistory:
		return p.Start
	case payload.KindBaseEnd:
		return segmentStart(p.Start, p.SegmentBytes)
	}
	return p.End()
}

// continues verifies that the server's WAL goes on where a log ends, whose last payload is p.
func (c *conn) continues(p payload.Payload, id identity, at wal.Position) error {
	switch {
	case p.SystemID != id.systemID:
		return refuse(ConditionCluster, "%w: the log is of the database cluster %d, this server is %d: give it a log of its own", logcore.ErrInvalid, p.SystemID, id.systemID)
	case p.SegmentBytes != c.segmentBytes:
		return refuse(ConditionCluster, "%w: WAL segments in the log have %d bytes, the server's %d", logcore.ErrInvalid, p.SegmentBytes, c.segmentBytes)
	case id.timeline < p.Timeline:
		return refuse(ConditionTimeline, "%w: the log is on timeline %d, the server on %d: it is an older state of the cluster", logcore.ErrInvalid, p.Timeline, id.timeline)
	case id.timeline == p.Timeline && id.flushed < at:
		return refuse(ConditionTimeline, "%w: the log reaches %v, the server only %v on the same timeline %d: it lost WAL that it had acknowledged, or it is an older copy", logcore.ErrInvalid, at, id.flushed, p.Timeline)
	case id.timeline > p.Timeline:
		return c.checkFork(p.Timeline, id.timeline, at)
	}
	return nil
}

// begin notes that the log reaches a position.
func (r *Receiver) begin(at wal.Position) wal.Position {
	r.received.Store(uint64(at))
	r.durable.Store(uint64(at))
	r.opts.Monitor.received.Store(uint64(at))
	r.opts.Monitor.durable.Store(uint64(at))
	return at
}

func segmentStart(p wal.Position, segmentBytes uint32) wal.Position {
	return p - p%wal.Position(segmentBytes)
}

// turn goes over to the next timeline: its history becomes an entry first.
func (r *Receiver) turn(ctx context.Context, c *conn, next nextTimeline) (wal.Position, error) {
	if at := r.Durable(); next.start != at {
		return 0, refuse(ConditionTimeline, "%w: timeline %d begins at %v, but the log reaches %v: the server went another way before that", logcore.ErrInvalid, next.timeline, next.start, at)
	}
	text, err := c.history(next.timeline)
	if err != nil {
		return 0, err
	}
	b := payload.Payload{Kind: payload.KindHistory, SystemID: r.systemID, Timeline: next.timeline, SegmentBytes: c.segmentBytes, Start: next.start, Content: text}.Append(nil)
	if err := wait(ctx, r.log.Submit(ctx, [][]byte{b}, payload.AppendPosition(nil, next.timeline, next.start))); err != nil {
		return 0, err
	}
	r.opts.Logger.Info("receiver: the server is on a new timeline", "timeline", next.timeline, "begins", next.start)
	r.timeline = next.timeline
	return next.start, nil
}

// wait waits for one append.
func wait(ctx context.Context, p Pending) error {
	select {
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
