package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// serverEnv makes this test's binary the log service itself: a process that can be killed.
const serverEnv = "LOGCORE_TEST_LOGSVC"

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// server is one log service process, with its directory and addresses.
type server struct {
	t          *testing.T
	dir        string
	addr, peer string
	join       []string
	shards     int // 0: those that there are, or one
	targets    []string
	tls        client.TLSFiles // of the service and of those who ask it; zero: plain text
	cmd        *exec.Cmd
	out        output
}

// output is what a process says, to be looked at while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Reset()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newServer(t *testing.T, join ...string) *server {
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "node"), addr: freeAddr(t), peer: freeAddr(t), join: join}
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	if text := s.tryStart(); text != "" {
		s.t.Fatal(text)
	}
}

// tryStart starts the process and returns what it said when it does not serve.
func (s *server) tryStart() string {
	s.t.Helper()
	args := []string{"--dir", s.dir, "--listen", s.addr, "--peer-listen", s.peer, "--metrics", "", "--log-level", "warn", "--segment-bytes", "1MiB", "--disk-reserve-bytes", "1MiB"}
	if s.shards > 0 {
		args = append(args, "--shards", strconv.Itoa(s.shards))
	}
	if len(s.join) > 0 {
		args = append(args, "--peers", strings.Join(s.join, ","))
	}
	if len(s.targets) > 0 {
		args = append(args, s.targets...)
	}
	if s.tls.CA != "" {
		args = append(args, "--tls-ca", s.tls.CA, "--tls-cert", s.tls.Cert, "--tls-key", s.tls.Key)
	}
	s.cmd = exec.Command(os.Args[0], args...)
	s.cmd.Env = append(os.Environ(), serverEnv+"=1")
	s.out.Reset()
	s.cmd.Stderr = &s.out
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if !strings.HasPrefix(line, "ready ") {
		s.cmd.Wait()
		return fmt.Sprintf("node at %s: %q, %v\n%s", s.addr, line, err, s.out.String())
	}
	return ""
}

func (s *server) kill() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// stop ends the process in good order.
func (s *server) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(os.Interrupt)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("node at %s: %v\n%s", s.addr, err, s.out.String())
	}
}

func (s *server) dial() (*grpc.ClientConn, error) {
	return client.NewConn(s.addr, client.Options{Addr: s.addr, TLSFiles: s.tls})
}

func (s *server) admin(f func(context.Context, logcorev1.AdminServiceClient) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(ctx, logcorev1.NewAdminServiceClient(conn))
}

// leaderOf returns the server that leads, as the first that answers says.
func leaderOf(t *testing.T, servers []*server) *server {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		for _, s := range servers {
			if s.cmd == nil || s.cmd.ProcessState != nil {
				continue
			}
			var st *logcorev1.ClusterStatusResponse
			err := s.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) (err error) {
				st, err = c.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
				return err
			})
			if err == nil && st.Leader == st.Node {
				return s
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("no leader within 20 s")
	return nil
}

// addrsOf are the addresses of servers for clients.
func addrsOf(servers []*server) (addrs []string) {
	for _, s := range servers {
		addrs = append(addrs, s.addr)
	}
	return addrs
}

// clusterStatus asks a process for the members.
func clusterStatus(t *testing.T, s *server) *logcorev1.ClusterStatusResponse {
	t.Helper()
	var st *logcorev1.ClusterStatusResponse
	err := s.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) (err error) {
		st, err = c.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// formCluster starts three processes and makes them a cluster.
func formCluster(t *testing.T) []*server { return formClusterWith(t, client.TLSFiles{}) }

func formClusterWith(t *testing.T, tls client.TLSFiles) []*server {
	t.Helper()
	first := newServer(t)
	first.tls = tls
	first.start()
	servers := []*server{first}
	for range 2 {
		s := newServer(t, "127.0.0.1:1", first.peer)
		s.tls = tls
		s.start()
		servers = append(servers, s)
		err := first.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
			_, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: s.peer})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return servers
}

// writing appends to one log until it is stopped, and notes what was acknowledged and when.
type writing struct {
	mu    sync.Mutex
	acked map[logcore.LSN]string
	last  time.Time
	err   error
	stop  context.CancelFunc
	done  chan struct{}
}

func write(t *testing.T, addrs []string) *writing {
	t.Helper()
	c, err := client.Dial(context.Background(), client.Options{Addrs: addrs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, err := c.OpenWriter(ctx, "orders", client.WriterOptions{Name: "test", Create: true, Takeover: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &writing{acked: map[logcore.LSN]string{}, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer c.Close()
		defer out.Close(context.Background())
		var flight []*client.Future
		var bodies []string
		for i := 0; ctx.Err() == nil; i++ {
			body := fmt.Sprintf("entry %d %s", i, strings.Repeat("x", 3000))
			flight, bodies = append(flight, out.Submit(ctx, logcore.NewTxID(), [][]byte{[]byte(body)}, nil)), append(bodies, body)
			if len(flight) < 16 {
				continue
			}
			a, err := flight[0].Wait(context.Background())
			w.mu.Lock()
			if err != nil && ctx.Err() == nil {
				w.err = err
				w.mu.Unlock()
				return
			}
			if err == nil {
				w.acked[a.LSN], w.last = bodies[0], time.Now()
			}
			w.mu.Unlock()
			flight, bodies = flight[1:], bodies[1:]
		}
	}()
	return w
}

// count returns how many entries were acknowledged, and when the last one was.
func (w *writing) count() (int, time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked), w.last, w.err
}

// TestCluster (I1, F1): three processes; the leader is killed again and again under load. New appends are
// acknowledged again soon, no acknowledged entry is lost, and the sealed segments are the same bytes
// everywhere. LOGCORE_CLUSTER_KILLS gives another number of kills.
func TestCluster(t *testing.T) {
	kills := 4
	if text := os.Getenv("LOGCORE_CLUSTER_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	servers := formCluster(t)
	addrs := addrsOf(servers)
	w := write(t, addrs)
	var gaps []time.Duration
	for range kills {
		before, _, _ := w.count()
		waitFor(t, w, before+100)
		leader := inContact(t, servers)
		leader.kill()
		killed := time.Now()
		before, _, _ = w.count()
		gaps = append(gaps, waitFor(t, w, before+50).Sub(killed)) // more than was under way
		leader.start()
	}
	before, _, _ := w.count()
	waitFor(t, w, before+200)
	w.stop()
	<-w.done
	if _, _, err := w.count(); err != nil {
		t.Fatalf("an append failed for good: %v", err)
	}
	slices.Sort(gaps)
	t.Logf("%d entries acknowledged, %d kills; acknowledged again after: median %v, most %v", len(w.acked), kills, gaps[len(gaps)/2], gaps[len(gaps)-1])
	fmt.Printf(`{"bench":"failover","kills":%d,"acked":%d,"p50_ms":%d,"p99_ms":%d,"max_ms":%d}`+"\n", kills, len(w.acked), gaps[len(gaps)/2].Milliseconds(), gaps[len(gaps)*99/100].Milliseconds(), gaps[len(gaps)-1].Milliseconds())
	verifyAcked(t, addrs, w.acked)
	level(t, servers)
	for _, s := range servers {
		s.stop()
	}
	if sealed := compareSegments(t, servers, w.acked); sealed < 2 {
		t.Fatalf("void: %d sealed segments were compared", sealed)
	}
}

// inContact waits until the leader hears of every member and each has nearly all, and returns it: a second fault before the first
// is healed is no minority of three.
func inContact(t *testing.T, servers []*server) *server {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		leader, ready := leaderOf(t, servers), 0
		err := leader.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
			st, err := c.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
			for _, m := range st.GetMembers() {
				if m.Active && m.MatchLsn+100 > st.CommittedLsn {
					ready++
				}
			}
			return err
		})
		if err == nil && ready == len(servers) {
			return leader
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the members are not all in contact within 20 s")
	return nil
}

// waitFor waits until so many entries are acknowledged and returns when the last one was.
func waitFor(t *testing.T, w *writing, want int) time.Time {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		n, at, err := w.count()
		if err != nil {
			t.Fatalf("after %d acknowledged entries: %v", n, err)
		}
		if n >= want {
			return at
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d entries acknowledged within 60 s", n, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// verifyAcked reads the log back and holds it against what was acknowledged.
func verifyAcked(t *testing.T, addrs []string, acked map[logcore.LSN]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Addrs: addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	read := map[logcore.LSN]string{}
	bodies := map[string]bool{}
	for batch, err := range c.Read(ctx, "orders", client.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range batch.Entries {
			read[e.LSN] = string(e.Payload)
			if bodies[string(e.Payload)] {
				t.Fatalf("LSN %d: %.20q was written twice", e.LSN, e.Payload)
			}
			bodies[string(e.Payload)] = true
		}
	}
	for lsn, body := range acked {
		if read[lsn] != body {
			t.Fatalf("acknowledged LSN %d is %.20q, was %.20q", lsn, read[lsn], body)
		}
	}
}

// level waits until every member has committed the same.
func level(t *testing.T, servers []*server) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		committed := map[uint64]bool{}
		for _, s := range servers {
			err := s.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				st, err := c.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
				if err == nil {
					committed[st.CommittedLsn] = true
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(committed) == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the members don't come to the same LSN: %v", committed)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// compareSegments opens the hot logs of processes that have ended: every acknowledged entry is in each, and
// what is sealed is the same bytes. It returns how many sealed segments there are.
func compareSegments(t *testing.T, servers []*server, acked map[logcore.LSN]string) (sealed int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	frames := map[logcore.LSN][]byte{}
	for i, s := range servers {
		hot, _, err := hotlog.Open(ctx, hotlog.Options{Dir: filepath.Join(s.dir, "shard-0"), SegmentBytes: 1 << 20, LogOf: catalog.LogOf, DiskReserveBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for _, seg := range hot.Segments() {
			if !seg.Sealed {
				continue
			}
			span, err := hot.Span(seg.First, seg.Last)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				frames[seg.First] = span.Frames
				sealed++
			} else if !bytes.Equal(frames[seg.First], span.Frames) {
				t.Fatalf("segment %d of node %d differs from that of node 0", seg.First, i)
			}
		}
		for lsn, body := range acked {
			e, err := hot.Entries(lsn, lsn+1, 0)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := catalog.DecodeRecord(e[0].Payload); err != nil || string(r.Body) != body {
				t.Fatalf("node %d: acknowledged LSN %d is %.20q (%v)", i, lsn, r.Body, err)
			}
		}
		if err := hot.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return sealed
}
