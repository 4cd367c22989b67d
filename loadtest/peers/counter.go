package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// sectorBytes is the unit of the kernel's block statistics, whatever the device's
// own sector is.
const sectorBytes = 512

// counter counts bytes written, from a file that the kernel keeps.
//
// The device's own statistics come first: they hold what the file system's journal
// adds, and count what was really written. The process's write_bytes counts memory
// made dirty, a whole folio at a time: on a kernel with large folios, 128 bytes may
// count as a megabyte. But the statistics count other processes too.
type counter struct {
	file  string
	field func(text []byte) ([]byte, bool)
	unit  uint64
}

// newCounter returns the counter of the device that dir is on, or the process's own
// where a file system hides its device.
func newCounter(dir string) (counter, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return counter{}, fmt.Errorf("%s: %w", dir, err)
	}
	device := counter{file: fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)), field: sectorsWritten, unit: sectorBytes}
	if _, err := device.read(); err == nil {
		return device, nil
	}
	process := counter{file: "/proc/self/io", field: writeBytes, unit: 1}
	_, err := process.read()
	return process, err
}

func (c counter) read() (uint64, error) {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return 0, err
	}
	value, ok := c.field(text)
	if !ok {
		return 0, fmt.Errorf("%s: no count of bytes written in %q", c.file, text)
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.file, err)
	}
	return n * c.unit, nil
}

// sectorsWritten finds the seventh field of a block device's stat file.
func sectorsWritten(text []byte) ([]byte, bool) {
	fields := bytes.Fields(text)
	if len(fields) < 7 {
		return nil, false
	}
	return fields[6], true
}

// writeBytes finds the field of that name in /proc/self/io.
func writeBytes(text []byte) ([]byte, bool) {
	for l := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(bytes.TrimSpace(l), []byte("write_bytes: ")); ok {
			return v, true
		}
	}
	return nil, false
}
