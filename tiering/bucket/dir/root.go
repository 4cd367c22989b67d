package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore/tiering/bucket"
)

// identity tells two directories apart that had the same path one after the other: an
// unmounted mount point, a directory removed and made again. Inode numbers are used
// again, so the birth time, where the file system keeps it, is part of it.
type identity struct {
	device, inode uint64
	born          unix.StatxTimestamp
}

// identify returns the identity of a directory; its errors are the bucket's.
func identify(root string) (identity, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, root, 0, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_BTIME, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == unix.ENOTDIR:
		return identity{}, fmt.Errorf("%w: no such directory: mount it; one that is lost for good is replaced with `logcore target replace`", bucket.ErrGone)
	case err != nil:
		return identity{}, fmt.Errorf("%s: %w", root, classify(err))
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return identity{}, fmt.Errorf("%w: not a directory", bucket.ErrGone)
	}
	id := identity{device: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.born = unix.StatxTimestamp{Sec: st.Btime.Sec, Nsec: st.Btime.Nsec}
	}
	return id, nil
}

// checkRoot fails with ErrGone when the root is missing or is another directory than
// the one that was opened.
func (b *Bucket) checkRoot() error {
	now, err := identify(b.root)
	if err != nil {
		return err
	}
	if now != b.identity {
		return fmt.Errorf("%w: another directory has taken its place since it was opened: mount the right one, or restart to use this one", bucket.ErrGone)
	}
	return nil
}

// classify adds the condition that a caller branches on to an error of the file system.
func classify(err error) error {
	var known error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		known = bucket.ErrFull
	case errors.Is(err, unix.EROFS):
		known = fmt.Errorf("%w: the file system is mounted read-only", bucket.ErrDenied)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		known = fmt.Errorf("%w: check the directory's owner, mode and attributes", bucket.ErrDenied)
	case errors.Is(err, unix.ESTALE):
		known = bucket.ErrGone
	default:
		return err
	}
	if errors.Is(err, errors.Unwrap(known)) || errors.Is(err, known) {
		return err // classified before
	}
	return fmt.Errorf("%w (%w)", known, err)
}
