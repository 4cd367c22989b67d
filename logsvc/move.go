package logsvc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// MoveLog implements logcorev1.AdminServiceServer.
func (a admin) MoveLog(ctx context.Context, req *logcorev1.MoveLogRequest) (*logcorev1.MoveLogResponse, error) {
	ctx, cancel := a.s.bounded(ctx)
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok { // so that what it waits for is said to somebody who still listens
		var early context.CancelFunc
		ctx, early = context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/5, time.Second)))
		defer early()
	}
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
		var err error
		want, err = PrepareMove(p, log, to, func(want catalog.Placement) error { return sh.room(want, to) })
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
		return 0, fmt.Errorf("the move of log %q to shard %d is under way and goes on by itself; %s: %w", log, to, sh.waitsFor(want.Name), err)
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

// waitsFor says in words what a move waits for, as far as this member knows.
func (sh *Shards) waitsFor(log string) string {
	p := sh.all[0].placement(log)
	if p.Settled() || p.Shard == logcore.NoShard || !sh.moves.has(p.Shard) || !sh.moves.has(p.Target) {
		return "it was not done in time"
	}
	source, target := sh.all[p.Shard], sh.all[p.Target]
	have := source.knows(log)
	switch {
	case knows(moveShard{target}, log).Gen >= p.Gen:
		return leaderless(sh.all[0], "the directory, in shard %d, has still to note that it is there")
	case !have.Gone && !source.archiveKeepsUp():
		return fmt.Sprintf("it waits for the archive of shard %d, which is %v behind: a log does not leave before that is %v at most%s",
			p.Shard, source.opts.Archive.Status(p.Shard).Lag.Round(time.Second), leaveLagMax, problems(source))
	case !have.Gone:
		return leaderless(source, "it has still to leave shard %d")
	case !source.archivedThrough(have.LeftLSN - have.Base):
		return fmt.Sprintf("it waits for the archive of shard %d, which reaches to %d of that shard's LSNs: the log goes on in shard %d once it reaches to %d%s",
			p.Shard, source.archived(), p.Target, have.LeftLSN-have.Base, problems(source))
	}
	return leaderless(target, "shard %d has still to take it in")
}

// leaderless adds that a shard has no leader when it is so.
func leaderless(s *Service, what string) string {
	text := fmt.Sprintf(what, s.group.Shard())
	if s.group.Leader() == 0 {
		text += ", and has no leader"
	}
	return text
}

// problems says what is wrong with the archive of a shard.
func problems(s *Service) string {
	if list := s.opts.Archive.Status(s.group.Shard()).Problems; len(list) > 0 {
		return " (" + strings.Join(list, "; ") + ")"
	}
	return ""
}
