package catalog

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

// State is the fold of a shard's entries. It is not safe for concurrent use.
//
// Invariants: names and logs describe the same logs; every parent exists; an open
// writer's epoch is at least 1.
type State struct {
	// LSN and Time are those of the last entry folded; 0 when none was.
	LSN  logcore.LSN
	Time logcore.HLC
	// Incarnation of the shard; 0 until its command is folded.
	Incarnation uint64

	nextLog logcore.LogID
	logs    map[logcore.LogID]*Log
	names   map[string]logcore.LogID // of those that are here
	gone    map[string]logcore.LogID // of those that are Gone; of several of a name the one that left last; derived
	nodes   map[uint64]Node
	stripes stripemap.Map

	histories histories
	// reserved is what the logs may take in a checkpoint, at most; derived.
	reserved int
	dir      directory
	folded   uint64 // bytes of records; of no checkpoint
}

// Log is what the catalog knows of one log. Read-only for callers. What an append reads and writes comes first, in two
// lines of the processor's cache: with a thousand logs, fetching those is most of what an append costs here.
type Log struct {
	Epoch      logcore.Epoch // 0 until the first writer
	WriterOpen bool          // the epoch's writer has not closed it
	Sequence   uint64        // of the epoch's last append
	// LastLSN and LastTime are those of the last entry. On a branch without entries they
	// are where it forked. 0 when there is nothing.
	LastLSN  logcore.LSN
	LastTime logcore.HLC
	Entries  uint64 // its own, a branch's parent's not counted
	Bytes    uint64 // of their bodies
	window   window
	Moving

	ID     logcore.LogID
	Name   string
	Writer string // who holds or held the epoch
	// PayloadFormat is what its payloads are; empty while no writer has said it.
	PayloadFormat string
	Durability    Durability  // when its entries are acknowledged
	CreatedLSN    logcore.LSN // of the command that created it
	// OriginLSN is the first LSN the log can have an entry at; on a branch its parent's.
	OriginLSN logcore.LSN
	// TruncatedBefore: entries below it were given up; 0 when none were.
	TruncatedBefore logcore.LSN
	Parent          logcore.LogID
	BranchLSN       logcore.LSN
	// Horizon is the LSN from which on its pages can be read; below it only where a lease
	// or a branch keeps them. Of a branch it says nothing about what is its parent's.
	Horizon logcore.LSN
	// WindowMs and WindowBytes say how long, and for how many bytes of the log, its
	// history is kept: as long as either does. Both 0: for ever.
	WindowMs, WindowBytes uint64
}

// FirstLSN is the lowest LSN that the log can be read from.
func (l *Log) FirstLSN() logcore.LSN { return max(l.OriginLSN, l.TruncatedBefore) }

// Placed returns the place of an append of the current epoch among the last
// WindowEntries.
func (l *Log) Placed(sequence uint64) (Place, bool) { return l.window.get(sequence, l.Sequence) }

// NewState returns the empty catalog.
func NewState() *State {
	return &State{nextLog: 1, logs: map[logcore.LogID]*Log{}, names: map[string]logcore.LogID{}, gone: map[string]logcore.LogID{}, nodes: map[uint64]Node{}, histories: newHistories(), dir: newDirectory()}
}

// Folded returns how many bytes of bodies this state has folded. It is not part of a checkpoint: only
// the difference of two readings means something.
func (s *State) Folded() uint64 { return s.folded }

// Clone returns an independent copy.
func (s *State) Clone() *State {
	c := *s
	c.logs = make(map[logcore.LogID]*Log, len(s.logs))
	for id, l := range s.logs {
		copied := *l
		copied.window.places = slices.Clone(l.window.places)
		copied.Extents = slices.Clone(l.Extents)
		c.logs[id] = &copied
	}
	c.names, c.gone = maps.Clone(s.names), maps.Clone(s.gone)
	c.nodes = maps.Clone(s.nodes)
	c.stripes = s.stripes.Clone()
	c.histories = s.histories.clone()
	c.dir = s.dir.clone()
	return &c
}

// NextLog returns the id that the next log gets.
func (s *State) NextLog() logcore.LogID { return s.nextLog }

// Len returns the number of logs that are here.
func (s *State) Len() int {
	n := 0
	for _, l := range s.logs {
		if !l.Gone {
			n++
		}
	}
	return n
}

// ByName returns a log; an unknown name is logcore.ErrLogNotFound, one that has left for
// another shard a logcore.MovedError.
func (s *State) ByName(name string) (*Log, error) {
	if l, ok := s.Named(name); ok {
		if err := l.present(); err != nil {
			return nil, err
		}
		return l, nil
	}
	return nil, fmt.Errorf("%w: %q", logcore.ErrLogNotFound, name)
}

// Named returns a log, also one that is Gone when none of the name is here.
func (s *State) Named(name string) (*Log, bool) {
	id, ok := s.names[name]
	if !ok {
		id = s.gone[name]
	}
	l := s.logs[id]
	return l, l != nil
}

// ByID returns a log, also one that is Gone; an unknown id is logcore.ErrLogNotFound.
func (s *State) ByID(id logcore.LogID) (*Log, error) {
	if l, ok := s.logs[id]; ok {
		return l, nil
	}
	return nil, fmt.Errorf("%w: id %d", logcore.ErrLogNotFound, id)
}

// Logs returns every log, by id, those that are Gone too.
func (s *State) Logs() []*Log {
	out := make([]*Log, 0, len(s.logs))
	for _, id := range slices.Sorted(maps.Keys(s.logs)) {
		out = append(out, s.logs[id])
	}
	return out
}

// CheckWriter says whether a log may be appended to under an epoch: logcore.ErrFenced
// when the epoch is not the current one or was closed, a logcore.MovedError when the log has left.
func (s *State) CheckWriter(id logcore.LogID, epoch logcore.Epoch) (*Log, error) {
	l, err := s.ByID(id)
	if err != nil {
		return nil, err
	}
	if err := l.present(); err != nil {
		return nil, err
	}
	if epoch != l.Epoch {
		return nil, fmt.Errorf("%w: log %q is at epoch %d (writer %q), not %d", logcore.ErrFenced, l.Name, l.Epoch, l.Writer, epoch)
	}
	if !l.WriterOpen {
		return nil, fmt.Errorf("%w: log %q: epoch %d was closed", logcore.ErrFenced, l.Name, epoch)
	}
	return l, nil
}

// CheckIncarnation says whether an epoch was granted by the shard as it is now:
// logcore.ErrFenced when it was by another incarnation. A restored shard may grant the same epoch
// again, when the first grant was lost; only the two together are the fencing token.
func (s *State) CheckIncarnation(granted uint64) error {
	if granted != s.Incarnation {
		return fmt.Errorf("%w: the epoch was granted by incarnation %#x of the shard, which is %#x since it was restored: open a writer and look where the log ends", logcore.ErrFenced, granted, s.Incarnation)
	}
	return nil
}

// Apply folds one entry. Entries come in LSN order without a gap; an empty state
// begins at LSN 1 or at a checkpoint. An error wraps logcore.ErrCorrupt or
// logcore.ErrUnsupportedVersion and leaves the state as it was: a leader proposes
// valid entries only, so the log and the fold disagree. The payload is not kept.
func (s *State) Apply(e logcore.Entry) error {
	if err := s.apply(e); err != nil {
		return fmt.Errorf("catalog: LSN %d, kind %v: %w", e.LSN, e.Kind, err)
	}
	s.LSN, s.Time = e.LSN, e.Time
	return nil
}

func (s *State) apply(e logcore.Entry) error {
	fresh := s.LSN == 0
	if e.LSN != s.LSN+1 && !(fresh && e.Kind == logcore.KindCheckpoint) {
		return corrupt("follows LSN %d", s.LSN)
	}
	switch {
	case e.Kind.OfLog():
		r, err := DecodeRecord(e.Payload)
		if err != nil {
			return err
		}
		return s.applyRecord(e, r)
	case e.Kind == logcore.KindCatalog:
		c, err := DecodeCommand(e.Payload)
		if err != nil {
			return err
		}
		if err := s.Check(c, e.LSN); err != nil {
			return corrupt("%v: %v", c.Op, err)
		}
		s.applyCommand(c, e)
	case e.Kind == logcore.KindCheckpoint:
		return s.applyCheckpoint(e, fresh)
	case e.Kind == logcore.KindSeal || e.Kind == logcore.KindRaft:
	default:
		return fmt.Errorf("%w: entry kind %v: use a newer build", logcore.ErrUnsupportedVersion, e.Kind)
	}
	return nil
}

func (s *State) applyRecord(e logcore.Entry, r Record) error {
	l, err := s.CheckWriter(r.Log, r.Epoch)
	if err != nil {
		return corrupt("%v", err)
	}
	if r.Sequence != l.Sequence+1 {
		return corrupt("log %q: sequence %d after %d", l.Name, r.Sequence, l.Sequence)
	}
	l.Sequence = r.Sequence
	lsn := e.LSN + l.Base
	l.LastLSN, l.LastTime = lsn, e.Time
	l.Entries++
	l.Bytes += r.BodyBytes()
	s.folded += r.BodyBytes()
	l.window.put(r.Sequence, Place{LSN: lsn, Time: e.Time, tx: txSum(e.Tx)})
	return nil
}

// applyCheckpoint loads a checkpoint into an empty state, and holds any other state
// against it: a fold that came to another result is a bug or a damaged entry, and
// must not go on.
func (s *State) applyCheckpoint(e logcore.Entry, fresh bool) error {
	loaded, err := DecodeCheckpoint(e.Payload)
	if err != nil {
		return err
	}
	if loaded.LSN+1 != e.LSN {
		return corrupt("checkpoint of LSN %d", loaded.LSN)
	}
	if fresh {
		*s = *loaded
		return nil
	}
	if !bytes.Equal(s.EncodeCheckpoint(), loaded.EncodeCheckpoint()) {
		return corrupt("the checkpoint differs from the fold of the entries before it")
	}
	return nil
}
