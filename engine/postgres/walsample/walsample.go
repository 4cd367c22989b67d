// Package walsample holds small logs that the real PostgreSQL 15.18 wrote, for tests.
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
var sampleLog []byte

//go:embed sample.waldump.zst
var sampleDump []byte

//go:embed consistency.wal.zst
var consistencyLog []byte

// What all samples are.
const (
	SegmentBytes              = 1 << 20
	Start        wal.Position = 0x600000
	Timeline     wal.Timeline = 1
)

// Sample is a log from Start on.
type Sample struct {
	compressed []byte
	Records    int
}

var (
	// Various has something of every resource manager that sample.sql could bring about, page
	// images in every compression, a switch of segments, a crash and a recovery.
	Various = Sample{sampleLog, 12273}
	// Consistency has what consistency.sql does to heap and B-tree pages, written under wal_consistency_checking=all.
	Consistency = Sample{consistencyLog, 3001}
)

// Log returns the log's bytes: whole segments.
func (s Sample) Log() ([]byte, error) { return decompress(s.compressed) }

// VariousDump returns what pg_waldump prints of Various, with timestamps in UTC.
func VariousDump() ([]byte, error) { return decompress(sampleDump) }

func decompress(b []byte) ([]byte, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<27))
	if err != nil {
		return nil, fmt.Errorf("walsample: %w", err)
	}
	defer d.Close()
	return d.DecodeAll(b, nil)
}

// WriteDir writes the log as segment files into dir.
func (s Sample) WriteDir(dir string) error {
	log, err := s.Log()
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
