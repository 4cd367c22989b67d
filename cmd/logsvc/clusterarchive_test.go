package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/tiering"
)

// archiveFlags are those of a server with six new targets, two of each of three providers, and a new key, all below a directory.
func archiveFlags(t *testing.T, dir string) []string {
	t.Helper()
	key := filepath.Join(dir, "key")
	if _, err := tiering.GenerateKeyFile(key); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, name := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, "dir://"+filepath.Join(dir, name)+"?name="+name+"&provider="+name[:1])
	}
	return []string{"--targets", strings.Join(urls, ","), "--key", key}
}

// TestClusterArchives: in a cluster the node that leads archives; after it is killed the next one goes on, under
// its own term, and the others let go of what is archived. A node that joins when the beginning of the log is in the archive
// only catches up all the same.
func TestClusterArchives(t *testing.T) {
	archive := t.TempDir()
	targets := append(archiveFlags(t, archive), "--hot-bytes-keep", "1", "--archive-max-age", "200ms")
	first := newServer(t)
	first.targets = targets
	first.start()
	servers := []*server{first}
	add := func() {
		t.Helper()
		s := newServer(t, first.peer)
		s.targets = targets
		s.start()
		servers = append(servers, s)
		err := leaderOf(t, servers).admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
			_, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: s.peer})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add()
	add()
	addrs := addrsOf(servers)
	w := write(t, addrs)
	waitFor(t, w, 900)
	covered(t, servers, leaderOf(t, servers))
	leader := leaderOf(t, servers)
	leader.kill()
	n, _, _ := w.count()
	waitFor(t, w, n+900)
	leader.start()
	next := leaderOf(t, servers)
	if next == leader {
		t.Fatal("void: the killed one leads")
	}
	covered(t, servers, next)
	for _, s := range servers { // also those that don't archive
		until(t, "the hot tier is trimmed", func() bool { return shardOf(t, s).FirstLsn > 1 })
	}
	add() // its log begins where those of the others do
	w.stop()
	<-w.done
	if _, _, err := w.count(); err != nil {
		t.Fatal(err)
	}
	level(t, servers)
	verifyAcked(t, addrs, w.acked) // from the archive and the hot tier
	for _, s := range servers {
		s.stop()
	}
}

func shardOf(t *testing.T, s *server) *logcorev1.ShardStatus {
	t.Helper()
	var st *logcorev1.StatusResponse
	err := s.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) (err error) {
		st, err = c.Status(ctx, &logcorev1.StatusRequest{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return st.Shards[0]
}

// covered waits until the archive has what is committed now.
func covered(t *testing.T, servers []*server, s *server) {
	t.Helper()
	committed := shardOf(t, s).CommittedLsn
	until(t, "the archive covers what was committed", func() bool { return shardOf(t, leaderOf(t, servers)).ArchivedLsn >= committed })
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
