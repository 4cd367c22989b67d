package pageserver

import (
	"context"
	"iter"

	"github.com/logcore/logcore"
)

// LogInfo describes a log or a branch of the source.
type LogInfo struct {
	ID   logcore.LogID
	Name string
	// Format is the payload format that the log announced; empty: none yet.
	Format string
	// Incarnation is the random number the log service took when it was created or
	// restored. State derived under another one is void.
	Incarnation uint64
	// Parent is set on a branch: the branch begins with Parent's content at BranchLSN
	// and has entries of its own above it.
	Parent    logcore.LogID
	BranchLSN logcore.LSN
	// WriterOpen: somebody may append to it. A branch without is not followed once all of
	// it is ingested.
	WriterOpen bool
	// First is the lowest LSN that the log can be read from, HotFirst the lowest that the source
	// has at hand: what is below comes from the archive. 0: not known.
	First, HotFirst logcore.LSN
	// Last is the log's last committed entry, 0 when it has none; LastTime is its time.
	Last     logcore.LSN
	LastTime logcore.HLC
	// Bytes is how long the payloads of the log's own entries are together.
	Bytes uint64
	// Committed is an LSN up to which the log gets no further entry; at least Last.
	Committed logcore.LSN
}

// Entry is one committed entry of a log.
type Entry struct {
	LSN  logcore.LSN
	Time logcore.HLC
	Kind logcore.Kind // Data, Part, Commit or Abort
	Tx   logcore.TxID
	// Epoch and Sequence prove that nothing is missing or repeated: within an epoch
	// the sequence rises by one from 1. Zero means "not known" and is not checked.
	Epoch    logcore.Epoch
	Sequence uint64
	Payload  []byte
}

// Batch is a stretch of a log.
type Batch struct {
	// Entries have ascending LSNs, all above what earlier batches covered.
	Entries []Entry
	// Through says that the log has no further entry up to and including this LSN.
	// It may rise without entries. Zero means that of the last entry.
	Through logcore.LSN
}

// LogSource is where the page server gets its logs from. Its methods may be called
// by many goroutines. Errors wrap logcore's sentinels.
type LogSource interface {
	// List returns every log and branch there is. One of which no more is known now than that there is one of that name
	// has the ID 0.
	List(ctx context.Context) ([]LogInfo, error)
	// Info returns one by name, or an error that wraps logcore.ErrLogNotFound.
	Info(ctx context.Context, name string) (LogInfo, error)
	// Entry returns the log's own entry at an LSN, of which the payload may be left out,
	// or false when the log has none there. An entry that was given up is an error that
	// wraps logcore.ErrTrimmed.
	Entry(ctx context.Context, log LogInfo, lsn logcore.LSN) (Entry, bool, error)
	// Follow returns the entries with LSN >= from that belong to the log itself, and
	// waits for new ones until ctx is done or an error ended it. A lost connection is
	// such an error: the service that answers next may be another incarnation. On a
	// branch, from is above the branch LSN. A log whose beginning was given up and is asked for is an
	// error that wraps logcore.ErrTrimmed. The consumer is done with a batch, payloads
	// included, when it asks for the next one.
	Follow(ctx context.Context, log LogInfo, from logcore.LSN) iter.Seq2[Batch, error]
	// CreateBranch creates a branch of parent at an LSN in the catalog, durably, and
	// returns it.
	CreateBranch(ctx context.Context, parent, branch string, at logcore.LSN) (LogInfo, error)
}
