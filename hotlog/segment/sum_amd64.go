package segment

import (
	"hash/crc32"

	"golang.org/x/sys/cpu"
)

// shortFrameBytes is up to which size one chain of CRC32 instructions over a frame beats
// hash/crc32, which takes three side by side. Short frames gain most: the processor
// begins with the next one while a chain is under way, and the two calls around the
// stored checksum, each with an unaligned beginning, are saved.
const shortFrameBytes = 1 << 10

// sumFrame is the CRC-32C of [0, 32) and [36, len) of a frame, whose length is a
// multiple of 8 and at least 40. It needs SSE 4.2.
//
//go:noescape
func sumFrame(state uint32, frame []byte) uint32

func saltedSum(salt uint32, frame []byte) uint32 {
	if !cpu.X86.HasSSE42 {
		return saltedSumPortable(salt, frame)
	}
	if len(frame) <= shortFrameBytes {
		return sumFrame(salt, frame)
	}
	return crc32.Update(sumFrame(salt, frame[:40]), castagnoli, frame[40:])
}
