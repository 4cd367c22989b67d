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
	stateVersion     = 3          // what this build writes, and the oldest reader that understands it
	stateVersionMin  = 2          // the oldest that it reads
	stateFixedBytes  = 80
	stateFixedBytes2 = 72   // of version 2
	stateMembersMax  = 64   // of each of the four lists
	slotBytes        = 4096 // of each of the two slots; the longest state fits
	flagAutoLeave    = 1 << 0
	flagIncarnation  = 1 << 1
	flagStale        = 1 << 2
	stateFlagsKnown  = flagAutoLeave | flagIncarnation | flagStale
	stateFileName    = "raft.state"
	raftKindMembers1 = 1 // first byte of a KindRaft payload: a raftpb.ConfChange follows
	raftKindMembers2 = 2 // a raftpb.ConfChangeV2 follows
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the state as one slot.
func (s MemberState) encode() []byte {
	var flags uint32
	if s.Members.GetAutoLeave() {
		flags |= flagAutoLeave
	}
	if s.AnnounceIncarnation {
		flags |= flagIncarnation
	}
	if s.Stale {
		flags |= flagStale
	}
	b := make([]byte, 0, slotBytes)
	b = binary.LittleEndian.AppendUint32(b, stateMagic)
	b = binary.LittleEndian.AppendUint16(b, stateVersion)
	b = binary.LittleEndian.AppendUint16(b, stateVersion)
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
	b = binary.LittleEndian.AppendUint64(b, s.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.MembersLSN))
	for _, l := range lists {
		for _, id := range l {
			b = binary.LittleEndian.AppendUint64(b, id)
		}
	}
	return appendSum(b)[:slotBytes] // the rest is zero
}

func appendSum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func memberLists(c *raftpb.ConfState) [4][]uint64 {
	return [4][]uint64{c.GetVoters(), c.GetLearners(), c.GetVotersOutgoing(), c.GetLearnersNext()}
}

func stateDamage(path string, offset int64, format string, args ...any) error {
	return &logcore.CorruptionError{Place: path, Object: "raft state", Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// decodeSlot reads one slot of a state file. The error wraps logcore.ErrCorrupt or
// logcore.ErrUnsupportedVersion; path and offset name the place in it.
func decodeSlot(b []byte, path string, offset int64) (MemberState, error) {
	bad := func(format string, args ...any) (MemberState, error) {
		return MemberState{}, stateDamage(path, offset, format, args...)
	}
	if len(b) < 8 {
		return bad("a slot of %d bytes, want %d", len(b), slotBytes)
	}
	if magic := binary.LittleEndian.Uint32(b); magic != stateMagic {
		return bad("magic %#08x", magic)
	}
	// The version before the checksum: another version may checksum otherwise.
	version := binary.LittleEndian.Uint16(b[4:])
	if err := checkVersion(version, binary.LittleEndian.Uint16(b[6:]), path, offset); err != nil {
		return MemberState{}, err
	}
	if len(b) != slotBytes {
		return bad("a slot of %d bytes, want %d", len(b), slotBytes)
	}
	var lists [4][]uint64
	end := stateFixedBytes
	if version == 2 {
		end = stateFixedBytes2
	}
	for i := range lists {
		n := int(binary.LittleEndian.Uint16(b[56+2*i:]))
		if n > stateMembersMax {
			return bad("a list of %d members, at most %d", n, stateMembersMax)
		}
		for ; n > 0; n-- {
			lists[i] = append(lists[i], binary.LittleEndian.Uint64(b[end:]))
			end += 8
		}
	}
	if got, want := crc32.Checksum(b[:end], castagnoli), binary.LittleEndian.Uint32(b[end:]); got != want {
		return bad("checksum %08x, want %08x", got, want)
	}
	for _, padding := range b[end+4:] {
		if padding != 0 {
			return bad("padding is not zero")
		}
	}
	flags := binary.LittleEndian.Uint32(b[8:])
	known := uint32(stateFlagsKnown)
	if version == 2 {
		known &^= flagStale
	}
	if extra := flags &^ known; extra != 0 {
		return MemberState{}, fmt.Errorf("%w: %s: unknown flags %#x: use a newer build", logcore.ErrUnsupportedVersion, path, extra)
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	autoLeave := flags&flagAutoLeave != 0
	s := MemberState{Shard: logcore.ShardID(binary.LittleEndian.Uint32(b[12:])), Member: u64(16), Incarnation: u64(24),
		AnnounceIncarnation: flags&flagIncarnation != 0, Stale: flags&flagStale != 0, Term: u64(32), Vote: u64(40), Commit: u64(48), seq: u64(64),
		Members: &raftpb.ConfState{Voters: lists[0], Learners: lists[1], VotersOutgoing: lists[2], LearnersNext: lists[3], AutoLeave: &autoLeave}}
	if version > 2 {
		s.MembersLSN = logcore.LSN(u64(72))
	}
	if s.Member == 0 || s.Incarnation == 0 || s.seq == 0 {
		return bad("member %d, incarnation %#x, slot sequence %d: none may be 0", s.Member, s.Incarnation, s.seq)
	}
	return s, nil
}

func checkVersion(version, min uint16, path string, offset int64) error {
	switch {
	case version == 0 || min == 0 || min > version:
		return stateDamage(path, offset, "format version %d with minimum reader %d", version, min)
	case min > stateVersion:
		return fmt.Errorf("%w: %s: format version %d needs a reader of at least %d, this build reads %d: use a newer build", logcore.ErrUnsupportedVersion, path, version, min, stateVersion)
	case version < stateVersionMin:
		return fmt.Errorf("%w: %s: format version %d, from before the first release, this build reads %d to %d: start with an empty directory", logcore.ErrUnsupportedVersion, path, version, stateVersionMin, stateVersion)
	}
	return nil
}
