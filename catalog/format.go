package catalog

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
)

// Byte layouts; FORMAT.md has the tables and the history. Every number is little-endian.
const (
	recordMagic     = 0x524c // "LR"
	commandMagic    = 0x4d4c // "LM"
	checkpointMagic = 0x504b434c

	// The versions this build writes; each is also the oldest reader that understands
	// it. A reader refuses what asks for a newer reader than itself.
	recordVersion = 1

	recordFlagErased = 1
	erasedBodyBytes  = 8 + 4
	catalogVersion   = 2 // of commands and checkpoints

	recordHeaderBytes     = 32
	commandHeaderBytes    = 56
	checkpointHeaderBytes = 40
	logFixedBytes         = 106

	checkpointFlagNodes     = 1 << 0 // nodes follow the logs
	checkpointFlagStripes   = 1 << 1 // page servers follow the nodes
	checkpointFlagHistory   = 1 << 2 // what is kept of the logs' histories follows the page servers
	checkpointFlagDirectory = 1 << 3 // the directory of all shards' logs follows the histories
	checkpointFlagsKnown    = checkpointFlagNodes | checkpointFlagStripes | checkpointFlagHistory | checkpointFlagDirectory
	nodeFixedBytes          = 12

	pageServerFlagDraining = 1 << 0
	pageServerFlagsKnown   = pageServerFlagDraining

	logFlagWriterOpen = 1 << 0
	logFlagArchive    = 1 << 1 // acknowledged when archived
	logFlagMoving     = 1 << 2 // its moves and extents follow its places
	logFlagGone       = 1 << 3 // it has left for another shard
	logFlagsKnown     = logFlagWriterOpen | logFlagArchive | logFlagMoving | logFlagGone

	placementFlagCreating = 1 << 0 // a branch that is to be created
	placementFlagArchive  = 1 << 1 // it is created as a log that is acknowledged when archived
	placementFlagsKnown   = placementFlagCreating | placementFlagArchive

	commandFlagArchive  = 1 << 0 // of create: acknowledged when archived
	commandFlagDraining = 1 << 1 // of page-servers: it is to hold nothing
	commandFlagsKnown   = commandFlagArchive | commandFlagDraining
)

// RecordHeaderBytes is what the envelope adds to a body and its engine position.
const RecordHeaderBytes = recordHeaderBytes

// The limits of the formats.
const (
	// PositionBytesMax is the longest engine position.
	PositionBytesMax = 256
	// WriterNameMax is the longest writer name, in bytes.
	WriterNameMax = 256
	// PayloadFormatMax is the longest name of a payload format, in bytes.
	PayloadFormatMax = 32
	// LogsMax is the most logs of a shard.
	LogsMax = 1 << 15
	// A checkpoint of the fullest catalog must stay below the entry limit of the hot log,
	// 16 MiB. A log with its names takes up to reserveLog, one with an open writer
	// reserveWindow more for the places of its last appends; all together may take reserveMax: 3,840 logs
	// with open writers, or 10,000 branches at rest and 2,700 writers. The rest is for leases, holds and nodes.
	reserveLog    = 560
	reserveWindow = 3536
	reserveMoving = 38 // of a log that has been moved, and for each of its extents:
	reserveExtent = 28
	reserveMax    = 15 << 20
	// ShardsMax is the most shards of a cluster.
	ShardsMax = 1024
	// ExtentsMax is the most extents of a log.
	ExtentsMax = 1024
	// NodesMax is the most nodes of a cluster.
	NodesMax = 256
	// NodeAddressMax is the longest address of a node, in bytes.
	NodeAddressMax = 128
	// WindowEntries is how many of a writer's last appends can be answered again.
	WindowEntries = 256
)

// checkVersion tells another format from a damaged one. known is the only version that
// this build reads by itself.
func checkVersion(what string, version, min, known uint16) error {
	switch {
	case version == 0 || min == 0 || min > version:
		return corrupt("%s: format version %d with minimum reader %d", what, version, min)
	case min > known:
		return fmt.Errorf("%w: %s of format version %d needs a reader of at least %d, this build reads %d: use a newer build", logcore.ErrUnsupportedVersion, what, version, min, known)
	case version < known:
		return fmt.Errorf("%w: %s of format version %d, from before the first release; this build reads %d: start with an empty directory", logcore.ErrUnsupportedVersion, what, version, known)
	}
	return nil
}

// unknownFlags refuses flag bits that this build does not know.
func unknownFlags(what string, flags, known uint32) error {
	if extra := flags &^ known; extra != 0 {
		return fmt.Errorf("%w: %s with unknown flags %#x: use a newer build", logcore.ErrUnsupportedVersion, what, extra)
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return &logcore.CorruptionError{Place: "catalog", Object: "entry payload", Offset: -1, Reason: fmt.Sprintf(format, args...)}
}

// source takes fields off the front of a payload; a short one makes bad true and
// every later field zero.
type source struct {
	b   []byte
	bad bool
}

func (s *source) bytes(n int) []byte {
	if n > len(s.b) {
		s.bad, s.b = true, nil
		return nil
	}
	out := s.b[:n:n]
	s.b = s.b[n:]
	return out
}

func (s *source) u8() uint8 {
	if b := s.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (s *source) u16() uint16 {
	if b := s.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (s *source) u32() uint32 {
	if b := s.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (s *source) u64() uint64 {
	if b := s.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (s *source) uvarint() uint64 {
	v, n := binary.Uvarint(s.b)
	// The last byte of a minimal encoding is never 0 but in "0" itself.
	if n <= 0 || n > 1 && s.b[n-1] == 0 {
		s.bad, s.b = true, nil
		return 0
	}
	s.b = s.b[n:]
	return v
}

// reserve is what the log may take in a checkpoint.
func (l *Log) reserve() int {
	n := reserveLog
	if l.WriterOpen {
		n += reserveWindow
	}
	if !l.Moving.isZero() {
		n += reserveMoving + reserveExtent*len(l.Extents)
	}
	return n
}

// checkRoom says whether a checkpoint has room for more.
func (s *State) checkRoom(more int, what string) error {
	if s.reserved+more > reserveMax {
		return fmt.Errorf("%w: the shard's catalog has no room for more %s: %d logs, %d of %d bytes", logcore.ErrTooLarge, what, len(s.logs), s.reserved, reserveMax)
	}
	return nil
}
