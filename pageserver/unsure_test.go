package pageserver_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/pageserver"
)

// unsure is a source that, once asked to, knows a log by its name only.
type unsure struct {
	*enginetest.Source
	on    atomic.Bool
	lists atomic.Int64
}

func (u *unsure) List(ctx context.Context) ([]pageserver.LogInfo, error) {
	infos, err := u.Source.List(ctx)
	if u.on.Load() {
		for i := range infos {
			infos[i] = pageserver.LogInfo{Name: infos[i].Name, Incarnation: infos[i].Incarnation}
		}
		u.lists.Add(1)
	}
	return infos, err
}

// TestLogKnownByNameOnly: the pages of a log are kept while the log service knows its name, and not more, as when the log is
// on its way between two shards.
func TestLogKnownByNameOnly(t *testing.T) {
	e := enginetest.PagesEngine()
	c := enginetest.NewCollecting(t, 1, e)
	source := &unsure{Source: c.Source}
	r := &retention{Collecting: c, rig: &rig{t: t, source: c.Source}}
	c.Reader = func() enginetest.Reader { return r.server }
	r.rig.opts = enginetest.Options(t.TempDir(), source, e.Decoder)
	r.start()
	defer func() { r.stop(false) }()
	c.Append("db", 20)
	if err := r.Check("db", source.Last()); err != nil {
		t.Fatal(err)
	}
	source.on.Store(true)
	for deadline := time.Now().Add(2 * time.Minute); source.lists.Load() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the source is not asked for its list")
		}
	}
	if err := r.Check("db", source.Last()); err != nil {
		t.Error(err)
	}
	if n := r.rig.metric("incarnation_resets_total"); n != 0 {
		t.Errorf("pages were thrown away %v times", n)
	}
	if _, err := r.server.GetPages(t.Context(), "db", engine.SpaceOf(1), []uint32{0}, pageserver.ReadAt{}); err != nil {
		t.Error(err)
	}
	if _, err := pageserver.Positions(t.Context(), source); err == nil {
		t.Error("a position of a log that is nowhere")
	}
}
