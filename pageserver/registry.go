package pageserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/logcore/logcore"
)

// registry knows every log of this process.
type registry struct {
	mu     sync.Mutex
	byID   map[logcore.LogID]*logState // guarded by mu
	byName map[string]*logState        // guarded by mu
}

// load fills an empty registry with what a store holds, parents first. A branch
// whose parent is not there is left out: the source brings both back.
func (r *registry) load(states map[logcore.LogID]stateValue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID, r.byName = map[logcore.LogID]*logState{}, map[string]*logState{}
	for progress := true; progress; {
		progress = false
		for id, v := range states {
			if r.byID[id] != nil || v.parent != 0 && r.byID[v.parent] == nil {
				continue
			}
			r.add(newLogState(id, r.byID[v.parent], v))
			progress = true
		}
	}
}

// resume takes over what a store holds that was opened again: a log that is known goes on
// from its stored state. Nobody follows a log.
func (r *registry) resume(states map[logcore.LogID]stateValue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for progress := true; progress; {
		progress = false
		for id, v := range states {
			l, parent := r.byID[id], r.byID[v.parent]
			switch {
			case l != nil && l.parent == parent:
				l.reset(v)
				l.update(func() { l.saved = l.state.ingested })
			case l == nil && (v.parent == 0 || parent != nil):
				r.add(newLogState(id, parent, v))
			default:
				continue
			}
			delete(states, id)
			progress = true
		}
	}
}

// add registers a log; the caller holds mu.
func (r *registry) add(l *logState) {
	r.byID[l.id] = l
	r.byName[l.name()] = l
}

func (r *registry) remove(l *logState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, l.id)
	if name := l.name(); r.byName[name] == l {
		delete(r.byName, name)
	}
}

func (r *registry) named(name string) *logState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byName[name]
}

func (r *registry) withID(id logcore.LogID) *logState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

func (r *registry) all() []*logState {
	r.mu.Lock()
	defer r.mu.Unlock()
	logs := make([]*logState, 0, len(r.byID))
	for _, l := range r.byID {
		logs = append(logs, l)
	}
	return logs
}

// get returns the state of a log of the source, a new one when there is none, and why
// it is void when it is: made from another incarnation or history. It returns nil for a branch whose parent is
// not known.
func (r *registry) get(info LogInfo) (l *logState, void string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l = r.byID[info.ID]; l != nil {
		return l, l.voidFor(info)
	}
	parent := r.byID[info.Parent]
	if info.Parent != 0 && parent == nil {
		return nil, ""
	}
	l = newLogState(info.ID, parent, newState(info))
	r.add(l)
	return l, ""
}

// voidFor says why the state of a log tells nothing about the source's, "" when it does.
func (l *logState) voidFor(info LogInfo) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.state
	switch {
	case v.incarnation != info.Incarnation:
		return fmt.Sprintf("incarnation %016x, the log service is at %016x", v.incarnation, info.Incarnation)
	case v.parent != info.Parent || v.branchLSN != info.BranchLSN || v.name != info.Name:
		return fmt.Sprintf("log %q (branch of log %d at LSN %d) is log %q (branch of log %d at LSN %d) at the log service",
			v.name, uint64(v.parent), v.branchLSN, info.Name, uint64(info.Parent), info.BranchLSN)
	case l.foreign:
		return fmt.Sprintf("the log service, of the same incarnation, does not have the entry at LSN %d (epoch %d, sequence %d, time %v) that was ingested last: its directory was replaced by another copy",
			v.entry, v.epoch, v.sequence, v.entryTime)
	}
	return ""
}

func newState(info LogInfo) stateValue {
	return stateValue{incarnation: info.Incarnation, parent: info.Parent, branchLSN: info.BranchLSN, ingested: info.BranchLSN, name: info.Name, format: info.Format}
}

// refresh asks the source for its logs and follows those it did not know.
func (s *Server) refresh(ctx context.Context) {
	known := s.registry.all()
	infos, err := s.sourceList(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("pageserver: the log service does not list its logs; asked again later", "err", err)
			for _, l := range known {
				l.update(func() {
					if l.lastErr == nil { // else its follower says more
						l.lastErr = err
					}
				})
			}
			s.sourceUp.Store(false)
			if s.opts.Archive != nil {
				_ = s.adoptArchived(ctx) // what is wrong with it was said
			}
		}
		return
	}
	s.sourceUp.Store(true)
	s.sourceHeard.Store(true)
	s.dropVanished(known, infos)
	defer s.noteEnds(infos)
	defer s.restIdle(infos)
	defer s.report(ctx, infos)
	if rest := s.adopt(infos); len(rest) > 0 {
		s.log.Warn("pageserver: branches without their parent in the log service's list", "first", rest[0].Name, "branches", len(rest))
	}
}

// adopt takes logs over, parents first, and returns those whose parent is missing.
func (s *Server) adopt(infos []LogInfo) []LogInfo {
	infos = slices.DeleteFunc(slices.Clone(infos), func(info LogInfo) bool { return info.ID == 0 }) // not enough is known of it
	adopted := map[logcore.LogID]bool{}
	for {
		var rest []LogInfo
		for _, info := range infos {
			if info.Parent != 0 && !adopted[info.Parent] {
				rest = append(rest, info)
				continue
			}
			s.adoptOne(info)
			adopted[info.ID] = true
		}
		if len(rest) == 0 || len(rest) == len(infos) {
			return rest
		}
		infos = rest
	}
}

// adoptOne takes over one log and sees to it that it is followed. It returns nil
// when its parent is not known, or when pages of another history are in the way.
func (s *Server) adoptOne(info LogInfo) *logState {
	s.adoptMu.Lock()
	defer s.adoptMu.Unlock()
	l, void := s.registry.get(info)
	if void != "" {
		carried, err := s.carryOver(l, info)
		if err != nil {
			s.log.Info("pageserver: whether a restored log service has what these pages came from is not known yet; asked again", "log", info.Name, "err", err)
			return nil
		}
		if !carried {
			l = s.replace(l, info, void)
		}
	}
	if l == nil {
		return nil
	}
	s.settle(l, info)
	return l
}

// dropVanished throws away the logs that the source no longer has: they were deleted, or
// it was restored to a point before they were created.
func (s *Server) dropVanished(known []*logState, infos []LogInfo) {
	s.adoptMu.Lock()
	defer s.adoptMu.Unlock()
	listed, unsure := make(map[logcore.LogID]bool, len(infos)), map[string]bool{}
	for _, info := range infos {
		if listed[info.ID] = true; info.ID == 0 {
			unsure[info.Name] = true
		}
	}
	for _, l := range known {
		if !listed[l.id] && len(infos) > 0 && !unsure[l.name()] {
			s.throwAway(l, "the log service no longer has this log")
		}
	}
}

// replace throws away the state of another history and begins a new one. The caller
// holds adoptMu.
func (s *Server) replace(l *logState, info LogInfo, why string) *logState {
	if !s.throwAway(l, why) {
		return nil
	}
	fresh, _ := s.registry.get(info)
	return fresh
}

// throwAway removes a log, its branches included, from memory and from the store.
// The caller holds adoptMu.
func (s *Server) throwAway(l *logState, why string) bool {
	for _, other := range s.registry.all() {
		if other.parent == l && !s.throwAway(other, why) {
			return false
		}
	}
	s.runMu.Lock()
	f := s.running
	s.runMu.Unlock()
	l.dead.Store(true)
	if f != nil {
		f.stop(l)
	}
	s.storeMu.Lock()
	defer s.storeMu.Unlock()
	if s.db == nil {
		return false
	}
	s.log.Warn("pageserver: pages thrown away, to be built again", "log", l.name(), "log_id", uint64(l.id), "why", why)
	s.metrics.resets.Inc()
	if err := deleteLog(s.db, l.id); err != nil {
		s.noteStoreError(err)
		s.log.Error("pageserver: pages of another history could not be removed; tried again", "log", l.name(), "err", err)
		return false
	}
	s.readers.renew()
	s.dirty.Store(true)
	s.registry.remove(l)
	l.update(func() { l.confirmed, l.stopped, l.generation = true, errVanished, generations.Add(1) })
	return true
}

// errVanished ends the waiting of readers that hold a log which was thrown away; the
// request begins again with the log's new state.
var errVanished = errors.New("pageserver: the log's pages were thrown away")

// lookup returns a log by name; it asks the source about one it does not know.
func (s *Server) lookup(ctx context.Context, name string) (*logState, error) {
	if err := logcore.ValidateLogName(name); err != nil {
		return nil, err
	}
	if l := s.registry.named(name); l != nil {
		return l, nil
	}
	info, err := s.sourceInfo(ctx, name)
	if err == nil {
		return s.adoptWithParents(ctx, info)
	}
	if s.opts.Archive != nil && !errors.Is(err, logcore.ErrLogNotFound) {
		aerr := s.adoptArchived(ctx)
		if l := s.registry.named(name); l != nil {
			return l, nil
		}
		// Not "log not found": the log service may have it.
		if err = fmt.Errorf("%w; it is not in the archive", err); aerr != nil {
			err = fmt.Errorf("%w; nor can the archive be read: %v", err, aerr)
		}
	}
	return nil, fmt.Errorf("pageserver: log %q: %w", name, err)
}

// adoptWithParents takes over one log; for a branch of an unknown log it asks for all.
func (s *Server) adoptWithParents(ctx context.Context, info LogInfo) (*logState, error) {
	if l := s.adoptOne(info); l != nil {
		return l, nil
	}
	infos, err := s.sourceList(ctx)
	if err != nil {
		return nil, fmt.Errorf("pageserver: log %q: its parent is not known: %w", info.Name, err)
	}
	s.adopt(infos)
	if l := s.adoptOne(info); l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("pageserver: log %q: %w: its parent %d", info.Name, logcore.ErrLogNotFound, info.Parent)
}
