package pagebench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/pageserver"
)

const (
	branchCount = 10_000
	branchPages = 1 << 30 / pageSize
	branchReads = 20_000
)

// branches makes thousands of branches of one log and asks what each takes: the time to
// make it, the disk, and what reads of the parent lose. The log service is in memory: its own part
// of a branch is one catalog entry.
func (r *run) branches(ctx context.Context) error {
	h := newHistory(11)
	space := engine.SpaceOf(0)
	for n := range branchPages {
		if err := h.image(space, uint32(n)); err != nil {
			return err
		}
	}
	if err := h.commit(); err != nil {
		return err
	}
	dir := r.freshDir("branches")
	defer os.RemoveAll(dir)
	opts := pageserver.Options{Dir: dir, Source: h.source, Keeper: h.source, PageCacheBytes: 64 << 20, BlockCacheBytes: 256 << 20}
	s, err := r.start(ctx, opts)
	if err != nil {
		return err
	}
	if err := errors.Join(s.wait(ctx, h.last), s.stop()); err != nil {
		return err
	}
	before, err := dirBytes(dir)
	if err != nil {
		return err
	}
	if s, err = r.start(ctx, opts); err != nil {
		return err
	}
	err = r.branchesOf(ctx, h, s)
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	after, err := dirBytes(dir)
	if err != nil {
		return err
	}
	r.AtMost("disk for each of 10,000 branches", float64(max(after-before, 0))/branchCount, 1024, "bytes", map[string]any{"log_bytes": h.bytes, "store_bytes": before})
	return nil
}

func (r *run) branchesOf(ctx context.Context, h *history, s *server) error {
	reads := func() (float64, error) {
		took, err := measure(ctx, branchReads, func(int) error {
			_, err := s.GetPages(ctx, logName, engine.SpaceOf(0), []uint32{uint32(h.rng.IntN(branchPages))}, pageserver.ReadAt{LSN: h.last})
			return err
		})
		if err != nil {
			return 0, err
		}
		slices.Sort(took)
		return took[len(took)/2], nil
	}
	round := func() ([]float64, error) {
		var medians []float64
		for range r.o.Rounds + 1 { // the first warms the caches
			m, err := reads()
			if err != nil {
				return nil, err
			}
			medians = append(medians, m)
		}
		slices.Sort(medians[1:])
		return medians[1:], nil
	}
	without, err := round()
	if err != nil {
		return err
	}
	took, err := measure(ctx, branchCount, func(i int) error {
		_, _, err := s.CreateBranch(ctx, logName, fmt.Sprintf("branch-%d", i), pageserver.ReadAt{LSN: 1 + logcore.LSN(i)%h.last})
		return err
	})
	if err != nil {
		return err
	}
	with, err := round()
	if err != nil {
		return err
	}
	slices.Sort(took)
	r.AtMost("create a branch, p50 of 10,000", took[len(took)/2]/1e3, 5, "ms", nil)
	r.AtMost("create a branch, p99 of 10,000", took[len(took)*99/100]/1e3, 5, "ms", nil)
	r.AtMost("reads of the parent with 10,000 branches / without", with[len(with)/2]/without[len(without)/2], 1.05, "",
		map[string]any{"with_us": with, "without_us": without})
	return nil
}

// dirBytes is what the files below a directory take.
func dirBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
