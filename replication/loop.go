package replication

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// loop is what the group's one goroutine owns: the Raft state machine and the decisions
// around it. Nothing here blocks but the state file's rare sync.
type loop struct {
	g       *Group
	rn      *raft.RawNode
	storage *storage
	state   memberState // as on disk

	// spec is the catalog once everything proposed is applied; nil while not leading.
	// Invariant: spec.LSN is the LSN of the last entry proposed, so the next gets spec.LSN+1.
	spec          *catalog.State
	checkpointDue bool        // the open segment has no checkpoint yet
	housed        logcore.LSN // of the last entry this leadership began with
	leadDue       bool        // this member was elected and has applied its term's first entry

	appends  []storageAppend // handed to the hot log or about to be; oldest first
	sent     int             // appends[:sent] were handed over
	inflight int64           // bytes in appends
	waiting  []waiting       // requests proposed and not applied, by LSN
	full     error           // the disk had no room when last asked
	room     int64           // bytes it had, less what was proposed since
	held     bool            // an append was refused; it is tried again with the next tick
	warned   bool            // that it is so was logged
	failed   bool
}

// storageAppend is one MsgStorageAppend: its responses go back to Raft once its
// entries, and those of all before it, are durable.
type storageAppend struct {
	entries   []logcore.Entry
	bytes     int64
	done      bool // durable
	refused   bool // the disk had no room
	responses []*raftpb.Message
}

// waiting is a request that is told when lsn is applied.
type waiting struct {
	lsn  logcore.LSN
	done func(error)
}

func (l *loop) run() {
	defer close(l.g.stopped)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	l.guarded(l.step) // apply what is known to be committed before the election looks at it
	if l.soleVoter() && !l.failed {
		// Nobody else could be elected: don't wait for the election timeout.
		if err := l.rn.Campaign(); err != nil {
			l.fail(fmt.Errorf("replication: campaign: %w", err))
		}
	}
	for {
		l.guarded(l.step)
		if l.finished() {
			return
		}
		select {
		case <-l.g.wake:
		case <-tick.C:
			l.tick()
		}
	}
}

// guarded runs f. When the hot log could not be read in it, Raft panicked: that ends
// the group, not the process.
func (l *loop) guarded(f func()) {
	defer func() {
		if r := recover(); r != nil {
			if l.storage.err == nil {
				panic(r) // a bug
			}
			l.fail(fmt.Errorf("replication: shard %d can't be read: %w", l.g.opts.Log.Shard, l.storage.err))
		}
	}()
	f()
}

func (l *loop) soleVoter() bool { return l.state.soleVoter() }

func (l *loop) tick() {
	if l.failed {
		return
	}
	l.guarded(l.rn.Tick)
	l.held = false
}

// askRoom looks whether the disk has room for so many bytes more, and sets full when it
// hasn't. The device is asked only when what it last said may be used up.
func (l *loop) askRoom(need int64) {
	if l.full == nil && l.room >= need {
		l.room -= need
		return
	}
	if l.full != nil && l.sent < len(l.appends) {
		return // entries that were refused wait for room already
	}
	used, limit := l.g.hot.Pressure()
	l.room = limit - used - l.inflight
	if l.full = nil; l.room < need {
		l.full = fmt.Errorf("%w: the hot log of shard %d uses %d bytes of the %d it may: is the archive behind?", logcore.ErrDiskFull, l.g.opts.Log.Shard, used, limit)
		return
	}
	l.room = min(l.room-need, roomTrusted) // others use the device too
}

// finished refuses what is queued once the group closes, and reports whether nothing
// is under way any more.
func (l *loop) finished() bool {
	g := l.g
	g.mu.Lock()
	closing := g.closing
	g.mu.Unlock()
	if !closing {
		return false
	}
	err := fmt.Errorf("replication: shard %d: %w", g.opts.Log.Shard, logcore.ErrClosed)
	l.refuseQueue(err)
	if l.sent > 0 && !l.failed {
		return false // the hot log will say
	}
	// What finds the disk full is given up: nobody was told that it is durable.
	l.finishAll(err)
	l.g.leading.Store(false)
	g.announce()
	return true
}

// step does everything there is to do now.
func (l *loop) step() {
	for !l.failed {
		l.takeCompletions()
		l.submitAppends()
		l.ready()
		if l.failed {
			break
		}
		if l.leadDue {
			l.lead()
			continue
		}
		if !l.propose() {
			break
		}
	}
	if l.failed {
		l.refuseQueue(l.g.Err())
		l.takeCompletions()
	}
}

// ready carries out what Raft wants done.
func (l *loop) ready() {
	for !l.failed && l.rn.HasReady() {
		rd := l.rn.Ready()
		if rd.SoftState != nil && rd.SoftState.RaftState != raft.StateLeader {
			l.leadDue = false
			if l.spec != nil {
				l.resign()
			}
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				l.storageAppend(m)
			case raft.LocalApplyThread:
				l.apply(m)
			default:
				l.g.log.Error("replication: a message to a member that this group does not have", "to", m.GetTo(), "type", m.GetType())
			}
		}
	}
}

// storageAppend remembers term and vote and queues the entries for the hot log.
func (l *loop) storageAppend(m *raftpb.Message) {
	if m.Snapshot != nil {
		l.fail(errors.New("replication: a snapshot in a group of one"))
		return
	}
	if m.Term != nil && m.Vote != nil && (m.GetTerm() != l.state.Term || m.GetVote() != l.state.Vote) {
		next := l.state
		next.Term, next.Vote = m.GetTerm(), m.GetVote()
		if !l.saveState(next) {
			return
		}
		l.g.term.Store(next.Term)
	}
	a := storageAppend{responses: m.GetResponses()}
	if len(m.GetEntries()) > 0 {
		entries, err := l.storage.add(m.GetEntries())
		if err != nil {
			l.fail(err)
			return
		}
		if l.spec != nil && l.storage.last != l.spec.LSN {
			panic(fmt.Sprintf("replication: Raft appended up to LSN %d, the loop proposed up to %d", l.storage.last, l.spec.LSN))
		}
		a.entries = entries
		for _, e := range entries {
			a.bytes += int64(len(e.Payload)) + 64
		}
	}
	l.inflight += a.bytes
	l.appends = append(l.appends, a)
	l.submitAppends()
}

func (l *loop) saveState(next memberState) bool {
	if err := writeState(l.g.opts.Log.Dir, next); err != nil {
		l.fail(fmt.Errorf("%w: %w", logcore.ErrPoisoned, err))
		return false
	}
	l.state = next
	return true
}

// submitAppends hands the next appends to the hot log, until it takes no more. An entry
// in Raft's log can't be taken back, so one that finds the disk full stays here, and is
// tried again with every tick, until there is room.
func (l *loop) submitAppends() {
	for l.sent < len(l.appends) && !l.failed && !l.held {
		a := &l.appends[l.sent]
		if len(a.entries) == 0 {
			a.done = true
			l.sent++
			continue
		}
		err := l.g.hot.Submit(a.entries, l.g.stored)
		switch {
		case err == nil:
			l.sent++
		case errors.Is(err, logcore.ErrOverloaded):
			return // a completion will make room
		case l.g.hot.Last()+1 < a.entries[0].LSN:
			return // what came before was refused just now; its completion is on its way
		default:
			l.fail(err)
			return
		}
	}
	l.stepResponses()
}

func (l *loop) takeCompletions() {
	g := l.g
	g.mu.Lock()
	completions := g.completions
	g.completions = nil
	g.mu.Unlock()
	for _, err := range completions {
		a := l.oldestUnderWay()
		switch {
		case err == nil:
			a.done, l.warned = true, false
		case errors.Is(err, logcore.ErrDiskFull):
			a.refused, l.full = true, err
		default:
			l.fail(err)
			return
		}
	}
	l.takeBackRefused()
	l.stepResponses()
}

// oldestUnderWay returns the append that the next completion is for.
func (l *loop) oldestUnderWay() *storageAppend {
	for i := range l.appends[:l.sent] {
		if a := &l.appends[i]; !a.done && !a.refused {
			return a
		}
	}
	panic("replication: the hot log completed more than it was given")
}

// takeBackRefused makes refused appends ready to be handed over again, once nothing
// is under way any more: after a refused one the hot log refuses all that follow. Entries that
// became durable nevertheless, at the beginning of the first, are not written twice.
func (l *loop) takeBackRefused() {
	first := -1
	for i := range l.appends[:l.sent] {
		a := &l.appends[i]
		switch {
		case a.refused && first < 0:
			first = i
		case !a.done && !a.refused:
			return
		}
	}
	if first < 0 {
		return
	}
	last := l.g.hot.Last()
	for i := first; i < l.sent; i++ {
		a := &l.appends[i]
		a.refused, a.done = false, false
		for len(a.entries) > 0 && a.entries[0].LSN <= last {
			a.entries = a.entries[1:]
		}
	}
	l.sent, l.held = first, true
	if l.warned {
		return
	}
	l.warned = true // once for each time the disk fills up
	l.g.log.Warn("replication: the disk is full, entries wait for room", "from", last+1, "err", l.full)
}

// stepResponses tells Raft about the appends that are durable, in order.
func (l *loop) stepResponses() {
	n := 0
	for ; n < l.sent && l.appends[n].done && !l.failed; n++ {
		l.inflight -= l.appends[n].bytes
		for _, m := range l.appends[n].responses {
			if m.GetTo() != l.state.Member {
				l.g.log.Error("replication: a response to a member that this group does not have", "to", m.GetTo())
				continue
			}
			if err := l.rn.Step(m); err != nil {
				l.fail(fmt.Errorf("replication: step %v: %w", m.GetType(), err))
				return
			}
		}
	}
	clear(l.appends[:n])
	l.appends = l.appends[n:]
	l.sent -= n
}

// apply folds committed entries into the catalog, tells their requests, and lets
// readers see them.
func (l *loop) apply(m *raftpb.Message) {
	g := l.g
	entries := m.GetEntries()
	g.catalogMu.Lock()
	prev := g.applied.Time
	var err error
	var e logcore.Entry
	var checkpoint logcore.LSN
	for _, r := range entries {
		if r.GetType() != raftpb.EntryNormal {
			err = fmt.Errorf("%w: LSN %d changes the members of a group of one: use a newer build", logcore.ErrUnsupportedVersion, r.GetIndex())
			break
		}
		if e, err = fromRaft(r, prev); err != nil {
			break
		}
		if err = g.applied.Apply(e); err != nil {
			break
		}
		prev = e.Time
		if e.Kind == logcore.KindCheckpoint {
			checkpoint = e.LSN
		}
	}
	g.catalogMu.Unlock()
	if err != nil {
		if errors.Is(err, logcore.ErrCorrupt) {
			g.opts.Log.Corruptions.Inc()
		}
		l.fail(fmt.Errorf("replication: shard %d stops: %w", g.opts.Log.Shard, err))
		return
	}
	last := entries[len(entries)-1]
	l.storage.applied(logcore.LSN(last.GetIndex()))
	g.committed.Store(last.GetIndex())
	for _, r := range m.GetResponses() {
		if err := l.rn.Step(r); err != nil {
			l.fail(fmt.Errorf("replication: step %v: %w", r.GetType(), err))
			return
		}
	}
	l.afterApply(logcore.LSN(last.GetIndex()), last.GetTerm(), checkpoint)
}

func (l *loop) afterApply(lsn logcore.LSN, term uint64, checkpoint logcore.LSN) {
	status := l.rn.BasicStatus()
	if l.spec == nil && status.RaftState == raft.StateLeader && term == status.HardState.GetTerm() {
		l.leadDue = true
	}
	n := 0
	for ; n < len(l.waiting) && l.waiting[n].lsn <= lsn; n++ {
		l.waiting[n].done(nil)
	}
	clear(l.waiting[:n])
	l.waiting = l.waiting[n:]
	l.g.announce()
	l.settleIn(lsn)
	if checkpoint != 0 {
		l.g.newest.Store(uint64(checkpoint))
		next := l.state
		next.Commit = uint64(lsn)
		if l.g.applied.Incarnation == next.Incarnation {
			next.AnnounceIncarnation = false // a checkpoint holds it
		}
		l.saveState(next)
	}
}

// fail ends the group: nothing is proposed or acknowledged any more. Readers still see
// what was applied.
func (l *loop) fail(err error) {
	if l.failed {
		return
	}
	l.failed = true
	l.g.log.Error("replication: the group stops", "err", err)
	if !errors.Is(err, logcore.ErrPoisoned) && !errors.Is(err, logcore.ErrClosed) {
		err = fmt.Errorf("%w: %w", logcore.ErrPoisoned, err)
	}
	l.g.mu.Lock()
	if l.g.err == nil {
		l.g.err = err
	}
	l.g.mu.Unlock()
	l.g.leading.Store(false)
	l.finishAll(err)
	l.refuseQueue(err)
	l.g.announce()
}

// finishAll tells every request that was proposed that its outcome is not known.
func (l *loop) finishAll(err error) {
	for _, w := range l.waiting {
		w.done(err)
	}
	l.waiting = nil
}

// refuseQueue tells every request that waits for the loop that it was not proposed.
func (l *loop) refuseQueue(err error) {
	g := l.g
	g.mu.Lock()
	queue := g.queue
	g.queue, g.queueBytes = nil, 0
	g.mu.Unlock()
	for _, r := range queue {
		r.Done(err)
	}
}
