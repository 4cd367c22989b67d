package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
)

// Writer is the log's writer: a granted epoch. NewSource makes one over package client.
type Writer interface {
	// AppendTx appends the parts as one transaction and returns where it became
	// visible, once it is durable. After an error, Err tells whether anything may have
	// been written. The parts must not change until it returns.
	AppendTx(ctx context.Context, tx logcore.TxID, parts [][]byte, position []byte) (logcore.LSN, logcore.HLC, error)
	// Err is why the Writer takes no more appends: it was fenced, or the outcome of an
	// append is unknown. While it is nil, an append that failed wrote nothing and never will.
	Err() error
	// EntryBytesMax is the largest part, in bytes.
	EntryBytesMax() int
	// Epoch is the writer epoch granted.
	Epoch() logcore.Epoch
	// LastLSN is the log's last entry when the epoch was granted, or where it branched
	// off when it had none of its own; 0 for a new log.
	LastLSN() logcore.LSN
	// AdvisedPause is how long the log service advised, with its last acknowledgement, to wait
	// before more is appended, because page servers are behind; 0 when there is no need.
	AdvisedPause() time.Duration
	// Close gives the epoch's lease back.
	Close(ctx context.Context) error
}

// Size is the database file as of an LSN.
type Size struct {
	// LSN is the one asked for, or the newest when 0 was.
	LSN logcore.LSN
	// LastLSN is the log's last visible change at or before LSN, 0 for none. Snapshots
	// with the same LastLSN have the same content.
	LastLSN logcore.LSN
	// Incarnation is that of the log service that the answer comes from.
	Incarnation uint64
	// Pages is the file's length; PageSize is in bytes, 0 when there is no file.
	Pages, PageSize uint32
}

// End is what a log is at now.
type End struct {
	// LSN is the last committed entry, as Writer.LastLSN.
	LSN logcore.LSN
	// Committed is what the log service has committed, in whatever log: no entry of this
	// one will get an LSN up to it any more.
	Committed logcore.LSN
	// Epoch is the newest writer epoch granted, 0 for none.
	Epoch logcore.Epoch
	// Incarnation is another one after the log service was restored. It is never 0 once
	// the service has begun.
	Incarnation uint64
}

// Source is the log that the database lives in, as seen by this package: its writer
// and its pages. It may be used by many goroutines.
type Source interface {
	// OpenWriter takes the writer epoch of the log, creating the log when there is none.
	// It fails with logcore.ErrWriterActive while another writer is alive, unless
	// takeover is set.
	OpenWriter(ctx context.Context, takeover bool) (Writer, error)
	// End asks the log service, not a page server, where the log ends.
	End(ctx context.Context) (End, error)
	// Size returns the file's size as of an LSN, 0 meaning the newest that the page
	// server has; it waits for lsn within ctx's deadline. A log that does not exist is
	// logcore.ErrLogNotFound.
	Size(ctx context.Context, lsn logcore.LSN) (Size, error)
	// Pages returns the content of pages as of lsn, in the order asked for; nil for one
	// that was never written. None of them changed in (unchangedSince, lsn]. At most
	// PagesMax are asked for. The caller owns the slices. With them comes the incarnation
	// of the log service that they come from.
	Pages(ctx context.Context, pages []uint32, lsn, unchangedSince logcore.LSN) ([][]byte, uint64, error)
}

// PagesMax is the most pages asked for in one call of Source.Pages.
const PagesMax = 256

// Options says which log is opened and how.
type Options struct {
	// Log is the log's name, for people and for the file's name in SQLite. Required.
	Log string
	// Source gives access to the log. Required.
	Source Source
	// LSN pins every read to this LSN and makes the Database read-only; 0 means the newest.
	LSN logcore.LSN
	// ReadOnly refuses writes. Without Follow, the log's end at Open is pinned.
	ReadOnly bool
	// Follow makes the Database read-only and every read transaction begin at the newest
	// LSN that the page server has, be it the log's end or a little behind. (One that may
	// write begins each at the log's end.)
	Follow bool
	// WriteNow takes the writer epoch at Open instead of at the first write.
	WriteNow bool
	// Takeover fences another writer that is still alive.
	Takeover bool
	// CacheBytes bounds the page cache; 0 means 64 MiB.
	CacheBytes int64
	// TxBytesMax bounds what one transaction may change; 0 means 1 GiB. All of it is held
	// in memory until it commits. A larger one fails with SQLITE_FULL and is rolled back.
	TxBytesMax int64
	// CommitTimeout bounds the wait for the acknowledgement of a commit, after which its
	// outcome is unknown; 0 means 30 s.
	CommitTimeout time.Duration
	// PauseMax bounds how long a transaction waits before it begins to write because page servers
	// are behind and the log service advises to wait; 0 means 2 s, below 0 it never waits.
	PauseMax time.Duration
	// ReadTimeout bounds the wait for pages or an LSN; 0 means 10 s.
	ReadTimeout time.Duration
	// BusyTimeout is SQLite's busy timeout of connections that Conn opens; 0 means 5 s.
	BusyTimeout time.Duration
	// Logger; nil means slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics; nil registers none.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	setDefault(&o.CacheBytes, 64<<20)
	setDefault(&o.TxBytesMax, 1<<30)
	setDefault(&o.CommitTimeout, 30*time.Second)
	setDefault(&o.PauseMax, 2*time.Second)
	setDefault(&o.ReadTimeout, 10*time.Second)
	setDefault(&o.BusyTimeout, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.LSN != 0 || o.Follow {
		o.ReadOnly = true
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: sqlite.Options: "+format, append([]any{logcore.ErrInvalid}, args...)...))
	}
	if err := logcore.ValidateLogName(o.Log); err != nil {
		errs = append(errs, err)
	}
	if o.Source == nil {
		bad("Source is nil")
	}
	if o.LSN != 0 && o.Follow {
		bad("LSN %d and Follow exclude each other", o.LSN)
	}
	if o.ReadOnly && (o.WriteNow || o.Takeover) {
		bad("a read-only database takes no writer epoch: drop WriteNow and Takeover, or LSN and ReadOnly")
	}
	if o.CacheBytes < 0 || o.TxBytesMax < 0 {
		bad("CacheBytes %d and TxBytesMax %d must not be negative", o.CacheBytes, o.TxBytesMax)
	}
	if o.CommitTimeout < 0 || o.ReadTimeout < 0 || o.BusyTimeout < 0 {
		bad("CommitTimeout, ReadTimeout and BusyTimeout must not be negative")
	}
	return errors.Join(errs...)
}
