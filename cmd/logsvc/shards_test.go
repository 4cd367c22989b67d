package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// formShards is formCluster with several shards, once every one has its members and a leader.
func formShards(t *testing.T, shards int) []*server {
	t.Helper()
	first := newServer(t)
	first.shards = shards
	first.start()
	servers := []*server{first}
	for range 2 {
		s := newServer(t, first.peer)
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

// placements returns what a member knows of the shards.
func placements(t *testing.T, s *server) []*logcorev1.ShardPlacement {
	t.Helper()
	return clusterStatus(t, s).Shards
}

// TestShardsOfACluster: every shard gets the members of shard 0, the leaderships are spread over them, and a member that
// is replaced is in all of them.
func TestShardsOfACluster(t *testing.T) {
	servers := formShards(t, 6)
	for _, p := range placements(t, servers[0]) {
		if len(p.Voters) != 3 {
			t.Fatalf("shard %d has the voters %x", p.Shard, p.Voters)
		}
	}
	spread := func() bool {
		by := map[uint64]int{}
		for _, p := range placements(t, servers[0]) {
			by[p.Leader]++
		}
		return len(by) == 3 && by[0] == 0 && slices.Max([]int{by[placements(t, servers[0])[0].Leader], 0}) <= 3
	}
	deadline := time.Now().Add(60 * time.Second)
	for !spread() {
		if time.Now().After(deadline) {
			t.Fatalf("the leaderships are not spread: %v", placements(t, servers[0]))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestMoveInACluster (I2, I4, F1): logs go from shard to shard while they are written and followed, and one process after
// the other is killed meanwhile: every acknowledged entry is there once, in order, and every move that was
// begun is finished.
func TestMoveInACluster(t *testing.T) {
	servers := formShards(t, 3)
	addrs := addrsOf(servers)
	c, err := client.Dial(context.Background(), client.Options{Addrs: addrs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	const logs = 3
	var writers []*client.Writer
	for i := range logs {
		w, err := c.OpenWriter(ctx, fmt.Sprint("log", i), client.WriterOptions{Create: true, Takeover: true})
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	acked := make([][]logcore.LSN, logs)
	for i, w := range writers {
		running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				a, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, n)}, nil)
				if err != nil {
					t.Errorf("log%d: append %d: %v", i, n, err)
					return
				}
				acked[i] = append(acked[i], a.LSN)
			}
		})
	}
	moves := 0
	running.Go(func() {
		for ; ; moves++ {
			select {
			case <-stop:
				return
			default:
			}
			log, to := fmt.Sprint("log", moves%logs), logcore.ShardID((moves+moves/logs)%3)
			if _, err := c.MoveLog(ctx, log, to); err != nil && !strings.Contains(err.Error(), "goes on by itself") && !strings.Contains(err.Error(), "on its way") {
				t.Errorf("move %d of %s to %d: %v", moves, log, to, err)
				return
			}
			time.Sleep(30 * time.Millisecond) // it is also to be written to
		}
	})
	for round := range 4 {
		time.Sleep(1500 * time.Millisecond)
		victim := servers[round%3]
		victim.kill()
		time.Sleep(1500 * time.Millisecond)
		victim.start()
	}
	time.Sleep(2 * time.Second)
	close(stop)
	running.Wait()
	if t.Failed() {
		return
	}
	total := 0
	for i := range logs {
		name := fmt.Sprint("log", i)
		if !slices.IsSorted(acked[i]) {
			t.Errorf("%s: the LSNs of acknowledgements do not rise", name)
		}
		n := 0
		last := logcore.LSN(0)
		for b, err := range c.Read(ctx, name, client.ReadOptions{}) {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, e := range b.Entries {
				if string(e.Payload) != fmt.Sprint(n) || e.LSN <= last || n < len(acked[i]) && e.LSN != acked[i][n] {
					t.Fatalf("%s: entry %d is %q at LSN %d after %d", name, n, e.Payload, e.LSN, last)
				}
				last = e.LSN
				n++
			}
		}
		if n < len(acked[i]) || n > len(acked[i])+1 {
			t.Errorf("%s: %d entries, %d were acknowledged", name, n, len(acked[i]))
		}
		total += n
		info, err := c.Info(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d entries over %d extents, now in shard %d", name, n, len(info.Extents)+1, info.Shard)
	}
	if moves < 6 || total < 100 {
		t.Errorf("%d moves of %d entries: the run is void", moves, total)
	}
	t.Logf("%d moves", moves)
}

// TestQuietShardElects (F1): the groups of shards with nothing to do fall quiet; when the process that leads one is killed, the
// others elect another leader, and the shard takes appends again.
func TestQuietShardElects(t *testing.T) {
	servers := formShards(t, 4)
	addrs := addrsOf(servers)
	quiet := func(s *server) int {
		n := 0
		for _, p := range placements(t, s) {
			if p.Quiet {
				n++
			}
		}
		return n
	}
	deadline := time.Now().Add(60 * time.Second)
	for quiet(servers[0]) < 3 || quiet(servers[1]) < 3 {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of 3 shards fall quiet", quiet(servers[0]))
		}
		time.Sleep(100 * time.Millisecond)
	}
	leads := map[uint64][]uint32{}
	for _, p := range placements(t, servers[0]) {
		if p.Shard > 0 {
			leads[p.Leader] = append(leads[p.Leader], p.Shard)
		}
	}
	var victim *server
	var its []uint32
	for _, s := range servers {
		st := clusterStatus(t, s)
		if len(leads[st.Node]) > len(its) {
			victim, its = s, leads[st.Node]
		}
	}
	victim.kill()
	killed := time.Now()
	other := servers[0]
	if other == victim {
		other = servers[1]
	}
	for {
		led := true
		for _, p := range placements(t, other) {
			led = led && (!slices.Contains(its, p.Shard) || p.Leader != 0 && !slices.Contains(leads[p.Leader], p.Shard))
		}
		if led {
			break
		}
		if time.Since(killed) > 20*time.Second {
			t.Fatalf("shards %v have no new leader: %v", its, placements(t, other))
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("shards %v have another leader after %v", its, time.Since(killed).Round(time.Millisecond))
	c, err := client.Dial(context.Background(), client.Options{Addrs: addrs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range 6 {
		w, err := c.OpenWriter(ctx, fmt.Sprint("log", i), client.WriterOptions{Create: true, Takeover: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("x")}, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
