package replchaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// fault is one way to hurt one node, and how it gets well again.
type fault struct {
	name  string
	begin func(*world, *node) error
	end   func(context.Context, *world, *node) error
}

var faults = []fault{
	{"kill", func(_ *world, n *node) error { n.proc.Kill(); n.proc = nil; return nil },
		func(ctx context.Context, w *world, n *node) error { return w.start(ctx, n) }},
	{"pause", func(_ *world, n *node) error { return n.proc.Signal(syscall.SIGSTOP) },
		func(_ context.Context, _ *world, n *node) error { return n.proc.Signal(syscall.SIGCONT) }},
	{"partition from the nodes", func(_ *world, n *node) error { return cut("p", n.i, true) },
		func(_ context.Context, _ *world, n *node) error { return cut("p", n.i, false) }},
	{"partition from all", func(_ *world, n *node) error { return errors.Join(cut("p", n.i, true), cut("c", n.i, true)) },
		func(_ context.Context, _ *world, n *node) error {
			return errors.Join(cut("p", n.i, false), cut("c", n.i, false))
		}},
	{"deafness", func(_ *world, n *node) error { return deafen(n.i, true) },
		func(_ context.Context, _ *world, n *node) error { return deafen(n.i, false) }},
	{"full disk", func(_ *world, n *node) error { return n.disk.fill() },
		func(_ context.Context, _ *world, n *node) error { return n.disk.empty() }},
	{"power cut", func(_ *world, n *node) error {
		if err := n.disk.powerOff(); err != nil {
			return err
		}
		n.proc.Kill()
		n.proc = nil
		return errors.Join(n.disk.detach(), n.disk.attach())
	}, func(ctx context.Context, w *world, n *node) error { return w.start(ctx, n) }},
}

// choose returns the named faults, all when none is.
func choose(names []string) (list []fault, err error) {
	for _, f := range faults {
		if len(names) == 0 || slices.Contains(names, f.name) {
			list = append(list, f)
		}
	}
	if len(list) < len(names) {
		var known []string
		for _, f := range faults {
			known = append(known, f.name)
		}
		return nil, fmt.Errorf("faults %q: known are %q", names, known)
	}
	return list, nil
}

// Times between faults: one lasts faultMin to faultMin+faultSpread, then the cluster has
// calmFor to itself.
const (
	faultMin    = 2 * time.Second
	faultSpread = 4 * time.Second
	calmFor     = 5 * time.Second
)

// hurt injects one fault after the other until ctx ends, each on one node, the one that leads more often
// than not, so that a majority is there all the time.
func (w *world) hurt(ctx context.Context, rng *rand.Rand) error {
	order := rng.Perm(len(w.faults))
	for k := 0; ctx.Err() == nil; k++ {
		if k%len(w.faults) == 0 {
			order = rng.Perm(len(w.faults)) // each comes before any comes again
		}
		f := w.faults[order[k%len(w.faults)]]
		victim := w.nodes[rng.IntN(nodes)]
		if rng.IntN(3) > 0 {
			n, err := w.leader(ctx, 20*time.Second)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			victim = n
		}
		lasts := faultMin + time.Duration(rng.Int64N(int64(faultSpread)))
		w.note("%s of node %d for %v", f.name, victim.i, lasts.Round(100*time.Millisecond))
		w.disturbed("begin", f, victim)
		if err := f.begin(w, victim); err != nil {
			return fmt.Errorf("%s of node %d: %w", f.name, victim.i, err)
		}
		w.count[f.name]++
		sleep(ctx, lasts)
		w.note("end of %s of node %d", f.name, victim.i)
		w.disturbed("end", f, victim)
		// Also at the end: what is read back then must find all nodes well.
		if err := f.end(context.WithoutCancel(ctx), w, victim); err != nil {
			return fmt.Errorf("end of %s of node %d: %w", f.name, victim.i, err)
		}
		sleep(ctx, calmFor)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
