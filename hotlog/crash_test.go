package hotlog

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/logcore/logcore/hotlog/internal/simdisk"
)

// crashStates is how many crash states each crash test looks at;
// LOGCORE_CRASH_STATES sets another number.
func crashStates(t *testing.T, def int) int {
	s := os.Getenv("LOGCORE_CRASH_STATES")
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("LOGCORE_CRASH_STATES=%q: want a positive number", s)
	}
	return n
}

// crashRun runs random operations and, in the middle of every file operation, looks
// at what the disk may hold if the power fails there. It returns the first state
// that breaks a promise.
func crashRun(seed uint64, states int, flaws simdisk.Flaws) (done int, err error) {
	return crashRunOn(seed, states, func(w *world) { w.disk.Flaws = flaws })
}

// crashRunOn is crashRun with something planted in every world.
func crashRunOn(seed uint64, states int, plant func(*world)) (done int, err error) {
	for done < states {
		w := newWorld(seed)
		plant(w)
		if err := w.open(); err != nil {
			return done, fmt.Errorf("seed %d: %w", seed, err)
		}
		var found error
		w.disk.Hook = func(op simdisk.Op) error {
			if found != nil || done >= states {
				return nil
			}
			done++
			crashSeed := seed<<32 + uint64(op.Index)
			if err := w.verify(crashSeed); err != nil {
				found = fmt.Errorf("seed %d, crash in operation %d (%s %s): %w", seed, op.Index, op.Kind, op.Name, err)
			}
			return nil
		}
		for range 60 {
			if err := w.step(); err != nil {
				return done, fmt.Errorf("seed %d: %w", seed, err)
			}
			if found != nil {
				break
			}
		}
		if err := errors.Join(found, w.log.Close()); err != nil {
			return done, err
		}
		seed++
	}
	return done, nil
}

// F2, F3: whatever subset of unsynced blocks, sectors, bytes and directory entries
// survives a power cut, no acknowledged entry is lost, none that was not submitted
// appears, and the log works on.
func TestCrashAtEveryOperation(t *testing.T) {
	states := crashStates(t, 3000)
	done, err := crashRun(1, states, simdisk.Flaws{})
	if err != nil {
		t.Fatalf("after %d states: %v", done, err)
	}
	t.Logf("%d crash states, 0 broken promises: below 3/%d", done, done)
}

// The harness finds what it is there to find.
func TestCrashFindsPlantedBugs(t *testing.T) {
	for name, flaws := range map[string]simdisk.Flaws{
		"ack before sync":   {SyncLies: true},
		"ack before all":    {PiecesLie: true},
		"no directory sync": {DirSyncLies: true},
	} {
		t.Run(name, func(t *testing.T) {
			done, err := crashRun(1, 4000, flaws)
			if err == nil {
				t.Fatalf("not found in %d states", done)
			}
			t.Logf("found after %d states: %v", done, err)
		})
	}
}

// F5: a sync that fails, at every index. Nothing is acknowledged after it, nothing
// acknowledged before it is lost, and the log opens again, by a new process on the
// same kernel (which shows cached bytes that the disk has not got) or after a crash.
func TestSyncErrorAtEveryIndex(t *testing.T) {
	hit, err := syncErrorRun(t, simdisk.Flaws{})
	if err != nil {
		t.Fatal(err)
	}
	if hit < 100 {
		t.Fatalf("void: only %d indexes were reached", hit)
	}
	t.Logf("%d sync indexes", hit)
}

func TestSyncErrorFindsPlantedRetry(t *testing.T) {
	if hit, err := syncErrorRun(t, simdisk.Flaws{SyncRetries: true}); err == nil {
		t.Fatalf("a retried sync was not found in %d indexes", hit)
	} else {
		t.Log("found:", err)
	}
}

var errInjected = errors.New("injected")

func syncErrorRun(t *testing.T, flaws simdisk.Flaws) (hit int, err error) {
	for fail := 0; ; fail++ {
		w := newWorld(uint64(fail))
		w.disk.Flaws = flaws
		failed := false
		w.disk.Hook = func(op simdisk.Op) error {
			if op.Kind == "sync" && op.Sync == fail {
				failed = true
				return errInjected
			}
			return nil
		}
		err := w.open()
		for i := 0; err == nil && w.ackErrors == 0 && i < 80; i++ {
			err = w.step()
		}
		if !failed {
			return hit, nil
		}
		hit++
		if w.afterErr > 0 {
			return hit, fmt.Errorf("sync %d failed: %d acknowledged after it", fail, w.afterErr)
		}
		if w.log != nil {
			if err == nil && w.log.Err() == nil {
				// The housekeeper's sync may fail without harm; the log goes on.
				err = w.check()
				if err != nil {
					return hit, fmt.Errorf("sync %d failed in the background: %w", fail, err)
				}
			}
			w.log.Close()
		}
		w.disk.Hook = nil
		if err := w.reopenAfterSyncError(fail); err != nil {
			return hit, fmt.Errorf("sync %d failed: %w", fail, err)
		}
	}
}

// reopenAfterSyncError opens the same disk in two ways: as it is, cache and all, then
// crashed; and crashed at once.
func (w *world) reopenAfterSyncError(fail int) error {
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
