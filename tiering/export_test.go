package tiering

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/minio/crc64nvme"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/erasure"
)

// openWithHook is Open with a failpoint at every step.
func openWithHook(ctx context.Context, o Options, hook func(step string) error) (*Archiver, error) {
	a, err := newArchiver(o)
	if err != nil {
		return nil, err
	}
	a.hook, a.rollupMin, a.fanIn = hook, testRollupMin, testFanIn
	if err := a.takeOver(ctx); err != nil {
		if !awaitsTargets(err) || ctx.Err() != nil {
			return nil, err
		}
		a.failed("take over the archive", err)
	}
	return a, nil
}

// Small ones, so that short tests roll up and fold.
const (
	testRollupMin = 8
	testFanIn     = 4
)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// recheckBlocks makes the block checksums of a one-stripe fragment fit its header.
func recheckBlocks(b []byte) []byte {
	salt := make([]byte, 12)
	copy(salt, b[erasure.HeaderBytes-4:erasure.HeaderBytes])
	block := b[erasure.HeaderBytes : len(b)-8]
	binary.LittleEndian.PutUint64(b[len(b)-8:], crc64nvme.Update(crc64nvme.Checksum(block), salt))
	return b
}

func counterValue(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}

// fixSum makes the checksum at the end of a record fit.
func fixSum(b []byte) { binary.LittleEndian.PutUint32(b[len(b)-4:], crc32c(b[:len(b)-4])) }

// staleRecords hides new manifest records from listings.
func staleRecords() bucket.Fault {
	return bucket.Fault{Op: bucket.OpList, Effect: bucket.Effect{Hides: func(key string, newer bool) bool {
		return newer && strings.Contains(key, "/manifest/")
	}}}
}
