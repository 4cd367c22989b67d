package tiering

import (
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
)

// TombstoneReason says why entries were erased from the archive. The numbers are durable.
type TombstoneReason uint8

// The reasons.
const (
	ErasedDeleted TombstoneReason = 1 // their log was deleted
	ErasedAborted TombstoneReason = 2 // their transaction was aborted
	ErasedExpired TombstoneReason = 3 // their retention is over
)

// String returns the reason in words.
func (w TombstoneReason) String() string {
	switch w {
	case ErasedDeleted:
		return "deleted"
	case ErasedAborted:
		return "aborted"
	case ErasedExpired:
		return "expired"
	}
	return fmt.Sprintf("reason(%d)", uint8(w))
}

// Tombstone says what was erased from the archive, by a signed record of the manifest: it
// outlives the bytes.
type Tombstone struct {
	Why         TombstoneReason
	Log         logcore.LogID // 0 = everything in the range, whichever log's
	First, Last logcore.LSN   // the erased entries lie within
	Entries     uint64        // how many; 0 = not counted
	Bytes       int64         // of frames
	At          time.Time     // when, to the millisecond
}

// String says what was erased, when and why.
func (t Tombstone) String() string {
	what := "everything"
	if t.Log != 0 {
		what = fmt.Sprintf("%d entries of log %d", t.Entries, t.Log)
	}
	return fmt.Sprintf("%s within LSN %d to %d (%d bytes), %v, erased %s", what, t.First, t.Last, t.Bytes, t.Why, t.At.Format(time.RFC3339))
}

// tombstonesMax bounds the tombstones that a rollup carries: neighbours of the same reason
// and log are merged, the oldest first, until they fit.
const tombstonesMax = 1 << 14

// addTombstones appends new ones; one that continues the newest of its kind is merged
// into it, so that a log that expires little by little has one.
func addTombstones(all, added []Tombstone) []Tombstone {
	if len(added) == 0 {
		return all
	}
	out := append(make([]Tombstone, 0, len(all)+len(added)), all...)
	for _, t := range added {
		if n := len(out); n > 0 && out[n-1].merges(t) {
			out[n-1] = out[n-1].merged(t)
			continue
		}
		out = append(out, t)
	}
	for len(out) > tombstonesMax {
		out = append([]Tombstone{out[0].merged(out[1])}, out[2:]...)
	}
	return out
}

func (t Tombstone) merges(next Tombstone) bool {
	return t.Why == next.Why && t.Log == next.Log && next.First > t.Last
}

func (t Tombstone) merged(next Tombstone) Tombstone {
	if t.Log != next.Log {
		t.Log = 0
	}
	t.First, t.Last = min(t.First, next.First), max(t.Last, next.Last)
	t.Entries, t.Bytes, t.At = t.Entries+next.Entries, t.Bytes+next.Bytes, next.At
	return t
}

// Erased reports whether the archive erased what an entry held although it counted: its
// retention is over, or it was truncated or deleted. An entry of an aborted transaction never
// counted; what stands in its place is an abort, which it was.
func (r *Reader) Erased(log logcore.LogID, lsn logcore.LSN) bool {
	s := r.view()
	return s != nil && slices.ContainsFunc(s.tombstones, func(t Tombstone) bool {
		return t.Why != ErasedAborted && (t.Log == 0 || t.Log == log) && t.First <= lsn && lsn <= t.Last
	})
}
