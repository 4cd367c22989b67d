package cluster

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Offsets in pg_control of PostgreSQL 15 (ControlFileData in catalog/pg_control.h).
const (
	controlSystemID       = 0
	controlVersion        = 8
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

	controlVersion15  = 1300
	stateShutDown     = 1
	checkpointBytes   = 88
	parametersBytes   = 26
	controlPath       = "global/pg_control"
	relationFilePages = filePages
)

// control is the content of pg_control.
type control []byte

func (c *control) read(dir string) error {
	path := filepath.Join(dir, controlPath)
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if len(b) < controlBytes {
		return fmt.Errorf("cluster: %w: %s has %d bytes", logcore.ErrCorrupt, path, len(b))
	}
	le := binary.LittleEndian
	if v := le.Uint32(b[controlVersion:]); v != controlVersion15 {
		return fmt.Errorf("cluster: %w: %s is of version %d; PostgreSQL 15's is %d", logcore.ErrUnsupportedVersion, path, v, controlVersion15)
	}
	if sum := crc32.Checksum(b[:controlCRC], castagnoli); sum != le.Uint32(b[controlCRC:]) {
		return fmt.Errorf("cluster: %w: %s: its checksum is %08X, its bytes give %08X", logcore.ErrCorrupt, path, le.Uint32(b[controlCRC:]), sum)
	}
	for at, want := range map[int]uint32{controlPageBytes: page.Bytes, controlFilePages: relationFilePages, controlWALPageBytes: wal.PageBytes} {
		if v := le.Uint32(b[at:]); v != want {
			return fmt.Errorf("cluster: %w: %s: the server was built with other sizes than usual (%d instead of %d)", logcore.ErrUnsupportedVersion, path, v, want)
		}
	}
	*c = b
	return nil
}

func (c control) systemID() uint64       { return binary.LittleEndian.Uint64(c[controlSystemID:]) }
func (c control) segmentBytes() uint32   { return binary.LittleEndian.Uint32(c[controlSegmentBytes:]) }
func (c control) commitTimestamps() bool { return c[controlCommitTs] != 0 }
func (c control) checksums() bool        { return binary.LittleEndian.Uint32(c[controlChecksums:]) != 0 }
func (c control) hintBitsLogged() bool   { return c.checksums() || c[controlHintBits] != 0 }
func (c control) checkpoint() Counters   { return parseCheckpoint(c[controlCheckpointCopy:]) }

// setParameters takes over a PARAMETER_CHANGE record: five limits, then the level, then two switches.
func (c control) setParameters(b []byte) {
	copy(c[controlParameters:], b[:20])
	copy(c[controlWALLevel:], b[20:24])
	c[controlHintBits], c[controlCommitTs] = b[24], b[25]
}

// shutDown makes it the control file of a server that was shut down with that checkpoint.
func (c control) shutDown(at wal.Position, counters Counters) {
	le := binary.LittleEndian
	le.PutUint32(c[controlState:], stateShutDown)
	le.PutUint64(c[controlTime:], uint64(counters.Time))
	le.PutUint64(c[controlCheckpoint:], uint64(at))
	copy(c[controlCheckpointCopy:], counters.encode())
	clear(c[controlMinRecovery : controlBackupRequired+1])
	putChecksum(c[controlCRC:], c[:controlCRC])
}

// write writes the file, whose length is fixed.
func (c control) write(dir string) error {
	b := make([]byte, controlFileBytes)
	copy(b, c[:controlBytes])
	return writeFile(filepath.Join(dir, controlPath), b)
}

// parseCheckpoint reads a CheckPoint struct.
func parseCheckpoint(b []byte) Counters {
	f := fields{b: b}
	c := Counters{Redo: wal.Position(f.u64()), Timeline: wal.Timeline(f.u32()), PrevTimeline: wal.Timeline(f.u32()), FullPageWrites: f.u8() != 0}
	f.take(7)
	c.NextXID, c.NextOID, c.NextMulti, c.NextOffset = f.u64(), f.u32(), f.u32(), f.u32()
	c.OldestXID, c.OldestXIDDB, c.OldestMulti, c.OldestMulDB = f.u32(), f.u32(), f.u32(), f.u32()
	f.u32()
	c.Time = int64(f.u64())
	c.OldestCommitTs, c.NewestCommitTs, c.OldestActiveXID = f.u32(), f.u32(), f.u32()
	return c
}

// encode is the inverse of parseCheckpoint.
func (c Counters) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, checkpointBytes)
	le.PutUint64(b, uint64(c.Redo))
	le.PutUint32(b[8:], uint32(c.Timeline))
	le.PutUint32(b[12:], uint32(c.PrevTimeline))
	if c.FullPageWrites {
		b[16] = 1
	}
	le.PutUint64(b[24:], c.NextXID)
	for i, v := range []uint32{c.NextOID, c.NextMulti, c.NextOffset, c.OldestXID, c.OldestXIDDB, c.OldestMulti, c.OldestMulDB} {
		le.PutUint32(b[32+4*i:], v)
	}
	le.PutUint64(b[64:], uint64(c.Time))
	for i, v := range []uint32{c.OldestCommitTs, c.NewestCommitTs, c.OldestActiveXID} {
		le.PutUint32(b[72+4*i:], v)
	}
	return b
}
