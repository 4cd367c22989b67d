package logsvc_test

import (
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// TestCommitLatencyInMilliseconds: the histogram in milliseconds is the one in seconds,
// bucket by bucket.
func TestCommitLatencyInMilliseconds(t *testing.T) {
	reg := prometheus.NewRegistry()
	n := start(t, t.TempDir(), "", logsvc.Options{Registerer: reg}, replication.Options{})
	w := openWriter(t, n.client(client.Options{}), "a", client.WriterOptions{Create: true})
	for range 20 {
		mustAppend(t, w, "x")
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.Histogram{}
	for _, f := range families {
		found[f.GetName()] = f.GetMetric()[0].GetHistogram()
	}
	s, ms := found["logcore_commit_latency_seconds"], found["commit_latency_ms"]
	if s.GetSampleCount() < 20 || ms.GetSampleCount() != s.GetSampleCount() || math.Abs(ms.GetSampleSum()-1000*s.GetSampleSum()) > 1e-6 || len(ms.GetBucket()) != len(s.GetBucket()) {
		t.Fatalf("seconds %v, milliseconds %v", s, ms)
	}
	for i, b := range s.GetBucket() {
		m := ms.GetBucket()[i]
		if m.GetUpperBound() != 1000*b.GetUpperBound() || m.GetCumulativeCount() != b.GetCumulativeCount() {
			t.Errorf("bucket %v, in milliseconds %v", b, m)
		}
	}
}
