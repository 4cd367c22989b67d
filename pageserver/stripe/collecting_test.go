package stripe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// striped is page servers that share pages while histories are collected.
type striped struct {
	*enginetest.Collecting
	t       *testing.T
	d       *decider
	family  *checkpoint.Family
	root    string
	keeper  pageserver.HistoryKeeper
	hosts   map[int]*running
	metrics map[int]*prometheus.Registry
	keys    float64 // collected, of the stores that were looked at before they ended
	did     map[string]int
	last    int
}

func newStriped(t *testing.T, seed uint64, e enginetest.Engine, keeper func(*enginetest.Source) pageserver.HistoryKeeper) *striped {
	c := enginetest.NewCollecting(t, seed, e)
	w := &striped{Collecting: c, t: t, d: &decider{reports: map[uint64]stripemap.Report{}}, root: t.TempDir(),
		family: enginetest.CheckpointFamily(t, bucket.NewFaults(mem.New())), keeper: keeper(c.Source),
		hosts: map[int]*running{}, metrics: map[int]*prometheus.Registry{}, did: map[string]int{}}
	c.Reader, c.Disturb = w.reader, w.disturb
	c.Append("db", 30)
	w.begin()
	w.begin()
	w.settle()
	return w
}

// begin starts another page server on an empty machine.
func (w *striped) begin() {
	w.last++
	w.start(w.last)
}

func (w *striped) start(i int) {
	w.t.Helper()
	w.metrics[i] = prometheus.NewRegistry()
	o := enginetest.CollectingOptions("", w.Source, w.keeper, w.Engine.Decoder)
	o.Registerer = w.metrics[i]
	o.CollectInterval = 60 * time.Millisecond // there are many stores, each with all of the logs: oftener is all they would do under the race detector
	w.hosts[i] = startHostOn(w.t, filepath.Join(w.root, fmt.Sprint(i)), fmt.Sprintf("h%d:1", i), w.d, w.family, o)
}

// end stops a page server; the log service notices.
func (w *striped) end(i int) {
	w.count(i)
	w.hosts[i].stop()
	w.d.lost(w.hosts[i].ID())
	delete(w.hosts, i)
}

// count adds up what a page server collected.
func (w *striped) count(i int) {
	families, err := w.metrics[i].Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "logcore_pageserver_collected_keys_total" {
			for _, m := range f.Metric {
				w.keys += m.GetCounter().GetValue()
			}
		}
	}
}

func (w *striped) settle() {
	w.t.Helper()
	var ids []uint64
	for _, h := range w.hosts {
		ids = append(ids, h.ID())
	}
	w.d.settled(w.t, ids...)
}

// reader asks the page servers in any order.
func (w *striped) reader() enginetest.Reader {
	var hosts []*running
	for _, h := range w.hosts {
		hosts = append(hosts, h)
	}
	w.Rng.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	return &reader{hosts: hosts}
}

// disturb lets page servers come, go, and come back, with their disks or without.
func (w *striped) disturb() {
	w.t.Helper()
	var ids []int
	for i := range w.hosts {
		ids = append(ids, i)
	}
	slices.Sort(ids)
	one := ids[w.Rng.IntN(len(ids))]
	what := []string{"comes", "is lost", "comes back", "comes back with an empty disk"}[w.Rng.IntN(4)]
	if len(ids) < 2 {
		what = "comes"
	} else if len(ids) == 3 && what == "comes" {
		what = "is lost"
	}
	w.did[what]++
	switch what {
	case "comes":
		w.begin()
		// It is read meanwhile: stripes move, and nobody notices.
		for range 5 {
			if err := w.CheckSome(); err != nil {
				w.t.Errorf("while stripes move: %v", err)
			}
		}
	case "is lost":
		w.end(one)
	case "comes back":
		w.end(one)
		w.Append("db", 5)
		w.start(one)
	default:
		w.end(one)
		w.settle()
		if err := os.RemoveAll(filepath.Join(w.root, fmt.Sprint(one))); err != nil {
			w.t.Fatal(err)
		}
		w.begin()
	}
	w.settle()
}

func honest(s *enginetest.Source) pageserver.HistoryKeeper { return s }

// TestStripedCollection: invariant I8 with all of it at once: pages are striped, stripes move
// and are lost, page servers begin cold from the checkpoints of others, and what nobody can
// read any more is collected everywhere meanwhile.
func TestStripedCollection(t *testing.T) {
	for name, e := range map[string]enginetest.Engine{"pages": enginetest.PagesEngine(), "synthetic": enginetest.SyntheticEngine()} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			w := newStriped(t, seed, e, honest)
			for n := 0; n == 0 || n < 20 && w.few(); n++ {
				if err := w.Run(30); err != nil {
					t.Fatalf("%v\npage servers: %v\n%s", err, w.did, w.state())
				}
				w.disturb()
			}
			for i := range w.hosts {
				w.count(i)
			}
			t.Logf("%d reads right, %d rightly refused, %d of what is kept, %v keys collected; page servers: %v", w.Compared, w.Refused, w.Pinned, w.keys, w.did)
			if w.few() || w.keys < 50 {
				t.Error("the run is void")
			}
		})
	}
}

// state says how every store has every log.
func (w *striped) state() string {
	var b strings.Builder
	for i, h := range w.hosts {
		for _, s := range h.view.Load().all {
			fmt.Fprintf(&b, "page server %d, store %d, %d stripes:\n", i, s.number, s.stripes().Len())
			all, err := s.server.Status("")
			for _, l := range all {
				fmt.Fprintf(&b, "  %s of %d at %d: ingested %d, %s %s, horizon %d\n", l.Log, l.Parent, l.BranchLSN, l.Ingested, l.State, l.Reason, l.Horizon)
			}
			if err != nil {
				fmt.Fprintln(&b, " ", err)
			}
		}
	}
	return b.String()
}

// few reports whether too little happened to say anything.
func (w *striped) few() bool { return w.Void() || len(w.did) < 3 }

// TestPlantedStripingBugs: the test above finds one page server of several that ignores
// leases, and one that says that it has what it does not.
func TestPlantedStripingBugs(t *testing.T) {
	t.Run("one ignores leases", func(t *testing.T) {
		w := newStriped(t, rand.Uint64(), enginetest.PagesEngine(), honest)
		w.keeper = forgetful{w.Source}
		w.begin()
		w.settle()
		w.found(t, func() {})
	})
	t.Run("one serves what it does not have", func(t *testing.T) {
		w := newStriped(t, rand.Uint64(), enginetest.PagesEngine(), honest)
		if err := w.CheckSome(); err != nil {
			t.Fatal(err)
		}
		all := stripemap.All
		w.found(t, func() { // again and again: the map says otherwise, and the page server heeds it
			for _, s := range w.hosts[1].view.Load().stores {
				s.set.Store(&all)
			}
		})
	})
}

// forgetful is a source that says nothing of leases.
type forgetful struct{ *enginetest.Source }

func (f forgetful) Histories(ctx context.Context) (pageserver.Histories, error) {
	h, err := f.Source.Histories(ctx)
	h.Leases = nil
	return h, err
}

// found runs with a planted bug until something is found, without further disturbance.
func (w *striped) found(t *testing.T, plant func()) {
	t.Helper()
	w.Disturb = func() {}
	for range 600 {
		plant()
		if err := w.Run(1); err != nil {
			t.Logf("found: %.200v", err)
			return
		}
	}
	t.Error("not found")
}
