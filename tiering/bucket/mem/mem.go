// Package mem is a bucket in this process's memory, for tests and for targets named
// mem://NAME. Nothing survives the process.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// Bucket is a handle on a store in memory. Several handles may share a store.
type Bucket struct {
	name   string
	store  *store
	closed atomic.Bool
}

var (
	_ bucket.Bucket   = (*Bucket)(nil)
	_ bucket.Retainer = (*Bucket)(nil)
)

type object struct {
	data     []byte // never changed once stored
	modified time.Time
	retained time.Time
}

type store struct {
	mu      sync.RWMutex
	objects map[string]*object // guarded by mu
	keys    []string           // guarded by mu; the keys of objects, ascending
}

var registry struct {
	sync.Mutex
	stores map[string]*store
}

// New returns a handle on a new store that no name leads to.
func New() *Bucket { return &Bucket{name: "anonymous", store: newStore()} }

// Named returns a handle on the process-wide store of that name, made when it is first
// asked for. Closing a handle leaves the store.
func Named(name string) *Bucket {
	registry.Lock()
	defer registry.Unlock()
	if registry.stores == nil {
		registry.stores = make(map[string]*store)
	}
	s := registry.stores[name]
	if s == nil {
		s = newStore()
		registry.stores[name] = s
	}
	return &Bucket{name: name, store: s}
}

// Drop forgets the named store; handles that are open keep it.
func Drop(name string) {
	registry.Lock()
	defer registry.Unlock()
	delete(registry.stores, name)
}

func newStore() *store { return &store{objects: make(map[string]*object)} }

// begin is every operation's preamble.
func (b *Bucket) begin(ctx context.Context, op, key string) error {
	if err := bucket.ValidateKey(key); err != nil {
		return b.wrap(op, key, err)
	}
	return b.usable(ctx, op, key)
}

func (b *Bucket) usable(ctx context.Context, op, key string) error {
	if b.closed.Load() {
		return b.wrap(op, key, logcore.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return b.wrap(op, key, err)
	}
	return nil
}

func (b *Bucket) wrap(op, key string, err error) error {
	return fmt.Errorf("%v: %s %s: %w", b, op, key, err)
}

// PutIfAbsent implements bucket.Bucket. Like a directory, it refuses a key that is a
// directory prefix of another, so that tests in memory find such keys.
func (b *Bucket) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := b.begin(ctx, "put", key); err != nil {
		return err
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[key]; o != nil {
		if bytes.Equal(o.data, data) {
			return nil
		}
		return b.wrap("put", key, bucket.ErrExists)
	}
	if other, ok := s.prefixConflict(key); ok {
		return b.wrap("put", key, fmt.Errorf("%w: %s exists and one key is a directory prefix of the other", bucket.ErrInvalid, other))
	}
	s.objects[key] = &object{data: slices.Clone(data), modified: time.Now()}
	at, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Insert(s.keys, at, key)
	return nil
}

func (s *store) prefixConflict(key string) (string, bool) {
	for i := range len(key) {
		if key[i] == '/' && s.objects[key[:i]] != nil {
			return key[:i], true
		}
	}
	at, _ := slices.BinarySearch(s.keys, key+"/")
	if at < len(s.keys) && strings.HasPrefix(s.keys[at], key+"/") {
		return s.keys[at], true
	}
	return "", false
}

func (b *Bucket) find(op, key string) (*object, error) {
	b.store.mu.RLock()
	defer b.store.mu.RUnlock()
	o := b.store.objects[key]
	if o == nil {
		return nil, b.wrap(op, key, bucket.ErrNotFound)
	}
	copied := *o
	return &copied, nil
}

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := b.begin(ctx, "get", key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, b.wrap("get", key, fmt.Errorf("%w: offset %d", bucket.ErrInvalid, offset))
	}
	o, err := b.find("get", key)
	if err != nil {
		return nil, err
	}
	rest := o.data[min(offset, int64(len(o.data))):]
	if length >= 0 && length < int64(len(rest)) {
		rest = rest[:length]
	}
	return append([]byte{}, rest...), nil
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Attributes, error) {
	if err := b.begin(ctx, "head", key); err != nil {
		return bucket.Attributes{}, err
	}
	o, err := b.find("head", key)
	if err != nil {
		return bucket.Attributes{}, err
	}
	return bucket.Attributes{Key: key, Size: int64(len(o.data)), Modified: o.modified}, nil
}

// List implements bucket.Bucket. yield runs without a lock held and may call the bucket.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string, yield func(bucket.Attributes) bool) error {
	if err := b.usable(ctx, "list", prefix); err != nil {
		return err
	}
	for _, a := range b.store.snapshot(prefix, startAfter) {
		if err := ctx.Err(); err != nil {
			return b.wrap("list", prefix, err)
		}
		if !yield(a) {
			return nil
		}
	}
	return nil
}

func (s *store) snapshot(prefix, startAfter string) []bucket.Attributes {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, _ := slices.BinarySearch(s.keys, max(prefix, startAfter))
	var found []bucket.Attributes
	for _, key := range s.keys[at:] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if key > startAfter {
			o := s.objects[key]
			found = append(found, bucket.Attributes{Key: key, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	return found
}

// Delete implements bucket.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, "delete", key); err != nil {
		return err
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	if o == nil {
		return nil
	}
	if time.Now().Before(o.retained) {
		return b.wrap("delete", key, fmt.Errorf("%w until %v", bucket.ErrRetention, o.retained))
	}
	delete(s.objects, key)
	at, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Delete(s.keys, at, at+1)
	return nil
}

// Retain implements bucket.Retainer.
func (b *Bucket) Retain(ctx context.Context, key string, until time.Time) error {
	if err := b.begin(ctx, "retain", key); err != nil {
		return err
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	if o == nil {
		return b.wrap("retain", key, bucket.ErrNotFound)
	}
	if until.Before(o.retained) && time.Now().Before(o.retained) {
		return b.wrap("retain", key, fmt.Errorf("%w until %v: it can't be shortened", bucket.ErrRetention, o.retained))
	}
	o.retained = until
	return nil
}

// String returns mem://NAME.
func (b *Bucket) String() string { return "mem://" + b.name }

// Close makes this handle unusable; the store stays for other handles.
func (b *Bucket) Close() error {
	b.closed.Store(true)
	return nil
}
