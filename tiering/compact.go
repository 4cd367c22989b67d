package tiering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

// Content knows what is inside the frames of a span, which this package does not. All
// methods may be called concurrently.
type Content interface {
	// Entries describes the entries of logs in a span, in order. Those of the shard itself,
	// and those that were erased, are left out.
	Entries(ctx context.Context, span Span) ([]ContentEntry, error)
	// Erase returns the span without the content of some entries: with the same entries,
	// times and checksums, so that it still fits between its neighbours, and shorter frames.
	Erase(ctx context.Context, span Span, gone func(lsn logcore.LSN) bool) (Span, error)
	// Version is short and changes when Entries may say of more entries that they were deleted.
	Version(ctx context.Context) (string, error)
}

// ContentEntry is an entry of a log in a span.
type ContentEntry struct {
	LSN     logcore.LSN
	Log     logcore.LogID
	Heirs   []logcore.LogID // branches whose history it is part of: what is kept for them is kept
	Closed  logcore.HLC     // when its transaction was closed; 0 = not in this span
	Deleted bool            // its log was deleted, or truncated above it, and no branch needs it
	Aborted bool            // its transaction was aborted
	Bytes   int64           // what erasing it would take off the frames
}

// CompactOptions says what one compaction does.
type CompactOptions struct {
	DryRun     bool                // only look what would be erased
	All        bool                // look at every object, also those that were looked at before
	MinPercent int                 // objects of which less would go are let be; 0 = 5
	Budget     ScrubBudget         // bounds what is read; zero = no bound
	Progress   func(CompactReport) // nil = nobody watches
}

// CompactReport is what a compaction did.
type CompactReport struct {
	Looked, Rewritten int // objects
	Entries           uint64
	RawBytes          int64 // of frames erased
	StoredBefore      int64 // fragments of the rewritten objects
	StoredAfter       int64
	Held              uint64 // entries that would have gone but for a hold
	Tombstones        []Tombstone
	Complete          bool // every object that could be compacted was looked at
}

// Saved is how many bytes are freed on all targets together.
func (r CompactReport) Saved() int64 { return r.StoredBefore - r.StoredAfter }

// settingCompacted is up to where the last compaction looked, when, and under which policy.
const settingCompacted = "compacted"

// compactEvery is how often the archive is compacted by itself.
const compactEvery = 7 * 24 * time.Hour

// ErrNoContent: compaction needs to know what is in a span, and nobody told.
var ErrNoContent = errors.New("tiering: this archiver can't look into entries")

// Compact erases from sealed objects what nobody has to keep: entries of deleted logs, of
// aborted transactions, and such as are older than their log's retention, unless they are
// under hold. The entries stay, without their content; a tombstone in the manifest, signed
// like all of it, says what was erased, when and why. The old objects are collected after
// the grace. What the hot tier still has is let be.
func (a *Archiver) Compact(ctx context.Context, o CompactOptions) (CompactReport, error) {
	if a.o.Content == nil {
		return CompactReport{}, ErrNoContent
	}
	if a.state.Load() == nil {
		return CompactReport{}, errNotTakenOver
	}
	select {
	case a.compacting <- struct{}{}:
		defer func() { <-a.compacting }()
	case <-ctx.Done():
		return CompactReport{}, ctx.Err()
	}
	version, err := a.o.Content.Version(ctx)
	if err != nil {
		return CompactReport{}, fmt.Errorf("compact: %w", err)
	}
	if o.MinPercent == 0 {
		o.MinPercent = 5
	}
	c := &compaction{a: a, o: o, now: time.Now(), version: version}
	err = c.run(ctx)
	return c.report, err
}

// compaction is one run.
type compaction struct {
	a       *Archiver
	o       CompactOptions
	now     time.Time
	version string // of the content
	report  CompactReport
}

// looked is up to where a compaction looked, under which policy and when.
type looked struct {
	upTo   logcore.LSN
	at     time.Time
	policy string
}

func parseLooked(text string) (l looked) {
	f := strings.SplitN(text, " ", 3)
	if len(f) != 3 {
		return l
	}
	upTo, err1 := strconv.ParseUint(f[0], 10, 64)
	at, err2 := strconv.ParseInt(f[1], 10, 64)
	if err1 != nil || err2 != nil {
		return l
	}
	return looked{logcore.LSN(upTo), time.Unix(at, 0), f[2]}
}

func (l looked) String() string {
	return fmt.Sprintf("%d %d %s", uint64(l.upTo), l.at.Unix(), l.policy)
}

// policy is a short name of all that decides what is erased but the time.
func (c *compaction) policy(s *state) string {
	var parts []string
	for key, value := range s.settings {
		if strings.HasPrefix(key, settingKeep) || strings.HasPrefix(key, settingHold) {
			parts = append(parts, key+"="+value)
		}
	}
	slices.Sort(parts)
	sum := hashOf([]byte(fmt.Sprint(parts, c.version)))
	return fmt.Sprintf("%x", sum[:8])
}

// worth reports whether an object may hold something to erase that the last run did not
// see: it is new, the policy is, or a retention has run out in it since.
func (c *compaction) worth(s *state, o *object, last looked, policy string) bool {
	if c.o.All || o.Last > last.upTo || policy != last.policy {
		return true
	}
	for key, value := range s.settings {
		keep := parseSeconds(value)
		if !strings.HasPrefix(key, settingKeep) || keep == 0 {
			continue
		}
		if c.now.Add(-keep).After(o.firstTime.Wall()) && !last.at.Add(-keep).After(o.lastTime.Wall()) {
			return true
		}
	}
	return false
}

func (c *compaction) run(ctx context.Context) error {
	s := c.a.state.Load()
	last, policy := parseLooked(s.settings[settingCompacted]), c.policy(s)
	limit := s.covered() + 1
	if segments := c.a.o.Source.Segments(); len(segments) > 0 {
		limit = segments[0].First
	}
	meter := &scrubber{remotes: c.a.all(), o: ScrubOptions{Budget: c.o.Budget}}
	upTo := logcore.LSN(0)
	for _, o := range s.path {
		if o.Last >= limit || o.kind() != KindSealed {
			break
		}
		if c.worth(s, o, last, policy) {
			err := meter.affordable(o)
			if err == nil {
				bytes, money := meter.price(o)
				meter.report.Bytes, meter.report.Money = meter.report.Bytes+bytes, meter.report.Money+money
				err = c.object(ctx, o)
			}
			if errors.Is(err, errBudget) {
				return nil // upTo and policy stay: the next run goes on
			}
			if err != nil {
				return fmt.Errorf("compact %s: %w", o.describe(), err)
			}
			if c.o.Progress != nil {
				c.o.Progress(c.report)
			}
		}
		upTo = o.Last
	}
	c.report.Complete = true
	if c.o.DryRun {
		return nil
	}
	return c.a.set(ctx, map[string]string{settingCompacted: looked{upTo, c.now, policy}.String()})
}

// object compacts one object.
func (c *compaction) object(ctx context.Context, o *object) error {
	a := c.a
	if err := a.step("compact"); err != nil {
		return err
	}
	share, err := a.memory.reserve(ctx, 4*o.rawBytes+6*o.Length)
	if err != nil {
		return err
	}
	defer share.release()
	span, err := a.Reader().readObject(ctx, o)
	if err != nil {
		return err
	}
	c.report.Looked++
	entries, err := a.o.Content.Entries(ctx, span)
	if err != nil {
		return err
	}
	s := a.state.Load()
	gone, tombstones := c.decide(s, entries)
	bytes := int64(0)
	for i := range tombstones {
		tombstones[i].Bytes = max(tombstones[i].Bytes, 0)
		bytes += tombstones[i].Bytes
	}
	if len(gone) == 0 || bytes*100 < int64(c.o.MinPercent)*o.rawBytes {
		return nil
	}
	before := o.FragmentBytes() * int64(o.placed())
	after := before * (o.rawBytes - bytes) / o.rawBytes
	if !c.o.DryRun {
		n, err := c.rewrite(ctx, o, span, gone, tombstones, c.policy(s))
		if err != nil || n == nil {
			return err
		}
		after = n.FragmentBytes() * int64(n.placed())
	}
	c.report.Rewritten++
	c.report.RawBytes += bytes
	c.report.StoredBefore, c.report.StoredAfter = c.report.StoredBefore+before, c.report.StoredAfter+after
	for _, t := range tombstones {
		c.report.Entries += t.Entries
	}
	c.report.Tombstones = addTombstones(c.report.Tombstones, tombstones)
	return nil
}

// decide says which entries go, with a tombstone for each log and reason.
func (c *compaction) decide(s *state, entries []ContentEntry) (map[logcore.LSN]bool, []Tombstone) {
	gone := map[logcore.LSN]bool{}
	var tombstones []Tombstone
	for _, e := range entries {
		why := c.why(s, e)
		if why == 0 {
			continue
		}
		if s.heldFor(e) {
			c.report.Held++
			continue
		}
		gone[e.LSN] = true
		i := slices.IndexFunc(tombstones, func(t Tombstone) bool { return t.Log == e.Log && t.Why == why })
		if i < 0 {
			i = len(tombstones)
			tombstones = append(tombstones, Tombstone{Why: why, Log: e.Log, First: e.LSN, At: time.UnixMilli(c.now.UnixMilli()).UTC()})
		}
		t := &tombstones[i]
		t.Last, t.Entries, t.Bytes = e.LSN, t.Entries+1, t.Bytes+e.Bytes
	}
	return gone, tombstones
}

// why says why an entry need not be kept; 0 = it must be. A transaction goes as a whole,
// by the time of what closed it.
func (c *compaction) why(s *state, e ContentEntry) TombstoneReason {
	switch keep := s.keepsFor(e); {
	case e.Deleted:
		return ErasedDeleted
	case e.Aborted:
		return ErasedAborted
	case keep > 0 && e.Closed != 0 && e.Closed.Wall().Add(keep).Before(c.now):
		return ErasedExpired
	}
	return 0
}

// rewrite puts an object without the content in the place of the old one. It returns nil
// when the old one was superseded meanwhile, or the policy by which that was decided is
// another one: a hold came, or something is to be kept longer.
func (c *compaction) rewrite(ctx context.Context, o *object, span Span, gone map[logcore.LSN]bool, tombstones []Tombstone, policy string) (*object, error) {
	a := c.a
	erased, err := a.o.Content.Erase(ctx, span, func(lsn logcore.LSN) bool { return gone[lsn] })
	if err != nil {
		return nil, err
	}
	raw := int64(len(erased.Frames))
	if raw >= int64(len(span.Frames)) || !sameButFrames(erased, span) {
		return nil, fmt.Errorf("%w: erasing gave [%d,%d] with checksum %08x and %d bytes", logcore.ErrInvalid, erased.First, erased.Last, erased.Sum, raw)
	}
	id := a.o.Keys.Current()
	sealed, err := sealObject(ctx, a.o.Keys, id, a.o.Cluster, erased, a.o.compression(KindSealed))
	if err != nil {
		return nil, err
	}
	n := &object{level: o.level, final: o.final, prev: o.prev, sum: o.sum, firstTime: o.firstTime, lastTime: o.lastTime, rawBytes: raw}
	k, m := a.code()
	n.Meta = erasure.Meta{Cluster: o.Cluster, Shard: o.Shard, SegmentFirst: o.SegmentFirst, First: o.First, Last: o.Last, Epoch: a.o.Epoch,
		Kind: o.Kind, K: k, M: m, KeyID: id}
	same := func(s *state) bool { return c.policy(s) == policy }
	if done, err := a.supersede(ctx, o, n, sealed, tombstones, same); err != nil || !done {
		return nil, err
	}
	return n, nil
}

func sameButFrames(a, b Span) bool {
	a.Frames, b.Frames = nil, nil
	return a.Shard == b.Shard && a.SegmentFirst == b.SegmentFirst && a.First == b.First && a.Last == b.Last && a.FirstTime == b.FirstTime &&
		a.LastTime == b.LastTime && a.Prev == b.Prev && a.Sum == b.Sum && a.Sealed == b.Sealed
}

// compactDue compacts once a week, when there is somebody who knows what entries are.
func (a *Archiver) compactDue(ctx context.Context) error {
	s := a.state.Load()
	if a.o.Content == nil || a.o.CompactEvery < 0 || len(s.path) == 0 {
		return nil
	}
	if last := parseLooked(s.settings[settingCompacted]).at; !last.IsZero() && time.Since(last) < a.o.CompactEvery {
		return nil
	}
	report, err := a.Compact(ctx, CompactOptions{Budget: a.o.Scrub})
	if report.Rewritten > 0 {
		a.log.Info("compacted the archive", "objects", report.Rewritten, "entries", report.Entries, "saved_bytes", report.Saved())
	}
	return err
}
