package tiering

import (
	"context"
	"fmt"
	"strings"
)

// place puts each fragment on its target until at least k are placed and verified. It
// keeps at it, with the same bytes, until ctx is done: another object in its stead
// would leave these behind as orphans.
func (a *Archiver) place(ctx context.Context, o *object, fragments [][]byte) error {
	a.mu.Lock()
	a.inFlight[o.name()] = true
	a.mu.Unlock()
	where := a.placement(o.K, o.M)
	return a.retry(ctx, "place fragments", func() error { return a.placeOnce(ctx, o, where, fragments) })
}

func (a *Archiver) placeOnce(ctx context.Context, o *object, where []*remote, fragments [][]byte) error {
	errs := each(ctx, len(fragments), o.K, a.o.MaxAge, func(ctx context.Context, i int) error {
		if o.fragments[i].target != "" {
			return nil
		}
		if where[i] == nil {
			return fmt.Errorf("fragment %d: %w: there are too few targets", i, ErrPlacement)
		}
		return a.putFragment(ctx, where[i], o, i, fragments[i])
	})
	var bad []string
	for i, err := range errs {
		if isFatal(err) {
			return err
		}
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		if o.fragments[i].target != "" {
			continue
		}
		o.fragments[i].target = where[i].Name // by this goroutine alone: each has waited for all
	}
	if o.placed() < o.K {
		return fmt.Errorf("%w: %d of %d fragments are placed, %d are needed: %s", ErrTooFewFragments, o.placed(), len(fragments), o.K, strings.Join(bad, "; "))
	}
	return nil
}

// putFragment stores a fragment and reads it back. Its key names its content, so other
// bytes under it are damage and are replaced.
func (a *Archiver) putFragment(ctx context.Context, r *remote, o *object, i int, data []byte) error {
	if err := a.step("put"); err != nil {
		return err
	}
	return r.putVerified(ctx, o.name().key(a.o.Cluster, a.o.Shard, i), data, always, func() error { return a.step("read-back") })
}

// landed notes that an object is in the manifest, or given up: from now on the manifest
// alone says whether its fragments are wanted.
func (a *Archiver) landed(n objectName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.inFlight, n)
}
