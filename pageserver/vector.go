package pageserver

import (
	"cmp"
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// apieceMin is how many pages of a request a goroutine has to read from the store to be
// worth it.
const apieceMin = 8

// pagesAtLSN appends the pages asked for to set, in the order asked for. Those that are
// cached are taken at once; the others are read in the order in which they lie in the
// store, many of them by several goroutines, so that reads of cold blocks overlap.
func (r *reader) pagesAtLSN(l *logState, space engine.Space, numbers []uint32, lsn logcore.LSN, set *PageSet) error {
	var missing []int
	for i, n := range numbers {
		r.s.heat.note(l.id, space, n)
		p, ok := r.s.cachedPage(l.currentID(space, n), lsn)
		if !ok {
			missing = append(missing, i)
		}
		set.Pages = append(set.Pages, Page{n, p.data, p.digest, p.last})
	}
	slices.SortFunc(missing, func(i, j int) int { return cmp.Compare(numbers[i], numbers[j]) })
	workers := min(len(missing)/apieceMin, 2*runtime.GOMAXPROCS(0))
	if workers < 2 {
		return r.fill(l, space, missing, lsn, set.Pages)
	}
	var group sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		part := missing[w*len(missing)/workers : (w+1)*len(missing)/workers]
		group.Go(func() {
			own := r.s.newReader()
			defer own.close()
			own.exact = r.exact
			errs[w] = own.fill(l, space, part, lsn, set.Pages)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// fill reads the pages at some places of a set.
func (r *reader) fill(l *logState, space engine.Space, places []int, lsn logcore.LSN, pages []Page) error {
	for _, i := range places {
		p, err := r.pageAtLSN(l, space, pages[i].Number, lsn)
		if err != nil {
			return err
		}
		pages[i].Data, pages[i].Digest, pages[i].LastLSN = p.data, p.digest, p.last
	}
	return nil
}
