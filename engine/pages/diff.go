package pages

import (
	"bytes"
	"encoding/binary"

	"github.com/logcore/logcore/engine"
)

// joinGap is the longest run of equal bytes that is sent along rather than left
// out: a second range costs rangeHeaderBytes, and each range costs a copy when the
// page is put together, so a run of up to twice the header joins its neighbours.
const joinGap = 2 * rangeHeaderBytes

// Diff returns the ranges of page that differ from base, ascending, near ones joined;
// none when the two are equal. Both must have the same length, at most
// engine.PageSizeMax. The ranges point into page. A range can be as long as the
// page, so use Change to decide between a delta and an image.
func Diff(base, page []byte) []engine.Range {
	if len(base) != len(page) {
		panic("pages: Diff of pages of different sizes")
	}
	var ranges []engine.Range
	for at := firstDifference(base, page, 0); at < len(page); {
		end := endOfRange(base, page, at)
		ranges = append(ranges, engine.Range{Offset: uint32(at), Data: page[at:end:end]})
		at = firstDifference(base, page, end)
	}
	return ranges
}

// firstDifference returns the first index from on where a and b differ, len(a) when
// none does. It compares eight bytes at a time.
func firstDifference(a, b []byte, from int) int {
	for from+8 <= len(a) && binary.LittleEndian.Uint64(a[from:]) == binary.LittleEndian.Uint64(b[from:]) {
		from += 8
	}
	for from < len(a) && a[from] == b[from] {
		from++
	}
	return from
}

// endOfRange returns where a range that begins at a difference ends: before the
// first run of more than joinGap equal bytes.
func endOfRange(base, page []byte, start int) int {
	end := start + 1
	for i := end; i < len(page) && i-end <= joinGap; i++ {
		if base[i] != page[i] {
			end = i + 1
		}
	}
	return end
}

// Change returns the record that turns base into page, and whether there is one: a
// delta when it is smaller than an image, otherwise an image. A nil base means that
// the page's previous content is not known or that there was none: an image. The
// record's slices point into page.
func Change(space engine.Space, number uint32, base, page []byte) (engine.Record, bool) {
	r := engine.Record{Space: space, Op: engine.OpImage, Page: number, PageSize: uint32(len(page)), Data: page}
	if base == nil || len(base) != len(page) {
		return r, true
	}
	if bytes.Equal(base, page) {
		return engine.Record{}, false
	}
	if ranges := Diff(base, page); DeltaPays(ranges, len(page)) {
		r.Op, r.Data, r.Ranges = engine.OpDelta, nil, ranges
	}
	return r, true
}

// DeltaPays reports whether a delta of these ranges is worth it against an image of
// pageSize bytes: it takes at most half of one. Between half and a whole image the
// bytes saved are less than what every later read pays for one more delta.
func DeltaPays(ranges []engine.Range, pageSize int) bool {
	return len(ranges) > 0 && 2*rangesBytes(ranges) <= pageSize
}
