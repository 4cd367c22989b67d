package enginetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/pageserver"
)

// keeping is what a Source keeps of its logs' histories: the rules of the catalog, told a
// second time.
type keeping struct {
	horizon     map[logcore.LogID]logcore.LSN
	window      map[logcore.LogID]time.Duration
	windowBytes map[logcore.LogID]uint64
	leases      map[int]pageserver.LeasedLSN
	holds       map[int]pageserver.LeasedLSN
	next        int
	reports     map[logcore.LogID]pageserver.IngestReport
}

func newKeeping() keeping {
	return keeping{horizon: map[logcore.LogID]logcore.LSN{}, window: map[logcore.LogID]time.Duration{}, windowBytes: map[logcore.LogID]uint64{},
		leases: map[int]pageserver.LeasedLSN{}, holds: map[int]pageserver.LeasedLSN{}, reports: map[logcore.LogID]pageserver.IngestReport{}}
}

var _ pageserver.HistoryKeeper = (*Source)(nil)

// owner returns the log whose entries a reader of a log at an LSN reads last.
func (s *Source) owner(l *memoryLog, at logcore.LSN) *memoryLog {
	for l.info.Parent != 0 && at <= l.info.BranchLSN {
		l = s.logs[l.info.Parent]
	}
	return l
}

// Readable reports whether a log can be read at an LSN.
func (s *Source) Readable(log string, at logcore.LSN) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readable(s.logs[s.names[log]], at)
}

func (s *Source) readable(l *memoryLog, at logcore.LSN) bool {
	owner := s.owner(l, at)
	if at >= s.keeping.horizon[owner.info.ID] {
		return true
	}
	for _, lease := range s.keeping.leases {
		if lease.LSN == at && s.owner(s.logs[lease.Log], at) == owner {
			return true
		}
	}
	for _, b := range s.logs {
		if b.info.Parent != 0 && b.info.BranchLSN == at && s.owner(s.logs[b.info.Parent], at) == owner {
			return true
		}
	}
	return false
}

// Lease keeps an LSN of a log readable, when it is, and returns how to give it back.
func (s *Source) Lease(log string, at logcore.LSN) (id int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[s.names[log]]
	if !s.readable(l, at) {
		return 0, false
	}
	s.keeping.next++
	s.keeping.leases[s.keeping.next] = pageserver.LeasedLSN{Log: l.info.ID, LSN: at}
	return s.keeping.next, true
}

// Hold keeps the history of a log from an LSN on, when all of it is there.
func (s *Source) Hold(log string, at logcore.LSN) (id int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[s.names[log]]
	if at < s.keeping.horizon[s.owner(l, at).info.ID] {
		return 0, false
	}
	s.keeping.next++
	s.keeping.holds[s.keeping.next] = pageserver.LeasedLSN{Log: l.info.ID, LSN: at}
	return s.keeping.next, true
}

// Release gives a lease back or lifts a hold.
func (s *Source) Release(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keeping.leases, id)
	delete(s.keeping.holds, id)
}

// SetWindow says how long a log's history is kept.
func (s *Source) SetWindow(log string, window time.Duration, bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.names[log]
	s.keeping.window[id], s.keeping.windowBytes[id] = window, bytes
}

// Horizon returns the LSN from which on all of a log can be read.
func (s *Source) Horizon(log string) logcore.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeping.horizon[s.names[log]]
}

// DeleteBranch deletes a branch; false when branches, leases or holds of its are in the way.
func (s *Source) DeleteBranch(log string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.names[log]
	for _, l := range s.logs {
		if l.info.Parent == id {
			return false
		}
	}
	for _, kept := range []map[int]pageserver.LeasedLSN{s.keeping.leases, s.keeping.holds} {
		for _, k := range kept {
			if k.Log == id {
				return false
			}
		}
	}
	delete(s.logs, id)
	delete(s.names, log)
	s.broadcast()
	return true
}

// Histories implements pageserver.HistoryKeeper.
func (s *Source) Histories(context.Context) (pageserver.Histories, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return pageserver.Histories{}, s.down
	}
	h := pageserver.Histories{Now: s.clock}
	for id, l := range s.logs {
		h.Logs = append(h.Logs, pageserver.History{ID: id, Incarnation: s.incarnation, Parent: l.info.Parent, BranchLSN: l.info.BranchLSN, Horizon: s.keeping.horizon[id],
			Window: s.keeping.window[id], WindowBytes: s.keeping.windowBytes[id]})
	}
	slices.SortFunc(h.Logs, func(a, b pageserver.History) int { return int(a.ID) - int(b.ID) })
	for _, l := range s.keeping.leases {
		h.Leases = append(h.Leases, l)
	}
	return h, nil
}

// AdvanceHorizon implements pageserver.HistoryKeeper.
func (s *Source) AdvanceHorizon(_ context.Context, log pageserver.LogInfo, to logcore.LSN) (logcore.LSN, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return 0, s.down
	}
	l := s.logs[log.ID]
	if l == nil {
		return 0, fmt.Errorf("%w: %d", logcore.ErrLogNotFound, log.ID)
	}
	for _, h := range s.keeping.holds {
		for of := s.logs[h.Log]; ; of = s.logs[of.info.Parent] {
			if of == l {
				to = min(to, max(h.LSN, l.info.BranchLSN))
			}
			if of.info.Parent == 0 || h.LSN > of.info.BranchLSN {
				break
			}
		}
	}
	s.keeping.horizon[log.ID] = max(s.keeping.horizon[log.ID], to)
	return s.keeping.horizon[log.ID], nil
}

// ReportIngest implements pageserver.HistoryKeeper.
func (s *Source) ReportIngest(_ context.Context, incarnation uint64, logs []pageserver.IngestReport) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil || incarnation != s.incarnation {
		return s.down
	}
	for _, r := range logs {
		s.keeping.reports[r.Log] = r
	}
	return nil
}

// Reported returns what the page server last said of a log.
func (s *Source) Reported(log string) (pageserver.IngestReport, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.keeping.reports[s.names[log]]
	return r, ok
}

// CloseWriter says that nobody writes a log, until an entry is appended.
func (s *Source) CloseWriter(log string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[s.names[log]].closed = true
}
