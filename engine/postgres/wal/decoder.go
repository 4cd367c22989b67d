package wal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
)

// ErrMore says that the Decoder needs more bytes before it can give the next record.
var ErrMore = errors.New("wal: more of the log is needed")

// errNothingWritten is why zeros are no record.
var errNothingWritten = errors.New("nothing was written here")

// InvalidError says that no record is where one should begin or go on. At the end of a
// log that is how it ends: with bytes never written, with those of an older use of the file,
// or with a torn write. Anywhere else it is corruption; only the caller knows which. It
// wraps logcore.ErrCorrupt.
type InvalidError struct {
	At     Position // of the record, or of the page header, that is not right
	Reason error
}

// Error implements error.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("wal: no valid record at %v: %v", e.At, e.Reason)
}

// Unwrap implements errors.Unwrap.
func (e *InvalidError) Unwrap() []error { return []error{logcore.ErrCorrupt, e.Reason} }

// NothingWritten reports whether there were zeros where the record should be, as in a
// segment that was preallocated.
func (e *InvalidError) NothingWritten() bool { return errors.Is(e.Reason, errNothingWritten) }

// Options say where decoding begins and what the log must be.
type Options struct {
	// Start is the position of the first byte fed: the beginning of a page or of a record. On a page that begins with
	// the rest of a record, that rest is passed over.
	Start Position
	// SegmentBytes is a power of two from 1 MiB to 1 GiB; 0 is SegmentBytesDefault.
	SegmentBytes uint32
	// SystemID is the database cluster's identifier; when it is set, the log of another cluster is logcore.ErrInvalid.
	SystemID uint64
	// Prev is where the record before Start begins, when that is known: the first record is then checked against it.
	Prev Position
}

// Decoder cuts the log into records. It does no I/O and is not safe for concurrent use.
//
// Invariant: in[0] is the byte at position at; partial is the beginning of the record
// that begins at start, without page headers, and empty between records.
type Decoder struct {
	opts Options
	in   []byte
	at   Position
	err  error // once set, for good

	prev     Position // start of the last record, 0 when not known
	timeline Timeline
	systemID uint64

	start   Position
	partial []byte
	need    int // length of the record in partial
	skip    int // bytes of a record that began before Start
	skipTo  Position
	joined  []byte // buffer for what Feed had to put together
	synced  bool   // a record or page without the rest of one was seen

	boundary Position
}

// NewDecoder returns a decoder. Bad options are logcore.ErrInvalid.
func NewDecoder(opts Options) (*Decoder, error) {
	d := &Decoder{}
	return d, d.Reset(opts)
}

// Reset makes the decoder a new one, which uses the old one's memory again.
func (d *Decoder) Reset(opts Options) error {
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = SegmentBytesDefault
	}
	if s := opts.SegmentBytes; s < SegmentBytesMin || s > SegmentBytesMax || s&(s-1) != 0 {
		return fmt.Errorf("%w: WAL segments of %d bytes: a power of two from 1 MiB to 1 GiB is allowed", logcore.ErrInvalid, s)
	}
	if opts.Start%maxAlign != 0 {
		return fmt.Errorf("%w: WAL position %v: no record begins there", logcore.ErrInvalid, opts.Start)
	}
	*d = Decoder{opts: opts, at: opts.Start, prev: opts.Prev, boundary: opts.Start, partial: d.partial[:0], joined: d.joined[:0]}
	return nil
}

// Feed gives the decoder the next bytes. The caller must not change them before Next
// has returned ErrMore.
func (d *Decoder) Feed(b []byte) {
	if len(d.in) == 0 {
		d.in = b
		return
	}
	d.joined = append(append(d.joined[:0], d.in...), b...) // a page header or a length was split, or it was fed twice: rare
	d.in = d.joined
}

// At returns the position up to which all bytes were used.
func (d *Decoder) At() Position { return d.at }

// Boundary returns the last position between two records, or Start when there was none
// yet, up to which Next used all bytes. From there on another Decoder can begin. The empty rest of a segment belongs
// to the record that switched to the next.
func (d *Decoder) Boundary() Position { return d.boundary }

// Fed returns the position behind the last byte fed.
func (d *Decoder) Fed() Position { return d.at + Position(len(d.in)) }

// Timeline returns the timeline of the last page seen, 0 before the first.
func (d *Decoder) Timeline() Timeline { return d.timeline }

// SystemID returns the identifier of the database cluster, 0 before the first segment begins.
func (d *Decoder) SystemID() uint64 { return d.systemID }

// Prev returns where the last record begins, 0 when none was read.
func (d *Decoder) Prev() Position { return d.prev }

// Next reads the next record into r, whose Blocks are used again. It returns ErrMore
// when the record isn't there yet, an InvalidError when there is none, and
// logcore.ErrUnsupportedVersion for the log of another version of PostgreSQL.
func (d *Decoder) Next(r *Record) error {
	if d.err != nil {
		return d.err
	}
	b, err := d.next()
	if err == nil {
		err = d.parse(r, b)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrMore):
		// A page header, or a length, of which the rest is to come. The caller's bytes may change now.
		d.joined = append(d.joined[:0], d.in...)
		d.in = d.joined
	default:
		d.err = err
	}
	if d.need == 0 && d.skip == 0 && d.at >= d.skipTo && d.at%maxAlign == 0 && d.err == nil {
		d.boundary = d.at
	}
	return err
}

// next returns the bytes of the next record, without page headers.
func (d *Decoder) next() ([]byte, error) {
	for {
		if d.at < d.skipTo {
			if !d.pass(int(min(d.skipTo-d.at, Position(len(d.in))))) {
				return nil, ErrMore
			}
			continue
		}
		if d.at%PageBytes == 0 {
			if err := d.pageBegins(); err != nil {
				return nil, err
			}
			continue
		}
		onPage := min(int(PageBytes-d.at%PageBytes), len(d.in))
		switch {
		case d.skip > 0:
			n := min(d.skip, onPage)
			if !d.pass(n) {
				return nil, ErrMore
			}
			d.skip -= n
		case d.need > 0:
			if onPage == 0 {
				return nil, ErrMore
			}
			if err := d.collect(onPage); err != nil {
				return nil, err
			}
			if len(d.partial) == d.need {
				d.need = 0
				return d.partial, nil
			}
		default:
			b, err := d.recordBegins()
			if b != nil || err != nil {
				return b, err
			}
		}
	}
}

// pass uses n bytes up; it reports false when there are none.
func (d *Decoder) pass(n int) bool {
	d.in = d.in[n:]
	d.at += Position(n)
	return n > 0
}

// recordBegins looks at the place behind a record. It returns the record when all of
// it is on this page and in the input; otherwise it begins to collect it.
func (d *Decoder) recordBegins() ([]byte, error) {
	if pad := int(d.at.aligned() - d.at); pad > 0 {
		if len(d.in) < pad {
			return nil, ErrMore
		}
		d.pass(pad)
		return nil, nil // a page may begin here
	}
	if len(d.in) < 4 {
		return nil, ErrMore
	}
	n := binary.LittleEndian.Uint32(d.in)
	switch {
	case n == 0:
		return nil, d.invalid(d.at, errNothingWritten)
	case n < recordHeaderBytes || n > recordBytesMax:
		return nil, d.invalid(d.at, fmt.Errorf("a record of %d bytes", n))
	}
	d.start, d.synced = d.at, true
	onPage := min(int(PageBytes-d.at%PageBytes), len(d.in))
	if int(n) <= onPage {
		b := d.in[:n:n]
		if err := d.checkHeader(b); err != nil {
			return nil, err
		}
		d.pass(int(n))
		return b, nil
	}
	d.need, d.partial = int(n), d.partial[:0]
	return nil, nil
}

// collect takes the next bytes of a record that is not in one piece. Its header is
// checked before more than a page of it is kept, so a wrong length costs no memory.
func (d *Decoder) collect(onPage int) error {
	n := min(d.need-len(d.partial), onPage)
	unchecked := len(d.partial) < recordHeaderBytes
	d.partial = append(d.partial, d.in[:n]...)
	d.pass(n)
	if unchecked && len(d.partial) >= recordHeaderBytes {
		return d.checkHeader(d.partial)
	}
	return nil
}

// checkHeader checks the fixed part of the record at start.
func (d *Decoder) checkHeader(b []byte) error {
	manager, prev := Manager(b[17]), Position(binary.LittleEndian.Uint64(b[8:]))
	switch {
	case !manager.exists():
		return d.invalid(d.start, fmt.Errorf("a record of resource manager %d", uint8(manager)))
	case d.prev != 0 && prev != d.prev:
		return d.invalid(d.start, fmt.Errorf("it says that the record before begins at %v, but that is %v", prev, d.prev))
	case prev >= d.start:
		return d.invalid(d.start, fmt.Errorf("it says that the record before begins at %v", prev))
	}
	return nil
}

// parse checks the whole record and takes it apart.
func (d *Decoder) parse(r *Record, b []byte) error {
	r.parseHeader(b)
	if sum := binary.LittleEndian.Uint32(b[20:]); checksum(b) != sum {
		return d.invalid(d.start, fmt.Errorf("its checksum is %08X, its bytes give %08X", sum, checksum(b)))
	}
	if err := r.parseBody(b[recordHeaderBytes:]); err != nil {
		return d.invalid(d.start, err)
	}
	r.Start, r.End = d.start, d.at.aligned()
	if r.Manager == ManagerXLog && r.Op() == opSwitch {
		segment := Position(d.opts.SegmentBytes)
		r.End = (r.End + segment - 1) / segment * segment
		d.skipTo = r.End
	}
	d.prev = r.Start
	return nil
}

// opSwitch is the XLOG record behind which the rest of the segment is empty.
const opSwitch = 0x40

func (d *Decoder) invalid(at Position, reason error) error {
	if errors.Is(reason, logcore.ErrUnsupportedVersion) {
		return fmt.Errorf("wal: at %v: %w", at, reason)
	}
	return &InvalidError{At: at, Reason: reason}
}

// pageBegins reads the header of the page at d.at.
func (d *Decoder) pageBegins() error {
	n := pageHeaderLen(d.at, d.opts.SegmentBytes)
	if len(d.in) < n {
		return ErrMore
	}
	h, err := parsePageHeader(d.in[:n])
	if err != nil {
		return d.invalid(d.at, err)
	}
	if err := d.checkPage(h, n); err != nil {
		return err
	}
	if err := d.checkContinuation(h); err != nil {
		return d.invalid(d.at, err)
	}
	d.timeline = h.timeline
	if n == longPageHeaderBytes {
		d.systemID = h.systemID
	}
	d.pass(n)
	return nil
}

// checkPage checks that the page belongs where it is.
func (d *Decoder) checkPage(h pageHeader, n int) error {
	switch {
	case h.at != d.at:
		return d.invalid(d.at, fmt.Errorf("the page says that it is the one at %v", h.at))
	case h.len() != n:
		return d.invalid(d.at, fmt.Errorf("page flags %04X: only the first page of a segment has a long header; are segments of this log %d bytes long?", h.flags, d.opts.SegmentBytes))
	case h.timeline < d.timeline:
		return d.invalid(d.at, fmt.Errorf("the page is of timeline %d, the one before was of %d", h.timeline, d.timeline))
	case n != longPageHeaderBytes:
		return nil
	case h.segmentBytes != d.opts.SegmentBytes:
		return fmt.Errorf("%w: segments of this log have %d bytes, not %d", logcore.ErrInvalid, h.segmentBytes, d.opts.SegmentBytes)
	case d.opts.SystemID != 0 && h.systemID != d.opts.SystemID:
		return fmt.Errorf("%w: this is the log of the database cluster %d, not of %d", logcore.ErrInvalid, h.systemID, d.opts.SystemID)
	case d.systemID != 0 && h.systemID != d.systemID:
		return d.invalid(d.at, fmt.Errorf("the segment is of the database cluster %d, the one before was of %d", h.systemID, d.systemID))
	}
	return nil
}

// checkContinuation compares what the page begins with and what the page before ended with.
func (d *Decoder) checkContinuation(h pageHeader) error {
	continues := h.flags&pageContinues != 0
	switch {
	case d.need > 0 && h.flags&pageOverwritten != 0:
		d.need, d.partial = 0, d.partial[:0] // the server crashed in it and went on here
	case d.need > 0 && !continues:
		return fmt.Errorf("the record at %v, of %d bytes, does not go on here", d.start, d.need)
	case d.need > 0:
		if left := d.need - len(d.partial); int(h.remaining) != left {
			return fmt.Errorf("%d bytes of the record at %v are left, the page says %d", left, d.start, h.remaining)
		}
	case d.skip > 0:
		if !continues || int(h.remaining) != d.skip {
			return fmt.Errorf("%d bytes of a record are left, the page says %d", d.skip, h.remaining)
		}
	case continues && d.synced:
		return fmt.Errorf("the page begins with the rest of a record, but none was begun")
	case continues:
		if h.remaining == 0 || h.remaining > recordBytesMax {
			return fmt.Errorf("the rest of a record has %d bytes", h.remaining)
		}
		d.skip = int(h.remaining)
	default:
		d.synced = true
	}
	return nil
}
