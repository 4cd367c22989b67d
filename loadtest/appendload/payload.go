package appendload

import (
	"bytes"
	"encoding/binary"
)

// PayloadBytesMin is what a payload needs to say which it is.
const PayloadBytesMin = payloadHeaderBytes

// A payload is: the run (8 bytes), the log's number in it (4), the entry's number in the
// log (8), all little-endian, and bytes that follow from those three.
const payloadHeaderBytes = 20

// stamp is what a payload says about itself.
type stamp struct {
	run    uint64
	log    uint32
	number uint64
}

// fill writes the payload of a stamp over the whole of b.
func (s stamp) fill(b []byte) {
	binary.LittleEndian.PutUint64(b, s.run)
	binary.LittleEndian.PutUint32(b[8:], s.log)
	binary.LittleEndian.PutUint64(b[12:], s.number)
	state := s.run ^ uint64(s.log)<<32 ^ s.number*0x9e3779b97f4a7c15
	rest := b[payloadHeaderBytes:]
	for len(rest) >= 8 {
		state = mix(state)
		binary.LittleEndian.PutUint64(rest, state)
		rest = rest[8:]
	}
	for i := range rest {
		state = mix(state)
		rest[i] = byte(state)
	}
}

// mix is the output function of SplitMix64, over its own output.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// readStamp reads what a payload says it is; ok is false for one that no load wrote.
func readStamp(b []byte) (s stamp, ok bool) {
	if len(b) < payloadHeaderBytes {
		return s, false
	}
	return stamp{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint64(b[12:])}, true
}

// intact reports whether b is the payload of the stamp; scratch is as long as b.
func (s stamp) intact(b, scratch []byte) bool {
	s.fill(scratch)
	return bytes.Equal(b, scratch)
}
