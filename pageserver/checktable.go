package pageserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/logcore/logcore"
)

// readerOptions are what a table of the store is read with.
func (s *Server) readerOptions() sstable.ReaderOptions {
	opts := s.pebbleOptions()
	opts.EnsureDefaults()
	return opts.MakeReaderOptions()
}

// checkTable returns a check of every block of a table.
func checkTable(opts sstable.ReaderOptions) func(name string, content []byte) error {
	return func(name string, content []byte) error {
		r, err := sstable.NewReader(context.Background(), tableBytes(content), opts)
		if err != nil {
			return tableError(name, err)
		}
		defer r.Close()
		if err := r.ValidateBlockChecksums(); err != nil {
			return tableError(name, err)
		}
		return checkValueBlocks(r, name, content)
	}
}

// checkValueBlocks checks what Pebble's own validation leaves out: the blocks with the
// values of older versions of a page, which is most of a table.
func checkValueBlocks(r *sstable.Reader, name string, content []byte) error {
	layout, err := r.Layout()
	if err != nil {
		return tableError(name, err)
	}
	for _, h := range append(layout.ValueBlock, layout.ValueIndex) {
		if h.Length == 0 {
			continue
		}
		// The trailer: how the block is compressed, and a CRC32C over that and the block.
		end := h.Offset + h.Length
		if end+block.TrailerLen > uint64(len(content)) {
			return tableError(name, fmt.Errorf("a block of %d bytes at %d, the table has %d", h.Length, h.Offset, len(content)))
		}
		sum := crc32.Checksum(content[h.Offset:end+1], castagnoli)
		if masked := sum>>15 | sum<<17; masked+0xa282ead8 != binary.LittleEndian.Uint32(content[end+1:]) {
			return tableError(name, fmt.Errorf("the block of values at %d fails its checksum", h.Offset))
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func tableError(name string, err error) error {
	return &logcore.CorruptionError{Place: storeDir, Object: name, Offset: -1, Reason: err.Error()}
}

// tableBytes is a table in memory.
type tableBytes []byte

// ReadAt implements objstorage.Readable.
func (t tableBytes) ReadAt(_ context.Context, p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > int64(len(t)) {
		return fmt.Errorf("read of %d bytes at %d of %d: %w", len(p), off, len(t), io.ErrUnexpectedEOF)
	}
	copy(p, t[off:])
	return nil
}

// Close implements objstorage.Readable.
func (t tableBytes) Close() error { return nil }

// Size implements objstorage.Readable.
func (t tableBytes) Size() int64 { return int64(len(t)) }

// NewReadHandle implements objstorage.Readable.
func (t tableBytes) NewReadHandle(objstorage.ReadBeforeSize) objstorage.ReadHandle {
	h := objstorage.MakeNoopReadHandle(t)
	return &h
}
