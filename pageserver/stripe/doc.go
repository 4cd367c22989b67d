// Package stripe makes a page server of a process that shares the pages of its logs with
// others. Host holds several pageserver.Servers, one for each set of stripes that it took
// over at once, each a store of its own with a filter. It reports to the log service what
// it has in full, follows the map that the answers carry, and serves the pages of the
// stripes it has; others it refuses with logcore.ErrWrongPageServer, which sends clients
// to the map.
//
// A set that is taken over begins from the checkpoints of those who had it, one store for
// each, or from the log, while they serve on. It is
// reported when it has everything that the log service had two reports ago; from then on it
// is served. What the map gives to others is served for a while longer, for clients that do
// not know yet, and then removed.
//
// FORMAT.md describes the two files that a Host keeps beside its stores.
package stripe
