// Package dir is a bucket in a local directory, the embedded default. Every object is
// one file, published whole by an atomic rename that refuses to replace, and synced
// with its directory before PutIfAbsent returns.
//
// The root directory is never made by Open: a missing root means that the file system
// is not mounted or the "cloud" is gone, and writing into a fresh directory would hide
// that. The root is checked again by every operation, so the same holds while running.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// chunkBytes is how much is read or written between two looks at the context.
const chunkBytes = 1 << 20

// Bucket is a directory opened as a bucket. It holds no file open between calls, so it
// never keeps a file system from being unmounted.
type Bucket struct {
	root     string
	identity identity // of the root at Open

	clean    sync.Once    // removes what crashed puts left, at the first put
	synced   syncedDirs   // directories known to be durable
	poison   atomic.Value // of poisoned; set by the first failed directory sync, never cleared
	closed   atomic.Bool
	syncFile func(*os.File) error // (*os.File).Sync but in tests
}

var _ bucket.Bucket = (*Bucket)(nil)

type poisoned struct{ cause error }

// Init makes the root directory, with its parents, and syncs what it made. A root that
// exists is left as it is.
func Init(root string) error {
	root, err := absolute(root)
	if err != nil {
		return err
	}
	if err := makeDurableDir(root); err != nil {
		return wrapRoot(root, "init", classify(err))
	}
	return nil
}

// makeDurableDir makes path and its missing parents, each synced into its parent.
func makeDurableDir(path string) error {
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		if err = makeDurableDir(filepath.Dir(path)); err == nil {
			err = os.Mkdir(path, 0o755)
		}
	}
	if err == nil {
		return syncDir(filepath.Dir(path), (*os.File).Sync)
	}
	if info, serr := os.Stat(path); errors.Is(err, fs.ErrExist) && serr == nil && info.IsDir() {
		return nil
	}
	return err
}

// Open opens an existing directory. It writes nothing, so a read-only file system can
// be read. A missing root is bucket.ErrGone.
func Open(root string) (*Bucket, error) {
	root, err := absolute(root)
	if err != nil {
		return nil, err
	}
	b := &Bucket{root: root, syncFile: (*os.File).Sync}
	if b.identity, err = identify(root); err != nil {
		return nil, wrapRoot(root, "open", err)
	}
	return b, nil
}

func absolute(root string) (string, error) {
	if !filepath.IsAbs(root) {
		return "", fmt.Errorf("%w: directory bucket %q: want an absolute path", bucket.ErrInvalid, root)
	}
	return filepath.Clean(root), nil
}

// begin checks the key and everything that makes any operation pointless.
func (b *Bucket) begin(ctx context.Context, op, key string) error {
	if err := bucket.ValidateKey(key); err != nil {
		return b.wrap(op, key, err)
	}
	return b.usable(ctx, op, key)
}

func (b *Bucket) usable(ctx context.Context, op, key string) error {
	err := ctx.Err()
	if b.closed.Load() {
		err = logcore.ErrClosed
	}
	if err == nil {
		err = b.checkRoot()
	}
	return b.wrap(op, key, err)
}

func (b *Bucket) wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %s %s: %w", b, op, key, err)
}

func wrapRoot(root, op string, err error) error {
	return fmt.Errorf("dir://%s: %s: %w", root, op, err)
}

func (b *Bucket) path(key string) string { return filepath.Join(b.root, filepath.FromSlash(key)) }

// missing tells an absent object from an absent root, after an operation met ENOENT.
func (b *Bucket) missing(err error) error {
	if gone := b.checkRoot(); gone != nil {
		return gone
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return bucket.ErrNotFound
	}
	return classify(err)
}

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := b.begin(ctx, "get", key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, b.wrap("get", key, fmt.Errorf("%w: offset %d", bucket.ErrInvalid, offset))
	}
	f, size, err := openObject(b.path(key))
	if err != nil {
		return nil, b.wrap("get", key, b.missing(err))
	}
	defer f.Close()
	rest := max(size-offset, 0)
	if length < 0 || length > rest {
		length = rest
	}
	data, err := readRange(ctx, f, offset, length)
	return data, b.wrap("get", key, classify(err))
}

// openObject opens a regular file and returns its size. Anything else is no object.
func openObject(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // never hang on a fifo
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func readRange(ctx context.Context, f *os.File, offset, length int64) ([]byte, error) {
	data := make([]byte, length)
	for done := int64(0); done < length; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := f.ReadAt(data[done:min(done+chunkBytes, length)], offset+done)
		done += int64(n)
		if err == io.EOF && n == 0 {
			return nil, fmt.Errorf("file became shorter while it was read: %w", io.ErrUnexpectedEOF)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
	return data, nil
}

// Head implements bucket.Bucket.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Attributes, error) {
	if err := b.begin(ctx, "head", key); err != nil {
		return bucket.Attributes{}, err
	}
	info, err := os.Lstat(b.path(key))
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return bucket.Attributes{}, b.wrap("head", key, b.missing(err))
	}
	return bucket.Attributes{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Delete implements bucket.Bucket. The removal is synced. Directories stay, because
// removing one would race with a put into it.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, "delete", key); err != nil {
		return err
	}
	if err := b.unpoisoned(); err != nil {
		return b.wrap("delete", key, err)
	}
	path := b.path(key)
	err := unix.Unlink(path)
	if err == nil {
		return b.wrap("delete", key, b.syncDirOrPoison(filepath.Dir(path)))
	}
	if info, serr := os.Lstat(path); serr == nil && info.IsDir() {
		err = fs.ErrNotExist // a directory is no object
	}
	if err = b.missing(err); errors.Is(err, bucket.ErrNotFound) {
		return nil
	}
	return b.wrap("delete", key, err)
}

// String returns the bucket's URL.
func (b *Bucket) String() string { return "dir://" + b.root }

// Close makes every later call fail with logcore.ErrClosed.
func (b *Bucket) Close() error {
	b.closed.Store(true)
	return nil
}
