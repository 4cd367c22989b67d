package pagebench

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/enginetest"
	"github.com/logcore/logcore/engine/pages"
	"github.com/logcore/logcore/pageserver"
)

const (
	pageSize = 4096
	logName  = "bench"
	// txRecords is how many pages a transaction changes.
	txRecords = 16
)

// server is a page server that runs.
type server struct {
	*pageserver.Server
	cancel context.CancelFunc
	done   chan error
}

// start opens a page server in a directory of its own below the run's and runs it.
func (r *run) start(ctx context.Context, opts pageserver.Options) (*server, error) {
	opts.Decoder, opts.Logger = pages.Decoder{}, r.o.Logger
	s, err := pageserver.Open(opts)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	srv := &server{s, cancel, make(chan error, 1)}
	go func() { srv.done <- s.Run(ctx) }()
	return srv, nil
}

// wait returns when an LSN is ingested.
func (s *server) wait(ctx context.Context, lsn logcore.LSN) error {
	_, err := s.WaitLSN(ctx, logName, pageserver.ReadAt{LSN: lsn, Wait: pageserver.WaitMax})
	return err
}

// stop ends it, with everything durable.
func (s *server) stop() error {
	s.cancel()
	if err := <-s.done; err != nil {
		s.Close()
		return err
	}
	return s.Close()
}

// freshDir returns a directory that is not there yet.
func (r *run) freshDir(name string) string {
	for i := 0; ; i++ {
		dir := filepath.Join(r.Dir, fmt.Sprintf("%s-%d", name, i))
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return dir
		}
	}
}

// history makes a log of page records.
type history struct {
	source *enginetest.Source
	rng    *rand.Rand
	last   logcore.LSN
	open   []engine.Record
	bytes  int
}

func newHistory(seed uint64) *history {
	source := enginetest.NewSource(seed)
	source.BatchEntries = 256
	source.Create(logName)
	return &history{source: source, rng: rand.New(rand.NewPCG(seed, seed))}
}

// image adds a whole page of noise.
func (h *history) image(space engine.Space, page uint32) error {
	return h.add(engine.Record{Space: space, Op: engine.OpImage, Page: page, PageSize: pageSize, Data: h.noise(pageSize)})
}

// delta adds a change of n bytes somewhere in a page.
func (h *history) delta(space engine.Space, page uint32, n int) error {
	at := uint32(h.rng.IntN(pageSize - n + 1))
	return h.add(engine.Record{Space: space, Op: engine.OpDelta, Page: page, PageSize: pageSize, Ranges: []engine.Range{{Offset: at, Data: h.noise(n)}}})
}

func (h *history) noise(n int) []byte {
	b := make([]byte, (n+7)&^7)
	for i := 0; i < len(b); i += 8 {
		v := h.rng.Uint64()
		b[i], b[i+1], b[i+2], b[i+3], b[i+4], b[i+5], b[i+6], b[i+7] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56)
	}
	return b[:n]
}

func (h *history) add(r engine.Record) error {
	h.open = append(h.open, r)
	if len(h.open) == txRecords {
		return h.commit()
	}
	return nil
}

// commit ends the transaction that is open.
func (h *history) commit() error {
	if len(h.open) == 0 {
		return nil
	}
	payloads, err := pages.Encode(h.open, 1<<24)
	if err != nil {
		return err
	}
	for _, p := range payloads {
		h.bytes += len(p)
	}
	h.open = h.open[:0]
	h.last = h.source.AppendTx(logName, enginetest.Transaction{Parts: payloads})
	return nil
}

// gated is a source that keeps back what lies above an LSN until it is opened.
type gated struct {
	*enginetest.Source
	until logcore.LSN
	open  chan struct{}
}

// Follow implements pageserver.LogSource.
func (g *gated) Follow(ctx context.Context, log pageserver.LogInfo, from logcore.LSN) iter.Seq2[pageserver.Batch, error] {
	return func(yield func(pageserver.Batch, error) bool) {
		for b, err := range g.Source.Follow(ctx, log, from) {
			if err == nil && b.Through > g.until {
				select {
				case <-g.open:
				default:
					var early pageserver.Batch
					for len(b.Entries) > 0 && b.Entries[0].LSN <= g.until {
						early.Entries, b.Entries = append(early.Entries, b.Entries[0]), b.Entries[1:]
					}
					if len(early.Entries) > 0 && !yield(early, nil) {
						return
					}
					select {
					case <-g.open:
					case <-ctx.Done():
						yield(pageserver.Batch{}, ctx.Err())
						return
					}
				}
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// measure calls do n times and returns the microseconds of each.
func measure(ctx context.Context, n int, do func(i int) error) ([]float64, error) {
	took := make([]float64, 0, n)
	for i := range n {
		start := time.Now()
		if err := do(i); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/1e3)
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return took, nil
}
