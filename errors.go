package logcore

import (
	"errors"
	"fmt"
	"time"
)

// The conditions that callers branch on. Packages wrap them with what they know;
// the service maps them to gRPC codes and back (client), so errors.Is works on
// both sides of the wire.
var (
	// ErrFenced: a newer writer epoch has been granted, or the shard was restored since.
	ErrFenced = errors.New("logcore: fenced by a newer writer epoch")
	// ErrWriterActive: another writer holds the log and its lease has not run out.
	ErrWriterActive = errors.New("logcore: another writer is active")
	// ErrNotLeader: this member does not lead the log's shard.
	ErrNotLeader = errors.New("logcore: not the leader of this shard")
	// ErrMoved: the log is in another shard, or on its way there; see MovedError.
	ErrMoved = errors.New("logcore: the log has moved to another shard")
	// ErrOverloaded: a bounded queue is full; nothing was written.
	ErrOverloaded = errors.New("logcore: overloaded, try again")
	// ErrTooLarge: an entry exceeds the configured limit.
	ErrTooLarge = errors.New("logcore: entry too large")
	// ErrLogNotFound: no log or branch of that name or id.
	ErrLogNotFound = errors.New("logcore: log not found")
	// ErrLogExists: a log or branch of that name exists.
	ErrLogExists = errors.New("logcore: log exists")
	// ErrCorrupt: bytes fail their checksum below what is known to be durable.
	ErrCorrupt = errors.New("logcore: corrupt")
	// ErrUnsupportedVersion: a format version or flag that this build does not know.
	// It never means corruption: a newer build reads it.
	ErrUnsupportedVersion = errors.New("logcore: unsupported format version")
	// ErrLSNInFuture: the LSN is ahead of what is there; see LagError.
	ErrLSNInFuture = errors.New("logcore: LSN is in the future")
	// ErrTrimmed: the LSN is older than what is kept.
	ErrTrimmed = errors.New("logcore: LSN is older than what is kept")
	// ErrInvalid: a malformed argument.
	ErrInvalid = errors.New("logcore: invalid argument")
	// ErrSequenceGap: an append's sequence number does not follow the last one.
	ErrSequenceGap = errors.New("logcore: sequence gap")
	// ErrSequenceReused: an append under a sequence number that another transaction has.
	ErrSequenceReused = errors.New("logcore: the sequence number belongs to another transaction")
	// ErrPayloadFormat: the log holds payloads of another format.
	ErrPayloadFormat = errors.New("logcore: the log holds payloads of another format")
	// ErrDiskFull: the device has no room; what was acknowledged stays.
	ErrDiskFull = errors.New("logcore: disk full")
	// ErrPoisoned: a write or a sync failed before; reopen to recover.
	ErrPoisoned = errors.New("logcore: poisoned by an earlier write error")
	// ErrWrongPageServer: the pages are of a stripe that another page server holds.
	ErrWrongPageServer = errors.New("logcore: the pages are served by another page server")
	// ErrClosed: the component was closed.
	ErrClosed = errors.New("logcore: closed")
	// ErrInUse: another process holds the directory.
	ErrInUse = errors.New("logcore: in use by another process")
)

// CorruptionError says where bytes are wrong. It wraps ErrCorrupt.
type CorruptionError struct {
	// Place is a directory or a target.
	Place string
	// Object is the file or the key in Place.
	Object string
	// Offset is the byte offset in Object, -1 when unknown.
	Offset int64
	// LSN is the entry concerned, 0 when unknown.
	LSN LSN
	// Reason says what was expected.
	Reason string
}

// Error names the place and the reason.
func (e *CorruptionError) Error() string {
	at := ""
	if e.Offset >= 0 {
		at = fmt.Sprintf(" at offset %d", e.Offset)
	}
	if e.LSN != 0 {
		at += fmt.Sprintf(" (LSN %d)", e.LSN)
	}
	return fmt.Sprintf("logcore: corrupt: %s: %s%s: %s", e.Place, e.Object, at, e.Reason)
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptionError) Unwrap() error { return ErrCorrupt }

// LagError says how far behind the asked-for LSN the server is. It wraps ErrLSNInFuture.
type LagError struct {
	Asked     LSN
	Available LSN
	Waited    time.Duration
}

// Error names both LSNs and the wait.
func (e *LagError) Error() string {
	return fmt.Sprintf("logcore: LSN %d is in the future: the newest available is %d (%d behind) after waiting %v; wait longer or read at %d",
		e.Asked, e.Available, e.Asked-e.Available, e.Waited.Round(time.Millisecond), e.Available)
}

// Unwrap makes errors.Is(err, ErrLSNInFuture) true.
func (e *LagError) Unwrap() error { return ErrLSNInFuture }

// NotLeaderError says who leads a shard that this member does not lead. It wraps
// ErrNotLeader.
type NotLeaderError struct {
	Shard ShardID
	// Leader is the Raft id of the member that leads, as far as is known; 0: nobody is
	// known to.
	Leader uint64
	// Address is where its service can be reached; empty when that is not known.
	Address string
}

// Error names the leader.
func (e *NotLeaderError) Error() string {
	switch {
	case e.Leader == 0:
		return fmt.Sprintf("%v: shard %d has no leader at present", ErrNotLeader, e.Shard)
	case e.Address == "":
		return fmt.Sprintf("%v: shard %d is led by member %x", ErrNotLeader, e.Shard, e.Leader)
	}
	return fmt.Sprintf("%v: shard %d is led by member %x at %s", ErrNotLeader, e.Shard, e.Leader, e.Address)
}

// Unwrap makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Unwrap() error { return ErrNotLeader }

// MovedError says where a log is that is not in the shard that was asked. It wraps
// ErrMoved. Nothing of what was asked was done.
type MovedError struct {
	Log   string
	Shard ShardID // where it is, or is about to be
	// Leader is the member that leads that shard, as far as is known, Address where its service
	// can be reached; 0 and empty when that is not known.
	Leader  uint64
	Address string
}

// Error names the log and the shard.
func (e *MovedError) Error() string {
	if e.Address == "" {
		return fmt.Sprintf("%v: log %q is in shard %d, or about to be", ErrMoved, e.Log, e.Shard)
	}
	return fmt.Sprintf("%v: log %q is in shard %d, which is led at %s", ErrMoved, e.Log, e.Shard, e.Address)
}

// Unwrap makes errors.Is(err, ErrMoved) true.
func (e *MovedError) Unwrap() error { return ErrMoved }
