package hotlog

import (
	"sort"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
	"github.com/logcore/logcore/hotlog/segment"
)

const (
	// chunkBytesMax is how long a chunk is where the cache is of the usual size. It bounds
	// what is written at once, too.
	chunkBytesMax = 2 << 20
	// chunkRestShare: a batch does not begin in the last quarter of a chunk, where it
	// might be cut short.
	chunkRestShare = 4
	// spareChunksMax bounds the chunks that are kept to be used again.
	spareChunksMax = 2
)

// cache holds the newest frames in memory, in chunks of consecutive LSNs. It is also where
// frames are encoded, and what is written: a chunk is aligned in memory as its frames are
// in the file, so a large batch goes from here to the disk without another copy. Bytes
// once durable are never changed, so readers may keep what they got; a chunk is used
// again only if no reader ever got any of it. Guarded by Log.mu.
type cache struct {
	bytesMax   int64
	chunkBytes int
	align      int
	chunks     []*chunk
	spare      []*chunk
	bytes      int64
}

type chunk struct {
	buf   []byte // capacity fixed; begins at a multiple of media.AlignMax
	first logcore.LSN
	offs  []uint32 // where the frame of first+i begins in buf
	lent  bool     // a reader got some of it
	pins  int      // who reads it for a moment
}

func (c *cache) init(bytesMax int64, align int) {
	c.bytesMax, c.align = bytesMax, align
	c.chunkBytes = int(min(chunkBytesMax, max(bytesMax/8, 64<<10))) &^ (media.AlignMax - 1)
}

// place returns the chunk in which a batch begins whose first frame has size bytes and
// goes to the file at off, and where in the chunk. Apart says that the block which the
// frames so far end in is, or will be, on its way to the disk in that memory, so that the
// batch must keep out of it. Everything up to durable may be evicted. Fresh says that
// what the file holds in front of off, in the same block, is not in front of the batch.
func (c *cache) place(size int, off int64, apart bool, lsn, durable logcore.LSN) (in *chunk, fresh bool) {
	before := int(off % int64(c.align))
	if n := len(c.chunks); n > 0 {
		in = c.chunks[n-1]
		at := len(in.buf)
		if fresh = apart || at%c.align != before; fresh {
			at = (at+c.align-1)/c.align*c.align + before
		}
		if at+size <= cap(in.buf) && cap(in.buf)-at >= c.chunkBytes/chunkRestShare {
			in.buf = in.buf[:at]
			return in, fresh
		}
	}
	in = c.newChunk(before+size, lsn)
	in.buf = in.buf[:before]
	c.evict(durable)
	return in, true
}

// newChunk returns an empty chunk for so many bytes at least, now the newest.
func (c *cache) newChunk(bytes int, lsn logcore.LSN) *chunk {
	var k *chunk
	if n := len(c.spare); n > 0 && bytes <= c.chunkBytes {
		k, c.spare = c.spare[n-1], c.spare[:n-1]
		k.buf, k.offs = k.buf[:0], k.offs[:0]
	} else {
		bytes = (max(c.chunkBytes, bytes) + c.align - 1) / c.align * c.align
		k = &chunk{buf: media.Buffer(bytes)[:0], offs: make([]uint32, 0, 256)}
	}
	k.first = lsn
	c.chunks = append(c.chunks, k)
	c.bytes += int64(cap(k.buf))
	return k
}

// evict drops the oldest chunks while there is too much, and keeps some for later.
func (c *cache) evict(durable logcore.LSN) {
	drop := 0
	for drop < len(c.chunks)-1 && c.bytes > c.bytesMax && c.chunks[drop].end() <= durable+1 {
		k := c.chunks[drop]
		c.bytes -= int64(cap(k.buf))
		if !k.lent && k.pins == 0 && len(c.spare) < spareChunksMax && cap(k.buf) == c.chunkBytes {
			c.spare = append(c.spare, k)
		}
		c.chunks[drop] = nil
		drop++
	}
	c.chunks = append(c.chunks[:0], c.chunks[drop:]...)
}

// fits reports whether a frame of size bytes has room.
func (k *chunk) fits(size int) bool { return len(k.buf)+size <= cap(k.buf) }

// add encodes e behind the frames so far and returns its checksum; it fits.
func (k *chunk) add(salt segment.Salt, prev uint32, e *logcore.Entry) (sum uint32) {
	k.offs = append(k.offs, uint32(len(k.buf)))
	k.buf, sum = segment.AppendSalted(k.buf, salt, prev, e)
	return sum
}

// end is one behind the last LSN in the chunk.
func (k *chunk) end() logcore.LSN { return k.first + logcore.LSN(len(k.offs)) }

// reset forgets everything. What is on its way to the disk stays as it is.
func (c *cache) reset() { c.chunks, c.bytes = nil, 0 }

// run is a stretch of a chunk as it was when it was looked up.
type run struct {
	buf  []byte
	offs []uint32
	in   *chunk
}

// runs returns what the cache holds of [lo, hi) from lo on, for good; empty when lo is
// not in it.
func (c *cache) runs(lo, hi logcore.LSN) []run {
	return c.find(lo, hi, func(k *chunk) { k.lent = true })
}

// pinned is runs for a moment: until unpin.
func (c *cache) pinned(lo, hi logcore.LSN) []run {
	return c.find(lo, hi, func(k *chunk) { k.pins++ })
}

func unpin(runs []run) {
	for _, r := range runs {
		r.in.pins--
	}
}

// find returns the runs and tells use of the chunk of each.
func (c *cache) find(lo, hi logcore.LSN, use func(*chunk)) []run {
	i := sort.Search(len(c.chunks), func(i int) bool { return c.chunks[i].end() > lo })
	if lo >= hi || i == len(c.chunks) || c.chunks[i].first > lo {
		return nil
	}
	var out []run
	for ; i < len(c.chunks) && c.chunks[i].first < hi; i++ {
		k := c.chunks[i]
		from, to := max(lo, k.first)-k.first, min(hi, k.end())-k.first
		use(k)
		out = append(out, run{buf: k.buf, offs: k.offs[from:to:to], in: k})
	}
	return out
}
