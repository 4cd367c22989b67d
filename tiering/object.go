package tiering

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/logcore/logcore"
)

// defaultChunkBytes is how much of the frames one chunk holds.
const defaultChunkBytes = 1 << 20

// objectHeader is the decoded header of an object.
type objectHeader struct {
	span       Span // without frames
	cluster    [16]byte
	keyID      KeyID
	seed       [32]byte
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

// zstd coders are stateless between calls and shared: EncodeAll and DecodeAll may be
// called concurrently. Fastest, because on pages a higher level gains little.
var zstdCoders = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic(err) // the options are constant
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return enc, dec
})

// sealObject turns a span into the object that is coded and stored: header, chunk
// index, sealed chunks. The bytes depend on nothing but the arguments and the key.
//
// The AEAD key is derived from a seed, which is a keyed hash of the header and of all
// that the key will encrypt. So a key never meets two different plaintexts, whichever
// compressor, chunk size or archiver produced them, and no nonce repeats. The seed
// says nothing about the content to who doesn't have the master key.
func sealObject(ctx context.Context, keys KeyProvider, cluster [16]byte, span Span, chunkBytes int) ([]byte, error) {
	if err := span.validate(); err != nil {
		return nil, err
	}
	chunks := compressChunks(span.Frames, chunkBytes)
	id := keys.Current()
	header := appendObjectHeader(nil, cluster, span, id, [32]byte{}, chunkBytes, chunks)
	seed, err := objectSeed(ctx, keys, id, header, chunks)
	if err != nil {
		return nil, err
	}
	header = appendObjectHeader(nil, cluster, span, id, seed, chunkBytes, chunks)
	aead, err := objectAEAD(ctx, keys, id, seed)
	if err != nil {
		return nil, err
	}
	total := len(header)
	for _, c := range chunks {
		total += len(c) + chunkSealedExtra
	}
	aad := sha256.Sum256(header)
	object := append(make([]byte, 0, total), header...)
	for i, c := range chunks {
		object = aead.Seal(object, chunkNonce(i), c, chunkAAD(aad, i))
		chunks[i] = nil // let go as we go: memory is bounded
	}
	return object, nil
}

// compressChunks compresses each chunk, as many at once as there are processors.
func compressChunks(frames []byte, chunkBytes int) [][]byte {
	enc, _ := zstdCoders()
	chunks := make([][]byte, (len(frames)+chunkBytes-1)/chunkBytes)
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range chunks {
		part := frames[i*chunkBytes : min((i+1)*chunkBytes, len(frames))]
		slots <- struct{}{}
		wg.Go(func() {
			chunks[i] = enc.EncodeAll(part, make([]byte, 0, len(part)/2))
			<-slots
		})
	}
	wg.Wait()
	return chunks
}

func appendObjectHeader(dst []byte, cluster [16]byte, s Span, id KeyID, seed [32]byte, chunkBytes int, chunks [][]byte) []byte {
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
	return finishHeader(h)
}

// objectSeed hashes the header with a zero seed, and every plaintext of the AEAD, under
// a key of its own.
func objectSeed(ctx context.Context, keys KeyProvider, id KeyID, header []byte, chunks [][]byte) (seed [32]byte, err error) {
	key, err := keys.Derive(ctx, id, nil, "logcore object seed v1")
	if err != nil {
		return seed, err
	}
	content := sha256.New()
	for _, c := range chunks {
		content.Write(c) // their lengths are in the header
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(header)
	mac.Write(content.Sum(nil))
	return [32]byte(mac.Sum(nil)), nil
}

func objectAEAD(ctx context.Context, keys KeyProvider, id KeyID, seed [32]byte) (cipher.AEAD, error) {
	key, err := keys.Derive(ctx, id, seed[:], "logcore object key v1")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("tiering: object cipher: %w", err)
	}
	return cipher.NewGCM(block)
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
	if b[offObjCodec] != codecZstd || b[offObjAEAD] != aeadAES256GCM || b[offObjKeyScheme] != keySchemeDerived {
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
	if want := objFixedBytes + int64(n)*chunkEntryBytes + int64(le.Uint32(b[offObjWrapped:])); int64(len(b)) != want {
		return h, damaged(offHeaderLen, "header of %d bytes, its parts have %d", len(b), want)
	}
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
	if err != nil {
		return nil, err
	}
	_, dec := zstdCoders()
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
