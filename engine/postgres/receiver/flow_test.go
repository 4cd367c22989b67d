package receiver

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

// heldLog is a log whose appends end when the test says so.
type heldLog struct {
	mu      sync.Mutex
	appends []*heldAppend // guarded by mu
	pause   time.Duration
}

type heldAppend struct {
	parts [][]byte
	done  chan struct{}
}

func (a *heldAppend) Done() <-chan struct{} { return a.done }
func (a *heldAppend) Err() error            { return nil }

func (l *heldLog) Tail(context.Context) ([]byte, bool, error) { return nil, false, nil }
func (l *heldLog) PartBytesMax() int                          { return 1 << 20 }
func (l *heldLog) AdvisedPause() time.Duration                { return l.pause }

func (l *heldLog) Submit(_ context.Context, parts [][]byte, _ []byte) Pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &heldAppend{parts, make(chan struct{})}
	l.appends = append(l.appends, a)
	return a
}

func (l *heldLog) submitted() []*heldAppend {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appends
}

func newTestFlow(t *testing.T, log Log, o Options) *flow {
	t.Helper()
	o.ConnString, o.Logger = "host=nowhere", slog.New(slog.DiscardHandler)
	r, err := New(o, log)
	if err != nil {
		t.Fatal(err)
	}
	r.systemID, r.timeline = 1, 1
	return &flow{r: r, queue: make(chan submitted, r.opts.InflightMax), room: make(chan struct{}, 1), batch: newTestBatch(t, log.PartBytesMax(), r.opts.RecordBytesMax)}
}

// The longest record that PostgreSQL writes fits, with the headers of the pages that it is on.
func TestLongestRecordFits(t *testing.T) {
	const longest, page, header = 1<<30 - 1, 8192, 40 // of the first page of a segment; others have less
	pages := longest/(page-header) + 2
	o := Options{}.withDefaults()
	if need := longest + pages*header; o.RecordBytesMax < need {
		t.Errorf("%d bytes of WAL are kept at most, the longest record takes %d", o.RecordBytesMax, need)
	}
}

// What comes while an append is under way goes with the next one; when much comes, appends go one behind the other.
func TestWALGathersWhileAnAppendIsUnderWay(t *testing.T) {
	sample, log := wholeOf(t, walsample.Various), &heldLog{} // of short records
	f := newTestFlow(t, log, Options{})
	at := 0
	add := func(n int) {
		t.Helper()
		n = min(n, len(sample)-at)
		if err := f.add(t.Context(), walsample.Start+wal.Position(at), sample[at:at+n]); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	gathered := 0
	for at < len(sample) {
		add(1000)
		if f.batch.ready() > 0 {
			gathered++
		}
	}
	appends := log.submitted()
	for i, a := range appends[1:] {
		n := 0
		for _, p := range a.parts {
			n += len(p)
		}
		if n < gatherBytes {
			t.Errorf("append %d, of %d bytes, did not wait for the one under way", i+1, n)
		}
	}
	if len(appends) < 3 || gathered < 100 {
		t.Errorf("%d appends, WAL gathered %d times: nothing was shown", len(appends), gathered)
	}
	waits := f.batch.ready() > 0
	if err := f.ended(t.Context(), len(appends)); err != nil {
		t.Fatal(err)
	}
	if n := len(log.submitted()); waits && n != len(appends)+1 {
		t.Errorf("%d appends after all of %d ended: what gathered has to go", n, len(appends))
	}
	if err := f.close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	next := wal.Position(walsample.Start)
	for _, a := range log.submitted() {
		for _, raw := range a.parts {
			p, err := payload.Decode(raw)
			if err != nil || p.Start != next {
				t.Fatalf("WAL from %v, %v was due: %v", p.Start, next, err)
			}
			next = p.End()
		}
	}
	if want := walsample.Start + wal.Position(len(sample)); next != want {
		t.Errorf("the appends reach %v, want %v", next, want)
	}
}

// No more than InflightMax appends are under way, and no more gathers than may: add waits.
func TestTheFlowIsBounded(t *testing.T) {
	sample, log := whole(t), &heldLog{}
	f := newTestFlow(t, log, Options{InflightMax: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var feeding sync.WaitGroup
	fed, blocked := 0, make(chan struct{})
	feeding.Go(func() {
		defer close(blocked)
		for f.add(ctx, walsample.Start+wal.Position(fed), sample[fed:min(fed+100_000, len(sample))]) == nil && fed < len(sample) {
			fed = min(fed+100_000, len(sample))
		}
	})
	if len(sample) < gatherMax+1<<20 { // everything may gather
		<-blocked
	}
	for deadline := time.Now().Add(time.Minute); len(log.submitted()) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no two appends")
		}
	}
	cancel()
	feeding.Wait()
	if n := len(log.submitted()); n != 2 {
		t.Errorf("%d appends under way, want 2", n)
	}
}

// When the log advises pauses a paced flow waits for them, in proportion to the WAL; another does not.
func TestPace(t *testing.T) {
	sample, log := whole(t), &heldLog{pause: 200 * time.Millisecond}
	paced := newTestFlow(t, log, Options{Paced: true})
	const n = 512 << 10
	began := time.Now()
	for at := 0; at < n; at += 64 << 10 {
		if err := paced.add(t.Context(), walsample.Start+wal.Position(at), sample[at:at+64<<10]); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("half a MiB at 200 ms a MiB took %v", took)
	}
	small := newTestFlow(t, log, Options{Paced: true})
	if err := small.add(t.Context(), walsample.Start, sample[:1000]); err != nil || small.owed == 0 || small.owed > time.Millisecond {
		t.Errorf("a commit owes %v: %v", small.owed, err)
	}
	other := newTestFlow(t, log, Options{})
	if err := other.add(t.Context(), walsample.Start, sample[:256<<10]); err != nil || other.owed != 0 {
		t.Errorf("a flow that is not paced owes %v: %v", other.owed, err)
	}
}
