package waldump

import (
	"fmt"

	"github.com/logcore/logcore/engine/postgres/wal"
)

const (
	ginIsData    = 1 << 0
	ginIsLeaf    = 1 << 1
	ginSplitRoot = 1 << 2
)

// appendGinImage writes that a record's first block comes as an image; false when it doesn't.
func appendGinImage(dst []byte, r *wal.Record) ([]byte, bool) {
	b := r.Block(0)
	switch {
	case b == nil || !b.HasImage:
		return dst, false
	case b.Image.Apply:
		return append(dst, " (full page image)"...), true
	default:
		return append(dst, " (full page image, for WAL verification)"...), true
	}
}

func blockData(r *wal.Record, id uint8) *reader {
	if b := r.Block(id); b != nil {
		return &reader{wal.Fields{B: b.Data}}
	}
	return &reader{}
}

func appendGinInsert(dst []byte, r *wal.Record) []byte {
	f := from(r, 0)
	flags := f.U16()
	dst = fmt.Appendf(dst, "isdata: %c isleaf: %c", trueFalse(flags&ginIsData != 0), trueFalse(flags&ginIsLeaf != 0))
	if flags&ginIsLeaf == 0 {
		dst = fmt.Appendf(dst, " children: %d/%d", splitBlock(f.Take(4)), splitBlock(f.Take(4)))
	}
	dst, ok := appendGinImage(dst, r)
	if ok {
		return dst
	}
	d := blockData(r, 0)
	switch {
	case flags&ginIsData == 0:
		d.U16()
		return fmt.Appendf(dst, " isdelete: %c", trueFalse(d.U8() != 0))
	case flags&ginIsLeaf != 0:
		return appendGinRecompress(dst, d)
	}
	d.U16()
	child, key := splitBlock(d.Take(4)), splitBlock(d.Take(4))
	return fmt.Appendf(dst, " pitem: %d-%d/%d", child, key, d.U16())
}

func appendGinSplit(dst []byte, r *wal.Record) []byte {
	flags := from(r, 24).U16()
	return fmt.Appendf(dst, "isrootsplit: %c isdata: %c isleaf: %c", trueFalse(flags&ginSplitRoot != 0), trueFalse(flags&ginIsData != 0), trueFalse(flags&ginIsLeaf != 0))
}

func appendGinVacuumLeaf(dst []byte, r *wal.Record) []byte {
	dst, ok := appendGinImage(dst, r)
	if ok {
		return dst
	}
	return appendGinRecompress(dst, blockData(r, 0))
}

// appendGinRecompress writes what happens to the segments of a posting tree's leaf.
func appendGinRecompress(dst []byte, d *reader) []byte {
	const (
		actionDelete   = 1
		actionInsert   = 2
		actionReplace  = 3
		actionAddItems = 4

		postingListHeaderBytes = 8
		itemBytes              = 6
	)
	n := int(d.U16())
	dst = fmt.Appendf(dst, " %d segments:", n)
	for ; n > 0 && !d.Short; n-- {
		segment, action := d.U8(), d.U8()
		switch action {
		case actionAddItems:
			items := int(d.U16())
			d.Take(items * itemBytes)
			dst = fmt.Appendf(dst, " %d (add %d items)", segment, items)
		case actionDelete:
			dst = fmt.Appendf(dst, " %d (delete)", segment)
		case actionInsert, actionReplace:
			bytes := int(u16(d.Take(postingListHeaderBytes)[6:]))
			d.Take(bytes + bytes&1)
			name := "insert"
			if action == actionReplace {
				name = "replace"
			}
			dst = fmt.Appendf(dst, " %d (%s)", segment, name)
		default:
			return fmt.Appendf(dst, " %d unknown action %d ???", segment, action)
		}
	}
	return dst
}
