package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
)

// model is a Source that keeps a log in memory and replays it, whole, for every page
// that it is asked for: the plain second implementation beside the real service.
type model struct {
	mu       sync.Mutex
	entryMax int
	txs      []modelTx
	last     logcore.LSN
	epoch    logcore.Epoch
	active   bool // a writer holds the lease
	exists   bool
	// incarnation changes when the log is restored.
	incarnation uint64
	ingested    logcore.LSN // what the page server has; follows last unless lagging
	lagging     bool
	advised     time.Duration // the pause that writers are told
	calls       int           // of Pages
	replayed    map[logcore.LSN]*modelFile

	// fail decides, by the number of the append (from 1), what happens to it.
	fail    func(n int) fate
	appends int
}

type modelTx struct {
	lsn   logcore.LSN
	parts [][]byte
}

// fate is what happens to an append.
type fate int

const (
	fine       fate = iota
	refused         // the service says no, nothing is written
	lostBefore      // the writer never learns that it was not written
	lostAfter       // the writer never learns that it was written
	lied            // it is acknowledged and not written: the bug that the tests must find
)

type modelFile struct {
	pages    map[uint32][]byte
	length   uint32
	pageSize uint32
	version  logcore.LSN
}

func newModel() *model { return &model{entryMax: 16 << 20, last: 10, incarnation: 1} }

func (m *model) OpenWriter(_ context.Context, takeover bool) (Writer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active && !takeover {
		return nil, fmt.Errorf("model: %w", logcore.ErrWriterActive)
	}
	m.epoch++
	m.active, m.exists = true, true
	w := &modelWriter{m: m, epoch: m.epoch}
	if len(m.txs) > 0 {
		w.last = m.last
	}
	return w, nil
}

type modelWriter struct {
	m     *model
	epoch logcore.Epoch
	last  logcore.LSN
	err   error
}

func (w *modelWriter) AppendTx(_ context.Context, _ logcore.TxID, parts [][]byte, _ []byte) (logcore.LSN, logcore.HLC, error) {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.err != nil {
		return 0, 0, w.err
	}
	if w.epoch != m.epoch {
		w.err = fmt.Errorf("model: %w", logcore.ErrFenced)
		return 0, 0, w.err
	}
	m.appends++
	what := fine
	if m.fail != nil {
		what = m.fail(m.appends)
	}
	switch what {
	case refused:
		return 0, 0, fmt.Errorf("model: %w", logcore.ErrOverloaded)
	case lostBefore:
		w.err = errors.New("model: outcome unknown")
		return 0, 0, w.err
	case lied:
		return m.last, 0, nil
	}
	var kept [][]byte
	for _, p := range parts {
		if len(p) > m.entryMax {
			return 0, 0, fmt.Errorf("model: %w", logcore.ErrTooLarge)
		}
		kept = append(kept, append([]byte(nil), p...))
	}
	m.last += logcore.LSN(len(parts)) + 2 // gaps are normal
	m.txs = append(m.txs, modelTx{m.last, kept})
	if !m.lagging {
		m.ingested = m.last
	}
	if what == lostAfter {
		w.err = errors.New("model: outcome unknown")
		return 0, 0, w.err
	}
	return m.last, logcore.HLC(m.last) << 16, nil
}

func (w *modelWriter) AdvisedPause() time.Duration {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	return w.m.advised
}

func (w *modelWriter) Err() error {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	return w.err
}
func (w *modelWriter) EntryBytesMax() int   { return w.m.entryMax }
func (w *modelWriter) Epoch() logcore.Epoch { return w.epoch }
func (w *modelWriter) LastLSN() logcore.LSN { return w.last }
func (w *modelWriter) Close(context.Context) error {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.epoch == w.m.epoch {
		w.m.active = false
	}
	return nil
}

// crash is the death of the process that writes: its lease runs out.
func (m *model) crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active, m.fail = false, nil
}

// at replays the log up to lsn.
func (m *model) at(lsn logcore.LSN) (*modelFile, error) {
	if f := m.replayed[lsn]; f != nil {
		return f, nil
	}
	f := &modelFile{pages: make(map[uint32][]byte)}
	for _, tx := range m.txs {
		if tx.lsn > lsn {
			break
		}
		for _, part := range tx.parts {
			records, err := pages.Decode(part)
			if err != nil {
				return nil, err
			}
			for _, r := range records {
				if err := f.apply(r); err != nil {
					return nil, err
				}
			}
		}
		f.version = tx.lsn
	}
	if m.replayed == nil || len(m.replayed) > 4 {
		m.replayed = make(map[logcore.LSN]*modelFile)
	}
	m.replayed[lsn] = f
	return f, nil
}

func (f *modelFile) apply(r engine.Record) error {
	if r.Op == engine.OpDrop {
		*f = modelFile{pages: make(map[uint32][]byte)}
		return nil
	}
	if f.pageSize != 0 && r.PageSize != f.pageSize {
		return fmt.Errorf("page size %d in a space of %d", r.PageSize, f.pageSize)
	}
	f.pageSize = r.PageSize
	switch r.Op {
	case engine.OpImage:
		f.pages[r.Page] = append([]byte(nil), r.Data...)
		f.length = max(f.length, r.Page+1)
	case engine.OpDelta:
		page := make([]byte, r.PageSize)
		copy(page, f.pages[r.Page])
		for _, c := range r.Ranges {
			copy(page[c.Offset:], c.Data)
		}
		f.pages[r.Page] = page
		f.length = max(f.length, r.Page+1)
	case engine.OpTruncate:
		for no := range f.pages {
			if no >= r.Page {
				delete(f.pages, no)
			}
		}
		f.length = r.Page
	}
	return nil
}

func (m *model) End(context.Context) (End, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exists {
		return End{}, fmt.Errorf("model: %w", logcore.ErrLogNotFound)
	}
	end := End{Committed: m.last, Epoch: m.epoch, Incarnation: m.incarnation}
	if len(m.txs) > 0 {
		end.LSN = m.last
	}
	return end, nil
}

func (m *model) Size(_ context.Context, lsn logcore.LSN) (Size, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exists {
		return Size{}, fmt.Errorf("model: %w", logcore.ErrLogNotFound)
	}
	if lsn == 0 {
		lsn = m.ingested
	}
	if lsn > m.ingested {
		return Size{}, &logcore.LagError{Asked: lsn, Available: m.ingested}
	}
	f, err := m.at(lsn)
	if err != nil {
		return Size{}, err
	}
	return Size{LSN: lsn, LastLSN: f.version, Incarnation: m.incarnation, Pages: f.length, PageSize: f.pageSize}, nil
}

func (m *model) Pages(_ context.Context, wanted []uint32, lsn, unchangedSince logcore.LSN) ([][]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if len(wanted) > PagesMax {
		return nil, 0, fmt.Errorf("model: %d pages asked for", len(wanted))
	}
	from := min(lsn, max(unchangedSince, m.ingested))
	if unchangedSince > m.ingested {
		return nil, 0, &logcore.LagError{Asked: unchangedSince, Available: m.ingested}
	}
	f, err := m.at(lsn)
	if err != nil {
		return nil, 0, err
	}
	// The promise that nothing changed in (unchangedSince, lsn] is checked, not believed.
	early, err := m.at(from)
	if err != nil {
		return nil, 0, err
	}
	got := make([][]byte, len(wanted))
	for i, no := range wanted {
		if string(early.pages[no]) != string(f.pages[no]) {
			return nil, 0, fmt.Errorf("model: page %d changed between LSN %d and %d", no, from, lsn)
		}
		if data := f.pages[no]; data != nil && no < f.length {
			got[i] = append([]byte(nil), data...)
		}
	}
	return got, m.incarnation, nil
}

// catchUp lets the page server ingest everything.
func (m *model) catchUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ingested, m.lagging = m.last, false
}

// open opens a Database and a connection, both closed at the end of the test.
func open(t *testing.T, opts Options) *handle {
	t.Helper()
	h, err := tryOpen(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	return h
}
