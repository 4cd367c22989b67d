package replication

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// loop is what the group's one goroutine owns: the Raft state machine and the decisions
// around it. Nothing here blocks but the state file's rare sync.
type loop struct {
	g       *Group
	rn      *raft.RawNode
	storage *storage
	file    *stateFile
	state   memberState // as on disk

	// spec is the catalog once everything proposed is applied; nil while not leading.
	// Invariant: spec.LSN is the LSN of the last entry proposed, so the next gets spec.LSN+1.
	spec          *catalog.State
	checkpointDue bool      // the open segment has no checkpoint yet
	ledSince      time.Time // when this leadership began to take requests
	// checkpointBytes is the length of the last checkpoint, sinceCheckpoint what was
	// proposed after it.
	checkpointBytes, sinceCheckpoint int64
	housed                           logcore.LSN // of the last entry this leadership began with
	leadDue                          bool        // this member was elected and has applied its term's first entry

	appends  []storageAppend // handed to the hot log or about to be; oldest first
	sent     int             // appends[:sent] were handed over
	inflight int64           // bytes in appends
	waiting  []waiting       // requests proposed and not applied, by LSN
	full     error           // the disk had no room when last asked
	room     int64           // bytes it had, less what was proposed since
	held     bool            // an append was refused; it is tried again with the next tick
	stalled  bool            // that it is so was told
	failed   bool
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
	if l.spec != nil && l.checkpointDue && l.full != nil {
		l.askRoom(l.checkpointBytes) // nobody else does while there are no requests
	}
}

// askRoom looks whether the disk has room for so many bytes more, and sets full when it
// hasn't. The device is asked only when what it last said may be used up: by this log, or,
// what only matters when the next segment is due, by others.
func (l *loop) askRoom(need int64) {
	if l.full == nil && l.room >= need && !l.g.hot.SealDue() {
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
		if l.spec == nil && l.stalled {
			l.refuseQueue(l.full)
		}
		if l.spec != nil && l.houseDue() {
			l.house()
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
