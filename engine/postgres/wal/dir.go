package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/logcore/logcore"
)

// DirOptions say what of a WAL directory is read.
type DirOptions struct {
	Dir      string
	Timeline Timeline // 0 is the newest that has the segment of Start
	Start    Position // of a record, or anything before the first one that is wanted; 0 is the oldest segment's beginning
	End      Position // the first record that begins at or behind it is not read; 0 is none
}

// BeginWith sets Timeline and Start to those of a segment in Dir, given by its file's name.
func (o *DirOptions) BeginWith(segment string) error {
	bytes, err := segmentLength(filepath.Join(o.Dir, segment))
	if err != nil {
		return err
	}
	t, start, ok := ParseSegmentName(segment, bytes)
	if !ok {
		return fmt.Errorf("%w: %s is no name of a WAL segment; one looks like 000000010000000000000001", logcore.ErrInvalid, segment)
	}
	o.Timeline, o.Start = t, start
	return nil
}

// readBytes is how much of a segment is read at once.
const readBytes = 1 << 20

// ReadDir calls each for every record of a WAL directory, in order, from the first one
// that begins at or behind Start. It ends at End, behind the last segment file, or
// where each returns false, with a nil error. Where the log just ends it returns the
// InvalidError that says why no further record is there. The record is valid during the call only.
func ReadDir(ctx context.Context, opts DirOptions, each func(*Record) bool) error {
	files, err := segmentFiles(opts.Dir)
	if err != nil {
		return err
	}
	first, err := files.find(opts.Timeline, opts.Start)
	if err != nil {
		return err
	}
	d, err := NewDecoder(Options{Start: first.start, SegmentBytes: files.bytes})
	if err != nil {
		return err
	}
	var r Record
	b := make([]byte, readBytes)
	for at := first.start; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := files.read(first.timeline, at, b)
		if errors.Is(err, fs.ErrNotExist) || n == 0 && err == nil {
			return nil
		}
		if err != nil {
			return err
		}
		at += Position(n)
		d.Feed(b[:n])
		for err = d.Next(&r); err == nil; err = d.Next(&r) {
			if opts.End != 0 && r.Start >= opts.End {
				return nil
			}
			if r.Start >= opts.Start && !each(&r) {
				return nil
			}
		}
		if !errors.Is(err, ErrMore) {
			return fmt.Errorf("%s: %w", opts.Dir, err)
		}
	}
}

type segmentFile struct {
	timeline Timeline
	start    Position
}

// walFiles are the segment files of one directory.
type walFiles struct {
	dir   string
	bytes uint32 // of a segment
	list  []segmentFile
}

// segmentFiles lists a directory's segments; the first tells how long they are.
func segmentFiles(dir string) (*walFiles, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	w := &walFiles{dir: dir}
	for _, e := range entries {
		if _, _, ok := ParseSegmentName(e.Name(), SegmentBytesMin); !ok || !e.Type().IsRegular() {
			continue
		}
		if w.bytes == 0 {
			if w.bytes, err = segmentLength(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
		if t, start, ok := ParseSegmentName(e.Name(), w.bytes); ok {
			w.list = append(w.list, segmentFile{t, start})
		}
	}
	if len(w.list) == 0 {
		return nil, fmt.Errorf("%w: %s holds no WAL segments", logcore.ErrInvalid, dir)
	}
	return w, nil
}

func segmentLength(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("wal: %w", err)
	}
	defer f.Close()
	var b [longPageHeaderBytes]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return 0, fmt.Errorf("%w: %s: it has no page header: %w", logcore.ErrCorrupt, path, err)
	}
	h, err := parsePageHeader(b[:])
	if err == nil && h.len() != longPageHeaderBytes {
		err = errors.New("its first page has a short header")
	}
	if err != nil && !errors.Is(err, logcore.ErrUnsupportedVersion) {
		err = fmt.Errorf("%w: %w", logcore.ErrCorrupt, err)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return h.segmentBytes, nil
}

// find returns the segment that holds p on the timeline; the newest one for timeline 0,
// the oldest segment for p = 0.
func (w *walFiles) find(t Timeline, p Position) (segmentFile, error) {
	var found *segmentFile
	for i := range w.list {
		s := &w.list[i]
		if t != 0 && s.timeline != t {
			continue
		}
		if p == 0 {
			if found == nil || s.start < found.start || s.start == found.start && s.timeline > found.timeline {
				found = s
			}
			continue
		}
		if p >= s.start && p < s.start+Position(w.bytes) && (found == nil || s.timeline > found.timeline) {
			found = s
		}
	}
	if found == nil {
		return segmentFile{}, fmt.Errorf("%w: %s holds no segment with position %v (timeline %d, 0 is any); the first is %s", logcore.ErrInvalid, w.dir, p, t, SegmentName(w.list[0].timeline, w.list[0].start, w.bytes))
	}
	return *found, nil
}

// read fills b from position p on, not past the end of its segment.
func (w *walFiles) read(t Timeline, p Position, b []byte) (int, error) {
	f, err := os.Open(filepath.Join(w.dir, SegmentName(t, p, w.bytes)))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	offset := int64(uint64(p) % uint64(w.bytes))
	b = b[:min(int64(len(b)), int64(w.bytes)-offset)]
	n, err := f.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil // the file is still being written
	}
	return n, err
}
