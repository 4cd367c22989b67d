package hotlog

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// Limits and defaults.
const (
	SegmentBytesDefault  = 128 << 20
	SegmentBytesMin      = 64 << 10
	SegmentBytesMax      = 1 << 30
	EntryBytesMaxDefault = 16<<20 + 4<<10
	CacheBytesDefault    = 32 << 20
	QueueBytesMaxDefault = 32 << 20
)

// Options configures a log. The zero value of each field is its default.
type Options struct {
	// Dir is the log's own directory; Open creates it. Required.
	Dir string
	// Shard is the shard whose log it is. A directory belongs to one shard.
	Shard logcore.ShardID
	// SegmentBytes is the size of a segment file, 64 KiB to 1 GiB, rounded up to 4 KiB; 0 = 128 MiB.
	// 1 MiB is the smallest that makes sense outside of tests.
	SegmentBytes int64
	// EntryBytesMax bounds the payload of one entry, up to 64 MiB; 0 = 16 MiB and 4 KiB.
	EntryBytesMax int
	// CacheBytes is how much of the tail is kept in memory for readers; 0 = 32 MiB.
	CacheBytes int64
	// QueueBytesMax bounds the entries submitted and not yet completed, in bytes; 0 =
	// 32 MiB, or twice EntryBytesMax if that is more.
	QueueBytesMax int64
	// DiskReserveBytes is how much free space is left alone when segments are
	// allocated, for whatever must run to free some; 0 = SegmentBytes.
	DiskReserveBytes int64
	// Medium is "pmem", "nvme" or "file", for tests and measurements; empty = the best that
	// the directory offers.
	Medium string
	// LogOf says which log an entry belongs to, for the footers' ranges; nil = they are
	// not kept. All members of a shard must use the same.
	LogOf segment.LogOf
	// OnDamage is told of every damage that a read or the check in the background finds
	// below the durable LSN, so that it can be repaired (see Log.Repair); nil = only
	// counted and logged. It must return at once and call nothing of the log.
	OnDamage func(*logcore.CorruptionError)
	// OnDurable is told once for each batch, in order: everything up to durable is on
	// stable storage. With an error everything above durable that was submitted failed,
	// and Last() is back at durable. It is called by the committer before the callbacks
	// of Submit, must not block, and may call Submit, Enqueue and the plain getters; nil =
	// nobody is told.
	OnDurable func(durable logcore.LSN, err error)
	// Logger; nil = slog.Default().
	Logger *slog.Logger
	// Registerer for the metrics; nil = they are not registered.
	Registerer prometheus.Registerer
	// Corruptions counts checksum failures; nil = a private counter.
	Corruptions prometheus.Counter
}

// withDefaults fills in defaults and reports every bad field together, with errors
// that wrap logcore.ErrInvalid.
func (o Options) withDefaults() (Options, error) {
	o.SegmentBytes = wholeBlocks(cmp.Or(o.SegmentBytes, SegmentBytesDefault))
	o.EntryBytesMax = cmp.Or(o.EntryBytesMax, EntryBytesMaxDefault)
	o.CacheBytes = cmp.Or(o.CacheBytes, CacheBytesDefault)
	o.QueueBytesMax = cmp.Or(o.QueueBytesMax, max(QueueBytesMaxDefault, 2*int64(o.EntryBytesMax)))
	o.DiskReserveBytes = cmp.Or(o.DiskReserveBytes, o.SegmentBytes)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.Corruptions = cmp.Or(o.Corruptions, prometheus.NewCounter(prometheus.CounterOpts{Name: "corruptions"}))
	return o, o.validate()
}

func (o Options) validate() error {
	var errs []error
	for _, x := range []struct {
		bad  bool
		says string
	}{
		{o.Dir == "", "Dir is empty"},
		{o.SegmentBytes < SegmentBytesMin || o.SegmentBytes > SegmentBytesMax, fmt.Sprintf("SegmentBytes is %d, want %d to %d", o.SegmentBytes, SegmentBytesMin, SegmentBytesMax)},
		{o.EntryBytesMax < 0 || o.EntryBytesMax > segment.PayloadBytesMax, fmt.Sprintf("EntryBytesMax is %d, want 1 to %d", o.EntryBytesMax, segment.PayloadBytesMax)},
		{o.CacheBytes < 0, fmt.Sprintf("CacheBytes is %d", o.CacheBytes)},
		{o.QueueBytesMax < segment.FrameBytes(o.EntryBytesMax), fmt.Sprintf("QueueBytesMax is %d, less than one entry of EntryBytesMax %d", o.QueueBytesMax, o.EntryBytesMax)},
		{o.DiskReserveBytes < 0, fmt.Sprintf("DiskReserveBytes is %d", o.DiskReserveBytes)},
	} {
		if x.bad {
			errs = append(errs, fmt.Errorf("%w: hotlog: %s", logcore.ErrInvalid, x.says))
		}
	}
	return errors.Join(errs...)
}

// sealAtBytes is where the frames of the open segment end when a SEAL is due. What
// is left of the file takes the entries that are on their way, and the footer.
func (o Options) sealAtBytes() int64 { return o.SegmentBytes - o.SegmentBytes/8 }
