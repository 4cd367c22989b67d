package catalog

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/logcore/logcore"
)

// Extent is a stretch of a log on one shard: the entries of Log there whose LSN, which is their index
// in the shard plus Base, is in [First, Last].
type Extent struct {
	Shard logcore.ShardID
	Log   logcore.LogID // not the log itself where a branch has it from its parent
	Base  logcore.LSN
	First logcore.LSN
	Last  logcore.LSN // Open in the one that is appended to
}

// Open is the Last of an extent that has no end yet.
const Open = logcore.LSN(math.MaxUint64)

// Index returns the index in the extent's shard of an LSN that is in it.
func (e Extent) Index(lsn logcore.LSN) logcore.LSN { return lsn - e.Base }

// Moving is what a log that has been in another shard knows besides. The zero value is that of a log that
// never was. A log moves with its branches, theirs, and so on: a family, of which the root counts the moves.
type Moving struct {
	// Gen counts the moves of a family, in its root: a command for an earlier one comes too late.
	Gen uint64
	// Base is what is added to an index of the shard to get the log's LSN.
	Base logcore.LSN
	// PlacedLSN is the LSN that the command had that placed the log here; what is above it is in this
	// shard. 0 when it was created here.
	PlacedLSN logcore.LSN
	// Gone: it left for shard To with the command at LeftLSN, in its own numbering: nothing of it is here
	// at or behind that.
	Gone    bool
	To      logcore.ShardID
	LeftLSN logcore.LSN
	// Extents are where its own entries up to PlacedLSN are; oldest first, each ending before the next begins.
	Extents []Extent
}

func (m Moving) isZero() bool {
	return m.Gen == 0 && m.Base == 0 && m.PlacedLSN == 0 && !m.Gone && len(m.Extents) == 0
}

// Index returns the index in the shard of one of the log's LSNs; 0 of one that the log had
// before it came here.
func (l *Log) Index(lsn logcore.LSN) logcore.LSN {
	if lsn <= l.PlacedLSN || lsn <= l.Base {
		return 0
	}
	return lsn - l.Base
}

// present returns an error that says where the log is when it isn't here.
func (l *Log) present() error {
	if l.Gone {
		return &logcore.MovedError{Log: l.Name, Shard: l.To}
	}
	return nil
}

// Chain returns where the entries are that a log of this shard shows, its parents' included: extents in the
// order of their LSNs, without one in another. The last is the log's own in this shard; that of a log
// that is gone ends.
func (s *State) Chain(id logcore.LogID, shard logcore.ShardID) (out []Extent, err error) {
	l, err := s.ByID(id)
	if err != nil {
		return nil, err
	}
	if l.Parent != 0 {
		if out, err = s.Chain(l.Parent, shard); err != nil {
			return nil, err
		}
		out = cut(out, l.BranchLSN)
	}
	return append(append(out, l.Extents...), l.here(shard)), nil
}

// here is the log's own extent in this shard.
func (l *Log) here(shard logcore.ShardID) Extent {
	e := Extent{Shard: shard, Log: l.ID, Base: l.Base, First: max(l.CreatedLSN, l.PlacedLSN) + 1, Last: Open}
	if l.Gone {
		e.Last = l.LeftLSN
	}
	return e
}

// cut returns a chain up to an LSN.
func cut(chain []Extent, at logcore.LSN) []Extent {
	n := 0
	for n < len(chain) && chain[n].First <= at {
		n++
	}
	chain = chain[:n]
	if n > 0 {
		chain[n-1].Last = min(chain[n-1].Last, at)
	}
	return chain
}

// Root returns the log that a log is a branch of, or a branch of a branch, and so on; itself when it is none.
func (s *State) Root(l *Log) *Log {
	for l.Parent != 0 {
		l = s.logs[l.Parent]
	}
	return l
}

// Family returns a root log with its branches, theirs, and so on, by id.
func (s *State) Family(root *Log) (out []*Log) {
	for _, l := range s.Logs() {
		if s.Root(l) == root {
			out = append(out, l)
		}
	}
	return out
}

// Departed returns the catalog of a family that is gone, as it is placed where it went: everything there is
// to know of it, with its idempotency tables, leases and holds. shard is the one it left.
func (s *State) Departed(root *Log, shard logcore.ShardID) (*State, error) {
	if !root.Gone || root.Parent != 0 {
		return nil, fmt.Errorf("%w: log %q has not left shard %d", logcore.ErrInvalid, root.Name, shard)
	}
	out := NewState()
	out.histories.epochFloor = s.histories.epochFloor
	for _, l := range s.Family(root) {
		copied := *l
		copied.window.places = slices.Clone(l.window.places)
		copied.Extents = slices.Clone(l.Extents)
		if e := l.here(shard); e.First <= e.Last {
			copied.Extents = append(copied.Extents, e)
		}
		copied.Gone, copied.To, copied.LeftLSN, copied.Base = false, 0, 0, 0
		copied.PlacedLSN = l.LeftLSN // what comes must be above
		if l == root {
			copied.Gen++
		}
		out.logs[l.ID], out.names[l.Name] = &copied, l.ID
		out.nextLog = max(out.nextLog, l.ID+1)
	}
	for id, lease := range s.histories.leases {
		if out.logs[lease.Log] != nil {
			out.histories.leases[id] = lease
		}
	}
	for k, at := range s.histories.holds {
		if out.logs[k.log] != nil {
			out.histories.holds[k] = at
		}
	}
	return out, nil
}

// checkExtents says what is wrong with the order of the extents.
func (l *Log) checkExtents() error {
	before := logcore.LSN(0)
	for i, e := range l.Extents {
		if e.Log != l.ID || e.First <= before || e.First > e.Last || e.Last == Open || e.First <= e.Base {
			return corrupt("log %d: extent %d is LSNs %d to %d of log %d with base %d, after LSN %d", l.ID, i, e.First, e.Last, e.Log, e.Base, before)
		}
		before = e.Last
	}
	if l.PlacedLSN != 0 && (l.PlacedLSN < before || l.PlacedLSN <= l.Base) || l.Gone && l.LeftLSN < l.PlacedLSN {
		return corrupt("log %d: placed at LSN %d with base %d behind extents that end at %d, left at %d", l.ID, l.PlacedLSN, l.Base, before, l.LeftLSN)
	}
	return nil
}

func (m Moving) append(b []byte) []byte {
	for _, v := range []uint64{m.Gen, uint64(m.Base), uint64(m.PlacedLSN), uint64(m.LeftLSN)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(m.To))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.Extents)))
	for _, e := range m.Extents {
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Shard))
		for _, v := range []uint64{uint64(e.Base), uint64(e.First), uint64(e.Last)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
	}
	return b
}

func decodeMoving(src *source, log logcore.LogID) (m Moving, err error) {
	m = Moving{Gen: src.u64(), Base: logcore.LSN(src.u64()), PlacedLSN: logcore.LSN(src.u64()), LeftLSN: logcore.LSN(src.u64()), To: logcore.ShardID(src.u32())}
	count := int(src.u16())
	if src.bad || count > ExtentsMax {
		return m, corrupt("log %d with %d extents", log, count)
	}
	for range count {
		m.Extents = append(m.Extents, Extent{Shard: logcore.ShardID(src.u32()), Log: log, Base: logcore.LSN(src.u64()), First: logcore.LSN(src.u64()), Last: logcore.LSN(src.u64())})
	}
	if src.bad {
		return m, corrupt("log %d: its extents are cut short", log)
	}
	return m, nil
}

// checkOwn says whether the shard may be told which one it is.
func (s *State) checkOwn(c Command) error {
	if c.Shard == 0 || c.Shard > ShardsMax || len(s.logs) > 0 || s.nextLog >= firstLog(c.Shard) {
		return fmt.Errorf("%w: shard %d, with %d logs and the next id %d: a shard is told once, before it has any", logcore.ErrInvalid, c.Shard, len(s.logs), s.nextLog)
	}
	return nil
}

// firstLog is the first log id of a shard: each has its own, so that no two give the same.
func firstLog(shard logcore.ShardID) logcore.LogID { return logcore.LogID(shard)<<logIDShardBits | 1 }

// logIDShardBits: a shard has so many bits of ids.
const logIDShardBits = 40

// Owned reports whether the shard knows which one it is, as all but the first must before they have logs.
func (s *State) Owned(shard logcore.ShardID) bool { return shard == 0 || s.nextLog >= firstLog(shard) }

// checkLeave says whether a family may leave for another shard.
func (s *State) checkLeave(c Command) error {
	root, err := s.ByID(c.Log)
	if err != nil {
		return err
	}
	switch {
	case root.Gone:
		return root.present()
	case root.Parent != 0:
		return fmt.Errorf("%w: log %q is a branch: it moves with log %q", logcore.ErrInvalid, root.Name, s.Root(root).Name)
	case c.Gen != root.Gen+1:
		return fmt.Errorf("%w: log %q: move %d after %d", logcore.ErrInvalid, root.Name, c.Gen, root.Gen)
	}
	return s.CheckMovable(root)
}

// CheckMovable refuses a family that has been moved too often.
func (s *State) CheckMovable(root *Log) error {
	for _, l := range s.Family(root) {
		if len(l.Extents)+2 > ExtentsMax {
			return fmt.Errorf("%w: log %q has %d extents: it can't be moved any more", logcore.ErrTooLarge, l.Name, len(l.Extents))
		}
	}
	return nil
}

// CheckRoom says whether the shard has room for logs of another one, and for as much again that may be on
// its way.
func (s *State) CheckRoom(logs []*Log) error {
	more := 0
	for _, l := range logs {
		more += l.reserve() + reserveMoving + reserveExtent
	}
	if len(s.logs)+2*len(logs) > LogsMax {
		return fmt.Errorf("%w: the shard has %d logs, those that left included", logcore.ErrTooLarge, len(s.logs))
	}
	return s.checkRoom(2*more, "logs")
}

func (s *State) applyLeave(c Command, lsn logcore.LSN) {
	for _, l := range s.Family(s.logs[c.Log]) {
		s.reserved -= l.reserve()
		l.Gone, l.To, l.LeftLSN = true, c.Shard, lsn+l.Base
		delete(s.names, l.Name)
		s.noteGone(l)
		s.reserved += l.reserve()
	}
}

// noteGone notes a log that is gone, under its name unless another one of that name left later. Its id says nothing:
// ids of several shards have no order.
func (s *State) noteGone(l *Log) {
	have := s.logs[s.gone[l.Name]]
	if have == nil || have.LeftLSN-have.Base < l.LeftLSN-l.Base { // the index at which it left
		s.gone[l.Name] = l.ID
	}
}

// forget takes what is left of a family away that comes back: what it is now comes with it.
func (s *State) forget(root *Log) {
	family := s.Family(root)
	for _, l := range family {
		if l.Parent != 0 {
			s.histories.leave(l)
		}
		s.reserved -= l.reserve()
		delete(s.logs, l.ID)
	}
	clear(s.gone)
	for _, l := range s.logs {
		if l.Gone {
			s.noteGone(l)
		}
	}
	for id, lease := range s.histories.leases {
		if s.logs[lease.Log] == nil {
			delete(s.histories.leases, id)
		}
	}
	for k := range s.histories.holds {
		if s.logs[k.log] == nil {
			delete(s.histories.holds, k)
		}
	}
}

// checkPlace says whether a family may be placed here.
func (s *State) checkPlace(c Command) error {
	from, err := DecodeCheckpoint([]byte(c.Placed))
	if err != nil {
		return err
	}
	root := from.logs[c.Log]
	if root == nil || root.Parent != 0 || root.Gen != c.Gen || root.Gen == 0 || len(from.dir.byName) > 0 || len(from.nodes) > 0 {
		return fmt.Errorf("%w: what is placed as log %d, move %d, is not that", logcore.ErrInvalid, c.Log, c.Gen)
	}
	if have := s.logs[root.ID]; have != nil && (!have.Gone || have.Gen >= root.Gen) {
		return fmt.Errorf("%w: log %q is here already, at move %d", logcore.ErrLogExists, have.Name, have.Gen)
	}
	more, leases, holds := 0, len(s.histories.leases), len(s.histories.holds)
	for _, l := range from.Logs() {
		if from.Root(l) != root || l.Gone || l.Base != 0 || l.PlacedLSN == 0 {
			return fmt.Errorf("%w: log %q is placed with log %q, and is not of its family or not ready for it", logcore.ErrInvalid, l.Name, root.Name)
		}
		if _, taken := s.names[l.Name]; taken {
			return fmt.Errorf("%w: %q", logcore.ErrLogExists, l.Name)
		}
		more += l.reserve()
	}
	leases, holds = leases+len(from.histories.leases), holds+len(from.histories.holds)
	if len(s.logs)+len(from.logs) > LogsMax || leases > LeasesMax || holds > HoldsMax {
		return fmt.Errorf("%w: the shard would have %d logs, %d leases and %d holds", logcore.ErrTooLarge, len(s.logs)+len(from.logs), leases, holds)
	}
	return s.checkRoom(more, "logs")
}

// applyPlace puts a family here that comes from another shard.
func (s *State) applyPlace(c Command, lsn logcore.LSN) {
	from, _ := DecodeCheckpoint([]byte(c.Placed)) // Check has read it
	if old := s.logs[c.Log]; old != nil {
		s.forget(old)
	}
	for _, l := range from.Logs() {
		if l.PlacedLSN >= lsn { // it must go on above what it had
			l.Base = l.PlacedLSN - lsn
		}
		l.PlacedLSN = lsn + l.Base
		s.logs[l.ID], s.names[l.Name] = l, l.ID
		s.reserved += l.reserve()
		if l.Parent != 0 {
			s.histories.children[l.Parent]++
		}
	}
	h := &s.histories
	h.epochFloor = max(h.epochFloor, from.histories.epochFloor)
	for id, lease := range from.histories.leases {
		h.leases[id] = lease
		h.nextExpiry = min(h.nextExpiry, lease.Expires)
	}
	for k, at := range from.histories.holds {
		h.holds[k] = at
	}
}
