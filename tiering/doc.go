// Package tiering is the life of a span of the log from the hot tier to n targets
// and back.
//
// A span is a contiguous range of entry frames inside one segment. The Archiver
// reads committed spans from a Source, seals each into an object (zstd, then
// AES-256-GCM), codes the object into k+m fragments (package erasure), puts one
// fragment on each target, reads every one back, and only then writes a record of
// the manifest, which counts once it is verified on a majority of the targets.
// Nothing is covered, and nothing leaves the hot tier, before that.
//
// The manifest, a chain of numbered records that each carry the hash of the one
// before, is the only truth about what is archived. Every target holds all of it. A
// listing of a bucket is a hint where to look, never evidence.
//
// A Reader gives the spans back in order, from any k fragments of each, every byte
// verified. Verify reads everything offline and names what is wrong; Repair rewrites
// it from what is right. FORMAT.md describes every byte that is stored.
package tiering
