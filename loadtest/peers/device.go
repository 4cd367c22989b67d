package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// deviceFileBytes is the size of the preallocated file that the device's limits
	// overwrite in a loop.
	deviceFileBytes = 64 << 20
	// blockBytes aligns offsets, lengths and memory of direct writes. It is a
	// multiple of every sector size in use.
	blockBytes = 4096
	// parallelWriters is how many syncs the parallel limit keeps in flight.
	parallelWriters = 4
)

// method is a way to make a write durable.
type method string

const (
	direct    method = "direct"    // O_DIRECT|O_DSYNC: on stable storage when the write returns
	fdatasync method = "fdatasync" // write through the page cache, then fdatasync
)

// device measures what the disk itself can do. Its files are made once, written
// through so that no block is newly allocated while measuring, and reused.
type device struct {
	dir     string
	methods []method
}

// newDevice prepares the files in dir. A file system without direct writes leaves
// fdatasync as the only method.
func newDevice(dir string) (*device, error) {
	d := &device{dir: dir}
	for _, m := range []method{direct, fdatasync} {
		if err := d.prepare(m); err != nil {
			return nil, fmt.Errorf("device limit: %w", err)
		}
		f, err := d.openFile(m)
		if errors.Is(err, unix.EINVAL) && m == direct {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("device limit: %w", err)
		}
		d.methods = append(d.methods, m)
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *device) path(m method) string { return filepath.Join(d.dir, "device-"+string(m)) }

// prepare writes the file once, with bytes that no layer below can elide.
func (d *device) prepare(m method) error {
	f, err := os.OpenFile(d.path(m), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, deviceFileBytes); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	chunk := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(chunk)
	for at := int64(0); at < deviceFileBytes; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (d *device) openFile(m method) (*os.File, error) {
	if m == direct {
		return os.OpenFile(d.path(m), os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
	}
	f, err := os.OpenFile(d.path(m), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	// Drop what is cached, so that this turn's writes decide the size of the folios
	// that a sync walks, and not the turn before.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// contenders lists the device's limits in a cell: one payload a sync, all that are in
// flight in one sync, and those split over several syncs in flight. With one append
// in flight the first is the limit; else the second, which is the ideal group commit.
func (d *device) contenders(c cell) []contender {
	var list []contender
	add := func(name string, m method, limit bool, writers, perSync int) {
		list = append(list, contender{peer: name + string(m), api: blocking, limit: limit,
			open: func(_ string, c cell) (load, error) {
				return d.load(m, writers, perSync, c)
			}})
	}
	for _, m := range d.methods {
		add("device-single-", m, c.inflight == 1, 1, 1)
		if c.inflight == 1 {
			continue
		}
		add("device-group-", m, true, 1, c.inflight)
		if m == direct && c.inflight >= parallelWriters {
			add("device-parallel-", m, false, parallelWriters, c.inflight/parallelWriters)
		}
	}
	return list
}

// syncWriter makes one batch durable per call, each behind the one before.
type syncWriter struct {
	file       *os.File
	method     method
	batch      []byte // aligned; the payloads are in it already
	at, lo, hi int64  // next offset; the region to loop over
}

func (s *syncWriter) write() error {
	if s.at+int64(len(s.batch)) > s.hi {
		s.at = s.lo
	}
	if _, err := s.file.WriteAt(s.batch, s.at); err != nil {
		return err
	}
	s.at += int64(len(s.batch))
	if s.method == fdatasync {
		return unix.Fdatasync(int(s.file.Fd()))
	}
	return nil
}

// deviceLoad runs one or more syncWriters, each with perSync payloads a write.
type deviceLoad struct {
	file    *os.File
	memory  []byte
	writers []*syncWriter
	perSync int
}

func (d *device) load(m method, writers, perSync int, c cell) (load, error) {
	f, err := d.openFile(m)
	if err != nil {
		return nil, err
	}
	bytes := (perSync*c.payload + blockBytes - 1) / blockBytes * blockBytes
	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	copy(memory, payloadOf(perSync*c.payload, 1))
	l := &deviceLoad{file: f, memory: memory, perSync: perSync}
	region := int64(deviceFileBytes / writers / blockBytes * blockBytes)
	for i := range int64(writers) {
		l.writers = append(l.writers, &syncWriter{file: f, method: m, batch: memory, at: i * region, lo: i * region, hi: (i + 1) * region})
	}
	return l, nil
}

func (l *deviceLoad) run(m *meter) error {
	// Every sync is a sample: there are few, however many appends share one.
	m.stride = 1
	errs := make([]error, len(l.writers))
	var wg sync.WaitGroup
	for i, w := range l.writers {
		lane := m.lane()
		wg.Go(func() {
			defer lane.flush()
			for !m.stop.Load() {
				t := lane.begun()
				if errs[i] = w.write(); errs[i] != nil {
					m.stop.Store(true)
					return
				}
				lane.ended(t, l.perSync)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *deviceLoad) Close() error { return errors.Join(unix.Munmap(l.memory), l.file.Close()) }
