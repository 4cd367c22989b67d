package pageserver

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/pageserver/checkpoint"
)

// Options configure a Server.
type Options struct {
	// Dir holds the version store; it is created when missing. Required.
	Dir string
	// Source is where the logs come from. Required.
	Source LogSource
	// Archive is read by a page server that is far behind, or whose source does not answer; nil:
	// everything comes from Source. The caller closes it after the Server.
	Archive Archive
	// ArchiveAfterBytes is how many bytes of payloads have to be missing of a log for it to be read
	// from Archive. It is also when what is missing is no longer at hand in Source. Zero means 64 MiB.
	ArchiveAfterBytes int64
	// ArchiveCheckInterval is how often Archive is looked at when it is not needed. Zero means 30 s.
	ArchiveCheckInterval time.Duration
	// Formats are the payload formats that can be decoded. Required, unless Decoder is set.
	Formats *engine.Mux
	// Decoder, when set, decodes every log, whatever it announces.
	Decoder engine.Decoder
	// Stripes, when set, returns the stripes whose pages are held; what it returns may become
	// less, never more: what was left out does not come back. A store that was made with other
	// stripes must not be opened with it. nil holds all. It may be called at any time.
	Stripes func() stripemap.Set
	// Decodings are shared with other Servers of the process; nil shares nothing.
	Decodings *Decodings
	// Logger gets what an operator should see; nil means slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics; nil registers nothing.
	Registerer prometheus.Registerer
	// Corruptions counts what fails its checksum; nil means a private counter.
	Corruptions prometheus.Counter
	// PageCacheBytes bounds the cache of materialised pages. Zero means 64 MiB.
	PageCacheBytes int64
	// WriteCacheBytes bounds what is kept of pages that are being written, so that a page
	// that is due an image need not be read. Zero means half of PageCacheBytes.
	WriteCacheBytes int64
	// BlockCacheBytes bounds Pebble's cache of table blocks. Zero means 64 MiB.
	BlockCacheBytes int64
	// MemTableBytes is the size of Pebble's write buffer; up to four exist at a time.
	// Zero means 32 MiB.
	MemTableBytes int64
	// ImageBytesPerSecond bounds what is written for images of pages whose reads cost most.
	// Zero means 8 MiB/s; below zero none are made.
	ImageBytesPerSecond int64
	// FlushInterval is how often what was ingested is made durable, so how much is
	// ingested again after a crash. Zero means 5 s.
	FlushInterval time.Duration
	// PollInterval is how often the source is asked for new logs; a request for an
	// unknown log asks at once. Zero means 2 s.
	PollInterval time.Duration
	// ChainDeltasMax is the longest chain of deltas that a read may have to apply; the
	// next delta of the page is stored as an image. Zero means 16.
	ChainDeltasMax int
	// DiskReserveBytes is how much of the disk ingest leaves free: room for what is in memory
	// and for Pebble to rewrite tables. Zero means four write buffers and 64 MiB.
	DiskReserveBytes int64
	// Keeper says how much of the logs' histories stays readable; nil: all of it, for ever.
	Keeper HistoryKeeper
	// CollectInterval is how often horizons are moved by the logs' windows and what is
	// behind them is looked at. Zero means 30 s.
	CollectInterval time.Duration
	// CollectBytesPerSecond bounds what collection reads. Zero means 32 MiB.
	CollectBytesPerSecond int64
	// Checkpoints is where copies of the store go, and where a new store comes from; nil
	// keeps none. The caller closes its bucket after the Server.
	Checkpoints *checkpoint.Repository
	// CheckpointInterval is how often the store is copied, when there is anything new: how
	// much of the log a page server that begins from the copy has to ingest. Zero means 5 min.
	CheckpointInterval time.Duration
	// Standing reports whether the page server may write checkpoints; nil: it may. In any case it
	// does not before the source has answered: somebody else may have its place by now.
	Standing func() bool
}

// Limits of the API; see the .proto.
const (
	// PagesMax is the most pages one request may ask for.
	PagesMax = 1024
	// WaitDefault is how long a request waits for an LSN unless it says otherwise.
	WaitDefault = 5 * time.Second
	// WaitMax caps what a request may say.
	WaitMax = 60 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Decoder != nil {
		o.Formats = engine.Only(o.Decoder)
	}
	if o.Corruptions == nil {
		o.Corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_corruption_total"})
	}
	setDefault(&o.ArchiveAfterBytes, 64<<20)
	setDefault(&o.ArchiveCheckInterval, archiveCheckEvery)
	setDefault(&o.PageCacheBytes, 64<<20)
	setDefault(&o.WriteCacheBytes, max(1, o.PageCacheBytes/2))
	setDefault(&o.BlockCacheBytes, 64<<20)
	setDefault(&o.MemTableBytes, 32<<20)
	setDefault(&o.ImageBytesPerSecond, 8<<20)
	setDefault(&o.FlushInterval, 5*time.Second)
	setDefault(&o.PollInterval, 2*time.Second)
	setDefault(&o.ChainDeltasMax, 16)
	setDefault(&o.DiskReserveBytes, 4*o.MemTableBytes+64<<20)
	setDefault(&o.CollectInterval, 30*time.Second)
	setDefault(&o.CollectBytesPerSecond, 32<<20)
	setDefault(&o.CheckpointInterval, 5*time.Minute)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	var bad []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Errorf("%w: pageserver: %s", logcore.ErrInvalid, fmt.Sprintf(format, args...)))
		}
	}
	check(o.Dir != "", "Dir is required")
	check(o.Source != nil, "Source is required")
	check(o.Formats != nil, "Formats or Decoder is required")
	check(o.ArchiveAfterBytes > 0, "ArchiveAfterBytes %d: want a positive number", o.ArchiveAfterBytes)
	check(o.ArchiveCheckInterval > 0, "ArchiveCheckInterval %v: want a positive duration", o.ArchiveCheckInterval)
	check(o.PageCacheBytes > 0, "PageCacheBytes %d: want a positive number", o.PageCacheBytes)
	check(o.WriteCacheBytes > 0, "WriteCacheBytes %d: want a positive number", o.WriteCacheBytes)
	check(o.BlockCacheBytes > 0, "BlockCacheBytes %d: want a positive number", o.BlockCacheBytes)
	check(o.MemTableBytes >= 256<<10 && o.MemTableBytes <= 1<<30, "MemTableBytes %d: want 256 KiB to 1 GiB", o.MemTableBytes)
	check(o.FlushInterval > 0, "FlushInterval %v: want a positive duration", o.FlushInterval)
	check(o.PollInterval > 0, "PollInterval %v: want a positive duration", o.PollInterval)
	check(o.CollectInterval > 0, "CollectInterval %v: want a positive duration", o.CollectInterval)
	check(o.CollectBytesPerSecond > 0, "CollectBytesPerSecond %d: want a positive number", o.CollectBytesPerSecond)
	check(o.CheckpointInterval > 0, "CheckpointInterval %v: want a positive duration", o.CheckpointInterval)
	check(o.ChainDeltasMax >= 1 && o.ChainDeltasMax <= 1000, "ChainDeltasMax %d: want 1 to 1000", o.ChainDeltasMax)
	return errors.Join(bad...)
}
