package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore/recovery"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
)

// manyObjects archives a log in as many objects as it can.
func manyObjects(t *testing.T, flushes int) *world {
	w := newWorld(t)
	w.maxAge = time.Hour
	w.start(w.dir, w.urls)
	for range flushes {
		w.write("orders", 14, 60<<10)
		w.flush()
	}
	w.stop()
	return w
}

// A restore that is stopped again and again fetches each object once, but for the one under
// way at each stop; and what comes out is right. Damage to what it kept is found.
func TestRestoreResumes(t *testing.T) {
	w := manyObjects(t, 14)
	whole, err := recovery.Restore(ctx, w.options("whole"))
	if err != nil {
		t.Fatal(err)
	}
	if whole.ObjectsRead < 10 {
		t.Fatalf("%d objects: too few to show anything", whole.ObjectsRead)
	}
	fetched, stops := int64(0), 0
	largest := int64(0)
	var last recovery.Report
	for n := 1; ; n++ {
		stopped, cancel := context.WithCancel(ctx)
		opts := w.options("resumed")
		opts.MemoryMax = 1 // one object at a time
		passed := 0
		opts.Progress = func(p recovery.Progress) {
			if p.Step == "rebuild" {
				if passed++; passed == n*2 {
					cancel()
				}
			}
		}
		last, err = recovery.Restore(stopped, opts)
		cancel()
		fetched += last.BytesRead
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		stops++
		if n == 2 { // what it kept is damaged: a flipped bit, half a file, another object's name
			largest = damageSpool(t, filepath.Join(opts.To, ".restoring", "objects"))
		}
	}
	if stops < 4 || last.ObjectsResumed < whole.ObjectsRead/2 {
		t.Errorf("%d stops, %d of %d objects resumed", stops, last.ObjectsResumed, whole.ObjectsRead)
	}
	// Each stop may cost the object under way and the one ahead; the damage costs three.
	object := whole.BytesRead/int64(whole.ObjectsRead)*2 + largest*2
	if bound := whole.BytesRead + int64(stops*2+3)*object; fetched > bound {
		t.Errorf("%d bytes were fetched in %d attempts, %d are needed, at most %d are allowed", fetched, stops+1, whole.BytesRead, bound)
	}
	if afresh := int64(stops) * whole.BytesRead / 2; fetched > whole.BytesRead+afresh/2 {
		t.Errorf("%d bytes were fetched: beginning afresh would have cost about %d", fetched, whole.BytesRead+afresh)
	}
	if a, b := dump(t, recovery.ShardDir(whole.To, 0)), dump(t, recovery.ShardDir(last.To, 0)); !slices.Equal(a, b) {
		t.Error("what was resumed differs from what was restored at once")
	}
	if _, err := os.Stat(filepath.Join(last.To, ".restoring")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the work directory is left: %v", err)
	}
	var text strings.Builder
	if err := last.WriteText(&text); err != nil || !strings.Contains(text.String(), "resumed ") {
		t.Errorf("%v:\n%s", err, &text)
	}
}

func damageSpool(t *testing.T, dir string) (largest int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 3 {
		t.Fatalf("%d objects kept: %v", len(entries), err)
	}
	for i, e := range entries[:3] {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, int64(len(data)))
		switch i {
		case 0:
			data[rand.IntN(len(data))] ^= 1
		case 1:
			data = data[:len(data)/2]
		case 2:
			if data, err = os.ReadFile(filepath.Join(dir, entries[len(entries)-1].Name())); err != nil {
				t.Fatal(err)
			}
			data = append(data, 0)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return largest
}

// underWay counts the objects that fragments are being fetched of. No call is answered
// before fragments of least objects are on their way.
type underWay struct {
	least  int
	enough chan struct{} // closed once there were least

	mu   sync.Mutex
	now  map[string]int // guarded by mu: calls by object
	most int            // guarded by mu: objects at once
}

func newUnderWay(least int) *underWay {
	return &underWay{least: least, enough: make(chan struct{}), now: map[string]int{}}
}

// begin notes a call for a fragment of an object; the func it returns that it has ended.
func (u *underWay) begin(object string) (end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now[object]++
	if u.most = max(u.most, len(u.now)); u.most >= u.least {
		select {
		case <-u.enough:
		default:
			close(u.enough)
		}
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.now[object]--; u.now[object] == 0 {
			delete(u.now, object)
		}
	}
}

// watched is a bucket whose calls are counted, and overlap.
type watched struct {
	bucket.Bucket
	seen *underWay
}

func (b watched) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	name, _, _ := strings.Cut(key, ".")
	if !strings.Contains(key, "/fragment/") {
		return b.Bucket.Get(ctx, key, offset, length)
	}
	defer b.seen.begin(name)()
	select {
	case <-b.seen.enough:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	time.Sleep(time.Millisecond) // more than allowed would meet here
	return b.Bucket.Get(ctx, key, offset, length)
}

// Objects are read beside each other, as many as the memory allows.
func TestRestoreReadsInParallel(t *testing.T) {
	w := manyObjects(t, 10)
	for _, c := range []struct {
		memory      int64
		least, most int
	}{{1, 1, 1}, {64 << 20, 4, 16}} {
		opts := w.options(fmt.Sprintf("with-%d", c.memory))
		opts.MemoryMax = c.memory
		seen := newUnderWay(c.least)
		opts.Targets = slices.Clone(opts.Targets)
		for i := range opts.Targets {
			opts.Targets[i].Bucket = watched{opts.Targets[i].Bucket, seen}
		}
		if _, err := recovery.Restore(ctx, opts); err != nil {
			t.Fatalf("with %d bytes, %d objects at once: %v", c.memory, seen.most, err)
		}
		if seen.most < c.least || seen.most > c.most {
			t.Errorf("with %d bytes %d objects were read at once, want %d to %d", c.memory, seen.most, c.least, c.most)
		}
	}
}

// Targets that hang are left out; too few left is said within seconds, whoever is to blame.
func TestRestoreNeverHangs(t *testing.T) {
	w := manyObjects(t, 4)
	restore := func(name string, hanging, lost int) (recovery.Report, time.Duration, error) {
		opts := w.options(name)
		opts.AnswerWithin = 500 * time.Millisecond
		opts.Targets = slices.Clone(opts.Targets)
		for i := range opts.Targets {
			f := bucket.NewFaults(opts.Targets[i].Bucket)
			switch {
			case i < hanging:
				f.Add(bucket.Fault{Effect: bucket.Hang()})
			case i < hanging+lost:
				f.Add(bucket.Fault{Key: "*/fragment/*", Op: bucket.OpGet, Effect: bucket.Fail(bucket.ErrNotFound)})
				f.Add(bucket.Fault{Key: "*/fragment/*", Op: bucket.OpHead, Effect: bucket.Fail(bucket.ErrNotFound)})
				f.Add(bucket.Fault{Key: "*/fragment/", Op: bucket.OpList, Effect: bucket.Effect{Hides: func(string, bool) bool { return true }}})
			}
			opts.Targets[i].Bucket = f
		}
		began := time.Now()
		report, err := recovery.Restore(ctx, opts)
		return report, time.Since(began), err
	}
	report, took, err := restore("two", 2, 0)
	if err != nil || took > 10*time.Second || !slices.Equal(report.Unreachable, []string{"a1", "a2"}) {
		t.Errorf("two that hang: %v after %v, %+v", err, took, report.Unreachable)
	}
	for name, c := range map[string][2]int{"hang-1-lost-2": {1, 2}, "hang-2-lost-1": {2, 1}, "lost-3": {0, 3}} {
		report, took, err := restore(name, c[0], c[1])
		if !errors.Is(err, tiering.ErrTooFewFragments) || took > 10*time.Second || len(report.Lost) != 1 || report.Lost[0].Last != report.ArchivedLSN || report.BytesRead != 0 {
			t.Errorf("%s: %v after %v, lost %+v, %d bytes read", name, err, took, report.Lost, report.BytesRead)
			continue
		}
		for i := range 3 {
			if want := []string{"a1", "a2", "b1"}[i]; !strings.Contains(report.Lost[0].Reason, want+":") {
				t.Errorf("%s: it doesn't name %s: %s", name, want, report.Lost[0].Reason)
			}
		}
	}
	if _, took, err := restore("three", 3, 0); !errors.Is(err, tiering.ErrTooFewFragments) && !errors.Is(err, tiering.ErrUnproven) || took > 10*time.Second {
		t.Errorf("three that hang: %v after %v", err, took)
	}
}
