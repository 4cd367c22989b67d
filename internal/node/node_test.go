package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/replication"
)

var (
	quiet   = slog.New(slog.NewTextHandler(io.Discard, nil))
	cluster = [16]byte{1, 2, 3}
)

// process is a node of a test, with what survives its end.
type process struct {
	*Node
	t    testing.TB
	dir  string
	addr string // of its peer service, once it had one
	peer string // where the others reach it, if not at addr
	log  hotlog.Options
	says *slog.Logger // nil: nothing
	// archived is its archive; nil for none.
	archived func(ctx context.Context, shard logcore.ShardID, from, to logcore.LSN) iter.Seq2[segment.Span, error]
}

func newProcess(t testing.TB) *process {
	p := &process{t: t, dir: filepath.Join(t.TempDir(), "shard-0"), addr: "127.0.0.1:0"}
	p.log = hotlog.Options{Dir: p.dir, SegmentBytes: 256 << 10, Logger: quiet, CacheBytes: 1 << 20}
	t.Cleanup(p.end)
	return p
}

func (p *process) start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.Node, err = Open(within(p.t), Options{Cluster: cluster, Log: p.log, Listener: l, Address: p.addr, PeerAddress: p.peer, Archived: p.archived, Logger: cmp.Or(p.says, quiet)})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) end() {
	if p.Node != nil {
		p.Node.Close()
		p.Node = nil
	}
}

func (p *process) join(peers ...string) {
	p.t.Helper()
	if err := Join(within(p.t), JoinOptions{Log: p.log, Peers: peers}); err != nil {
		p.t.Fatal(err)
	}
	p.start()
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// until waits for something that must come true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func leaderOf(t testing.TB, nodes ...*process) *process {
	t.Helper()
	var found *process
	until(t, "a leader", func() bool {
		for _, p := range nodes {
			if p.Node != nil && p.Group().Leading() {
				found = p
			}
		}
		return found != nil
	})
	return found
}

// append appends to log 1 where the group is led from, and tries again elsewhere until it is acknowledged.
func appendOne(t testing.TB, body []byte, nodes ...*process) (lsn logcore.LSN) {
	t.Helper()
	until(t, "an append", func() bool {
		p := leaderOf(t, nodes...)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := p.Group().Do(ctx, len(body), func(pr *replication.Proposer) error {
			if _, err := pr.Catalog().ByID(1); err != nil {
				if _, err := pr.Command(catalog.Command{Op: catalog.OpCreate, Log: 1, Name: "a"}); err != nil {
					return err
				}
			}
			l, err := pr.Catalog().ByID(1)
			if err != nil {
				return err
			}
			if !l.WriterOpen {
				if _, err := pr.Command(catalog.Command{Op: catalog.OpOpenWriter, Log: 1, Epoch: l.Epoch + 1}); err != nil {
					return err
				}
			}
			r := catalog.Record{Log: 1, Epoch: l.Epoch, Sequence: l.Sequence + 1, Body: body}
			lsn = pr.Propose(r.Append(replication.NewDraft(logcore.KindData, logcore.NewTxID(), r.Size()))).LSN
			return nil
		})
		return err == nil
	})
	return lsn
}

// level waits until the nodes have applied the same.
func level(t testing.TB, nodes ...*process) {
	t.Helper()
	until(t, "all members at the same LSN", func() bool {
		for _, p := range nodes {
			if p.Group().Committed() != nodes[0].Group().Committed() {
				return false
			}
		}
		return true
	})
}

// sameSegments holds the frames of the nodes' logs against each other, byte for byte, and returns how many segments
// were sealed everywhere.
func sameSegments(t testing.TB, nodes ...*process) (sealed int) {
	t.Helper()
	first := nodes[0].Group().HotLog()
	for _, p := range nodes[1:] {
		sealed = 0
		other := p.Group().HotLog()
		for _, s := range first.Segments() {
			i := slices.IndexFunc(other.Segments(), func(o hotlog.SegmentInfo) bool { return o.ID == s.ID })
			if i < 0 {
				continue
			}
			last := min(s.Last, other.Segments()[i].Last, p.Group().Committed(), nodes[0].Group().Committed())
			if last < s.First {
				continue
			}
			a, err := first.Span(s.First, last)
			if err != nil {
				t.Fatal(err)
			}
			b, err := other.Span(s.First, last)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a.Frames, b.Frames) || a.Sum != b.Sum || a.Sealed != b.Sealed {
				t.Fatalf("segment %d differs between nodes %x and %x", s.ID.First, nodes[0].ID(), p.ID())
			}
			if a.Sealed {
				sealed++
			}
		}
	}
	return sealed
}

// three returns a cluster of three.
func three(t *testing.T) []*process {
	t.Helper()
	nodes := []*process{newProcess(t), newProcess(t), newProcess(t)}
	nodes[0].start()
	appendOne(t, []byte("alone"), nodes[0])
	for _, p := range nodes[1:] {
		p.join(nodes[0].addr)
		id, err := nodes[0].AddMember(within(t), p.addr, false)
		if err != nil {
			t.Fatal(err)
		}
		if id != p.ID() {
			t.Fatalf("added %x, it is %x", id, p.ID())
		}
	}
	return nodes
}

// TestThree: a group of one grows to three over real connections and disks; it outlives its leader, twice, and
// every member writes the same bytes.
func TestThree(t *testing.T) {
	nodes := three(t)
	acked := map[logcore.LSN][]byte{}
	write := func(n int, live ...*process) {
		for range n {
			body := fmt.Appendf(bytes.Repeat([]byte("x"), 8<<10), "%d", len(acked))
			acked[appendOne(t, body, live...)] = body
		}
	}
	write(60, nodes...)
	for range 2 {
		leader := leaderOf(t, nodes...)
		var others []*process
		for _, p := range nodes {
			if p != leader {
				others = append(others, p)
			}
		}
		leader.end()
		write(30, others...)
		leader.start()
		write(5, nodes...)
	}
	level(t, nodes...)
	if sealed := sameSegments(t, nodes...); sealed < 2 {
		t.Fatalf("void: %d segments were sealed", sealed)
	}
	for _, p := range nodes {
		for lsn, body := range acked {
			e, err := p.Group().HotLog().Entries(lsn, lsn+1, 0)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := catalog.DecodeRecord(e[0].Payload); err != nil || !bytes.Equal(r.Body, body) {
				t.Fatalf("node %x has another entry at LSN %d (%v)", p.ID(), lsn, err)
			}
		}
		if len(p.Group().Members().Voters) != 3 || p.Address(nodes[0].ID()) == "" {
			t.Fatalf("node %x: members %+v", p.ID(), p.Group().Members())
		}
	}
	status, err := leaderOf(t, nodes...).Status(within(t))
	if err != nil || len(status.Members) != 3 || status.Changing {
		t.Fatalf("%+v, %v", status, err)
	}
	for _, m := range status.Members {
		if m.Role != "voter" || m.PeerAddress == "" || m.MatchLsn == 0 {
			t.Errorf("%+v", m)
		}
	}
}

// TestEmptyDisk (F9): a member that comes back with an empty directory is another node: it gets no vote by
// itself, and takes the place of the old one when it is told to. Appends go on meanwhile.
func TestEmptyDisk(t *testing.T) {
	nodes := three(t)
	leader := leaderOf(t, nodes...)
	victim := nodes[1]
	if victim == leader {
		victim = nodes[2]
	}
	live := slices.DeleteFunc(slices.Clone(nodes), func(p *process) bool { return p == victim })
	old := victim.ID()
	victim.end()
	if err := os.RemoveAll(victim.dir); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	acked := 0
	writing.Go(func() {
		for ctx.Err() == nil {
			appendOne(t, make([]byte, 2<<10), live...)
			acked++
		}
	})
	victim.join(leader.addr, "127.0.0.1:1")
	if victim.ID() == old {
		t.Fatal("it has its old id")
	}
	time.Sleep(300 * time.Millisecond)
	if victim.Group().Leading() || victim.Group().Members().Has(victim.ID()) {
		t.Fatal("it is a member by itself")
	}
	if _, err := leader.AddMember(within(t), victim.addr, false); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatalf("added at the address of another member: %v", err)
	}
	if _, err := leader.ReplaceMember(within(t), 99, victim.addr); !errors.Is(err, replication.ErrNoMember) {
		t.Fatalf("in the place of a stranger: %v", err)
	}
	id, err := leader.ReplaceMember(within(t), old, victim.addr)
	if err != nil || id != victim.ID() {
		t.Fatalf("replaced by %x, %v", id, err)
	}
	stop()
	writing.Wait()
	if acked == 0 {
		t.Fatal("no append while the member was replaced")
	}
	level(t, nodes...)
	sameSegments(t, nodes...)
	m := victim.Group().Members()
	if m.Has(old) || !slices.Contains(m.Voters, victim.ID()) || len(m.Voters) != 3 {
		t.Fatalf("members %+v", m)
	}
	if leader.Address(old) != "" {
		t.Error("the old member's address stays")
	}
}

// TestCatchUpFromPeers: a member that was away for longer than the others keep their logs is fed from a
// peer that still has the entries; a new one begins where the others' logs begin.
func TestCatchUpFromPeers(t *testing.T) {
	nodes := three(t)
	leader := leaderOf(t, nodes...)
	var away, keeper *process
	for _, p := range nodes {
		switch {
		case p == leader:
		case away == nil:
			away = p
		default:
			keeper = p
		}
	}
	away.end()
	live := []*process{leader, keeper}
	for range 150 {
		appendOne(t, make([]byte, 8<<10), live...)
	}
	if leader = leaderOf(t, live...); leader == keeper { // it moved by itself
		leader, keeper = keeper, nodes[slices.IndexFunc(nodes, func(p *process) bool { return p != away && p != keeper })]
	}
	trimAll(t, leader)
	away.start()
	level(t, leader, away, keeper)
	if n := sameSegments(t, keeper, away); n < 3 {
		t.Fatalf("void: %d sealed segments", n)
	}
	if away.Group().HotLog().First() != 1 {
		t.Fatalf("its log begins at LSN %d", away.Group().HotLog().First())
	}
	// A fourth, from logs that all begin later.
	trimAll(t, keeper)
	trimAll(t, away)
	fourth := newProcess(t)
	fourth.join(leader.addr, keeper.addr)
	if fourth.Group().HotLog().First() == 1 {
		t.Fatal("void: the beginning is there")
	}
	if _, err := leader.AddMember(within(t), fourth.addr, false); err != nil {
		t.Fatal(err)
	}
	appendOne(t, []byte("with four"), leader, keeper, away, fourth)
	level(t, leader, keeper, away, fourth)
	sameSegments(t, leader, fourth)
	if err := leader.RemoveMember(within(t), fourth.ID()); err != nil {
		t.Fatal(err)
	}
}

// TestCatchUpFromArchive: what no member holds any more comes from the archive, the rest from the members.
func TestCatchUpFromArchive(t *testing.T) {
	nodes := three(t)
	leader := leaderOf(t, nodes...)
	away := nodes[1]
	if away == leader {
		away = nodes[2]
	}
	live := slices.DeleteFunc(slices.Clone(nodes), func(p *process) bool { return p == away })
	away.end()
	for range 150 {
		appendOne(t, make([]byte, 8<<10), live...)
	}
	level(t, live...)
	var archive []segment.Span
	for _, s := range live[0].Group().HotLog().Segments() {
		if s.Sealed {
			span, err := live[0].Group().HotLog().Span(s.First, s.Last)
			if err != nil {
				t.Fatal(err)
			}
			archive = append(archive, span)
		}
	}
	for _, p := range live {
		trimAll(t, p)
	}
	asked := 0
	away.archived = func(_ context.Context, _ logcore.ShardID, from, to logcore.LSN) iter.Seq2[segment.Span, error] {
		asked++
		return func(yield func(segment.Span, error) bool) {
			for _, s := range archive {
				if s.Last >= from && s.First <= to && !yield(s, nil) {
					return
				}
			}
		}
	}
	away.start()
	appendOne(t, []byte("all three"), nodes...)
	level(t, nodes...)
	if asked == 0 || away.Group().HotLog().First() != 1 {
		t.Fatalf("void: the archive was asked %d times, the log begins at LSN %d", asked, away.Group().HotLog().First())
	}
	sameSegments(t, live[0], away)
	for _, s := range archive {
		own, err := away.Group().HotLog().Span(s.First, s.Last)
		if err != nil || !bytes.Equal(own.Frames, s.Frames) {
			t.Fatalf("segment %d differs from the archive's (%v)", s.ID.First, err)
		}
	}
}

// trimAll drops all sealed segments but the newest.
func trimAll(t testing.TB, p *process) {
	t.Helper()
	if err := p.Group().HotLog().TrimHead(p.Group().Checkpoint() - 1); err != nil {
		t.Fatal(err)
	}
	if p.Group().HotLog().First() == 1 {
		t.Fatal("void: nothing was trimmed")
	}
}

// TestSegmentFromPeer: a sealed segment comes whole from another member, to be put in the place of a damaged one.
func TestSegmentFromPeer(t *testing.T) {
	nodes := three(t)
	for range 80 {
		appendOne(t, make([]byte, 8<<10), nodes...)
	}
	level(t, nodes...)
	p := nodes[1]
	hot := p.Group().HotLog()
	s := hot.Segments()[0]
	if !s.Sealed {
		t.Fatal("void: nothing is sealed")
	}
	want, err := hot.Span(s.First, s.Last)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Segment(within(t), 0, s.First, s.Last)
	if err != nil || !bytes.Equal(got.Frames, want.Frames) || got.Sum != want.Sum || !got.Sealed || got.Prev != want.Prev {
		t.Fatalf("%+v, %v", got.ID, err)
	}
	if err := hot.Repair(got); err != nil {
		t.Fatal(err)
	}
}

// TestTransferAndRefusals: leadership moves where it is asked to, and changes that make no sense are refused with
// what to do.
func TestTransferAndRefusals(t *testing.T) {
	nodes := three(t)
	leader := leaderOf(t, nodes...)
	follower := nodes[1]
	if follower == leader {
		follower = nodes[2]
	}
	if _, err := follower.AddMember(within(t), leader.addr, false); !errors.Is(err, logcore.ErrNotLeader) {
		t.Errorf("asked a follower: %v", err)
	}
	var hint *logcore.NotLeaderError
	if err := follower.RemoveMember(within(t), leader.ID()); !errors.As(err, &hint) || hint.Leader != leader.ID() || hint.Address != leader.addr {
		t.Errorf("asked a follower: %+v", err)
	}
	if err := leader.RemoveMember(within(t), leader.ID()); !errors.Is(err, replication.ErrLeads) {
		t.Errorf("removed the leader: %v", err)
	}
	if _, err := leader.AddMember(within(t), "127.0.0.1:1", false); err == nil {
		t.Error("added nobody")
	}
	if id, err := leader.AddMember(within(t), follower.addr, false); err != nil || id != follower.ID() {
		t.Errorf("added a member again: %x, %v", id, err)
	}
	to, err := leader.TransferLeader(within(t), 0, follower.ID())
	if err != nil || to != follower.ID() {
		t.Fatalf("transferred to %x, %v", to, err)
	}
	until(t, "the new leader takes requests", follower.Group().Leading)
	if to, err = follower.TransferLeader(within(t), 0, 0); err != nil || to == follower.ID() {
		t.Fatalf("transferred to %x, %v", to, err)
	}
	// Another cluster's node.
	stranger := newProcess(t)
	l, err := net.Listen("tcp", stranger.addr)
	if err != nil {
		t.Fatal(err)
	}
	stranger.Node, err = Open(within(t), Options{Cluster: [16]byte{9}, Log: stranger.log, Listener: l, Address: "127.0.0.1:9", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaderOf(t, nodes...).AddMember(within(t), l.Addr().String(), false); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("added a node of another cluster: %v", err)
	}
	if _, err := Cluster(within(t), []string{nodes[0].addr, l.Addr().String()}, nil); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("peers of two clusters: %v", err)
	}
	if id, err := Cluster(within(t), []string{"127.0.0.1:1", nodes[0].addr}, nil); err != nil || id != cluster {
		t.Errorf("cluster %x, %v", id, err)
	}
}
