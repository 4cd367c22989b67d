package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/logcore/logcore/internal/exit"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// TestClusterRepairs (F6): a node whose hot log rotted in every segment, the open one too, gets the segments from the
// others when it starts, with no archive, and what it had wrong never reaches anybody.
func TestClusterRepairs(t *testing.T) {
	servers := formCluster(t)
	addrs := addrsOf(servers)
	w := write(t, addrs)
	waitFor(t, w, 800)
	w.stop()
	<-w.done
	level(t, servers)
	victim := servers[1]
	victim.stop()
	flipped := 0
	files, err := filepath.Glob(filepath.Join(victim.dir, "shard-0", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		const at = 100 << 10 // among the frames
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		if b[0] != 0 { // one that stands ready is empty
			b[0] ^= 0x10
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
			flipped++
		}
		f.Close()
	}
	if flipped < 3 {
		t.Fatalf("void: %d segments were damaged", flipped)
	}
	victim.start()
	level(t, servers)
	kept, err := filepath.Glob(filepath.Join(victim.dir, "shard-0", "*.corrupt"))
	if err != nil || len(kept) != flipped {
		t.Errorf("%d damaged files are kept, of %d (%v)", len(kept), flipped, err)
	}
	verifyAcked(t, []string{victim.addr}, w.acked)
	for _, s := range servers {
		s.stop()
	}
	compareSegments(t, servers, w.acked)
}

// TestClusterLeaderStops (F10): a leader that hangs, as one under SIGSTOP does, is replaced; when it wakes up it
// follows, and nothing it says is taken for the leader's.
func TestClusterLeaderStops(t *testing.T) {
	servers := formCluster(t)
	addrs := addrsOf(servers)
	w := write(t, addrs)
	waitFor(t, w, 100)
	leader := leaderOf(t, servers)
	leader.cmd.Process.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	n, _, _ := w.count()
	at := waitFor(t, w, n+50)
	t.Logf("acknowledged again after %v", at.Sub(stopped))
	leader.cmd.Process.Signal(syscall.SIGCONT)
	n, _, _ = w.count()
	waitFor(t, w, n+200)
	w.stop()
	<-w.done
	if _, _, err := w.count(); err != nil {
		t.Fatal(err)
	}
	level(t, servers)
	verifyAcked(t, addrs, w.acked)
	for _, s := range servers {
		s.stop()
	}
	compareSegments(t, servers, w.acked)
}

// TestClusterRefusals: what a node can't start with is said, and the cluster goes on; a removal that would cost the quorum
// is refused.
func TestClusterRefusals(t *testing.T) {
	servers := formCluster(t)
	first := servers[0]
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	common := []string{"--listen", "127.0.0.1:0", "--metrics", "", "--log-level", "error"}
	for name, tc := range map[string]struct {
		args []string
		code exit.Code
		text string
	}{
		"address in use":            {[]string{"--peer-listen", taken.Addr().String(), "--peers", first.peer}, exit.Failure, "address already in use"},
		"plain text to everybody":   {[]string{"--peer-listen", "0.0.0.0:0"}, exit.Failure, "plain text between nodes"},
		"peers without a listener":  {[]string{"--peers", first.peer}, exit.Usage, "peer_listen"},
		"a certificate without key": {[]string{"--peer-listen", "127.0.0.1:0", "--peer-cert", "/x"}, exit.Usage, "belong together"},
		"no certificate file":       {[]string{"--peer-listen", "127.0.0.1:0", "--peer-cert", "/nonexistent", "--peer-key", "/nonexistent", "--peer-ca", "/nonexistent"}, exit.Failure, "/nonexistent"},
	} {
		code, _, stderr := runIt(t, nil, slices.Concat(common, []string{"--dir", filepath.Join(t.TempDir(), "x")}, tc.args)...)
		if code == exit.OK || tc.code == exit.Usage && code != exit.Usage || !strings.Contains(stderr, tc.text) {
			t.Errorf("%s: exit code %d\n%s", name, code, stderr)
		}
	}
	leader := leaderOf(t, servers)
	var others []*server
	for _, s := range servers {
		if s != leader {
			others = append(others, s)
		}
	}
	ids := map[string]uint64{}
	for _, m := range clusterStatus(t, leader).Members {
		ids[m.Address] = m.Node
	}
	others[0].kill()
	remove := func(id uint64) error {
		return leader.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
			_, err := c.RemoveMember(ctx, &logcorev1.RemoveMemberRequest{Node: id})
			return err
		})
	}
	until(t, "the dead one is missed", func() bool {
		for _, m := range clusterStatus(t, leader).Members {
			if m.Node == ids[others[0].addr] && !m.Active {
				return true
			}
		}
		return false
	})
	if err := remove(ids[others[1].addr]); err == nil || !strings.Contains(err.Error(), "quorum") {
		t.Errorf("removal of the one that is left: %v", err)
	}
	if err := remove(12345); err == nil || !strings.Contains(err.Error(), "no such member") {
		t.Errorf("removal of a stranger: %v", err)
	}
	// The dead one is replaced by a new node while it is written.
	addrs := addrsOf(servers)
	w := write(t, addrs)
	waitFor(t, w, 100)
	fresh := newServer(t, leader.peer)
	fresh.start()
	err = leader.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
		_, err := c.ReplaceMember(ctx, &logcorev1.ReplaceMemberRequest{Node: ids[others[0].addr], PeerAddress: fresh.peer})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n, _, _ := w.count()
	waitFor(t, w, n+100)
	w.stop()
	<-w.done
	if _, _, err := w.count(); err != nil {
		t.Fatalf("an append failed while the member was replaced: %v", err)
	}
	live := []*server{leader, others[1], fresh}
	level(t, live)
	// The replaced one comes back and is no member any more: it harms nobody.
	others[0].start()
	time.Sleep(time.Second)
	if st := clusterStatus(t, leader); st.Leader != ids[leader.addr] || len(st.Members) != 3 {
		t.Errorf("after the replaced one came back: %+v", st)
	}
	verifyAcked(t, []string{leader.addr}, w.acked)
	for _, s := range live {
		s.stop()
	}
	compareSegments(t, live, w.acked)
}
