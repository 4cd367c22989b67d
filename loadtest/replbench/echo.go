package replbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"

	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/logsvc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// echoServer answers the calls of the append path and does nothing else: what is left is
// gRPC's own cost, with the code that protoc generates. The stream answers each message with as many places as it had entries, so the
// bytes both ways are those of the real one; unary calls answer with one place.
type echoServer struct {
	logcorev1.UnimplementedLogCoreServiceServer
}

// ServeEcho serves the echo on a free port of loopback until ctx ends, and says `ready
// HOST:PORT` on w.
func ServeEcho(ctx context.Context, w io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer(logsvc.ServerOptions(0)...)
	logcorev1.RegisterLogCoreServiceServer(server, echoServer{})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	fmt.Fprintln(w, "ready", l.Addr())
	return server.Serve(l)
}

// Append answers with a place.
func (echoServer) Append(context.Context, *logcorev1.AppendRequest) (*logcorev1.AppendResponse, error) {
	return &logcorev1.AppendResponse{Entries: []*logcorev1.Appended{{Lsn: 1 << 30, Time: 1 << 60}}}, nil
}

// AppendLogs answers every message with its places.
func (echoServer) AppendLogs(st grpc.BidiStreamingServer[logcorev1.AppendLogsRequest, logcorev1.AppendLogsResponse]) error {
	for {
		req, err := st.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		n := len(req.Appends[0].Entries)
		answer := &logcorev1.LogAppended{Channel: 1, ThroughSequence: 1 << 30, Lsns: make([]uint64, n), Times: make([]uint64, n)}
		for i := range n {
			answer.Lsns[i], answer.Times[i] = 1<<30, 1<<60
		}
		if err := st.Send(&logcorev1.AppendLogsResponse{Appends: []*logcorev1.LogAppended{answer}}); err != nil {
			return err
		}
	}
}

func dialEcho(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})), experimental.WithBufferPool(wire.Buffers), grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(8<<20))
}

// echoStream keeps inflight entries under way on a stream, batch of them in a message, and
// counts what comes back.
func echoStream(ctx context.Context, addr string, inflight, batch int, seconds time.Duration) (t turn, err error) {
	conn, err := dialEcho(addr)
	if err != nil {
		return t, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := logcorev1.NewLogCoreServiceClient(conn).AppendLogs(ctx)
	if err != nil {
		return t, err
	}
	payload := make([]byte, payloadBytes)
	send := func() error {
		entries := make([]*logcorev1.NewEntry, batch)
		for i := range entries {
			entries[i] = &logcorev1.NewEntry{Sequence: 1 << 20, Kind: logcorev1.EntryKind_ENTRY_KIND_DATA, TransactionId: payload[:16], Payload: payload, PayloadCrc32C: 1 << 30}
		}
		return st.Send(&logcorev1.AppendLogsRequest{Appends: []*logcorev1.LogAppend{{Channel: 1, Entries: entries}}})
	}
	// The sender is another goroutine, as it is in the client.
	room := make(chan struct{}, max(inflight/batch, 1))
	sent := make(chan error, 1)
	go func() {
		for range room {
			if err := send(); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for range cap(room) {
		room <- struct{}{}
	}
	begun, n := time.Now(), 0
	for time.Since(begun) < seconds {
		answer, err := st.Recv()
		if err != nil {
			return t, err
		}
		n += len(answer.Appends[0].Lsns)
		room <- struct{}{}
	}
	took := time.Since(begun)
	close(room)
	cancel()
	<-sent
	return turn{perSecond: float64(n) / took.Seconds(), ops: float64(n)}, nil
}

// echoUnary makes one unary call after the other.
func echoUnary(ctx context.Context, addr string, seconds time.Duration) (t turn, err error) {
	conn, err := dialEcho(addr)
	if err != nil {
		return t, err
	}
	defer conn.Close()
	c := logcorev1.NewLogCoreServiceClient(conn)
	req := &logcorev1.AppendRequest{Log: "log", Epoch: 1, Incarnation: 1 << 50, Entries: []*logcorev1.NewEntry{{Sequence: 1, Kind: 1, Payload: make([]byte, payloadBytes), PayloadCrc32C: 1 << 30}}}
	return oneAtATime(seconds, func() error {
		_, err := c.Append(ctx, req)
		return err
	})
}

// oneAtATime calls f again and again, after a tenth of the time to warm up, and takes the
// latencies.
func oneAtATime(seconds time.Duration, f func() error) (turn, error) {
	before := 0
	for begun := time.Now(); time.Since(begun) < seconds/10; before++ {
		if err := f(); err != nil {
			return turn{}, err
		}
	}
	var took []float64
	begun := time.Now()
	for last := begun; last.Sub(begun) < seconds; {
		if err := f(); err != nil {
			return turn{}, err
		}
		now := time.Now()
		took = append(took, float64(now.Sub(last).Nanoseconds())/1e3)
		last = now
	}
	sort.Float64s(took)
	n := len(took)
	return turn{perSecond: float64(n) / time.Since(begun).Seconds(), p50: took[n/2], p99: took[n*99/100], ops: float64(before + n)}, nil
}
