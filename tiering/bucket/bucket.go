// Package bucket is the one small interface behind which every object store
// stands, and the wrappers that share it.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/logcore/logcore"
)

// The conditions that callers branch on. Everything else is passed through wrapped;
// IsPermanent tells whether trying again can help.
var (
	// ErrNotFound: no object of that key.
	ErrNotFound = errors.New("bucket: object not found")
	// ErrExists: PutIfAbsent found other bytes under the key. Equal bytes are success.
	ErrExists = errors.New("bucket: object exists with other content")
	// ErrDenied: the credentials were refused, or the target is read-only.
	ErrDenied = errors.New("bucket: access denied")
	// ErrFull: the target has no room or no quota left.
	ErrFull = errors.New("bucket: target is full")
	// ErrChecksum: the bytes that arrived are not the bytes that were sent.
	ErrChecksum = errors.New("bucket: checksum mismatch in transfer")
	// ErrRetention: the object is under retention and can't be deleted.
	ErrRetention = errors.New("bucket: object is under retention")
	// ErrGone: the target itself is missing: a directory that is not mounted, a bucket
	// that was deleted. It says nothing about any object, so it is never ErrNotFound.
	ErrGone = errors.New("bucket: target is gone")
	// ErrThrottled: the provider asks to be called less often. Nothing is wrong: Retry
	// waits longer and doesn't count it as a fault.
	ErrThrottled = errors.New("bucket: throttled by the provider")
	// ErrUntrusted: the provider's certificate is not signed by an authority that is
	// trusted, or is for another name.
	ErrUntrusted = errors.New("bucket: certificate not trusted")
	// ErrInvalid: a malformed key, range or setting.
	ErrInvalid = errors.New("bucket: invalid argument")
)

// IsPermanent reports whether trying the same call again at once is pointless. Each
// condition may still pass with time (space is freed, a directory is mounted), so a
// caller that works in rounds comes back in a later one.
func IsPermanent(err error) bool {
	for _, e := range []error{ErrNotFound, ErrExists, ErrDenied, ErrFull, ErrRetention, ErrGone, ErrUntrusted, ErrInvalid,
		logcore.ErrClosed, logcore.ErrPoisoned, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Attributes describes a stored object.
type Attributes struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Bucket is one bucket at one provider. Keys are 1 to 512 bytes of [a-zA-Z0-9._/-],
// in segments of 1 to 255 bytes, none of them "." or "..", and no key is a directory
// prefix of another (the writer sees to that; dir and mem refuse it). All
// methods may be called concurrently, honour ctx, and never retry: the retry
// wrapper does.
type Bucket interface {
	// PutIfAbsent stores data under key. On a nil return the object is as durable as the
	// provider makes it (dir: file and directory synced). When the key exists with
	// equal bytes it returns nil, with others ErrExists. The bytes are checked end to
	// end where the provider can. data is not kept.
	PutIfAbsent(ctx context.Context, key string, data []byte) error
	// Get returns length bytes from offset; length < 0 means to the end. A range past
	// the end is cut short, down to nothing; a negative offset is ErrInvalid. The caller
	// owns the slice.
	Get(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// Head returns the attributes of an object.
	Head(ctx context.Context, key string) (Attributes, error)
	// List calls yield for every key that begins with prefix and sorts after startAfter,
	// ascending, until yield returns false. It may be stale: it is never the truth.
	List(ctx context.Context, prefix, startAfter string, yield func(Attributes) bool) error
	// Delete removes an object; one that is absent is no error.
	Delete(ctx context.Context, key string) error
	// String names the bucket for people: a URL without credentials.
	String() string
	io.Closer
}

// Retainer is a Bucket that can keep an object from being deleted.
type Retainer interface {
	// Retain forbids deleting or replacing key until a time; an earlier time than the
	// one in force is refused with ErrRetention.
	Retain(ctx context.Context, key string, until time.Time) error
}

// ValidateKey checks a key against the rules on Bucket. The error wraps ErrInvalid.
func ValidateKey(key string) error {
	if len(key) == 0 || len(key) > 512 {
		return fmt.Errorf("%w: key %.64q: want 1 to 512 bytes", ErrInvalid, key)
	}
	start := 0
	for i := 0; i <= len(key); i++ {
		if i == len(key) || key[i] == '/' {
			if seg := key[start:i]; seg == "" || seg == "." || seg == ".." || len(seg) > 255 {
				return fmt.Errorf("%w: key %q: segment %q: want 1 to 255 bytes, and more than dots", ErrInvalid, key, seg)
			}
			start = i + 1
			continue
		}
		c := key[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			continue
		}
		return fmt.Errorf("%w: key %q: byte %d is %q; use letters, digits and . _ / -", ErrInvalid, key, i, c)
	}
	return nil
}
