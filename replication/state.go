package replication

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

// NewMemberID returns a random Raft id for a fresh member: one that comes back with an empty
// disk is another member.
func NewMemberID() uint64 { return newIncarnation()>>1 | 1<<62 }

func newIncarnation() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the process instead
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// MemberState is what a member must remember besides the log.
type MemberState struct {
	seq    uint64 // of the slot; rises with every save
	Shard  logcore.ShardID
	Member uint64 // its Raft id
	// Incarnation of the shard. While AnnounceIncarnation is set the catalog does not
	// hold it yet: it was chosen here, when the shard was created or restored.
	Incarnation         uint64
	AnnounceIncarnation bool
	// Stale is set once the member was found to have lost what it had acknowledged: it takes no part
	// any more.
	Stale              bool
	Term, Vote, Commit uint64
	// Members as of MembersLSN: of the last entry that changed them, 0 for those the group was
	// founded with.
	Members    *raftpb.ConfState
	MembersLSN logcore.LSN
}

// FoundingState is the state of a member of a new group that these voters found
// together; every one of them must be given the same voters and the same incarnation, which is not 0.
func FoundingState(shard logcore.ShardID, member uint64, voters []uint64, incarnation uint64) MemberState {
	autoLeave := false
	return MemberState{Shard: shard, Member: member, Incarnation: incarnation, AnnounceIncarnation: true,
		Members: &raftpb.ConfState{Voters: slices.Sorted(slices.Values(voters)), AutoLeave: &autoLeave}}
}

// JoiningState is the state of a member that an existing group is about to take in as a
// learner: it votes for nobody until an entry of the log makes it a voter. now are the members that the
// group has, as any of them shows them: changes of members up to there are passed over in the log.
func JoiningState(shard logcore.ShardID, member, incarnation uint64, now Members) MemberState {
	autoLeave := false
	return MemberState{Shard: shard, Member: member, Incarnation: incarnation, MembersLSN: now.LSN,
		Members: &raftpb.ConfState{Voters: now.Voters, Learners: now.Learners, VotersOutgoing: now.Outgoing, LearnersNext: now.LearnersNext, AutoLeave: &autoLeave}}
}

// founding is the state that a fresh directory begins with.
func (o Options) founding() MemberState {
	if o.Found != nil {
		return *o.Found
	}
	id := o.Member
	if id == 0 {
		id = NewMemberID()
	}
	return soleMember(o.Log.Shard, id)
}

// soleMember is the state of a group of one.
func soleMember(shard logcore.ShardID, member uint64) MemberState {
	return FoundingState(shard, member, []uint64{member}, newIncarnation())
}

// votes reports whether a member is a voter, as far as this one knows.
func (s MemberState) votes(member uint64) bool {
	return slices.Contains(s.Members.GetVoters(), member) || slices.Contains(s.Members.GetVotersOutgoing(), member)
}

// loadState opens the member's state, which it creates for a log that is empty.
func loadState(opts Options, log *hotlog.Log) (*stateFile, MemberState, error) {
	dir := opts.Log.Dir
	sf, s, bad, err := openState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if log.Last() != 0 {
			return nil, s, fmt.Errorf("%w: %s is missing beside a log of LSNs %d to %d: if the directory was rebuilt from the archive, initialise it with InitRestored; if the file was lost, this member may have voted and must be replaced",
				logcore.ErrInvalid, statePath(dir), log.First(), log.Last())
		}
		if err := createState(dir, opts.founding()); err != nil {
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
	if s.Shard != opts.Log.Shard || opts.Member != 0 && s.Member != opts.Member {
		return nil, s, errors.Join(fmt.Errorf("%w: %s belongs to member %x of shard %d, not to member %x of shard %d", logcore.ErrInvalid, statePath(dir), s.Member, s.Shard, opts.Member, opts.Log.Shard), sf.close())
	}
	return sf, s, nil
}

// InitRestored makes a directory that importer.Import filled from the archive ready for
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
	s := opts.founding()
	s.Term, s.Commit = last.Term, uint64(last.LSN)
	return s.Incarnation, createState(opts.Log.Dir, s)
}

// soleVoter reports whether this member alone is the quorum.
func (s MemberState) soleVoter() bool {
	v := s.Members.GetVoters()
	return len(v) == 1 && v[0] == s.Member && len(s.Members.GetVotersOutgoing()) == 0
}
