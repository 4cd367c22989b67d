package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// What is said about the archive is said of every shard's, and each shard is archived by the member that leads it. So the
// client goes from shard to shard. When it ends between two, or one refuses, the archives differ: the service's status says
// so, and the same command again makes them alike, for each step of it changes nothing where it was taken before.

// ShardError says which shard's archive a command failed at, and which it was carried out at.
type ShardError struct {
	Shard logcore.ShardID
	Done  []logcore.ShardID
	Err   error
}

// Error says what is to be done, too.
func (e *ShardError) Error() string {
	if len(e.Done) == 0 {
		return fmt.Sprintf("shard %d: %v", e.Shard, e.Err)
	}
	done := make([]string, len(e.Done))
	for i, shard := range e.Done {
		done[i] = fmt.Sprint(shard)
	}
	return fmt.Sprintf("shard %d: %v; it is done in shard %s: the same command again does the rest", e.Shard, e.Err, strings.Join(done, ", "))
}

// Unwrap returns the shard's error.
func (e *ShardError) Unwrap() error { return e.Err }

// Shards returns how many shards the service has.
func (c *Client) Shards(ctx context.Context) (int, error) {
	st, err := c.Status(ctx)
	return len(st.Shards), err
}

// eachShard calls f for every shard, also behind one at which it failed: what can be done is. Only when the first one
// refuses are the others left alone. With one shard the error is f's own.
func (c *Client) eachShard(ctx context.Context, f func(shard logcore.ShardID) error) error {
	n, err := c.Shards(ctx)
	if err != nil {
		return err
	}
	if n <= 1 {
		return f(0)
	}
	var failed *ShardError
	var done []logcore.ShardID
	for i := range n {
		shard := logcore.ShardID(i)
		err := f(shard)
		if err == nil {
			done = append(done, shard)
			continue
		}
		if failed == nil {
			failed = &ShardError{Shard: shard, Err: err}
		}
		if i == 0 && !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			break
		}
	}
	if failed == nil {
		return nil
	}
	failed.Done = done
	return failed
}

// atShard is unary of the archive of a shard, at the member that leads it.
func atShard[Resp any](ctx context.Context, c *Client, shard logcore.ShardID, s safety, call func(context.Context, logcorev1.ArchiveServiceClient) (Resp, error)) (Resp, error) {
	return unary(ctx, c, c.router.about(shard), s, func(ctx context.Context, m *member) (Resp, error) { return call(ctx, m.archive) })
}

// about returns a name that stands for a shard itself where a log's is asked for; no log can have it.
func (r *router) about(shard logcore.ShardID) string {
	if shard == 0 {
		return ""
	}
	name := fmt.Sprintf("\x00shard %d", shard)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shards[name] = shard
	return name
}

// everyMember calls f for each member of the cluster, the only one when it is none. Those that could not be reached are in the
// error, by their addresses; the others were called all the same. A refusal ends it at once.
func (c *Client) everyMember(ctx context.Context, f func(ctx context.Context, m *member) error) error {
	st, err := unary(ctx, c, "", idempotent, func(ctx context.Context, m *member) (*logcorev1.ClusterStatusResponse, error) {
		return m.admin.ClusterStatus(ctx, &logcorev1.ClusterStatusRequest{})
	})
	var refusal *wire.RemoteError
	switch {
	case errors.As(err, &refusal) && refusal.Code == codes.FailedPrecondition:
		return f(ctx, c.router.to("")) // no node of a cluster
	case err != nil:
		return err
	}
	var errs []error
	for _, node := range st.Members {
		m := c.router.at(node.Address)
		if m == nil {
			errs = append(errs, fmt.Errorf("%w: member %016x has no address yet", ErrUnavailable, node.Node))
			continue
		}
		if err := c.reach(ctx, m, f); err != nil {
			if !errors.Is(err, ErrUnavailable) {
				return err
			}
			errs = append(errs, fmt.Errorf("member %016x at %s: %w: the same command again, once it is back, tells it", node.Node, node.Address, err))
		}
	}
	return errors.Join(errs...)
}

// reach calls f at one member, which may be down.
func (c *Client) reach(ctx context.Context, m *member, f func(ctx context.Context, m *member) error) error {
	m.conn.ResetConnectBackoff() // it may be back
	if !connected(ctx, m.conn, c.opts.establish()) {
		return fmt.Errorf("%w to %s", errUnsent, m.addr)
	}
	return f(ctx, m)
}

// at returns the member at an address.
func (r *router) at(addr string) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.knownLocked(addr)
}
