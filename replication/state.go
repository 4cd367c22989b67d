package replication

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

func newIncarnation() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// soleMember is the state of a group of one.
func soleMember(shard logcore.ShardID, member uint64) memberState {
	autoLeave := false
	return memberState{Shard: shard, Member: member, Incarnation: newIncarnation(), AnnounceIncarnation: true,
		Members: &raftpb.ConfState{Voters: []uint64{member}, AutoLeave: &autoLeave}}
}

// loadState opens the member's state, which it creates for a log that is empty.
func loadState(opts Options, log *hotlog.Log) (*stateFile, memberState, error) {
	dir := opts.Log.Dir
	sf, s, bad, err := openState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if log.Last() != 0 {
			return nil, s, fmt.Errorf("%w: %s is missing beside a log of LSNs %d to %d: if the directory was rebuilt from the archive, initialise it with InitRestored; if the file was lost, this member may have voted and must be replaced",
				logcore.ErrInvalid, statePath(dir), log.First(), log.Last())
		}
		if err := createState(dir, soleMember(opts.Log.Shard, opts.Member)); err != nil {
			return nil, s, err
		}
		sf, s, bad, err = openState(dir)
	}
	if errors.Is(err, logcore.ErrCorrupt) || bad != nil {
		opts.Log.Corruptions.Inc()
	}
	if err != nil {
		return nil, s, err
	}
	if bad != nil {
		opts.Log.Logger.Warn("replication: one of the two copies of the member's state was damaged; it was written again from the other, nothing is lost", "err", bad)
	}
	if s.Shard != opts.Log.Shard || s.Member != opts.Member {
		return nil, s, errors.Join(fmt.Errorf("%w: %s belongs to member %d of shard %d, not to member %d of shard %d", logcore.ErrInvalid, statePath(dir), s.Member, s.Shard, opts.Member, opts.Log.Shard), sf.close())
	}
	return sf, s, nil
}

// InitRestored makes a directory that hotlog.Import filled from the archive ready for
// Open: the group of one goes on above the term of the last entry, everything imported counts as
// committed, and the shard gets a new incarnation, which it returns. On return the
// state file is durable. A directory that has one is refused with logcore.ErrInvalid.
func InitRestored(opts Options, last logcore.Entry) (incarnation uint64, err error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return 0, err
	}
	if err := stateExists(opts.Log.Dir); err != nil {
		return 0, err
	}
	s := soleMember(opts.Log.Shard, opts.Member)
	s.Term, s.Commit = last.Term, uint64(last.LSN)
	return s.Incarnation, createState(opts.Log.Dir, s)
}

// soleVoter reports whether this member alone is the quorum.
func (s memberState) soleVoter() bool {
	v := s.Members.GetVoters()
	return len(v) == 1 && v[0] == s.Member && len(s.Members.GetVotersOutgoing()) == 0
}
