package replchaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is an ext4 file system in a file, on a loop device.
type disk struct {
	image, dev, mount string
}

const diskBytes = 1 << 30

func newDisk(dir string, i int) (*disk, error) {
	d := &disk{image: filepath.Join(dir, fmt.Sprint("disk-", i)), mount: filepath.Join(dir, fmt.Sprint("node-", i))}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(diskBytes), f.Close(), os.Mkdir(d.mount, 0o700), command("mkfs.ext4", "-q", "-F", d.image)); err != nil {
		return nil, err
	}
	out, err := exec.Command("losetup", "--find", "--show", d.image).Output()
	if err != nil {
		return nil, fmt.Errorf("losetup: %w", err)
	}
	d.dev = strings.TrimSpace(string(out))
	return d, d.attach()
}

func (d *disk) attach() error { return command("mount", d.dev, d.mount) }

func (d *disk) detach() error { return command("umount", d.mount) }

func (d *disk) remove() error {
	err := d.detach()
	if d.dev != "" {
		err = errors.Join(err, command("losetup", "--detach", d.dev))
	}
	return err
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32); 2 leaves the journal unflushed.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// powerOff has the file system forget everything that was not made durable.
func (d *disk) powerOff() error {
	f, err := os.Open(d.mount)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, noLogFlush)
}

func (d *disk) filler() string { return filepath.Join(d.mount, "filler") }

// fill leaves no room on the file system.
func (d *disk) fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	defer f.Close()
	for step := int64(64 << 20); step >= 4096; {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return err
		}
		switch err := unix.Fallocate(int(f.Fd()), 0, st.Size, step); {
		case errors.Is(err, unix.ENOSPC):
			step /= 4
		case err != nil:
			return err
		}
	}
	return nil
}

func (d *disk) empty() error { return os.Remove(d.filler()) }
