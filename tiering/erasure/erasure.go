// Package erasure is the pure Reed-Solomon fragment codec: an object in, k+m
// self-describing fragments out, and back from any k of them. It does no I/O.
//
// An object is cut into stripes of k blocks of at most 1 MiB; each stripe gets m
// parity blocks; fragment i is a header and block i of every stripe, each with its
// own checksum. So a range of the object is read by touching only its stripes, and
// rot is pinned to a block. FORMAT.md describes the bytes.
package erasure

import (
	"fmt"

	"github.com/logcore/logcore"
)

// Limits and defaults of a code.
const (
	DefaultK        = 4
	DefaultM        = 2
	FragmentsMax    = 32      // k+m
	BlockBytesMax   = 1 << 20 // bytes of one block
	ObjectBytesMax  = 1 << 30 // bytes of an object
	blockBytesAlign = 64
)

// ValidateKM checks a code: 1 <= k, 0 <= m, k+m <= FragmentsMax. The error wraps
// logcore.ErrInvalid.
func ValidateKM(k, m int) error {
	if k < 1 || m < 0 || k+m > FragmentsMax {
		return fmt.Errorf("%w: erasure code %d+%d: want k >= 1, m >= 0, k+m <= %d", logcore.ErrInvalid, k, m, FragmentsMax)
	}
	return nil
}
