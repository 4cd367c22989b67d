package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
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
		if err := do(ctx); err != nil {
			errs = append(errs, err)
			break
		}
	}
	r.merge(one.report, shard)
	return errors.Join(errs...)
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
