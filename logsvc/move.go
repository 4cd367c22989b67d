package logsvc

import (
	"context"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// MoveLog implements logcorev1.AdminServiceServer.
func (a admin) MoveLog(ctx context.Context, req *logcorev1.MoveLogRequest) (*logcorev1.MoveLogResponse, error) {
	ctx, cancel := a.s.bounded(ctx)
	defer cancel()
	left, err := a.s.shards.move(ctx, req.Log, logcore.ShardID(req.Shard))
	if err != nil {
		return nil, a.s.status(err, req.Log)
	}
	return &logcorev1.MoveLogResponse{LeftLsn: uint64(left)}, nil
}

// move moves a log to another shard and returns where it left; 0 when it was there. A move to the same shard
// that is under way is waited for.
func (sh *Shards) move(ctx context.Context, log string, to logcore.ShardID) (left logcore.LSN, err error) {
	first := sh.all[0]
	if int(to) >= len(sh.all) {
		return 0, fmt.Errorf("%w: there is no shard %d: the cluster has %d, from 0 on", logcore.ErrInvalid, to, len(sh.all))
	}
	var want catalog.Placement
	err = first.do(ctx, func(p *replication.Proposer) error {
		var known bool
		if want, known = p.Catalog().Placement(log); !known {
			l, err := p.Catalog().ByName(log)
			if err != nil {
				return err
			}
			want = catalog.Placement{Name: l.Name, Root: p.Catalog().Root(l).Name, Gen: l.Gen, Shard: 0, Target: logcore.NoShard}
		}
		if want.IsRoot() && (want.Target == to || want.Settled() && want.Shard == to) {
			p.WaitFor(p.Catalog().LSN)
			return nil
		}
		if err := sh.room(want, to); err != nil {
			return err
		}
		c := catalog.Command{Op: catalog.OpMove, Name: want.Name, Gen: want.Gen + 1, Shard: to}
		// Commit point: from here on the log is moved, whoever ends.
		_, err := p.Command(c)
		want.Gen, want.Target = c.Gen, to
		return err
	})
	if err != nil || want.Settled() {
		return 0, err
	}
	err = sh.until(ctx, first, func() bool {
		p := first.placement(want.Name)
		return p.Gen > want.Gen || p.Gen == want.Gen && p.Settled()
	})
	if err != nil {
		return 0, fmt.Errorf("the move of log %q to shard %d is under way and goes on by itself: %w", log, to, err)
	}
	if l := sh.all[to].knows(want.Name); l.ok && len(l.Extents) > 0 {
		left = l.Extents[len(l.Extents)-1].Last
	}
	return left, nil
}

// room refuses a move that the shard could not take, as far as this member knows it: once the log has left
// there is no way back but another move.
func (sh *Shards) room(want catalog.Placement, to logcore.ShardID) (err error) {
	if want.At() == logcore.NoShard || int64(want.At()) >= int64(len(sh.all)) {
		return nil // the directory refuses it
	}
	var family []*catalog.Log
	sh.all[want.At()].group.View(func(state *catalog.State) {
		if root, ok := state.Named(want.Name); ok && root.Parent == 0 {
			family = state.Family(root)
			err = state.CheckMovable(root)
		}
	})
	if err == nil {
		sh.all[to].group.View(func(state *catalog.State) { err = state.CheckRoom(family) })
	}
	return err
}
