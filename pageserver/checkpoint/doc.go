// Package checkpoint keeps copies of a page server's store in a bucket, so that a new
// page server on an empty machine serves its first page before the store is local.
//
// A checkpoint is a manifest and the files it names. Files are Pebble's tables: they
// never change, so a table is stored once, under a name made of the epoch of who stored
// it and the digest of what is stored, and later checkpoints name it again. The small
// files of Pebble are inside the manifest. A manifest is committed by putting it under
// the next number of the chain where nothing may be yet; it is the truth, never a
// listing, and nothing is ever overwritten.
//
// Whoever writes checkpoints holds an epoch: a manifest that takes over the chain. A
// server that finds a newer one is stale (logcore.ErrFenced): it commits nothing and
// deletes nothing. Only the holder of the newest epoch deletes, after it has read the
// newest manifest again, and only what no manifest of the grace period names.
//
// Stores of page servers that share pages are a Family, each with a chain of its own. One
// that takes pages over borrows the checkpoint of the one that had them: a manifest in that
// one's chain says so, and what is lent is not removed.
//
// A Local is a store's directory. It opens one from a manifest at once: a table that is
// not there yet appears as a file whose blocks are fetched when they are read, each
// verified by itself, while Local.Fetch brings the rest, hot blocks first. After a crash
// at any point it goes on from the blocks that are there and sound.
//
// Everything here is derived data: when a checkpoint is missing, damaged, of another
// incarnation or of another format, the store is built from the log.
//
// The bytes in the bucket and on disk are described in FORMAT.md.
package checkpoint
