package pageserver_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// wait is how long a test waits for what must come: under the race detector Pebble records a stack for every
// iterator, and an ingest that takes a second takes a minute on a loaded machine.
const wait = 2 * time.Minute

// rig is a page server over a source with a random history.
type rig struct {
	t           *testing.T
	rng         *rand.Rand
	source      *enginetest.Source
	opts        pageserver.Options
	corruptions prometheus.Counter
	registry    *prometheus.Registry
	spaces      []engine.Space
}

func newRig(t *testing.T, transactions int) *rig {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := &rig{t: t, rng: rand.New(rand.NewPCG(seed, 0)), source: enginetest.NewSource(1)}
	r.source.Create("db")
	r.append("db", transactions)
	r.spaces = enginetest.SpacesOf(t, r.source, pages.Decoder{}, "db")
	r.opts = enginetest.Options(t.TempDir(), r.source, pages.Decoder{})
	return r
}

func (r *rig) append(log string, transactions int) {
	for _, tx := range enginetest.PagesHistory(r.rng, transactions) {
		r.source.AppendTx(log, tx)
	}
}

func (r *rig) start() *enginetest.Subject {
	r.corruptions = prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})
	r.registry = prometheus.NewRegistry()
	r.opts.Corruptions, r.opts.Registerer = r.corruptions, r.registry
	return enginetest.Start(r.t, r.opts)
}

// compare compares at the last LSN and at some random ones.
func (r *rig) compare(s *enginetest.Subject, log string, rounds int) {
	r.t.Helper()
	for i := range rounds {
		at := r.source.Last()
		if i > 0 {
			at = 1 + logcore.LSN(r.rng.Uint64N(uint64(at)))
		}
		if _, err := enginetest.Compare(r.t.Context(), s.Server, r.source, pages.Decoder{}, log, at, r.spaces); err != nil {
			all, statusErr := s.Status(log)
			r.t.Fatalf("%v\nstatus: %+v, %v", err, all, statusErr)
		}
	}
}

// metric returns the sum over the labels of a counter.
func (r *rig) metric(name string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "logcore_pageserver_"+name {
			sum := 0.0
			for _, m := range f.Metric {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
			return sum
		}
	}
	r.t.Fatalf("no metric %s", name)
	return 0
}

// TestBadSource: whatever a source that repeats, leaves out and turns back does, the
// pages are those of the log (F17).
func TestBadSource(t *testing.T) {
	r := newRig(t, 250)
	r.source.BatchEntries = 3
	last := r.source.Last()
	mangler := rand.New(rand.NewPCG(r.rng.Uint64(), 0))
	var previous pageserver.Batch
	r.source.Mangle = func(_ string, b pageserver.Batch) []pageserver.Batch {
		defer func() { previous = b }()
		switch {
		case len(b.Entries) == 0:
			return []pageserver.Batch{b}
		case mangler.IntN(12) == 0: // the same batch twice
			return []pageserver.Batch{b, b}
		case mangler.IntN(12) == 0: // an older one again
			return []pageserver.Batch{b, previous}
		case b.Through < last && mangler.IntN(12) == 0: // entries missing; the last one of all would leave no trace
			i := mangler.IntN(len(b.Entries))
			b.Entries = slices.Delete(slices.Clone(b.Entries), i, i+1)
			if len(b.Entries) == 0 {
				b.Through = 0
			}
			return []pageserver.Batch{b, {Entries: b.Entries, Through: b.Through}}
		case mangler.IntN(12) == 0: // turned round
			b.Entries = slices.Clone(b.Entries)
			slices.Reverse(b.Entries)
			return []pageserver.Batch{b}
		}
		return []pageserver.Batch{b}
	}
	s := r.start()
	r.compare(s, "db", 60)
	if n := r.metric("source_violations_total"); n < 5 {
		t.Errorf("%v violations counted: the run is void", n)
	}
}

// TestFlippedFiles: with a bit flipped anywhere in the store's files, no wrong page is
// served: the store is found damaged and built again (F6).
func TestFlippedFiles(t *testing.T) {
	r := newRig(t, 250)
	s := r.start()
	r.compare(s, "db", 1)
	s.Stop(t)
	files := storeFiles(t, r.opts.Dir)
	detected := 0
	const flips = 40
	for i := range flips {
		file := files[i%len(files)]
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(r.opts.Dir)); err != nil {
			t.Fatal(err)
		}
		flipBit(t, filepath.Join(dir, file), r.rng)
		again := &rig{t: t, rng: r.rng, source: r.source, spaces: r.spaces, opts: r.opts}
		again.opts.Dir = dir
		s := again.start()
		again.compare(s, "db", 4)
		s.Stop(t)
		if value(again.corruptions) > 0 {
			detected++
		}
	}
	t.Logf("%d of %d flips in %d files counted as damage; the others hit bytes that nothing needed", detected, flips, len(files))
	if detected < flips/4 {
		t.Errorf("only %d of %d flips were counted", detected, flips)
	}
}

// storeFiles lists the files that hold the store, relative to its directory.
func storeFiles(t *testing.T, dir string) []string {
	var files []string
	for _, pattern := range []string{"store/*.sst", "store/MANIFEST*", "store/OPTIONS*", "store/*.log", "store/marker*", "FORMAT"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if info, err := os.Stat(f); err == nil && info.Size() > 0 {
				rel, _ := filepath.Rel(dir, f)
				files = append(files, rel)
			}
		}
	}
	if len(files) < 3 {
		t.Fatalf("only %v: the run is void", files)
	}
	return files
}

func flipBit(t *testing.T, file string, rng *rand.Rand) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestHealedPages: versions whose own checksum fails are rebuilt from the log.
func TestHealedPages(t *testing.T) {
	for name, damage := range map[string]func(*pageserver.Server, string, engine.Space, uint32) (int, error){
		"flipped": pageserver.CorruptVersions, "missing": pageserver.DropVersion,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 200)
			s := r.start()
			if _, _, err := s.CreateBranch(t.Context(), "db", "fork", pageserver.ReadAt{LSN: r.source.Last() / 2}); err != nil {
				t.Fatal(err)
			}
			r.append("fork", 60)
			for _, log := range []string{"db", "fork"} { // a chain that ends in deltas
				fresh := engine.Record{Space: engine.SpaceOf(0), Op: engine.OpImage, PageSize: 256, Data: make([]byte, 256)}
				appendRecords(t, r.source, log, fresh)
				for offset := range uint32(3) {
					appendRecords(t, r.source, log, engine.Record{Space: engine.SpaceOf(0), Op: engine.OpDelta, PageSize: 256, Ranges: []engine.Range{{Offset: 9 * offset, Data: []byte("delta")}}})
				}
			}
			r.compare(s, "db", 1)
			r.compare(s, "fork", 1)
			for _, log := range []string{"db", "fork"} {
				if n, err := damage(s.Server, log, engine.SpaceOf(0), 0); err != nil || n < 3 {
					t.Fatalf("%d versions, %v: the run is void", n, err)
				}
			}
			at := r.source.Last()
			for _, log := range []string{"fork", "db"} {
				if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, log, at, r.spaces); err != nil {
					t.Fatal(err)
				}
			}
			if healed := r.metric("healed_pages_total"); healed < 1 || healed > value(r.corruptions) {
				t.Errorf("%v pages healed, %v corruptions counted", healed, value(r.corruptions))
			}
			if n := r.metric("store_rebuilds_total"); n != 0 {
				t.Errorf("%v rebuilds of the store for single pages", n)
			}
		})
	}
}

// TestDamagedIndex: damage that no single page explains has the store built again.
func TestDamagedIndex(t *testing.T) {
	r := newRig(t, 100)
	s := r.start()
	r.compare(s, "db", 1)
	if n, err := pageserver.CorruptSizes(s.Server, "db", r.spaces[0]); err != nil || n == 0 {
		t.Fatalf("%d sizes, %v", n, err)
	}
	r.compare(s, "db", 10)
	if n := r.metric("store_rebuilds_total"); n != 1 || value(r.corruptions) != 1 {
		t.Errorf("%v rebuilds, %v corruptions, want one of each", n, value(r.corruptions))
	}
	if _, err := os.Stat(filepath.Join(r.opts.Dir, "store.damaged")); err != nil {
		t.Errorf("the damaged store was not put aside: %v", err)
	}
}

// TestUnhealable: a damaged page whose log is gone is refused, never served.
func TestUnhealable(t *testing.T) {
	r := newRig(t, 60)
	s := r.start()
	r.compare(s, "db", 1)
	if n, err := pageserver.CorruptVersions(s.Server, "db", engine.SpaceOf(0), 0); err != nil || n == 0 {
		t.Fatalf("%d versions, %v", n, err)
	}
	r.source.Trim("db", r.source.Last())
	_, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{LSN: lastWith(t, r, engine.SpaceOf(0), 0), Wait: wait})
	requireCorrupt(t, err)
	if value(r.corruptions) == 0 {
		t.Error("not counted")
	}
}

// value reads a counter.
func value(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}
