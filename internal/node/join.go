package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/importer"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/internal/pause"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
	"github.com/logcore/logcore/replication/transport"
)

// JoinOptions says how a fresh directory becomes that of a node of an existing cluster.
type JoinOptions struct {
	// Log configures the hot log of shard 0, whose directory must hold none; the other shards' are beside it.
	Log hotlog.Options
	// Peers are addresses of nodes of the cluster; one that answers is enough.
	Peers        []string
	Certificates *certs.Certificates
}

// askWithin bounds one question to another node.
const askWithin = 5 * time.Second

// Cluster asks the peers which cluster they belong to. All that answer must say the same.
func Cluster(ctx context.Context, peers []string, certificates *certs.Certificates) (id [16]byte, err error) {
	answers, err := ask(ctx, peers, certificates)
	for _, a := range answers {
		if len(a.Cluster) != len(id) {
			return id, fmt.Errorf("%w: node %x says that its cluster is %x", logcore.ErrInvalid, a.Node, a.Cluster)
		}
		if id != ([16]byte{}) && id != [16]byte(a.Cluster) {
			return id, fmt.Errorf("%w: the peers belong to different clusters: %x and %x", logcore.ErrInvalid, id, a.Cluster)
		}
		id = [16]byte(a.Cluster)
	}
	return id, err
}

// ask returns the answers of those peers that give one; an error when none does.
func ask(ctx context.Context, peers []string, certificates *certs.Certificates) (answers []*logcorev1.IdentifyResponse, err error) {
	var errs []error
	for _, addr := range peers {
		a, err := Identify(ctx, addr, certificates, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		answers = append(answers, a)
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("no peer answers: %w", errors.Join(errs...))
	}
	return answers, nil
}

// Identify asks the node at an address who it is; cluster is that which it must belong to, empty for any.
func Identify(ctx context.Context, addr string, certificates *certs.Certificates, cluster []byte) (*logcorev1.IdentifyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	conn, err := transport.Dial(addr, certificates)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	a, err := logcorev1.NewPeerServiceClient(conn).Identify(ctx, &logcorev1.IdentifyRequest{Cluster: cluster})
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", addr, err)
	}
	if off := time.Until(time.UnixMilli(int64(a.TimeMs))); off.Abs() > logcore.ClockAheadMax {
		return nil, fmt.Errorf("%w: peer %s: its clock is %v off this machine's, at most %v are allowed: set them (NTP)", transport.ErrRefused, addr, off.Abs().Round(time.Second), logcore.ClockAheadMax)
	}
	return a, nil
}

// Join makes a fresh directory that of a node of the peers' cluster: under a random id, without a vote, with
// the beginning of each shard's log where that is no longer LSN 1. The cluster knows nothing of the node until one of
// its members takes it in (Node.AddMember). A directory that has been joined, or is in use, is left as it is. A
// join that did not finish begins again.
func Join(ctx context.Context, opts JoinOptions) error {
	dir := opts.Log.Dir
	if _, err := replication.ReadState(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, finished(dir)) // joined before, or can't be read
	}
	answers, err := ask(ctx, opts.Peers, opts.Certificates)
	if err != nil {
		return fmt.Errorf("node: join: %w", err)
	}
	shards := uint32(0)
	for _, a := range answers {
		for _, g := range a.Groups {
			shards = max(shards, g.Shard+1)
		}
	}
	id := uint64(0)
	for shard := uint32(1); shard < min(shards, catalog.ShardsMax); shard++ {
		if s, err := replication.ReadState(shardDir(filepath.Dir(dir), logcore.ShardID(shard))); err == nil {
			id = s.Member // of a join that did not finish; nobody has heard of it
		}
	}
	if id == 0 {
		id = replication.NewMemberID()
	}
	// Shard 0 last: with it the directory is a node's.
	for shard := int(min(shards, catalog.ShardsMax)) - 1; shard >= 0; shard-- {
		o := opts
		o.Log.Dir, o.Log.Shard = shardDir(filepath.Dir(dir), logcore.ShardID(shard)), logcore.ShardID(shard)
		if shard == 0 {
			o.Log = opts.Log
		}
		if err := joinShard(ctx, o, answers, id); err != nil {
			return err
		}
	}
	return nil
}

// joinShard is Join of one shard.
func joinShard(ctx context.Context, opts JoinOptions, answers []*logcorev1.IdentifyResponse, id uint64) error {
	dir := opts.Log.Dir
	if _, err := replication.ReadState(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, finished(dir))
	}
	if err := emptied(dir); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("node: join: %w", err)
	}
	if err := durable.WriteFile(dir+joiningSuffix, []byte("the directory beside this file is being filled by a node that joins a cluster\n"), 0o600); err != nil {
		return fmt.Errorf("node: join: %w", err)
	}
	from, group := best(answers, uint32(opts.Log.Shard))
	if group == nil {
		return fmt.Errorf("node: join: %w: no peer has shard %d", logcore.ErrInvalid, opts.Log.Shard)
	}
	commit := logcore.LSN(0)
	if group.FirstLsn > 1 {
		var err error
		if commit, err = importBeginning(ctx, opts, answers, from, group); err != nil {
			return fmt.Errorf("node: join: %w", err)
		}
	}
	seeds := map[uint64]string{}
	for _, a := range answers {
		seeds[a.Node] = a.PeerAddress
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("node: join: %w", err)
	}
	if opts.Log.Shard == 0 {
		if err := writeSeeds(dir, seeds); err != nil {
			return err
		}
	}
	state := replication.JoiningState(opts.Log.Shard, id, group.Incarnation,
		replication.Members{Voters: group.Voters, Learners: group.Learners, Outgoing: group.Outgoing, LearnersNext: group.LearnersNext, LSN: logcore.LSN(group.MembersLsn)})
	state.Commit = uint64(commit)
	// Commit point: with the state the directory is a node's.
	if err := replication.CreateState(dir, state); err != nil {
		return err
	}
	return finished(dir)
}

// finished removes the marker of a join.
func finished(dir string) error {
	if err := os.Remove(dir + joiningSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("node: join: %w", err)
	}
	return nil
}

// emptied removes what a join that did not finish left, and refuses a directory with anything else.
func emptied(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node: join: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	if _, err := os.Stat(dir + joiningSuffix); err != nil {
		return fmt.Errorf("%w: node: join: %s holds a log without a member's state: give an empty directory", logcore.ErrInvalid, dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("node: join: %w", err)
	}
	return nil
}

// joiningSuffix makes the name of the file that stands beside a directory while it is filled.
const joiningSuffix = ".joining"

// best returns the answer of the node to copy from: of those that know most, the one whose log begins first.
func best(answers []*logcorev1.IdentifyResponse, shard uint32) (from *logcorev1.IdentifyResponse, group *logcorev1.GroupState) {
	for _, a := range answers {
		for _, g := range a.Groups {
			if g.Shard == shard && (group == nil || g.MembersLsn > group.MembersLsn || g.MembersLsn == group.MembersLsn && g.FirstLsn < group.FirstLsn) {
				from, group = a, g
			}
		}
	}
	return from, group
}

// importTriesMax bounds the attempts in a row that bring nothing.
const importTriesMax = 10

// importBeginning copies the oldest segment of a peer, as far as it is committed, and returns the last LSN: the rest
// comes as to any other member that lags. Where the connection breaks it goes on from there, at the next peer that has the segment.
func importBeginning(ctx context.Context, opts JoinOptions, answers []*logcorev1.IdentifyResponse, from *logcorev1.IdentifyResponse, group *logcorev1.GroupState) (last logcore.LSN, err error) {
	log := opts.Log
	log.LogOf = catalog.LogOf
	sources := holders(answers, from, group)
	err = importer.Import(ctx, log, func(yield func(segment.Span, error) bool) {
		next := logcore.LSN(group.FirstLsn)
		for tries, at := 0, 0; ; at++ {
			before := next
			over, err := importPart(ctx, opts, sources[at%len(sources)], from.Cluster, group, &next, yield)
			if last = next - 1; over || err == nil {
				return
			}
			if tries++; next > before {
				tries = 0
			}
			if tries >= importTriesMax || !pause.For(ctx, askAgain<<min(tries, 5)) {
				yield(segment.Span{}, err)
				return
			}
		}
	})
	return last, err
}

// holders returns the peer addresses of those who have the segment that a group begins with, from first.
func holders(answers []*logcorev1.IdentifyResponse, from *logcorev1.IdentifyResponse, group *logcorev1.GroupState) []string {
	list := []string{from.PeerAddress}
	for _, a := range answers {
		for _, g := range a.Groups {
			if g.Shard == group.Shard && g.Incarnation == group.Incarnation && g.FirstLsn <= group.FirstLsn && a.PeerAddress != from.PeerAddress {
				list = append(list, a.PeerAddress)
			}
		}
	}
	return list
}

// importPart yields what one peer has of the segment from next on, which it moves. over says that the consumer has enough, or that the segment is
// whole.
func importPart(ctx context.Context, opts JoinOptions, addr string, cluster []byte, group *logcorev1.GroupState, next *logcore.LSN, yield func(segment.Span, error) bool) (over bool, err error) {
	conn, err := transport.Dial(addr, opts.Certificates)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	req := &logcorev1.FetchRequest{Cluster: cluster, Shard: group.Shard, Incarnation: group.Incarnation, FromLsn: uint64(*next)}
	for span, err := range fetchFrom(ctx, conn, req) {
		switch {
		case err != nil:
			return false, fmt.Errorf("node at %s: %w", addr, err)
		case span.ID.First != logcore.LSN(group.FirstLsn):
			return true, nil // the next segment
		case !yield(span, nil):
			return true, nil
		}
		*next = span.Last + 1
	}
	return false, nil
}
