package target

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
	"github.com/logcore/logcore/tiering/bucket/s3api"
)

// retryOpenAfter is how long a target that could not be opened is left alone: calls in
// between fail with the same error at once.
const retryOpenAfter = time.Second

// OpenLazy returns a target of a running cluster that need not be there: its bucket is
// opened by the first call, again after it was gone, and used only when it holds the
// expected marker. So a cloud that is lost at the start, or is lost and comes back
// later, takes part again without a restart, and whatever has taken its place in the
// meantime does not. Until it is there every call fails with the reason. The error is
// that of a malformed URL or marker alone.
//
// Its bucket is a bucket.Retainer; Retain fails with bucket.ErrInvalid when the bucket
// inside is none.
func OpenLazy(rawURL string, want Marker) (Target, error) {
	spec, err := Parse(rawURL)
	if err != nil {
		return Target{}, err
	}
	if want.Name != spec.Name || want.Cluster == (ClusterID{}) {
		return Target{}, fmt.Errorf("%w: target %s: marker of target %q in cluster %v", bucket.ErrInvalid, spec.Name, want.Name, want.Cluster)
	}
	b := &lazy{spec: spec, want: want, turn: make(chan struct{}, 1)}
	return Target{Name: spec.Name, Provider: spec.Provider, Region: spec.Region, Home: spec.Home, Prices: spec.Prices, URL: spec.String(), Bucket: b}, nil
}

type lazy struct {
	spec Spec
	want Marker

	turn    chan struct{} // a lock that can be waited for with a context
	current bucket.Bucket // guarded by turn; nil while there is none
	err     error         // guarded by turn; why there is none
	tried   time.Time     // guarded by turn; when err was found
	closed  bool          // guarded by turn
}

var (
	_ bucket.Bucket   = (*lazy)(nil)
	_ bucket.Retainer = (*lazy)(nil)
)

// do calls the bucket, opening it first when need be.
func (l *lazy) do(ctx context.Context, call func(bucket.Bucket) error) error {
	b, err := l.get(ctx)
	if err != nil {
		return err
	}
	err = call(b)
	if errors.Is(err, bucket.ErrGone) {
		l.drop(b)
	}
	return err
}

// get returns the open bucket. One caller opens it; the others wait for that, each as
// long as its own context allows.
func (l *lazy) get(ctx context.Context) (bucket.Bucket, error) {
	select {
	case l.turn <- struct{}{}:
		defer l.release()
	case <-ctx.Done():
		return nil, fmt.Errorf("%v: %w while it is being opened", l, ctx.Err())
	}
	switch {
	case l.closed:
		return nil, fmt.Errorf("%v: %w", l, logcore.ErrClosed)
	case l.current != nil:
		return l.current, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%v: %w", l, ctx.Err())
	case l.err != nil && time.Since(l.tried) < retryOpenAfter:
		return nil, l.err
	}
	b, err := l.open(ctx)
	if err != nil {
		if ctx.Err() == nil { // a caller that gave up says nothing about the target
			l.err, l.tried = err, time.Now()
		}
		return nil, err
	}
	l.current, l.err = b, nil
	return b, nil
}

func (l *lazy) release() { <-l.turn }

func (l *lazy) open(ctx context.Context) (bucket.Bucket, error) {
	b, err := l.spec.open()
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", l.spec.Name, err)
	}
	found, err := ReadMarker(ctx, b)
	switch {
	case err == nil && found == l.want:
		return b, nil
	case err == nil:
		err = fmt.Errorf("%w: target %s of cluster %v has taken its place", bucket.ErrGone, found.Name, found.Cluster)
	case errors.Is(err, bucket.ErrNotFound):
		err = fmt.Errorf("%w: a bucket without the marker %s is in its place: is the right file system mounted?", bucket.ErrGone, MarkerKey)
	}
	return nil, errors.Join(fmt.Errorf("target %s: %v: %w", l.spec.Name, l, err), b.Close())
}

// drop forgets a bucket that is gone, so that the next call looks for it.
func (l *lazy) drop(b bucket.Bucket) {
	l.turn <- struct{}{}
	defer l.release()
	if l.current == b {
		l.current = nil
		b.Close()
	}
}

func (l *lazy) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := bucket.ValidateKey(key); err != nil {
		return err
	}
	return l.do(ctx, func(b bucket.Bucket) error { return b.PutIfAbsent(ctx, key, data) })
}

func (l *lazy) Get(ctx context.Context, key string, offset, length int64) (data []byte, err error) {
	err = l.do(ctx, func(b bucket.Bucket) error {
		data, err = b.Get(ctx, key, offset, length)
		return err
	})
	return data, err
}

func (l *lazy) Head(ctx context.Context, key string) (a bucket.Attributes, err error) {
	err = l.do(ctx, func(b bucket.Bucket) error {
		a, err = b.Head(ctx, key)
		return err
	})
	return a, err
}

func (l *lazy) List(ctx context.Context, prefix, startAfter string, yield func(bucket.Attributes) bool) error {
	return l.do(ctx, func(b bucket.Bucket) error { return b.List(ctx, prefix, startAfter, yield) })
}

func (l *lazy) Delete(ctx context.Context, key string) error {
	return l.do(ctx, func(b bucket.Bucket) error { return b.Delete(ctx, key) })
}

// Retain implements bucket.Retainer.
func (l *lazy) Retain(ctx context.Context, key string, until time.Time) error {
	return l.do(ctx, func(b bucket.Bucket) error {
		r, ok := b.(bucket.Retainer)
		if !ok {
			return fmt.Errorf("%v: %w: it offers no retention", b, bucket.ErrInvalid)
		}
		return r.Retain(ctx, key, until)
	})
}

// String names the bucket as it does itself once it is open.
func (l *lazy) String() string {
	switch l.spec.Scheme {
	case "dir", "mem":
		return l.spec.Scheme + "://" + l.spec.Path
	}
	return s3api.Config{Bucket: l.spec.Bucket, Endpoint: l.spec.Endpoint}.URL(l.spec.Scheme)
}

func (l *lazy) Close() error {
	l.turn <- struct{}{}
	defer l.release()
	l.closed = true
	if l.current == nil {
		return nil
	}
	b := l.current
	l.current = nil
	return b.Close()
}
