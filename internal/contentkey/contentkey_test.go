package contentkey

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
)

// plain is a derivation that anybody can repeat.
func plain(_ context.Context, salt []byte, info string) ([32]byte, error) {
	return sha256.Sum256(append(append([]byte("master"), salt...), info...)), nil
}

// TestSeedAndKey: the seed is pinned, depends on every input, and so does the key.
func TestSeedAndKey(t *testing.T) {
	content := sha256.Sum256([]byte("content"))
	seed, err := Seed(t.Context(), plain, "seed v1", []byte("header"), content)
	if err != nil {
		t.Fatal(err)
	}
	const want = "99f8c78ec5fac4b5e228f77070156faa050757c2472891f63f8fe6434548b2e3"
	if got := hex.EncodeToString(seed[:]); got != want {
		t.Errorf("seed %s, want %s: what is stored could not be stored as the same bytes again", got, want)
	}
	for name, of := range map[string]func() ([32]byte, error){
		"info":    func() ([32]byte, error) { return Seed(t.Context(), plain, "seed v2", []byte("header"), content) },
		"header":  func() ([32]byte, error) { return Seed(t.Context(), plain, "seed v1", []byte("Header"), content) },
		"content": func() ([32]byte, error) { return Seed(t.Context(), plain, "seed v1", []byte("header"), [32]byte{1}) },
	} {
		if other, err := of(); err != nil || other == seed {
			t.Errorf("another %s: the same seed, or %v", name, err)
		}
	}
	a, err := AEAD(t.Context(), plain, seed, "key v1")
	if err != nil {
		t.Fatal(err)
	}
	sealed := a.Seal(nil, make([]byte, a.NonceSize()), []byte("text"), nil)
	for name, other := range map[string]struct {
		seed [32]byte
		info string
	}{"the same": {seed, "key v1"}, "another seed": {content, "key v1"}, "another use": {seed, "key v2"}} {
		b, err := AEAD(t.Context(), plain, other.seed, other.info)
		if err != nil {
			t.Fatal(err)
		}
		text, err := b.Open(nil, make([]byte, b.NonceSize()), sealed, nil)
		if (err == nil && bytes.Equal(text, []byte("text"))) != (name == "the same") {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestNoKey: what keeps the master key has the word.
func TestNoKey(t *testing.T) {
	gone := errors.New("no such key")
	none := func(context.Context, []byte, string) ([32]byte, error) { return [32]byte{}, gone }
	if _, err := Seed(t.Context(), none, "", nil, [32]byte{}); !errors.Is(err, gone) {
		t.Errorf("seed: %v", err)
	}
	if _, err := AEAD(t.Context(), none, [32]byte{}, ""); !errors.Is(err, gone) {
		t.Errorf("key: %v", err)
	}
}
