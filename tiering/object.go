package tiering

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/contentkey"
)

// objectHeader is the decoded header of an object.
type objectHeader struct {
	span       Span // without frames
	cluster    [16]byte
	keyID      KeyID
	seed       [32]byte
	wrapped    []byte // the master key as a key service wrapped it; empty under key scheme 1
	rawBytes   int64
	chunkBytes int
	chunks     []chunk
	bytes      int      // of the encoded header
	aad        [32]byte // hash of the encoded header: binds each chunk to all of it
}

// chunk is an entry of the chunk index, with where the chunk begins.
type chunk struct {
	sealed, raw int
	at, rawAt   int64
}

// sealedSpan is a span on its way into an object: compressed, and with a key of its own.
type sealedSpan struct {
	header []byte
	chunks [][]byte // compressed, with room for the AEAD's tag
	aead   cipher.AEAD
	aad    [32]byte
}

// prepareSeal compresses a span, derives the key of its object under master key id, and
// makes its header. The frames are not needed afterwards. What is made depends on nothing
// but the arguments and the key.
//
// The AEAD key is derived from a seed, which is a keyed hash of the header and of all
// that the key will encrypt. So a key never meets two different plaintexts, whichever
// compressor, chunk size or archiver produced them, and no nonce repeats. The seed
// says nothing about the content to who doesn't have the master key.
func prepareSeal(ctx context.Context, keys KeyProvider, id KeyID, cluster [16]byte, span Span, c compression) (*sealedSpan, error) {
	if err := span.validate(); err != nil {
		return nil, err
	}
	wrapped := wrappedKey(keys, id)
	if len(wrapped) > wrappedKeyMax {
		return nil, fmt.Errorf("%w: tiering: master key %v wrapped has %d bytes: want at most %d", logcore.ErrTooLarge, id, len(wrapped), wrappedKeyMax)
	}
	s := &sealedSpan{chunks: c.compress(span.Frames)}
	s.header = appendObjectHeader(nil, cluster, span, id, [32]byte{}, wrapped, c.chunkBytes, s.chunks)
	seed, err := objectSeed(ctx, keys, id, s.header, s.chunks)
	if err != nil {
		return nil, err
	}
	s.header = appendObjectHeader(nil, cluster, span, id, seed, wrapped, c.chunkBytes, s.chunks)
	s.aad = sha256.Sum256(s.header)
	s.aead, err = objectAEAD(ctx, keys, id, seed)
	return s, err
}

// bytes is the length of the object.
func (s *sealedSpan) bytes() int64 {
	n := int64(len(s.header))
	for _, c := range s.chunks {
		n += int64(len(c) + chunkSealedExtra)
	}
	return n
}

// held is how much memory the chunks take.
func (s *sealedSpan) held() (n int64) {
	for _, c := range s.chunks {
		n += int64(cap(c))
	}
	return n
}

// write encrypts the chunks, as many at once as there are processors, and hands over the
// object piece by piece, concurrently and in any order. It must be called once: the chunks
// are encrypted in place and let go.
func (s *sealedSpan) write(put func(p []byte, off int64)) {
	put(s.header, 0)
	offsets := make([]int64, len(s.chunks))
	off := int64(len(s.header))
	for i, c := range s.chunks {
		offsets[i] = off
		off += int64(len(c) + chunkSealedExtra)
	}
	eachLimited(len(s.chunks), runtime.GOMAXPROCS(0), func(i int) {
		c := s.chunks[i]
		put(s.aead.Seal(c[:0], chunkNonce(i), c, chunkAAD(s.aad, i)), offsets[i])
		s.chunks[i] = nil
	})
}

// sealObject turns a span into the object that is coded and stored: header, chunk
// index, sealed chunks.
func sealObject(ctx context.Context, keys KeyProvider, id KeyID, cluster [16]byte, span Span, c compression) ([]byte, error) {
	s, err := prepareSeal(ctx, keys, id, cluster, span, c)
	if err != nil {
		return nil, err
	}
	object := make([]byte, s.bytes())
	s.write(func(p []byte, off int64) { copy(object[off:], p) })
	return object, nil
}

func appendObjectHeader(dst []byte, cluster [16]byte, s Span, id KeyID, seed [32]byte, wrapped []byte, chunkBytes int, chunks [][]byte) []byte {
	le := binary.LittleEndian
	h := append(appendPrelude(dst, objectMagic), make([]byte, objFixedBytes-preludeBytes)...)
	copy(h[offCluster:], cluster[:])
	le.PutUint32(h[offShard:], uint32(s.Shard))
	le.PutUint64(h[offObjSegment:], uint64(s.SegmentFirst))
	le.PutUint64(h[offObjFirst:], uint64(s.First))
	le.PutUint64(h[offObjLast:], uint64(s.Last))
	le.PutUint64(h[offObjFirstTime:], uint64(s.FirstTime))
	le.PutUint64(h[offObjLastTime:], uint64(s.LastTime))
	le.PutUint32(h[offObjPrev:], s.Prev)
	le.PutUint32(h[offObjSum:], s.Sum)
	if s.Sealed {
		h[offObjSealed] = 1
	}
	h[offObjCodec], h[offObjAEAD], h[offObjKeyScheme] = codecZstd, aeadAES256GCM, keySchemeDerived
	if len(wrapped) > 0 {
		h[offObjKeyScheme] = keySchemeWrapped
	}
	le.PutUint32(h[offObjWrapped:], uint32(len(wrapped)))
	copy(h[offObjKeyID:], id[:])
	copy(h[offObjSeed:], seed[:])
	le.PutUint64(h[offObjRaw:], uint64(len(s.Frames)))
	le.PutUint32(h[offObjChunk:], uint32(chunkBytes))
	le.PutUint32(h[offObjChunks:], uint32(len(chunks)))
	for i, c := range chunks {
		h = le.AppendUint32(h, uint32(len(c)+chunkSealedExtra))
		h = le.AppendUint32(h, uint32(min(chunkBytes, len(s.Frames)-i*chunkBytes)))
		h = le.AppendUint64(h, 0)
	}
	return finishHeader(append(h, wrapped...))
}

// deriveFrom is what contentkey needs of a KeyProvider.
func deriveFrom(keys KeyProvider, id KeyID) contentkey.Derive {
	return func(ctx context.Context, salt []byte, info string) ([32]byte, error) {
		return keys.Derive(ctx, id, salt, info)
	}
}

// objectSeed hashes the header with a zero seed, and every plaintext of the AEAD, under
// a key of its own.
func objectSeed(ctx context.Context, keys KeyProvider, id KeyID, header []byte, chunks [][]byte) ([32]byte, error) {
	content := sha256.New()
	for _, c := range chunks {
		content.Write(c) // their lengths are in the header
	}
	return contentkey.Seed(ctx, deriveFrom(keys, id), "logcore object seed v1", header, [sha256.Size]byte(content.Sum(nil)))
}

func objectAEAD(ctx context.Context, keys KeyProvider, id KeyID, seed [32]byte) (cipher.AEAD, error) {
	return contentkey.AEAD(ctx, deriveFrom(keys, id), seed, "logcore object key v1")
}

// chunkNonce is the chunk's number: the key is the object's own.
func chunkNonce(i int) []byte {
	var n [12]byte
	binary.LittleEndian.PutUint32(n[:], uint32(i))
	return n[:]
}

// chunkAAD binds a chunk to its place and, through the header's hash, to the cluster,
// the shard, the range and the whole chunk index.
func chunkAAD(header [32]byte, i int) []byte {
	return binary.LittleEndian.AppendUint32(header[:], uint32(i))
}

// parseObjectHeader reads and bounds the header of an object; src may be longer.
func parseObjectHeader(src []byte) (h objectHeader, err error) {
	b, err := parsePrelude(src, objectMagic, objFixedBytes+headerSumSize, objHeaderMax)
	if err != nil {
		return h, err
	}
	le := binary.LittleEndian
	if scheme := b[offObjKeyScheme]; b[offObjCodec] != codecZstd || b[offObjAEAD] != aeadAES256GCM || scheme != keySchemeDerived && scheme != keySchemeWrapped {
		return h, fmt.Errorf("%w: object with compression %d, cipher %d, key scheme %d", logcore.ErrUnsupportedVersion, b[offObjCodec], b[offObjAEAD], b[offObjKeyScheme])
	}
	h.bytes = len(b) + headerSumSize
	h.aad = sha256.Sum256(src[:h.bytes])
	h.cluster = [16]byte(b[offCluster:])
	h.keyID = KeyID(b[offObjKeyID:])
	h.seed = [32]byte(b[offObjSeed:])
	h.span = Span{Shard: logcore.ShardID(le.Uint32(b[offShard:])),
		SegmentFirst: logcore.LSN(le.Uint64(b[offObjSegment:])), First: logcore.LSN(le.Uint64(b[offObjFirst:])), Last: logcore.LSN(le.Uint64(b[offObjLast:])),
		FirstTime: logcore.HLC(le.Uint64(b[offObjFirstTime:])), LastTime: logcore.HLC(le.Uint64(b[offObjLastTime:])),
		Prev: le.Uint32(b[offObjPrev:]), Sum: le.Uint32(b[offObjSum:]), Sealed: b[offObjSealed] == 1}
	raw, size, n := le.Uint64(b[offObjRaw:]), le.Uint32(b[offObjChunk:]), le.Uint32(b[offObjChunks:])
	if raw < 1 || raw > rawBytesMax || size < chunkBytesMin || size > chunkBytesMax || uint64(n) != (raw+uint64(size)-1)/uint64(size) {
		return h, damaged(offObjRaw, "%d bytes in %d chunks of %d", raw, n, size)
	}
	wrapped := int64(le.Uint32(b[offObjWrapped:]))
	if want := objFixedBytes + int64(n)*chunkEntryBytes + wrapped; int64(len(b)) != want {
		return h, damaged(offHeaderLen, "header of %d bytes, its parts have %d", len(b), want)
	}
	if wrapped > wrappedKeyMax || (wrapped > 0) != (b[offObjKeyScheme] == keySchemeWrapped) {
		return h, damaged(offObjWrapped, "%d bytes of wrapped key under key scheme %d", wrapped, b[offObjKeyScheme])
	}
	h.wrapped = append([]byte(nil), b[int64(len(b))-wrapped:]...)
	h.rawBytes, h.chunkBytes = int64(raw), int(size)
	return h, h.parseChunks(b[objFixedBytes:], int(n))
}

func (h *objectHeader) parseChunks(table []byte, n int) error {
	le := binary.LittleEndian
	h.chunks = make([]chunk, n)
	at, rawAt := int64(h.bytes), int64(0)
	for i := range h.chunks {
		e := table[i*chunkEntryBytes:]
		c := chunk{sealed: int(le.Uint32(e)), raw: int(le.Uint32(e[4:])), at: at, rawAt: rawAt}
		if c.raw != int(min(int64(h.chunkBytes), h.rawBytes-rawAt)) || c.sealed <= chunkSealedExtra || c.sealed > h.chunkBytes+chunkZstdExtra {
			return damaged(objFixedBytes+int64(i)*chunkEntryBytes, "chunk %d: %d bytes sealed, %d raw", i, c.sealed, c.raw)
		}
		h.chunks[i] = c
		at, rawAt = at+int64(c.sealed), rawAt+int64(c.raw)
	}
	return nil
}

// objectBytes is the length of the whole object.
func (h *objectHeader) objectBytes() int64 {
	last := h.chunks[len(h.chunks)-1]
	return last.at + int64(last.sealed)
}

// openObject verifies and opens a whole object.
func openObject(ctx context.Context, keys KeyProvider, object []byte) (Span, error) {
	h, err := parseObjectHeader(object)
	if err != nil {
		return Span{}, err
	}
	if int64(len(object)) != h.objectBytes() {
		return Span{}, damaged(int64(len(object)), "object of %d bytes, want %d", len(object), h.objectBytes())
	}
	h.span.Frames, err = h.openChunks(ctx, keys, 0, len(h.chunks), object[h.bytes:])
	return h.span, err
}

// chunksOf returns which chunks hold frames bytes [off, off+n), n >= 1, in range.
func (h *objectHeader) chunksOf(off, n int64) (first, end int) {
	return int(off / int64(h.chunkBytes)), int((off+n-1)/int64(h.chunkBytes)) + 1
}

// openChunks opens chunks [first, end), whose sealed bytes src begins with.
func (h *objectHeader) openChunks(ctx context.Context, keys KeyProvider, first, end int, src []byte) ([]byte, error) {
	aead, err := objectAEAD(ctx, keys, h.keyID, h.seed)
	if e, ok := keys.(Enveloper); ok && errors.Is(err, ErrKeyNotFound) && len(h.wrapped) > 0 {
		if err = e.Learn(ctx, h.keyID, h.wrapped); err == nil {
			aead, err = objectAEAD(ctx, keys, h.keyID, h.seed)
		}
	}
	if err != nil {
		return nil, err
	}
	dec := zstdCoders().decoder
	total := h.chunks[end-1].rawAt + int64(h.chunks[end-1].raw) - h.chunks[first].rawAt
	raw := make([]byte, 0, total)
	var plain []byte
	for i := first; i < end; i++ {
		c := h.chunks[i]
		plain, err = aead.Open(plain[:0], chunkNonce(i), src[:c.sealed], chunkAAD(h.aad, i))
		if err != nil {
			return nil, damaged(c.at, "chunk %d does not decrypt: it is not what was sealed under key %v", i, h.keyID)
		}
		src = src[c.sealed:]
		room := raw[len(raw) : len(raw) : len(raw)+c.raw]
		out, err := dec.DecodeAll(plain, room)
		if err != nil || len(out) != c.raw {
			return nil, damaged(c.at, "chunk %d does not decompress to %d bytes: %v", i, c.raw, err)
		}
		raw = raw[:len(raw)+c.raw]
	}
	return raw, nil
}
