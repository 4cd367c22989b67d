package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/logcore/logcore"
)

// Identity is what the first three blocks of a segment file say: what the file is
// used for, and how far it is proven durable.
type Identity struct {
	State  State
	Header Header // zero when the file is free
	Mark   Mark   // the newest intact mark
	// TornMark: the other slot is unreadable, because a crash tore its write or
	// because it is rotten. Nothing is lost by it.
	TornMark bool
	// Refree: a free file whose slots do not both say so: write both before using it.
	Refree bool
}

// Identify classifies a file by its first FramesOffset bytes.
//
// A segment's life begins when its header and its first mark are synced together,
// over the two free marks that the file had before; only then are entries written.
// So a bad header beside a free mark is a birth that a crash cut short, and a bad
// header beside two marks of the segment is corruption.
func Identify(b []byte) (Identity, error) {
	var id Identity
	if len(b) < FramesOffset {
		return id, &logcore.CorruptionError{Offset: int64(len(b)), Reason: "file is shorter than its header"}
	}
	var marks [2]Mark
	var errs [2]error
	for slot := range marks {
		at := MarkOffset + slot*BlockBytes
		marks[slot], errs[slot] = DecodeMark(b[at : at+BlockBytes])
		if errs[slot] == nil && marks[slot].Seq%2 != uint64(slot) {
			errs[slot] = damage("mark %d in the wrong slot", marks[slot].Seq)
		}
		if errors.Is(errs[slot], logcore.ErrUnsupportedVersion) {
			return id, errs[slot]
		}
	}
	newest := 0
	if errs[0] != nil || errs[1] == nil && marks[1].Seq > marks[0].Seq {
		newest = 1
	}
	if errs[newest] != nil {
		return id, &logcore.CorruptionError{Offset: MarkOffset, Reason: fmt.Sprintf("both marks are unreadable: %v; %v", errs[0], errs[1])}
	}
	other, otherErr := marks[1-newest], errs[1-newest]
	id = Identity{State: marks[newest].State, Mark: marks[newest], TornMark: otherErr != nil}
	if id.State == StateFree {
		id.Refree = otherErr != nil || other.State != StateFree
		return id, nil
	}
	h, err := DecodeHeader(b[:BlockBytes])
	if errors.Is(err, logcore.ErrUnsupportedVersion) {
		return id, err
	}
	if err == nil && h.ID != id.Mark.ID {
		err = damage("header is of segment %d, the newest mark of segment %d", h.ID.First, id.Mark.ID.First)
	}
	if err == nil && id.Mark.LSN+1 == h.ID.First && id.Mark.Sum != h.Prev {
		// The file had a segment that began at the same LSN, behind another entry.
		err = damage("header follows checksum %08x, the mark says %08x", h.Prev, id.Mark.Sum)
	}
	if err != nil && otherErr == nil && other.State == StateFree {
		id.State, id.Refree = StateFree, true
		return id, nil
	}
	if err == nil && otherErr == nil && other.State != StateFree && other.ID != h.ID {
		err = damage("marks are of segments %d and %d", other.ID.First, h.ID.First)
	}
	if err != nil {
		return id, &logcore.CorruptionError{Offset: 0, LSN: id.Mark.ID.First, Reason: err.Error()}
	}
	id.Header = h
	return id, nil
}

// Recovered is a segment as recovery found it.
type Recovered struct {
	Identity
	Summary // up to the last entry kept
	// Sealed: the last entry is a SEAL.
	Sealed bool
	// Finished: the mark says sealed and the footer is good.
	Finished bool
	// FooterError says why the footer of a segment whose mark says sealed can't be used.
	// It is derived from the frames, which are intact: write it again.
	FooterError error
	// Torn: behind the last entry stands the head of a frame that would follow it,
	// but does not pass: a write that was under way, never acknowledged.
	Torn bool
	// Scanned: the frames were read, not only the footer.
	Scanned bool
}

// RecoverOptions says how thoroughly a segment is read.
type RecoverOptions struct {
	// Proven is an LSN known to be durable from elsewhere (the next segment exists only
	// once this one's last entry is durable), 0 for the newest segment.
	Proven logcore.LSN
	// Scan: check every frame even if the footer would do.
	Scan bool
	// Digest: compare the digest too when scanning.
	Digest bool
	// LogOf, when not nil, has the log ranges of the footer compared too.
	LogOf LogOf
}

// Recover reads a live segment: its footer if the mark says that it is sealed,
// otherwise, or with o.Scan, every frame.
//
// A frame that does not pass is the end of the segment when its LSN is above what
// the mark or o.Proven shows to be durable: a torn tail, to be cut by the caller. At
// or below, it is corruption and never cut: the error is a CorruptionError with
// offset and LSN. An intact frame above the mark is kept: it may have been
// acknowledged.
func Recover(src io.ReaderAt, size int64, id Identity, o RecoverOptions) (Recovered, error) {
	r := Recovered{Identity: id}
	var footer Summary
	if id.State == StateSealed {
		footer, r.FooterError = readFooter(src, size, id)
		if errors.Is(r.FooterError, logcore.ErrUnsupportedVersion) {
			return r, r.FooterError
		}
		if !o.Scan && r.FooterError == nil {
			r.Summary, r.Sealed, r.Finished = footer, true, true
			return r, nil
		}
	}
	r.Scanned = true
	digest := DigestNone
	if o.Digest {
		digest = footer.DigestKind
	}
	b := NewBuilder(id.Header, o.LogOf, digest)
	err := r.scan(src, size, b, max(o.Proven, id.Mark.LSN))
	r.Summary = b.Summary()
	if err != nil {
		return r, err
	}
	if id.State == StateSealed && !r.Sealed {
		return r, corrupt(r.End, r.Last, "the mark says sealed, but the last entry is no SEAL")
	}
	if id.State == StateSealed && r.FooterError == nil {
		r.FooterError = r.Differs(footer)
		r.Finished = r.FooterError == nil
	}
	if r.Finished {
		r.Summary = footer
	}
	return r, nil
}

// Differs compares a footer with the summary of the frames, as far as that goes: the
// ranges if both have them, the digest if it was computed.
func (s *Summary) Differs(footer Summary) error {
	want := *s
	if s.DigestKind == DigestNone {
		want.DigestKind, want.Digest = footer.DigestKind, footer.Digest
	}
	if !want.LogsKept || !footer.LogsKept {
		want.LogsKept, want.Logs = footer.LogsKept, footer.Logs
	}
	if bytes.Equal(want.AppendFooter(nil), footer.AppendFooter(nil)) {
		return nil
	}
	return damage("footer does not match the frames")
}

// scan reads frames up to the SEAL or the first that does not pass.
func (r *Recovered) scan(src io.ReaderAt, size int64, b *Builder, proven logcore.LSN) error {
	s := &b.sum
	frames := NewReader(src, r.Header.ID, r.Header.Start(), min(size, SegmentBytesMax))
	var e logcore.Entry
	for !r.Sealed {
		if err := r.checkMark(s); err != nil {
			return err
		}
		sum, err := frames.NextInto(&e)
		if err != nil {
			return r.ends(src, s, proven, err)
		}
		b.Add(&e, sum, frames.Raw())
		r.Sealed = e.Kind == logcore.KindSeal
	}
	if s.Last < proven {
		return corrupt(s.End, s.Last, fmt.Sprintf("segment ends at its SEAL, but LSN %d is proven durable in it", proven))
	}
	return r.checkMark(s)
}

// ends decides what a frame means that could not be read behind s.
func (r *Recovered) ends(src io.ReaderAt, s *Summary, proven logcore.LSN, err error) error {
	var bad *DamageError
	if !errors.Is(err, io.EOF) && !errors.As(err, &bad) {
		return err
	}
	if s.Last < proven {
		return corrupt(s.End, s.Last+1, fmt.Sprintf("%v; LSN %d is proven durable", err, proven))
	}
	r.Torn = bad != nil && headFollows(src, s)
	return nil
}

// checkMark compares the entry that the mark proves with the frame in its place.
func (r *Recovered) checkMark(s *Summary) error {
	if s.Last != r.Mark.LSN || s.End == r.Mark.End && s.Sum == r.Mark.Sum {
		return nil
	}
	return corrupt(s.End, s.Last, fmt.Sprintf("entry ends at %d with checksum %08x, but the mark proves %d with %08x", s.End, s.Sum, r.Mark.End, r.Mark.Sum))
}

// headFollows reports whether the head of a frame with the next LSN and the right
// predecessor stands behind the last entry.
func headFollows(src io.ReaderAt, s *Summary) bool {
	var b [FrameHeaderBytes]byte
	if n, _ := src.ReadAt(b[:], s.End); n < len(b) {
		return false
	}
	return le.Uint32(b[frmMagic:]) == frameMagic && le.Uint64(b[frmLSN:]) == uint64(s.Last)+1 && le.Uint32(b[frmPrev:]) == s.Sum
}

// readFooter reads the footer of a segment whose mark says that it is sealed.
func readFooter(src io.ReaderAt, size int64, id Identity) (Summary, error) {
	at := id.Mark.End
	b := make([]byte, preBytes)
	if n, err := src.ReadAt(b, at); n < len(b) {
		return Summary{}, damage("footer at offset %d: %v", at, err)
	}
	length, err := FooterSize(b)
	if err != nil {
		return Summary{}, err
	}
	if at+int64(length) > size {
		return Summary{}, damage("footer of %d bytes at offset %d of %d", length, at, size)
	}
	b = make([]byte, length)
	if n, err := src.ReadAt(b, at); n < len(b) {
		return Summary{}, fmt.Errorf("segment: read footer at offset %d: %w", at, err)
	}
	s, err := DecodeFooter(b)
	if err == nil && (s.ID != id.Header.ID || s.Prev != id.Header.Prev || s.Last != id.Mark.LSN || s.Sum != id.Mark.Sum || s.End != id.Mark.End) {
		err = damage("footer is of LSNs %d to %d with checksum %08x, the mark says %d to %d with %08x", s.ID.First, s.Last, s.Sum, id.Header.ID.First, id.Mark.LSN, id.Mark.Sum)
	}
	return s, err
}

// PlaceOf makes a CorruptionError of damage found at an offset below what is durable, a
// sector that can't be read included; other errors stay.
func PlaceOf(err error, off int64, lsn logcore.LSN) error {
	var bad *DamageError
	if !errors.As(err, &bad) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EIO) {
		return err
	}
	return corrupt(off, lsn, err.Error())
}

func corrupt(off int64, lsn logcore.LSN, reason string) error {
	return &logcore.CorruptionError{Offset: off, LSN: lsn, Reason: reason}
}
