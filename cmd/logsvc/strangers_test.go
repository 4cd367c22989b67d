package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/certs/certstest"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// hello introduces somebody to a node's peer port and returns why it was refused.
func hello(t *testing.T, to *server, h *logcorev1.PeerHello) error {
	t.Helper()
	conn, err := grpc.NewClient(to.peer, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := logcorev1.NewPeerServiceClient(conn).Connect(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&logcorev1.ConnectRequest{Hello: h}); err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

// says fails the test unless an error says why.
func says(t *testing.T, what string, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %q", what, err, text)
	}
}

// TestClusterOfStrangers: a node of another cluster, a copy of a node's directory, a process whose clock is two hours off, and an address
// that is taken are refused by real processes, each with its reason, while a writer goes on.
func TestClusterOfStrangers(t *testing.T) {
	servers := formCluster(t)
	addrs := addrsOf(servers)
	w := write(t, addrs)
	waitFor(t, w, 100)
	leader := inContact(t, servers)
	before := clusterStatus(t, leader)
	own, err := hex.DecodeString(before.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	now := func(off time.Duration) uint64 { return uint64(time.Now().Add(off).UnixMilli()) }
	follower := servers[0]
	if follower == leader {
		follower = servers[1]
	}
	id := nodeOf(t, follower)

	// Somebody says who it is, to the leader's peer port.
	says(t, "another cluster", hello(t, leader, &logcorev1.PeerHello{Version: 1, MinVersion: 1, Cluster: make([]byte, 16), Node: 77, Session: 1, TimeMs: now(0)}), "belongs to cluster")
	says(t, "a node id in use", hello(t, leader, &logcorev1.PeerHello{Version: 1, MinVersion: 1, Cluster: own, Node: id, Session: 1, TimeMs: now(0)}), "in use by another process")
	says(t, "the leader's own id", hello(t, leader, &logcorev1.PeerHello{Version: 1, MinVersion: 1, Cluster: own, Node: before.Leader, Session: 1, TimeMs: now(0)}), "in use by two processes")
	for _, off := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
		says(t, "a clock two hours off", hello(t, leader, &logcorev1.PeerHello{Version: 1, MinVersion: 1, Cluster: own, Node: 77, Session: 1, TimeMs: now(off)}), "2h0m0s apart")
	}
	says(t, "a newer protocol", hello(t, leader, &logcorev1.PeerHello{Version: 900, MinVersion: 900, Cluster: own, Node: 77, Session: 1, TimeMs: now(0)}), "versions 900 to 900")

	// A node of another cluster is added, and one that belongs to another is started with this one's peers.
	other := newServer(t)
	other.start()
	err = leader.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
		_, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: other.peer})
		return err
	})
	says(t, "a node of another cluster is added", err, "belongs to cluster")
	other.stop()

	// A copy of the follower's directory is started beside it: it does not take its place.
	follower.stop()
	copied := newServer(t, leader.peer)
	if err := os.CopyFS(copied.dir, os.DirFS(follower.dir)); err != nil {
		t.Fatal(err)
	}
	follower.start()
	inContact(t, servers)
	copied.start() // it runs, refused by everybody
	for _, other := range servers {
		if other == follower {
			continue
		}
		node := fmt.Sprintf("node=%x", nodeOf(t, other))
		until(t, "the copy is refused by "+node, func() bool {
			for line := range strings.Lines(copied.out.String()) {
				if strings.Contains(line, node) && strings.Contains(line, "in use by another process") {
					return true
				}
			}
			return false
		})
	}
	n, _, _ := w.count()
	waitFor(t, w, n+200)
	if st := clusterStatus(t, copied); st.Leader != 0 {
		t.Errorf("the copy follows: %+v", st)
	}
	inContact(t, servers) // with the original
	copied.kill()

	// A process whose peers have another clock does not join.
	slow := grpc.NewServer()
	logcorev1.RegisterPeerServiceServer(slow, lateClock{cluster: own})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); slow.Serve(l) }()
	defer func() { slow.Stop(); <-served }()
	err = leader.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
		_, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: l.Addr().String()})
		return err
	})
	says(t, "a node with another clock is added", err, "2h0m0s off")

	// An address that is taken.
	taken := newServer(t, leader.peer)
	taken.peer = l.Addr().String()
	if text := taken.tryStart(); !strings.Contains(text, "address already in use") {
		t.Errorf("an address in use: %s", text)
	}

	w.stop()
	<-w.done
	if _, _, err := w.count(); err != nil {
		t.Fatalf("an append failed: %v", err)
	}
	after := clusterStatus(t, leaderOf(t, servers))
	if len(after.Members) != 3 || after.Changing {
		t.Errorf("the cluster was not left alone: %+v", after)
	}
	level(t, servers)
	verifyAcked(t, addrs, w.acked)
}

// lateClock is a node whose clock is two hours behind.
type lateClock struct {
	logcorev1.UnimplementedPeerServiceServer
	cluster []byte
}

func (s lateClock) Identify(context.Context, *logcorev1.IdentifyRequest) (*logcorev1.IdentifyResponse, error) {
	return &logcorev1.IdentifyResponse{Cluster: s.cluster, Node: 99, TimeMs: uint64(time.Now().Add(-2 * time.Hour).UnixMilli()), Groups: []*logcorev1.GroupState{{}}}, nil
}

// TestClusterCertificates: nodes whose certificates are of another CA, or have expired, or that have none, are refused by real
// processes, at their start and when they are added; the cluster goes on.
func TestClusterCertificates(t *testing.T) {
	ca, err := certstest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := certstest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	issue := func(a *certstest.Authority, good time.Duration) certs.Files {
		f, err := a.Issue(t.TempDir(), good, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	node := func(f certs.Files, join ...string) *server {
		s := newServer(t, join...)
		if f.CA != "" {
			s.targets = []string{"--peer-ca", f.CA, "--peer-cert", f.Cert, "--peer-key", f.Key}
		}
		return s
	}
	first := node(issue(ca, time.Hour))
	first.start()
	second := node(issue(ca, time.Hour), first.peer)
	second.start()
	add := func(s *server) error {
		return first.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
			_, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: s.peer})
			return err
		})
	}
	if err := add(second); err != nil {
		t.Fatal(err)
	}
	w := write(t, []string{first.addr, second.addr})
	waitFor(t, w, 50)
	expiring := issue(ca, -time.Minute)
	for name, c := range map[string]struct {
		files certs.Files
		text  string
	}{
		"of another CA": {issue(foreign, time.Hour), "unknown authority"},
		"expired":       {expiring, "expired"},
	} {
		lone := node(c.files) // it founds a cluster of its own: its start does not depend on others
		text := lone.tryStart()
		if text == "" {
			says(t, fmt.Sprintf("a node is added, certificate %s", name), add(lone), c.text)
			lone.kill()
		} else if !strings.Contains(text, c.text) {
			t.Errorf("certificate %s: %s", name, text)
		}
	}
	plain := node(certs.Files{})
	plain.start()
	says(t, "a node without certificate is added", add(plain), "TLS")
	plain.kill()
	n, _, _ := w.count()
	waitFor(t, w, n+50)
	w.stop()
	<-w.done
	if _, _, err := w.count(); err != nil {
		t.Fatal(err)
	}
	if st := clusterStatus(t, first); len(st.Members) != 2 {
		t.Errorf("%+v", st.Members)
	}
	if _, err := os.Stat(filepath.Join(first.dir, "shard-0")); err != nil {
		t.Error(err)
	}
	verifyAcked(t, []string{first.addr, second.addr}, w.acked)
}
