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

// A store that begins from another store's checkpoint borrows it: it puts a manifest of its
// own into the other's chain, which repeats the newest one, keeps its epoch, and names the
// loan. Loans are so in one order with everything else that happens to the chain. Whoever
// holds the epoch, now or later, reads the newest manifest before it removes anything, and
// keeps what it lends: every later manifest repeats the loans that run. It is not made stale
// by that: a manifest of its own epoch that is not its own is a borrower's.
//
// A loan ends when the borrower gives it back, because it has everything and a checkpoint
// of its own, or when it has not been renewed for Options.Lend: then the borrower is gone.

// running returns the loans that have not ended.
func (m *Manifest) running() []Loan {
	at := now()
	return slices.DeleteFunc(slices.Clone(m.Loans), func(l Loan) bool { return !l.Until.After(at) })
}

// lending returns the manifest that follows with a loan more, in place of what the loan was.
func (m *Manifest) lending(l Loan) *Manifest {
	n := m.withoutLoan(l)
	n.Loans = append(n.Loans, l)
	return n
}

// withoutLoan returns the manifest that follows with a loan less.
func (m *Manifest) withoutLoan(l Loan) *Manifest {
	n := m.next()
	n.Loans = slices.DeleteFunc(n.Loans, l.same)
	return n
}

// same reports whether two are the same loan, whenever they end.
func (l Loan) same(o Loan) bool { return l.Store == o.Store && l.Number == o.Number }

// errNoLoan: the chain knows of no loan.
var errNoLoan = errors.New("checkpoint: nothing is lent")

// inChain commits to the chain of another store what change makes of its newest manifest.
func (r *Repository) inChain(ctx context.Context, change func(newest *Manifest) (*Manifest, error)) (*Manifest, error) {
	for range commitTries {
		newest, err := r.newestSound(ctx)
		if err != nil {
			return nil, err
		}
		m, err := change(newest)
		if err != nil {
			return nil, err
		}
		if err = r.commit(ctx, m); err == nil {
			return m, nil
		}
		if !errors.Is(err, errTaken) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("checkpoint: %d others changed the chain in %v meanwhile: try again", commitTries, r)
}

// newestSound returns the newest manifest, or ErrNone.
func (r *Repository) newestSound(ctx context.Context) (*Manifest, error) {
	number, load, err := r.headAndLoad(ctx)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		return nil, ErrNone
	}
	m, err := load(ctx, number)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, ErrNone // removed meanwhile, with the store's whole chain
	}
	return m, err
}

// Borrow lets the store of this repository begin from the newest checkpoint of another
// store of its family. What the manifest names stays where it is until the loan ends:
// Renew it in time, and give it back when nothing of it is needed any more.
func (r *Repository) Borrow(ctx context.Context, from string, w Wanted) (*Manifest, error) {
	lender, err := r.sibling(from)
	if err != nil {
		return nil, err
	}
	return lender.inChain(ctx, func(newest *Manifest) (*Manifest, error) {
		if logs, _ := w.fit(newest); !w.usable(newest) || logs == 0 {
			return nil, ErrNone
		}
		if len(newest.running()) >= loansMax {
			return nil, fmt.Errorf("%w: checkpoint: %d stores began from %v and need it still", logcore.ErrOverloaded, loansMax, lender)
		}
		return newest.lending(Loan{r.o.Name, newest.Number + 1, r.lentUntil()}), nil
	})
}

func (r *Repository) lentUntil() time.Time { return now().Add(r.o.Lend).UTC() }

// RenewEvery is how often a loan should be renewed.
func (r *Repository) RenewEvery() time.Duration { return r.o.Lend / 4 }

// Renew says that the store still needs what it borrowed, a manifest of that number. The
// error wraps ErrNone when the loan has ended.
func (r *Repository) Renew(ctx context.Context, from string, number uint64) error {
	return r.changeLoan(ctx, Loan{Store: from, Number: number}, func(newest *Manifest, mine Loan) *Manifest {
		mine.Until = r.lentUntil()
		return newest.lending(mine)
	})
}

// GiveBack ends the loan of a manifest; that there is none is no error.
func (r *Repository) GiveBack(ctx context.Context, from string, number uint64) error {
	err := r.changeLoan(ctx, Loan{Store: from, Number: number}, (*Manifest).withoutLoan)
	if errors.Is(err, ErrNone) {
		return nil
	}
	return err
}

// changeLoan changes a loan of this store; of names the lender.
func (r *Repository) changeLoan(ctx context.Context, of Loan, change func(newest *Manifest, mine Loan) *Manifest) error {
	lender, err := r.sibling(of.Store)
	if err != nil {
		return err
	}
	mine := Loan{Store: r.o.Name, Number: of.Number}
	_, err = lender.inChain(ctx, func(newest *Manifest) (*Manifest, error) {
		if !slices.ContainsFunc(newest.running(), mine.same) {
			return nil, errNoLoan
		}
		return change(newest, mine), nil
	})
	if errors.Is(err, errNoLoan) {
		return fmt.Errorf("%w: %v lends manifest %d to %s no more", ErrNone, lender, of.Number, r.o.Name)
	}
	return err
}

// sibling returns the repository of another store, for its chain alone.
func (r *Repository) sibling(store string) (*Repository, error) {
	if store == r.o.Name || !validName(store) {
		return nil, fmt.Errorf("%w: checkpoint: store %q borrows from itself", logcore.ErrInvalid, store)
	}
	return r.of(store), nil
}

func (r *Repository) of(store string) *Repository {
	o := r.o
	o.Name = store
	return &Repository{o: o, prefix: storePrefix(o.Cluster, store), server: r.server, metrics: r.metrics}
}
