package replication

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

// Options configures a Group.
type Options struct {
	// Log configures the hot log. Log.Dir, required, is the shard's directory: the state
	// file stands in it too. Log.Shard is the shard. Its Logger, Registerer and
	// Corruptions serve the group as well. Log.EntryBytesMax is raised to
	// EntryBytesMin, and Log.QueueBytesMax to what a batch may take.
	Log hotlog.Options
	// Member is the Raft id that this member must have; 0 means the one it has, or, of a fresh directory,
	// that of Found or a random one.
	Member uint64
	// Found is the state that a fresh directory begins with (FoundingState, JoiningState); nil means a group of one.
	Found *MemberState
	// Net reaches the other members; nil when there are none. OnSnapshot is called, on the group's loop, with a message of a leader
	// that no longer has the entries this member needs; it must not block. Then Feed.
	Net        Net
	OnSnapshot func(*raftpb.Message)
	// QueueRequestsMax and QueueBytesMax bound the requests that wait for the loop; one
	// more is refused with logcore.ErrOverloaded. 0 means 8192 and 64 MiB.
	QueueRequestsMax int
	QueueBytesMax    int64
	// InflightBytesMax bounds the bytes proposed and not yet durable; the loop takes no
	// more requests from the queue while it is reached. 0 means 16 MiB.
	InflightBytesMax int64
	// QuietAfter is after how long without anything to do the group falls quiet, see Group.Rouse; 0 means never.
	QuietAfter time.Duration
	// Clock stamps the entries; nil means a new one over the wall clock. It is moved
	// beyond the newest entry of the log when the group opens.
	Clock *logcore.Clock
}

// EntryBytesMin is the smallest limit a group's hot log may have for one entry: a
// checkpoint of the fullest catalog must fit.
const EntryBytesMin = hotlog.EntryBytesMaxDefault

func (o Options) withDefaults() Options {
	o.Log.EntryBytesMax = max(o.Log.EntryBytesMax, EntryBytesMin)
	// A batch is at most a checkpoint, requests of batchBytesMax, and one longer request.
	o.Log.QueueBytesMax = max(o.Log.QueueBytesMax, 4*int64(o.Log.EntryBytesMax))
	if o.QueueRequestsMax == 0 {
		o.QueueRequestsMax = 8192
	}
	if o.QueueBytesMax == 0 {
		o.QueueBytesMax = 64 << 20
	}
	if o.InflightBytesMax == 0 {
		o.InflightBytesMax = 16 << 20
	}
	if o.Clock == nil {
		o.Clock = logcore.NewClock(nil)
	}
	if o.Log.Logger == nil {
		o.Log.Logger = slog.Default()
	}
	if o.Log.Corruptions == nil {
		o.Log.Corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "corruptions"})
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: replication.Options: "+format, append([]any{logcore.ErrInvalid}, args...)...))
	}
	if o.Log.Dir == "" {
		bad("Log.Dir is empty")
	}
	if o.QueueRequestsMax < 1 || o.QueueBytesMax < 1 || o.InflightBytesMax < 1 {
		bad("QueueRequestsMax %d, QueueBytesMax %d and InflightBytesMax %d must be positive", o.QueueRequestsMax, o.QueueBytesMax, o.InflightBytesMax)
	}
	return errors.Join(errs...)
}
