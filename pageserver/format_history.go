package pageserver

import (
	"encoding/binary"

	"github.com/logcore/logcore"
)

// The keys and values of what is known of histories; see FORMAT.md.
const (
	tagHistory   = 'h'
	tagMilestone = 'b'

	// pinsMax bounds the pins of one log.
	pinsMax = 1 << 20
)

// encodePoints is the value of a history: what can be read of a log in this store.
func encodePoints(p points) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 16+8*len(p.pins)+checksumBytes), uint64(p.horizon))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(p.pins)))
	for _, at := range p.pins {
		b = binary.LittleEndian.AppendUint64(b, uint64(at))
	}
	return b
}

func decodePoints(key, sealed []byte) (points, error) {
	b, err := unseal(key, sealed, -1)
	if err != nil {
		return points{}, err
	}
	if len(b) < 16 {
		return points{}, corruptValue(key, "history of %d bytes", len(b))
	}
	p := points{horizon: logcore.LSN(binary.LittleEndian.Uint64(b))}
	n := binary.LittleEndian.Uint64(b[8:])
	if n > pinsMax || len(b) != 16+8*int(n) {
		return points{}, corruptValue(key, "history of %d bytes with %d pins", len(b), n)
	}
	for i := range int(n) {
		at := logcore.LSN(binary.LittleEndian.Uint64(b[16+8*i:]))
		if at >= p.horizon || i > 0 && at <= p.pins[i-1] {
			return points{}, corruptValue(key, "pin %d at LSN %d", i, at)
		}
		p.pins = append(p.pins, at)
	}
	return p, nil
}

// A milestone says how many bytes of payload the log's own entries up to an LSN have.
func encodeMilestone(bytes uint64) []byte { return binary.LittleEndian.AppendUint64(nil, bytes) }

func decodeMilestone(key, sealed []byte) (uint64, error) {
	b, err := unseal(key, sealed, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

func appendMilestoneKey(dst []byte, log logcore.LogID, lsn logcore.LSN) []byte {
	return binary.BigEndian.AppendUint64(appendLogKey(dst, tagMilestone, log), uint64(lsn))
}
