package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// sharer is a page server of a family, reduced to its tables: its own, in the chain of its
// store, and those that it borrowed and has not fetched yet. Two of them may believe that a
// store is theirs: the one that lost it acts on.
type sharer struct {
	*server
	store   int
	lender  string
	number  uint64 // of the manifest that was lent
	pending map[string]Table
	renewed time.Time
	cached  *Manifest // of a lender, read some time ago
	busy    bool      // in the middle of a step: it takes no other
}

// lending is sharers that begin from each other's checkpoints in one bucket.
type lending struct {
	*succession
	sharers []*sharer
	borrow  func(s *sharer, ctx context.Context, from string) (*Manifest, error)
	take    func(*Repository, context.Context) (*Holder, error)
	unlent  bool // there are no loans to renew
}

const lendTested = 4 * time.Hour

var wantedTested = Wanted{StoreVersion: 1, Stripes: stripemap.Set{}.With(3)}

func newLending(t *testing.T, seed uint64, stores int) *lending {
	w := &lending{succession: &succession{bucket: bucket.NewFaults(mem.New()), clock: time.Unix(1_700_000_000, 0), rand: rand.New(rand.NewPCG(seed, 2)),
		collect: (*Holder).Collect, done: map[string]int{}}, take: (*Repository).Take}
	w.borrow = func(s *sharer, ctx context.Context, from string) (*Manifest, error) {
		return s.r.Borrow(ctx, from, wantedTested)
	}
	setNow(t, &w.clock)
	f, err := NewFamily(Options{Bucket: w.bucket, Cluster: [16]byte{1, 2, 3}, Name: "main", Keys: testKeys{7}, Lend: lendTested, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * stores {
		r, err := f.Member(uint64(1+i/2), 1)
		if err != nil {
			t.Fatal(err)
		}
		s := &sharer{server: &server{w: w.succession, r: r, tables: map[string][]byte{}, known: map[string]Table{}, name: i}, store: i / 2}
		w.sharers, w.servers = append(w.sharers, s), append(w.servers, s.server)
	}
	return w
}

// begin makes the sharer one on an empty machine, which takes stripes over from another's
// store.
func (s *sharer) begin(ctx context.Context, w *lending) error {
	other := w.sharers[w.rand.IntN(len(w.sharers))]
	if other.store == s.store {
		return nil
	}
	m, err := w.borrow(s, ctx, other.r.Name())
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	s.h, s.tables, s.known, s.pending, s.lender, s.number, s.renewed = nil, map[string][]byte{}, map[string]Table{}, map[string]Table{}, m.Name, m.Number, w.clock
	for _, t := range m.Tables {
		s.pending[t.Name] = t
	}
	w.done["borrowed"]++
	return nil
}

// fetch brings one table of what was borrowed.
func (s *sharer) fetch(ctx context.Context) error {
	if len(s.pending) == 0 {
		return nil
	}
	name := slices.Min(slices.Collect(maps.Keys(s.pending)))
	content, err := s.read(ctx, s.pending[name])
	if err != nil {
		return fmt.Errorf("store %d can't fetch table %s of %s: %w", s.store, name, s.lender, err)
	}
	s.tables[name] = content
	delete(s.pending, name)
	return nil
}

// keep renews the loan in time.
func (s *sharer) keep(ctx context.Context, w *lending) error {
	if s.lender == "" || w.unlent || w.clock.Sub(s.renewed) < lendTested/4 {
		return nil
	}
	was := s.busy
	s.busy = true
	defer func() { s.busy = was }()
	err := s.r.Renew(ctx, s.lender, s.number)
	if err == nil {
		s.renewed = w.clock
		w.done["renewed"]++
	}
	return err
}

func (s *sharer) stepShared(ctx context.Context, w *lending) error {
	if s.busy {
		return nil
	}
	s.busy = true
	defer func() { s.busy = false }()
	switch w.rand.IntN(16) {
	case 0:
		return s.begin(ctx, w)
	case 1, 2, 3:
		return s.fetch(ctx)
	case 4: // it is gone for good, with what it had
		if w.rand.IntN(12) == 0 {
			s.h, s.tables, s.known, s.pending, s.lender = nil, map[string][]byte{}, map[string]Table{}, nil, ""
		}
		return nil
	case 5:
		// Nobody takes so long with a step that a loan ends meanwhile.
		for _, o := range w.sharers {
			if o.busy && o != s {
				return nil
			}
		}
		for _, o := range w.sharers {
			if err := o.keep(ctx, w); err != nil {
				return err
			}
		}
		w.clock = w.clock.Add(time.Duration(w.rand.IntN(40)) * time.Minute)
		return nil
	case 6:
		if s.h == nil {
			h, err := w.take(s.r, ctx)
			if err != nil && !errors.Is(err, logcore.ErrFenced) {
				return err
			}
			s.h = h
		}
		return nil
	case 7, 8, 11:
		if s.h == nil || len(s.pending) > 0 {
			return nil
		}
		err := s.save(ctx)
		if errors.Is(err, logcore.ErrFenced) {
			w.done["fenced"]++
			s.h = nil
			return nil
		}
		if err == nil && s.lender != "" {
			w.done["given back"]++
			err = s.r.GiveBack(ctx, s.lender, s.number)
			s.lender = ""
		}
		w.done["save"]++
		return err
	case 9, 10, 12:
		if s.h == nil {
			return nil
		}
		c, err := w.collect(s.h, ctx)
		w.removed += c.Tables
		if errors.Is(err, logcore.ErrFenced) {
			w.done["fenced"]++
			s.h, err = nil, nil
		}
		return err
	}
	s.next++
	s.tables[fmt.Sprintf("%d-%06d.sst", s.name, s.next)] = fmt.Appendf(nil, "content %d", w.rand.IntN(1000))
	for _, name := range slices.Sorted(maps.Keys(s.tables)) {
		if w.rand.IntN(4) == 0 {
			delete(s.tables, name)
		}
	}
	return nil
}

// checkLent reads all that is borrowed and not fetched.
func (w *lending) checkLent(ctx context.Context) error {
	for _, s := range w.sharers {
		for name, t := range s.pending {
			if _, err := s.read(ctx, t); err != nil {
				return fmt.Errorf("store %d needs table %s of %s: %w", s.store, name, s.lender, err)
			}
		}
	}
	return nil
}

// play takes steps; while one removes objects or commits a manifest the others may act too.
func (w *lending) play(t *testing.T, steps int) error {
	ctx, inside := t.Context(), false
	act := func(ctx context.Context, _ bucket.Call) error {
		if inside || w.rand.IntN(3) > 0 {
			return nil
		}
		inside = true
		defer func() { inside = false }()
		for range 1 + w.rand.IntN(6) {
			if err := w.sharers[w.rand.IntN(len(w.sharers))].stepShared(ctx, w); err != nil {
				return err
			}
		}
		return w.checkLent(ctx)
	}
	w.bucket.Add(bucket.Fault{Op: bucket.OpDelete, Effect: bucket.Effect{Before: act}})
	w.bucket.Add(bucket.Fault{Op: bucket.OpPut, Key: "*/manifest/*", Effect: bucket.Effect{Before: act}})
	for range steps {
		if err := w.sharers[w.rand.IntN(len(w.sharers))].stepShared(ctx, w); err != nil {
			return err
		}
		if err := w.checkLent(ctx); err != nil {
			return err
		}
	}
	return nil
}

// TestLoans: stores that begin from each other's checkpoints, whose owners are replaced, act
// on and collect inside each other's deletions and commits, always find what they borrowed.
func TestLoans(t *testing.T) {
	removed, done := 0, map[string]int{}
	for seed := range uint64(60) {
		w := newLending(t, seed, 2+int(seed%2))
		if err := w.play(t, 500); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		removed += w.removed
		for what, n := range w.done {
			done[what] += n
		}
	}
	t.Logf("%d tables removed, %v", removed, done)
	if removed < 200 || done["borrowed"] < 300 || done["renewed"] < 50 || done["given back"] < 50 || done["fenced"] < 20 {
		t.Errorf("too little happened: %d tables removed, %v", removed, done)
	}
}

// TestLoansFindPlantedBugs: each way in which lending could be wrong is found by the run that
// the right one passes.
func TestLoansFindPlantedBugs(t *testing.T) {
	for name, plant := range map[string]func(*lending){
		"collection forgets what is lent": func(w *lending) {
			w.collect = func(h *Holder, ctx context.Context) (c Collected, err error) {
				if err := h.confirm(ctx); err != nil {
					return c, err
				}
				v, err := h.survey(ctx)
				if err != nil {
					return c, err
				}
				v.loans, v.lent = nil, nil
				for _, o := range planCollection(v, h.epoch, now().Add(-graceTested)) {
					if err := h.r.o.Bucket.Delete(ctx, o.key); err != nil {
						return c, err
					}
				}
				return c, nil
			}
		},
		"a new owner forgets what the old one lent": func(w *lending) {
			w.take = func(r *Repository, ctx context.Context) (*Holder, error) {
				h, err := r.Take(ctx)
				if err != nil {
					return nil, err
				}
				m := h.last.next()
				m.Loans = nil
				if err := r.commit(ctx, m); err != nil {
					return nil, err
				}
				h.last = m
				return h, nil
			}
		},
		"nothing is said to the lender": func(w *lending) {
			w.borrow = func(s *sharer, ctx context.Context, from string) (*Manifest, error) {
				return s.r.of(from).Find(ctx, wantedTested)
			}
			w.unlent = true
		},
		"what is borrowed was looked at long ago": func(w *lending) {
			w.borrow = func(s *sharer, ctx context.Context, from string) (*Manifest, error) {
				if s.cached == nil || s.cached.Name != from {
					m, err := s.r.of(from).Find(ctx, wantedTested)
					if err == nil {
						s.cached = m
					}
					return nil, ErrNone
				}
				lender := s.r.of(from)
				return lender.inChain(ctx, func(newest *Manifest) (*Manifest, error) {
					m := newest.lending(Loan{s.r.o.Name, newest.Number + 1, s.r.lentUntil()})
					m.Tables, m.Small, m.Logs, m.Warm, m.StoreVersion = s.cached.Tables, s.cached.Small, s.cached.Logs, s.cached.Warm, s.cached.StoreVersion
					return m, nil
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				w := newLending(t, seed, 2+int(seed%2))
				plant(w)
				if err := w.play(t, 300); err != nil {
					t.Logf("found by seed %d: %v", seed, err)
					return
				}
			}
			t.Error("60 runs did not find it")
		})
	}
}
