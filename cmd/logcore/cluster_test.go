package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/exit"
)

// clusterNode is a log service process that is a node of a cluster.
type clusterNode struct {
	t          *testing.T
	dir        string
	addr, peer string
	args       []string
	*program
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newClusterNode starts a node; with peers it waits to be taken in.
func newClusterNode(t *testing.T, args ...string) *clusterNode {
	t.Helper()
	n := &clusterNode{t: t, dir: filepath.Join(t.TempDir(), "node"), addr: freePort(t), peer: freePort(t), args: args}
	n.start()
	return n
}

func (n *clusterNode) start() {
	n.t.Helper()
	n.program = startProgram(n.t, "logsvc", n.line()...)
}

func (n *clusterNode) line() []string {
	return append([]string{"--dir", n.dir, "--listen", n.addr, "--peer-listen", n.peer, "--metrics", "", "--log-level", "warn", "--segment-bytes", "1MiB", "--disk-reserve-bytes", "1MiB"}, n.args...)
}

// clusterOf starts a cluster of three.
func clusterOf(t *testing.T, initArgs ...string) []*clusterNode {
	t.Helper()
	first := newClusterNode(t)
	nodes := []*clusterNode{first, newClusterNode(t, "--peers", first.peer), newClusterNode(t, "--peers", first.peer)}
	cli(t, append([]string{"cluster", "init", nodes[1].peer, nodes[2].peer, "--addr", first.addr}, initArgs...)...).want(t, exit.OK)
	return nodes
}

// status is what `logcore cluster status` says at a node.
func (n *clusterNode) status() clusterJSON {
	n.t.Helper()
	var st clusterJSON
	deadline := time.Now().Add(time.Minute)
	for {
		r := cli(n.t, "cluster", "status", "-o", "json", "--addr", n.addr)
		if r.code == exit.OK {
			if err := json.Unmarshal([]byte(r.out), &st); err != nil {
				n.t.Fatal(err)
			}
			return st
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("no status: %s", r.err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// id returns a node's id.
func (n *clusterNode) id() string {
	n.t.Helper()
	for _, m := range n.status().Members {
		if m.Address == n.addr {
			return m.Node
		}
	}
	n.t.Fatalf("the node at %s is no member", n.addr)
	return ""
}

// waitUntil waits for something that must come true.
func waitUntil(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// voters waits until a node knows that so many vote in every shard, and nobody else is a member.
func (n *clusterNode) voters(want int) clusterJSON {
	n.t.Helper()
	var st clusterJSON
	waitUntil(n.t, fmt.Sprint(want, " voters in every shard"), func() bool {
		st = n.status()
		for _, s := range st.Shards {
			if s.Voters != want || s.Learners != 0 || s.Leader == fmt.Sprintf("%016x", 0) {
				return false
			}
		}
		return len(st.Members) == want && !st.Changing
	})
	return st
}

// load appends to a log until it is stopped.
type load struct {
	t     *testing.T
	addrs []string
	stop  context.CancelFunc
	done  chan struct{}

	mu    sync.Mutex
	acked map[logcore.LSN]string
	err   error
}

func startLoad(t *testing.T, log string, nodes ...*clusterNode) *load {
	t.Helper()
	l := &load{t: t, acked: map[logcore.LSN]string{}, done: make(chan struct{})}
	for _, n := range nodes {
		l.addrs = append(l.addrs, n.addr)
	}
	c, err := client.Dial(context.Background(), client.Options{Addrs: l.addrs, Logger: slog.New(slog.DiscardHandler), RetryFor: 90 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	t.Cleanup(func() { stop(); <-l.done })
	w, err := c.OpenWriter(ctx, log, client.WriterOptions{Create: true, Takeover: true})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.done)
		defer c.Close()
		for i := 0; ctx.Err() == nil; i++ {
			body := fmt.Sprintf("entry %d %s", i, strings.Repeat("x", 500))
			a, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte(body)}, nil)
			l.mu.Lock()
			if err == nil {
				l.acked[a.LSN] = body
			} else if ctx.Err() == nil {
				l.err = err
			}
			failed := l.err != nil
			l.mu.Unlock()
			if failed {
				return
			}
		}
	}()
	return l
}

// more waits until so many further appends are acknowledged.
func (l *load) more(n int) {
	l.t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err != nil {
			l.t.Fatalf("an append failed beyond a retry: %v", l.err)
		}
		return len(l.acked)
	}
	want := count() + n
	waitUntil(l.t, fmt.Sprint(n, " further appends"), func() bool { return count() >= want })
}

// end stops it and holds the log against what was acknowledged: each entry is there once, in order.
func (l *load) end(log string, nodes ...*clusterNode) {
	l.t.Helper()
	l.stop()
	<-l.done
	if l.err != nil {
		l.t.Fatalf("an append failed beyond a retry: %v", l.err)
	}
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Addrs: addrs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	found, seen, last := 0, map[string]bool{}, -1
	for b, err := range c.Read(ctx, log, client.ReadOptions{}) {
		if err != nil {
			l.t.Fatal(err)
		}
		for _, e := range b.Entries {
			var i int
			if _, err := fmt.Sscanf(string(e.Payload), "entry %d", &i); err != nil || i <= last || seen[string(e.Payload)] {
				l.t.Fatalf("LSN %d holds %.20q behind entry %d (%v)", e.LSN, e.Payload, last, err)
			}
			last, seen[string(e.Payload)] = i, true
			if want, ok := l.acked[e.LSN]; ok && want != string(e.Payload) {
				l.t.Fatalf("LSN %d holds %.20q, acknowledged was %.20q", e.LSN, e.Payload, want)
			} else if ok {
				found++
			}
		}
	}
	if found != len(l.acked) || found == 0 {
		l.t.Fatalf("%d of %d acknowledged entries are there", found, len(l.acked))
	}
}

// TestClusterInitWithShards: `cluster init --shards` gives a service that was one shard, with a log in it, and two empty nodes that joined
// it, four shards each; repeated it does nothing; fewer, or more of a cluster of three, are refused.
func TestClusterInitWithShards(t *testing.T) {
	first := newClusterNode(t)
	nodes := []*clusterNode{first, newClusterNode(t, "--peers", first.peer), newClusterNode(t, "--peers", first.peer)}
	l := startLoad(t, "db", nodes...)
	l.more(20)
	cli(t, "cluster", "init", nodes[1].peer, nodes[2].peer, "--shards", "-1", "--addr", first.addr).want(t, exit.Usage, "--shards -1")
	init := func(shards string) result {
		return cli(t, "cluster", "init", nodes[1].peer, nodes[2].peer, "--shards", shards, "--addr", first.addr)
	}
	init("4").want(t, exit.OK, "has 4 shards", "added")
	for _, n := range nodes {
		if st := n.voters(3); len(st.Shards) != 4 {
			t.Errorf("%d shards at %s", len(st.Shards), n.addr)
		}
	}
	l.more(20) // through the closing and opening of its only node
	init("4").want(t, exit.OK)
	init("3").want(t, exit.Usage, "there can't be fewer")
	init("5").want(t, exit.Usage, "once there are several nodes")
	cli(t, "log", "move", "db", "--to", "3", "--addr", nodes[2].addr).want(t, exit.OK, "moved log db to shard 3")
	l.more(20)
	l.end("db", nodes...)
	for _, n := range nodes {
		n.stop()
		n.start()
	}
	if st := first.voters(3); len(st.Shards) != 4 {
		t.Errorf("%d shards after a restart", len(st.Shards))
	}
}

// TestClusterInitIsKilled: the node that gets its shards, or one that follows, is killed at any moment of that: the command, repeated, does it.
func TestClusterInitIsKilled(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 4 {
		first := newClusterNode(t)
		l := startLoad(t, "db", first)
		l.more(5)
		second := newClusterNode(t, "--peers", first.peer)
		victim := []*clusterNode{first, second}[round%2]
		done := make(chan result, 1)
		go func() {
			done <- cli(t, "cluster", "init", second.peer, "--shards", "3", "--addr", first.addr, "--timeout", "20s")
		}()
		time.Sleep(time.Duration(rng.Int64N(int64(600 * time.Millisecond))))
		victim.kill()
		victim.start()
		if r := <-done; r.code != exit.OK {
			waitUntil(t, "the command, repeated, does it", func() bool {
				r := cli(t, "cluster", "init", second.peer, "--shards", "3", "--addr", first.addr, "--timeout", "30s")
				return r.code == exit.OK
			})
		}
		for _, n := range []*clusterNode{first, second} {
			if st := n.voters(2); len(st.Shards) != 3 {
				t.Errorf("%d shards at %s", len(st.Shards), n.addr)
			}
		}
		l.more(5)
		l.end("db", first, second)
		first.kill()
		second.kill()
	}
}

// TestClusterReplaceUnderLoad (F9): a member is killed for good and replaced by `logcore cluster replace` while a writer goes on: no append fails
// beyond a retry, nothing is lost. Then again, and every member that leads is killed in the midst of it (a change of members half
// written): the command, repeated, finishes it.
func TestClusterReplaceUnderLoad(t *testing.T) {
	nodes := clusterOf(t, "--shards", "2")
	fresh := []*clusterNode{newClusterNode(t, "--peers", nodes[0].peer), newClusterNode(t, "--peers", nodes[1].peer)}
	l := startLoad(t, "db", append(nodes[:3:3], fresh...)...)
	l.more(50)
	old := nodes[2].id()
	nodes[2].kill()
	l.more(20)
	cli(t, "cluster", "replace", old, fresh[0].peer, "--addr", nodes[0].addr).want(t, exit.OK, "replaced "+old)
	l.more(20)
	live := []*clusterNode{nodes[0], nodes[1], fresh[0]}
	for _, n := range live {
		for _, m := range n.voters(3).Members {
			if m.Node == old {
				t.Errorf("at %s the old member is still there", n.addr)
			}
		}
	}
	old = nodes[1].id()
	nodes[1].kill()
	live = []*clusterNode{nodes[0], fresh[0]}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := 0; ; round++ {
		done := make(chan result, 1)
		go func() {
			done <- cli(t, "cluster", "replace", old, fresh[1].peer, "--addr", live[0].addr, "--timeout", "20s")
		}()
		if round < 4 {
			time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
			leader := live[0].status().Leader
			for _, n := range append(live[:2:2], fresh[1]) {
				for _, m := range live[0].status().Members {
					if m.Node == leader && m.Address == n.addr {
						n.kill()
						n.start()
					}
				}
			}
		}
		r := <-done
		if st := live[0].status(); r.code == exit.OK || !strings.Contains(fmt.Sprint(st.Members), old) {
			break
		}
		if round > 20 {
			t.Fatalf("the replacement does not come to an end: %s", r.err)
		}
	}
	live = append(live, fresh[1])
	for _, n := range live {
		n.voters(3)
	}
	l.more(20)
	l.end("db", live...)
	// A removal that would lose the quorum is refused, and harms nobody.
	live[1].kill()
	var leader *clusterNode
	waitUntil(t, "the others miss it", func() bool {
		for _, n := range []*clusterNode{live[0], live[2]} {
			st := n.status()
			for _, m := range st.Members {
				if m.Address == n.addr && m.Node == st.Leader {
					leader = n
				}
			}
			for _, m := range st.Members {
				if leader == n && m.Address == live[1].addr && !m.Active {
					return true
				}
			}
		}
		return false
	})
	other := live[0]
	if leader == other {
		other = live[2]
	}
	cli(t, "cluster", "remove", other.id(), "--addr", leader.addr).want(t, exit.Code(4), "quorum")
	cli(t, "cluster", "remove", leader.id(), "--addr", leader.addr).want(t, exit.Code(4), "cluster transfer")
	cli(t, "cluster", "remove", "0000000000000abc", "--addr", leader.addr).want(t, exit.Code(4), "no such member")
	cli(t, "cluster", "remove", "nobody", "--addr", leader.addr).want(t, exit.Usage, "no node id")
	l = startLoad(t, "after", live[0], live[2])
	l.more(10)
	l.end("after", live[0], live[2])
	if err := os.RemoveAll(nodes[2].dir); err != nil {
		t.Fatal(err)
	}
}
