package checkpoint

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
	"github.com/logcore/logcore/tiering/bucket"
)

const (
	// runBlocks is how many neighbouring blocks are fetched with one request ahead of
	// readers; a reader that waits asks for its block alone.
	runBlocks = 16
	// hintsMax bounds what Pebble announced to read and nobody fetched yet; more is dropped.
	hintsMax = 256
	// yieldMax bounds how long fetching ahead stands back for a reader that waits.
	yieldMax = 50 * time.Millisecond
	// wholeTries is how often a table whose blocks are all sound and whose digest is not is
	// fetched anew.
	wholeTries = 2
)

func isGone(err error) bool { return errors.Is(err, bucket.ErrNotFound) }

// prefetcher is what fetching ahead shares with readers.
type prefetcher struct {
	readers atomic.Int64 // that wait for the bucket
	hints   chan hinted
}

type hinted struct {
	f     *lazyFile
	block int
}

// hint notes that a range of a table will be read soon.
func (p *prefetcher) hint(f *lazyFile, offset, length int64) {
	for b := offset / int64(f.t.Block); b*int64(f.t.Block) < offset+length && b < int64(f.t.blocks()); b++ {
		if f.have[b].Load() {
			continue
		}
		select {
		case p.hints <- hinted{f, int(b)}:
		default:
			return
		}
	}
}

// Warm brings what the checkpoint says is read first, and returns when that is there, or
// failed: readers fetch for themselves what they need.
func (l *Local) Warm(ctx context.Context) {
	if l.r == nil {
		return
	}
	jobs := make(chan func() error)
	var workers sync.WaitGroup
	for range l.r.o.Fetches {
		workers.Go(func() {
			for job := range jobs {
				if err := job(); err != nil && !errors.Is(err, errDropped) && ctx.Err() == nil {
					l.r.o.Logger.Debug("checkpoint: fetching ahead failed", "err", err)
				}
			}
		})
	}
	l.dispatchWarm(ctx, giver(ctx, jobs))
	close(jobs)
	workers.Wait()
}

// giver returns what hands out a job; false when ctx is done.
func giver(ctx context.Context, jobs chan<- func() error) func(func() error) bool {
	return func(job func() error) bool {
		select {
		case jobs <- job:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// dispatchWarm hands out what is read first.
func (l *Local) dispatchWarm(ctx context.Context, give func(func() error) bool) bool {
	l.mu.Lock()
	warm := l.warm
	l.mu.Unlock()
	for _, w := range warm {
		f := l.fs.find(l.storePath(w.name))
		if f == nil || f.have[w.block].Load() {
			continue
		}
		if !give(func() error { return f.warm(ctx, w.block) }) {
			return false
		}
	}
	return true
}

// Fetch brings everything that is missing: first what the checkpoint says is read first,
// then what readers are about to read, then the rest, table by table. A table that is
// whole is checked once more, synced and put in its place. It returns nil when nothing is
// missing, ctx's error when that is done, and an error that wraps logcore.ErrCorrupt when
// the checkpoint can't complete the store. Other errors, as of a bucket that is down, may
// pass: call it again.
func (l *Local) Fetch(ctx context.Context) error {
	if l.r == nil {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan func() error)
	var workers sync.WaitGroup
	for range l.r.o.Fetches {
		workers.Go(func() {
			for job := range jobs {
				if err := job(); err != nil && !errors.Is(err, errDropped) {
					cancel(err)
				}
			}
		})
	}
	l.dispatch(ctx, jobs)
	close(jobs)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := l.finish(ctx); err != nil {
		return err
	}
	l.noteMissing()
	return nil
}

// errDropped: Pebble removed the table meanwhile.
var errDropped = errors.New("checkpoint: the table is not needed any more")

// dispatch hands out the work in order until there is none left or ctx is done.
func (l *Local) dispatch(ctx context.Context, jobs chan<- func() error) {
	give := giver(ctx, jobs)
	if !l.dispatchWarm(ctx, give) {
		return
	}
	for _, f := range l.fs.lazyTables() {
		for first := 0; first < f.t.blocks(); first += runBlocks {
			for hints := true; hints; {
				select {
				case h := <-l.r.hints:
					if h.f.l == l && !give(func() error { return h.f.warm(ctx, h.block) }) {
						return
					}
				default:
					hints = false
				}
			}
			if !give(func() error { return f.run(ctx, first) }) {
				return
			}
		}
		l.noteMissing()
	}
}

func (l *Local) storePath(name string) string { return l.dir + string(os.PathSeparator) + name }

// acquire opens the table for the fetcher, unless it is gone.
func (f *lazyFile) acquire() error {
	f.l.fs.mu.Lock()
	if f.links == 0 {
		f.l.fs.mu.Unlock()
		return errDropped
	}
	f.handles++
	f.l.fs.mu.Unlock()
	if err := f.ready(); err != nil {
		f.l.fs.closed(f)
		return err
	}
	return nil
}

// warm fetches one block.
func (f *lazyFile) warm(ctx context.Context, block int) error {
	if f.have[block].Load() {
		return nil
	}
	if err := f.acquire(); err != nil {
		return err
	}
	defer f.l.fs.closed(f)
	_, err := f.block(ctx, block)
	return err
}

// run fetches what is missing of runBlocks blocks, in as few requests as that takes.
func (f *lazyFile) run(ctx context.Context, first int) error {
	f.l.r.yield(ctx)
	if err := f.acquire(); err != nil {
		return err
	}
	defer f.l.fs.closed(f)
	end := min(first+runBlocks, f.t.blocks())
	for b := first; b < end; {
		if f.there(b) {
			b++
			continue
		}
		n := 1
		for b+n < end && !f.there(b+n) {
			n++
		}
		contents, err := f.fetch(ctx, b, n, forPrefetch)
		if err != nil {
			return err
		}
		for i, content := range contents {
			if err := f.keep(b+i, content); err != nil {
				return err
			}
		}
		b += n
	}
	return nil
}

// there reports whether a block need not be fetched.
func (f *lazyFile) there(block int) bool {
	if f.have[block].Load() {
		return true
	}
	_, ok := f.onDisk(block)
	return ok
}

// yield stands back while readers wait for the bucket.
func (p *prefetcher) yield(ctx context.Context) {
	for until := time.Now().Add(yieldMax); p.readers.Load() > 0 && time.Now().Before(until) && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
}

// finish puts whole tables in their place.
func (l *Local) finish(ctx context.Context) error {
	for _, f := range l.fs.lazyTables() {
		err := l.complete(ctx, f)
		if err != nil && !errors.Is(err, errDropped) {
			return err
		}
	}
	if l.fs.count() > 0 {
		return nil // Refetch added one meanwhile
	}
	if err := os.RemoveAll(l.lazy); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// complete verifies a table whose blocks are all there as a whole, makes it durable and
// puts it in the store.
func (l *Local) complete(ctx context.Context, f *lazyFile) error {
	if err := f.acquire(); err != nil {
		return err
	}
	defer l.fs.closed(f)
	for try := 1; ; try++ {
		for first := 0; first < f.t.blocks(); first += runBlocks {
			if err := f.run(ctx, first); err != nil {
				return err
			}
		}
		err := f.verify()
		if err == nil {
			break
		}
		l.r.countDamage(err)
		if try == wholeTries || !errors.Is(err, logcore.ErrCorrupt) {
			return err
		}
		f.forget()
	}
	if err := f.part.Sync(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.fs.files[f.path()] != f {
		return errDropped
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.Rename(l.partPath(f.t.Name), f.path()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	f.whole = true
	delete(l.fs.files, f.path())
	f.links--
	if err := os.Remove(l.partPath(f.t.Name) + sumsSuffix); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return durable.SyncDir(l.dir)
}

// verify compares the content with the digest in the manifest.
func (f *lazyFile) verify() error {
	h := sha256.New()
	if err := hashFile(h, f.part, f.t.Size); err != nil {
		return err
	}
	if Digest(h.Sum(nil)) != f.t.Content {
		return damaged(f.t.Name, "the whole table fails its digest")
	}
	return nil
}

func hashFile(h hash.Hash, file *os.File, size int64) error {
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		n, err := file.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 && err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		h.Write(buf[:n])
		at += int64(n)
	}
	return nil
}

// forget makes every block missing again.
func (f *lazyFile) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.sum)
	for i := range f.have {
		if f.have[i].Swap(false) {
			f.lacking.Add(int64(f.t.blockLen(i)))
		}
	}
}
