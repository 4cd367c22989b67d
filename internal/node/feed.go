package node

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/replication"
)

// needsFeed is told by the member, on its loop, of a leader that lacks the entries this member needs.
func (m *member) needsFeed(msg *raftpb.Message) {
	if m.toFeed.Swap(msg) == nil {
		m.n.feeds <- m // it is in it once at most: there is room
	}
}

// feedLoop catches up when it is needed.
func (n *Node) feedLoop() {
	for {
		select {
		case <-n.stopped.Done():
			return
		case m := <-n.feeds:
			if err := m.feed(n.stopped, m.toFeed.Swap(nil)); err != nil && n.stopped.Err() == nil {
				n.log.Warn("node: catching up came to nothing; it is tried again", "shard", m.shard, "err", err)
			}
		}
	}
}

// feed brings the member's log up to what the leader said is committed: from the leader, from any other member,
// or from the archive, whoever has the entries. It goes on where an earlier attempt ended.
func (m *member) feed(ctx context.Context, msg *raftpb.Message) error {
	n := m.n
	upTo := logcore.LSN(msg.GetSnapshot().GetMetadata().GetIndex())
	f, err := m.group.Feed(ctx, msg)
	if err != nil {
		return err
	}
	defer f.Close()
	n.log.Info("node: catching up", "shard", m.shard, "from", f.Next(), "to", upTo)
	var errs []error
	var end chainEnd
	for _, addr := range m.others() {
		if f.Next() > upTo {
			break
		}
		errs = append(errs, m.feedFrom(ctx, f, addr, upTo, &end))
	}
	if f.Next() <= upTo && n.opts.Archived != nil && ctx.Err() == nil {
		errs = append(errs, feedSpans(ctx, f, upTo, n.opts.Archived(ctx, m.shard, f.Next(), upTo), &end))
	}
	if f.Next() <= upTo {
		return fmt.Errorf("at LSN %d of %d: %w", f.Next()-1, upTo, errors.Join(errs...))
	}
	if err := m.checkFed(ctx, f, &end); err != nil {
		return err
	}
	if err := f.Finish(ctx); err != nil {
		return err
	}
	n.log.Info("node: caught up", "shard", m.shard, "lsn", upTo)
	return nil
}

// chainEnd is the last entry that a source had, with the checksum of its frame there: since each frame carries the one of
// the frame before it, the same one here means the same log up to it.
type chainEnd struct {
	lsn logcore.LSN
	sum uint32
}

// checkFed holds the log that was fed against the one it came from.
func (m *member) checkFed(ctx context.Context, f *replication.Feeding, end *chainEnd) error {
	if end.lsn == 0 {
		return nil
	}
	if err := f.Settle(ctx); err != nil {
		return err
	}
	own, err := m.group.HotLog().Span(end.lsn, end.lsn)
	if err != nil {
		return err
	}
	if own.Sum != end.sum {
		m.n.opts.Log.Corruptions.Inc()
		return &logcore.CorruptionError{Place: m.n.opts.LogOf(m.shard).Dir, Object: "hot log", Offset: -1, LSN: end.lsn,
			Reason: fmt.Sprintf("fed from elsewhere it has checksum %08x, there it has %08x: the logs part before it", own.Sum, end.sum)}
	}
	return nil
}

func (m *member) feedFrom(ctx context.Context, f *replication.Feeding, addr string, upTo logcore.LSN, end *chainEnd) error {
	conn, err := m.n.transport.Dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := feedSpans(ctx, f, upTo, fetchFrom(ctx, conn, m.request(f.Next(), upTo)), end); err != nil {
		return fmt.Errorf("node at %s: %w", addr, err)
	}
	return nil
}

// feedSpans feeds the entries of spans that go on where the feeding is; what comes before it is passed over.
func feedSpans(ctx context.Context, f *replication.Feeding, upTo logcore.LSN, spans iter.Seq2[segment.Span, error], end *chainEnd) error {
	for span, err := range spans {
		if err != nil {
			return err
		}
		var part []logcore.Entry
		for e, err := range span.Entries() {
			if err != nil {
				return fmt.Errorf("LSNs %d to %d: %w", span.First, span.Last, err)
			}
			if e.LSN >= f.Next() && e.LSN <= upTo {
				part = append(part, e)
			}
		}
		if len(part) == 0 {
			continue
		}
		if err := f.Add(ctx, part); err != nil {
			return err
		}
		if span.Last <= upTo {
			*end = chainEnd{span.Last, span.Sum}
		}
	}
	return nil
}
