// Package importer makes a fresh hot log out of spans, as they come from the archive or from
// a peer: the segments and the frames are byte for byte those the spans came from.
package importer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/segdir"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/durable"
)

// partBytesMax is how much is appended at once.
const partBytesMax = 4 << 20

// Import builds a fresh log in opts.Dir from consecutive spans. Everything is checked. The
// directory must hold no log. Until Import has returned nil, hotlog.Open refuses the
// directory; after an error, remove it and import again.
//
// The term of the entry before the first span is not in a span: Term of First()-1
// is 0, unknown.
func Import(ctx context.Context, opts hotlog.Options, spans iter.Seq2[segment.Span, error]) error {
	if err := start(opts.Dir); err != nil {
		return err
	}
	if err := fill(ctx, opts, spans); err != nil {
		return fmt.Errorf("hotlog: import into %s: %w", opts.Dir, err)
	}
	dir, release, err := segdir.Offline(opts.Dir, false)
	if err != nil {
		return err
	}
	// Commit point: without the marker the directory is a log.
	return errors.Join(dir.Remove(segdir.Importing), dir.SyncDir(), release())
}

// start refuses a directory with a log, and marks it unfinished.
func start(path string) error {
	dir, release, err := segdir.Offline(path, true)
	if err != nil {
		return err
	}
	defer release()
	c, err := segdir.Load(dir)
	c.CloseFiles()
	if err != nil {
		return err
	}
	if c.Importing || len(c.Live)+len(c.Free) > 0 {
		return fmt.Errorf("%w: hotlog: import into %s, which holds a log or an unfinished import: remove the directory or give another", logcore.ErrInvalid, path)
	}
	return durable.WriteFile(filepath.Join(path, segdir.Importing), []byte("an import is under way or did not finish\n"), 0o644)
}

// fill submits the entries of the spans to a log that begins where they do. That gives the
// same bytes, because frames and footers depend on nothing but the entries, the
// segment's first LSN and the checksum before it.
func fill(ctx context.Context, opts hotlog.Options, spans iter.Seq2[segment.Span, error]) (err error) {
	var l *hotlog.Log
	defer func() {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for span, err := range spans {
		if err != nil {
			return err
		}
		if l == nil {
			if span.First != span.ID.First || span.ID.Shard != opts.Shard {
				return fmt.Errorf("%w: the first span begins at LSN %d of segment %d of shard %d: want the beginning of a segment of shard %d",
					logcore.ErrInvalid, span.First, span.ID.First, span.ID.Shard, opts.Shard)
			}
			if l, err = hotlog.OpenImport(ctx, opts, segment.Header{ID: span.ID, Prev: span.Prev}); err != nil {
				return err
			}
		}
		if err := appendSpan(ctx, l, span); err != nil {
			return err
		}
	}
	return nil
}

// appendSpan appends one span that begins where the log ends.
func appendSpan(ctx context.Context, l *hotlog.Log, span segment.Span) error {
	at, last, sum := l.Tail()
	if span.ID != at || span.First != last+1 || span.Prev != sum {
		return fmt.Errorf("%w: span begins at LSN %d of segment %d with checksum %08x before it; want LSN %d of segment %d with %08x",
			logcore.ErrInvalid, span.First, span.ID.First, span.Prev, last+1, at.First, sum)
	}
	var part []logcore.Entry
	var bytes int64
	for e, err := range span.Entries() {
		if err != nil {
			return fmt.Errorf("span of LSNs %d to %d: %w", span.First, span.Last, err)
		}
		size := segment.FrameBytes(len(e.Payload))
		if len(part) > 0 && bytes+size > partBytesMax {
			if err := l.Append(ctx, part); err != nil {
				return err
			}
			part, bytes = part[:0], 0
		}
		part, bytes = append(part, e), bytes+size
	}
	if len(part) == 0 {
		return nil
	}
	return l.Append(ctx, part)
}
