package pagebench

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/pageserver"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

const (
	grpcPages = 2000
	grpcBatch = 32
	grpcTurn  = 500 * time.Millisecond
)

// grpc measures pages a second over loopback, one call at a time: by batches, one by
// one, and beside a service that answers messages of the same sizes and does nothing.
func (r *run) grpc(ctx context.Context) error {
	h := newHistory(5)
	for n := range grpcPages {
		if err := h.image(engine.SpaceOf(0), uint32(n)); err != nil {
			return err
		}
	}
	if err := h.commit(); err != nil {
		return err
	}
	dir := r.freshDir("grpc")
	defer os.RemoveAll(dir)
	s, err := r.start(ctx, pageserver.Options{Dir: dir, Source: h.source})
	if err != nil {
		return err
	}
	err = s.wait(ctx, h.last)
	if err == nil {
		err = r.callPages(ctx, s, h)
	}
	return errors.Join(err, s.stop())
}

// echoPages answers every request for pages with pages that were made before.
type echoPages struct {
	logcorev1.UnimplementedPageServiceServer
	pages []*logcorev1.Page
}

// GetPages implements logcorev1.PageServiceServer.
func (e *echoPages) GetPages(_ context.Context, req *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	return &logcorev1.GetPagesResponse{Lsn: req.Lsn, Pages: e.pages[:len(req.Pages)]}, nil
}

// listen serves what register registers on a free port of loopback.
func listen(register func(*grpc.Server)) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := grpc.NewServer(logsvc.ServerOptions(0)...)
	register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	return l.Addr().String(), func() { srv.Stop(); <-done }, nil
}

func (r *run) callPages(ctx context.Context, s *server, h *history) error {
	addr, stop, err := listen(func(srv *grpc.Server) { s.Register(srv) })
	if err != nil {
		return err
	}
	defer stop()
	echo := &echoPages{}
	for range grpcBatch {
		echo.pages = append(echo.pages, &logcorev1.Page{Page: 1000, Data: h.noise(pageSize), Digest: h.rng.Uint64(), LastLsn: 1 << 20})
	}
	echoAddr, stopEcho, err := listen(func(srv *grpc.Server) { logcorev1.RegisterPageServiceServer(srv, echo) })
	if err != nil {
		return err
	}
	defer stopEcho()
	c, err := client.Dial(ctx, client.Options{Addr: addr, Logger: r.o.Logger})
	if err != nil {
		return err
	}
	defer c.Close()
	conn, err := grpc.NewClient("passthrough:///"+echoAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{}), grpc.MaxCallRecvMsgSize(1<<30)), grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(8<<20))
	if err != nil {
		return err
	}
	defer conn.Close()
	bare := logcorev1.NewPageServiceClient(conn)
	rates := map[string][]float64{}
	for round := range r.o.Rounds + 1 {
		for _, size := range []int{1, grpcBatch} {
			ours, err := pagesPerSecond(ctx, size, func(numbers []uint32) error {
				_, err := c.GetPages(ctx, logName, engine.SpaceOf(0), numbers, client.ReadAt{LSN: h.last})
				return err
			})
			if err != nil {
				return err
			}
			theirs, err := pagesPerSecond(ctx, size, func(numbers []uint32) error {
				_, err := bare.GetPages(ctx, &logcorev1.GetPagesRequest{Log: logName, Pages: numbers, Lsn: uint64(h.last)})
				return err
			})
			if err != nil {
				return err
			}
			if round > 0 {
				name := map[int]string{1: "single", grpcBatch: "batch"}[size]
				rates[name] = append(rates[name], ours)
				rates["echo "+name] = append(rates["echo "+name], theirs)
			}
		}
	}
	single, batch := figures.Median(rates["single"]), figures.Median(rates["batch"])
	detail := map[string]any{"pages_per_s_single": single, "pages_per_s_batch": batch,
		"pages_per_s_echo_single": figures.Median(rates["echo single"]), "pages_per_s_echo_batch": figures.Median(rates["echo batch"]), "batch": grpcBatch, "page_bytes": pageSize}
	r.AtLeast("grpc: pages/s in batches of 32 / one by one", batch/single, 10, "ratio", detail)
	r.AtLeast("grpc: pages/s in batches of 32 / bare echo", batch/figures.Median(rates["echo batch"]), 0.8, "ratio", nil)
	r.Add("grpc: pages/s one by one / bare echo", single/figures.Median(rates["echo single"]), "ratio", nil)
	return nil
}

// pagesPerSecond calls with random pages, one call after the other, for a turn.
func pagesPerSecond(ctx context.Context, size int, call func([]uint32) error) (float64, error) {
	rng := rand.New(rand.NewPCG(6, 6))
	calls, start := 0, time.Now()
	for time.Since(start) < grpcTurn {
		numbers := make([]uint32, size)
		first := rng.IntN(grpcPages - size)
		for i := range numbers {
			numbers[i] = uint32(first + i)
		}
		if err := call(numbers); err != nil {
			return 0, err
		}
		if calls++; ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return float64(calls*size) / time.Since(start).Seconds(), nil
}
