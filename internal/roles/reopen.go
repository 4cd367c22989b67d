package roles

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/logcore/logcore/internal/cluster"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/target"
)

// reopening is a target that was lost when the service started. Each call looks whether
// it is back; whoever calls leaves a target alone for a while after failures. It counts
// as back only with the marker that it had: an empty directory in its place is not the
// target, and is taken for it only by a start of the service, which says so.
type reopening struct {
	url  string
	want target.Marker

	mu     sync.Mutex
	bucket bucket.Bucket // guarded by mu; nil until it is back
	closed bool          // guarded by mu
}

var _ bucket.Bucket = (*reopening)(nil)

// reopen puts such a target in the place of every lost one.
func (t *Targets) reopen(id cluster.ID) {
	for i, lost := range t.All {
		if lost.Bucket == nil {
			r := &reopening{url: t.urls[i], want: target.Marker{Cluster: target.ClusterID(id), Name: lost.Name}}
			t.All[i].Bucket = r
			t.opened = append(t.opened, r)
		}
	}
}

// get returns the bucket if the target is back.
func (r *reopening) get(ctx context.Context) (bucket.Bucket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("target %s: closed", r.want.Name)
	}
	if r.bucket != nil {
		return r.bucket, nil
	}
	t, err := target.Open(ctx, r.url)
	if err != nil {
		return nil, err
	}
	found, err := target.ReadMarker(ctx, t.Bucket)
	if err == nil && found != r.want {
		err = fmt.Errorf("it is target %s of cluster %v", found.Name, found.Cluster)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: target %s is not back: %w", bucket.ErrGone, r.want.Name, err), t.Bucket.Close())
	}
	r.bucket = t.Bucket
	return r.bucket, nil
}

// PutIfAbsent implements bucket.Bucket.
func (r *reopening) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	b, err := r.get(ctx)
	if err != nil {
		return err
	}
	return b.PutIfAbsent(ctx, key, data)
}

// Get implements bucket.Bucket.
func (r *reopening) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	b, err := r.get(ctx)
	if err != nil {
		return nil, err
	}
	return b.Get(ctx, key, offset, length)
}

// Head implements bucket.Bucket.
func (r *reopening) Head(ctx context.Context, key string) (bucket.Attributes, error) {
	b, err := r.get(ctx)
	if err != nil {
		return bucket.Attributes{}, err
	}
	return b.Head(ctx, key)
}

// List implements bucket.Bucket.
func (r *reopening) List(ctx context.Context, prefix, startAfter string, yield func(bucket.Attributes) bool) error {
	b, err := r.get(ctx)
	if err != nil {
		return err
	}
	return b.List(ctx, prefix, startAfter, yield)
}

// Delete implements bucket.Bucket.
func (r *reopening) Delete(ctx context.Context, key string) error {
	b, err := r.get(ctx)
	if err != nil {
		return err
	}
	return b.Delete(ctx, key)
}

// String is the target's URL, which holds no secret.
func (r *reopening) String() string { return r.url }

// Close closes the bucket if the target came back.
func (r *reopening) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.bucket == nil {
		return nil
	}
	return r.bucket.Close()
}
