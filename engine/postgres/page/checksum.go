package page

import "encoding/binary"

const (
	checksumLanes = 32
	checksumPrime = 16777619 // of 32-bit FNV
)

// checksumSeeds begin the lanes; they are part of the format.
var checksumSeeds = [checksumLanes]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// ComputeChecksum returns what the header of the page with that number of its relation has to say in a cluster with data
// checksums. A page that was never written has none.
func (p Page) ComputeChecksum(number uint32) uint16 {
	lanes := checksumSeeds
	mix := func(lane *uint32, word uint32) {
		x := *lane ^ word
		*lane = x*checksumPrime ^ x>>17
	}
	for at := 0; at < Bytes; at += 4 * checksumLanes {
		words := p[at : at+4*checksumLanes]
		for i := range lanes {
			word := binary.LittleEndian.Uint32(words[4*i:])
			if at == 0 && i == 2 {
				word &^= 0xFFFF // the checksum itself counts as 0
			}
			mix(&lanes[i], word)
		}
	}
	sum := number
	for i := range lanes {
		mix(&lanes[i], 0)
		mix(&lanes[i], 0)
		sum ^= lanes[i]
	}
	return uint16(sum%0xFFFF + 1)
}
