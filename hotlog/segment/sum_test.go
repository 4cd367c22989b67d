package segment

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/logcore/logcore"
)

// guarded returns n random bytes that end where the address space does not go on: a read
// behind them is the end of the process.
func guarded(t *testing.T, n int) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	size := (n + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	buf := mem[size-n : size : size]
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range buf {
		buf[i] = byte(rng.Uint32())
	}
	return buf
}

// The checksum that the processor has instructions for is that of hash/crc32, whatever
// the length, the alignment in memory and the salt, reads nothing behind the frame, and
// is not of the four bytes that hold it.
func TestSumIsPortable(t *testing.T) {
	buf := guarded(t, 9000)
	rng := rand.New(rand.NewPCG(3, 4))
	for size := 64; size <= 8<<10; size += 8 {
		for _, at := range []int{rng.IntN(64), len(buf) - size - rng.IntN(8), len(buf) - size} {
			salt, frame := rng.Uint32(), buf[at:at+size]
			got, want := saltedSum(salt, frame), saltedSumPortable(salt, frame)
			if got != want {
				t.Fatalf("frame of %d bytes at %d: %08x, hash/crc32 says %08x", size, at, got, want)
			}
			flip := func(i int) uint32 {
				frame[i] ^= 0x10
				defer func() { frame[i] ^= 0x10 }()
				return saltedSum(salt, frame)
			}
			if flip(frmCRC+rng.IntN(4)) != got {
				t.Fatalf("frame of %d bytes: the checksum is of itself", size)
			}
			for _, i := range []int{rng.IntN(frmCRC), frmTime + rng.IntN(size-frmTime), size - 1} {
				if flip(i) == got {
					t.Fatalf("frame of %d bytes: byte %d is not covered", size, i)
				}
			}
		}
	}
}

// The short way through a frame accepts what the long one accepts and nothing else, also
// where the checksum is right and a field is not.
func TestFastDecodesAsSlow(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	id := ID{Shard: 3, First: 100}
	accepted := 0
	for range 20_000 {
		e := logcore.Entry{LSN: 107, Term: 9, Kind: logcore.KindData, Time: 1 << 20, Tx: logcore.TxID{1}, Payload: make([]byte, rng.IntN(40))}
		b, _ := AppendFrame(nil, id, 77, e)
		for range rng.IntN(3) {
			b[rng.IntN(len(b))] ^= byte(rng.Uint32())
		}
		if rng.IntN(8) > 0 {
			le.PutUint32(b[frmCRC:], saltedSumPortable(id.salt(), b))
		}
		b = append(b, make([]byte, rng.IntN(100))...)
		var fast, slow logcore.Entry
		sum, n, err := decodeFrame(&slow, b, id.salt(), 77)
		r := &Reader{salt: id.salt(), prev: 77, next: 107, end: int64(len(b)), rest: b}
		took := r.fast(&fast)
		if want := err == nil && slow.LSN == 107; took != want {
			t.Fatalf("fast %v, slow %v (%v), LSN %d: % x", took, want, err, slow.LSN, b)
		}
		if !took {
			continue
		}
		accepted++
		if r.prev != sum || r.off != int64(n) || fast.LSN != slow.LSN || fast.Term != slow.Term || fast.Kind != slow.Kind ||
			fast.Time != slow.Time || fast.Tx != slow.Tx || !bytes.Equal(fast.Payload, slow.Payload) {
			t.Fatalf("fast %+v, slow %+v", fast, slow)
		}
	}
	if accepted < 5000 || accepted > 15_000 {
		t.Fatalf("void: %d of 20000 were accepted", accepted)
	}
}
