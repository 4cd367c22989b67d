package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// TestArchiveCommandsInACluster (F1): the shards of a cluster are archived by different members. A command about the archive reaches
// every shard, whoever leads it; every member knows a target that is added, so that the archive goes on after leaders changed;
// a member that is down is named, and told when the command is given again.
func TestArchiveCommandsInACluster(t *testing.T) {
	base := t.TempDir()
	targets := append(archiveFlags(t, base), "--archive-max-age", "200ms")
	var servers []*server
	var addrs []string
	for i := range 3 {
		var join []string
		if i > 0 {
			join = []string{servers[0].peer}
		}
		s := newServer(t, join...)
		s.targets = targets
		if i == 0 {
			s.shards = 3
		}
		s.start()
		if i > 0 {
			err := servers[0].admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				_, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: s.peer})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		servers, addrs = append(servers, s), append(addrs, s.addr)
	}
	// Let another member lead shard 2, whatever the spreading has done so far.
	other := nodeOf(t, servers[2])
	until(t, "another member leads shard 2", func() bool {
		for _, s := range servers {
			s.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				_, err := c.TransferLeader(ctx, &logcorev1.TransferLeaderRequest{Shard: 2, Node: other})
				return err
			})
		}
		p := placements(t, servers[0])
		return p[2].Leader == other && p[0].Leader != other
	})
	c, err := client.Dial(context.Background(), client.Options{Addrs: addrs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RetryFor: 60 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for i := range 6 {
		w, err := c.OpenWriter(ctx, fmt.Sprint("log", i), client.WriterOptions{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.AppendTx(ctx, logcore.TxID{}, [][]byte{[]byte("x")}, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	on := func(want string) {
		t.Helper()
		until(t, "every shard is on "+want, func() bool {
			st, err := c.ArchiveStatus(ctx)
			if err != nil || len(st.Shards) != 3 {
				return false
			}
			for _, one := range st.Shards {
				var names []string
				for _, target := range one.Targets {
					names = append(names, target.Name)
				}
				if strings.Join(names, " ") != want {
					return false
				}
			}
			return true
		})
	}
	on("a1 a2 b1 b2 c1 c2")
	add := func(name string) error {
		return c.AddTarget(ctx, "dir://"+filepath.Join(base, name)+"?name="+name+"&provider=d")
	}
	if err := add("d1"); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveTarget(ctx, "c2"); err != nil {
		t.Fatal(err)
	}
	on("a1 a2 b1 b2 c1 d1")
	if err := c.SetHold(ctx, "log3", "case 17"); err != nil {
		t.Fatal(err)
	}
	// One is down: the others do what there is to do, and the error says who was not told.
	down := servers[1]
	down.kill()
	until(t, "the others lead everything", func() bool {
		for _, p := range placements(t, servers[0]) {
			if p.Leader == 0 {
				return false
			}
		}
		_, err := c.ArchiveStatus(ctx)
		return err == nil
	})
	if err := add("d2"); !errors.Is(err, client.ErrUnavailable) || !strings.Contains(err.Error(), down.addr) {
		t.Errorf("with a member that is down: %v", err)
	}
	on("a1 a2 b1 b2 c1 d1 d2")
	down.start()
	problem := func() string {
		var st *logcorev1.StatusResponse
		err := down.admin(func(ctx context.Context, c logcorev1.AdminServiceClient) (err error) {
			st, err = c.Status(ctx, &logcorev1.StatusRequest{})
			return err
		})
		if err != nil {
			return err.Error()
		}
		return strings.Join(st.Problems, "\n")
	}
	until(t, "it says that it does not know d2", func() bool { return strings.Contains(problem(), "does not know target d2") })
	until(t, "it can be told", func() bool { return add("d2") == nil })
	until(t, "it knows d2, and all is well there", func() bool { return problem() == "" })
	// Every process anew: each has noted what it was told.
	for _, s := range servers {
		s.kill()
	}
	for _, s := range servers {
		s.start()
	}
	on("a1 a2 b1 b2 c1 d1 d2")
	until(t, "all is well again", func() bool { return problem() == "" })
	st, err := c.ArchiveStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range st.Shards {
		if len(one.Policies) != 1 || one.Policies[0].Hold != "case 17" || one.Policies[0].Log != "log3" {
			t.Errorf("shard %d: %+v", i, one.Policies)
		}
	}
}
