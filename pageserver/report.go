package pageserver

import (
	"context"

	"github.com/logcore/logcore"
)

// reportsMax is how many logs go into one report.
const reportsMax = 4096

// report tells the log service how far the logs are ingested that are followed: so that
// who writes them knows. It costs one call for each incarnation, not one for each log.
func (s *Server) report(ctx context.Context, infos []LogInfo) {
	if s.opts.Keeper == nil {
		return
	}
	byIncarnation := map[uint64][]IngestReport{}
	for i := range infos {
		l := s.registry.withID(infos[i].ID)
		if l == nil {
			continue
		}
		if rests, _ := l.settled(want{}); rests {
			continue // nobody writes it
		}
		l.mu.Lock()
		v, stopped := l.state, l.stopped
		l.mu.Unlock()
		if v.incarnation != infos[i].Incarnation {
			continue
		}
		if v.ingested >= infos[i].Last && stopped == nil && infos[i].Bytes > 0 {
			l.calibrate(infos[i].Bytes, v.entry == infos[i].Last)
		}
		have, err := s.ingestedBytes(l)
		if err != nil {
			return // the store is being closed, or built again
		}
		r := IngestReport{Log: l.id, Ingested: v.ingested, Bytes: have}
		if stopped != nil {
			r.Stopped = stopped.Error()
		}
		byIncarnation[v.incarnation] = append(byIncarnation[v.incarnation], r)
	}
	for incarnation, reports := range byIncarnation {
		for len(reports) > 0 {
			n := min(len(reports), reportsMax)
			if err := s.opts.Keeper.ReportIngest(ctx, incarnation, reports[:n]); err != nil {
				s.log.Debug("pageserver: the log service does not hear how far its logs are ingested", "err", err)
				return
			}
			reports = reports[n:]
		}
	}
}

// calibrate sets the count of a log's bytes to what the log service says, when both mean
// the same entries: what came after the last milestone is not counted across a restart.
func (l *logState) calibrate(bytes uint64, same bool) {
	if have := l.bytes.Load(); same && have < bytes {
		l.bytes.CompareAndSwap(have, bytes)
	}
}

// Ingest states of a log.
const (
	StateFollowing   = "following"   // its entries are ingested as they come
	StateCatchingUp  = "catching up" // far behind: what is missing is read straight from the archive
	StateResting     = "resting"     // a branch that nobody writes
	StateWaiting     = "waiting"     // the log service, or the archive behind it, does not answer; what is there is served
	StateQuarantined = "quarantined" // an entry can't be ingested; what was before it is served
	StateDiskFull    = "disk full"   // ingest waits for room; what is there is served
)

// LogStatus is what the page server has of one log.
type LogStatus struct {
	ID        logcore.LogID
	Log       string
	Parent    logcore.LogID
	BranchLSN logcore.LSN
	Ingested  logcore.LSN
	// State is one of the ingest states, Reason why it is not following or resting.
	State, Reason string
	// From is where its entries come from: FromLogService or FromArchive; empty while they come from nowhere.
	From string
	Lag  Lag
	// Horizon is the LSN from which on all of it can be read, Pins how many LSNs below it can.
	Horizon logcore.LSN
	Pins    int
	Use     Use
	// DiskBytes is what the log's keys take on the disk, about.
	DiskBytes uint64
}

// Status returns what the page server has of each log, or of one, by name.
func (s *Server) Status(name string) ([]LogStatus, error) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.db == nil {
		return nil, logcore.ErrClosed
	}
	var out []LogStatus
	for _, l := range s.registry.all() {
		if name == "" || l.name() == name {
			one, err := s.statusOf(l)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		}
	}
	return out, nil
}

func (s *Server) statusOf(l *logState) (LogStatus, error) {
	rests, _ := l.settled(want{})
	l.mu.Lock()
	v, stopped, lastErr, confirmed, catching, from := l.state, l.stopped, l.lastErr, l.confirmed, l.catching, l.from
	l.mu.Unlock()
	have, err := s.ingestedBytesLocked(l)
	if err != nil {
		return LogStatus{}, err
	}
	out := LogStatus{ID: l.id, Log: v.name, Parent: v.parent, BranchLSN: v.branchLSN, Ingested: v.ingested, Use: l.retained.last(), State: StateFollowing, From: from, Lag: l.lag(have)}
	if p := l.readable.Load(); p != nil {
		out.Horizon, out.Pins = p.horizon, len(p.pins)
	}
	full := s.room.look()
	switch {
	case stopped != nil:
		out.State, out.Reason = StateQuarantined, stopped.Error()
	case full != nil:
		out.State, out.Reason = StateDiskFull, full.Error()
	case rests:
		out.State, out.From = StateResting, ""
	case catching && s.sourceUp.Load():
		out.State = StateCatchingUp
	case !confirmed:
		out.State = StateWaiting
		if lastErr != nil {
			out.Reason = lastErr.Error()
		}
	}
	for _, tag := range []byte{tagVersion, tagSize, tagCut, tagObject, tagDecoder, tagCommit, tagPart} {
		lower := appendLogKey(nil, tag, l.id)
		n, err := s.db.EstimateDiskUsage(lower, prefixEnd(lower))
		if err != nil {
			return out, err
		}
		out.DiskBytes += n
	}
	return out, nil
}
