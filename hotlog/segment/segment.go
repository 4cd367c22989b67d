// Package segment is one file of a shard's log: how its bytes are laid out, read
// back, checked and, after a crash, told apart into what is durable, what is a
// torn tail and what is corrupt. It holds no file open and starts no goroutine:
// package hotlog decides when what is written.
package segment

import "github.com/logcore/logcore"

// ID names a segment: its shard and the LSN of its first entry. It salts the
// checksum of every frame, so a frame never passes in another segment.
type ID struct {
	Shard logcore.ShardID
	First logcore.LSN
}

// FooterRoom is how many bytes the footer of a segment whose frames, the SEAL included,
// end at end may take.
func FooterRoom(end int64) int64 {
	points := (end-FramesOffset)/IndexStride + 1
	return int64(footerBytes(int(points), logsAllowed(end-FramesOffset)))
}
