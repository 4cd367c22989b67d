package catalog

import (
	"encoding/binary"

	"github.com/logcore/logcore"
)

// EncodeCheckpoint returns the whole state as the payload of a KindCheckpoint entry.
// Equal states give equal bytes.
func (s *State) EncodeCheckpoint() []byte {
	b := make([]byte, 0, checkpointHeaderBytes+len(s.logs)*(logFixedBytes+64))
	b = binary.LittleEndian.AppendUint32(b, checkpointMagic)
	b = binary.LittleEndian.AppendUint16(b, catalogVersion)
	b = binary.LittleEndian.AppendUint16(b, catalogVersion)
	var flags uint32
	if len(s.nodes) > 0 {
		flags |= checkpointFlagNodes
	}
	if s.hasStripes() {
		flags |= checkpointFlagStripes
	}
	history := !s.historyEmpty()
	if history {
		flags |= checkpointFlagHistory
	}
	if !s.dir.empty() {
		flags |= checkpointFlagDirectory
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.logs)))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.LSN))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.nextLog))
	b = binary.LittleEndian.AppendUint64(b, s.Incarnation)
	for _, l := range s.Logs() {
		b = l.append(b)
	}
	if len(s.nodes) > 0 {
		b = s.appendNodes(b)
	}
	if s.hasStripes() {
		b = s.appendStripes(b)
	}
	if history {
		b = s.appendHistory(b)
	}
	if !s.dir.empty() {
		b = s.appendDirectory(b)
	}
	return b
}

func (l *Log) append(b []byte) []byte {
	var flags uint16
	if l.WriterOpen {
		flags |= logFlagWriterOpen
	}
	if l.Durability == DurabilityArchive {
		flags |= logFlagArchive
	}
	moving := !l.Moving.isZero()
	if moving {
		flags |= logFlagMoving
	}
	if l.Gone {
		flags |= logFlagGone
	}
	n := l.window.count(l.Sequence)
	for _, v := range []uint64{uint64(l.ID), uint64(l.Epoch), l.Sequence, uint64(l.CreatedLSN), uint64(l.OriginLSN), uint64(l.TruncatedBefore),
		uint64(l.LastLSN), uint64(l.LastTime), l.Entries, l.Bytes, uint64(l.Parent), uint64(l.BranchLSN)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, v := range []uint16{flags, uint16(len(l.Name)), uint16(len(l.Writer)), uint16(len(l.PayloadFormat)), uint16(n)} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	b = append(b, l.Name...)
	b = append(b, l.Writer...)
	b = append(b, l.PayloadFormat...)
	var prev Place
	for seq := l.Sequence - uint64(n) + 1; n > 0; seq, n = seq+1, n-1 {
		p, _ := l.window.get(seq, l.Sequence)
		b = binary.AppendUvarint(b, uint64(p.LSN-prev.LSN))
		b = binary.AppendUvarint(b, uint64(p.Time-prev.Time))
		b = binary.LittleEndian.AppendUint32(b, p.tx)
		prev = p
	}
	if moving {
		b = l.Moving.append(b)
	}
	return b
}

// DecodeCheckpoint reads the payload of a KindCheckpoint entry. The state's LSN is that
// of the entry before it. Errors wrap logcore.ErrCorrupt or logcore.ErrUnsupportedVersion.
func DecodeCheckpoint(payload []byte) (*State, error) {
	src := source{b: payload}
	if magic := src.u32(); src.bad || magic != checkpointMagic {
		return nil, corrupt("checkpoint magic %#08x in %d bytes", magic, len(payload))
	}
	version, min := src.u16(), src.u16()
	if err := checkVersion("checkpoint", version, min, catalogVersion); err != nil {
		return nil, err
	}
	flags := src.u32()
	if err := unknownFlags("checkpoint", flags, checkpointFlagsKnown); err != nil {
		return nil, err
	}
	count := int(src.u32())
	s := NewState()
	s.LSN, s.nextLog, s.Incarnation = logcore.LSN(src.u64()), logcore.LogID(src.u64()), src.u64()
	if src.bad || count > LogsMax || s.nextLog == 0 {
		return nil, corrupt("checkpoint of %d bytes with %d logs, next id %d", len(payload), count, s.nextLog)
	}
	var prev logcore.LogID
	for range count {
		l, err := decodeLog(&src)
		if err != nil {
			return nil, err
		}
		if err := s.insert(l, prev); err != nil {
			return nil, err
		}
		prev = l.ID
	}
	if flags&checkpointFlagNodes != 0 {
		if err := s.decodeNodes(&src); err != nil {
			return nil, err
		}
	}
	if flags&checkpointFlagStripes != 0 {
		if err := s.decodeStripes(&src); err != nil {
			return nil, err
		}
	}
	if flags&checkpointFlagHistory != 0 {
		if err := s.decodeHistory(&src); err != nil {
			return nil, err
		}
	}
	if flags&checkpointFlagDirectory != 0 {
		if err := s.decodeDirectory(&src); err != nil {
			return nil, err
		}
	}
	if len(src.b) != 0 {
		return nil, corrupt("checkpoint: %d bytes too many", len(src.b))
	}
	return s, s.checkParents()
}

func decodeLog(src *source) (*Log, error) {
	l := &Log{ID: logcore.LogID(src.u64()), Epoch: logcore.Epoch(src.u64()), Sequence: src.u64(),
		CreatedLSN: logcore.LSN(src.u64()), OriginLSN: logcore.LSN(src.u64()), TruncatedBefore: logcore.LSN(src.u64()),
		LastLSN: logcore.LSN(src.u64()), LastTime: logcore.HLC(src.u64()), Entries: src.u64(), Bytes: src.u64(),
		Parent: logcore.LogID(src.u64()), BranchLSN: logcore.LSN(src.u64())}
	flags, nameBytes, writerBytes, formatBytes, places := src.u16(), int(src.u16()), int(src.u16()), int(src.u16()), int(src.u16())
	if err := unknownFlags("log in a checkpoint", uint32(flags), logFlagsKnown); err != nil && !src.bad {
		return nil, err
	}
	l.WriterOpen = flags&logFlagWriterOpen != 0
	if flags&logFlagArchive != 0 {
		l.Durability = DurabilityArchive
	}
	if nameBytes > logcore.LogNameMax || writerBytes > WriterNameMax || formatBytes > PayloadFormatMax || places > WindowEntries || uint64(places) > l.Sequence {
		return nil, corrupt("checkpoint: log %d with names of %d, %d and %d bytes, %d places of %d", l.ID, nameBytes, writerBytes, formatBytes, places, l.Sequence)
	}
	l.Name, l.Writer = string(src.bytes(nameBytes)), string(src.bytes(writerBytes))
	l.PayloadFormat = string(src.bytes(formatBytes))
	if places != 0 && uint64(places) != min(l.Sequence, WindowEntries) {
		return nil, corrupt("checkpoint: log %d with %d places of %d", l.ID, places, l.Sequence)
	}
	var p Place
	for i := range places {
		p.LSN += logcore.LSN(src.uvarint())
		p.Time += logcore.HLC(src.uvarint())
		p.tx = src.u32()
		if src.bad {
			break
		}
		l.window.put(l.Sequence-uint64(places-1-i), p)
	}
	if src.bad {
		return nil, corrupt("checkpoint: log %d is cut short", l.ID)
	}
	if flags&logFlagMoving != 0 {
		m, err := decodeMoving(src, l.ID)
		if err != nil {
			return nil, err
		}
		l.Moving = m
	}
	l.Gone = flags&logFlagGone != 0
	if flags&logFlagMoving != 0 && l.Moving.isZero() || l.Gone && flags&logFlagMoving == 0 {
		return nil, corrupt("checkpoint: log %d: flags %#x do not fit its extents", l.ID, flags)
	}
	return l, nil
}

// insert adds a decoded log; ids ascend from prev.
func (s *State) insert(l *Log, prev logcore.LogID) error {
	if err := logcore.ValidateLogName(l.Name); err != nil {
		return corrupt("checkpoint: log %d: %v", l.ID, err)
	}
	if err := ValidatePayloadFormat(l.PayloadFormat); err != nil {
		return corrupt("checkpoint: log %d: %v", l.ID, err)
	}
	if err := l.checkExtents(); err != nil {
		return err
	}
	_, taken := s.names[l.Name]
	if l.ID <= prev || l.ID >= s.nextLog && l.ID>>logIDShardBits == s.nextLog>>logIDShardBits || taken && !l.Gone || l.WriterOpen && l.Epoch == 0 {
		return corrupt("checkpoint: log %d after %d, %q, epoch %d, next id %d: doubled or out of range", l.ID, prev, l.Name, l.Epoch, s.nextLog)
	}
	if s.logs[l.ID] = l; l.Gone {
		s.noteGone(l)
	} else {
		s.names[l.Name] = l.ID
	}
	s.reserved += l.reserve()
	if l.Parent != 0 {
		s.histories.children[l.Parent]++
	}
	return nil
}

func (s *State) checkParents() error {
	for _, l := range s.logs {
		steps := 0
		for p := l; p.Parent != 0; p = s.logs[p.Parent] {
			// Ids of one shard ascend; a family that has been in several has those of several.
			sameShard := p.Parent>>logIDShardBits == p.ID>>logIDShardBits
			if steps++; s.logs[p.Parent] == nil || sameShard && p.Parent >= p.ID || steps > len(s.logs) {
				return corrupt("checkpoint: log %d has no parent %d", p.ID, p.Parent)
			}
		}
	}
	return nil
}
