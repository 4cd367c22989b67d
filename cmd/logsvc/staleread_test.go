package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/certs/certstest"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// TestReadFromAFollower: a member that does not lead answers a read of bounded staleness, with all
// that was acknowledged before it asked the leader, and sends other reads to the leader.
func TestReadFromAFollower(t *testing.T) { readFromAFollower(t, client.TLSFiles{}) }

// TestReadFromAFollowerWithTLS: the same where clients, and members among each other, must show certificates.
func TestReadFromAFollowerWithTLS(t *testing.T) {
	ca, err := certstest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	f, err := ca.Issue(t.TempDir(), time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	readFromAFollower(t, client.TLSFiles{CA: f.CA, Cert: f.Cert, Key: f.Key})
}

func readFromAFollower(t *testing.T, tls client.TLSFiles) {
	servers := formClusterWith(t, tls)
	leader := leaderOf(t, servers)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Addr: leader.addr, TLSFiles: tls})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range servers {
		placed, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("x")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := s.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		logs := logcorev1.NewLogCoreServiceClient(conn)
		read := func(staleness uint32) (int, error) {
			stream, err := logs.Read(ctx, &logcorev1.ReadRequest{Log: "a", MaxStalenessMs: staleness})
			if err != nil {
				return 0, err
			}
			msg, err := stream.Recv()
			return len(msg.GetEntries()), wire.FromStatus(err)
		}
		if n, err := read(1); err != nil || n != i+1 {
			t.Errorf("node %d: %d entries of %d, %v", i, n, i+1, err)
		}
		here, err := client.Dial(ctx, client.Options{Addr: s.addr, TLSFiles: tls})
		if err != nil {
			t.Fatal(err)
		}
		defer here.Close()
		for _, bound := range []time.Duration{time.Millisecond, 0} {
			if info, err := here.InfoWithin(ctx, "a", bound); err != nil || info.LastLSN != placed.LSN {
				t.Errorf("node %d, staleness %v: the log ends at LSN %d, want %d, %v", i, bound, info.LastLSN, placed.LSN, err)
			}
		}
		switch n, err := read(0); {
		case s == leader && (err != nil || n != i+1):
			t.Errorf("the leader: %d entries, %v", n, err)
		case s != leader && (!errors.Is(err, logcore.ErrNotLeader) || wire.LeaderHint(err) != leader.addr):
			t.Errorf("node %d: %d entries, %v, hint %q", i, n, err, wire.LeaderHint(err))
		}
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}
