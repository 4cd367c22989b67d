package hotlog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

// importingName stands in a directory while Import fills it.
const importingName = "IMPORTING"

// loaded is a segment file as the directory holds it.
type loaded struct {
	name     string
	f        media.File
	identity segment.Identity
}

// contents is what a directory holds.
type contents struct {
	live      []loaded // by first LSN
	free      []loaded
	tmp       []string
	importing bool
	slotMax   uint64
}

// load opens and identifies every segment file. Each bad file is an error of its
// own; files are returned open even then.
func load(dir media.Dir) (c contents, err error) {
	names, err := dir.List()
	if err != nil {
		return c, fmt.Errorf("hotlog: %w", err)
	}
	var errs []error
	for _, name := range names {
		switch {
		case name == importingName:
			c.importing = true
		case strings.HasSuffix(name, tmpSuffix):
			c.tmp = append(c.tmp, name)
		case strings.HasSuffix(name, segSuffix):
			if slot, err := strconv.ParseUint(strings.TrimSuffix(name, segSuffix), 10, 64); err == nil {
				c.slotMax = max(c.slotMax, slot)
			}
			errs = append(errs, c.add(dir, name))
		}
	}
	slices.SortFunc(c.live, func(a, b loaded) int { return cmp.Compare(a.identity.Header.ID.First, b.identity.Header.ID.First) })
	return c, errors.Join(errs...)
}

// add opens and identifies one file.
func (c *contents) add(dir media.Dir, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return fmt.Errorf("hotlog: %w", err)
	}
	file := loaded{name: name, f: f}
	block := make([]byte, min(segment.FramesOffset, f.Size()))
	if n, err := f.ReadAt(block, 0); n < len(block) {
		f.Close()
		return fmt.Errorf("hotlog: read %s/%s: %w", dir.Path(), name, err)
	}
	file.identity, err = segment.Identify(block)
	if err != nil {
		f.Close()
		return fileError(dir, name, err)
	}
	if file.identity.State == segment.StateFree {
		c.free = append(c.free, file)
	} else {
		c.live = append(c.live, file)
	}
	return nil
}

// close closes every file.
func (c *contents) close() {
	for _, x := range append(c.live, c.free...) {
		x.f.Close()
	}
}

// recoverSegment reads live[i], with what its neighbours prove of it.
func (c *contents) recoverSegment(dir media.Dir, i int, o segment.RecoverOptions) (segment.Recovered, error) {
	x := c.live[i]
	if i+1 < len(c.live) {
		o.Proven = c.live[i+1].identity.Header.ID.First - 1
	}
	r, err := segment.Recover(x.f, x.f.Size(), x.identity, o)
	if err != nil {
		return r, fileError(dir, x.name, err)
	}
	return r, nil
}

// follows checks that live[i+1] continues the segment recovered as live[i].
func (c *contents) follows(dir media.Dir, i int, r segment.Recovered) error {
	if i+1 >= len(c.live) {
		return nil
	}
	next := c.live[i+1]
	h := next.identity.Header
	if r.Sealed && r.Last+1 == h.ID.First && r.Sum == h.Prev && h.ID.Shard == r.ID.Shard {
		return nil
	}
	return &logcore.CorruptionError{Place: dir.Path(), Object: next.name, Offset: 0, LSN: h.ID.First, Reason: fmt.Sprintf(
		"segment begins at LSN %d behind checksum %08x, but the one before (%s) ends at %d with %08x, sealed: %v", h.ID.First, h.Prev, c.live[i].name, r.Last, r.Sum, r.Sealed)}
}

// fileError names the file in an error of package segment.
func fileError(dir media.Dir, name string, err error) error {
	var c *logcore.CorruptionError
	var d *segment.DamageError
	switch {
	case errors.As(err, &c):
		c.Place, c.Object = dir.Path(), name
		return err
	case errors.As(err, &d):
		return &logcore.CorruptionError{Place: dir.Path(), Object: name, Offset: -1, Reason: d.Reason}
	}
	return fmt.Errorf("hotlog: %s/%s: %w", dir.Path(), name, err)
}
