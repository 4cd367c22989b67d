package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

func appendOne(ctx context.Context, w *client.Writer, body string) (client.Appended, error) {
	return w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte(body)}, nil)
}

func readAll(t testing.TB, c *client.Client, log string) (out []client.LogEntry) {
	t.Helper()
	for b, err := range c.Read(testContext(t), log, client.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.Entries...)
	}
	return out
}

func TestDialNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, err = client.Dial(context.Background(), client.Options{Addr: addr, DialTimeout: 200 * time.Millisecond})
	if !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("dial of a closed port: %v", err)
	}
	_, err = client.Dial(context.Background(), client.Options{InflightEntriesMax: 1000, Timeout: -1})
	if !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("bad options: %v", err)
	}
}

// TestCutConnections: the connection breaks again and again in mid-pipeline. Every
// transaction is written once, in the order submitted.
func TestCutConnections(t *testing.T) {
	s := startService(t, replication.Options{})
	p := startProxy(t, s.addr)
	c, ctx := dial(t, client.Options{Addr: p.addr}), testContext(t)
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	const transactions = 1500
	cuts := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				cuts <- n
				return
			case <-time.After(5*time.Millisecond + rand.N(20*time.Millisecond)):
				p.cut()
				n++
			}
		}
	}()
	var futures []*client.Future
	var parts [][]byte
	for i := range transactions {
		parts = [][]byte{fmt.Append(nil, i, ".0"), fmt.Append(nil, i, ".1")}
		if i%3 == 0 {
			parts = parts[:1]
		}
		futures = append(futures, w.Submit(ctx, logcore.TxID{}, parts, nil))
		if i%50 == 0 {
			time.Sleep(10 * time.Millisecond) // so that there is something to cut
		}
	}
	var acks []client.Appended
	for i, f := range futures {
		a, err := f.Wait(ctx)
		if err != nil {
			t.Fatalf("transaction %d: %v", i, err)
		}
		acks = append(acks, a)
	}
	close(stop)
	if n := <-cuts; n < 5 {
		t.Fatalf("void: %d cuts", n)
	} else {
		t.Logf("%d cuts", n)
	}
	entries := readAll(t, c, "a")
	at := 0
	for i, a := range acks {
		n := 2
		if i%3 == 0 {
			n = 1
		}
		for part := range n {
			if e := entries[at]; string(e.Payload) != fmt.Sprint(i, ".", part) {
				t.Fatalf("entry %d is %q, want part %d of %d", at, e.Payload, part, i)
			}
			at++
		}
		if e := entries[at-1]; e.LSN != a.LSN || e.Time != a.Time {
			t.Fatalf("transaction %d acknowledged at %+v, stands at %d", i, a, e.LSN)
		}
	}
	if at != len(entries) {
		t.Fatalf("%d entries, want %d", len(entries), at)
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestReadOverCuts: a long read over a connection that breaks yields everything once.
func TestReadOverCuts(t *testing.T) {
	s := startService(t, replication.Options{})
	direct, ctx := dial(t, client.Options{Addr: s.addr}), testContext(t)
	w, err := direct.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	const entries = 300
	for i := range entries {
		w.Submit(ctx, logcore.TxID{}, [][]byte{fmt.Appendf(nil, "%d %050000d", i, 0)}, nil)
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, s.addr)
	c := dial(t, client.Options{Addr: p.addr})
	next := 0
	for b, err := range c.Read(ctx, "a", client.ReadOptions{Limit: entries - 1}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.Entries {
			var n int
			if fmt.Sscan(string(e.Payload), &n); n != next {
				t.Fatalf("entry %d after %d", n, next-1)
			}
			next++
		}
		p.cut()
	}
	if next != entries-1 {
		t.Fatalf("%d entries, want %d", next, entries-1)
	}
}

// TestUnknownOutcome: the service hears the append, the client never hears the answer.
// It must neither say "written" nor "not written", and take no more appends.
func TestUnknownOutcome(t *testing.T) {
	s := startService(t, replication.Options{})
	p := startProxy(t, s.addr)
	c, ctx := dial(t, client.Options{Addr: p.addr, Timeout: 300 * time.Millisecond, RetryFor: 100 * time.Millisecond}), testContext(t)
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendOne(ctx, w, "heard"); err != nil {
		t.Fatal(err)
	}
	p.deaf.Store(true)
	if _, err := appendOne(ctx, w, "unheard"); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("append without an answer: %v", err)
	}
	p.deaf.Store(false)
	p.cut()
	if _, err := appendOne(ctx, w, "more"); !errors.Is(err, client.ErrUnknownOutcome) || w.Err() == nil {
		t.Fatalf("append after it: %v", err)
	}
	if err := w.Close(ctx); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("close: %v", err)
	}
	// Another writer sees what there is, and nothing of the old one arrives any more.
	direct := dial(t, client.Options{Addr: s.addr})
	w, err = direct.OpenWriter(ctx, "a", client.WriterOptions{Takeover: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendOne(ctx, w, "next"); err != nil {
		t.Fatal(err)
	}
	entries := readAll(t, direct, "a")
	if n := len(entries); n != 3 || string(entries[1].Payload) != "unheard" || string(entries[2].Payload) != "next" {
		t.Errorf("the log holds %d entries", n)
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestRefusedAfterALostAttempt: an attempt is on its way when the connection breaks, and
// the next one is refused. The first may still be written, so nobody may say that it was not.
func TestRefusedAfterALostAttempt(t *testing.T) {
	s := startService(t, replication.Options{QueueRequestsMax: 1})
	p := startProxy(t, s.addr)
	c, ctx := dial(t, client.Options{Addr: p.addr, RetryFor: 300 * time.Millisecond}), testContext(t)
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	if err := s.group.Submit(replication.Request{Prepare: func(*replication.Proposer) error { close(entered); <-leave; return nil }, Done: func(error) {}}); err != nil {
		t.Fatal(err)
	}
	<-entered
	f := w.Submit(ctx, logcore.TxID{}, [][]byte{[]byte("x")}, nil)
	for s.group.Status().Queued == 0 { // until the service has it
		time.Sleep(time.Millisecond)
	}
	p.cut() // what follows finds the queue full
	if _, err := f.Wait(ctx); !errors.Is(err, client.ErrUnknownOutcome) || !errors.Is(err, logcore.ErrOverloaded) {
		t.Errorf("append: %v", err)
	}
	close(leave)
	w.Close(ctx)
	if entries := readAll(t, dial(t, client.Options{Addr: s.addr}), "a"); len(entries) != 1 {
		t.Errorf("the first attempt was to be written, the log holds %d entries", len(entries))
	}
}

func TestContextOfAnAppend(t *testing.T) {
	s := startService(t, replication.Options{})
	c, ctx := dial(t, client.Options{Addr: s.addr}), testContext(t)
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	// The loop stands still, so what is sent stays unanswered.
	entered, leave := make(chan struct{}), make(chan struct{})
	if err := s.group.Submit(replication.Request{Prepare: func(*replication.Proposer) error { close(entered); <-leave; return nil }, Done: func(error) {}}); err != nil {
		t.Fatal(err)
	}
	<-entered
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = appendOne(short, w, "x")
	if !errors.Is(err, client.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append whose context ended in the middle: %v", err)
	}
	close(leave)
	if _, err := appendOne(ctx, w, "y"); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("append after an unknown outcome: %v", err)
	}
	w.Close(ctx)
}

// TestDiskFull: an append that the service refuses because its disk is full fails, wrote
// nothing, and costs neither the writer nor a sequence number.
func TestDiskFull(t *testing.T) {
	s := fullDisk(t)
	ctx := testContext(t)
	c := dial(t, client.Options{Addr: s.addr, Timeout: 30 * time.Second})
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	filler, err := c.OpenWriter(ctx, "filler", client.WriterOptions{Takeover: true})
	if err != nil {
		t.Fatal(err)
	}
	// The filler's pipeline runs into the full disk; what is in the shard's log by then waits.
	var futures []*client.Future
	for range 40 {
		futures = append(futures, filler.Submit(ctx, logcore.TxID{}, [][]byte{make([]byte, 64<<10)}, nil))
	}
	written := 0
	for {
		_, err := appendOne(ctx, w, fmt.Sprint(written))
		if errors.Is(err, logcore.ErrDiskFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		written++
	}
	if err := w.Err(); err != nil {
		t.Fatalf("the writer ended: %v", err)
	}
	if err := s.group.HotLog().TrimHead(s.group.HotLog().Segments()[2].Last); err != nil {
		t.Fatal(err)
	}
	for { // until the service has noticed
		_, err := appendOne(ctx, w, fmt.Sprint(written))
		if err == nil {
			break
		}
		if !errors.Is(err, logcore.ErrDiskFull) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	entries := readAll(t, c, "a")
	if len(entries) != written+1 {
		t.Fatalf("%d entries, want %d", len(entries), written+1)
	}
	for i, e := range entries {
		if string(e.Payload) != fmt.Sprint(i) || e.Sequence != uint64(i+1) {
			t.Fatalf("entry %d: %q, sequence %d", i, e.Payload, e.Sequence)
		}
	}
	for _, f := range futures {
		if _, err := f.Wait(ctx); err != nil && !errors.Is(err, logcore.ErrDiskFull) && !errors.Is(err, client.ErrUnknownOutcome) {
			t.Errorf("filler: %v", err)
		}
	}
	w.Close(ctx)
	filler.Close(ctx)
}

// damaged is a service whose entries are damaged on their way out.
type damaged struct {
	logcorev1.UnimplementedLogCoreServiceServer
}

func (damaged) Read(_ *logcorev1.ReadRequest, st grpc.ServerStreamingServer[logcorev1.ReadResponse]) error {
	return st.Send(&logcorev1.ReadResponse{ThroughLsn: 5, Entries: []*logcorev1.LogEntry{{Lsn: 5, Payload: []byte("damaged"), PayloadCrc32C: 1}}})
}

func TestDamageOnTheWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	logcorev1.RegisterLogCoreServiceServer(server, damaged{})
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	defer func() { server.Stop(); <-done }()
	c := dial(t, client.Options{Addr: l.Addr().String()})
	for b, err := range c.Read(testContext(t), "a", client.ReadOptions{}) {
		var corrupt *logcore.CorruptionError
		if !errors.As(err, &corrupt) || corrupt.LSN != 5 || len(b.Entries) != 0 {
			t.Errorf("%+v, %v", b, err)
		}
	}
}
