package replication

import "fmt"

// CheckState reads and checks the state file in a shard's directory, changing
// nothing. A missing one is fs.ErrNotExist; one of another version is
// logcore.ErrUnsupportedVersion; damage is logcore.ErrCorrupt, also in only one of the two copies,
// which the next start mends.
func CheckState(dir string) error {
	_, _, bad, err := readState(dir)
	if bad != nil {
		return fmt.Errorf("one of two copies, the next start mends it: %w", bad)
	}
	return err
}

// ReadState returns the state in a shard's directory, changing nothing. A missing one is fs.ErrNotExist.
func ReadState(dir string) (MemberState, error) {
	s, _, _, err := readState(dir)
	return s, err
}

// CreateState makes the state of a directory that has none; it is durable on return. Whatever else belongs
// to the member must be there before.
func CreateState(dir string, s MemberState) error {
	if err := stateExists(dir); err != nil {
		return err
	}
	return createState(dir, s)
}
