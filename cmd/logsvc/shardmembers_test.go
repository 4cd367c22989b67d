package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// nodeOf returns a server's node id.
func nodeOf(t *testing.T, s *server) (id uint64) {
	t.Helper()
	err := s.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
		st, err := c.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
		id = st.GetNode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestShardsOfAMemberThatIsReplaced (F9): a member of a cluster with several shards is killed and its disk is lost. The same
// machine, with an empty directory, takes its place in every shard while all logs are written to; afterwards every shard
// has three voters, none of them the old one, and another member may be lost: nothing acknowledged is missing. One shard's directory
// alone can't be lost: the member does not start without it.
func TestShardsOfAMemberThatIsReplaced(t *testing.T) {
	const shards, logs = 3, 6
	servers := formShards(t, shards)
	addrs := addrsOf(servers)
	c, err := client.Dial(context.Background(), client.Options{Addrs: addrs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: 60 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	acked := make([][]logcore.LSN, logs)
	var writers []*client.Writer
	put := func() {
		t.Helper()
		for i, w := range writers {
			a, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{fmt.Append(nil, len(acked[i]))}, nil)
			if err != nil {
				t.Fatalf("log%d: %v", i, err)
			}
			acked[i] = append(acked[i], a.LSN)
		}
	}
	for i := range logs {
		w, err := c.OpenWriter(ctx, fmt.Sprint("log", i), client.WriterOptions{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	for range 20 {
		put()
	}
	leader := leaderOf(t, servers)
	victim := servers[0]
	if victim == leader {
		victim = servers[1]
	}
	old := nodeOf(t, victim)
	victim.kill()
	put()
	if err := os.RemoveAll(filepath.Join(victim.dir, "shard-1")); err != nil {
		t.Fatal(err)
	}
	if text := victim.tryStart(); !strings.Contains(text, "shard 1 of this member is lost") {
		t.Errorf("without one of its shards: %s", text)
	}
	if err := os.RemoveAll(victim.dir); err != nil {
		t.Fatal(err)
	}
	victim.join = []string{leader.peer}
	victim.start()
	replaced := make(chan error, 1)
	go func() {
		deadline := time.Now().Add(2 * time.Minute)
		for {
			err := leaderOf(t, servers).admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				_, err := c.ReplaceMember(ctx, &logcorev1.ReplaceMemberRequest{Node: old, PeerAddress: victim.peer})
				return err
			})
			if err == nil || time.Now().After(deadline) {
				replaced <- err
				return
			}
			time.Sleep(100 * time.Millisecond) // the leader changed, or the machine is slow
		}
	}()
	for done := false; !done; {
		put()
		select {
		case err := <-replaced:
			if done = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	fresh := nodeOf(t, victim)
	for _, s := range servers {
		until(t, "every shard has the new member and not the old one", func() bool {
			for _, p := range placements(t, s) {
				if len(p.Voters) != 3 || len(p.Learners) != 0 || slices.Contains(p.Voters, old) || !slices.Contains(p.Voters, fresh) {
					return false
				}
			}
			return true
		})
	}
	put()
	for _, s := range servers { // a quorum with the new one, in every shard
		if s != victim {
			s.kill()
			break
		}
	}
	put()
	for i := range logs {
		entries, err := readWhole(ctx, c, fmt.Sprint("log", i))
		if err != nil || len(entries) != len(acked[i]) {
			t.Fatalf("log%d: %d entries of %d, %v", i, len(entries), len(acked[i]), err)
		}
		for n, e := range entries {
			if e.LSN != acked[i][n] || string(e.Payload) != fmt.Sprint(n) {
				t.Fatalf("log%d: entry %d is %q at LSN %d, acknowledged at %d", i, n, e.Payload, e.LSN, acked[i][n])
			}
		}
	}
}
