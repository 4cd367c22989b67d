package segment

import (
	"bytes"
	"errors"
	"testing"

	"github.com/logcore/logcore"
)

// A decoder takes any bytes without panic, and what it accepts encodes to the same
// bytes again.
func FuzzDecodeFrame(f *testing.F) {
	id := ID{Shard: 1, First: 7}
	for _, n := range []int{0, 1, 8, 100} {
		b, _ := AppendFrame(nil, id, 5, testEntry(9, n))
		f.Add(b, uint32(5))
		f.Add(b[:len(b)/2], uint32(5))
	}
	f.Fuzz(func(t *testing.T, b []byte, prev uint32) {
		e, sum, n, err := DecodeFrame(b, id, prev)
		if err != nil {
			if !errors.Is(err, ErrShort) && !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, sum2 := AppendFrame(nil, id, prev, e)
		if sum2 != sum || !bytes.Equal(again, b[:n]) {
			t.Fatal("not the same bytes again")
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	im := build(f, 10, []int{4}, false, 0)
	f.Add(im.bytes[:BlockBytes])
	f.Add(im.bytes[MarkOffset : MarkOffset+BlockBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHeader(b)
		if err == nil && !bytes.Equal(h.Append(nil)[hdrShard:hdrCRC], b[hdrShard:hdrCRC]) {
			t.Fatal("header: not the same bytes again")
		}
		m, err := DecodeMark(b)
		if err == nil && !bytes.Equal(m.Append(nil)[mrkSeq:mrkCRC], b[mrkSeq:mrkCRC]) {
			t.Fatal("mark: not the same bytes again")
		}
	})
}

func FuzzDecodeFooter(f *testing.F) {
	im := build(f, 10, []int{4, 100, 70_000}, true, 0)
	f.Add(im.bytes[im.summary.End:])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeFooter(b)
		if err != nil {
			return
		}
		again := s.AppendFooter(nil)
		if n := len(again) - ftrTail; len(b) < len(again) || !bytes.Equal(again[preBytes:n], b[preBytes:n]) {
			t.Fatal("not the same bytes again")
		}
	})
}

// FuzzRecover lets a whole file be anything.
func FuzzRecover(f *testing.F) {
	im := build(f, 10, []int{4, 100}, true, 0)
	f.Add(im.bytes)
	open := build(f, 10, []int{4, 100}, false, 100)
	f.Add(open.bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		im := image{bytes: b}
		r, err := im.open()
		if err == nil && r.State != StateFree && r.Last < r.Mark.LSN {
			t.Fatalf("ends at %d, proven is %d", r.Last, r.Mark.LSN)
		}
	})
}
