// Package backup reads the archives of a base backup as the server sends them, in pieces of any length: the reading can
// stop behind any piece and go on from a state of a few bytes. The format is tar as PostgreSQL writes it (ustar).
package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/logcore/logcore"
)

// Entry is a file or a directory of a backup.
type Entry struct {
	Path      string // inside the data directory, with slashes; a tablespace's is below pg_tblspc
	Directory bool
	Bytes     int64
}

// Sink takes what an archive holds. Links and what is neither file nor directory are left out.
type Sink interface {
	// Begin begins an entry.
	Begin(Entry) error
	// Data is more of the file that was begun, never empty. b is valid during the call only.
	Data(b []byte) error
	// End ends the file or directory that was begun.
	End() error
}

const (
	blockBytes = 512
)

// Reader reads one archive.
//
// Invariant: open says that an entry was begun and not ended; left is what is still to come of it.
type Reader struct {
	archive string
	root    string // of its entries' paths
	header  []byte // the part of a header that came, less than a block
	left    int64
	pad     int // bytes behind the content, to a whole block
	open    bool
	skip    bool // the content belongs to no entry
	over    bool // the end was read; the rest is padding
}

// NewReader returns a reader for the archive of that name: the main one, base.tar, or, named by its number, a tablespace's.
func NewReader(archive string) (*Reader, error) {
	r := &Reader{archive: archive}
	if name := strings.TrimSuffix(archive, ".tar"); name != "base" {
		if name == "" || strings.Trim(name, "0123456789") != "" {
			return nil, fmt.Errorf("backup: %w: an archive %q", logcore.ErrCorrupt, archive)
		}
		r.root = "pg_tblspc/" + name + "/"
	}
	return r, nil
}

// Archive returns the archive's name.
func (r *Reader) Archive() string { return r.archive }

// Complete reports whether the archive may end here: at its end, or between two entries.
func (r *Reader) Complete() bool { return r.over || !r.open && r.left == 0 && len(r.header) == 0 }

// Feed reads the next bytes. An archive that is none is logcore.ErrCorrupt.
func (r *Reader) Feed(b []byte, sink Sink) error {
	for len(b) > 0 && !r.over {
		switch {
		case r.left > 0:
			n := int(min(int64(len(b)), r.left))
			if !r.skip {
				if err := sink.Data(b[:n]); err != nil {
					return err
				}
			}
			b, r.left = b[n:], r.left-int64(n)
		case r.open:
			r.open = false
			if err := sink.End(); err != nil {
				return err
			}
			continue
		case r.pad > 0:
			n := min(len(b), r.pad)
			b, r.pad = b[n:], r.pad-n
		default:
			n := min(len(b), blockBytes-len(r.header))
			r.header, b = append(r.header, b[:n]...), b[n:]
			if len(r.header) == blockBytes {
				if err := r.begin(sink); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// begin takes a whole header.
func (r *Reader) begin(sink Sink) error {
	h := r.header
	r.header = r.header[:0]
	if len(bytes.Trim(h, "\x00")) == 0 {
		r.over = true
		return nil
	}
	e, kind, err := r.parse(h)
	if err != nil {
		return fmt.Errorf("backup: %s: %w", r.archive, err)
	}
	r.left, r.pad = e.Bytes, int(-e.Bytes&(blockBytes-1))
	const file, oldFile, directory = '0', 0, '5'
	switch kind {
	case file, oldFile:
	case directory:
		e.Directory = true
	default:
		r.skip = true
		return nil
	}
	r.open, r.skip = true, false
	return sink.Begin(e)
}

// parse reads a header.
func (r *Reader) parse(h []byte) (e Entry, kind byte, err error) {
	sum := int64(0)
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	want, err := number(h[148:156])
	if err != nil || want != sum {
		return e, 0, fmt.Errorf("%w: a header whose checksum is %d, its bytes give %d", logcore.ErrCorrupt, want, sum)
	}
	if e.Bytes, err = number(h[124:136]); err != nil {
		return e, 0, err
	}
	name := text(h[:100])
	if prefix := text(h[345:500]); prefix != "" {
		name = prefix + "/" + name
	}
	if name = strings.TrimSuffix(name, "/"); !filepath.IsLocal(name) {
		return e, 0, fmt.Errorf("%w: the path %q", logcore.ErrCorrupt, name)
	}
	e.Path = r.root + filepath.ToSlash(filepath.Clean(name))
	if kind = h[156]; kind == 'x' || kind == 'g' || kind == 'L' {
		return e, 0, fmt.Errorf("%w: an extended header (type %q)", logcore.ErrUnsupportedVersion, kind)
	}
	return e, kind, nil
}

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// number reads a number: octal, or, for one that has no room so, binary.
func number(b []byte) (int64, error) {
	if b[0]&0x80 != 0 {
		v := int64(b[0] & 0x7F)
		for _, c := range b[1:] {
			if v > 1<<53 {
				return 0, fmt.Errorf("%w: a number of a header", logcore.ErrCorrupt)
			}
			v = v<<8 | int64(c)
		}
		return v, nil
	}
	v, err := strconv.ParseUint(strings.Trim(string(b), " \x00"), 8, 62)
	if err != nil {
		return 0, fmt.Errorf("%w: a number of a header: %w", logcore.ErrCorrupt, err)
	}
	return int64(v), nil
}

// AppendState appends what NewReaderAt goes on from: the archive's name, then the reader's fields.
func (r *Reader) AppendState(dst []byte) []byte {
	flags := byte(0)
	for i, f := range []bool{r.open, r.skip, r.over} {
		if f {
			flags |= 1 << i
		}
	}
	le := binary.LittleEndian
	dst = append(append(dst, byte(len(r.archive))), r.archive...)
	dst = append(le.AppendUint16(le.AppendUint64(dst, uint64(r.left)), uint16(r.pad)), flags)
	return append(le.AppendUint16(dst, uint16(len(r.header))), r.header...)
}

// NewReaderAt returns the reader whose state b begins with, and the rest of b.
func NewReaderAt(b []byte) (*Reader, []byte, error) {
	bad := fmt.Errorf("backup: %w: the state of a reader", logcore.ErrCorrupt)
	const fixed = 8 + 2 + 1 + 2
	if len(b) < 1 || len(b) < 1+int(b[0])+fixed {
		return nil, nil, bad
	}
	n := 1 + int(b[0])
	r, err := NewReader(string(b[1:n]))
	if err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	b = b[n:]
	r.left, r.pad = int64(le.Uint64(b)), int(le.Uint16(b[8:]))
	r.open, r.skip, r.over = b[10]&1 != 0, b[10]&2 != 0, b[10]&4 != 0
	headerLen := int(le.Uint16(b[11:]))
	b = b[fixed:]
	if headerLen >= blockBytes || headerLen > len(b) || r.left < 0 || r.pad >= blockBytes {
		return nil, nil, bad
	}
	r.header = append(make([]byte, 0, blockBytes), b[:headerLen]...)
	return r, b[headerLen:], nil
}
