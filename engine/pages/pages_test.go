package pages_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/engine/pages"
	"pgregory.net/rapid"
)

// oneOfEach is the content of testdata/v1.golden.
func oneOfEach() []engine.Record {
	image := bytes.Repeat([]byte("0123456789abcdef"), 4)
	return []engine.Record{
		{Space: engine.SpaceOf(1), Op: engine.OpImage, Page: 7, PageSize: 64, Data: image},
		{Space: engine.SpaceOf(1), Op: engine.OpDelta, Page: 7, PageSize: 64, Ranges: []engine.Range{{Offset: 0, Data: []byte("x")}, {Offset: 60, Data: []byte("last")}}},
		{Space: engine.SpaceOf(1), Op: engine.OpTruncate, Page: 3, PageSize: 64},
		{Space: engine.SpaceOf(2), Op: engine.OpDrop},
	}
}

func encodeOne(t *testing.T, records []engine.Record) []byte {
	t.Helper()
	payloads, err := pages.Encode(records, pages.RecordBytesMax)
	if err != nil {
		t.Fatal(err)
	}
	if len(payloads) != 1 {
		t.Fatalf("%d payloads, want 1", len(payloads))
	}
	return payloads[0]
}

func TestGolden(t *testing.T) {
	const file = "testdata/v1.golden"
	got := encodeOne(t, oneOfEach())
	if os.Getenv("REWRITE_GOLDEN") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the encoder drifted from %s:\n got %x\nwant %x", file, got, want)
	}
	records, err := pages.Decode(want)
	if err != nil {
		t.Fatal(err)
	}
	if !equalRecords(records, oneOfEach()) {
		t.Errorf("decoded %v", records)
	}
}

func equalRecords(a, b []engine.Record) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Space != y.Space || x.Op != y.Op || x.Page != y.Page || x.PageSize != y.PageSize || !bytes.Equal(x.Data, y.Data) || len(x.Ranges) != len(y.Ranges) {
			return false
		}
		for j := range x.Ranges {
			if x.Ranges[j].Offset != y.Ranges[j].Offset || !bytes.Equal(x.Ranges[j].Data, y.Ranges[j].Data) {
				return false
			}
		}
	}
	return true
}

func genRecord(t *rapid.T) engine.Record {
	size := rapid.SampledFrom([]int{1, 64, 512, 4096, 65536}).Draw(t, "size")
	r := engine.Record{
		Space:    engine.SpaceOf(uint64(rapid.Uint32().Draw(t, "space"))),
		Op:       engine.Op(rapid.IntRange(1, 4).Draw(t, "op")),
		Page:     rapid.Uint32Range(0, 1<<32-2).Draw(t, "page"),
		PageSize: uint32(size),
	}
	switch r.Op {
	case engine.OpImage:
		r.Data = bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, size)
	case engine.OpDelta:
		for at := rapid.IntRange(0, size-1).Draw(t, "first"); at < size && len(r.Ranges) < 5; {
			n := min(rapid.IntRange(1, size).Draw(t, "n"), size-at, engine.RangeBytesMax)
			r.Ranges = append(r.Ranges, engine.Range{Offset: uint32(at), Data: bytes.Repeat([]byte{byte(n)}, n)})
			at += n + rapid.IntRange(0, 40).Draw(t, "gap")
		}
	case engine.OpDrop:
		r.Page = 0
	}
	return r
}

// TestRoundTrip: whatever the limit, the payloads keep to it, each decodes by
// itself, and together they hold the records in order.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(genRecord), 0, 12).Draw(t, "records")
		limit := rapid.IntRange(pages.RecordBytesMax, 4*pages.RecordBytesMax).Draw(t, "limit")
		payloads, err := pages.Encode(records, limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []engine.Record
		for _, p := range payloads {
			if len(p) > limit {
				t.Fatalf("payload of %d bytes, limit %d", len(p), limit)
			}
			rs, err := pages.Decode(p)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rs...)
		}
		if !equalRecords(got, records) {
			t.Fatalf("got %v\nwant %v", got, records)
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	page := make([]byte, 64)
	for name, r := range map[string]engine.Record{
		"op":          {PageSize: 64, Op: 9},
		"page size":   {PageSize: 65537, Op: engine.OpTruncate},
		"no size":     {Op: engine.OpTruncate},
		"image size":  {PageSize: 32, Op: engine.OpImage, Data: page},
		"image page":  {PageSize: 64, Op: engine.OpImage, Data: page, Page: 1<<32 - 1},
		"no range":    {PageSize: 64, Op: engine.OpDelta},
		"empty range": {PageSize: 64, Op: engine.OpDelta, Ranges: []engine.Range{{}}},
		"outside":     {PageSize: 64, Op: engine.OpDelta, Ranges: []engine.Range{{Offset: 63, Data: page[:2]}}},
		"overlap":     {PageSize: 64, Op: engine.OpDelta, Ranges: []engine.Range{{Offset: 0, Data: page[:9]}, {Offset: 8, Data: page[:2]}}},
		"wide space":  {Space: engine.Space{Lo: 1 << 32}, PageSize: 64, Op: engine.OpTruncate},
		"group":       {Space: engine.Space{Hi: 1}, PageSize: 64, Op: engine.OpTruncate},
		"redo":        {PageSize: 64, Op: engine.OpRedo, Data: page},
		"object":      {Op: engine.OpPut, Key: []byte("k")},
		"extra":       {PageSize: 64, Op: engine.OpDrop, Data: page},
	} {
		if _, err := pages.Encode([]engine.Record{r}, 1<<20); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	_, err := pages.Encode(oneOfEach()[:1], 64)
	if !errors.Is(err, logcore.ErrTooLarge) {
		t.Errorf("tight limit: got %v, want ErrTooLarge", err)
	}
}

func TestOtherVersions(t *testing.T) {
	change := func(at int, v uint16) []byte {
		p := encodeOne(t, oneOfEach())
		binary.LittleEndian.PutUint16(p[at:], v)
		return p
	}
	newer := change(4, 2) // a newer writer that older readers can still read
	if _, err := pages.Decode(newer); err != nil {
		t.Errorf("version 2 for readers of 1: %v", err)
	}
	binary.LittleEndian.PutUint16(newer[6:], 2)
	for name, p := range map[string][]byte{"reader": newer, "flag": change(8, 0x8000)} {
		_, err := pages.Decode(p)
		if !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrUnsupportedVersion alone", name, err)
		}
	}
	for name, p := range map[string][]byte{"magic": change(0, 0), "zero": change(4, 0), "order": change(6, 3)} {
		if _, err := pages.Decode(p); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

// TestCutPayloads: every proper prefix of a payload is refused.
func TestCutPayloads(t *testing.T) {
	p := encodeOne(t, oneOfEach())
	for n := range p {
		if _, err := pages.Decode(p[:n]); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("first %d bytes: got %v, want ErrCorrupt", n, err)
		}
	}
	if _, err := pages.Decode(append(p, 0)); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("one byte too many: got %v", err)
	}
}

func TestDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 300).Draw(t, "size")
		base := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "base")
		page := bytes.Clone(base)
		for range rapid.IntRange(0, 6).Draw(t, "edits") {
			page[rapid.IntRange(0, size-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		ranges := pages.Diff(base, page)
		got := bytes.Clone(base)
		engine.Apply(got, ranges)
		if !bytes.Equal(got, page) {
			t.Fatalf("base + diff is not page: %v", ranges)
		}
		end := -9
		for _, g := range ranges {
			if int(g.Offset)-end <= 8 {
				t.Fatalf("ranges %d bytes apart were not joined", int(g.Offset)-end)
			}
			if end = int(g.Offset) + len(g.Data); base[g.Offset] == page[g.Offset] || base[end-1] == page[end-1] {
				t.Fatalf("range [%d,%d) begins or ends with equal bytes", g.Offset, end)
			}
		}
		if record, changed := pages.Change(engine.SpaceOf(1), 2, base, page); changed == bytes.Equal(base, page) {
			t.Fatalf("changed = %v", changed)
		} else if changed && record.Validate() != nil {
			t.Fatalf("%v", record.Validate())
		}
	})
}

func TestChangeDecides(t *testing.T) {
	for _, size := range []int{512, 65536} {
		base, page := make([]byte, size), bytes.Repeat([]byte{1}, size)
		if r, _ := pages.Change(engine.Space{}, 0, base, page); r.Op != engine.OpImage || r.Validate() != nil {
			t.Errorf("%d bytes, all different: op %d, %v", size, r.Op, r.Validate())
		}
		if r, _ := pages.Change(engine.Space{}, 0, nil, page); r.Op != engine.OpImage {
			t.Errorf("no base: op %d", r.Op)
		}
		copy(page, base[:size-3])
		if r, _ := pages.Change(engine.Space{}, 0, base, page); r.Op != engine.OpDelta || len(r.Ranges) != 1 || r.Ranges[0].Offset != uint32(size-3) {
			t.Errorf("three bytes: %+v", r)
		}
	}
}

func FuzzDecode(f *testing.F) {
	payloads, err := pages.Encode(oneOfEach(), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payloads[0])
	f.Add([]byte("LCPG"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		records, err := pages.Decode(payload)
		if err != nil {
			if !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := pages.Encode(records, max(len(payload), 1))
		if err != nil {
			t.Fatalf("decoded records do not encode: %v", err)
		}
		// The header may name a newer version; everything else is canonical.
		if len(records) > 0 && !bytes.Equal(again[0][12:], payload[12:]) {
			t.Fatal("decoding and encoding changed the bytes")
		}
	})
}

func BenchmarkDiff4K(b *testing.B) {
	base := bytes.Repeat([]byte("abcdefgh"), 512)
	page := bytes.Clone(base)
	page[20], page[2000], page[4000] = 1, 2, 3
	b.SetBytes(4096)
	for b.Loop() {
		pages.Diff(base, page)
	}
}
