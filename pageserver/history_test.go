package pageserver_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/pageserver"
)

// TestOtherHistory: the log service's directory is put back from an older copy and goes
// on from there, under the incarnation it had. Whether its new history is shorter than
// what was ingested, as long to the LSN, or longer, no page of the old one is served.
func TestOtherHistory(t *testing.T) {
	for _, running := range []bool{true, false} {
		for name, change := range map[string]func(r *rig){
			"shorter": func(r *rig) {
				r.source.Rollback(r.source.Last() / 2)
				r.append("db", 1)
			},
			"another entry at the last LSN": func(r *rig) {
				entries := r.source.Entries("db")
				r.source.Rollback(entries[len(entries)-2].LSN)
				lsn := appendRecords(r.t, r.source, "db", image(engine.SpaceOf(1), 3, 'n'))
				if want := entries[len(entries)-1].LSN; lsn != want {
					r.t.Fatalf("the new entry is at LSN %d, want %d", lsn, want)
				}
			},
			"longer": func(r *rig) {
				r.source.Rollback(r.source.Last() / 2)
				r.append("db", 120)
			},
		} {
			t.Run(fmt.Sprintf("running %v/%s", running, name), func(t *testing.T) { testOtherHistory(t, running, change) })
		}
	}
}

func testOtherHistory(t *testing.T, running bool, change func(r *rig)) {
	r := newRig(t, 120)
	r.opts.PageCacheBytes = 8 << 20 // pages of the old history stay cached
	s := r.start()
	if _, _, err := s.CreateBranch(t.Context(), "db", "fork", pageserver.ReadAt{Wait: wait}); err != nil {
		t.Fatal(err)
	}
	r.append("fork", 10)
	r.append("db", 10)
	r.compare(s, "db", 10)
	r.compare(s, "fork", 10)
	if running {
		r.whileDown(s, func() { change(r) })
	} else {
		s.Stop(t)
		change(r)
		s = r.start()
	}
	r.compare(s, "db", 40)
	if n := r.metric("incarnation_resets_total"); n < 1 {
		t.Errorf("%v resets counted", n)
	}
}

// TestOtherHistoryBehindTheLastEntry: what is replaced is a stretch that held nothing of
// the log, and now does. The pages are good, and a reader there waits for the new entries.
func TestOtherHistoryBehindTheLastEntry(t *testing.T) {
	r := newRig(t, 40)
	s := r.start()
	last := r.source.Last()
	r.source.Create("other")
	for r.source.Last() < last+40 {
		appendRecords(t, r.source, "other", image(engine.SpaceOf(1), 1, 'o'))
	}
	r.compare(s, "db", 10) // at an LSN behind its last entry
	arrive := make(chan struct{})
	r.whileDown(s, func() {
		r.source.Rollback(last)
		r.append("db", 60)
		r.source.Mangle = func(_ string, b pageserver.Batch) []pageserver.Batch {
			<-arrive
			return []pageserver.Batch{b}
		}
	})
	if _, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: last, Wait: wait}); err != nil {
		t.Error(err)
	}
	if at, err := s.WaitLSN(t.Context(), "db", pageserver.ReadAt{LSN: last + 30, Wait: time.Millisecond}); !errors.Is(err, logcore.ErrLSNInFuture) {
		t.Errorf("before any new entry has come: LSN %d, %v, want ErrLSNInFuture", at, err)
	}
	close(arrive)
	r.compare(s, "db", 40)
}

// TestSameHistory: a log service that merely restarted is followed on, with nothing
// thrown away, though it has gone on meanwhile or its last entry was given up.
func TestSameHistory(t *testing.T) {
	r := newRig(t, 60)
	s := r.start()
	r.compare(s, "db", 10)
	for _, meanwhile := range []func(){
		func() {},
		func() { r.append("db", 10) },
		func() {
			r.source.Trim("db", r.source.Entries("db")[len(r.source.Entries("db"))-1].LSN)
			r.append("db", 10)
		},
	} {
		r.whileDown(s, meanwhile)
		at := r.source.Last()
		if _, err := enginetest.Compare(t.Context(), s.Server, r.source, r.opts.Decoder, "db", at, r.spaces); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.metric("incarnation_resets_total"); n != 0 {
		t.Errorf("%v resets counted, want none", n)
	}
}
