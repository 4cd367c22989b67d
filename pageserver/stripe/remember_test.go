package stripe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// mute is a decider that does not answer while the log service is down.
type mute struct {
	*decider
	down atomic.Bool
}

var errDown = errors.New("the log service is down")

func (m *mute) Report(ctx context.Context, r Report) (Answer, error) {
	if m.down.Load() {
		return Answer{}, errDown
	}
	return m.decider.Report(ctx, r)
}

// TestStartedWithoutTheLogService: page servers that are started while the log service is down
// serve what they had, by the map that they knew, and say so. The newest is refused, and
// nothing happens to their checkpoints until the log service is back.
func TestStartedWithoutTheLogService(t *testing.T) {
	e, source := enginetest.PagesEngine(), enginetest.NewSource(1)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	source.Create("db")
	add := func() {
		for _, tx := range e.History(rng, 60) {
			source.AppendTx("db", tx)
		}
	}
	add()
	d, root := &mute{decider: &decider{reports: map[uint64]stripemap.Report{}}}, t.TempDir()
	b := bucket.NewFaults(mem.New())
	family := enginetest.CheckpointFamily(t, b)
	start := func(i int) *running {
		return startHostOn(t, filepath.Join(root, fmt.Sprint(i)), fmt.Sprintf("h%d:1", i), d, family, enginetest.Options("", source, e.Decoder))
	}
	hosts := []*running{start(1), start(2)}
	d.settled(t, hosts[0].ID(), hosts[1].ID())
	compare := func() error {
		_, err := enginetest.Compare(t.Context(), &reader{hosts: hosts}, source, e.Decoder, "db", source.Last(), enginetest.SpacesOf(t, source, e.Decoder, "db"))
		return err
	}
	if err := compare(); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if _, err := h.Service().Checkpoint(t.Context(), &logcorev1.CheckpointRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	known := hosts[0].Map()
	for _, h := range hosts {
		h.stop()
	}
	before := keysOf(t, b)
	d.down.Store(true)
	source.SetDown(errDown)
	hosts = []*running{start(1), start(2)}
	if err := compare(); err != nil {
		t.Error(err)
	}
	for i, h := range hosts {
		v := h.Service()
		st, err := v.Stripes(t.Context(), &logcorev1.StripesRequest{Log: "db"})
		if err != nil || !st.Remembered || st.RootLogId == 0 || st.Map.Generation < known.Generation || len(st.Map.Servers) != 2 {
			t.Errorf("page server %d: %+v, %v", i, st, err)
		}
		ls, err := v.LogStatus(t.Context(), &logcorev1.LogStatusRequest{})
		if err != nil || !ls.Sources.MapRemembered || ls.Sources.LogService {
			t.Errorf("page server %d: %+v, %v", i, ls, err)
		}
		if _, err := v.WaitLSN(t.Context(), &logcorev1.WaitLSNRequest{Log: "db", Lsn: uint64(source.Last()) + 1, TimeoutMs: 1}); !errors.Is(wire.FromStatus(err), logcore.ErrLSNInFuture) {
			t.Errorf("what nobody has confirmed: %v", err)
		}
		page, err := v.GetPages(t.Context(), &logcorev1.GetPagesRequest{Log: "db", Space: &logcorev1.Space{}, TimeoutMs: 50})
		if !errors.Is(wire.FromStatus(err), logcore.ErrLSNInFuture) {
			t.Errorf("the newest, with nobody there who knows which it is: %+v, %v", page, err)
		}
		if _, err := v.Checkpoint(t.Context(), &logcorev1.CheckpointRequest{}); !errors.Is(wire.FromStatus(err), logcore.ErrOverloaded) {
			t.Errorf("a checkpoint of who may be replaced: %v", err)
		}
	}
	if after := keysOf(t, b); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the checkpoints changed:\n%v\n%v", before, after)
	}
	// It is back.
	source.SetDown(nil)
	d.down.Store(false)
	add()
	d.settled(t, hosts[0].ID(), hosts[1].ID())
	if err := compare(); err != nil {
		t.Error(err)
	}
	for _, h := range hosts {
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			st, err := h.Service().Stripes(t.Context(), &logcorev1.StripesRequest{})
			if err == nil && !st.Remembered {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("it does not hear: %+v, %v", st, err)
			}
		}
		if _, err := h.Service().Checkpoint(t.Context(), &logcorev1.CheckpointRequest{}); err != nil {
			t.Error(err)
		}
	}
	// A damaged map counts for nothing, and the page server starts.
	hosts[0].stop()
	if err := os.WriteFile(filepath.Join(root, "1", mapFile), []byte("rot"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.down.Store(true)
	if h := start(1); len(h.Map().Servers) != 0 {
		t.Errorf("%+v", h.Map())
	}
}

func keysOf(t *testing.T, b bucket.Bucket) (keys []string) {
	t.Helper()
	if err := b.List(t.Context(), "", "", func(a bucket.Attributes) bool {
		keys = append(keys, a.Key)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return keys
}
