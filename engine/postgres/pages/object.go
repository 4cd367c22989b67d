package pages

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// The objects of a log. All but BaseKey stand under the base backup that they came with, so that those of one that was given up don't count.
const (
	// BaseKey is the key of Base.
	BaseKey = "base"

	filePrefix       = "file/"       // the head of a file
	partPrefix       = "part/"       // the parts of its content
	tablespacePrefix = "tablespace/" // by number

	objectVersion  = 1
	filePartBytes  = 512 << 10
	filePathInline = 160 // a longer path is named by its hash
)

// Keys are those of the objects of one base backup.
type Keys struct{ prefix string }

// KeysOf returns the keys of what came with the base backup that begins there.
func KeysOf(base wal.Position) Keys { return Keys{fmt.Sprintf("%X/", uint64(base))} }

// Counters is the key of a Checkpoint.
func (k Keys) Counters() string { return k.prefix + "counters" }

// Parameters is the key of the last PARAMETER_CHANGE record's content.
func (k Keys) Parameters() string { return k.prefix + "parameters" }

// History is the key of the history file of the log's timeline.
func (k Keys) History() string { return k.prefix + "history" }

// Files is the prefix of the keys of the files' heads.
func (k Keys) Files() string { return k.prefix + filePrefix }

// Tablespaces is the prefix of the keys of tablespaces: their numbers follow.
func (k Keys) Tablespaces() string { return k.prefix + tablespacePrefix }

func (k Keys) file(path string) string { return k.Files() + short(path) }

// Part is the key of part n of a file's content.
func (k Keys) Part(path string, n uint32) string {
	return fmt.Sprintf("%s%s%s/%d", k.prefix, partPrefix, short(path), n)
}

func short(path string) string {
	if len(path) <= filePathInline {
		return path
	}
	return fmt.Sprintf("#%x", sha256.Sum256([]byte(path)))
}

// Base describes a base backup that is complete.
type Base struct {
	Start, End   wal.Position // where redo begins; from End on the files are consistent
	Bytes        int64        // of its archives
	SystemID     uint64
	SegmentBytes uint32
}

const baseBytes = 1 + 8 + 8 + 8 + 8 + 4

func (b Base) encode() []byte { return b.append(make([]byte, 0, baseBytes)) }

func (b Base) append(out []byte) []byte {
	le := binary.LittleEndian
	out = append(out, objectVersion)
	for _, v := range [4]uint64{uint64(b.Start), uint64(b.End), uint64(b.Bytes), b.SystemID} {
		out = le.AppendUint64(out, v)
	}
	return le.AppendUint32(out, b.SegmentBytes)
}

// ParseBase reads the object at BaseKey.
func ParseBase(b []byte) (Base, error) {
	if err := checkObject(b, "base", baseBytes); err != nil {
		return Base{}, err
	}
	le := binary.LittleEndian
	return Base{Start: wal.Position(le.Uint64(b[1:])), End: wal.Position(le.Uint64(b[9:])), Bytes: int64(le.Uint64(b[17:])),
		SystemID: le.Uint64(b[25:]), SegmentBytes: le.Uint32(b[33:])}, nil
}

func checkObject(b []byte, what string, bytes int) error {
	if len(b) > 0 && b[0] != objectVersion {
		return fmt.Errorf("pages: %w: object %q of version %d; this build reads %d", logcore.ErrUnsupportedVersion, what, b[0], objectVersion)
	}
	if len(b) != bytes {
		return fmt.Errorf("pages: %w: object %q of %d bytes, want %d", logcore.ErrCorrupt, what, len(b), bytes)
	}
	return nil
}

// Checkpoint is what was known at a position, which lies in the segment in which the log ends at any LSN from there to the next Checkpoint.
type Checkpoint struct {
	At, Prev   wal.Position // behind the last record, and where that begins
	Counters   effect.Counters
	Settings   effect.Settings
	LastCommit int64 // microseconds since 2000-01-01; 0 for none
}

const checkpointBytes = 1 + 8 + 8 + 8 + 1 + effect.CheckpointBytes

func (c Checkpoint) encode() []byte {
	le := binary.LittleEndian
	out := append(make([]byte, 0, checkpointBytes), objectVersion)
	for _, v := range []uint64{uint64(c.At), uint64(c.Prev), uint64(c.LastCommit)} {
		out = le.AppendUint64(out, v)
	}
	return append(append(out, settingFlags(c.Settings)), c.Counters.Checkpoint()...)
}

// ParseCheckpoint reads the object at Keys.Counters.
func ParseCheckpoint(b []byte) (Checkpoint, error) {
	if err := checkObject(b, "counters", checkpointBytes); err != nil {
		return Checkpoint{}, err
	}
	le := binary.LittleEndian
	return Checkpoint{At: wal.Position(le.Uint64(b[1:])), Prev: wal.Position(le.Uint64(b[9:])), LastCommit: int64(le.Uint64(b[17:])),
		Settings: parseSettings(b[25]), Counters: effect.ParseCheckpoint(b[26:])}, nil
}

func settingFlags(s effect.Settings) (flags byte) {
	for i, on := range []bool{s.CommitTimestamps, s.HintBitsLogged, s.Checksums} {
		if on {
			flags |= 1 << i
		}
	}
	return flags
}

func parseSettings(flags byte) effect.Settings {
	return effect.Settings{CommitTimestamps: flags&1 != 0, HintBitsLogged: flags&2 != 0, Checksums: flags&4 != 0}
}

// FileHead is the head of a file: its content is in Parts parts.
type FileHead struct {
	Path  string
	Parts uint32
}

func (f FileHead) encode() []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{objectVersion}, f.Parts), f.Path...)
}

// ParseFileHead reads an object below Keys.Files.
func ParseFileHead(b []byte) (FileHead, error) {
	if err := checkObject(b, "file", max(len(b), 5)); err != nil {
		return FileHead{}, err
	}
	return FileHead{Path: string(b[5:]), Parts: binary.LittleEndian.Uint32(b[1:])}, nil
}

func put(key string, data []byte) engine.Record {
	return engine.Record{Op: engine.OpPut, Key: []byte(key), Data: data}
}
