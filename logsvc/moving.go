package logsvc

import (
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/replication"
)

// MoveShard is what deciding about moves asks of a process's part of one shard: no clock, no wait.
type MoveShard interface {
	// View gives f the applied catalog.
	View(f func(*catalog.State))
	// Leading reports whether this process leads the shard.
	Leading() bool
	// ArchiveKeepsUp reports whether the archive, if there is one, is so close behind that a log may leave the shard: until the
	// archive has all of it, the log takes no appends.
	ArchiveKeepsUp() bool
	// ArchivedThrough reports whether the archive, if there is one, has the shard up to an index, and asks for it if not. What a
	// log has in the shard that it leaves is archived before it goes on in another: else what is restored after a
	// disaster might have what came later, and not what came before.
	ArchivedThrough(index logcore.LSN) bool
}

// Moves decides what is to be done next about the logs that move, or are created, in the shards of one process, by number. It keeps
// nothing: whoever leads the shard of the next step finds it in the catalogs.
type Moves []MoveShard

// MoveStep is an entry of one shard that is due, in a shard that this process leads.
type MoveStep struct {
	In      logcore.ShardID
	Command catalog.Command
	After   logcore.HLC     // it comes after that time
	Writers []logcore.LogID // open ones that come with it: their leases begin afresh
}

// Next returns the steps that this process can take now, and whether anything is not settled.
func (m Moves) Next() (steps []MoveStep, pending bool) {
	var all []catalog.Placement
	m[0].View(func(state *catalog.State) { all = state.Pending() })
	for _, want := range all {
		if st, ok := m.step(want); ok {
			steps = append(steps, st)
		}
	}
	return steps, len(all) > 0
}

// step returns the next step towards a placement, if it is this member's to take.
func (m Moves) step(want catalog.Placement) (MoveStep, bool) {
	switch {
	case want.Creating:
		return m.createBranch(want)
	case !m.has(want.Target):
		return MoveStep{}, false // another start of this process will have it
	case want.Shard == logcore.NoShard:
		return m.createRoot(want)
	}
	first, target, source := m[0], m[want.Target], m[want.Shard]
	if have := knows(target, want.Name); have.ok && have.Gen >= want.Gen {
		return MoveStep{Command: catalog.Command{Op: catalog.OpSettle, Name: want.Name, Gen: want.Gen, LSN: have.index}, After: have.time}, first.Leading()
	}
	have := knows(source, want.Name)
	switch {
	case !have.ok || have.Gen+1 != want.Gen:
		return MoveStep{}, false // this member does not know yet
	case !have.Gone && (!source.Leading() || !source.ArchiveKeepsUp()):
		return MoveStep{}, false
	case !have.Gone:
		return MoveStep{In: want.Shard, Command: catalog.Command{Op: catalog.OpLeave, Log: have.ID, Gen: want.Gen, Shard: want.Target}, After: timeOf(first)}, true
	case !source.ArchivedThrough(have.LeftLSN - have.Base), !target.Leading():
		return MoveStep{}, false
	}
	return m.place(want, have, want.Shard, want.Target)
}

func (m Moves) has(shard logcore.ShardID) bool { return int64(shard) < int64(len(m)) }

// place returns the step that places a family that has left.
func (m Moves) place(want catalog.Placement, have known, source, target logcore.ShardID) (st MoveStep, ok bool) {
	var family *catalog.State
	var err error
	m[source].View(func(state *catalog.State) {
		var root *catalog.Log
		if root, err = state.ByID(have.ID); err == nil {
			family, err = state.Departed(root, source)
		}
	})
	if err != nil {
		return MoveStep{}, false
	}
	st = MoveStep{In: target, After: have.time}
	for _, l := range family.Logs() {
		if l.WriterOpen {
			st.Writers = append(st.Writers, l.ID)
		}
	}
	st.Command = catalog.Command{Op: catalog.OpPlace, Log: have.ID, Gen: want.Gen, Placed: string(family.EncodeCheckpoint())}
	return st, true
}

// createRoot returns the step that creates a log in its shard, or says that it is there.
func (m Moves) createRoot(want catalog.Placement) (MoveStep, bool) {
	first, target := m[0], m[want.Target]
	// A branch of that name, which left and is deleted since, is not it.
	if have := knows(target, want.Name); have.ok && (!have.Gone || have.Parent == 0) {
		return MoveStep{Command: catalog.Command{Op: catalog.OpSettle, Name: want.Name, Gen: want.Gen, LSN: have.index}, After: have.time}, first.Leading()
	}
	return MoveStep{In: want.Target, Command: catalog.Command{Op: catalog.OpCreate, Name: want.Name, Epoch: epochFloor(first), Durability: want.Durability}, After: timeOf(first)}, target.Leading()
}

// createBranch returns the step that creates a branch where its family is, or says that it is there, or that it
// can't be any more: then neither can it later.
func (m Moves) createBranch(want catalog.Placement) (MoveStep, bool) {
	first := m[0]
	in, there := m.home(want.Name)
	if !there {
		return MoveStep{}, false
	}
	at := m[in]
	have := knows(at, want.Name)
	if have.ok && !have.Gone {
		return MoveStep{Command: catalog.Command{Op: catalog.OpSettle, Name: want.Name, Gen: want.Gen, LSN: have.index}, After: have.time}, first.Leading()
	}
	c := catalog.Command{Op: catalog.OpCreate, Name: want.Name, Epoch: epochFloor(first), LSN: want.BranchLSN, Durability: want.Durability}
	var err error
	var index logcore.LSN
	at.View(func(state *catalog.State) {
		index = state.LSN
		var parent *catalog.Log
		if parent, err = state.ByName(want.Parent); err == nil {
			c.Parent = parent.ID
			err = state.CheckFork(parent, want.BranchLSN)
		}
	})
	parent := placementOf(first, want.Parent)
	switch {
	case errors.Is(err, logcore.ErrTrimmed), errors.Is(err, logcore.ErrLogNotFound) && parent.Settled() && index >= parent.Seen:
		return MoveStep{Command: catalog.Command{Op: catalog.OpDrop, Name: want.Name, Gen: want.Gen}}, first.Leading()
	case err != nil:
		return MoveStep{}, false
	}
	return MoveStep{In: in, Command: c, After: timeOf(first)}, at.Leading()
}

// home returns the shard in which a log's family is; false while it is between two.
func (m Moves) home(name string) (logcore.ShardID, bool) {
	p := placementOf(m[0], name)
	return p.Shard, p.Shard != logcore.NoShard && p.Target == logcore.NoShard && m.has(p.Shard)
}

// hopsMax bounds how often a log is looked for elsewhere: more often only a member that lags sends in
// circles.
const hopsMax = 4

// Find returns the shard that a log is in, as far as this process knows. A log that is not known at all is the first
// shard's, which says so. A log that is about to be in a shard, and may not be there yet, is a MovedError.
func (m Moves) Find(log string) (logcore.ShardID, error) {
	if len(m) == 1 {
		return 0, nil
	}
	p := placementOf(m[0], log)
	if p.Name == "" {
		return 0, nil
	}
	at := p.At()
	for range hopsMax {
		if !m.has(at) {
			return 0, fmt.Errorf("%w: log %q is in shard %d, which this member does not have yet", logcore.ErrOverloaded, log, at)
		}
		switch have := knows(m[at], log); {
		case have.Gone:
			at = have.To
			continue
		case !have.ok && m[at].Leading() && !(p.Settled() && p.Shard == at && have.index >= p.Seen):
			return 0, &logcore.MovedError{Log: log, Shard: at} // it is about to be here
		}
		return at, nil
	}
	return 0, &logcore.MovedError{Log: log, Shard: at}
}

// PrepareMoveStep proposes a step, unless its time has not come, or is over: then nothing is done. It reports whether the step was
// proposed.
func PrepareMoveStep(p *replication.Proposer, st MoveStep) (bool, error) {
	p.After(st.After)
	c := st.Command
	if c.Op == catalog.OpCreate || c.Op == catalog.OpPlace {
		if !p.Catalog().Owned(st.In) {
			if _, err := p.Command(catalog.Command{Op: catalog.OpOwn, Shard: st.In}); err != nil {
				return false, err
			}
		}
	}
	if c.Op == catalog.OpCreate {
		c.Log = p.Catalog().NextLog()
	}
	if err := p.Catalog().Check(c, p.Catalog().LSN+1); err != nil {
		p.WaitFor(p.Catalog().LSN)
		return false, nil //nolint:nilerr // what was proposed before it stays
	}
	_, err := p.Command(c)
	return err == nil, err
}

// PrepareMove proposes that a log be moved to a shard. It returns what the directory has of the log then: with that shard as its
// target, or as the one where it is, if nothing had to be done. room says whether the shard can take it; nil asks nobody.
func PrepareMove(p *replication.Proposer, log string, to logcore.ShardID, room func(catalog.Placement) error) (want catalog.Placement, err error) {
	want, known := p.Catalog().Placement(log)
	if !known {
		l, err := p.Catalog().ByName(log)
		if err != nil {
			return want, err
		}
		want = catalog.Placement{Name: l.Name, Root: p.Catalog().Root(l).Name, Gen: l.Gen, Shard: 0, Target: logcore.NoShard}
	}
	if want.IsRoot() && (want.Target == to || want.Settled() && want.Shard == to) {
		p.WaitFor(p.Catalog().LSN)
		return want, nil
	}
	if room != nil {
		if err := room(want); err != nil {
			return want, err
		}
	}
	c := catalog.Command{Op: catalog.OpMove, Name: want.Name, Gen: want.Gen + 1, Shard: to}
	// Commit point: from here on the log is moved, whoever ends.
	_, err = p.Command(c)
	want.Gen, want.Target = c.Gen, to
	return want, err
}

// known is what the applied catalog of a shard has of a log.
type known struct {
	catalog.Log
	ok    bool
	index logcore.LSN // of the state
	time  logcore.HLC
}

// knows returns what this process's catalog of the shard has of the log of that name, also one that is gone.
func knows(s MoveShard, name string) (k known) {
	s.View(func(state *catalog.State) {
		k.index, k.time = state.LSN, state.Time
		if l, ok := state.Named(name); ok {
			k.Log, k.ok = *l, true
		}
	})
	return k
}

// epochFloor returns the highest epoch of a log that was deleted in a shard, or whose name was given up there.
func epochFloor(s MoveShard) (floor logcore.Epoch) {
	s.View(func(state *catalog.State) { floor = state.EpochFloor() })
	return floor
}

// placementOf returns what the directory has of a log; s is the first shard.
func placementOf(s MoveShard, name string) (p catalog.Placement) {
	s.View(func(state *catalog.State) { p, _ = state.Placement(name) })
	return p
}

// timeOf returns the time of the last entry that is applied.
func timeOf(s MoveShard) (t logcore.HLC) {
	s.View(func(state *catalog.State) { t = state.Time })
	return t
}
