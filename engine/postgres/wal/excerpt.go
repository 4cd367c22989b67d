package wal

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
)

// excerptHeaderBytes is the fixed part of an excerpt: manager, info, block, 0, XID (4), End (8), End-Start (4).
const excerptHeaderBytes = 20

// AppendExcerpt appends to dst what redo of the block at index i of r.Blocks needs: the record as in the log, without the other
// blocks' images and data, and, when image says that redo takes the block's image, without all but that. Otherwise the block's own image is
// left out. ParseExcerpt is the inverse.
func (r *Record) AppendExcerpt(dst []byte, i int, image bool) []byte {
	le := binary.LittleEndian
	dst = append(dst, byte(r.Manager), r.Info, r.Blocks[i].ID, 0)
	dst = le.AppendUint32(dst, r.XID)
	dst = le.AppendUint64(dst, uint64(r.End))
	dst = le.AppendUint32(dst, uint32(r.End-r.Start))
	if image {
		b := &r.Blocks[i]
		dst = b.appendHeader(dst, nil, true, false)
		return append(dst, b.Image.Bytes...)
	}
	if r.plain() {
		return append(dst, r.body...)
	}
	for j := range r.Blocks {
		var before *Block
		if j > 0 {
			before = &r.Blocks[j-1]
		}
		dst = r.Blocks[j].appendHeader(dst, before, false, j == i)
	}
	if n := len(r.Data); n > 255 {
		dst = le.AppendUint32(append(dst, blockIDDataLong), uint32(n))
	} else if n > 0 {
		dst = append(dst, blockIDDataShort, byte(n))
	}
	return append(append(dst, r.Blocks[i].Data...), r.Data...)
}

// plain reports whether the record's own bytes are the excerpt of its block: it has one, without an image, and nothing else but main data.
func (r *Record) plain() bool {
	if len(r.Blocks) != 1 || r.Blocks[0].HasImage || r.body == nil {
		return false
	}
	const blockHeader, relation, number = 4, 12, 4
	n := blockHeader + relation + number + len(r.Blocks[0].Data) + len(r.Data)
	switch {
	case len(r.Data) > 255:
		n += 5
	case len(r.Data) > 0:
		n += 2
	}
	return n == len(r.body)
}

// appendHeader appends a block reference with or without what the block has.
func (b *Block) appendHeader(dst []byte, before *Block, image, data bool) []byte {
	le := binary.LittleEndian
	flags, dataBytes := byte(b.Fork), 0
	if b.WillInit {
		flags |= blockWillInit
	}
	if image {
		flags |= blockHasImage
	}
	if data && b.HasData {
		flags |= blockHasData
		dataBytes = len(b.Data)
	}
	same := before != nil && before.Relation == b.Relation
	if same {
		flags |= blockSameRel
	}
	dst = le.AppendUint16(append(dst, b.ID, flags), uint16(dataBytes))
	if image {
		dst = b.Image.appendHeader(dst)
	}
	if !same {
		dst = le.AppendUint32(le.AppendUint32(le.AppendUint32(dst, b.Relation.Tablespace), b.Relation.Database), b.Relation.File)
	}
	return le.AppendUint32(dst, b.Number)
}

func (m *Image) appendHeader(dst []byte) []byte {
	le := binary.LittleEndian
	info := byte(m.Compression)
	if m.HoleBytes > 0 {
		info |= imageHasHole
	}
	if m.Apply {
		info |= imageApply
	}
	dst = append(le.AppendUint16(le.AppendUint16(dst, uint16(len(m.Bytes))), m.HoleOffset), info)
	if m.Compression != Uncompressed && m.HoleBytes > 0 {
		dst = le.AppendUint16(dst, m.HoleBytes)
	}
	return dst
}

// ParseExcerpt reads what AppendExcerpt wrote into r, whose Blocks are used again, and returns the block that it is about. Everything points
// into b. What is no excerpt is logcore.ErrCorrupt.
func ParseExcerpt(b []byte, r *Record) (*Block, error) {
	if len(b) < excerptHeaderBytes || b[3] != 0 {
		return nil, fmt.Errorf("%w: excerpt of a WAL record, of %d bytes", logcore.ErrCorrupt, len(b))
	}
	le := binary.LittleEndian
	r.Manager, r.Info, r.XID, r.End = Manager(b[0]), b[1], le.Uint32(b[4:]), Position(le.Uint64(b[8:]))
	r.Start, r.Prev, r.Length = r.End-Position(le.Uint32(b[16:])), 0, 0
	if err := r.parseBody(b[excerptHeaderBytes:]); err != nil {
		return nil, fmt.Errorf("%w: excerpt of the WAL record %v: %w", logcore.ErrCorrupt, r.Start, err)
	}
	block := r.Block(b[2])
	if block == nil {
		return nil, fmt.Errorf("%w: excerpt of the WAL record %v without its block %d", logcore.ErrCorrupt, r.Start, b[2])
	}
	return block, nil
}
