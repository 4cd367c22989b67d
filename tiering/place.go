package tiering

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

// archive reads a span that begins at first, seals and codes it, places its fragments
// and commits it to the manifest. It returns the last LSN of the object: last, or less
// when the span was cut at the size of an object. It holds at most one object's share
// of the memory.
func (a *Archiver) archive(ctx context.Context, segment Segment, first, last logcore.LSN, kind Kind, level uint8) (logcore.LSN, error) {
	o, err := a.makeObject(ctx, segment, first, last, kind, level)
	if err != nil {
		return 0, err
	}
	defer a.landed(o.name())
	err = a.commit(ctx, func(s *state) *record { return s.change(a.o.Epoch, a.targetNames(), o) })
	if err != nil {
		return 0, fmt.Errorf("tiering: commit %s: %w", o.describe(), err)
	}
	return o.Last, nil
}

// makeObject does all of archive but the commit.
func (a *Archiver) makeObject(ctx context.Context, segment Segment, first, last logcore.LSN, kind Kind, level uint8) (*object, error) {
	share := min(a.o.MemoryMax, a.o.objectMemory())
	if err := a.memory.Acquire(ctx, share); err != nil {
		return nil, err
	}
	defer a.memory.Release(share)
	if err := a.step("read"); err != nil {
		return nil, err
	}
	span, err := a.o.Source.ReadSpan(ctx, first, last, a.o.objectBytesMax())
	if err != nil {
		return nil, fmt.Errorf("tiering: read [%d,%d] from the hot tier: %w", first, last, err)
	}
	if err := a.checkSpan(span, segment, first, last); err != nil {
		return nil, err
	}
	if kind == KindSealed && span.Sealed != (span.Last == segment.Last) {
		return nil, fmt.Errorf("%w: tiering: the hot tier gave [%d,%d] with sealed %v of a sealed segment that ends at %d",
			logcore.ErrInvalid, span.First, span.Last, span.Sealed, segment.Last)
	}
	o, fragments, err := a.sealAndCode(ctx, span, kind, level)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := a.place(ctx, o, fragments); err != nil {
		a.landed(o.name())
		return nil, fmt.Errorf("tiering: place %s: %w", o.describe(), err)
	}
	a.metrics.placed(o, time.Since(start))
	return o, nil
}

// sealAndCode turns a span into an object that is placed nowhere yet and its fragments.
func (a *Archiver) sealAndCode(ctx context.Context, span Span, kind Kind, level uint8) (*object, [][]byte, error) {
	if err := a.step("seal"); err != nil {
		return nil, nil, err
	}
	sealed, err := sealObject(ctx, a.o.Keys, a.o.Cluster, span, defaultChunkBytes)
	if err != nil {
		return nil, nil, err
	}
	o := &object{level: level, final: kind == KindSealed && span.Sealed, prev: span.Prev, sum: span.Sum,
		firstTime: span.FirstTime, lastTime: span.LastTime, rawBytes: int64(len(span.Frames)), fragments: make([]fragment, a.o.K+a.o.M)}
	o.Meta = erasure.Meta{Cluster: a.o.Cluster, Shard: a.o.Shard, SegmentFirst: span.SegmentFirst, First: span.First, Last: span.Last,
		Epoch: a.o.Epoch, Kind: uint8(kind), K: a.o.K, M: a.o.M, KeyID: a.o.Keys.Current(), Label: o.label()}
	coded, err := erasure.Code(o.Meta, sealed)
	if err != nil {
		return nil, nil, err
	}
	o.Meta = coded.Meta
	for i, sum := range coded.Sums {
		o.fragments[i].sum = sum
	}
	return o, coded.Fragments, nil
}

// checkSpan checks what the source handed over, and that it continues the archive.
func (a *Archiver) checkSpan(s Span, segment Segment, first, last logcore.LSN) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("tiering: from the hot tier: %w", err)
	}
	if s.Shard != a.o.Shard || s.SegmentFirst != segment.First || s.First != first || s.Last > last {
		return fmt.Errorf("%w: tiering: the hot tier gave entries [%d,%d] of segment %d for [%d,%d] of segment %d",
			logcore.ErrInvalid, s.First, s.Last, s.SegmentFirst, first, last, segment.First)
	}
	st := a.state.Load()
	if i := st.find(s.First - 1); i < len(st.path) && st.path[i].Last+1 == s.First && st.path[i].sum != s.Prev {
		return diverged(s.First-1, st.path[i].sum, s.Prev)
	}
	for _, o := range st.segmentObjects(s.SegmentFirst) {
		switch {
		case o.Last == s.Last && o.sum != s.Sum:
			return diverged(o.Last, o.sum, s.Sum)
		case o.First == s.First && o.prev != s.Prev:
			return diverged(o.First-1, o.prev, s.Prev)
		}
	}
	return nil
}

func diverged(lsn logcore.LSN, archived, hot uint32) error {
	return fmt.Errorf("%w: entry %d has checksum %08x in the archive and %08x in the hot tier: it is of another history; run `logcore restore` to bring back what the archive holds",
		ErrDiverged, lsn, archived, hot)
}

// place puts each fragment on its target until at least k are placed and verified. It
// keeps at it, with the same bytes, until ctx is done: another object in its stead
// would leave these behind as orphans.
func (a *Archiver) place(ctx context.Context, o *object, fragments [][]byte) error {
	a.mu.Lock()
	a.inFlight[o.name()] = true
	a.mu.Unlock()
	return a.retry(ctx, "place fragments", func() error { return a.placeOnce(ctx, o, fragments) })
}

func (a *Archiver) placeOnce(ctx context.Context, o *object, fragments [][]byte) error {
	errs := each(ctx, len(fragments), o.K, a.o.MaxAge, func(ctx context.Context, i int) error {
		if o.fragments[i].target != "" {
			return nil
		}
		return a.putFragment(ctx, a.all()[i], o, i, fragments[i])
	})
	var bad []string
	for i, err := range errs {
		if isFatal(err) {
			return err
		}
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		o.fragments[i].target = a.all()[i].Name // by this goroutine alone: each has waited for all
	}
	if o.placed() < o.K {
		return fmt.Errorf("%w: %d of %d fragments are placed, %d are needed: %s", ErrTooFewFragments, o.placed(), len(fragments), o.K, strings.Join(bad, "; "))
	}
	return nil
}

// putFragment stores a fragment and reads it back. Its key names its content, so other
// bytes under it are damage and are replaced.
func (a *Archiver) putFragment(ctx context.Context, r *remote, o *object, i int, data []byte) error {
	if err := a.step("put"); err != nil {
		return err
	}
	return r.putVerified(ctx, o.name().key(a.o.Cluster, a.o.Shard, i), data, always, func() error { return a.step("read-back") })
}

// landed notes that an object is in the manifest, or given up: from now on the manifest
// alone says whether its fragments are wanted.
func (a *Archiver) landed(n objectName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.inFlight, n)
}
