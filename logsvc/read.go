package logsvc

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/wire"
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

// Read implements logcorev1.LogCoreServiceServer. A branch is read through: its
// parent's entries up to the fork, then its own.
func (s *Service) Read(req *logcorev1.ReadRequest, server readServer) error {
	ctx, cancel := s.within(server.Context())
	defer cancel()
	err := s.read(ctx, req, server)
	if err != nil && s.stopped.Err() != nil {
		err = context.Cause(ctx)
	}
	return wire.ToStatus(err, req.Log)
}

func (s *Service) read(ctx context.Context, req *logcorev1.ReadRequest, server readServer) error {
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
	r := &reader{s: s, ctx: ctx, server: server, lineage: v, next: max(from, v.first), to: to, follow: req.Follow, limit: req.Limit}
	return r.run()
}

// lineage is a log and what it inherits: which entries of the shard it shows.
type lineage struct {
	first           logcore.LSN
	truncatedBefore logcore.LSN
	upTo            map[logcore.LogID]logcore.LSN // the last LSN shown of each log
	logs            []logcore.LogID               // the keys of upTo
}

func (s *Service) lineage(name string) (v lineage, err error) {
	s.group.View(func(state *catalog.State) {
		var l *catalog.Log
		if l, err = state.ByName(name); err != nil {
			return
		}
		v = lineage{first: l.FirstLSN(), truncatedBefore: l.TruncatedBefore, upTo: map[logcore.LogID]logcore.LSN{}}
		for upTo := ^logcore.LSN(0); ; {
			v.upTo[l.ID], v.logs = upTo, append(v.logs, l.ID)
			if l.Parent == 0 {
				return
			}
			upTo = min(upTo, l.BranchLSN)
			if l, err = state.ByID(l.Parent); err != nil {
				return
			}
		}
	})
	return v, err
}

// shows reports whether an entry at lsn of a log belongs to the lineage.
func (v lineage) shows(log logcore.LogID, lsn logcore.LSN) bool {
	upTo, ok := v.upTo[log]
	return ok && lsn <= upTo
}

// reader is one Read call.
type reader struct {
	s       *Service
	ctx     context.Context
	server  readServer
	lineage lineage
	next    logcore.LSN // the next LSN to look at
	to      logcore.LSN // the last one wanted; 0: see follow
	follow  bool
	limit   uint64 // entries still wanted; 0: no limit
	over    bool   // the limit was reached

	msg      *logcorev1.ReadResponse // being filled
	msgBytes int
	told     logcore.LSN // the last through_lsn sent
	toldAt   time.Time
}

// run reads what is there, and waits for more, until the end that was asked for.
func (r *reader) run() error {
	r.msg, r.toldAt = &logcorev1.ReadResponse{}, time.Now()
	for {
		changed := r.s.group.Changed()
		end := r.s.group.Committed()
		if !r.follow && r.to == 0 && r.next <= end+1 {
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
		if r.to != 0 && r.next > r.to {
			return r.flush(r.to)
		}
		if err := r.wait(changed); err != nil {
			return err
		}
	}
}

// wait waits for the shard to go on: a follower without end, telling it from time to
// time how far the shard is; any other reader for a while.
func (r *reader) wait(changed <-chan struct{}) error {
	if len(r.msg.Entries) > 0 {
		if err := r.flush(r.next - 1); err != nil {
			return err
		}
	}
	patience := r.s.opts.ReadWait
	if r.follow {
		patience = r.s.opts.HeartbeatEvery - time.Since(r.toldAt)
	}
	begun := time.Now()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		committed := r.s.group.Committed()
		if r.next <= committed && (r.follow || r.to == 0 || committed >= r.to) {
			return nil
		}
		select {
		case <-changed:
			if err := r.s.group.Err(); err != nil && r.next > r.s.group.Committed() {
				return err
			}
			changed = r.s.group.Changed()
		case <-timer.C:
			if !r.follow {
				return &logcore.LagError{Asked: max(r.next, r.to), Available: committed, Waited: time.Since(begun)}
			}
			if through := min(r.next-1, committed); through > r.told {
				if err := r.flush(through); err != nil {
					return err
				}
			}
			timer.Reset(r.s.opts.HeartbeatEvery)
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

// readTo goes through the entries in [next, end], from the hot tier where it has them.
func (r *reader) readTo(end logcore.LSN) error {
	for r.next <= end && !r.over {
		hot := r.s.group.HotLog()
		if first := hot.First(); r.next < first {
			if err := r.readArchive(min(end, first-1)); err != nil {
				return err
			}
			continue
		}
		if next := hot.NextOf(r.next, end+1, r.lineage.logs...); next > r.next {
			r.next = next // the segments between hold nothing of these logs
			if err := r.tell(); err != nil {
				return err
			}
			continue
		}
		entries, err := hot.Entries(r.next, end+1, readChunkBytes)
		if errors.Is(err, logcore.ErrTrimmed) && r.s.opts.Archive != nil {
			continue // trimmed just now: the archive has it
		}
		if err != nil {
			return err
		}
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
	if r.s.opts.Archive == nil {
		return fmt.Errorf("%w: LSN %d: the hot tier begins at %d and there is no archive", logcore.ErrTrimmed, r.next, r.s.group.HotLog().First())
	}
	for e, err := range r.s.opts.Archive.Read(r.ctx, r.s.group.Shard(), r.next, end) {
		if err != nil {
			return fmt.Errorf("read LSN %d from the archive: %w", r.next, err)
		}
		if e.LSN != r.next {
			return &logcore.CorruptionError{Place: "archive", Object: "entries", Offset: -1, LSN: r.next, Reason: fmt.Sprintf("LSN %d came instead", e.LSN)}
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
	lsn := e.LSN
	r.next = lsn + 1
	if !e.Kind.OfLog() {
		return nil
	}
	rec, err := catalog.DecodeRecord(e.Payload)
	if err != nil {
		return fmt.Errorf("LSN %d: %w", lsn, err)
	}
	if !r.lineage.shows(rec.Log, lsn) {
		return nil
	}
	tx := e.Tx
	r.msg.Entries = append(r.msg.Entries, &logcorev1.LogEntry{Lsn: uint64(lsn), Time: uint64(e.Time), Kind: logcorev1.EntryKind(e.Kind),
		TransactionId: tx[:], Payload: rec.Body, PayloadCrc32C: crc32.Checksum(rec.Body, castagnoli),
		EnginePosition: rec.Position, Epoch: uint64(rec.Epoch), Sequence: rec.Sequence})
	r.msgBytes += len(rec.Body) + 128
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
	r.told, r.toldAt = through, time.Now()
	r.msg, r.msgBytes = &logcorev1.ReadResponse{}, 0
	return nil
}
