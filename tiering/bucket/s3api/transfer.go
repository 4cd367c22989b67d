package s3api

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/logcore/logcore/tiering/bucket"
)

// VersionsMax bounds how many versions of one key a Delete removes. LogCore writes one.
const VersionsMax = 16

// ObjectBytesMax bounds what a Get takes from a provider in one call.
const ObjectBytesMax = 1 << 30

// ErrRangeIgnored: the provider answered a range with the whole object.
var ErrRangeIgnored = errors.New("the provider ignored the Range header")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C of data.
func Checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// ChecksumHeader returns a CRC-32C as x-amz-checksum-crc32c carries it.
func ChecksumHeader(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// Verify checks a whole object against the checksum the provider sent along. An empty
// header, and one of an object uploaded in parts (it has a "-"), proves nothing.
func Verify(data []byte, header string) error {
	if header == "" || strings.Contains(header, "-") {
		return nil
	}
	if got := ChecksumHeader(Checksum(data)); got != header {
		return fmt.Errorf("%w: crc32c %s arrived, %s is stored", bucket.ErrChecksum, got, header)
	}
	return nil
}

// Range returns the Range header of a Get, empty for a whole object. length must not
// be 0.
func Range(offset, length int64) string {
	switch {
	case length < 0 && offset == 0:
		return ""
	case length < 0 || offset > offset+length-1: // to the end, or past the largest offset
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
}

// ReadBody reads the body of a Get: size bytes as its header promised. length is what
// was asked for, negative for everything.
func ReadBody(body io.Reader, size, length int64) ([]byte, error) {
	limit := int64(ObjectBytesMax)
	if length > 0 {
		limit = min(limit, length)
	}
	if size < 0 || size > limit {
		return nil, fmt.Errorf("the provider sends %d bytes, at most %d were expected", size, limit)
	}
	data := make([]byte, size)
	_, err := io.ReadFull(body, data)
	if err == io.EOF { // nothing at all arrived: it was promised more
		err = io.ErrUnexpectedEOF
	}
	return data, err
}
