package node

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/replication/transport"
)

// fetchFrom yields the committed entries of [from, to] that the node at the other end of conn holds, as spans
// in order; to 0 means all that it has. Each is checked against its checksum; the frames check
// themselves when they are read.
func fetchFrom(ctx context.Context, conn grpc.ClientConnInterface, req *logcorev1.FetchRequest) iter.Seq2[segment.Span, error] {
	return func(yield func(segment.Span, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := logcorev1.NewPeerServiceClient(conn).Fetch(ctx, req)
		next := logcore.LSN(req.FromLsn)
		for err == nil {
			var r *logcorev1.FetchResponse
			if r, err = stream.Recv(); err != nil {
				break
			}
			if sum := crc32.Checksum(r.Frames, castagnoli); sum != r.FramesCrc32C {
				err = fmt.Errorf("%w: LSNs %d to %d came with checksum %08x, want %08x", logcore.ErrCorrupt, r.FirstLsn, r.LastLsn, sum, r.FramesCrc32C)
				break
			}
			span := segment.Span{ID: segment.ID{Shard: logcore.ShardID(req.Shard), First: logcore.LSN(r.SegmentFirstLsn)}, First: logcore.LSN(r.FirstLsn), Last: logcore.LSN(r.LastLsn),
				Prev: r.PrevSum, Sum: r.Sum, Sealed: r.Sealed, FirstTime: logcore.HLC(r.FirstTime), LastTime: logcore.HLC(r.LastTime), Frames: r.Frames}
			if span.First != next || span.Last < span.First {
				err = fmt.Errorf("%w: LSNs %d to %d came, want from %d on", logcore.ErrCorrupt, span.First, span.Last, next)
				break
			}
			next = span.Last + 1
			if !yield(span, nil) {
				return
			}
		}
		if err != io.EOF {
			yield(segment.Span{}, wire.FromStatus(err))
		}
	}
}

func (m *member) request(from, to logcore.LSN) *logcorev1.FetchRequest {
	return &logcorev1.FetchRequest{Cluster: m.n.opts.Cluster[:], Shard: uint32(m.shard), Incarnation: m.group.Status().Incarnation, FromLsn: uint64(from), ToLsn: uint64(to)}
}

// others returns the peer addresses of the other members, the leader's first.
func (m *member) others() []string {
	var out []string
	leader := m.group.Leader()
	add := func(id uint64) {
		if addr, ok := m.n.resolve(id); ok && id != m.n.id {
			out = append(out, addr)
		}
	}
	if leader != 0 {
		add(leader)
	}
	all := m.group.Members()
	for _, list := range [][]uint64{all.Voters, all.Learners} {
		for _, id := range list {
			if id != leader {
				add(id)
			}
		}
	}
	return out
}

// Spans yields the committed entries from an LSN on, up to another or, with 0, to the last there is, of the first
// node that has them: of those at the addresses and those that the peers file in the shard's directory names. It needs no open
// node: it is for a directory whose log can't be opened.
func Spans(ctx context.Context, o JoinOptions, cluster [16]byte, from, to logcore.LSN) iter.Seq2[segment.Span, error] {
	return func(yield func(segment.Span, error) bool) {
		state, err := replication.ReadState(o.Log.Dir)
		seeds, seedsErr := readSeeds(shardDir(filepath.Dir(o.Log.Dir), 0))
		if err = errors.Join(err, seedsErr); err != nil {
			yield(segment.Span{}, err)
			return
		}
		errs := []error{fmt.Errorf("%w: no other node has LSN %d", logcore.ErrTrimmed, from)}
		req := &logcorev1.FetchRequest{Cluster: cluster[:], Shard: uint32(o.Log.Shard), Incarnation: state.Incarnation, FromLsn: uint64(from), ToLsn: uint64(to)}
		for _, addr := range append(slices.Collect(maps.Values(seeds)), o.Peers...) {
			begun, err := spansAt(ctx, o, addr, req, yield)
			if begun {
				return
			}
			errs = append(errs, fmt.Errorf("node at %s: %w", addr, err))
		}
		yield(segment.Span{}, errors.Join(errs...))
	}
}

// spansAt yields what one node has. begun says that something was yielded: then another node is not asked.
func spansAt(ctx context.Context, o JoinOptions, addr string, req *logcorev1.FetchRequest, yield func(segment.Span, error) bool) (begun bool, err error) {
	conn, err := transport.Dial(addr, o.Certificates)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	for span, err := range fetchFrom(ctx, conn, req) {
		if err != nil && !begun {
			return false, err
		}
		begun = true
		if !yield(span, err) {
			break
		}
	}
	return begun, errors.New("it has nothing of it")
}

// Segment returns the sealed segment of a shard with the given first and last LSN from another member, whole. The
// caller holds it against what it knows of the segment.
func (n *Node) Segment(ctx context.Context, shard logcore.ShardID, first, last logcore.LSN) (segment.Span, error) {
	m := n.members[shard]
	err := fmt.Errorf("%w: no other member is known", logcore.ErrTrimmed)
	for _, addr := range m.others() {
		var span segment.Span
		if span, err = m.segmentFrom(ctx, addr, first, last); err == nil {
			return span, nil
		}
		err = fmt.Errorf("node at %s: %w", addr, err)
	}
	return segment.Span{}, err
}

func (m *member) segmentFrom(ctx context.Context, addr string, first, last logcore.LSN) (whole segment.Span, err error) {
	conn, err := m.n.transport.Dial(addr)
	if err != nil {
		return whole, err
	}
	defer conn.Close()
	for part, err := range fetchFrom(ctx, conn, m.request(first, last)) {
		if err != nil {
			return whole, err
		}
		if whole.Last == 0 {
			whole = part
			continue
		}
		whole.Last, whole.Sum, whole.Sealed, whole.LastTime = part.Last, part.Sum, part.Sealed, max(whole.LastTime, part.LastTime)
		whole.Frames = append(whole.Frames, part.Frames...)
	}
	if whole.Last != last {
		return whole, fmt.Errorf("%w: it holds LSNs %d to %d of %d to %d", logcore.ErrTrimmed, whole.First, whole.Last, first, last)
	}
	return whole, nil
}
