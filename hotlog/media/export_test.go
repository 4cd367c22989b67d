package media

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BreakDirect makes every later WriteSync of an nvme file fail.
func BreakDirect(t *testing.T, f File) {
	t.Helper()
	f.(*nvmeFile).fd = -1
}

// OpenPMEMMsync is the pmem medium on ordinary mappings, made durable by msync.
func OpenPMEMMsync(path string) (Dir, error) { return openPMEM(path, unix.MAP_SHARED, msync) }

// OpenPMEMForced is the pmem medium as on DAX, but on ordinary mappings: all of its code
// runs, cache-line write-back included, and nothing is durable.
func OpenPMEMForced(path string) (Dir, error) { return openPMEM(path, unix.MAP_SHARED, writeBack) }

// CanWriteBack and WriteBackInstruction say what the processor has.
var (
	CanWriteBack         = canWriteBack
	WriteBackInstruction = writeBackInstruction
)
