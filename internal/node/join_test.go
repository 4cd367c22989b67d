package node

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// cutting is the way to a node on which each connection breaks once it has carried so many bytes from there.
type cutting struct {
	net.Listener
	cuts atomic.Int64
}

func newCutting(t *testing.T, backend string, after int64) *cutting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutting{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer in.Close()
				out, err := net.Dial("tcp", backend)
				if err != nil {
					return
				}
				defer out.Close()
				go io.Copy(out, in)
				if n, _ := io.CopyN(in, out, after); n == after {
					c.cuts.Add(1)
				}
			}()
		}
	}()
	return c
}

// TestJoinGoesOn: the connection over which a joining node copies the beginning of the log breaks again and again; it goes on from
// where it was, and holds the same bytes in the end.
func TestJoinGoesOn(t *testing.T) {
	p := newProcess(t)
	p.log.SegmentBytes, p.log.CacheBytes = 6<<20, 16<<20
	p.start()
	for i := range 3 * 8 {
		body := make([]byte, 900<<10)
		body[0] = byte(i)
		appendOne(t, body, p)
	}
	trimAll(t, p)
	way := newCutting(t, p.addr, 2<<20) // about two messages of the five or six that the segment takes
	p.end()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	if p.Node, err = Open(within(t), Options{Cluster: cluster, Log: p.log, Listener: l, PeerAddress: way.Addr().String(), Address: p.addr, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	leaderOf(t, p)
	joiner := newProcess(t)
	joiner.log.SegmentBytes, joiner.log.CacheBytes = 6<<20, 16<<20
	joiner.join(way.Addr().String())
	if first := joiner.Group().HotLog().First(); first == 1 || joiner.Group().HotLog().Last() < first {
		t.Fatalf("void: the log begins at LSN %d and ends at %d", first, joiner.Group().HotLog().Last())
	}
	if n := way.cuts.Load(); n < 2 {
		t.Fatalf("void: the connection broke %d times", n)
	}
	have, want := joiner.Group().HotLog(), p.Group().HotLog()
	own, err := have.Span(have.Last(), have.Last())
	if err != nil {
		t.Fatal(err)
	}
	other, err := want.Span(have.Last(), have.Last())
	if err != nil {
		t.Fatal(err)
	}
	if own.Sum != other.Sum || own.ID != other.ID {
		t.Errorf("at LSN %d the logs part: %08x, %08x", have.Last(), own.Sum, other.Sum)
	}
}
