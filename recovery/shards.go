package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/tiering"
)

// sharded reports whether there are other shards to restore besides this one.
func (r *restore) sharded() bool { return r.o.Shard == 0 && r.replay.state.Shards() > 1 }

// otherShards restores the shards besides the first, which says how many there are, and adds what there is to say
// of them to its report.
//
// Each shard ends where the archive of it ends, or at the point in time. A log that was on its way from one to
// another may so be between two, or in both: the service that is started puts that in order, by the number of its moves.
func (r *restore) otherShards(ctx context.Context) error {
	if !r.sharded() {
		return nil
	}
	for shard := 1; shard < r.replay.state.Shards(); shard++ {
		if err := r.otherShard(ctx, logcore.ShardID(shard)); err != nil {
			return fmt.Errorf("shard %d: %w", shard, err)
		}
	}
	r.loseExtents()
	if err := r.fitTogether(); err != nil {
		return err
	}
	if r.only == "" {
		return nil
	}
	r.report.Logs = slices.DeleteFunc(r.report.Logs, func(l LogReport) bool { return l.Log != r.only })
	r.report.Lost = slices.DeleteFunc(r.report.Lost, func(l Loss) bool { return l.Log != "" && l.Log != r.only })
	r.report.Unfinished = slices.DeleteFunc(r.report.Unfinished, func(u Unfinished) bool { return u.Log != r.only })
	if len(r.report.Logs) == 0 {
		return fmt.Errorf("%w: %q, in none of %d shards", logcore.ErrLogNotFound, r.only, r.replay.state.Shards())
	}
	return nil
}

func (r *restore) otherShard(ctx context.Context, shard logcore.ShardID) (err error) {
	o := r.o
	o.Shard, o.Log, o.Cluster = shard, "", r.reader.Cluster()
	one := &restore{o: o, stage: r.stage, clock: time.Now(), report: Report{To: o.To, Unreachable: []string{}, NotGiven: []string{}, Lost: []Loss{}}}
	if one.spool, err = openSpool(r.stage, shard); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	r.others = append(r.others, one)
	var errs []error
	for _, do := range []func(context.Context) error{one.openArchive, one.survey, one.rebuild, one.verify} {
		if one.empty {
			break
		}
		if err := do(ctx); err != nil {
			errs = append(errs, err)
			break
		}
	}
	r.merge(one.report, shard)
	return errors.Join(errs...)
}

// oneShard refuses an LSN of an archive with several shards, before anything is fetched: each has LSNs of its own.
func (r *restore) oneShard(ctx context.Context) error {
	if r.o.LSN == 0 {
		return nil
	}
	_, shards, err := tiering.Shards(ctx, r.o.Targets, r.reader.Cluster())
	if err != nil {
		return fmt.Errorf("looking for shards: %w", err)
	}
	if len(shards) > 1 {
		return fmt.Errorf("%w: the archive has %d shards, each with LSNs of its own: an LSN is no point in time of them all; give a time instead", logcore.ErrInvalid, len(shards))
	}
	return nil
}

// nothingArchived is the end of the restore of a shard that had nothing archived yet when the service ended: it begins anew. A
// shard whose manifest is lost is another matter.
func (r *restore) nothingArchived(ctx context.Context) error {
	found, err := tiering.FindTraces(ctx, reachable(ctx, r.o.Targets, r.o.AnswerWithin), r.o.Cluster, r.o.Shard)
	if err != nil {
		return err
	}
	// What the archiver put first, it may not have come to name in a manifest: the one object of a service that ended young.
	if found.Objects > 1 {
		return fmt.Errorf("%w: there is no manifest, and there are %d fragments of %d objects: run `logcore manifest rebuild` first", tiering.ErrNoArchive, found.Fragments, found.Objects)
	}
	if found.Objects == 1 {
		r.report.Lost = append(r.report.Lost, Loss{First: 1, Last: found.Last, Objects: 1,
			Reason: "it was being archived when the service ended, and no manifest names it: `logcore manifest rebuild` before the restore brings it back, if enough fragments are there"})
	}
	r.empty, r.replay, r.seen = true, newReplay(), found.Epoch
	if err := durable.MkdirAll(ShardDir(r.stage, r.o.Shard), 0o700); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	r.step("manifest")
	return nil
}

// loseExtents puts into the report what logs have in a shard that they left, beyond what is archived of it: their new
// shard's archive reached further.
func (r *restore) loseExtents() {
	shards := append([]*restore{r}, r.others...)
	for _, at := range shards {
		for _, l := range at.replay.state.Logs() {
			for _, e := range l.Extents {
				if int(e.Shard) >= len(shards) {
					continue
				}
				end := shards[e.Shard].replay.last.LSN
				if e.Index(e.Last) <= end {
					continue
				}
				loss := Loss{Shard: uint32(e.Shard), First: max(e.First, end+e.Base+1), Last: e.Last, Log: l.Name,
					Reason: fmt.Sprintf("entries of log %s from before it moved to shard %d: the archive of shard %d reaches to %d of its own LSNs only", l.Name, at.o.Shard, e.Shard, end)}
				if !slices.ContainsFunc(r.report.Lost, func(l Loss) bool {
					return l.Log == loss.Log && l.Shard == loss.Shard && l.First == loss.First && l.Last == loss.Last
				}) {
					r.report.Lost = append(r.report.Lost, loss)
				}
			}
		}
	}
}

// ErrApart: the shards' archives do not fit together: one is older than what another one has of a log that moved.
var ErrApart = errors.New("recovery: the archives of the shards do not fit together")

// fitTogether refuses shards that can't come from archives as they are kept: a log goes on in another shard only once the archive
// has all that it left in the old one, so where one shard's archive knows of a move, the old shard's archive has it too. An archive
// that hasn't is older than it was: its newest manifests are on targets that were not given or did not answer, or
// an old copy was put back. What the logs had in it would be missing from their midst.
func (r *restore) fitTogether() error {
	var problems []string
	ends := map[logcore.ShardID]bool{} // archives that end too early
	several := false                   // moves lie between: what is left does not fit even without what is lost
	for _, l := range r.report.Lost {
		if l.Log != "" {
			ends[logcore.ShardID(l.Shard)] = true
			problems = append(problems, l.Reason)
			several = several || r.movesSince(l.Log, logcore.ShardID(l.Shard)) > 1
		}
	}
	for _, p := range r.replay.state.Placements() {
		if at, short := r.lostMove(p); short {
			ends[at], several = true, true
			problems = append(problems, fmt.Sprintf("shard 0 has log %s at move %d, in shard %d, and no shard's archive has what it left or where it came", p.Name, p.Gen, p.At()))
		}
	}
	if len(problems) == 0 || r.o.AcceptLoss && !several {
		return nil
	}
	var at logcore.HLC
	for shard := range ends {
		if end := r.shard(shard).replay.last.Time; at == 0 || end < at {
			at = end
		}
	}
	ways := "Give the targets that are missing, or make the manifest anew from what the targets hold (logcore manifest rebuild)"
	if at != 0 {
		ways += fmt.Sprintf("; or restore all shards to a time before that (--time %s)", at.Wall().Add(-time.Millisecond).Truncate(time.Millisecond).UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	if !several {
		ways += "; or go on without these entries (--accept-loss)"
	}
	return fmt.Errorf("%w: %s. %s", ErrApart, strings.Join(problems, "; "), ways)
}

// shard is the restore of one shard.
func (r *restore) shard(shard logcore.ShardID) *restore {
	if shard == 0 || int(shard) > len(r.others) {
		return r
	}
	return r.others[shard-1]
}

// movesSince returns how many moves of a log are known of which a shard's archive has no trace.
func (r *restore) movesSince(log string, shard logcore.ShardID) uint64 {
	newest := func(one *restore) (gen uint64) {
		for _, l := range one.replay.state.Logs() {
			if l.Name == log && l.Parent == 0 {
				if gen = max(gen, l.Gen); l.Gone {
					gen = max(gen, l.Gen+1)
				}
			}
		}
		return gen
	}
	most := uint64(0)
	for _, one := range append([]*restore{r}, r.others...) {
		most = max(most, newest(one))
	}
	return most - newest(r.shard(shard))
}

// lostMove reports whether no shard has a trace of the last move that the directory knows to be done, and which shard's archive
// ends first of those that may have had it.
func (r *restore) lostMove(p catalog.Placement) (at logcore.ShardID, lost bool) {
	goal := p.Gen // the moves that are done
	if !p.Settled() && goal > 0 {
		goal--
	}
	if !p.IsRoot() || goal == 0 {
		return 0, false // what was not moved has only been created: that may be too young for the archive
	}
	known := false
	var first logcore.HLC
	for i, one := range append([]*restore{r}, r.others...) {
		for _, l := range one.replay.state.Logs() {
			if l.Name != p.Name || l.Parent != 0 {
				continue
			}
			known = true
			if l.Gen >= goal || l.Gone && l.Gen+1 >= goal {
				return 0, false
			}
		}
		if t := one.replay.last.Time; i > 0 && (first == 0 || t < first) {
			first, at = t, logcore.ShardID(i)
		}
	}
	return at, known
}

// merge adds the report of another shard.
func (r *restore) merge(one Report, shard logcore.ShardID) {
	to := &r.report
	to.Shards = append(to.Shards, ShardReport{Shard: uint32(shard), Entries: one.Entries, EntryBytes: one.EntryBytes, Segments: one.Segments, FirstLSN: one.FirstLSN, LastLSN: one.LastLSN,
		LastTime: one.LastTime, ArchivedLSN: one.ArchivedLSN, ArchivedTime: one.ArchivedTime})
	to.ObjectsRead, to.BytesRead, to.FragmentsRebuilt = to.ObjectsRead+one.ObjectsRead, to.BytesRead+one.BytesRead, to.FragmentsRebuilt+one.FragmentsRebuilt
	to.ObjectsResumed, to.BytesResumed = to.ObjectsResumed+one.ObjectsResumed, to.BytesResumed+one.BytesResumed
	to.Fork = to.Fork || one.Fork
	to.Logs, to.Unfinished = append(to.Logs, one.Logs...), append(to.Unfinished, one.Unfinished...)
	for _, l := range one.Lost {
		l.Shard = uint32(shard)
		to.Lost = append(to.Lost, l)
	}
	for _, name := range one.Unreachable {
		if !slices.Contains(to.Unreachable, name) {
			to.Unreachable = append(to.Unreachable, name)
		}
	}
	for _, s := range one.Steps {
		s.Name = fmt.Sprintf("shard %d: %s", shard, s.Name)
		to.Steps = append(to.Steps, s)
	}
}
