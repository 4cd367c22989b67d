package logsvc

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// create creates a log, in the shard that has least to do, or a branch where its parent is. It is
// logcore.ErrNotLeader where the directory isn't led from.
func (sh *Shards) create(ctx context.Context, req *logcorev1.CreateLogRequest) (logcore.LogID, error) {
	if req.Parent == "" && req.BranchLsn != 0 {
		return 0, fmt.Errorf("%w: branch LSN %d without a parent", logcore.ErrInvalid, req.BranchLsn)
	}
	if req.Durability < 0 || req.Durability > logcorev1.Durability_DURABILITY_QUORUM_ARCHIVE {
		return 0, fmt.Errorf("%w: durability %v", logcore.ErrInvalid, req.Durability)
	}
	first := sh.all[0]
	if len(sh.all) == 1 {
		return first.create(ctx, req)
	}
	if !first.group.Leading() {
		return 0, &logcore.NotLeaderError{Shard: first.group.Shard(), Leader: first.group.Leader()}
	}
	if err := logcore.ValidateLogName(req.Log); err != nil {
		return 0, err
	}
	ctx, cancel := first.bounded(ctx)
	defer cancel()
	c := catalog.Command{Op: catalog.OpEnter, Name: req.Log, Durability: durabilityOf(req.Durability)}
	if req.Parent == "" {
		if c.Shard = sh.leastLoaded(); c.Shard == 0 {
			return first.create(ctx, req)
		}
	} else {
		parent, err := sh.fork(ctx, req, &c)
		if err != nil {
			return 0, &aboutError{req.Parent, err}
		}
		if parent == first {
			return first.create(ctx, req)
		}
	}
	if err := first.coverage.check(&catalog.Log{Name: req.Log, Durability: c.Durability}); err != nil {
		return 0, err
	}
	err := first.do(ctx, func(p *replication.Proposer) error {
		if err := p.DiskFull(); err != nil {
			return err
		}
		_, err := p.Command(c)
		return err
	})
	if err != nil {
		return 0, err
	}
	return sh.created(ctx, req)
}

// created waits until a log that was entered is there, which whoever leads its shard sees to.
func (sh *Shards) created(ctx context.Context, req *logcorev1.CreateLogRequest) (id logcore.LogID, err error) {
	first := sh.all[0]
	err = sh.until(ctx, first, func() bool {
		p := first.placement(req.Log)
		return p.Name == "" || p.Settled()
	})
	if err != nil {
		return 0, fmt.Errorf("log %q is entered and will be created: %w", req.Log, err)
	}
	p := first.placement(req.Log)
	if p.Name == "" || int64(p.Shard) >= int64(len(sh.all)) {
		return 0, &aboutError{req.Parent, fmt.Errorf("%w: log %q can't be branched at LSN %d any more", logcore.ErrTrimmed, req.Parent, req.BranchLsn)}
	}
	return sh.all[p.Shard].knows(req.Log).ID, nil
}

// fork fills in what a branch has from its parent, and returns the service of the parent's shard.
func (sh *Shards) fork(ctx context.Context, req *logcorev1.CreateLogRequest, c *catalog.Command) (*Service, error) {
	s, err := sh.find(req.Parent)
	if err != nil || s == sh.all[0] {
		return s, err
	}
	c.Writer, c.LSN, c.Root = req.Parent, logcore.LSN(req.BranchLsn), sh.all[0].placement(req.Parent).Root
	look := func() bool {
		s.group.View(func(state *catalog.State) {
			var l *catalog.Log
			if l, err = state.ByName(req.Parent); err != nil {
				return
			}
			if req.Durability == logcorev1.Durability_DURABILITY_UNSPECIFIED {
				c.Durability = l.Durability
			}
			err = state.CheckFork(l, c.LSN)
		})
		// A member that does not lead there may know of it a moment later.
		return s.group.Leading() || !errors.Is(err, logcore.ErrLSNInFuture) && !errors.Is(err, logcore.ErrLogNotFound)
	}
	short, cancel := context.WithTimeout(ctx, s.opts.ReadWait)
	defer cancel()
	if waited := sh.until(short, s, look); waited != nil && err == nil {
		err = waited
	}
	return s, err
}

// aboutError is an error that is about another log than the request.
type aboutError struct {
	log string
	err error
}

func (e *aboutError) Error() string { return e.err.Error() }
func (e *aboutError) Unwrap() error { return e.err }

func durabilityOf(d logcorev1.Durability) catalog.Durability {
	if d == logcorev1.Durability_DURABILITY_QUORUM_ARCHIVE {
		return catalog.DurabilityArchive
	}
	return catalog.DurabilityQuorum
}

// create creates a log in this shard, which is the first or the only one.
func (s *Service) create(ctx context.Context, req *logcorev1.CreateLogRequest) (id logcore.LogID, err error) {
	err = s.do(ctx, func(p *replication.Proposer) error {
		c := catalog.Command{Op: catalog.OpCreate, Log: p.Catalog().NextLog(), Name: req.Log, LSN: logcore.LSN(req.BranchLsn), Durability: durabilityOf(req.Durability)}
		if req.Parent != "" {
			parent, err := p.Catalog().ByName(req.Parent)
			if err != nil {
				return &aboutError{req.Parent, err}
			}
			c.Parent = parent.ID
			if req.Durability == logcorev1.Durability_DURABILITY_UNSPECIFIED {
				c.Durability = parent.Durability
			}
		}
		if err := s.coverage.check(&catalog.Log{Name: req.Log, Durability: c.Durability}); err != nil {
			return err
		}
		if err := p.DiskFull(); err != nil {
			return err
		}
		_, err := p.Command(c)
		id = c.Log
		return err
	})
	return id, err
}
