package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// DumpedSegment is what header and newest mark of a segment file say. String gives a line.
type DumpedSegment struct {
	File     string          `json:"segment"`
	State    string          `json:"state"` // free, open (also: not finished), sealed
	Bytes    int64           `json:"file_bytes"`
	Shard    logcore.ShardID `json:"shard"`
	First    logcore.LSN     `json:"first_lsn"`
	Prev     string          `json:"previous_checksum"`
	PrevTerm uint64          `json:"previous_term"`
	Proven   logcore.LSN     `json:"proven_lsn"`
	End      int64           `json:"proven_end"`
	Clean    bool            `json:"clean"`
}

func (d DumpedSegment) String() string {
	if d.State == "free" {
		return fmt.Sprintf("%s: free, %d bytes", d.File, d.Bytes)
	}
	return fmt.Sprintf("%s: shard %d, first LSN %d behind checksum %s (term %d), %s, proven LSN %d at offset %d, clean %v, %d bytes",
		d.File, d.Shard, d.First, d.Prev, d.PrevTerm, d.State, d.Proven, d.End, d.Clean, d.Bytes)
}

// DumpedEntry is an entry without its payload. String gives a line.
type DumpedEntry struct {
	LSN      logcore.LSN `json:"lsn"`
	Offset   int64       `json:"offset"`
	Term     uint64      `json:"term"`
	Kind     string      `json:"kind"`
	Time     string      `json:"time"`
	Tx       string      `json:"tx"`
	Payload  int         `json:"payload_bytes"`
	Checksum string      `json:"checksum"`
}

func (d DumpedEntry) String() string {
	return fmt.Sprintf("  %d offset=%d term=%d kind=%s time=%s tx=%s payload=%d checksum=%s", d.LSN, d.Offset, d.Term, d.Kind, d.Time, d.Tx, d.Payload, d.Checksum)
}

// DumpedFooter is what the footer of a segment says. String gives a line, and one more for
// each log.
type DumpedFooter struct {
	File      string      `json:"footer"`
	Entries   uint64      `json:"entries"`
	Payload   uint64      `json:"payload_bytes"`
	FirstTime string      `json:"first_time"`
	LastTime  string      `json:"last_time"`
	Points    int         `json:"index_points"`
	LogsKept  bool        `json:"log_ranges_kept"`
	DigestOf  string      `json:"digest_of"` // frames, checksums
	SHA256    string      `json:"sha256"`
	Logs      []DumpedLog `json:"logs"`
}

// DumpedLog is what a segment holds of one log.
type DumpedLog struct {
	Log     logcore.LogID `json:"log"`
	First   logcore.LSN   `json:"first_lsn"`
	Last    logcore.LSN   `json:"last_lsn"`
	Entries uint64        `json:"entries"`
	Payload uint64        `json:"payload_bytes"`
}

func (d DumpedFooter) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: footer: %d entries, %d payload bytes, times %s to %s, %d index points, log ranges kept %v, %s sha256=%s",
		d.File, d.Entries, d.Payload, d.FirstTime, d.LastTime, d.Points, d.LogsKept, d.DigestOf, d.SHA256)
	for _, g := range d.Logs {
		fmt.Fprintf(&b, "\n%s: log %d: LSN %d to %d, %d entries, %d payload bytes", d.File, g.Log, g.First, g.Last, g.Entries, g.Payload)
	}
	return b.String()
}

// Dump hands out what the log in path says: a DumpedSegment for each file, behind it a
// DumpedEntry for each intact entry, and a DumpedFooter. It refuses a directory that is in
// use, and goes on behind a damaged segment; an error of emit ends it.
func Dump(ctx context.Context, path string, emit func(fmt.Stringer) error) error {
	dir, release, err := segdir.Offline(path, false)
	if err != nil {
		return err
	}
	defer release()
	c, err := segdir.Load(dir)
	defer c.CloseFiles()
	errs := []error{err}
	for _, x := range slices.Concat(c.Live, c.Free) {
		h, m := x.Identity.Header, x.Identity.Mark
		d := DumpedSegment{File: x.Name, State: "free", Bytes: x.File.Size()}
		if x.Identity.State != segment.StateFree {
			state := map[segment.State]string{segment.StateOpen: "open", segment.StateSealed: "sealed"}[m.State]
			d = DumpedSegment{File: x.Name, State: state, Bytes: x.File.Size(), Shard: h.ID.Shard, First: h.ID.First, Prev: hex(h.Prev), PrevTerm: h.PrevTerm, Proven: m.LSN, End: m.End, Clean: m.Clean}
		}
		if err := emit(d); err != nil {
			return err
		}
		if d.State != "free" {
			errs = append(errs, dumpSegment(ctx, dir, x, emit))
		}
	}
	return errors.Join(errs...)
}

func hex(sum uint32) string { return fmt.Sprintf("%08x", sum) }

func dumpSegment(ctx context.Context, dir media.Dir, x segdir.Segment, emit func(fmt.Stringer) error) error {
	h, m := x.Identity.Header, x.Identity.Mark
	frames := segment.NewReader(x.File, h.ID, h.Start(), x.File.Size())
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := frames.Offset()
		e, sum, err := frames.Next()
		if err != nil {
			if frames.NextLSN() > m.LSN && (errors.Is(err, io.EOF) || errors.Is(err, logcore.ErrCorrupt)) {
				return nil // the end, or a torn tail
			}
			return segdir.InFile(dir, x.Name, &logcore.CorruptionError{Offset: at, LSN: frames.NextLSN(), Reason: err.Error()})
		}
		if err := emit(DumpedEntry{LSN: e.LSN, Offset: at, Term: e.Term, Kind: e.Kind.String(), Time: e.Time.String(), Tx: e.Tx.String(), Payload: len(e.Payload), Checksum: hex(sum)}); err != nil {
			return err
		}
		if e.Kind == logcore.KindSeal {
			return dumpFooter(dir, x, emit)
		}
	}
}

// dumpFooter hands out what the footer of a finished segment says.
func dumpFooter(dir media.Dir, x segdir.Segment, emit func(fmt.Stringer) error) error {
	if x.Identity.State != segment.StateSealed {
		return nil // not finished
	}
	r, err := segment.Recover(x.File, x.File.Size(), x.Identity, segment.RecoverOptions{})
	if err == nil && r.FooterError != nil {
		err = segment.PlaceOf(r.FooterError, r.End, r.Last)
	}
	if err != nil {
		return segdir.InFile(dir, x.Name, err)
	}
	d := DumpedFooter{File: x.Name, Entries: r.Entries, Payload: r.PayloadBytes, FirstTime: r.FirstTime.String(), LastTime: r.LastTime.String(),
		Points: len(r.Points), LogsKept: r.LogsKept, SHA256: fmt.Sprintf("%x", r.Digest),
		DigestOf: map[segment.DigestKind]string{segment.DigestFrames: "frames", segment.DigestSums: "checksums"}[r.DigestKind], Logs: []DumpedLog{}}
	for _, g := range r.Logs {
		d.Logs = append(d.Logs, DumpedLog{Log: g.Log, First: g.First, Last: g.Last, Entries: g.Entries, Payload: g.PayloadBytes})
	}
	return emit(d)
}
