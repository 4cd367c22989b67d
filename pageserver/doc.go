// Package pageserver serves any page of any log at any LSN. It follows every log its
// LogSource lists, decodes the entries into page records with an engine.Decoder and
// keeps every version of every page in a Pebble store; a read takes the newest image
// at or before the LSN and applies the changes after it: ranges of bytes itself, redo
// records through the decoder, so that the page server knows no engine. Besides pages
// there are spaces, their lengths, and small objects, all of them versioned.
//
// A decoder may have a state, which is a function of the payloads before: it is kept
// like the pages are, so that a branch and a restart begin with the right one. Payloads
// are decoded in the order in which they take effect: the parts of a transaction at its
// COMMIT, those of an aborted one never.
//
// The log is the write-ahead log: the store runs without one, keeps the position up
// to which it holds each log beside the data, and after a crash goes on from the
// position its last flush made durable. Everything in the store is derived from the
// logs, so a store that is damaged or belongs to another incarnation of the log
// service is thrown away and built again; it is never trusted.
//
// Visibility: a reader sees a log up to its ingested LSN, which moves only from one
// commit boundary to the next. All effects of a transaction carry its COMMIT's LSN,
// so no reader at any LSN sees a part of one.
//
// Incarnations: what a log service had before it was restored may differ from what it
// has since, at the same LSN. So the newest pages are served only while a stream of the
// log stands that began after the service had named its incarnation; once it breaks,
// readers wait until the service has named it again. The source must therefore not
// mend a broken stream behind the page server's back. A service whose directory was put
// back from a copy keeps its incarnation: before a log is followed, the service also has
// to have the very entry that was ingested last.
//
// Every answer names the incarnation that it comes from, so that who knows the service's
// can tell. That is why what a named LSN held is answered while the log service cannot
// be reached: within an incarnation it never changes. Each such read asks the service
// first, so that one that is back is heard before any more of the past is told.
//
// The bytes on disk are described in FORMAT.md; format.go is the only place that
// lays them out.
package pageserver
