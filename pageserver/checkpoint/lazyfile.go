package checkpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
)

// lazyFile is a table of which blocks may be missing. Blocks that were fetched are in a
// sparse file, their checksums in a second one beside it. Neither is synced until the
// table is whole: a block counts as there when it has its checksum, whatever a crash left.
type lazyFile struct {
	l *Local
	t Table

	links, handles int // guarded by lazyFS.mu; the file is closed when there are none

	mu     sync.Mutex
	part   *os.File            // guarded by mu; nil until the first use
	sums   *os.File            // guarded by mu
	sum    []uint64            // guarded by mu; as found on disk
	cipher *blockCipher        // guarded by mu
	calls  map[int]*blockFetch // guarded by mu; under way because somebody reads
	whole  bool                // guarded by mu; under its own name in the store

	have    []atomic.Bool // blocks that are there and were verified in this process
	lacking atomic.Int64  // bytes not verified yet
}

// blockFetch is one fetch that readers of a block share.
type blockFetch struct {
	done    chan struct{}
	content []byte
	err     error
}

func newLazyFile(l *Local, t Table) *lazyFile {
	f := &lazyFile{l: l, t: t, calls: map[int]*blockFetch{}, have: make([]atomic.Bool, t.blocks())}
	f.lacking.Store(t.Size)
	return f
}

func (f *lazyFile) path() string        { return filepath.Join(f.l.dir, f.t.Name) }
func (f *lazyFile) missingBytes() int64 { return f.lacking.Load() }

// ready opens the files of the blocks that were fetched.
func (f *lazyFile) ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.part != nil {
		return nil
	}
	path := f.l.partPath(f.t.Name)
	part, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	sums, err := os.OpenFile(path+sumsSuffix, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return errors.Join(fmt.Errorf("checkpoint: %w", err), part.Close())
	}
	raw := make([]byte, 8*f.t.blocks())
	if _, err := sums.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("checkpoint: %w", err), part.Close(), sums.Close())
	}
	f.sum = make([]uint64, f.t.blocks())
	for i := range f.sum {
		f.sum[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	f.part, f.sums = part, sums
	return nil
}

// unlink counts a path that is gone; lazyFS.mu is held.
func (f *lazyFile) unlink() {
	f.links--
	f.release()
}

// release closes the file when nobody has it any more; lazyFS.mu is held.
func (f *lazyFile) release() {
	if f.links > 0 || f.handles > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.part != nil {
		f.part.Close()
		f.sums.Close()
		f.part, f.sums = nil, nil
	}
	if !f.whole {
		os.Remove(f.l.partPath(f.t.Name))
		os.Remove(f.l.partPath(f.t.Name) + sumsSuffix)
	}
}

// checksum is that of a block on disk; 0 means none. It depends on the table, so that
// what another one left behind is never taken for this one's.
func (f *lazyFile) checksum(block int, content []byte) uint64 {
	seed := binary.LittleEndian.Uint64(f.t.Object[:]) + uint64(block)
	return max(1, xxh3.HashSeed(content, seed))
}

// ReadAt fills p from off. Missing blocks are fetched; every byte was verified.
func (f *lazyFile) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	n := 0
	for n < len(p) && off < f.t.Size {
		block := int(off / int64(f.t.Block))
		inside := int(off - int64(block)*int64(f.t.Block))
		want := p[n:min(len(p), n+f.t.blockLen(block)-inside)]
		if err := f.readBlock(ctx, block, inside, want); err != nil {
			return n, err
		}
		n, off = n+len(want), off+int64(len(want))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readBlock fills p with what a block has from inside on.
func (f *lazyFile) readBlock(ctx context.Context, block, inside int, p []byte) error {
	if f.have[block].Load() {
		_, err := f.part.ReadAt(p, int64(block)*int64(f.t.Block)+int64(inside))
		return err
	}
	content, err := f.block(ctx, block)
	if err != nil {
		return err
	}
	copy(p, content[inside:])
	return nil
}

// block returns a block: from the disk when it is there and sound, else from the
// checkpoint. Readers of one block share the work.
func (f *lazyFile) block(ctx context.Context, block int) ([]byte, error) {
	f.mu.Lock()
	call := f.calls[block]
	if call == nil {
		call = &blockFetch{done: make(chan struct{})}
		f.calls[block] = call
		f.mu.Unlock()
		call.content, call.err = f.obtain(ctx, block)
		f.mu.Lock()
		delete(f.calls, block)
		f.mu.Unlock()
		close(call.done)
		return call.content, call.err
	}
	f.mu.Unlock()
	select {
	case <-call.done:
		return call.content, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *lazyFile) obtain(ctx context.Context, block int) ([]byte, error) {
	if content, ok := f.onDisk(block); ok {
		return content, nil
	}
	r := f.l.r
	r.readers.Add(1)
	defer r.readers.Add(-1)
	contents, err := f.fetch(ctx, block, 1, forRead)
	if err != nil {
		return nil, err
	}
	f.keep(block, contents[0])
	return contents[0], nil
}

// onDisk returns a block that an earlier process fetched, or this one.
func (f *lazyFile) onDisk(block int) ([]byte, bool) {
	f.mu.Lock()
	part, sum := f.part, f.sum[block]
	f.mu.Unlock()
	if sum == 0 || part == nil {
		return nil, false
	}
	content := make([]byte, f.t.blockLen(block))
	if _, err := part.ReadAt(content, int64(block)*int64(f.t.Block)); err != nil || f.checksum(block, content) != sum {
		return nil, false
	}
	f.got(block)
	return content, true
}

func (f *lazyFile) got(block int) {
	if !f.have[block].Swap(true) {
		f.lacking.Add(-int64(f.t.blockLen(block)))
	}
}

// keep writes a block that was verified. When the disk is full it is fetched again next
// time; who reads it now has it.
//
// The files are written without the lock, so that a slow disk does not hold up readers of
// other blocks; they stay open, since who keeps a block has the table open.
func (f *lazyFile) keep(block int, content []byte) error {
	f.mu.Lock()
	part, sums := f.part, f.sums
	f.mu.Unlock()
	if part == nil {
		return fs.ErrClosed
	}
	if _, err := part.WriteAt(content, int64(block)*int64(f.t.Block)); err != nil {
		return fmt.Errorf("checkpoint: keep a block of %s: %w", f.t.Name, err)
	}
	sum := f.checksum(block, content)
	if _, err := sums.WriteAt(binary.LittleEndian.AppendUint64(nil, sum), int64(8*block)); err != nil {
		return fmt.Errorf("checkpoint: keep a block of %s: %w", f.t.Name, err)
	}
	f.mu.Lock()
	f.sum[block] = sum
	f.mu.Unlock()
	f.got(block)
	return nil
}

// fetchTries is how often a block that fails its checksum is asked for.
const fetchTries = 3

// fetch gets n blocks from the checkpoint, with one request, and verifies each. A block
// that fails is asked for again alone: damage in transfer goes by. When it stays, the
// error wraps logcore.ErrCorrupt.
func (f *lazyFile) fetch(ctx context.Context, first, n int, why string) ([][]byte, error) {
	c, err := f.blockCipher(ctx)
	if err != nil {
		return nil, err
	}
	r := f.l.r
	stored, err := f.get(ctx, first, n)
	if err != nil {
		return nil, err
	}
	r.metrics.blocks.WithLabelValues(why).Add(float64(n))
	out := make([][]byte, n)
	for i := range n {
		offset, length := f.t.stored(first + i)
		base, _ := f.t.stored(first)
		var piece []byte
		if at := offset - base; at+length <= int64(len(stored)) {
			piece = stored[at : at+length]
		}
		for try := 1; ; try++ {
			out[i], err = c.open(nil, r.tableKey(f.t), first+i, piece)
			if err == nil {
				break
			}
			r.countDamage(err)
			if try == fetchTries {
				return nil, fmt.Errorf("checkpoint: %w", err)
			}
			if piece, err = f.get(ctx, first+i, 1); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// get reads stored blocks, unverified. An object that is gone is damage: its manifest
// promised it.
func (f *lazyFile) get(ctx context.Context, first, n int) ([]byte, error) {
	from, _ := f.t.stored(first)
	last, length := f.t.stored(first + n - 1)
	key := f.l.r.tableKey(f.t)
	b, err := f.l.r.o.Bucket.Get(ctx, key, from, last+length-from)
	if err != nil {
		if isGone(err) {
			return nil, damaged(key, "it is gone: %v", err)
		}
		return nil, fmt.Errorf("checkpoint: fetch %s: %w", f.t.Name, err)
	}
	f.l.r.metrics.fetched.Add(float64(len(b)))
	return b, nil
}

func (f *lazyFile) blockCipher(ctx context.Context) (*blockCipher, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cipher == nil {
		c, err := newBlockCipher(ctx, f.l.r.o.Keys, f.l.r.o.Cluster, f.t)
		if err != nil {
			return nil, err
		}
		f.cipher = c
	}
	return f.cipher, nil
}

// readTimeout bounds the fetch that a reader waits for.
const readTimeout = 30 * time.Second

// handle is an open lazy table.
type handle struct {
	fs   *lazyFS
	file *lazyFile
	at   int64
}

var _ vfs.File = (*handle)(nil)

// ReadAt implements vfs.File.
func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	return h.file.readAt(ctx, p, off)
}

// Read implements vfs.File.
func (h *handle) Read(p []byte) (int, error) {
	if h.at >= h.file.t.Size {
		return 0, io.EOF
	}
	n, err := h.ReadAt(p[:min(int64(len(p)), h.file.t.Size-h.at)], h.at)
	h.at += int64(n)
	return n, err
}

// Prefetch implements vfs.File.
func (h *handle) Prefetch(offset, length int64) error {
	h.file.l.r.hint(h.file, offset, length)
	return nil
}

// Close implements vfs.File.
func (h *handle) Close() error {
	h.fs.closed(h.file)
	return nil
}

// Stat implements vfs.File.
func (h *handle) Stat() (vfs.FileInfo, error) { return h.file.info(), nil }

// Write implements vfs.File; a table is not written.
func (h *handle) Write([]byte) (int, error) { return 0, logcore.ErrInvalid }

// WriteAt implements vfs.File; a table is not written.
func (h *handle) WriteAt([]byte, int64) (int, error) { return 0, logcore.ErrInvalid }

// Preallocate implements vfs.File.
func (h *handle) Preallocate(int64, int64) error { return nil }

// Sync implements vfs.File; nothing was written.
func (h *handle) Sync() error { return nil }

// SyncTo implements vfs.File.
func (h *handle) SyncTo(int64) (bool, error) { return true, nil }

// SyncData implements vfs.File.
func (h *handle) SyncData() error { return nil }

// Fd implements vfs.File: there is none that has everything.
func (h *handle) Fd() uintptr { return vfs.InvalidFd }

func (f *lazyFile) info() vfs.FileInfo { return info{f} }

// info describes a lazy table as what it will be.
type info struct{ f *lazyFile }

func (i info) Name() string           { return i.f.t.Name }
func (i info) Size() int64            { return i.f.t.Size }
func (i info) Mode() fs.FileMode      { return 0o644 }
func (i info) ModTime() time.Time     { return time.Time{} }
func (i info) IsDir() bool            { return false }
func (i info) Sys() any               { return nil }
func (i info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
