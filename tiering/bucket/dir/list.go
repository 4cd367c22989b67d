package dir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore/tiering/bucket"
)

// errStop ends a walk that its caller has had enough of.
var errStop = errors.New("stop")

// List implements bucket.Bucket. It holds the names of one directory per level in
// memory. What is no object (another program's file, what a crashed put left) is not
// listed.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string, yield func(bucket.Attributes) bool) error {
	if err := b.usable(ctx, "list", prefix); err != nil {
		return err
	}
	w := walk{bucket: b, prefix: prefix, startAfter: startAfter, yield: yield}
	err := w.dir(ctx, "")
	if err == errStop {
		return nil
	}
	if err == nil { // a root that went away in the middle looks like an empty one
		err = b.checkRoot()
	}
	return b.wrap("list", prefix, classify(err))
}

type walk struct {
	bucket             *Bucket
	prefix, startAfter string
	yield              func(bucket.Attributes) bool
}

// dir lists one directory; at is "" or ends with a slash.
func (w *walk) dir(ctx context.Context, at string) error {
	entries, err := os.ReadDir(w.bucket.path(at))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	// Keys compare by byte, so directory "a" counts as "a/": "a-b" < "a/b" < "a0".
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return cmp.Compare(sortName(x), sortName(y)) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.entry(ctx, path.Join(at, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

func (w *walk) entry(ctx context.Context, key string, e fs.DirEntry) error {
	if bucket.ValidateKey(key) != nil {
		return nil
	}
	if e.IsDir() {
		under := key + "/"
		overlaps := strings.HasPrefix(under, w.prefix) || strings.HasPrefix(w.prefix, under)
		passed := under < w.startAfter && !strings.HasPrefix(w.startAfter, under)
		if !overlaps || passed {
			return nil
		}
		return w.dir(ctx, under)
	}
	if !e.Type().IsRegular() || !strings.HasPrefix(key, w.prefix) || key <= w.startAfter {
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	if !w.yield(bucket.Attributes{Key: key, Size: info.Size(), Modified: info.ModTime()}) {
		return errStop
	}
	return nil
}
