package roles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
	"github.com/logcore/logcore/tiering/target"
)

// identify finds out which cluster dir belongs to, makes a new one of an empty
// directory, and sees to it that the targets are the cluster's.
//
// A directory without a hot log beside an archive that has one is a lost hot tier. To
// start it empty would be to start another history, so it is refused: restore first. A directory that joins the
// cluster gets its log from the other nodes.
func identify(ctx context.Context, dir, shardDir string, targets *Targets, joining bool, log *slog.Logger) (cluster.Identity, error) {
	hasLog, err := holdsFiles(shardDir)
	if err != nil {
		return cluster.Identity{}, err
	}
	identity, err := cluster.ReadIdentity(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case fresh && hasLog:
		return identity, fmt.Errorf("%s holds a hot log, but the file %s/%s that says of which cluster is missing: put it back from your copy, or restore from the archive into a new directory", shardDir, dir, cluster.FileName)
	case err != nil && !fresh:
		return identity, err
	}
	if !hasLog && !joining {
		if err := refuseLostHotTier(ctx, dir, targets, identity.ID); err != nil {
			return identity, err
		}
	}
	if fresh {
		identity.ID = cluster.NewID()
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return identity, err
		}
		if err := cluster.Write(dir, identity); err != nil {
			return identity, err
		}
	}
	switch {
	case len(targets.All) == 0:
		return identity, nil
	case identity.Marked:
		return identity, recognise(ctx, identity.ID, targets, log)
	}
	if err := mark(ctx, identity.ID, targets); err != nil {
		return identity, err
	}
	identity.Marked = true
	return identity, cluster.Write(dir, identity)
}

func holdsFiles(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// refuseLostHotTier looks for an archive that the missing hot log may have written. A
// marker alone is none when it is ours: a first start may have been cut short.
func refuseLostHotTier(ctx context.Context, dir string, targets *Targets, own cluster.ID) error {
	for _, t := range targets.All {
		if t.Bucket == nil {
			continue
		}
		m, err := target.ReadMarker(ctx, t.Bucket)
		if err == nil && cluster.ID(m.Cluster) != own {
			return fmt.Errorf("%s holds no hot log, but target %s belongs to cluster %v: to bring that cluster back run `logcore restore`; for a new one give empty targets", dir, t.Name, m.Cluster)
		}
	}
	if own == (cluster.ID{}) || len(targets.All) == 0 {
		return nil
	}
	found, err := discover(ctx, targets)
	if err != nil {
		return err
	}
	for _, loc := range found {
		if cluster.ID(loc.Cluster) == own {
			return fmt.Errorf("%s holds no hot log, but the targets hold its archive: run `logcore restore` first", dir)
		}
	}
	return nil
}

// mark writes the marker of a cluster that has archived nothing yet to every target. All
// must take it: later a target without it is a lost one.
func mark(ctx context.Context, id cluster.ID, targets *Targets) error {
	// The one moment when refusing costs nobody anything.
	if err := tiering.CheckPlacement(targets.All, erasure.DefaultK, erasure.DefaultM); err != nil {
		return err
	}
	for _, t := range targets.All {
		if t.Bucket == nil {
			return fmt.Errorf("target %s: a new cluster needs all its targets: %w", t.Name, targets.Lost[t.Name])
		}
		err := target.WriteMarker(ctx, t.Bucket, markerOf(id, t.Name))
		switch {
		case errors.Is(err, bucket.ErrExists):
			return foreign(err, id)
		case err != nil:
			return fmt.Errorf("target %s: %w: a new cluster needs to write to all its targets", t.Name, err)
		}
	}
	return nil
}

// recognise looks for the marker on every target. A target of another cluster is
// refused. One without a marker is lost, as one that does not answer is: whatever stands
// in its place holds none of the fragments that the manifest says are there.
func recognise(ctx context.Context, id cluster.ID, targets *Targets, log *slog.Logger) error {
	for i, t := range targets.All {
		if t.Bucket == nil {
			continue
		}
		want := markerOf(id, t.Name)
		found, err := target.ReadMarker(ctx, t.Bucket)
		switch {
		case err == nil && found == want:
			continue
		case err == nil:
			return foreign(fmt.Errorf("%v: %w: it is target %s of cluster %v, not target %s of cluster %v: give another bucket, or the URL's right name",
				t.Bucket, bucket.ErrExists, found.Name, found.Cluster, want.Name, want.Cluster), id)
		case ctx.Err() != nil:
			return fmt.Errorf("target %s: %w", t.Name, err)
		case errors.Is(err, bucket.ErrNotFound):
			err = fmt.Errorf("%w: target %s: %v is not it, it has no marker: is the right file system mounted?", bucket.ErrGone, t.Name, t.Bucket)
		}
		log.Warn("target is lost", "target", t.Name, "err", err)
		targets.lose(i, err)
	}
	return nil
}

func markerOf(id cluster.ID, name string) target.Marker {
	return target.Marker{Cluster: target.ClusterID(id), Name: name}
}

func foreign(err error, id cluster.ID) error {
	return fmt.Errorf("%w; the directory belongs to cluster %v (a restore to an earlier point makes a cluster of its own, which needs targets of its own)", err, id)
}

// RepairMarkers writes the damaged markers of targets again, and returns the names of those
// targets. Whose target it is, the whole markers of a majority say; without one nothing
// is done. A marker of another cluster is left alone: only damage is repaired.
func RepairMarkers(ctx context.Context, targets *Targets) (repaired []string, err error) {
	votes := map[target.ClusterID]int{}
	var damaged []int
	for i, t := range targets.All {
		if t.Bucket == nil {
			continue
		}
		m, err := target.ReadMarker(ctx, t.Bucket)
		switch {
		case err == nil && m.Name == t.Name:
			votes[m.Cluster]++
		case errors.Is(err, logcore.ErrCorrupt):
			damaged = append(damaged, i)
		}
	}
	for id, n := range votes {
		if n <= len(targets.All)/2 {
			continue
		}
		for _, i := range damaged {
			t := targets.All[i]
			if err := t.Bucket.Delete(ctx, target.MarkerKey); err != nil {
				return repaired, fmt.Errorf("target %s: %w", t.Name, err)
			}
			if err := target.WriteMarker(ctx, t.Bucket, target.Marker{Cluster: id, Name: t.Name}); err != nil {
				return repaired, fmt.Errorf("target %s: %w", t.Name, err)
			}
			repaired = append(repaired, t.Name)
		}
	}
	return repaired, nil
}
