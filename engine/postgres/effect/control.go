package effect

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Offsets in pg_control of PostgreSQL 15 (ControlFileData in catalog/pg_control.h).
const (
	controlSystemID       = 0
	controlVersion        = 8
	controlCatalog        = 12
	controlState          = 16
	controlTime           = 24
	controlCheckpoint     = 32
	controlCheckpointCopy = 40
	controlMinRecovery    = 136
	controlMinTimeline    = 144
	controlBackupStart    = 152
	controlBackupEnd      = 160
	controlBackupRequired = 168
	controlWALLevel       = 172
	controlHintBits       = 176
	controlParameters     = 180 // five numbers
	controlCommitTs       = 200
	controlPageBytes      = 216
	controlFilePages      = 220
	controlWALPageBytes   = 224
	controlSegmentBytes   = 228
	controlChecksums      = 252
	controlCRC            = 288
	controlBytes          = 292
	controlFileBytes      = 8192

	controlVersion15 = 1300 // of 13 to 17, in fact
	controlCatalog15 = 202209061
	stateShutDown    = 1
	// CheckpointBytes is the length of a checkpoint record's content.
	CheckpointBytes = 88
	// ParametersBytes is the length of a PARAMETER_CHANGE record's content.
	ParametersBytes = 26
)

// catalogs name the versions of PostgreSQL by those of their catalogs: their control files are laid out alike.
var catalogs = map[uint32]string{202007201: "13", 202107181: "14", controlCatalog15: "15", 202307071: "16", 202406281: "17", 202506291: "18"}

// ControlPath is where pg_control lies in a data directory.
const ControlPath = "global/pg_control"

// BackupFiles are what a base backup has at the top and a server that was shut down hasn't, or makes anew.
var BackupFiles = []string{"backup_label", "tablespace_map", "backup_manifest", "postmaster.pid", "postmaster.opts", "recovery.signal", "standby.signal"}

// Control is the content of pg_control.
type Control []byte

// ParseControl checks the content of a pg_control and returns a copy. Another version's, or one of a server that was built with
// other sizes, is logcore.ErrUnsupportedVersion.
func ParseControl(b []byte) (Control, error) {
	if len(b) < controlBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes", logcore.ErrCorrupt, ControlPath, len(b))
	}
	le := binary.LittleEndian
	if v := le.Uint32(b[controlVersion:]); v != controlVersion15 {
		return nil, fmt.Errorf("%w: %s is of version %d; PostgreSQL 15's is %d", logcore.ErrUnsupportedVersion, ControlPath, v, controlVersion15)
	}
	if v := le.Uint32(b[controlCatalog:]); v != controlCatalog15 {
		name, ok := catalogs[v]
		if !ok {
			name = "none that is known here"
		}
		return nil, fmt.Errorf("%w: the cluster's catalogs are of version %d, PostgreSQL %s; those of 15 (%d) are read", logcore.ErrUnsupportedVersion, v, name, controlCatalog15)
	}
	if sum := crc32.Checksum(b[:controlCRC], castagnoli); sum != le.Uint32(b[controlCRC:]) {
		return nil, fmt.Errorf("%w: %s: its checksum is %08X, its bytes give %08X", logcore.ErrCorrupt, ControlPath, le.Uint32(b[controlCRC:]), sum)
	}
	for at, want := range map[int]uint32{controlPageBytes: page.Bytes, controlFilePages: wal.FilePages, controlWALPageBytes: wal.PageBytes} {
		if v := le.Uint32(b[at:]); v != want {
			return nil, fmt.Errorf("%w: %s: the server was built with other sizes than usual (%d instead of %d)", logcore.ErrUnsupportedVersion, ControlPath, v, want)
		}
	}
	return append(Control(nil), b[:controlBytes]...), nil
}

// SystemID returns the cluster's identifier.
func (c Control) SystemID() uint64 { return binary.LittleEndian.Uint64(c[controlSystemID:]) }

// SegmentBytes returns the length of its WAL segments.
func (c Control) SegmentBytes() uint32 { return binary.LittleEndian.Uint32(c[controlSegmentBytes:]) }

// Checksums reports whether data pages have checksums.
func (c Control) Checksums() bool { return binary.LittleEndian.Uint32(c[controlChecksums:]) != 0 }

// Counters returns those of its last checkpoint.
func (c Control) Counters() Counters { return ParseCheckpoint(c[controlCheckpointCopy:]) }

// Settings returns what of it matters to redo.
func (c Control) Settings() Settings {
	return Settings{CommitTimestamps: c[controlCommitTs] != 0, HintBitsLogged: c.Checksums() || c[controlHintBits] != 0, Checksums: c.Checksums()}
}

// SetParameters takes over a PARAMETER_CHANGE record: five limits, then the level, then two switches.
func (c Control) SetParameters(b []byte) {
	copy(c[controlParameters:], b[:20])
	copy(c[controlWALLevel:], b[20:24])
	c[controlHintBits], c[controlCommitTs] = b[24], b[25]
}

// SetCounters makes its last checkpoint one with these counters.
func (c Control) SetCounters(counters Counters) {
	copy(c[controlCheckpointCopy:], counters.Checkpoint())
	putChecksum(c[controlCRC:], c[:controlCRC])
}

// ShutDown makes it the control file of a server that was shut down with that checkpoint.
func (c Control) ShutDown(at wal.Position, counters Counters) {
	le := binary.LittleEndian
	le.PutUint32(c[controlState:], stateShutDown)
	le.PutUint64(c[controlTime:], uint64(counters.Time))
	le.PutUint64(c[controlCheckpoint:], uint64(at))
	clear(c[controlMinRecovery : controlBackupRequired+1])
	c.SetCounters(counters)
}

// File returns the file's content, whose length is fixed.
func (c Control) File() []byte {
	b := make([]byte, controlFileBytes)
	copy(b, c[:controlBytes])
	return b
}

// ParseCheckpoint is the inverse of Checkpoint; b has CheckpointBytes.
func ParseCheckpoint(b []byte) Counters {
	f := wal.Fields{B: b}
	c := Counters{Redo: wal.Position(f.U64()), Timeline: wal.Timeline(f.U32()), PrevTimeline: wal.Timeline(f.U32()), FullPageWrites: f.U8() != 0}
	f.Take(7)
	c.NextXID, c.NextOID, c.NextMulti, c.NextOffset = f.U64(), f.U32(), f.U32(), f.U32()
	c.OldestXID, c.OldestXIDDB, c.OldestMulti, c.OldestMulDB = f.U32(), f.U32(), f.U32(), f.U32()
	f.U32()
	c.Time = int64(f.U64())
	c.OldestCommitTs, c.NewestCommitTs, c.OldestActiveXID = f.U32(), f.U32(), f.U32()
	return c
}

// Checkpoint returns the content of a checkpoint record with these counters: a CheckPoint struct.
func (c Counters) Checkpoint() []byte { return c.AppendCheckpoint(nil) }

// AppendCheckpoint appends that to dst.
func (c Counters) AppendCheckpoint(dst []byte) []byte {
	le := binary.LittleEndian
	var b [CheckpointBytes]byte
	le.PutUint64(b[:], uint64(c.Redo))
	le.PutUint32(b[8:], uint32(c.Timeline))
	le.PutUint32(b[12:], uint32(c.PrevTimeline))
	if c.FullPageWrites {
		b[16] = 1
	}
	le.PutUint64(b[24:], c.NextXID)
	for i, v := range [...]uint32{c.NextOID, c.NextMulti, c.NextOffset, c.OldestXID, c.OldestXIDDB, c.OldestMulti, c.OldestMulDB} {
		le.PutUint32(b[32+4*i:], v)
	}
	le.PutUint64(b[64:], uint64(c.Time))
	for i, v := range [...]uint32{c.OldestCommitTs, c.NewestCommitTs, c.OldestActiveXID} {
		le.PutUint32(b[72+4*i:], v)
	}
	return append(dst, b[:]...)
}
