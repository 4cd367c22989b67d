package checkpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
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
	m, err := r.openAny(ctx, b)
	if err == nil && m.Name != r.o.Name {
		err = damaged("manifest", "it is of store %q", m.Name)
	}
	return m, err
}

// openAny reads a manifest of any store of the cluster.
func (r *Repository) openAny(ctx context.Context, b []byte) (*Manifest, error) {
	m, err := openManifest(ctx, r.o.Keys, b)
	if err == nil && m.Cluster != r.o.Cluster {
		err = damaged("manifest", "it is of cluster %x", m.Cluster)
	}
	return m, err
}

// Wanted says which checkpoints a page server can begin from.
type Wanted struct {
	// Logs are those of the log service; nil when that is not known.
	Logs map[logcore.LogID]LogNow
	// StoreVersion is the format of the store.
	StoreVersion uint32
	// Stripes are those that the store has to have in full. Empty: all.
	Stripes stripemap.Set
}

// LogNow is what the log service says of a log.
type LogNow struct {
	Incarnation uint64 // of its shard
	Last        logcore.LSN
}

// fits reports whether what a checkpoint has of a log can be a beginning of what the log
// service has. Of another incarnation it can when it ends before: the service was restored
// to a later point. Whether it is, its last entry says, which is compared before anything
// is served.
func (w Wanted) fits(l Log) bool {
	now, known := w.Logs[l.ID]
	return !known || now.Incarnation == l.Incarnation || l.Entry <= now.Last
}

// usable reports whether a store can begin from a checkpoint at all.
func (w Wanted) usable(m *Manifest) bool {
	want := w.Stripes
	if want.Empty() {
		want = stripemap.All
	}
	return !m.Empty() && m.StoreVersion == w.StoreVersion && want.Without(m.Stripes).Empty()
}

// fit returns how many of a checkpoint's logs would be of use, and whether all would.
func (w Wanted) fit(m *Manifest) (logs int, all bool) {
	for _, l := range m.Logs {
		if w.fits(l) {
			logs++
		}
	}
	return logs, logs == len(m.Logs)
}

// Find returns the newest checkpoint that can be used, or ErrNone: one whose every log fits,
// or else one of which some do. A damaged one is counted, and the one before it is looked
// at.
func (r *Repository) Find(ctx context.Context, w Wanted) (*Manifest, error) {
	number, load, err := r.headAndLoad(ctx)
	if err != nil {
		return nil, err
	}
	var partly *Manifest
	for range olderMax {
		if number == 0 {
			break
		}
		m, err := load(ctx, number)
		if errors.Is(err, bucket.ErrNotFound) {
			break // collected: so is every one before
		}
		switch {
		case errors.Is(err, logcore.ErrCorrupt), errors.Is(err, logcore.ErrUnsupportedVersion):
			r.countDamage(err)
		case err != nil:
			return nil, err
		case w.usable(m):
			logs, all := w.fit(m)
			if all {
				return m, nil
			}
			if partly == nil && logs > 0 {
				partly = m
			}
		}
		number--
	}
	if partly == nil {
		return nil, ErrNone
	}
	return partly, nil
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
		m := &Manifest{Name: r.o.Name, Stripes: stripemap.All}
		if number > 0 {
			found, err := r.load(ctx, number)
			switch {
			case err == nil:
				m = found.next()
			case errors.Is(err, logcore.ErrCorrupt), errors.Is(err, logcore.ErrUnsupportedVersion):
				// Nothing to go on from; what it names stays as long as it can't be read.
				r.countDamage(err)
				if m.Loans, err = r.olderLoans(ctx, number-1); err != nil {
					return nil, err
				}
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

// olderLoans returns the loans of the newest manifest from a number down that can be read.
func (r *Repository) olderLoans(ctx context.Context, number uint64) ([]Loan, error) {
	for range olderMax {
		if number == 0 {
			break
		}
		m, err := r.load(ctx, number)
		switch {
		case err == nil:
			return m.running(), nil
		case errors.Is(err, bucket.ErrNotFound):
			return nil, nil
		case !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion):
			return nil, err
		}
		number--
	}
	return nil, nil
}

// next returns a manifest of the same content that follows m, with the loans that still run.
func (m *Manifest) next() *Manifest {
	return &Manifest{Number: m.Number + 1, Epoch: m.Epoch, Incarnation: m.Incarnation, Prev: m.digest, Name: m.Name, StoreVersion: m.StoreVersion, Stripes: m.Stripes,
		Logs: m.Logs, Small: m.Small, Tables: m.Tables, Warm: m.Warm, Loans: m.running()}
}

// put commits a manifest that follows the holder's last one. Stores that borrow may have
// put theirs before it; then it follows those, and has their loans.
func (h *Holder) put(ctx context.Context, m *Manifest) error {
	for range commitTries {
		err := h.r.commit(ctx, m)
		if err == nil {
			h.last = m
			return nil
		}
		if !errors.Is(err, errTaken) || h.last == nil {
			return err
		}
		if err := h.confirm(ctx); err != nil {
			return err
		}
		m.Number, m.Prev, m.Loans = h.last.Number+1, h.last.digest, h.last.running()
	}
	return fmt.Errorf("checkpoint: %d stores began from the checkpoints in %v while one was made: try again", commitTries, h.r)
}

// commitTries bounds how often the next number is taken by somebody else.
const commitTries = 64

// errTaken: another manifest has the number.
var errTaken = fmt.Errorf("%w: checkpoint: the next manifest is another page server's", logcore.ErrFenced)

// commit puts a manifest under its number.
func (r *Repository) commit(ctx context.Context, m *Manifest) error {
	m.Cluster, m.Server, m.Created = r.o.Cluster, r.server, now()
	b, err := m.seal(ctx, r.o.Keys)
	if err != nil {
		return err
	}
	if _, err := openManifest(ctx, r.o.Keys, b); err != nil {
		return fmt.Errorf("checkpoint: the manifest that was made can't be read: %w", err)
	}
	// Commit point: nothing may lie under the next number.
	err = r.o.Bucket.PutIfAbsent(ctx, r.manifestKey(m.Number), b)
	if errors.Is(err, bucket.ErrExists) {
		return fmt.Errorf("%w: number %d in %v", errTaken, m.Number, r)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: commit manifest %d: %w", m.Number, err)
	}
	// Where a conditional put is not one, somebody may have put another over it.
	found, err := r.load(ctx, m.Number)
	if err != nil {
		return fmt.Errorf("checkpoint: the manifest that was written can't be read back: %w", err)
	}
	if found.digest != m.digest {
		return fmt.Errorf("%w: checkpoint: manifest %d in %v was replaced by another page server's", logcore.ErrFenced, m.Number, r)
	}
	return nil
}

// confirm reads the newest manifest again. It must be the holder's last one, or one of the
// same epoch by which a store has borrowed that.
func (h *Holder) confirm(ctx context.Context) error {
	number, err := h.r.head(ctx)
	if err != nil {
		return err
	}
	if number < h.last.Number {
		return fmt.Errorf("%w: checkpoint: manifest %d in %v, which is this page server's last, is gone", logcore.ErrFenced, h.last.Number, h.r)
	}
	m, err := h.r.load(ctx, number)
	if err != nil {
		return err
	}
	if number == h.last.Number && m.digest != h.last.digest || m.Epoch != h.epoch {
		return fmt.Errorf("%w: checkpoint: manifest %d in %v is of epoch %d, this page server's last is %d of epoch %d", logcore.ErrFenced, number, h.r, m.Epoch, h.last.Number, h.epoch)
	}
	h.last = m
	return nil
}
