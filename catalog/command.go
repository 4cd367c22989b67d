package catalog

import (
	"encoding/binary"
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

// Op says what a Command does. The numbers are durable.
type Op uint8

// The commands.
const (
	// OpCreate creates Log under Name; with Parent set as a branch of it at LSN.
	OpCreate Op = 1
	// OpOpenWriter moves Log to Epoch, held by Writer, and starts its sequence afresh.
	// PayloadFormat, when set, becomes the log's if it has none.
	OpOpenWriter Op = 2
	// OpCloseWriter ends Epoch of Log: nothing is appended under it any more.
	OpCloseWriter Op = 3
	// OpTruncate gives up Log's entries below LSN.
	OpTruncate Op = 4
	// OpIncarnation gives the shard its Incarnation. It ends every epoch: they were
	// granted by another one, which may have granted later ones that are lost; and forgets the nodes.
	OpIncarnation Op = 5
	// OpNode says where Node is: Name is the address of its services, Writer that for the
	// other nodes. Both empty: it is no part of the cluster any more.
	OpNode Op = 6
	// OpPageServers changes who serves the pages of which stripes, by Stripes.
	OpPageServers Op = 7
	// OpDelete takes the branch Log out of the catalog.
	OpDelete Op = 8
	// OpReset replaces the branch Log by a new one of its name that forks off the same parent at LSN.
	OpReset Op = 9
	// OpRetention says for how long (WindowMs) and how many bytes of Log (WindowBytes) its history is kept.
	OpRetention Op = 10
	// OpHorizon gives up what only readers of Log below LSN can see.
	OpHorizon Op = 11
	// OpLease keeps LSN of Log readable for TTLMs from now on, under the id Lease, for
	// Writer, or gives the lease back when TTLMs is 0.
	OpLease Op = 12
	// OpHold keeps the history of Log from LSN on, under Name, or lifts the hold when LSN is 0.
	OpHold Op = 13
)

var opNames = [...]string{OpCreate: "create", OpOpenWriter: "open-writer", OpCloseWriter: "close-writer",
	OpTruncate: "truncate", OpIncarnation: "incarnation", OpNode: "node", OpPageServers: "page-servers", OpDelete: "delete", OpReset: "reset",
	OpRetention: "retention", OpHorizon: "horizon", OpLease: "lease", OpHold: "hold"}

// opMax is the last command that this build knows.
const opMax = OpHold

// String returns the command's name, or its number when it has none.
func (o Op) String() string {
	if o >= OpCreate && o <= opMax {
		return opNames[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Command is the payload of a KindCatalog entry. Fields that Op does not name are zero.
type Command struct {
	Op          Op
	Log         logcore.LogID
	Epoch       logcore.Epoch
	LSN         logcore.LSN // OpCreate, OpReset: where the branch forks; OpTruncate: the first LSN that stays; and OpHorizon, OpLease, OpHold
	Parent      logcore.LogID
	Incarnation uint64
	Node        uint64 // OpNode
	Name        string // of the log
	Writer      string // of the writer, for people
	// PayloadFormat is what the writer's payloads are; empty: not said.
	PayloadFormat string
	Durability    Durability       // OpCreate
	Stripes       stripemap.Change // OpPageServers
	WindowMs      uint64           // OpRetention
	WindowBytes   uint64           // OpRetention
	Lease         uint64           // OpLease
	TTLMs         uint64           // OpLease
}

// Encode returns the command's bytes. Name, Writer and PayloadFormat must be within
// their limits.
func (c Command) Encode() []byte {
	if c.Op == OpPageServers {
		c = c.packStripes()
	}
	if len(c.Name) > logcore.LogNameMax || len(c.Writer) > WriterNameMax || len(c.PayloadFormat) > PayloadFormatMax {
		panic(fmt.Sprintf("catalog: names of %d, %d and %d bytes were not refused before", len(c.Name), len(c.Writer), len(c.PayloadFormat)))
	}
	b := make([]byte, 0, commandHeaderBytes+len(c.Name)+len(c.Writer)+len(c.PayloadFormat))
	b = binary.LittleEndian.AppendUint16(b, commandMagic)
	var flags byte
	if c.Durability == DurabilityArchive {
		flags |= commandFlagArchive
	}
	if c.Stripes.Draining {
		flags |= commandFlagDraining
	}
	b = append(b, catalogVersion, catalogVersion, flags, byte(c.Op))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.PayloadFormat)))
	subject, first, second := uint64(c.Log), uint64(c.Epoch), uint64(c.Parent)
	switch c.Op {
	case OpNode, OpPageServers:
		subject = c.Node
	case OpRetention:
		first, second = c.WindowMs, c.WindowBytes
	case OpLease:
		first, second = c.Lease, c.TTLMs
	}
	for _, v := range []uint64{subject, first, uint64(c.LSN), second, c.Incarnation} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Name)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Writer)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, c.Name...)
	b = append(b, c.Writer...)
	return append(b, c.PayloadFormat...)
}

// DecodeCommand reads the payload of a KindCatalog entry. Errors wrap
// logcore.ErrCorrupt or, also for a command this build does not know,
// logcore.ErrUnsupportedVersion.
func DecodeCommand(payload []byte) (Command, error) {
	s := source{b: payload}
	if magic := s.u16(); s.bad || magic != commandMagic {
		return Command{}, corrupt("command magic %#04x in %d bytes", magic, len(payload))
	}
	version, min := s.u8(), s.u8()
	if err := checkVersion("command", uint16(version), uint16(min), catalogVersion); err != nil {
		return Command{}, err
	}
	flags := s.u8()
	if err := unknownFlags("command", uint32(flags), commandFlagsKnown); err != nil {
		return Command{}, err
	}
	c := Command{Op: Op(s.u8())}
	if flags&commandFlagArchive != 0 {
		c.Durability = DurabilityArchive
	}
	formatBytes := int(s.u16())
	c.Log, c.Epoch, c.LSN = logcore.LogID(s.u64()), logcore.Epoch(s.u64()), logcore.LSN(s.u64())
	c.Parent, c.Incarnation = logcore.LogID(s.u64()), s.u64()
	nameBytes, writerBytes := int(s.u16()), int(s.u16())
	reserved := s.u32()
	switch c.Op {
	case OpNode, OpPageServers:
		c.Node, c.Log = uint64(c.Log), 0
	case OpRetention:
		c.WindowMs, c.WindowBytes, c.Epoch, c.Parent = uint64(c.Epoch), uint64(c.Parent), 0, 0
	case OpLease:
		c.Lease, c.TTLMs, c.Epoch, c.Parent = uint64(c.Epoch), uint64(c.Parent), 0, 0
	}
	c.Name, c.Writer = string(s.bytes(nameBytes)), string(s.bytes(writerBytes))
	c.PayloadFormat = string(s.bytes(formatBytes))
	switch {
	case s.bad || len(s.b) != 0 || reserved != 0:
		return Command{}, corrupt("command of %d bytes with names of %d, %d and %d, reserved %#x", len(payload), nameBytes, writerBytes, formatBytes, reserved)
	case nameBytes > logcore.LogNameMax || writerBytes > WriterNameMax || formatBytes > PayloadFormatMax:
		return Command{}, corrupt("command: names of %d, %d and %d bytes", nameBytes, writerBytes, formatBytes)
	case c.Durability != DurabilityQuorum && c.Op != OpCreate:
		return Command{}, corrupt("command %v with durability %v", c.Op, c.Durability)
	case c.Op == 0:
		return Command{}, corrupt("command 0")
	case c.Op > opMax:
		return Command{}, fmt.Errorf("%w: catalog command %d: use a newer build", logcore.ErrUnsupportedVersion, c.Op)
	case flags&commandFlagDraining != 0 && c.Op != OpPageServers:
		return Command{}, corrupt("command %v of a page server that is drained", c.Op)
	case c.Op == OpPageServers:
		return c.unpackStripes(flags&commandFlagDraining != 0)
	}
	return c, nil
}
