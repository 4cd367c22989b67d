// Package contentkey makes the keys of what is stored encrypted for ever under a master
// key: each thing has a key of its own that follows from all that the key encrypts. So a key
// never meets two different plaintexts, the same thing is the same bytes whoever stores it,
// and no nonce repeats. Objects of the archive and checkpoints of page stores are sealed
// like that; what their keys are derived for tells them apart.
package contentkey

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// Derive returns a key that follows from a master key, salt and info. The master key itself
// never leaves who keeps it.
type Derive func(ctx context.Context, salt []byte, info string) ([32]byte, error)

// Seed hashes a header and a SHA-256 of all plaintexts under a key derived for info. It says
// nothing about them to who does not have the master key, and is stored in the clear.
func Seed(ctx context.Context, derive Derive, info string, header []byte, content [sha256.Size]byte) (seed [32]byte, err error) {
	key, err := derive(ctx, nil, info)
	if err != nil {
		return seed, err
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(header)
	mac.Write(content[:])
	return [32]byte(mac.Sum(nil)), nil
}

// AEAD returns AES-256-GCM under the key that is derived from a seed for info.
func AEAD(ctx context.Context, derive Derive, seed [32]byte, info string) (cipher.AEAD, error) {
	key, err := derive(ctx, seed[:], info)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("contentkey: %w", err)
	}
	return cipher.NewGCM(block)
}
