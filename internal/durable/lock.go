package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/logcore/logcore"
)

// LockName is the file inside a directory that Lock holds.
const LockName = "LOCK"

// DirLock is a held lock on a directory. The kernel releases it when the process
// ends, however it ends; the file stays and means nothing by itself.
type DirLock struct{ f *os.File }

// Lock takes the lock of dir, which must exist, without waiting. When another
// process (or another Lock of this one) holds it, the error wraps
// logcore.ErrInUse and names the directory.
func Lock(dir string) (*DirLock, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("durable: lock %s: %w", dir, err)
	}
	err = flock(f)
	if err == nil {
		return &DirLock{f: f}, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: directory %s is locked (%s): stop the process that uses it, or give another directory", logcore.ErrInUse, dir, path)
	}
	return nil, fmt.Errorf("durable: lock %s: %w", dir, err)
}

// flock takes the exclusive lock, over interrupted calls.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Unlock releases the lock. A second call does nothing.
func (l *DirLock) Unlock() error {
	if l == nil || l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}
