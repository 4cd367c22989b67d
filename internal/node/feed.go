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
func (n *Node) needsFeed(m *raftpb.Message) {
	select {
	case n.feeds <- m:
	default: // one is being carried out, or about to be
	}
}

// feedLoop catches up when it is needed.
func (n *Node) feedLoop() {
	for {
		select {
		case <-n.stopped.Done():
			return
		case m := <-n.feeds:
			if err := n.feed(n.stopped, m); err != nil && n.stopped.Err() == nil {
				n.log.Warn("node: catching up came to nothing; it is tried again", "err", err)
			}
		}
	}
}

// feed brings the member's log up to what the leader said is committed: from the leader, from any other member,
// or from the archive, whoever has the entries. It goes on where an earlier attempt ended.
func (n *Node) feed(ctx context.Context, m *raftpb.Message) error {
	upTo := logcore.LSN(m.GetSnapshot().GetMetadata().GetIndex())
	f, err := n.group.Feed(ctx, m)
	if err != nil {
		return err
	}
	defer f.Close()
	n.log.Info("node: catching up", "from", f.Next(), "to", upTo)
	var errs []error
	for _, addr := range n.others() {
		if f.Next() > upTo {
			break
		}
		errs = append(errs, n.feedFrom(ctx, f, addr, upTo))
	}
	if f.Next() <= upTo && n.opts.Archived != nil && ctx.Err() == nil {
		errs = append(errs, feedSpans(ctx, f, upTo, n.opts.Archived(ctx, f.Next(), upTo)))
	}
	if f.Next() <= upTo {
		return fmt.Errorf("at LSN %d of %d: %w", f.Next()-1, upTo, errors.Join(errs...))
	}
	if err := f.Finish(ctx); err != nil {
		return err
	}
	n.log.Info("node: caught up", "lsn", upTo)
	return nil
}

func (n *Node) feedFrom(ctx context.Context, f *replication.Feeding, addr string, upTo logcore.LSN) error {
	conn, err := n.transport.Dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := feedSpans(ctx, f, upTo, fetchFrom(ctx, conn, n.request(f.Next(), upTo))); err != nil {
		return fmt.Errorf("node at %s: %w", addr, err)
	}
	return nil
}

// feedSpans feeds the entries of spans that go on where the feeding is; what comes before it is passed over.
func feedSpans(ctx context.Context, f *replication.Feeding, upTo logcore.LSN, spans iter.Seq2[segment.Span, error]) error {
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
	}
	return nil
}
