// Package enginetest is the conformance suite of database engines: for any decoder,
// over random histories, what the page server serves equals what replaying the log
// from empty gives (invariant I8), at any LSN, across restart, SIGKILL, branching and
// a rebuild from nothing; and no reader at any LSN sees a part of a transaction (I3).
//
// It brings a log in memory (Source), the plainest possible replay to compare with
// (Replay) and a generator of histories in the native page format (PagesHistory).
package enginetest
