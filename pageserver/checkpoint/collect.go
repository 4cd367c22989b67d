package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// manifestsKept is how many of the newest manifests stay whatever their age.
const manifestsKept = 2

// Collected says what Collect removed.
type Collected struct {
	Manifests, Tables int
	Bytes             int64
}

// Collect removes manifests that were followed by another one longer than the grace
// period ago, and tables that no other manifest names. It reads the newest manifest again
// first: a stale holder removes nothing (logcore.ErrFenced).
//
// Why a successor never misses a table: what is removed is named by no manifest of the
// grace period, so not by the newest one either, which is where a successor begins; and
// what a successor stores has a higher epoch in its name. Nor does a store that borrows: it
// begins from the newest one as well, and its loan is in every manifest from then on.
func (h *Holder) Collect(ctx context.Context) (Collected, error) {
	var done Collected
	if err := h.confirm(ctx); err != nil {
		return done, err
	}
	v, err := h.survey(ctx)
	if err != nil {
		return done, err
	}
	for _, o := range planCollection(v, h.epoch, now().Add(-h.r.o.Grace)) {
		if err := h.r.o.Bucket.Delete(ctx, o.key); err != nil && !errors.Is(err, bucket.ErrRetention) {
			return done, fmt.Errorf("checkpoint: %w", err)
		}
		h.r.metrics.removed.Inc()
		if o.manifest {
			done.Manifests++
			continue
		}
		done.Tables++
		done.Bytes += o.size
	}
	return done, nil
}

// view is what a store has in the bucket.
type view struct {
	manifests []brief         // newest first, down to the first that is gone
	loans     map[uint64]bool // numbers of the manifests that are lent
	lent      []brief         // those of them that are not in manifests
	leftovers []object        // manifests that were lent once
	tables    []object
}

// brief is what collection needs to know of a manifest.
type brief struct {
	key      string
	number   uint64
	readable bool
	created  time.Time // of one that can't be read: when it was stored
	names    map[string]bool
}

// object is something that can be removed.
type object struct {
	key      string
	manifest bool
	epoch    uint64 // of a table
	size     int64
}

// survey lists the tables and reads every manifest. It follows the chain's numbers: a
// stale listing must not hide a manifest.
func (h *Holder) survey(ctx context.Context) (*view, error) {
	v := &view{}
	// Tables first: what is committed in between is newer than the listing.
	err := h.r.o.Bucket.List(ctx, h.r.tablePrefix(), "", func(a bucket.Attributes) bool {
		if epoch, ok := h.r.parseTableKey(a.Key); ok {
			v.tables = append(v.tables, object{key: a.Key, epoch: epoch, size: a.Size})
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("checkpoint: list the tables: %w", err)
	}
	for n := h.last.Number; n > 0; n-- {
		b, err := h.r.brief(ctx, n)
		if errors.Is(err, bucket.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		v.manifests = append(v.manifests, b)
	}
	return v, h.surveyLent(ctx, v)
}

// surveyLent reads the manifests that are lent and lists those that were.
func (h *Holder) surveyLent(ctx context.Context, v *view) error {
	seen := map[string]bool{}
	for _, m := range v.manifests {
		seen[m.key] = true
	}
	v.loans = map[uint64]bool{}
	for _, l := range h.last.running() {
		v.loans[l.Number] = true
		key := h.r.manifestKey(l.Number)
		if seen[key] {
			continue
		}
		seen[key] = true
		b, err := h.r.brief(ctx, l.Number)
		if errors.Is(err, bucket.ErrNotFound) {
			continue // somebody else removed it: its borrower will find out
		}
		if err != nil {
			return err
		}
		v.lent = append(v.lent, b)
	}
	err := h.r.o.Bucket.List(ctx, h.r.manifestPrefix(), h.r.manifestKey(h.last.Number), func(a bucket.Attributes) bool {
		if _, ok := h.r.parseManifestKey(a.Key); ok && !seen[a.Key] {
			v.leftovers = append(v.leftovers, object{key: a.Key, manifest: true})
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("checkpoint: list the manifests: %w", err)
	}
	return nil
}

func (r *Repository) brief(ctx context.Context, number uint64) (brief, error) {
	b := brief{key: r.manifestKey(number), number: number, names: map[string]bool{}}
	m, err := r.load(ctx, number)
	switch {
	case errors.Is(err, logcore.ErrCorrupt), errors.Is(err, logcore.ErrUnsupportedVersion):
		r.countDamage(err)
		a, err := r.o.Bucket.Head(ctx, b.key)
		b.created = a.Modified
		return b, err
	case err != nil:
		return b, err
	}
	b.readable, b.created = true, m.Created
	for _, t := range m.Tables {
		b.names[r.tableKey(t)] = true
	}
	return b, nil
}

// planCollection returns what to remove: manifests, oldest first so that the rest of the
// chain stays without a hole, then tables.
func planCollection(v *view, epoch uint64, before time.Time) []object {
	kept := len(v.manifests)
	// A manifest may go once the one after it is old.
	for kept > manifestsKept && v.manifests[kept-2].created.Before(before) {
		kept--
	}
	needed := append(slices.Clone(v.manifests[:kept]), v.lent...)
	plan := slices.Clone(v.leftovers)
	for _, m := range slices.Backward(v.manifests[kept:]) {
		if v.loans[m.number] {
			needed = append(needed, m)
			continue
		}
		plan = append(plan, object{key: m.key, manifest: true})
	}
	for _, m := range needed {
		if !m.readable {
			return plan // what it names is not known: no table may go
		}
	}
	for _, t := range v.tables {
		named := slices.ContainsFunc(needed, func(m brief) bool { return m.names[t.key] })
		if !named && t.epoch <= epoch { // a higher one is a successor's
			plan = append(plan, t)
		}
	}
	return plan
}
