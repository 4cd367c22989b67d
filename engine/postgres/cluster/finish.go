package cluster

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/logcore/logcore/engine/postgres/effect"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Tail is the end of the log that was applied.
type Tail struct {
	End      wal.Position // behind the last record applied
	Prev     wal.Position // where that begins
	Timeline wal.Timeline // that the end is on
	// Segment are the bytes of the log from the beginning of the segment that holds End, up to End;
	// empty when a segment begins there.
	Segment []byte
}

// Finish makes the directory that of a server that was shut down cleanly at the end of
// the log: it writes all pages, empties unlogged relations, and puts a shutdown checkpoint at the end of
// the WAL, which it returns with the position where it begins to be written. That checkpoint is
// part of the log: who goes on with it has to append the same bytes there. history is the content of newTimeline's
// history file; the first timeline has none.
func (c *Cluster) Finish(tail Tail, newTimeline wal.Timeline, history []byte) (checkpoint []byte, err error) {
	if err := c.checkMissing(); err != nil {
		return nil, err
	}
	if err := c.Flush(); err != nil {
		return nil, err
	}
	if err := c.tidy(); err != nil {
		return nil, err
	}
	counters := c.effects.Counters
	counters.Timeline, counters.PrevTimeline = newTimeline, tail.Timeline
	counters.Time = time.Now().Unix()
	counters.OldestActiveXID = 0
	id := wal.LogIdentity{SystemID: c.SystemID(), Timeline: newTimeline, SegmentBytes: c.SegmentBytes()}
	_, counters.Redo = id.Place(tail.End, nil)
	record, err := wal.NewRecord(wal.ManagerXLog, 0, 0, tail.Prev, counters.Checkpoint())
	if err != nil {
		return nil, err
	}
	checkpoint, at := id.Place(tail.End, record)
	c.control.ShutDown(at, counters)
	if err := c.writeWAL(tail, newTimeline, checkpoint); err != nil {
		return nil, err
	}
	if len(history) > 0 {
		name := fmt.Sprintf("%08X.history", uint32(newTimeline))
		if err := writeFile(filepath.Join(c.dir, "pg_wal", name), history); err != nil {
			return nil, err
		}
	}
	return checkpoint, writeFile(filepath.Join(c.dir, effect.ControlPath), c.control.File())
}

// writeWAL writes the segment files that hold the end of the log and the checkpoint.
func (c *Cluster) writeWAL(tail Tail, t wal.Timeline, checkpoint []byte) error {
	dir := filepath.Join(c.dir, "pg_wal")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "archive_status"), 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	bytes := wal.Position(c.SegmentBytes())
	b := append(append([]byte(nil), tail.Segment...), checkpoint...)
	for at := tail.End - wal.Position(len(tail.Segment)); len(b) > 0; at += bytes {
		file := make([]byte, bytes)
		b = b[copy(file, b):]
		if err := writeFile(filepath.Join(dir, wal.SegmentName(t, at, c.SegmentBytes())), file); err != nil {
			return err
		}
	}
	return nil
}

var relationFile = regexp.MustCompile(`^[0-9]+(_(fsm|vm|init))?(\.[0-9]+)?$`)

// tidy removes what must not stay: what belongs to the backup; free space maps, which the log
// doesn't have and the server rebuilds; caches of the catalog. Unlogged relations
// become empty, as after a crash.
func (c *Cluster) tidy() error {
	for _, name := range effect.BackupFiles {
		if err := c.remove(name); err != nil {
			return err
		}
	}
	var inits []string
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := d.Name()
		switch {
		case name == "pg_internal.init":
			return os.Remove(path)
		case !relationFile.MatchString(name) || !c.holdsRelations(path):
		case strings.Contains(name, "_fsm"):
			return os.Remove(path)
		case strings.HasSuffix(name, "_init"):
			inits = append(inits, path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, path := range inits {
		if err := resetUnlogged(path); err != nil {
			return err
		}
	}
	return c.makeDirectories()
}

// holdsRelations reports whether a file lies where relations' files lie.
func (c *Cluster) holdsRelations(path string) bool {
	rel, err := filepath.Rel(c.dir, path)
	if err != nil {
		return false
	}
	top, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
	return top == "base" || top == "global" || top == "pg_tblspc"
}

// resetUnlogged makes an unlogged relation what its init fork is.
func resetUnlogged(init string) error {
	main := strings.TrimSuffix(init, "_init")
	others, err := filepath.Glob(main + "[._]*")
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, o := range others {
		if o != init {
			if err := os.Remove(o); err != nil {
				return fmt.Errorf("cluster: %w", err)
			}
		}
	}
	return copyFile(init, main)
}

// makeDirectories makes the directories that a backup leaves empty or out.
func (c *Cluster) makeDirectories() error {
	for _, d := range []string{"global", "base", "pg_commit_ts", "pg_dynshmem", "pg_logical/mappings", "pg_logical/snapshots", "pg_multixact/members", "pg_multixact/offsets",
		"pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal/archive_status", "pg_xact"} {
		if err := os.MkdirAll(filepath.Join(c.dir, d), 0o700); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	return nil
}
