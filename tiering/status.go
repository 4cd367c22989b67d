package tiering

import (
	"time"

	"github.com/logcore/logcore"
)

// TargetStatus says how a target is doing.
type TargetStatus struct {
	Name, Provider, Region string
	Location               string // URL without credentials; empty when the target could not be opened
	Healthy                bool   // the last call succeeded and the breaker is closed
	ManifestSynced         bool   // it holds every record the archiver knows of
	LastError              string // of the last failed call; empty when healthy
	Fragments              int    // live fragments that the manifest places here
	Missing                int    // live fragments that belong here and are not placed yet
	Bytes                  int64  // of the live fragments
}

// Status is a snapshot of an Archiver.
type Status struct {
	Cluster       [16]byte
	Shard         logcore.ShardID
	Epoch         uint64
	First         logcore.LSN // the oldest archived entry; 0 when nothing is
	Covered       logcore.LSN // everything from First to here is archived
	CoveredTime   logcore.HLC
	Record        uint64        // number of the newest manifest record
	Objects       int           // live objects
	Degraded      int           // live objects with a fragment not placed
	RawBytes      int64         // frames in live objects
	StoredBytes   int64         // fragments placed
	Lag           time.Duration // age of the oldest acknowledged entry that is not covered; 0 when none
	RPO           time.Duration // the largest age at which an entry was covered in the last minute
	LastError     string        // why the last round failed; empty when it did not
	TrimmedUpTo   logcore.LSN   // what the hot tier was last told it may drop
	RetiredRemain int           // superseded objects whose fragments wait for deletion
}
