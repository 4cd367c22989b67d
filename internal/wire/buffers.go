package wire

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// Buffers is the memory of messages, for connections too. It differs from gRPC's own pool in that it does not clear a buffer,
// to its full length, each time it hands one out: whoever gets one writes it before reading. That was a twentieth of
// what an append cost.
var Buffers mem.BufferPool = &buffers{}

const (
	buffersMinLog, buffersMaxLog = 10, 22 // sizes that are kept: 1 KiB to 4 MiB
)

// buffers keeps buffers by their size, a power of two.
type buffers struct {
	of [buffersMaxLog + 1]sync.Pool
}

// Get implements mem.BufferPool.
func (p *buffers) Get(length int) *[]byte {
	log := max(bits.Len(uint(max(length, 1)-1)), buffersMinLog)
	if log > buffersMaxLog {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.of[log].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<log)
	return &b
}

// Put implements mem.BufferPool.
func (p *buffers) Put(b *[]byte) {
	log := bits.Len(uint(cap(*b))) - 1 // it holds so much at least
	if log < buffersMinLog || log > buffersMaxLog {
		return
	}
	p.of[log].Put(b)
}
