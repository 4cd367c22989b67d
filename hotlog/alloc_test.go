//go:build !race

package hotlog

import (
	"context"
	"runtime"
	"testing"

	"github.com/logcore/logcore"
)

// The race detector makes sync.Pool forget at random, so allocations are counted
// without it.

// Nothing is allocated for an append: what there is belongs to the memory that keeps
// the newest entries for readers, a few objects for a thousand entries.
func TestNoAllocationPerAppend(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir(), SegmentBytes: 64 << 20, DiskReserveBytes: 1 << 20, Logger: quiet()})
	ctx := context.Background()
	list := []logcore.Entry{entry(1, 128)}
	allocations := func(n int, appendOne func() error) float64 {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			if err := appendOne(); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / float64(n)
	}
	var last Ticket
	enqueue := func() (err error) {
		last, err = l.Enqueue(list)
		return err
	}
	allocations(2000, enqueue) // until batches and the like are there
	got := allocations(50_000, enqueue)
	if _, err := l.Wait(ctx, last); err != nil {
		t.Fatal(err)
	}
	if got > 0.02 {
		t.Errorf("%.3f allocations for an Enqueue", got)
	}
	wait := func() error { return l.AppendNext(ctx, list) }
	allocations(100, wait)
	if got := allocations(1000, wait); got > 0.2 {
		t.Errorf("%.3f allocations for an AppendNext", got)
	}
}
