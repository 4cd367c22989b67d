package replication

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
)

// Byte layouts; FORMAT.md has the tables and the history. Every number is little-endian.
const (
	stateMagic       = 0x5446524c // "LRFT"
	formatVersion    = 1
	minReader        = 1
	stateFixedBytes  = 72
	stateMembersMax  = 64 // of each of the four lists
	stateBytesMax    = stateFixedBytes + 4*stateMembersMax*8 + 4
	flagAutoLeave    = 1 << 0
	flagIncarnation  = 1 << 1
	stateFlagsKnown  = flagAutoLeave | flagIncarnation
	stateFileName    = "raft.state"
	raftKindMembers1 = 1 // first byte of a KindRaft payload: a raftpb.ConfChange follows
	raftKindMembers2 = 2 // a raftpb.ConfChangeV2 follows
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// memberState is what a member must remember besides the log.
type memberState struct {
	Shard  logcore.ShardID
	Member uint64
	// Incarnation of the shard. While AnnounceIncarnation is set the catalog does not
	// hold it yet: it was chosen here, when the shard was created or restored.
	Incarnation         uint64
	AnnounceIncarnation bool
	Term, Vote, Commit  uint64
	Members             *raftpb.ConfState
}

func (s memberState) encode() []byte {
	var flags uint32
	if s.Members.GetAutoLeave() {
		flags |= flagAutoLeave
	}
	if s.AnnounceIncarnation {
		flags |= flagIncarnation
	}
	b := make([]byte, 0, stateFixedBytes+32)
	b = binary.LittleEndian.AppendUint32(b, stateMagic)
	b = binary.LittleEndian.AppendUint16(b, formatVersion)
	b = binary.LittleEndian.AppendUint16(b, minReader)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.Shard))
	for _, v := range []uint64{s.Member, s.Incarnation, s.Term, s.Vote, s.Commit} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	lists := memberLists(s.Members)
	for _, l := range lists {
		if len(l) > stateMembersMax {
			panic(fmt.Sprintf("replication: %d members were not refused before", len(l)))
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(len(l)))
	}
	b = binary.LittleEndian.AppendUint64(b, 0) // reserved
	for _, l := range lists {
		for _, id := range l {
			b = binary.LittleEndian.AppendUint64(b, id)
		}
	}
	return appendSum(b)
}

func appendSum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func memberLists(c *raftpb.ConfState) [4][]uint64 {
	return [4][]uint64{c.GetVoters(), c.GetLearners(), c.GetVotersOutgoing(), c.GetLearnersNext()}
}

// decodeState reads a state file. The error wraps logcore.ErrCorrupt or
// logcore.ErrUnsupportedVersion; path names the file in it.
func decodeState(b []byte, path string) (memberState, error) {
	bad := func(format string, args ...any) (memberState, error) {
		return memberState{}, &logcore.CorruptionError{Place: path, Object: "raft state", Offset: -1, Reason: fmt.Sprintf(format, args...)}
	}
	if len(b) < stateFixedBytes+4 || len(b) > stateBytesMax {
		return bad("%d bytes, want %d to %d", len(b), stateFixedBytes+4, stateBytesMax)
	}
	if magic := binary.LittleEndian.Uint32(b); magic != stateMagic {
		return bad("magic %#08x", magic)
	}
	// The version before the checksum: another version may checksum otherwise.
	version, min := binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])
	if version == 0 || min == 0 || min > version {
		return bad("format version %d with minimum reader %d", version, min)
	}
	if min > formatVersion {
		return memberState{}, fmt.Errorf("%w: %s: format version %d needs a reader of at least %d, this build reads %d: use a newer build", logcore.ErrUnsupportedVersion, path, version, min, formatVersion)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return bad("checksum %08x, want %08x", got, sum)
	}
	flags := binary.LittleEndian.Uint32(b[8:])
	if extra := flags &^ stateFlagsKnown; extra != 0 {
		return memberState{}, fmt.Errorf("%w: %s: unknown flags %#x: use a newer build", logcore.ErrUnsupportedVersion, path, extra)
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(body[at:]) }
	s := memberState{Shard: logcore.ShardID(binary.LittleEndian.Uint32(b[12:])), Member: u64(16), Incarnation: u64(24),
		AnnounceIncarnation: flags&flagIncarnation != 0, Term: u64(32), Vote: u64(40), Commit: u64(48)}
	var lists [4][]uint64
	at := stateFixedBytes
	for i := range lists {
		for n := int(binary.LittleEndian.Uint16(body[56+2*i:])); n > 0; n-- {
			if at+8 > len(body) {
				return bad("member lists are cut short")
			}
			lists[i] = append(lists[i], u64(at))
			at += 8
		}
	}
	if at != len(body) || s.Member == 0 || s.Incarnation == 0 {
		return bad("%d bytes for member %d, incarnation %#x, %d bytes of lists", len(b), s.Member, s.Incarnation, at-stateFixedBytes)
	}
	autoLeave := flags&flagAutoLeave != 0
	s.Members = &raftpb.ConfState{Voters: lists[0], Learners: lists[1], VotersOutgoing: lists[2], LearnersNext: lists[3], AutoLeave: &autoLeave}
	return s, nil
}
