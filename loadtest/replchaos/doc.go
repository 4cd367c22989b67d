// Package replchaos runs a cluster of three real log services, each in a network namespace
// and on a file system of its own, under load, while they are killed, paused, cut off, deprived of room and of
// power. Afterwards nothing that was acknowledged may be missing, every operation must have been
// answered soon after a majority could, and the history must be linearizable. It needs root, for the namespaces
// and the loop devices; docs/design/bench-replication.md says what is done and checked.
package replchaos
