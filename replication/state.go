package replication

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/internal/durable"
)

func statePath(dir string) string { return filepath.Join(dir, stateFileName) }

// readState reads the state file of a shard's directory; fs.ErrNotExist when there is none.
func readState(dir string) (memberState, error) {
	path := statePath(dir)
	f, err := os.Open(path)
	if err != nil {
		return memberState{}, err
	}
	defer f.Close()
	b := make([]byte, stateBytesMax+1) // one more than the longest, so that a longer one shows
	n, err := readFull(f, b)
	if err != nil {
		return memberState{}, fmt.Errorf("replication: %s: %w", path, err)
	}
	return decodeState(b[:n], path)
}

func readFull(f *os.File, b []byte) (int, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	n, err := f.ReadAt(b[:min(int64(len(b)), info.Size())], 0)
	return n, err
}

func writeState(dir string, s memberState) error {
	if err := durable.WriteFile(statePath(dir), s.encode(), 0o644); err != nil {
		return fmt.Errorf("replication: %s: %w", statePath(dir), err)
	}
	return nil
}

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

// loadState returns the member's state, which it creates for a log that is empty.
func loadState(opts Options, log *hotlog.Log) (memberState, error) {
	dir := opts.Log.Dir
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if log.Last() != 0 {
			return s, fmt.Errorf("%w: %s is missing beside a log of LSNs %d to %d: if the directory was rebuilt from the archive, initialise it with InitRestored; if the file was lost, this member may have voted and must be replaced",
				logcore.ErrInvalid, statePath(dir), log.First(), log.Last())
		}
		s = soleMember(opts.Log.Shard, opts.Member)
		return s, writeState(dir, s)
	}
	if err != nil {
		return s, err
	}
	if s.Shard != opts.Log.Shard || s.Member != opts.Member {
		return s, fmt.Errorf("%w: %s belongs to member %d of shard %d, not to member %d of shard %d", logcore.ErrInvalid, statePath(dir), s.Member, s.Shard, opts.Member, opts.Log.Shard)
	}
	return s, nil
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
	if _, err := os.Stat(statePath(opts.Log.Dir)); !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %s: exists, or can't be looked at (%v): restore into a fresh directory", logcore.ErrInvalid, statePath(opts.Log.Dir), err)
	}
	s := soleMember(opts.Log.Shard, opts.Member)
	s.Term, s.Commit = last.Term, uint64(last.LSN)
	return s.Incarnation, writeState(opts.Log.Dir, s)
}

// soleVoter reports whether this member alone is the quorum.
func (s memberState) soleVoter() bool {
	v := s.Members.GetVoters()
	return len(v) == 1 && v[0] == s.Member && len(s.Members.GetVotersOutgoing()) == 0
}
