package tiering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
)

// Options configures an Archiver.
type Options struct {
	Cluster [16]byte        // required: names the cluster in every key
	Shard   logcore.ShardID // the shard whose log is archived
	Epoch   uint64          // required: the archiver's fencing token, for example the Raft term; a higher one fences a lower one, and no two archivers may have the same
	Targets []Target        // required: K+M at least, in order of preference; fragment i goes to target i
	Keys    KeyProvider     // required
	Source  Source          // required

	// Incarnation of the hot tier: chosen at random when it was created or restored.
	// Required. An archive that another incarnation has written to or claimed is taken over
	// only by one that was restored from it since: Supersedes is the highest epoch that the
	// restore saw (Reader.Epoch), 0 for a hot tier that was not restored.
	Incarnation uint64
	Supersedes  uint64

	K, M      int           // 0 = 4+2
	MaxAge    time.Duration // an acknowledged entry is covered within it; 0 = 2 s
	MemoryMax int64         // bytes by which making objects may grow the heap, garbage included; an entry larger than a sixteenth of it takes what it needs, alone; 0 = 256 MiB
	// Compression of sealed objects; empty = CompressionBetter. While the archive is behind, or
	// the hot tier's disk is nearly full, it is CompressionFastest whatever this says.
	Compression Compression
	Grace       time.Duration // how long what is superseded stays readable; 0 = 5 min
	OpTimeout   time.Duration // of one call to a target; 0 = 30 s

	// Scrub is what may be read in a day to find damage; zero = as much as reads everything
	// once in 30 days, and a gigabyte at least.
	Scrub ScrubBudget
	// Content looks into entries, for compaction; nil = nothing is compacted.
	Content Content
	// CompactEvery is how often the archive is compacted; 0 = weekly, less = only when asked.
	CompactEvery time.Duration
	// ProbeLock finds out by trying whether a bucket keeps objects from being deleted; nil =
	// none is locked.
	ProbeLock func(ctx context.Context, b bucket.Bucket) (bool, error)

	Logger              *slog.Logger          // nil = slog.Default()
	Registerer          prometheus.Registerer // nil = no registration
	Corruptions         prometheus.Counter    // rotten fragments found; nil = a private counter
	ManifestCorruptions prometheus.Counter    // rotten or forked manifest records found; nil = a private counter
}

func (o Options) withDefaults() Options {
	if o.K == 0 && o.M == 0 {
		o.K, o.M = erasure.DefaultK, erasure.DefaultM
	}
	o.MaxAge = defaultTo(o.MaxAge, 2*time.Second)
	o.MemoryMax = defaultTo(o.MemoryMax, 256<<20)
	o.Compression = defaultTo(o.Compression, CompressionBetter)
	o.Grace = defaultTo(o.Grace, 5*time.Minute)
	o.OpTimeout = defaultTo(o.OpTimeout, 30*time.Second)
	o.CompactEvery = defaultTo(o.CompactEvery, compactEvery)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Corruptions = orPrivateCounter(o.Corruptions)
	o.ManifestCorruptions = orPrivateCounter(o.ManifestCorruptions)
	return o
}

// memoryMin leaves an object of a mebibyte to each of the two lanes.
const memoryMin = 16 << 20

func (o Options) validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{logcore.ErrInvalid}, args...)...))
		}
	}
	bad(o.Cluster == [16]byte{}, "Cluster is zero: it names the archive")
	bad(o.Epoch == 0, "Epoch is 0: the first archiver has 1")
	bad(o.Incarnation == 0, "Incarnation is 0: it tells this hot tier from one restored from the archive")
	bad(o.Epoch > 0 && o.Epoch <= o.Supersedes, "Epoch %d does not supersede epoch %d", o.Epoch, o.Supersedes)
	bad(o.Keys == nil, "Keys is nil: nothing is archived in the clear")
	bad(o.Source == nil, "Source is nil")
	bad(o.MaxAge < 0 || o.Grace < 0 || o.OpTimeout < 0, "a negative duration")
	bad(o.MemoryMax < memoryMin, "MemoryMax %d: want at least %d", o.MemoryMax, memoryMin)
	if err := o.Compression.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := erasure.ValidateKM(o.K, o.M); err != nil {
		errs = append(errs, err)
	} else {
		bad(len(o.Targets) < o.K+o.M, "%d targets: %d+%d needs %d, one for each fragment", len(o.Targets), o.K, o.M, o.K+o.M)
	}
	if err := validateTargets(o.Targets); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// liveMax is the bytes in buffers: less than half of MemoryMax, because the collector lets
// the heap grow to about twice what is in use, and the compressors hold some 30 MB for good.
// Below 128 MiB those weigh more than is left for them here.
func (o Options) liveMax() int64 { return o.MemoryMax * 3 / 8 }

// memoryPerByte is the bytes in buffers at the peak for each byte of frames that don't
// compress: the frames, the compressor's buffer and what it leaves; or the fragments and
// what is read back of them.
func (o Options) memoryPerByte() int64 {
	return max(3, (2*int64(o.K+o.M)+int64(o.K)-1)/int64(o.K))
}

// objectBytesMax is how many bytes of frames go into one object: one chunk of the better
// compression, as long as there is room to make two.
func (o Options) objectBytesMax() int64 {
	return min((o.liveMax()/2-memorySlack)*15/16/o.memoryPerByte(), chunkBytesMax)
}

// objectMemory is what is reserved before an object is read.
func (o Options) objectMemory() int64 { return o.memoryOf(o.objectBytesMax()) }

// memoryOf is the bytes in buffers at the peak for so many bytes of frames, with what
// headers, padding and tags add.
func (o Options) memoryOf(raw int64) int64 { return raw*o.memoryPerByte()*16/15 + memorySlack }

const memorySlack = 512 << 10

// ReaderOptions configures a Reader.
type ReaderOptions struct {
	Targets []Target    // required: those that are left; any that hold the archive
	Keys    KeyProvider // required
	Cluster [16]byte    // zero = the only cluster found on the targets
	Shard   logcore.ShardID

	OpTimeout time.Duration // of one call to a target; 0 = 30 s

	// ReadAheadBytes is the memory that Spans may use to read several objects at once, before
	// they are asked for; a single object may be larger. 0 reads one at a time.
	ReadAheadBytes int64
	// Cache keeps whole objects that were read; nil keeps none.
	Cache ObjectCache

	Logger              *slog.Logger       // nil = slog.Default()
	Corruptions         prometheus.Counter // rotten fragments found; nil = a private counter
	ManifestCorruptions prometheus.Counter // rotten manifest records found; nil = a private counter
}

func (o ReaderOptions) withDefaults() ReaderOptions {
	o.OpTimeout = defaultTo(o.OpTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Corruptions = orPrivateCounter(o.Corruptions)
	o.ManifestCorruptions = orPrivateCounter(o.ManifestCorruptions)
	return o
}

func (o ReaderOptions) validate() error {
	var errs []error
	if o.Keys == nil {
		errs = append(errs, fmt.Errorf("%w: Keys is nil: the archive is encrypted", logcore.ErrInvalid))
	}
	return errors.Join(append(errs, validateTargets(o.Targets))...)
}

func defaultTo[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func orPrivateCounter(c prometheus.Counter) prometheus.Counter {
	if c == nil {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "private"})
	}
	return c
}
