package pageserver_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/pageserver"
)

// retention is a page server that collects, beside a source that keeps everything.
type retention struct {
	*enginetest.Collecting
	rig    *rig
	server *pageserver.Server
	stop   func(crash bool)
	keys   float64
}

func newRetention(t *testing.T, seed uint64, e enginetest.Engine, keeper func(*enginetest.Source) pageserver.HistoryKeeper) *retention {
	t.Helper()
	c := enginetest.NewCollecting(t, seed, e)
	r := &retention{Collecting: c, rig: &rig{t: t, source: c.Source}}
	r.rig.opts = enginetest.CollectingOptions(t.TempDir(), c.Source, keeper(c.Source), e.Decoder)
	c.Reader = func() enginetest.Reader { return r.server }
	c.Disturb = func() {
		r.stop(c.Rng.IntN(2) == 0)
		r.start()
	}
	r.start()
	t.Cleanup(func() { r.stop(false) })
	return r
}

func (r *retention) start() {
	t := r.rig.t
	r.rig.registry, r.rig.corruptions = prometheus.NewRegistry(), prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})
	r.rig.opts.Registerer, r.rig.opts.Corruptions = r.rig.registry, r.rig.corruptions
	s, err := pageserver.Open(r.rig.opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.server = s
	r.stop = func(crash bool) {
		r.stop = func(bool) {} // also when this one fails
		cancel()
		if err := patience.Receive(t, "the page server stops", done); err != nil {
			t.Error(err)
		}
		r.keys += r.rig.metric("collected_keys_total")
		// A page that lacks what it builds on is built again from the log, which would hide it.
		if n := r.rig.metric("healed_pages_total"); n != 0 || value(r.rig.corruptions) != 0 {
			t.Errorf("%v pages built again, %v corruptions", n, value(r.rig.corruptions))
		}
		if crash {
			// What was not flushed is lost: the files as they are now.
			dir := t.TempDir()
			err := os.CopyFS(dir, os.DirFS(r.rig.opts.Dir))
			for n := 0; errors.Is(err, fs.ErrNotExist) && n < 20; n++ { // a compaction took a file away meanwhile
				dir = t.TempDir()
				err = os.CopyFS(dir, os.DirFS(r.rig.opts.Dir))
			}
			if err != nil {
				t.Fatal(err)
			}
			r.rig.opts.Dir = dir
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func honest(s *enginetest.Source) pageserver.HistoryKeeper { return s }

// TestCollectionAgainstKeepingEverything: whatever happens to logs, branches, leases, holds
// and windows, what can be read is what replaying the log gives, and what can't is refused.
func TestCollectionAgainstKeepingEverything(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for name, e := range map[string]enginetest.Engine{"pages": enginetest.PagesEngine(), "synthetic": enginetest.SyntheticEngine()} {
		t.Run(name, func(t *testing.T) {
			r := newRetention(t, seed, e, honest)
			if err := r.RunEnough(150); err != nil {
				t.Fatal(err)
			}
			r.stop(false)
			if r.keys < 200 {
				t.Errorf("%v keys collected: the run is void", r.keys)
			}
		})
	}
}

// liar is a source that leaves something out of what it says of histories: as if the page
// server did not heed it.
type liar struct {
	*enginetest.Source
	lie func(*pageserver.Histories)
}

func (l liar) Histories(ctx context.Context) (pageserver.Histories, error) {
	h, err := l.Source.Histories(ctx)
	l.lie(&h)
	return h, err
}

// TestPlantedRetentionBugs: the test above finds a page server that ignores leases, or those on
// branches, or is off by one where the window begins.
func TestPlantedRetentionBugs(t *testing.T) {
	for name, lie := range map[string]func(*pageserver.Histories){
		"ignores leases": func(h *pageserver.Histories) { h.Leases = nil },
		"ignores leases on branches": func(h *pageserver.Histories) {
			branches := map[logcore.LogID]bool{}
			for _, l := range h.Logs {
				branches[l.ID] = l.Parent != 0
			}
			h.Leases = slices.DeleteFunc(h.Leases, func(l pageserver.LeasedLSN) bool { return branches[l.Log] })
		},
		"off by one": func(h *pageserver.Histories) {
			for i := range h.Logs {
				if h.Logs[i].Horizon > 0 {
					h.Logs[i].Horizon++
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 8 {
				r := newRetention(t, rand.Uint64(), enginetest.PagesEngine(), func(s *enginetest.Source) pageserver.HistoryKeeper { return liar{s, lie} })
				if err := r.Run(150); err != nil {
					t.Logf("found: %v", err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// laggard is a source whose answers about histories are now and then older than those before, as those of a log service
// are whose members take turns and lag.
type laggard struct {
	*enginetest.Source
	mu   sync.Mutex
	rng  *rand.Rand             // guarded by mu
	past []pageserver.Histories // guarded by mu
}

func (l *laggard) Histories(ctx context.Context) (pageserver.Histories, error) {
	h, err := l.Source.Histories(ctx)
	if err != nil {
		return h, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.past = append(l.past, h); len(l.past) > 20 {
		l.past = l.past[1:]
	}
	return l.past[l.rng.IntN(len(l.past))], nil
}

// TestOldAnswersGiveNothingBack: what was collected is not called readable again because of an old answer.
func TestOldAnswersGiveNothingBack(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := newRetention(t, seed, enginetest.PagesEngine(), func(s *enginetest.Source) pageserver.HistoryKeeper {
		return &laggard{Source: s, rng: rand.New(rand.NewPCG(seed, 2))}
	})
	if err := r.RunEnough(150); err != nil {
		t.Fatal(err)
	}
	r.stop(false)
	if r.keys < 100 {
		t.Errorf("%v keys collected: the run is void", r.keys)
	}
}

// between is a source whose every other answer about histories is that of a member that has not seen yet where the logs moved:
// their leases are over there, and it says of no log which incarnation's it is.
type between struct {
	*enginetest.Source
	asked atomic.Uint64
}

func (b *between) Histories(ctx context.Context) (pageserver.Histories, error) {
	h, err := b.Source.Histories(ctx)
	if b.asked.Add(1)%2 == 0 {
		h.Leases = nil
		for i := range h.Logs {
			h.Logs[i].Incarnation = 0
		}
	}
	return h, err
}

// TestLogsBetweenShardsLoseNothing: a lease is not taken to be over because of a member that does not know where its log is.
func TestLogsBetweenShardsLoseNothing(t *testing.T) {
	r := newRetention(t, rand.Uint64(), enginetest.PagesEngine(), func(s *enginetest.Source) pageserver.HistoryKeeper { return &between{Source: s} })
	if err := r.RunEnough(150); err != nil {
		t.Fatal(err)
	}
	r.stop(false)
	if r.keys < 100 {
		t.Errorf("%v keys collected: the run is void", r.keys)
	}
}

// TestDeletedBranchKeepsItsFork: a branch that the log service has deleted is right for as long as the page server does not
// know that and shows it.
func TestDeletedBranchKeepsItsFork(t *testing.T) {
	r := newRetention(t, rand.Uint64(), enginetest.PagesEngine(), func(s *enginetest.Source) pageserver.HistoryKeeper {
		return liar{s, func(h *pageserver.Histories) {
			h.Logs = slices.DeleteFunc(h.Logs, func(l pageserver.History) bool { return l.Parent != 0 })
		}}
	})
	source := r.rig.source
	write := func() { r.Append("db", 20) }
	write()
	if _, err := source.CreateBranch(t.Context(), "db", "branch", source.Last()); err != nil {
		t.Fatal(err)
	}
	write()
	if err := r.Check("branch", source.Last()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); r.rig.metric("collected_keys_total") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was collected")
		}
		write()
	}
	if err := r.Check("branch", source.Last()); err != nil {
		t.Fatal(err)
	}
}
