package tiering

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// An object whose record is still open when whoever wanted it went away is no orphan: the
// record is finished some time, and then names it.
func TestAnObjectOfAnOpenRecordIsNoOrphan(t *testing.T) {
	w, c, r := compactWorld(t, 104, time.Millisecond)
	c.mu.Lock()
	c.deleted = 1
	c.mu.Unlock()
	var rules []*bucket.Rule
	for i := range 3 { // records get no majority, fragments are placed
		rules = append(rules, w.faults[i].Add(bucket.Fault{Op: bucket.OpPut, Key: "*/manifest/*", Effect: bucket.Fail(nil)}))
	}
	before := w.manifests(3)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := r.Compact(ctx, CompactOptions{})
		gone <- err
	}()
	r.until("its record is on its way", func() bool {
		for _, rule := range rules {
			if rule.Hits() == 0 {
				return false
			}
		}
		return w.manifests(3) > before
	})
	cancel()
	if err := <-gone; err == nil {
		t.Fatal("a record without a majority was committed")
	}
	for i := range 3 {
		w.faults[i].Up()
	}
	r.mu.Lock()
	for _, target := range r.all() {
		r.unswept[target.Name] = true
	}
	r.mu.Unlock()
	r.until("swept", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.unswept) == 0
	})
	w.hot.append(1, 100)
	r.flushAll() // finishes it
	for l := logcore.LSN(1); l <= 15; l += 2 {
		c.erased[l] = true
	}
	if n := len(r.Reader().Tombstones()); n == 0 {
		t.Fatal("the record was not finished: the test shows nothing")
	}
	if _, _, _, err := readBack(t.Context(), r.Reader()); err != nil {
		t.Fatal(err)
	}
	r.close()
}

// flakyKeys is a key service that does not answer for one key.
type flakyKeys struct {
	KeyProvider
	away KeyID
	asks atomic.Int64
}

func (k *flakyKeys) Derive(ctx context.Context, id KeyID, salt []byte, info string) (out [32]byte, err error) {
	if id == k.away {
		k.asks.Add(1)
		return out, fmt.Errorf("%w %v: no answer", ErrKeyUnavailable, id)
	}
	return k.KeyProvider.Derive(ctx, id, salt, info)
}

// A key service that goes away while the manifest is read does not make an older manifest
// the newest.
func TestNewestRecordsWhoseKeyIsUnavailable(t *testing.T) {
	w, covered := filled(t, 105)
	first := w.keys.Current()
	w.keys = newKeyring([][32]byte{{1, 2, 3, 105}, {9, 9}})
	if w.keys.Current() == first {
		t.Fatal("no new key")
	}
	a := w.start(nil)
	a.until("signed anew", func() bool { s := a.state.Load(); return s.signers[len(s.signers)-1].keyID == w.keys.Current() })
	w.hot.append(3, 100)
	a.flushAll()
	if a.Covered() <= covered {
		t.Fatal(a.Covered())
	}
	newest := a.Covered()
	a.close()
	keys := &flakyKeys{KeyProvider: w.keys, away: w.keys.Current()}
	r, err := OpenReader(t.Context(), ReaderOptions{Targets: w.targets(), Keys: keys, Logger: quiet()})
	if keys.asks.Load() == 0 {
		t.Fatal("the key was not asked for")
	}
	if !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("%v: covers %d of %d", err, r.Covered(), newest)
	}
}

// Who can write to one bucket, and has no key, can leave something that looks like the
// claim of a newer archiver. That stops nobody.
func TestForgedClaimStopsNobody(t *testing.T) {
	w := newWorld(t, 106)
	a := w.start(nil)
	w.hot.append(3, 100)
	a.flushAll()
	key := claimKey(testCluster, 0, 1<<40)
	if err := w.stores[2].PutIfAbsent(t.Context(), key, []byte("not a claim")); err != nil {
		t.Fatal(err)
	}
	w.hot.append(3, 100)
	if err := a.flushOrDie(); err != nil {
		t.Fatal(err)
	}
	if a.Covered() != 6 {
		t.Fatal(a.Covered())
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	next := w.start(nil)
	w.hot.append(1, 100)
	next.flushAll()
	if err := next.close(); err != nil {
		t.Fatal(err)
	}
	w.mustCheck(7)
}

// A key service that goes away while the manifest is rebuilt does not make one of less than
// there is, and takes none for lost that it could not judge.
func TestSalvageWithoutTheKeyService(t *testing.T) {
	w, _ := filled(t, 108)
	o := w.readerOptions()
	o.Keys = &flakyKeys{KeyProvider: w.keys, away: w.keys.Current()}
	if _, err := Salvage(t.Context(), o, nil); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("beside a manifest: %v", err)
	}
	w.loseManifests()
	if report, err := Salvage(t.Context(), o, nil); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("%+v, %v", report, err)
	}
	for i := range w.stores {
		if keys := w.keysOn(i, "/manifest/"); len(keys) > 0 {
			t.Fatalf("%v were written", keys)
		}
	}
}

// A reader that has seen the manifest takes no older one for it, though every target is
// rolled back together.
func TestRollingEveryTargetBackIsNoticed(t *testing.T) {
	w := newWorld(t, 109)
	a := w.start(nil)
	w.hot.append(3, 100)
	a.flushAll()
	w.hot.append(3, 100)
	a.flushAll()
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	a.close()
	r, err := w.readerOn(w.targets())
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.stores {
		keys := w.keysOn(i, "/manifest/")
		w.rewriteObject(i, keys[len(keys)-1], func([]byte) []byte { return nil })
	}
	if fresh, err := w.readerOn(w.targets()); err != nil || fresh.Covered() >= r.Covered() {
		t.Fatalf("it was not rolled back: %v", err)
	}
	if err := r.Refresh(t.Context()); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("covers %d: %v", r.Covered(), err)
	}
	if r.Covered() != 6 {
		t.Fatal(r.Covered())
	}
}

// manifests counts the manifest records in one target's bucket.
func (w *world) manifests(i int) (n int) {
	w.t.Helper()
	err := w.stores[i].List(w.t.Context(), "", "", func(a bucket.Attributes) bool {
		if strings.Contains(a.Key, "/manifest/") {
			n++
		}
		return true
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
