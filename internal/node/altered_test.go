package node

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// altering is the way to a node on which what it is asked to send of its log is altered.
type altering struct {
	logcorev1.UnimplementedPeerServiceServer
	to   logcorev1.PeerServiceClient
	addr string

	mu    sync.Mutex
	alter func(*logcorev1.FetchResponse) // nil: nothing is altered
	which int                            // message of each fetch
	done  int                            // how many were
}

func newAltering(t *testing.T, backend string) *altering {
	t.Helper()
	conn, err := grpc.NewClient(backend, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &altering{to: logcorev1.NewPeerServiceClient(conn), addr: l.Addr().String()}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	logcorev1.RegisterPeerServiceServer(s, a)
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Stop(); serving.Wait(); conn.Close() })
	return a
}

// set has one message of each fetch altered from now on.
func (a *altering) set(which int, alter func(*logcorev1.FetchResponse)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alter, a.which, a.done = alter, which, 0
}

func (a *altering) altered() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

func (a *altering) Identify(ctx context.Context, r *logcorev1.IdentifyRequest) (*logcorev1.IdentifyResponse, error) {
	return a.to.Identify(ctx, r)
}

func (a *altering) Connect(in grpc.BidiStreamingServer[logcorev1.ConnectRequest, logcorev1.ConnectResponse]) error {
	out, err := a.to.Connect(in.Context())
	if err != nil {
		return err
	}
	go func() { // ends with the call
		for {
			m, err := in.Recv()
			if err != nil || out.Send(m) != nil {
				out.CloseSend()
				return
			}
		}
	}()
	for {
		m, err := out.Recv()
		if err != nil {
			return err
		}
		if err := in.Send(m); err != nil {
			return err
		}
	}
}

func (a *altering) Fetch(r *logcorev1.FetchRequest, in grpc.ServerStreamingServer[logcorev1.FetchResponse]) error {
	out, err := a.to.Fetch(in.Context(), r)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		m, err := out.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		a.mu.Lock()
		if i == a.which && a.alter != nil {
			a.alter(m)
			a.done++
		}
		a.mu.Unlock()
		if err := in.Send(m); err != nil {
			return err
		}
	}
}

// heard is what a node says, to be looked at while it runs.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

// last returns the last line with a text.
func (h *heard) last(text string) (last string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for line := range strings.Lines(h.text.String()) {
		if strings.Contains(line, text) {
			last = line
		}
	}
	return last
}

// flip alters one bit in the middle of the frames.
func flip(m *logcorev1.FetchResponse) { m.Frames[len(m.Frames)/2] ^= 4 }

func again(m *logcorev1.FetchResponse) { m.FramesCrc32C = crc32.Checksum(m.Frames, castagnoli) }

// alterations are what happens to a message, and what the node that is fed says of it.
var alterations = []struct {
	name, says string
	alter      func(*logcorev1.FetchResponse)
}{
	{"a bit on the wire", "came with checksum", flip},
	{"a bit before the checksum of the message", "frame", func(m *logcorev1.FetchResponse) { flip(m); again(m) }},
	{"the end is missing", "frame", func(m *logcorev1.FetchResponse) { m.Frames = m.Frames[:len(m.Frames)-100]; again(m) }},
	{"another chain before it", "frame", func(m *logcorev1.FetchResponse) { m.PrevSum++ }},
	{"another checksum at its end", "ends at", func(m *logcorev1.FetchResponse) { m.Sum++ }},
	{"entries are left out", "want from", func(m *logcorev1.FetchResponse) { m.FirstLsn++ }},
	{"fewer entries than it says", "ends at", func(m *logcorev1.FetchResponse) { m.LastLsn++ }},
	{"sealed or not", "sealed is", func(m *logcorev1.FetchResponse) { m.Sealed = !m.Sealed }},
}

// TestCatchUpAltered (F6, I10): what a member is fed from a peer is altered on its way, in every way there is a check for. Each is refused
// with its reason, nothing of it gets into the log, and the catching up goes on: from the same peer once it sends what it has, or
// from the archive while it doesn't.
func TestCatchUpAltered(t *testing.T) {
	for _, from := range []string{"the peer", "the archive"} {
		t.Run("then from "+from, func(t *testing.T) {
			leader, keeper, away := newProcess(t), newProcess(t), newProcess(t)
			var says heard
			away.says = slog.New(slog.NewTextHandler(&says, nil))
			leader.start()
			appendOne(t, []byte("alone"), leader)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			keeper.addr = l.Addr().String()
			l.Close()
			way := newAltering(t, keeper.addr)
			keeper.peer = way.addr
			keeper.join(leader.addr)
			away.join(leader.addr)
			for _, p := range []*process{keeper, away} { // learners: who leads is certain
				if _, err := leader.AddMember(within(t), p.PeerAddress(), true); err != nil {
					t.Fatal(err)
				}
			}
			level(t, leader, keeper, away)
			away.end()
			for i := range 150 {
				appendOne(t, fmt.Appendf(make([]byte, 8<<10), "%d", i), leader)
			}
			level(t, leader, keeper)
			trimAll(t, leader)
			if keeper.Group().HotLog().First() != 1 {
				t.Fatal("void: the keeper's log begins later")
			}
			var served sync.Mutex
			var serves bool
			asked := 0
			away.archived = func(_ context.Context, _ logcore.ShardID, from, to logcore.LSN) iter.Seq2[segment.Span, error] {
				return func(yield func(segment.Span, error) bool) {
					served.Lock()
					on := serves
					if on {
						asked++
					}
					served.Unlock()
					for _, s := range keeper.Group().HotLog().Segments() {
						if !on || s.Last < from || s.First > to {
							continue
						}
						if span, err := keeper.Group().HotLog().Span(s.First, s.Last); !yield(span, err) || err != nil {
							return
						}
					}
				}
			}
			tries := alterations
			if from == "the archive" {
				tries = tries[:2]
			}
			for i, a := range tries {
				if i == 0 {
					way.set(1, a.alter) // what came before it is good
					away.start()
				} else {
					way.set(0, a.alter)
				}
				// One attempt follows the other: at the second one the first has said what it has to say.
				until(t, a.name+" is refused", func() bool {
					return way.altered() > 1 || i == 0 && way.altered() > 0 && says.last("came to nothing") != ""
				})
				if last := says.last("came to nothing"); !strings.Contains(last, a.says) {
					t.Errorf("%s: want %q in what is said:\n%s", a.name, a.says, last)
				}
				if c := away.Group().Committed(); c >= leader.Group().Committed() {
					t.Fatalf("%s: void: it caught up", a.name)
				}
			}
			if from == "the peer" {
				way.set(0, nil)
			} else {
				served.Lock()
				serves = true
				served.Unlock()
			}
			level(t, leader, away)
			if n := sameSegments(t, keeper, away); n < 3 {
				t.Fatalf("void: %d sealed segments", n)
			}
			if from == "the archive" && asked == 0 {
				t.Fatal("void: the archive was not asked")
			}
			appendOne(t, []byte("goes on"), leader)
			level(t, leader, keeper, away)
			sameSegments(t, leader, away)
		})
	}
}
