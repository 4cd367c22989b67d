package enginetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/pageserver"
)

// Source is a log service in memory: one shard, its logs and their branches. It may
// be used by many goroutines.
type Source struct {
	// BatchEntries is the most entries of a batch; 0 means 8.
	BatchEntries int
	// Pause is slept before each batch that has entries.
	Pause time.Duration
	// Mangle, when set, may replace what a batch became on its way: the source is then
	// one that breaks its contract. It is called by the follower's goroutine.
	Mangle func(log string, batch pageserver.Batch) []pageserver.Batch

	mu           sync.Mutex
	incarnation  uint64                        // guarded by mu, as all below
	last         logcore.LSN                   // the shard's
	trimmed      map[logcore.LogID]logcore.LSN // entries up to it are gone
	logs         map[logcore.LogID]*memoryLog  // by id
	names        map[string]logcore.LogID      // by name
	changed      chan struct{}                 // closed when an entry or a log comes
	clock        logcore.HLC
	transactions uint64
	down         error
	hot          logcore.LSN
	keeping      keeping
}

type memoryLog struct {
	info     pageserver.LogInfo
	entries  []pageserver.Entry
	epoch    logcore.Epoch
	sequence uint64
	closed   bool // its writer
	counted  int  // entries whose payloads are in bytes
	bytes    uint64
}

var _ pageserver.LogSource = (*Source)(nil)

// NewSource returns a source without logs.
func NewSource(incarnation uint64) *Source {
	return &Source{incarnation: incarnation, trimmed: map[logcore.LogID]logcore.LSN{}, logs: map[logcore.LogID]*memoryLog{},
		names: map[string]logcore.LogID{}, changed: make(chan struct{}), keeping: newKeeping(), clock: logcore.HLCAt(time.UnixMilli(1_700_000_000_000))}
}

func (s *Source) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Create creates a log.
func (s *Source) Create(name string) pageserver.LogInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.create(name, 0, 0)
}

func (s *Source) create(name string, parent logcore.LogID, at logcore.LSN) pageserver.LogInfo {
	s.last++
	l := &memoryLog{info: pageserver.LogInfo{ID: logcore.LogID(s.last), Name: name, Parent: parent, BranchLSN: at}, epoch: 1}
	s.logs[l.info.ID], s.names[name] = l, l.info.ID
	s.broadcast()
	return s.infoOf(l)
}

func (s *Source) infoOf(l *memoryLog) pageserver.LogInfo {
	info := l.info
	info.Incarnation, info.Committed, info.HotFirst = s.incarnation, s.last, s.hot
	info.WriterOpen = len(l.entries) > 0 && !l.closed
	if l.counted > len(l.entries) {
		l.counted, l.bytes = 0, 0 // some are gone
	}
	for ; l.counted < len(l.entries); l.counted++ {
		l.bytes += uint64(len(l.entries[l.counted].Payload))
	}
	info.Bytes = l.bytes
	if n := len(l.entries); n > 0 {
		info.Last, info.LastTime = l.entries[n-1].LSN, l.entries[n-1].Time
	}
	return info
}

// Append appends an entry and returns its LSN and time. LSNs have gaps, as when other
// logs share the shard.
func (s *Source) Append(log string, kind logcore.Kind, tx logcore.TxID, payload []byte) (logcore.LSN, logcore.HLC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[s.names[log]]
	l.sequence++
	l.closed = false
	s.last += 1 + logcore.LSN(l.sequence%3)
	s.clock += 1 << 15 // half a millisecond
	l.entries = append(l.entries, pageserver.Entry{LSN: s.last, Time: s.clock, Kind: kind, Tx: tx, Epoch: l.epoch, Sequence: l.sequence, Payload: payload})
	s.broadcast()
	return s.last, s.clock
}

// AppendTx appends a transaction the way a writer does: one part is a DATA entry, more
// are PARTs and a COMMIT, or an ABORT. It returns the LSN of the last entry.
func (s *Source) AppendTx(log string, t Transaction) logcore.LSN {
	tx := s.newTx()
	if len(t.Parts) == 1 && !t.Abort {
		lsn, _ := s.Append(log, logcore.KindData, tx, t.Parts[0])
		return lsn
	}
	parts, last := t.Parts, []byte(nil)
	if !t.EmptyCommit && !t.Abort {
		parts, last = parts[:len(parts)-1], parts[len(parts)-1]
	}
	for _, p := range parts {
		s.Append(log, logcore.KindPart, tx, p)
	}
	kind := logcore.KindCommit
	if t.Abort {
		kind = logcore.KindAbort
	}
	lsn, _ := s.Append(log, kind, tx, last)
	return lsn
}

// newTx returns a transaction id; the same history gives the same ones, in every process.
func (s *Source) newTx() logcore.TxID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transactions++
	var tx logcore.TxID
	binary.BigEndian.PutUint64(tx[:], s.transactions)
	return tx
}

// NewEpoch begins a new writer epoch of a log: the open transactions are fenced.
func (s *Source) NewEpoch(log string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[s.names[log]]
	l.epoch++
	l.sequence = 0
}

// Restore makes the source what a log service is after a restore to an LSN: another
// incarnation, without what came later, which gives the LSNs above out again.
func (s *Source) Restore(incarnation uint64, keep logcore.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.incarnation, s.last = incarnation, keep
	for id, l := range s.logs {
		if id > logcore.LogID(keep) { // ids are the LSNs of their creation
			delete(s.logs, id)
			delete(s.names, l.info.Name)
			continue
		}
		l.entries = slices.DeleteFunc(slices.Clone(l.entries), func(e pageserver.Entry) bool { return e.LSN > keep })
		l.epoch++
		l.sequence = 0
	}
	s.broadcast()
}

// Rollback makes the source what a log service is whose directory was put back from a
// copy made at an LSN: the same incarnation, without what came later, whose LSNs, epochs
// and sequence numbers are given out again.
func (s *Source) Rollback(keep logcore.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = keep
	for id, l := range s.logs {
		if id > logcore.LogID(keep) {
			delete(s.logs, id)
			delete(s.names, l.info.Name)
			continue
		}
		l.entries = slices.DeleteFunc(slices.Clone(l.entries), func(e pageserver.Entry) bool { return e.LSN > keep })
		l.sequence = uint64(len(l.entries))
	}
	s.broadcast()
}

// Trim gives up the entries of a log up to an LSN.
func (s *Source) Trim(log string, upTo logcore.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trimmed[s.names[log]] = upTo
}

// Forget is Trim that gives the memory back too.
func (s *Source) Forget(log string, upTo logcore.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[s.names[log]]
	s.trimmed[s.names[log]] = upTo
	l.entries = slices.DeleteFunc(slices.Clone(l.entries), func(e pageserver.Entry) bool { return e.LSN <= upTo })
}

// SetDown makes every call fail with err, and every stream that is open; nil brings
// the source back.
func (s *Source) SetDown(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
	s.broadcast()
}

// SetHot says from which LSN on the source has entries at hand.
func (s *Source) SetHot(first logcore.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hot = first
}

// Incarnation returns the source's incarnation.
func (s *Source) Incarnation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.incarnation
}

// Last returns the LSN up to which the source has entries.
func (s *Source) Last() logcore.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Entries returns everything a reader of a log sees, its ancestors' included, in order.
func (s *Source) Entries(log string) []pageserver.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []pageserver.Entry
	bound := ^logcore.LSN(0)
	for id := s.names[log]; id != 0; {
		l := s.logs[id]
		var own []pageserver.Entry
		for _, e := range l.entries {
			if e.LSN <= bound {
				own = append(own, e)
			}
		}
		entries = append(own, entries...)
		id, bound = l.info.Parent, min(bound, l.info.BranchLSN)
	}
	return entries
}

// List implements pageserver.LogSource.
func (s *Source) List(context.Context) ([]pageserver.LogInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	var infos []pageserver.LogInfo
	for _, l := range s.logs {
		infos = append(infos, s.infoOf(l))
	}
	return infos, nil
}

// Info implements pageserver.LogSource.
func (s *Source) Info(_ context.Context, name string) (pageserver.LogInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return pageserver.LogInfo{}, s.down
	}
	l := s.logs[s.names[name]]
	if l == nil {
		return pageserver.LogInfo{}, fmt.Errorf("%w: %q", logcore.ErrLogNotFound, name)
	}
	return s.infoOf(l), nil
}

// CreateBranch implements pageserver.LogSource.
func (s *Source) CreateBranch(_ context.Context, parent, branch string, at logcore.LSN) (pageserver.LogInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return pageserver.LogInfo{}, s.down
	}
	if s.names[branch] != 0 {
		return pageserver.LogInfo{}, fmt.Errorf("%w: %q", logcore.ErrLogExists, branch)
	}
	return s.create(branch, s.names[parent], at), nil
}

// Entry implements pageserver.LogSource.
func (s *Source) Entry(_ context.Context, log pageserver.LogInfo, lsn logcore.LSN) (pageserver.Entry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return pageserver.Entry{}, false, s.down
	}
	if t := s.trimmed[log.ID]; lsn <= t {
		return pageserver.Entry{}, false, fmt.Errorf("%w: LSN %d, entries begin after %d", logcore.ErrTrimmed, lsn, t)
	}
	l := s.logs[log.ID]
	if l == nil {
		return pageserver.Entry{}, false, fmt.Errorf("%w: %q", logcore.ErrLogNotFound, log.Name)
	}
	entries := l.entries
	i := slices.IndexFunc(entries, func(e pageserver.Entry) bool { return e.LSN == lsn })
	if i < 0 {
		return pageserver.Entry{}, false, nil
	}
	return entries[i], true, nil
}

// Follow implements pageserver.LogSource.
func (s *Source) Follow(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		for ctx.Err() == nil {
			batch, changed, err := s.next(log, from)
			if err != nil {
				yield(pageserver.Batch{}, err)
				return
			}
			if len(batch.Entries) > 0 && s.Pause > 0 {
				time.Sleep(s.Pause)
			}
			if batch.Through >= from {
				from = batch.Through + 1
				for _, b := range s.mangled(log.Name, batch) {
					if !yield(b, nil) {
						return
					}
				}
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		yield(pageserver.Batch{}, ctx.Err())
	}
}

func (s *Source) mangled(log string, batch pageserver.Batch) []pageserver.Batch {
	if s.Mangle == nil {
		return []pageserver.Batch{batch}
	}
	return s.Mangle(log, batch)
}

// next returns the batch that begins at an LSN; its Through is below from when there
// is none yet.
func (s *Source) next(log pageserver.LogInfo, from logcore.LSN) (pageserver.Batch, chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return pageserver.Batch{}, nil, s.down
	}
	if log.Incarnation != s.incarnation {
		return pageserver.Batch{}, nil, fmt.Errorf("enginetest: the source was restored")
	}
	if t := s.trimmed[log.ID]; from <= t {
		return pageserver.Batch{}, nil, fmt.Errorf("%w: from LSN %d, entries begin after %d", logcore.ErrTrimmed, from, t)
	}
	l := s.logs[log.ID]
	if l == nil {
		return pageserver.Batch{}, nil, fmt.Errorf("%w: %q", logcore.ErrLogNotFound, log.Name)
	}
	at, _ := slices.BinarySearchFunc(l.entries, from, func(e pageserver.Entry, lsn logcore.LSN) int {
		if e.LSN < lsn {
			return -1
		}
		return int(min(e.LSN-lsn, 1))
	})
	limit := s.BatchEntries
	if limit == 0 {
		limit = 8
	}
	rest := l.entries[at:]
	if len(rest) <= limit {
		return pageserver.Batch{Entries: rest, Through: s.last}, s.changed, nil
	}
	return pageserver.Batch{Entries: rest[:limit], Through: rest[limit-1].LSN}, s.changed, nil
}
