package wal

import "fmt"

// Manager numbers a resource manager: the part of PostgreSQL that wrote a record and
// knows how to redo it.
type Manager uint8

// The resource managers of PostgreSQL 15 (access/rmgrlist.h).
const (
	ManagerXLog Manager = iota
	ManagerTransaction
	ManagerStorage
	ManagerCLOG
	ManagerDatabase
	ManagerTablespace
	ManagerMultiXact
	ManagerRelMap
	ManagerStandby
	ManagerHeap2
	ManagerHeap
	ManagerBtree
	ManagerHash
	ManagerGin
	ManagerGist
	ManagerSequence
	ManagerSPGist
	ManagerBRIN
	ManagerCommitTs
	ManagerReplicationOrigin
	ManagerGeneric
	ManagerLogicalMessage
	managers

	// ManagerCustomMin is the first that extensions may have; the last is 255.
	ManagerCustomMin Manager = 128
)

var managerNames = [managers]string{"XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap", "Standby", "Heap2", "Heap",
	"Btree", "Hash", "Gin", "Gist", "Sequence", "SPGist", "BRIN", "CommitTs", "ReplicationOrigin", "Generic", "LogicalMessage"}

// String returns the name that pg_waldump prints.
func (m Manager) String() string {
	if m < managers {
		return managerNames[m]
	}
	return fmt.Sprintf("custom%03d", uint8(m))
}

// exists reports whether a record can be of this manager.
func (m Manager) exists() bool { return m < managers || m >= ManagerCustomMin }
