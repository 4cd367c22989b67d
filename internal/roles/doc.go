// Package roles wires the packages into the roles that a process can play: the log
// service, the page server, and both in one process for development. The commands
// turn flags into options and call Start; everything that they share is here.
//
// hotlog, tiering and pageserver know nothing of each other: the adapters between
// them live in this package.
package roles
