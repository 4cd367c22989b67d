package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket/dir"
	"github.com/logcore/logcore/tiering/target"
)

// childMarker makes the test binary the daemon itself, so that it can be killed.
const childMarker = "LOGCORE_TEST_PAGESERVER_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMarker) != "" {
		os.Exit(int(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr, none)))
	}
	os.Exit(m.Run())
}

const (
	stripedPageSize = 128
	stripedSpaces   = 3
	stripedGroups   = 24 // of pages, in each space
)

// pageKey is a page of the test's log.
type pageKey struct {
	space uint64
	page  uint32
}

// model is the log replayed plainly: the content of each page after each transaction.
type model struct {
	mu       sync.Mutex
	versions map[pageKey][]modelVersion
	last     logcore.LSN // acknowledged
	first    logcore.LSN
}

type modelVersion struct {
	lsn  logcore.LSN
	data []byte
}

// at returns a page as of an LSN, nil when there was none; a page in a gap is zeros from
// when its space reached over it, which the test does not look at.
func (m *model) at(key pageKey, lsn logcore.LSN) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.versions[key]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].lsn <= lsn {
			return list[i].data
		}
	}
	return nil
}

func (m *model) random(rng *rand.Rand) pageKey {
	page := uint32(rng.IntN(stripedGroups))*stripemap.GroupPages + uint32(rng.IntN(3))
	return pageKey{uint64(rng.IntN(stripedSpaces)), page}
}

// transaction makes a few changes of pages and what they become.
func (m *model) transaction(rng *rand.Rand) ([]engine.Record, map[pageKey][]byte) {
	after := map[pageKey][]byte{}
	var records []engine.Record
	for range 1 + rng.IntN(6) {
		key := m.random(rng)
		before := after[key]
		if before == nil {
			before = m.at(key, m.last)
		}
		r := engine.Record{Space: engine.SpaceOf(key.space), Page: key.page, PageSize: stripedPageSize}
		if before == nil || rng.IntN(8) == 0 {
			r.Op, r.Data = engine.OpImage, make([]byte, stripedPageSize)
			for i := range r.Data {
				r.Data[i] = byte(rng.Uint32())
			}
			after[key] = r.Data
		} else {
			r.Op = engine.OpDelta
			r.Ranges = []engine.Range{{Offset: uint32(rng.IntN(stripedPageSize - 8)), Data: fmt.Appendf(nil, "%08x", rng.Uint32())}}
			after[key] = bytes.Clone(before)
			engine.Apply(after[key], r.Ranges)
		}
		records = append(records, r)
	}
	return records, after
}

func (m *model) commit(lsn logcore.LSN, after map[pageKey][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, data := range after {
		m.versions[key] = append(m.versions[key], modelVersion{lsn, data})
	}
	if m.last = lsn; m.first == 0 {
		m.first = lsn
	}
}

// cluster is a log service, page servers in processes of their own, and a load on both.
type cluster struct {
	t     *testing.T
	logs  roles.Running
	c     *client.Client
	model *model
	addrs []string
	root  string

	target, key string // of the archive, where the checkpoints are

	reads, pages, longest atomic.Int64
	mu                    sync.Mutex
	children              map[int]*exec.Cmd // guarded by mu
}

// start starts page server i, or starts it again.
func (cl *cluster) start(i int) {
	cl.t.Helper()
	cmd := exec.Command(os.Args[0], "--dir", cl.dir(i), "--listen", cl.addrs[i], "--advertise", cl.addrs[i],
		"--metrics", "", "--log-service", cl.logs.Addr(), "--log-level", "warn", "--cache-bytes", "8MiB",
		"--checkpoint-target", cl.target, "--key", cl.key, "--checkpoint-interval", "1s")
	cmd.Env = append(os.Environ(), childMarker+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		cl.t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		cl.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		cl.t.Fatalf("page server %d: %q, %v", i, line, err)
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.children[i] = cmd
}

func (cl *cluster) dir(i int) string { return filepath.Join(cl.root, fmt.Sprintf("pages-%d", i)) }

// statusOf asks page server i how its checkpoints are.
func (cl *cluster) statusOf(i int) []client.StoreCheckpoint {
	cl.t.Helper()
	c, err := client.Dial(cl.t.Context(), client.Options{Addr: cl.addrs[i]})
	if err != nil {
		cl.t.Fatal(err)
	}
	defer c.Close()
	st, err := c.CheckpointStatus(cl.t.Context())
	if err != nil {
		cl.t.Fatal(err)
	}
	return st
}

// untilStatus waits for the checkpoints of page server i to be as they are to be.
func (cl *cluster) untilStatus(i int, what string, ok func(client.StoreCheckpoint) bool) {
	cl.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		all := cl.statusOf(i)
		good := len(all) > 0
		for _, st := range all {
			good = good && ok(st)
		}
		if good {
			return
		}
		if time.Now().After(deadline) {
			cl.t.Fatalf("%s: it never came to that: %+v", what, all)
		}
	}
}

// beganFrom checks that page server i took stripes over from a checkpoint: another's, or its
// own of before.
func (cl *cluster) beganFrom(i int) {
	cl.t.Helper()
	began := func(st client.StoreCheckpoint) bool { return st.BeganFrom > 0 }
	if !slices.ContainsFunc(cl.statusOf(i), began) {
		cl.t.Errorf("page server %d took stripes over, and none from a checkpoint: %+v", i, cl.statusOf(i))
	}
}

// prepareTarget makes the directory that the checkpoints go to one of the cluster's targets.
func (cl *cluster) prepareTarget(ctx context.Context) {
	cl.t.Helper()
	cl.key = filepath.Join(cl.root, "key")
	if _, err := tiering.GenerateKeyFile(cl.key); err != nil {
		cl.t.Fatal(err)
	}
	st, err := cl.c.Status(ctx)
	if err != nil {
		cl.t.Fatal(err)
	}
	id, err := hex.DecodeString(st.Cluster)
	if err != nil {
		cl.t.Fatal(err)
	}
	cl.target = "dir://" + filepath.Join(cl.root, "home") + "?name=home"
	spec, err := target.Parse(cl.target)
	if err != nil {
		cl.t.Fatal(err)
	}
	if err := dir.Init(spec.Path); err != nil {
		cl.t.Fatal(err)
	}
	b, err := dir.Open(spec.Path)
	if err != nil {
		cl.t.Fatal(err)
	}
	defer b.Close()
	if err := target.WriteMarker(ctx, b, target.Marker{Cluster: target.ClusterID(id), Name: spec.Name}); err != nil {
		cl.t.Fatal(err)
	}
}

// stop ends page server i by a signal.
func (cl *cluster) stop(i int, sig os.Signal) {
	cl.mu.Lock()
	cmd := cl.children[i]
	delete(cl.children, i)
	cl.mu.Unlock()
	if cmd != nil {
		cmd.Process.Signal(sig)
		cmd.Wait()
	}
}

// until waits for the map to say what it is to say.
func (cl *cluster) until(what string, ok func(by map[string]stripemap.Server) bool) {
	cl.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		m, err := cl.c.StripeMap(cl.t.Context())
		by := map[string]stripemap.Server{}
		for _, s := range m.Servers {
			by[s.Address] = s
		}
		if err == nil && ok(by) {
			return
		}
		if time.Now().After(deadline) {
			cl.t.Fatalf("%s: it never came to that: %+v, %v", what, m, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// owns reports whether page servers have about an equal part of all stripes, owners of each.
func (cl *cluster) owns(owners int, servers ...int) func(map[string]stripemap.Server) bool {
	return func(by map[string]stripemap.Server) bool {
		total := 0
		for _, i := range servers {
			n := by[cl.addrs[i]].Owns.Len()
			total += n
			if d := n - owners*stripemap.Count/len(servers); d < -1 || d > 1 {
				return false
			}
		}
		all := 0
		for _, s := range by {
			all += s.Owns.Len() + s.Joins.Len()
		}
		return total == owners*stripemap.Count && all == total
	}
}

// write appends transactions until ctx is done.
func (cl *cluster) write(ctx context.Context, w *client.Writer, rng *rand.Rand) error {
	for ctx.Err() == nil {
		records, after := cl.model.transaction(rng)
		parts, err := pages.Encode(records, w.EntryBytesMax())
		if err != nil {
			return err
		}
		at, err := w.AppendTx(context.WithoutCancel(ctx), logcore.TxID{}, parts, nil)
		if err != nil {
			return err
		}
		cl.model.commit(at.LSN, after)
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// read reads random pages at random LSNs until ctx is done and holds them against the
// model: none may be different, no read may fail.
func (cl *cluster) read(ctx context.Context, rng *rand.Rand) error {
	for ctx.Err() == nil {
		start := time.Now()
		if err := cl.readOnce(rng); err != nil {
			return err
		}
		if took := time.Since(start).Milliseconds(); took > cl.longest.Load() {
			cl.longest.Store(took)
		}
	}
	return nil
}

func (cl *cluster) readOnce(rng *rand.Rand) error {
	cl.model.mu.Lock()
	first, last := cl.model.first, cl.model.last
	cl.model.mu.Unlock()
	lsn := last
	if rng.IntN(2) == 0 {
		lsn = first + logcore.LSN(rng.Uint64N(uint64(last-first+1)))
	}
	space, numbers := uint64(rng.IntN(stripedSpaces)), []uint32(nil)
	for range 1 + rng.IntN(24) {
		numbers = append(numbers, cl.model.random(rng).page)
	}
	set, err := cl.c.GetPages(context.Background(), "db", engine.SpaceOf(space), numbers, client.ReadAt{LSN: lsn, Timeout: 20 * time.Second})
	if err != nil {
		return fmt.Errorf("read at LSN %d: %w", lsn, err)
	}
	for i, p := range set.Pages {
		want := cl.model.at(pageKey{space, numbers[i]}, lsn)
		if want != nil && !bytes.Equal(p.Data, want) {
			return fmt.Errorf("space %d page %d at LSN %d differs from the replay's (last change %d)", space, numbers[i], lsn, p.LastLSN)
		}
		if want == nil && len(bytes.Trim(p.Data, "\x00")) > 0 {
			return fmt.Errorf("space %d page %d at LSN %d was never written, and isn't empty", space, numbers[i], lsn)
		}
		cl.pages.Add(1)
	}
	cl.reads.Add(1)
	return nil
}

// during lets something happen and then waits until so many reads more were answered.
func (cl *cluster) during(what string, do func()) {
	cl.t.Helper()
	before, start := cl.reads.Load(), time.Now()
	cl.longest.Store(0)
	do()
	for deadline := time.Now().Add(30 * time.Second); cl.reads.Load() < before+50; {
		if time.Now().After(deadline) {
			cl.t.Fatalf("%s: only %d reads", what, cl.reads.Load()-before)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cl.t.Logf("%-44s %6.1f s, %6d reads, the longest %4d ms", what, time.Since(start).Seconds(), cl.reads.Load()-before, cl.longest.Load())
}

// TestPagesAreShared: page servers come, are killed, come back, are drained, under load.
// Every read is answered, with what the plain replay of the log has.
func TestPagesAreShared(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	cfg := config.DefaultLogService()
	root := t.TempDir()
	cfg.Dir, cfg.Listen, cfg.Metrics, cfg.SegmentBytes, cfg.DiskReserveBytes = filepath.Join(root, "lc"), "127.0.0.1:0", "", 1<<20, 1<<20
	cfg.PageServerLease = 2 * time.Second
	logs, err := roles.StartLogService(ctx, cfg, "test", cfg.Logger(&bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Stop()
	cl := &cluster{t: t, logs: logs, root: root, model: &model{versions: map[pageKey][]modelVersion{}}, children: map[int]*exec.Cmd{}}
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cl.addrs = append(cl.addrs, l.Addr().String())
		l.Close()
	}
	defer func() {
		for i := range cl.addrs {
			cl.stop(i, syscall.SIGKILL)
		}
	}()
	// The client is told of one page server only; the others it finds.
	cl.c, err = client.Dial(ctx, client.Options{Addr: logs.Addr(), PageAddr: cl.addrs[0], Timeout: 40 * time.Second, RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.c.Close()
	cl.prepareTarget(ctx)
	w, err := cl.c.OpenWriter(ctx, "db", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	load, stop := context.WithCancel(ctx)
	failed := make(chan error, 4)
	var running sync.WaitGroup
	begin := func(n uint64, do func(context.Context, *rand.Rand) error) {
		running.Go(func() {
			if err := do(load, rand.New(rand.NewPCG(seed, n))); err != nil {
				failed <- err
				t.Errorf("%v", err)
			}
		})
	}
	begin(0, func(ctx context.Context, rng *rand.Rand) error { return cl.write(ctx, w, rng) })
	for cl.model.at(pageKey{}, ^logcore.LSN(0)) == nil && len(failed) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	cl.start(0)
	cl.until("the first", cl.owns(1, 0))
	begin(1, cl.read)
	begin(2, cl.read)

	cl.during("it makes a checkpoint", func() {
		cl.untilStatus(0, "a checkpoint", func(st client.StoreCheckpoint) bool { return st.Number > 1 && st.Tables > 0 && st.Error == "" })
	})
	cl.during("a second one comes", func() { cl.start(1); cl.until("two", cl.owns(1, 0, 1)) })
	cl.beganFrom(1)
	cl.during("a third one comes", func() { cl.start(2); cl.until("three", cl.owns(1, 0, 1, 2)) })
	cl.beganFrom(2)
	cl.during("both have checkpoints of their own", func() {
		for i := 1; i <= 2; i++ {
			cl.untilStatus(i, "a checkpoint of its own", func(st client.StoreCheckpoint) bool { return st.Borrowed == "" && st.Epoch > 0 && st.Tables > 0 })
		}
	})
	if all, err := cl.c.PageStatus(ctx, "db"); err != nil || len(all) != 1 || all[0].State != "following" || all[0].DiskBytes == 0 {
		t.Errorf("the log over three page servers: %+v, %v", all, err)
	}
	if all, err := cl.c.PageSources(ctx); err != nil || len(all) != 3 || !all[0].LogService || !all[1].LogService || !all[2].LogService {
		t.Errorf("three page servers: %+v, %v", all, err)
	}
	// What was given up is served for three leases more; then nobody else has what is killed now.
	cl.during("what was given up is forgotten", func() { time.Sleep(3*cfg.PageServerLease + time.Second) })
	cl.during("the second one is killed", func() { cl.stop(1, syscall.SIGKILL); cl.until("killed", cl.owns(1, 0, 2)) })
	cl.beganFrom(0)
	cl.beganFrom(2)
	cl.during("it comes back", func() { cl.start(1); cl.until("back", cl.owns(1, 0, 1, 2)) })
	cl.during("all but one are killed, with their disks", func() {
		for i := 1; i <= 2; i++ {
			cl.stop(i, syscall.SIGKILL)
			if err := os.RemoveAll(cl.dir(i)); err != nil {
				t.Fatal(err)
			}
		}
		cl.until("one is left", cl.owns(1, 0))
	})
	cl.during("they come back with nothing", func() {
		for i := 1; i <= 2; i++ {
			cl.start(i)
		}
		cl.until("back again", cl.owns(1, 0, 1, 2))
	})
	cl.beganFrom(1)
	cl.beganFrom(2)
	cl.during("each stripe gets two owners", func() {
		if err := cl.c.SetStripeOwners(ctx, 2); err != nil {
			t.Fatal(err)
		}
		cl.until("two owners", cl.owns(2, 0, 1, 2))
	})
	cl.during("one of two is killed", func() { cl.stop(2, syscall.SIGKILL); cl.until("killed again", cl.owns(2, 0, 1)) })
	cl.during("the first one is drained and ends", func() {
		m, err := cl.c.StripeMap(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range m.Servers {
			if s.Address == cl.addrs[0] {
				if err := cl.c.DrainPageServer(ctx, s.ID, true); err != nil {
					t.Fatal(err)
				}
			}
		}
		cl.until("drained", func(by map[string]stripemap.Server) bool {
			return by[cl.addrs[0]].Holds().Empty() && by[cl.addrs[1]].Owns == stripemap.All
		})
		cl.stop(0, syscall.SIGTERM)
	})
	stop()
	running.Wait()
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
	if cl.pages.Load() < 2000 {
		t.Errorf("only %d pages compared: the run is void", cl.pages.Load())
	}
	t.Logf("%d pages compared in %d reads, up to LSN %d", cl.pages.Load(), cl.reads.Load(), cl.model.last)
}
