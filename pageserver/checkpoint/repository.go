package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

const (
	// aheadMax bounds how many manifests a stale listing may hide.
	aheadMax = 1 << 16
	// olderMax is how many manifests a search looks at, newest first.
	olderMax = 64
)

// listed returns the number of the newest manifest that a listing shows, 0 for none.
func (r *Repository) listed(ctx context.Context) (newest uint64, err error) {
	err = r.o.Bucket.List(ctx, r.manifestPrefix(), "", func(a bucket.Attributes) bool {
		n, ok := r.parseManifestKey(a.Key)
		if ok {
			newest = n
		}
		return !ok
	})
	if err != nil {
		return 0, fmt.Errorf("checkpoint: list the manifests: %w", err)
	}
	return newest, nil
}

// behind returns the newest manifest from number newest on: a listing may be stale.
func (r *Repository) behind(ctx context.Context, newest uint64) (uint64, error) {
	for range aheadMax {
		_, err := r.o.Bucket.Head(ctx, r.manifestKey(newest+1))
		if errors.Is(err, bucket.ErrNotFound) {
			return newest, nil
		}
		if err != nil {
			return 0, fmt.Errorf("checkpoint: %w", err)
		}
		newest++
	}
	return 0, fmt.Errorf("checkpoint: %w: more than %d manifests that the listing of %v does not show", logcore.ErrCorrupt, aheadMax, r)
}

// head returns the number of the newest manifest, 0 when there is none.
func (r *Repository) head(ctx context.Context) (uint64, error) {
	number, err := r.listed(ctx)
	if err != nil {
		return 0, err
	}
	return r.behind(ctx, number)
}

// headAndLoad is head, which reads the listed manifest meanwhile: it is almost always the
// newest one, and a new page server waits for it.
func (r *Repository) headAndLoad(ctx context.Context) (number uint64, load func(context.Context, uint64) (*Manifest, error), err error) {
	listed, err := r.listed(ctx)
	if err != nil || listed == 0 {
		number, err = r.behind(ctx, listed)
		return number, r.load, err
	}
	type loaded struct {
		m   *Manifest
		err error
	}
	early := make(chan loaded, 1)
	go func() {
		m, err := r.load(ctx, listed)
		early <- loaded{m, err}
	}()
	number, err = r.behind(ctx, listed)
	first := <-early
	return number, func(ctx context.Context, n uint64) (*Manifest, error) {
		if n == listed {
			return first.m, first.err
		}
		return r.load(ctx, n)
	}, err
}

// load reads a manifest and proves it.
func (r *Repository) load(ctx context.Context, number uint64) (*Manifest, error) {
	b, err := r.o.Bucket.Get(ctx, r.manifestKey(number), 0, manifestBytesMax+1)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: manifest %d: %w", number, err)
	}
	m, err := r.open(ctx, b)
	if err == nil && m.Number != number {
		err = damaged("manifest", "number %d lies where number %d belongs", m.Number, number)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: manifest %d: %w", number, err)
	}
	return m, nil
}

// open reads a manifest of this store.
func (r *Repository) open(ctx context.Context, b []byte) (*Manifest, error) {
	m, err := openManifest(ctx, r.o.Keys, b)
	if err == nil && (m.Cluster != r.o.Cluster || m.Name != r.o.Name) {
		err = damaged("manifest", "it is of store %q of cluster %x", m.Name, m.Cluster)
	}
	return m, err
}

// Wanted says which checkpoints a page server can begin from.
type Wanted struct {
	// Incarnations of the shards there are; nil when that is not known. A checkpoint with a
	// log of another one is not used.
	Incarnations []uint64
	// StoreVersion is the format of the store.
	StoreVersion uint32
}

func (w Wanted) fit(m *Manifest) bool {
	if m.StoreVersion != w.StoreVersion {
		return false
	}
	superseded := func(l Log) bool { return !slices.Contains(w.Incarnations, l.Incarnation) }
	return w.Incarnations == nil || !slices.ContainsFunc(m.Logs, superseded)
}

// Find returns the newest checkpoint that can be used, or ErrNone. A damaged one is
// counted, and the one before it is looked at.
func (r *Repository) Find(ctx context.Context, w Wanted) (*Manifest, error) {
	number, load, err := r.headAndLoad(ctx)
	if err != nil {
		return nil, err
	}
	for range olderMax {
		if number == 0 {
			break
		}
		m, err := load(ctx, number)
		switch {
		case errors.Is(err, bucket.ErrNotFound):
			return nil, ErrNone // collected: so is every one before
		case errors.Is(err, logcore.ErrCorrupt), errors.Is(err, logcore.ErrUnsupportedVersion):
			r.countDamage(err)
		case err != nil:
			return nil, err
		case m.Empty():
		case w.fit(m):
			return m, nil
		}
		number--
	}
	return nil, ErrNone
}

// Newest returns the newest manifest, which may hold no checkpoint; nil when there is
// none that can be read.
func (r *Repository) Newest(ctx context.Context) (*Manifest, error) {
	number, err := r.head(ctx)
	if err != nil || number == 0 {
		return nil, err
	}
	m, err := r.load(ctx, number)
	if errors.Is(err, logcore.ErrCorrupt) || errors.Is(err, logcore.ErrUnsupportedVersion) {
		r.countDamage(err)
		return nil, nil
	}
	return m, err
}

// Holder is who holds the newest epoch, as far as it knows. It is for one goroutine.
type Holder struct {
	r     *Repository
	epoch uint64
	last  *Manifest // the newest one, which is its own
}

// Epoch is the number of the manifest that took the chain over.
func (h *Holder) Epoch() uint64 { return h.epoch }

// takeTries bounds how often somebody else may be faster.
const takeTries = 8

// Take makes this server the one that writes checkpoints: every earlier one is stale from
// then on. What the newest manifest holds is named again, so it stays. On return the
// epoch is as durable as the bucket makes it.
func (r *Repository) Take(ctx context.Context) (*Holder, error) {
	for range takeTries {
		number, err := r.head(ctx)
		if err != nil {
			return nil, err
		}
		m := &Manifest{Name: r.o.Name}
		if number > 0 {
			found, err := r.load(ctx, number)
			switch {
			case err == nil:
				m = found.next()
			case errors.Is(err, logcore.ErrCorrupt), errors.Is(err, logcore.ErrUnsupportedVersion):
				// Nothing to go on from; what it names stays as long as it can't be read.
				r.countDamage(err)
			default:
				return nil, err
			}
		}
		m.Number, m.Epoch = number+1, number+1
		h := &Holder{r: r, epoch: m.Epoch}
		err = h.put(ctx, m)
		if errors.Is(err, logcore.ErrFenced) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return h, nil
	}
	return nil, fmt.Errorf("%w: checkpoint: %d other page servers took the checkpoints in %v first", logcore.ErrFenced, takeTries, r)
}

// next returns a manifest of the same content that follows m.
func (m *Manifest) next() *Manifest {
	return &Manifest{Incarnation: m.Incarnation, Prev: m.digest, Name: m.Name, StoreVersion: m.StoreVersion,
		Logs: m.Logs, Small: m.Small, Tables: m.Tables, Warm: m.Warm}
}

// put commits a manifest that follows the holder's last one.
func (h *Holder) put(ctx context.Context, m *Manifest) error {
	m.Cluster, m.Server, m.Created = h.r.o.Cluster, h.r.server, now()
	b, err := m.seal(ctx, h.r.o.Keys)
	if err != nil {
		return err
	}
	if _, err := openManifest(ctx, h.r.o.Keys, b); err != nil {
		return fmt.Errorf("checkpoint: the manifest that was made can't be read: %w", err)
	}
	key := h.r.manifestKey(m.Number)
	// Commit point: nothing may lie under the next number.
	err = h.r.o.Bucket.PutIfAbsent(ctx, key, b)
	if errors.Is(err, bucket.ErrExists) {
		return fmt.Errorf("%w: checkpoint: manifest %d in %v is another page server's", logcore.ErrFenced, m.Number, h.r)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: commit manifest %d: %w", m.Number, err)
	}
	// Where a conditional put is not one, somebody may have put another over it.
	found, err := h.r.load(ctx, m.Number)
	if err != nil {
		return fmt.Errorf("checkpoint: the manifest that was written can't be read back: %w", err)
	}
	if found.digest != m.digest {
		return fmt.Errorf("%w: checkpoint: manifest %d in %v was replaced by another page server's", logcore.ErrFenced, m.Number, h.r)
	}
	h.last = m
	return nil
}

// confirm reads the newest manifest again: it must be the holder's last one.
func (h *Holder) confirm(ctx context.Context) error {
	number, err := h.r.head(ctx)
	if err != nil {
		return err
	}
	if number != h.last.Number {
		return fmt.Errorf("%w: checkpoint: manifest %d in %v is newer than this page server's last, %d", logcore.ErrFenced, number, h.r, h.last.Number)
	}
	m, err := h.r.load(ctx, number)
	if err != nil {
		return err
	}
	if m.digest != h.last.digest {
		return fmt.Errorf("%w: checkpoint: manifest %d in %v is another page server's", logcore.ErrFenced, number, h.r)
	}
	return nil
}
