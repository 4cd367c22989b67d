package pageserver_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/pageserver"
)

// retention is a page server that collects, beside a source that keeps everything.
type retention struct {
	rig    *rig
	engine enginetest.Engine
	rng    *rand.Rand
	server *pageserver.Server
	stop   func(crash bool)
	logs   []string
	kept   []kept // leases and holds
	keys   float64
	// compared and refused count reads that were right, and rightly refused.
	compared, refused, pinned int
}

// kept is an LSN that must be readable.
type kept struct {
	id   int
	log  string
	at   logcore.LSN
	hold bool
}

func newRetention(t *testing.T, seed uint64, e enginetest.Engine, keeper func(*enginetest.Source) pageserver.HistoryKeeper) *retention {
	t.Helper()
	r := &retention{rig: &rig{t: t, source: enginetest.NewSource(1)}, engine: e, rng: rand.New(rand.NewPCG(seed, 1)), logs: []string{"db"}}
	r.rig.source.Create("db")
	r.rig.source.SetWindow("db", 5*time.Millisecond, 0)
	r.rig.opts = enginetest.Options(t.TempDir(), r.rig.source, e.Decoder)
	r.rig.opts.Keeper = keeper(r.rig.source)
	r.rig.opts.CollectInterval, r.rig.opts.CollectBytesPerSecond = 3*time.Millisecond, 1<<40
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

// step does something to the logs.
func (r *retention) step() {
	source, log := r.rig.source, r.logs[r.rng.IntN(len(r.logs))]
	at := 1 + logcore.LSN(r.rng.Uint64N(uint64(source.Last())))
	switch n := r.rng.IntN(100); {
	case n < 50:
		for _, tx := range r.engine.History(r.rng, 1+r.rng.IntN(8)) {
			source.AppendTx(log, tx)
		}
	case n < 60 && len(r.logs) < 12:
		if name := fmt.Sprintf("branch-%d", source.Last()); source.Readable(log, at) {
			if _, err := source.CreateBranch(context.Background(), log, name, at); err == nil {
				r.logs = append(r.logs, name)
			}
		}
	case n < 65 && len(r.logs) > 4:
		if i := 1 + r.rng.IntN(len(r.logs)-1); source.DeleteBranch(r.logs[i]) {
			r.logs = append(r.logs[:i], r.logs[i+1:]...)
		}
	case n < 75:
		if id, ok := source.Lease(log, at); ok {
			r.kept = append(r.kept, kept{id, log, at, false})
		}
	case n < 78:
		if id, ok := source.Hold(log, at); ok {
			r.kept = append(r.kept, kept{id, log, at, true})
		}
	case n < 86 && len(r.kept) > 0:
		i := r.rng.IntN(len(r.kept))
		source.Release(r.kept[i].id)
		r.kept = append(r.kept[:i], r.kept[i+1:]...)
	case n < 95:
		window, bytes := time.Duration(r.rng.IntN(12))*time.Millisecond, uint64(r.rng.IntN(4<<10))
		if n := r.rng.IntN(3); n == 0 {
			window = 0
		} else if n == 1 {
			bytes = 0
		}
		source.SetWindow(log, window, bytes)
	case n < 98:
		source.CloseWriter(log)
	default:
		r.stop(r.rng.IntN(2) == 0)
		r.start()
	}
}

// check reads a log at an LSN: what comes is right, or refused because it may be.
func (r *retention) check(log string, at logcore.LSN) error {
	source := r.rig.source
	spaces := enginetest.SpacesOf(r.rig.t, source, r.engine.Decoder, log)
	if len(spaces) == 0 {
		spaces = []engine.Space{engine.SpaceOf(1)}
	}
	_, err := enginetest.Compare(r.rig.t.Context(), r.server, source, r.engine.Decoder, log, at, spaces)
	switch {
	case err == nil:
		r.compared++
		return nil
	case errors.Is(err, logcore.ErrTrimmed) && !source.Readable(log, at):
		r.refused++
		return nil
	}
	return fmt.Errorf("log %s at LSN %d (readable: %v, horizon %d): %w", log, at, source.Readable(log, at), source.Horizon(log), err)
}

// run does steps and checks after each, at random places and at every one that is kept.
func (r *retention) run(steps int) error {
	for range steps {
		r.step()
		for i := range 2 {
			log, from := r.logs[r.rng.IntN(len(r.logs))], logcore.LSN(1)
			if i == 0 { // one that can be read, as far as is known
				from = max(from, r.rig.source.Horizon(log))
			}
			if err := r.check(log, from+logcore.LSN(r.rng.Uint64N(uint64(r.rig.source.Last()-from)+1))); err != nil {
				return err
			}
		}
		if len(r.kept) > 0 {
			k := r.kept[r.rng.IntN(len(r.kept))]
			if k.hold && r.rng.IntN(2) == 0 {
				k.at += logcore.LSN(r.rng.Uint64N(uint64(r.rig.source.Last()-k.at) + 1))
			}
			if err := r.check(k.log, k.at); err != nil {
				return err
			}
			r.pinned++
		}
	}
	return nil
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
			void := func() bool { return r.compared < 100 || r.refused < 20 || r.pinned < 5 }
			for n := 0; n == 0 || n < 5 && void(); n++ { // a machine under load sees fewer
				if err := r.run(150); err != nil {
					t.Fatal(err)
				}
			}
			r.stop(false)
			t.Logf("%d reads right, %d rightly refused, %d of what is kept; %v keys collected", r.compared, r.refused, r.pinned, r.keys)
			if void() || r.keys < 200 {
				t.Error("the run is void")
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
				if err := r.run(150); err != nil {
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
	void := func() bool { return r.compared < 100 || r.refused < 20 || r.pinned < 5 }
	for n := 0; n == 0 || n < 5 && void(); n++ {
		if err := r.run(150); err != nil {
			t.Fatal(err)
		}
	}
	r.stop(false)
	if void() || r.keys < 100 {
		t.Errorf("the run is void: %d reads right, %d rightly refused, %d of what is kept; %v keys collected", r.compared, r.refused, r.pinned, r.keys)
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
	write := func() {
		for _, tx := range r.engine.History(r.rng, 20) {
			source.AppendTx("db", tx)
		}
	}
	write()
	if _, err := source.CreateBranch(t.Context(), "db", "branch", source.Last()); err != nil {
		t.Fatal(err)
	}
	write()
	if err := r.check("branch", source.Last()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); r.rig.metric("collected_keys_total") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was collected")
		}
		write()
	}
	if err := r.check("branch", source.Last()); err != nil {
		t.Fatal(err)
	}
}
