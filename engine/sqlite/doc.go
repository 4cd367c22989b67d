// Package sqlite runs SQLite on LogCore: a VFS whose database file is a log.
//
// There is no database file on local disk. A commit is one atomic append of the
// pages that changed, as deltas against what they were; COMMIT returns once that
// append is acknowledged, so it is as durable as the log. A read asks the page server
// for pages as of the LSN that the transaction began at, through a cache. Journals
// and temporary files live in memory: what protects a transaction is that nothing of
// it leaves the process before it commits.
//
// One process writes a log at a time: the first transaction that writes takes the
// writer epoch. While another process holds it, writing is SQLITE_BUSY; once another
// process has fenced this one, every statement fails and says so: at once when it
// writes, within a second when it only reads. When the outcome of an append is unknown,
// COMMIT fails and the Database refuses everything until it is opened again: it never
// goes on from a state that may not be the log's. The same goes for a Database that
// lives through a restore of the log service (ErrRestored), so what a page server says
// counts only after the log service has confirmed that it is still the same: reading
// takes both.
//
// Inside a process the connections of a Database lock each other as SQLite's
// connections to one file do. Other Databases, in this process or elsewhere, read
// snapshots and never block the writer.
package sqlite
