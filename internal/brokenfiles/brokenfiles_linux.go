// Package brokenfiles makes the files that a process has open fail, for tests of what follows.
package brokenfiles

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Under makes every write to a file that this process has open for writing below dir fail, as on a device that
// turned read-only. Locks stay. A file that is opened anew is in order. The test ends when there was no file.
func Under(t testing.TB, dir string) {
	t.Helper()
	broken, err := under(dir)
	if err != nil {
		t.Fatal(err)
	}
	if broken == 0 {
		t.Fatalf("void: no file below %s is open for writing", dir)
	}
}

func under(dir string) (broken int, err error) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range fds {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil || !strings.HasPrefix(target, dir) || strings.Contains(strings.ToLower(filepath.Base(target)), "lock") {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY {
			continue
		}
		readOnly, err := unix.Open(target, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, unix.Dup3(readOnly, fd, unix.O_CLOEXEC), unix.Close(readOnly))
		broken++
	}
	return broken, errors.Join(errs...)
}
