package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/tiering/bucket"
)

// tempDir holds objects that are being written. "~" is not allowed in keys, so it is
// never an object and List never goes into it.
const tempDir = "~tmp"

// putTriesMax bounds how often one put begins again when another program removes what
// it has just made.
const putTriesMax = 4

// PutIfAbsent implements bucket.Bucket: temporary file, sync, rename without
// replacing, directory sync.
func (b *Bucket) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := b.begin(ctx, "put", key); err != nil {
		return err
	}
	if err := b.unpoisoned(); err != nil {
		return b.wrap("put", key, err)
	}
	var err error
	for range putTriesMax {
		if err = b.put(ctx, key, data); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// Somebody removed a directory or the competing object under us, or the root.
		if err = b.checkRoot(); err != nil {
			break
		}
		b.synced.forget()
		err = fmt.Errorf("%s: directories vanish as they are made: is another program cleaning them?", b.root)
	}
	return b.wrap("put", key, classify(err))
}

func (b *Bucket) put(ctx context.Context, key string, data []byte) error {
	path := b.path(key)
	if found, err := b.same(ctx, path, data); found || err != nil {
		return err
	}
	if err := b.makeParents(key); err != nil {
		return err
	}
	temp, err := b.createTemp()
	if err != nil {
		return err
	}
	// The lock on temp is held, by keeping the file open, until it has its final name.
	defer temp.Close()
	err = b.writeSynced(ctx, temp, data)
	if err == nil {
		err = publish(temp.Name(), path) // Commit point: the object exists.
	}
	if err != nil {
		os.Remove(temp.Name()) // best effort: sweep removes what stays
	}
	if errors.Is(err, fs.ErrExist) { // lost a race
		found, err := b.same(ctx, path, data)
		if err == nil && !found {
			err = fs.ErrNotExist // and deleted since: try again
		}
		return err
	}
	if err != nil {
		return err
	}
	return b.syncDirOrPoison(filepath.Dir(path))
}

// same looks for an object under path: found with equal bytes, made durable whoever
// wrote it; ErrExists with others.
func (b *Bucket) same(ctx context.Context, path string, data []byte) (found bool, err error) {
	f, size, err := openObject(path)
	if errors.Is(err, fs.ErrNotExist) {
		if info, serr := os.Lstat(path); serr == nil && info.IsDir() {
			return false, fmt.Errorf("%w: the key is a directory prefix of another", bucket.ErrInvalid)
		}
		return false, nil
	}
	if errors.Is(err, unix.ENOTDIR) {
		return false, fmt.Errorf("%w: another key is a directory prefix of this one", bucket.ErrInvalid)
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if size != int64(len(data)) {
		return false, fmt.Errorf("%w (%d bytes, not %d)", bucket.ErrExists, size, len(data))
	}
	stored, err := readRange(ctx, f, 0, size)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(stored, data) {
		return false, bucket.ErrExists
	}
	// Its writer synced the file before it had this name, but may have died before it
	// synced the directory.
	return true, b.syncParents(filepath.Dir(path))
}

// createTemp makes an empty locked file. The lock tells a live put from one that
// crashed: the kernel drops it with the process.
func (b *Bucket) createTemp() (*os.File, error) {
	dir := filepath.Join(b.root, tempDir)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	b.clean.Do(func() { sweep(dir) })
	for range 10 {
		f, err := os.CreateTemp(dir, "put-*")
		if err != nil {
			return nil, err
		}
		// Another process may sweep the file between its creation and its locking.
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if _, serr := os.Lstat(f.Name()); err == nil && serr == nil {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("%s: temporary files vanish as they are made: is another program cleaning it?", dir)
}

// sweep removes what crashed puts left. It errs on the side of leaving a file.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "put-") || !e.Type().IsRegular() {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(f.Name())
		}
		f.Close()
	}
}

// writeSynced writes data in chunks and syncs it. After an error the file is thrown
// away, never synced again.
func (b *Bucket) writeSynced(ctx context.Context, f *os.File, data []byte) error {
	for rest := data; len(rest) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Write(rest[:min(chunkBytes, len(rest))])
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return b.syncFile(f)
}

// publish gives temp its final name and fails with fs.ErrExist when there is one.
// File systems without the no-replace flag (NFS) get a hard link.
func publish(temp, path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		if err = unix.Link(temp, path); err == nil {
			os.Remove(temp) // best effort: sweep removes it later
		}
	}
	if err != nil {
		return &os.LinkError{Op: "publish", Old: temp, New: path, Err: err}
	}
	return nil
}

// unpoisoned fails after a directory sync failed: the kernel reports a lost write once,
// so a second sync would succeed and prove nothing.
func (b *Bucket) unpoisoned() error {
	if p, ok := b.poison.Load().(poisoned); ok {
		return fmt.Errorf("%w: check the device, then restart (%v)", logcore.ErrPoisoned, p.cause)
	}
	return nil
}
