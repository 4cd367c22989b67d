package erasure

import (
	"testing"

	"github.com/klauspost/reedsolomon"
)

// BenchmarkEncode is the whole codec; BenchmarkBareCoder the coder's own best on the
// same block size, the ceiling for it.
func BenchmarkEncode(b *testing.B) {
	object := randomBytes(1, 16<<20)
	m := testMeta(4, 2)
	m.BlockBytes = 0
	b.SetBytes(int64(len(object)))
	for b.Loop() {
		if _, _, err := Encode(m, object); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareCoder(b *testing.B) {
	enc, err := reedsolomon.New(4, 2)
	if err != nil {
		b.Fatal(err)
	}
	blocks := enc.(reedsolomon.Extensions).AllocAligned(DefaultBlockBytes)
	b.SetBytes(4 * DefaultBlockBytes)
	for b.Loop() {
		if err := enc.Encode(blocks); err != nil {
			b.Fatal(err)
		}
	}
}
