// Package catalog says what a shard's entries mean to the service: the envelope of a
// log's entries (Record), the commands that create logs and move writer epochs
// (Command), and the whole catalog in one entry (a checkpoint), from which a fold can
// begin. State is that fold: the same entries give the same State everywhere. It does
// no I/O and knows no clock.
package catalog
