// Package pages is LogCore's native payload format: page images, byte-range deltas,
// truncations and drops, as a database that knows its own pages writes them. The
// bytes are described in FORMAT.md; format.go is the only place that lays them out.
package pages
