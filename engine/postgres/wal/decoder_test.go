package wal_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/wal"
	"github.com/logcore/logcore/engine/postgres/walsample"
)

func sample(t testing.TB) []byte {
	t.Helper()
	b, err := walsample.Various.Log()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newDecoder(t testing.TB, start wal.Position) *wal.Decoder {
	t.Helper()
	d, err := wal.NewDecoder(wal.Options{Start: start, SegmentBytes: walsample.SegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// starts decodes log in pieces of the sizes that size gives, and returns where the
// records begin and the error at the end.
func starts(t testing.TB, log []byte, start wal.Position, size func() int) ([]wal.Position, error) {
	t.Helper()
	d := newDecoder(t, start)
	var out []wal.Position
	var r wal.Record
	var fed []byte
	for {
		err := d.Next(&r)
		for ; err == nil; err = d.Next(&r) {
			out = append(out, r.Start)
		}
		if !errors.Is(err, wal.ErrMore) || len(log) == 0 {
			return out, err
		}
		clear(fed) // it is ours again
		n := min(size(), len(log))
		fed = bytes.Clone(log[:n]) // its own memory, so that nothing can lean on what comes behind
		d.Feed(fed)
		log = log[n:]
	}
}

func TestPiecesOfAnySizeGiveTheSameRecords(t *testing.T) {
	log := sample(t)
	want, err := starts(t, log, walsample.Start, func() int { return len(log) })
	if len(want) != walsample.Various.Records {
		t.Fatalf("%d records, want %d: %v", len(want), walsample.Various.Records, err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for name, size := range map[string]func() int{
		"1": func() int { return 1 }, "7": func() int { return 7 }, "8192": func() int { return 8192 },
		"random": func() int { return 1 + rng.IntN(20000) },
	} {
		got, _ := starts(t, log, walsample.Start, size)
		if len(got) != len(want) {
			t.Errorf("pieces of %s: %d records, want %d", name, len(got), len(want))
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("pieces of %s: record %d begins at %v, want %v", name, i, got[i], want[i])
			}
		}
	}
}

// From any page on, the records are the ones that begin at or behind it.
func TestFromAnyPage(t *testing.T) {
	log := sample(t)
	all, _ := starts(t, log, walsample.Start, func() int { return len(log) })
	pages := 0
	for at := 0; at < len(log); at += wal.PageBytes {
		start := walsample.Start + wal.Position(at)
		if start >= all[len(all)-1] {
			break
		}
		got, err := starts(t, log[at:min(at+64*wal.PageBytes, len(log))], start, func() int { return len(log) })
		if len(got) == 0 {
			if start < 0x900000-wal.PageBytes && errors.Is(err, wal.ErrMore) {
				t.Errorf("no record from page %v on: %v", start, err)
			}
			continue // behind the switch of segments nothing is written
		}
		i := 0
		for all[i] < start {
			i++
		}
		if got[0] != all[i] {
			t.Errorf("from page %v: the first record is at %v, want %v", start, got[0], all[i])
		}
		pages++
	}
	if pages < 150 {
		t.Errorf("%d pages were begun at, want 150", pages)
	}
}

// Every flipped bit of a page of records, its header and padding included, is noticed:
// decoding stops there, or the bit is in bytes that mean nothing.
func TestFlippedBits(t *testing.T) {
	const first = walsample.SegmentBytes // the segment before has few records
	log := sample(t)[first : first+4*wal.PageBytes]
	want, _ := starts(t, log, walsample.Start+first, func() int { return len(log) })
	meaningless := 0
	for bit := range wal.PageBytes * 8 {
		at := wal.PageBytes + bit/8
		log[at] ^= 1 << (bit % 8)
		got, err := starts(t, log, walsample.Start+first, func() int { return len(log) })
		log[at] ^= 1 << (bit % 8)
		if len(got) == len(want) {
			meaningless++ // the padding between records and in the page header; the header's flag for backups
			continue
		}
		if err == nil || errors.Is(err, wal.ErrMore) {
			t.Fatalf("bit %d of byte %d: %d records of %d, then %v", bit%8, at, len(got), len(want), err)
		}
	}
	if meaningless > 3*8*len(want) {
		t.Errorf("%d flipped bits changed nothing, want only those in the padding of %d records", meaningless, len(want))
	}
}

// Every known magic, and what is one of a version to come, on the first page and on a later one.
func TestOtherVersionsAreRefusedByName(t *testing.T) {
	const first = walsample.SegmentBytes // the segment before has few records
	log := sample(t)[first:]
	for magic, name := range map[uint16]string{
		0xD087: "PostgreSQL 9.5 ", 0xD093: "PostgreSQL 9.6 ", 0xD097: "PostgreSQL 10 ", 0xD098: "PostgreSQL 11 ", 0xD101: "PostgreSQL 12 ", 0xD106: "PostgreSQL 13 ",
		0xD10D: "PostgreSQL 14 ", 0xD113: "PostgreSQL 16 ", 0xD116: "PostgreSQL 17 ", 0xD118: "PostgreSQL 18 ",
		0xD111: "no version", 0xD119: "no version", 0xBEEF: "no version",
	} {
		for _, at := range []int{0, 2 * wal.PageBytes} {
			b := bytes.Clone(log[:3*wal.PageBytes])
			b[at], b[at+1] = byte(magic), byte(magic>>8)
			_, err := starts(t, b, walsample.Start+first, func() int { return len(b) })
			if !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "15 (D110) is read") {
				t.Errorf("magic %04X at %d: %v, want ErrUnsupportedVersion with %q", magic, at, err, name)
			}
		}
	}
}

func TestAnotherClustersLogIsRefused(t *testing.T) {
	log := sample(t)
	d, err := wal.NewDecoder(wal.Options{Start: walsample.Start, SegmentBytes: walsample.SegmentBytes, SystemID: 4711})
	if err != nil {
		t.Fatal(err)
	}
	d.Feed(log)
	if err := d.Next(&wal.Record{}); !errors.Is(err, logcore.ErrInvalid) || errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	d, err = wal.NewDecoder(wal.Options{Start: 0x1000000, SegmentBytes: 1 << 24})
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(log[:wal.PageBytes])
	copy(b[8:16], []byte{0, 0, 0, 1, 0, 0, 0, 0})
	d.Feed(b)
	if err := d.Next(&wal.Record{}); !errors.Is(err, logcore.ErrInvalid) {
		t.Errorf("other segment size: got %v, want ErrInvalid", err)
	}
}

func TestARecordThatWasGivenUpIsPassedOver(t *testing.T) {
	log := bytes.Clone(sample(t))
	all, _ := starts(t, log, walsample.Start, func() int { return len(log) })
	// Find a page that begins with the rest of a record and say that the record was given up.
	for at := wal.PageBytes; ; at += wal.PageBytes {
		if log[at+2]&1 == 0 {
			continue
		}
		remaining := int(log[at+16]) | int(log[at+17])<<8
		log[at+2] = log[at+2]&^1 | 8
		next := (24 + remaining + 7) &^ 7
		page := walsample.Start + wal.Position(at)
		if next >= wal.PageBytes {
			t.Fatal("the sample begins with a record of several pages")
		}
		copy(log[at+24:at+wal.PageBytes], log[at+next:at+wal.PageBytes])
		got, err := starts(t, log[:at+wal.PageBytes], walsample.Start, func() int { return len(log) })
		i := 0
		for all[i+1] < page {
			i++
		}
		// The record before the page is gone; the next says that it follows the lost one, as
		// one that PostgreSQL writes then wouldn't: so it is the last that is looked at.
		var invalid *wal.InvalidError
		if len(got) != i || !errors.As(err, &invalid) || invalid.At != page+24 {
			t.Errorf("%d records, then %v; want %d and a look at %v", len(got), err, i, page+24)
		}
		return
	}
}

func TestPositions(t *testing.T) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"} {
		p, err := wal.ParsePosition(s)
		if err != nil || p.String() != s {
			t.Errorf("%s: got %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "1", "1/", "/1", "1/123456789", "g/1", "1/2/3"} {
		if _, err := wal.ParsePosition(s); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", s, err)
		}
	}
	if n := wal.SegmentName(3, 0x16_B374D848, 16<<20); n != "0000000300000016000000B3" {
		t.Errorf("segment name %s", n)
	}
	timeline, start, ok := wal.ParseSegmentName("0000000300000016000000B3", 16<<20)
	if timeline != 3 || start != 0x16_B3000000 || !ok {
		t.Errorf("parsed: %d %v %v", timeline, start, ok)
	}
}

// FuzzDecoder feeds bytes that are nearly a log. Nothing may panic, and what is
// accepted must be inside the input.
func FuzzDecoder(f *testing.F) {
	log := sample(f)
	f.Add(log[:3*wal.PageBytes], uint16(100))
	f.Add(log[wal.PageBytes:4*wal.PageBytes], uint16(8192))
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		d := newDecoder(t, walsample.Start)
		var r wal.Record
		page := make([]byte, wal.PageBytes)
		for len(b) > 0 {
			n := min(int(size)+1, len(b))
			d.Feed(b[:n])
			b = b[n:]
			var err error
			for err = d.Next(&r); err == nil; err = d.Next(&r) {
				for i := range r.Blocks {
					if bl := &r.Blocks[i]; bl.HasImage {
						_ = bl.Image.Restore(page)
					}
				}
			}
			if !errors.Is(err, wal.ErrMore) {
				return
			}
		}
	})
}

// FuzzImage decompresses anything.
func FuzzImage(f *testing.F) {
	f.Add([]byte("abcdefghij"), byte(wal.PGLZ), uint16(100), uint16(8000))
	f.Add([]byte("abcdefghij"), byte(wal.LZ4), uint16(0), uint16(0))
	f.Add([]byte{0x28, 0xB5, 0x2F, 0xFD}, byte(wal.Zstd), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, c byte, offset, hole uint16) {
		if int(offset)+int(hole) > wal.PageBytes {
			return
		}
		compression := []wal.Compression{wal.Uncompressed, wal.PGLZ, wal.LZ4, wal.Zstd}[c%4]
		m := wal.Image{Compression: compression, HoleOffset: offset, HoleBytes: hole, Bytes: b}
		page := make([]byte, wal.PageBytes)
		if err := m.Restore(page); err != nil && !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	log := sample(b)
	b.ReportAllocs()
	var r wal.Record
	var bytes int64
	for b.Loop() {
		d := newDecoder(b, walsample.Start)
		d.Feed(log)
		n := 0
		for bytes = 0; d.Next(&r) == nil; n++ {
			bytes += int64(r.Length)
		}
		if n != walsample.Various.Records {
			b.Fatal(n)
		}
	}
	b.SetBytes(bytes)
}
