package bucket

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of every bucket of a process, by the label "target".
type Metrics struct {
	requests *prometheus.CounterVec   // target, op, result
	seconds  *prometheus.HistogramVec // target, op
	bytes    *prometheus.CounterVec   // target, op: put or get
	retries  *prometheus.CounterVec   // target, op
	inFlight *prometheus.GaugeVec     // target
}

// NewMetrics makes the metrics and registers them; nil registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "logcore_bucket_requests_total", Help: "Calls to a target, each attempt by itself, by operation and result.",
		}, []string{"target", "op", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "logcore_bucket_request_seconds", Help: "Duration of calls to a target, each attempt by itself.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), // 1 ms to 33 s
		}, []string{"target", "op"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "logcore_bucket_bytes_total", Help: "Bytes of objects put to and got from a target by calls that succeeded.",
		}, []string{"target", "op"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "logcore_bucket_retries_total", Help: "Calls to a target that were repeated.",
		}, []string{"target", "op"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "logcore_bucket_in_flight_requests", Help: "Calls to a target under way.",
		}, []string{"target"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.bytes, m.retries, m.inFlight)
	}
	return m
}

// ops and results are the values of the labels, made at 0 for every target so that the
// first event is visible to increase().
var (
	ops     = []string{"put", "get", "head", "list", "delete"}
	results = []struct {
		name string
		err  error
	}{
		{"not_found", ErrNotFound}, {"exists", ErrExists}, {"denied", ErrDenied}, {"full", ErrFull}, {"checksum", ErrChecksum},
		{"retention", ErrRetention}, {"gone", ErrGone}, {"untrusted", ErrUntrusted}, {"throttled", ErrThrottled}, {"invalid", ErrInvalid},
		{"canceled", context.Canceled}, {"timeout", context.DeadlineExceeded},
	}
)

func result(err error) string {
	if err == nil {
		return "ok"
	}
	for _, r := range results {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "error"
}

// Wrap returns b with its calls counted under a target's name. A List is one call, and
// its time includes that of its caller.
func (m *Metrics) Wrap(b Bucket, target string) Bucket {
	for _, op := range ops {
		m.seconds.WithLabelValues(target, op)
		m.retries.WithLabelValues(target, op)
		for _, name := range []string{"ok", "error"} {
			m.requests.WithLabelValues(target, op, name)
		}
		for _, r := range results {
			m.requests.WithLabelValues(target, op, r.name)
		}
	}
	w := &measured{next: b, metrics: m, target: target, inFlight: m.inFlight.WithLabelValues(target),
		put: m.bytes.WithLabelValues(target, "put"), got: m.bytes.WithLabelValues(target, "get")}
	return withRetainer(w, b, func(ctx context.Context, next Retainer, key string, until time.Time) (err error) {
		defer w.measure("retain")(&err)
		return next.Retain(ctx, key, until)
	})
}

type measured struct {
	next     Bucket
	metrics  *Metrics
	target   string
	inFlight prometheus.Gauge
	put, got prometheus.Counter
}

// measure begins a call; what it returns ends it.
func (m *measured) measure(op string) func(*error) {
	began := time.Now()
	m.inFlight.Inc()
	return func(err *error) {
		m.inFlight.Dec()
		m.metrics.seconds.WithLabelValues(m.target, op).Observe(time.Since(began).Seconds())
		m.metrics.requests.WithLabelValues(m.target, op, result(*err)).Inc()
	}
}

func (m *measured) PutIfAbsent(ctx context.Context, key string, data []byte) (err error) {
	defer m.measure("put")(&err)
	if err = m.next.PutIfAbsent(ctx, key, data); err == nil {
		m.put.Add(float64(len(data)))
	}
	return err
}

func (m *measured) Get(ctx context.Context, key string, offset, length int64) (data []byte, err error) {
	defer m.measure("get")(&err)
	if data, err = m.next.Get(ctx, key, offset, length); err == nil {
		m.got.Add(float64(len(data)))
	}
	return data, err
}

func (m *measured) Head(ctx context.Context, key string) (a Attributes, err error) {
	defer m.measure("head")(&err)
	return m.next.Head(ctx, key)
}

func (m *measured) List(ctx context.Context, prefix, startAfter string, yield func(Attributes) bool) (err error) {
	defer m.measure("list")(&err)
	return m.next.List(ctx, prefix, startAfter, yield)
}

func (m *measured) Delete(ctx context.Context, key string) (err error) {
	defer m.measure("delete")(&err)
	return m.next.Delete(ctx, key)
}

func (m *measured) String() string { return m.next.String() }

func (m *measured) Close() error { return m.next.Close() }
