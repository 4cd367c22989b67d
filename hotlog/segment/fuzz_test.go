package segment

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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
	f.Add(build(f, 10, []int{4}, false, 0).bytes[:BlockBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHeader(b)
		if typed(t, err) && !bytes.Equal(h.Append(nil)[hdrShard:blockCRC], b[hdrShard:blockCRC]) {
			t.Fatal("not the same bytes again")
		}
	})
}

func FuzzDecodeMark(f *testing.F) {
	im := build(f, 10, []int{4}, true, 0)
	f.Add(im.bytes[MarkOffset : MarkOffset+BlockBytes])
	f.Add(Mark{Seq: 1, State: StateFree}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMark(b)
		if typed(t, err) && !bytes.Equal(m.Append(nil)[mrkSeq:blockCRC], b[mrkSeq:blockCRC]) {
			t.Fatal("not the same bytes again")
		}
	})
}

// typed reports whether a decoder accepted; an error must be one of two.
func typed(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && errors.Is(err, logcore.ErrCorrupt) == errors.Is(err, logcore.ErrUnsupportedVersion) {
		t.Fatalf("untyped error %v", err)
	}
	return err == nil
}

// A preamble is sealed anew, so that what stands behind its checksum is reached.
func FuzzPreamble(f *testing.F) {
	b := make([]byte, preBytes)
	putPreamble(b, markMagic, BlockBytes)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < preBytes {
			return
		}
		b = bytes.Clone(b[:preBytes])
		le.PutUint32(b[preCRC:], crc32.Checksum(b[:preCRC], castagnoli))
		_, err := checkPreamble(b, "it", markMagic, markFlagsKnown)
		ours, reads := string(b[:8]) == markMagic, le.Uint32(b[preMinReader:]) <= FormatVersion && le.Uint64(b[preFlags:]) == 0
		if typed(t, err) != (ours && reads) || err != nil && errors.Is(err, logcore.ErrCorrupt) == ours {
			t.Fatalf("ours %v, of a version we read %v: %v", ours, reads, err)
		}
	})
}

// Log ranges that pass exclude what a plain search excludes.
func FuzzLogRanges(f *testing.F) {
	im := build(f, 10, sizes(20, 5), true, 0)
	b := make([]byte, LogRangeBytes*len(im.summary.Logs))
	putLogs(b, im.summary.Logs)
	f.Add(b, uint64(101), uint64(12))
	f.Fuzz(func(t *testing.T, b []byte, log, lsn uint64) {
		s := im.summary
		s.Logs = decodeLogs(b, len(b)/LogRangeBytes)
		if !typed(t, s.validateLogs()) {
			return
		}
		again := make([]byte, len(s.Logs)*LogRangeBytes)
		if putLogs(again, s.Logs); !bytes.Equal(again, b[:len(again)]) {
			t.Fatal("not the same bytes again")
		}
		want := false
		for _, r := range s.Logs {
			want = want || r.Log == logcore.LogID(log) && r.Last >= logcore.LSN(lsn)
		}
		if _, got := s.MayHold([]logcore.LogID{logcore.LogID(log)}, logcore.LSN(lsn)); got != want {
			t.Fatalf("log %d from LSN %d: %v, want %v", log, lsn, got, want)
		}
	})
}

// A Reader says of any bytes what decoding frame after frame says.
func FuzzReader(f *testing.F) {
	id := ID{Shard: 1, First: 7}
	b, sum := AppendFrame(nil, id, 5, testEntry(7, 100))
	b, sum = AppendFrame(b, id, sum, testEntry(8, 0))
	b, _ = AppendFrame(b, id, sum, testEntry(9, 3))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), id, Point{LSN: 7, Prev: 5}, int64(len(b)))
		rest, prev := b, uint32(5)
		for lsn := logcore.LSN(7); ; lsn++ {
			e, sum, err := r.Next()
			want, wantSum, n, wantErr := DecodeFrame(rest, id, prev)
			if (err == nil) != (wantErr == nil && want.LSN == lsn) {
				t.Fatalf("LSN %d: %v, want %v", lsn, err, wantErr)
			}
			if err != nil {
				if len(rest) == 0 != errors.Is(err, io.EOF) {
					t.Fatalf("%d bytes are left: %v", len(rest), err)
				}
				return
			}
			if sum != wantSum || fmt.Sprint(e) != fmt.Sprint(want) || !bytes.Equal(r.Raw(), rest[:n]) {
				t.Fatalf("LSN %d differs", lsn)
			}
			rest, prev = rest[n:], sum
		}
	})
}

func FuzzDecodeFooter(f *testing.F) {
	im := build(f, 10, []int{4, 100, 70_000}, true, 0)
	f.Add(im.bytes[im.summary.End:])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeFooter(b)
		if !typed(t, err) {
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
