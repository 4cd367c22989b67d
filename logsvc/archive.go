package logsvc

import (
	"context"
	"iter"
	"time"

	"github.com/logcore/logcore"
)

// Archive is what the service asks of the archive tier. Its methods may be used by
// many goroutines.
type Archive interface {
	// Read yields a shard's entries with from <= LSN <= to, in order and without a gap,
	// every one verified. An error is yielded last. Payloads are valid until the next
	// entry is asked for.
	Read(ctx context.Context, shard logcore.ShardID, from, to logcore.LSN) iter.Seq2[logcore.Entry, error]
	// Erased reports whether the archive erased what an entry of a log held although it counted:
	// its retention is over, or it was truncated. What stands in its place looks like an abort.
	Erased(shard logcore.ShardID, log logcore.LogID, lsn logcore.LSN) bool
	// Covered returns the LSN up to which, without a gap, durable manifests cover the shard.
	Covered(shard logcore.ShardID) logcore.LSN
	// Trimmable returns the LSN up to which the hot tier may let go of the shard's
	// entries: at most Covered. Under disk pressure less redundancy is enough.
	Trimmable(shard logcore.ShardID, pressure bool) logcore.LSN
	// Flush returns when the shard is covered up to lsn.
	Flush(ctx context.Context, shard logcore.ShardID, lsn logcore.LSN) error
	// Status describes the archive of a shard.
	Status(shard logcore.ShardID) ArchiveStatus
	// Targets describes the buckets.
	Targets(ctx context.Context) ([]Target, error)
}

// ArchiveStatus is how the archive of a shard is.
type ArchiveStatus struct {
	// Lag is the age of the oldest committed entry that no durable manifest covers.
	Lag time.Duration
	// Problems says in words what is wrong; empty when all is well.
	Problems []string
	// Decided says what is decided about the archive, by what it is about: the same for all shards, unless a command was
	// interrupted. nil while it isn't known.
	Decided map[string]string
}

// Target is one bucket at one provider.
type Target struct {
	Name, URL, Provider, Region string
	Healthy                     bool
	Error                       string // the last one, empty when healthy
	Fragments, Bytes            uint64
	Capabilities                []string
}
