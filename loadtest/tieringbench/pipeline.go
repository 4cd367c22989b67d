package tieringbench

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/dir"
	"github.com/logcore/logcore/tiering/bucket/mem"
	"github.com/logcore/logcore/tiering/erasure"
)

// pipelineBytes is how much of the log is archived at a time: a segment.
const pipelineBytes = 128 << 20

// named gives buckets in memory places of their own.
type named struct {
	bucket.Bucket
	name string
}

func (n named) String() string { return "mem://" + n.name }

// archiveAll archives a source whole and returns what its archiver says then.
func (r *run) archiveAll(ctx context.Context, s *source, targets []tiering.Target, compression tiering.Compression) (tiering.Status, error) {
	return r.archiveAs(ctx, s, targets, compression, [16]byte{1})
}

func (r *run) archiveAs(ctx context.Context, s *source, targets []tiering.Target, compression tiering.Compression, cluster [16]byte) (st tiering.Status, err error) {
	s.reset()
	keys, err := tiering.GenerateKeyFile(filepath.Join(r.Dir, fmt.Sprintf("key-%d", time.Now().UnixNano())))
	if err != nil {
		return st, err
	}
	a, err := tiering.Open(ctx, tiering.Options{Cluster: cluster, Epoch: 1, Incarnation: 1, Targets: targets, Keys: keys, Source: s,
		MaxAge: 10 * time.Minute, Compression: compression, Logger: r.o.Logger}) // so old that it is never late
	if err != nil {
		return st, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	err = a.Flush(ctx, s.Committed())
	st = a.Status()
	cancel()
	return st, errors.Join(err, <-ended)
}

func memTargets() (out []tiering.Target) {
	for i := range erasure.DefaultK + erasure.DefaultM {
		name := fmt.Sprintf("m%d", i)
		out = append(out, tiering.Target{Name: name, Bucket: named{mem.New(), name}})
	}
	return out
}

// pipeline compares the whole way into buckets in memory with each stage alone on the same
// data: the compressor, which is the slowest, on all processors as the pipeline has it.
func (r *run) pipeline(ctx context.Context) error {
	log, err := r.sqliteLog(ctx)
	if err != nil {
		return err
	}
	s, err := newSource(log, pipelineBytes, pipelineBytes)
	if err != nil {
		return err
	}
	defer s.close()
	for _, c := range []struct {
		compression tiering.Compression
		level       zstd.EncoderLevel
		chunk       int
		window      int
		want        bool
	}{{tiering.CompressionFastest, zstd.SpeedFastest, 1 << 20, 1 << 20, true}, {tiering.CompressionBetter, zstd.SpeedBetterCompression, 16 << 20, 8 << 20, false}} {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(c.level), zstd.WithWindowSize(c.window), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
		if err != nil {
			return err
		}
		chunks := compressAll(enc, s.arena, c.chunk)
		took, err := figures.Contest(ctx, r.o.Rounds, figures.Contenders(map[string]func() error{
			"compress": func() error { chunks = compressAll(enc, s.arena, c.chunk); return nil },
			"pipeline": func() error { _, err := r.archiveAll(ctx, s, memTargets(), c.compression); return err },
			"encrypt":  func() error { return encryptAll(chunks) },
			"code":     func() error { return codeAll(chunks) },
			"place":    func() error { return placeAll(ctx, chunks) },
		})...)

		if err != nil {
			return err
		}
		detail := map[string]any{"processors": runtime.GOMAXPROCS(0)}
		slowest, slowestName := 0.0, ""
		for name, t := range took {
			detail[name+" MB/s of the log"] = pipelineBytes / t.Median / 1e6
			if name != "pipeline" && t.Median > slowest {
				slowest, slowestName = t.Median, name
			}
		}
		detail["slowest stage"] = slowestName
		detail["processor time of that / of the pipeline"] = took[slowestName].Processor / took["pipeline"].Processor
		name := fmt.Sprintf("pipeline (%s) / its slowest stage alone", c.compression)
		if ratio := slowest / took["pipeline"].Median; c.want {
			r.AtLeast(name, ratio, 0.7, "", detail)
		} else {
			r.Add(name, ratio, "", detail)
		}
		r.Add(fmt.Sprintf("pipeline (%s)", c.compression), pipelineBytes/took["pipeline"].Median/1e6, "MB/s", nil)
	}
	return nil
}

func inParallel(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

func compressAll(enc *zstd.Encoder, data []byte, chunk int) [][]byte {
	out := make([][]byte, (len(data)+chunk-1)/chunk)
	inParallel(len(out), func(i int) {
		out[i] = enc.EncodeAll(data[i*chunk:min((i+1)*chunk, len(data))], make([]byte, 0, chunk/2))
	})
	return out
}

func encryptAll(chunks [][]byte) error {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	inParallel(len(chunks), func(i int) {
		var nonce [12]byte
		binary.LittleEndian.PutUint32(nonce[:], uint32(i))
		aead.Seal(make([]byte, 0, len(chunks[i])+16), nonce[:], chunks[i], nil)
	})
	return nil
}

func codeAll(chunks [][]byte) error {
	_, err := erasure.Code(erasure.Meta{SegmentFirst: 1, First: 1, Last: 1, Kind: 1, K: erasure.DefaultK, M: erasure.DefaultM}, chunks...)
	return err
}

// placeAll puts as many bytes as the fragments have into buckets in memory and gets them back.
func placeAll(ctx context.Context, chunks [][]byte) error {
	total := 0
	for _, c := range chunks {
		total += len(c)
	}
	fragment := make([]byte, total/erasure.DefaultK)
	errs := make([]error, erasure.DefaultK+erasure.DefaultM)
	inParallel(len(errs), func(i int) {
		b := mem.New()
		if errs[i] = b.PutIfAbsent(ctx, "f", fragment); errs[i] == nil {
			_, errs[i] = b.Get(ctx, "f", 0, -1)
		}
	})
	return errors.Join(errs...)
}

// memory archives a log into directories and takes the most that the heap ever had. The
// log itself is outside of the heap.
func (r *run) memory(ctx context.Context) error {
	log, err := r.sqliteLog(ctx)
	if err != nil {
		return err
	}
	data := append(noise(2, 48<<20), log...) // some of it does not compress at all
	s, err := newSource(data, 2*pipelineBytes, pipelineBytes)
	if err != nil {
		return err
	}
	defer s.close()
	data = nil
	var targets []tiering.Target
	for i := range erasure.DefaultK + erasure.DefaultM {
		root := filepath.Join(r.Dir, fmt.Sprintf("memory-%d", i))
		if err := dir.Init(root); err != nil {
			return err
		}
		b, err := dir.Open(root)
		if err != nil {
			return err
		}
		defer os.RemoveAll(root)
		targets = append(targets, tiering.Target{Name: fmt.Sprintf("d%d", i), Bucket: b})
	}
	held := len(r.log)
	r.log = nil // made anew for who needs it
	runtime.GC()
	base := heap()
	stop := watchHeap()
	st, err := r.archiveAll(ctx, s, targets, tiering.CompressionBetter)
	most := stop() - base
	if err != nil {
		return err
	}
	r.log = append([]byte(nil), s.arena[48<<20:][:held]...)
	const limit = 256
	r.AtMost("memory: heap high-water above its start", float64(most)/(1<<20), limit, "MiB",
		map[string]any{"limit MiB": limit, "buffers at most MiB": float64(st.BuffersPeak) / (1 << 20), "log MiB": len(s.arena) >> 20, "objects": st.Objects})
	return nil
}

func heap() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// watchHeap samples the heap until stop, which returns the most there was.
func watchHeap() (stop func() int64) {
	var peak atomic.Int64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			peak.Store(max(peak.Load(), heap()))
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() int64 { close(end); <-ended; return peak.Load() }
}

// space archives the SQLite demo's log and holds what is stored against what it was.
func (r *run) space(ctx context.Context) error {
	log, err := r.sqliteLog(ctx)
	if err != nil {
		return err
	}
	raw := len(log) / pieceBytes * pieceBytes
	for _, c := range []tiering.Compression{tiering.CompressionBetter, tiering.CompressionFastest} {
		s, err := newSource(log, raw, pipelineBytes)
		if err != nil {
			return err
		}
		st, err := r.archiveAll(ctx, s, memTargets(), c)
		if err = errors.Join(err, s.close()); err != nil {
			return err
		}
		stored, whole := float64(st.StoredBytes), float64(st.RawBytes)
		detail := map[string]any{"log MB": whole / 1e6, "stored MB": stored / 1e6, "objects": st.Objects, "parity": "included"}
		name := fmt.Sprintf("space: stored / the SQLite log (%s)", c)
		if c == tiering.CompressionFastest {
			r.Add(name, stored/whole, "", detail)
			continue
		}
		r.AtMost(name, stored/whole, 0.25, "", detail)
	}
	// What compresses to itself: stored bytes beside compressed ones.
	data := noise(3, pipelineBytes/2)
	s, err := newSource(data, len(data), pipelineBytes)
	if err != nil {
		return err
	}
	st, err := r.archiveAll(ctx, s, memTargets(), tiering.CompressionFastest)
	if err = errors.Join(err, s.close()); err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	compressed := 0
	for _, c := range compressAll(enc, data, 1<<20) {
		compressed += len(c)
	}
	r.AtMost("space: stored / compressed at 4+2", float64(st.StoredBytes)/float64(compressed), 1.55, "", nil)
	return nil
}
