package pageserver_test

import (
	"errors"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

// TestIncarnationWhileRunning: after a restore of the log service to an earlier LSN,
// the pages of the old history are thrown away, while the page server runs.
func TestIncarnationWhileRunning(t *testing.T) {
	r := newRig(t, 120)
	r.opts.PageCacheBytes = 8 << 20 // pages of the old history stay cached
	s := r.start()
	if _, _, err := s.CreateBranch(t.Context(), "db", "fork", pageserver.ReadAt{Wait: wait}); err != nil {
		t.Fatal(err)
	}
	r.append("fork", 10)
	r.compare(s, "db", 10)
	r.compare(s, "fork", 10)
	r.restore(s)
	r.compare(s, "db", 40)
	if n := r.metric("incarnation_resets_total"); n < 1 {
		t.Errorf("%v resets counted", n)
	}
}

// restore puts another history in place of the second half of the log.
func (r *rig) restore(running *enginetest.Subject) {
	r.whileDown(running, func() {
		r.source.Restore(2, r.source.Last()/2)
		r.append("db", 60)
	})
}

// whileDown changes the source while nobody follows it. The log service has to die for
// that, which ends the streams of a running page server: from then on it serves nothing
// until it knows who it is talking to.
func (r *rig) whileDown(running *enginetest.Subject, change func()) {
	r.source.SetDown(errors.New("the log service restarts"))
	for running != nil {
		_, err := running.WaitLSN(r.t.Context(), "db", pageserver.ReadAt{LSN: 1, Wait: time.Millisecond})
		if errors.Is(err, logcore.ErrLSNInFuture) {
			break
		}
	}
	change()
	r.source.SetDown(nil)
}

// TestIncarnationAcrossRestart: the same, with the page server stopped meanwhile.
func TestIncarnationAcrossRestart(t *testing.T) {
	r := newRig(t, 120)
	r.opts.PageCacheBytes = 8 << 20 // pages of the old history stay cached
	s := r.start()
	r.compare(s, "db", 10)
	s.Stop(t)
	r.restore(nil)
	s = r.start()
	r.compare(s, "db", 40)
	if n := r.metric("incarnation_resets_total"); n != 1 {
		t.Errorf("%v resets counted, want 1", n)
	}
}

// TestServiceDown: while the log service cannot be reached, what a named LSN held is
// served, the newest state is not; nor is either once the service answers, before it has
// said who it is.
func TestServiceDown(t *testing.T) {
	r := newRig(t, 60)
	s := r.start()
	r.compare(s, "db", 1)
	s.Stop(t)
	last := r.source.Last()
	r.source.SetDown(errors.New("log service unreachable"))
	s = r.start()
	at := pageserver.ReadAt{LSN: last / 2, Wait: wait}
	for range 3 { // the answers are those of the past, whole ones
		if _, err := enginetest.Compare(t.Context(), s.Server, r.source, pages.Decoder{}, "db", at.LSN, r.spaces); err != nil {
			t.Fatal(err)
		}
	}
	for name, at := range map[string]pageserver.ReadAt{"newest": {}, "not ingested": {LSN: last + 100}} {
		at.Wait = 50 * time.Millisecond
		_, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, at)
		var lag *logcore.LagError
		if !errors.As(err, &lag) {
			t.Errorf("%s: got %v, want a LagError", name, err)
		}
	}
	if _, _, err := s.CreateBranch(t.Context(), "db", "fork", pageserver.ReadAt{LSN: at.LSN, Wait: 50 * time.Millisecond}); err == nil {
		t.Error("a branch was made without the log service")
	}
	r.source.Restore(2, last/4)
	r.append("db", 60)
	r.source.SetDown(nil)
	set, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, at)
	if err != nil || set.Incarnation != 2 {
		t.Fatalf("the log service is back, restored: answered from incarnation %d, %v", set.Incarnation, err)
	}
	r.compare(s, "db", 10)
}

// TestVanishedLog: a log that the restored log service does not have is gone.
func TestVanishedLog(t *testing.T) {
	r := newRig(t, 20)
	s := r.start()
	r.compare(s, "db", 1)
	s.Stop(t)
	r.source = enginetest.NewSource(7)
	r.source.Create("another")
	r.append("another", 10)
	r.opts = enginetest.Options(r.opts.Dir, r.source, pages.Decoder{})
	s = r.start()
	r.compare(s, "another", 10)
	if _, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{Wait: wait}); !errors.Is(err, logcore.ErrLogNotFound) {
		t.Fatalf("got %v, want ErrLogNotFound", err)
	}
}
