package payload_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine/postgres/payload"
)

var golden = payload.Payload{Kind: payload.KindWAL, SystemID: 7300000000000000001, Timeline: 3, SegmentBytes: 16 << 20, Start: 0x16_B374D848, Content: []byte("some WAL")}

func TestGolden(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "v1.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if got := golden.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("encoded: %x, want %x", got, want)
	}
	p, err := payload.Decode(want)
	if err != nil || !reflect.DeepEqual(p, golden) {
		t.Errorf("decoded: %+v, %v", p, err)
	}
	if p.End() != golden.Start+8 {
		t.Errorf("ends at %v", p.End())
	}
}

func TestEveryFlippedBitOfAHeaderIsNoticedOrChangesAField(t *testing.T) {
	b := golden.Append(nil)
	for bit := range payload.HeaderBytes * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		p, err := payload.Decode(b)
		b[bit/8] ^= 1 << (bit % 8)
		switch at := bit / 8; {
		case err != nil && !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion):
			t.Errorf("bit %d: %v", bit, err)
		case err == nil && reflect.DeepEqual(p, golden) && at != 4 && at != 5: // a newer version that this reader may read
			t.Errorf("bit %d: not noticed", bit)
		}
	}
}

func TestOtherVersionsAreUnsupported(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"min reader": func(b []byte) { b[4], b[6] = 9, 9 },
		"flag":       func(b []byte) { b[11] = 0x80 },
		"kind":       func(b []byte) { b[12] = 9 },
	} {
		b := golden.Append(nil)
		change(b)
		if _, err := payload.Decode(b); !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrUnsupportedVersion", name, err)
		}
	}
}

func TestPosition(t *testing.T) {
	b := payload.AppendPosition(nil, 3, 0x16_B374D848)
	timeline, end, err := payload.ParsePosition(b)
	if err != nil || timeline != 3 || end != 0x16_B374D848 {
		t.Errorf("got %d, %v, %v", timeline, end, err)
	}
	if _, _, err := payload.ParsePosition(b[1:]); !errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("short: %v", err)
	}
	if bytes.Compare(b, payload.AppendPosition(nil, 1, 0x17_00000000)) >= 0 {
		t.Error("a later position does not compare as later")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(golden.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := payload.Decode(b)
		if err != nil {
			return
		}
		if again, err := payload.Decode(p.Append(nil)); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v, encoded and decoded: %+v, %v", p, again, err)
		}
	})
}

func TestPiece(t *testing.T) {
	want := payload.Piece{Archive: "base.tar", Data: []byte("content")}
	p, err := payload.DecodePiece(want.Append(nil))
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, b := range [][]byte{nil, {0}, {65}, {9, 'a'}} {
		if _, err := payload.DecodePiece(b); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%x: %v, want ErrCorrupt", b, err)
		}
	}
}
