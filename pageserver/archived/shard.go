package archived

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/tiering"
)

// shard is the archive of one shard.
type shard struct {
	a  *Archive
	id logcore.ShardID

	turn   chan struct{}   // a lock that can be waited for with a context
	reader *tiering.Reader // guarded by turn; nil until the archive could be opened
	looked time.Time       // guarded by turn; when the archive was looked at last
	err    error           // guarded by turn; why it could not be
	fold   fold            // guarded by turn

	mu      sync.Mutex
	opened  *tiering.Reader    // reader, for who can't wait; guarded by mu
	pending *pass              // not begun; guarded by mu
	running map[*pass]struct{} // guarded by mu
}

func (s *shard) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *shard) unlock() { <-s.turn }

// look reads what was archived meanwhile, unless that was done just now. The caller holds turn.
func (s *shard) look(ctx context.Context) error {
	if !s.looked.IsZero() && time.Since(s.looked) < s.a.opts.RefreshEvery {
		return s.err
	}
	var err error
	if s.reader == nil {
		s.reader, err = s.a.opts.Open(ctx, s.id)
		if err != nil {
			s.reader = nil
		}
		s.mu.Lock()
		s.opened = s.reader
		s.mu.Unlock()
	} else {
		err = s.reader.Refresh(ctx)
	}
	if ctx.Err() == nil { // a caller that gave up says nothing about the archive
		s.err, s.looked = err, time.Now()
	}
	return err
}

func (s *shard) check(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	return s.look(ctx)
}

func (s *shard) unreachable() []string {
	s.mu.Lock()
	r := s.opened
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.Unreachable()
}

// withCatalog calls visit with the catalog as far as it is archived. What visit keeps must be
// copies.
func (s *shard) withCatalog(ctx context.Context, visit func(*catalog.State)) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if err := s.look(ctx); err != nil {
		return err
	}
	if err := s.fold.advance(ctx, s.reader); err != nil {
		return fmt.Errorf("the catalog in the archive: %w", err)
	}
	visit(s.fold.state)
	return nil
}

// covered returns the shard's reader and up to which index it can read.
func (s *shard) covered(ctx context.Context) (*tiering.Reader, logcore.LSN, error) {
	if err := s.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer s.unlock()
	if err := s.look(ctx); err != nil {
		return nil, 0, err
	}
	return s.reader, s.reader.Covered(), nil
}

// toSegment is an archived span as the hot log knows it.
func toSegment(s tiering.Span) segment.Span {
	return segment.Span{ID: segment.ID{Shard: s.Shard, First: s.SegmentFirst}, First: s.First, Last: s.Last, FirstTime: s.FirstTime, LastTime: s.LastTime,
		Prev: s.Prev, Sum: s.Sum, Sealed: s.Sealed, Frames: s.Frames}
}
