package roles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/internal/node"
	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/replication"
)

// askPeersEvery is how often peers that don't answer yet are asked again.
const askPeersEvery = 500 * time.Millisecond

// meetPeers finds out, for a directory that is to join a cluster, which one that is, and makes the directory one of that
// cluster.
func (s *logService) meetPeers(ctx context.Context) error {
	if s.cfg.PeerListen == "" || len(s.cfg.Peers) == 0 {
		return nil
	}
	if _, err := replication.ReadState(s.shardDir(0)); !errors.Is(err, fs.ErrNotExist) {
		return nil // it is a node's already, or damaged: openGroup will see
	}
	certificates, err := s.certificates()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leadWithin)
	defer cancel()
	id, err := node.Cluster(ctx, s.cfg.Peers, certificates)
	for err != nil {
		s.process.log.Warn("no peer answers yet; asking again", "peers", s.cfg.Peers, "err", err)
		select {
		case <-time.After(askPeersEvery):
		case <-ctx.Done():
			return fmt.Errorf("%w; to found a new cluster start the first node without peers", err)
		}
		id, err = node.Cluster(ctx, s.cfg.Peers, certificates)
	}
	s.joining = true
	have, err := cluster.ReadIdentity(s.cfg.Dir)
	switch {
	case err == nil && have.ID != cluster.ID(id):
		return fmt.Errorf("%w: %s belongs to cluster %v, the peers to %v", logcore.ErrInvalid, s.cfg.Dir, have.ID, cluster.ID(id))
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := durable.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	return cluster.Write(s.cfg.Dir, cluster.Identity{ID: cluster.ID(id), Marked: len(s.cfg.Targets) > 0})
}

func (s *logService) certificates() (*certs.Certificates, error) {
	if s.cfg.PeerCert == "" {
		return nil, nil
	}
	return certs.Load(certs.Options{Files: certs.Files{Cert: s.cfg.PeerCert, Key: s.cfg.PeerKey, CA: s.cfg.PeerCA}, Logger: s.process.log})
}

// replicateInCluster opens the node, after it has joined where that is due.
func (s *logService) replicateInCluster(ctx context.Context) ([]*replication.Group, error) {
	certificates, err := s.certificates()
	if err != nil {
		return nil, err
	}
	join := node.Join
	if !s.joining {
		join = node.JoinMore
	}
	if err := join(ctx, node.JoinOptions{Log: s.hotLog(0), Peers: s.cfg.Peers, Certificates: certificates}); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", s.cfg.PeerListen)
	if err != nil {
		return nil, fmt.Errorf("peer_listen: %w", err)
	}
	opts := node.Options{Cluster: s.identity.ID, Log: s.hotLog(0), LogOf: s.hotLog, Shards: s.cfg.Shards, Listener: l, PeerAddress: s.cfg.PeerAddress, Address: s.address, Certificates: certificates, Logger: s.process.log,
		Reopen: func(more *node.MoreShards) { s.process.group.fail("shards", more) }}
	if len(s.targets.All) > 0 {
		opts.Archived = s.archived
	}
	n, err := node.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	s.node = n
	s.process.log.Info("node of a cluster", "cluster", s.identity.ID, "node", fmt.Sprintf("%x", n.ID()), "peer_address", n.PeerAddress())
	return n.Groups(), nil
}

// archived yields archived entries as spans of the hot log.
func (s *logService) archived(ctx context.Context, shard logcore.ShardID, from, to logcore.LSN) iter.Seq2[segment.Span, error] {
	return func(yield func(segment.Span, error) bool) {
		r, err := (&shardPart{logService: s, id: shard}).openReader(ctx)
		if err != nil {
			yield(segment.Span{}, err)
			return
		}
		if covered := r.Covered(); covered < to {
			to = covered // the rest is with the other members
		}
		for span, err := range r.Spans(ctx, from, to) {
			if err != nil {
				yield(segment.Span{}, err)
				return
			}
			if !yield(recovery.ToHotLog(span), nil) {
				return
			}
		}
	}
}
