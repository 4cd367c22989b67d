package replchaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/loadtest/proc"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

const nodes = 3

// node is one log service; proc is nil while it is dead.
type node struct {
	i    int
	disk *disk
	proc *proc.Process
}

func (n *node) addr() string { return fmt.Sprintf("%s.%d:%s", clientNet, 11+n.i, servePort) }
func (n *node) peer() string { return fmt.Sprintf("%s.%d:%s", peerNet, 11+n.i, peerPort) }

// start starts the service in its namespace and waits until it is ready.
func (w *world) start(ctx context.Context, n *node) (err error) {
	f := files(w.dir, fmt.Sprint("node-", n.i))
	// nsenter, not ip netns exec: that gives the process mounts of its own, which would keep a
	// file system in use that was unmounted here.
	args := []string{"--net=/var/run/netns/" + namespace(n.i), filepath.Join(w.opts.Bin, "logsvc"), "--dir", filepath.Join(n.disk.mount, "log"), "--listen", n.addr(), "--metrics", "",
		"--peer-listen", n.peer(), "--peer-ca", f.CA, "--peer-cert", f.Cert, "--peer-key", f.Key, "--tls-ca", f.CA, "--tls-cert", f.Cert, "--tls-key", f.Key,
		"--segment-bytes", "16MiB", "--disk-reserve-bytes", "16MiB", "--log-level", "info"}
	if n.i > 0 {
		args = append(args, "--peers", w.nodes[0].peer())
	}
	n.proc, err = proc.Start(ctx, filepath.Join(w.dir, fmt.Sprintf("node-%d.log", n.i)), "nsenter", args...)
	return err
}

// form starts the nodes and makes them a cluster.
func (w *world) form(ctx context.Context) error {
	for i, n := range w.nodes {
		if err := w.start(ctx, n); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		err := w.admin(ctx, w.nodes[0].addr(), 30*time.Second, func(ctx context.Context, c logcorev1.AdminServiceClient) error {
			_, err := c.AddMember(ctx, &logcorev1.AddMemberRequest{PeerAddress: n.peer()})
			return err
		})
		if err != nil {
			return fmt.Errorf("add node %d: %w", i, err)
		}
	}
	return nil
}

func (w *world) admin(ctx context.Context, addr string, within time.Duration, f func(context.Context, logcorev1.AdminServiceClient) error) error {
	conn, err := client.NewConn(addr, w.clientOptions(addr))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return f(ctx, logcorev1.NewAdminServiceClient(conn))
}

// leader returns the node that says that it leads, with the highest term.
func (w *world) leader(ctx context.Context, within time.Duration) (*node, error) {
	for end := time.Now().Add(within); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		var found *node
		var term uint64
		for _, n := range w.nodes {
			if n.proc == nil {
				continue
			}
			_ = w.admin(ctx, n.addr(), 500*time.Millisecond, func(ctx context.Context, c logcorev1.AdminServiceClient) error {
				st, err := c.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
				if err == nil && st.Leader == st.Node && st.Term > term {
					found, term = n, st.Term
				}
				return err // who does not answer does not count
			})
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("nobody leads within %v", within), ctx.Err())
}
