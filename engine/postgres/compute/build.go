// Package compute makes a PostgreSQL compute node out of a log: it materialises the data
// directory as of any position, and runs the distribution's own server on it, whose commits
// go back into the log. The node keeps nothing: when it is gone the next one is made from the log.
package compute

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/backup"
	"github.com/logcore/logcore/engine/postgres/cluster"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Entry is one committed entry of the log.
type Entry struct {
	LSN     logcore.LSN
	Epoch   logcore.Epoch // of the writer
	Kind    logcore.Kind
	Tx      logcore.TxID
	Payload []byte
}

// Target says where a data directory ends; the zero value is the end of the log.
type Target struct {
	LSN      logcore.LSN  // the last entry that is applied
	Position wal.Position // the last record ends at or before it
	Time     time.Time    // no transaction is committed later
	// Timeline is the one that the server begins. 0 goes on with the log's, which only the log's writer at its end may do;
	// with Fork it is the one behind the log's.
	Timeline wal.Timeline
	Fork     bool
}

// Result says what a data directory is.
type Result struct {
	SystemID   uint64
	Timeline   wal.Timeline
	History    []byte       // the history file of Timeline, when the server begins it
	LSN        logcore.LSN  // of the last entry of which something was applied
	End        wal.Position // behind the last record
	Checkpoint []byte       // the log's bytes from End on that the server was given: a shutdown checkpoint
	Segment    uint32       // bytes of a segment
	Records    uint64
	Pages      int64 // that the page server gave; 0 when the directory was made from the log alone
	BaseBytes  int64
	WALBytes   int64
	LastCommit time.Time // of the last transaction that ended
}

// Resume returns the position behind the checkpoint: where the server's own WAL begins.
func (r Result) Resume() wal.Position { return r.End + wal.Position(len(r.Checkpoint)) }

// ErrNoBase says that the log has no complete base backup up to the target.
var ErrNoBase = errors.New("compute: the log has no complete base backup before that")

// build is a data directory under construction.
type build struct {
	dir     string
	target  Target
	log     *slog.Logger
	result  Result
	archive *backup.Reader // nil between archives
	unpack  *cluster.Unpacker
	cluster *cluster.Cluster
	replay  *cluster.Replay
	base    wal.Position
	baseEnd wal.Position // what is made before it is not consistent
	due     wal.Position // where the next WAL begins
	// timeline is the log's where the replay is. The pages say it later: one that two timelines share is the older's.
	timeline wal.Timeline
	history  []byte // of timeline
	transactions
	done bool
}

// Build writes into dir, which must be empty or missing, the data directory that the entries of a log,
// from its first on, lead to. entries end it with an error, or when they are over. What
// is in dir after an error is of no use.
func Build(ctx context.Context, dir string, entries iter.Seq2[Entry, error], target Target, logger *slog.Logger) (Result, error) {
	if err := emptyDir(dir); err != nil {
		return Result{}, err
	}
	if logger == nil {
		logger = slog.Default()
	}
	b := &build{dir: dir, target: target, log: logger}
	defer b.close()
	for e, err := range entries {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && (target.LSN == 0 || e.LSN <= target.LSN) {
			err = b.entry(e)
		}
		if err != nil {
			return Result{}, err
		}
		if b.done || target.LSN != 0 && e.LSN >= target.LSN {
			break
		}
	}
	if b.replay == nil {
		return Result{}, ErrNoBase
	}
	return b.finish()
}

// emptyDir makes a directory that is missing. Those above it are for everybody to enter: the server runs as another user.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.MkdirAll(dir, 0o700)); err != nil {
			return fmt.Errorf("compute: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("compute: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("compute: %w: %s is not empty", logcore.ErrInvalid, dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("compute: %w", err)
	}
	return nil
}

// entry takes the next entry.
func (b *build) entry(e Entry) error {
	for _, p := range b.take(e).payloads {
		if err := b.payload(p); err != nil {
			return fmt.Errorf("compute: entry %d: %w", e.LSN, err)
		}
		b.result.LSN = e.LSN
		if b.done {
			return nil
		}
	}
	return nil
}

func (b *build) payload(raw []byte) error {
	p, err := payload.Decode(raw)
	if err != nil {
		return err
	}
	switch p.Kind {
	case payload.KindBase:
		return b.piece(p)
	case payload.KindBaseEnd:
		return b.baseComplete(p)
	case payload.KindHistory:
		b.history, b.timeline = p.Content, p.Timeline
		return nil
	}
	if b.replay == nil {
		return ErrNoBase
	}
	return b.wal(p)
}

// piece unpacks a piece of the first base backup; one that was given up is begun again.
func (b *build) piece(p payload.Payload) error {
	if b.replay != nil {
		return nil // a later one: the log leads there too
	}
	piece, err := payload.DecodePiece(p.Content)
	if err != nil {
		return err
	}
	if b.archive != nil && b.base != p.Start { // given up: its end is missing
		if err := errors.Join(b.unpack.Close(), clearDir(b.dir)); err != nil {
			return err
		}
		b.archive, b.result.BaseBytes = nil, 0
	}
	b.base = p.Start
	if b.archive != nil && b.archive.Archive() != piece.Archive {
		if err := b.archiveComplete(p); err != nil {
			return err
		}
	}
	if b.archive == nil {
		if b.archive, err = backup.NewReader(piece.Archive); err != nil {
			return err
		}
		b.unpack = cluster.NewUnpacker(b.dir)
	}
	b.result.BaseBytes += int64(len(piece.Data))
	return b.archive.Feed(piece.Data, b.unpack)
}

func (b *build) baseComplete(p payload.Payload) error {
	if b.replay != nil {
		return nil
	}
	err := b.archiveComplete(p)
	if err != nil {
		return err
	}
	if b.cluster, err = cluster.Open(b.dir, b.log); err != nil {
		return err
	}
	if id := b.cluster.SystemID(); id != p.SystemID {
		return fmt.Errorf("%w: the base backup is of the database cluster %d, its entries say %d", logcore.ErrCorrupt, id, p.SystemID)
	}
	if b.baseEnd, err = payload.BackupEnd(p); err != nil {
		return err
	}
	b.result.SystemID, b.result.Segment, b.timeline = p.SystemID, p.SegmentBytes, p.Timeline
	b.due = p.Start - p.Start%wal.Position(p.SegmentBytes)
	b.replay, err = b.cluster.NewReplay(b.due, p.Start)
	return err
}

// archiveComplete ends the last archive of the base backup.
func (b *build) archiveComplete(p payload.Payload) error {
	if b.archive == nil || p.Start != b.base {
		return fmt.Errorf("%w: the end of a base backup from %v without its pieces", logcore.ErrCorrupt, p.Start)
	}
	if !b.archive.Complete() {
		return fmt.Errorf("%w: base backup whose archive %s does not end", logcore.ErrCorrupt, b.archive.Archive())
	}
	b.archive = nil
	return b.unpack.Close()
}

func (b *build) wal(p payload.Payload) error {
	if p.Start != b.due {
		return fmt.Errorf("%w: WAL from %v on, where %v is due", logcore.ErrCorrupt, p.Start, b.due)
	}
	b.due, b.timeline = p.End(), p.Timeline
	b.result.WALBytes += int64(len(p.Content))
	stopped, err := b.replay.Feed(p.Content, b.until)
	b.done = stopped
	return err
}

// until reports whether a record is beyond the target.
func (b *build) until(r *wal.Record) bool {
	if b.target.Position != 0 && r.End > b.target.Position {
		return true
	}
	ended, ok := wal.EndTime(r)
	if !ok {
		return false
	}
	at := postgresTime(ended)
	if !b.target.Time.IsZero() && at.After(b.target.Time) {
		return true
	}
	b.result.LastCommit = at
	return false
}

// postgresTime turns microseconds since 2000 into a time.
func postgresTime(us int64) time.Time {
	const epoch = 946684800
	return time.Unix(epoch+us/1e6, us%1e6*1000)
}

func (b *build) finish() (Result, error) {
	tail := b.replay.Tail()
	if tail.End < b.baseEnd {
		return Result{}, fmt.Errorf("%w: the base backup is consistent from %v on, what was asked for ends at %v", ErrNoBase, b.baseEnd, tail.End)
	}
	tail.Timeline = b.timeline
	next := b.target.Timeline
	switch {
	case b.target.Fork:
		next = tail.Timeline + 1
	case next == 0:
		next = tail.Timeline
	}
	if next < tail.Timeline || next == tail.Timeline && b.target.Timeline != 0 {
		return Result{}, fmt.Errorf("compute: %w: the log is on timeline %d; a new one has to be above it, %d is not", logcore.ErrInvalid, tail.Timeline, next)
	}
	history := b.history
	if next != tail.Timeline {
		history = fmt.Appendf(append([]byte(nil), b.history...), "%d\t%v\tmaterialised by LogCore\n", tail.Timeline, tail.End)
		b.result.History = history
	}
	checkpoint, err := b.cluster.Finish(tail, next, history)
	if err != nil {
		return Result{}, err
	}
	b.result.Timeline, b.result.End, b.result.Checkpoint, b.result.Records = next, tail.End, checkpoint, b.cluster.Records()
	return b.result, nil
}

func (b *build) close() {
	if b.archive != nil {
		_ = b.unpack.Close() // the build failed
		b.archive = nil
	}
	if b.cluster != nil {
		_ = b.cluster.Close()
	}
}

func clearDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("compute: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("compute: %w", err)
	}
	return nil
}
