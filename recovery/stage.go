package recovery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/replication"
)

// mayStay are the names that a directory may hold before a restore: what a service's
// directory keeps when its hot tier is gone. Page versions are derived data, and a page
// server throws away those of another incarnation by itself.
var mayStay = map[string]bool{"key": true, "targets": true, "logcore.yaml": true, "pageserver": true, "lost+found": true, stageDir: true}

// openStage refuses a directory with a service in it, takes the directory's lock, and
// removes the half of a hot log that a killed restore left; the objects that it fetched stay.
func (r *restore) openStage() (*durable.DirLock, error) {
	if err := refuseService(r.o.To); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(r.o.To, 0o700); err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	r.stage = filepath.Join(r.o.To, stageDir)
	if err := durable.MkdirAll(r.stage, 0o700); err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	lock, err := durable.Lock(r.stage)
	if err != nil {
		return nil, fmt.Errorf("recovery: another restore to %s is under way: %w", r.o.To, err)
	}
	if err := os.RemoveAll(filepath.Join(r.stage, serviceDir)); err != nil {
		return nil, errors.Join(fmt.Errorf("recovery: %w", err), lock.Unlock())
	}
	if r.spool, err = openSpool(r.stage, r.o.Shard); err != nil {
		return nil, errors.Join(fmt.Errorf("recovery: %w", err), lock.Unlock())
	}
	return lock, nil
}

// leaveStage removes the work directory of a restore that failed, but for the objects that
// the next one need not fetch again.
func (r *restore) leaveStage() error {
	empty := r.spool.empty()
	for _, other := range r.others {
		empty = empty && other.spool.empty()
	}
	if empty {
		return os.RemoveAll(r.stage)
	}
	return os.RemoveAll(filepath.Join(r.stage, serviceDir))
}

func refuseService(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	for _, e := range entries {
		if e.Name() == serviceDir {
			gone, err := hotLogGone(filepath.Join(dir, serviceDir))
			if err != nil {
				return fmt.Errorf("recovery: %w", err)
			}
			if gone {
				continue
			}
		}
		if !mayStay[e.Name()] {
			return fmt.Errorf("%w: %s holds %q: give a new directory, or move that away first", ErrNotEmpty, dir, e.Name())
		}
	}
	return nil
}

// hotLogGone reports whether a log service's directory holds no hot log any more:
// nothing but the cluster file, and directories without a file.
func hotLogGone(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() == cluster.FileName {
			continue
		}
		if !e.IsDir() {
			return false, nil
		}
		inside, err := os.ReadDir(filepath.Join(dir, e.Name()))
		if err != nil || len(inside) > 0 {
			return false, err
		}
	}
	return true, nil
}

// identify writes what a log service needs besides the hot log: its Raft state, with a
// new incarnation so that page servers forget what they knew, and the cluster that
// it belongs to. A fork of the history is a cluster of its own: it must not write to
// the archive whose newer entries it does not have.
func (r *restore) identify() error {
	// The archiver's fencing token is the term: go on above every one that may have been
	// used, that of an archiver which had claimed the archive and not written yet included.
	all := append([]*restore{r}, r.others...)
	seen, term := uint64(0), uint64(0)
	for _, one := range all {
		seen, term = max(seen, one.seen), max(term, one.replay.last.Term)
	}
	var found *replication.MemberState
	for _, one := range all {
		last := one.replay.last
		last.Term = max(term, seen) + 1
		opts := replication.Options{Log: one.hotlogOptions()}
		if found != nil { // all shards of a member have its id, and the incarnation of the first
			state := replication.FoundingState(one.o.Shard, found.Member, []uint64{found.Member}, found.Incarnation)
			opts.Found = &state
		}
		if _, err := replication.InitRestored(opts, last); err != nil {
			return fmt.Errorf("recovery: %w", err)
		}
		if found == nil {
			state, err := replication.ReadState(opts.Log.Dir)
			if err != nil {
				return fmt.Errorf("recovery: %w", err)
			}
			found = &state
		}
	}
	identity := cluster.Identity{ID: r.reader.Cluster(), Marked: true, Supersedes: seen}
	if r.report.Fork {
		identity = cluster.Identity{ID: cluster.NewID()}
		r.report.ForkCluster = identity.ID.String()
	}
	return cluster.Write(filepath.Join(r.stage, serviceDir), identity)
}

func (r *restore) publish() error {
	if err := r.identify(); err != nil {
		return err
	}
	if err := r.o.BeforePublish(r.report); err != nil {
		return err
	}
	// What refuseService let stand there: the remains of a service without its hot log.
	if err := os.RemoveAll(filepath.Join(r.o.To, serviceDir)); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	// Commit point: the rename makes the restored service exist.
	if err := os.Rename(filepath.Join(r.stage, serviceDir), filepath.Join(r.o.To, serviceDir)); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	if err := durable.SyncDir(r.o.To); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	r.step("publish")
	return os.RemoveAll(r.stage)
}
