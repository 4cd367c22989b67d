package wal

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/logcore/logcore"
)

// Compression is how a page image is compressed: wal_compression of the server.
type Compression uint8

// The compressions of page images. The values are their bits in the image's flags.
const (
	Uncompressed Compression = 0
	PGLZ         Compression = 0x04
	LZ4          Compression = 0x08
	Zstd         Compression = 0x10

	imageHasHole    = 0x01
	imageApply      = 0x02
	imageCompressed = uint8(PGLZ | LZ4 | Zstd)
)

// String returns the name that wal_compression has for it.
func (c Compression) String() string {
	switch c {
	case Uncompressed:
		return "none"
	case PGLZ:
		return "pglz"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("compression %02X", uint8(c))
}

// Image is a whole page inside a record, without the hole of zeros that most pages have
// between their line pointers and their tuples.
type Image struct {
	// Apply says that redo takes the image in place of the change that the record
	// describes. Without it the image is there for checking only: it is the page as it is after the record.
	Apply                 bool
	Compression           Compression
	HoleOffset, HoleBytes uint16
	Bytes                 []byte // as in the record, compressed or not
}

// zstdDecoder decodes whole blocks and keeps no state between them.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<20))
})

// Restore writes the page into page, which must have PageBytes. An image that can't be
// decompressed to exactly a page is logcore.ErrCorrupt, with page undefined.
func (m *Image) Restore(page []byte) error {
	if len(page) != PageBytes {
		return fmt.Errorf("%w: a page has %d bytes, not %d", logcore.ErrInvalid, PageBytes, len(page))
	}
	flat := m.Bytes
	want := PageBytes - int(m.HoleBytes)
	if m.Compression != Uncompressed {
		var err error
		if flat, err = m.decompress(page[:want]); err != nil {
			return fmt.Errorf("%w: page image: %v: %w", logcore.ErrCorrupt, m.Compression, err)
		}
	}
	if len(flat) != want {
		return fmt.Errorf("%w: page image has %d bytes; with its hole of %d a page would have %d", logcore.ErrCorrupt, len(flat), m.HoleBytes, PageBytes)
	}
	hole := int(m.HoleOffset)
	copy(page[hole+int(m.HoleBytes):], flat[hole:]) // first: flat may lie in page
	copy(page[:hole], flat[:hole])
	clear(page[hole : hole+int(m.HoleBytes)])
	return nil
}

// decompress writes into dst, whose length is what must come out.
func (m *Image) decompress(dst []byte) ([]byte, error) {
	switch m.Compression {
	case PGLZ:
		return decompressPGLZ(dst, m.Bytes)
	case LZ4:
		n, err := lz4.UncompressBlock(m.Bytes, dst)
		return dst[:max(n, 0)], err
	default:
		d, err := zstdDecoder()
		if err != nil {
			return nil, err
		}
		return d.DecodeAll(m.Bytes, dst[:0:len(dst)])
	}
}
