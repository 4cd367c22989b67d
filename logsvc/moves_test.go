package logsvc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// nameGivenUp creates a log under the name of a branch that was deleted, as soon as the name can be had.
func nameGivenUp(t *testing.T, c *client.Client, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := c.CreateLog(testContext(t), name, "", 0)
		if err == nil {
			return
		}
		if !errors.Is(err, logcore.ErrLogExists) || time.Now().After(deadline) {
			t.Fatalf("the name of a deleted branch: %v", err)
		}
	}
}

// TestNameOfABranchThatLeft: a log gets the name of a branch that was in a shard, left it and is deleted. Neither is
// it taken for that branch when it is created there, nor when it leaves that shard again.
func TestNameOfABranchThatLeft(t *testing.T) {
	s := startShards(t, 2)
	c := s.client()
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	one := mustAppend(t, w, "one")
	mustMove(t, c, "db", 1)
	for _, name := range []string{"created-there", "moved-there"} {
		if _, err := c.CreateLog(testContext(t), name, "db", one.LSN); err != nil {
			t.Fatal(err)
		}
	}
	mustMove(t, c, "db", 0)
	for _, name := range []string{"created-there", "moved-there"} {
		if err := c.DeleteBranch(testContext(t), name, false); err != nil {
			t.Fatal(err)
		}
	}
	nameGivenUp(t, c, "created-there") // shard 1 has fewer
	for i := range 2 {
		other := fmt.Sprint("other", i)
		if _, err := c.CreateLog(testContext(t), other, "", 0); err != nil {
			t.Fatal(err)
		}
		mustMove(t, c, other, 1)
	}
	nameGivenUp(t, c, "moved-there")
	for name, shard := range map[string]logcore.ShardID{"created-there": 1, "moved-there": 0} {
		w := openWriter(t, c, name, client.WriterOptions{})
		mustAppend(t, w, "a")
		if info := mustInfo(t, c, name); info.Shard != shard {
			t.Fatalf("%s is in shard %d: the fixture is void", name, info.Shard)
		}
		mustMove(t, c, name, 1)
		mustMove(t, c, name, 0)
		mustAppend(t, w, "b")
		mustMove(t, c, name, 1)
		if got := bodies(readLog(t, c, name, client.ReadOptions{})); got != "a b" {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

// TestNamesAreGivenUpUnderLoad: also when shard 0 always has something to do. And who wrote the branch that had a name is not taken
// for a writer of the log that gets it, in whichever shard that is.
func TestNamesAreGivenUpUnderLoad(t *testing.T) {
	s := startShards(t, 3)
	c, ctx := s.client(), testContext(t)
	busy := openWriter(t, c, "busy", client.WriterOptions{Create: true})
	db := openWriter(t, c, "db", client.WriterOptions{Create: true})
	one := mustAppend(t, db, "one")
	if a, b := mustInfo(t, c, "busy").Shard, mustInfo(t, c, "db").Shard; a != 0 || b != 1 {
		t.Fatalf("busy is in shard %d, db in shard %d: the fixture is void", a, b)
	}
	if _, err := c.CreateLog(ctx, "name", "db", one.LSN); err != nil {
		t.Fatal(err)
	}
	raw := rawClient(t, s.addr)
	old, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "name"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteBranch(ctx, "name", true); err != nil {
		t.Fatal(err)
	}
	loaded, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for loaded.Err() == nil {
			_, _ = busy.AppendTx(loaded, logcore.TxID{}, [][]byte{[]byte("x")}, nil)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	nameGivenUp(t, c, "name")
	stop()
	<-stopped
	fresh, err := raw.OpenWriter(ctx, &logcorev1.OpenWriterRequest{Log: "name"})
	if err != nil {
		t.Fatal(err)
	}
	if shard := mustInfo(t, c, "name").Shard; shard != 2 || fresh.LogId == old.LogId || fresh.Epoch <= old.Epoch {
		t.Errorf("the log is in shard %d, log %d at epoch %d; the branch was log %d at epoch %d", shard, fresh.LogId, fresh.Epoch, old.LogId, old.Epoch)
	}
	_, err = raw.Append(ctx, &logcorev1.AppendRequest{Log: "name", Epoch: old.Epoch, Incarnation: old.Incarnation, Entries: []*logcorev1.NewEntry{newEntry(1, "of the branch")}})
	if err == nil {
		t.Error("the branch's writer appended to the log that has its name")
	}
}

// TestMoveWaitsForTheArchive: a log goes on in another shard once the archive has all that it leaves; meanwhile it is listed as it
// left, under its id.
func TestMoveWaitsForTheArchive(t *testing.T) {
	gate := make(chan struct{})
	asked := make(chan logcore.LSN, 1)
	s := &sharded{t: t, dir: t.TempDir(), n: 2, addr: "127.0.0.1:0", archive: func(shard logcore.ShardID, g *replication.Group) logsvc.Archive {
		return newHeldArchive(gate, asked)
	}}
	s.start()
	t.Cleanup(s.stop)
	c := s.client()
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	last := mustAppend(t, w, "one")
	before := mustInfo(t, c, "db")
	moved := make(chan error, 1)
	go func() { _, err := c.MoveLog(testContext(t), "db", 1); moved <- err }()
	var left logcore.LSN
	select {
	case left = <-asked:
	case err := <-moved:
		t.Fatalf("moved with nothing archived: %v", err)
	}
	if left <= last.LSN {
		t.Fatalf("the archive was asked for LSN %d, the log's last is %d", left, last.LSN)
	}
	s.groups[1].View(func(state *catalog.State) {
		if _, err := state.ByName("db"); err == nil {
			t.Error("the log is placed, and not archived where it was")
		}
	})
	logs, err := c.Logs(testContext(t))
	if err != nil || len(logs) != 1 || logs[0].ID != before.ID || logs[0].LastLSN != last.LSN || logs[0].Committed != left || logs[0].Incarnation != before.Incarnation {
		t.Errorf("between two shards: %+v, %v", logs, err)
	}
	// Who waits for it in vain is told why.
	short, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := c.MoveLog(short, "db", 1); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waits for the archive of shard 0") || !strings.Contains(err.Error(), fmt.Sprint(left)) {
		t.Errorf("a move that was not done in time: %v", err)
	}
	close(gate)
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, "two")
	if got := bodies(readLog(t, c, "db", client.ReadOptions{})); got != "one two" {
		t.Errorf("db holds %q", got)
	}
}

// TestNothingIsOverBetweenTwoShards: while a family is between two shards its leases run out in the one that it left, and a
// member that does not know more says so; nothing follows from that, because where the family went the lease may have been
// renewed. Page servers heed the incarnation.
func TestNothingIsOverBetweenTwoShards(t *testing.T) {
	ctx := testContext(t)
	gate, asked := make(chan struct{}), make(chan logcore.LSN, 1)
	s := &sharded{t: t, dir: t.TempDir(), n: 2, addr: "127.0.0.1:0", archive: func(shard logcore.ShardID, g *replication.Group) logsvc.Archive {
		return newHeldArchive(gate, asked)
	}}
	s.start()
	t.Cleanup(s.stop)
	c := s.client()
	last := mustAppend(t, openWriter(t, c, "db", client.WriterOptions{Create: true}), "one")
	if _, err := c.CreateLog(ctx, "db/b", "db", last.LSN); err != nil {
		t.Fatal(err)
	}
	other := ""
	for i := 0; other == ""; i++ { // one that stays there
		name := fmt.Sprintf("other-%d", i)
		if _, err := c.CreateLog(ctx, name, "", 0); err != nil {
			t.Fatal(err)
		}
		if mustInfo(t, c, name).Shard == 0 {
			other = name
		}
	}
	if _, err := c.AcquireLease(ctx, "db/b", last.LSN, time.Second, "reader"); err != nil {
		t.Fatal(err)
	}
	moved := make(chan error, 1)
	go func() { _, err := c.MoveLog(ctx, "db", 1); moved <- err }()
	patience.Receive(t, "the family has left", asked)
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		h, err := c.Histories(ctx)
		if err != nil || len(h.Logs) < 3 {
			t.Fatalf("%+v, %v", h, err)
		}
		for _, l := range h.Logs {
			if between := strings.HasPrefix(l.Log, "db"); between != (l.Incarnation == 0) {
				t.Fatalf("log %q between two shards: incarnation %d", l.Log, l.Incarnation)
			}
		}
		if len(h.Leases) == 0 {
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("the lease does not run out: %+v", h.Leases)
		}
	}
	close(gate)
	if err := patience.Receive(t, "the move", moved); err != nil {
		t.Fatal(err)
	}
	h, err := c.Histories(ctx)
	if err != nil || len(h.Logs) < 3 {
		t.Fatalf("%+v, %v", h, err)
	}
	for _, l := range h.Logs {
		if l.Incarnation == 0 {
			t.Errorf("log %q has no incarnation, and is in a shard", l.Log)
		}
	}
}

// TestMoveWaitsForALateArchive: a log does not leave a shard whose archive is far behind, and who moves it is told so.
func TestMoveWaitsForALateArchive(t *testing.T) {
	var late atomic.Int64
	late.Store(int64(time.Hour))
	s := &sharded{t: t, dir: t.TempDir(), n: 2, addr: "127.0.0.1:0", archive: func(shard logcore.ShardID, g *replication.Group) logsvc.Archive {
		return &lateArchive{lag: &late}
	}}
	s.start()
	t.Cleanup(s.stop)
	c := s.client()
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	mustAppend(t, w, "one")
	short, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := c.MoveLog(short, "db", 1)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1h0m0s behind") || !strings.Contains(err.Error(), "no target answers") {
		t.Fatalf("moved behind a late archive: %v", err)
	}
	mustAppend(t, w, "two") // it has not left
	if at := mustInfo(t, c, "db").Shard; at != 0 {
		t.Fatalf("it is in shard %d", at)
	}
	late.Store(0)
	if _, err := c.MoveLog(testContext(t), "db", 1); err != nil {
		t.Fatal(err)
	}
	if got := bodies(readLog(t, c, "db", client.ReadOptions{})); got != "one two" {
		t.Errorf("db holds %q", got)
	}
}

// lateArchive has everything that is flushed, and says that it is behind.
type lateArchive struct {
	spanArchive
	lag *atomic.Int64
}

func (a *lateArchive) Flush(_ context.Context, _ logcore.ShardID, lsn logcore.LSN) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.covered = max(a.covered, lsn)
	return nil
}

func (a *lateArchive) Status(logcore.ShardID) logsvc.ArchiveStatus {
	st := logsvc.ArchiveStatus{Lag: time.Duration(a.lag.Load())}
	if st.Lag > 0 {
		st.Problems = []string{"no target answers"}
	}
	return st
}

// heldArchive lets no flush through until its gate is open, and says what the first was for.
type heldArchive struct {
	spanArchive
	gate  chan struct{}
	asked chan logcore.LSN
}

func newHeldArchive(gate chan struct{}, asked chan logcore.LSN) *heldArchive {
	a := &heldArchive{gate: gate, asked: asked}
	a.flush = func(lsn logcore.LSN) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.covered = max(a.covered, lsn)
	}
	return a
}

func (a *heldArchive) Flush(ctx context.Context, shard logcore.ShardID, lsn logcore.LSN) error {
	select {
	case a.asked <- lsn:
	default:
	}
	select {
	case <-a.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	return a.spanArchive.Flush(ctx, shard, lsn)
}

// TestLostLogsAreGivenUp: a restore may know a log, and its branch, by the directory only, because the shard's archive ends before they
// were created: their names can be had again, and what gets them has an id that is of no other log.
func TestLostLogsAreGivenUp(t *testing.T) {
	s := startShards(t, 2)
	c := s.client()
	openWriter(t, c, "first", client.WriterOptions{Create: true})
	do := func(c catalog.Command) {
		t.Helper()
		if err := s.groups[0].Do(testContext(t), 1<<10, func(p *replication.Proposer) error { _, err := p.Command(c); return err }); err != nil {
			t.Fatal(err)
		}
	}
	s.svc.Close()
	s.grpc.Stop()
	<-s.done
	do(catalog.Command{Op: catalog.OpEnter, Name: "lost", Shard: 1})
	do(catalog.Command{Op: catalog.OpSettle, Name: "lost", LSN: 1})
	do(catalog.Command{Op: catalog.OpEnter, Name: "lost/branch", Root: "lost", Writer: "lost", LSN: 2})
	do(catalog.Command{Op: catalog.OpSettle, Name: "lost/branch", LSN: 1})
	for _, g := range s.groups {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	ids := map[logcore.LogID]string{}
	for _, name := range []string{"first", "lost", "lost/branch"} {
		var err error
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			var w *client.Writer
			if w, err = c.OpenWriter(testContext(t), name, client.WriterOptions{Create: true, Takeover: true}); err == nil {
				mustAppend(t, w, "again")
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if id := mustInfo(t, c, name).ID; ids[id] != "" {
			t.Errorf("%s and %s both are log %d", name, ids[id], id)
		} else {
			ids[id] = name
		}
	}
}

// TestFollowerOfABranchThatGoes: who follows a branch that is deleted, or reset, is told so, and gets nothing of the log that has its
// name then.
func TestFollowerOfABranchThatGoes(t *testing.T) {
	s := startShards(t, 1)
	c := s.client()
	w := openWriter(t, c, "db", client.WriterOptions{Create: true})
	one := mustAppend(t, w, "one")
	for how, end := range map[string]func(branch string) error{
		"deleted": func(branch string) error { return c.DeleteBranch(testContext(t), branch, true) },
		"reset": func(branch string) error {
			_, _, err := c.ResetBranch(testContext(t), branch, one.LSN, true)
			if err == nil {
				mustAppend(t, openWriter(t, c, branch, client.WriterOptions{}), "of another log")
			}
			return err
		},
	} {
		if _, err := c.CreateLog(testContext(t), how, "db", one.LSN); err != nil {
			t.Fatal(err)
		}
		bw := openWriter(t, c, how, client.WriterOptions{})
		mustAppend(t, bw, "two")
		var got []client.LogEntry
		var ended error
		for b, err := range c.Read(testContext(t), how, client.ReadOptions{Follow: true}) {
			if ended = err; err != nil {
				break
			}
			if got = append(got, b.Entries...); len(b.Entries) > 0 && string(b.Entries[len(b.Entries)-1].Payload) == "two" {
				if err := end(how); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !errors.Is(ended, logcore.ErrLogNotFound) || bodies(got) != "one two" {
			t.Errorf("%s: %q, then %v", how, bodies(got), ended)
		}
	}
}
