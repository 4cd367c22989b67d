package tiering

import (
	"context"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/erasure"
)

// making is an object on its way through the stages: read, compressed, encrypted into its
// fragments, coded, placed and verified. Then it may be committed.
type making struct {
	span  Span // frames until they are compressed
	kind  Kind
	level uint8
	share *share // of the memory, until it is placed

	placed chan struct{} // closed once the rest is set
	o      *object       // nil when it did not come so far
	err    error
}

// archive archives one object that begins at first. It returns the last LSN of the
// object: last, or less when it was cut at the size of an object.
func (a *Archiver) archive(ctx context.Context, segment Segment, first, last logcore.LSN, kind Kind, level uint8) (logcore.LSN, error) {
	m, err := a.read(ctx, segment, first, last, kind, level)
	if err != nil {
		return 0, err
	}
	a.finish(ctx, m)
	return a.land(ctx, m)
}

// runAhead is how many objects of a run may wait for the one before them to be committed.
const runAhead = 2

// archiveRun archives [first, last] of a segment as objects that follow each other. While
// one is placed on the targets those behind it are read, compressed and coded, as many as
// there is memory for; they are committed in order. It returns through where it came.
func (a *Archiver) archiveRun(ctx context.Context, segment Segment, first, last logcore.LSN, kind Kind) (through logcore.LSN, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	line := make(chan *making, runAhead-1)
	go func() {
		defer close(line)
		a.readRun(ctx, segment, first, last, kind, line)
	}()
	through = first - 1
	for m := range line {
		<-m.placed
		if err != nil {
			a.giveUp(m)
			continue
		}
		landed, landErr := a.land(ctx, m)
		if landErr != nil {
			err = landErr
			cancel()
			continue
		}
		through = landed
	}
	return through, err
}

// readRun reads the spans of a run one after the other and sets each on its way.
func (a *Archiver) readRun(ctx context.Context, segment Segment, next, last logcore.LSN, kind Kind, line chan<- *making) {
	var before *making
	for next <= last {
		m, err := a.read(ctx, segment, next, last, kind, 0)
		if err == nil && before != nil && before.span.Sum != m.span.Prev {
			m.share.release()
			err = diverged(next-1, before.span.Sum, m.span.Prev)
		}
		if err != nil {
			m = &making{placed: make(chan struct{}), err: err}
			close(m.placed)
			line <- m
			return
		}
		go a.finish(ctx, m) // whoever takes it from the line waits for it
		line <- m
		before, next = m, m.span.Last+1
	}
}

// read is the first stage: the memory that the object may come to need, and its frames.
func (a *Archiver) read(ctx context.Context, segment Segment, first, last logcore.LSN, kind Kind, level uint8) (*making, error) {
	share, err := a.memory.reserve(ctx, a.o.objectMemory())
	if err != nil {
		return nil, err
	}
	m := &making{kind: kind, level: level, share: share, placed: make(chan struct{})}
	if m.span, err = a.readSpan(ctx, segment, first, last, kind); err != nil {
		share.release()
		return nil, err
	}
	raw := int64(len(m.span.Frames))
	if raw > a.o.objectBytesMax() { // a single entry larger than an object should be
		share.release()
		if m.share, err = a.memory.reserve(ctx, a.o.memoryOf(raw)); err != nil {
			return nil, err
		}
	}
	m.share.holds(raw)
	m.share.keep(a.o.memoryOf(raw))
	return m, nil
}

func (a *Archiver) readSpan(ctx context.Context, segment Segment, first, last logcore.LSN, kind Kind) (Span, error) {
	if err := a.step("read"); err != nil {
		return Span{}, err
	}
	span, err := a.o.Source.ReadSpan(ctx, first, last, a.o.objectBytesMax())
	if err != nil {
		return span, fmt.Errorf("tiering: read [%d,%d] from the hot tier: %w", first, last, err)
	}
	if err := a.checkSpan(span, segment, first, last); err != nil {
		return span, err
	}
	if kind == KindSealed && span.Sealed != (span.Last == segment.Last) {
		return span, fmt.Errorf("%w: tiering: the hot tier gave [%d,%d] with sealed %v of a sealed segment that ends at %d",
			logcore.ErrInvalid, span.First, span.Last, span.Sealed, segment.Last)
	}
	return span, nil
}

// finish does all the other stages but the commit, and gives the memory back.
func (a *Archiver) finish(ctx context.Context, m *making) {
	defer close(m.placed)
	defer m.share.release()
	o, fragments, err := a.sealAndCode(ctx, m)
	if err != nil {
		m.err = err
		return
	}
	m.o = o
	start := time.Now()
	m.share.holds(2 * o.FragmentBytes() * int64(len(fragments))) // and what is read back
	if err := a.place(ctx, o, fragments); err != nil {
		m.err = fmt.Errorf("tiering: place %s: %w", o.describe(), err)
		return
	}
	a.metrics.placed(o, time.Since(start))
}

// land commits what finish has placed.
func (a *Archiver) land(ctx context.Context, m *making) (logcore.LSN, error) {
	defer a.giveUp(m)
	if m.err != nil {
		return 0, m.err
	}
	err := a.commit(ctx, func(s *state) *record { return s.change(a.o.Epoch, a.targetNames(), s.settled(m.o)) })
	if err != nil {
		return 0, fmt.Errorf("tiering: commit %s: %w", m.o.describe(), err)
	}
	return m.o.Last, nil
}

// giveUp notes that an object is in the manifest or never will be.
func (a *Archiver) giveUp(m *making) {
	if m.o != nil {
		a.landed(m.o.name())
	}
}

// sealAndCode turns a span into an object that is placed nowhere yet and its fragments.
// It lets go of the frames.
func (a *Archiver) sealAndCode(ctx context.Context, m *making) (*object, [][]byte, error) {
	if err := a.step("seal"); err != nil {
		return nil, nil, err
	}
	raw := int64(len(m.span.Frames))
	id := a.o.Keys.Current()
	sealed, err := prepareSeal(ctx, a.o.Keys, id, a.o.Cluster, m.span, a.compression(m.kind))
	if err != nil {
		return nil, nil, err
	}
	m.share.holds(raw + sealed.held())
	o := a.newObject(m, id, sealed.bytes())
	m.span.Frames = nil
	var coder erasure.Coder
	if err := coder.Begin(o.Meta); err != nil {
		return nil, nil, err
	}
	m.share.holds(sealed.held() + coder.Bytes())
	m.share.keep(max(sealed.held()+coder.Bytes(), 2*coder.Bytes()))
	sealed.write(coder.WriteAt)
	m.share.holds(coder.Bytes())
	if err := coder.Parity(); err != nil {
		return nil, nil, err
	}
	coded := coder.Finish()
	o.Meta = coded.Meta
	for i, sum := range coded.Sums {
		o.fragments[i].sum = sum
	}
	return o, coded.Fragments, nil
}

// newObject describes the object of a span, but for its hashes.
func (a *Archiver) newObject(m *making, id KeyID, length int64) *object {
	s := m.span
	k, n := a.code()
	o := &object{level: m.level, final: m.kind == KindSealed && s.Sealed, prev: s.Prev, sum: s.Sum,
		firstTime: s.FirstTime, lastTime: s.LastTime, rawBytes: int64(len(s.Frames)), fragments: make([]fragment, k+n)}
	o.Meta = erasure.Meta{Cluster: a.o.Cluster, Shard: a.o.Shard, SegmentFirst: s.SegmentFirst, First: s.First, Last: s.Last,
		Epoch: a.o.Epoch, Kind: uint8(m.kind), K: k, M: n, KeyID: id, Length: length, Label: o.label()}
	return o
}

// compression of a sealed object is fast while the archive is behind or the hot tier's
// disk fills up.
func (a *Archiver) compression(kind Kind) compression {
	if a.lag() > a.o.MaxAge || a.underPressure() {
		return compressFast
	}
	return a.o.compression(kind)
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
