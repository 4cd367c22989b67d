package cluster

import "github.com/logcore/logcore/engine/postgres/wal"

// applyXLog follows the counters and settings that the log tells of.
func (c *Cluster) applyXLog(r *wal.Record, f *fields) error {
	const shutdown, online, nextOID, parameters, fpw, endOfRecovery = 0x00, 0x10, 0x30, 0x60, 0x80, 0x90
	switch r.Op() {
	case shutdown, online:
		seen := parseCheckpoint(f.take(checkpointBytes))
		if f.short {
			return nil
		}
		c.checkpointSeen(seen, r.Op() == shutdown)
	case nextOID:
		c.NextOID = f.u32()
	case parameters:
		c.control.setParameters(f.take(parametersBytes))
		c.redo.HintBitsLogged = c.control.hintBitsLogged()
	case fpw:
		c.FullPageWrites = f.u8() != 0
	case endOfRecovery:
		f.u64()
		c.Timeline, c.PrevTimeline = wal.Timeline(f.u32()), wal.Timeline(f.u32())
	}
	return nil
}

// checkpointSeen takes the counters from a checkpoint record: a shutdown's are exact, those of another may be
// behind what is known already.
func (c *Cluster) checkpointSeen(seen Counters, exact bool) {
	old := c.Counters
	c.Counters = seen
	if exact {
		return
	}
	if wal.XIDPrecedes(uint32(seen.NextXID), uint32(old.NextXID)) {
		c.NextXID = old.NextXID
	}
	if int32(seen.NextMulti-old.NextMulti) < 0 {
		c.NextMulti = old.NextMulti
	}
	if int32(seen.NextOffset-old.NextOffset) < 0 {
		c.NextOffset = old.NextOffset
	}
	if old.OldestMulti != 0 && int32(seen.OldestMulti-old.OldestMulti) < 0 {
		c.OldestMulti, c.OldestMulDB = old.OldestMulti, old.OldestMulDB
	}
	if wal.XIDPrecedes(seen.OldestXID, old.OldestXID) {
		c.OldestXID, c.OldestXIDDB = old.OldestXID, old.OldestXIDDB
	}
	if wal.XIDPrecedes(seen.NewestCommitTs, old.NewestCommitTs) {
		c.NewestCommitTs = old.NewestCommitTs
	}
}
