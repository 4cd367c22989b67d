package pageserver

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// The value of a page's version; see FORMAT.md.
const (
	versionHeaderBytes = 12
	baseBytes          = 12 // follows the header of a version that builds on another one
	rangeHeaderBytes   = 4
	stepHeaderBytes    = 4
	// stepRanges marks a step that overwrites ranges; another one is a redo.
	stepRanges = 1 << 31
)

type versionKind uint8

const (
	kindImage versionKind = 1 // a whole page
	kindDelta versionKind = 2 // ranges over the version before
	kindRedo  versionKind = 3 // steps, some of them the decoder's, over what the flags say
	kindRun   versionKind = 4 // several changes, each with its place, over what the flags say
)

// Flags of a version, only of kindRedo and kindRun, and no two together.
const (
	flagInit  = 1 << 0 // the steps begin at a page of zeros
	flagImage = 1 << 1 // the steps begin at the image that the body begins with
	// flagBlind: the steps begin at what the page was, whatever that is: nobody looked.
	flagBlind  = 1 << 2
	knownFlags = flagInit | flagImage | flagBlind
)

// versionHeader begins the value of a version.
type versionHeader struct {
	kind       versionKind
	flags      uint8
	depth      uint16 // versions with changes since the image, this one included; 0 for an image
	chainBytes uint32 // bytes of their changes
	pageSize   uint32
	base       pos // of the version that this one changes, when hasBase
}

// hasBase reports whether the version builds on an older one.
func (h versionHeader) hasBase() bool {
	return h.kind == kindDelta || (h.kind == kindRedo || h.kind == kindRun) && h.flags == 0
}

// isBlind reports whether the version builds on whatever is below it.
func (h versionHeader) isBlind() bool { return h.flags&flagBlind != 0 }

// goesOn reports whether the page is not put together without what is below the version.
func (h versionHeader) goesOn() bool { return h.hasBase() || h.isBlind() }

// imageBytes is how much of the body is the image that the steps begin at.
func (h versionHeader) imageBytes() int {
	if h.flags&flagImage != 0 {
		return int(h.pageSize)
	}
	return 0
}

func (h versionHeader) bytes() int {
	if h.hasBase() {
		return versionHeaderBytes + baseBytes
	}
	return versionHeaderBytes
}

func appendVersionHeader(dst []byte, h versionHeader) []byte {
	dst = append(dst, byte(h.kind), h.flags)
	dst = binary.LittleEndian.AppendUint16(dst, h.depth)
	dst = binary.LittleEndian.AppendUint32(dst, h.chainBytes)
	dst = binary.LittleEndian.AppendUint32(dst, h.pageSize)
	if h.hasBase() {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(h.base.lsn))
		dst = binary.LittleEndian.AppendUint32(dst, h.base.seq)
	}
	return dst
}

// sealImage is the sealed value of an image.
func sealImage(key, page []byte) []byte {
	value := make([]byte, 0, versionHeaderBytes+len(page)+checksumBytes)
	value = appendVersionHeader(value, versionHeader{kind: kindImage, pageSize: uint32(len(page))})
	return seal(key, append(value, page...))
}

// step is one change of a page: ranges to overwrite, or, when ranges is nil, the data
// of a redo record.
type step struct {
	ranges []engine.Range
	redo   []byte
}

func appendRanges(dst []byte, ranges []engine.Range) []byte {
	for _, g := range ranges {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(g.Offset))
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(g.Data)))
		dst = append(dst, g.Data...)
	}
	return dst
}

func rangesBytes(ranges []engine.Range) int {
	n := 0
	for _, g := range ranges {
		n += rangeHeaderBytes + len(g.Data)
	}
	return n
}

// appendSteps writes the body of a redo version.
func appendSteps(dst []byte, steps []step) []byte {
	for _, s := range steps {
		if s.ranges != nil {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(rangesBytes(s.ranges))|stepRanges)
			dst = appendRanges(dst, s.ranges)
			continue
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s.redo)))
		dst = append(dst, s.redo...)
	}
	return dst
}

func stepsBytes(steps []step) int {
	n := 0
	for _, s := range steps {
		n += stepHeaderBytes + rangesBytes(s.ranges) + len(s.redo)
	}
	return n
}

// decodeVersion verifies a sealed value and returns its header and body; the body
// points into sealed.
func decodeVersion(key, sealed []byte) (versionHeader, []byte, error) {
	var h versionHeader
	value, err := unseal(key, sealed, -1)
	if err != nil {
		return h, nil, err
	}
	if len(value) < versionHeaderBytes {
		return h, nil, corruptValue(key, "version of %d bytes is shorter than its header", len(value))
	}
	if value[1]&^knownFlags != 0 || value[0] > byte(kindRun) {
		return h, nil, fmt.Errorf("%w: page version of kind %d with flags %#x: upgrade, or remove the page server's directory to build it again", logcore.ErrUnsupportedVersion, value[0], value[1])
	}
	h.kind, h.flags = versionKind(value[0]), value[1]
	h.depth = binary.LittleEndian.Uint16(value[2:])
	h.chainBytes = binary.LittleEndian.Uint32(value[4:])
	h.pageSize = binary.LittleEndian.Uint32(value[8:])
	if h.pageSize == 0 || h.pageSize > engine.PageSizeMax {
		return h, nil, corruptValue(key, "page size %d", h.pageSize)
	}
	body, err := h.checkBody(key, value[versionHeaderBytes:])
	return h, body, err
}

// checkBody makes sure that the body can be applied without leaving its bounds. It
// reads the base and returns what follows it.
func (h *versionHeader) checkBody(key, body []byte) ([]byte, error) {
	if h.hasBase() && len(body) >= baseBytes {
		h.base = pos{logcore.LSN(binary.LittleEndian.Uint64(body)), binary.LittleEndian.Uint32(body[8:])}
		body = body[baseBytes:]
	} else if h.hasBase() {
		return nil, corruptValue(key, "body of %d bytes lacks the version that it changes", len(body))
	}
	switch {
	case h.kind == kindImage && len(body) == int(h.pageSize) && h.depth == 0 && h.flags == 0:
		return body, nil
	case h.kind == kindDelta && h.depth > 0 && h.flags == 0:
		return body, checkRanges(key, body, h.pageSize)
	case (h.kind == kindRedo || h.kind == kindRun) && h.depth > 0 && h.flags&(h.flags-1) == 0:
		if len(body) < h.imageBytes() {
			return nil, corruptValue(key, "body of %d bytes lacks its image of %d", len(body), h.pageSize)
		}
		steps := body[h.imageBytes():]
		if h.kind == kindRun {
			if len(key) < posBytes {
				return nil, corruptValue(key, "a run under a key of %d bytes", len(key))
			}
			return body, checkRun(key, steps, decodePos(key[len(key)-posBytes:]), h.pageSize)
		}
		return body, checkSteps(key, steps, h.pageSize)
	}
	return nil, corruptValue(key, "kind %d, flags %#x, depth %d, body of %d bytes for a page of %d", h.kind, h.flags, h.depth, len(body), h.pageSize)
}

func checkSteps(key, body []byte, pageSize uint32) error {
	for len(body) > 0 {
		if len(body) < stepHeaderBytes {
			return corruptValue(key, "step header cut")
		}
		head := binary.LittleEndian.Uint32(body)
		n := int(head &^ stepRanges)
		body = body[stepHeaderBytes:]
		if n > len(body) {
			return corruptValue(key, "step of %d bytes, %d are left", n, len(body))
		}
		if head&stepRanges != 0 {
			if err := checkRanges(key, body[:n], pageSize); err != nil {
				return err
			}
		}
		body = body[n:]
	}
	return nil
}

// checkRanges makes sure that applyRanges stays inside its bounds. Ranges of a stored
// delta may overlap: it can be the sum of several records of one transaction.
func checkRanges(key, body []byte, pageSize uint32) error {
	for at := 0; at < len(body); {
		if len(body)-at < rangeHeaderBytes {
			return corruptValue(key, "range header cut at %d", at)
		}
		offset, n := int(binary.LittleEndian.Uint16(body[at:])), int(binary.LittleEndian.Uint16(body[at+2:]))
		at += rangeHeaderBytes + n
		if n == 0 || at > len(body) || offset+n > int(pageSize) {
			return corruptValue(key, "range [%d,+%d) leaves the page or the value", offset, n)
		}
	}
	return nil
}

// applyRanges applies ranges that checkRanges accepted.
func applyRanges(page, body []byte) {
	for len(body) > 0 {
		offset, n := int(binary.LittleEndian.Uint16(body)), int(binary.LittleEndian.Uint16(body[2:]))
		copy(page[offset:], body[rangeHeaderBytes:rangeHeaderBytes+n])
		body = body[rangeHeaderBytes+n:]
	}
}

// applySteps applies steps that checkSteps accepted. An error is the decoder's.
func applySteps(decoder engine.Decoder, page, body []byte) error {
	for len(body) > 0 {
		head := binary.LittleEndian.Uint32(body)
		n := int(head &^ stepRanges)
		data := body[stepHeaderBytes : stepHeaderBytes+n : stepHeaderBytes+n]
		if head&stepRanges != 0 {
			applyRanges(page, data)
		} else if err := redo(decoder, page, data); err != nil {
			return err
		}
		body = body[stepHeaderBytes+n:]
	}
	return nil
}

// redo lets the decoder apply a redo record.
func redo(decoder engine.Decoder, page, data []byte) error {
	if decoder == nil {
		return &redoError{fmt.Errorf("%w: this page server has no decoder for the log's payloads", logcore.ErrPayloadFormat)}
	}
	if err := decoder.Redo(page, data); err != nil {
		return &redoError{err}
	}
	return nil
}

// redoError is a page that the decoder cannot bring forward: the log, or the decoder,
// is at fault, not the store; to build the page again would not help.
type redoError struct{ err error }

func (e *redoError) Error() string { return "the engine's redo failed: " + e.err.Error() }
func (e *redoError) Unwrap() error { return e.err }

func isRedoError(err error) bool {
	var redo *redoError
	return errors.As(err, &redo)
}
