// Package effect says what the records of PostgreSQL's write-ahead log change, as the server's
// redo functions do it: which blocks are redone, and everything that is no block: the status of
// transactions, relations that come and go, databases, prepared transactions, and the counters that
// the next checkpoint has to carry. It touches nothing itself: a Sink makes the changes, in the files of a data directory (package
// cluster) or in the page server (package pages). Pages are redone by package redo.
//
// Source: the redo functions and the file layouts of PostgreSQL 15.
package effect
