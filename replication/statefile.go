package replication

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/durable"
)

// stateFile is a member's state on the disk: the same state in two slots.
//
// Invariant: once a save has returned, both slots hold what was saved, and at every moment
// at least one slot is intact. A change of term or vote leaves the process only after
// the save. So whichever single slot is lost, to rot or to a crash in mid-write, the other one
// holds every vote that anybody can know of, and it is safe to go on from it, in a
// group of any size.
//
// The slots are overwritten in place, so a save needs no room on the disk.
type stateFile struct {
	f    *os.File
	path string
	seq  uint64 // of the newest state
	// first is the slot to be written first: the one that may not be intact.
	first int
}

func statePath(dir string) string { return filepath.Join(dir, stateFileName) }

// createState makes the state file; afterwards it is durable.
func createState(dir string, s MemberState) error {
	s.seq = 1
	slot := s.encode()
	if err := durable.WriteFile(statePath(dir), append(slot, slot...), 0o644); err != nil {
		return fmt.Errorf("replication: %s: %w", statePath(dir), diskFull(err))
	}
	return nil
}

// readState reads the state file of a shard's directory; fs.ErrNotExist when there is
// none. bad is why one slot could not be used although the other could.
func readState(dir string) (s MemberState, good int, bad, err error) {
	path := statePath(dir)
	f, err := os.Open(path)
	if err != nil {
		return MemberState{}, 0, nil, err
	}
	defer f.Close()
	b := make([]byte, 2*slotBytes+1) // one more than there are, so that a longer file shows
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return MemberState{}, 0, nil, fmt.Errorf("replication: %s: %w", path, err)
	}
	return decodeSlots(b[:n], path)
}

// decodeSlots picks the newest of the slots that are intact.
func decodeSlots(b []byte, path string) (s MemberState, good int, bad, err error) {
	if len(b) > 2*slotBytes {
		return s, 0, nil, stateDamage(path, -1, "longer than two slots of %d bytes", slotBytes)
	}
	var states [2]MemberState
	var errs [2]error
	for i := range states {
		at := min(i*slotBytes, len(b))
		states[i], errs[i] = decodeSlot(b[at:min(at+slotBytes, len(b))], path, int64(i*slotBytes))
	}
	switch {
	case errs[0] == nil && errs[1] == nil:
		if states[1].seq > states[0].seq {
			return states[1], 1, nil, nil
		}
		return states[0], 0, nil, nil
	case errs[0] == nil:
		return states[0], 0, errs[1], nil
	case errs[1] == nil:
		return states[1], 1, errs[0], nil
	}
	for _, err := range errs {
		if errors.Is(err, logcore.ErrUnsupportedVersion) {
			return s, 0, nil, err
		}
	}
	return s, 0, nil, fmt.Errorf("both copies of the member's state are damaged; its votes are in no other place, so it can't go on: restore the shard from the archive into a fresh directory (logcore restore), the damaged one keeps what was not archived: %w", errs[0])
}

// openState opens the state file for saving, and mends a slot that is not as the other.
func openState(dir string) (sf *stateFile, s MemberState, bad, err error) {
	s, good, bad, err := readState(dir)
	if err != nil {
		return nil, s, nil, err
	}
	f, err := os.OpenFile(statePath(dir), os.O_RDWR, 0)
	if err != nil {
		return nil, s, bad, fmt.Errorf("replication: %w", err)
	}
	sf = &stateFile{f: f, path: statePath(dir), seq: s.seq, first: 1 - good}
	if err := sf.put(sf.first, s); err != nil {
		f.Close()
		return nil, s, bad, err
	}
	return sf, s, bad, nil
}

// Save writes both slots, one after the other, and returns when both are durable. After
// an error the state may be the old one or the new one.
func (sf *stateFile) Save(s MemberState) error {
	s.seq = sf.seq + 1
	first := sf.first
	for _, slot := range []int{first, 1 - first} {
		sf.first = slot // until it is durable again
		if err := sf.put(slot, s); err != nil {
			return err
		}
		sf.seq = s.seq
	}
	return nil
}

func (sf *stateFile) put(slot int, s MemberState) error {
	_, err := sf.f.WriteAt(s.encode(), int64(slot)*slotBytes)
	if err == nil {
		err = unix.Fdatasync(int(sf.f.Fd()))
	}
	if err != nil {
		return fmt.Errorf("replication: %s: slot %d: %w", sf.path, slot, diskFull(err))
	}
	return nil
}

func (sf *stateFile) close() error { return sf.f.Close() }

// diskFull gives the system's error its name.
func diskFull(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", logcore.ErrDiskFull, err)
	}
	return err
}

func stateExists(dir string) error {
	if _, err := os.Stat(statePath(dir)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s: exists, or can't be looked at (%v): restore into a fresh directory", logcore.ErrInvalid, statePath(dir), err)
	}
	return nil
}
