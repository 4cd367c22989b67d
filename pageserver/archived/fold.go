package archived

import (
	"context"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/tiering"
)

// fold is the catalog of a shard as far as it is archived.
type fold struct {
	state *catalog.State // nil until there is one
	last  logcore.Entry  // the last entry folded, without its payload
}

// advance folds what was archived since. An archive whose history is another one than what
// was folded, because the service was restored to an earlier point, is folded afresh.
func (f *fold) advance(ctx context.Context, r *tiering.Reader) error {
	covered := r.Covered()
	if covered == 0 {
		return fmt.Errorf("%w: it holds no entries", tiering.ErrNoArchive)
	}
	if f.state != nil && covered >= f.state.LSN {
		same, err := f.goOn(ctx, r, covered)
		if same || err != nil {
			return err
		}
	}
	return f.begin(ctx, r, covered)
}

// goOn folds on from the last entry folded, and reports whether the archive has that very one.
func (f *fold) goOn(ctx context.Context, r *tiering.Reader, covered logcore.LSN) (same bool, err error) {
	state, last := f.state, f.last
	if covered == state.LSN {
		return true, nil
	}
	err = each(ctx, r, last.LSN, covered, func(e logcore.Entry) (bool, error) {
		if e.LSN == last.LSN {
			same = e.Term == last.Term && e.Time == last.Time && e.Tx == last.Tx
			return same, nil
		}
		f.last = bare(e)
		return true, state.Apply(e)
	})
	if err != nil {
		f.state = nil // half of an entry may be folded: begin again
	}
	return same, err
}

// begin folds from the newest checkpoint of the catalog on that is archived: segments begin
// with one.
func (f *fold) begin(ctx context.Context, r *tiering.Reader, covered logcore.LSN) error {
	f.state = nil
	for upTo := covered; ; {
		spans, err := r.ReadRange(ctx, upTo, upTo, 1)
		if err != nil {
			return err
		}
		first := max(spans[0].SegmentFirst, r.First())
		state, last, err := foldFrom(ctx, r, first, covered)
		if err != nil {
			return err
		}
		if state != nil {
			f.state, f.last = state, last
			return nil
		}
		if first <= r.First() {
			return &logcore.CorruptionError{Place: "archive", Object: "catalog", Offset: -1, LSN: first, Reason: "no checkpoint of the catalog in what is archived, and the entries from LSN 1 on are gone"}
		}
		upTo = first - 1
	}
}

// foldFrom folds from the first checkpoint at or after an LSN on; the state is nil when there
// is none. From LSN 1 on none is needed.
func foldFrom(ctx context.Context, r *tiering.Reader, from, covered logcore.LSN) (state *catalog.State, last logcore.Entry, err error) {
	if from == 1 {
		state = catalog.NewState()
	}
	err = each(ctx, r, from, covered, func(e logcore.Entry) (bool, error) {
		if state == nil {
			if e.Kind != logcore.KindCheckpoint {
				return true, nil
			}
			state = catalog.NewState()
		}
		last = bare(e)
		return true, state.Apply(e)
	})
	return state, last, err
}

func bare(e logcore.Entry) logcore.Entry {
	e.Payload = nil
	return e
}

// each visits the entries in [from, to] until visit returns false or an error.
func each(ctx context.Context, r *tiering.Reader, from, to logcore.LSN, visit func(logcore.Entry) (bool, error)) error {
	for span, err := range r.Spans(ctx, from, to) {
		if err != nil {
			return err
		}
		for e, err := range toSegment(span).Entries() {
			if err != nil {
				return fmt.Errorf("archived entries of LSN %d to %d: %w", span.First, span.Last, err)
			}
			if e.LSN < from {
				continue
			}
			if e.LSN > to {
				return nil
			}
			more, err := visit(e)
			if err != nil || !more {
				return err
			}
		}
	}
	return nil
}
