package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/tiering/bucket"
)

// Family is the checkpoints of page servers that share pages: a chain for each store of
// each of them. The store of one that had all pages, under the family's own name, is a
// member too, to begin from.
type Family struct{ o Options }

const (
	// familyMax bounds how many stores are looked at for one to begin from.
	familyMax = 1024
	// looksAtOnce is how many are looked at at once.
	looksAtOnce = 8
)

// NewFamily returns a family; Options.Name is its name. It asks the bucket nothing.
func NewFamily(o Options) (*Family, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Family{o}, nil
}

// String names the place for people.
func (f *Family) String() string {
	return f.o.Bucket.String() + "/" + storePrefix(f.o.Cluster, f.o.Name)
}

// Member returns the repository of a page server's store.
func (f *Family) Member(server uint64, number int) (*Repository, error) {
	o := f.o
	o.Name = memberName(f.o.Name, server, number)
	if o.Registerer != nil {
		o.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"store": o.Name}, o.Registerer)
	}
	r, err := New(o)
	if err == nil {
		r.family = f
	}
	return r, err
}

// Offer is a store whose newest checkpoint others can begin from.
type Offer struct {
	Store   string
	Stripes stripemap.Set
	Logs    int         // of use
	Reaches logcore.LSN // the sum of how far its logs reach: what is fresher has a higher one
}

// Offers returns the stores whose newest checkpoint can be used, w's stripes left aside,
// the freshest first. What a listing does not show is missed. A store whose newest manifest
// is damaged is left out.
func (f *Family) Offers(ctx context.Context, w Wanted) ([]Offer, error) {
	names, err := f.stores(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*Offer, len(names))
	errs := make([]error, len(names))
	turns := make(chan struct{}, looksAtOnce)
	var looking sync.WaitGroup
	for i, name := range names {
		looking.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			found[i], errs[i] = f.offer(ctx, name, w)
		})
	}
	looking.Wait()
	var offers []Offer
	for _, o := range found {
		if o != nil {
			offers = append(offers, *o)
		}
	}
	slices.SortStableFunc(offers, func(a, b Offer) int {
		return cmp.Or(cmp.Compare(b.Logs, a.Logs), cmp.Compare(b.Reaches, a.Reaches))
	})
	if len(offers) == 0 {
		return nil, errors.Join(errs...)
	}
	return offers, nil
}

func (f *Family) offer(ctx context.Context, store string, w Wanted) (*Offer, error) {
	r := f.look(store)
	m, err := r.newestSound(ctx)
	switch {
	case errors.Is(err, ErrNone):
		return nil, nil
	case errors.Is(err, logcore.ErrCorrupt), errors.Is(err, logcore.ErrUnsupportedVersion):
		r.countDamage(err)
		return nil, nil
	case err != nil:
		return nil, err
	}
	w.Stripes = m.Stripes
	logs, _ := w.fit(m)
	if logs == 0 || !w.usable(m) {
		return nil, nil
	}
	o := &Offer{Store: store, Stripes: m.Stripes, Logs: logs}
	for _, l := range m.Logs {
		if w.fits(l) {
			o.Reaches += l.Ingested
		}
	}
	return o, nil
}

// look returns the repository of any store of the family, to look at.
func (f *Family) look(store string) *Repository {
	o := f.o
	o.Name = store
	return &Repository{o: o, prefix: storePrefix(o.Cluster, store), metrics: newMetrics(nil)}
}

// stores lists the family, by looking at the first key of each store.
func (f *Family) stores(ctx context.Context) ([]string, error) {
	var names []string
	// "." sorts before "/", so the family's own store comes after its members.
	for after := ""; len(names) < familyMax; {
		next := ""
		err := f.o.Bucket.List(ctx, clusterPrefix(f.o.Cluster)+f.o.Name, after, func(a bucket.Attributes) bool {
			store, ok := storeOf(f.o.Cluster, a.Key)
			if !ok {
				return true
			}
			next = store
			return false
		})
		if err != nil || next == "" {
			return names, err
		}
		if _, _, member := parseMember(f.o.Name, next); member || next == f.o.Name {
			names = append(names, next)
		}
		after = clusterPrefix(f.o.Cluster) + next + "/z" // after every key of it
	}
	return names, nil
}

// FindOrBorrow is Find, in the store's own chain first and then in those of the others of
// its family, from which it borrows: see Borrow.
func (r *Repository) FindOrBorrow(ctx context.Context, w Wanted) (*Manifest, error) {
	m, err := r.Find(ctx, w)
	if r.family == nil || !errors.Is(err, ErrNone) {
		return m, err
	}
	offers, err := r.family.Offers(ctx, w)
	if err != nil {
		return nil, err
	}
	for _, o := range offers {
		if o.Store == r.o.Name || !w.Stripes.Without(o.Stripes).Empty() {
			continue
		}
		m, err := r.Borrow(ctx, o.Store, w)
		if errors.Is(err, ErrNone) || errors.Is(err, logcore.ErrCorrupt) || errors.Is(err, logcore.ErrOverloaded) {
			r.countDamage(err)
			continue
		}
		return m, err
	}
	return nil, ErrNone
}
