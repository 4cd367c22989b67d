package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
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
	if r.only == "" {
		return nil
	}
	r.report.Logs = slices.DeleteFunc(r.report.Logs, func(l LogReport) bool { return l.Log != r.only })
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
			if l.Gone || r.only != "" && l.Name != r.only {
				continue
			}
			for _, e := range l.Extents {
				if int(e.Shard) >= len(shards) {
					continue
				}
				end := shards[e.Shard].replay.last.LSN
				if e.Index(e.Last) <= end {
					continue
				}
				r.report.Lost = append(r.report.Lost, Loss{Shard: uint32(e.Shard), First: max(e.First, end+e.Base+1), Last: e.Last,
					Reason: fmt.Sprintf("entries of log %s from before it moved to shard %d: the archive of shard %d reaches to %d of its own LSNs only", l.Name, at.o.Shard, e.Shard, end)})
			}
		}
	}
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
