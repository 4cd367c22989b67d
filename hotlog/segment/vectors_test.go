package segment

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcore/logcore"
)

var rewriteGolden = flag.Bool("rewrite", false, "rewrite golden files (only for a new version)")

// golden compares what this build writes with a file of testdata that stays for ever.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewriteGolden {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what this build writes", name)
	}
}

// goldenSealed is a finished segment; goldenOpen one that a crash left open, with two
// intact entries above the newest mark, which is in slot 0.
func goldenSealed(t *testing.T) image {
	return buildWith(t, DigestFrames, 1000, []int{0, 1, 8, 300, 66_000, 5}, true, 0)
}

// goldenSums is goldenSealed as it is written today.
func goldenSums(t *testing.T) image {
	return buildWith(t, DigestSums, 1000, []int{0, 1, 8, 300, 66_000, 5}, true, 0)
}

func goldenOpen(t *testing.T) image {
	im := build(t, 2000, []int{40, 41, 0, 500, 7}, false, 200)
	im.mark(Mark{Seq: 7, State: StateOpen, LSN: 2000})
	im.mark(Mark{Seq: 8, State: StateOpen, LSN: 2002})
	return im
}

// goldenRecycled is a file in its second life: an open segment, behind whose last entry
// stand, at the very place where the next one would begin, the frames that its first life
// left. Slot 0 has the newest mark.
func goldenRecycled(t *testing.T) image {
	old := buildWith(t, DigestFrames, 3000, []int{50, 51, 52, 53, 54, 55, 56}, true, 0)
	im := build(t, 3100, []int{50, 51, 52}, false, 0)
	im.mark(Mark{Seq: 13, State: StateOpen, LSN: 3099})
	im.mark(Mark{Seq: 14, State: StateOpen, LSN: 3101})
	if im.summary.End != old.offsets[3] {
		t.Fatalf("void: the second life ends at %d, no frame of the first begins there", im.summary.End)
	}
	im.bytes = append(im.bytes, old.bytes[len(im.bytes):]...)
	return im
}

// goldens are the golden files of version 1.
var goldens = map[string]func(*testing.T) image{"golden-v1": goldenSealed, "golden-v1-sums": goldenSums, "golden-v1-open": goldenOpen, "golden-v1-recycled": goldenRecycled}

// describe writes everything an image says, a line for each thing.
func describe(im image) string {
	var b strings.Builder
	h := im.header
	fmt.Fprintf(&b, "header shard=%d first=%d prev=%08x prev_term=%d\n", h.ID.Shard, h.ID.First, h.Prev, h.PrevTerm)
	for slot := range 2 {
		m, err := DecodeMark(im.bytes[MarkOffset+slot*BlockBytes:])
		if err != nil {
			panic(err)
		}
		clean := map[bool]int{true: 1}[m.Clean]
		fmt.Fprintf(&b, "mark seq=%d shard=%d state=%d first=%d proven=%d end=%d checksum=%08x clean=%d reach=%d\n", m.Seq, m.ID.Shard, m.State, m.ID.First, m.LSN, m.End, m.Sum, clean, m.Reach)
	}
	for i, e := range im.entries {
		fmt.Fprintf(&b, "entry lsn=%d offset=%d term=%d kind=%d time=%d tx=%v payload_bytes=%d payload_crc32c=%08x checksum=%08x\n",
			e.LSN, im.offsets[i], e.Term, e.Kind, uint64(e.Time), e.Tx, len(e.Payload), crc32.Checksum(e.Payload, castagnoli), im.sums[i])
	}
	if s := im.summary; im.entries[len(im.entries)-1].Kind == logcore.KindSeal {
		fmt.Fprintf(&b, "footer offset=%d bytes=%d shard=%d prev=%08x first=%d last=%d first_time=%d last_time=%d entries=%d frame_bytes=%d payload_bytes=%d checksum=%08x %s=%x\n",
			s.End, s.FooterBytes(), s.ID.Shard, s.Prev, s.ID.First, s.Last, uint64(s.FirstTime), uint64(s.LastTime), s.Entries, s.End-FramesOffset, s.PayloadBytes, s.Sum, map[DigestKind]string{DigestFrames: "sha256", DigestSums: "sums_sha256"}[s.DigestKind], s.Digest)
		for _, p := range s.Points {
			fmt.Fprintf(&b, "point lsn=%d time=%d offset=%d prev=%08x\n", p.LSN, uint64(p.Time), p.Offset, p.Prev)
		}
		for _, r := range s.Logs {
			fmt.Fprintf(&b, "log id=%d first=%d last=%d entries=%d payload_bytes=%d\n", r.Log, r.First, r.Last, r.Entries, r.PayloadBytes)
		}
	}
	return b.String()
}

// The golden files of version 1 are written again byte for byte.
func TestGolden(t *testing.T) {
	for name, build := range goldens {
		im := build(t)
		golden(t, name+".seg", im.bytes)
		golden(t, name+".txt", []byte(describe(im)))
	}
}

// reseal writes the checksums of a changed structure of n bytes that ends in tail bytes
// behind which nothing is covered.
func reseal(b []byte, crcAt int) {
	le.PutUint32(b[preCRC:], crc32.Checksum(b[:preCRC], castagnoli))
	le.PutUint32(b[crcAt:], crc32.Checksum(b[:crcAt], castagnoli))
}

// cases are files that a reader must judge rightly: a change to a golden file and the
// verdict: "free", "end last=N sealed=0|1", "corrupt marks|header|footer",
// "corrupt lsn=N" or "unsupported".
var cases = []struct {
	name, base, verdict string
	change              func(im *image)
}{
	{"sealed", "golden-v1", "end last=1006 sealed=1", func(*image) {}},
	{"sealed payload bit", "golden-v1", "corrupt lsn=1003", func(im *image) { im.bytes[im.offsets[3]+100] ^= 4 }},
	{"sealed padding byte", "golden-v1", "corrupt lsn=1001", func(im *image) {
		f := im.bytes[im.offsets[1]:im.offsets[2]]
		f[len(f)-1] = 1
		le.PutUint32(f[frmCRC:], frameSum(im.header.ID, f))
	}},
	{"sealed frames swapped", "golden-v1", "corrupt lsn=1001", func(im *image) {
		a, b := im.bytes[im.offsets[1]:im.offsets[2]], im.bytes[im.offsets[2]:im.offsets[3]]
		both := append(bytes.Clone(b), a...)
		copy(im.bytes[im.offsets[1]:], both)
	}},
	{"sealed digest byte", "golden-v1", "corrupt footer", func(im *image) { im.bytes[im.summary.End+ftrDigest+3] ^= 1 }},
	{"sealed digest of other frames", "golden-v1", "corrupt footer", func(im *image) {
		b := im.bytes[im.summary.End:]
		b[ftrDigest] ^= 1
		reseal(b, len(b)-ftrTail)
	}},
	{"sealed log range of other entries", "golden-v1", "corrupt footer", func(im *image) {
		b := im.bytes[im.summary.End:]
		b[ftrFixed+2*IndexPointBytes+lrPayload] ^= 1
		reseal(b, len(b)-ftrTail)
	}},
	{"sealed digest kind 2", "golden-v1", "unsupported", func(im *image) {
		b := im.bytes[im.summary.End:]
		b[ftrDigestKind] = 2
		reseal(b, len(b)-ftrTail)
	}},
	{"sealed footer flag", "golden-v1", "unsupported", func(im *image) {
		b := im.bytes[im.summary.End:]
		b[preFlags] = 4
		reseal(b, len(b)-ftrTail)
	}},
	{"sealed header of a newer version that this one reads", "golden-v1", "end last=1006 sealed=1", func(im *image) {
		im.bytes[preVersion] = 9
		reseal(im.bytes, blockCRC)
	}},
	{"sealed header for newer readers", "golden-v1", "unsupported", func(im *image) {
		im.bytes[preVersion], im.bytes[preMinReader] = 2, 2
		reseal(im.bytes, blockCRC)
	}},
	{"sealed key id", "golden-v1", "unsupported", func(im *image) {
		im.bytes[hdrKeyID] = 1
		reseal(im.bytes, blockCRC)
	}},
	{"sealed header bit", "golden-v1", "corrupt header", func(im *image) { im.bytes[hdrPrevTerm] ^= 1 }},
	{"sealed newest mark bad", "golden-v1", "end last=1006 sealed=1", func(im *image) { im.bytes[MarkSlotOffset(7)+mrkLSN] ^= 1 }},
	{"sealed both marks bad", "golden-v1", "corrupt marks", func(im *image) {
		im.bytes[MarkSlotOffset(7)+mrkLSN] ^= 1
		im.bytes[MarkSlotOffset(6)+mrkReach] ^= 1
	}},
	{"free", "golden-v1", "free", func(im *image) {
		copy(im.bytes[MarkSlotOffset(8):], Mark{Seq: 8, State: StateFree}.Append(nil))
		copy(im.bytes[MarkSlotOffset(9):], Mark{Seq: 9, State: StateFree}.Append(nil))
	}},
	{"sealed, not finished", "golden-v1", "end last=1006 sealed=1", func(im *image) {
		im.mark(Mark{Seq: 8, State: StateOpen, LSN: 1004})
		im.mark(Mark{Seq: 9, State: StateOpen, LSN: 1004})
		clear(im.bytes[im.summary.End:])
	}},
	{"open", "golden-v1-open", "end last=2004 sealed=0", func(*image) {}},
	{"open torn tail", "golden-v1-open", "end last=2003 sealed=0", func(im *image) { clear(im.bytes[im.offsets[4]+30 : im.offsets[4]+60]) }},
	{"open bad right above the proof", "golden-v1-open", "end last=2002 sealed=0", func(im *image) { im.bytes[im.offsets[3]+200] ^= 128 }},
	{"open bad at the proof", "golden-v1-open", "corrupt lsn=2002", func(im *image) { im.bytes[im.offsets[2]+frmTx] ^= 1 }},
	{"open older mark only", "golden-v1-open", "end last=2000 sealed=0", func(im *image) {
		im.bytes[MarkSlotOffset(8)+mrkLSN] ^= 1
		im.bytes[im.offsets[1]] ^= 1
	}},
	{"open stale frame of another segment", "golden-v1-open", "end last=2002 sealed=0", func(im *image) {
		f, _ := AppendFrame(nil, ID{Shard: 5, First: 1500}, im.sums[2], im.entries[3])
		copy(im.bytes[im.offsets[3]:], f)
	}},
	{"open unknown frame flag", "golden-v1-open", "unsupported", func(im *image) {
		f := im.bytes[im.offsets[3]:im.offsets[4]]
		f[frmFlags] = 1
		le.PutUint32(f[frmCRC:], frameSum(im.header.ID, f))
	}},
	{"open unknown kind", "golden-v1-open", "unsupported", func(im *image) {
		f := im.bytes[im.offsets[3]:im.offsets[4]]
		f[frmKind] = 77
		le.PutUint32(f[frmCRC:], frameSum(im.header.ID, f))
	}},
	{"open mark with an unknown state", "golden-v1-open", "unsupported", func(im *image) {
		b := im.bytes[MarkSlotOffset(8):]
		b[mrkState] = 4
		reseal(b, blockCRC)
	}},
	{"open frame of another magic", "golden-v1-open", "end last=2002 sealed=0", func(im *image) { im.reframe(3, func(f []byte) { f[frmMagic] = 'M' }) }},
	{"open frame of another LSN", "golden-v1-open", "end last=2002 sealed=0", func(im *image) { im.reframe(3, func(f []byte) { f[frmLSN]++ }) }},
	{"open frame behind another one", "golden-v1-open", "end last=2002 sealed=0", func(im *image) { im.reframe(3, func(f []byte) { f[frmPrev]++ }) }},
	{"open unknown frame version", "golden-v1-open", "unsupported", func(im *image) { im.reframe(3, func(f []byte) { f[frmVersion] = 2 }) }},
	{"open mark flag", "golden-v1-open", "unsupported", func(im *image) {
		b := im.bytes[MarkSlotOffset(8):]
		b[preFlags+3] = 1
		reseal(b, blockCRC)
	}},
	{"open header flag", "golden-v1-open", "unsupported", func(im *image) {
		im.bytes[preFlags] = 128
		reseal(im.bytes, blockCRC)
	}},
	{"open AEAD tag", "golden-v1-open", "unsupported", func(im *image) {
		im.bytes[hdrCipher], im.bytes[hdrTagBytes] = 1, 16
		reseal(im.bytes, blockCRC)
	}},
	{"recycled", "golden-v1-recycled", "end last=3102 sealed=0", func(*image) {}},
	{"recycled, torn where the frames of the first life go on", "golden-v1-recycled", "end last=3101 sealed=0", func(im *image) {
		old := build(nil, 3000, []int{50, 51, 52}, false, 0)
		copy(im.bytes[im.offsets[2]:], old.bytes[old.offsets[2]:])
	}},
	{"sums", "golden-v1-sums", "end last=1006 sealed=1", func(*image) {}},
	{"sums digest of other frames", "golden-v1-sums", "corrupt footer", func(im *image) {
		b := im.bytes[im.summary.End:]
		b[ftrDigest+31] ^= 128
		reseal(b, len(b)-ftrTail)
	}},
	{"sums digest kind of the other digest", "golden-v1-sums", "corrupt footer", func(im *image) {
		b := im.bytes[im.summary.End:]
		b[ftrDigestKind] = 1
		reseal(b, len(b)-ftrTail)
	}},
}

// reframe changes a frame and writes its checksum, which is right then.
func (im *image) reframe(i int, change func(frame []byte)) {
	f := im.bytes[im.offsets[i]:im.offsets[i+1]]
	change(f)
	le.PutUint32(f[frmCRC:], frameSum(im.header.ID, f))
}

// The cases are judged as they say, and written down for readers in other languages:
// name, golden file, bytes to put where, verdict.
func TestCases(t *testing.T) {
	var text strings.Builder
	for _, c := range cases {
		im := goldens[c.base](t)
		before := bytes.Clone(im.bytes)
		c.change(&im)
		if got := verdict(&im); got != c.verdict {
			t.Errorf("%s: %s, want %s", c.name, got, c.verdict)
		}
		fmt.Fprintf(&text, "%s | %s.seg |%s | %s\n", c.name, c.base, patches(before, im.bytes), c.verdict)
	}
	golden(t, "golden-v1-cases.txt", []byte(text.String()))
}

// patches lists what differs: offset=hex, as few runs as bytes allow.
func patches(before, after []byte) string {
	var b strings.Builder
	for i := 0; i < len(after); i++ {
		if before[i] == after[i] {
			continue
		}
		end := i
		for end < len(after) && before[end] != after[end] {
			end++
		}
		fmt.Fprintf(&b, " %d=%x", i, after[i:end])
		i = end
	}
	return b.String()
}

func verdict(im *image) string {
	id, err := Identify(im.bytes[:FramesOffset])
	if err == nil && id.State == StateFree {
		return "free"
	}
	var r Recovered
	if err == nil {
		r, err = Recover(bytes.NewReader(im.bytes), int64(len(im.bytes)), id, RecoverOptions{Scan: true, Digest: true, LogOf: testLogOf})
	}
	var c *logcore.CorruptionError
	switch {
	case errors.Is(err, logcore.ErrUnsupportedVersion):
		return "unsupported"
	case errors.As(err, &c) && c.Offset == MarkOffset:
		return "corrupt marks"
	case errors.As(err, &c) && c.Offset == 0:
		return "corrupt header"
	case errors.As(err, &c):
		return fmt.Sprintf("corrupt lsn=%d", c.LSN)
	case err != nil:
		return err.Error()
	case r.FooterError != nil:
		return "corrupt footer"
	}
	return fmt.Sprintf("end last=%d sealed=%d", r.Last, map[bool]int{true: 1}[r.Sealed])
}
