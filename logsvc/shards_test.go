package logsvc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	clusternode "github.com/logcore/logcore/internal/node"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// sharded is a service of several shards on one member.
type sharded struct {
	t      testing.TB
	dir    string
	n      int
	addr   string
	groups []*replication.Group
	svc    *logsvc.Shards
	grpc   *grpc.Server
	done   chan struct{}
	// archive gives each shard one; nil: none.
	archive func(logcore.ShardID, *replication.Group) logsvc.Archive
}

func startShards(t testing.TB, n int) *sharded {
	s := &sharded{t: t, dir: t.TempDir(), n: n, addr: "127.0.0.1:0"}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *sharded) start() {
	s.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	s.groups, err = clusternode.OpenGroups(ctx, clusternode.GroupsOptions{Shards: s.n, Logger: quiet, Log: func(shard logcore.ShardID) hotlog.Options {
		return hotlog.Options{Dir: filepath.Join(s.dir, fmt.Sprintf("shard-%d", shard)), Shard: shard, SegmentBytes: 1 << 20, CacheBytes: 1 << 20, Logger: quiet}
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	var opts []logsvc.Options
	for i, g := range s.groups {
		o := logsvc.Options{Group: g, Logger: quiet, HeartbeatEvery: 20 * time.Millisecond}
		if s.archive != nil {
			o.Archive = s.archive(logcore.ShardID(i), g)
		}
		opts = append(opts, o)
	}
	if s.svc, err = logsvc.NewShards(opts...); err != nil {
		s.t.Fatal(err)
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr, s.done = l.Addr().String(), make(chan struct{})
	s.grpc = grpc.NewServer(logsvc.ServerOptions(0)...)
	s.svc.Register(s.grpc)
	go func() { defer close(s.done); s.grpc.Serve(l) }()
}

func (s *sharded) stop() {
	if s.groups == nil {
		return
	}
	if err := patience.Return(s.t, "the service closes", s.svc.Close); err != nil {
		s.t.Error(err)
	}
	s.grpc.Stop()
	patience.Receive(s.t, "the server stops", s.done)
	for _, g := range s.groups {
		if err := patience.Return(s.t, "the group closes", g.Close); err != nil {
			s.t.Error(err)
		}
	}
	s.groups = nil
}

func (s *sharded) client() *client.Client {
	s.t.Helper()
	c, err := client.Dial(context.Background(), client.Options{Addr: s.addr, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func mustInfo(t testing.TB, c *client.Client, log string) client.LogInfo {
	t.Helper()
	i, err := c.Info(testContext(t), log)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func mustMove(t testing.TB, c *client.Client, log string, to logcore.ShardID) logcore.LSN {
	t.Helper()
	left, err := c.MoveLog(testContext(t), log, to)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// TestNewLogsGoToTheLeastLoadedShard: they spread, their names and ids are one in all shards, and a restart finds
// them.
func TestNewLogsGoToTheLeastLoadedShard(t *testing.T) {
	s := startShards(t, 4)
	c := s.client()
	in, ids := map[logcore.ShardID]int{}, map[logcore.LogID]bool{}
	for i := range 12 {
		name := fmt.Sprint("log", i)
		w := openWriter(t, c, name, client.WriterOptions{Create: true})
		mustAppend(t, w, "entry of "+name)
		info := mustInfo(t, c, name)
		in[info.Shard]++
		ids[info.ID] = true
	}
	if len(ids) != 12 || len(in) != 4 || in[0] != 3 || in[3] != 3 {
		t.Fatalf("12 logs have %d ids, by shard %v", len(ids), in)
	}
	if _, err := c.CreateLog(testContext(t), "log7", "", 0); !errors.Is(err, logcore.ErrLogExists) {
		t.Errorf("a name of another shard: %v", err)
	}
	s.n = 0 // as many as there are
	s.stop()
	s.start()
	c = s.client()
	logs, err := c.Logs(testContext(t))
	if err != nil || len(logs) != 12 {
		t.Fatalf("%d logs after a restart, %v", len(logs), err)
	}
	for _, l := range logs {
		if got := bodies(readLog(t, c, l.Log, client.ReadOptions{})); got != "entry of "+l.Log {
			t.Errorf("log %s in shard %d holds %q", l.Log, l.Shard, got)
		}
	}
	if _, err := c.Info(testContext(t), "none"); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("a log that is nowhere: %v", err)
	}
	st, err := c.Status(testContext(t))
	if err != nil || len(st.Shards) != 4 || st.Logs != 12 || st.Shards[2].Logs != 3 {
		t.Errorf("status: %+v, %v", st, err)
	}
}

// TestMoveUnderWriters: a log goes around all shards while writers append and a reader follows: nothing is lost, doubled or
// out of order, and its LSNs rise.
func TestMoveUnderWriters(t *testing.T) {
	s := startShards(t, 3)
	c := s.client()
	const entries = 3000
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	other := openWriter(t, c, "other", client.WriterOptions{Create: true})
	ctx := testContext(t)
	var running sync.WaitGroup
	moved := make(chan struct{})
	running.Go(func() {
		defer close(moved)
		for i := range 9 {
			if _, err := c.MoveLog(ctx, "db", logcore.ShardID((i+1)%3)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var lsns []logcore.LSN
	running.Go(func() {
		for i := 0; ; i++ {
			a, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, i)}, nil)
			if err != nil {
				t.Errorf("append %d: %v", i, err)
				return
			}
			lsns = append(lsns, a.LSN)
			if i%7 == 0 {
				if _, err := other.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("x")}, nil); err != nil {
					t.Error(err)
					return
				}
			}
			select {
			case <-moved:
				if i >= 50 {
					return
				}
			default:
				if i > entries {
					time.Sleep(time.Millisecond)
				}
			}
		}
	})
	follow, stop := context.WithCancel(ctx)
	var seen []client.LogEntry
	var through logcore.LSN
	var until atomic.Uint64 // where the log ends, once it does
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		for b, err := range c.Read(follow, "db", client.ReadOptions{Follow: true}) {
			if err != nil {
				if follow.Err() == nil {
					t.Errorf("follow: %v", err)
				}
				return
			}
			for _, e := range b.Entries {
				if e.LSN <= through {
					t.Errorf("entry at LSN %d after everything up to %d", e.LSN, through)
				}
				seen = append(seen, e)
			}
			if b.Through < through {
				t.Errorf("through LSN %d after %d", b.Through, through)
			}
			through = max(through, b.Through)
			if last := logcore.LSN(until.Load()); last != 0 && through >= last {
				return
			}
		}
	}()
	running.Wait()
	until.Store(uint64(lsns[len(lsns)-1]))
	select {
	case <-followed:
	case <-time.After(time.Minute):
		t.Error("the follower does not come to the end of the log")
	}
	stop()
	<-followed
	if !slices.IsSorted(lsns) || len(slices.Compact(slices.Clone(lsns))) != len(lsns) {
		t.Errorf("the LSNs of acknowledgements do not rise: %v", lsns)
	}
	all := readLog(t, c, "db", client.ReadOptions{})
	for name, got := range map[string][]client.LogEntry{"read": all, "followed": seen} {
		if len(got) != len(lsns) {
			t.Errorf("%s: %d entries, %d were acknowledged", name, len(got), len(lsns))
			continue
		}
		for i, e := range got {
			if string(e.Payload) != fmt.Sprint(i) || e.LSN != lsns[i] {
				t.Fatalf("%s: entry %d is %q at LSN %d, acknowledged at %d", name, i, e.Payload, e.LSN, lsns[i])
			}
			if i > 0 && e.Time <= got[i-1].Time {
				t.Fatalf("%s: entry %d has time %v after %v", name, i, e.Time, got[i-1].Time)
			}
		}
	}
	info := mustInfo(t, c, "db")
	if len(info.Extents) != 9 || info.Entries != uint64(len(lsns)) {
		t.Errorf("after 9 moves: %d extents, %d entries of %d", len(info.Extents), info.Entries, len(lsns))
	}
	// From the middle of an extent on, and up to the middle of another.
	from, to := lsns[len(lsns)/4], lsns[len(lsns)/2]
	if got := readLog(t, c, "db", client.ReadOptions{From: from, To: to}); len(got) != len(lsns)/2-len(lsns)/4+1 || got[0].LSN != from {
		t.Errorf("LSNs %d to %d: %d entries", from, to, len(got))
	}
}

// TestTriedAgainAfterTheMove: an append that was written before the log left is not written again where it went, and its
// answer is the first one's.
func TestTriedAgainAfterTheMove(t *testing.T) {
	s := startShards(t, 2)
	c := s.client()
	ctx := testContext(t)
	if _, err := c.CreateLog(ctx, "db", "", 0); err != nil {
		t.Fatal(err)
	}
	raw := rawClient(t, s.addr)
	open, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "db"})
	if err != nil {
		t.Fatal(err)
	}
	appendSeq := func(seq uint64) (*logcorev1.Appended, error) {
		e := newEntry(seq, fmt.Sprint("entry ", seq))
		resp, err := raw.Append(ctx, &logcorev1.AppendRequest{Log: "db", Epoch: open.Epoch, Incarnation: open.Incarnation, Entries: []*logcorev1.NewEntry{e}})
		if err != nil {
			return nil, err
		}
		return resp.Entries[0], nil
	}
	var first []*logcorev1.Appended
	for seq := range uint64(5) {
		a, err := appendSeq(seq + 1)
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, a)
	}
	mustMove(t, c, "db", 1)
	for i, want := range first {
		got, err := appendSeq(uint64(i + 1))
		if err != nil || got.Lsn != want.Lsn || got.Time != want.Time {
			t.Errorf("sequence %d again: %v, %v; want %v", i+1, got, err, want)
		}
	}
	if next, err := appendSeq(6); err != nil || next.Lsn <= first[4].Lsn {
		t.Errorf("the next: %v, %v", next, err)
	}
	if got := readLog(t, c, "db", client.ReadOptions{}); len(got) != 6 {
		t.Errorf("%d entries, want 6", len(got))
	}
	// The lease went along: another writer must take over.
	if _, err := c.OpenWriter(ctx, "db", client.WriterOptions{}); !errors.Is(err, logcore.ErrWriterActive) {
		t.Errorf("a second writer: %v", err)
	}
	w := openWriter(t, c, "db", client.WriterOptions{Takeover: true})
	mustAppend(t, w, "by another")
	if _, err := appendSeq(7); err == nil {
		t.Error("the first writer appends although it is fenced")
	}
}

// TestBranchesMoveAlong: a family stays together, with its leases and holds, and branches are made, deleted and reset
// wherever it is.
func TestBranchesMoveAlong(t *testing.T) {
	s := startShards(t, 3)
	c := s.client()
	ctx := testContext(t)
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	one, two := mustAppend(t, w, "one"), mustAppend(t, w, "two")
	if _, err := c.CreateLog(ctx, "db/b", "db", one.LSN); err != nil {
		t.Fatal(err)
	}
	bw := openWriter(t, c, "db/b", client.WriterOptions{})
	mustAppend(t, bw, "b1")
	lease, err := c.AcquireLease(ctx, "db", two.LSN, time.Minute, "reader")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.HoldHistory(ctx, "db/b", "audit", one.LSN); err != nil {
		t.Fatal(err)
	}
	if _, err := c.MoveLog(ctx, "db/b", 1); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("a branch alone: %v", err)
	}
	mustMove(t, c, "db", 1)
	mustAppend(t, w, "three")
	four := mustAppend(t, w, "four")
	mustAppend(t, bw, "b2")
	if id, err := c.CreateLog(ctx, "db/c", "db", two.LSN); err != nil || mustInfo(t, c, "db/c").ID != id {
		t.Fatalf("a branch of what is elsewhere: %d, %v", id, err)
	}
	if _, err := c.CreateLog(ctx, "db/d", "db", four.LSN); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateLog(ctx, "db/d", "db", four.LSN); !errors.Is(err, logcore.ErrLogExists) {
		t.Errorf("twice: %v", err)
	}
	if _, err := c.CreateLog(ctx, "db/e", "db", 1<<40); !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Errorf("a fork ahead of the log: %v", err)
	}
	mustMove(t, c, "db", 2)
	mustMove(t, c, "db", 0)
	mustAppend(t, w, "five")
	for name, want := range map[string]string{"db": "one two three four five", "db/b": "one b1 b2", "db/c": "one two", "db/d": "one two three four"} {
		if got := bodies(readLog(t, c, name, client.ReadOptions{})); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
		if info := mustInfo(t, c, name); info.Shard != 0 || name != "db" && info.Parent != "db" {
			t.Errorf("%s is in shard %d, a branch of %q", name, info.Shard, info.Parent)
		}
	}
	if _, err := c.RenewLease(ctx, "db", lease.ID, time.Minute); err != nil {
		t.Errorf("the lease: %v", err)
	}
	if err := c.DeleteBranch(ctx, "db/b", true); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("deleted under a hold: %v", err)
	}
	mustMove(t, c, "db", 1)
	if err := c.DeleteBranch(ctx, "db/c", true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Info(ctx, "db/c"); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("after it was deleted: %v", err)
	}
	if _, _, err := c.ResetBranch(ctx, "db/d", two.LSN, true); err != nil {
		t.Fatal(err)
	}
	if got := bodies(readLog(t, c, "db/d", client.ReadOptions{})); got != "one two" {
		t.Errorf("db/d after the reset: %q", got)
	}
	h, err := c.Histories(ctx)
	if err != nil || len(h.Logs) != 3 || len(h.Leases) != 1 || len(h.Holds) != 1 {
		t.Errorf("histories: %+v, %v", h, err)
	}
	// The name of the deleted branch is given up, and can be had again.
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := c.CreateLog(ctx, "db/c", "db", one.LSN)
		if err == nil {
			break
		}
		if !errors.Is(err, logcore.ErrLogExists) || time.Now().After(deadline) {
			t.Fatalf("the name again: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if got := bodies(readLog(t, c, "db/c", client.ReadOptions{})); got != "one" {
		t.Errorf("the new db/c holds %q", got)
	}
}

// TestMoveFinishesByItself: whoever ends at whichever step, a move that was begun is done after the next start, and
// one whose beginning was not recorded is not begun.
func TestMoveFinishesByItself(t *testing.T) {
	for step, until := range map[string]catalog.Op{"wanted": catalog.OpMove, "left": catalog.OpLeave, "placed": catalog.OpPlace} {
		t.Run(step, func(t *testing.T) {
			s := startShards(t, 2)
			c := s.client()
			w := openWriter(t, c, "db", client.WriterOptions{Create: true})
			last := mustAppend(t, w, "one")
			s.svc.Close() // nobody does anything by itself now
			s.grpc.Stop()
			<-s.done
			do := func(g *replication.Group, c catalog.Command) {
				t.Helper()
				if err := g.Do(testContext(t), 1<<10, func(p *replication.Proposer) error { _, err := p.Command(c); return err }); err != nil {
					t.Fatal(err)
				}
			}
			do(s.groups[0], catalog.Command{Op: catalog.OpMove, Name: "db", Gen: 1, Shard: 1})
			if until >= catalog.OpLeave {
				do(s.groups[0], catalog.Command{Op: catalog.OpLeave, Log: 1, Gen: 1, Shard: 1})
			}
			if until >= catalog.OpPlace {
				var family *catalog.State
				s.groups[0].View(func(state *catalog.State) {
					root, _ := state.Named("db")
					family, _ = state.Departed(root, 0)
				})
				do(s.groups[1], catalog.Command{Op: catalog.OpOwn, Shard: 1})
				do(s.groups[1], catalog.Command{Op: catalog.OpPlace, Log: 1, Gen: 1, Placed: string(family.EncodeCheckpoint())})
			}
			for _, g := range s.groups {
				if err := g.Close(); err != nil {
					t.Fatal(err)
				}
			}
			s.start()
			next, err := w.AppendTx(testContext(t), logcore.TxID{}, [][]byte{[]byte("two")}, nil)
			if err != nil || next.LSN <= last.LSN {
				t.Fatalf("the writer goes on at LSN %d after %d: %v", next.LSN, last.LSN, err)
			}
			deadline := time.Now().Add(10 * time.Second)
			for mustInfo(t, c, "db").Shard != 1 {
				if time.Now().After(deadline) {
					t.Fatal("the move was not finished")
				}
				time.Sleep(10 * time.Millisecond)
			}
			if left := mustMove(t, c, "db", 1); left != 0 && left <= last.LSN {
				t.Errorf("the move again: left at LSN %d", left)
			}
			if got := bodies(readLog(t, c, "db", client.ReadOptions{})); got != "one two" {
				t.Errorf("db holds %q", got)
			}
		})
	}
}

// TestMoveRefused: what can't be is refused before anything is changed.
func TestMoveRefused(t *testing.T) {
	s := startShards(t, 2)
	c := s.client()
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	mustAppend(t, w, "one")
	for _, bad := range []struct {
		log  string
		to   logcore.ShardID
		want error
	}{{"db", 2, logcore.ErrInvalid}, {"none", 1, logcore.ErrLogNotFound}} {
		if _, err := c.MoveLog(testContext(t), bad.log, bad.to); !errors.Is(err, bad.want) {
			t.Errorf("%s to shard %d: %v, want %v", bad.log, bad.to, err, bad.want)
		}
	}
	mustAppend(t, w, "two")
	if info := mustInfo(t, c, "db"); info.Shard != 0 || len(info.Extents) != 0 {
		t.Errorf("afterwards: %+v", info)
	}
}
