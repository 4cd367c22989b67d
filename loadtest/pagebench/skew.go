package pagebench

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/pageserver"
)

const (
	skewPages = 50_000
	skewBytes = 100 // of a record
	skewReads = 20_000
	// skewPageCache is small beside the pages, so that it is the store that is measured.
	skewPageCache = 16 << 20
)

// skew updates pages, few of them most of the time, while they are read, and then holds
// reads of that store against those of a fresh one, which has an image of each page.
func (r *run) skew(ctx context.Context) error {
	h := newHistory(7)
	space := engine.SpaceOf(0)
	for n := range skewPages {
		if err := h.image(space, uint32(n)); err != nil {
			return err
		}
	}
	if err := h.commit(); err != nil {
		return err
	}
	before := h.last
	source := &gated{h.source, before, make(chan struct{})} // for the fresh one it stays closed
	freshDir, agedDir := r.freshDir("fresh"), r.freshDir("aged")
	defer os.RemoveAll(freshDir)
	defer os.RemoveAll(agedDir)
	fresh, err := r.start(ctx, pageserver.Options{Dir: freshDir, Source: source, PageCacheBytes: skewPageCache, BlockCacheBytes: 512 << 20})
	if err != nil {
		return err
	}
	aged, err := r.start(ctx, pageserver.Options{Dir: agedDir, Source: h.source, PageCacheBytes: skewPageCache, BlockCacheBytes: 512 << 20})
	if err != nil {
		return errors.Join(err, fresh.stop())
	}
	err = errors.Join(fresh.wait(ctx, before), aged.wait(ctx, before))
	if err == nil {
		err = r.age(ctx, h, aged, r.o.Skew)
	}
	if err == nil {
		err = r.compareAges(ctx, h, before, fresh, aged)
	}
	if err == nil {
		err = r.readUnderLoad(ctx, h, aged)
	}
	return errors.Join(err, fresh.stop(), aged.stop())
}

// zipf chooses pages, few of them most of the time, spread over the space.
type zipf struct{ z *rand.Zipf }

func newZipf(seed uint64) zipf {
	return zipf{rand.NewZipf(rand.New(rand.NewPCG(seed, seed)), 1.1, 8, skewPages-1)}
}

func (z zipf) page() uint32 { return uint32(z.z.Uint64() * 7919 % skewPages) }

// age updates and reads pages for a while.
func (r *run) age(ctx context.Context, h *history, s *server, d time.Duration) error {
	updates, reads := newZipf(8), newZipf(9)
	tick := time.NewTicker(time.Second * txRecords / time.Duration(r.o.SkewRate))
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		for range txRecords {
			if err := h.delta(engine.SpaceOf(0), updates.page(), skewBytes); err != nil {
				return err
			}
		}
		if _, err := s.GetPages(ctx, logName, engine.SpaceOf(0), []uint32{reads.page(), reads.page()}, pageserver.ReadAt{Wait: pageserver.WaitMax}); err != nil {
			return err
		}
	}
	return s.wait(ctx, h.last)
}

func (r *run) compareAges(ctx context.Context, h *history, before logcore.LSN, fresh, aged *server) error {
	var readings [2]reading
	for round := range r.o.Rounds + 1 {
		for i, s := range []*server{fresh, aged} {
			lsn := h.last
			if s == fresh {
				lsn = before
			}
			took, err := r.readSkewed(ctx, s, lsn, round)
			if err != nil {
				return err
			}
			if round > 0 {
				readings[i].note(took)
			}
		}
	}
	f, a := figures.Median(readings[0].p99), figures.Median(readings[1].p99)
	r.AtMost("aged: p99 after skewed updates / p99 of a fresh store", a/f, 2, "ratio", map[string]any{"updated_for_s": r.o.Skew.Seconds(), "records_per_s": r.o.SkewRate,
		"pages": skewPages, "fresh_p50_us": figures.Median(readings[0].p50), "fresh_p99_us": f, "aged_p50_us": figures.Median(readings[1].p50), "aged_p99_us": a})
	return nil
}

// readSkewed reads pages by the law of the load, each round others.
func (r *run) readSkewed(ctx context.Context, s *server, lsn logcore.LSN, round int) ([]float64, error) {
	runtime.GC()
	at, z := pageserver.ReadAt{LSN: lsn, Wait: pageserver.WaitMax}, newZipf(uint64(10+round))
	return measure(ctx, skewReads, func(int) error {
		_, err := s.GetPages(ctx, logName, engine.SpaceOf(0), []uint32{z.page()}, at)
		return err
	})
}

// readUnderLoad reads the store while the updates go on, which is held against nothing: the
// fresh store is at rest.
func (r *run) readUnderLoad(ctx context.Context, h *history, s *server) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lsn, done := h.last, make(chan error, 1)
	go func() { done <- r.age(ctx, h, s, time.Hour) }()
	var g reading
	for round := range r.o.Rounds + 1 {
		took, err := r.readSkewed(ctx, s, lsn, 100+round)
		if err != nil {
			cancel()
			return errors.Join(err, <-done)
		}
		if round > 0 {
			g.note(took)
		}
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	r.Add("aged: p99 while the updates go on", figures.Median(g.p99), "us", map[string]any{"p50_us": figures.Median(g.p50), "records_per_s": r.o.SkewRate})
	return nil
}
