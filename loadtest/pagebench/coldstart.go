package pagebench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/dir"
)

// coldRoundTrip is how long the target takes to begin to answer.
const coldRoundTrip = 40 * time.Millisecond

// coldSizes are the sizes of the stores; one store grows from each to the next.
var coldSizes = []int64{100 << 20, 1 << 30, 4 << 30}

// coldstart measures how long a page server on an empty machine takes from its start to
// its first page, by the size of the store in the checkpoint. Every call to the target
// takes a round trip longer.
func (r *run) coldstart(ctx context.Context) error {
	bucketDir, grown := r.freshDir("bucket"), r.freshDir("grown")
	defer os.RemoveAll(bucketDir)
	defer os.RemoveAll(grown)
	if err := dir.Init(bucketDir); err != nil {
		return err
	}
	b, err := dir.Open(bucketDir)
	if err != nil {
		return err
	}
	defer b.Close()
	near, err := enginetest.NewCheckpoints(b)
	if err != nil {
		return err
	}
	h, rng, written := newHistory(11), rand.New(rand.NewPCG(1, 2)), uint32(0)
	for _, size := range coldSizes {
		for ; int64(written)*pageSize < size; written++ {
			if err := h.image(engine.SpaceOf(1), written); err != nil {
				return err
			}
			if written%(1<<15) == 1<<15-1 { // so that the history need not be in memory whole
				if err := r.grow(ctx, h, grown, near, false); err != nil {
					return err
				}
			}
		}
		if err := r.grow(ctx, h, grown, near, true); err != nil {
			return err
		}
		var first, reads []float64
		for range r.o.Rounds {
			took, n, err := r.coldFirst(ctx, h, b, uint32(rng.Uint32N(written)))
			if err != nil {
				return err
			}
			first, reads = append(first, took.Seconds()), append(reads, float64(n))
		}
		limit := 1 + 2*coldRoundTrip.Seconds()
		r.AtMost(fmt.Sprintf("cold start: first page of a store of %d MiB", size>>20), figures.Median(first), limit, "s",
			map[string]any{"round_trip_ms": coldRoundTrip.Milliseconds(), "worst_s": figures.Quantile(first, 1), "calls": figures.Median(reads)})
	}
	return nil
}

// grow lets the page server ingest what was added, makes a checkpoint when asked, and
// lets the source forget what is ingested.
func (r *run) grow(ctx context.Context, h *history, dir string, c *checkpoint.Repository, save bool) error {
	if err := h.commit(); err != nil {
		return err
	}
	s, err := r.start(ctx, pageserver.Options{Dir: dir, Source: h.source, Checkpoints: c, CheckpointInterval: 24 * time.Hour})
	if err != nil {
		return err
	}
	err = s.wait(ctx, h.last)
	if err == nil && save {
		_, err = s.Checkpoint(ctx)
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	h.source.Forget(logName, h.last-1)
	return nil
}

// coldFirst starts a page server on an empty machine and returns how long its first page
// took, and how many calls to the target.
func (r *run) coldFirst(ctx context.Context, h *history, b bucket.Bucket, page uint32) (time.Duration, int, error) {
	slow := bucket.NewFaults(b)
	slow.Add(bucket.Fault{Effect: bucket.Slow(coldRoundTrip)})
	far, err := enginetest.NewCheckpoints(slow)
	if err != nil {
		return 0, 0, err
	}
	cold := r.freshDir("cold")
	defer os.RemoveAll(cold)
	began := time.Now()
	s, err := r.start(ctx, pageserver.Options{Dir: cold, Source: h.source, Checkpoints: far, CheckpointInterval: 24 * time.Hour})
	if err != nil {
		return 0, 0, err
	}
	set, err := s.GetPages(ctx, logName, engine.SpaceOf(1), []uint32{page}, pageserver.ReadAt{LSN: h.last, Wait: pageserver.WaitMax})
	took, calls := time.Since(began), slow.Count(bucket.OpAny)
	if err == nil && (len(set.Pages) != 1 || len(set.Pages[0].Data) != pageSize || s.CheckpointStatus().BeganFrom == 0) {
		err = fmt.Errorf("%w: the first page is not what was written, or did not come from the checkpoint", logcore.ErrCorrupt)
	}
	return took, calls, errors.Join(err, s.stop())
}
