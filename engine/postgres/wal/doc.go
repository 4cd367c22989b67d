// Package wal reads PostgreSQL's write-ahead log: pages, records, block references and
// page images, from segment files or from a replication stream.
//
// A Decoder is fed bytes in order and gives records back. It checks all that the log
// offers for checking: the page headers, the chain of record positions, and the CRC32C
// of each record. The layouts of each version of PostgreSQL are keyed by the magic
// number of its WAL pages; a log of another version is logcore.ErrUnsupportedVersion,
// never corruption.
//
// The source of the layouts is PostgreSQL's own headers: access/xlog_internal.h and
// access/xlogrecord.h of version 15. PostgreSQL writes the log in the byte order of its
// machine; only little-endian logs are read.
package wal
