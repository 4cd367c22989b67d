package erasure

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/klauspost/reedsolomon"

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
	if err := c.Stripes(m, parts...); err != nil {
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

// Coder codes in two steps that can be told apart in time: Stripes lays out the blocks,
// codes parity and takes block checksums, at the speed of memory; Finish takes the
// cryptographic hashes. A Coder that is used again writes over the fragments of before:
// for who is done with them. It is not for concurrent use.
type Coder struct {
	m         Meta
	fragments [][]byte
	crcs      []uint32 // of block i of stripe s at s*(k+m)+i, before the salt
}

// Stripes is the first step: everything but headers and hashes. parts are not needed
// afterwards. The error wraps logcore.ErrInvalid when m does not describe a valid object.
func (c *Coder) Stripes(m Meta, parts ...[]byte) error {
	m = m.withDefaults()
	src := newGather(parts)
	m.Length = src.bytes()
	if m.Version == 1 {
		m.Digest = src.sha256() // salts the checksums of the blocks: it comes first
	}
	if err := m.Validate(); err != nil {
		return fmt.Errorf("erasure: encode: %w", err)
	}
	enc, err := codec(m.K, m.M)
	if err != nil {
		return err
	}
	c.m = m
	c.allocate()
	errs := make([]error, m.stripes())
	inParallel(len(errs), func(s int) { errs[s] = c.stripe(enc, src, int64(s)) })
	for s, err := range errs {
		if err != nil {
			return fmt.Errorf("erasure: encode stripe %d: %w", s, err)
		}
	}
	return nil
}

// allocate makes room, in the buffers of before when they are large enough.
func (c *Coder) allocate() {
	n, size := c.m.K+c.m.M, int(c.m.FragmentBytes())
	if len(c.fragments) != n || cap(c.fragments[0]) < size {
		c.fragments = make([][]byte, n)
		for i := range c.fragments {
			c.fragments[i] = make([]byte, size)
		}
	}
	for i := range c.fragments {
		c.fragments[i] = c.fragments[i][:size]
	}
	c.crcs = make([]uint32, int64(n)*c.m.stripes())
}

// stripe fills the blocks of one stripe: the object's bytes, parity, checksums, while
// they are in the processor's cache.
func (c *Coder) stripe(enc reedsolomon.Encoder, src gather, s int64) error {
	n, at := c.m.blockBytes(s), c.m.blockOffset(s)
	blocks := make([][]byte, len(c.fragments))
	for i := range blocks {
		blocks[i] = c.fragments[i][at : at+int64(n) : at+int64(n)]
		if i < c.m.K {
			got := src.copyAt(blocks[i], s*c.m.stripeBytes()+int64(i)*int64(n))
			clear(blocks[i][got:])
		}
	}
	if c.m.M > 0 {
		if err := enc.Encode(blocks); err != nil {
			return err
		}
	}
	for i, b := range blocks {
		c.crcs[int(s)*len(blocks)+i] = crc32.Checksum(b, castagnoli)
	}
	return nil
}

// Finish is the second step. The fragments are the caller's until Stripes is called
// again.
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
				sum = blockSumV1(salt, s, b)
			}
			binary.LittleEndian.PutUint32(f[c.m.blockOffset(s)+int64(len(b)):], sum)
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

func (c *Coder) block(s int64, i int) []byte {
	at := c.m.blockOffset(s)
	return c.fragments[i][at : at+int64(c.m.blockBytes(s))]
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
