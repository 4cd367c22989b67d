package recovery

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering"
)

// Options says what Restore restores, from where and to where.
type Options struct {
	// Targets are those of the archive, the unreachable ones included. Required.
	Targets []tiering.Target
	// Keys opens the archive. Required.
	Keys tiering.KeyProvider
	// Cluster picks one archive of several on the targets; zero means the only one.
	Cluster [16]byte
	// Shard is the shard to restore.
	Shard logcore.ShardID
	// To is the directory that the service is started with afterwards; the hot log goes
	// to ShardDir(To, Shard). Required. It may hold a key file, targets and a
	// configuration, but nothing of a service.
	To string
	// Log limits the report to one log, which must exist at the restored point. All logs of
	// a shard share one history, so all of them are restored in any case.
	Log string
	// LSN and Time are the point in time: everything up to and including it is restored.
	// Zero means everything; at most one may be set.
	LSN  logcore.LSN
	Time time.Time
	// AcceptLoss restores shards whose archives do not fit together (ErrApart) all the same: what logs had in a shard whose
	// archive is older than it was is missing from their midst. Archives that are several moves of a log apart are refused
	// all the same.
	AcceptLoss bool
	// MemoryMax bounds the memory for objects that are read at once, in bytes; 0 means 256
	// MiB. A single object may be larger.
	MemoryMax int64
	// AnswerWithin is how long a target may take for its first answer before it counts as
	// unreachable; 0 means 5 s. OpTimeout bounds every call after that; 0 means 15 s.
	AnswerWithin, OpTimeout time.Duration
	// BeforePublish is called once all is restored and verified, right before the service
	// appears in To; what it writes to To is there when the service is. An error from it
	// ends the restore. nil is allowed.
	BeforePublish func(Report) error
	// Progress is told how far the restore is, from one goroutine; nil is allowed.
	Progress func(Progress)
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Progress says how far a restore is.
type Progress struct {
	Step  string      // "manifest", "survey", "rebuild", "verify"; after a loss "look for losses"
	LSN   logcore.LSN // up to which the step came
	Last  logcore.LSN // where it ends
	Bytes int64       // of entries so far
	Total int64       // of entries in the end; 0 = not known yet
}

// String is a line for people.
func (p Progress) String() string {
	switch {
	case p.Last == 0:
		return "restore: " + p.Step
	case p.Total == 0:
		return fmt.Sprintf("restore: %s LSN %d of %d, %d MiB", p.Step, p.LSN, p.Last, p.Bytes>>20)
	}
	return fmt.Sprintf("restore: %s LSN %d of %d, %d of %d MiB", p.Step, p.LSN, p.Last, p.Bytes>>20, p.Total>>20)
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.BeforePublish == nil {
		o.BeforePublish = func(Report) error { return nil }
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.MemoryMax == 0 {
		o.MemoryMax = 256 << 20
	}
	if o.AnswerWithin == 0 {
		o.AnswerWithin = 5 * time.Second
	}
	if o.OpTimeout == 0 {
		o.OpTimeout = 15 * time.Second
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	check := func(ok bool, text string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: recovery: %s", logcore.ErrInvalid, text))
		}
	}
	check(len(o.Targets) > 0, "Targets is empty: name the archive's buckets")
	check(o.Keys != nil, "Keys is nil: the archive is encrypted")
	check(o.To != "", "To is empty: name the directory to restore to")
	check(o.MemoryMax >= 0 && o.AnswerWithin >= 0 && o.OpTimeout >= 0, "MemoryMax, AnswerWithin or OpTimeout is negative")
	check(o.LSN == 0 || o.Time.IsZero(), "LSN and Time are both set: give one point in time")
	return errors.Join(errs...)
}

const serviceDir = "logsvc"

// ShardDir is where the hot log of a shard lies in a service's directory.
func ShardDir(dir string, shard logcore.ShardID) string {
	return filepath.Join(dir, serviceDir, fmt.Sprintf("shard-%d", shard))
}
