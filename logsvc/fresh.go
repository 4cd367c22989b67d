package logsvc

import (
	"context"
	"errors"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
)

// freshWait bounds how long a read waits for the quorum's word.
const freshWait = 2 * time.Second

// alone reports that this member is the group: what is committed here is all there is.
func (s *Service) alone() bool {
	m := s.group.Status().Members
	return len(m.Voters) == 1 && len(m.Outgoing) == 0 && m.Voters[0] == s.group.Status().Member
}

// fresh returns once what this member shows is complete: up to now with a bound of 0, else
// up to so long ago at the most.
func (s *Service) fresh(ctx context.Context, bound time.Duration) error {
	if s.alone() {
		return nil
	}
	begun := time.Since(s.started)
	if bound > 0 && begun-time.Duration(s.freshAt.Load()) <= bound {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	err := s.group.ReadIndex(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &logcore.NotLeaderError{Shard: s.group.Shard()} // a quorum is out of reach from here
	case err != nil:
		return err
	}
	s.wasFresh(begun)
	return nil
}

// wasFresh notes that this member was complete at a time since started.
func (s *Service) wasFresh(at time.Duration) {
	for {
		before := s.freshAt.Load()
		if before >= int64(at) || s.freshAt.CompareAndSwap(before, int64(at)) {
			return
		}
	}
}

// still says whether a follower that is idle may go on here, or must find a member that
// knows more.
func (s *Service) still(ctx context.Context, bound time.Duration, log string) error {
	if bound > 0 {
		return s.freshFor(ctx, bound, log)
	}
	if st := s.group.Status(); !st.Leading && !s.alone() {
		return &logcore.NotLeaderError{Shard: s.group.Shard(), Leader: st.Leader}
	}
	return nil
}

// status is the gRPC status of an error about the named log, with the leader's address
// where the error is that it isn't this member.
func (s *Service) status(err error, log string) error { return wire.ToStatus(s.located(err), log) }

func (s *Service) located(err error) error {
	var elsewhere *logcore.NotLeaderError
	if errors.As(err, &elsewhere) {
		by := s.of(elsewhere.Shard)
		if elsewhere.Address != "" || elsewhere.Leader == 0 || elsewhere.Leader == by.group.Status().Member {
			return err
		}
		at := *elsewhere
		at.Address = s.opts.AddressOf(at.Leader)
		return &at
	}
	var moved *logcore.MovedError
	if errors.As(err, &moved) && moved.Address == "" {
		at := *moved
		by := s.of(moved.Shard)
		if at.Leader = by.group.Leader(); at.Leader != 0 {
			at.Address = s.opts.AddressOf(at.Leader)
		}
		return &at
	}
	return err
}

// of returns the service of another shard in this process.
func (s *Service) of(shard logcore.ShardID) *Service {
	if int(shard) < len(s.shards.all) {
		return s.shards.all[shard]
	}
	return s
}
