package bucket_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

// gather returns the counters, and the counts of the histograms, by name and labels.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, l := range m.Label {
				if l.GetName() != "target" {
					name += " " + l.GetValue()
				}
			}
			switch family.GetType() {
			case dto.MetricType_HISTOGRAM:
				values[name] = float64(m.Histogram.GetSampleCount())
			case dto.MetricType_GAUGE:
				values[name] = m.Gauge.GetValue()
			default:
				values[name] = m.Counter.GetValue()
			}
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := bucket.NewFaults(mem.New())
	b, err := bucket.Harden(f, bucket.HardenOptions{Target: "a1", Metrics: bucket.NewMetrics(reg)})
	b = must(t, b, err)
	ctx := t.Context()
	if v, ok := gather(t, reg)["logcore_bucket_requests_total get checksum"]; !ok || v != 0 {
		t.Error("the children aren't there before the first event")
	}
	f.Add(bucket.Fault{Op: bucket.OpPut, Count: 1, Effect: bucket.Unavailable()})
	if err := errors.Join(b.PutIfAbsent(ctx, "k", make([]byte, 100)), b.PutIfAbsent(ctx, "l", make([]byte, 50))); err != nil {
		t.Fatal(err)
	}
	b.PutIfAbsent(ctx, "k", []byte("other")) // exists
	b.Get(ctx, "k", 10, 30)
	b.Get(ctx, "absent", 0, -1)
	b.Head(ctx, "absent")
	b.List(ctx, "", "", func(bucket.Attributes) bool { return true })
	got := gather(t, reg)
	for name, want := range map[string]float64{
		"logcore_bucket_requests_total put ok": 2, "logcore_bucket_requests_total put error": 1, "logcore_bucket_requests_total put exists": 1,
		"logcore_bucket_requests_total get ok": 1, "logcore_bucket_requests_total get not_found": 1,
		"logcore_bucket_requests_total head not_found": 1, "logcore_bucket_requests_total list ok": 1,
		"logcore_bucket_bytes_total put": 150, "logcore_bucket_bytes_total get": 30, "logcore_bucket_retries_total put": 1,
		"logcore_bucket_request_seconds put": 4, "logcore_bucket_in_flight_requests": 0,
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	if _, err := bucket.Harden(f, bucket.HardenOptions{Metrics: bucket.NewMetrics(nil)}); !errors.Is(err, bucket.ErrInvalid) {
		t.Error(fmt.Errorf("metrics without a target: %w", err))
	}
}
