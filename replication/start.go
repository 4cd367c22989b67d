package replication

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
)

func open(ctx context.Context, opts Options, hot *hotlog.Log, report hotlog.RecoveryReport) (*Group, error) {
	file, state, err := loadState(opts, hot)
	if err != nil {
		return nil, err
	}
	g, err := begin(ctx, opts, hot, report, state)
	if err != nil {
		return nil, errors.Join(err, file.close())
	}
	g.loop.file = file
	go g.loop.run()
	return g, nil
}

// begin puts a group together; its loop does not run yet.
func begin(ctx context.Context, opts Options, hot *hotlog.Log, report hotlog.RecoveryReport, state memberState) (*Group, error) {
	if hot.Last() < logcore.LSN(state.Commit) {
		opts.Log.Corruptions.Inc()
		return nil, &logcore.CorruptionError{Place: opts.Log.Dir, Object: "hot log", Offset: -1, LSN: hot.Last(),
			Reason: fmt.Sprintf("the log ends here, but entries up to LSN %d were committed: restore the directory from the archive", state.Commit)}
	}
	st := &storage{log: hot, initial: state, last: hot.Last()}
	if st.last >= hot.First() {
		tail, err := hot.Entries(st.last, st.last+1, 0)
		if err != nil {
			return nil, err
		}
		st.lastTime = tail[0].Time
	}
	// In a group of one what is durable here is durable at a quorum.
	if state.soleVoter() {
		st.initial.Commit = uint64(st.last)
	}
	st.initial.Commit = max(st.initial.Commit, uint64(hot.First()-1))
	start, err := findStart(ctx, hot, logcore.LSN(st.initial.Commit))
	if err != nil {
		return nil, err
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID: opts.Member, ElectionTick: electionTicks, HeartbeatTick: 1, Storage: st, Applied: uint64(start.fold - 1),
		AsyncStorageWrites: true, MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: applyBytesMax, MaxInflightMsgs: 256,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true, Logger: raftLogger{opts.Log.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("replication: %w", err)
	}
	g := &Group{opts: opts, log: opts.Log.Logger.With("shard", opts.Log.Shard), hot: hot, report: report, incarnation: state.Incarnation, applied: catalog.NewState(),
		stopped: make(chan struct{}), changed: make(chan struct{}), wake: make(chan struct{}, 1)}
	g.committed.Store(uint64(start.fold - 1))
	g.term.Store(state.Term)
	g.loop = loop{g: g, rn: rn, storage: st, state: state, checkpointDue: start.checkpointDue}
	return g, nil
}

// waitReady returns when the group leads. When it can't, because the disk is full, and
// everything committed can be read, it returns too: only the archiver and the trimmer can
// make room, and they want an open group.
func (g *Group) waitReady(ctx context.Context) error {
	for {
		changed := g.Changed()
		if g.leading.Load() {
			return nil
		}
		if err := g.Err(); err != nil {
			return err
		}
		g.mu.Lock()
		stalled, readable := g.stalled, g.readable
		g.mu.Unlock()
		if stalled != nil && readable {
			g.log.Warn("replication: opened for readers only until there is room on the disk", "err", stalled)
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if stalled != nil {
				return fmt.Errorf("not leading yet: %w: %w", stalled, ctx.Err())
			}
			return fmt.Errorf("not leading yet: %w", ctx.Err())
		}
	}
}

// start says where the fold of an existing log begins.
type start struct {
	fold          logcore.LSN // the first entry to be applied
	checkpointDue bool        // the open segment has no checkpoint
}

// findStart looks for the newest committed checkpoint: segments begin with one, so it
// reads the beginnings of segments from the newest back.
func findStart(ctx context.Context, hot *hotlog.Log, committed logcore.LSN) (start, error) {
	segments := hot.Segments()
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		newest := i == len(segments)-1
		lsn, err := firstCheckpoint(ctx, hot, max(s.First, hot.First()), min(s.Last, committed))
		if err != nil {
			return start{}, err
		}
		if lsn != 0 {
			return start{fold: lsn, checkpointDue: !newest || s.Sealed}, nil
		}
	}
	if hot.First() > 1 {
		return start{}, &logcore.CorruptionError{Place: "hot log", Object: "catalog", Offset: -1, LSN: hot.First(), Reason: "no checkpoint of the catalog in any segment, and the entries from LSN 1 on are gone"}
	}
	return start{fold: 1, checkpointDue: true}, nil
}

// firstCheckpoint returns the LSN of the first checkpoint in [lo, hi], 0 when there is none.
func firstCheckpoint(ctx context.Context, hot *hotlog.Log, lo, hi logcore.LSN) (logcore.LSN, error) {
	for lo <= hi && lo != 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		entries, err := hot.Entries(lo, hi+1, startBytesRead)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if e.Kind == logcore.KindCheckpoint {
				return e.LSN, nil
			}
		}
		lo += logcore.LSN(len(entries))
	}
	return 0, nil
}
