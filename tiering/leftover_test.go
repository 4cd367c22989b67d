package tiering

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// Superfluous records are forgotten once they are gone from every target that is there,
// and the one that was away is rid of them when it is back.
func TestOldRecordsWhileATargetIsAway(t *testing.T) {
	w := newWorld(t, 61)
	w.change = func(o *Options) { o.Grace, o.MaxAge = time.Nanosecond, 5*time.Millisecond }
	r := w.start(nil)
	w.hot.append(2, 64)
	r.flushAll()
	r.until("placed", func() bool { return r.Status().Degraded == 0 })
	w.faults[5].Down()
	for range 5 * testRollupMin {
		w.hot.append(1, 64)
		r.flushAll()
	}
	remembered := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.oldRecord)
	}
	r.until("rolled up", func() bool { return r.state.Load().base > 2*testRollupMin })
	r.until("forgotten", func() bool { return remembered() == 0 })

	w.faults[5].Up()
	old := func(key string) bool {
		n, _ := parseRecordKey(testCluster, 0, key)
		return n.number < r.state.Load().base
	}
	r.until("tidied", func() bool { return !slices.ContainsFunc(records(w, 5), old) && len(records(w, 5)) > 0 })
	if err := r.quiesce(); err != nil {
		t.Fatal(err)
	}
}

// A fragment that could not be rewritten is not said to be, and is rewritten later.
func TestRottenFragmentThatCanNotBeRewritten(t *testing.T) {
	w := newWorld(t, 62)
	var logged bytes.Buffer
	w.change = func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) }
	r := w.start(nil)
	w.hot.append(10, 1000)
	r.flushAll()
	r.until("placed", func() bool { return r.Status().Degraded == 0 })
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	const said = "rewrote a rotten fragment"
	o := r.state.Load().live[0]
	key := o.name().key(testCluster, 0, 0)
	w.rewriteObject(0, key, func([]byte) []byte { return nil })
	w.faults[0].Add(bucket.Fault{Op: bucket.OpPut, Effect: bucket.Fail(bucket.ErrFull)})
	r.noteRotten(o.name(), 0)
	r.noteRotten(o.name(), 0)
	if err := r.rewriteRotten(t.Context()); err == nil || !strings.Contains(err.Error(), "a1") {
		t.Errorf("got %v, want an error that names the target", err)
	}
	if strings.Contains(logged.String(), said) {
		t.Error("it says that it rewrote a fragment that is missing")
	}
	w.faults[0].Up()
	if err := r.rewriteRotten(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(logged.String(), said); n != 1 || !slices.Contains(w.keysOn(0, "/fragment/"), key) {
		t.Errorf("once the target took it: said %d times, on the target are %v", n, w.keysOn(0, "/fragment/"))
	}
	if err := r.rewriteRotten(t.Context()); err != nil || strings.Count(logged.String(), said) != 1 {
		t.Errorf("nothing is rotten any more: %v", err)
	}
}

// An archiver stops while its newest record is on one target only; that target is away
// while the next archiver goes on without. Nothing is damaged by that, whenever one
// looks, and the record goes when the target is back.
func TestLeftoverRecord(t *testing.T) {
	w := newWorld(t, 63)
	w.change = func(o *Options) { o.MaxAge = 5 * time.Millisecond }
	r := w.start(nil)
	w.hot.append(5, 100)
	r.flushAll()
	r.until("whole", func() bool { return r.Status().Degraded == 0 })
	before := records(w, 5)
	for i := range 5 {
		w.faults[i].Add(bucket.Fault{Op: bucket.OpPut, Key: "*/manifest/*", Effect: bucket.Fail(bucket.ErrFull)})
	}
	w.hot.append(5, 100)
	r.until("a record on c2 alone", func() bool { return len(records(w, 5)) > len(before) })
	r.close()
	leftover := w.lastRecord(5)
	for i := range 5 {
		w.faults[i].Up()
	}
	w.faults[5].Down()
	s := w.start(nil)
	w.hot.append(5, 100)
	s.flushAll()
	s.close()
	kinds := w.kindsOf(t)
	if kinds[ProblemRecordLeftover] != 1 || kinds[ProblemRecordBehind] == 0 || kinds[ProblemRecordFork] > 0 {
		t.Errorf("problems %v, want one %s and some %s", kinds, ProblemRecordLeftover, ProblemRecordBehind)
	}

	u := w.start(nil)
	w.hot.append(1, 100)
	u.flushAll()
	w.faults[5].Up()
	u.until("tidied", func() bool { return !slices.Contains(records(w, 5), leftover) })
	if err := u.quiesce(); err != nil {
		t.Fatal(err)
	}
	u.until("synced", func() bool { return u.TargetStatus()[5].ManifestSynced })
	u.close()
	if kinds := w.kindsOf(t); len(kinds) > 0 {
		t.Errorf("problems after all is tidied: %v", kinds)
	}
}

// kindsOf counts what Verify finds, of which nothing may be damage.
func (w *world) kindsOf(t *testing.T) map[ProblemKind]int {
	t.Helper()
	report, err := Verify(t.Context(), w.bare(), w.keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[ProblemKind]int{}
	for _, p := range report.Problems {
		if kinds[p.Kind]++; !p.Notice() {
			t.Errorf("nothing is damaged, and verify says: %v", p)
		}
	}
	return kinds
}

// The service stopped while a cloud was away: its targets lack the newest records. That
// is no damage; a gap before records that they have is.
func TestTargetsBehind(t *testing.T) {
	w := newWorld(t, 64)
	r := w.start(nil)
	for range 3 {
		w.hot.append(2, 100)
		r.flushAll()
	}
	r.until("whole", func() bool { return r.Status().Degraded == 0 })
	w.faults[0].Down()
	w.faults[1].Down()
	for range 4 {
		w.hot.append(2, 100)
		r.flushAll()
	}
	r.close()
	if kinds := w.kindsOf(t); kinds[ProblemRecordBehind] < 8 || kinds[ProblemRecordMissing] > 0 {
		t.Errorf("problems %v, want at least 8 %s", kinds, ProblemRecordBehind)
	}
	gap := records(w, 2)[len(records(w, 2))-2]
	w.rewriteObject(2, gap, func([]byte) []byte { return nil })
	report, err := Verify(t.Context(), w.bare(), w.keys, nil)
	if err != nil || report.OK() || !slices.ContainsFunc(report.Problems, func(p Problem) bool {
		return p.Kind == ProblemRecordMissing && p.Target == "b1" && p.Key == gap
	}) {
		t.Errorf("a record lost amid others: %v %v", err, report.Problems)
	}
	if done, err := Repair(t.Context(), w.bare(), w.keys, nil); err != nil || len(done.Left) > 0 {
		t.Errorf("repair: %v, left %v", err, done.Left)
	}
}
