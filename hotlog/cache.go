package hotlog

import (
	"sort"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/segment"
)

// cache holds the newest frames in memory, in chunks of consecutive LSNs. It is also
// where frames are encoded: a batch on its way to the disk is a list of slices of
// chunks, so nothing is copied twice. Bytes once written are never changed and
// chunks never used again, so readers may keep what they got. Guarded by Log.mu.
type cache struct {
	bytesMax   int64
	chunkBytes int
	chunks     []*chunk
	bytes      int64
}

type chunk struct {
	buf   []byte // capacity fixed
	first logcore.LSN
	offs  []uint32 // where the frame of first+i begins in buf
}

func (c *cache) init(bytesMax int64) {
	c.bytesMax = bytesMax
	c.chunkBytes = int(min(1<<20, max(bytesMax/4, 64<<10)))
}

// put encodes e and returns its frame, its checksum and the chunk it is in.
// Everything up to durable may be evicted.
func (c *cache) put(id segment.ID, prev uint32, e *logcore.Entry, durable logcore.LSN) (frame []byte, sum uint32, in *chunk) {
	size := int(segment.FrameBytes(len(e.Payload)))
	in = c.current(size, e.LSN, durable)
	at := len(in.buf)
	in.offs = append(in.offs, uint32(at))
	in.buf, sum = segment.AppendFrame(in.buf, id, prev, *e)
	return in.buf[at:], sum, in
}

// current returns the newest chunk, or a new one when it has not size bytes left.
func (c *cache) current(size int, lsn, durable logcore.LSN) *chunk {
	if n := len(c.chunks); n > 0 {
		if last := c.chunks[n-1]; cap(last.buf)-len(last.buf) >= size {
			return last
		}
	}
	fresh := &chunk{buf: make([]byte, 0, max(c.chunkBytes, size)), first: lsn, offs: make([]uint32, 0, 256)}
	c.chunks = append(c.chunks, fresh)
	c.bytes += int64(cap(fresh.buf))
	drop := 0
	for drop < len(c.chunks)-1 && c.bytes > c.bytesMax && c.chunks[drop].end() <= durable+1 {
		c.bytes -= int64(cap(c.chunks[drop].buf))
		c.chunks[drop] = nil
		drop++
	}
	c.chunks = c.chunks[drop:]
	return fresh
}

// end is one behind the last LSN in the chunk.
func (k *chunk) end() logcore.LSN { return k.first + logcore.LSN(len(k.offs)) }

// reset forgets everything.
func (c *cache) reset() { c.chunks, c.bytes = nil, 0 }

// run is a stretch of a chunk as it was when it was looked up.
type run struct {
	buf  []byte
	offs []uint32
}

// runs returns what the cache holds of [lo, hi) from lo on; empty when lo is not in it.
func (c *cache) runs(lo, hi logcore.LSN) []run {
	i := sort.Search(len(c.chunks), func(i int) bool { return c.chunks[i].end() > lo })
	if i == len(c.chunks) || c.chunks[i].first > lo {
		return nil
	}
	var out []run
	for ; i < len(c.chunks) && c.chunks[i].first < hi; i++ {
		k := c.chunks[i]
		from, to := max(lo, k.first)-k.first, min(hi, k.end())-k.first
		out = append(out, run{buf: k.buf, offs: k.offs[from:to:to]})
	}
	return out
}
