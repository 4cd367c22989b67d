package logsvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

const (
	// A message is sent once it holds about this much; one longer entry goes alone.
	readMessageBytes   = 1 << 20
	readMessageEntries = 4096
	// What is taken from the hot log at once.
	readChunkBytes = 1 << 20
)

type readServer = grpc.ServerStreamingServer[logcorev1.ReadResponse]

// Read implements logcorev1.LogCoreServiceServer. A log is read through all its extents: those that a
// branch has from its parents up to the fork, those in the shards that it was in before, then
// what it has here.
func (s *Service) Read(req *logcorev1.ReadRequest, server readServer) error {
	ctx, cancel := s.within(server.Context())
	defer cancel()
	err := s.read(ctx, req, server)
	if err != nil && s.stopped.Err() != nil {
		err = context.Cause(ctx)
	}
	return s.status(err, req.Log)
}

func (s *Service) read(ctx context.Context, req *logcorev1.ReadRequest, server readServer) error {
	bound := time.Duration(req.MaxStalenessMs) * time.Millisecond
	if err := s.freshFor(ctx, bound, req.Log); err != nil {
		return err
	}
	v, err := s.lineage(req.Log)
	if err != nil {
		return err
	}
	from, to := logcore.LSN(req.FromLsn), logcore.LSN(req.ToLsn)
	if to != 0 && to < from {
		return fmt.Errorf("%w: read from LSN %d to %d", logcore.ErrInvalid, from, to)
	}
	if v.truncatedBefore != 0 && from != 0 && from < v.truncatedBefore {
		return fmt.Errorf("%w: log %q begins at LSN %d", logcore.ErrTrimmed, req.Log, v.first)
	}
	r := &reader{ctx: ctx, server: server, lineage: v, next: max(from, v.first), to: to, follow: req.Follow, limit: req.Limit, bound: bound,
		gather: min(time.Duration(req.GatherMs)*time.Millisecond, gatherMax)}
	return r.run()
}

// lineage is a log and what it inherits.
type lineage struct {
	own             logcore.LogID // the log itself
	name            string
	first           logcore.LSN
	truncatedBefore logcore.LSN
	chain           []catalog.Extent
	services        []*Service // of the chain's shards
}

func (s *Service) lineage(name string) (v lineage, err error) {
	s.group.View(func(state *catalog.State) {
		var l *catalog.Log
		if l, err = state.ByName(name); err != nil {
			return
		}
		v = lineage{own: l.ID, name: name, first: l.FirstLSN(), truncatedBefore: l.TruncatedBefore}
		v.chain, err = state.Chain(l.ID, s.group.Shard())
	})
	whole := v.chain
	v.chain = make([]catalog.Extent, 0, len(whole))
	for _, e := range whole {
		if e.Shard == s.group.Shard() {
			v.chain, v.services = append(v.chain, e), append(v.services, s)
			continue
		}
		if int(e.Shard) >= len(s.shards.all) {
			return v, fmt.Errorf("%w: log %q has LSNs %d to %d in shard %d, which this member does not have", logcore.ErrCorrupt, name, e.First, e.Last, e.Shard)
		}
		other := s.shards.all[e.Shard]
		if e.Last = other.lastOf(e); e.First <= e.Last {
			v.chain, v.services = append(v.chain, e), append(v.services, other)
		}
	}
	return v, err
}

// lastOf returns the last LSN of an extent of this shard, which the log has left. That is what the extent says, unless the shard was
// restored from an archive which ended before it: then it is where the log was found to have left, or the end of the shard. What was
// between is lost, and not waited for.
func (s *Service) lastOf(e catalog.Extent) logcore.LSN {
	last := e.Last
	if s.alone() && s.group.Leading() { // there is nobody who could have more
		last = min(last, s.group.Committed()+e.Base)
	}
	s.group.View(func(state *catalog.State) {
		if l, err := state.ByID(e.Log); err == nil && l.Gone && l.Base == e.Base && l.LeftLSN >= e.First {
			last = min(last, l.LeftLSN)
		}
	})
	return last
}

// reader is one Read call. Its LSNs are the log's; those of the shard, which it asks for entries, are
// called indexes: lower by extent.Base.
type reader struct {
	s       *Service       // of the extent's shard
	extent  catalog.Extent // that is being read
	ctx     context.Context
	server  readServer
	lineage lineage
	next    logcore.LSN // the next LSN to look at
	to      logcore.LSN // the last one wanted; 0: see follow
	follow  bool
	bound   time.Duration // how stale it may be; 0: not at all
	gather  time.Duration // from one message at the tail to the next, at least
	limit   uint64        // entries still wanted; 0: no limit
	over    bool          // the limit was reached
	gone    error         // the log was deleted, or reset, which makes another log of its name

	msg      *logcorev1.ReadResponse // being filled
	msgBytes int
	told     logcore.LSN // the last through_lsn sent
	toldAt   time.Time
}

// run reads one extent after the other, until the end that was asked for.
func (r *reader) run() error {
	r.msg, r.toldAt = &logcorev1.ReadResponse{}, time.Now()
	for i, e := range r.lineage.chain {
		r.s, r.extent = r.lineage.services[i], e
		if r.next > e.Last || e.First > e.Last {
			continue
		}
		r.next = max(r.next, e.First)
		if err := r.runExtent(); err != nil || r.over {
			return err
		}
		if r.gone != nil {
			return r.gone
		}
		if r.to != 0 && r.next > r.to {
			return r.flush(r.to)
		}
	}
	// The log has left meanwhile: the rest is where it went.
	if err := r.flush(r.next - 1); err != nil {
		return err
	}
	if _, err := r.s.logByName(r.lineage.name); err != nil {
		return err
	}
	return &logcore.MovedError{Log: r.lineage.name, Shard: r.s.group.Shard()} // it is back already
}

// committed returns up to which LSN of the extent all is there, and notes where the extent ends if it has
// ended. It asks in this order: what is committed, then whether the log has left, which it then had not
// before that.
func (r *reader) committed() logcore.LSN {
	end := r.s.group.Committed() + r.extent.Base
	if r.extent.Last == catalog.Open {
		r.s.group.View(func(state *catalog.State) {
			l, err := state.ByID(r.lineage.own)
			switch {
			case err != nil:
				r.gone = fmt.Errorf("%w: %q was deleted or reset", logcore.ErrLogNotFound, r.lineage.name)
				r.extent.Last = r.next - 1
			case l.Gone || l.PlacedLSN >= r.extent.First:
				r.extent.Last = leftAt(l, r.extent)
			}
		})
	}
	return min(end, r.extent.Last)
}

// leftAt returns where an extent ends of a log that has left, or is back since.
func leftAt(l *catalog.Log, extent catalog.Extent) logcore.LSN {
	for _, e := range l.Extents {
		if e.Shard == extent.Shard && e.Log == extent.Log && e.First == extent.First {
			return e.Last
		}
	}
	return l.LeftLSN
}

// runExtent reads what is there of an extent, and waits for more, until its end or the one that was
// asked for.
func (r *reader) runExtent() error {
	for {
		changed := r.s.group.Changed()
		end := r.committed()
		if !r.follow && r.to == 0 && r.extent.Log == r.lineage.own && r.isLast() && r.next <= end+1 {
			r.to = end // what is committed now: the end must not run away from the reader
		}
		if r.to != 0 {
			end = min(end, r.to)
		}
		if r.next <= end {
			if err := r.readTo(end); err != nil || r.over {
				return err
			}
		}
		if r.to != 0 && r.next > r.to || r.next > r.extent.Last {
			return nil
		}
		if r.follow && r.next > end && r.extent.Last == catalog.Open {
			if ended, err := r.followTail(); err != nil || ended {
				return err
			}
			continue
		}
		if err := r.wait(changed); err != nil {
			return err
		}
	}
}

// isLast reports whether the extent is the one that the log was appended to when the read began.
func (r *reader) isLast() bool {
	return r.extent.First == r.lineage.chain[len(r.lineage.chain)-1].First
}

// wait waits a while for the shard to get as far as a reader wants that doesn't follow.
func (r *reader) wait(changed <-chan struct{}) error {
	if len(r.msg.Entries) > 0 {
		if err := r.flush(r.next - 1); err != nil {
			return err
		}
	}
	begun := time.Now()
	timer := time.NewTimer(r.s.opts.ReadWait)
	defer timer.Stop()
	for {
		committed := r.committed()
		if r.next <= committed && (r.to == 0 || committed >= min(r.to, r.extent.Last)) || r.next > r.extent.Last {
			return nil
		}
		select {
		case <-changed:
			if err := r.s.group.Err(); err != nil && r.next > r.committed() {
				return err
			}
			changed = r.s.group.Changed()
		case <-timer.C:
			return &logcore.LagError{Asked: max(r.next, r.to), Available: committed, Waited: time.Since(begun)}
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

// followTail is a follower that has caught up: it takes what the tail gives it, and tells
// the client from time to time how far the shard is. It returns when the read or the extent has ended, or when
// it fell behind and must read by itself.
func (r *reader) followTail() (ended bool, err error) {
	f := r.s.tail.join(r.extent.Log)
	defer f.leave()
	if from := f.from + r.extent.Base; r.next < from {
		if r.committed() < from-1 {
			return false, nil // the log has left
		}
		if err := r.readTo(from - 1); err != nil || r.over {
			return r.over, err
		}
	}
	timer := time.NewTimer(r.s.opts.HeartbeatEvery)
	defer timer.Stop()
	for due := false; ; {
		if err := r.gathers(); err != nil {
			return false, err
		}
		entries, through, behind, err := f.take()
		last := min(through+r.extent.Base, r.committed())
		if err := r.takeShown(entries, last); err != nil || r.over {
			return r.over, err
		}
		if err != nil || behind || r.extent.Last != catalog.Open {
			return false, err
		}
		if r.to != 0 && r.next > r.to {
			return true, nil
		}
		if len(r.msg.Entries) > 0 || due && r.next-1 > r.told {
			if err := r.flush(r.next - 1); err != nil {
				return false, err
			}
		}
		due = false
		select {
		case <-f.ready:
		case <-timer.C:
			if err := r.s.still(r.ctx, r.bound, r.lineage.name); err != nil {
				return false, err
			}
			timer.Reset(r.s.opts.HeartbeatEvery)
			due = true
		case <-r.ctx.Done():
			return false, context.Cause(r.ctx)
		}
	}
}

// gatherMax bounds what a reader may ask for.
const gatherMax = time.Second

// gathers waits until the next message at the tail may go. Meanwhile entries gather: each message costs both
// sides, and the reader's work on it, more than the entries in it.
func (r *reader) gathers() error {
	rest := r.gather - time.Since(r.toldAt)
	if r.gather == 0 || rest <= 0 {
		return nil
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// takeShown takes entries of the log, and notes that there are no others up to through.
func (r *reader) takeShown(entries []*logcorev1.LogEntry, through logcore.LSN) error {
	for _, e := range entries {
		lsn := logcore.LSN(e.Lsn) + r.extent.Base
		if lsn < r.next || r.to != 0 && lsn > r.to || lsn > r.extent.Last {
			continue
		}
		r.next = lsn + 1
		if err := r.add(shifted(e, r.extent.Base)); err != nil || r.over {
			return err
		}
	}
	r.next = max(r.next, through+1)
	return nil
}

// shifted returns an entry that others may have too under the LSN it has in the log.
func shifted(e *logcorev1.LogEntry, base logcore.LSN) *logcorev1.LogEntry {
	if base == 0 {
		return e
	}
	return &logcorev1.LogEntry{Lsn: e.Lsn + uint64(base), Time: e.Time, Kind: e.Kind, TransactionId: e.TransactionId, Payload: e.Payload,
		PayloadCrc32C: e.PayloadCrc32C, EnginePosition: e.EnginePosition, Epoch: e.Epoch, Sequence: e.Sequence}
}

// readTo goes through the entries in [next, end], from the hot tier where it has them.
func (r *reader) readTo(end logcore.LSN) error {
	base := r.extent.Base
	for r.next <= end && !r.over {
		hot := r.s.group.HotLog()
		if first := hot.First() + base; r.next < first {
			if err := r.readArchive(min(end, first-1)); err != nil {
				return err
			}
			continue
		}
		if next := hot.NextOf(r.next-base, end-base+1, r.extent.Log) + base; next > r.next {
			r.next = next // the segments between hold nothing of the log
			if err := r.tell(); err != nil {
				return err
			}
			continue
		}
		entries, err := hot.Entries(r.next-base, end-base+1, readChunkBytes)
		if errors.Is(err, logcore.ErrTrimmed) && r.s.opts.Archive != nil {
			continue // trimmed just now: the archive has it
		}
		if err != nil {
			return err
		}
		r.s.metrics.decoded.Add(float64(len(entries)))
		for i := range entries {
			if err := r.take(&entries[i]); err != nil || r.over {
				return err
			}
		}
		if err := r.tell(); err != nil {
			return err
		}
	}
	return nil
}

// readArchive goes through the entries in [next, end] from the archive.
func (r *reader) readArchive(end logcore.LSN) error {
	base := r.extent.Base
	if r.s.opts.Archive == nil {
		return fmt.Errorf("%w: LSN %d: the hot tier begins at %d and there is no archive", logcore.ErrTrimmed, r.next, r.s.group.HotLog().First()+base)
	}
	for e, err := range r.s.opts.Archive.Read(r.ctx, r.s.group.Shard(), r.next-base, end-base) {
		if err != nil {
			return fmt.Errorf("read LSN %d from the archive: %w", r.next, err)
		}
		if e.LSN+base != r.next {
			return &logcore.CorruptionError{Place: "archive", Object: "entries", Offset: -1, LSN: r.next - base, Reason: fmt.Sprintf("LSN %d came instead", e.LSN)}
		}
		e.Payload = append([]byte(nil), e.Payload...) // the message outlives the iteration
		if err := r.take(&e); err != nil || r.over {
			return err
		}
		if err := r.tell(); err != nil {
			return err
		}
	}
	if r.next <= end {
		return fmt.Errorf("%w: the archive ended before LSN %d of the %d it should have", logcore.ErrTrimmed, r.next, end)
	}
	return nil
}

// take adds an entry to the message when the log shows it, and sends a full message.
func (r *reader) take(e *logcore.Entry) error {
	index := e.LSN
	r.next = index + r.extent.Base + 1
	if !e.Kind.OfLog() {
		return nil
	}
	rec, err := catalog.DecodeRecord(e.Payload)
	if err != nil {
		return fmt.Errorf("shard %d, entry %d: %w", r.s.group.Shard(), index, err)
	}
	if rec.Log != r.extent.Log {
		return nil
	}
	if rec.Erased && r.s.opts.Archive != nil && r.s.opts.Archive.Erased(r.s.group.Shard(), rec.Log, index) {
		return fmt.Errorf("%w: what the entry at LSN %d held was erased from the archive by its retention or with what was truncated: read from a later one", logcore.ErrTrimmed, index+r.extent.Base)
	}
	shown := logEntry(e, rec)
	shown.Lsn += uint64(r.extent.Base)
	return r.add(shown)
}

// add adds an entry to the message, and sends a full one.
func (r *reader) add(e *logcorev1.LogEntry) error {
	lsn := logcore.LSN(e.Lsn)
	r.msg.Entries = append(r.msg.Entries, e)
	r.msgBytes += len(e.Payload) + 128
	if r.limit != 0 {
		if r.limit--; r.limit == 0 {
			r.over = true
			return r.flush(lsn)
		}
	}
	if r.msgBytes >= readMessageBytes || len(r.msg.Entries) >= readMessageEntries {
		return r.flush(lsn)
	}
	return nil
}

// tell lets a reader of a log that is quiet in a busy shard know how far it is.
func (r *reader) tell() error {
	if len(r.msg.Entries) == 0 && r.next-1 > r.told && time.Since(r.toldAt) >= r.s.opts.HeartbeatEvery {
		return r.flush(r.next - 1)
	}
	return nil
}

// flush sends the message, with everything up to through in it.
func (r *reader) flush(through logcore.LSN) error {
	r.msg.ThroughLsn = uint64(through)
	if err := r.server.Send(r.msg); err != nil {
		return err
	}
	r.s.metrics.sent.Add(float64(len(r.msg.Entries)))
	r.told, r.toldAt = through, time.Now()
	r.msg, r.msgBytes = &logcorev1.ReadResponse{}, 0
	return nil
}
