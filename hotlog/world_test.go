package hotlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/internal/simdisk"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
)

// world drives a log on a simulated disk with random operations and knows what the
// log owes: the model that every crash state is compared with.
type world struct {
	disk   *simdisk.Disk
	medium media.Dir // disk when nil; something around it otherwise
	opts   Options
	rng    *rand.Rand
	log    *Log

	mu        sync.Mutex      // the committer reports, hooks look
	gen       byte            // differs between entries of the same LSN
	entries   []logcore.Entry // entries[lsn-1], submitted last
	given     []logcore.Entry // what make hands out for as long as it has some
	acked     logcore.LSN     // must be there after a crash
	firstMin  logcore.LSN     // First may be from here ..
	firstMax  logcore.LSN     // .. to here
	ackErrors int
	afterErr  int // acknowledged after an error was reported
}

func segName(slot uint64) string {
	name, _ := segdir.Name(slot)
	return name
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func simOptions() Options {
	o := Options{Dir: "simdisk", SegmentBytes: 64 << 10, EntryBytesMax: 40 << 10, CacheBytes: 64 << 10, DiskReserveBytes: 4096, LogOf: logOf, Logger: quiet()}
	o, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	return o
}

func newWorld(seed uint64) *world {
	disk := simdisk.New(seed)
	disk.AlignBytes = []int{4096, 4096, 512, 8}[seed%4]
	return &world{disk: disk, opts: simOptions(), rng: rand.New(rand.NewPCG(seed, 11)), firstMin: 1, firstMax: 1}
}

func (w *world) open() (err error) {
	var medium media.Dir = w.disk
	if w.medium != nil {
		medium = w.medium
	}
	w.log, _, err = openOn(context.Background(), medium, w.opts, openMode{inline: true})
	return err
}

// make returns n new entries behind the last ones, and puts them into the model.
func (w *world) make(n int, seal bool) []logcore.Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gen++
	var out []logcore.Entry
	for i := range n {
		if next := len(w.entries); next < len(w.given) { // the same again, to the bit
			out = append(out, w.given[next])
			w.entries = append(w.entries, w.given[next])
			continue
		}
		size := w.rng.IntN(2500)
		switch w.rng.IntN(20) {
		case 0:
			size = 0
		case 1:
			size = w.rng.IntN(20000)
		}
		lsn := logcore.LSN(len(w.entries) + 1)
		e := logcore.Entry{LSN: lsn, Term: uint64(w.gen), Kind: logcore.KindData, Time: logcore.HLC(lsn) << 16, Tx: logcore.TxID{w.gen}, Payload: bytes.Repeat([]byte{byte(lsn), w.gen}, size/2)}
		if seal && i == n-1 {
			e.Kind, e.Payload = logcore.KindSeal, nil
		}
		out = append(out, e)
		w.entries = append(w.entries, e)
	}
	return out
}

// submit hands entries to the log; the model learns of the outcome on completion.
func (w *world) submit(entries []logcore.Entry, wait *sync.WaitGroup) error {
	last := entries[len(entries)-1].LSN
	wait.Add(1)
	err := w.log.Submit(entries, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		defer wait.Done()
		if err != nil {
			w.ackErrors++
			return
		}
		if w.ackErrors > 0 {
			w.afterErr++
		}
		w.acked = max(w.acked, last)
	})
	if err != nil {
		wait.Done()
	}
	return err
}

// step does one random operation. An error is what the log returned.
func (w *world) step() error {
	var wait sync.WaitGroup
	defer w.settle(&wait)
	switch p := w.rng.IntN(100); {
	case p < 70:
		return w.submit(w.make(1+w.rng.IntN(4), w.log.SealDue() || w.rng.IntN(30) == 0), &wait)
	case p < 85: // several in flight
		for range 1 + w.rng.IntN(5) {
			if err := w.submit(w.make(1+w.rng.IntN(3), w.log.SealDue()), &wait); err != nil {
				return err
			}
		}
		return nil
	case p < 87: // the log is idle for a while
		w.log.commands <- func() { w.log.markIdle(false) }
		return nil
	case p < 89:
		return w.repair()
	case p < 91:
		return w.trim()
	case p < 95:
		return w.truncate()
	default:
		if err := w.log.Close(); err != nil {
			return err
		}
		return w.open()
	}
}

// settle waits for completions and for the committer to be idle, so that the order
// of file operations is a function of the seed.
func (w *world) settle(wait *sync.WaitGroup) {
	wait.Wait()
	w.idle()
}

// idle waits until the committer has nothing to do.
func (w *world) idle() {
	if w.log == nil {
		return
	}
	idle := make(chan struct{})
	select {
	case w.log.commands <- func() { close(idle) }:
		<-idle
	case <-w.log.done:
	}
}

// repair writes a sealed segment anew, from its own entries.
func (w *world) repair() error {
	segments := w.log.Segments()
	s := segments[w.rng.IntN(len(segments))]
	if !s.Sealed || s.Last == w.log.Last() {
		return nil
	}
	span, err := w.log.Span(s.First, s.Last)
	if err == nil {
		err = w.log.Repair(span)
	}
	if err != nil && w.log.Err() == nil {
		return nil // given up without harm
	}
	return err
}

func (w *world) trim() error {
	upTo := logcore.LSN(w.rng.Uint64N(uint64(w.log.Durable()) + 1))
	w.mu.Lock()
	for _, s := range w.log.Segments() {
		if s.Sealed && s.Last <= upTo {
			w.firstMax = s.Last + 1
		}
	}
	w.mu.Unlock()
	if err := w.log.TrimHead(upTo); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// A sealed segment stays as long as the next has not begun, so ask.
	w.firstMin, w.firstMax = w.log.First(), w.log.First()
	return nil
}

func (w *world) truncate() error {
	w.mu.Lock()
	back := logcore.LSN(w.rng.Uint64N(40))
	after := max(w.acked-min(back, w.acked), w.log.First()-1)
	w.acked = after
	w.mu.Unlock()
	if err := w.log.TruncateTail(after); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.given = nil
	if w.rng.IntN(2) == 0 {
		w.given = w.entries
	}
	w.entries = w.entries[:after:after]
	return nil
}

// verify lets the disk crash and compares what is left with the model, appends to
// it, lets it crash again, and compares again.
func (w *world) verify(seed uint64) error {
	w.mu.Lock() // the crash and the model must be of one moment
	defer w.mu.Unlock()
	corruptions := prometheus.NewCounter(prometheus.CounterOpts{Name: "c"})
	model := func(disk *simdisk.Disk) *world {
		m := &world{disk: disk, opts: w.opts, rng: rand.New(rand.NewPCG(seed, 12)), gen: w.gen + 100,
			entries: w.entries[:len(w.entries):len(w.entries)], acked: w.acked, firstMin: w.firstMin, firstMax: w.firstMax}
		m.opts.Corruptions = corruptions
		return m
	}
	if err := model(w.disk.Crash(seed)).verifyAndGoOn(seed); err != nil {
		return err
	}
	if seed%8 == 0 {
		if err := model(w.disk.Crash(seed + 2)).verifyTwice(seed); err != nil {
			return fmt.Errorf("crash in the recovery: %w", err)
		}
	}
	var m dto.Metric
	if err := corruptions.Write(&m); err != nil || m.GetCounter().GetValue() != 0 {
		return fmt.Errorf("what a crash left is taken for rot, %v times (%v)", m.GetCounter().GetValue(), err)
	}
	return nil
}

// verifyTwice lets the power fail again in the middle of the recovery.
func (w *world) verifyTwice(seed uint64) error {
	first := w.disk
	var second *simdisk.Disk
	at := int(seed / 8 % 12)
	first.Hook = func(op simdisk.Op) error {
		if op.Index == at {
			second = first.Crash(seed + 3)
		}
		return nil
	}
	if err := errors.Join(w.compare(), w.close()); err != nil || second == nil {
		return err
	}
	w.disk = second
	return errors.Join(w.compare(), w.close())
}

// close closes the log if it is open.
func (w *world) close() error {
	if w.log == nil {
		return nil
	}
	return w.log.Close()
}

func (w *world) verifyAndGoOn(seed uint64) error {
	if err := w.compare(); err != nil {
		return err
	}
	w.entries = w.entries[:w.log.Last():w.log.Last()]
	w.firstMin, w.firstMax = w.log.First(), w.log.First()
	var wait sync.WaitGroup
	if err := w.submit(w.make(2, false), &wait); err != nil {
		return fmt.Errorf("append after recovery: %w", err)
	}
	wait.Wait()
	if int(w.acked) != len(w.entries) {
		return errors.New("append after recovery was not acknowledged")
	}
	again := w.disk.Crash(seed + 1)
	if err := w.log.Close(); err != nil {
		return fmt.Errorf("close after recovery: %w", err)
	}
	w.disk = again
	if err := w.compare(); err != nil {
		return fmt.Errorf("second crash: %w", err)
	}
	return w.log.Close()
}

// compare opens w.disk and checks all that the log owes.
func (w *world) compare() error {
	if err := w.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return w.check()
}

// check compares an open log with the model.
func (w *world) check() error {
	first, last := w.log.First(), w.log.Last()
	if last < w.acked {
		return fmt.Errorf("lost: acknowledged up to %d, the log ends at %d", w.acked, last)
	}
	if last > logcore.LSN(len(w.entries)) {
		return fmt.Errorf("garbage: submitted up to %d, the log ends at %d", len(w.entries), last)
	}
	if first < w.firstMin || first > w.firstMax {
		return fmt.Errorf("first is %d, want %d to %d", first, w.firstMin, w.firstMax)
	}
	for at := first; at <= last; {
		got, err := w.log.Entries(at, last+1, 1<<20)
		if err != nil {
			return fmt.Errorf("read %d: %w", at, err)
		}
		for _, e := range got {
			if err := sameEntry(e, w.entries[at-1]); err != nil {
				return fmt.Errorf("entry %d of %d to %d: %w", at, first, last, err)
			}
			at++
		}
	}
	return nil
}

func sameEntry(got, want logcore.Entry) error {
	if got.LSN != want.LSN || got.Term != want.Term || got.Kind != want.Kind || got.Time != want.Time || got.Tx != want.Tx || !bytes.Equal(got.Payload, want.Payload) {
		return fmt.Errorf("differs: LSN %d term %d kind %v time %v, %d bytes; want LSN %d term %d kind %v time %v, %d bytes",
			got.LSN, got.Term, got.Kind, got.Time, len(got.Payload), want.LSN, want.Term, want.Kind, want.Time, len(want.Payload))
	}
	return nil
}
