// Package pages is the page server's decoder for PostgreSQL: it makes of a log's entries (package payload) the pages of the
// database cluster, so that any page, and with them a whole data directory, can be had as of any LSN.
//
// The base backup's pages become images, and each block of a WAL record a redo record: what the record has for that block, which Redo
// applies, with package redo, when somebody reads the page. A page image in a record, or a record that makes the page anew, begins a chain. What
// a record changes beside its blocks comes from package effect: edits of visibility maps and of the SLRUs, spaces that are truncated or dropped,
// databases that are copied. What is no page is an object: configuration files, the state of prepared
// transactions, and, once in each WAL segment, the counters from which the next checkpoint can be made. Free space maps are left out: the server
// rebuilds them.
//
// Everything that the decoder knows between two entries is in its state; FORMAT.md has the bytes. A record that can't be redone,
// because its index type or extension is not known here and the record has no image of the page, is an error: the page server then serves that log only up to
// the entry before.
package pages
