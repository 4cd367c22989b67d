package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segment"
)

const (
	openSegmentBytes = 128 << 20
	openTailBytes    = 16 << 20
	openPayload      = 1 << 10
)

// openLine is one object on standard output about the time from Open of a directory that a
// crash left to the acknowledgement of the first append.
type openLine struct {
	Bench        string  `json:"bench"` // hotlog-open
	GiB          int     `json:"gib"`   // in sealed segments
	Segments     int     `json:"segments"`
	TailMiB      int     `json:"tail_mib"` // the open segment, which is all that is scanned
	ScannedBytes int64   `json:"scanned_bytes"`
	MS           float64 `json:"first_append_ms"`
	MSMin        float64 `json:"first_append_ms_min"`
	MSMax        float64 `json:"first_append_ms_max"`
	Rounds       int     `json:"rounds"`
}

// measureOpens opens directories of several sizes. Their sealed segments are sparse: header,
// marks and footer are there, the frames are a hole, which nothing reads before the first
// append. (The check in the background reads them afterwards, finds the holes, and is
// stopped by Close.)
func measureOpens(ctx context.Context, dir string, sizes []int, rounds int, stdout, stderr io.Writer) error {
	enc := json.NewEncoder(stdout)
	fmt.Fprintf(stderr, "\nopen to first append, open segment of %d MiB\n", openTailBytes>>20)
	t := tabwriter.NewWriter(stderr, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join([]string{"GiB", "segments", "scanned", "ms", "min..max", "rounds", ""}, "\t"))
	for _, gib := range sizes {
		at := filepath.Join(dir, fmt.Sprint(gib))
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		line := openLine{Bench: "hotlog-open", GiB: gib, Segments: gib << 30 / openSegmentBytes, TailMiB: openTailBytes >> 20, Rounds: rounds}
		next, err := sparseSegments(at, line.Segments)
		if err != nil {
			return err
		}
		var ms []float64
		for range rounds {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			took, report, err := openOnce(ctx, at, line.Segments, next)
			if err != nil {
				return err
			}
			ms = append(ms, took.Seconds()*1e3)
			line.ScannedBytes = report.ScannedBytes
		}
		line.MS, line.MSMin, line.MSMax = rounded(median(ms)), rounded(slices.Min(ms)), rounded(slices.Max(ms))
		if err := enc.Encode(line); err != nil {
			return err
		}
		fmt.Fprintf(t, "%d\t%d\t%d\t%.1f\t%.1f..%.1f\t%d\t\n", line.GiB, line.Segments, line.ScannedBytes, line.MS, line.MSMin, line.MSMax, line.Rounds)
		if err := os.RemoveAll(at); err != nil {
			return err
		}
	}
	return t.Flush()
}

// openOnce writes the open segment as a crash leaves it, opens the log and appends.
func openOnce(ctx context.Context, dir string, sealed int, next segment.Header) (time.Duration, hotlog.RecoveryReport, error) {
	var frames []byte
	sum, lsn := next.Prev, next.ID.First
	for len(frames) < openTailBytes {
		frames, sum = segment.AppendFrame(frames, next.ID, sum, logcore.Entry{LSN: lsn, Term: 1, Kind: logcore.KindData, Time: 1, Payload: make([]byte, openPayload)})
		lsn++
	}
	m := segment.Mark{Seq: 1, State: segment.StateOpen, ID: next.ID, LSN: next.ID.First - 1, End: segment.FramesOffset, Sum: next.Prev, Reach: segment.FramesOffset + int64(len(frames)) + 8<<20}
	if err := writeSegment(dir, sealed, next, m, segment.FramesOffset, frames); err != nil {
		return 0, hotlog.RecoveryReport{}, err
	}
	began := time.Now()
	l, report, err := hotlog.Open(ctx, hotlog.Options{Dir: dir, SegmentBytes: openSegmentBytes, DiskReserveBytes: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, report, err
	}
	err = l.Append(ctx, []logcore.Entry{{LSN: lsn, Term: 1, Kind: logcore.KindData, Time: 1, Payload: make([]byte, openPayload)}})
	took := time.Since(began)
	if report.Last != lsn-1 || report.Segments != sealed+1 {
		err = errors.Join(err, fmt.Errorf("void: %+v", report))
	}
	return took, report, errors.Join(err, l.Close())
}

// sparseSegments makes n sealed segments of 64 Ki entries and returns the header of the next.
func sparseSegments(dir string, n int) (segment.Header, error) {
	h := segment.Header{ID: segment.ID{First: 1}}
	for i := range n {
		const entries = 64 << 10
		s := segment.NewSummary(h)
		s.Last, s.Entries, s.Sum, s.End = h.ID.First+entries-1, entries, uint32(i+77), openSegmentBytes*7/8
		s.FirstTime, s.LastTime = 1, 1
		for at, lsn := int64(segment.FramesOffset), h.ID.First; at < s.End; at += segment.IndexStride {
			s.Points = append(s.Points, segment.Point{LSN: lsn, Time: 1, Offset: at, Prev: s.Prev})
			lsn += 32
		}
		m := segment.Mark{Seq: 1, State: segment.StateSealed, ID: h.ID, LSN: s.Last, End: s.End, Sum: s.Sum, Clean: true, Reach: openSegmentBytes}
		if err := writeSegment(dir, i, h, m, s.End, s.AppendFooter(nil)); err != nil {
			return h, err
		}
		h = segment.Header{ID: segment.ID{First: s.Last + 1}, Prev: s.Sum, PrevTerm: 1}
	}
	return h, nil
}

// writeSegment writes a sparse file: header, both marks, and data at an offset.
func writeSegment(dir string, slot int, h segment.Header, m segment.Mark, at int64, data []byte) error {
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%08d.seg", slot+1)))
	if err != nil {
		return err
	}
	second := m
	second.Seq++
	for _, w := range []struct {
		b   []byte
		off int64
	}{{h.Append(nil), 0}, {m.Append(nil), segment.MarkSlotOffset(m.Seq)}, {second.Append(nil), segment.MarkSlotOffset(second.Seq)}, {data, at}} {
		_, werr := f.WriteAt(w.b, w.off)
		err = errors.Join(err, werr)
	}
	return errors.Join(err, f.Truncate(openSegmentBytes), f.Sync(), f.Close())
}
