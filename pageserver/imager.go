package pageserver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore"
)

// imager gives pages images in the background, those first whose reads cost most. What a
// page costs is what its reads had to apply lately: the length of its chain times how
// often it is read from the store. A page that nobody reads, or that the page cache
// holds, costs nothing and gets none.
//
// An image takes the place of the version that was read, so nothing else changes: not
// what a read returns, nor what later versions build on.
type imager struct {
	s *Server

	mu    sync.Mutex
	costs map[imageID]imageCost // guarded by mu
}

type imageID struct {
	owner      *logState
	generation uint64
	pageID
}

// imageCost is the place of a version that was read and what its reads applied.
type imageCost struct {
	at      pos
	applied int
}

const (
	// imageChainMin is the shortest chain that is worth an image.
	imageChainMin = 4
	// imageCostMin is how much the reads of a page must have applied to be worth one.
	imageCostMin = 16
	// imageCostsMax bounds the pages whose costs are known; when there are more, all costs
	// are halved, and those that are small by then forgotten.
	imageCostsMax = 1 << 14
	// imageEvery is how often images are made; imageDecay after how many times costs halve.
	imageEvery = 100 * time.Millisecond
	imageDecay = 100
)

// note takes over that a read of a version applied the changes of a chain.
func (g *imager) note(v version, id pageID, applied int) {
	if applied < imageChainMin {
		return
	}
	key := imageID{v.owner, v.owner.generation, id}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.costs == nil {
		g.costs = map[imageID]imageCost{}
	}
	c := g.costs[key]
	// The newest version read is the one that is read again.
	if c.at.less(v.at) {
		c.at = v.at
	}
	c.applied += applied
	g.costs[key] = c
	if len(g.costs) > imageCostsMax {
		g.decay()
	}
}

// decay halves the costs; the caller holds mu.
func (g *imager) decay() {
	for key, c := range g.costs {
		if c.applied /= 2; c.applied < imageChainMin {
			delete(g.costs, key)
		} else {
			g.costs[key] = c
		}
	}
}

// costliest takes out up to n pages that are worth an image, the costliest first.
func (g *imager) costliest(n int) []imageID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var worth []imageID
	for key, c := range g.costs {
		if c.applied >= imageCostMin {
			worth = append(worth, key)
		}
	}
	slices.SortFunc(worth, func(a, b imageID) int {
		return cmp.Or(cmp.Compare(g.costs[b].applied, g.costs[a].applied), a.pageID.compare(b.pageID))
	})
	return worth[:min(n, len(worth))]
}

// taken returns where a page was read, and forgets its cost.
func (g *imager) taken(key imageID) pos {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.costs[key].at
	delete(g.costs, key)
	return at
}

// run makes images until ctx is done, within the budget of bytes.
func (g *imager) run(ctx context.Context) {
	perTurn := float64(g.s.opts.ImageBytesPerSecond) * imageEvery.Seconds()
	tick := time.NewTicker(imageEvery)
	defer tick.Stop()
	budget := 0.0
	for turn := 1; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Unused budget is kept for a second, so that a burst of costly pages is met.
		budget = min(budget+perTurn, max(10*perTurn, 1<<16))
		n, err := g.makeImages(budget)
		budget -= float64(n)
		if err != nil && !errors.Is(err, logcore.ErrClosed) {
			g.s.log.Warn("pageserver: images could not be made in the background; tried again", "err", g.s.noteStoreError(err))
		}
		if turn%imageDecay == 0 {
			g.mu.Lock()
			g.decay()
			g.mu.Unlock()
		}
	}
}

// makeImages makes images of the costliest pages and returns the bytes written, at most
// one image more than budget.
//
// Readers that are open stay: what they read instead of an image is as right, and each
// reader opened anew begins with a look into every level. Those after this turn see all.
func (g *imager) makeImages(budget float64) (written int, err error) {
	const pagesMax = 256
	made := 0
	defer func() {
		if made > 0 {
			g.s.readers.renew()
			g.s.metrics.readImages.Add(float64(made))
		}
	}()
	for _, key := range g.costliest(pagesMax) {
		if float64(written) >= budget {
			break
		}
		n, err := g.makeImage(key)
		var damage *damagedPage
		if err != nil && !errors.As(err, &damage) && !isRedoError(err) {
			return written, err // who reads a damaged page heals it
		}
		if n > 0 {
			made++
		}
		written += n
	}
	return written, nil
}

func (g *imager) makeImage(key imageID) (int, error) {
	at := g.taken(key)
	g.s.storeMu.RLock()
	defer g.s.storeMu.RUnlock()
	if g.s.db == nil {
		return 0, logcore.ErrClosed
	}
	if key.generation != key.owner.generation || at == (pos{}) {
		return 0, nil // of a state that was thrown away
	}
	r := g.s.newReader()
	defer r.close()
	v, err := r.seek(key.owner, key.space, key.page, at)
	if err == nil && v.alive && v.at == at && v.last != at {
		// An image goes where a run ends: what comes of it behind an image would not be seen.
		at = v.last
		if key.owner.snapshot().ingested < at.lsn {
			return 0, nil
		}
		v, err = r.seek(key.owner, key.space, key.page, at)
	}
	if err != nil || !v.alive || v.at != at || v.header.kind == kindImage {
		return 0, err
	}
	p, err := r.pageOf(v, key.space, key.page)
	if err != nil {
		return 0, err
	}
	k := appendVersionKey(nil, key.owner.id, key.space, key.page, at)
	value := sealImage(k, p.data)
	if err := g.s.rewriteAt(appendVersionKey(nil, key.owner.id, key.space, key.page, v.first), k, value); err != nil {
		return 0, err
	}
	g.s.dirty.Store(true)
	return len(k) + len(value), nil
}
