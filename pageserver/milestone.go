package pageserver

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/logcore/logcore"
)

// milestoneEvery is how many bytes of payload lie between two milestones: how exactly a
// window in bytes is kept. 128 KiB with the write buffer's default.
func (o Options) milestoneEvery() uint64 { return uint64(max(1<<10, o.MemTableBytes>>8)) }

// meter counts the payloads of a log's own entries.
type meter struct {
	known     bool
	bytes     uint64 // of the entries in the batch, too
	milestone uint64 // bytes at the newest milestone
}

// meterEntry counts an entry, and sets a milestone in the batch where one is due.
func (w *ingester) meterEntry(lsn logcore.LSN, payload int) error {
	m := &w.meter
	if !m.known {
		bytes, err := bytesThrough(w.s.db, w.l.id, ^logcore.LSN(0))
		if err != nil {
			return err
		}
		*m = meter{true, max(bytes, w.l.bytes.Load()), bytes}
	}
	if m.bytes += uint64(payload); m.bytes < m.milestone+w.s.opts.milestoneEvery() {
		return nil
	}
	m.milestone = m.bytes
	key := appendMilestoneKey(nil, w.l.id, lsn)
	w.set.set(key, seal(key, encodeMilestone(m.bytes)))
	return nil
}

// milestoneBefore returns the LSN of the newest milestone at which a log had at most so
// many bytes, 0 when there is none.
func milestoneBefore(db *pebble.DB, log logcore.LogID, bytes uint64) (found logcore.LSN, err error) {
	lower := appendLogKey(nil, tagMilestone, log)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(lower)})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	// From the end: a window is the newest part of a log.
	for it.Last(); it.Valid(); it.Prev() {
		sealed, err := it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		have, err := decodeMilestone(it.Key(), sealed)
		if err != nil {
			return 0, err
		}
		if have <= bytes {
			return logcore.LSN(binary.BigEndian.Uint64(it.Key()[len(lower):])), nil
		}
	}
	return 0, it.Error()
}
