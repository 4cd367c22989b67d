package hotlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/durable"
)

// Import builds a fresh log in opts.Dir from consecutive spans: the segments and the
// frames are byte for byte those the spans came from. Everything is checked. The
// directory must hold no log. Until Import has returned nil, Open refuses the
// directory; after an error, remove it and import again.
//
// The term of the entry before the first span is not in a span: Term of First()-1
// is 0, unknown.
func Import(ctx context.Context, opts Options, spans iter.Seq2[segment.Span, error]) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	dir, release, err := segdir.Offline(opts.Dir, true)
	if err != nil {
		return err
	}
	defer release()
	if err := startImport(dir); err != nil {
		return err
	}
	if err := importOn(ctx, dir, opts, openMode{importing: true}, spans); err != nil {
		return fmt.Errorf("hotlog: import into %s: %w", opts.Dir, err)
	}
	// Commit point: without the marker the directory is a log.
	return errors.Join(dir.Remove(segdir.Importing), dir.SyncDir())
}

// startImport refuses a directory with a log, and marks it unfinished.
func startImport(dir media.Dir) error {
	c, err := segdir.Load(dir)
	c.Close()
	if err != nil {
		return err
	}
	if c.Importing || len(c.Live)+len(c.Free) > 0 {
		return fmt.Errorf("%w: hotlog: import into %s, which holds a log or an unfinished import: remove the directory or give another", logcore.ErrInvalid, dir.Path())
	}
	return durable.WriteFile(filepath.Join(dir.Path(), segdir.Importing), []byte("an import is under way or did not finish\n"), 0o644)
}

// importOn submits the entries of the spans to a log that begins where they do. That
// gives the same bytes, because frames and footers depend on nothing but the
// entries, the segment's first LSN and the checksum before it.
func importOn(ctx context.Context, dir media.Dir, opts Options, mode openMode, spans iter.Seq2[segment.Span, error]) error {
	var l *Log
	var err error
	for span, serr := range spans {
		if err = serr; err == nil && l == nil {
			mode.start = segment.Header{ID: span.ID, Prev: span.Prev}
			if span.First != span.ID.First || span.ID.Shard != opts.Shard {
				err = fmt.Errorf("%w: the first span begins at LSN %d of segment %d of shard %d: want the beginning of a segment of shard %d",
					logcore.ErrInvalid, span.First, span.ID.First, span.ID.Shard, opts.Shard)
			} else {
				l, _, err = openOn(ctx, dir, opts, mode)
			}
		}
		if err == nil {
			err = l.importSpan(ctx, span)
		}
		if err != nil {
			break
		}
	}
	if l != nil {
		err = errors.Join(err, l.Close())
	}
	return err
}

// importSpan appends one span and compares where that led to.
func (l *Log) importSpan(ctx context.Context, span segment.Span) error {
	l.mu.Lock()
	at, last, sum := l.tail.header.ID, l.last, l.lastSum
	if l.tail.sealed {
		at.First = last + 1
	}
	l.mu.Unlock()
	if span.ID != at || span.First != last+1 || span.Prev != sum {
		return fmt.Errorf("%w: span begins at LSN %d of segment %d with checksum %08x before it; want LSN %d of segment %d with %08x",
			logcore.ErrInvalid, span.First, span.ID.First, span.Prev, last+1, at.First, sum)
	}
	var part []logcore.Entry
	var bytes int64
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		err := l.Append(ctx, part)
		part, bytes = part[:0], 0
		return err
	}
	for e, err := range span.Entries() {
		if err != nil {
			return fmt.Errorf("span of LSNs %d to %d: %w", span.First, span.Last, err)
		}
		size := segment.FrameBytes(len(e.Payload))
		if bytes+size > min(batchBytesMax, l.opts.QueueBytesMax) {
			if err := flush(); err != nil {
				return err
			}
		}
		part, bytes = append(part, e), bytes+size
	}
	return flush()
}
