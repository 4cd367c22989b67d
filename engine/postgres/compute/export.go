package compute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// Export writes what a log holds as PostgreSQL's own tools know it: the base backup, as
// it was taken, into baseDir, and the WAL since as segment files into walDir; both must be empty or
// missing. With restore_command and recovery.signal a server recovers from them without LogCore.
func Export(ctx context.Context, baseDir, walDir string, entries iter.Seq2[Entry, error]) (err error) {
	for _, dir := range []string{baseDir, walDir} {
		if err := emptyDir(dir); err != nil {
			return err
		}
	}
	x := &export{b: build{dir: baseDir}, dir: walDir}
	defer func() { err = errors.Join(err, x.close()) }()
	for e, err := range entries {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = x.entry(e)
		}
		if err != nil {
			return err
		}
	}
	if !x.complete {
		return ErrNoBase
	}
	return nil
}

type export struct {
	b        build // unpacks the base backup
	complete bool
	due      wal.Position // where the next WAL begins, once complete
	dir      string
	file     *os.File
	name     string
	transactions
}

func (x *export) entry(e Entry) error {
	for _, raw := range x.take(e).payloads {
		p, err := payload.Decode(raw)
		if err == nil {
			err = x.payload(p)
		}
		if err != nil {
			return fmt.Errorf("compute: entry %d: %w", e.LSN, err)
		}
	}
	return nil
}

func (x *export) payload(p payload.Payload) error {
	switch {
	case p.Kind == payload.KindBase && !x.complete:
		return x.b.piece(p)
	case p.Kind == payload.KindBaseEnd && !x.complete:
		x.complete, x.due = true, p.Start-p.Start%wal.Position(p.SegmentBytes)
		return x.b.archiveComplete(p)
	case p.Kind == payload.KindHistory:
		return os.WriteFile(filepath.Join(x.dir, fmt.Sprintf("%08X.history", uint32(p.Timeline))), p.Content, 0o600)
	case p.Kind == payload.KindWAL:
		return x.wal(p)
	}
	return nil
}

// wal writes WAL into the segment files it belongs to, each of full length.
func (x *export) wal(p payload.Payload) error {
	if !x.complete || p.Start != x.due {
		return fmt.Errorf("%w: WAL from %v on, where %v is due", logcore.ErrCorrupt, p.Start, x.due)
	}
	x.due = p.End()
	for at, b := p.Start, p.Content; len(b) > 0; {
		offset := int64(at % wal.Position(p.SegmentBytes))
		n := min(len(b), int(int64(p.SegmentBytes)-offset))
		if err := x.segment(wal.SegmentName(p.Timeline, at, p.SegmentBytes), p.SegmentBytes, offset); err != nil {
			return err
		}
		if _, err := x.file.WriteAt(b[:n], offset); err != nil {
			return err
		}
		b = b[n:]
		at += wal.Position(n)
	}
	return nil
}

// segment makes a segment's file the one that is written, from an offset on. Where a timeline begins inside a segment its file has
// what the one before has up to there: PostgreSQL reads the segment only there.
func (x *export) segment(name string, bytes uint32, offset int64) (err error) {
	if name == x.name {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(x.dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if x.file != nil && offset > 0 {
		_, err = io.Copy(f, io.NewSectionReader(x.file, 0, offset))
	}
	if err := errors.Join(err, f.Truncate(int64(bytes)), x.close()); err != nil {
		return errors.Join(err, f.Close())
	}
	x.file, x.name = f, name
	return nil
}

func (x *export) close() error {
	x.b.close()
	f := x.file
	x.file, x.name = nil, ""
	if f == nil {
		return nil
	}
	return f.Close()
}
