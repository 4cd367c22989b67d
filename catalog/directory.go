package catalog

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/logcore/logcore"
)

// Placement is what the directory knows of a log's name: in which shard it is, and to which it goes. The
// directory is part of shard 0's catalog. A log that was created in shard 0 and never moved is not in it:
// that its name is taken the shard knows anyway.
//
// A branch is where the root of its family is; Shard, Target and Gen are the root's then.
type Placement struct {
	Name string
	Root string // the name of the root; its own of a root
	// Gen counts the moves that were begun.
	Gen uint64
	// Shard is where it is; NoShard while it is created. Target is where it goes; NoShard when it stays.
	Shard, Target logcore.ShardID
	// Creating: a branch that is to be created, off Parent at BranchLSN.
	Creating  bool
	Parent    string
	BranchLSN logcore.LSN
	// Durability is what a log is created with.
	Durability Durability
	// Seen is the index in its shard at which it was known to be there.
	Seen logcore.LSN
}

// Settled reports that nothing is to be done.
func (p Placement) Settled() bool { return p.Target == logcore.NoShard && !p.Creating }

// At returns the shard to look in first.
func (p Placement) At() logcore.ShardID {
	if p.Shard != logcore.NoShard {
		return p.Shard
	}
	return p.Target
}

// IsRoot reports whether it is of a log that is no branch.
func (p Placement) IsRoot() bool { return p.Name == p.Root }

// directory is shard 0's; empty elsewhere.
type directory struct {
	shards  uint32 // how many there are; 0 = 1
	byName  map[string]*Placement
	pending map[string]struct{} // not settled; derived
}

func newDirectory() directory {
	return directory{byName: map[string]*Placement{}, pending: map[string]struct{}{}}
}

func (d directory) clone() directory {
	d.byName = maps.Clone(d.byName)
	for name, p := range d.byName {
		copied := *p
		d.byName[name] = &copied
	}
	d.pending = maps.Clone(d.pending)
	return d
}

func (d *directory) empty() bool { return d.shards == 0 && len(d.byName) == 0 }

// reserve is what an entry of the directory takes in a checkpoint at most.
const reservePlacement = 3*logcore.LogNameMax + 64

func (s *State) putPlacement(p Placement) {
	if s.dir.byName[p.Name] == nil {
		s.reserved += reservePlacement
	}
	s.dir.byName[p.Name] = &p
	delete(s.dir.pending, p.Name)
	if !p.Settled() {
		s.dir.pending[p.Name] = struct{}{}
	}
}

// Shards returns how many shards the cluster has.
func (s *State) Shards() int { return max(1, int(s.dir.shards)) }

// Placement returns what the directory knows of a log; false when that is nothing.
func (s *State) Placement(name string) (Placement, bool) {
	p := s.dir.byName[name]
	if p == nil {
		return Placement{}, false
	}
	out := *p
	if root := s.dir.byName[p.Root]; root != nil && !p.IsRoot() {
		out.Gen, out.Shard, out.Target = root.Gen, root.Shard, root.Target
	}
	return out, true
}

// Pending returns what the directory has that is not settled, by name: roots that move or are created, and
// branches that are created.
func (s *State) Pending() []Placement {
	if len(s.dir.pending) == 0 {
		return nil
	}
	out := make([]Placement, 0, len(s.dir.pending))
	for _, name := range slices.Sorted(maps.Keys(s.dir.pending)) {
		p, _ := s.Placement(name)
		out = append(out, p)
	}
	return out
}

// Placements returns the whole directory, by name.
func (s *State) Placements() []Placement {
	out := make([]Placement, 0, len(s.dir.byName))
	for name := range s.dir.byName {
		p, _ := s.Placement(name)
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Placement) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (s *State) checkShards(c Command) error {
	if c.Shards <= uint32(s.Shards()) || c.Shards > ShardsMax {
		return fmt.Errorf("%w: %d shards after %d: there can be more, never fewer, and %d at most", logcore.ErrInvalid, c.Shards, s.Shards(), ShardsMax)
	}
	return nil
}

// knowsShard refuses a shard that the cluster does not have.
func (s *State) knowsShard(shard logcore.ShardID) error {
	if int64(shard) >= int64(s.Shards()) {
		return fmt.Errorf("%w: there is no shard %d: the cluster has %d, from 0 on", logcore.ErrInvalid, shard, s.Shards())
	}
	return nil
}

// nameTaken refuses a name that a log has.
func (s *State) nameTaken(name string) error {
	if _, here := s.names[name]; here || s.dir.byName[name] != nil {
		return fmt.Errorf("%w: %q", logcore.ErrLogExists, name)
	}
	return nil
}

// checkEnter says whether a new log may be entered: a root, which Shard is to create, or, with the name of its
// root in PayloadRoot, a branch.
func (s *State) checkEnter(c Command) error {
	if err := logcore.ValidateLogName(c.Name); err != nil {
		return err
	}
	if err := s.nameTaken(c.Name); err != nil {
		return err
	}
	if err := s.checkRoom(reservePlacement, "logs"); err != nil {
		return err
	}
	if c.Parent == 0 && c.Writer == "" {
		if c.Shard == 0 {
			return fmt.Errorf("%w: a log of shard 0 is created there", logcore.ErrInvalid)
		}
		return s.knowsShard(c.Shard)
	}
	root, known := s.Placement(c.Root)
	switch parent, there := s.Placement(c.Writer); {
	case !known || !root.IsRoot() || !there || parent.Root != root.Name || parent.Creating:
		return fmt.Errorf("%w: %q, to be branched", logcore.ErrLogNotFound, c.Writer)
	case !root.Settled():
		return fmt.Errorf("%w: log %q is on its way to shard %d: branch it once it is there", logcore.ErrOverloaded, root.Name, root.Target)
	case c.LSN == 0:
		return fmt.Errorf("%w: a branch of %q needs the LSN to fork at", logcore.ErrInvalid, c.Writer)
	}
	return nil
}

// checkBranch refuses a branch of a family that is not in this shard, or about to leave it, as the
// directory says if this is the shard that has it.
func (s *State) checkBranch(parent *Log) error {
	root, known := s.Placement(s.Root(parent).Name)
	if known && !root.Settled() {
		return fmt.Errorf("%w: log %q is on its way to shard %d: branch it once it is there", logcore.ErrOverloaded, root.Name, root.Target)
	}
	return nil
}

func (s *State) checkMove(c Command) error {
	if err := s.knowsShard(c.Shard); err != nil {
		return err
	}
	p, known := s.Placement(c.Name)
	if !known {
		l, err := s.ByName(c.Name)
		if err != nil {
			return err
		}
		if root := s.Root(l); root != l {
			return fmt.Errorf("%w: log %q is a branch: it moves with log %q", logcore.ErrInvalid, l.Name, root.Name)
		}
		if err := s.checkRoom(reservePlacement*len(s.Family(l)), "logs"); err != nil {
			return err
		}
		p = Placement{Name: l.Name, Root: l.Name, Gen: l.Gen, Shard: 0, Target: logcore.NoShard}
	}
	switch {
	case !p.IsRoot():
		return fmt.Errorf("%w: log %q is a branch: it moves with log %q", logcore.ErrInvalid, p.Name, p.Root)
	case !p.Settled():
		return fmt.Errorf("%w: log %q is on its way to shard %d: wait until it is there", logcore.ErrOverloaded, p.Name, p.Target)
	case p.Shard == c.Shard:
		return fmt.Errorf("%w: log %q is in shard %d already", logcore.ErrInvalid, p.Name, p.Shard)
	case c.Gen != p.Gen+1:
		return fmt.Errorf("%w: log %q: move %d after %d", logcore.ErrInvalid, p.Name, c.Gen, p.Gen)
	}
	return nil
}

func (s *State) checkSettle(c Command) error {
	p, known := s.Placement(c.Name)
	if known && p.IsRoot() && c.Gen > p.Gen { // the directory was restored and is behind its shards
		return s.knowsShard(c.Shard)
	}
	if !known || p.Settled() || p.Gen != c.Gen {
		return fmt.Errorf("%w: log %q is at move %d, not on its way under %d", logcore.ErrInvalid, c.Name, p.Gen, c.Gen)
	}
	return nil
}

// checkDrop says whether a name may be given up: a branch's, or a root's that a restore has lost with all its branches.
func (s *State) checkDrop(c Command) error {
	p, known := s.Placement(c.Name)
	if !known || p.Gen != c.Gen {
		return fmt.Errorf("%w: log %q is not at move %d", logcore.ErrInvalid, c.Name, c.Gen)
	}
	if !p.IsRoot() {
		return nil
	}
	if _, here := s.names[c.Name]; here || !p.Settled() {
		return fmt.Errorf("%w: log %q is here, or on its way: its name can't be given up", logcore.ErrInvalid, c.Name)
	}
	for _, branch := range s.dir.byName {
		if branch.Root == p.Name && branch.Name != p.Name {
			return fmt.Errorf("%w: log %q has the branch %q: its name can't be given up", logcore.ErrInvalid, p.Name, branch.Name)
		}
	}
	return nil
}

// applyDirectory carries out a command of the directory that Check accepted.
func (s *State) applyDirectory(c Command) {
	switch c.Op {
	case OpShards:
		s.dir.shards = c.Shards
	case OpEnter:
		p := Placement{Name: c.Name, Root: c.Name, Shard: logcore.NoShard, Target: c.Shard, Durability: c.Durability}
		if c.Writer != "" {
			p = Placement{Name: c.Name, Root: c.Root, Creating: true, Parent: c.Writer, BranchLSN: c.LSN, Durability: c.Durability, Shard: logcore.NoShard, Target: logcore.NoShard}
		}
		s.putPlacement(p)
	case OpMove:
		s.applyMove(c)
	case OpSettle:
		s.applySettle(c)
	case OpDrop:
		delete(s.dir.byName, c.Name)
		delete(s.dir.pending, c.Name)
		s.reserved -= reservePlacement
		s.histories.epochFloor = max(s.histories.epochFloor, c.Epoch)
	}
}

func (s *State) applyMove(c Command) {
	p := s.dir.byName[c.Name]
	if p == nil { // of this shard: the directory takes its family in
		root := s.logs[s.names[c.Name]]
		for _, l := range s.Family(root) {
			s.putPlacement(Placement{Name: l.Name, Root: root.Name, Shard: logcore.NoShard, Target: logcore.NoShard, Seen: s.LSN})
		}
		p = s.dir.byName[c.Name]
		p.Shard = 0
	} else if p.Shard == 0 { // back in this shard it may have got branches
		for _, l := range s.Family(s.logs[s.names[c.Name]]) {
			if s.dir.byName[l.Name] == nil {
				s.putPlacement(Placement{Name: l.Name, Root: p.Name, Shard: logcore.NoShard, Target: logcore.NoShard, Seen: s.LSN})
			}
		}
	}
	moved := *p
	moved.Gen, moved.Target = c.Gen, c.Shard
	s.putPlacement(moved)
}

func (s *State) applySettle(c Command) {
	p := *s.dir.byName[c.Name]
	if !p.IsRoot() {
		p.Creating, p.Parent, p.BranchLSN, p.Durability, p.Seen = false, "", 0, 0, c.LSN
		s.putPlacement(p)
		return
	}
	if c.Gen > p.Gen {
		p.Gen, p.Target = c.Gen, c.Shard
	}
	p.Shard, p.Target, p.Durability, p.Seen = p.Target, logcore.NoShard, 0, c.LSN
	s.putPlacement(p)
	for _, branch := range s.dir.byName {
		if branch.Root == p.Name && !branch.Creating {
			branch.Seen = c.LSN
		}
	}
}

func (s *State) appendDirectory(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, s.dir.shards)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.dir.byName)))
	for _, name := range slices.Sorted(maps.Keys(s.dir.byName)) {
		p := s.dir.byName[name]
		for _, v := range []uint64{p.Gen, uint64(p.BranchLSN), uint64(p.Seen)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(p.Shard))
		b = binary.LittleEndian.AppendUint32(b, uint32(p.Target))
		var flags byte
		if p.Creating {
			flags |= placementFlagCreating
		}
		if p.Durability == DurabilityArchive {
			flags |= placementFlagArchive
		}
		root := p.Root
		if p.IsRoot() {
			root = ""
		}
		b = append(b, flags, byte(len(p.Name)), byte(len(root)), byte(len(p.Parent)))
		b = append(append(append(b, p.Name...), root...), p.Parent...)
	}
	return b
}

func (s *State) decodeDirectory(src *source) error {
	s.dir.shards = src.u32()
	count := int(src.u32())
	if src.bad || s.dir.shards > ShardsMax || s.dir.shards == 1 || count > LogsMax || s.dir.shards == 0 && count == 0 {
		return corrupt("checkpoint: a directory of %d logs over %d shards", count, s.dir.shards)
	}
	before := ""
	for range count {
		p := Placement{Gen: src.u64(), BranchLSN: logcore.LSN(src.u64()), Seen: logcore.LSN(src.u64()), Shard: logcore.ShardID(src.u32()), Target: logcore.ShardID(src.u32())}
		flags := src.u8()
		if err := unknownFlags("log in the directory", uint32(flags), placementFlagsKnown); err != nil && !src.bad {
			return err
		}
		name, root, parent := int(src.u8()), int(src.u8()), int(src.u8())
		p.Name, p.Root, p.Parent = string(src.bytes(name)), string(src.bytes(root)), string(src.bytes(parent))
		p.Creating = flags&placementFlagCreating != 0
		if flags&placementFlagArchive != 0 {
			p.Durability = DurabilityArchive
		}
		if src.bad || p.Name <= before || p.Root == p.Name || parent > logcore.LogNameMax || p.Creating != (parent > 0) || p.Creating && root == 0 {
			return corrupt("checkpoint: the directory's log %q after %q is cut short, doubled or nowhere", p.Name, before)
		}
		if root == 0 {
			p.Root = p.Name
		}
		if p.IsRoot() && p.Shard == logcore.NoShard && p.Settled() || !p.IsRoot() && (p.Shard != logcore.NoShard || p.Target != logcore.NoShard) {
			return corrupt("checkpoint: the directory's log %q is in no shard, or in one of its own", p.Name)
		}
		if err := logcore.ValidateLogName(p.Name); err != nil {
			return corrupt("checkpoint: the directory's log %q: %v", p.Name, err)
		}
		s.putPlacement(p)
		before = p.Name
	}
	for _, p := range s.dir.byName {
		if root := s.dir.byName[p.Root]; root == nil || !root.IsRoot() {
			return corrupt("checkpoint: the directory's log %q has the root %q, which is none", p.Name, p.Root)
		}
	}
	return nil
}
