package hotlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// crashRun runs random operations in worlds of seed, seed+1 and so on, and in the middle
// of every file operation looks at what the disk may hold if the power fails there.
// It returns how many states it looked at and the first that breaks a promise.
func crashRun(seed uint64, states int, plant func(*world)) (int, error) {
	var done atomic.Int64
	var next atomic.Uint64
	errs := make([]error, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for errs[i] == nil && done.Load() < int64(states) {
				errs[i] = crashWorld(seed+next.Add(1)-1, states, &done, plant)
			}
			if errs[i] != nil {
				done.Store(max(done.Load(), int64(states))) // ends the others
			}
		})
	}
	workers.Wait()
	return int(done.Load()), errors.Join(errs...)
}

// crashWorld is the part of one seed.
func crashWorld(seed uint64, states int, done *atomic.Int64, plant func(*world)) error {
	w := newWorld(seed)
	if plant != nil {
		plant(w)
	}
	if err := w.open(); err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}
	var found error
	w.disk.Hook = func(op simdisk.Op) error {
		if found != nil || done.Load() >= int64(states) {
			return nil
		}
		done.Add(1)
		if err := w.verify(seed<<32 + uint64(op.Index)); err != nil {
			found = fmt.Errorf("LOGCORE_SEED=%d, crash in operation %d (%s %s): %w", seed, op.Index, op.Kind, op.Name, err)
		}
		return nil
	}
	for range 60 {
		if err := w.step(); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		if found != nil || done.Load() >= int64(states) {
			break
		}
	}
	return errors.Join(found, w.log.Close())
}

// F2: whatever subset of the unsynced blocks of 4 KiB and of the directory entries
// survives a power cut, no acknowledged entry is lost, none that was not submitted appears,
// and the log works on.
func TestF2PowerCut(t *testing.T) {
	testCrash(t, func(w *world) { w.disk.WholeBlocks = true })
}

// F3: the same with writes torn at any sector or byte.
func TestF3TornWrites(t *testing.T) { testCrash(t, nil) }

func testCrash(t *testing.T, plant func(*world)) {
	states := figure(t, 2000, 100_000)
	done, err := crashRun(faultSeed(t), states, plant)
	if err != nil {
		t.Fatalf("after %d states: %v", done, err)
	}
	void(t, "crash states", done, states)
	t.Logf("%d crash states, 0 broken promises: below 3/%d", done, done)
}

// The harness finds what it is there to find.
func TestF2FindsPlantedBugs(t *testing.T) {
	flaw := func(f simdisk.Flaws) func(*world) { return func(w *world) { w.disk.Flaws = f } }
	for name, plant := range map[string]func(*world){
		"ack before sync":         flaw(simdisk.Flaws{SyncLies: true}),
		"ack before all pieces":   flaw(simdisk.Flaws{PiecesLie: true}),
		"no directory sync":       flaw(simdisk.Flaws{DirSyncLies: true}),
		"rename without sync":     flaw(simdisk.Flaws{TmpLies: true}),
		"mark speaks too early":   wrapped(func(f media.File) media.File { return eagerFile{f} }),
		"given-up tail not wiped": wrapped(func(f media.File) media.File { return unwipedFile{f} }),
	} {
		t.Run(name, func(t *testing.T) {
			done, err := crashRun(1, 20_000, plant)
			if err == nil {
				t.Fatalf("not found in %d states", done)
			}
			t.Logf("found: %v", err)
		})
	}
}

// wrappingDir lets a test plant something in every file of a medium.
type wrappingDir struct {
	media.Dir
	wrap func(media.File) media.File
}

func (d wrappingDir) Create(name string, size int64) (media.File, error) {
	f, err := d.Dir.Create(name, size)
	if err != nil {
		return nil, err
	}
	return d.wrap(f), nil
}

func (d wrappingDir) Open(name string) (media.File, error) {
	f, err := d.Dir.Open(name)
	if err != nil {
		return nil, err
	}
	return d.wrap(f), nil
}

// Close lets go of the medium.
func (d wrappingDir) Close() error {
	if c, ok := d.Dir.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// wrapped plants wrap in a world.
func wrapped(wrap func(media.File) media.File) func(*world) {
	return func(w *world) { w.medium = wrappingDir{w.disk, wrap} }
}

// unwipedFile plants a bug: zeros are not written, so what a crash or a truncation gave up
// stays where the next entries may lead up to it.
type unwipedFile struct{ media.File }

func (f unwipedFile) WriteAt(p []byte, off int64) (int, error) {
	if len(bytes.Trim(p, "\x00")) == 0 {
		return len(p), nil
	}
	return f.File.WriteAt(p, off)
}

// eagerFile plants a bug: a mark that goes with a batch speaks of that batch already,
// not of those before. With several pieces under way beside it, it proves what a crash tore.
type eagerFile struct{ media.File }

func (f eagerFile) WriteSync(writes []media.Write) error {
	if len(writes) > 1 && writes[0].Off > 0 && writes[0].Off < segment.FramesOffset {
		m, err := segment.DecodeMark(writes[0].P)
		if err != nil {
			return err
		}
		var frames []byte
		for _, w := range writes[1:] {
			frames = append(frames, w.P...)
		}
		for rest := frames[m.End-writes[1].Off:]; ; {
			e, sum, n, err := segment.DecodeFrame(rest, m.ID, m.Sum)
			if err != nil {
				break
			}
			m.LSN, m.Sum, m.End, rest = e.LSN, sum, m.End+int64(n), rest[n:]
		}
		eager := media.Buffer(segment.BlockBytes)
		m.Append(eager[:0])
		writes = slices.Clone(writes)
		writes[0].P = eager
	}
	return f.File.WriteSync(writes)
}

// F5: a sync that fails, at every index of a run of operations. Nothing is acknowledged
// after it, nothing acknowledged before it is lost, and the log opens again, by a new
// process on the same kernel (which shows cached bytes that the disk has not got) or
// after a crash.
func TestF5SyncFails(t *testing.T) {
	operations := figure(t, 40, 1000)
	seed := faultSeed(t)
	hit, err := syncErrorRun(seed, operations, simdisk.Flaws{})
	if err != nil {
		t.Fatal(err)
	}
	void(t, "sync indexes", hit, 2*operations)
	t.Logf("each of the %d syncs of %d operations failed once", hit, operations)
}

// What these suites once found: a write behind the end of a file that a footer had made
// end inside of a block; a mark that was in the cache only when recovery zeroed what the
// one on the disk spoke of; the one free mark of a file written over first.
func TestF5Regressions(t *testing.T) {
	var states atomic.Int64
	if err := crashWorld(1490490336, 1000, &states, nil); err != nil {
		t.Error(err)
	}
	for _, r := range []struct {
		seed uint64
		sync int
	}{{12, 149}, {13, 58}, {13, 213}, {476844094, 59}, {476844094, 69}} {
		if _, err := syncErrorAt(r.seed, r.sync, 80, simdisk.Flaws{}); err != nil {
			t.Error(err)
		}
	}
}

func TestF5FindsPlantedRetry(t *testing.T) {
	hit, err := syncErrorRun(1, 80, simdisk.Flaws{SyncRetries: true})
	if err == nil {
		t.Fatalf("a retried sync was not found in %d indexes", hit)
	}
	t.Log("found:", err)
}

var errInjected = errors.New("injected")

// syncErrorRun lets every sync of a run fail, each in a run of its own.
func syncErrorRun(seed uint64, operations int, flaws simdisk.Flaws) (int, error) {
	var hit, next atomic.Int64
	var end atomic.Bool
	errs := make([]error, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for !end.Load() {
				failed, err := syncErrorAt(seed, int(next.Add(1)-1), operations, flaws)
				if errs[i] = err; err != nil || !failed {
					end.Store(true)
				}
				if failed {
					hit.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return int(hit.Load()), errors.Join(errs...)
}

// syncErrorAt lets one sync fail; failed is false when the run has not so many.
func syncErrorAt(seed uint64, fail, operations int, flaws simdisk.Flaws) (failed bool, err error) {
	w := newWorld(seed)
	w.disk.Flaws = flaws
	w.disk.Hook = func(op simdisk.Op) error {
		if op.Kind == "sync" && op.Sync == fail {
			failed = true
			return errInjected
		}
		return nil
	}
	err = w.open()
	for i := 0; err == nil && w.ackErrors == 0 && i < operations; i++ {
		err = w.step()
	}
	if !failed {
		return false, errors.Join(err, w.log.Close())
	}
	at := func(what string, err error) (bool, error) {
		return true, fmt.Errorf("LOGCORE_SEED=%d, sync %d failed: %s: %w", seed, fail, what, err)
	}
	if w.afterErr > 0 {
		return at("acknowledged after it", fmt.Errorf("%d entries", w.afterErr))
	}
	if w.log != nil {
		if err == nil && w.log.Err() == nil {
			// The housekeeper's sync may fail without harm; the log goes on.
			if err := w.check(); err != nil {
				return at("in the background", err)
			}
		}
		w.log.Close()
	}
	w.disk.Hook = nil
	if err := w.reopenAfterSyncError(); err != nil {
		return at("afterwards", err)
	}
	return true, nil
}

// reopenAfterSyncError opens the same disk in two ways: as it is, cache and all, then
// crashed; and crashed at once.
func (w *world) reopenAfterSyncError() error {
	for seed := range uint64(3) {
		if err := w.verify(seed); err != nil {
			return fmt.Errorf("crash: %w", err)
		}
	}
	// The power may fail in the middle of the recovery too.
	var found error
	seed := uint64(0)
	w.disk.Hook = func(op simdisk.Op) error {
		if seed++; found == nil {
			if err := w.verify(seed); err != nil {
				found = fmt.Errorf("crash in operation %s of the recovery: %w", op.Kind, err)
			}
		}
		return nil
	}
	if err := errors.Join(w.compare(), found); err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	w.disk.Hook = nil
	// Whatever the reopened log shows it owes from now on.
	w.acked = w.log.Last()
	w.entries = w.entries[:w.acked]
	w.firstMin, w.firstMax = w.log.First(), w.log.First()
	for seed := range uint64(3) {
		if err := w.verify(seed); err != nil {
			return fmt.Errorf("reopen, then crash: %w", err)
		}
	}
	return w.log.Close()
}
