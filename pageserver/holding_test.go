package pageserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/pageserver"
)

// holder is a page server with some stripes, which may become fewer.
type holder struct {
	*enginetest.Subject
	set atomic.Pointer[stripemap.Set]
}

func startHolder(t *testing.T, source *enginetest.Source, decoder engine.Decoder, shared *pageserver.Decodings, set stripemap.Set) *holder {
	h := &holder{}
	h.set.Store(&set)
	opts := enginetest.Options(t.TempDir(), source, decoder)
	opts.Stripes, opts.Decodings = func() stripemap.Set { return *h.set.Load() }, shared
	h.Subject = enginetest.Start(t, opts)
	return h
}

// holders reads each page from the one that has it, and everything else from any.
type holders struct {
	*holder // any
	all     []*holder
	asked   int
}

func (h *holders) GetPages(ctx context.Context, log string, space engine.Space, numbers []uint32, at pageserver.ReadAt) (pageserver.PageSet, error) {
	var out pageserver.PageSet
	for _, n := range numbers {
		found := 0
		for _, s := range h.all {
			set, err := s.GetPages(ctx, log, space, []uint32{n}, at)
			switch {
			case err == nil:
				if found++; found == 1 {
					out.LSN, out.Incarnation, out.Pages = set.LSN, set.Incarnation, append(out.Pages, set.Pages...)
				}
			case !errors.Is(err, logcore.ErrWrongPageServer):
				return out, err
			}
			h.asked++
		}
		if found != 1 {
			return out, fmt.Errorf("space %v page %d is held by %d page servers", space, n, found)
		}
	}
	return out, nil
}

// TestSomeStripesOnly: page servers that hold a part each have together what one has that
// holds all, for decoders with and without a state, on branches and after copies; they
// decode each payload once; and what one gives up is removed and not served.
func TestSomeStripesOnly(t *testing.T) {
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
			add("db", 150)
			if _, err := source.CreateBranch(t.Context(), "db", "db/branch", source.Last()/2); err != nil {
				t.Fatal(err)
			}
			add("db/branch", 60)
			var left, right stripemap.Set
			for i := range stripemap.Count {
				if rng.IntN(2) == 0 {
					left = left.With(i)
				} else {
					right = right.With(i)
				}
			}
			shared := &pageserver.Decodings{}
			source.Pause = time.Millisecond
			source.SetDown(errors.New("not before both are there"))
			a := startHolder(t, source, e.Decoder, shared, left)
			b := startHolder(t, source, e.Decoder, shared, right)
			source.SetDown(nil)
			for _, log := range []string{"db", "db/branch"} {
				spaces := enginetest.SpacesOf(t, source, e.Decoder, log)
				for i := range 12 {
					at := 1 + logcore.LSN(rng.Uint64N(uint64(source.Last())))
					if i == 0 {
						at = source.Last()
					}
					reader := &holders{holder: []*holder{a, b}[i%2], all: []*holder{a, b}}
					if n, err := enginetest.Compare(t.Context(), reader, source, e.Decoder, log, at, spaces); err != nil || n == 0 {
						t.Fatalf("%d pages compared: %v", n, err)
					}
				}
			}
			if shared.Taken() == 0 {
				t.Error("nothing was decoded once for both")
			}
			t.Logf("%d payloads decoded, %d shared", shared.Made(), shared.Taken())
		})
	}
}

// TestStripesAreGivenUp: what a page server gives up is refused at once, and removed.
func TestStripesAreGivenUp(t *testing.T) {
	const groups = 64
	source := enginetest.NewSource(1)
	info := source.Create("db")
	for g := range groups {
		var records []engine.Record
		for n := range 2 {
			records = append(records, engine.Record{Op: engine.OpImage, Space: engine.SpaceOf(uint64(g % 3)), Page: uint32(g*stripemap.GroupPages + n*(stripemap.GroupPages-1)), PageSize: 64, Data: make([]byte, 64)})
		}
		payloads, err := pages.Encode(records, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		source.AppendTx("db", enginetest.Transaction{Parts: payloads})
	}
	h := startHolder(t, source, pages.Decoder{}, nil, stripemap.All)
	at := pageserver.ReadAt{LSN: source.Last(), Wait: pageserver.WaitMax}
	var kept stripemap.Set
	for i := range stripemap.Count / 2 {
		kept = kept.With(2 * i)
	}
	count := func() int {
		n, err := pageserver.Versions(h.Server)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := h.WaitLSN(t.Context(), "db", at); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 2*groups {
		t.Fatalf("%d versions", n)
	}
	h.set.Store(&kept)
	if err := h.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	stay := 0
	for g := range groups {
		space, page := engine.SpaceOf(uint64(g%3)), uint32(g*stripemap.GroupPages+stripemap.GroupPages-1)
		set, err := h.GetPages(t.Context(), "db", space, []uint32{page}, at)
		if kept.Has(stripemap.Of(uint64(info.ID), space.Lo, page)) {
			stay += 2
			if err != nil || len(set.Pages[0].Data) != 64 {
				t.Fatalf("a page that stays: %+v, %v", set, err)
			}
		} else if !errors.Is(err, logcore.ErrWrongPageServer) {
			t.Fatalf("a page that was given up: %+v, %v", set, err)
		}
	}
	if n := count(); n != stay || stay == 0 || stay == 2*groups {
		t.Fatalf("%d versions are left, want %d", n, stay)
	}
}
