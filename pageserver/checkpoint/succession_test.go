package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// server is a page server reduced to its tables: what succession is about.
type server struct {
	w      *succession
	r      *Repository
	h      *Holder
	tables map[string][]byte
	known  map[string]Table
	next   int
	name   int
}

// succession is servers that take the checkpoints from each other in one bucket, and the
// clock they share.
type succession struct {
	bucket  *bucket.Faults
	clock   time.Time
	rand    *rand.Rand
	servers []*server
	collect func(*Holder, context.Context) (Collected, error)
	removed int
	done    map[string]int
}

const graceTested = time.Hour

func newSuccession(t *testing.T, seed uint64, servers int) *succession {
	w := &succession{bucket: bucket.NewFaults(mem.New()), clock: time.Unix(1_700_000_000, 0), rand: rand.New(rand.NewPCG(seed, 1)),
		collect: (*Holder).Collect, done: map[string]int{}}
	setNow(t, &w.clock)
	for i := range servers {
		w.servers = append(w.servers, &server{w: w, r: repository(t, w.bucket), tables: map[string][]byte{}, known: map[string]Table{}, name: i})
	}
	return w
}

// begin makes the server a new one on an empty machine: it has what the newest checkpoint
// has.
func (s *server) begin(ctx context.Context) error {
	s.h, s.tables, s.known = nil, map[string][]byte{}, map[string]Table{}
	m, err := s.r.Find(ctx, Wanted{StoreVersion: 1})
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range m.Tables {
		content, err := s.read(ctx, t)
		if err != nil {
			return fmt.Errorf("a new server can't read table %s of manifest %d: %w", t.Name, m.Number, err)
		}
		s.tables[t.Name], s.known[t.Name] = content, t
	}
	return nil
}

// read fetches a table.
func (s *server) read(ctx context.Context, t Table) ([]byte, error) {
	c, err := newBlockCipher(ctx, s.r.o.Keys, s.r.o.Cluster, t)
	if err != nil {
		return nil, err
	}
	off, n := t.stored(0)
	stored, err := s.r.o.Bucket.Get(ctx, s.r.tableKey(t), off, n)
	if err != nil {
		return nil, err
	}
	return c.open(nil, t.Name, 0, stored)
}

// step does one thing.
func (s *server) step(ctx context.Context) error {
	w := s.w
	var err error
	what := []string{"begin", "take", "write", "write", "compact", "save", "save", "collect", "wait"}[w.rand.IntN(9)]
	switch what {
	case "begin":
		if w.rand.IntN(3) > 0 {
			return nil
		}
		err = s.begin(ctx)
	case "take":
		if s.h == nil || w.rand.IntN(4) == 0 {
			s.h, err = s.r.Take(ctx)
		}
	case "write":
		s.next++
		name := fmt.Sprintf("%d-%06d.sst", s.name, s.next)
		s.tables[name] = fmt.Appendf(nil, "content %d", w.rand.IntN(1000))
	case "compact":
		for _, name := range slices.Sorted(maps.Keys(s.tables)) {
			if w.rand.IntN(3) == 0 {
				delete(s.tables, name)
			}
		}
	case "save":
		err = s.save(ctx)
	case "collect":
		if s.h != nil {
			var c Collected
			c, err = w.collect(s.h, ctx)
			w.removed += c.Tables
		}
	case "wait":
		w.clock = w.clock.Add(time.Duration(w.rand.IntN(40)) * time.Minute)
	}
	if errors.Is(err, logcore.ErrFenced) {
		w.done["fenced"]++
		if s.h = nil; w.rand.IntN(3) == 0 {
			return s.begin(ctx)
		}
		return nil
	}
	w.done[what]++
	return err
}

func (s *server) save(ctx context.Context) error {
	if s.h == nil {
		return nil
	}
	fs := vfs.NewMem()
	for name, content := range s.tables {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(bytes.Clone(content))
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	m, err := s.h.Save(ctx, Content{StoreVersion: 1, Logs: []Log{{ID: 1, Name: "db"}}, Dir: "", FS: fs, Known: s.known})
	if err != nil {
		return err
	}
	s.known = map[string]Table{}
	for _, t := range m.Tables {
		s.known[t.Name] = t
	}
	return nil
}

// check reads every table of every manifest that a page server may be using: the newest,
// and those that were followed less than the grace period ago.
func (w *succession) check(ctx context.Context) error {
	s := w.servers[0]
	number, err := s.r.head(ctx)
	if err != nil {
		return err
	}
	for n, followed := number, w.clock; n > 0 && followed.After(w.clock.Add(-graceTested)); n-- {
		m, err := s.r.load(ctx, n)
		if err != nil {
			return fmt.Errorf("manifest %d of %d: %w", n, number, err)
		}
		for _, t := range m.Tables {
			if _, err := s.read(ctx, t); err != nil {
				return fmt.Errorf("table %s of manifest %d of %d: %w", t.Name, n, number, err)
			}
		}
		followed = m.Created
	}
	return nil
}

// run plays steps; while a server removes objects the others may act too.
func (w *succession) run(t *testing.T, steps int) error {
	ctx, inside := t.Context(), false
	w.bucket.Add(bucket.Fault{Op: bucket.OpDelete, Effect: bucket.Effect{Before: func(ctx context.Context, _ bucket.Call) error {
		if inside || w.rand.IntN(3) > 0 {
			return nil
		}
		inside = true
		defer func() { inside = false }()
		for range 1 + w.rand.IntN(6) {
			if err := w.servers[w.rand.IntN(len(w.servers))].step(ctx); err != nil {
				return err
			}
		}
		return w.check(ctx)
	}}})
	for range steps {
		if err := w.servers[w.rand.IntN(len(w.servers))].step(ctx); err != nil {
			return err
		}
		if err := w.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// TestSuccession: servers that replace each other, live on beside each other and remove
// what they think is not needed never take a table from one that may need it.
func TestSuccession(t *testing.T) {
	seeds, steps := uint64(60), 200
	removed, done := 0, map[string]int{}
	for seed := range seeds {
		w := newSuccession(t, seed, 2+int(seed%2))
		if err := w.run(t, steps); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		removed += w.removed
		for what, n := range w.done {
			done[what] += n
		}
	}
	t.Logf("%d tables removed, %v", removed, done)
	if removed < 300 || done["fenced"] < 100 || done["save"] < 300 {
		t.Errorf("too little happened: %d tables removed, %v", removed, done)
	}
}

// TestSuccessionFindsPlantedBugs: each of the ways in which collection could be wrong is
// found by the very run that the right one passes.
func TestSuccessionFindsPlantedBugs(t *testing.T) {
	remove := func(h *Holder, ctx context.Context, v *view, epoch uint64, before time.Time) (c Collected, err error) {
		for _, o := range planCollection(v, epoch, before) {
			if err := h.r.o.Bucket.Delete(ctx, o.key); err != nil {
				return c, err
			}
		}
		return c, nil
	}
	for name, collect := range map[string]func(*Holder, context.Context) (Collected, error){
		"it does not read the newest manifest again": func(h *Holder, ctx context.Context) (Collected, error) {
			v, err := h.survey(ctx) // from its own last manifest down
			if err != nil {
				return Collected{}, err
			}
			return remove(h, ctx, v, ^uint64(0), now().Add(-graceTested))
		},
		"it knows no grace": func(h *Holder, ctx context.Context) (Collected, error) {
			if err := h.confirm(ctx); err != nil {
				return Collected{}, err
			}
			v, err := h.survey(ctx)
			if err != nil {
				return Collected{}, err
			}
			return remove(h, ctx, v, h.epoch, now().Add(time.Hour))
		},
		"it looks at the newest manifest only": func(h *Holder, ctx context.Context) (Collected, error) {
			if err := h.confirm(ctx); err != nil {
				return Collected{}, err
			}
			v, err := h.survey(ctx)
			if err != nil {
				return Collected{}, err
			}
			v.manifests = v.manifests[:1]
			return remove(h, ctx, v, h.epoch, now().Add(-graceTested))
		},
		"it removes tables of higher epochs": func(h *Holder, ctx context.Context) (Collected, error) {
			if err := h.confirm(ctx); err != nil {
				return Collected{}, err
			}
			v, err := h.survey(ctx)
			if err != nil {
				return Collected{}, err
			}
			plan := planCollection(v, ^uint64(0), now().Add(-graceTested))
			// Slow enough that a successor has taken over and stored a table meanwhile.
			for _, o := range plan {
				if err := h.r.o.Bucket.Delete(ctx, o.key); err != nil {
					return Collected{}, err
				}
			}
			again, err := h.survey(ctx)
			if err != nil {
				return Collected{}, err
			}
			return remove(h, ctx, again, ^uint64(0), now().Add(-graceTested))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				w := newSuccession(t, seed, 2+int(seed%2))
				w.collect = collect
				if err := w.run(t, 150); err != nil {
					t.Logf("found by seed %d: %v", seed, err)
					return
				}
			}
			t.Error("60 runs did not find it")
		})
	}
}

// TestTwoCommitsOfOneNumber: where a conditional put is not conditional, the one whose
// manifest was replaced finds out before it does anything else.
func TestTwoCommitsOfOneNumber(t *testing.T) {
	w := newSuccession(t, 1, 2)
	a, b := w.servers[0], w.servers[1]
	ctx := t.Context()
	var err error
	if a.h, err = a.r.Take(ctx); err != nil {
		t.Fatal(err)
	}
	a.tables["000001.sst"] = []byte("one")
	if err := a.save(ctx); err != nil {
		t.Fatal(err)
	}
	// b takes the epoch over a's next manifest, which the bucket lets it replace.
	stale := *a.h
	if err := a.save(ctx); err != nil {
		t.Fatal(err)
	}
	key := a.r.manifestKey(a.h.last.Number)
	if err := w.bucket.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	b.h = &Holder{r: b.r, epoch: stale.last.Number + 1}
	m := stale.last.next()
	m.Number, m.Epoch = b.h.epoch, b.h.epoch
	if err := b.h.put(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := a.save(ctx); !isFenced(err) {
		t.Errorf("the one whose manifest was replaced saved: %v", err)
	}
	if _, err := a.h.Collect(ctx); !isFenced(err) {
		t.Errorf("the one whose manifest was replaced collected: %v", err)
	}
	if err := w.check(ctx); err != nil {
		t.Error(err)
	}
}
