package tiering

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/logcore/logcore"
)

// Compression says how hard sealed objects are compressed. Tails are always compressed
// fast: they are on the way to a promise and are folded soon.
type Compression string

// The compressions of sealed objects.
const (
	// CompressionFastest takes the least time, in chunks of 1 MiB.
	CompressionFastest Compression = "fastest"
	// CompressionBetter takes two to five times as long and saves about a third of a log of pages,
	// in chunks of 16 MiB, because pages resemble others far away. A read of a single entry
	// fetches its chunk.
	CompressionBetter Compression = "better"
)

func (c Compression) validate() error {
	if c != CompressionFastest && c != CompressionBetter {
		return fmt.Errorf("%w: Compression %q: want %s or %s", logcore.ErrInvalid, string(c), CompressionFastest, CompressionBetter)
	}
	return nil
}

// compression is how the frames of one object are compressed.
type compression struct {
	better     bool
	chunkBytes int // of frames in a chunk
}

var (
	compressFast   = compression{chunkBytes: 1 << 20}
	compressBetter = compression{better: true, chunkBytes: chunkBytesMax}
)

// compressions are all there are: which one an object was made with, its bytes tell.
var compressions = []compression{compressFast, compressBetter}

func (o Options) compression(kind Kind) compression {
	if kind == KindSealed && o.Compression == CompressionBetter {
		return compressBetter
	}
	return compressFast
}

type coders struct {
	fastest, better *zstd.Encoder
	decoder         *zstd.Decoder
}

// zstdCoders are stateless between calls and shared: EncodeAll and DecodeAll may be
// called concurrently.
var zstdCoders = sync.OnceValue(func() (c coders) {
	// Each encoder keeps a history as long as its window, for good.
	encoder := func(level zstd.EncoderLevel, window int) *zstd.Encoder {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithWindowSize(window), zstd.WithEncoderCRC(false),
			zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
		if err != nil {
			panic(err) // the options are constant
		}
		return enc
	}
	c.fastest, c.better = encoder(zstd.SpeedFastest, 1<<20), encoder(zstd.SpeedBetterCompression, 8<<20)
	var err error
	c.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return c
})

// compress compresses each chunk, as many at once as there are processors, and leaves
// room behind each for the AEAD's tag.
func (c compression) compress(frames []byte) [][]byte {
	enc := zstdCoders().fastest
	if c.better {
		enc = zstdCoders().better
	}
	chunks := make([][]byte, (len(frames)+c.chunkBytes-1)/c.chunkBytes)
	eachLimited(len(chunks), runtime.GOMAXPROCS(0), func(i int) {
		part := frames[i*c.chunkBytes : min((i+1)*c.chunkBytes, len(frames))]
		out := enc.EncodeAll(part, make([]byte, 0, len(part)+chunkZstdExtra))
		chunks[i] = append(make([]byte, 0, len(out)+chunkSealedExtra), out...) // as small as it turned out
	})
	return chunks
}
