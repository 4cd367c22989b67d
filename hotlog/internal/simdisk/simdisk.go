// Package simdisk is a medium in memory that behaves as badly as a disk may: what
// was not synced survives a crash in any subset of blocks, torn anywhere; a failed
// sync loses data and calls it clean; writes and allocations fail where a test says.
// It is test support: nothing but tests imports it.
package simdisk

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
)

const (
	blockBytes  = 4096
	sectorBytes = 512
)

// Op is one operation, as a Hook sees it.
type Op struct {
	Index int    // counts all operations of the disk, from 0
	Kind  string // create, grow, write, sync, rename, remove, syncdir
	Name  string
	Sync  int // for kind sync, counts those only
}

// Flaws are planted bugs: what a medium, or the code above it, might do wrong.
type Flaws struct {
	SyncLies    bool // syncs of a file that has its name return without syncing: the same as acknowledging before it
	TmpLies     bool // syncs of a file return without syncing before it is renamed: the same as renaming it unsynced
	DirSyncLies bool // SyncDir does nothing: the same as forgetting it
	PiecesLie   bool // WriteSync syncs only the last of its writes, unless the first is at offset 0: not all that is acknowledged is durable
	SyncRetries bool // a failed Sync is tried again, and the second result believed
}

// Disk is a directory on a simulated disk. The zero value is not usable: see New.
type Disk struct {
	// Flaws, Hook and Capacity are set before the disk is used.
	Flaws Flaws
	// Hook is called in the middle of every operation: after a write reached the
	// cache, before a sync reached the platter. An error fails the operation.
	// It may call Crash.
	Hook func(Op) error
	// AlignBytes is what Align says; 0 = 4096.
	AlignBytes int
	// WholeBlocks: a crash leaves each block of 4 KiB as it was or as it was to be; else it
	// may also be torn, by sectors or at a byte.
	WholeBlocks bool
	// Capacity bounds the files' sizes together; 0 = 1 GiB.
	Capacity int64

	mu      sync.Mutex
	rng     *rand.Rand
	names   map[string]*inode // as the process sees them
	synced  map[string]*inode // as they are on the platter
	pending []dirOp           // what leads from synced to names
	ops     int
	syncs   int
}

type dirOp struct {
	kind     string
	from, to string
	node     *inode
}

// inode is a file's content: cache is what is read, platter what survives.
type inode struct {
	cache, platter []byte
	dirty          map[int64]struct{} // blocks to be written by the next sync
	renamed        bool
	bad            []int64 // sectors that can't be read
}

// New returns an empty disk. Everything random about it comes from seed.
func New(seed uint64) *Disk {
	return &Disk{rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), names: map[string]*inode{}, synced: map[string]*inode{}}
}

// Crash returns the disk as it may be after the power failed now: a random subset of
// the unsynced directory changes and blocks, each block whole, torn by sectors, or
// torn at a byte. d itself is not changed.
func (d *Disk) Crash(seed uint64) *Disk {
	out := New(seed)
	out.Capacity, out.AlignBytes, out.WholeBlocks = d.Capacity, d.AlignBytes, d.WholeBlocks
	d.mu.Lock()
	defer d.mu.Unlock()
	names := maps.Clone(d.synced)
	for _, op := range d.pending {
		if out.rng.IntN(2) == 0 {
			op.apply(names)
		}
	}
	keep := out.rng.IntN(4) // 0 = none, 1 = all, otherwise each for itself
	for _, name := range slices.Sorted(maps.Keys(names)) {
		data := out.survive(names[name], keep)
		node := &inode{cache: data, platter: slices.Clone(data), dirty: map[int64]struct{}{}, renamed: names[name].renamed, bad: slices.Clone(names[name].bad)}
		out.names[name], out.synced[name] = node, node
	}
	return out
}

// survive returns an inode's content after a crash.
func (d *Disk) survive(n *inode, keep int) []byte {
	data := slices.Clone(n.platter)
	for _, block := range slices.Sorted(maps.Keys(n.dirty)) {
		from := block * blockBytes
		to := min(from+blockBytes, int64(len(data)))
		if keep == 0 {
			continue
		}
		choice := d.rng.IntN(5)
		if keep == 1 {
			choice = 0
		} else if d.WholeBlocks {
			choice = []int{0, 4}[d.rng.IntN(2)]
		}
		switch choice {
		case 0, 1: // written
			copy(data[from:to], n.cache[from:to])
		case 2: // torn by sectors
			for at := from; at < to; at += sectorBytes {
				if end := min(at+sectorBytes, to); d.rng.IntN(2) == 0 {
					copy(data[at:end], n.cache[at:end])
				}
			}
		case 3: // torn at a byte
			end := from + d.rng.Int64N(to-from+1)
			copy(data[from:end], n.cache[from:end])
		}
	}
	return data
}

func (op dirOp) apply(names map[string]*inode) {
	switch op.kind {
	case "create":
		names[op.to] = op.node
	case "remove":
		delete(names, op.from)
	case "rename":
		if n, ok := names[op.from]; ok {
			delete(names, op.from)
			names[op.to] = n
		} else {
			names[op.to] = op.node // the new entry reached the disk, the old one never was there
		}
	}
}

// Corrupt changes a file on the platter and in the cache.
func (d *Disk) Corrupt(name string, change func(data []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[name]
	change(n.cache)
	n.platter = slices.Clone(n.cache)
}

// Unreadable makes the sector at an offset fail every read until it is written again.
func (d *Disk) Unreadable(name string, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[name]
	n.bad = append(n.bad, off/sectorBytes)
}

// Ops returns how many operations there were.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// step counts an operation and asks the hook.
func (d *Disk) step(kind, name string) error {
	d.mu.Lock()
	op := Op{Index: d.ops, Kind: kind, Name: name, Sync: d.syncs}
	d.ops++
	if kind == "sync" {
		d.syncs++
	}
	d.mu.Unlock()
	if d.Hook == nil {
		return nil
	}
	return d.Hook(op)
}

func (d *Disk) Path() string   { return "simdisk" }
func (d *Disk) Medium() string { return "simdisk" }

func (d *Disk) Align() int {
	if d.AlignBytes == 0 {
		return blockBytes
	}
	return d.AlignBytes
}

func (d *Disk) change(op dirOp) {
	op.apply(d.names)
	d.pending = append(d.pending, op)
}

func (d *Disk) Create(name string, size int64) (media.File, error) {
	d.mu.Lock()
	if _, ok := d.names[name]; ok {
		d.mu.Unlock()
		return nil, fmt.Errorf("simdisk: create %s: %w", name, os.ErrExist)
	}
	if d.free() < size {
		d.mu.Unlock()
		return nil, fmt.Errorf("simdisk: create %s: %w", name, logcore.ErrDiskFull)
	}
	n := &inode{cache: make([]byte, size), platter: make([]byte, size), dirty: map[int64]struct{}{}}
	d.change(dirOp{kind: "create", to: name, node: n})
	d.mu.Unlock()
	if err := d.step("create", name); err != nil {
		d.mu.Lock()
		d.change(dirOp{kind: "remove", from: name})
		d.mu.Unlock()
		return nil, err
	}
	return &file{d: d, name: name, n: n}, nil
}

func (d *Disk) Open(name string) (media.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.names[name]
	if !ok {
		return nil, fmt.Errorf("simdisk: open %s: %w", name, os.ErrNotExist)
	}
	return &file{d: d, name: name, n: n}, nil
}

func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	n, ok := d.names[from]
	if !ok {
		d.mu.Unlock()
		return fmt.Errorf("simdisk: rename %s: %w", from, os.ErrNotExist)
	}
	n.renamed = true
	d.change(dirOp{kind: "rename", from: from, to: to, node: n})
	d.mu.Unlock()
	return d.step("rename", to)
}

func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	if _, ok := d.names[name]; !ok {
		d.mu.Unlock()
		return fmt.Errorf("simdisk: remove %s: %w", name, os.ErrNotExist)
	}
	d.change(dirOp{kind: "remove", from: name})
	d.mu.Unlock()
	return d.step("remove", name)
}

func (d *Disk) SyncDir() error {
	if err := d.step("syncdir", ""); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.Flaws.DirSyncLies {
		d.synced, d.pending = maps.Clone(d.names), nil
	}
	return nil
}

func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

func (d *Disk) Free() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free(), nil
}

func (d *Disk) free() int64 {
	free := d.Capacity
	if free == 0 {
		free = 1 << 30
	}
	for _, n := range d.names {
		free -= int64(len(n.cache))
	}
	return free
}

// file is an open file of a Disk.
type file struct {
	d    *Disk
	name string
	n    *inode
}

var errRange = errors.New("simdisk: write outside of the file")

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off >= int64(len(f.n.cache)) {
		return 0, errRange
	}
	for _, s := range f.n.bad {
		if off < (s+1)*sectorBytes && off+int64(len(p)) > s*sectorBytes {
			return 0, fmt.Errorf("simdisk: read %s: %w", f.name, syscall.EIO)
		}
	}
	n := copy(p, f.n.cache[off:])
	if n < len(p) {
		return n, errRange
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	if off < 0 || off+int64(len(p)) > int64(len(f.n.cache)) {
		f.d.mu.Unlock()
		return 0, errRange
	}
	copy(f.n.cache[off:], p)
	f.n.bad = slices.DeleteFunc(f.n.bad, func(s int64) bool { return off <= s*sectorBytes && off+int64(len(p)) >= (s+1)*sectorBytes })
	for b := off / blockBytes; b*blockBytes < off+int64(len(p)); b++ {
		f.n.dirty[b] = struct{}{}
	}
	f.d.mu.Unlock()
	if err := f.d.step("write", f.name); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteSync has all writes under way at once: each reaches the cache and later the
// platter, in an order drawn from the seed, with only its own blocks synced. The first
// error ends it; of the others each may have got anywhere.
func (f *file) WriteSync(writes []media.Write) error {
	align := int64(f.d.Align())
	for i, w := range writes {
		if w.Off%align != 0 || int64(len(w.P))%align != 0 || uintptr(unsafe.Pointer(unsafe.SliceData(w.P)))%uintptr(align) != 0 {
			return fmt.Errorf("simdisk: %s: write of %d bytes at %d is not aligned", f.name, len(w.P), w.Off)
		}
		for _, o := range writes[:i] {
			if w.Off < o.Off+int64(len(o.P)) && o.Off < w.Off+int64(len(w.P)) {
				return fmt.Errorf("simdisk: %s: writes at %d and %d overlap", f.name, o.Off, w.Off)
			}
		}
	}
	// Each write is in the schedule twice: the first time it is written, then synced.
	schedule := make([]int, 0, 2*len(writes))
	for i := range writes {
		schedule = append(schedule, i, i)
	}
	f.d.mu.Lock()
	f.d.rng.Shuffle(len(schedule), func(i, j int) { schedule[i], schedule[j] = schedule[j], schedule[i] })
	f.d.mu.Unlock()
	written := make([]bool, len(writes))
	for _, i := range schedule {
		w := writes[i]
		var err error
		if !written[i] {
			written[i] = true
			_, err = f.WriteAt(w.P, w.Off)
		} else {
			if f.d.Flaws.PiecesLie && i < len(writes)-1 && writes[0].Off > 0 {
				continue
			}
			err = f.syncRange(w.Off, w.Off+int64(len(w.P)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *file) Sync() error { return f.syncRange(0, math.MaxInt64) }

func (f *file) syncRange(from, to int64) error {
	err := f.sync(from, to)
	if err != nil && f.d.Flaws.SyncRetries {
		err = f.sync(from, to)
	}
	return err
}

// sync writes dirty blocks of [start, end) to the platter. When it fails, each block
// got there or did not, and all are clean from then on, as on ext4.
func (f *file) sync(start, end int64) error {
	err := f.d.step("sync", f.name)
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.n.renamed && f.d.Flaws.SyncLies || !f.n.renamed && f.d.Flaws.TmpLies {
		return err
	}
	for _, b := range slices.Sorted(maps.Keys(f.n.dirty)) {
		from, to := b*blockBytes, min((b+1)*blockBytes, int64(len(f.n.cache)))
		if from >= end || to <= start {
			continue
		}
		if err == nil || f.d.rng.IntN(2) == 0 {
			copy(f.n.platter[from:to], f.n.cache[from:to])
		}
		delete(f.n.dirty, b)
	}
	return err
}

func (f *file) Grow(size int64) error {
	f.d.mu.Lock()
	more := size - int64(len(f.n.cache))
	if more <= 0 {
		f.d.mu.Unlock()
		return nil
	}
	if f.d.free() < more {
		f.d.mu.Unlock()
		return fmt.Errorf("simdisk: grow %s: %w", f.name, logcore.ErrDiskFull)
	}
	f.d.mu.Unlock()
	if err := f.d.step("grow", f.name); err != nil {
		return err
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.n.cache = append(f.n.cache, make([]byte, more)...)
	f.n.platter = append(f.n.platter, make([]byte, more)...)
	return nil
}

func (f *file) Size() int64 {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.cache))
}

func (f *file) Close() error { return nil }
