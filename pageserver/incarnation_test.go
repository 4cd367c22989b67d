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

// TestUnconfirmed: pages are not served before the log service has said that they
// are of the current incarnation, since another one may be alive by now.
func TestUnconfirmed(t *testing.T) {
	r := newRig(t, 20)
	s := r.start()
	r.compare(s, "db", 1)
	s.Stop(t)
	down := errors.New("log service unreachable")
	r.source.SetDown(down)
	s = r.start()
	_, err := s.GetPages(t.Context(), "db", engine.SpaceOf(0), []uint32{0}, pageserver.ReadAt{LSN: 5, Wait: 50 * time.Millisecond})
	var lag *logcore.LagError
	if !errors.As(err, &lag) {
		t.Fatalf("got %v, want a LagError", err)
	}
	r.source.SetDown(nil)
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
