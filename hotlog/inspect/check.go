// Package inspect looks at the files of a hot log that is not in use, changing nothing:
// Check verifies every byte, Dump writes what they say.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
)

// CheckReport says what Check read and what is wrong.
type CheckReport struct {
	Segments    int
	First, Last logcore.LSN // Last = First-1 when there is no entry
	Proven      logcore.LSN
	Entries     uint64
	Bytes       int64 // of frames and footers, all checked
	// Problems are corruptions (CorruptionError) and files that can't be read or
	// are of an unknown version.
	Problems []error
	// Rotten are marks (each a CorruptionError) that are unreadable beside one that says
	// that nothing was being written: rot, or a crash in the middle of just that mark.
	// Nothing is lost by them; Open writes them again.
	Rotten []error
	// Notes are traces of a crash, which Open repairs: a torn tail, a torn mark.
	Notes []string
	Took  time.Duration
}

// Progress is told, now and then, how many bytes of how many were read.
type Progress func(done, total int64)

// CheckOptions says what to check.
type CheckOptions struct {
	// Dir is the log's directory. Required.
	Dir string
	// LogOf, when given, has the log ranges of the footers compared too: see Options.
	LogOf segment.LogOf
	// Progress may be nil.
	Progress Progress
}

// Check reads and verifies every byte of the log in o.Dir that means something, digests
// included, changing nothing. It refuses a directory that is in use. The error is about
// the check itself; what is wrong with the log is in the report.
func Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	dir, release, err := segdir.Offline(o.Dir, false)
	if err != nil {
		return CheckReport{}, err
	}
	defer release()
	return CheckOn(ctx, dir, o)
}

// CheckOn is Check of a log on a medium. Options.Dir means nothing.
func CheckOn(ctx context.Context, dir media.Dir, o CheckOptions) (report CheckReport, err error) {
	began := time.Now()
	c, err := segdir.Load(dir)
	defer c.CloseFiles()
	report.problem(err)
	if c.Importing {
		report.Notes = append(report.Notes, "an import did not finish: remove the directory and import again")
	}
	var done, total int64
	for _, x := range c.Live {
		total += x.File.Size()
	}
	report.Segments = len(c.Live)
	for i, x := range c.Live {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		report.segment(dir, &c, i, o.LogOf)
		if done += x.File.Size(); o.Progress != nil {
			o.Progress(done, total)
		}
	}
	for _, x := range c.Free {
		switch {
		case x.Identity.TornMark:
			report.Rotten = append(report.Rotten, rottenMark(dir, x))
		case x.Identity.Refree:
			report.Notes = append(report.Notes, fmt.Sprintf("%s: a mark of this free file is torn or rotten; it holds no entry", x.Name))
		}
	}
	report.Took = time.Since(began)
	return report, nil
}

// segment checks one segment and what follows it.
func (r *CheckReport) segment(dir media.Dir, c *segdir.Contents, i int, logOf segment.LogOf) {
	x := c.Live[i]
	rec, err := c.Recover(i, segment.RecoverOptions{Scan: true, Digest: true, LogOf: logOf})
	if r.Entries == 0 && i == 0 {
		r.First = x.Identity.Header.ID.First
	}
	r.Last, r.Proven = rec.Last, rec.Mark.LSN
	r.Entries += rec.Entries
	r.Bytes += max(rec.End-segment.FramesOffset, 0)
	switch {
	case x.Identity.TornMark && x.Identity.Mark.Clean:
		r.Rotten = append(r.Rotten, rottenMark(dir, x))
	case x.Identity.TornMark:
		r.Notes = append(r.Notes, fmt.Sprintf("%s: a mark is torn by a crash, or rotten; the other one proves LSN %d", x.Name, x.Identity.Mark.LSN))
	}
	if err != nil {
		r.problem(err)
		return
	}
	switch {
	case rec.FooterError != nil:
		r.problem(&logcore.CorruptionError{Place: dir.Path(), Object: x.Name, Offset: rec.End, LSN: rec.Last, Reason: rec.FooterError.Error()})
	case rec.Finished:
		r.Bytes += int64(rec.FooterBytes())
	case rec.Sealed:
		r.Notes = append(r.Notes, fmt.Sprintf("%s: sealed, but not finished with a footer", x.Name))
	}
	if rec.Torn {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: torn tail behind LSN %d at offset %d; never acknowledged", x.Name, rec.Last, rec.End))
	}
	r.problem(c.Follows(i, rec))
}

// rottenMark is the error about the slot beside the newest intact mark.
func rottenMark(dir media.Dir, x segdir.Segment) error {
	return &logcore.CorruptionError{Place: dir.Path(), Object: x.Name, Offset: segment.MarkSlotOffset(x.Identity.Mark.Seq + 1),
		Reason: "a mark is unreadable; nothing is lost, the other one proves what is durable"}
}

// problem records an error and those it joins.
func (r *CheckReport) problem(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && !errors.Is(err, logcore.ErrUnsupportedVersion) {
		for _, e := range joined.Unwrap() {
			r.problem(e)
		}
		return
	}
	r.Problems = append(r.Problems, err)
}
