package tiering

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// KeyID names a master key: the first 8 bytes of a hash of it, so that a wrong key
// is told from a corrupt object.
type KeyID [8]byte

// String returns 16 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// KeyProvider keeps master keys and derives from them. A master key never leaves it.
// Its methods may be called concurrently.
type KeyProvider interface {
	// Current returns the id of the key that new objects are sealed under.
	Current() KeyID
	// Derive returns HKDF-SHA-256(key id, salt, info). It fails with ErrKeyNotFound when
	// it doesn't have the key.
	Derive(ctx context.Context, id KeyID, salt []byte, info string) ([32]byte, error)
}

// masterKeyBytes is the length of a master key.
const masterKeyBytes = 32

// Keyring is a KeyProvider over keys in memory. It is immutable.
type Keyring struct {
	keys    map[KeyID][masterKeyBytes]byte
	order   []KeyID // oldest first
	current KeyID
}

var _ KeyProvider = (*Keyring)(nil)

// newKeyring makes a keyring; the last key is the current one.
func newKeyring(keys [][masterKeyBytes]byte) *Keyring {
	r := &Keyring{keys: map[KeyID][masterKeyBytes]byte{}}
	for _, k := range keys {
		id := keyIDOf(k)
		if _, ok := r.keys[id]; !ok {
			r.order = append(r.order, id)
		}
		r.keys[id] = k
		r.current = id
	}
	return r
}

// keyIDOf hashes a key to its id. The hash says nothing useful about a random key.
func keyIDOf(key [masterKeyBytes]byte) KeyID {
	h := sha256.New()
	h.Write([]byte("logcore key id v1"))
	h.Write(key[:])
	return KeyID(h.Sum(nil)[:8])
}

// Current returns the id of the newest key.
func (r *Keyring) Current() KeyID { return r.current }

// IDs returns the ids of all keys, oldest first.
func (r *Keyring) IDs() []KeyID { return append([]KeyID(nil), r.order...) }

// Derive derives a key as KeyProvider says.
func (r *Keyring) Derive(_ context.Context, id KeyID, salt []byte, info string) (out [32]byte, err error) {
	master, ok := r.keys[id]
	if !ok {
		return out, fmt.Errorf("%w: %v is not in the keyring (it holds %v): use the key file that the archive was written with", ErrKeyNotFound, id, r.order)
	}
	b, err := hkdf.Key(sha256.New, master[:], salt, info, len(out))
	if err != nil {
		return out, fmt.Errorf("tiering: deriving from key %v: %w", id, err)
	}
	copy(out[:], b)
	return out, nil
}
