package tiering

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/logcore/logcore/tiering/bucket"
)

// lagging is a bucket whose reads take as long as a func says. It is for fake time.
type lagging struct {
	bucket.Bucket
	lag func() time.Duration // <0 = until the caller gives up

	mu   sync.Mutex
	gets int // guarded by mu
}

func (b *lagging) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	b.mu.Lock()
	b.gets++
	wait := b.lag()
	b.mu.Unlock()
	if wait < 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := sleep(ctx, wait); err != nil {
		return nil, err
	}
	return b.Bucket.Get(ctx, key, offset, length)
}

func (b *lagging) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gets
}

func (b *lagging) set(lag func() time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lag = lag
}

func always20ms() time.Duration { return 20 * time.Millisecond }
func hangs() time.Duration      { return -1 }

// lagWorld is an archive whose targets answer in simulated time.
type lagWorld struct {
	t       *testing.T
	reader  *Reader
	buckets []*lagging
	object  *object
}

// inFakeTime archives a few objects in real time and then runs a test on a reader of them
// in fake time. change may set prices.
func inFakeTime(t *testing.T, change func([]Target), run func(w *lagWorld)) {
	t.Helper()
	real, _ := filled(t, 90)
	synctest.Test(t, func(t *testing.T) {
		w := &lagWorld{t: t}
		targets := real.bare()
		for i := range targets {
			w.buckets = append(w.buckets, &lagging{Bucket: targets[i].Bucket, lag: always20ms})
			targets[i].Bucket = w.buckets[i]
		}
		if change != nil {
			change(targets)
		}
		var err error
		if w.reader, err = OpenReader(t.Context(), ReaderOptions{Targets: targets, Keys: real.keys, Logger: quiet()}); err != nil {
			t.Fatal(err)
		}
		w.object = w.reader.view().path[0]
		run(w)
	})
}

// read reads the object n times and returns how long each took, in order of length.
func (w *lagWorld) read(n int) []time.Duration {
	w.t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		if _, err := w.reader.fetchObject(w.t.Context(), w.object); err != nil {
			w.t.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took
}

func (w *lagWorld) gets() []int {
	out := make([]int, len(w.buckets))
	for i, b := range w.buckets {
		out[i] = b.count()
	}
	return out
}

// Answers that are late now and then are hedged, and the hedges stay within their budget.
func TestHedgesCutTheTailWithinTheBudget(t *testing.T) {
	const seed = 7
	for _, rare := range []float64{0.01, 0.04} {
		inFakeTime(t, nil, func(w *lagWorld) {
			rng := rand.New(rand.NewPCG(seed, 1))
			late := 0
			var mu sync.Mutex // guards rng and late: hedges ask beside each other
			for _, b := range w.buckets {
				b.set(func() time.Duration {
					mu.Lock()
					defer mu.Unlock()
					if rng.Float64() < rare {
						late++
						return 2 * time.Second
					}
					return 20*time.Millisecond + time.Duration(rng.IntN(10))*time.Millisecond
				})
			}
			const reads = 500
			took := w.read(reads)
			st := w.reader.Stats()
			mu.Lock()
			defer mu.Unlock()
			if late == 0 || st.Hedges == 0 {
				t.Fatalf("seed %d: nothing was late: the test tests nothing", seed)
			}
			if limit := int64(hedgeBurst + hedgeShare*float64(st.Requests)); st.Hedges > limit {
				t.Errorf("seed %d, %v late: %d hedges for %d calls, want at most %d", seed, rare, st.Hedges, st.Requests, limit)
			}
			p90, p99 := took[reads*90/100], took[reads*99/100]
			if p99 > 200*time.Millisecond || p90 > 100*time.Millisecond {
				t.Errorf("seed %d: p90 %v, p99 %v: hedging did not cut the tail", seed, p90, p99)
			}
		})
	}
}

// A provider that is always slow is not hedged for ever: others of its price are asked.
func TestASlowProviderIsLeftAlone(t *testing.T) {
	inFakeTime(t, nil, func(w *lagWorld) {
		for _, b := range w.buckets[:2] {
			b.set(func() time.Duration { return 400 * time.Millisecond })
		}
		w.read(30) // learn
		before, hedges := w.gets(), w.reader.Stats().Hedges
		took := w.read(200)
		after := w.gets()
		if slow := after[0] + after[1] - before[0] - before[1]; slow > 20 {
			t.Errorf("%d calls of 800 went to the slow provider", slow)
		}
		if more := w.reader.Stats().Hedges - hedges; more > 20 {
			t.Errorf("%d hedges in 200 reads of a known slow provider", more)
		}
		if took[150] > 50*time.Millisecond {
			t.Errorf("3 of 4 reads take up to %v, the others answer in 20ms", took[150])
		}
	})
}

// A provider that hangs is waited for a few times, then probed only, and is back in use
// after a probe has found it well.
func TestAHangingProviderIsNotWaitedFor(t *testing.T) {
	inFakeTime(t, nil, func(w *lagWorld) {
		w.read(20)
		for _, b := range w.buckets[:2] {
			b.set(hangs)
		}
		before := w.gets()
		began := time.Now()
		took := w.read(500)
		if total := time.Since(began); took[450] > 50*time.Millisecond || total > 500*50*time.Millisecond {
			t.Errorf("500 reads took %v, 9 of 10 up to %v", total, took[450])
		}
		after := w.gets()
		if calls := after[0] + after[1] - before[0] - before[1]; calls > 40 {
			t.Errorf("%d calls in %v to a provider that hangs", calls, time.Since(began))
		}
		for _, b := range w.buckets[:2] {
			b.set(always20ms)
		}
		time.Sleep(2 * avoidMax)
		before = w.gets()
		w.read(20)
		after = w.gets()
		if calls := after[0] + after[1] - before[0] - before[1]; calls < 20 {
			t.Errorf("%d calls of 80 go to the provider that is back", calls)
		}
	})
}

// A provider that fails costs no time: the next target is asked at once, its breaker
// opens, and a probe closes it.
func TestABrokenProviderComesBackAfterAProbe(t *testing.T) {
	inFakeTime(t, nil, func(w *lagWorld) {
		faults := make([]*bucket.Faults, 2)
		for i := range faults {
			faults[i] = bucket.NewFaults(w.buckets[i].Bucket)
			w.buckets[i].Bucket = faults[i]
			faults[i].Add(bucket.Fault{Effect: bucket.Unavailable()})
		}
		took := w.read(100)
		if took[99] > 100*time.Millisecond {
			t.Errorf("a read took %v", took[99])
		}
		state := func() BreakerState { return w.reader.remotes[0].state() }
		for range 20 { // past the short pauses
			time.Sleep(time.Second)
			w.read(1)
		}
		if state() != BreakerOpen {
			t.Errorf("the breaker of a provider that fails is %v", state())
		}
		if calls := faults[0].Count(bucket.OpGet) + faults[1].Count(bucket.OpGet); calls > 30 {
			t.Errorf("%d calls to a provider that fails", calls)
		}
		if h := w.reader.Stats().Hedges; h > 2 {
			t.Errorf("%d hedges: a call that failed is replaced, not hedged", h)
		}
		for _, f := range faults {
			f.Up()
		}
		time.Sleep(breakerPauseMax)
		for range 5 {
			w.read(1)
			time.Sleep(breakerPauseMax)
		}
		if state() != BreakerClosed {
			t.Errorf("the breaker of a provider that is well again is %v", state())
		}
	})
}

// Reads go to the cheapest targets that are well.
func TestReadsGoWhereTheyAreCheap(t *testing.T) {
	inFakeTime(t, func(targets []Target) {
		for i := range targets {
			targets[i].Prices.Egress = []float64{0.09, 0.09, 0, 0, 0.05, 0.05}[i]
		}
		targets[0].Home = true
	}, func(w *lagWorld) {
		before := w.gets()
		w.read(10)
		after := w.gets()
		for i, want := range []int{10, 0, 10, 10, 10, 0} {
			if got := after[i] - before[i]; got != want {
				t.Errorf("%d reads from %s, want %d", got, targetNames[i], want)
			}
		}
		w.buckets[2].Bucket = bucket.NewFaults(w.buckets[2].Bucket)
		w.buckets[2].Bucket.(*bucket.Faults).Down()
		before = w.gets()
		w.read(10)
		after = w.gets()
		if after[5]-before[5] == 0 || after[1]-before[1] != 0 {
			t.Errorf("in place of a cheap target that is down the next cheapest was not asked: %v, then %v", before, after)
		}
	})
}

// When all targets hang and too few answer, the read ends within its deadlines and says who
// did not answer.
func TestTooFewBecauseOthersHang(t *testing.T) {
	inFakeTime(t, nil, func(w *lagWorld) {
		for _, b := range w.buckets[:3] {
			b.set(hangs)
		}
		began := time.Now()
		_, err := w.reader.fetchObject(w.t.Context(), w.object)
		var fe *FragmentsError
		if !errors.As(err, &fe) || fe.Have != 3 {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 70*time.Second {
			t.Errorf("it took %v", took)
		}
		// From then on their breakers are on the way to open: it gets quicker.
		for range 3 {
			began = time.Now()
			if _, err = w.reader.fetchObject(w.t.Context(), w.object); !errors.As(err, &fe) {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("with open breakers it took %v", took)
		}
	})
}

// However many hedges are wanted, what is spent is a tenth of the calls and what was saved up.
func TestHedgeBudget(t *testing.T) {
	var b hedgeBudget
	const calls = 10_000
	for range calls {
		b.earn()
		b.spend()
	}
	if n, hedges, denied := b.counts(); n != calls || hedges > hedgeBurst+calls*hedgeShare || hedges < calls*hedgeShare*0.9 || hedges+denied != calls {
		t.Errorf("%d hedges and %d denied in %d calls", hedges, denied, n)
	}
	for range 10 * hedgeBurst { // saves up no more than the burst
		for range int(1 / hedgeShare) {
			b.earn()
		}
	}
	saved := 0
	for b.spend() {
		saved++
	}
	if saved != hedgeBurst {
		t.Errorf("%d hedges were saved up, want %d", saved, hedgeBurst)
	}
}

func TestBreakerStates(t *testing.T) {
	var b breaker
	now := time.Unix(1000, 0)
	want := func(s BreakerState, admits bool) {
		t.Helper()
		if b.state() != s {
			t.Errorf("state %v, want %v", b.state(), s)
		}
		if ok, probe := b.admit(now, time.Minute); ok != admits || probe != (admits && s != BreakerClosed) {
			t.Errorf("admitted %v, as a probe %v", ok, probe)
		}
	}
	for range breakerFailures {
		want(BreakerClosed, true)
		b.record(now, false)
	}
	want(BreakerOpen, false)
	now = now.Add(breakerPauseMin)
	want(BreakerOpen, true) // the probe
	want(BreakerHalfOpen, false)
	b.record(now, false)
	want(BreakerOpen, false)
	now = now.Add(breakerPauseMin)
	want(BreakerOpen, false) // the pause has doubled
	now = now.Add(breakerPauseMin)
	want(BreakerOpen, true)
	b.abandon() // its caller went away
	want(BreakerOpen, true)
	now = now.Add(time.Minute) // nothing was heard of it
	if ok, probe := b.admit(now, time.Minute); !ok || !probe {
		t.Error("a probe of which nothing is heard blocks all others")
	}
	b.record(now, true)
	want(BreakerClosed, true)
}

// One bucket that fails says nothing about the provider's others; all of them do.
func TestAProviderFailsWhenAllItsTargetsDo(t *testing.T) {
	p := newProviders([]Target{{Name: "a1", Provider: "a"}, {Name: "a2", Provider: "a"}})["a"]
	for range 10 {
		p.record("a1", false)
	}
	if p.state() != BreakerClosed {
		t.Error("one of two targets opened the provider's breaker")
	}
	for range breakerFailures {
		p.record("a2", false)
	}
	if p.state() != BreakerOpen {
		t.Error("all its targets fail and its breaker is closed")
	}
	p.record("a1", true)
	if p.state() != BreakerClosed {
		t.Error("a target answers and its provider's breaker is open")
	}
}

func TestLatencyQuantiles(t *testing.T) {
	var l latencies
	for i := range 7 {
		l.add(10, time.Duration(i)*time.Second)
	}
	if _, known := l.p95(10); known {
		t.Error("a quantile of seven answers")
	}
	for i := range 1000 {
		l.add(10, time.Duration(i%100+1)*time.Millisecond)
		l.add(1<<20, time.Second)
	}
	if p, known := l.p95(64); !known || p < 90*time.Millisecond || p > 100*time.Millisecond {
		t.Errorf("p95 of 1 to 100ms: %v", p)
	}
	if p, _ := l.p95(1 << 20); p != time.Second {
		t.Errorf("p95 of large answers: %v", p)
	}
	l.addAtLeast(64, time.Millisecond)
	before, _ := l.p95(64)
	for range latencySamples {
		l.addAtLeast(64, 5*time.Second)
	}
	if after, _ := l.p95(64); after <= before {
		t.Error("calls that were given up don't raise the quantile")
	}
}
