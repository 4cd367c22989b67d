package target

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/mem"
)

var rewrite = flag.Bool("rewrite", false, "write golden files that don't exist yet; released ones never change")

var (
	clusterA = ClusterID{0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	clusterB = ClusterID{0xb0}
	golden   = Marker{Cluster: clusterA, Name: "eu-west.a1"}
)

func TestMarkerGolden(t *testing.T) {
	file := filepath.Join("testdata", "marker-v1.golden")
	encoded := AppendMarker(nil, golden)
	stored, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && *rewrite {
		err = os.WriteFile(file, encoded, 0o644)
		stored = encoded
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored, encoded) {
		t.Errorf("the encoder has drifted:\n got %x\nwant %x", encoded, stored)
	}
	if m, err := DecodeMarker(stored); err != nil || m != golden {
		t.Errorf("%+v, %v", m, err)
	}
}

// seal puts a right checksum at the end of b.
func seal(b []byte) []byte {
	body := b[:len(b)-crc32.Size]
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func TestMarkerVersions(t *testing.T) {
	change := func(change func(b []byte) []byte) []byte { return seal(change(AppendMarker(nil, golden))) }
	set16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint16(b[at:], v); return b }
	}
	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"a later version that this build may read": {change(func(b []byte) []byte {
			return append(set16(markerVersionAt, 2)(b), "more fields and checksum"...)
		}), nil},
		"a later version that it must not read": {change(func(b []byte) []byte {
			return set16(markerMinReaderAt, 2)(set16(markerVersionAt, 2)(b))
		}), logcore.ErrUnsupportedVersion},
		"an unknown flag":         {change(func(b []byte) []byte { b[markerFlagsAt+3] = 0x80; return b }), logcore.ErrUnsupportedVersion},
		"version zero":            {change(set16(markerVersionAt, 0)), logcore.ErrCorrupt},
		"minimum reader zero":     {change(set16(markerMinReaderAt, 0)), logcore.ErrCorrupt},
		"more bytes in version 1": {change(func(b []byte) []byte { return append(b, 0) }), logcore.ErrCorrupt},
		"another magic":           {change(func(b []byte) []byte { b[0] = 'X'; return b }), logcore.ErrCorrupt},
		"no cluster":              {change(func(b []byte) []byte { clear(b[markerClusterAt:markerNameLengthAt]); return b }), logcore.ErrCorrupt},
		"a bad name":              {change(func(b []byte) []byte { b[markerNameAt] = '/'; return b }), logcore.ErrCorrupt},
		"a name beyond the end":   {change(set16(markerNameLengthAt, 60000)), logcore.ErrCorrupt},
		"nothing":                 {nil, logcore.ErrCorrupt},
		"too much":                {make([]byte, markerBytesMax+1), logcore.ErrCorrupt},
	} {
		m, err := DecodeMarker(test.data)
		if !errors.Is(err, test.want) || test.want == nil && (err != nil || m != golden) {
			t.Errorf("%s: %+v, %v; want %v", name, m, err, test.want)
		}
		if errors.Is(err, logcore.ErrCorrupt) && errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Errorf("%s: both corrupt and unsupported: %v", name, err)
		}
	}
}

func TestMarkerEveryBitCounts(t *testing.T) {
	data := AppendMarker(nil, golden)
	for bit := range len(data) * 8 {
		flipped := bytes.Clone(data)
		flipped[bit/8] ^= 1 << (bit % 8)
		if m, err := DecodeMarker(flipped); err == nil {
			t.Errorf("bit %d flipped goes unnoticed: %+v", bit, m)
		}
	}
	for n := range data {
		if _, err := DecodeMarker(data[:n]); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestWriteMarker(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	_, err := ReadMarker(ctx, b)
	wantErr(t, "no marker", err, bucket.ErrNotFound)
	mine := Marker{clusterA, "a1"}
	for range 2 {
		if err := WriteMarker(ctx, b, mine); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, "another cluster", WriteMarker(ctx, b, Marker{clusterB, "a1"}), bucket.ErrExists, clusterA.String(), clusterB.String(), b.String())
	wantErr(t, "another name", WriteMarker(ctx, b, Marker{clusterA, "a2"}), bucket.ErrExists, "a1", "a2")
	wantErr(t, "no cluster", WriteMarker(ctx, b, Marker{Name: "a1"}), bucket.ErrInvalid)
	wantErr(t, "bad name", WriteMarker(ctx, b, Marker{clusterA, "a/1"}), bucket.ErrInvalid)
	if m, err := ReadMarker(ctx, b); err != nil || m != mine {
		t.Errorf("%+v, %v", m, err)
	}
}

// Every call of a claim fails once, lost or done but reported lost: claiming again works,
// and nobody else's marker is ever overwritten.
func TestWriteMarkerFaults(t *testing.T) {
	ctx := t.Context()
	for name, effect := range map[string]bucket.Effect{"lost": bucket.Fail(nil), "done but lost": bucket.DoneButLost(nil)} {
		for n := 1; ; n++ {
			f := bucket.NewFaults(mem.New())
			rule := f.Add(bucket.Fault{From: n, Count: 1, Effect: effect})
			first := WriteMarker(ctx, f, Marker{clusterA, "a1"})
			if rule.Hits() == 0 {
				if first != nil || n == 1 {
					t.Fatalf("%s: %v after %d calls", name, first, n-1)
				}
				break
			}
			if first == nil {
				t.Errorf("%s at call %d: claimed without knowing", name, n)
			}
			if err := WriteMarker(ctx, f, Marker{clusterA, "a1"}); err != nil {
				t.Errorf("%s at call %d: again: %v", name, n, err)
			}
			wantErr(t, name, WriteMarker(ctx, f, Marker{clusterB, "a1"}), bucket.ErrExists)
		}
	}
}

func TestReadMarkerRotten(t *testing.T) {
	f := bucket.NewFaults(mem.New())
	if err := WriteMarker(t.Context(), f, golden); err != nil {
		t.Fatal(err)
	}
	f.Add(bucket.Fault{Op: bucket.OpGet, Effect: bucket.WrongBytes(8*markerNameAt + 1)})
	_, err := ReadMarker(t.Context(), f)
	var corrupt *logcore.CorruptionError
	if !errors.As(err, &corrupt) || corrupt.Place != f.String() || corrupt.Object != MarkerKey || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("%v", err)
	}
	wantErr(t, "claim over a rotten marker", WriteMarker(t.Context(), f, golden), logcore.ErrCorrupt)
}

func FuzzDecodeMarker(f *testing.F) {
	f.Add(AppendMarker(nil, golden))
	f.Add(seal(append(AppendMarker(nil, Marker{clusterB, "x"}), 1, 2, 3)))
	f.Add([]byte(markerMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeMarker(data)
		if err != nil {
			if errors.Is(err, logcore.ErrCorrupt) == errors.Is(err, logcore.ErrUnsupportedVersion) {
				t.Fatalf("neither corrupt nor unsupported, or both: %v", err)
			}
			return
		}
		again := AppendMarker(nil, m)
		if binary.LittleEndian.Uint16(data[markerVersionAt:]) == markerVersion &&
			binary.LittleEndian.Uint16(data[markerMinReaderAt:]) == markerMinReader && !bytes.Equal(again, data) {
			t.Fatalf("%x reads as %+v, which is written as %x", data, m, again)
		}
	})
}
