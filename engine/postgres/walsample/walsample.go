// Package walsample holds a small log that the real PostgreSQL 15.18 wrote, for tests:
// something of every resource manager that sample.sql could bring about, page images in every
// compression, a switch of segments, a crash and a recovery, and what pg_waldump prints of it.
package walsample

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/logcore/logcore/engine/postgres/wal"
)

//go:embed sample.wal.zst
var compressedLog []byte

//go:embed sample.waldump.zst
var compressedDump []byte

// What the sample is.
const (
	SegmentBytes              = 1 << 20
	Start        wal.Position = 0x600000
	Timeline     wal.Timeline = 1
	Records                   = 12273
)

// Log returns the log's bytes, from Start on: five segments.
func Log() ([]byte, error) { return decompress(compressedLog) }

// Dump returns what pg_waldump prints of it, with timestamps in UTC.
func Dump() ([]byte, error) { return decompress(compressedDump) }

func decompress(b []byte) ([]byte, error) {
	d, err := zstd.NewReader(nil)
	if err != nil {
		return nil, fmt.Errorf("walsample: %w", err)
	}
	defer d.Close()
	return d.DecodeAll(b, nil)
}

// WriteDir writes the log as segment files into dir.
func WriteDir(dir string) error {
	log, err := Log()
	if err != nil {
		return err
	}
	for at := 0; at < len(log); at += SegmentBytes {
		name := wal.SegmentName(Timeline, Start+wal.Position(at), SegmentBytes)
		if err := os.WriteFile(filepath.Join(dir, name), log[at:at+SegmentBytes], 0o644); err != nil {
			return fmt.Errorf("walsample: %w", err)
		}
	}
	return nil
}
