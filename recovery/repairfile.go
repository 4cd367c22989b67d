package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/hotlog"
	"github.com/logcore/logcore/hotlog/importer"
	"github.com/logcore/logcore/hotlog/segment"
	"github.com/logcore/logcore/internal/durable"
)

const (
	segmentPattern = "*.seg"
	corruptSuffix  = ".corrupt"
	repairDir      = ".repair"
)

// segmentFile is a segment file as a repair sees it. The fields other than name and
// file are what is left readable.
type segmentFile struct {
	name    string
	file    *os.File
	size    int64
	damaged bool

	first  logcore.LSN    // 0 when neither header nor marks tell
	header segment.Header // zero when it is damaged
	proven logcore.LSN    // from the newest intact mark
	marked bool           // a mark is intact
}

// lookAt reads what the files of dir say of themselves, by first LSN. Files that hold no
// segment are left out unless they are damaged.
func lookAt(dir string, damaged map[string]bool) ([]segmentFile, error) {
	paths, err := filepath.Glob(filepath.Join(dir, segmentPattern))
	if err != nil {
		return nil, err
	}
	var files []segmentFile
	for _, path := range paths {
		f, free, err := lookAtFile(path)
		if err != nil {
			return nil, err
		}
		f.damaged = damaged[f.name]
		if free && !f.damaged {
			f.file.Close()
			continue
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b segmentFile) int { return cmp.Compare(a.first, b.first) })
	for _, f := range files {
		if f.first == 0 {
			return nil, &logcore.CorruptionError{Place: dir, Object: f.name, Offset: 0, Reason: "neither its header nor its marks are readable, so nobody knows which entries it held or how far they were durable: " +
				"restore the shard from the archive into a new directory"}
		}
	}
	return files, nil
}

func lookAtFile(path string) (f segmentFile, free bool, err error) {
	f.name = filepath.Base(path)
	if f.file, err = os.Open(path); err != nil {
		return f, false, err
	}
	info, err := f.file.Stat()
	if err != nil {
		return f, false, errors.Join(err, f.file.Close())
	}
	f.size = info.Size()
	block := make([]byte, segment.FramesOffset)
	n, err := f.file.ReadAt(block, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return f, false, errors.Join(err, f.file.Close())
	}
	block = block[:n]
	if id, err := segment.Identify(block); err == nil && id.State == segment.StateFree {
		return f, true, nil
	}
	if len(block) < segment.FramesOffset {
		return f, false, nil
	}
	for _, at := range []int{segment.MarkOffset, segment.MarkOffset + segment.BlockBytes} {
		if m, err := segment.DecodeMark(block[at : at+segment.BlockBytes]); err == nil && m.State != segment.StateFree {
			f.marked, f.first, f.proven = true, m.ID.First, max(f.proven, m.LSN)
		}
	}
	if h, err := segment.DecodeHeader(block[:segment.BlockBytes]); err == nil {
		f.header, f.first = h, h.ID.First
	}
	return f, false, nil
}

// extent is what a segment must hold.
type extent struct {
	id       segment.ID
	last     logcore.LSN // 0 when it is the newest: nobody knows
	proven   logcore.LSN
	prevTerm uint64
}

// extent finds out what files[i] must hold, from itself and from its neighbours.
func (f segmentFile) extent(files []segmentFile, i int) (extent, error) {
	e := extent{id: segment.ID{First: f.first}, proven: f.proven, prevTerm: f.header.PrevTerm}
	for _, other := range files {
		if other.header.ID.First != 0 {
			e.id.Shard = other.header.ID.Shard
		}
	}
	if i+1 < len(files) {
		// The next segment exists only once this one is durable to its end.
		e.last = files[i+1].first - 1
		e.proven = e.last
		return e, nil
	}
	if !f.marked {
		return e, &logcore.CorruptionError{Place: f.file.Name(), Object: f.name, Offset: segment.MarkOffset, Reason: "both marks of the newest segment are unreadable, so nobody knows how far it was durable: " +
			"restore the shard from the archive into a new directory"}
	}
	return e, nil
}

// replaceSegment writes a file with the spans and puts it in the place of f.
func replaceSegment(ctx context.Context, o RepairOptions, f segmentFile, want extent, spans []segment.Span) error {
	work := filepath.Join(o.Dir, repairDir)
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	defer os.RemoveAll(work)
	each := func(yield func(segment.Span, error) bool) {
		for _, s := range spans {
			if !yield(s, nil) {
				return
			}
		}
	}
	size := max(min(f.size, hotlog.SegmentBytesMax), hotlog.SegmentBytesMin)
	if err := importer.Import(ctx, hotlog.Options{Dir: work, Shard: want.id.Shard, SegmentBytes: size, LogOf: catalog.LogOf, Logger: o.Logger}, each); err != nil {
		return err
	}
	fresh, err := findSegment(work, want.id.First)
	if err != nil {
		return err
	}
	if err := setPrevTerm(fresh, want.prevTerm); err != nil {
		return err
	}
	target := filepath.Join(o.Dir, f.name)
	if err := os.Link(target, target+corruptSuffix); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("keeping the damaged file: %w", err)
	}
	// Commit point: the new file takes the damaged one's place.
	if err := os.Rename(fresh, target); err != nil {
		return err
	}
	return durable.SyncDir(o.Dir)
}

// findSegment returns the file of dir that holds the segment.
func findSegment(dir string, first logcore.LSN) (string, error) {
	files, err := lookAt(dir, nil)
	if err != nil {
		return "", err
	}
	defer closeAll(files)
	for _, f := range files {
		if f.first == first {
			return filepath.Join(dir, f.name), nil
		}
	}
	return "", fmt.Errorf("%s holds no segment of LSN %d", dir, first)
}

func closeAll(files []segmentFile) {
	for _, f := range files {
		f.file.Close()
	}
}

// setPrevTerm puts the term of the entry before the segment back, which no span carries.
func setPrevTerm(path string, term uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	block := make([]byte, segment.BlockBytes)
	_, err = f.ReadAt(block, 0)
	if err == nil {
		var h segment.Header
		if h, err = segment.DecodeHeader(block); err == nil {
			h.PrevTerm = term
			_, err = f.WriteAt(h.Append(nil), 0)
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}
