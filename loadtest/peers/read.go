package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
)

// readBytes is how much each reading is of: more than any processor's cache holds.
const readBytes = 192 << 20

// readLine is one object on standard output of "peers read". Figures are medians over the
// rounds; ratios are taken within a round.
type readLine struct {
	Bench   string  `json:"bench"` // hotlog-read
	Peer    string  `json:"peer"`
	Payload int     `json:"payload"`
	OpsPerS float64 `json:"ops_per_s"` // entries
	MiBPerS float64 `json:"mib_per_s"` // of the file
	// Over the CRC-32C of the same bytes by one core: in memory as one piece, read from the page
	// cache as it goes, and in memory in pieces of one frame.
	LimitRatio     float64 `json:"limit_ratio"`
	PageCacheRatio float64 `json:"page_cache_ratio"`
	ByFrameRatio   float64 `json:"by_frame_ratio"`
	AllocsPerOp    float64 `json:"allocs_per_op"`
	Rounds         int     `json:"rounds"`
}

// runReads measures reading, recovery and opening: "peers read --dir DIR".
func runReads(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	f := flag.NewFlagSet("peers read", flag.ContinueOnError)
	f.SetOutput(stderr)
	in := f.String("dir", "", "directory on the disk to measure (required); a temporary directory is made in it")
	rounds := f.Int("rounds", 5, "rounds of each reading, at least 1")
	if err := errors.Join(f.Parse(args), unexpected(f.Args())); err != nil {
		return err
	}
	if *in == "" || *rounds < 1 {
		return errors.New("--dir is required, and at least one round")
	}
	if err := checkFileSystem(*in, 2<<30); err != nil {
		return err
	}
	if err := machineFacts(stderr, *in); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "expected     about %d s\n", 15+4**rounds)
	dir, err := os.MkdirTemp(*in, "bench-hotlog-read-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, payload := range payloads {
		lines, err := measureReads(ctx, filepath.Join(dir, fmt.Sprint(payload)), payload, *rounds, readBytes)
		if err == nil {
			err = writeReads(stdout, stderr, payload, lines)
		}
		if err != nil {
			return fmt.Errorf("payload %d: %w", payload, err)
		}
	}
	return measureOpens(ctx, filepath.Join(dir, "open"), []int{1, 4, 10}, *rounds, stdout, stderr)
}

// way is one way to go through the same bytes.
type way struct {
	peer string
	run  func() error

	took   []time.Duration
	allocs []float64
}

// measureReads makes a log of about three sealed segments with so many bytes and reads it in every
// way, in turn.
func measureReads(ctx context.Context, dir string, payload, rounds int, size int64) ([]readLine, error) {
	entries, err := makeLog(ctx, dir, payload, size)
	if err != nil {
		return nil, err
	}
	files, err := segmentFiles(dir)
	if err != nil {
		return nil, err
	}
	l, _, err := hotlog.Open(ctx, readOptions(dir, size))
	if err != nil {
		return nil, err
	}
	readings := append(limits(files, payload), scans(files, entries)...)
	readings = append(readings, &way{peer: "hotlog-stream", run: func() error { return streamAll(l, entries) }},
		&way{peer: "hotlog-entries", run: func() error { return entriesAll(l, entries) }})
	err = takeReadings(ctx, readings, rounds)
	if err = errors.Join(err, l.Close()); err != nil {
		return nil, err
	}
	bytes := 0
	for _, f := range files {
		bytes += len(f.frames)
	}
	return readLines(readings, payload, entries, bytes), nil
}

// takeReadings takes each reading once without counting, so that all bytes are in the page cache.
func takeReadings(ctx context.Context, readings []*way, rounds int) error {
	for round := -1; round < rounds; round++ {
		for _, i := range rotation(len(readings), max(round, 0)) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r := readings[i]
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			if err := r.run(); err != nil {
				return fmt.Errorf("%s: %w", r.peer, err)
			}
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if round >= 0 {
				r.took = append(r.took, took)
				r.allocs = append(r.allocs, float64(after.Mallocs-before.Mallocs))
			}
		}
	}
	return nil
}

func readOptions(dir string, size int64) hotlog.Options {
	return hotlog.Options{Dir: dir, SegmentBytes: size / 3, CacheBytes: 1, DiskReserveBytes: 1, Logger: slog.New(slog.DiscardHandler)}
}

// makeLog appends entries until so many bytes are in sealed segments.
func makeLog(ctx context.Context, dir string, payload int, size int64) (logcore.LSN, error) {
	l, _, err := hotlog.Open(ctx, readOptions(dir, size))
	if err != nil {
		return 0, err
	}
	data := make([]byte, payload)
	for i := range data {
		data[i] = byte(i * 7)
	}
	add := func(n int, kind logcore.Kind, data []byte) error {
		list := make([]logcore.Entry, n)
		for i := range list {
			list[i] = logcore.Entry{LSN: l.Last() + 1 + logcore.LSN(i), Term: 1, Kind: kind, Time: 1, Payload: data}
		}
		return l.Append(ctx, list)
	}
	for bytes := int64(0); err == nil && (bytes < size || !l.SealDue()); {
		if l.SealDue() {
			err = add(1, logcore.KindSeal, nil)
			continue
		}
		n := max(1, int(min(1<<20, size/64))/payload)
		err = add(n, logcore.KindData, data)
		bytes += int64(n) * segment.FrameBytes(payload)
	}
	if err == nil {
		err = add(1, logcore.KindSeal, nil)
	}
	last := l.Last()
	return last, errors.Join(err, l.Close())
}

// segmentFile is a finished segment and its frames in memory.
type segmentFile struct {
	f      *os.File
	id     segment.Identity
	frames []byte
}

func segmentFiles(dir string) ([]segmentFile, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	var out []segmentFile
	for _, name := range names {
		f, ferr := os.Open(name)
		if err = errors.Join(err, ferr); err != nil {
			break
		}
		head := make([]byte, segment.FramesOffset)
		if _, err = f.ReadAt(head, 0); err != nil {
			break
		}
		s := segmentFile{f: f}
		if s.id, err = segment.Identify(head); err != nil {
			break
		}
		if s.id.State != segment.StateSealed {
			continue
		}
		s.frames = make([]byte, s.id.Mark.End-segment.FramesOffset)
		if _, err = f.ReadAt(s.frames, segment.FramesOffset); err != nil {
			break
		}
		out = append(out, s)
	}
	if err == nil && len(out) < 3 {
		err = fmt.Errorf("void: %d sealed segments", len(out))
	}
	return out, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// limits are what a reader that verifies can reach at most.
func limits(files []segmentFile, payload int) []*way {
	window := make([]byte, 1<<20)
	frame := int(segment.FrameBytes(payload))
	pieces := func(size func(all []byte) int) func() error {
		return func() error {
			sum := uint32(0)
			for _, s := range files {
				for rest, n := s.frames, size(s.frames); len(rest) > 0; rest = rest[min(n, len(rest)):] {
					sum |= crc32.Checksum(rest[:min(n, len(rest))], castagnoli)
				}
			}
			return notZero(sum)
		}
	}
	return []*way{
		{peer: "crc32c", run: pieces(func(all []byte) int { return len(all) })},
		{peer: "crc32c-by-frame", run: pieces(func([]byte) int { return frame })},
		{peer: "crc32c-page-cache", run: func() error {
			sum := uint32(0)
			for _, s := range files {
				for at := 0; at < len(s.frames); {
					n, err := s.f.ReadAt(window[:min(len(window), len(s.frames)-at)], int64(at)+segment.FramesOffset)
					if n == 0 {
						return err
					}
					sum |= crc32.Checksum(window[:n], castagnoli)
					at += n
				}
			}
			return notZero(sum)
		}},
	}
}

func notZero(sum uint32) error {
	if sum == 0 {
		return errors.New("void: all checksums are 0")
	}
	return nil
}

// scans are recovery's: every frame of every segment by one core, and by all.
func scans(files []segmentFile, entries logcore.LSN) []*way {
	scan := func(s segmentFile) (uint64, error) {
		id := s.id
		id.State = segment.StateOpen // as a crash leaves it, with nothing proven
		id.Mark.LSN, id.Mark.End, id.Mark.Sum = id.Header.ID.First-1, segment.FramesOffset, id.Header.Prev
		r, err := segment.Recover(s.f, s.id.Mark.Reach, id, segment.RecoverOptions{Scan: true})
		return r.Entries, err
	}
	return []*way{
		{peer: "recovery-1-core", run: func() error {
			n := uint64(0)
			for _, s := range files {
				m, err := scan(s)
				if n += m; err != nil {
					return err
				}
			}
			return complete(n, entries)
		}},
		{peer: "recovery-all-cores", run: func() error {
			type found struct {
				n   uint64
				err error
			}
			results := make(chan found, len(files))
			slots := make(chan struct{}, runtime.GOMAXPROCS(0))
			for _, s := range files {
				go func() {
					slots <- struct{}{}
					n, err := scan(s)
					<-slots
					results <- found{n, err}
				}()
			}
			n := uint64(0)
			var err error
			for range files {
				r := <-results
				n, err = n+r.n, errors.Join(err, r.err)
			}
			return errors.Join(err, complete(n, entries))
		}},
	}
}

func complete(n uint64, want logcore.LSN) error {
	if n != uint64(want) {
		return fmt.Errorf("void: read %d entries of %d", n, want)
	}
	return nil
}

func streamAll(l *hotlog.Log, entries logcore.LSN) error {
	n := uint64(0)
	for _, err := range l.Stream(hotlog.StreamOptions{From: 1, To: entries}) {
		if err != nil {
			return err
		}
		n++
	}
	return complete(n, entries)
}

func entriesAll(l *hotlog.Log, entries logcore.LSN) error {
	n := logcore.LSN(0)
	for n < entries {
		got, err := l.Entries(n+1, entries+1, 1<<20)
		if err != nil {
			return err
		}
		n += logcore.LSN(len(got))
	}
	return complete(uint64(n), entries)
}

// readLines makes a line of each reading.
func readLines(readings []*way, payload int, entries logcore.LSN, bytes int) []readLine {
	over := func(r *way, limit string) float64 {
		for _, l := range readings {
			if l.peer == limit {
				var ratios []float64
				for i := range r.took {
					ratios = append(ratios, l.took[i].Seconds()/r.took[i].Seconds())
				}
				return rounded(median(ratios))
			}
		}
		return 0
	}
	var out []readLine
	for _, r := range readings {
		var seconds []float64
		for _, d := range r.took {
			seconds = append(seconds, d.Seconds())
		}
		s := median(seconds)
		out = append(out, readLine{Bench: "hotlog-read", Peer: r.peer, Payload: payload, OpsPerS: rounded(float64(entries) / s), MiBPerS: rounded(float64(bytes) / s / (1 << 20)),
			LimitRatio: over(r, "crc32c"), PageCacheRatio: over(r, "crc32c-page-cache"), ByFrameRatio: over(r, "crc32c-by-frame"),
			AllocsPerOp: rounded(median(r.allocs) / float64(entries)), Rounds: len(r.took)})
	}
	return out
}

func writeReads(stdout, stderr io.Writer, payload int, lines []readLine) error {
	enc := json.NewEncoder(stdout)
	fmt.Fprintf(stderr, "\nreading, payload %d B\n", payload)
	t := tabwriter.NewWriter(stderr, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join([]string{"peer", "entries/s", "MiB/s", "of crc32c", "of page cache", "of by frame", "allocs/op", "rounds", ""}, "\t"))
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.4f\t%d\t\n", l.Peer, l.OpsPerS, l.MiBPerS, l.LimitRatio, l.PageCacheRatio, l.ByFrameRatio, l.AllocsPerOp, l.Rounds)
	}
	return t.Flush()
}
