package logsvc

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// leaderConn is the way to the member that leads, for a member that is asked for a read of
// bounded staleness. It is made when it is first needed, and again when somebody else leads.
type leaderConn struct {
	certs *certs.Certificates // nil: plain text

	mu   sync.Mutex
	addr string           // guarded by mu
	conn *grpc.ClientConn // guarded by mu
}

func (l *leaderConn) to(addr string) (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && l.addr == addr {
		return l.conn, nil
	}
	creds := insecure.NewCredentials()
	switch host, _, err := net.SplitHostPort(addr); {
	case err != nil:
		return nil, fmt.Errorf("logsvc: leader at %q: %w", addr, err)
	case l.certs != nil:
		creds = credentials.NewTLS(l.certs.Client(host))
	case !certs.Loopback(addr):
		return nil, fmt.Errorf("%w: logsvc: leader at %s: plain text is for loopback addresses only: set tls_cert, tls_key and tls_ca", logcore.ErrInvalid, addr)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, fmt.Errorf("logsvc: leader at %q: %w", addr, err)
	}
	l.closeLocked()
	l.addr, l.conn = addr, conn
	return conn, nil
}

func (l *leaderConn) closeLocked() {
	if l.conn != nil {
		_ = l.conn.Close() // calls under way on it fail, and are tried again
		l.conn = nil
	}
}

func (l *leaderConn) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked()
}

// follow asks the leader how far the shard is, and waits until this member is as far: then
// it was complete when it asked.
func (s *Service) follow(ctx context.Context, leader uint64, log string) error {
	elsewhere := &logcore.NotLeaderError{Shard: s.group.Shard(), Leader: leader}
	addr := s.opts.AddressOf(leader)
	if addr == "" {
		return elsewhere
	}
	conn, err := s.leader.to(addr)
	if err != nil {
		return err
	}
	info, err := logcorev1.NewLogCoreServiceClient(conn).Info(ctx, &logcorev1.InfoRequest{Log: log})
	if err != nil {
		if ctx.Err() != nil {
			return elsewhere
		}
		return wire.FromStatus(err)
	}
	if info.Shard != uint32(s.group.Shard()) {
		return &logcore.MovedError{Log: log, Shard: logcore.ShardID(info.Shard)}
	}
	for {
		changed := s.group.Changed()
		if s.group.Committed() >= logcore.LSN(info.CommittedLsn-info.BaseLsn) {
			return nil
		}
		if err := s.group.Err(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return elsewhere // it lags: whoever asks is better off there
		}
	}
}

// freshFor returns once what this member shows of a log was complete at most so long ago;
// with a bound of 0 only the one that leads can say so.
func (s *Service) freshFor(ctx context.Context, bound time.Duration, log string) error {
	st := s.group.Status()
	if bound <= 0 || st.Leading || s.alone() || st.Leader == 0 {
		return s.fresh(ctx, bound)
	}
	begun := time.Since(s.started)
	if begun-time.Duration(s.freshAt.Load()) <= bound {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	if err := s.follow(ctx, st.Leader, log); err != nil {
		return err
	}
	s.wasFresh(begun)
	return nil
}
