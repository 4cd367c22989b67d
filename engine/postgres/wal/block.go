package wal

import "fmt"

// parseBlock reads one block reference and returns how many bytes of payload follow
// for it behind the headers.
func (r *Record) parseBlock(c *Fields, id uint8) (payload int, err error) {
	var before *Block
	if n := len(r.Blocks); n > 0 {
		before = &r.Blocks[n-1]
		if id <= before.ID {
			return 0, fmt.Errorf("block reference %d behind %d", id, before.ID)
		}
	}
	flags := c.U8()
	b := Block{ID: id, Fork: Fork(flags & blockForkMask), WillInit: flags&blockWillInit != 0, HasImage: flags&blockHasImage != 0, HasData: flags&blockHasData != 0}
	b.dataBytes = int(c.U16())
	if b.HasData != (b.dataBytes > 0) {
		return 0, fmt.Errorf("block reference %d: flags %02X with %d bytes of data", id, flags, b.dataBytes)
	}
	if b.HasImage {
		if err := b.parseImage(c); err != nil {
			return 0, fmt.Errorf("block reference %d: %w", id, err)
		}
	}
	switch {
	case flags&blockSameRel == 0:
		b.Relation = c.Relation()
	case before == nil:
		return 0, fmt.Errorf("block reference %d: the same relation as the one before, but it is the first", id)
	default:
		b.Relation = before.Relation
	}
	b.Number = c.U32()
	if b.Fork > ForkInit {
		return 0, fmt.Errorf("block reference %d: fork %d", id, b.Fork)
	}
	r.Blocks = append(r.Blocks, b)
	return b.imageBytes + b.dataBytes, nil
}

// parseImage reads the header of a page image.
func (b *Block) parseImage(c *Fields) error {
	b.imageBytes = int(c.U16())
	hole, info := c.U16(), c.U8()
	m := Image{Apply: info&imageApply != 0, HoleOffset: hole, Compression: Compression(info & imageCompressed)}
	if unknown := info &^ (imageHasHole | imageApply | imageCompressed); unknown != 0 {
		return fmt.Errorf("page image with flags %02X", info)
	}
	switch m.Compression {
	case Uncompressed:
		if b.imageBytes > PageBytes {
			return fmt.Errorf("page image of %d bytes", b.imageBytes)
		}
		m.HoleBytes = uint16(PageBytes - b.imageBytes)
	case PGLZ, LZ4, Zstd:
		if info&imageHasHole != 0 {
			m.HoleBytes = c.U16()
		}
		if b.imageBytes >= PageBytes {
			return fmt.Errorf("compressed page image of %d bytes", b.imageBytes)
		}
	default:
		return fmt.Errorf("page image with flags %02X: more than one compression", info)
	}
	if hasHole := info&imageHasHole != 0; hasHole != (m.HoleBytes > 0) || !hasHole && m.HoleOffset != 0 || int(m.HoleOffset)+int(m.HoleBytes) > PageBytes {
		return fmt.Errorf("page image of %d bytes with flags %02X and a hole of %d bytes at %d", b.imageBytes, info, m.HoleBytes, m.HoleOffset)
	}
	b.Image = m
	return nil
}
