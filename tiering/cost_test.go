package tiering

import (
	"math"
	"testing"
	"time"
)

func TestCosts(t *testing.T) {
	w := newWorld(t, 121)
	w.change = priced
	r := w.start(nil)
	w.busy(r)
	r.until("placed", func() bool { return r.Status().Degraded == 0 })
	r.started = time.Now().Add(-24 * time.Hour)
	if _, err := r.Scrub(t.Context(), ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	costs := r.Costs()
	if len(costs) != 6 || costs[0].Target != "a1" || !costs[0].Priced {
		t.Fatalf("%+v", costs)
	}
	bytes := int64(0)
	for _, s := range r.TargetStatus() {
		if s.Name == "c1" {
			bytes = s.Bytes
		}
	}
	c1 := costs[4]
	if want := float64(bytes) / 1e9 * 0.02 / 30; math.Abs(c1.Storage-want) > want/1e6 || want == 0 {
		t.Errorf("storage %g, want %g", c1.Storage, want)
	}
	if costs[0].Egress != 0 || c1.Egress < float64(bytes)/1e9*0.09*0.99 || c1.Requests <= 0 || c1.Total() <= c1.Egress {
		t.Errorf("%+v", costs)
	}
	if _, ok := r.PublicKey(); !ok || r.Recoding() != 0 {
		t.Error("no key")
	}
	r.close()
}
