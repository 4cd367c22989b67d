package effect

import "github.com/logcore/logcore/engine/postgres/wal"

// applyXLog follows the counters and settings that the log tells of.
func (i *Interpreter) applyXLog(r *wal.Record, f *wal.Fields) error {
	const shutdown, online, nextOID, parameters, fpw, endOfRecovery = 0x00, 0x10, 0x30, 0x60, 0x80, 0x90
	switch r.Op() {
	case shutdown, online:
		seen := ParseCheckpoint(f.Take(CheckpointBytes))
		if f.Short {
			return nil
		}
		i.checkpointSeen(seen, r.Op() == shutdown)
	case nextOID:
		i.NextOID = f.U32()
	case parameters:
		b := f.Take(ParametersBytes)
		if f.Short {
			return nil
		}
		i.HintBitsLogged, i.CommitTimestamps = i.Checksums || b[24] != 0, b[25] != 0
		return i.Sink.Parameters(b)
	case fpw:
		i.FullPageWrites = f.U8() != 0
	case endOfRecovery:
		f.U64()
		i.Timeline, i.PrevTimeline = wal.Timeline(f.U32()), wal.Timeline(f.U32())
	}
	return nil
}

// checkpointSeen takes the counters from a checkpoint record: a shutdown's are exact, those of another may be
// behind what is known already.
func (i *Interpreter) checkpointSeen(seen Counters, exact bool) {
	old := i.Counters
	i.Counters = seen
	if exact {
		return
	}
	if wal.XIDPrecedes(uint32(seen.NextXID), uint32(old.NextXID)) {
		i.NextXID = old.NextXID
	}
	if int32(seen.NextMulti-old.NextMulti) < 0 {
		i.NextMulti = old.NextMulti
	}
	if int32(seen.NextOffset-old.NextOffset) < 0 {
		i.NextOffset = old.NextOffset
	}
	if old.OldestMulti != 0 && int32(seen.OldestMulti-old.OldestMulti) < 0 {
		i.OldestMulti, i.OldestMulDB = old.OldestMulti, old.OldestMulDB
	}
	if wal.XIDPrecedes(seen.OldestXID, old.OldestXID) {
		i.OldestXID, i.OldestXIDDB = old.OldestXID, old.OldestXIDDB
	}
	if wal.XIDPrecedes(seen.NewestCommitTs, old.NewestCommitTs) {
		i.NewestCommitTs = old.NewestCommitTs
	}
}
