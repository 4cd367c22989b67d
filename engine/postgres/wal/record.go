package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Relation names a relation's files: tablespace, database and file number, in the
// order in which PostgreSQL writes them (RelFileNode).
type Relation struct{ Tablespace, Database, File uint32 }

// Fork is one of the files of a relation.
type Fork uint8

// The forks of a relation.
const (
	ForkMain Fork = 0
	ForkFSM  Fork = 1 // free space map
	ForkVM   Fork = 2 // visibility map
	ForkInit Fork = 3 // what an unlogged relation begins with after a crash
)

// String returns PostgreSQL's name of the fork.
func (f Fork) String() string {
	switch f {
	case ForkMain:
		return "main"
	case ForkFSM:
		return "fsm"
	case ForkVM:
		return "vm"
	case ForkInit:
		return "init"
	}
	return fmt.Sprintf("fork%d", uint8(f))
}

// Block is one page that a record changes, and what the record has for it.
type Block struct {
	ID       uint8 // by which the resource manager knows it, 0 to 32
	Fork     Fork
	WillInit bool // the page is made anew: what it held before doesn't matter
	Relation Relation
	Number   uint32 // of the page in the fork, from 0

	HasImage bool
	Image    Image
	HasData  bool
	Data     []byte // for the resource manager

	imageBytes, dataBytes int
}

// Record is one WAL record. Its slices point into the bytes that the Decoder was fed or
// into its own buffer: they are valid until the Decoder's next call.
type Record struct {
	Start, End Position // [Start, End) is the record, with its padding and the page headers inside
	Prev       Position // where the record before begins
	Length     uint32   // in bytes, without padding and page headers
	XID        uint32   // of the transaction; 0 when it is of none
	Manager    Manager
	// Info is the manager's: its upper four bits say what the record does. Of the lower
	// ones, InfoSpecialRelUpdate and InfoCheckConsistency have a meaning to all managers.
	Info   uint8
	Blocks []Block // by ascending ID
	Data   []byte  // main data

	Origin     uint16 // of logical replication; 0 when there is none
	TopXID     uint32 // XID's top-level transaction, told once; 0 otherwise
	HasOrigin  bool
	imageBytes int
	body       []byte // all of a decoded record behind the fixed part
}

// What the lower bits of Record.Info say.
const (
	InfoSpecialRelUpdate = 0x01
	InfoCheckConsistency = 0x02 // blocks carry the page as it is after the record, for checking
	infoMask             = 0x0F
)

// Op returns what the manager put into Info.
func (r *Record) Op() uint8 { return r.Info &^ infoMask }

// DataLength returns the record's length without its page images.
func (r *Record) DataLength() uint32 { return r.Length - uint32(r.imageBytes) }

// Block returns the block of that id, nil when the record has none.
func (r *Record) Block(id uint8) *Block {
	for i := range r.Blocks {
		if r.Blocks[i].ID == id {
			return &r.Blocks[i]
		}
	}
	return nil
}

// RecordSpanMax is how many bytes of WAL the longest record can take, the headers of its pages included.
const RecordSpanMax = recordBytesMax + (recordBytesMax/(PageBytes-longPageHeaderBytes)+2)*longPageHeaderBytes

const (
	recordHeaderBytes = 24
	// recordBytesMax is what PostgreSQL can allocate for a record, and so what it can
	// ever have written or could read back.
	recordBytesMax = 1<<30 - 1

	blockIDMax       = 32
	blockIDDataShort = 255
	blockIDDataLong  = 254
	blockIDOrigin    = 253
	blockIDTopXID    = 252

	blockForkMask = 0x0F
	blockHasImage = 0x10
	blockHasData  = 0x20
	blockWillInit = 0x40
	blockSameRel  = 0x80
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC32C of a whole record: of all behind the header, then of the
// header up to the checksum itself.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, b[recordHeaderBytes:]), castagnoli, b[:20])
}

// parseHeader reads the fixed part of a record.
func (r *Record) parseHeader(b []byte) {
	r.Length, r.XID, r.Prev = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), Position(binary.LittleEndian.Uint64(b[8:]))
	r.Info, r.Manager = b[16], Manager(b[17])
}

// parseBody reads all that is behind the fixed part of a whole record whose checksum is right.
func (r *Record) parseBody(body []byte) error {
	r.Blocks, r.Data = r.Blocks[:0], nil
	r.Origin, r.HasOrigin, r.TopXID, r.imageBytes, r.body = 0, false, 0, 0, body
	c := Fields{B: body}
	payload, dataBytes := 0, 0
	for len(c.B) > payload {
		id := c.U8()
		switch {
		case id == blockIDDataShort:
			dataBytes = int(c.U8())
			payload += dataBytes
		case id == blockIDDataLong:
			dataBytes = int(c.U32())
			payload += dataBytes
		case id == blockIDOrigin:
			r.Origin, r.HasOrigin = c.U16(), true
		case id == blockIDTopXID:
			r.TopXID = c.U32()
		case id <= blockIDMax:
			n, err := r.parseBlock(&c, id)
			if err != nil {
				return err
			}
			payload += n
		default:
			return fmt.Errorf("block reference %d; the highest is %d", id, blockIDMax)
		}
		if id == blockIDDataShort || id == blockIDDataLong {
			break // main data is always last
		}
		if c.Short {
			break
		}
	}
	if c.Short || len(c.B) != payload {
		return fmt.Errorf("its headers announce %d bytes, %d follow", payload, len(c.B))
	}
	for i := range r.Blocks {
		bl := &r.Blocks[i]
		if bl.HasImage {
			bl.Image.Bytes = c.Take(bl.imageBytes)
			r.imageBytes += bl.imageBytes
		}
		if bl.HasData {
			bl.Data = c.Take(bl.dataBytes)
		}
	}
	r.Data = c.Take(dataBytes)
	return nil
}
