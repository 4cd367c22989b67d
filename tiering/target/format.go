package target

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"

	"github.com/logcore/logcore"
)

// MarkerKey is the key of the marker in every target.
const MarkerKey = "logcore-target"

// The layout of the marker; FORMAT.md explains it.
const (
	markerMagic        = "LCTARGET"
	markerVersion      = 1
	markerMinReader    = 1
	markerKnownFlags   = 0
	markerFixedBytes   = 8 + 2 + 2 + 4 + 16 + 2
	markerBytesMax     = 4096 // room for later versions
	markerVersionAt    = 8
	markerMinReaderAt  = 10
	markerFlagsAt      = 12
	markerClusterAt    = 16
	markerNameLengthAt = 32
	markerNameAt       = 34
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ClusterID names a cluster: 16 random bytes, chosen once. Zero is no cluster.
type ClusterID [16]byte

// String returns 32 hexadecimal digits.
func (c ClusterID) String() string { return hex.EncodeToString(c[:]) }

// Marker says whose target it is. It is written once and never changed.
type Marker struct {
	Cluster ClusterID
	Name    string // the target's name in the cluster
}

// AppendMarker appends the marker's bytes to dst. It panics when the marker is not
// valid: WriteMarker checks.
func AppendMarker(dst []byte, m Marker) []byte {
	if !validLabel(m.Name) || m.Cluster == (ClusterID{}) {
		panic(fmt.Sprintf("target: marker %+v is not valid", m))
	}
	start := len(dst)
	dst = append(dst, markerMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, markerVersion)
	dst = binary.LittleEndian.AppendUint16(dst, markerMinReader)
	dst = binary.LittleEndian.AppendUint32(dst, 0) // flags
	dst = append(dst, m.Cluster[:]...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.Name)))
	dst = append(dst, m.Name...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// DecodeMarker reads a marker. A version or a flag that this build does not know wraps
// logcore.ErrUnsupportedVersion, everything else that is wrong logcore.ErrCorrupt.
func DecodeMarker(src []byte) (Marker, error) {
	corrupt := func(reason string, args ...any) (Marker, error) {
		return Marker{}, fmt.Errorf("%w: target marker: "+reason, append([]any{logcore.ErrCorrupt}, args...)...)
	}
	if len(src) < markerFixedBytes+crc32.Size || len(src) > markerBytesMax {
		return corrupt("%d bytes, no marker is that long or short", len(src))
	}
	if string(src[:markerVersionAt]) != markerMagic {
		return corrupt("magic %q", src[:markerVersionAt])
	}
	version := binary.LittleEndian.Uint16(src[markerVersionAt:])
	minReader := binary.LittleEndian.Uint16(src[markerMinReaderAt:])
	if minReader > markerVersion {
		return Marker{}, fmt.Errorf("%w: target marker version %d needs a reader of version %d, this one is %d: use a newer build",
			logcore.ErrUnsupportedVersion, version, minReader, markerVersion)
	}
	if version == 0 || minReader == 0 || minReader > version {
		return corrupt("version %d, minimum reader %d", version, minReader)
	}
	if flags := binary.LittleEndian.Uint32(src[markerFlagsAt:]); flags&^markerKnownFlags != 0 {
		return Marker{}, fmt.Errorf("%w: target marker flags %#x: use a newer build", logcore.ErrUnsupportedVersion, flags)
	}
	nameBytes := int(binary.LittleEndian.Uint16(src[markerNameLengthAt:]))
	body := markerNameAt + nameBytes
	end := len(src) - crc32.Size // a later version may have fields between name and checksum
	if end < body || version == markerVersion && end != body {
		return corrupt("%d bytes, want %d", len(src), body+crc32.Size)
	}
	want := binary.LittleEndian.Uint32(src[end:])
	if sum := crc32.Checksum(src[:end], castagnoli); sum != want {
		return corrupt("checksum %#08x, want %#08x", sum, want)
	}
	m := Marker{Cluster: ClusterID(src[markerClusterAt:markerNameLengthAt]), Name: string(src[markerNameAt:body])}
	if !validLabel(m.Name) || m.Cluster == (ClusterID{}) {
		return corrupt("name %q, cluster %v", m.Name, m.Cluster)
	}
	return m, nil
}
