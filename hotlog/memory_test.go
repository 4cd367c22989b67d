//go:build !race

package hotlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/logcore/logcore"
)

// The race detector takes memory of its own, so it is not counted then.
const (
	memoryCacheBytes = 4 << 20
	memoryQueueBytes = 8 << 20
	// memoryOwnBytes is what a process takes that has a log and uses little of it: the
	// runtime, the writer's buffer of 4 MiB, windows of the readers.
	memoryOwnBytes = 48 << 20
	// memoryLimitBytes bounds what a log takes with its cache and queue full. The garbage
	// collector lets memory grow to twice of what is in use.
	memoryLimitBytes = memoryOwnBytes + 2*(memoryCacheBytes+memoryQueueBytes)
)

func init() {
	children["memory"] = func(dir string) error { return withLittleMemory(dir, memoryCacheBytes) }
	children["memory-hoard"] = func(dir string) error { return withLittleMemory(dir, 256<<20) }
}

// F14: a process under full load, with many times more appended, read and recovered than its
// limits are, stays under what they say.
func TestF14Memory(t *testing.T) {
	if peak := peakMemory(t, "memory"); peak > memoryLimitBytes {
		t.Fatalf("%d bytes resident, the limit is %d", peak, memoryLimitBytes)
	}
}

// A log that keeps more than it was told is found out.
func TestF14FindsPlantedHoard(t *testing.T) {
	if peak := peakMemory(t, "memory-hoard"); peak <= memoryLimitBytes {
		t.Fatalf("not found: %d bytes resident, the limit is %d", peak, memoryLimitBytes)
	}
}

// peakMemory runs a child and returns the most memory that was resident.
func peakMemory(t *testing.T, what string) int64 {
	t.Helper()
	out, err := childCommand(what, filepath.Join(t.TempDir(), "log")).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var peak, appended int64
	if _, err := fmt.Sscanf(string(out), "peak %d appended %d", &peak, &appended); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	void(t, "MiB appended", int(appended>>20), 250)
	t.Logf("%d MiB appended and read 8 times, at most %d MiB resident, the limit is %d MiB", appended>>20, peak>>20, memoryLimitBytes>>20)
	return peak
}

// withLittleMemory is the process of TestF14Memory.
func withLittleMemory(dir string, cacheBytes int64) error {
	opts := Options{Dir: dir, SegmentBytes: 16 << 20, CacheBytes: cacheBytes, QueueBytesMax: memoryQueueBytes, EntryBytesMax: 1 << 20,
		DiskReserveBytes: 1, Logger: quiet()}
	ctx := context.Background()
	appended, payload := int64(0), make([]byte, 60<<10)
	for range 2 {
		l, _, err := Open(ctx, opts)
		if err != nil {
			return err
		}
		var all sync.WaitGroup
		for l.Last() < 5000 {
			var list []logcore.Entry
			for len(list) < 10 {
				e := logcore.Entry{LSN: l.Last() + 1 + logcore.LSN(len(list)), Kind: logcore.KindData, Time: 1, Payload: payload}
				if len(list) == 9 && l.SealDue() {
					e.Kind, e.Payload = logcore.KindSeal, nil
				}
				list = append(list, e)
				appended += int64(len(e.Payload))
			}
			all.Add(1)
			err := l.Submit(list, func(error) { all.Done() })
			if err != nil { // the queue is full
				all.Done()
				all.Wait()
				appended -= 10 * int64(len(payload))
			}
		}
		all.Wait()
		var readers sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			readers.Go(func() {
				for _, err := range l.Stream(StreamOptions{From: l.First()}) {
					if errs[i] = err; err != nil {
						return
					}
				}
			})
		}
		readers.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			fmt.Printf("peak %d appended %d\n", kib<<10, appended)
		}
	}
	return nil
}
