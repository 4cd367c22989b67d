package tiering

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// Reader gives back what is archived of one shard. Every byte it returns is verified:
// the fragment against the manifest, the object against its digest, each chunk by its
// AEAD, the range against the manifest. It may be used by many goroutines.
type Reader struct {
	remotes     []*remote
	keys        KeyProvider
	corruptions prometheus.Counter
	log         *slog.Logger
	view        func() *state                    // the newest state; nil = not known yet
	refresh     func(ctx context.Context) error  // nil = the view follows by itself
	onRotten    func(name objectName, index int) // nil = nobody repairs
	cluster     [16]byte
	shard       logcore.ShardID
	cache       ObjectCache   // nil = none
	aheadBytes  int64         // memory for objects that are read before they are asked for; 0 = one at a time
	claimed     atomic.Uint64 // the highest epoch claimed on any target, by the last refresh

	stats readerCounts

	mu     sync.Mutex
	recent []recentSpan // guarded by mu: newest last
}

// recentSpan is a span that was just read: who reads in small steps comes back to it.
type recentSpan struct {
	name objectName
	span Span
}

// Limits of the spans that are remembered.
const (
	recentMax      = 4
	recentBytesMax = 32 << 20 // of frames, each
)

func newReader(remotes []*remote, keys KeyProvider, corruptions prometheus.Counter, log *slog.Logger, view func() *state) *Reader {
	return &Reader{remotes: remotes, keys: keys, corruptions: corruptions, log: log, view: view}
}

// OpenReader reads the manifest from the targets that answer and proves it. With a
// zero Cluster it takes the only one found. It fails with ErrNoArchive, with ErrUnproven
// when too few targets answer, or with logcore.ErrCorrupt when no chain of records is
// left.
func OpenReader(ctx context.Context, o ReaderOptions) (*Reader, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("tiering: open reader: %w", err)
	}
	cluster := o.Cluster
	if cluster == ([16]byte{}) {
		var err error
		if cluster, err = onlyCluster(ctx, o); err != nil {
			return nil, err
		}
	}
	var current atomic.Pointer[state]
	r := newReader(newRemotes(o.Targets, o.OpTimeout), o.Keys, o.Corruptions, o.Logger.With("component", "tiering", "shard", uint32(o.Shard)), current.Load)
	r.cluster, r.shard = cluster, o.Shard
	r.cache, r.aheadBytes = o.Cache, o.ReadAheadBytes
	r.refresh = func(ctx context.Context) error {
		m, err := loadManifest(ctx, r.remotes, cluster, o.Shard, o.Keys)
		if err != nil {
			return fmt.Errorf("tiering: cluster %x, shard %d: %w", cluster, o.Shard, err)
		}
		for _, p := range m.problems {
			if p.Kind == ProblemRecordRotten || p.Kind == ProblemRecordFork {
				o.ManifestCorruptions.Inc()
			}
			r.log.Warn("manifest: read from the other targets", "problem", p.String())
		}
		if known := current.Load(); known != nil && m.state.older(known) {
			return &logcore.CorruptionError{Place: "manifest", Object: shardPrefix(cluster, o.Shard), Offset: -1,
				Reason: fmt.Sprintf("it ends with record %d of epoch %d, and was read up to record %d of epoch %d before: the targets were rolled back", m.state.number, m.state.epoch, known.number, known.epoch)}
		}
		current.Store(m.state)
		r.claimed.Store(m.claimed)
		return nil
	}
	return r, r.refresh(ctx)
}

// onlyCluster finds the cluster and shard on the targets when there is no choice.
func onlyCluster(ctx context.Context, o ReaderOptions) (cluster [16]byte, err error) {
	found, err := discover(ctx, o.Targets, o.OpTimeout)
	if err != nil {
		return cluster, err
	}
	found = slices.DeleteFunc(found, func(l Location) bool { return l.Shard != o.Shard })
	switch len(found) {
	case 0:
		return cluster, fmt.Errorf("%w: no cluster with shard %d", ErrNoArchive, o.Shard)
	case 1:
		return found[0].Cluster, nil
	}
	names := make([]string, len(found))
	for i, l := range found {
		names[i] = fmt.Sprintf("%x", l.Cluster)
	}
	return cluster, fmt.Errorf("%w: the targets hold several clusters, say which one: %v", logcore.ErrInvalid, names)
}

// Shards returns the cluster whose archive is on the targets, given or the only one, and which of its shards any target shows,
// in order. It fails with ErrNoArchive when there is none, with ErrUnproven when no target answers.
func Shards(ctx context.Context, targets []Target, cluster [16]byte) ([16]byte, []logcore.ShardID, error) {
	if cluster == ([16]byte{}) {
		var err error
		if cluster, err = onlyCluster(ctx, ReaderOptions{Targets: targets}.withDefaults()); err != nil {
			return cluster, nil, err
		}
	}
	found, err := Discover(ctx, targets)
	if err != nil {
		return cluster, nil, err
	}
	var shards []logcore.ShardID
	for _, l := range found {
		if l.Cluster == cluster {
			shards = append(shards, l.Shard)
		}
	}
	if len(shards) == 0 {
		return cluster, nil, fmt.Errorf("%w: none of cluster %x", ErrNoArchive, cluster)
	}
	return cluster, shards, nil
}

// Location names an archive on a set of targets.
type Location struct {
	Cluster [16]byte
	Shard   logcore.ShardID
}

// Discover returns every cluster and shard that any target shows, in order. It fails
// when no target answers at all.
func Discover(ctx context.Context, targets []Target) ([]Location, error) {
	return discover(ctx, targets, ReaderOptions{}.withDefaults().OpTimeout)
}

func discover(ctx context.Context, targets []Target, opTimeout time.Duration) ([]Location, error) {
	if err := validateTargets(targets); err != nil {
		return nil, err
	}
	remotes := newRemotes(targets, opTimeout)
	var mu sync.Mutex
	all := map[Location]bool{}
	errs := make([]error, len(remotes))
	eachLimited(len(remotes), len(remotes), func(i int) {
		var found []Location
		found, errs[i] = remotes[i].locations(ctx)
		mu.Lock()
		defer mu.Unlock()
		for _, l := range found {
			all[l] = true
		}
	})
	if !slices.ContainsFunc(errs, func(err error) bool { return err == nil }) {
		return nil, fmt.Errorf("%w: no target answered: %w", ErrUnproven, errors.Join(errs...))
	}
	out := make([]Location, 0, len(all))
	for l := range all {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Location) int {
		if c := slices.Compare(a.Cluster[:], b.Cluster[:]); c != 0 {
			return c
		}
		return int(a.Shard) - int(b.Shard)
	})
	return out, nil
}

// locations skips from shard to shard through the keys of a target.
func (r *remote) locations(ctx context.Context) (found []Location, err error) {
	after := rootPrefix
	for {
		var key string
		err := r.do(ctx, func(ctx context.Context) error {
			key = ""
			return r.Bucket.List(ctx, rootPrefix, after, func(a bucket.Attributes) bool {
				key = a.Key
				return false
			})
		})
		if err != nil || key == "" {
			return found, err
		}
		if l, ok := parseLocation(key); ok {
			found = append(found, l)
			after = shardPrefix(l.Cluster, l.Shard) + "z" // sorts after all keys of the shard
		} else {
			after = key
		}
	}
}

// Cluster returns the id of the cluster whose archive this is.
func (r *Reader) Cluster() [16]byte {
	if s := r.view(); s != nil {
		return s.cluster
	}
	return r.cluster
}

// Targets returns the names of all targets of the archive, as its newest manifest record
// lists them, those out of reach included; nil = not known yet.
func (r *Reader) Targets() []string {
	if s := r.view(); s != nil {
		return slices.Clone(s.targets)
	}
	return nil
}

// Epoch returns the highest epoch seen in the archive: that of the newest manifest
// record, or of a claim on any target, whose archiver may have written nothing. A new
// archiver needs a higher one. 0 = not known yet.
func (r *Reader) Epoch() uint64 {
	if s := r.view(); s != nil {
		return max(s.epoch, r.claimed.Load())
	}
	return 0
}

// First returns the oldest LSN that can be read; 0 when nothing is archived.
func (r *Reader) First() logcore.LSN {
	if s := r.view(); s != nil {
		return s.first()
	}
	return 0
}

// Covered returns the newest LSN that can be read; 0 when nothing is archived.
func (r *Reader) Covered() logcore.LSN {
	if s := r.view(); s != nil {
		return s.covered()
	}
	return 0
}

// CoveredTime returns the time of the newest entry that can be read.
func (r *Reader) CoveredTime() logcore.HLC {
	if s := r.view(); s != nil {
		return s.coveredTime()
	}
	return 0
}

// Refresh loads what was archived since. An Archiver's own reader follows by itself.
func (r *Reader) Refresh(ctx context.Context) error {
	if r.refresh == nil {
		return nil
	}
	return r.refresh(ctx)
}

// path returns the newest state, checked to hold from.
func (r *Reader) stateFor(from logcore.LSN) (*state, error) {
	s := r.view()
	switch {
	case s == nil:
		return nil, fmt.Errorf("%w: the archive is not taken over yet", ErrUnproven)
	case len(s.path) == 0 || from > s.covered():
		return nil, fmt.Errorf("tiering: read: %w", &logcore.LagError{Asked: from, Available: s.covered()})
	case from < s.first():
		return nil, fmt.Errorf("tiering: read %d: %w: the archive begins at %d", from, logcore.ErrTrimmed, s.first())
	}
	return s, nil
}

// Spans returns the spans that hold [from, to], in order, without gap or overlap; to 0
// means everything that is archived now. The first begins at or before from, the last
// may end after to. The frames must not
// be changed: they may be shared. It fails with a LagError beyond what is
// archived, with logcore.ErrTrimmed below it, and with a FragmentsError, at once, when
// fewer than k fragments of an object are left; the error is the last thing it yields.
func (r *Reader) Spans(ctx context.Context, from, to logcore.LSN) iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		s, err := r.stateFor(from)
		if err != nil {
			yield(Span{}, err)
			return
		}
		if to == 0 {
			to = s.covered()
		}
		if to > s.covered() {
			yield(Span{}, fmt.Errorf("tiering: read: %w", &logcore.LagError{Asked: to, Available: s.covered()}))
			return
		}
		var before *object
		next := newAhead(ctx, r)
		defer next.close()
		for i := s.find(from); i < len(s.path) && s.path[i].First <= to; {
			next.fill(s.path, i, to)
			span, o, err := next.take(s.path[i])
			if err == nil && before != nil {
				err = o.checkFollows(before)
			}
			if !yield(span, err) || err != nil {
				return
			}
			before = o
			s, i = r.follow(s, i+1, o.Last+1)
			next.drop(o.Last + 1)
		}
	}
}

// checkFollows checks that o continues before.
func (o *object) checkFollows(before *object) error {
	switch {
	case o.First != before.Last+1:
		return fmt.Errorf("%w: tiering: the archive was folded while it was read: read on from %d", logcore.ErrTrimmed, before.Last+1)
	case o.prev != before.sum:
		return &logcore.CorruptionError{Place: "archive", Object: o.describe(), Offset: -1, LSN: o.First,
			Reason: fmt.Sprintf("it continues an entry with checksum %08x, %s ends with %08x", o.prev, before.describe(), before.sum)}
	}
	return nil
}

// follow returns where to read on, at path[i] of s or where a newer state has an object
// that begins at next: what s names may be superseded and deleted by now.
func (r *Reader) follow(s *state, i int, next logcore.LSN) (*state, int) {
	if fresh := r.view(); fresh != s {
		if j := fresh.find(next); j < len(fresh.path) && fresh.path[j].First == next {
			return fresh, j
		}
	}
	return s, i
}

// readAgain reads an object and, when its fragments are gone because it was superseded
// since the manifest was loaded, the one that begins at the same place.
func (r *Reader) readAgain(ctx context.Context, o *object) (Span, *object, error) {
	if span, ok := r.recentSpan(o.name()); ok {
		return span, o, nil
	}
	span, err := r.readObject(ctx, o)
	if errors.Is(err, ErrTooFewFragments) && r.Refresh(ctx) == nil {
		s := r.view()
		if i := s.find(o.First); i < len(s.path) && s.path[i].First == o.First && s.path[i].name() != o.name() {
			o = s.path[i]
			span, err = r.readObject(ctx, o)
		}
	}
	var fe *FragmentsError
	if errors.As(err, &fe) {
		r.corruptions.Add(float64(fe.damaged))
	}
	return span, o, err
}

// ReadRange returns spans that hold [from, to] from the front, at least the one that
// holds from, no more once their frames exceed bytesMax. Errors are those of Spans; to
// may be beyond what is archived. The frames must not be changed: they may be shared.
func (r *Reader) ReadRange(ctx context.Context, from, to logcore.LSN, bytesMax int64) ([]Span, error) {
	s, err := r.stateFor(from)
	if err != nil {
		return nil, err
	}
	var out []Span
	var before *object
	for i := s.find(from); i < len(s.path) && (len(out) == 0 || s.path[i].First <= to && bytesMax > 0); {
		span, o, err := r.readAgain(ctx, s.path[i])
		if err != nil {
			return nil, err
		}
		if before != nil {
			if err := o.checkFollows(before); err != nil {
				return nil, err
			}
		}
		r.remember(o.name(), span)
		out, before = append(out, span), o
		bytesMax -= int64(len(span.Frames))
		s, i = r.follow(s, i+1, o.Last+1)
	}
	return out, nil
}

// ReadFrames returns length bytes at offset of the frames of the span that holds lsn.
// It fetches only the chunks that hold them.
func (r *Reader) ReadFrames(ctx context.Context, lsn logcore.LSN, offset, length int64) ([]byte, error) {
	s, err := r.stateFor(lsn)
	if err != nil {
		return nil, err
	}
	o := s.path[s.find(lsn)]
	if offset < 0 || length < 1 || offset >= o.rawBytes || length > o.rawBytes-offset {
		return nil, fmt.Errorf("%w: tiering: %d bytes at %d of the %d bytes of %s", logcore.ErrInvalid, length, offset, o.rawBytes, o.describe())
	}
	// The header is at the front; its chunk index has an entry for each chunk, at least.
	guess := min(o.Length, objFixedBytes+headerSumSize+chunkEntryBytes*(o.rawBytes/int64(compressFast.chunkBytes)+1))
	front, err := r.fetchRange(ctx, o, 0, guess)
	if err != nil {
		return nil, err
	}
	h, err := parseObjectHeader(front)
	if err != nil {
		return nil, at(err, "archive", o.describe())
	}
	first, end := h.chunksOf(offset, length)
	from, last := h.chunks[first], h.chunks[end-1]
	sealed, err := r.fetchRange(ctx, o, from.at, last.at+int64(last.sealed)-from.at)
	if err != nil {
		return nil, err
	}
	raw, err := h.openChunks(ctx, r.keys, first, end, sealed)
	if err != nil {
		return nil, at(err, "archive", o.describe())
	}
	return raw[offset-from.rawAt:][:length], nil
}

// readObject fetches, opens and checks one object.
func (r *Reader) readObject(ctx context.Context, o *object) (Span, error) {
	sealed, err := r.fetchObject(ctx, o)
	if err != nil {
		return Span{}, err
	}
	r.stats.objects.Add(1)
	span, err := openObject(ctx, r.keys, sealed)
	if err != nil {
		return Span{}, at(err, "archive", o.describe())
	}
	return span, at(o.checkOpened(span), "archive", o.describe())
}

// checkOpened compares what the sealed header says with the manifest.
func (o *object) checkOpened(s Span) error {
	if s.Shard != o.Shard || s.SegmentFirst != o.SegmentFirst || s.First != o.First || s.Last != o.Last || s.Prev != o.prev || s.Sum != o.sum ||
		s.FirstTime != o.firstTime || s.LastTime != o.lastTime || int64(len(s.Frames)) != o.rawBytes || o.final && !s.Sealed {
		return damaged(-1, "the object says it holds [%d,%d] of segment %d, the manifest [%d,%d] of segment %d",
			s.First, s.Last, s.SegmentFirst, o.First, o.Last, o.SegmentFirst)
	}
	return nil
}

func (r *Reader) recentSpan(n objectName) (Span, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.recent {
		if e.name == n {
			return e.span, true
		}
	}
	return Span{}, false
}

func (r *Reader) remember(n objectName, s Span) {
	if len(s.Frames) > recentBytesMax {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.recent, func(e recentSpan) bool { return e.name == n }) {
		return
	}
	if len(r.recent) == recentMax {
		r.recent = slices.Delete(r.recent, 0, 1)
	}
	r.recent = append(r.recent, recentSpan{n, s})
}
