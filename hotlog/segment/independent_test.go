package segment_test

// A second reader of the format, written from FORMAT.md alone: it imports nothing of
// this module and shares no constant with it. It must come to what the test vectors say.

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func u16(b []byte, at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// bad is "corrupt …" or "unsupported".
type bad string

func (b bad) Error() string { return string(b) }

const unsupported = bad("unsupported")

// structure checks preamble, length and checksum of a header, mark or footer. The
// checksum stands at length-tail.
func structure(b []byte, magic string, tail int) ([]byte, error) {
	if len(b) < 32 || string(b[:8]) != magic || crc32.Checksum(b[:28], crcTable) != u32(b, 28) {
		return nil, bad("corrupt")
	}
	if u32(b, 12) > 1 || u64(b, 16) != 0 {
		return nil, unsupported
	}
	n := int(u32(b, 24))
	if n < 32+tail || n > len(b) || crc32.Checksum(b[:n-tail], crcTable) != u32(b, n-tail) {
		return nil, bad("corrupt")
	}
	return b[:n], nil
}

func zeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

type mark struct {
	seq, first, proven, end, reach uint64
	shard, state, sum, clean       uint32
}

func readMark(b []byte, slot uint64) (m mark, err error) {
	if b, err = structure(b[:4096], "LOGCMRK\n", 4); err != nil {
		return m, err
	}
	m = mark{seq: u64(b, 32), shard: u32(b, 40), state: u32(b, 44), first: u64(b, 48), proven: u64(b, 56), end: u64(b, 64), sum: u32(b, 72), clean: u32(b, 76), reach: u64(b, 80)}
	if m.state < 1 || m.state > 3 || m.clean > 1 || !zeros(b[88:4092]) {
		return m, unsupported
	}
	if m.seq%2 != slot {
		return m, bad("corrupt")
	}
	return m, nil
}

// reading is a file as this reader understands it.
type reading struct {
	file    []byte
	text    strings.Builder
	shard   uint32
	first   uint64
	newest  mark
	sum     uint32 // of the last entry
	sums    []byte // of all entries
	last    uint64
	at      uint64 // where the next frame begins
	sealed  bool
	high    uint64 // highest time
	firstAt uint64 // first time that is not 0
	payload uint64
	points  string
	logs    map[uint64]*[4]uint64 // first, last, entries, payload bytes
}

func (r *reading) marks() error {
	var marks [2]mark
	var errs [2]error
	for slot := range 2 {
		marks[slot], errs[slot] = readMark(r.file[4096*(1+slot):], uint64(slot))
		if errs[slot] == unsupported {
			return unsupported
		}
		m := marks[slot]
		fmt.Fprintf(&r.text, "mark seq=%d shard=%d state=%d first=%d proven=%d end=%d checksum=%08x clean=%d reach=%d\n", m.seq, m.shard, m.state, m.first, m.proven, m.end, m.sum, m.clean, m.reach)
	}
	switch {
	case errs[0] != nil && errs[1] != nil:
		return bad("corrupt marks")
	case errs[1] != nil || errs[0] == nil && marks[0].seq > marks[1].seq:
		r.newest = marks[0]
	default:
		r.newest = marks[1]
	}
	return nil
}

func (r *reading) header() error {
	b, err := structure(r.file[:4096], "LOGCSEG\n", 4)
	if err == unsupported || err == nil && !zeros(b[56:4092]) {
		return unsupported
	}
	if err != nil || u32(b, 32) != r.newest.shard || u64(b, 40) != r.newest.first {
		return bad("corrupt header")
	}
	r.shard, r.sum, r.first, r.at = u32(b, 32), u32(b, 36), u64(b, 40), 12288
	r.last = r.first - 1
	marks := r.text.String()
	r.text.Reset()
	fmt.Fprintf(&r.text, "header shard=%d first=%d prev=%08x prev_term=%d\n%s", r.shard, r.first, r.sum, u64(b, 48), marks)
	return nil
}

// frame reads the next one; bad("corrupt") when it does not pass.
func (r *reading) frame() error {
	b := r.file[min(r.at, uint64(len(r.file))):]
	if len(b) < 60 || string(b[:4]) != "LCF1" || u32(b, 4) > 67108864 {
		return bad("corrupt")
	}
	n := int(u32(b, 4))
	size := (60 + n + 7) / 8 * 8
	if size > len(b) {
		return bad("corrupt")
	}
	salt := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, r.shard), r.first)
	covered := append(append(salt, b[:32]...), b[36:size]...)
	if crc32.Checksum(covered, crcTable) != u32(b, 32) || u32(b, 28) != r.sum {
		return bad("corrupt")
	}
	kind := b[24]
	if b[25] != 1 || u16(b, 26) != 0 || kind < 1 || kind > 8 {
		return unsupported
	}
	if !zeros(b[60+n:size]) || u64(b, 8) != r.last+1 {
		return bad("corrupt")
	}
	lsn, time, tx := u64(b, 8), u64(b, 36), b[44:60]
	fmt.Fprintf(&r.text, "entry lsn=%d offset=%d term=%d kind=%d time=%d tx=%x payload_bytes=%d payload_crc32c=%08x checksum=%08x\n",
		lsn, r.at, u64(b, 16), kind, time, tx, n, crc32.Checksum(b[60:60+n], crcTable), u32(b, 32))
	r.count(lsn, time, uint64(n), kind, tx[0])
	r.sum, r.last, r.sealed = u32(b, 32), lsn, kind == 7
	r.sums = append(r.sums, b[32:36]...)
	r.at += uint64(size)
	return nil
}

// count keeps what the footer must say.
func (r *reading) count(lsn, time, n uint64, kind, tx byte) {
	if r.firstAt == 0 {
		r.firstAt = time
	}
	r.high = max(r.high, time)
	r.payload += n
	stretch := fmt.Sprintf("#%d ", (r.at-12288)/65536)
	if !strings.Contains(r.points, stretch) {
		r.points += stretch + fmt.Sprintf("point lsn=%d time=%d offset=%d prev=%08x\n", lsn, r.high, r.at, r.sum)
	}
	if kind > 4 {
		return
	}
	if r.logs == nil {
		r.logs = map[uint64]*[4]uint64{}
	}
	id := 100 + uint64(tx%3) // what the vectors take for logs
	if r.logs[id] == nil {
		r.logs[id] = &[4]uint64{0: lsn}
	}
	g := r.logs[id]
	g[1], g[2], g[3] = lsn, g[2]+1, g[3]+n
}

// footer reads the footer and compares it with what the frames say.
func (r *reading) footer() error {
	b, err := structure(r.file[r.newest.end:], "LOGCFTR\n", 8)
	if err == unsupported || err == nil && u32(b, 104) != 1 && u32(b, 104) != 3 {
		return unsupported
	}
	if err != nil || r.at != r.newest.end {
		return bad("corrupt footer")
	}
	points, logs := int(u32(b, 100)), int(u32(b, 108))
	if len(b) != 144+24*points+40*logs+8 {
		return bad("corrupt footer")
	}
	kind, digest := "sha256", sha256.Sum256(r.file[12288:r.at])
	if u32(b, 104) == 3 {
		kind, digest = "sums_sha256", sha256.Sum256(r.sums)
	}
	var got, want strings.Builder
	const line = "footer offset=%d bytes=%d shard=%d prev=%08x first=%d last=%d first_time=%d last_time=%d entries=%d frame_bytes=%d payload_bytes=%d checksum=%08x %s=%x\n"
	fmt.Fprintf(&got, line, r.newest.end, len(b), u32(b, 32), u32(b, 36), u64(b, 40), u64(b, 48), u64(b, 56), u64(b, 64), u64(b, 72), u64(b, 80), u64(b, 88), u32(b, 96), kind, b[112:144])
	for i := range points {
		p := b[144+24*i:]
		fmt.Fprintf(&got, "point lsn=%d time=%d offset=%d prev=%08x\n", u64(p, 0), u64(p, 8), u32(p, 16), u32(p, 20))
	}
	for i := range logs {
		g := b[144+24*points+40*i:]
		fmt.Fprintf(&got, "log id=%d first=%d last=%d entries=%d payload_bytes=%d\n", u64(g, 0), u64(g, 8), u64(g, 16), u64(g, 24), u64(g, 32))
	}
	fmt.Fprintf(&want, line, r.at, len(b), r.shard, u32(r.file, 36), r.first, r.last, r.firstAt, r.high, r.last-r.first+1, r.at-12288, r.payload, r.sum, kind, digest)
	for _, s := range strings.Split(r.points, "#")[1:] {
		want.WriteString(s[strings.Index(s, " ")+1:])
	}
	ids := []uint64{}
	for id := range r.logs {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	for _, id := range ids {
		g := r.logs[id]
		fmt.Fprintf(&want, "log id=%d first=%d last=%d entries=%d payload_bytes=%d\n", id, g[0], g[1], g[2], g[3])
	}
	if got.String() != want.String() {
		return bad("corrupt footer")
	}
	r.text.WriteString(got.String())
	return nil
}

// read judges a file.
func (r *reading) read() string {
	if err := r.marks(); err != nil {
		return err.Error()
	}
	if r.newest.state == 1 {
		return "free"
	}
	if err := r.header(); err != nil {
		return err.Error()
	}
	for !r.sealed {
		err := r.frame()
		if err == unsupported {
			return err.Error()
		}
		if err != nil && r.last < r.newest.proven {
			return fmt.Sprintf("corrupt lsn=%d", r.last+1)
		}
		if err != nil {
			break
		}
		if r.last == r.newest.proven && (r.at != r.newest.end || r.sum != r.newest.sum) {
			return fmt.Sprintf("corrupt lsn=%d", r.last)
		}
	}
	if r.newest.state == 3 {
		if err := r.footer(); err != nil {
			return err.Error()
		}
	}
	return fmt.Sprintf("end last=%d sealed=%d", r.last, map[bool]int{true: 1}[r.sealed])
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIndependentReader(t *testing.T) {
	for _, name := range []string{"golden-v1", "golden-v1-sums", "golden-v1-open", "golden-v1-recycled"} {
		r := reading{file: testdata(t, name+".seg")}
		if verdict, want := r.read(), string(testdata(t, name+".txt")); r.text.String() != want {
			t.Errorf("%s: %s; reads\n%swant\n%s", name, verdict, r.text.String(), want)
		}
	}
	lines := strings.Split(strings.TrimSpace(string(testdata(t, "golden-v1-cases.txt"))), "\n")
	for _, line := range lines {
		f := strings.Split(line, " | ")
		if len(f) == 3 { // nothing to change
			f = strings.Split(strings.Replace(line, "| |", "|  |", 1), " | ")
		}
		r := reading{file: bytes.Clone(testdata(t, f[1]))}
		for _, patch := range strings.Fields(f[2]) {
			at, change, _ := strings.Cut(patch, "=")
			off, err := strconv.Atoi(at)
			if err != nil {
				t.Fatal(err)
			}
			b, err := hex.DecodeString(change)
			if err != nil {
				t.Fatal(err)
			}
			copy(r.file[off:], b)
		}
		if got := r.read(); got != f[3] {
			t.Errorf("%s: %s, want %s", f[0], got, f[3])
		}
	}
	if len(lines) < 35 {
		t.Errorf("void: %d cases", len(lines))
	}
}
