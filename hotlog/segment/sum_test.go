package segment

import (
	"math/rand/v2"
	"testing"
)

// The checksum that the processor has instructions for is that of hash/crc32, whatever
// the length, the alignment in memory and the salt.
func TestSumIsPortable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 9000)
	for i := range buf {
		buf[i] = byte(rng.Uint32())
	}
	for size := 64; size <= 8<<10; size += 8 {
		at, salt := rng.IntN(64), rng.Uint32()
		frame := buf[at : at+size]
		if got, want := saltedSum(salt, frame), saltedSumPortable(salt, frame); got != want {
			t.Fatalf("frame of %d bytes at %d: %08x, hash/crc32 says %08x", size, at, got, want)
		}
	}
}
