// Package sim runs a whole shard in one goroutine: the production step code of its
// members, with clients, network, disks and clocks that are simulated, in simulated time. One seed decides
// everything that is left to chance, so a run is replayed exactly from its seed, to the
// hash of its trace.
//
// A run has two phases. In the first, members crash with torn tails, lose their disks' bytes, are
// partitioned, paused and slowed down, while writers append, retry and take each other's logs
// over, and readers read. In the second, the faults are over, and the shard must make progress
// within a bounded simulated time. What was promised is checked throughout and at the end: see check.go.
//
// The design, the faults and the track record are in docs/design/simulation.md.
package sim
