package replication

// CheckState reads and checks the state file in a shard's directory, changing
// nothing. A missing one is fs.ErrNotExist, a damaged one logcore.ErrCorrupt, one of a
// newer version logcore.ErrUnsupportedVersion.
func CheckState(dir string) error {
	_, err := readState(dir)
	return err
}
