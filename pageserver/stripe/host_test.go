package stripe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/internal/wire"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// decider keeps the map as the log service does, with the same Plan; who does not report
// is gone once the test says so.
type decider struct {
	mu      sync.Mutex
	m       stripemap.Map
	reports map[uint64]stripemap.Report
}

func (d *decider) Report(_ context.Context, r Report) (Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	apply := func(c stripemap.Change) error {
		m, err := d.m.Apply(c)
		if err == nil {
			m.Generation++
			d.m = m
		}
		return err
	}
	if _, known := d.m.Server(r.ID); !known {
		if err := apply(stripemap.Change{Kind: stripemap.Put, Server: r.ID, Address: r.Address}); err != nil {
			return Answer{}, err
		}
	}
	d.reports[r.ID] = stripemap.Report{Alive: true, Ready: r.Ready}
	for _, c := range stripemap.Plan(d.m, d.reports) {
		if err := apply(c); err != nil {
			return Answer{}, err
		}
	}
	m := d.m
	m.Incarnation = 1
	return Answer{ID: r.ID, Map: m, Lease: 200 * time.Millisecond}, nil
}

func (d *decider) lost(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports[id] = stripemap.Report{}
}

// settled waits until the map has so many owners of stripes, each with its share.
func (d *decider) settled(t *testing.T, owners ...uint64) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		d.mu.Lock()
		total, even := 0, true
		for _, id := range owners {
			s, _ := d.m.Server(id)
			total += s.Owns.Len()
			share := stripemap.Count / len(owners)
			even = even && s.Joins.Empty() && s.Owns.Len() >= share && s.Owns.Len() <= share+1
		}
		m := d.m
		d.mu.Unlock()
		if total == stripemap.Count && even {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never came to that: %+v", m)
		}
	}
}

// running is a Host and its Run.
type running struct {
	*Host
	stop func()
}

func startHost(t *testing.T, dir, address string, d *decider, source *enginetest.Source, decoder engine.Decoder) *running {
	t.Helper()
	return startHostWith(t, dir, address, d, source, decoder, nil)
}

// startHostWith starts a Host that keeps checkpoints.
func startHostWith(t *testing.T, dir, address string, d *decider, source *enginetest.Source, decoder engine.Decoder, checkpoints *checkpoint.Family) *running {
	t.Helper()
	return startHostOn(t, dir, address, d, checkpoints, enginetest.Options("", source, decoder))
}

// startHostOn starts a Host whose stores are opened with some options.
func startHostOn(t *testing.T, dir, address string, d Coordinator, checkpoints *checkpoint.Family, server pageserver.Options) *running {
	t.Helper()
	o := Options{Dir: dir, Address: address, Coordinator: d, Server: server, Checkpoints: checkpoints, ReportInterval: 20 * time.Millisecond, LeaveAfter: 50 * time.Millisecond}
	o.Server.CheckpointInterval = 50 * time.Millisecond
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	r := &running{Host: h, stop: sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, h.Close()); err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(r.stop)
	return r
}

// reader asks each Host for the pages that the others refuse, and any for the rest.
type reader struct {
	hosts   []*running
	refused int
}

// anyStore asks a store that has caught up, and another one when that is given up meanwhile.
func anyStore[R any](r *reader, ask func(*pageserver.Server) (R, error)) (R, error) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		for _, h := range r.hosts {
			if stores := h.view.Load().stores; len(stores) > 0 {
				if resp, err := ask(stores[0].server); !errors.Is(err, logcore.ErrClosed) {
					return resp, err
				}
			}
		}
		if time.Since(began) > time.Minute {
			var none R
			return none, errors.New("no store has caught up")
		}
	}
}

func (r *reader) SpaceSize(ctx context.Context, log string, space engine.Space, at pageserver.ReadAt) (pageserver.Size, error) {
	return anyStore(r, func(s *pageserver.Server) (pageserver.Size, error) { return s.SpaceSize(ctx, log, space, at) })
}

func (r *reader) ListSpaces(ctx context.Context, log string, of pageserver.SpaceRange, at pageserver.ReadAt) (pageserver.SpaceList, error) {
	return anyStore(r, func(s *pageserver.Server) (pageserver.SpaceList, error) { return s.ListSpaces(ctx, log, of, at) })
}

func (r *reader) GetObject(ctx context.Context, log string, key []byte, at pageserver.ReadAt) (pageserver.ObjectList, error) {
	return anyStore(r, func(s *pageserver.Server) (pageserver.ObjectList, error) { return s.GetObject(ctx, log, key, at) })
}

func (r *reader) ListObjects(ctx context.Context, log string, prefix, after []byte, limit int, at pageserver.ReadAt) (pageserver.ObjectList, error) {
	return anyStore(r, func(s *pageserver.Server) (pageserver.ObjectList, error) {
		return s.ListObjects(ctx, log, prefix, after, limit, at)
	})
}

func (r *reader) GetPages(ctx context.Context, log string, space engine.Space, numbers []uint32, at pageserver.ReadAt) (pageserver.PageSet, error) {
	out := pageserver.PageSet{LSN: at.LSN}
	for _, n := range numbers {
		found := false
		// While stripes move, one that had a page may have given it up by the time it is asked,
		// and one that was asked before may have it now.
		for i, began := 0, time.Now(); !found && (i < 2*len(r.hosts) || time.Since(began) < time.Second); i++ {
			h := r.hosts[i%len(r.hosts)]
			resp, err := h.Service().GetPages(ctx, &logcorev1.GetPagesRequest{Log: log, Space: &logcorev1.Space{Hi: space.Hi, Lo: space.Lo}, Pages: []uint32{n}, Lsn: uint64(at.LSN), TimeoutMs: 30_000})
			if err = wire.FromStatus(err); errors.Is(err, logcore.ErrWrongPageServer) {
				r.refused++
				continue
			}
			if err != nil {
				return out, err
			}
			p := resp.Pages[0]
			out.Pages = append(out.Pages, pageserver.Page{Number: p.Page, Data: p.Data, Digest: p.Digest, LastLSN: logcore.LSN(p.LastLsn)})
			out.Incarnation, found = resp.Incarnation, true
			break
		}
		if !found {
			return out, fmt.Errorf("nobody has page %d of space %v", n, space)
		}
	}
	return out, nil
}

// TestStriped: Hosts that come, go, are lost and come back have together what the plain
// replay has, at any LSN, for decoders with and without a state and for branches.
func TestStriped(t *testing.T) {
	for name, e := range map[string]enginetest.Engine{"pages": enginetest.PagesEngine(), "synthetic": enginetest.SyntheticEngine()} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			source := enginetest.NewSource(1)
			source.Create("db")
			add := func(log string, n int) {
				for _, tx := range e.History(rng, n) {
					source.AppendTx(log, tx)
				}
			}
			add("db", 80)
			if _, err := source.CreateBranch(t.Context(), "db", "db/branch", source.Last()/2); err != nil {
				t.Fatal(err)
			}
			add("db/branch", 20)
			d, root := &decider{reports: map[uint64]stripemap.Report{}}, t.TempDir()
			start := func(i int) *running {
				return startHost(t, filepath.Join(root, fmt.Sprint(i)), fmt.Sprintf("h%d:1", i), d, source, e.Decoder)
			}
			compared, refused := 0, 0
			compare := func(hosts ...*running) {
				t.Helper()
				add("db", 10)
				for _, log := range []string{"db", "db/branch"} {
					r := &reader{hosts: hosts}
					at := 1 + logcore.LSN(rng.Uint64N(uint64(source.Last())))
					n, err := enginetest.Compare(t.Context(), r, source, e.Decoder, log, at, enginetest.SpacesOf(t, source, e.Decoder, log))
					if err != nil {
						t.Fatal(err)
					}
					compared, refused = compared+n, refused+r.refused
				}
			}
			a := start(1)
			d.settled(t, a.ID())
			compare(a)
			b := start(2)
			d.settled(t, a.ID(), b.ID())
			compare(a, b)
			b.stop()
			d.lost(b.ID())
			d.settled(t, a.ID())
			compare(a)
			b = start(2)
			d.settled(t, a.ID(), b.ID())
			compare(b, a)
			// Its disk is lost, and with it which one it was: it is another one then.
			b.stop()
			d.lost(b.ID())
			if err := os.RemoveAll(filepath.Join(root, "2")); err != nil {
				t.Fatal(err)
			}
			c := start(3)
			d.settled(t, a.ID(), c.ID())
			compare(a, c)
			if compared < 100 || refused == 0 {
				t.Errorf("%d pages compared, %d requests refused: the run is void", compared, refused)
			}
			t.Logf("%d pages compared, %d requests sent elsewhere, %d payloads decoded once for several stores", compared, refused, a.Decodings().Taken())
		})
	}
}
