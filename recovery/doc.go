// Package recovery brings a log service back from what is left of it.
//
// Restore rebuilds everything from the archive's targets and the key alone: no node
// need be left, and any k of the k+m fragments of each object will do. RepairHotLog
// puts back what is corrupt in a hot log from the archive.
//
// Both follow one path: scan what is there, validate every checksum and the chain
// of entries, classify what is wrong, repair it from another copy, replay what is
// committed, serve. Nothing that fails its checksum is ever passed on, and what can't
// be brought back is named.
package recovery
