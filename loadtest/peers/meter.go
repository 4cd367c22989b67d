package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// Latencies are kept in nanoseconds, to three significant digits.
const (
	latencyMin    = 100
	latencyMax    = int64(time.Minute)
	latencyDigits = 3
)

// sampleStride is how many appends share one latency sample in cells with many
// appends in flight, where two clock readings an append would be a tenth of its cost.
// It is odd and prime so that the samples visit every place in a batch.
const sampleStride = 13

// meter counts the appends of one turn and collects their latencies between begin
// and end.
type meter struct {
	stop      atomic.Bool // the load lets what is in flight finish and returns
	recording atomic.Bool
	sampled   atomic.Bool // a latency of the measured window is there
	payload   int
	stride    int
	written   counter

	mu    sync.Mutex
	lanes []*lane                 // guarded by mu
	hist  *hdrhistogram.Histogram // guarded by mu

	before, after reading
}

// reading is what the process has used up to a moment.
type reading struct {
	at      time.Time
	ops     uint64
	mallocs uint64
	written uint64
	cpu     time.Duration // user and system
}

func newMeter(c cell, written counter) *meter {
	m := &meter{payload: c.payload, written: written, stride: 1, hist: hdrhistogram.New(latencyMin, latencyMax, latencyDigits)}
	if c.inflight >= 64 {
		m.stride = sampleStride
	}
	return m
}

// lane is one goroutine's part of the meter: only that goroutine calls its methods.
type lane struct {
	m    *meter
	ops  atomic.Uint64
	tick int
	n    int
	buf  [128]int64
}

// lane returns a new lane.
func (m *meter) lane() *lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	// A prime step spreads the lanes' first samples.
	l := &lane{m: m, tick: len(m.lanes) * 7 % m.stride}
	m.lanes = append(m.lanes, l)
	return l
}

// begun returns the time to hand to ended, or zero when this append is no sample.
func (l *lane) begun() time.Time {
	l.tick++
	if l.tick < l.m.stride {
		return time.Time{}
	}
	l.tick = 0
	return time.Now()
}

// ended counts ops appends that are durable, and the latency of the one begun at t.
func (l *lane) ended(t time.Time, ops int) {
	l.ops.Add(uint64(ops))
	if t.IsZero() || !l.m.recording.Load() {
		return
	}
	l.buf[l.n] = int64(time.Since(t))
	if l.n == 0 {
		l.m.sampled.Store(true)
	}
	l.n++
	if l.n == len(l.buf) {
		l.flush()
	}
}

// flush hands the lane's samples to the meter. A load calls it once more at its end.
func (l *lane) flush() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for _, ns := range l.buf[:l.n] {
		// Out of range only above a minute; the maximum then stands for it.
		l.m.hist.RecordValue(min(max(ns, latencyMin), latencyMax))
	}
	l.n = 0
}

func (m *meter) ops() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n uint64
	for _, l := range m.lanes {
		n += l.ops.Load()
	}
	return n
}

// begin opens the measured window.
func (m *meter) begin() (err error) {
	m.before, err = m.read()
	m.recording.Store(true)
	return err
}

// end closes it.
func (m *meter) end() (err error) {
	m.recording.Store(false)
	m.after, err = m.read()
	return err
}

func (m *meter) read() (reading, error) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	written, err := m.written.read()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return reading{}, err
	}
	cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return reading{at: time.Now(), ops: m.ops(), mallocs: mem.Mallocs, written: written, cpu: cpu}, err
}

// figures are the results of one turn, or medians of several.
type figures struct {
	opsPerS, mibPerS float64
	p50, p99, p999   float64 // microseconds
	allocsPerOp      float64
	writeAmp         float64
	cpuPerOp         float64 // microseconds
}

// figures returns the turn's figures, after the load has returned.
func (m *meter) figures(c cell) (figures, error) {
	ops := float64(m.after.ops - m.before.ops)
	elapsed := m.after.at.Sub(m.before.at)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ops == 0 || m.hist.TotalCount() == 0 {
		return figures{}, fmt.Errorf("no append finished in %v", elapsed.Round(time.Millisecond))
	}
	us := func(q float64) float64 { return float64(m.hist.ValueAtQuantile(q)) / 1e3 }
	rate := ops / elapsed.Seconds()
	return figures{
		opsPerS:     rate,
		mibPerS:     rate * float64(c.payload) / (1 << 20),
		p50:         us(50),
		p99:         us(99),
		p999:        us(99.9),
		allocsPerOp: float64(m.after.mallocs-m.before.mallocs) / ops,
		cpuPerOp:    float64(m.after.cpu-m.before.cpu) / 1e3 / ops,
		writeAmp:    float64(m.after.written-m.before.written) / (ops * float64(c.payload)),
	}, nil
}
