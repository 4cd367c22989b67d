package erasure

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"

	"github.com/logcore/logcore"
)

// Encode codes an object into m.K+m.M fragments. It fills in m.Length and m.Digest,
// and m.BlockBytes when that is 0, and returns the Meta so completed. The bytes depend
// on nothing but m and object. object is only read; the caller owns the fragments.
func Encode(m Meta, object []byte) (Meta, [][]byte, error) {
	if m.BlockBytes == 0 {
		m.BlockBytes = DefaultBlockBytes
	}
	m.Length, m.Digest = int64(len(object)), sha256.Sum256(object)
	if err := m.Validate(); err != nil {
		return m, nil, fmt.Errorf("erasure: encode: %w", err)
	}
	enc, err := codec(m.K, m.M)
	if err != nil {
		return m, nil, err
	}
	fragments := make([][]byte, m.K+m.M)
	salts := make([]uint32, len(fragments))
	for i := range fragments {
		fragments[i] = make([]byte, m.FragmentBytes())
		appendHeader(fragments[i][:0], m, i)
		salts[i] = headerSum(m, i)
	}
	blocks := make([][]byte, len(fragments))
	for s := range m.stripes() {
		n, at := m.blockBytes(s), m.blockOffset(s)
		data := object[s*m.stripeBytes():]
		for i := range fragments {
			blocks[i] = fragments[i][at : at+int64(n) : at+int64(n)]
			if i < m.K {
				data = data[copy(blocks[i], data):]
			}
		}
		if m.M > 0 {
			if err := enc.Encode(blocks); err != nil {
				return m, nil, fmt.Errorf("erasure: encode stripe %d: %w", s, err)
			}
		}
		for i := range fragments {
			sum := blockSum(salts[i], s, blocks[i])
			binary.LittleEndian.PutUint32(fragments[i][at+int64(n):], sum)
		}
	}
	return m, fragments, nil
}

var codecs struct {
	sync.Mutex
	byKM map[[2]int]reedsolomon.Encoder
}

// codec returns the coder of k+m: building its matrix and tables once is enough.
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
	enc, err := reedsolomon.New(k, m)
	if err != nil {
		return nil, fmt.Errorf("%w: erasure code %d+%d: %v", logcore.ErrInvalid, k, m, err)
	}
	if codecs.byKM == nil {
		codecs.byKM = map[[2]int]reedsolomon.Encoder{}
	}
	codecs.byKM[key] = enc
	return enc, nil
}
