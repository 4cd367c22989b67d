package checkpoint

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore/internal/contentkey"
)

// Keys keeps master keys and derives from them; a master key never leaves it. The
// archive's key ring is one. Its methods may be called concurrently.
type Keys interface {
	// Current returns the id of the key that new checkpoints are sealed under.
	Current() [8]byte
	// Derive returns a key that follows from the master key of that id, salt and info.
	Derive(ctx context.Context, id [8]byte, salt []byte, info string) ([32]byte, error)
}

// What keys are derived for.
const (
	infoManifestSeed = "logcore checkpoint manifest seed v1"
	infoManifestKey  = "logcore checkpoint manifest key v1"
	infoFileSeed     = "logcore checkpoint file seed v1"
	infoFileKey      = "logcore checkpoint file key v1"
)

// derive is what contentkey needs of Keys.
func derive(keys Keys, id [8]byte) contentkey.Derive {
	return func(ctx context.Context, salt []byte, info string) ([32]byte, error) {
		return keys.Derive(ctx, id, salt, info)
	}
}

func seedOf(ctx context.Context, keys Keys, id [8]byte, info string, header []byte, content Digest) ([32]byte, error) {
	return contentkey.Seed(ctx, derive(keys, id), info, header, content)
}

func aeadOf(ctx context.Context, keys Keys, id [8]byte, seed [32]byte, info string) (cipher.AEAD, error) {
	return contentkey.AEAD(ctx, derive(keys, id), seed, info)
}

// seal returns the manifest as it is stored, and notes its digest.
func (m *Manifest) seal(ctx context.Context, keys Keys) ([]byte, error) {
	m.chooseVersion()
	body := m.body()
	if len(body) > manifestBytesMax-manHeaderBytes-blockExtra {
		return nil, fmt.Errorf("checkpoint: manifest of %d bytes, at most %d are allowed", len(body), manifestBytesMax)
	}
	m.keyID, m.seed = keys.Current(), [32]byte{}
	seed, err := seedOf(ctx, keys, m.keyID, infoManifestSeed, m.header(len(body)), sha256.Sum256(body))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	m.seed = seed
	aead, err := aeadOf(ctx, keys, m.keyID, m.seed, infoManifestKey)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	b := m.header(len(body))
	b = aead.Seal(b, make([]byte, aead.NonceSize()), body, b)
	b = binary.LittleEndian.AppendUint64(b, xxh3.Hash(b[manHeaderBytes:]))
	m.digest, m.raw = sha256.Sum256(b), b
	return b, nil
}

// openManifest reads a stored manifest and proves that a holder of the key wrote it.
func openManifest(ctx context.Context, keys Keys, b []byte) (*Manifest, error) {
	m, sealed, err := parseManifestHeader(b)
	if err != nil {
		return nil, err
	}
	aead, err := aeadOf(ctx, keys, m.keyID, m.seed, infoManifestKey)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: manifest %d: %w", m.Number, err)
	}
	body, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, b[:manHeaderBytes])
	if err != nil {
		return nil, damaged("manifest", "number %d was not written by a holder of the key", m.Number)
	}
	return m, m.parseBody(body)
}

// fileHeader lays out the front of a stored file.
func fileHeader(cluster [16]byte, t Table) []byte {
	le := binary.LittleEndian
	b := append(appendPrelude(fileMagic, fileVersion), make([]byte, fileHeaderBytes-preludeBytes)...)
	copy(b[offFileCluster:], cluster[:])
	copy(b[offFileKeyID:], t.KeyID[:])
	copy(b[offFileSeed:], t.Seed[:])
	le.PutUint64(b[offFileSize:], uint64(t.Size))
	le.PutUint32(b[offFileBlock:], uint32(t.Block))
	le.PutUint64(b[offFileSum:], xxh3.Hash(b[:offFileSum]))
	return b
}

// sealFile returns a file as it is stored, and fills in everything of its table but the
// name and the epoch.
func sealFile(ctx context.Context, keys Keys, cluster [16]byte, content []byte, blockBytes int) (Table, []byte, error) {
	t := Table{Size: int64(len(content)), Content: sha256.Sum256(content), KeyID: keys.Current(), Block: blockBytes}
	seed, err := seedOf(ctx, keys, t.KeyID, infoFileSeed, fileHeader(cluster, t), t.Content)
	if err != nil {
		return t, nil, fmt.Errorf("checkpoint: %w", err)
	}
	t.Seed = seed
	c, err := newBlockCipher(ctx, keys, cluster, t)
	if err != nil {
		return t, nil, err
	}
	n := t.blocks()
	out := append(make([]byte, 0, fileHeaderBytes+len(content)+n*blockExtra), fileHeader(cluster, t)...)
	for i := range n {
		at := i * t.Block
		out = c.seal(out, i, content[at:at+t.blockLen(i)])
	}
	t.Object = sha256.Sum256(out)
	return t, out, nil
}

// blockCipher seals and opens the blocks of one stored file.
type blockCipher struct {
	aead   cipher.AEAD
	header [32]byte // hash of the file's header: binds a block to all of it
}

func newBlockCipher(ctx context.Context, keys Keys, cluster [16]byte, t Table) (*blockCipher, error) {
	aead, err := aeadOf(ctx, keys, t.KeyID, t.Seed, infoFileKey)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: table %s: %w", t.Name, err)
	}
	return &blockCipher{aead, sha256.Sum256(fileHeader(cluster, t))}, nil
}

func (c *blockCipher) place(i int) (nonce, aad []byte) {
	var n [12]byte
	binary.LittleEndian.PutUint32(n[:], uint32(i))
	return n[:], binary.LittleEndian.AppendUint32(c.header[:len(c.header):len(c.header)], uint32(i))
}

// seal appends a block: sealed content, then the checksum that is checked without a key.
func (c *blockCipher) seal(dst []byte, i int, content []byte) []byte {
	nonce, aad := c.place(i)
	at := len(dst)
	dst = c.aead.Seal(dst, nonce, content, aad)
	return binary.LittleEndian.AppendUint64(dst, xxh3.HashSeed(dst[at:], uint64(i)))
}

// open verifies a stored block and appends its content. Nothing of a block that fails is
// returned.
func (c *blockCipher) open(dst []byte, name string, i int, stored []byte) ([]byte, error) {
	if len(stored) < blockExtra {
		return nil, damaged(name, "block %d has %d bytes", i, len(stored))
	}
	sealed := stored[:len(stored)-checksumBytes]
	if xxh3.HashSeed(sealed, uint64(i)) != binary.LittleEndian.Uint64(stored[len(sealed):]) {
		return nil, damaged(name, "block %d fails its checksum", i)
	}
	nonce, aad := c.place(i)
	out, err := c.aead.Open(dst, nonce, sealed, aad)
	if err != nil {
		return nil, damaged(name, "block %d is not the one that belongs there", i)
	}
	return out, nil
}
