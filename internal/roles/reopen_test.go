package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/brokenfiles"
	"github.com/logcore/logcore/internal/config"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// clusterNode starts a log service as a node.
func clusterNode(t *testing.T, dir string, peers ...string) (Running, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cfg := config.DefaultLogService()
	cfg.Dir, cfg.Listen, cfg.Metrics, cfg.PeerListen, cfg.Peers = dir, "127.0.0.1:0", "", l.Addr().String(), peers
	cfg.SegmentBytes, cfg.DiskReserveBytes = 1<<20, 1<<20
	r, err := StartLogService(testContext(t), cfg, "test", quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r, cfg.PeerListen
}

func statusAt(t *testing.T, addr string) (*logcorev1.ClusterStatusResponse, error) {
	t.Helper()
	conn, err := client.NewConn(addr, client.Options{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(testContext(t), time.Second)
	defer cancel()
	return logcorev1.NewAdminServiceClient(conn).ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
}

// TestReopensAfterAFailedWrite (F5, I10): the disk of the node that leads refuses a write. Another one leads at once; the node
// closes its log, opens it again in the same process, and votes and holds everything afterwards. Nothing that was
// acknowledged is lost, nothing is there twice. Where it fails again and again the node ends.
func TestReopensAfterAFailedWrite(t *testing.T) {
	dir := t.TempDir()
	dirOf := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	first, peer := clusterNode(t, dirOf(0))
	nodes := []Running{first}
	conn, err := client.NewConn(first.Addr(), client.Options{Addr: first.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := 1; i < 3; i++ {
		r, own := clusterNode(t, dirOf(i), peer)
		nodes = append(nodes, r)
		if _, err := logcorev1.NewAdminServiceClient(conn).AddMember(testContext(t), &logcorev1.AddMemberRequest{PeerAddress: own}); err != nil {
			t.Fatal(err)
		}
	}
	var addrs []string
	for _, r := range nodes {
		addrs = append(addrs, r.Addr())
	}
	leader := func() int {
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			for i, addr := range addrs {
				if st, err := statusAt(t, addr); err == nil && st.Leader == st.Node {
					return i
				}
			}
		}
		t.Fatal("nobody leads")
		return 0
	}
	c, err := client.Dial(testContext(t), client.Options{Addrs: addrs, Logger: quiet(), RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	acked := map[logcore.LSN]string{}
	write := func(text string) {
		acked[appendOne(t, c, "a", text)] = text
	}
	for round := range reopensMax {
		write(fmt.Sprint(round, " before"))
		i := leader()
		brokenfiles.Under(t, dirOf(i))
		begun := time.Now()
		before := nodes[i].(*reopening).reopens()
		write(fmt.Sprint(round, " after"))
		t.Logf("round %d: appends go on after %v", round, time.Since(begun))
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			st, err := statusAt(t, addrs[i])
			if err == nil && nodes[i].(*reopening).reopens() > before && st.Leader != 0 && uint64(last(acked)) <= st.CommittedLsn {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("round %d: the node is not back: %v, %v", round, st, err)
			}
		}
		select {
		case err := <-nodes[i].Failed():
			t.Fatalf("round %d: the node ended: %v", round, err)
		default:
		}
	}
	found := map[logcore.LSN]string{}
	for batch, err := range c.Read(testContext(t), "a", client.ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range batch.Entries {
			found[e.LSN] = string(e.Payload)
		}
	}
	seen := map[string]bool{}
	for lsn, text := range found {
		if seen[text] {
			t.Errorf("%q is there twice", text)
		}
		seen[text] = true
		if want, ok := acked[lsn]; ok && want != text {
			t.Errorf("LSN %d holds %q, not %q", lsn, text, want)
		}
	}
	for lsn, text := range acked {
		if found[lsn] != text {
			t.Errorf("%q was acknowledged at LSN %d and is not there", text, lsn)
		}
	}
}

// TestReopensSeldom: a node whose disk fails again and again ends.
func TestReopensSeldom(t *testing.T) {
	opened := 0
	poisoned := func() *fakeRole {
		r := &fakeRole{failed: make(chan error, 1)}
		r.failed <- fmt.Errorf("log: %w", logcore.ErrPoisoned)
		return r
	}
	r := newReopening(poisoned(), quiet(), func(context.Context, error) (Running, error) {
		opened++
		return poisoned(), nil
	})
	if err := <-r.Failed(); !errors.Is(err, logcore.ErrPoisoned) || opened != reopensMax {
		t.Errorf("opened %d times, then %v", opened, err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	other := &fakeRole{failed: make(chan error, 1)}
	other.failed <- logcore.ErrCorrupt
	r = newReopening(other, quiet(), func(context.Context, error) (Running, error) { t.Error("opened again"); return nil, logcore.ErrClosed })
	if err := <-r.Failed(); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("ended with %v", err)
	}
	if err := r.Stop(); err != nil || other.stopped != 1 {
		t.Errorf("stopped %d times, %v", other.stopped, err)
	}
}

type fakeRole struct {
	failed  chan error
	stopped int
}

func (f *fakeRole) Addr() string         { return "" }
func (f *fakeRole) Failed() <-chan error { return f.failed }
func (f *fakeRole) Stop() error          { f.stopped++; return nil }

func last(acked map[logcore.LSN]string) (lsn logcore.LSN) {
	for l := range acked {
		lsn = max(lsn, l)
	}
	return lsn
}
