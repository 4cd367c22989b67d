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
