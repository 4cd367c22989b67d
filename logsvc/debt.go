package logsvc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// What the page servers have not ingested yet. A writer that is faster than they are is
// told so (Info, and with every acknowledgement), and by how much: whether it waits is its own
// affair, nothing is refused. What they say is kept in memory; they say it every few seconds.

const (
	// debtFree is how many bytes a page server may be behind before writers are advised to
	// wait: what a fast writer commits while a healthy page server polls.
	debtFree = 64 << 20
	// debtPause is the wait advised for each debtFree beyond it, debtPauseMax the longest.
	debtPause, debtPauseMax = 50 * time.Millisecond, 2 * time.Second
	// debtFresh is how long what a page server said counts.
	debtFresh = 30 * time.Second
	// debtServersMax bounds the page servers whose word is kept for a log, debtReportsMax
	// the logs that one call may report.
	debtServersMax, debtReportsMax = 64, 1 << 16
)

// advise returns how long a writer should wait while a page server is behind by so much.
func advise(behind uint64) time.Duration {
	if behind <= debtFree {
		return 0
	}
	return min(time.Duration(float64(behind-debtFree)/debtFree*float64(debtPause)), debtPauseMax)
}

// debts is what page servers said.
type debts struct {
	now func() time.Time
	// advising is the number of logs with a pause: with 0, acknowledging looks no further.
	advising atomic.Int64

	mu   sync.RWMutex
	logs map[logcore.LogID]*debt // guarded by mu
}

// debt is what they said about one log.
type debt struct {
	servers map[uint64]ingestReport
	pause   time.Duration
	until   time.Time // pause counts until then
}

type ingestReport struct {
	lsn     logcore.LSN
	bytes   uint64
	stopped string
	at      time.Time
}

func newDebts() *debts { return &debts{now: time.Now, logs: map[logcore.LogID]*debt{}} }

// take notes what one page server said about a log that has so many bytes now.
func (d *debts) take(server uint64, l *catalog.Log, r *logcorev1.IngestReport) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.logs[l.ID]
	if of == nil {
		of = &debt{servers: map[uint64]ingestReport{}}
		d.logs[l.ID] = of
	}
	for id, old := range of.servers {
		if now.Sub(old.at) > debtFresh {
			delete(of.servers, id)
		}
	}
	if _, known := of.servers[server]; !known && len(of.servers) >= debtServersMax {
		return
	}
	of.servers[server] = ingestReport{logcore.LSN(r.IngestedLsn), r.IngestedBytes, r.Stopped, now}
	pause := time.Duration(0)
	if slowest, ok := of.slowest(now); ok && slowest.stopped == "" {
		pause = advise(behind(l, slowest))
	}
	if (pause > 0) != (of.pause > 0) {
		if pause > 0 {
			d.advising.Add(1)
		} else {
			d.advising.Add(-1)
		}
	}
	of.pause, of.until = pause, now.Add(debtFresh)
}

func behind(l *catalog.Log, r ingestReport) uint64 {
	if r.lsn >= l.LastLSN || r.bytes >= l.Bytes {
		return 0
	}
	return l.Bytes - r.bytes
}

// slowest returns the report of the page server that is furthest behind and still there.
func (of *debt) slowest(now time.Time) (slowest ingestReport, ok bool) {
	for _, r := range of.servers {
		if now.Sub(r.at) <= debtFresh && (!ok || r.lsn < slowest.lsn) {
			slowest, ok = r, true
		}
	}
	return slowest, ok
}

// pause returns the wait advised to a log's writer.
func (d *debts) pause(log logcore.LogID) time.Duration {
	if d.advising.Load() == 0 {
		return 0
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if of := d.logs[log]; of != nil && d.now().Before(of.until) {
		return of.pause
	}
	return 0
}

// of describes what is not ingested of a log; nil when no page server said anything lately.
func (d *debts) of(l *catalog.Log) *logcorev1.IngestDebt {
	d.mu.RLock()
	defer d.mu.RUnlock()
	of := d.logs[l.ID]
	if of == nil {
		return nil
	}
	now := d.now()
	r, ok := of.slowest(now)
	if !ok {
		return nil
	}
	out := &logcorev1.IngestDebt{IngestedLsn: uint64(r.lsn), BehindBytes: behind(l, r), ReportedMsAgo: uint64(now.Sub(r.at).Milliseconds()), Stopped: r.stopped}
	if l.LastLSN > r.lsn {
		out.BehindLsns = uint64(l.LastLSN - r.lsn)
	}
	if r.stopped == "" {
		out.AdvisedPauseMs = uint32(advise(out.BehindBytes).Milliseconds())
	}
	return out
}

// prune forgets the logs that are gone.
func (d *debts) prune(exists func(logcore.LogID) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, of := range d.logs {
		if !exists(id) {
			if of.pause > 0 {
				d.advising.Add(-1)
			}
			delete(d.logs, id)
		}
	}
}

// ReportIngest implements logcorev1.HistoryServiceServer.
func (h histories) ReportIngest(_ context.Context, req *logcorev1.ReportIngestRequest) (*logcorev1.ReportIngestResponse, error) {
	if len(req.Logs) > debtReportsMax {
		req.Logs = req.Logs[:debtReportsMax]
	}
	h.s.group.View(func(state *catalog.State) {
		if state.Incarnation != req.Incarnation {
			return // of pages that are thrown away
		}
		for _, r := range req.Logs {
			if l, err := state.ByID(logcore.LogID(r.LogId)); err == nil {
				h.s.debts.take(req.Server, l, r)
			}
		}
		h.s.debts.prune(func(id logcore.LogID) bool { _, err := state.ByID(id); return err == nil })
	})
	return &logcorev1.ReportIngestResponse{}, nil
}
