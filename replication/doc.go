// Package replication orders a shard's entries with Raft (go.etcd.io/raft) and makes
// them durable. The hot log itself is Raft's storage, so an entry is written once; its LSN
// is its Raft index. What Raft must remember besides the log, its term and vote, is in
// one small file (FORMAT.md).
//
// A Group is one member of one shard's Raft group. One goroutine, the loop, owns the
// Raft state machine and both folds of the catalog: what is applied, and, on the leader, what will be
// once everything proposed is applied. Requests are prepared against the second, so
// every entry that is proposed is valid by construction and readers need no fold.
// Storage writes are asynchronous: the loop hands entries to the hot log, goes on, and
// tells Raft when they are durable. Readers see applied entries only.
//
// The group has one member for now. What more members need, a transport and the
// rewriting of a follower's conflicting tail, is not here; the loop, the storage and
// the state file do not assume that there is only one.
package replication
