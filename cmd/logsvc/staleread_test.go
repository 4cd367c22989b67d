package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// TestReadFromAFollower: a member that does not lead answers a read of bounded staleness, with all
// that was acknowledged before it asked the leader, and sends other reads to the leader.
func TestReadFromAFollower(t *testing.T) {
	servers := formCluster(t)
	leader := leaderOf(t, servers)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Addr: leader.addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range servers {
		if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("x")}, nil); err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient("passthrough:///"+s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
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
