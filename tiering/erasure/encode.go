package erasure

import (
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"
	"github.com/minio/crc64nvme"

	"github.com/logcore/logcore"
)

// Coded is an object as its fragments.
type Coded struct {
	Meta      Meta
	Fragments [][]byte   // K+M of them, the caller's own
	Sums      [][32]byte // of each fragment, as Sum computes it
}

// Code codes the object whose bytes are parts, one after the other, into m.K+m.M
// fragments. It fills in Length and Digest, and Version and BlockBytes when they are 0.
// The bytes depend on nothing but m and the object. parts are only read.
func Code(m Meta, parts ...[]byte) (*Coded, error) {
	var c Coder
	src := newGather(parts)
	m.Length = src.bytes()
	if m.Version == 1 {
		m.Digest = src.sha256() // salts the checksums of the blocks: it comes first
	}
	if err := c.Begin(m); err != nil {
		return nil, err
	}
	inParallel(int(c.m.stripes()), func(s int) {
		for i := range c.m.K {
			b := c.block(int64(s), i)
			src.copyAt(b, c.m.dataOffset(int64(s), i))
		}
	})
	if err := c.Parity(); err != nil {
		return nil, err
	}
	return c.Finish(), nil
}

// Encode is Code for an object in one piece.
func Encode(m Meta, object []byte) (Meta, [][]byte, error) {
	c, err := Code(m, object)
	if err != nil {
		return m, nil, err
	}
	return c.Meta, c.Fragments, nil
}

// Coder codes an object in steps: Begin, WriteAt until every byte is written, Parity,
// Finish. So who makes the object, piece by piece, makes it in its fragments, and it lies
// in memory once. But for WriteAt it is not for concurrent use.
type Coder struct {
	m         Meta
	fragments [][]byte
	crcs      []uint64 // of block i of stripe s at s*(k+m)+i, before the salt
}

// Begin makes room for the fragments of the object that m describes, whose Length must be
// set, and its Digest when Version is 1. The error wraps logcore.ErrInvalid. A Coder that
// begins again writes over the fragments of before: for who is done with them.
func (c *Coder) Begin(m Meta) error {
	m = m.withDefaults()
	if err := m.Validate(); err != nil {
		return fmt.Errorf("erasure: encode: %w", err)
	}
	c.m = m
	n, size := m.K+m.M, int(m.FragmentBytes())
	if len(c.fragments) != n || cap(c.fragments[0]) < size {
		c.fragments = make([][]byte, n)
		for i := range c.fragments {
			c.fragments[i] = make([]byte, size)
		}
	}
	for i := range c.fragments {
		c.fragments[i] = c.fragments[i][:size]
	}
	c.crcs = make([]uint64, int64(n)*m.stripes())
	last := m.stripes() - 1
	for i := range m.K { // padding; what lies before it is written over
		b := c.block(last, i)
		clear(b[min(max(m.Length-m.dataOffset(last, i), 0), int64(len(b))):])
	}
	return nil
}

// Bytes is how much memory the fragments take.
func (c *Coder) Bytes() int64 { return int64(len(c.fragments)) * c.m.FragmentBytes() }

// WriteAt puts bytes of the object in their place. It may be called concurrently for
// bytes that don't overlap. p must lie within the object.
func (c *Coder) WriteAt(p []byte, off int64) {
	for len(p) > 0 {
		s := off / c.m.stripeBytes()
		n := int64(c.m.blockBytes(s))
		in := off - s*c.m.stripeBytes()
		put := copy(c.block(s, int(in/n))[in%n:], p)
		p, off = p[put:], off+int64(put)
	}
}

// Parity codes the parity blocks and takes the checksums of all blocks, stripe by stripe,
// each while it is in the processor's cache, on all processors.
func (c *Coder) Parity() error {
	enc, err := codec(c.m.K, c.m.M)
	if err != nil {
		return err
	}
	errs := make([]error, c.m.stripes())
	inParallel(len(errs), func(s int) { errs[s] = c.stripe(enc, int64(s)) })
	for s, err := range errs {
		if err != nil {
			return fmt.Errorf("erasure: encode stripe %d: %w", s, err)
		}
	}
	return nil
}

func (c *Coder) stripe(enc reedsolomon.Encoder, s int64) error {
	blocks := make([][]byte, len(c.fragments))
	for i := range blocks {
		blocks[i] = c.block(s, i)
	}
	if c.m.M > 0 {
		if err := enc.Encode(blocks); err != nil {
			return err
		}
	}
	for i, b := range blocks {
		c.crcs[int(s)*len(blocks)+i] = crc64nvme.Checksum(b)
	}
	return nil
}

// Finish takes the hashes and writes headers and checksums. The fragments are the caller's
// until Begin is called again.
func (c *Coder) Finish() *Coded {
	n, stripes := len(c.fragments), int(c.m.stripes())
	out := &Coded{Fragments: c.fragments, Sums: make([][32]byte, n)}
	var hashes [][32]byte // of block i of stripe s at s*(k+m)+i
	if c.m.Version >= 2 {
		hashes = make([][32]byte, n*stripes)
		inParallel(len(hashes), func(j int) { hashes[j] = blockHash(c.block(int64(j/n), j%n)) })
		c.m.Digest = digestOf(c.m, func(s, i int) [32]byte { return hashes[s*n+i] })
	}
	out.Meta = c.m
	for i, f := range c.fragments {
		appendHeader(f[:0], c.m, i)
		salt := headerSum(c.m, i)
		for s := range c.m.stripes() {
			b := c.block(s, i)
			sum := saltSum(salt, s, c.crcs[int(s)*n+i])
			if c.m.Version == 1 {
				sum = c.m.blockSum(salt, s, b)
			}
			c.m.putSum(f[c.m.blockOffset(s)+int64(len(b)):], sum)
		}
	}
	inParallel(n, func(i int) {
		if hashes == nil {
			out.Sums[i] = Sum(c.fragments[i])
			return
		}
		out.Sums[i] = sumOf(c.m, c.fragments[i], func(s int) [32]byte { return hashes[s*n+i] })
	})
	return out
}

// block is block i of stripe s, where it lies in its fragment.
func (c *Coder) block(s int64, i int) []byte {
	at := c.m.blockOffset(s)
	end := at + int64(c.m.blockBytes(s))
	return c.fragments[i][at:end:end]
}

var codecs struct {
	sync.Mutex
	byKM map[[2]int]reedsolomon.Encoder
}

// codec returns the coder of k+m: building its matrix and tables once is enough. It runs
// on the caller's processor alone, since whole stripes run beside each other.
func codec(k, m int) (reedsolomon.Encoder, error) {
	if err := ValidateKM(k, m); err != nil {
		return nil, err
	}
	codecs.Lock()
	defer codecs.Unlock()
	key := [2]int{k, m}
	if enc := codecs.byKM[key]; enc != nil {
		return enc, nil
	}
	enc, err := reedsolomon.New(k, m, reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, fmt.Errorf("%w: erasure code %d+%d: %v", logcore.ErrInvalid, k, m, err)
	}
	if codecs.byKM == nil {
		codecs.byKM = map[[2]int]reedsolomon.Encoder{}
	}
	codecs.byKM[key] = enc
	return enc, nil
}
