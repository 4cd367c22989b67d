package wal

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
)

// PageBytes is the length of a WAL page and of a data page (XLOG_BLCKSZ and BLCKSZ).
// Debian's packages, like everybody's, are built with 8 KiB for both.
const PageBytes = 8192

const (
	pageHeaderBytes     = 24
	longPageHeaderBytes = 40 // of the first page of a segment

	pageContinues   = 1 << 0 // the page begins with the rest of a record
	pageLongHeader  = 1 << 1
	pageBackups     = 1 << 2 // records before may lack page images: nothing that a reader acts on
	pageOverwritten = 1 << 3 // the record that should go on here was given up
	pageFlagsKnown  = pageContinues | pageLongHeader | pageBackups | pageOverwritten
)

// pageHeader is the header of one WAL page.
type pageHeader struct {
	magic     Magic
	flags     uint16
	timeline  Timeline
	at        Position
	remaining uint32 // bytes of the record that continues here, its part on this page included

	// Of a long header.
	systemID     uint64
	segmentBytes uint32
}

func (h pageHeader) len() int {
	if h.flags&pageLongHeader != 0 {
		return longPageHeaderBytes
	}
	return pageHeaderBytes
}

// pageHeaderLen returns how many bytes the header of the page at p takes.
func pageHeaderLen(p Position, segmentBytes uint32) int {
	if uint64(p)%uint64(segmentBytes) == 0 {
		return longPageHeaderBytes
	}
	return pageHeaderBytes
}

// parsePageHeader reads the header at the beginning of b, which must hold
// pageHeaderLen bytes. It checks what needs no context.
func parsePageHeader(b []byte) (pageHeader, error) {
	h := pageHeader{
		magic: Magic(binary.LittleEndian.Uint16(b)), flags: binary.LittleEndian.Uint16(b[2:]), timeline: Timeline(binary.LittleEndian.Uint32(b[4:])),
		at: Position(binary.LittleEndian.Uint64(b[8:])), remaining: binary.LittleEndian.Uint32(b[16:]),
	}
	if h.magic == 0 && h.flags == 0 && h.at == 0 {
		return h, errNothingWritten
	}
	if err := h.magic.check(); err != nil {
		return h, err
	}
	if unknown := h.flags &^ pageFlagsKnown; unknown != 0 {
		return h, fmt.Errorf("%w: WAL page at %v: flags %04X", logcore.ErrUnsupportedVersion, h.at, unknown)
	}
	if h.flags&pageLongHeader != 0 {
		if len(b) < longPageHeaderBytes {
			return h, fmt.Errorf("long header on a page inside a segment")
		}
		h.systemID, h.segmentBytes = binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint32(b[32:])
		if pageBytes := binary.LittleEndian.Uint32(b[36:]); pageBytes != PageBytes {
			return h, fmt.Errorf("%w: WAL pages of %d bytes; %d are read", logcore.ErrUnsupportedVersion, pageBytes, PageBytes)
		}
		if s := h.segmentBytes; s < SegmentBytesMin || s > SegmentBytesMax || s&(s-1) != 0 {
			return h, fmt.Errorf("segments of %d bytes", s)
		}
	}
	return h, nil
}
