// Package replication orders a shard's entries with Raft (go.etcd.io/raft) and makes
// them durable at a quorum. The hot log itself is Raft's storage, so an entry is written once; its LSN
// is its Raft index. What Raft must remember besides the log, its term and vote and the members, is in
// one small file (FORMAT.md).
//
// A Member is one member of one shard's group as a state machine that is driven by steps:
// it starts no goroutine and reads no clock, so a simulation can drive many of them in any
// order. It owns both folds of the catalog: what is applied, and, on the leader, what will be
// once everything proposed is applied. Requests are prepared against the second, so
// every entry that is proposed is valid by construction and readers need no fold.
// Storage writes are asynchronous: the member hands entries to the hot log, goes on, and
// tells Raft, and the leader, when they are durable. Readers see applied entries only.
//
// A Group drives a Member over a real hot log with one goroutine, its loop.
//
// A follower whose tail conflicts with what a new leader has drops that tail, never anything that was
// committed. A frame's bytes are a function of its entry, the segment's first LSN and the frame
// before it, and SEAL entries say where segments end, so all members write the same files.
package replication
