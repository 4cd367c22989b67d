package stripe

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/enginetest"
	pgpages "github.com/logcore/logcore/engine/postgres/pages"
	"github.com/logcore/logcore/engine/postgres/pagestest"
	"github.com/logcore/logcore/engine/postgres/walsample"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/pageserver"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// sharing is Hosts that keep checkpoints in one bucket.
type sharing struct {
	t      *testing.T
	e      enginetest.Engine
	rng    *rand.Rand
	source *enginetest.Source
	d      *decider
	bucket *bucket.Faults
	root   string
	logs   []string
}

func newSharing(t *testing.T, e enginetest.Engine) *sharing {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := &sharing{t: t, e: e, rng: rand.New(rand.NewPCG(seed, 0)), source: enginetest.NewSource(1), d: &decider{reports: map[uint64]stripemap.Report{}}, bucket: bucket.NewFaults(mem.New()), root: t.TempDir()}
	w.source.Create("db")
	w.add(80)
	w.logs = []string{"db"}
	w.branch("db/branch", w.source.Last()/2)
	w.branch("db/end", w.source.Last())
	return w
}

func (w *sharing) branch(name string, at logcore.LSN) {
	if _, err := w.source.CreateBranch(w.t.Context(), "db", name, at); err != nil {
		w.t.Fatal(err)
	}
	w.logs = append(w.logs, name)
}

func (w *sharing) add(transactions int) {
	for _, tx := range w.e.History(w.rng, transactions) {
		w.source.AppendTx("db", tx)
	}
}

func (w *sharing) start(i int) *running {
	w.t.Helper()
	return startHostWith(w.t, filepath.Join(w.root, fmt.Sprint(i)), fmt.Sprintf("h%d:1", i), w.d, w.source, w.e.Decoder, enginetest.CheckpointFamily(w.t, w.bucket))
}

func (w *sharing) lastEntry() logcore.LSN {
	entries := w.source.Entries("db")
	return entries[len(entries)-1].LSN
}

// compare reads all of the log's pages at its end and at random LSNs.
func (w *sharing) compare(hosts ...*running) {
	w.t.Helper()
	total := 0
	for i, log := range append(w.logs, w.logs...) {
		at := w.source.Last()
		if i >= len(w.logs) {
			at = 1 + logcore.LSN(w.rng.Uint64N(uint64(at)))
		}
		r := &reader{hosts: hosts}
		n, err := enginetest.Compare(w.t.Context(), r, w.source, w.e.Decoder, log, at, enginetest.SpacesOf(w.t, w.source, w.e.Decoder, log))
		if err != nil {
			w.t.Fatal(err)
		}
		total += n
	}
	if total < 50 {
		w.t.Fatalf("%d pages compared: the run is void", total)
	}
}

// checkpoint lets a Host make checkpoints of everything there is.
func (w *sharing) checkpoint(h *running) []*logcorev1.StoreCheckpoint {
	w.t.Helper()
	for _, s := range h.view.Load().stores {
		if _, err := s.server.WaitLSN(w.t.Context(), "db", pageserver.ReadAt{LSN: w.source.Last(), Wait: time.Minute}); err != nil {
			w.t.Fatal(err)
		}
	}
	resp, err := h.Service().Checkpoint(w.t.Context(), &logcorev1.CheckpointRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.Stores
}

func (w *sharing) status(h *running) []*logcorev1.StoreCheckpoint {
	w.t.Helper()
	resp, err := h.Service().CheckpointStatus(w.t.Context(), &logcorev1.CheckpointStatusRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.Stores
}

// until waits for a condition.
func (w *sharing) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it never came to that: %s", what)
		}
	}
}

// postgresEngine is PostgreSQL's decoder with the log of a real server, in its order.
func postgresEngine(t *testing.T) enginetest.Engine {
	files, err := pagestest.FilesFor(walsample.Consistency)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := pagestest.Log(walsample.Consistency, files, rand.New(rand.NewPCG(7, 1)))
	if err != nil {
		t.Fatal(err)
	}
	first := max(len(entries)-120, 1) // the base backup is among them
	return enginetest.Engine{Decoder: pgpages.Decoder{}, History: func(_ *rand.Rand, n int) (out []enginetest.Transaction) {
		if n = min(n, len(entries)); first > 0 {
			n, first = min(max(n, first), len(entries)), 0
		}
		for _, e := range entries[:n] {
			out = append(out, enginetest.Transaction{Parts: e.Payloads})
		}
		entries = entries[n:]
		return out
	}}
}

// TestTakeoverFromCheckpoints: page servers take stripes over from one that lives, from one
// that is lost, and from several at once, out of their checkpoints: the log has nothing any
// more of what those hold. What was borrowed is given back.
func TestTakeoverFromCheckpoints(t *testing.T) {
	for name, engine := range map[string]func(*testing.T) enginetest.Engine{
		"pages":      func(*testing.T) enginetest.Engine { return enginetest.PagesEngine() },
		"synthetic":  func(*testing.T) enginetest.Engine { return enginetest.SyntheticEngine() },
		"postgresql": postgresEngine,
	} {
		t.Run(name, func(t *testing.T) {
			w := newSharing(t, engine(t))
			a := w.start(1)
			w.d.settled(t, a.ID())
			w.compare(a)
			if st := w.checkpoint(a); len(st) != 1 || st[0].Number == 0 || st[0].BeganFrom != 0 {
				t.Fatalf("the first one: %+v", st)
			}
			held := w.lastEntry()
			w.add(10)
			w.source.Trim("db", held-1)

			b := w.start(2)
			w.d.settled(t, a.ID(), b.ID())
			w.compare(a, b)
			if st := w.status(b); len(st) != 1 || st[0].BeganFrom == 0 || st[0].BeganIn == "" {
				t.Fatalf("a live one's stripes: %+v", st)
			}
			w.until("the second has a checkpoint of its own and gave back what it borrowed", func() bool {
				st := w.status(b)
				return st[0].Borrowed == "" && st[0].Epoch > 0
			})
			b.stop()
			b = w.start(2)
			w.d.settled(t, a.ID(), b.ID())
			w.compare(b, a)
			// Each has its half now, and the checkpoints are of those.
			w.until("the first has given up half", func() bool { return a.view.Load().stores[0].stripes().Len() == stripemap.Count/2 })
			w.checkpoint(a)
			w.checkpoint(b)
			w.source.Trim("db", w.lastEntry()-1)
			w.add(10)
			a.stop()
			b.stop()
			w.d.lost(a.ID())
			w.d.lost(b.ID())
			c := w.start(3)
			w.d.settled(t, c.ID())
			w.compare(c)
			began := map[string]bool{}
			for _, st := range w.status(c) {
				began[st.BeganIn] = true
			}
			if len(began) < 2 || began[""] {
				t.Errorf("it began from %v, want two others' checkpoints", began)
			}
		})
	}
}
