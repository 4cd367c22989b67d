package pageserver

import (
	"context"
	"slices"
	"time"

	"github.com/logcore/logcore"
)

// HistoryKeeper is the log service, as far as it says how much of the logs' histories
// stays readable. What it says is ordered like a log: no lease, branch or hold is granted below a
// horizon, so a page server that acts on an old answer takes nothing away from a newer one. Its
// methods may be called by many goroutines; errors wrap logcore's sentinels.
type HistoryKeeper interface {
	// Histories returns what is kept of every log, of each as of one moment. It may be older than what it returned before.
	Histories(ctx context.Context) (Histories, error)
	// AdvanceHorizon moves a log's horizon up to an LSN, or as far as its holds let it, and
	// returns it.
	AdvanceHorizon(ctx context.Context, log LogInfo, to logcore.LSN) (logcore.LSN, error)
	// ReportIngest tells how far the page server has come.
	ReportIngest(ctx context.Context, incarnation uint64, logs []IngestReport) error
}

// History is what is kept of one log.
type History struct {
	ID logcore.LogID
	// Incarnation of the log service; 0 while nobody can say what may be collected of the log.
	Incarnation uint64
	Parent      logcore.LogID // 0 unless a branch
	BranchLSN   logcore.LSN
	// Horizon is the LSN from which on all of it can be read.
	Horizon logcore.LSN
	// Window and WindowBytes say when the horizon may move: behind what is younger than
	// Window or within WindowBytes of the log. Both 0: never.
	Window      time.Duration
	WindowBytes uint64
}

// LeasedLSN is an LSN of a log that has to stay readable.
type LeasedLSN struct {
	Log logcore.LogID
	LSN logcore.LSN
}

// Histories is what is kept of every log.
type Histories struct {
	Now    logcore.HLC // the clock by which windows are measured
	Logs   []History
	Leases []LeasedLSN
}

// IngestReport is how far the page server has come with one log.
type IngestReport struct {
	Log      logcore.LogID
	Ingested logcore.LSN
	Bytes    uint64 // of the payloads of the log's own entries
	Stopped  string // why it does not go on; empty when it does
}

// points are the LSNs of a log itself, its ancestors' left aside, that can be read.
type points struct {
	horizon logcore.LSN   // every LSN from here on
	pins    []logcore.LSN // and these below it; ascending
}

// readable reports whether the log can be read at an LSN.
func (p points) readable(at logcore.LSN) bool {
	if at >= p.horizon {
		return true
	}
	_, pinned := slices.BinarySearch(p.pins, at)
	return pinned
}

// needs reports whether somebody can read what holds from one LSN up to, but not
// including, another.
func (p points) needs(from, to logcore.LSN) bool {
	if to > p.horizon {
		return true
	}
	i, _ := slices.BinarySearch(p.pins, from)
	return i < len(p.pins) && p.pins[i] < to
}

// narrowed returns p as far as was allows it too. What could not be read once can't be read again, so an answer that
// says otherwise is an older one, of a member of the log service that lags: what it calls readable may be
// collected by now.
func (p points) narrowed(was points) points {
	if p.horizon < was.horizon {
		return was
	}
	p.pins = slices.DeleteFunc(slices.Clone(p.pins), func(at logcore.LSN) bool { return !was.readable(at) })
	return p
}

// equal reports whether q says the same.
func (p points) equal(q points) bool { return p.horizon == q.horizon && slices.Equal(p.pins, q.pins) }

// points returns what can be read of each log. A branch reads its parent at and before
// the LSN where it forks off, so that LSN, and what is leased of the branch before it, are pins
// of the parent, or of its parent.
func (h Histories) points() map[logcore.LogID]points {
	byID := make(map[logcore.LogID]*History, len(h.Logs))
	all := make(map[logcore.LogID]points, len(h.Logs))
	for i := range h.Logs {
		byID[h.Logs[i].ID] = &h.Logs[i]
		all[h.Logs[i].ID] = points{horizon: h.Logs[i].Horizon}
	}
	pin := func(l *History, at logcore.LSN) {
		for l != nil && l.Parent != 0 && at <= l.BranchLSN {
			l = byID[l.Parent]
		}
		if l == nil || at >= l.Horizon {
			return
		}
		p := all[l.ID]
		p.pins = append(p.pins, at)
		all[l.ID] = p
	}
	for i := range h.Logs {
		if l := &h.Logs[i]; l.Parent != 0 {
			pin(byID[l.Parent], l.BranchLSN)
		}
	}
	for _, lease := range h.Leases {
		pin(byID[lease.Log], lease.LSN)
	}
	for id, p := range all {
		slices.Sort(p.pins)
		p.pins = slices.Compact(p.pins)
		all[id] = p
	}
	return all
}
