package logsvc

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/certs"
	"github.com/logcore/logcore/replication"
)

// EntryBytesMaxDefault is the largest payload of an entry unless configured otherwise.
const EntryBytesMaxDefault = 16 << 20

// EntryOverheadMax is what the envelope adds to a payload at most: the hot log's own
// limit must be at least EntryBytesMax plus this.
const EntryOverheadMax = catalog.RecordHeaderBytes + catalog.PositionBytesMax

// messageOverheadMax is what a message may have besides one entry of the largest size.
const messageOverheadMax = 2 << 20

// streamsMax bounds the calls one connection may have under way.
const streamsMax = 1024

// Options configures a Service.
type Options struct {
	// Group is the shard's replication group. Required; the caller closes it, after the
	// service.
	Group *replication.Group
	// Archive is the archive tier; nil means none: nothing is ever trimmed then.
	Archive Archive
	// AddressOf returns where another member serves clients, by its Raft id; empty when it
	// isn't known. Clients that ask a member which does not lead are sent there. nil: nothing is known.
	AddressOf func(member uint64) string
	// LeaderCerts are shown to the member that leads, and its certificate is held against them, when this one asks it something
	// for a client; nil means plain text, to loopback addresses only.
	LeaderCerts *certs.Certificates
	// Membership changes and shows the members of the cluster; nil means there is none.
	Membership Membership
	// EntryBytesMax bounds the payload of one entry; 0 means 16 MiB. The hot log under
	// Group must take EntryOverheadMax more.
	EntryBytesMax int
	// StagedBytesMax bounds the entries of all writers together that are received and not
	// yet durable, in bytes; a message that finds it used up waits. 0 means 64 MiB, or twice
	// the largest message if that is more.
	StagedBytesMax int64
	// Lease is how long a writer that is silent counts as alive; 0 means 5 s.
	Lease time.Duration
	// PageServerLease is how long a page server that is silent counts as there; 0 means 10 s.
	PageServerLease time.Duration
	// ReadWait is how long a read that doesn't follow waits for an LSN that is in the
	// future; 0 means 2 s.
	ReadWait time.Duration
	// HeartbeatEvery is how often an idle follower is told how far the shard is; 0 means 200 ms.
	HeartbeatEvery time.Duration
	// HotBytesKeep is how many bytes of segments stay in the hot tier although the archive
	// covers them, unless the disk is short; 0 means 256 MiB.
	HotBytesKeep int64
	// TrimEvery is how often the service looks for segments to let go of; 0 means 1 s.
	TrimEvery time.Duration
	// Cluster and Version are shown by Status.
	Cluster, Version string
	// Corruptions returns the checksum failures counted so far, for Status; nil means 0.
	Corruptions func() uint64
	// Logger; nil means slog.Default().
	Logger *slog.Logger
	// Registerer for the metrics; nil means they are not registered.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.EntryBytesMax == 0 {
		o.EntryBytesMax = EntryBytesMaxDefault
	}
	if o.StagedBytesMax == 0 {
		o.StagedBytesMax = max(64<<20, 2*int64(o.EntryBytesMax+messageOverheadMax))
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&o.Lease, 5 * time.Second}, {&o.PageServerLease, 10 * time.Second}, {&o.ReadWait, 2 * time.Second}, {&o.HeartbeatEvery, 200 * time.Millisecond}, {&o.TrimEvery, time.Second}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if o.HotBytesKeep == 0 {
		o.HotBytesKeep = 256 << 20
	}
	if o.AddressOf == nil {
		o.AddressOf = func(uint64) string { return "" }
	}
	if o.Corruptions == nil {
		o.Corruptions = func() uint64 { return 0 }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: logsvc.Options: "+format, append([]any{logcore.ErrInvalid}, args...)...))
	}
	if o.Group == nil {
		bad("Group is nil")
	}
	if o.EntryBytesMax < 1 || o.Group != nil && o.EntryBytesMax > o.Group.EntryBytesMax()-EntryOverheadMax {
		bad("EntryBytesMax %d: want at least 1, and %d less than the hot log's limit", o.EntryBytesMax, EntryOverheadMax)
	}
	if o.StagedBytesMax < int64(o.EntryBytesMax+messageOverheadMax) {
		bad("StagedBytesMax %d: want at least EntryBytesMax and %d more", o.StagedBytesMax, messageOverheadMax)
	}
	if o.Lease < 0 || o.PageServerLease < 0 || o.ReadWait < 0 || o.HeartbeatEvery < 0 || o.TrimEvery < 0 || o.HotBytesKeep < 0 {
		bad("Lease %v, PageServerLease %v, ReadWait %v, HeartbeatEvery %v, TrimEvery %v and HotBytesKeep %d must not be negative", o.Lease, o.PageServerLease, o.ReadWait, o.HeartbeatEvery, o.TrimEvery, o.HotBytesKeep)
	}
	return errors.Join(errs...)
}
