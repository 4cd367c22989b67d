package segment

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/logcore/logcore"
)

// image is a whole segment file in memory.
type image struct {
	bytes   []byte
	header  Header
	entries []logcore.Entry
	offsets []int64
	sums    []uint32
	summary Summary
}

func testEntry(lsn logcore.LSN, size int) logcore.Entry {
	e := logcore.Entry{LSN: lsn, Term: 3 + uint64(lsn)/4, Kind: logcore.Kind(1 + lsn%6), Time: logcore.HLC(1_700_000_000_000+uint64(lsn)) << 16, Payload: make([]byte, size)}
	for i := range e.Payload {
		e.Payload[i] = byte(int(lsn)*31 + i)
	}
	for i := range e.Tx {
		e.Tx[i] = byte(int(lsn) + i)
	}
	return e
}

// testLogOf: entries of log kinds belong to one of three logs.
func testLogOf(e logcore.Entry) logcore.LogID {
	if !e.Kind.OfLog() {
		return 0
	}
	return 100 + logcore.LogID(e.Tx[0]%3)
}

// build lays out a segment with payloads of the given sizes; sealed adds a SEAL and
// the footer. The file ends where the content does, plus extra zeros.
func build(t testing.TB, first logcore.LSN, sizes []int, sealed bool, extra int) image {
	return buildWith(t, DigestSums, first, sizes, sealed, extra)
}

func buildWith(t testing.TB, digest DigestKind, first logcore.LSN, sizes []int, sealed bool, extra int) image {
	im := image{header: Header{ID: ID{Shard: 5, First: first}, Prev: 0xabcd1234, PrevTerm: 2}}
	im.bytes = im.header.Append(nil)
	im.bytes = append(im.bytes, make([]byte, 2*BlockBytes)...)
	b := NewBuilder(im.header, testLogOf, digest)
	prev := im.header.Prev
	im.summary = b.Summary()
	add := func(e logcore.Entry) {
		im.entries = append(im.entries, e)
		im.offsets = append(im.offsets, int64(len(im.bytes)))
		im.bytes, prev = AppendFrame(im.bytes, im.header.ID, prev, e)
		im.sums = append(im.sums, prev)
		b.Add(&e, prev, im.bytes[im.offsets[len(im.offsets)-1]:])
		im.summary = b.Summary()
	}
	for i, n := range sizes {
		add(testEntry(first+logcore.LSN(i), n))
	}
	state := StateOpen
	if sealed {
		e := testEntry(first+logcore.LSN(len(sizes)), 0)
		e.Kind = logcore.KindSeal
		add(e)
		im.bytes = im.summary.AppendFooter(im.bytes)
		state = StateSealed
	}
	im.bytes = append(im.bytes, make([]byte, extra)...)
	for seq := uint64(6); seq < 8; seq++ {
		im.mark(Mark{Seq: seq, State: state, LSN: im.summary.Last, Clean: true})
	}
	return im
}

// mark writes a mark; its end and sum follow from its LSN.
func (im *image) mark(m Mark) {
	m.ID = im.header.ID
	m.End, m.Sum, m.Reach = FramesOffset, im.header.Prev, SegmentBytesMax
	if i := int(m.LSN) - int(m.ID.First); i >= 0 {
		m.End, m.Sum = im.summary.End, im.sums[min(i, len(im.sums)-1)]
		if i+1 < len(im.offsets) {
			m.End = im.offsets[i+1]
		}
	}
	copy(im.bytes[MarkSlotOffset(m.Seq):], m.Append(nil))
}

// open identifies and recovers the image, reading every frame.
func (im *image) open() (Recovered, error) {
	id, err := Identify(im.bytes[:min(len(im.bytes), FramesOffset)])
	if err != nil {
		return Recovered{Identity: id}, err
	}
	return Recover(bytes.NewReader(im.bytes), int64(len(im.bytes)), id, RecoverOptions{Scan: true, Digest: true, LogOf: testLogOf})
}

func sizes(n, size int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = size + i%7
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	im := build(t, 100, []int{0, 1, 7, 8, 9, 1000, 70_000, 3, 200_000}, true, 5000)
	r, err := im.open()
	if err != nil {
		t.Fatal(err)
	}
	if !r.Sealed || r.FooterError != nil || r.Last != 109 || r.Sum != im.sums[9] || len(r.Points) < 3 {
		t.Fatalf("recovered %+v", r)
	}
	fast, err := Recover(bytes.NewReader(im.bytes), int64(len(im.bytes)), r.Identity, RecoverOptions{})
	if err != nil || fast.Scanned || fmt.Sprint(fast.Summary) != fmt.Sprint(r.Summary) {
		t.Fatalf("footer says %+v (%v), the frames %+v", fast.Summary, err, r.Summary)
	}
	for i, want := range im.entries {
		p := Seek(r.Points, want.LSN)
		if p.LSN > want.LSN {
			t.Fatalf("seek %d found %d", want.LSN, p.LSN)
		}
		frames := NewReader(bytes.NewReader(im.bytes), r.ID, p, r.End)
		for {
			e, sum, err := frames.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e.LSN < want.LSN {
				continue
			}
			if sum != im.sums[i] || fmt.Sprint(e) != fmt.Sprint(want) {
				t.Fatalf("entry %d differs", want.LSN)
			}
			break
		}
	}
}

// What recovery makes of every kind of end.
func TestRecoverTable(t *testing.T) {
	six := func(t *testing.T) image { return build(t, 10, sizes(6, 100), false, 4096) }
	tests := []struct {
		name    string
		image   func(t *testing.T) image
		last    logcore.LSN
		torn    bool
		sealed  bool
		corrupt logcore.LSN // of the CorruptionError, 0 = none
	}{
		{"clean", six, 15, false, false, 0},
		{"empty, no footer", func(t *testing.T) image { return build(t, 10, nil, false, 8192) }, 9, false, false, 0},
		{"sealed", func(t *testing.T) image { return build(t, 10, sizes(6, 100), true, 0) }, 16, false, true, 0},
		{"only a seal", func(t *testing.T) image { return build(t, 10, nil, true, 0) }, 10, false, true, 0},
		{"intact entries above the mark are kept", func(t *testing.T) image {
			im := six(t)
			im.mark(Mark{Seq: 8, State: StateOpen, LSN: 12})
			return im
		}, 15, false, false, 0},
		{"bad frame above the mark is a torn tail", func(t *testing.T) image {
			im := six(t)
			im.mark(Mark{Seq: 8, State: StateOpen, LSN: 12})
			im.bytes[im.offsets[4]+70] ^= 1
			return im
		}, 13, true, false, 0},
		{"bad frame right above the mark", func(t *testing.T) image {
			im := six(t)
			im.mark(Mark{Seq: 8, State: StateOpen, LSN: 13})
			im.bytes[im.offsets[4]+70] ^= 1
			return im
		}, 13, true, false, 0},
		{"bad frame at the mark is corruption", func(t *testing.T) image {
			im := six(t)
			im.mark(Mark{Seq: 8, State: StateOpen, LSN: 14})
			im.bytes[im.offsets[4]+70] ^= 1
			return im
		}, 0, false, false, 14},
		{"bad frame below the mark is corruption", func(t *testing.T) image {
			im := six(t)
			im.bytes[im.offsets[0]+1] ^= 1
			return im
		}, 0, false, false, 10},
		{"mark proves more than there is", func(t *testing.T) image {
			im := six(t)
			clear(im.bytes[im.offsets[3]:])
			return im
		}, 0, false, false, 13},
		{"nothing written yet, newest mark torn", func(t *testing.T) image {
			im := build(t, 10, nil, false, 8192)
			clear(im.bytes[MarkSlotOffset(7)+100:][:2000])
			im.bytes[MarkSlotOffset(7)+40] ^= 1
			return im
		}, 9, false, false, 0},
		{"file ends inside a frame above the mark", func(t *testing.T) image {
			im := six(t)
			im.mark(Mark{Seq: 8, State: StateOpen, LSN: 12})
			im.bytes = im.bytes[:im.offsets[5]+20]
			return im
		}, 14, false, false, 0},
		{"sealed mark, but no seal", func(t *testing.T) image {
			im := six(t)
			im.mark(Mark{Seq: 8, State: StateSealed, LSN: 15})
			return im
		}, 0, false, false, 15},
		{"stale frames of another life", func(t *testing.T) image {
			im := six(t)
			im.mark(Mark{Seq: 8, State: StateOpen, LSN: 12})
			stale, _ := AppendFrame(nil, ID{Shard: 5, First: 3}, im.sums[2], testEntry(13, 100))
			copy(im.bytes[im.offsets[3]:], stale)
			return im
		}, 12, true, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			im := tt.image(t)
			r, err := im.open()
			var c *logcore.CorruptionError
			if tt.corrupt != 0 {
				if !errors.As(err, &c) || c.LSN != tt.corrupt || c.Offset < 0 {
					t.Fatalf("got %+v, %v; want corruption at LSN %d", r.Summary, err, tt.corrupt)
				}
				return
			}
			if err != nil || r.Last != tt.last || r.Torn != tt.torn || r.Sealed != tt.sealed {
				t.Fatalf("last %d torn %v sealed %v, %v; want %d, %v, %v", r.Last, r.Torn, r.Sealed, err, tt.last, tt.torn, tt.sealed)
			}
		})
	}
}

// A proof from the next segment counts like a mark.
func TestRecoverProvenByNext(t *testing.T) {
	im := build(t, 10, sizes(6, 100), true, 0)
	for seq := uint64(8); seq < 10; seq++ {
		im.mark(Mark{Seq: seq, State: StateOpen, LSN: 11})
	}
	im.bytes[im.offsets[4]+61] ^= 4
	id, err := Identify(im.bytes[:FramesOffset])
	if err != nil {
		t.Fatal(err)
	}
	r, err := Recover(bytes.NewReader(im.bytes), int64(len(im.bytes)), id, RecoverOptions{})
	if err != nil || r.Last != 13 || !r.Torn {
		t.Fatalf("without proof: last %d, %v", r.Last, err)
	}
	if _, err = Recover(bytes.NewReader(im.bytes), int64(len(im.bytes)), id, RecoverOptions{Proven: 16}); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("proven to LSN 16: %v", err)
	}
}

// The begin of a segment that a crash cut short leaves a free file; a bad header
// afterwards is corruption.
func TestIdentifyBegin(t *testing.T) {
	im := build(t, 10, sizes(2, 50), false, 0)
	copy(im.bytes[MarkSlotOffset(6):], Mark{Seq: 6, State: StateFree}.Append(nil))
	im.mark(Mark{Seq: 7, State: StateOpen, LSN: 9})
	if id, err := Identify(im.bytes[:FramesOffset]); err != nil || id.State != StateOpen {
		t.Fatalf("begun: %+v, %v", id.State, err)
	}
	stale := Header{ID: im.header.ID, Prev: 77}.Append(nil)
	copy(im.bytes, stale)
	if id, err := Identify(im.bytes[:FramesOffset]); err != nil || id.State != StateFree || !id.Refree {
		t.Fatalf("header of an earlier life with the same first LSN: %+v, %v", id, err)
	}
	copy(im.bytes, im.header.Append(nil))
	im.bytes[41] ^= 1
	if id, err := Identify(im.bytes[:FramesOffset]); err != nil || id.State != StateFree || !id.Refree {
		t.Fatalf("bad header beside a free mark: %+v, %v", id, err)
	}
	im.mark(Mark{Seq: 8, State: StateOpen, LSN: 9})
	if _, err := Identify(im.bytes[:FramesOffset]); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("bad header beside two marks: %v", err)
	}
}

// F6: each single flipped bit of a 64 KiB segment is detected.
func TestEveryBitFlip(t *testing.T) {
	var list []int
	im := build(t, 10, nil, true, 0)
	for room := 65536 - len(im.bytes) - 3*LogRangeBytes; room > 0; {
		n := min(1000, room-FrameHeaderBytes)
		if rest := room - int(FrameBytes(n)); rest > 0 && rest < 256 {
			n = 500
		}
		list = append(list, n-n%8+4)
		room -= int(FrameBytes(n - n%8 + 4))
	}
	im = build(t, 10, list, true, 0)
	if len(im.bytes) != 65536 {
		t.Fatalf("segment of %d bytes", len(im.bytes))
	}
	if r, err := im.open(); err != nil || r.TornMark || r.FooterError != nil {
		t.Fatalf("untouched: %+v, %v", r, err)
	}
	missed, flips := 0, 0
	for bit := range len(im.bytes) * 8 {
		im.bytes[bit/8] ^= 1 << (bit % 8)
		if !detects(&im, bit/8) {
			missed++
			t.Logf("flip of bit %d of byte %d not detected", bit%8, bit/8)
		}
		im.bytes[bit/8] ^= 1 << (bit % 8)
		flips++
	}
	if missed > 0 || flips != 524288 {
		t.Fatalf("%d of %d flips not detected", missed, flips)
	}
}

// detects opens the image with one bad byte. For speed a frame alone is decoded:
// recovery reads frames with the same function.
func detects(im *image, at int) bool {
	if int64(at) >= im.offsets[0] && int64(at) < im.summary.End {
		i := 0
		for i+1 < len(im.offsets) && im.offsets[i+1] <= int64(at) {
			i++
		}
		prev := im.header.Prev
		if i > 0 {
			prev = im.sums[i-1]
		}
		_, _, _, err := DecodeFrame(im.bytes[im.offsets[i]:], im.header.ID, prev)
		return errors.Is(err, logcore.ErrCorrupt) || errors.Is(err, ErrShort)
	}
	if int64(at) >= im.summary.End {
		_, err := DecodeFooter(im.bytes[im.summary.End:])
		return errors.Is(err, logcore.ErrCorrupt)
	}
	id, err := Identify(im.bytes[:FramesOffset])
	return errors.Is(err, logcore.ErrCorrupt) || err == nil && id.TornMark
}

// F7: any two frames of equal size swapped, and any frame repeated in the place of
// another, is detected: every ordered pair of 256.
func TestEverySwap(t *testing.T) {
	im := build(t, 1, sizes(256, 64)[:0], false, 0)
	list := make([]int, 256)
	for i := range list {
		list[i] = 60
	}
	im = build(t, 1, list, false, 0)
	size := int(FrameBytes(60))
	for i := range 256 {
		for j := range 256 {
			if i == j {
				continue
			}
			c := im.bytes[im.offsets[i] : im.offsets[i]+int64(size)]
			saved := bytes.Clone(c)
			copy(c, im.bytes[im.offsets[j]:][:size])
			prev := im.header.Prev
			if i > 0 {
				prev = im.sums[i-1]
			}
			e, _, _, err := DecodeFrame(c, im.header.ID, prev)
			if err == nil && e.LSN == im.entries[i].LSN {
				t.Fatalf("frame %d in the place of %d passed", j, i)
			}
			if i < j && (i+j)%37 == 0 { // the whole way, with both swapped
				other := im.bytes[im.offsets[j]:][:size]
				keep := bytes.Clone(other)
				copy(other, saved)
				if _, err := im.open(); !errors.Is(err, logcore.ErrCorrupt) {
					t.Fatalf("frames %d and %d swapped: %v", i, j, err)
				}
				copy(other, keep)
			}
			copy(c, saved)
		}
	}
	if _, err := im.open(); err != nil {
		t.Fatal(err)
	}
}

// Unknown versions, flags, kinds and fields are unsupported, not corrupt, and never cut.
func TestUnsupportedIsNotCorrupt(t *testing.T) {
	seal := func(b []byte, at int) { le.PutUint32(b[at:], crc32.Checksum(b[:at], castagnoli)) }
	block := func(change func(im *image)) func(*testing.T) error {
		return func(t *testing.T) error {
			im := build(t, 10, sizes(3, 40), true, 0)
			change(&im)
			_, err := im.open()
			return err
		}
	}
	frame := func(change func(f []byte)) func(*testing.T) error {
		return block(func(im *image) {
			f := im.bytes[im.offsets[2]:im.offsets[3]]
			change(f)
			le.PutUint32(f[frmCRC:], frameSum(im.header.ID, f))
			im.mark(Mark{Seq: 8, State: StateOpen, LSN: 10}) // above the proof, where a bad frame would be cut
			im.mark(Mark{Seq: 9, State: StateOpen, LSN: 10})
		})
	}
	tests := map[string]func(*testing.T) error{
		"header version": block(func(im *image) {
			le.PutUint32(im.bytes[preMinReader:], 2)
			seal(im.bytes, preCRC)
			seal(im.bytes, blockCRC)
		}),
		"header flag":  block(func(im *image) { im.bytes[preFlags] = 1; seal(im.bytes, preCRC); seal(im.bytes, blockCRC) }),
		"header key":   block(func(im *image) { im.bytes[hdrKeyID] = 1; seal(im.bytes, blockCRC) }),
		"header field": block(func(im *image) { im.bytes[hdrReserved+9] = 1; seal(im.bytes, blockCRC) }),
		"mark version": block(func(im *image) {
			b := im.bytes[MarkOffset:]
			le.PutUint32(b[preMinReader:], 9)
			seal(b, preCRC)
			seal(b, blockCRC)
		}),
		"mark state": block(func(im *image) { b := im.bytes[MarkOffset:]; b[mrkState] = 9; seal(b, blockCRC) }),
		"footer version": block(func(im *image) {
			b := im.bytes[im.summary.End:]
			le.PutUint32(b[preMinReader:], 2)
			seal(b, preCRC)
			seal(b, len(b)-ftrTail)
		}),
		"footer flag": block(func(im *image) {
			b := im.bytes[im.summary.End:]
			b[preFlags+3] = 1
			seal(b, preCRC)
			seal(b, len(b)-ftrTail)
		}),
		"footer digest": block(func(im *image) { b := im.bytes[im.summary.End:]; b[ftrDigestKind] = 2; seal(b, len(b)-ftrTail) }),
		"frame version": frame(func(f []byte) { f[frmVersion] = 2 }),
		"frame flags":   frame(func(f []byte) { f[frmFlags+1] = 0x80 }),
		"frame kind":    frame(func(f []byte) { f[frmKind] = 99 }),
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) {
			if err := run(t); !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
				t.Fatalf("%v; want unsupported version", err)
			}
		})
	}
	// A newer writer that older readers understand is fine.
	im := build(t, 10, sizes(3, 40), false, 0)
	le.PutUint32(im.bytes[preVersion:], 7)
	seal(im.bytes, preCRC)
	seal(im.bytes, blockCRC)
	if _, err := im.open(); err != nil {
		t.Fatalf("format version 7, min reader 1: %v", err)
	}
}

func TestSpan(t *testing.T) {
	im := build(t, 10, sizes(5, 100), true, 0)
	span := Span{ID: im.header.ID, First: 10, Last: 15, Prev: im.header.Prev, Sum: im.sums[5], Sealed: true, Frames: im.bytes[im.offsets[0]:im.summary.End]}
	count := func(s Span) (n int, err error) {
		for _, err := range s.Entries() {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	if n, err := count(span); n != 6 || err != nil {
		t.Fatalf("%d entries, %v", n, err)
	}
	for name, change := range map[string]func(s *Span){
		"first":  func(s *Span) { s.First++ },
		"last":   func(s *Span) { s.Last++ },
		"prev":   func(s *Span) { s.Prev++ },
		"sum":    func(s *Span) { s.Sum++ },
		"id":     func(s *Span) { s.ID.First++ },
		"shard":  func(s *Span) { s.ID.Shard++ },
		"sealed": func(s *Span) { s.Sealed = false },
		"cut":    func(s *Span) { s.Frames = s.Frames[:len(s.Frames)-1] },
		"bit":    func(s *Span) { s.Frames = bytes.Clone(s.Frames); s.Frames[300] ^= 2 },
		"longer": func(s *Span) { s.Frames = append(bytes.Clone(s.Frames), make([]byte, 64)...) },
	} {
		s := span
		change(&s)
		if _, err := count(s); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

// frameSum is the checksum that a frame should have.
func frameSum(id ID, frame []byte) uint32 { return saltedSumPortable(id.salt(), frame) }
