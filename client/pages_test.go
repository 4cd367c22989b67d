package client_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// servePages runs a page server over source behind gRPC and returns a client of it.
// change may damage an answer on its way.
func servePages(t *testing.T, source *enginetest.Source, change func(*logcorev1.GetPagesResponse)) *client.Client {
	t.Helper()
	sub := enginetest.Start(t, enginetest.Options(t.TempDir(), source, pages.Decoder{}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		resp, err := next(ctx, req)
		if r, ok := resp.(*logcorev1.GetPagesResponse); ok && r != nil && change != nil {
			change(r)
		}
		return resp, err
	}))
	sub.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	c, err := client.Dial(t.Context(), client.Options{Addr: listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// pageLog returns a source whose log "db" has pages pages of 64 bytes in space 1, the
// page's number in every byte, and the LSN of the last one.
func pageLog(t *testing.T, numbers int) (*enginetest.Source, logcore.LSN) {
	t.Helper()
	source := enginetest.NewSource(1)
	source.Create("db")
	var last logcore.LSN
	for n := range numbers {
		record := engine.Record{Space: engine.SpaceOf(1), Op: engine.OpImage, Page: uint32(n), PageSize: 64, Data: slices.Repeat([]byte{byte(n)}, 64)}
		payloads, err := pages.Encode([]engine.Record{record}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		last = source.AppendTx("db", enginetest.Transaction{Parts: payloads})
	}
	return source, last
}

func TestGetPages(t *testing.T) {
	source, last := pageLog(t, 3)
	c := servePages(t, source, nil)
	asked := make([]uint32, 0, 2500) // more than one request carries
	for i := range 2500 {
		asked = append(asked, uint32(i%4))
	}
	set, err := c.GetPages(t.Context(), "db", engine.SpaceOf(1), asked, client.ReadAt{LSN: last, Timeout: time.Minute})
	if err != nil || set.LSN != last || len(set.Pages) != len(asked) {
		t.Fatalf("%d pages at %d: %v", len(set.Pages), set.LSN, err)
	}
	for i, p := range set.Pages {
		exists := asked[i] < 3
		if p.Number != asked[i] || exists != (len(p.Data) == 64) || exists != (p.LastLSN != 0) || exists && p.Data[63] != byte(p.Number) {
			t.Fatalf("page %d: %+v", asked[i], p)
		}
	}
	if set, err := c.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{0}, client.ReadAt{}); err != nil || set.LSN < last {
		t.Errorf("newest: LSN %d, %v", set.LSN, err)
	}
	if set, err := c.GetPages(t.Context(), "db", engine.SpaceOf(1), nil, client.ReadAt{LSN: last}); err != nil || set.LSN != last || len(set.Pages) != 0 {
		t.Errorf("no page: %+v, %v", set, err)
	}
	size, err := c.SpaceSize(t.Context(), "db", engine.SpaceOf(1), client.ReadAt{LSN: last, Timeout: time.Minute})
	if want := (client.Size{LSN: last, LastLSN: last, Incarnation: 1, Pages: 3, PageSize: 64}); err != nil || size != want {
		t.Errorf("size %+v, want %+v: %v", size, want, err)
	}
	if lsn, err := c.WaitLSN(t.Context(), "db", last, time.Minute); err != nil || lsn < last {
		t.Errorf("ingested %d, %v", lsn, err)
	}
}

func TestPageErrors(t *testing.T) {
	source, last := pageLog(t, 1)
	c := servePages(t, source, nil)
	if _, err := c.GetPages(t.Context(), "none", engine.SpaceOf(1), []uint32{0}, client.ReadAt{}); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Errorf("unknown log: %v", err)
	}
	var lag *logcore.LagError
	_, err := c.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{0}, client.ReadAt{LSN: last + 7, Timeout: 10 * time.Millisecond})
	if !errors.As(err, &lag) || lag.Asked != last+7 || lag.Available != last {
		t.Errorf("in the future: %v (%+v)", err, lag)
	}
	if _, _, err := c.ResolveTime(t.Context(), "db", time.Unix(1, 0)); !errors.Is(err, logcore.ErrTrimmed) {
		t.Errorf("before the log: %v", err)
	}
	if _, _, err := c.ResolveTime(t.Context(), "db", time.Unix(-1, 0)); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("before 1970: %v", err)
	}
}

func TestBranchByClient(t *testing.T) {
	source, last := pageLog(t, 3)
	c := servePages(t, source, nil)
	lsn, hlc, err := c.ResolveTime(t.Context(), "db", time.Now())
	if entries := source.Entries("db"); err != nil || lsn != last || hlc != entries[len(entries)-1].Time {
		t.Fatalf("now is LSN %d (%v), want %d: %v", lsn, hlc, last, err)
	}
	first := source.Entries("db")[0].LSN
	id, lsn, err := c.CreateBranch(t.Context(), "db", "fork", first)
	if err != nil || id == 0 || lsn != first {
		t.Fatalf("branch %d at %d: %v", id, lsn, err)
	}
	size, err := c.SpaceSize(t.Context(), "fork", engine.SpaceOf(1), client.ReadAt{})
	if err != nil || size.Pages != 1 {
		t.Fatalf("the branch at the first change has %d pages, want 1: %v", size.Pages, err)
	}
	if _, _, err := c.CreateBranch(t.Context(), "db", "fork", first); !errors.Is(err, logcore.ErrLogExists) {
		t.Errorf("again: %v", err)
	}
}

// TestDamagedAnswer: an answer that is not what was asked for never reaches the caller.
func TestDamagedAnswer(t *testing.T) {
	for name, change := range map[string]func(*logcorev1.GetPagesResponse){
		"bit": func(r *logcorev1.GetPagesResponse) {
			r.Pages[1].Data = slices.Clone(r.Pages[1].Data)
			r.Pages[1].Data[9] ^= 4
		},
		"digest":  func(r *logcorev1.GetPagesResponse) { r.Pages[1].Digest++ },
		"swapped": func(r *logcorev1.GetPagesResponse) { r.Pages[0], r.Pages[1] = r.Pages[1], r.Pages[0] },
		"missing": func(r *logcorev1.GetPagesResponse) { r.Pages = r.Pages[:1] },
		"lsn":     func(r *logcorev1.GetPagesResponse) { r.Lsn-- },
	} {
		t.Run(name, func(t *testing.T) {
			source, last := pageLog(t, 2)
			c := servePages(t, source, change)
			_, err := c.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{0, 1}, client.ReadAt{LSN: last, Timeout: time.Minute})
			var corrupt *logcore.CorruptionError
			if !errors.As(err, &corrupt) {
				t.Fatalf("got %v, want a CorruptionError", err)
			}
		})
	}
}
