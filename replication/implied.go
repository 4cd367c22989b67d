package replication

import "github.com/logcore/logcore"

// impliedCommit returns how far the log is known to be committed by what it holds: a leader proposes
// a change of members only once it has applied the one before, so of two changes in a log the first is
// committed.
//
// Without this a member could be two changes behind after a restart: its state says how far the
// log was committed only now and then. It would look for votes among members of long ago, who need have none in common
// with those who go on meanwhile. One change behind it may be: each has a majority in common with the next.
func (m *Member) impliedCommit(commit logcore.LSN) (logcore.LSN, error) {
	disk := m.opts.Disk
	var change logcore.LSN // the newest change so far that is above commit
	for lsn := max(commit+1, disk.First()); lsn <= m.storage.last; {
		entries, err := disk.Entries(lsn, m.storage.last+1, startBytesRead)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if e.Kind == logcore.KindRaft && len(e.Payload) > 0 {
				commit, change = max(commit, change), e.LSN
			}
		}
		lsn += logcore.LSN(len(entries))
	}
	return commit, nil
}
