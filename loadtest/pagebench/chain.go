package pagebench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/pageserver"
)

// chainLengths are those of the curve: how many deltas a page's image has above it.
var chainLengths = []int{0, 1, 2, 4, 8, 10, 16, 32, 64}

const (
	chainPages = 2000 // of each length
	chainBytes = 48   // of a delta: 64 of them stay below a page
	chainReads = 20_000
	hotPages   = 1000
)

// reading is what one kind of read took, in microseconds; medians of its rounds.
type reading struct{ p50, p99 []float64 }

func (g *reading) note(took []float64) {
	g.p50, g.p99 = append(g.p50, figures.Quantile(took, 0.5)), append(g.p99, figures.Quantile(took, 0.99))
}

// chain measures what a page costs: from the cache, and from the store by the length of
// its chain, beside one seek of Pebble in the same store. Every block is cached.
func (r *run) chain(ctx context.Context) error {
	dir := r.freshDir("chain")
	defer os.RemoveAll(dir)
	h, err := chainHistory()
	if err != nil {
		return err
	}
	// Images in the background would cut short the very chains that are measured.
	opts := pageserver.Options{Dir: dir, Source: h.source, PageCacheBytes: 1, BlockCacheBytes: 512 << 20, ChainDeltasMax: 1000, ImageBytesPerSecond: -1}
	s, err := r.start(ctx, opts)
	if err != nil {
		return err
	}
	if err := errors.Join(s.wait(ctx, h.last), s.stop()); err != nil {
		return err
	}
	looked, hotDir := dir+"-looked", dir+"-hot"
	defer os.RemoveAll(looked)
	defer os.RemoveAll(hotDir)
	if err := errors.Join(os.CopyFS(looked, os.DirFS(dir)), os.CopyFS(hotDir, os.DirFS(dir))); err != nil {
		return err
	}
	store, err := pageserver.Inspect(looked, 512<<20)
	if err != nil {
		return err
	}
	defer store.Close()
	registry := prometheus.NewRegistry()
	opts.Registerer = registry
	if s, err = r.start(ctx, opts); err != nil {
		return err
	}
	hot, err := r.start(ctx, pageserver.Options{Dir: hotDir, Source: h.source, ChainDeltasMax: 1000})
	if err != nil {
		return errors.Join(err, s.stop())
	}
	err = r.readChains(ctx, h, s, hot, store, registry)
	return errors.Join(err, s.stop(), hot.stop())
}

// chainHistory has a space for each length of a chain.
func chainHistory() (*history, error) {
	h := newHistory(2)
	for i, length := range chainLengths {
		space := engine.SpaceOf(uint64(i))
		for n := range chainPages {
			if err := h.image(space, uint32(n)); err != nil {
				return nil, err
			}
		}
		bytes := chainBytes
		if length == 10 {
			bytes = 100 // the chain that is held against a seek
		}
		for range length {
			for n := range chainPages {
				if err := h.delta(space, uint32(n), bytes); err != nil {
					return nil, err
				}
			}
		}
	}
	return h, h.commit()
}

func (r *run) readChains(ctx context.Context, h *history, s, hot *server, store *pageserver.Inspector, registry *prometheus.Registry) error {
	at := pageserver.ReadAt{LSN: h.last, Wait: pageserver.WaitMax}
	read := func(s *server, space engine.Space, among int) func(int) error {
		rng, numbers := rand.New(rand.NewPCG(3, 3)), make([]uint32, 1)
		return func(int) error {
			numbers[0] = uint32(rng.IntN(among))
			set, err := s.GetPages(ctx, logName, space, numbers, at)
			if err == nil && len(set.Pages[0].Data) != pageSize {
				err = fmt.Errorf("page %d of %d bytes", numbers[0], len(set.Pages[0].Data))
			}
			return err
		}
	}
	keys, err := store.Newest()
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(4, 4))
	seek := func(int) error {
		n, err := store.Seek(keys[rng.IntN(len(keys))])
		if err == nil && n == 0 {
			err = errors.New("a key is gone")
		}
		return err
	}
	curve, versions := make([]reading, len(chainLengths)), make([]float64, len(chainLengths))
	var seeks, hots reading
	for round := range r.o.Rounds + 1 {
		runtime.GC()
		took, err := measure(ctx, chainReads, seek)
		if err != nil {
			return err
		}
		cached, err := measure(ctx, chainReads, read(hot, engine.SpaceOf(uint64(len(chainLengths)-1)), hotPages))
		if err != nil {
			return err
		}
		if round > 0 {
			seeks.note(took)
			hots.note(cached)
		}
		for i := range chainLengths {
			before := counter(registry, "logcore_pageserver_deltas_applied_total")
			took, err := measure(ctx, chainReads, read(s, engine.SpaceOf(uint64(i)), chainPages))
			if err != nil {
				return err
			}
			if round > 0 {
				curve[i].note(took)
				versions[i] = 1 + (counter(registry, "logcore_pageserver_deltas_applied_total")-before)/chainReads
			}
		}
	}
	r.reportChains(curve, versions, seeks, hots)
	return nil
}

func (r *run) reportChains(curve []reading, versions []float64, seeks, hots reading) {
	r.AtMost("read: a page from the cache, in process, p50", figures.Median(hots.p50), 10, "us", map[string]any{"p99_us": figures.Median(hots.p99), "pages": hotPages})
	seek, image := figures.Median(seeks.p50), figures.Median(curve[0].p50)
	for i, length := range chainLengths {
		p50, p99 := figures.Median(curve[i].p50), figures.Median(curve[i].p99)
		detail := map[string]any{"chain": length, "p50_us": p50, "p99_us": p99, "versions_read": versions[i], "seek_us": seek}
		if length == 10 {
			r.AtMost("read: image and 10 deltas / one Pebble seek", p50/seek, 3, "ratio", detail)
			r.AtMost("read: each delta of a chain of 10, its read included", (p50-image)/10, 1, "us", detail)
		}
		r.Add(fmt.Sprintf("curve: chain of %d, p50", length), p50, "us", detail)
		r.Add(fmt.Sprintf("curve: chain of %d, p99", length), p99, "us", nil)
		r.Add(fmt.Sprintf("curve: chain of %d, versions read for a page", length), versions[i], "versions", nil)
	}
}

// counter is the value of a counter of a registry.
func counter(registry *prometheus.Registry, name string) float64 {
	families, err := registry.Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}
