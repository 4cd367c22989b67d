package appendload

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// serve serves a log service of one member at an address until stop.
func serve(t *testing.T, dir, addr string) (string, func()) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	group, err := replication.Open(ctx, replication.Options{Log: hotlog.Options{Dir: dir, Logger: quiet, SegmentBytes: 4 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := logsvc.New(logsvc.Options{Group: group, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(logsvc.ServerOptions(0)...)
	svc.Register(server)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	stop := sync.OnceFunc(func() {
		svc.Close()
		server.Stop()
		serving.Wait()
		group.Close()
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// TestLoads: both loops, on several logs, over a restart of the service; everything is
// verified.
func TestLoads(t *testing.T) {
	for _, o := range []Options{
		{Logs: 1, Inflight: 1},
		{Logs: 3, Inflight: 100, PayloadBytes: 20},
		{Logs: 40, Inflight: 16, PayloadBytes: 333},
		{Logs: 2, Inflight: 64, Rate: 2000},
	} {
		dir := t.TempDir()
		addr, stop := serve(t, dir, "127.0.0.1:0")
		o.Client, o.Duration, o.Verify, o.WarmUp = client.Options{Addr: addr}, 600*time.Millisecond, true, 100*time.Millisecond
		var restarted sync.WaitGroup
		restarted.Go(func() {
			time.Sleep(300 * time.Millisecond)
			stop()
			serve(t, dir, addr)
		})
		rep, err := Run(context.Background(), o)
		restarted.Wait()
		if err != nil || !rep.OK() || rep.Verify == nil || rep.Verify.Entries < rep.Acked || rep.Acked < 10 || rep.P50 <= 0 || rep.Max < rep.P99 {
			t.Errorf("%d logs, rate %v: %v: %+v, verify %+v", o.Logs, o.Rate, err, rep, rep.Verify)
		}
		if o.Rate > 0 && rep.Acked+rep.Unknown+rep.Refused < 1200 {
			t.Errorf("open loop: %+v: fewer than were due", rep)
		}
	}
}

// TestOpenLoopOmitsNothing: while the service stands still, every append that was due counts
// as late.
func TestOpenLoopOmitsNothing(t *testing.T) {
	addr, stop := serve(t, t.TempDir(), "127.0.0.1:0")
	defer stop()
	begun := time.Now()
	// The closed port between: nothing listens for a while.
	p, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const still = 400 * time.Millisecond
	go func() {
		for {
			in, err := p.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			go io.Copy(out, in)
			go func() {
				b := make([]byte, 64<<10)
				for {
					n, err := out.Read(b)
					if err != nil {
						in.Close()
						return
					}
					if at := time.Since(begun); at > 300*time.Millisecond && at < 300*time.Millisecond+still {
						time.Sleep(300*time.Millisecond + still - at)
					}
					in.Write(b[:n])
				}
			}()
		}
	}()
	rep, err := Run(context.Background(), Options{Client: client.Options{Addr: p.Addr().String()}, Inflight: 8, Rate: 1000, Duration: time.Second, Verify: true})
	if err != nil || !rep.OK() {
		t.Fatal(err, rep)
	}
	// A tenth of the appends and more was due while it stood still; a load that waits for room
	// before it looks at the clock would have eight late ones.
	if rep.P90 < float64(50*time.Millisecond/time.Microsecond) {
		t.Errorf("p90 %.0f µs although the service stood still for %v of a second", rep.P90, still)
	}
}

// TestVerifyFinds: each thing that can be wrong with a log is found.
func TestVerifyFinds(t *testing.T) {
	const run, size = 77, 40
	entry := func(number uint64, lsn logcore.LSN) client.LogEntry {
		b := make([]byte, size)
		stamp{run, 0, number}.fill(b)
		return client.LogEntry{LSN: lsn, Payload: b}
	}
	places := []logcore.LSN{10, 12, refused, unknown, 20}
	good := []client.LogEntry{entry(0, 10), entry(1, 12), entry(4, 20)}
	damaged := entry(1, 12)
	damaged.Payload[30]++
	foreign := make([]byte, size)
	stamp{run + 1, 0, 0}.fill(foreign)
	for _, c := range []struct {
		name    string
		entries []client.LogEntry
		want    Verified
	}{
		{"good", good, Verified{Entries: 3}},
		{"of another load between", []client.LogEntry{good[0], {LSN: 11, Payload: foreign}, good[1], good[2]}, Verified{Entries: 3}},
		{"the unknown one is there", []client.LogEntry{good[0], good[1], entry(3, 15), good[2]}, Verified{Entries: 4, Unresolved: 1}},
		{"lost in the middle", []client.LogEntry{good[0], good[2]}, Verified{Entries: 2, Lost: 1}},
		{"lost at the end", good[:2], Verified{Entries: 2, Lost: 1}},
		{"twice", []client.LogEntry{good[0], good[0], good[1], good[2]}, Verified{Entries: 4, Misplaced: 1}},
		{"at another LSN", []client.LogEntry{entry(0, 9), good[1], good[2]}, Verified{Entries: 3, Misplaced: 1}},
		{"refused and there", []client.LogEntry{good[0], good[1], entry(2, 13), good[2]}, Verified{Entries: 4, Revived: 1}},
		{"damaged", []client.LogEntry{good[0], damaged, good[2]}, Verified{Entries: 2, Damaged: 1, Lost: 1}},
		{"never written", []client.LogEntry{good[0], good[1], good[2], entry(9, 30)}, Verified{Entries: 3, Damaged: 1}},
		{"out of order", []client.LogEntry{good[1], good[0], good[2]}, Verified{Entries: 3, Lost: 1, Misplaced: 1}},
	} {
		var told []string
		chk := &check{r: &record{name: "l", places: places}, run: run, bytes: size, scratch: make([]byte, size), found: func(f Finding) { told = append(told, f.String()) }}
		for _, e := range c.entries {
			chk.visit(e)
		}
		if got := chk.done(); got != c.want || got.OK() != (len(told) == 0) {
			t.Errorf("%s: %+v, want %+v; told: %s", c.name, got, c.want, strings.Join(told, "; "))
		}
	}
}

func TestOptions(t *testing.T) {
	_, err := Run(context.Background(), Options{Logs: -1, PayloadBytes: 3, Inflight: 1000, Rate: -1})
	if err == nil || strings.Count(err.Error(), "load:") != 4 {
		t.Errorf("bad options: %v", err)
	}
}
