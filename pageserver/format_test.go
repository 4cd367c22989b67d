package pageserver

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// oneOfEach returns a key and a sealed value of every kind.
func oneOfEach() []struct{ name, key, value []byte } {
	var all []struct{ name, key, value []byte }
	add := func(name string, key, value []byte) {
		all = append(all, struct{ name, key, value []byte }{[]byte(name), key, seal(key, value)})
	}
	at := pos{0x1122334455667788, 3}
	ranges := []engine.Range{{Offset: 1, Data: []byte("ab")}, {Offset: 0, Data: []byte("xyz")}}
	version := appendVersionKey(nil, 9, engine.SpaceOf(2), 5, at)
	add("image", version, append(appendVersionHeader(nil, versionHeader{kind: kindImage, pageSize: 8}), "8 bytes."...))
	add("delta", version, appendRanges(appendVersionHeader(nil, versionHeader{kind: kindDelta, depth: 2, chainBytes: 31, pageSize: 8, base: pos{77, 1}}), ranges))
	steps := []step{{redo: []byte("redo")}, {ranges: ranges}}
	add("redo", version, appendSteps(appendVersionHeader(nil, versionHeader{kind: kindRedo, depth: 3, chainBytes: 40, pageSize: 8, base: pos{77, 1}}), steps))
	add("redo-init", version, appendSteps(appendVersionHeader(nil, versionHeader{kind: kindRedo, flags: flagInit, depth: 1, chainBytes: 40, pageSize: 8}), steps))
	add("redo-image", version, appendSteps(append(appendVersionHeader(nil, versionHeader{kind: kindRedo, flags: flagImage, depth: 1, chainBytes: 40, pageSize: 8}), "8 bytes."...), steps))
	add("redo-blind", version, appendSteps(appendVersionHeader(nil, versionHeader{kind: kindRedo, flags: flagBlind, depth: 1, chainBytes: 40, pageSize: 8}), steps))
	changes := func(dst []byte) []byte {
		before := at
		for n, place := range []pos{at, {at.lsn, 9}, {at.lsn + 300, 0}} {
			dst = appendSteps(appendChange(dst, before, place, stepsBytes(steps[:1+n%2])), steps[:1+n%2])
			before = place
		}
		return dst
	}
	add("run", version, changes(appendVersionHeader(nil, versionHeader{kind: kindRun, depth: 3, chainBytes: 90, pageSize: 8, base: pos{77, 1}})))
	add("run-init", version, changes(appendVersionHeader(nil, versionHeader{kind: kindRun, flags: flagInit, depth: 1, chainBytes: 90, pageSize: 8})))
	add("run-image", version, changes(append(appendVersionHeader(nil, versionHeader{kind: kindRun, flags: flagImage, depth: 1, chainBytes: 90, pageSize: 8}), "8 bytes."...)))
	add("run-blind", version, changes(appendVersionHeader(nil, versionHeader{kind: kindRun, flags: flagBlind, depth: 1, chainBytes: 90, pageSize: 8})))
	object := appendObjectKey(nil, 9, []byte("a\x00key"), at)
	add("object", object, appendObject(nil, []byte("data")))
	add("object-gone", object, appendObject(nil, nil))
	add("decoder", appendDecoderKey(nil, 9, 0, at), appendDecoderState(nil, []byte("state"), 0))
	states := appendDecoderState(nil, []byte("state"), 0)
	binary.LittleEndian.PutUint32(states, 5|stateRun)
	states = appendStateChange(states, at, pos{at.lsn, 4}, []byte("state"), []byte("stale"))
	add("decoder-run", appendDecoderKey(nil, 9, 0, at), appendStateChange(states, pos{at.lsn, 4}, pos{at.lsn + 200, 0}, []byte("stale"), nil))
	add("size", appendSpaceKey(nil, tagSize, 9, engine.Space{Hi: 0x0102030405060708, Lo: 2}, at), encodeSize(sizeValue{77, 4096}))
	add("cut", appendSpaceKey(nil, tagCut, 9, engine.Space{Hi: 0x0102030405060708, Lo: 2}, at), encodeCut(cutValue{12, pos{34, 1}}))
	add("commit", appendCommitKey(nil, 9, 1234), appendTime(nil, 0xabcdef))
	add("commits", appendCommitKey(nil, 9, 1234), appendCommits(nil, []commit{{1234, 0xabcdef}, {1235, 0xabcdef}, {5000, 0xbcdef0}}))
	add("milestone", appendMilestoneKey(nil, 9, 1234), encodeMilestone(1<<40))
	add("history", appendLogKey(nil, tagHistory, 9), encodePoints(points{1000, []logcore.LSN{7, 999}}))
	add("part", appendPartKey(nil, 9, logcore.TxID{1, 2}, 1234), encodePart(4, []byte("payload")))
	add("state", appendLogKey(nil, tagState, 9), encodeState(stateValue{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, logcore.TxID{11, 12}, "db/main", "pages"}))
	return all
}

func TestGolden(t *testing.T) {
	const file = "testdata/v3.golden"
	var b strings.Builder
	fmt.Fprintf(&b, "marker %x\n", encodeMarker())
	for _, x := range oneOfEach() {
		fmt.Fprintf(&b, "%s %x %x\n", x.name, x.key, x.value)
	}
	if os.Getenv("REWRITE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the encoder drifted from %s:\n got\n%s\nwant\n%s", file, b.String(), want)
	}
	older, err := os.ReadFile("testdata/v2.golden") // it is read as it is
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(older) + string(want)) {
		if err := decodeGolden(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestGoldenSpilled: the key that came to version 2 later; v2.golden was there before it.
func TestGoldenSpilled(t *testing.T) {
	const file = "testdata/v2-spilled.golden"
	key := appendLogKey(nil, tagSpilled, 9)
	got := fmt.Sprintf("spilled %x %x\n", key, seal(key, nil))
	if os.Getenv("REWRITE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got != string(want) {
		t.Errorf("the encoder drifted from %s (%v): got\n%s", file, err, got)
	}
	if value, err := unseal(key, seal(key, nil), 0); err != nil || len(value) != 0 {
		t.Errorf("%x, %v", value, err)
	}
}

// decodeGolden decodes a line of the golden file with the decoder of its kind.
func decodeGolden(fields []string) error {
	raw := make([][]byte, len(fields)-1)
	for i := range raw {
		var err error
		if raw[i], err = hex.DecodeString(fields[i+1]); err != nil {
			return err
		}
	}
	if fields[0] == "marker" {
		return decodeMarker(raw[0])
	}
	return decodeAny(fields[0], raw[0], raw[1])
}

func decodeAny(name string, key, value []byte) error {
	var err error
	switch name {
	case "image", "delta", "redo", "redo-init", "redo-image", "redo-blind", "run", "run-init", "run-image", "run-blind":
		var body []byte
		var h versionHeader
		h, body, err = decodeVersion(key, value)
		switch {
		case err != nil:
		case h.kind == kindDelta:
			applyRanges(make([]byte, h.pageSize), body)
		case h.kind == kindRedo, h.kind == kindRun:
			if h.flags == flagImage {
				body = body[h.pageSize:]
			}
			if h.kind == kindRedo {
				err = applySteps(noRedo{}, make([]byte, h.pageSize), body)
				break
			}
			first := decodePos(key[versionPrefixBytes:])
			through, at, last := changesThrough(body, first, endOfHistory)
			if at != last || len(through) != len(body) {
				return fmt.Errorf("%d of %d bytes of changes up to %v of %v", len(through), len(body), at, last)
			}
			err = applyChanges(noRedo{}, make([]byte, h.pageSize), through)
		}
	case "object", "object-gone":
		_, err = decodeObject(key, value)
	case "decoder":
		_, err = unseal(key, value, -1)
	case "decoder-run":
		var b []byte
		if b, err = unseal(key, value, -1); err != nil || len(b) < 4 {
			break
		}
		if n := int(binary.LittleEndian.Uint32(b) &^ stateRun); n <= len(b)-4 {
			_, err = stateThrough(key, b[4+n:], b[4:4+n], decodePos(key[len(key)-posBytes:]), endOfHistory)
		}
	case "size":
		_, err = decodeSize(key, value)
	case "cut":
		_, err = decodeCut(key, value)
	case "commit", "commits":
		err = decodeCommits(key, value, func(commit) bool { return true })
	case "milestone":
		_, err = decodeMilestone(key, value)
	case "history":
		_, err = decodePoints(key, value)
	case "part":
		_, _, err = decodePart(key, value)
	case "state":
		_, err = decodeState(key, value)
	default:
		err = fmt.Errorf("unknown kind %q", name)
	}
	return err
}

// noRedo is a decoder whose redo does nothing.
type noRedo struct{ engine.Decoder }

func (noRedo) Redo([]byte, []byte) error { return nil }

// TestEveryFlip: a flipped bit anywhere in a value, or in its key, is detected.
func TestEveryFlip(t *testing.T) {
	flips := 0
	for _, x := range oneOfEach() {
		for _, field := range [][]byte{x.key, x.value} {
			for bit := range 8 * len(field) {
				field[bit/8] ^= 1 << (bit % 8)
				if err := decodeAny(string(x.name), x.key, x.value); !errors.Is(err, logcore.ErrCorrupt) {
					t.Fatalf("%s with bit %d flipped: %v, want ErrCorrupt", x.name, bit, err)
				}
				field[bit/8] ^= 1 << (bit % 8)
				flips++
			}
		}
	}
	marker := encodeMarker()
	for bit := range 8 * len(marker) {
		marker[bit/8] ^= 1 << (bit % 8)
		if err := decodeMarker(marker); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("marker with bit %d flipped: %v, want ErrCorrupt", bit, err)
		}
		marker[bit/8] ^= 1 << (bit % 8)
		flips++
	}
	t.Logf("%d flips detected", flips)
}

func TestMarkerVersions(t *testing.T) {
	with := func(at int, v uint16) []byte {
		b := encodeMarker()
		binary.LittleEndian.PutUint16(b[at:], v)
		binary.LittleEndian.PutUint64(b[16:], xxh3.Hash(b[:16]))
		return b
	}
	for _, marker := range [][]byte{with(8, 4), goldenMarker(t, "testdata/v2.golden")} {
		if err := decodeMarker(marker); err != nil {
			t.Errorf("marker %x: %v", marker, err)
		}
	}
	if err := decodeMarker(goldenMarker(t, "testdata/v1.golden")); !errors.Is(err, errOldStore) {
		t.Errorf("version 1: %v, want errOldStore", err)
	}
	newer := with(8, 4)
	binary.LittleEndian.PutUint16(newer[10:], 4)
	binary.LittleEndian.PutUint64(newer[16:], xxh3.Hash(newer[:16]))
	for name, b := range map[string][]byte{"reader": newer, "flag": with(12, 1)} {
		if err := decodeMarker(b); !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrUnsupportedVersion alone", name, err)
		}
	}
	key := appendVersionKey(nil, 1, engine.SpaceOf(1), 1, pos{1, 0})
	value := appendVersionHeader(nil, versionHeader{kind: kindImage, pageSize: 1})
	value[1] = 0x80
	if _, _, err := decodeVersion(key, seal(key, append(value, 'x'))); !errors.Is(err, logcore.ErrUnsupportedVersion) || errors.Is(err, logcore.ErrCorrupt) {
		t.Errorf("unknown flag of a version: %v", err)
	}
}

// goldenMarker returns the format marker of a golden file.
func goldenMarker(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	marker, err := hex.DecodeString(strings.TrimPrefix(line, "marker "))
	if err != nil {
		t.Fatal(err)
	}
	return marker
}

// TestKeyOrder: later places sort first, pages and spaces in order, and Pebble's
// comparer keeps its promises about prefixes.
func TestKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type k struct {
			log   logcore.LogID
			space engine.Space
			page  uint32
			at    pos
		}
		gen := rapid.Custom(func(t *rapid.T) k {
			small := rapid.Uint32Range(0, 2)
			return k{logcore.LogID(small.Draw(t, "log")), engine.Space{Hi: uint64(small.Draw(t, "hi")), Lo: uint64(small.Draw(t, "space"))}, small.Draw(t, "page"), pos{logcore.LSN(small.Draw(t, "lsn")), small.Draw(t, "seq")}}
		})
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		keyA := appendVersionKey(nil, a.log, a.space, a.page, a.at)
		keyB := appendVersionKey(nil, b.log, b.space, b.page, b.at)
		samePage := a.log == b.log && a.space == b.space && a.page == b.page
		if samePage && a.at.less(b.at) != (comparer.Compare(keyB, keyA) < 0) {
			t.Fatalf("%v and %v in the wrong order", a, b)
		}
		prefixA, prefixB := comparer.Split.Prefix(keyA), comparer.Split.Prefix(keyB)
		if samePage != bytes.Equal(prefixA, prefixB) {
			t.Fatal("the prefix is not the page")
		}
		if comparer.Compare(keyA, keyB) <= 0 && comparer.Compare(prefixA, prefixB) > 0 {
			t.Fatal("prefixes are not ordered as keys are")
		}
		if got := decodePos(keyA[versionPrefixBytes:]); got != a.at {
			t.Fatalf("decoded %v, want %v", got, a.at)
		}
	})
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range [][2][]byte{{{1, 2}, {1, 3}}, {{1, 0xff}, {2}}} {
		if got := prefixEnd(c[0]); !slices.Equal(got, c[1]) {
			t.Errorf("prefixEnd(%x) = %x, want %x", c[0], got, c[1])
		}
	}
}

// FuzzDecodeValue: arbitrary bytes never crash a decoder, and what passes for a
// version stays inside its page. The checksum is made right, or nothing would pass.
func FuzzDecodeValue(f *testing.F) {
	for _, x := range oneOfEach() {
		f.Add(string(x.name), x.value[:len(x.value)-checksumBytes])
	}
	key := appendVersionKey(nil, 1, engine.SpaceOf(2), 3, pos{4, 5})
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		err := decodeAny(name, key, seal(key, bytes.Clone(value)))
		if err != nil && !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) && !strings.Contains(err.Error(), "unknown kind") {
			t.Fatalf("untyped error %v", err)
		}
		if err := decodeMarker(value); err != nil && !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Fatalf("untyped error %v", err)
		}
	})
}
