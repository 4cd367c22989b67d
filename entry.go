package logcore

import "fmt"

// Kind says what an entry means. The numbers are durable: they stand in every
// entry frame and in the API.
type Kind uint8

// The kinds of entry. Data, Part, Commit and Abort belong to a log; the others
// belong to the shard and never reach a reader of a log.
const (
	KindData       Kind = 1 // a whole transaction
	KindPart       Kind = 2 // a part of a transaction, visible once its Commit is
	KindCommit     Kind = 3 // closes the parts of the same TxID; may carry the last one
	KindAbort      Kind = 4 // discards the parts of the same TxID
	KindCatalog    Kind = 5 // one catalog command (package catalog)
	KindCheckpoint Kind = 6 // the whole catalog, so that a fold can begin here
	KindSeal       Kind = 7 // the last entry of a segment
	KindRaft       Kind = 8 // Raft's own: an empty entry of a new leader, a membership change
)

// OfLog reports whether entries of this kind belong to a log.
func (k Kind) OfLog() bool { return k >= KindData && k <= KindAbort }

// Valid reports whether k is one of the kinds above.
func (k Kind) Valid() bool { return k >= KindData && k <= KindRaft }

var kindNames = [...]string{KindData: "data", KindPart: "part", KindCommit: "commit", KindAbort: "abort",
	KindCatalog: "catalog", KindCheckpoint: "checkpoint", KindSeal: "seal", KindRaft: "raft"}

// String returns the kind's name, or its number when it has none.
func (k Kind) String() string {
	if k.Valid() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Entry is one atomic unit of a shard's log.
type Entry struct {
	LSN     LSN
	Term    uint64 // the Raft term it was proposed in
	Kind    Kind
	Time    HLC
	Tx      TxID
	Payload []byte // what it holds depends on Kind; whoever hands out an Entry says who owns it
}
