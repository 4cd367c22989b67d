package catalog

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

// Op says what a Command does. The numbers are durable.
type Op uint8

// The commands.
const (
	// OpCreate creates Log under Name; with Parent set as a branch of it at LSN. Its epochs begin above Epoch.
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
	// OpShards says that the cluster has Shards shards. This one and the next four are the directory's,
	// in shard 0.
	OpShards Op = 14
	// OpEnter enters a new log, Name: a root, that Shard is to create, or a branch of the log called Writer, of the
	// family of Root, at LSN; with Durability.
	OpEnter Op = 15
	// OpMove says that the family of the root Name is to go to Shard, as its move Gen.
	OpMove Op = 16
	// OpSettle says that the log Name is where move Gen took it, or was created, as its shard showed at the index LSN; when
	// the directory does not know of that move, that it took it to Shard.
	OpSettle Op = 17
	// OpDrop gives up the name of a branch that is gone, or was never created, or of a log that a restore has lost. No log that its shard deleted had a higher
	// epoch than Epoch.
	OpDrop Op = 18
	// OpOwn tells a shard, before it has logs, which one it is.
	OpOwn Op = 19
	// OpLeave ends the family of the root Log in this shard, as its move Gen, which takes it to Shard: no entry of it
	// follows here.
	OpLeave Op = 20
	// OpPlace begins the family of the root Log in this shard, as its move Gen, with the catalog Placed.
	OpPlace Op = 21
)

var opNames = [...]string{OpCreate: "create", OpOpenWriter: "open-writer", OpCloseWriter: "close-writer",
	OpTruncate: "truncate", OpIncarnation: "incarnation", OpNode: "node", OpPageServers: "page-servers", OpDelete: "delete", OpReset: "reset",
	OpRetention: "retention", OpHorizon: "horizon", OpLease: "lease", OpHold: "hold", OpShards: "shards", OpEnter: "enter", OpMove: "move", OpSettle: "settle",
	OpDrop: "drop", OpOwn: "own", OpLeave: "leave", OpPlace: "place"}

// opMax is the last command that this build knows.
const opMax = OpPlace

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
	Gen           uint64           // OpMove, OpSettle, OpDrop, OpLeave, OpPlace
	Shard         logcore.ShardID  // OpEnter, OpMove, OpOwn, OpLeave
	Shards        uint32           // OpShards
	Root          string           // OpEnter of a branch
	Placed        string           // OpPlace: a checkpoint of the family's catalog
}

// rest is what stands behind the names.
func (c Command) rest() string {
	if c.Op == OpEnter {
		return c.Root
	}
	return c.Placed
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
	b := make([]byte, 0, commandHeaderBytes+len(c.Name)+len(c.Writer)+len(c.PayloadFormat)+len(c.rest()))
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
	third := c.Incarnation
	switch {
	case c.Op == OpShards:
		third = uint64(c.Shards)
	case c.Op == OpDrop:
		first, second, third = c.Gen, uint64(c.Epoch), uint64(c.Shard)
	case c.Op > OpShards:
		first, third = c.Gen, uint64(c.Shard)
	}
	for _, v := range []uint64{subject, first, uint64(c.LSN), second, third} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Name)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Writer)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.rest())))
	b = append(b, c.Name...)
	b = append(b, c.Writer...)
	b = append(b, c.PayloadFormat...)
	return append(b, c.rest()...)
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
	restBytes := int(s.u32())
	third := c.Incarnation
	switch {
	case c.Op == OpShards:
		c.Shards, c.Incarnation = uint32(third), 0
	case c.Op > OpShards && c.Op <= opMax:
		c.Gen, c.Shard, c.Epoch, c.Incarnation = uint64(c.Epoch), logcore.ShardID(third), 0, 0
	}
	switch c.Op {
	case OpDrop:
		c.Epoch, c.Parent = logcore.Epoch(c.Parent), 0
	case OpNode, OpPageServers:
		c.Node, c.Log = uint64(c.Log), 0
	case OpRetention:
		c.WindowMs, c.WindowBytes, c.Epoch, c.Parent = uint64(c.Epoch), uint64(c.Parent), 0, 0
	case OpLease:
		c.Lease, c.TTLMs, c.Epoch, c.Parent = uint64(c.Epoch), uint64(c.Parent), 0, 0
	}
	c.Name, c.Writer = string(s.bytes(nameBytes)), string(s.bytes(writerBytes))
	c.PayloadFormat = string(s.bytes(formatBytes))
	rest := string(s.bytes(restBytes))
	switch c.Op {
	case OpEnter:
		c.Root = rest
	case OpPlace:
		c.Placed = rest
	}
	switch {
	case s.bad || len(s.b) != 0 || rest != c.rest() && c.Op <= opMax:
		return Command{}, corrupt("command of %d bytes with names of %d, %d and %d, and %d more", len(payload), nameBytes, writerBytes, formatBytes, restBytes)
	case c.Op >= OpShards && c.Op <= opMax && third > math.MaxUint32:
		return Command{}, corrupt("command %v with shard %d", c.Op, third)
	case len(c.Root) > logcore.LogNameMax || c.Op == OpEnter && writerBytes > logcore.LogNameMax:
		return Command{}, corrupt("command: names of %d and %d bytes", writerBytes, len(c.Root))
	case nameBytes > logcore.LogNameMax || writerBytes > WriterNameMax || formatBytes > PayloadFormatMax:
		return Command{}, corrupt("command: names of %d, %d and %d bytes", nameBytes, writerBytes, formatBytes)
	case c.Durability != DurabilityQuorum && c.Op != OpCreate && c.Op != OpEnter:
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
