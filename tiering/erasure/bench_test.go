package erasure

import (
	"fmt"
	"testing"

	"github.com/klauspost/reedsolomon"
)

const benchObjectBytes = 64 << 20

// BenchmarkEncode is the whole codec, hashes and new buffers included.
func BenchmarkEncode(b *testing.B) {
	object := randomBytes(1, benchObjectBytes)
	m := testMeta(4, 2)
	m.BlockBytes = 0
	b.SetBytes(int64(len(object)))
	for b.Loop() {
		if _, _, err := Encode(m, object); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParity is the erasure stage: data that lies in its fragments gets parity and
// block checksums. BenchmarkBareCoder is the coder's own best on as much memory, the
// ceiling for it.
func BenchmarkParity(b *testing.B) {
	object := randomBytes(1, benchObjectBytes)
	for _, size := range []int{32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("block=%dK", size>>10), func(b *testing.B) {
			c := begun(b, size, object)
			b.SetBytes(int64(len(object)))
			for b.Loop() {
				if err := c.Parity(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFinish is the cryptographic hashes.
func BenchmarkFinish(b *testing.B) {
	c := begun(b, 0, randomBytes(1, benchObjectBytes))
	if err := c.Parity(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchObjectBytes)
	for b.Loop() {
		c.Finish()
	}
}

func begun(b *testing.B, blockBytes int, object []byte) *Coder {
	m := testMeta(4, 2)
	m.BlockBytes, m.Length = blockBytes, int64(len(object))
	var c Coder
	if err := c.Begin(m); err != nil {
		b.Fatal(err)
	}
	c.WriteAt(object, 0)
	return &c
}

func BenchmarkBareCoder(b *testing.B) {
	object := randomBytes(1, benchObjectBytes)
	for _, opts := range [][]reedsolomon.Option{nil, {reedsolomon.WithMaxGoroutines(1)}, {reedsolomon.WithAutoGoroutines(benchObjectBytes / 4)}} {
		for _, size := range []int{64 << 10, 256 << 10, benchObjectBytes / 4} {
			b.Run(fmt.Sprintf("options=%d/block=%dK", len(opts), size>>10), func(b *testing.B) {
				enc, err := reedsolomon.New(4, 2, opts...)
				if err != nil {
					b.Fatal(err)
				}
				parity := make([]byte, benchObjectBytes/2)
				b.SetBytes(benchObjectBytes)
				for b.Loop() {
					for at := 0; at < len(object); at += 4 * size {
						blocks := make([][]byte, 6)
						for i := range 4 {
							blocks[i] = object[at+i*size:][:size]
						}
						for i := range 2 {
							blocks[4+i] = parity[at/2+i*size:][:size]
						}
						if err := enc.Encode(blocks); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}
