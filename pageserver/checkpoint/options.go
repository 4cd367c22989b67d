package checkpoint

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// Options configure a Repository.
type Options struct {
	// Bucket is where the checkpoints are: the home target, under retries. Required; the
	// caller closes it. Its PutIfAbsent should be exact: where two puts of one key may both
	// succeed, two servers may each believe that they hold the newest epoch until they look
	// again, and nothing worse.
	Bucket bucket.Bucket
	// Cluster the logs belong to.
	Cluster [16]byte
	// Name of the page server's store in the cluster: letters, digits, and . _ -. Page
	// servers that replace each other have the same one; those that hold different pages,
	// different ones. Required.
	Name string
	// Keys seal and open what is stored. Required.
	Keys Keys
	// Grace is how long a manifest stays readable after the next one: a page server that
	// began from it must have fetched everything by then, or have taken the epoch itself.
	// Zero means 1 h.
	Grace time.Duration
	// Lend is how long a store that began from another's checkpoint may keep it without
	// saying that it still needs it. Zero means 24 h.
	Lend time.Duration
	// Fetches is how many blocks are fetched at once. Zero means 8.
	Fetches int
	// Logger gets what an operator should see; nil means slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics; nil registers nothing.
	Registerer prometheus.Registerer
	// Corruptions counts what fails its checksum; nil means a private counter.
	Corruptions prometheus.Counter
}

func (o Options) withDefaults() Options {
	if o.Grace == 0 {
		o.Grace = time.Hour
	}
	if o.Lend == 0 {
		o.Lend = 24 * time.Hour
	}
	if o.Fetches == 0 {
		o.Fetches = 8
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Corruptions == nil {
		o.Corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "logcore_corruption_total"})
	}
	return o
}

func (o Options) validate() error {
	var bad []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Errorf("%w: checkpoint: %s", logcore.ErrInvalid, fmt.Sprintf(format, args...)))
		}
	}
	check(o.Bucket != nil, "Bucket is required")
	check(o.Keys != nil, "Keys is required: checkpoints are encrypted")
	check(validName(o.Name), "Name %q: want letters, digits and . _ -, %d at most", o.Name, nameBytesMax)
	check(o.Grace >= 0, "Grace %v: want a positive duration", o.Grace)
	check(o.Lend >= 0, "Lend %v: want a positive duration", o.Lend)
	check(o.Fetches >= 1 && o.Fetches <= 256, "Fetches %d: want 1 to 256", o.Fetches)
	return errors.Join(bad...)
}

// ErrNone: there is no checkpoint that can be used.
var ErrNone = errors.New("checkpoint: there is none")

// Repository is the checkpoints of one store in a bucket. Its methods may be called
// concurrently; errors wrap bucket's and logcore's sentinels.
type Repository struct {
	o       Options
	prefix  string
	server  [16]byte
	family  *Family // nil: the store shares its pages with nobody
	metrics *metrics
	prefetcher
}

// Name of the store.
func (r *Repository) Name() string { return r.o.Name }

// Close takes the metrics back from the Registerer.
func (r *Repository) Close() { r.metrics.unregister(r.o.Registerer) }

// New returns the repository of a store. It asks the bucket nothing.
func New(o Options) (*Repository, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	r := &Repository{o: o, prefix: storePrefix(o.Cluster, o.Name), metrics: newMetrics(o.Registerer), prefetcher: prefetcher{hints: make(chan hinted, hintsMax)}}
	rand.Read(r.server[:]) // never fails: crypto/rand aborts the process instead
	return r, nil
}

// String names the place for people.
func (r *Repository) String() string { return r.o.Bucket.String() + "/" + r.prefix }

// countDamage counts and logs damage that was found.
func (r *Repository) countDamage(err error) {
	if errors.Is(err, logcore.ErrCorrupt) {
		r.o.Corruptions.Inc()
		r.o.Logger.Error("checkpoint: damage detected", "in", r.String(), "err", err)
	}
}
