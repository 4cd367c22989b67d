package tiering

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// KMS is a key service that wraps master keys: its own keys never leave it. The method set
// is that of Tink's AEAD, so that any of Tink's clients of key services is one. Its methods
// may be called concurrently.
type KMS interface {
	Encrypt(plaintext, associatedData []byte) (ciphertext []byte, err error)
	Decrypt(ciphertext, associatedData []byte) (plaintext []byte, err error)
}

// Enveloper is a KeyProvider whose master keys are wrapped by a key service. Each object
// carries the wrapped key that it can be opened with: who may ask the key service needs
// nothing else to read it.
type Enveloper interface {
	KeyProvider
	// Wrapped returns the wrapped key of an id, always the same bytes; nil when it is unknown.
	Wrapped(id KeyID) []byte
	// Learn makes a wrapped key known, after the key service has unwrapped it to the key that
	// id names.
	Learn(ctx context.Context, id KeyID, wrapped []byte) error
}

// wrappedKey is what an object under master key id carries.
func wrappedKey(keys KeyProvider, id KeyID) []byte {
	if e, ok := keys.(Enveloper); ok {
		return e.Wrapped(id)
	}
	return nil
}

// kmsTimeout bounds the wait for one answer of a key service.
const kmsTimeout = 10 * time.Second

// KMSKeyring is a KeyProvider over master keys that a KMS unwraps when they are first
// needed; then they stay in memory. While the service gives no answer every method that
// needs it fails with ErrKeyUnavailable, and the next call asks again.
type KMSKeyring struct {
	kms     KMS
	timeout time.Duration
	current KeyID

	mu      sync.Mutex
	wrapped map[KeyID][]byte     // guarded by mu
	order   []KeyID              // guarded by mu: oldest first
	keys    map[KeyID]*Keyring   // guarded by mu: those unwrapped
	asking  map[KeyID]*unwrapped // guarded by mu: one call to the service for each key at a time
}

var _ Enveloper = (*KMSKeyring)(nil)

// unwrapped is an answer of the service, once done is closed.
type unwrapped struct {
	done chan struct{}
	key  []byte
	err  error
}

func newKMSKeyring(kms KMS, entries []keyEntry) *KMSKeyring {
	r := &KMSKeyring{kms: kms, timeout: kmsTimeout, wrapped: map[KeyID][]byte{}, keys: map[KeyID]*Keyring{}, asking: map[KeyID]*unwrapped{}}
	for _, e := range entries {
		if r.wrapped[e.id] == nil {
			r.order = append(r.order, e.id)
		}
		r.wrapped[e.id], r.current = e.wrapped, e.id
	}
	return r
}

// Current returns the id of the newest key.
func (r *KMSKeyring) Current() KeyID { return r.current }

// IDs returns the ids of all keys, oldest first.
func (r *KMSKeyring) IDs() []KeyID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.order)
}

// Wrapped returns the wrapped key of an id.
func (r *KMSKeyring) Wrapped(id KeyID) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrapped[id]
}

// Derive derives a key as KeyProvider says.
func (r *KMSKeyring) Derive(ctx context.Context, id KeyID, salt []byte, info string) (out [32]byte, err error) {
	r.mu.Lock()
	ring, wrapped := r.keys[id], r.wrapped[id]
	ids := slices.Collect(maps.Keys(r.wrapped))
	r.mu.Unlock()
	if ring == nil {
		if wrapped == nil {
			return out, fmt.Errorf("%w: %v is not in the keyring (it holds %v): use the key file that the archive was written with", ErrKeyNotFound, id, ids)
		}
		if ring, err = r.unwrap(ctx, id, wrapped); err != nil {
			return out, err
		}
	}
	return ring.Derive(ctx, id, salt, info)
}

// Learn makes a wrapped key known once the service has unwrapped it.
func (r *KMSKeyring) Learn(ctx context.Context, id KeyID, wrapped []byte) error {
	_, err := r.unwrap(ctx, id, wrapped)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrapped[id] == nil {
		r.order = append([]KeyID{id}, r.order...)
		r.wrapped[id] = slices.Clone(wrapped)
	}
	return nil
}

// unwrap asks the service for a key and keeps it.
func (r *KMSKeyring) unwrap(ctx context.Context, id KeyID, wrapped []byte) (*Keyring, error) {
	key, err := r.ask(ctx, id, wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w %v: %w", ErrKeyUnavailable, id, err)
	}
	if len(key) != masterKeyBytes || keyIDOf([masterKeyBytes]byte(key)) != id {
		return nil, fmt.Errorf("%w: the key service unwraps key %v to another one: the wrapped key was replaced", ErrKeyFile, id)
	}
	ring := newKeyring([][masterKeyBytes]byte{[masterKeyBytes]byte(key)})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[id] = ring
	return ring, nil
}

// ask waits for the service's answer, at most for the timeout. A call that takes longer is
// not repeated: it can't be cancelled, and whoever asks next waits for the same answer.
func (r *KMSKeyring) ask(ctx context.Context, id KeyID, wrapped []byte) ([]byte, error) {
	r.mu.Lock()
	call := r.asking[id]
	if call == nil {
		call = &unwrapped{done: make(chan struct{})}
		r.asking[id] = call
		go func() {
			call.key, call.err = r.kms.Decrypt(wrapped, wrapContext(id))
			r.mu.Lock()
			delete(r.asking, id)
			r.mu.Unlock()
			close(call.done)
		}()
	}
	r.mu.Unlock()
	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	select {
	case <-call.done:
		return call.key, call.err
	case <-timer.C:
		return nil, fmt.Errorf("no answer within %v", r.timeout)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// wrapContext is the associated data that binds a wrapped key to its id.
func wrapContext(id KeyID) []byte { return append([]byte("logcore master key v1"), id[:]...) }

// newWrappedKey makes a master key and has the service wrap it. It is unwrapped once again
// before anything relies on it.
func newWrappedKey(kms KMS) (keyEntry, error) {
	var key [masterKeyBytes]byte
	rand.Read(key[:]) // never fails: crypto/rand aborts the process instead
	id := keyIDOf(key)
	wrapped, err := kms.Encrypt(key[:], wrapContext(id))
	if err != nil {
		return keyEntry{}, fmt.Errorf("%w: wrapping a new key: %w", ErrKeyUnavailable, err)
	}
	if len(wrapped) == 0 || len(wrapped) > wrappedKeyMax {
		return keyEntry{}, fmt.Errorf("%w: the key service wraps a key in %d bytes: want 1 to %d", ErrKeyFile, len(wrapped), wrappedKeyMax)
	}
	back, err := kms.Decrypt(wrapped, wrapContext(id))
	if err != nil {
		return keyEntry{}, fmt.Errorf("%w: unwrapping the new key: %w", ErrKeyUnavailable, err)
	}
	if string(back) != string(key[:]) {
		return keyEntry{}, errors.New("tiering: the key service does not unwrap the key that it wrapped")
	}
	return keyEntry{id: id, wrapped: wrapped}, nil
}
