package effect

import (
	"fmt"

	"github.com/logcore/logcore/engine/postgres/page"
	"github.com/logcore/logcore/engine/postgres/wal"
)

// SegmentPages is how many pages a segment of an SLRU has: a file.
const SegmentPages = 32

// SLRU is one of the logs of small entries by number (access/slru.c). It is kept in files of SegmentPages pages, named by their number.
type SLRU uint8

// The SLRUs that the log keeps.
const (
	CLOG     SLRU = iota // the status of transactions
	CommitTs             // their commit times
	Offsets              // where the members of multixacts begin
	Members              // the members
	SLRUs
)

var slruDirs = [SLRUs]string{"pg_xact", "pg_commit_ts", "pg_multixact/offsets", "pg_multixact/members"}

// Dir returns its directory inside the data directory.
func (s SLRU) Dir() string { return slruDirs[s] }

// Path returns the path of a segment's file inside the data directory.
func (s SLRU) Path(segment uint32) string { return fmt.Sprintf("%s/%04X", s.Dir(), segment) }

const (
	statusPerPage   = page.Bytes * 4
	commitTsBytes   = 10
	commitTsPerPage = page.Bytes / commitTsBytes
	offsetBytes     = 4
	offsetsPerPage  = page.Bytes / offsetBytes
	membersPerPage  = memberGroups * memberGroup
)

// precedes compares two page numbers by what their entries number, which wraps round. Members are not compared.
func (s SLRU) precedes(a, b uint32) bool {
	perPage, first := uint32(statusPerPage), uint32(wal.FirstNormalXID+1)
	switch s {
	case CommitTs:
		perPage = commitTsPerPage
	case Offsets:
		perPage, first = offsetsPerPage, firstMulti+1
	}
	x, y := a*perPage+first, b*perPage+first
	return wal.XIDPrecedes(x, y) && wal.XIDPrecedes(x, y+perPage-1)
}

// zero makes page n anew.
func (i *Interpreter) zero(s SLRU, n uint32) error {
	return i.Sink.EditSLRU(s, n, page.Edit(i.buffer()).Clear(0, page.Bytes), true)
}

// truncateSLRU removes the segments all of whose pages come before page n.
func (i *Interpreter) truncateSLRU(s SLRU, n uint32) error {
	return i.Sink.DropSegments(s, func(segment uint32) bool {
		first := segment * SegmentPages
		return s.precedes(first, n) && s.precedes(first+SegmentPages-1, n)
	})
}

func (i *Interpreter) applyCLOG(r *wal.Record, f *wal.Fields) error {
	const zeroPage, truncate = 0x00, 0x10
	switch n := f.U32(); r.Op() {
	case zeroPage:
		return i.zero(CLOG, n)
	case truncate:
		return i.truncateSLRU(CLOG, n)
	}
	return nil
}

func (i *Interpreter) applyCommitTs(r *wal.Record, f *wal.Fields) error {
	const zeroPage, truncate = 0x00, 0x10
	n := f.U32()
	switch r.Op() {
	case zeroPage:
		return i.zero(CommitTs, n)
	case truncate:
		oldest := f.U32()
		if i.OldestCommitTs == 0 || wal.XIDPrecedes(i.OldestCommitTs, oldest) {
			i.OldestCommitTs = oldest
		}
		return i.truncateSLRU(CommitTs, n)
	}
	return nil
}
