package replbench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore/loadtest/proc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// cluster is a service of three members: processes on loopback, each with a directory of
// its own on the disk that is measured.
type cluster struct {
	bin   string
	dir   string
	nodes []*node
}

// node is one member; proc is nil while it is dead.
type node struct {
	dir, addr, peer string
	metrics         string
	join            string // a peer address; empty for the first
	proc            *proc.Process
}

// formCluster starts three processes and makes them a cluster.
func formCluster(ctx context.Context, bin, dir string) (*cluster, error) {
	c := &cluster{bin: bin, dir: dir}
	for i := range 3 {
		n := &node{dir: filepath.Join(dir, fmt.Sprint("node-", i))}
		var err error
		if n.addr, err = freeAddr(); err != nil {
			return nil, err
		}
		if n.peer, err = freeAddr(); err != nil {
			return nil, err
		}
		if n.metrics, err = freeAddr(); err != nil {
			return nil, err
		}
		if i > 0 {
			n.join = c.nodes[0].peer
		}
		c.nodes = append(c.nodes, n)
	}
	for i, n := range c.nodes {
		if err := c.start(ctx, n); err != nil {
			c.close()
			return nil, err
		}
		if i == 0 {
			continue
		}
		err := c.admin(ctx, c.nodes[0].addr, 30*time.Second, func(ctx context.Context, admin logcorev1.AdminServiceClient) error {
			_, err := admin.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: n.peer})
			return err
		})
		if err != nil {
			c.close()
			return nil, fmt.Errorf("add member %d: %w", i, err)
		}
	}
	return c, nil
}

// freeAddr returns an address of loopback that nobody listens at.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (c *cluster) start(ctx context.Context, n *node) (err error) {
	args := []string{"--dir", n.dir, "--listen", n.addr, "--peer-listen", n.peer, "--metrics", n.metrics, "--log-level", "warn"}
	if n.join != "" {
		args = append(args, "--peers", n.join)
	}
	n.proc, err = proc.Start(ctx, n.dir+".log", filepath.Join(c.bin, "logsvc"), args...)
	return err
}

func (c *cluster) kill(n *node) {
	n.proc.Kill()
	n.proc = nil
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		if n.proc != nil {
			c.kill(n)
		}
	}
}

// served are the members' processes.
func (c *cluster) served() (list []served) {
	for _, n := range c.nodes {
		list = append(list, served{n.proc, n.metrics})
	}
	return list
}

// addrs are the members' addresses, as a client takes them.
func (c *cluster) addrs() string {
	var list []string
	for _, n := range c.nodes {
		list = append(list, n.addr)
	}
	return strings.Join(list, ",")
}

func (c *cluster) admin(ctx context.Context, addr string, within time.Duration, f func(context.Context, logcorev1.AdminServiceClient) error) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return f(ctx, logcorev1.NewAdminServiceClient(conn))
}

// leader returns the member that leads, by its own word.
func (c *cluster) leader(ctx context.Context) (*node, error) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		for _, n := range c.nodes {
			if n.proc == nil {
				continue
			}
			var st *logcorev1.ClusterStatusResponse
			err := c.admin(ctx, n.addr, time.Second, func(ctx context.Context, admin logcorev1.AdminServiceClient) (err error) {
				st, err = admin.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
				return err
			})
			if err == nil && st.Leader == st.Node && st.Leader != 0 {
				return n, nil
			}
		}
	}
	return nil, errors.Join(errors.New("nobody leads within 30 s"), ctx.Err())
}

// level waits until every member is in contact and holds what was committed when it was asked first, so that a kill of the leader
// leaves a quorum that knows everything. One that was just started and lacks something may not vote for a second.
func (c *cluster) level(ctx context.Context) error {
	committed := uint64(0)
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		n, err := c.leader(ctx)
		if err != nil {
			return err
		}
		var st *logcorev1.ClusterStatusResponse
		err = c.admin(ctx, n.addr, time.Second, func(ctx context.Context, admin logcorev1.AdminServiceClient) (err error) {
			st, err = admin.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
			return err
		})
		if err != nil {
			continue
		}
		if committed == 0 {
			committed = st.CommittedLsn
		}
		ok := len(st.Members) == len(c.nodes)
		for _, m := range st.Members {
			ok = ok && m.Role == "voter" && (m.Node == st.Leader || m.Active && !m.Behind && m.MatchLsn >= committed)
		}
		if ok {
			return nil
		}
	}
	return errors.Join(errors.New("a member is still behind after 60 s"), ctx.Err())
}
