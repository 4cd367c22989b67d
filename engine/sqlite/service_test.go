package sqlite

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/sampledb"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/pageserver"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// service is the real log service and a real page server that follows it, on one
// loopback port.
type service struct {
	dir, addr string
	entryMax  int
	lease     time.Duration
	group     *replication.Group
	svc       *logsvc.Service
	logs      *grpc.Server
	source    *client.Client
	pages     *pageserver.Server
	cancel    context.CancelFunc
	running   []chan struct{}
}

func (s *service) start() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	group := replication.Options{}
	group.Log.Dir, group.Log.SegmentBytes, group.Log.Logger = filepath.Join(s.dir, "shard-0"), 1<<20, quiet
	if s.group, err = replication.Open(ctx, group); err != nil {
		return err
	}
	if s.svc, err = logsvc.New(logsvc.Options{Group: s.group, EntryBytesMax: s.entryMax, Lease: s.lease, HeartbeatEvery: 20 * time.Millisecond, Logger: quiet}); err != nil {
		return err
	}
	if s.addr == "" {
		s.addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	s.logs = grpc.NewServer(logsvc.ServerOptions(s.entryMax)...)
	s.svc.Register(s.logs)
	late := &lateService{}
	logcorev1.RegisterPageServiceServer(s.logs, late)
	s.run(func() { s.logs.Serve(l) })
	if s.source, err = client.Dial(ctx, client.Options{Addr: s.addr, Logger: quiet}); err != nil {
		return err
	}
	s.pages, err = pageserver.Open(pageserver.Options{Dir: filepath.Join(s.dir, "pages"), Source: follower{s.source}, Decoder: pages.Decoder{},
		Logger: quiet, FlushInterval: 300 * time.Millisecond})
	if err != nil {
		return err
	}
	s.pages.Register(late)
	var following context.Context
	following, s.cancel = context.WithCancel(context.Background())
	s.run(func() { s.pages.Run(following) })
	return nil
}

func (s *service) run(f func()) {
	done := make(chan struct{})
	s.running = append(s.running, done)
	go func() { defer close(done); f() }()
}

func (s *service) stop() error {
	s.cancel()
	<-s.running[1]
	err := s.pages.Close()
	s.source.Close()
	s.svc.Close()
	s.logs.Stop()
	<-s.running[0]
	s.running = nil
	return errors.Join(err, s.group.Close())
}

// startService starts a service that ends with the test.
func startService(t *testing.T, entryMax int) *service {
	t.Helper()
	s := &service{dir: t.TempDir(), entryMax: entryMax, lease: time.Second}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// dial connects to a service.
func dial(t *testing.T, addr string) *client.Client {
	t.Helper()
	c, err := client.Dial(context.Background(), client.Options{Addr: addr, Logger: quiet, RetryFor: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// log is a of the service, through a connection of its own.
func (s *service) log(t *testing.T, log string) Source {
	return NewSource(dial(t, s.addr), log, "test")
}

// TestWorkloadOnTheService is TestWorkloadAgainstSQLite on the real thing.
func TestWorkloadOnTheService(t *testing.T) {
	for seed := range uint64(runs(t, "LOGCORE_SEEDS", 4)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			s := randomSetting(rng)
			svc := startService(t, s.entryMax)
			workload(t, rng, s, 150, svc.log(t, "shop"))
		})
	}
}

func TestWritersOnTheService(t *testing.T) {
	s := startService(t, 1<<20)
	a := open(t, Options{Log: "shop", Source: s.log(t, "shop"), Logger: quiet})
	a.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	b := open(t, Options{Log: "shop", Source: s.log(t, "shop"), BusyTimeout: time.Millisecond, Logger: quiet})
	if err := b.try(`INSERT INTO t VALUES (2)`); !errors.Is(err, sqlite3.BUSY) || !errors.Is(err, logcore.ErrWriterActive) {
		t.Fatalf("second writer: %v", err)
	}
	a.exec(t, `BEGIN; INSERT INTO t VALUES (3)`)
	c := open(t, Options{Log: "shop", Source: s.log(t, "shop"), Takeover: true, Logger: quiet})
	c.exec(t, `INSERT INTO t VALUES (4)`)
	if err := a.try(`COMMIT`); !errors.Is(err, logcore.ErrFenced) {
		t.Fatalf("the fenced writer's commit: %v", err)
	}
	refusesAll(t, a)
	check(t, c.conn)
	if got := query(t, c.conn, `SELECT * FROM t`); got != "1\n4" {
		t.Fatalf("content %q", got)
	}
	lsn := c.db.LSN()
	c.close()
	b.exec(t, `INSERT INTO t VALUES (5)`) // the lease was given back
	pinned := open(t, Options{Log: "shop", Source: s.log(t, "shop"), LSN: lsn})
	if got := query(t, pinned.conn, `SELECT * FROM t`); got != "1\n4" {
		t.Fatalf("at LSN %d: %q", lsn, got)
	}
	var lag *logcore.LagError
	if _, err := tryOpen(Options{Log: "shop", Source: s.log(t, "shop"), LSN: lsn + 1<<30, ReadTimeout: 200 * time.Millisecond}); !errors.As(err, &lag) {
		t.Fatalf("an LSN in the future: %v", err)
	}
}

// Parts that a dead writer left without their commit are entries of the log, but no
// change of the database.
func TestPartsOfADeadWriter(t *testing.T) {
	s := startService(t, 1<<20)
	h := open(t, Options{Log: "shop", Source: s.log(t, "shop")})
	h.exec(t, `CREATE TABLE t(a); INSERT INTO t VALUES (1)`)
	want := h.db.LSN()
	h.close()
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw := logcorev1.NewLogCoreServiceClient(conn)
	granted, err := raw.OpenWriter(t.Context(), &logcorev1.OpenWriterRequest{Log: "shop", PayloadFormat: "pages"})
	if err != nil {
		t.Fatal(err)
	}
	junk, err := pages.Encode(imagesOf(4096, 0, 1, 2), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	tx := logcore.NewTxID()
	_, err = raw.Append(t.Context(), &logcorev1.AppendRequest{Log: "shop", Epoch: granted.Epoch, Incarnation: granted.Incarnation, Entries: []*logcorev1.NewEntry{{
		Sequence: 1, Kind: logcorev1.EntryKind_ENTRY_KIND_PART, TransactionId: tx[:], Payload: junk[0], PayloadCrc32C: crc(junk[0])}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range []Options{{ReadOnly: true}, {Takeover: true}} {
		opts.Log, opts.Source = "shop", s.log(t, "shop")
		h = open(t, opts)
		check(t, h.conn)
		if got := query(t, h.conn, `SELECT * FROM t`); got != "1" || h.db.LSN() <= want {
			t.Fatalf("read %q at LSN %d", got, h.db.LSN())
		}
	}
	h.exec(t, `INSERT INTO t VALUES (2)`)
	h.close()
	h = open(t, Options{Log: "shop", Source: s.log(t, "shop")})
	check(t, h.conn)
	if got := query(t, h.conn, `SELECT * FROM t`); got != "1\n2" {
		t.Fatalf("content %q", got)
	}
}

func TestBranch(t *testing.T) {
	s := startService(t, 1<<20)
	h := open(t, Options{Log: "shop", Source: s.log(t, "shop")})
	h.exec(t, fillSQL, 300)
	was, lsn := dump(t, h.conn), h.db.LSN()
	h.exec(t, `DELETE FROM t WHERE id > 100`)
	c := dial(t, s.addr)
	if _, _, err := c.CreateBranch(t.Context(), "shop", "shop/trial", lsn); err != nil {
		t.Fatal(err)
	}
	b := open(t, Options{Log: "shop/trial", Source: NewSource(c, "shop/trial", "test")})
	if dump(t, b.conn) != was {
		t.Fatal("the branch does not begin where it branched off")
	}
	b.exec(t, `UPDATE t SET c = 'branch' WHERE id %% 2 = 0; INSERT INTO t VALUES (1000, NULL, 'new')`)
	got := dump(t, b.conn)
	b.close()
	h.exec(t, `INSERT INTO t VALUES (2000, NULL, 'parent')`)
	b = open(t, Options{Log: "shop/trial", Source: NewSource(c, "shop/trial", "test")})
	check(t, b.conn)
	check(t, h.conn)
	if dump(t, b.conn) != got {
		t.Fatal("the branch changed by itself")
	}
	if got := query(t, h.conn, `SELECT count(*), max(id) FROM t WHERE c != 'branch'`); got != "101|2000" {
		t.Fatalf("the parent has %s", got)
	}
}

// TestBranchAnew: a branch that was reset, or deleted and created again, is another log of the same name. It shows nothing of
// the one before, although the page server has that one's pages and hears of the change by and by only.
func TestBranchAnew(t *testing.T) {
	s := startService(t, 1<<20)
	h := open(t, Options{Log: "shop", Source: s.log(t, "shop")})
	h.exec(t, fillSQL, 30)
	c := dial(t, s.addr)
	if _, _, err := c.CreateBranch(t.Context(), "shop", "shop/trial", h.db.LSN()); err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		h.exec(t, `INSERT INTO t VALUES (%d, NULL, 'parent')`, 1000+n)
		want, lsn := dump(t, h.conn), h.db.LSN()
		b := open(t, Options{Log: "shop/trial", Source: NewSource(c, "shop/trial", "test")})
		b.exec(t, `UPDATE t SET c = 'branch'; CREATE TABLE t%d (a); DELETE FROM t WHERE id > 3`, n)
		b.close()
		b = open(t, Options{Log: "shop/trial", Source: NewSource(c, "shop/trial", "test"), ReadOnly: true})
		if dump(t, b.conn) == want { // the page server has it
			t.Fatal("nothing was written to the branch")
		}
		b.close()
		var err error
		if n%2 == 0 {
			_, _, err = c.ResetBranch(t.Context(), "shop/trial", lsn, true)
		} else if err = c.DeleteBranch(t.Context(), "shop/trial", true); err == nil {
			_, err = c.CreateLog(t.Context(), "shop/trial", "shop", lsn)
		}
		if err != nil {
			t.Fatal(err)
		}
		b = open(t, Options{Log: "shop/trial", Source: NewSource(c, "shop/trial", "test")})
		if dump(t, b.conn) != want {
			t.Fatalf("round %d: the branch does not begin where it branches off now", n)
		}
		b.close()
	}
}

// TestMain is also the entry of the processes that the tests kill.
func TestMain(m *testing.M) {
	switch os.Getenv("LOGCORE_SQLITE_TEST_ROLE") {
	case "writer":
		fmt.Fprintln(os.Stderr, childWriter(os.Getenv("LOGCORE_SQLITE_TEST_ADDR")))
		os.Exit(3)
	case "service":
		s := &service{dir: os.Getenv("LOGCORE_SQLITE_TEST_DIR"), addr: os.Getenv("LOGCORE_SQLITE_TEST_ADDR"), entryMax: 100_000, lease: time.Second}
		if err := s.start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		fmt.Println(s.addr)
		io.Copy(io.Discard, os.Stdin) // until killed, or the test process is gone
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is a process of this test binary in one of the roles above.
type child struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func spawn(t *testing.T, role string, env ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(append(os.Environ(), "LOGCORE_SQLITE_TEST_ROLE="+role), env...)
	c.cmd.Stderr = os.Stderr
	if _, err := c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	return c
}

// kill is SIGKILL; what the process had printed can still be read.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		c.cmd.Process.Kill()
	}
}

// childWriter changes the sample for ever and prints every acknowledged transaction.
func childWriter(addr string) error {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Options{Addr: addr, Logger: quiet})
	if err != nil {
		return err
	}
	db, err := Open(ctx, Options{Log: "sample", Source: NewSource(c, "sample", "child"), WriteNow: true, Takeover: true, Logger: quiet})
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	s, err := sampledb.NewSession(ctx, conn, sampledb.Options{LSN: db.LSN, CharactersMax: 400, RowsPerTx: 2000,
		Acknowledged: func(a sampledb.Ack) error { return out.Encode(a) }})
	if err != nil {
		return db.Explain(err)
	}
	if _, err := s.Load(ctx); err != nil {
		return db.Explain(err)
	}
	return db.Explain(s.Run(ctx, 1, 1<<30))
}

// acks reads what a child printed until there are count of them or it is dead.
func (c *child) acks(all []sampledb.Ack, count int) ([]sampledb.Ack, error) {
	for range count {
		line, err := c.out.ReadBytes('\n')
		if err != nil {
			return all, err // a line that is cut short was not acknowledged to anybody
		}
		var a sampledb.Ack
		if err := json.Unmarshal(line, &a); err != nil {
			return all, fmt.Errorf("%s: %w", line, err)
		}
		all = append(all, a)
	}
	return all, nil
}

// TestKilledWriter kills the writing process in the middle of its work, again and
// again. Each time the database must be sound, hold every acknowledged transaction as
// it was acknowledged, and at most one more.
func TestKilledWriter(t *testing.T) {
	s := startService(t, 100_000)
	rng := rand.New(rand.NewPCG(4, 4))
	var acked []sampledb.Ack
	kills := runs(t, "LOGCORE_KILLS", 8)
	for round := range kills {
		c := spawn(t, "writer", "LOGCORE_SQLITE_TEST_ADDR="+s.addr)
		var err error
		if acked, err = c.acks(acked, 1+rng.IntN(60)); err != nil {
			t.Fatalf("round %d: the writer died by itself: %v", round, err)
		}
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		c.kill()
		if acked, err = c.acks(acked, 1<<30); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		c.cmd.Wait()
		acked = verifySample(t, s.log(t, "sample"), acked)
	}
	t.Logf("%d transactions acknowledged over %d kills", len(acked), kills)
}

// verifySample compares the database with what was acknowledged, and returns what is
// acknowledged from now on.
func verifySample(t *testing.T, source Source, acked []sampledb.Ack) []sampledb.Ack {
	t.Helper()
	// What the dead writer had sent may still arrive, until its epoch is over.
	h := open(t, Options{Log: "sample", Source: source, WriteNow: true, Takeover: true, Logger: quiet})
	defer h.close()
	state, err := sampledb.Verify(h.conn)
	if err != nil {
		t.Fatal(h.db.Explain(err))
	}
	ledger, err := sampledb.Ledger(h.conn)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(ledger) - len(acked); n < 0 || n > 1 {
		t.Fatalf("%d transactions acknowledged, %d in the database", len(acked), len(ledger))
	}
	for i, a := range acked {
		if ledger[i].N != a.N || ledger[i].Digest != a.Digest {
			t.Fatalf("transaction %d was acknowledged as %+v, the database says %+v", i+1, a, ledger[i])
		}
	}
	if state.N != int64(len(ledger)) {
		t.Fatalf("state %d, ledger %d", state.N, len(ledger))
	}
	// An earlier state must still be there, whole.
	if len(acked) > 3 && acked[len(acked)/2].LSN != 0 {
		a := acked[len(acked)/2]
		past := open(t, Options{Log: "sample", Source: source, LSN: a.LSN})
		defer past.close()
		if state, err := sampledb.Verify(past.conn); err != nil || state.N != a.N || state.Digest != a.Digest {
			t.Fatalf("at LSN %d: %+v, %v; acknowledged was %+v", a.LSN, state, past.db.Explain(err), a)
		}
	}
	return ledger
}

// TestKilledService kills the log service and the page server under the writer. A
// commit that the outage hits may come through once the service is back or fail, but
// nothing acknowledged may be missing.
func TestKilledService(t *testing.T) {
	dir := t.TempDir()
	begin := func(addr string) (*child, string) {
		c := spawn(t, "service", "LOGCORE_SQLITE_TEST_DIR="+dir, "LOGCORE_SQLITE_TEST_ADDR="+addr)
		line, err := c.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the service did not start: %v", err)
		}
		return c, line[:len(line)-1]
	}
	svc, addr := begin("127.0.0.1:0")
	rng := rand.New(rand.NewPCG(5, 5))
	var acked []sampledb.Ack
	kills := runs(t, "LOGCORE_KILLS", 6)
	for round := range kills {
		w := spawn(t, "writer", "LOGCORE_SQLITE_TEST_ADDR="+addr)
		var err error
		if acked, err = w.acks(acked, 1+rng.IntN(40)); err != nil {
			t.Fatalf("round %d: the writer died by itself: %v", round, err)
		}
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		svc.kill()
		svc.cmd.Wait()
		svc, addr = begin(addr)
		if round%2 == 0 {
			// The writer goes on by itself, or gives up; then it is killed, too.
			acked, _ = w.acks(acked, 5)
		}
		w.kill()
		acked, _ = w.acks(acked, 1<<30)
		w.cmd.Wait()
		acked = verifySample(t, NewSource(dial(t, addr), "sample", "test"), acked)
	}
	t.Logf("%d transactions acknowledged over %d kills of the service", len(acked), kills)
}
